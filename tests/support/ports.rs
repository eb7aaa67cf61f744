//! Ports that stay free while a process is restarted on them.
//!
//! A port that the system hands out is handed out again, to another test or to an outgoing connection, while
//! nobody listens on it. These lie below the range that the system chooses from, and a lock keeps other tests'
//! processes off each until this one has ended.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

/// Not those of `cli_nodes`, which needs six at fixed distances.
const RANGE: std::ops::Range<u16> = 10_000..19_999;

/// A port of 127.0.0.1 that is this process's until it ends.
pub fn free_port() -> u16 {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let user = fs::metadata("/proc/self").map_or(0, |me| me.uid());
    let locks = std::env::temp_dir().join(format!("syncline-test-ports-{user}"));
    fs::create_dir_all(&locks).unwrap();
    let first = (std::process::id() % u32::from(RANGE.end - RANGE.start)) as u16;
    let (low, high) = (RANGE.start..RANGE.start + first, RANGE.start + first..RANGE.end);
    for port in high.chain(low) {
        let lock = File::create(locks.join(port.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            HELD.lock().unwrap().push(lock);
            return port;
        }
    }
    panic!("no port of {RANGE:?} is free");
}
