//! The server: what it is built from, and the one story of its end.
//!
//! ```text
//! Serving ──shutdown──▶ Draining ──all answered, or `drain` is over──▶ Ended
//!            listeners close; streams of changes end;          streams are dropped:
//!            accepted requests are answered                    their transactions roll back
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::connection::accept;
use super::gateway::Gateway;
use super::metrics;
use super::node::{Door, Node};
use super::tls::Tls;
use super::tokens::Tokens;
use crate::engine::Database;
use crate::error::{Error, Result};

/// Names that are paths of the API itself.
pub const RESERVED: [&str; 6] = ["v1", "v2", "v3", "health", "ready", "version"];

/// Limits on what HTTP clients may use.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of all large bodies that are being read or answered.
    pub buffers: usize,
    /// Open connections.
    pub connections: usize,
    /// Open streams (HTTP clients that hold a baton).
    pub streams: usize,
    /// How long a stream may idle.
    pub stream_idle: Duration,
    /// How long the head of a request may take, idle time before it included.
    pub head_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// How long a client may take nothing of an answer.
    pub stall_timeout: Duration,
    /// After a forwarded write: how long the own copy may take to show it.
    pub forward_wait: Duration,
    /// At shutdown: how long accepted requests may take.
    pub drain: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            body: 8 << 20,
            buffers: 256 << 20,
            connections: 4096,
            streams: 4096,
            stream_idle: Duration::from_secs(10),
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            forward_wait: Duration::from_secs(2),
            drain: Duration::from_secs(10),
        }
    }
}

/// How far a server's life has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Accepting.
    Serving,
    /// Answering what was accepted.
    Draining,
    /// Dropping what is left.
    Ended,
}

/// Everything a node serves over HTTP.
pub struct Server {
    pub(super) node: String,
    pub(super) advertise: String,
    pub(super) databases: HashMap<String, Database>,
    pub(super) default: Option<String>,
    pub(super) limits: HttpLimits,
    pub(super) hosts: Vec<String>,
    pub(super) origins: Vec<String>,
    pub(super) opening: bool,
    pub(super) gateway: Option<Gateway>,
    pub(super) tls: Option<Tls>,
    pub(super) tokens: Option<Tokens>,
}

impl Server {
    /// A server of the node `node`, which others reach at `advertise` (`http://host:port`).
    pub fn new(node: impl Into<String>, advertise: impl Into<String>) -> Self {
        Server {
            node: node.into(),
            advertise: advertise.into(),
            databases: HashMap::new(),
            default: None,
            limits: HttpLimits::default(),
            hosts: Vec::new(),
            origins: Vec::new(),
            opening: false,
            gateway: None,
            tls: None,
            tokens: None,
        }
    }

    /// Only says that the node lives and that its databases are being opened: for the time before
    /// there is anything to serve. Each answer ends its connection, so that nobody stays with it.
    pub fn opening(mut self) -> Self {
        self.opening = true;
        self
    }

    /// Serves `database` under its name.
    pub fn database(mut self, database: Database) -> Result<Self> {
        let name = database.options().name.clone();
        check_name(&name)?;
        match self.databases.insert(name.clone(), database) {
            None => Ok(self),
            Some(_) => {
                Err(Error::invalid("DATABASE_TWICE", format!("two databases are called {name:?}")))
            }
        }
    }

    /// Serves the database `name` at the root too.
    pub fn default_database(mut self, name: impl Into<String>) -> Self {
        self.default = Some(name.into());
        self
    }

    /// Other limits than the default ones.
    pub fn limits(mut self, limits: HttpLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves an endpoint to `diff` and `sync`.
    pub fn gateway(mut self, gateway: Gateway) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Ends TLS at both doors.
    pub fn tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Lets in only who shows one of these tokens.
    pub fn tokens(mut self, tokens: Option<Tokens>) -> Self {
        self.tokens = tokens;
        self
    }

    /// Also answers to these names in `Host`.
    pub fn hosts(mut self, hosts: Vec<String>) -> Self {
        self.hosts = hosts;
        self
    }

    /// Lets in web pages of these origins.
    pub fn origins(mut self, origins: Vec<String>) -> Self {
        self.origins = origins;
        self
    }

    /// Serves clients on `listen` and operators on `admin` until `shutdown` resolves and what was
    /// accepted is answered. The databases stay open: closing them is the caller's.
    pub async fn serve(
        self,
        listen: TcpListener,
        admin: Option<TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        let (stage, watched) = watch::channel(Stage::Serving);
        // Every task that answers holds a sender: when all are gone, everything was answered.
        let (answering, mut answered) = mpsc::channel::<Infallible>(1);
        let drain = self.limits.drain;
        let node = Arc::new(Node::new(self, watched)?);
        let doors = [(Some(listen), Door::Clients), (admin, Door::Operators)];
        for (listener, door) in doors {
            let Some(listener) = listener else { continue };
            tokio::spawn(accept(listener, door, node.clone(), answering.clone()));
        }
        tokio::spawn(node.clone().keep_house());
        drop(answering);
        tokio::select! {
            () = shutdown => {}
            () = metrics::fold() => {}
        }

        stage.send_replace(Stage::Draining);
        node.connections.call_all();
        if tokio::time::timeout(drain, answered.recv()).await.is_err() {
            tracing::warn!("some requests were not answered within {drain:?} of the shutdown");
        }
        stage.send_replace(Stage::Ended);
        node.connections.call_all();
        node.streams.clear();
        node.gateways().for_each(Gateway::clear);
        let _ = tokio::time::timeout(drain, answered.recv()).await;
        Ok(())
    }
}

/// Refuses names that cannot stand in a path, or that the API needs itself.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if RESERVED.contains(&name) {
        return Err(Error::invalid(
            "DATABASE_NAME_INVALID",
            format!("a database cannot be called {name:?}: that is a path of the API"),
        )
        .hint(format!("reserved are {}", RESERVED.join(", "))));
    }
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(Error::invalid(
            "DATABASE_NAME_INVALID",
            format!("a database cannot be called {name:?}"),
        )
        .hint("use letters, digits, `_`, `-` and `.`, at most 100"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_api_are_no_database_names() {
        for name in RESERVED.into_iter().chain(["", ".", "..", "a/b", "a b", "é", "%41"]) {
            assert_eq!(check_name(name).unwrap_err().code(), "DATABASE_NAME_INVALID", "{name}");
        }
        for name in ["main", "orders-2", "a.b_c", "V2"] {
            check_name(name).unwrap();
        }
    }
}
