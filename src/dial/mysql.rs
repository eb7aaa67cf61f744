//! A MySQL or MariaDB server: its URL, and whether it must prove who it is.
//!
//! | `sslmode` | encrypted | certificate and name checked |
//! | --- | --- | --- |
//! | not given, this machine | no | |
//! | not given, another machine | yes | yes |
//! | `disable` | no | |
//! | `require` | yes | yes, but on this machine |
//! | `verify-full` | yes | yes |
//!
//! The words are those of PostgreSQL's URLs. `sslrootcert` names a file of certificates to trust besides those
//! that the driver brings.
//!
//! Left out: Unix sockets, client certificates, and checking a certificate without its name (the driver says
//! that it can, and cannot).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mysql_async::{Conn, Opts, OptsBuilder, SslOpts, UrlError};

use super::url;
use crate::error::{Error, Result};

/// How long connecting may take.
const LIMIT: Duration = Duration::from_secs(10);
/// A peer that is silent for so long is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The largest packet that the driver takes. The server's own limit concerns what it is sent: rows may be larger.
const PACKET: usize = 1 << 30;

/// A database on a server.
#[derive(Clone)]
pub struct MysqlPlace {
    options: Opts,
}

impl fmt::Debug for MysqlPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MysqlPlace({self})")
    }
}

impl fmt::Display for MysqlPlace {
    /// Host and database; never user or password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.options.ip_or_hostname(), self.options.tcp_port());
        write!(f, "{host}:{port}/{}", self.options.db_name().unwrap_or_default())
    }
}

fn unreadable(what: impl fmt::Display) -> Error {
    Error::invalid("MYSQL_URL_INVALID", format!("the MySQL URL cannot be read: {what}")).hint(
        "it reads mysql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE",
    )
}

impl MysqlPlace {
    /// Reads a URL.
    pub fn read(url: &str) -> Result<MysqlPlace> {
        let rest = ["mysql://", "mariadb://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| unreadable("it must begin with mysql:// or mariadb://"))?;
        let (base, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        if base.matches('@').count() > 1 {
            return Err(unreadable("an @ in a user's name or password is written %40"));
        }
        let (mut mode, mut roots) = (None, None);
        for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => {
                    roots = Some(PathBuf::from(url::decoded(value).map_err(unreadable)?))
                }
                _ => {
                    let name = parameter.split('=').next().unwrap_or_default();
                    return Err(unreadable(format_args!("it has a parameter {name:?}")));
                }
            }
        }
        let options = Opts::from_url(&format!("mysql://{base}")).map_err(|error| match error {
            // What it says of others may hold a part of the password.
            UrlError::Invalid => unreadable("it must name a host and a database"),
            _ => unreadable("a part of it is not understood"),
        })?;
        if options.db_name().is_none_or(str::is_empty) || options.ip_or_hostname().is_empty() {
            return Err(unreadable("it must name a host and a database"));
        }
        let tls = encryption(mode, url::is_here(options.ip_or_hostname()), roots)?;
        let options = OptsBuilder::from_opts(options)
            .ssl_opts(tls)
            .prefer_socket(false)
            .client_found_rows(true)
            .max_allowed_packet(Some(PACKET))
            .tcp_keepalive(Some(KEEP_ALIVE));
        Ok(MysqlPlace { options: options.into() })
    }

    /// How long connecting may take.
    pub(crate) fn limit(&self) -> Duration {
        LIMIT
    }

    /// Connects.
    pub(crate) fn connect(&self) -> impl Future<Output = mysql_async::Result<Conn>> + Send {
        Conn::new(self.options.clone())
    }
}

fn encryption(mode: Option<&str>, here: bool, roots: Option<PathBuf>) -> Result<Option<SslOpts>> {
    let roots = roots.into_iter().map(|file| file.into()).collect();
    let checked = SslOpts::default().with_root_certs(roots);
    Ok(match mode {
        None if here => None,
        Some("disable") => None,
        Some("require") if here => Some(checked.with_danger_accept_invalid_certs(true)),
        None | Some("require" | "verify-full") => Some(checked),
        Some(other) => {
            let known = "disable, require and verify-full";
            return Err(unreadable(format_args!("sslmode may be {known}, not {other:?}")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_elsewhere_must_prove_who_it_is() {
        for (url, encrypted, checked) in [
            ("mysql://u@db.example/x", true, true),
            ("mariadb://u@db.example/x?sslmode=require", true, true),
            ("mysql://u@db.example/x?sslmode=disable", false, false),
            ("mysql://u@127.0.0.1/x", false, false),
            ("mysql://u@[::1]/x?sslmode=verify-full", true, true),
            ("mysql://u@localhost/x?sslmode=require", true, false),
        ] {
            let place = MysqlPlace::read(url).unwrap();
            let tls = place.options.ssl_opts();
            assert_eq!(tls.is_some(), encrypted, "{url}");
            assert_eq!(tls.is_some_and(|tls| !tls.accept_invalid_certs()), checked, "{url}");
        }
    }

    #[test]
    fn nothing_shows_the_password() {
        let place = MysqlPlace::read("mariadb://me:hunter2@db.example:99/x").unwrap();
        assert_eq!(format!("{place} {place:?}"), "db.example:99/x MysqlPlace(db.example:99/x)");
        for url in [
            "mysql://me:hunter2@h/x?nonsense=hunter2",
            "mysql://me:hunter2@h:port/x",
            "mysql://me:hunter2@h/x?sslmode=allow",
            "mysql://me:hunter2@h",
            "mysql://me:hunter2@h@h/x",
            "mysql:///x",
            "postgres://me:hunter2@h/x",
        ] {
            let error = MysqlPlace::read(url).unwrap_err();
            assert_eq!(error.code(), "MYSQL_URL_INVALID", "{url}");
            assert!(!format!("{error:?}").contains("hunter2"), "{url}: {error:?}");
        }
    }
}
