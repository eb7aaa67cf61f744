//! Three processes of this program over one backing file.
//!
//! Each is started with a pipe as its standard input and ends when that ends. The pipe closes with
//! this process, however it dies, so none is left behind.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::exit::{Exit, Failure};
use crate::client::{Client, Endpoint};

/// Administration is this many ports above SQL.
const ADMIN: u16 = 10;
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);

/// One process.
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// `writer` or `reader`.
    pub role: &'static str,
    /// For clients.
    pub url: String,
    /// For operators.
    pub admin_url: String,
    /// Speaks to it.
    pub client: Client,
    folder: PathBuf,
    child: Option<Child>,
}

/// A writer and two readers, in a folder that goes when they go.
pub struct Nodes {
    /// The writer first.
    pub all: Vec<Node>,
    // Dropped after the processes above have ended.
    _folder: tempfile::TempDir,
}

impl Nodes {
    /// Finds six free ports, writes three configurations, starts three processes, and waits until
    /// they answer.
    pub async fn start(port: u16) -> Result<Nodes, Failure> {
        check_ports(port)?;
        let folder = tempfile::Builder::new().prefix("syncline-demo-").tempdir()?;
        let names = [("writer", "writer"), ("reader-1", "reader"), ("reader-2", "reader")];
        let all: Result<Vec<Node>, Failure> = (port..)
            .zip(names)
            .map(|(port, (name, role))| Node::prepare(folder.path(), name, role, port))
            .collect();
        let mut nodes = Nodes { all: all?, _folder: folder };
        for node in &mut nodes.all {
            node.start()?;
            node.answers().await?;
        }
        Ok(nodes)
    }

    /// The one that writes.
    pub fn writer(&self) -> &Node {
        &self.all[0]
    }

    /// The one that the show kills.
    pub fn victim(&mut self) -> &mut Node {
        self.all.last_mut().expect("there are three nodes")
    }
}

impl Drop for Nodes {
    /// Readers first, so that they see the writer's end as an end and not as a loss.
    fn drop(&mut self) {
        self.all.iter_mut().rev().for_each(Node::stop);
    }
}

/// All ports or none: a demo that fails half-way is a bad one.
fn check_ports(port: u16) -> Result<(), Failure> {
    let hint = "choose others: `syncline demo --port 9000` takes 9000 to 9002 and 9010 to 9012";
    let taken = |port: u16, e: &io::Error| {
        let message = format!("port {port} cannot be used: {e}");
        Failure::new(Exit::Usage, "PORT_TAKEN", &message, hint)
    };
    if port == 0 || port > u16::MAX - ADMIN - 2 {
        let message = format!("the demo cannot begin at port {port}");
        return Err(Failure::new(Exit::Usage, "PORT_TAKEN", &message, hint));
    }
    for port in (port..port + 3).chain(port + ADMIN..port + ADMIN + 3) {
        TcpListener::bind(("127.0.0.1", port)).map_err(|e| taken(port, &e))?;
    }
    Ok(())
}

impl Node {
    fn prepare(
        shared: &Path,
        name: &'static str,
        role: &'static str,
        port: u16,
    ) -> Result<Node, Failure> {
        let folder = shared.join(name);
        fs::create_dir(&folder)?;
        let backing = shared.join("flights.db");
        fs::write(
            folder.join("syncline.toml"),
            configuration(name, role, port, &folder, &backing),
        )?;
        let url = format!("http://127.0.0.1:{port}");
        let client = Client::new(Endpoint::parse(&url)?, Duration::from_secs(10))?;
        let admin_url = format!("http://127.0.0.1:{}", port + ADMIN);
        Ok(Node { name, role, url, admin_url, client, folder, child: None })
    }

    /// Starts the process.
    pub fn start(&mut self) -> Result<(), Failure> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--until-stdin-ends", "-c"])
            .arg(self.folder.join("syncline.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it answers.
    pub async fn answers(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        while self.client.position("flights").await.is_err() {
            if self.ended() || begin.elapsed() > START {
                return Err(self.did_not_start());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Whether the process has ended although nobody killed it.
    pub fn ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    fn did_not_start(&self) -> Failure {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        let message = format!("{} does not start; its log ends:\n{}", self.name, last.join("\n"));
        Failure::new(Exit::No, "DEMO_FAILED", &message, "")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Ends it without warning, as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets it drain; kills it if that takes too long.
    fn stop(&mut self) {
        let Some(child) = &mut self.child else { return };
        drop(child.stdin.take());
        let begin = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && begin.elapsed() < STOP {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}

fn configuration(name: &str, role: &str, port: u16, folder: &Path, backing: &Path) -> String {
    let copy = if role == "writer" { "disk" } else { "memory" };
    let admin = port + ADMIN;
    let quoted = |path: &Path| toml::Value::from(path.display().to_string()).to_string();
    let (folder, backing) =
        (quoted(folder), quoted(&PathBuf::from(format!("sqlite:{}", backing.display()))));
    format!(
        "[node]\nname = \"{name}\"\ndata_dir = {folder}\nlisten = \"127.0.0.1:{port}\"\nadmin_listen = \"127.0.0.1:{admin}\"\n\n\
         [databases.flights]\nrole = \"{role}\"\nbacking = {backing}\nworking_copy = \"{copy}\"\n\n\
         [databases.flights.heal]\ncheck_every = \"2s\"\nfull_every = \"10s\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_flag_that_helps() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let failure = check_ports(port).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.text.contains(&format!("port {port}")) && failure.text.contains("--port"));
        assert!(check_ports(u16::MAX).is_err() && check_ports(0).is_err());
    }

    #[test]
    fn each_configuration_is_one_that_serve_accepts() {
        for role in ["writer", "reader"] {
            let text =
                configuration("n", role, 8080, Path::new("/tmp/a b"), Path::new("/tmp/x.db"));
            let sources = crate::config::Sources {
                file: Some(("demo".into(), text)),
                environment: Vec::new(),
                flags: Vec::new(),
                host: String::new(),
                read: &|_| Err(io::ErrorKind::NotFound.into()),
            };
            let config = crate::config::Config::load(&sources).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(config.databases[0].backing.file(), Some(Path::new("/tmp/x.db")));
            assert_eq!(config.node.data_dir, Path::new("/tmp/a b"));
        }
    }
}
