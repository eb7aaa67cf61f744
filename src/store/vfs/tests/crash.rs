//! Power fails while SQLite works: what was acknowledged is there, and the checker bites.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// How a database is kept.
#[derive(Clone, Copy)]
struct Mode {
    journal: &'static str,
    synchronous: &'static str,
}

/// What a run of crashes came to.
#[derive(Default)]
struct Toll {
    lost: u32,
    broken: u32,
    crashes: u32,
    crashing: Duration,
}

impl Mode {
    fn open(self, disk: &MemoryDisk) -> rusqlite::Result<Connection> {
        let connection = open(disk, "/a.db");
        connection.query_row(&format!("PRAGMA journal_mode = {}", self.journal), [], |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", self.synchronous)?;
        // Small, so that checkpoints and spills happen all the time.
        connection.pragma_update(None, "wal_autocheckpoint", 12)?;
        connection.pragma_update(None, "cache_size", 8)?;
        Ok(connection)
    }

    fn prepare(self, disk: &MemoryDisk) {
        let connection = self.open(disk).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, version INT, body BLOB);
                 CREATE TABLE last (n INT); INSERT INTO last VALUES (0);
                 CREATE INDEX by_body ON t (body)",
            )
            .unwrap();
    }
}

/// What the row `id` holds at `version`: anyone can check it.
fn body(id: i64, version: i64) -> Vec<u8> {
    let mut chance = Chance::new((id << 32 | version) as u64);
    (0..chance.below(3000)).map(|_| chance.below(256) as u8).collect()
}

/// Commit `n`: a new row, an old one changed, one in nine a big change.
fn commit(connection: &mut Connection, n: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute("INSERT INTO t VALUES (?1, ?1, ?2)", (n, body(n, n)))?;
    let changed = if n % 9 == 0 { (n / 2)..n } else { (n / 2)..(n / 2 + 1).min(n) };
    for id in changed {
        transaction
            .execute("UPDATE t SET version = ?2, body = ?3 WHERE id = ?1", (id, n, body(id, n)))?;
    }
    transaction.execute("UPDATE last SET n = ?1", [n])?;
    transaction.commit()
}

/// Commits until power fails, and says which commit was the last to be acknowledged.
fn work(mode: Mode, disk: &MemoryDisk, mut acknowledged: i64) -> i64 {
    let Ok(mut connection) = mode.open(disk) else { return acknowledged };
    while commit(&mut connection, acknowledged + 1).is_ok() {
        acknowledged += 1;
    }
    acknowledged
}

/// The last commit that is there, if the database is whole and every row is what that commit left.
fn recovered(mode: Mode, disk: &MemoryDisk) -> rusqlite::Result<Option<i64>> {
    let connection = mode.open(disk)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    let last: i64 = connection.query_row("SELECT n FROM last", [], |row| row.get(0))?;
    let mut select = connection.prepare("SELECT id, version, body FROM t ORDER BY id")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(i64, i64, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
    let ids_are_complete = rows.iter().map(|row| row.0).eq(1..=last);
    let bodies_are_right = rows.iter().all(|(id, version, found)| *found == body(*id, *version));
    Ok((verdict == "ok" && ids_are_complete && bodies_are_right).then_some(last))
}

/// `seeds` disks, each crashing three times, at exact points, also during recovery.
fn toll(mode: Mode, seeds: std::ops::Range<u64>) -> Toll {
    let mut toll = Toll::default();
    for seed in seeds {
        let mut chance = Chance::new(seed);
        let mut disk = MemoryDisk::power_loss();
        mode.prepare(&disk);
        let mut last = 0;
        for _ in 0..3 {
            disk.crash_at(chance.below(250));
            let acknowledged = work(mode, &disk, last);
            let started = Instant::now();
            disk = disk.crash(seed);
            toll.crashing += started.elapsed();
            toll.crashes += 1;
            match recovered(mode, &disk) {
                Ok(Some(found)) if found < acknowledged => toll.lost += 1,
                Ok(Some(found)) => assert!(found <= acknowledged + 1, "seed {seed}: from nowhere"),
                Ok(None) | Err(_) => toll.broken += 1,
            }
            match recovered(mode, &disk) {
                Ok(Some(found)) => last = found,
                _ => break,
            }
        }
    }
    toll
}

fn nothing_is_lost(mode: Mode, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let toll = toll(mode, seed..seed + 1);
        assert_eq!((toll.lost, toll.broken), (0, 0), "{} with seed {seed}", mode.journal);
    }
}

