//! Connections: how many, how long, and how they end.
//!
//! ```text
//!              accept ──▶ admitted ──▶ idle ⇄ busy ──▶ closed
//!                            │           ╰─ one that did nothing for long makes room when all places
//!                            │              are taken: ten thousand idle sockets shut nobody out
//!                            ╰─ all places taken and all busy: 503, closed
//! ```
//!
//! At shutdown an idle connection closes at once and a busy one after its answer.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
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
    open: Mutex<Open>,
}

/// Those that are open, and the order in which they are looked at when one must go.
#[derive(Default)]
struct Open {
    last_id: u64,
    by_id: HashMap<u64, Arc<Connection>>,
    /// Ids, with what `idle_since` was when each was put there; closed ones stay until they are met.
    queue: VecDeque<(u64, u64)>,
}

impl Connections {
    /// Room for `most`.
    pub fn new(most: usize) -> Self {
        Connections { began: Instant::now(), most: most.max(1), open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no panic while held")
    }

    /// Takes a place, from an idle one if need be; none if all are busy.
    fn admit(&self, local: Option<IpAddr>) -> Option<(u64, Arc<Connection>)> {
        let mut open = self.open();
        if open.by_id.len() >= self.most && !open.evict() {
            return None;
        }
        let now = self.began.elapsed().as_millis() as u64;
        let connection = Arc::new(Connection {
            idle_since: AtomicU64::new(now),
            began: self.began,
            call: Notify::new(),
            local,
        });
        open.last_id += 1;
        let id = open.last_id;
        open.by_id.insert(id, connection.clone());
        open.queue.push_back((id, now));
        Some((id, connection))
    }

    /// Takes its place from an idle connection; false if all are busy.
    fn make_room(&self) -> bool {
        self.open().evict()
    }

    fn leave(&self, id: u64) {
        let mut open = self.open();
        open.by_id.remove(&id);
        if open.queue.len() > 2 * open.by_id.len() + 64 {
            let Open { by_id, queue, .. } = &mut *open;
            queue.retain(|(id, _)| by_id.contains_key(id));
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open().by_id.len()
    }

    /// Makes every connection look at the stage.
    pub fn call_all(&self) {
        for connection in self.open().by_id.values() {
            connection.call.notify_one();
        }
    }
}

impl Open {
    /// Ends the first that did nothing since it was looked at last; whoever did gets another turn.
    /// In the mean this costs a step or two, where a search for the one that idled longest would
    /// look at all of them while somebody floods us.
    fn evict(&mut self) -> bool {
        for _ in 0..2 * self.queue.len() {
            let Some((id, seen)) = self.queue.pop_front() else { return false };
            let Some(connection) = self.by_id.get(&id) else { continue };
            let idle_since = connection.idle_since.load(Ordering::Relaxed);
            if idle_since == BUSY || idle_since != seen {
                self.queue.push_back((id, idle_since));
                continue;
            }
            connection.call.notify_one();
            self.by_id.remove(&id);
            return true;
        }
        false
    }
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
        match &node.tls {
            None => serve(stream, door, &node, &connection).await,
            Some(tls) => {
                let hello = tokio::time::timeout(node.limits.head_timeout, tls.0.accept(stream));
                // Whoever does not speak TLS, or not in time, gets no answer that it could read.
                if let Ok(Ok(stream)) = hello.await {
                    serve(stream, door, &node, &connection).await;
                }
            }
        }
        node.connections.leave(id);
        drop(answering);
    });
}

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
content-type: application/json\r\ncontent-length: 137\r\n\r\n\
{\"error\":{\"code\":\"CONNECTIONS_FULL\",\"message\":\"all connections of this node are busy\",\
\"hint\":\"try again; use keep-alive\",\"retry\":\"yes\"}}\n";

async fn serve<S>(stream: S, door: Door, node: &Arc<Node>, connection: &Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
    fn one_that_did_nothing_makes_room() {
        let connections = Connections::new(2);
        let (first, a) = connections.admit(None).unwrap();
        let (second, _b) = connections.admit(None).unwrap();
        a.idle_since.store(10, Ordering::Relaxed);
        let (third, c) = connections.admit(None).unwrap();
        let open = |id| connections.open().by_id.contains_key(&id);
        assert!(open(first) && open(third) && !open(second), "only the second did nothing");

        let busy = (a.busy(), c.busy());
        assert!(connections.admit(None).is_none(), "nobody idles, nobody goes");
        drop(busy);
        assert!(connections.admit(None).is_some());
        assert_eq!(connections.count(), 2);
    }

    #[test]
    fn those_that_left_are_forgotten() {
        let connections = Connections::new(2);
        for _ in 0..10_000 {
            let (id, _) = connections.admit(None).unwrap();
            connections.leave(id);
        }
        assert!(connections.open().queue.len() <= 65);
    }
}
