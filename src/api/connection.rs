//! Connections: how many, how long, and how they end.
//!
//! ```text
//!              accept ──▶ admitted ──▶ idle ⇄ busy ──▶ closed
//!                            │           ╰─ the one that idled longest makes room when all places
//!                            │              are taken: ten thousand idle sockets shut nobody out
//!                            ╰─ all places taken and all busy: 503, closed
//! ```
//!
//! At shutdown an idle connection closes at once and a busy one after its answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use super::node::{Door, Node};
use super::route;
use super::server::{HttpLimits, Stage};
use super::stall::Stall;

/// Idle since never: a request is being answered.
const BUSY: u64 = u64::MAX;

/// One connection, as the others see it.
pub(super) struct Connection {
    /// Milliseconds since the server began, or [`BUSY`].
    idle_since: AtomicU64,
    began: Instant,
    /// Tells the connection's task to look at its stage, or to make room.
    call: Notify,
    /// The address it came in on.
    pub local: Option<IpAddr>,
}

impl Connection {
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Marks it busy until the guard is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.idle_since.store(BUSY, Ordering::Relaxed);
        Busy(self.clone())
    }

    fn is_busy(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) == BUSY
    }
}

/// A request is being answered, or its answer still streams.
pub(super) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
    }
}

/// All connections of a node.
pub(super) struct Connections {
    began: Instant,
    most: usize,
    open: Mutex<(u64, HashMap<u64, Arc<Connection>>)>,
}

impl Connections {
    /// Room for `most`.
    pub fn new(most: usize) -> Self {
        Connections { began: Instant::now(), most: most.max(1), open: Mutex::default() }
    }

    /// Takes a place, from the one that idled longest if need be; none if all are busy.
    fn admit(&self, local: Option<IpAddr>) -> Option<(u64, Arc<Connection>)> {
        let mut open = self.open.lock().expect("no panic while held");
        if open.1.len() >= self.most && !evict(&mut open.1) {
            return None;
        }
        let connection = Arc::new(Connection {
            idle_since: AtomicU64::new(self.began.elapsed().as_millis() as u64),
            began: self.began,
            call: Notify::new(),
            local,
        });
        open.0 += 1;
        let id = open.0;
        open.1.insert(id, connection.clone());
        Some((id, connection))
    }

    /// Takes its place from the connection that idled longest; false if all are busy.
    fn make_room(&self) -> bool {
        evict(&mut self.open.lock().expect("no panic while held").1)
    }

    fn leave(&self, id: u64) {
        self.open.lock().expect("no panic while held").1.remove(&id);
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.lock().expect("no panic while held").1.len()
    }

    /// Makes every connection look at the stage.
    pub fn call_all(&self) {
        for connection in self.open.lock().expect("no panic while held").1.values() {
            connection.call.notify_one();
        }
    }
}

fn evict(open: &mut HashMap<u64, Arc<Connection>>) -> bool {
    let idle = |c: &Arc<Connection>| c.idle_since.load(Ordering::Relaxed);
    let Some((&id, oldest)) = open.iter().min_by_key(|(_, c)| idle(c)) else { return false };
    if oldest.is_busy() {
        return false;
    }
    oldest.call.notify_one();
    open.remove(&id);
    true
}

/// Accepts until the node drains; the listener closes with it. Whoever answers keeps a clone of
/// `answering`.
pub(super) async fn accept(
    listener: TcpListener,
    door: Door,
    node: Arc<Node>,
    answering: mpsc::Sender<Infallible>,
) {
    let mut stage = node.stage.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stage.wait_for(|stage| *stage != Stage::Serving) => return,
        };
        match accepted {
            Ok((stream, _)) => welcome(stream, door, &node, &answering),
            Err(error) => {
                // Out of file descriptors, most likely: closing a connection frees one.
                tracing::warn!(%error, "a connection could not be accepted");
                node.connections.make_room();
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

fn welcome(stream: TcpStream, door: Door, node: &Arc<Node>, answering: &mpsc::Sender<Infallible>) {
    let local = stream.local_addr().ok().map(|address| address.ip());
    // A client that waits for an answer waits for the last packet too.
    let _ = stream.set_nodelay(true);
    let Some((id, connection)) = node.connections.admit(local) else {
        let _ = stream.try_write(FULL);
        return;
    };
    let (node, answering) = (node.clone(), answering.clone());
    tokio::spawn(async move {
        serve(stream, door, &node, &connection).await;
        node.connections.leave(id);
        drop(answering);
    });
}

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
content-type: application/json\r\ncontent-length: 137\r\n\r\n\
{\"error\":{\"code\":\"CONNECTIONS_FULL\",\"message\":\"all connections of this node are busy\",\
\"hint\":\"try again; use keep-alive\",\"retry\":\"yes\"}}\n";

async fn serve(stream: TcpStream, door: Door, node: &Arc<Node>, connection: &Arc<Connection>) {
    let answer = |request: hyper::Request<Incoming>| route::answer(node, door, connection, request);
    let HttpLimits { head_timeout, stall_timeout, .. } = node.limits;
    let io = TokioIo::new(Stall::new(stream, stall_timeout));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(64 << 10)
        .serve_connection(io, service_fn(answer));
    tokio::pin!(served);
    loop {
        tokio::select! {
            biased;
            _ = served.as_mut() => return,
            () = connection.call.notified() => match *node.stage.borrow() {
                Stage::Draining => served.as_mut().graceful_shutdown(),
                Stage::Ended => return,
                Stage::Serving if !connection.is_busy() => return,
                // It was called to make room and became busy on the way: it stays, above the limit.
                Stage::Serving => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_has_the_length_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
    }

    #[test]
    fn the_one_that_idled_longest_makes_room() {
        let connections = Connections::new(2);
        let (first, a) = connections.admit(None).unwrap();
        let (_, b) = connections.admit(None).unwrap();
        a.idle_since.store(10, Ordering::Relaxed);
        b.idle_since.store(5, Ordering::Relaxed);
        let (third, c) = connections.admit(None).unwrap();
        let open = |id| connections.open.lock().unwrap().1.contains_key(&id);
        assert!(open(first) && open(third) && !open(2), "b idled longest");

        let (_busy, _also) = (a.busy(), c.busy());
        assert!(connections.admit(None).is_none(), "nobody idles, nobody goes");
    }
}
