//! A private PostgreSQL for one run, and pgbench against it.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::node::{Process, free_address};
use crate::workload::BODY;
use crate::{Result, Settings};

/// The database that every server has.
pub const DEFAULT: &str = "postgres";

/// A server that is stopped and removed when it goes out of scope.
pub struct Postgres {
    process: Process,
    programs: PathBuf,
    address: SocketAddr,
    dir: tempfile::TempDir,
    databases: AtomicU32,
    /// As it says itself.
    pub version: String,
}

impl Drop for Postgres {
    /// At once, but with its children: a killed postmaster would leave them and their memory.
    fn drop(&mut self) {
        self.process.signal(libc::SIGQUIT);
        let _ = self.process.0.wait();
    }
}

/// What `pgbench` measured.
pub struct Figure {
    /// Transactions a second.
    pub rate: f64,
    /// Mean latency in milliseconds.
    pub latency: f64,
}

impl Postgres {
    /// Creates a cluster with every default that concerns durability, and starts it.
    pub fn start(settings: &Settings) -> Result<Self> {
        let programs = programs()?;
        let dir = settings.fresh_dir()?;
        let data = dir.path().join("data");
        give_to_postgres(dir.path())?;
        let mut initdb = as_postgres(&programs.join("initdb"))?;
        // The delay belongs to what is measured, not to the making of the cluster.
        initdb.env_remove("LD_PRELOAD").current_dir(dir.path());
        initdb
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-D"])
            .arg(&data);
        checked(&mut initdb)?;
        let address = free_address()?;
        let mut server = as_postgres(&programs.join("postgres"))?;
        if let Some(shim) = std::env::var_os("LD_PRELOAD") {
            // The server's user may not be able to reach the build directory.
            let copy = dir.path().join("sync_shim.so");
            std::fs::copy(shim, &copy)?;
            server.env("LD_PRELOAD", copy);
        }
        server.current_dir(dir.path()).arg("-D").arg(&data).arg("-k").arg(dir.path());
        server.args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-N", "300"]);
        let log = std::fs::File::create(dir.path().join("log"))?;
        let child = server.stdout(Stdio::null()).stderr(log).spawn()?;
        let (process, databases, version) = (Process(child), AtomicU32::new(0), String::new());
        let mut postgres = Postgres { process, programs, address, dir, databases, version };
        postgres.wait()?;
        Ok(postgres)
    }

