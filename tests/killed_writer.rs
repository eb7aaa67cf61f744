//! `kill -9` of the writer's real process, 100 times, while clients write.
//!
//! What was acknowledged at `disk` must be there after each restart; what was not may be there or
//! not, but never half; a reader that follows all along ends at the writer's position. (This shows
//! that nothing lives only in the process. That nothing lives only in the page cache is shown on
//! the power-loss disk.)

mod cluster;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster::{Chance, Node, execute};
use serde_json::json;

const CYCLES: usize = 100;
const CLIENTS: usize = 4;

#[test]
#[ignore = "takes half a minute: ./test runs it"]
fn no_acknowledged_commit_is_lost_when_the_writer_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let writer_config = "role = \"writer\"\nbacking = \"sqlite:main.db\"";
    let mut writer = Node::new(dir.path(), "w", writer_config);
    writer.start();
    writer.wait_ready();
    execute(writer.listen, "CREATE TABLE a (n INTEGER PRIMARY KEY, twin INTEGER)", &[]).unwrap();
    execute(writer.listen, "CREATE TABLE b (n INTEGER PRIMARY KEY)", &[]).unwrap();
    execute(
        writer.listen,
        "CREATE TRIGGER both AFTER INSERT ON a BEGIN INSERT INTO b VALUES (new.n); END",
        &[],
    )
    .unwrap();
    let backing = writer.folder().join("main.db");
    let reader_config = format!("role = \"reader\"\nbacking = \"sqlite:{}\"", backing.display());
    let mut reader = Node::new(dir.path(), "r", &reader_config);
    reader.start();
    reader.wait_ready();

    let acknowledged = Mutex::new(BTreeSet::new());
    let mut chance = Chance::new();
    for cycle in 0..CYCLES {
        let alive = AtomicBool::new(true);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let first = ((cycle * CLIENTS + client) as i64) << 20;
                let (alive, acknowledged, address) = (&alive, &acknowledged, writer.listen);
                scope.spawn(move || insert_until_killed(address, first, alive, acknowledged));
            }
            std::thread::sleep(Duration::from_millis(20 + chance.below(120)));
            writer.kill();
            alive.store(false, Ordering::SeqCst);
        });
        writer.start();
        writer.wait_ready();
        check(&backing, &acknowledged.lock().unwrap(), cycle);
    }
    assert!(acknowledged.lock().unwrap().len() > CYCLES, "too few writes to show anything");
    wait_equal(&writer, &reader);
}

/// Inserts rows one by one and notes each that is acknowledged, until the node is gone.
fn insert_until_killed(
    writer: SocketAddr,
    first: i64,
    alive: &AtomicBool,
    acknowledged: &Mutex<BTreeSet<i64>>,
) {
    for n in first.. {
        let number = json!({"type": "integer", "value": n.to_string()});
        match execute(writer, "INSERT INTO a (n, twin) VALUES (?1, ?1)", &[number]) {
            Ok(_) => assert!(acknowledged.lock().unwrap().insert(n)),
            Err(_) if !alive.load(Ordering::SeqCst) => return,
            // Killed a moment ago, and the flag not yet lowered; or not yet killed, and then an
            // error is no loss: it is not acknowledged.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn check(backing: &std::path::Path, acknowledged: &BTreeSet<i64>, cycle: usize) {
    let db = rusqlite::Connection::open(backing).unwrap();
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "cycle {cycle}");
    let mut select = db.prepare("SELECT n FROM a WHERE twin = n ORDER BY n").unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    let stored: BTreeSet<i64> = rows.collect::<Result<_, _>>().unwrap();
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "cycle {cycle}: acknowledged and lost: {lost:?}");
    let halves = "SELECT (SELECT count(*) FROM a) - (SELECT count(*) FROM b)";
    let halves: i64 = db.query_row(halves, [], |row| row.get(0)).unwrap();
    assert_eq!(halves, 0, "cycle {cycle}: a transaction is there by half");
}

fn wait_equal(writer: &Node, reader: &Node) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let of = |node: &Node| {
        let position = node.position().ok()?;
        Some(["epoch", "version", "chain", "digest"].map(|key| position[key].clone()))
    };
    let expected = of(writer).expect("the writer serves");
    loop {
        let seen = of(reader);
        if seen.as_ref() == Some(&expected) {
            return;
        }
        let late = Instant::now() > deadline;
        assert!(!late, "writer {expected:?}\nreader {seen:?}\n{}", reader.logged());
        std::thread::sleep(Duration::from_millis(20));
    }
}
