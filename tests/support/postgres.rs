//! A private PostgreSQL server for the tests of one process.
//!
//! Started with the first test that asks for it, with everything that concerns durability at its default,
//! and stopped when the process ends, however it ends: a shell holds the server, and the shell's input is
//! a pipe that closes with us. Where PostgreSQL is not installed there is none, and the tests that need it
//! say that they skip.
//!
//! A test that stops, starts or promotes a server starts its own ([`Server::own`], [`Server::standby`]).

#![allow(dead_code, reason = "each test that includes this module uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

#[allow(clippy::duplicate_mod, reason = "each helper stands alone")]
#[path = "ports.rs"]
mod ports;

/// The server of this process.
pub struct Server {
    /// Where its files, its log and its socket are.
    directory: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// The server stops when this is closed.
    shell: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

/// Holds the server until its input ends, then stops it with its children and removes its files. A line is
/// an order, and is answered with a line, whether or not anybody is still there to read it.
const HOLD: &str = r#"
trap '' PIPE
bin=$1 dir=$2 port=$3 primary=$4
if [ -n "$primary" ]; then
    "$bin/pg_basebackup" -h "${primary%:*}" -p "${primary##*:}" -U postgres -D "$dir/data" -R -X stream -c fast \
        >"$dir/log" 2>&1 || exit 1
else
    "$bin/initdb" -U postgres -A trust -E UTF8 --no-locale -D "$dir/data" >"$dir/log" 2>&1 || exit 1
fi
tls=off
if [ -z "$primary" ] && openssl version >/dev/null 2>&1; then
    printf '[req]\ndistinguished_name=name\n[name]\n' >"$dir/openssl.conf"
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -config "$dir/openssl.conf" \
        -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost \
        -keyout "$dir/data/server.key" -out "$dir/data/server.crt" >>"$dir/log" 2>&1 && tls=on
    cp "$dir/data/server.crt" "$dir/server.crt" && chmod 755 "$dir"
fi
start() {
    "$bin/postgres" -D "$dir/data" -k "$dir" -h 127.0.0.1 -p "$port" -c ssl=$tls \
        -c max_connections=60 -c shared_buffers=32MB -c max_wal_size=256MB </dev/null >>"$dir/log" 2>&1 &
    server=$!
    for i in $(seq 600); do
        "$bin/psql" -h "$dir" -p "$port" -U postgres -c '' postgres >/dev/null 2>&1 && return
        kill -0 $server || exit 1
        sleep 0.05
    done
    exit 1
}
start
echo done
while read -r order; do
    case $order in
    start) start ;;
    stop) kill -INT $server && wait $server ;;
    crash) kill -QUIT $server && wait $server ;;
    esac
    echo done
done
kill -QUIT $server 2>/dev/null
wait $server
rm -rf "$dir"
"#;

impl Server {
    /// The server, started if need be; none where PostgreSQL is not installed.
    pub fn get() -> Option<&'static Server> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let server = SERVER.get_or_init(|| {
            let programs = programs()?;
            Some(Server::hold(&programs, "").expect("PostgreSQL is installed, so it must start"))
        });
        if server.is_none() {
            eprintln!("skipped: PostgreSQL is not installed");
        }
        server.as_ref()
    }

    /// One that no other test uses.
    pub fn own() -> Option<Server> {
        Server::get()?;
        Some(Server::hold(&programs()?, "").expect("another one starts, too"))
    }

    /// A server that follows this one.
    pub fn standby(&self) -> Server {
        let primary = format!("{}:{}", self.directory.display(), self.port);
        let programs = programs().expect("it was started");
        Server::hold(&programs, &primary).expect("a copy of a running server starts")
    }

    fn hold(programs: &Path, primary: &str) -> Result<Server, Box<dyn std::error::Error>> {
        let directory = tempfile::Builder::new().prefix("syncline-postgres-").tempdir()?.keep();
        let port = ports::free_port();
        let mut shell = Command::new("sh");
        shell.args(["-c", HOLD, "sh"]).arg(programs).arg(&directory);
        shell.arg(port.to_string()).arg(primary);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
        // The server refuses to run as root: then as the user that its package made.
        if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
        {
            let (user, group) = (id("-u")?, id("-g")?);
            chown(&directory, Some(user), Some(group))?;
            shell.uid(user).gid(group);
        }
        let mut child = shell.process_group(0).spawn()?;
        let orders = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let shell = Mutex::new((orders, answers));
        let server = Server { directory, port, databases: AtomicU32::new(0), shell };
        if !server.is_answered() {
            let log = fs::read_to_string(server.directory.join("log")).unwrap_or_default();
            return Err(format!("PostgreSQL did not start: {log}").into());
        }
        Ok(server)
    }

    fn is_answered(&self) -> bool {
        let mut said = String::new();
        let (_, answers) = &mut *self.shell.lock().expect("no order failed");
        answers.read_line(&mut said).expect("the shell is there");
        said == "done\n"
    }

    /// `start`, `stop` (it ends its sessions), or `crash`.
    pub fn order(&self, order: &str) {
        let line = format!("{order}\n");
        self.shell.lock().expect("no order failed").0.write_all(line.as_bytes()).expect("it reads");
        assert!(self.is_answered(), "{order}");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The URL of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("case_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// The same database for a user whose statements the server notes down.
    pub fn counted(&self, url: &str) -> String {
        self.sql("postgres", "CREATE ROLE counted LOGIN SUPERUSER");
        self.sql("postgres", "ALTER ROLE counted SET log_statement = 'all'");
        url.replacen("postgres@", "counted@", 1)
    }

    /// How many statements of that user it has had.
    pub fn statements(&self) -> usize {
        let log = fs::read_to_string(self.directory.join("log")).expect("it has a log");
        let is_one =
            |line: &&str| line.contains("LOG:  statement:") || line.contains("LOG:  execute");
        log.lines().filter(is_one).count()
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

    /// Runs SQL in a database over a pooler or the like; whether it could.
    pub fn sql_by(&self, address: SocketAddr, database: &str, sql: &str) -> bool {
        let mut command = Command::new(programs().expect("it was started").join("psql"));
        command.args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-U", "postgres"]);
        command.args(["-qAtX", "-c", sql, database]).output().is_ok_and(|out| out.status.success())
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
