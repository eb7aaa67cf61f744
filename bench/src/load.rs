//! The HTTP load generator: one thread, one poll, requests that were built beforehand.
//!
//! It runs in a process of its own and does as little as it can, since on a small machine it takes
//! from what it measures; pgbench, on the other side, is as lean. Each connection has one request
//! under way, as a client that waits for its answer has.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::table::Latencies;
use crate::workload::{BODY, INSERT};

/// What to send, and where.
#[derive(clap::Args)]
pub struct Args {
    /// The server.
    #[arg(long)]
    address: SocketAddr,
    /// Keep-alive connections.
    #[arg(long)]
    connections: usize,
    /// For how long.
    #[arg(long)]
    for_seconds: f64,
    /// What each request does.
    #[arg(long)]
    kind: Kind,
    /// Point reads ask for ids up to this one.
    #[arg(long, default_value_t = 1)]
    ids: u64,
}

/// What a request does.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Inserts one row.
    Insert,
    /// Reads one row by its id.
    Read,
}

/// The text of one pipeline: what the stock JavaScript client sends for a single statement.
pub fn pipeline(address: SocketAddr, sql: &str, arguments: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"baton":null,"requests":[{{"type":"execute","stmt":{{"sql":"{sql}","args":[{arguments}],"want_rows":true}}}},{{"type":"close"}}]}}"#
    );
    format!(
        "POST /v2/pipeline HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn insert(address: SocketAddr, client: usize) -> Vec<u8> {
    let arguments =
        format!(r#"{{"type":"integer","value":"{client}"}},{{"type":"text","value":"{BODY}"}}"#);
    pipeline(address, INSERT, &arguments)
}

/// A point read of one row.
pub fn read(address: SocketAddr, id: u64) -> Vec<u8> {
    let arguments = format!(r#"{{"type":"integer","value":"{id}"}}"#);
    pipeline(address, "SELECT id, client, body FROM bench WHERE id = ?", &arguments)
}

/// The requests of one connection, sent in turn.
fn requests(args: &Args, client: usize) -> Vec<Vec<u8>> {
    match args.kind {
        Kind::Insert => vec![insert(args.address, client)],
        Kind::Read => {
            // Any spread will do, as long as it is the same in each run.
            let id = |i: u64| (client as u64 * 7919 + i * 104_729) % args.ids + 1;
            (0..32).map(|i| read(args.address, id(i))).collect()
        }
    }
}

/// One connection.
struct Connection {
    stream: TcpStream,
    requests: Vec<Vec<u8>>,
    next: usize,
    sent: usize,
    received: Vec<u8>,
    /// Head and body together, once the head is there.
    whole: Option<usize>,
    begun: Instant,
}

impl Connection {
    fn open(args: &Args, client: usize) -> Result<Self> {
        let stream = std::net::TcpStream::connect(args.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream: TcpStream::from_std(stream),
            requests: requests(args, client),
            next: 0,
            sent: 0,
            received: Vec::with_capacity(4096),
            whole: None,
            begun: Instant::now(),
        })
    }

    /// Sends what is left of the current request.
    fn send(&mut self) -> Result<()> {
        let request = &self.requests[self.next];
        while self.sent < request.len() {
            match self.stream.write(&request[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Takes what has come; whether the answer is complete.
    fn receive(&mut self) -> Result<bool> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(n) => self.received.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e.into()),
            }
            if self.whole.is_none() {
                self.whole = whole_length(&self.received)?;
            }
            if self.whole.is_some_and(|whole| self.received.len() >= whole) {
                return Ok(true);
            }
        }
    }

    /// Ends this exchange and begins the next one.
    fn turn(&mut self) -> Result<()> {
        check(&self.received)?;
        self.received.clear();
        self.whole = None;
        self.sent = 0;
        self.next = (self.next + 1) % self.requests.len();
        self.begun = Instant::now();
        self.send()
    }
}

/// The length of the answer, head and body, once its head is complete.
pub fn whole_length(received: &[u8]) -> Result<Option<usize>> {
    let Some(head) = find(received, b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let text = std::str::from_utf8(&received[..head])?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.ok_or_else(|| format!("an answer without a length: {text}"))?;
    Ok(Some(head + length))
}

/// A figure of failed requests would be a lie.
fn check(answer: &[u8]) -> Result<()> {
    if answer.starts_with(b"HTTP/1.1 200") && find(answer, b"\"error\"").is_none() {
        return Ok(());
    }
    Err(format!("not what was asked for: {}", String::from_utf8_lossy(answer)).into())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle[0];
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|&b| b == first) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// The `load` command: prints the rate a second, then p50, p99, p99.9 and max in milliseconds.
pub fn run(args: &Args) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut connections = Vec::with_capacity(args.connections);
    for client in 0..args.connections {
        let mut connection = Connection::open(args, client)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut connection.stream, Token(client), interest)?;
        connections.push(connection);
    }
    let started = Instant::now();
    let deadline = started + Duration::from_secs_f64(args.for_seconds);
    for connection in &mut connections {
        connection.begun = Instant::now();
        connection.send()?;
    }
    let mut latencies = exchange(&mut poll, &mut connections, deadline)?;
    let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|q| latencies.quantile(q));
    println!("{rate} {p50} {p99} {p999} {max}");
    Ok(())
}

fn exchange(
    poll: &mut Poll,
    connections: &mut [Connection],
    deadline: Instant,
) -> Result<Latencies> {
    let mut events = Events::with_capacity(1024);
    let mut latencies = Latencies::default();
    while Instant::now() < deadline {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let connection = &mut connections[event.token().0];
            if event.is_writable() {
                connection.send()?;
            }
            while event.is_readable() && connection.receive()? {
                latencies.record(connection.begun.elapsed());
                connection.turn()?;
            }
        }
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(whole_length(&head[..20]).unwrap(), None);
        assert_eq!(whole_length(head).unwrap(), Some(head.len() + 5));
    }

    #[test]
    fn a_failed_request_is_no_figure() {
        assert!(check(b"HTTP/1.1 200 OK\r\n\r\n{\"results\":[]}").is_ok());
        assert!(check(b"HTTP/1.1 503 Busy\r\n\r\n{}").is_err());
        assert!(check(b"HTTP/1.1 200 OK\r\n\r\n{\"type\":\"error\"}").is_err());
    }
}
