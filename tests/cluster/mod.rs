//! Nodes of the real binary, each a process with a folder of its own, and plain requests to them.
//!
//! Everything dies with the test: a node that goes out of scope is killed. A node can also be
//! killed on purpose and started again on the same folder, at the same addresses.

#![allow(dead_code, reason = "each test that includes this module uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

#[allow(clippy::duplicate_mod, reason = "each helper stands alone")]
#[path = "../support/ports.rs"]
mod ports;

/// One node.
pub struct Node {
    child: Option<Child>,
    folder: PathBuf,
    /// Where clients reach it.
    pub listen: SocketAddr,
    /// Where operators do.
    pub admin: SocketAddr,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Node {
    /// Configures a node called `name` in a folder of its own below `dir`. `database` is the body
    /// of `[databases.main]`.
    pub fn new(dir: &Path, name: &str, database: &str) -> Node {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (listen, admin, peer) = (free_address(), free_address(), free_address());
        let config = format!(
            "[node]\nname = \"{name}\"\ndata_dir = {folder:?}\nlisten = \"{listen}\"\n\
             admin_listen = \"{admin}\"\npeer_listen = \"{peer}\"\n\
             [databases.main]\ndefault = true\npreset = \"readers\"\n{database}"
        );
        std::fs::write(folder.join("syncline.toml"), config).unwrap();
        Node { child: None, folder, listen, admin }
    }

    /// Starts the process, without waiting for it.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the process with more arguments.
    pub fn start_and(&mut self, arguments: &[&str]) {
        self.spawn(arguments, &[]);
    }

    /// Starts the process with more variables in its environment.
    pub fn start_with(&mut self, environment: &[(&str, String)]) {
        self.spawn(&[], environment);
    }

    fn spawn(&mut self, arguments: &[&str], environment: &[(&str, String)]) {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_syncline"))
            .arg("serve")
            .arg("-c")
            .arg(self.folder.join("syncline.toml"))
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until it serves.
    pub fn wait_ready(&mut self) {
        if let Some(code) = self.ready_or_ended() {
            panic!("it ended with {code}:\n{}", self.logged());
        }
    }

    /// Waits until it serves (none), or has ended by itself (its exit code).
    pub fn ready_or_ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !matches!(request(self.listen, "GET", "/ready", ""), Ok((200, _))) {
            if let Some(code) = self.ended() {
                return Some(code);
            }
            assert!(Instant::now() < deadline, "it is not ready:\n{}", self.logged());
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// The exit code, if it has ended by itself; a signal counts as 128 and its number.
    pub fn ended(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.as_mut().expect("it was started").try_wait().unwrap()?;
        self.child = None;
        status.code().or(status.signal().map(|signal| 128 + signal))
    }

    /// Waits until it has ended by itself; the exit code.
    pub fn wait_ended(&mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(Instant::now() < deadline, "it still runs:\n{}", self.logged());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9`, as a crash of the process is.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    /// Sends a signal; after SIGSTOP, returns once the process stands still.
    pub fn signal(&self, signal: i32) {
        let pid = self.pid() as libc::pid_t;
        // SAFETY: the process is our child and was not waited for: the id is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        if signal == libc::SIGSTOP {
            let mut status = 0;
            // SAFETY: waits for this child, and fills the integer it is given.
            let seen = unsafe { libc::waitpid(pid, &mut status, libc::WUNTRACED) };
            assert!(seen == pid && libc::WIFSTOPPED(status), "it ended:\n{}", self.logged());
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Where its copy of `main` stands.
    pub fn position(&self) -> Result<Json, String> {
        match request(self.listen, "GET", "/v1/databases/main/position", "")? {
            (200, body) => serde_json::from_str(&body).map_err(|e| format!("{e}: {body}")),
            (status, body) => Err(format!("{status}: {body}")),
        }
    }
}

/// An address that is this process's until it ends.
pub fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports::free_port()))
}

/// Runs one statement with arguments in Hrana's form; its result, or why it failed.
pub fn execute(node: SocketAddr, sql: &str, args: &[Json]) -> Result<Json, String> {
    let statement = serde_json::json!({"sql": sql, "args": args});
    let requests = serde_json::json!([{"type": "execute", "stmt": statement}, {"type": "close"}]);
    let body = serde_json::json!({"requests": requests}).to_string();
    let (status, answer) = request(node, "POST", "/v2/pipeline", &body)?;
    let mut answer: Json = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
    match answer.pointer_mut("/results/0/response/result") {
        Some(result) if status == 200 => Ok(result.take()),
        _ => Err(format!("{status}: {answer}")),
    }
}

/// One HTTP request on a connection of its own: the status and the body.
pub fn request(
    node: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String), String> {
    let stream = ask(node, method, path, body).map_err(|e| e.to_string())?;
    answer(stream)
}

/// Sends a request, and does not wait for its answer.
pub fn ask(node: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(node)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {node}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(stream)
}

/// The answer to [`ask`]: the status and the body.
pub fn answer(mut stream: TcpStream) -> Result<(u16, String), String> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer was cut off")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("no status")?;
    Ok((status, body.to_owned()))
}

/// A small generator for choices that a seed must repeat (xorshift64*).
pub struct Chance(u64);

impl Chance {
    /// From `SYNCLINE_SEED`, or from the clock; prints which.
    pub fn new() -> Chance {
        let given = std::env::var("SYNCLINE_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = given.unwrap_or_else(clock) | 1;
        eprintln!("SYNCLINE_SEED={seed}");
        Chance(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}
