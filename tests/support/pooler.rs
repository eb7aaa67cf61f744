//! PgBouncer in front of a server, for the tests of one process that have it installed.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

#[allow(clippy::duplicate_mod, reason = "each helper stands alone")]
#[path = "ports.rs"]
mod ports;

/// A running pooler; ends when dropped.
pub struct Pooler {
    /// Where to connect.
    pub address: SocketAddr,
    process: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Pooler {
    /// In front of `server`, with `pool_mode` "session" or "transaction"; none where it is not installed.
    pub fn start(server: SocketAddr, mode: &str) -> Option<Pooler> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(Path::new);
        let Some(program) = program.into_iter().find(|program| program.exists()) else {
            eprintln!("skipped: PgBouncer is not installed");
            return None;
        };
        let port = ports::free_port();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n\
             server_round_robin = 1\n",
            server.port()
        );
        fs::write(&file, settings).unwrap();
        let mut command = Command::new(program);
        command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        // It refuses to run as root.
        if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
        {
            const NOBODY: u32 = 65534;
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let process = command.spawn().unwrap();
        let pooler = Pooler { address: ([127, 0, 0, 1], port).into(), process, _dir: dir };
        for _ in 0..400 {
            if TcpStream::connect(pooler.address).is_ok() {
                return Some(pooler);
            }
            thread::sleep(Duration::from_millis(25));
        }
        panic!("PgBouncer does not listen");
    }
}