    fn wait(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            match self.psql(DEFAULT, "SHOW server_version") {
                Ok(version) => {
                    self.version = version.split_whitespace().next().unwrap_or("").to_owned();
                    return Ok(());
                }
                Err(error) if started.elapsed() > Duration::from_secs(30) => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        checked(command.args(self.place()).args(["-At", "-c", sql, database]))
    }

    /// The URL of a new, empty database.
    pub fn database(&self) -> Result<String> {
        let name = format!("bench_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql(DEFAULT, &format!("CREATE DATABASE {name}"))?;
        Ok(format!("postgres://postgres@{}/{name}", self.address))
    }

    /// The same database for a user whose statements the server counts.
    pub fn counted(&self, url: &str) -> Result<String> {
        self.psql(DEFAULT, "CREATE ROLE counted LOGIN SUPERUSER")?;
        self.psql(DEFAULT, "ALTER ROLE counted SET log_statement = 'all'")?;
        Ok(url.replacen("postgres@", "counted@", 1))
    }

    /// How many statements it counted so far.
    pub fn statements(&self) -> Result<usize> {
        let log = std::fs::read_to_string(self.dir.path().join("log"))?;
        let is_one =
            |line: &&str| line.contains("LOG:  statement: ") || line.contains("LOG:  execute ");
        Ok(log.lines().filter(is_one).count())
    }

    /// Over TCP on loopback, as the clients of the other side come.
    fn place(&self) -> [String; 6] {
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        ["-h".into(), host, "-p".into(), port, "-U".into(), "postgres".into()]
    }

    /// Copies table `t` of one database into another by COPY, through a file: seconds of the second half.
    pub fn copied(&self, from: &str, to: &str) -> Result<f64> {
        let file = self.dir.path().join("copy.txt");
        let name = |url: &str| url.rsplit('/').next().unwrap_or_default().to_owned();
        self.psql(&name(from), &format!("\\copy t TO '{}'", file.display()))?;
        let create = "CREATE TABLE t (id bigint PRIMARY KEY, version bigint, amount float8, name text, note text)";
        self.psql(&name(to), create)?;
        let started = Instant::now();
        self.psql(&name(to), &format!("\\copy t FROM '{}'", file.display()))?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Seconds in which the server delivers table `t` of several databases at once.
    pub fn copied_out(&self, urls: &[&str]) -> Result<f64> {
        let started = Instant::now();
        std::thread::scope(|scope| {
            let copies: Vec<_> = urls
                .iter()
                .map(|url| {
                    let name = url.rsplit('/').next().unwrap_or_default();
                    scope.spawn(move || self.psql(name, "\\copy t TO '/dev/null'"))
                })
                .collect();
            copies
                .into_iter()
                .try_for_each(|copy| copy.join().expect("it does not panic").map(drop))
        })?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Creates the table afresh.
    pub fn create(&self, database: &str) -> Result<()> {
        self.psql(database, "DROP TABLE IF EXISTS bench")?;
        self.psql(
            database,
            "CREATE TABLE bench (id bigserial PRIMARY KEY, client bigint NOT NULL, body text NOT NULL)",
        )?;
        Ok(())
    }

    /// Durable single-row inserts by `clients` clients.
    pub fn pgbench(&self, clients: usize, seconds: f64) -> Result<Figure> {
        let script = self.dir.path().join("insert.sql");
        let insert = "INSERT INTO bench (client, body) VALUES (:client_id, ";
        std::fs::write(&script, format!("{insert}'{BODY}');\n"))?;
        let mut command = Command::new(self.programs.join("pgbench"));
        command.args(["-n", "-M", "prepared", "-j", "2", "-f"]).arg(script).args(self.place());
        let seconds = seconds.ceil().max(1.0).to_string();
        command.args(["-c", &clients.to_string(), "-T", &seconds, DEFAULT]);
        let output = checked(&mut command)?;
        let rate = number_after(&output, "tps = ");
        let latency = number_after(&output, "latency average = ");
        match (rate, latency) {
            (Some(rate), Some(latency)) => Ok(Figure { rate, latency }),
            _ => Err(format!("pgbench said: {output}").into()),
        }
    }
}

fn number_after(text: &str, label: &str) -> Option<f64> {
    text.split_once(label)?.1.split_whitespace().next()?.parse().ok()
}

/// The newest installed server's programs; version 15 where it is there, as the figures name it.
fn programs() -> Result<PathBuf> {
    let versions = Path::new("/usr/lib/postgresql");
    let named = versions.join("15/bin");
    if named.join("initdb").exists() {
        return Ok(named);
    }
    let installed = std::fs::read_dir(versions).map_err(|_| "PostgreSQL is not installed")?;
    let mut found: Vec<PathBuf> = installed.flatten().map(|e| e.path().join("bin")).collect();
    found.retain(|bin| bin.join("initdb").exists() && bin.join("pgbench").exists());
    found.sort();
    found.pop().ok_or_else(|| "PostgreSQL with pgbench is not installed".into())
}

fn is_root() -> bool {
    // SAFETY: has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The server refuses to run as root: then as the user that its package made.
fn as_postgres(program: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    if is_root() {
        let (user, group) = postgres_user()?;
        command.uid(user).gid(group);
    }
    Ok(command)
}

fn give_to_postgres(dir: &Path) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (user, group) = postgres_user()?;
    Ok(chown(dir, Some(user), Some(group))?)
}

fn postgres_user() -> Result<(u32, u32)> {
    let id = |flag| checked(Command::new("id").args([flag, "postgres"]));
    Ok((id("-u")?.trim().parse()?, id("-g")?.trim().parse()?))
}

/// Runs it; its output, or what went wrong.
fn checked(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