#[test]
fn wal_with_full_syncs_loses_no_acknowledged_commit() {
    let mode = Mode { journal: "WAL", synchronous: "FULL" };
    nothing_is_lost(mode, 0..200);
    let toll = toll(mode, 0..20);
    eprintln!("a crash took {:?} on average", toll.crashing / toll.crashes);
}

#[test]
fn rollback_journals_with_full_syncs_lose_no_acknowledged_commit() {
    for journal in ["DELETE", "TRUNCATE", "PERSIST"] {
        nothing_is_lost(Mode { journal, synchronous: "FULL" }, 0..40);
    }
}

/// Commits since the last checkpoint are not synced: they may go, but the database stays whole.
#[test]
fn wal_with_normal_syncs_loses_commits_and_stays_whole() {
    let toll = toll(Mode { journal: "WAL", synchronous: "NORMAL" }, 0..40);
    assert!(toll.lost > 10, "the checker must bite: {} lost", toll.lost);
    assert_eq!(toll.broken, 0);
}

#[test]
fn without_syncs_databases_break() {
    for journal in ["WAL", "DELETE"] {
        let toll = toll(Mode { journal, synchronous: "OFF" }, 0..40);
        assert!(toll.broken > 10, "{journal}: {} broken, {} lost", toll.broken, toll.lost);
    }
}

/// Power fails at no chosen point, seen from another thread. The thread that commits runs on in its
/// dead process, and must not acknowledge anything that the crash did not keep.
#[test]
fn threads_of_a_dead_process_acknowledge_nothing() {
    let mode = Mode { journal: "WAL", synchronous: "FULL" };
    for seed in 0..20 {
        let disk = MemoryDisk::power_loss();
        mode.prepare(&disk);
        let acknowledged = AtomicI64::new(0);
        let after = thread::scope(|scope| {
            scope.spawn(|| {
                let Ok(mut connection) = mode.open(&disk) else { return };
                while commit(&mut connection, acknowledged.load(Ordering::SeqCst) + 1).is_ok() {
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            });
            while acknowledged.load(Ordering::SeqCst) < seed as i64 {
                thread::yield_now();
            }
            disk.crash(seed)
        });
        let found = recovered(mode, &after).unwrap().expect("whole");
        assert!(found >= acknowledged.into_inner(), "seed {seed}");
        assert!(disk.is_frozen());
    }
}

#[test]
fn a_killed_process_loses_nothing_even_without_syncs() {
    let mode = Mode { journal: "WAL", synchronous: "OFF" };
    for disk in [MemoryDisk::new(), MemoryDisk::power_loss()] {
        mode.prepare(&disk);
        disk.crash_at(100);
        let acknowledged = work(mode, &disk, 0);
        assert!(acknowledged > 0);
        let found = recovered(mode, &disk.kill()).unwrap().expect("whole");
        assert!(found >= acknowledged);
    }
}

#[test]
fn the_same_seed_gives_the_same_crash() {
    let mode = Mode { journal: "WAL", synchronous: "OFF" };
    let crashed = |seed| {
        let disk = MemoryDisk::power_loss();
        mode.prepare(&disk);
        disk.crash_at(60);
        work(mode, &disk, 0);
        assert_eq!(disk.snapshot("/a.db-wal")[..4], [0x37, 0x7f, 0x06, 0x82]);
        let (again, other) = (disk.crash(seed), disk.crash(seed + 1));
        let after = disk.crash(seed);
        assert_eq!(after.files(), again.files());
        for file in after.files() {
            assert_eq!(after.snapshot(&file), again.snapshot(&file));
        }
        after.files().iter().any(|file| after.snapshot(file) != other.snapshot(file))
    };
    assert!((0..8).any(crashed), "another seed gives another crash");
}
