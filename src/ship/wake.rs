//! Waking a reader: one stream of positions from the writer, and one report a second back.
//!
//! ```text
//! GET  /v1/databases/DB/wake?node=NAME     {"position":"7.1042.…"}⏎ at once, at every move, every 5 s
//! POST /v1/databases/DB/readers            {"node":"NAME","position":"7.1041.…","undone":"6.1043.…"}
//! ```
//!
//! Between the writer's commit and the reader's look stand one flush, one read and one function call
//! on a thread that does nothing else. Both requests are HTTP/1.0: the stream is then the plain
//! lines until the connection closes, and nothing needs to be unwrapped on the way.
//!
//! Left out: TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::change::Position;

/// The first wait after the stream broke; it doubles from there.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5);
/// A stream that says nothing for this long (three heartbeats) is broken.
const SILENCE: Duration = Duration::from_secs(15);
/// How often the copy's position is reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long connecting, sending and a report's answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longer lines are no positions.
const LONGEST_LINE: u64 = 4096;

/// Whom to listen to, and in whose name.
#[derive(Clone)]
pub struct Waker {
    /// Asked before each connection for the writer's address (`http://host:port`): it may become
    /// known only later, and it changes with the writer.
    pub writer: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// The database.
    pub database: String,
    /// This node's name.
    pub node: String,
}

/// What a copy tells the writer of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Where it stands.
    pub position: Position,
    /// Where it stood before it last had to undo something: it may have followed a restore before the
    /// writer knew of it.
    pub undone: Option<Position>,
}

/// Keeps a stream to the writer; dropping it ends both of its threads.
#[derive(Debug)]
pub struct WakeStream {
    ends: [Arc<End>; 2],
}

impl Drop for WakeStream {
    fn drop(&mut self) {
        self.ends.iter().for_each(|end| end.set());
    }
}

/// Calls `wake` with each position the writer tells of, and tells the writer `report` once a
/// second, until the guard is dropped. A stream that breaks, or cannot be opened, is opened again
/// after 50 ms to 5 s, and each time `wake` is called without a position: the writer may be another
/// one now, and looking will tell.
///
/// Neither function may wait for the guard to be dropped.
pub fn wake_stream(
    waker: Waker,
    wake: impl Fn(Option<Position>) + Send + 'static,
    report: impl Fn() -> Report + Send + 'static,
) -> io::Result<WakeStream> {
    let ends = [Arc::new(End::default()), Arc::new(End::default())];
    let stream = WakeStream { ends: ends.clone() };
    let [listening, reporting] = ends;
    let listener = waker.clone();
    thread::Builder::new().name("wake".into()).spawn(move || listener.listen(&listening, &wake))?;
    thread::Builder::new()
        .name("report".into())
        .spawn(move || waker.report(&reporting, &report))?;
    Ok(stream)
}

/// Says when a thread must end, and reaches it while it waits for the network.
#[derive(Debug, Default)]
struct End {
    state: Mutex<(bool, Option<TcpStream>)>,
    changed: Condvar,
}

