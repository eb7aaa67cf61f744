//! A gateway over a SQLite file, and what can happen on the line to it.

mod clients;
mod door;
mod far;
mod line;
mod node;
mod proxy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::Gateway;
use crate::api::{HttpLimits, Server};
use crate::endpoint::http::{HttpEndpoint, Login};
use crate::endpoint::sqlite::{Access, SqliteEndpoint};
use crate::endpoint::{Endpoint, Plan, agree};

/// A server on a thread of its own.
struct Served {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start(server: Server) -> Served {
        Served::at(SocketAddr::from(([127, 0, 0, 1], 0)), server)
    }

    fn at(address: SocketAddr, server: Server) -> Served {
        let (end, asked) = oneshot::channel::<()>();
        let (listens, listening) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::bind(address).await.unwrap();
                listens.send(listener.local_addr().unwrap()).unwrap();
                server.serve(listener, None, async { drop(asked.await) }).await.unwrap();
            });
        });
        Served { address: listening.recv().unwrap(), end: Some(end), thread: Some(thread) }
    }

    /// A gateway over a file.
    fn file(path: &Path) -> Served {
        Served::start(server(over(path), false))
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

type Opener = Arc<super::Opener>;

fn over(path: &Path) -> Opener {
    let path = path.to_owned();
    Arc::new(move |access| Ok(Box::new(SqliteEndpoint::open(&path, access)?)))
}

/// Whoever says nothing for half a second is gone, so that tests of broken lines end soon.
fn server(opener: Opener, read_only: bool) -> Server {
    let limits = HttpLimits {
        head_timeout: std::time::Duration::from_millis(500),
        body_timeout: std::time::Duration::from_millis(500),
        ..HttpLimits::default()
    };
    let gateway = Gateway::new(opener, read_only);
    Server::new("gateway", "http://127.0.0.1").limits(limits).gateway(gateway)
}

fn open(url: &str, access: Access) -> crate::error::Result<HttpEndpoint> {
    HttpEndpoint::open(url, access, &Login::default())
}

/// A file with a table of so many rows of five columns.
fn customers(directory: &Path, name: &str, rows: u32) -> PathBuf {
    let path = directory.join(name);
    let file = Connection::open(&path).unwrap();
    let sql = format!(
        "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; CREATE TABLE customers \
         (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT, amount REAL, at INTEGER); \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         INSERT INTO customers SELECT i, 'customer ' || i, 'city ' || (i % 977), i * 1.25, \
         1700000000 + i * 7 FROM n"
    );
    file.execute_batch(&sql).unwrap();
    path
}

fn plan_of(endpoint: &mut dyn Endpoint) -> Plan {
    let engine = endpoint.engine();
    let table = endpoint.tables().unwrap().remove(0);
    agree::agree((engine, &table), (engine, &table), &Default::default()).unwrap().a
}
