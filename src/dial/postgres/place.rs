//! Where the server is, and whether it must prove who it is.
//!
//! | `sslmode` | encrypted | certificate checked | name checked |
//! | --- | --- | --- | --- |
//! | not given, this machine | no | | |
//! | not given, another machine | yes | yes | yes |
//! | `disable` | no | | |
//! | `prefer` | if the server can | yes | yes |
//! | `require`, `verify-full` | yes | yes | yes |
//! | `verify-ca` | yes | yes | no |
//!
//! On this machine (a Unix socket, localhost, a loopback address) `prefer` and `require` check nothing:
//! who can answer there has no need to. `sslrootcert` names a file of certificates to trust instead of the
//! system's. This is stricter than libpq, where `require` checks nothing: encryption for nobody knows whom.
//!
//! Left out: client certificates, service files, and `sslmode=allow`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::reason::Answer;
use super::tls::connector;
use crate::dial::url;
use crate::error::{Error, Result};

/// How long anything may take, unless it is said otherwise.
const LIMIT: Duration = Duration::from_secs(10);

/// What is checked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing: it is on this machine.
    Nothing,
    /// Its certificate.
    Certificate,
    /// Its certificate, and that it is for this name.
    Name,
}

/// What drives a client's requests, once it is spawned.
pub(crate) type Connection =
    tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A database on a PostgreSQL server, and how long to wait for it.
#[derive(Clone)]
pub struct PostgresPlace {
    config: Config,
    check: Check,
    roots: Option<PathBuf>,
    limit: Duration,
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresPlace({self})")
    }
}

impl fmt::Display for PostgresPlace {
    /// Hosts and database; never user or password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        for (i, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let port = ports.get(i).or(ports.first()).unwrap_or(&5432);
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                #[cfg(unix)]
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or(""))
    }
}

fn unreadable(what: impl fmt::Display) -> Error {
    Error::invalid("POSTGRES_URL_INVALID", format!("the PostgreSQL URL cannot be read: {what}"))
        .hint("it reads postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE")
}

impl PostgresPlace {
    /// Reads a URL.
    pub fn read(url: &str) -> Result<PostgresPlace> {
        let Some((base, parameters)) = split(url) else {
            return Err(unreadable("it must begin with postgres://"));
        };
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => {
                    roots = Some(PathBuf::from(url::decoded(value).map_err(unreadable)?))
                }
                _ => rest.push(parameter),
            }
        }
        let mark = if rest.is_empty() { "" } else { "?" };
        // What it says of a URL that it does not understand may hold a part of the password.
        let config = format!("{base}{mark}{}", rest.join("&")).parse::<Config>();
        let mut config = config.map_err(|_| unreadable("a part of it is not understood"))?;
        if config.get_hosts().is_empty() || config.get_dbname().is_none() {
            return Err(unreadable("it must name a host and a database"));
        }
        let is_split = |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
        if config.get_hosts().iter().any(is_split) {
            return Err(unreadable("an @ in a user's name or password is written %40"));
        }
        let (ssl, check) = encryption(mode, config.get_hosts().iter().all(is_here))?;
        config.ssl_mode(ssl);
        if config.get_application_name().is_none() {
            config.application_name("syncline");
        }
        Ok(PostgresPlace { config, check, roots, limit: LIMIT }.within(LIMIT))
    }

    /// Nothing waits longer than `limit`, neither here nor in the server's sessions: a takeover may count on
    /// it.
    pub fn within(mut self, limit: Duration) -> PostgresPlace {
        let limit = limit.max(Duration::from_millis(100));
        self.limit = limit;
        keep_alive(&mut self.config, limit);
        self
    }

    /// With the password from elsewhere: a file, or the environment.
    pub fn with_password(mut self, password: &str) -> PostgresPlace {
        self.config.password(password);
        self
    }

    /// Sessions are named so in `pg_stat_activity`.
    pub fn with_name(mut self, name: &str) -> PostgresPlace {
        self.config.application_name(name);
        self
    }

    /// How long to wait for an answer.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Connects to the first host that will have us. The error tells what is wrong with the certificates to
    /// trust, before anybody is asked.
    pub(crate) fn connect(
        &self,
    ) -> Result<impl Future<Output = Answer<(Client, Connection)>> + Send + '_> {
        let tls = connector(self.check, self.roots.as_deref())?;
        Ok(self.config.connect(tls))
    }

    /// Asks the server to stop what this client's session is doing.
    pub(crate) fn cancel(
        &self,
        client: &Client,
    ) -> Result<impl Future<Output = Answer<()>> + Send + use<>> {
        let (token, tls) = (client.cancel_token(), connector(self.check, self.roots.as_deref())?);
        Ok(async move { token.cancel_query(tls).await })
    }

    /// An error of connecting, which says where it was to be found, too.
    pub(crate) fn not_reached(&self, error: Error) -> Error {
        let message = format!("{self}: {}", error.message());
        Error::new(error.kind(), error.code(), message).hint(error.hint_text()).source(error)
    }
}