impl End {
    fn state(&self) -> MutexGuard<'_, (bool, Option<TcpStream>)> {
        self.state.lock().expect("no panic while held")
    }

    fn set(&self) {
        let mut state = self.state();
        state.0 = true;
        if let Some(socket) = state.1.take() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    fn is_set(&self) -> bool {
        self.state().0
    }

    /// Waits for `time`, or until the end.
    fn wait(&self, time: Duration) {
        let state = self.state();
        let _ = self.changed.wait_timeout_while(state, time, |(ended, _)| !*ended);
    }

    /// Lets the end reach a thread that waits on `socket`.
    fn holds(&self, socket: &TcpStream) -> io::Result<()> {
        let mut state = self.state();
        if state.0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        state.1 = Some(socket.try_clone()?);
        Ok(())
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    position: &'a str,
}

impl Waker {
    fn listen(&self, end: &End, wake: &impl Fn(Option<Position>)) {
        let mut pause = SHORTEST;
        while !end.is_set() {
            let broke = self.listen_once(end, wake, &mut pause);
            if end.is_set() {
                return;
            }
            tracing::debug!(node = self.node, error = ?broke.err(), "the wake-up stream broke");
            wake(None);
            end.wait(pause);
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// One stream, until it breaks; a position that arrives makes the next pause short again.
    fn listen_once(
        &self,
        end: &End,
        wake: &impl Fn(Option<Position>),
        pause: &mut Duration,
    ) -> io::Result<()> {
        let head = format!("GET /v1/databases/{}/wake?node={} HTTP/1.0", self.database, self.node);
        let mut lines = self.ask(end, &head, "", SILENCE)?;
        let mut line = String::new();
        loop {
            line.clear();
            if (&mut lines).take(LONGEST_LINE).read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let parsed: Line<'_> = serde_json::from_str(&line)?;
            wake(Some(parsed.position.parse().map_err(io::Error::other)?));
            *pause = SHORTEST;
        }
    }

    fn report(&self, end: &End, report: &impl Fn() -> Report) {
        while !end.is_set() {
            let Report { position, undone } = report();
            let mut body =
                serde_json::json!({ "node": self.node, "position": position.to_string() });
            if let Some(undone) = undone {
                body["undone"] = undone.to_string().into();
            }
            let head = format!("POST /v1/databases/{}/readers HTTP/1.0", self.database);
            if let Err(error) = self.ask(end, &head, &body.to_string(), PATIENCE) {
                tracing::debug!(node = self.node, %error, "the position was not reported");
            }
            end.wait(REPORT_EVERY);
        }
    }

    /// Sends a request and reads the head of its answer; what is left is the answer's body.
    fn ask(
        &self,
        end: &End,
        head: &str,
        body: &str,
        silence: Duration,
    ) -> io::Result<BufReader<TcpStream>> {
        let writer = (self.writer)()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no writer is known"))?;
        let host = writer.trim_end_matches('/').strip_prefix("http://").ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the writer's address is not http://")
        })?;
        let socket = connect(host)?;
        end.holds(&socket)?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(silence))?;
        let request = format!(
            "{head}\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        (&socket).write_all(request.as_bytes())?;
        let mut answer = BufReader::new(socket);
        read_head(&mut answer)?;
        Ok(answer)
    }
}

fn connect(host: &str) -> io::Result<TcpStream> {
    let port = if host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
        ""
    } else {
        ":80"
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the writer's name has no address");
    for address in format!("{host}{port}").to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads up to the empty line; anything but success is an error.
fn read_head(answer: &mut impl BufRead) -> io::Result<()> {
    let mut head = answer.take(16 << 10);
    let mut line = String::new();
    head.read_line(&mut line)?;
    if !line.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
        return Err(io::Error::other(format!("the writer answered {:?}", line.trim_end())));
    }
    while line.trim_end() != "" {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Chain, Epoch, Version};
    use std::net::TcpListener;
    use std::sync::mpsc;

    fn at(version: u64) -> Position {
        let (epoch, version) = (Epoch(7), Version(version));
        Position { epoch, version, chain: Chain(u128::from(version.0)), ..Position::default() }
    }

    fn stands(version: u64) -> Report {
        Report { position: at(version), undone: None }
    }

    fn waker(url: String) -> Waker {
        let writer = Arc::new(move || Some(url.clone()));
        Waker { writer, database: "main".into(), node: "r1".into() }
    }

    /// A writer that answers each request with what `answer` makes of its number and head, and
    /// tells of it.
    fn writer(
        answer: impl Fn(usize, &str) -> String + Send + 'static,
    ) -> (Waker, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (heard, requests) = mpsc::channel();
        thread::spawn(move || {
            let mut streams = 0;
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                let mut bytes = vec![0; 4096];
                let n = socket.read(&mut bytes).unwrap();
                let request = String::from_utf8_lossy(&bytes[..n]).into_owned();
                streams += usize::from(request.starts_with("GET"));
                let _ = socket.write_all(answer(streams, &request).as_bytes());
                if heard.send(request).is_err() {
                    return;
                }
            }
        });
        (waker(url), requests)
    }

    const OK: &str = "HTTP/1.0 200 OK\r\ncontent-type: x\r\n\r\n";
    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_broken_stream_is_opened_again_and_loses_nothing_but_time() {
        // The first stream is refused, the second breaks inside a line, the third goes on.
        let (waker, _requests) =
            writer(|stream, request| match (request.starts_with("GET"), stream) {
                (false, _) => OK.into(),
                (true, 1) => "HTTP/1.0 421 Misdirected Request\r\n\r\n".into(),
                (true, 2) => format!("{OK}{{\"position\":\"{}\"}}\n{{\"posi", at(1)),
                (true, _) => {
                    format!("{OK}{{\"position\":\"{}\"}}\n{{\"position\":\"{}\"}}\n", at(2), at(3))
                }
            });
        let (woken, positions) = mpsc::channel();
        let guard = wake_stream(waker, move |p| woken.send(p).unwrap_or(()), || stands(0)).unwrap();
        // Each break is a reason to look, too.
        let expected = [None, Some(at(1)), None, Some(at(2)), Some(at(3)), None];
        for woken in expected {
            assert_eq!(positions.recv_timeout(SOON).unwrap(), woken);
        }
        drop(guard);
        // The thread that held the sender ends: nothing keeps calling.
        while positions.recv_timeout(SOON).is_ok() {}
        assert_eq!(positions.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn the_position_is_reported() {
        let (waker, requests) = writer(|_, _| OK.into());
        let report = || Report { undone: Some(at(43)), ..stands(41) };
        let _guard = wake_stream(waker, |_| {}, report).unwrap();
        let report = std::iter::from_fn(|| requests.recv_timeout(SOON).ok())
            .find(|request| request.starts_with("POST"))
            .unwrap();
        assert!(report.starts_with("POST /v1/databases/main/readers HTTP/1.0\r\nhost: 127.0.0.1:"));
        let body: serde_json::Value =
            serde_json::from_str(report.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let (position, undone) = (at(41).to_string(), at(43).to_string());
        let expected = serde_json::json!({"node": "r1", "position": position, "undone": undone});
        assert_eq!(body, expected);
    }

    #[test]
    fn dropping_the_guard_reaches_a_thread_that_waits_for_a_line() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let waker = waker(format!("http://{}", listener.local_addr().unwrap()));
        let (woken, positions) = mpsc::channel::<Option<Position>>();
        let guard = wake_stream(waker, move |p| woken.send(p).unwrap_or(()), || stands(0)).unwrap();
        let _open = listener.accept().unwrap();
        drop(guard);
        let ended = positions.recv_timeout(SILENCE / 2);
        assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let read = |text: &str| read_head(&mut text.as_bytes());
        assert!(read("HTTP/1.0 200 OK\r\na: b\r\n\r\nrest").is_ok());
        for wrong in
            ["", "HTTP/1.0 200 OK\r\na: b", "HTTP/1.0 503 x\r\n\r\n", "220 mail ready\r\n\r\n"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read(&format!("HTTP/1.0 200 OK\r\na: {}\r\n\r\n", "x".repeat(20_000))).is_err());
    }
}
