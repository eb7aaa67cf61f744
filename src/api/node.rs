//! What every request can see of the node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::sync::{Semaphore, watch};

use super::connection::Connections;
use super::files::connections_that_fit;
use super::forward::Forwarder;
use super::gateway::Gateway;
use super::guard::Guard;
use super::hrana::Streams;
use super::server::{HttpLimits, Server, Stage};
use super::tls::Tls;
use crate::engine::Database;
use crate::error::{Error, Result};

/// Which listener a request came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// `listen`.
    Clients,
    /// `admin_listen`.
    Operators,
}

/// Snapshots that are sent at a time: each holds a read transaction.
const SNAPSHOTS: usize = 4;

/// A node as its handlers see it.
pub(super) struct Node {
    /// Its name, ready to be sent.
    pub name: HeaderValue,
    /// Where others reach it.
    pub advertise: String,
    /// Its databases by name.
    pub databases: HashMap<String, Database>,
    /// The one at the root.
    pub default: Option<Database>,
    /// Its databases are being opened: there are none yet.
    pub opening: bool,
    /// Limits on HTTP.
    pub limits: HttpLimits,
    /// Who is let in.
    pub guard: Guard,
    /// Open connections.
    pub connections: Connections,
    /// KiB of large bodies that may still be buffered.
    pub buffers: Arc<Semaphore>,
    /// Streams that outlive their request.
    pub streams: Arc<Streams>,
    /// The way to writers.
    pub forwarder: Forwarder,
    /// Turns at sending a snapshot.
    pub snapshots: Arc<Semaphore>,
    /// The endpoint that is served, if there is one.
    pub gateway: Option<Gateway>,
    /// The databases as endpoints, by name.
    pub endpoints: HashMap<String, Gateway>,
    /// Ends TLS, if it is this process that does.
    pub tls: Option<Tls>,
    /// How far the server's life has got.
    pub stage: watch::Receiver<Stage>,
}

impl Node {
    /// The node that `server` describes.
    pub fn new(server: Server, stage: watch::Receiver<Stage>) -> Result<Node> {
        let name = HeaderValue::from_str(&server.node).map_err(|_| {
            Error::invalid(
                "NODE_NAME_INVALID",
                format!("a node cannot be called {:?}", server.node),
            )
            .hint("use letters, digits, `_`, `-` and `.`")
        })?;
        let default = match &server.default {
            Some(default) => Some(database(&server.databases, default)?.clone()),
            None => None,
        };
        let as_endpoint = |(name, database): (&String, _)| (name.clone(), Gateway::of(database));
        Ok(Node {
            endpoints: server.databases.iter().map(as_endpoint).collect(),
            guard: Guard::new(&server.advertise, &server.hosts, &server.origins)
                .tokens(server.tokens),
            advertise: server.advertise.trim_end_matches('/').to_owned(),
            databases: server.databases,
            default,
            opening: server.opening,
            connections: Connections::new(server.limits.connections.min(connections_that_fit())),
            buffers: Arc::new(Semaphore::new(server.limits.buffers >> 10)),
            streams: Arc::new(Streams::new(server.limits.streams, server.limits.stream_idle)),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS)),
            forwarder: Forwarder::new(name.clone()),
            gateway: server.gateway,
            tls: server.tls,
            name,
            limits: server.limits,
            stage,
        })
    }

    /// The database called `name`.
    pub fn database(&self, name: &str) -> Result<&Database> {
        database(&self.databases, name)
    }

    /// The database at the root.
    pub fn default(&self) -> Result<&Database> {
        self.default.as_ref().ok_or_else(|| {
            Error::invalid("DATABASE_UNKNOWN", "no database of this node is the default one")
                .hint(format!("name one in the path: {}", names(&self.databases)))
        })
    }

    /// What `diff` and `sync` reach without naming a database.
    pub fn gateway(&self) -> Result<&Gateway> {
        match &self.gateway {
            Some(gateway) => Ok(gateway),
            None => self.endpoint(&self.default()?.options().name),
        }
    }

    /// The database called `name`, for `diff` and `sync`.
    pub fn endpoint(&self, name: &str) -> Result<&Gateway> {
        let unknown = || match self.gateway {
            Some(_) => of_a_gateway(name),
            None => unknown(&self.databases, name),
        };
        self.endpoints.get(name).ok_or_else(unknown)
    }

    /// Everything that `diff` and `sync` reach here.
    pub fn gateways(&self) -> impl Iterator<Item = &Gateway> {
        self.gateway.iter().chain(self.endpoints.values())
    }

    /// Expires what idles, until the server drains.
    pub async fn keep_house(self: Arc<Self>) {
        let mut stage = self.stage.clone();
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                now = tick.tick() => {
                    self.streams.expire(now.into_std());
                    self.gateways().for_each(|gateway| gateway.expire(now.into_std()));
                }
                _ = stage.wait_for(|stage| *stage != Stage::Serving) => return,
            }
        }
    }
}

fn database<'a>(databases: &'a HashMap<String, Database>, name: &str) -> Result<&'a Database> {
    databases.get(name).ok_or_else(|| unknown(databases, name))
}

fn unknown(databases: &HashMap<String, Database>, name: &str) -> Error {
    Error::invalid("DATABASE_UNKNOWN", format!("this node has no database {name:?}"))
        .hint(format!("it has {}", names(databases)))
}

fn of_a_gateway(name: &str) -> Error {
    let what = format!("this is a gateway of one database, and no node with one called {name:?}");
    Error::invalid("DATABASE_UNKNOWN", what).hint("leave the name out: http(s)://HOST:PORT")
}

fn names(databases: &HashMap<String, Database>) -> String {
    let mut names: Vec<_> = databases.keys().map(|name| format!("/{name}")).collect();
    names.sort();
    names.join(", ")
}