/// The URL without its parameters, and these.
fn split(url: &str) -> Option<(&str, &str)> {
    let known = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    known.then(|| url.split_once('?').unwrap_or((url, "")))
}

/// Whether nobody else's machine is asked.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => url::is_here(name),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn encryption(mode: Option<&str>, here: bool) -> Result<(SslMode, Check)> {
    let check = if here { Check::Nothing } else { Check::Name };
    Ok(match mode {
        None if here => (SslMode::Disable, check),
        None => (SslMode::Require, check),
        Some("disable") => (SslMode::Disable, check),
        Some("prefer") => (SslMode::Prefer, check),
        Some("require") => (SslMode::Require, check),
        Some("verify-ca") => (SslMode::Require, Check::Certificate),
        Some("verify-full") => (SslMode::Require, Check::Name),
        Some(other) => {
            let known = "disable, prefer, require, verify-ca and verify-full";
            return Err(unreadable(format_args!("sslmode may be {known}, not {other:?}")));
        }
    })
}

/// A peer that vanished without a word is noticed within the limit.
fn keep_alive(config: &mut Config, limit: Duration) {
    config.connect_timeout(limit).tcp_user_timeout(limit).keepalives(true);
    let second = Duration::from_secs(1);
    config.keepalives_idle(limit.max(second)).keepalives_interval((limit / 4).max(second));
    config.keepalives_retries(3);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<PostgresPlace> {
        PostgresPlace::read(url)
    }

    #[test]
    fn a_server_elsewhere_must_prove_who_it_is() {
        for (url, ssl, check) in [
            ("postgres://u@db.example/x", SslMode::Require, Check::Name),
            ("postgres://u@db.example/x?sslmode=prefer", SslMode::Prefer, Check::Name),
            ("postgres://u@db.example/x?sslmode=require", SslMode::Require, Check::Name),
            ("postgres://u@db.example/x?sslmode=verify-ca", SslMode::Require, Check::Certificate),
            ("postgres://u@db.example/x?sslmode=disable", SslMode::Disable, Check::Name),
            ("postgres://u@127.0.0.1/x", SslMode::Disable, Check::Nothing),
            ("postgres://u@localhost/x?sslmode=require", SslMode::Require, Check::Nothing),
            ("postgres://u@[::1]/x?sslmode=verify-full", SslMode::Require, Check::Name),
            ("postgres://u@localhost,db.example/x", SslMode::Require, Check::Name),
            ("postgresql://u@%2Frun%2Fpostgresql/x", SslMode::Disable, Check::Nothing),
        ] {
            let place = read(url).unwrap();
            assert_eq!((place.config.get_ssl_mode(), place.check), (ssl, check), "{url}");
        }
        let place = read("postgres://h.example/x?sslrootcert=%2Fetc%2Fa%20b.pem").unwrap();
        assert_eq!(place.roots, Some(PathBuf::from("/etc/a b.pem")));
    }

    #[test]
    fn nothing_shows_the_password() {
        let place = read("postgres://me:hunter2@db.example:99/x").unwrap();
        assert_eq!(format!("{place} {place:?}"), "db.example:99/x PostgresPlace(db.example:99/x)");
        let place = place.with_password("hunter2");
        assert!(!format!("{place:?}").contains("hunter2"));
        for url in [
            "postgres://me:hunter2@h/x?nonsense=1",
            "postgres://me:hunter2@h:port/x",
            "postgres://me:hunter2@h/x?sslmode=allow",
            "postgres://me:hunter2@h",
            "mysql://me:hunter2@h/x",
            "host=h password=hunter2 dbname=x",
        ] {
            let error = read(url).unwrap_err();
            assert_eq!(error.code(), "POSTGRES_URL_INVALID");
            assert!(!format!("{error:?}").contains("hunter2"), "{url}: {error:?}");
        }
        assert!(read("postgres://me:p@ss@db.example/x").is_err(), "an @ splits the password");
    }
}
