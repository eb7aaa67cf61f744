//! Processes that a benchmark starts, and plain requests to them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Result, Settings};

/// A process that is stopped when it goes out of scope.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Asks it to end in order, and waits.
    pub fn terminate(mut self) -> Result<()> {
        // SAFETY: signals a child of ours that was not waited for yet, so its id is still its own.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        self.0.wait()?;
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: as in `terminate`.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    /// A figure of `/proc/PID/status`, in MiB.
    pub fn memory(&self, field: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kib.ok_or_else(|| format!("no {field}"))? / 1024.0)
    }
}

/// A running server.
pub struct Node {
    /// Its process.
    pub process: Process,
    /// Where clients reach it.
    pub address: SocketAddr,
    /// Where operators do.
    pub admin: SocketAddr,
}

impl Node {
    /// Starts `syncline serve` as a writer on `dir`, or as `config` says, and waits until it serves.
    pub fn start(settings: &Settings, dir: &Path, config: Option<&str>) -> Result<Self> {
        let (address, admin, peer) = (free_address()?, free_address()?, free_address()?);
        let mut command = Command::new(&settings.syncline);
        command.arg("serve");
        if let Some(config) = config {
            let file = dir.join("syncline.toml");
            std::fs::write(&file, config)?;
            command.arg("-c").arg(file);
        }
        command.arg("--data-dir").arg(dir).arg("--listen").arg(address.to_string());
        command.arg("--admin-listen").arg(admin.to_string());
        command.arg("--peer-listen").arg(peer.to_string());
        let log = std::fs::File::create(dir.join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.map_err(|e| format!("{:?}: {e}", settings.syncline))?;
        let node = Node { process: Process(child), address, admin };
        wait_for(address, "/ready", Duration::from_secs(60))?;
        Ok(node)
    }

    /// Everything it measures of itself.
    pub fn metrics(&self) -> Result<String> {
        exchange(self.admin, get(self.admin, "/metrics").as_bytes())
    }

    /// Runs SQL statements in one pipeline, each in a transaction of its own; the answer's body.
    pub fn sql(&self, statements: &[&str]) -> Result<String> {
        let execute = |sql: &&str| format!(r#"{{"type":"execute","stmt":{{"sql":"{sql}"}}}}"#);
        let requests: Vec<String> = statements.iter().map(execute).collect();
        let body =
            format!(r#"{{"baton":null,"requests":[{},{{"type":"close"}}]}}"#, requests.join(","));
        let request = format!(
            "POST /v2/pipeline HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let answer = exchange(self.address, request.as_bytes())?;
        match answer.contains("\"type\":\"error\"") {
            true => Err(format!("{statements:?}: {answer}").into()),
            false => Ok(answer),
        }
    }
}

/// An address that was free a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Sends one request and reads the body of its answer.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request)?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 16384]);
    let whole = loop {
        let n = stream.read(&mut chunk)?;
        answer.extend_from_slice(&chunk[..n]);
        match crate::load::whole_length(&answer)? {
            Some(whole) if answer.len() >= whole => break whole,
            _ if n == 0 => return Err("the answer was cut off".into()),
            _ => {}
        }
    };
    let text = String::from_utf8(answer[..whole].to_vec())?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    match head.starts_with("HTTP/1.1 200") {
        true => Ok(body.to_owned()),
        false => Err(text.into()),
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")
}

/// Waits until `GET path` answers 200; how long that took.
pub fn wait_for(address: SocketAddr, path: &str, within: Duration) -> Result<Duration> {
    let started = Instant::now();
    let request = get(address, path);
    loop {
        match exchange(address, request.as_bytes()) {
            Ok(_) => return Ok(started.elapsed()),
            Err(error) if started.elapsed() > within => {
                return Err(format!("{address}{path}: {error}").into());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
