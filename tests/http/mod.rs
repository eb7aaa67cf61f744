//! A server in this process, and the plainest client that can speak to it.

#![allow(dead_code, reason = "each test file uses its part of this")]

use std::time::Duration;

use syncline::api::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything here takes; a test that waits this long has failed.
pub const SOON: Duration = Duration::from_secs(20);

/// A running server; dropping it ends it with its runtime.
pub struct Running {
    /// Where clients go.
    pub client: String,
    /// Where operators go.
    pub admin: String,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Running {
    /// Starts the server that `build` makes for an advertised address.
    pub async fn start(build: impl FnOnce(&str) -> Server) -> Running {
        let listen = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Running::on(listen, build).await
    }

    /// Starts a server that listens on `listen`.
    pub async fn on(listen: TcpListener, build: impl FnOnce(&str) -> Server) -> Running {
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = listen.local_addr().unwrap().to_string();
        let operators = admin.local_addr().unwrap().to_string();
        let server = build(&format!("http://{client}"));
        let (shutdown, asked) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let asked = async { drop(asked.await) };
            server.serve(listen, Some(admin), asked).await.unwrap();
        });
        Running { client, admin: operators, shutdown: Some(shutdown), served }
    }

    /// Asks it to end.
    pub fn ask_to_end(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// Waits until it has ended.
    pub async fn ended(self) {
        tokio::time::timeout(SOON, self.served).await.expect("it ends").unwrap();
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Lower-case names and values.
    pub headers: Vec<(String, String)>,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// `error.code` of the body.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends `head` (its lines without the empty one) and `body` on a connection of its own.
pub async fn send(address: &str, head: &str, body: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(address).await.unwrap();
    write(&mut socket, head, body).await;
    read(&mut socket).await
}

/// Writes a request.
pub async fn write(socket: &mut TcpStream, head: &str, body: &[u8]) {
    let head = head.trim().replace('\n', "\r\n");
    let mut request = format!("{head}\r\n").into_bytes();
    if !body.is_empty() {
        request.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    socket.write_all(&request).await.unwrap();
}

/// Reads one answer.
pub async fn read(socket: &mut TcpStream) -> Answer {
    tokio::time::timeout(SOON, read_answer(socket)).await.expect("an answer")
}

async fn read_answer(socket: &mut TcpStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = chunks(socket).await;
    } else if let Some(length) = answer.header("content-length") {
        answer.body = vec![0; length.parse().unwrap()];
        socket.read_exact(&mut answer.body).await.unwrap();
    }
    answer
}

/// Reads a chunked body to its end.
async fn chunks(socket: &mut TcpStream) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let chunk = chunk(socket).await;
        if chunk.is_empty() {
            return body;
        }
        body.extend_from_slice(&chunk);
    }
}

/// Reads one chunk; an empty one is the end.
pub async fn chunk(socket: &mut TcpStream) -> Vec<u8> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(socket.read_u8().await.unwrap());
    }
    let length = std::str::from_utf8(&line).unwrap().trim_end();
    let mut chunk = vec![0; usize::from_str_radix(length, 16).unwrap() + 2];
    socket.read_exact(&mut chunk).await.unwrap();
    chunk.truncate(chunk.len() - 2);
    chunk
}
