//! A disk that fails under the real binary: the N-th sync or write fails, for one N after another.
//!
//! A sync that failed once may have thrown the pages away and succeed the next time, with the data
//! gone: so after the first failure the process must acknowledge nothing more and end with code 5,
//! and a restart on the (now healthy) disk must find everything that was acknowledged. "No space"
//! is the exception: it costs the write, not the process.
//!
//! The preload shim (`tests/shim`) does the failing; it is compiled by `cc` on the way.

mod cluster;

use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::{Node, execute};
use serde_json::{Value as Json, json};

const WRITER: &str = "role = \"writer\"\nbacking = \"sqlite:main.db\"";
const NO_SPACE: i32 = 28;

/// Inserts in one run; enough to pass every kind of place where the process syncs or writes.
const ROWS: i64 = 40;

fn shim(dir: &Path) -> String {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/build");
    let output = Command::new(build).arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A writer's folder with a table in it, and the shim.
struct Place {
    dir: tempfile::TempDir,
    shim: String,
    counts: PathBuf,
    writer: Node,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let shim = shim(dir.path());
        let counts = dir.path().join("counts");
        let mut writer = Node::new(dir.path(), "w", WRITER);
        writer.start();
        writer.wait_ready();
        execute(writer.listen, "CREATE TABLE t (n INTEGER PRIMARY KEY)", &[]).unwrap();
        writer.kill();
        Place { dir, shim, counts, writer }
    }

    /// Starts the writer on a disk that fails as `how` says.
    fn start_failing(&mut self, how: &[(&str, String)]) {
        let _ = std::fs::remove_file(&self.counts);
        let counts = self.counts.to_str().unwrap().to_owned();
        let mut environment = vec![("LD_PRELOAD", self.shim.clone()), ("SHIM_COUNTS", counts)];
        environment.extend_from_slice(how);
        self.writer.start_with(&environment);
    }

    /// Calls counted so far: syncs, writes.
    fn counted(&self) -> [u64; 2] {
        let bytes = std::fs::read(&self.counts).unwrap_or_default();
        let count = |i: usize| bytes.get(i * 8..i * 8 + 8).map(|b| b.try_into().unwrap());
        [0, 1].map(|i| count(i).map_or(0, u64::from_ne_bytes))
    }

    fn insert(&self, n: i64) -> Result<Json, String> {
        let number = json!({"type": "integer", "value": n.to_string()});
        execute(self.writer.listen, "INSERT INTO t VALUES (?)", &[number])
    }

    /// Restarts on a healthy disk: everything acknowledged must be there, and it must be sound.
    fn restart_finds(&mut self, acknowledged: &[i64], what: &str) {
        self.writer.start();
        self.writer.wait_ready();
        let db = rusqlite::Connection::open(self.writer.folder().join("main.db")).unwrap();
        for n in acknowledged {
            let there = db.query_row("SELECT 1 FROM t WHERE n = ?", [n], |_| Ok(()));
            assert!(there.is_ok(), "{what}: {n} was acknowledged and is gone");
        }
        let verdict: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
        assert_eq!(verdict, "ok", "{what}");
        self.writer.kill();
    }
}

/// Lets the N-th call fail (`which`: 0 a sync, 1 a write), for N = 1, 2, … with growing steps, until
/// a run passes without reaching it.
fn every_nth_failure_stops_the_process(variable: &'static str, which: usize) {
    let mut place = Place::new();
    let (mut nth, mut failures, mut base) = (1, 0, 0);
    loop {
        let what = format!("{variable}={nth}");
        place.start_failing(&[(variable, nth.to_string())]);
        let (acknowledged, reached) = insert_until_failure(&mut place, base, nth, which, &what);
        base += ROWS;
        place.restart_finds(&acknowledged, &what);
        if !reached {
            break;
        }
        failures += 1;
        nth += 1 + nth / 8;
    }
    assert!(failures >= 15, "{variable}: only {failures} places were reached");
    drop(place.dir);
}

/// What was acknowledged, and whether the failure came at all.
fn insert_until_failure(
    place: &mut Place,
    base: i64,
    nth: u64,
    which: usize,
    what: &str,
) -> (Vec<i64>, bool) {
    let mut acknowledged = Vec::new();
    if let Some(code) = place.writer.ready_or_ended() {
        assert_eq!(code, 5, "{what}: {}", place.writer.logged());
        return (acknowledged, true);
    }
    for n in base..base + ROWS {
        let failed_before = place.counted()[which] >= nth;
        match place.insert(n) {
            Ok(_) => {
                assert!(!failed_before, "{what}: {n} was acknowledged after the failure");
                acknowledged.push(n);
            }
            Err(_) => break,
        }
    }
    let reached = place.counted()[which] >= nth;
    if reached {
        let code = place.writer.wait_ended();
        assert_eq!(code, 5, "{what}: {}", place.writer.logged());
    } else {
        assert_eq!(acknowledged.len(), ROWS as usize, "{what}: {}", place.writer.logged());
        place.writer.kill();
    }
    (acknowledged, reached)
}

#[test]
#[ignore = "many restarts: ./test runs it"]
fn a_failed_sync_stops_the_process_and_loses_nothing() {
    every_nth_failure_stops_the_process("SHIM_FAIL_AT", 0);
}

#[test]
#[ignore = "many restarts: ./test runs it"]
fn a_failed_write_stops_the_process_and_loses_nothing() {
    every_nth_failure_stops_the_process("SHIM_FAIL_WRITE_AT", 1);
}

/// A full disk refuses writes with `DISK_FULL`, goes on serving reads, and takes writes again once
/// there is space.
#[test]
#[ignore = "needs the preload shim: ./test runs it"]
fn a_full_disk_refuses_writes_and_recovers() {
    let mut place = Place::new();
    let how = [
        ("SHIM_FAIL_WRITE_AT", "30".to_owned()),
        ("SHIM_FAIL_TIMES", "5".to_owned()),
        ("SHIM_FAIL_SUFFIX", "-wal".to_owned()),
        ("SHIM_ERRNO", NO_SPACE.to_string()),
    ];
    place.start_failing(&how);
    place.writer.wait_ready();
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for n in 0..ROWS {
        match place.insert(n) {
            Ok(_) => acknowledged.push(n),
            Err(error) => {
                assert!(error.contains("DISK_FULL"), "{error}");
                refused += 1;
                let read = execute(place.writer.listen, "SELECT count(*) FROM t", &[]);
                let rows = read.expect("reads go on");
                let count = acknowledged.len().to_string();
                assert_eq!(rows["rows"][0][0]["value"], json!(count), "nothing of it is there");
            }
        }
    }
    assert!(refused > 0, "the disk was never full");
    assert_eq!(acknowledged.last(), Some(&(ROWS - 1)), "writing resumes when space returns");
    place.writer.kill();
    place.restart_finds(&acknowledged, "a full disk");
}
