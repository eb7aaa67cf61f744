//! A proxy that cuts a PostgreSQL connection at a message of one's choice, or holds it there.
//!
//! It counts the protocol's messages in both directions together, so that every moment of a conversation has
//! a number: the messages up to it arrive, the next one does not, and both ends lose the connection.

#![allow(dead_code, reason = "each test that includes this module uses a part of it")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A running proxy. Its threads end with the test's process.
pub struct Cutter {
    /// Where to connect.
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    /// Whom new connections reach.
    server: Mutex<SocketAddr>,
    /// Messages that still pass; below zero: as many as come.
    left: AtomicI64,
    /// Connections that were cut.
    cuts: AtomicU64,
    /// Nobody gets through any more.
    closed: AtomicBool,
    /// What is not let pass waits, and the connection stays.
    holds: AtomicBool,
    /// Some message waits.
    held: AtomicBool,
}

impl Cutter {
    /// In front of `server`, letting everything pass.
    pub fn start(server: SocketAddr) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            server: Mutex::new(server),
            left: AtomicI64::new(-1),
            cuts: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            held: AtomicBool::new(false),
        });
        let serving = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.closed.load(Ordering::SeqCst) {
                    continue;
                }
                let state = serving.clone();
                thread::spawn(move || join(&client, &state));
            }
        });
        Cutter { address, state }
    }

    /// Lets so many messages pass, and cuts at the next one; everything passes again afterwards.
    pub fn cut_after(&self, messages: u64) {
        self.state.left.store(messages as i64, Ordering::SeqCst);
    }

    /// How many of those messages have not come yet.
    pub fn left(&self) -> u64 {
        self.state.left.load(Ordering::SeqCst).max(0) as u64
    }

    /// Lets so many messages pass, and holds all that come after them, of all connections.
    pub fn hold_after(&self, messages: u64) {
        self.state.holds.store(true, Ordering::SeqCst);
        self.cut_after(messages);
    }

    /// Whether a message is being held.
    pub fn is_holding(&self) -> bool {
        self.state.held.load(Ordering::SeqCst)
    }

    /// New connections reach another server; the old ones end with theirs.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.state.server.lock().unwrap() = server;
    }

    /// Lets everything pass.
    pub fn let_pass(&self) {
        self.state.holds.store(false, Ordering::SeqCst);
        self.state.held.store(false, Ordering::SeqCst);
        self.state.left.store(-1, Ordering::SeqCst);
    }

    /// Whether new connections are closed at once.
    pub fn close(&self, closed: bool) {
        self.state.closed.store(closed, Ordering::SeqCst);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

impl State {
    /// Whether one more message may pass; waits while messages are held.
    fn passes(&self) -> bool {
        loop {
            let holds = self.holds.load(Ordering::SeqCst);
            let one_less = |left| match left {
                0 if holds => None,
                0.. => Some(left - 1),
                _ => None,
            };
            match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
                // It has set the count to "as many as come".
                Ok(0) => return false,
                Err(0) => {
                    self.held.store(true, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                }
                _ => return true,
            }
        }
    }
}

fn join(client: &TcpStream, state: &Arc<State>) {
    let Ok(server) = TcpStream::connect(*state.server.lock().unwrap()) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ends = || (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (from_client, to_server) = ends();
    let (to_client, from_server) = ends();
    let forward = state.clone();
    let there = thread::spawn(move || pump(from_client, to_server, &forward, true));
    pump(from_server, to_client, state, false);
    let _ = there.join();
}

/// Passes messages on, until an end closes or the count is used up. A client's first has no type.
fn pump(mut from: TcpStream, mut to: TcpStream, state: &State, mut untyped: bool) {
    while let Some(message) = read_message(&mut from, untyped) {
        untyped = false;
        if !state.passes() {
            state.cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if to.write_all(&message).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn read_message(from: &mut TcpStream, untyped: bool) -> Option<Vec<u8>> {
    let head = if untyped { 4 } else { 5 };
    let mut message = vec![0; head];
    from.read_exact(&mut message).ok()?;
    let length = u32::from_be_bytes(message[head - 4..].try_into().unwrap()) as usize;
    message.resize(head - 4 + length, 0);
    from.read_exact(&mut message[head..]).ok()?;
    Some(message)
}
