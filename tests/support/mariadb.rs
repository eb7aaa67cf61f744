//! Private MariaDB servers for the tests of one process.
//!
//! Like `postgres.rs`: the first test that asks starts the one that all share, with what concerns durability
//! at its default, and a shell stops it when the process ends, however it ends. Where MariaDB is not
//! installed there is none, and the tests that need it say that they skip.
//!
//! A test that stops or crashes a server starts its own ([`Server::own`]).

#![allow(dead_code, reason = "each test that includes this module uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

#[allow(clippy::duplicate_mod, reason = "each helper stands alone")]
#[path = "ports.rs"]
mod ports;

/// Who the databases belong to, and what a URL must encode of its password: most of what can go wrong.
pub const USER: &str = "syncline";
/// As the server knows it.
pub const PASSWORD: &str = "p@ss:w/rd?%#ü";
/// As a URL writes it.
pub const PASSWORD_IN_URL: &str = "p%40ss%3Aw%2Frd%3F%25%23%C3%BC";

/// The server of this process.
pub struct Server {
    /// Where its files, its log and its socket are.
    directory: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// The server stops when this is closed.
    shell: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

/// Holds the server until its input ends, then stops it and removes its files. A line is an order, and is
/// answered with a line; whether anybody is still there to read it does not matter. What the install writes
/// need not survive anything; what the server writes does. A server that starts removes all temporary tables
/// from its temporary directory, also those of others: it gets one of its own.
const HOLD: &str = r#"
trap '' PIPE
dir=$1 port=$2 PATH=$PATH:/usr/sbin
mkdir "$dir/temporary"
small="--no-defaults --datadir=$dir/data --skip-name-resolve --innodb-log-file-size=32M
    --innodb-buffer-pool-size=32M --tmpdir=$dir/temporary"
mariadb-install-db $small --auth-root-authentication-method=normal --skip-test-db \
    --innodb-flush-log-at-trx-commit=0 >"$dir/log" 2>&1 || exit 1
if openssl version >/dev/null 2>&1; then
    printf '[req]\ndistinguished_name=name\n[name]\n' >"$dir/openssl.conf"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test \
        -config "$dir/openssl.conf" \
        -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost \
        -keyout "$dir/server.key" -out "$dir/server.crt" >>"$dir/log" 2>&1 &&
        tls="--ssl-cert=$dir/server.crt --ssl-key=$dir/server.key"
    chmod 755 "$dir"
fi
start() {
    mariadbd $small $tls --socket="$dir/socket" --pid-file="$dir/pid" --bind-address=127.0.0.1 --port="$port" \
        --skip-log-bin --innodb-flush-log-at-trx-commit=1 --max-connections=60 \
        --character-set-server=utf8mb4 </dev/null >>"$dir/log" 2>&1 &
    server=$!
    for i in $(seq 600); do
        mariadb --no-defaults --socket="$dir/socket" -u root -e '' >/dev/null 2>&1 && return
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
    stop) kill -TERM $server && wait $server ;;
    crash) kill -KILL $server && wait $server 2>/dev/null ;;
    esac
    echo done
done
kill -KILL $server 2>/dev/null
wait $server 2>/dev/null
rm -rf "$dir"
"#;

impl Server {
    /// The server, started if need be; none where MariaDB is not installed.
    pub fn get() -> Option<&'static Server> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let server = SERVER.get_or_init(Server::start);
        if server.is_none() {
            eprintln!("skipped: MariaDB is not installed");
        }
        server.as_ref()
    }

    /// One that no other test uses.
    pub fn own() -> Option<Server> {
        Server::get()?;
        Server::start()
    }

    fn start() -> Option<Server> {
        is_installed().then(|| Server::hold().expect("MariaDB is installed, so it must start"))
    }

    fn hold() -> Result<Server, Box<dyn std::error::Error>> {
        let directory = tempfile::Builder::new().prefix("syncline-mariadb-").tempdir()?.keep();
        let port = ports::free_port();
        let mut shell = Command::new("sh");
        shell.args(["-c", HOLD, "sh"]).arg(&directory).arg(port.to_string());
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
        // The server refuses to run as root: then as the user that its package made.
        if fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
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
            return Err(format!("MariaDB did not start: {log}").into());
        }
        server.sql("mysql", &format!("CREATE USER {USER} IDENTIFIED BY '{PASSWORD}'"));
        server.sql("mysql", &format!("GRANT ALL ON *.* TO {USER} WITH GRANT OPTION"));
        Ok(server)
    }

    fn is_answered(&self) -> bool {
        let mut said = String::new();
        let (_, answers) = &mut *self.shell.lock().expect("no order failed");
        answers.read_line(&mut said).expect("the shell is there");
        said == "done\n"
    }

    /// `start`, `stop` (it ends its sessions), or `crash` (killed without a word).
    pub fn order(&self, order: &str) {
        let line = format!("{order}\n");
        self.shell.lock().expect("no order failed").0.write_all(line.as_bytes()).expect("it reads");
        assert!(self.is_answered(), "{order}");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The URL of a new, empty database, for a user who may do everything.
    pub fn database(&self) -> String {
        let name = format!("case_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("mysql", &format!("CREATE DATABASE {name}"));
        self.url(USER, PASSWORD_IN_URL, &name)
    }

    /// The URL of a database for somebody, whose password is given as a URL writes it.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!("mysql://{user}:{password}@{}/{database}", self.address())
    }

    /// The certificate that it shows, made for the name localhost; none where there is no openssl.
    pub fn certificate(&self) -> Option<PathBuf> {
        Some(self.directory.join("server.crt")).filter(|file| file.exists())
    }

    /// Everything in a database, as `mariadb-dump` writes it.
    pub fn dump(&self, database: &str) -> String {
        self.run("mariadb-dump", &["--single-transaction", "--hex-blob", database], "")
    }

    /// Runs SQL in a database, as somebody whom Syncline does not know; gives what the client prints:
    /// columns parted by tabs, without names.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.run("mariadb", &["--batch", "--raw", "--skip-column-names", database], sql)
    }

    fn run(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new(program);
        command.arg("--no-defaults").arg("--socket").arg(self.directory.join("socket"));
        command.args(["-u", "root", "--default-character-set=utf8mb4"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it is installed with the server");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    }
}

/// The name of the database that a URL leads to.
pub fn name_in(url: &str) -> &str {
    url.rsplit('/').next().expect("there is a last part")
}

fn id(flag: &str) -> Result<u32, Box<dyn std::error::Error>> {
    let output = Command::new("id").args([flag, "mysql"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Whether the server and what comes with it are there, where packages put them.
fn is_installed() -> bool {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"].map(Path::new);
    ["mariadbd", "mariadb-install-db", "mariadb", "mariadb-dump"]
        .iter()
        .all(|program| places.iter().any(|place| place.join(program).exists()))
}
