//! A private PostgreSQL server for the tests of one process.
//!
//! Started with the first test that asks for it, with everything that concerns durability at its default,
//! and stopped when the process ends, however it ends: a shell holds the server, and the shell's input is
//! a pipe that closes with us. Where PostgreSQL is not installed there is none, and the tests that need it
//! say that they skip.
//!
//! Left out: servers that are stopped, cut off or promoted in the middle of a test.

#![allow(dead_code, reason = "each test that includes this module uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The server of this process.
pub struct Server {
    /// Where its files, its log and its socket are.
    directory: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// The server stops when this is closed.
    _life: ChildStdin,
}

/// Holds the server until its input ends, then stops it with its children and removes its files. The
/// first line says that it is ready.
const HOLD: &str = r#"
bin=$1 dir=$2 port=$3
"$bin/initdb" -U postgres -A trust -E UTF8 --no-locale -D "$dir/data" >"$dir/log" 2>&1 || exit 1
tls=off
if openssl version >/dev/null 2>&1; then
    printf '[req]\ndistinguished_name=name\n[name]\n' >"$dir/openssl.conf"
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -config "$dir/openssl.conf" \
        -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost \
        -keyout "$dir/data/server.key" -out "$dir/data/server.crt" >>"$dir/log" 2>&1 && tls=on
    cp "$dir/data/server.crt" "$dir/server.crt" && chmod 755 "$dir"
fi
"$bin/postgres" -D "$dir/data" -k "$dir" -h 127.0.0.1 -p "$port" -c ssl=$tls \
    -c max_connections=60 -c shared_buffers=32MB -c max_wal_size=256MB </dev/null >>"$dir/log" 2>&1 &
server=$!
for i in $(seq 600); do
    "$bin/psql" -h "$dir" -p "$port" -U postgres -c '' postgres >/dev/null 2>&1 && break
    kill -0 $server || exit 1
    sleep 0.05
done
echo ready
cat >/dev/null
kill -QUIT $server
wait $server
rm -rf "$dir"
"#;

impl Server {
    /// The server, started if need be; none where PostgreSQL is not installed.
    pub fn get() -> Option<&'static Server> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let server = SERVER.get_or_init(|| {
            let programs = programs()?;
            Some(Server::start(&programs).expect("PostgreSQL is installed, so it must start"))
        });
        if server.is_none() {
            eprintln!("skipped: PostgreSQL is not installed");
        }
        server.as_ref()
    }

    fn start(programs: &Path) -> Result<Server, Box<dyn std::error::Error>> {
        let directory = tempfile::Builder::new().prefix("syncline-postgres-").tempdir()?.keep();
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut shell = Command::new("sh");
        shell.args(["-c", HOLD, "sh"]).arg(programs).arg(&directory).arg(port.to_string());
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
        // The server refuses to run as root: then as the user that its package made.
        if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
        {
            let (user, group) = (id("-u")?, id("-g")?);
            chown(&directory, Some(user), Some(group))?;
            shell.uid(user).gid(group);
        }
        let mut child = shell.process_group(0).spawn()?;
        let life = child.stdin.take().expect("it is piped");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut said)?;
        if said != "ready\n" {
            let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
            return Err(format!("PostgreSQL did not start: {log}").into());
        }
        Ok(Server { directory, port, databases: AtomicU32::new(0), _life: life })
    }

    /// The URL of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("case_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// The certificate that it shows, made for the name localhost; none where there is no openssl.
    pub fn certificate(&self) -> Option<PathBuf> {
        Some(self.directory.join("server.crt")).filter(|file| file.exists())
    }

    /// Everything in a database, as `pg_dump` writes it.
    pub fn dump(&self, database: &str) -> String {
        self.run("pg_dump", &["--clean", "--if-exists", database], "")
    }

    /// Puts a dump back, over whatever is there.
    pub fn restore(&self, database: &str, dump: &str) {
        self.run("psql", &["-qX", "-1", "-v", "ON_ERROR_STOP=1", database], dump);
    }

    fn run(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let programs = programs().expect("it was started");
        let mut command = Command::new(programs.join(program));
        command.arg("-h").arg(&self.directory).args(["-p", &self.port.to_string()]);
        command.args(["-U", "postgres"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it is installed with the server");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    }

    /// Runs SQL in a database, as somebody whom Syncline does not know; gives what psql prints.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.run("psql", &["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql, database], "")
    }
}

fn id(flag: &str) -> Result<u32, Box<dyn std::error::Error>> {
    let output = Command::new("id").args([flag, "postgres"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Where the newest installed server's programs are.
fn programs() -> Option<PathBuf> {
    let has_all =
        |bin: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|p| bin.join(p).exists());
    let packaged =
        fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|e| e.path().join("bin"));
    let mut found: Vec<PathBuf> = packaged.filter(has_all).collect();
    found.sort();
    found.pop()
}
