//! Many connections and threads: snapshots, locks, and what outlives what.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::ffi;

use super::*;

const ACCOUNTS: i64 = 40;

/// Readers must see every transfer whole: the sum never changes, twice in one transaction it is the
/// same, and so is the number of the last transfer.
fn read_until(disk: &MemoryDisk, done: &AtomicBool, snapshots: &AtomicI64) {
    let reader = open(disk, "/bank.db");
    reader.busy_timeout(Duration::from_secs(20)).unwrap();
    let mut newest = 0;
    while !done.load(Ordering::SeqCst) {
        reader.execute_batch("BEGIN").unwrap();
        let first = number(&reader, "SELECT max(id) FROM transfers");
        assert!(first >= newest, "a later snapshot is not an earlier state");
        newest = first;
        assert_eq!(number(&reader, "SELECT sum(amount) FROM accounts"), ACCOUNTS * 100);
        assert_eq!(
            number(&reader, "SELECT sum(amount) FROM accounts WHERE id >= 0"),
            ACCOUNTS * 100
        );
        assert_eq!(number(&reader, "SELECT max(id) FROM transfers"), first);
        reader.execute_batch("COMMIT").unwrap();
        snapshots.fetch_add(1, Ordering::SeqCst);
    }
}

fn checkpoint_until(disk: &MemoryDisk, done: &AtomicBool) -> i64 {
    let connection = open(disk, "/bank.db");
    connection.busy_timeout(Duration::from_millis(5)).unwrap();
    let mut finished = 0;
    for mode in ["PASSIVE", "TRUNCATE", "RESTART", "FULL"].iter().cycle() {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        finished += i64::from(number(&connection, &sql) == 0);
        if done.load(Ordering::SeqCst) {
            return finished;
        }
        thread::yield_now();
    }
    unreachable!()
}

/// Transfers money until `enough` of them are done, and says how many.
fn transfer(disk: &MemoryDisk, enough: impl Fn(i64) -> bool) -> i64 {
    let writer = open(disk, "/bank.db");
    writer.busy_timeout(Duration::from_secs(20)).unwrap();
    let mut n = 0;
    while !enough(n) {
        n += 1;
        let (from, to) = (n * 7 % ACCOUNTS, n * 13 % ACCOUNTS);
        writer
            .execute_batch(&format!(
                "BEGIN IMMEDIATE;
                 UPDATE accounts SET amount = amount - 1, note = randomblob(700) WHERE id = {from};
                 UPDATE accounts SET amount = amount + 1, note = randomblob(700) WHERE id = {to};
                 INSERT INTO transfers DEFAULT VALUES;
                 COMMIT"
            ))
            .unwrap();
    }
    n
}

fn bank(disk: &MemoryDisk) {
    open_wal(disk, "/bank.db", "NORMAL")
        .execute_batch(&format!(
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, amount INT, note BLOB);
             CREATE TABLE transfers (id INTEGER PRIMARY KEY);
             INSERT INTO transfers VALUES (0);
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT {ACCOUNTS})
             INSERT INTO accounts SELECT i, 100, randomblob(700) FROM n"
        ))
        .unwrap();
}

#[test]
fn readers_keep_their_snapshots_while_others_write_and_checkpoint() {
    for disk in [MemoryDisk::new(), MemoryDisk::power_loss()] {
        bank(&disk);
        let (done, snapshots) = (AtomicBool::new(false), AtomicI64::new(0));
        let transfers = thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| read_until(&disk, &done, &snapshots));
            }
            let checkpoints = scope.spawn(|| checkpoint_until(&disk, &done));
            // The limit is for readers that died; and they are told also if the writer does.
            let enough = |n| n >= 600 && snapshots.load(Ordering::SeqCst) >= 40 || n >= 20_000;
            let written =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| transfer(&disk, enough)));
            done.store(true, Ordering::SeqCst);
            assert!(checkpoints.join().unwrap() > 0, "some checkpoint was not disturbed");
            written.unwrap()
        });
        assert!(snapshots.into_inner() >= 40, "readers read");
        let after = open(&disk, "/bank.db");
        assert_eq!(number(&after, "SELECT max(id) FROM transfers"), transfers);
        assert_whole(&after);
    }
}

#[test]
fn one_reader_holds_an_old_snapshot_for_as_long_as_it_wants() {
    let disk = MemoryDisk::new();
    bank(&disk);
    let reader = open(&disk, "/bank.db");
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(number(&reader, "SELECT max(id) FROM transfers"), 0);
    transfer(&disk, |n| n == 50);
    let writer = open(&disk, "/bank.db");
    assert_eq!(number(&writer, "PRAGMA wal_checkpoint(TRUNCATE)"), 1, "the reader is in the way");
    assert_eq!(number(&reader, "SELECT max(id) FROM transfers"), 0);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(number(&reader, "SELECT max(id) FROM transfers"), 50);
    assert_eq!(number(&writer, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
    assert!(disk.snapshot("/bank.db-wal").is_empty());
}

#[test]
fn two_writers_contend_and_one_is_told_busy() {
    for journal in ["WAL", "DELETE", "TRUNCATE", "PERSIST"] {
        let disk = MemoryDisk::new();
        let (a, b) = (open(&disk, "/a.db"), open(&disk, "/a.db"));
        number_or_text(&a, &format!("PRAGMA journal_mode = {journal}"));
        a.execute_batch("CREATE TABLE t (x); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(failure(&b, "BEGIN IMMEDIATE"), ffi::SQLITE_BUSY, "{journal}");
        assert_eq!(number(&b, "SELECT count(*) FROM t"), 0, "{journal}: reading goes on");
        a.execute_batch("COMMIT").unwrap();
        b.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        assert_eq!(number(&a, "SELECT sum(x) FROM t"), 3, "{journal}");
    }
}

fn number_or_text(connection: &Connection, sql: &str) {
    connection.query_row(sql, [], |_| Ok(())).unwrap();
}

/// Without WAL a reader keeps the writer from committing, and the waiting writer lets no new
/// reader in: SQLite's Pending lock.
#[test]
fn a_writer_without_wal_waits_for_readers_and_then_goes_first() {
    let disk = MemoryDisk::new();
    let (writer, reader, late) = (open(&disk, "/a.db"), open(&disk, "/a.db"), open(&disk, "/a.db"));
    writer.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(number(&late, "SELECT count(*) FROM t"), 1);
    reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    writer.execute_batch("BEGIN; INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(failure(&writer, "COMMIT"), ffi::SQLITE_BUSY);
    assert_eq!(failure(&late, "SELECT count(*) FROM t"), ffi::SQLITE_BUSY);
    reader.execute_batch("COMMIT").unwrap();
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(number(&late, "SELECT count(*) FROM t"), 2);
}

#[test]
fn a_busy_writer_is_waited_for() {
    let disk = MemoryDisk::new();
    let holder = open_wal(&disk, "/a.db", "FULL");
    holder.execute_batch("CREATE TABLE t (x); BEGIN IMMEDIATE").unwrap();
    thread::scope(|scope| {
        let (asked, hear) = std::sync::mpsc::channel();
        let disk = &disk;
        let waiter = scope.spawn(move || {
            let waiter = open(disk, "/a.db");
            waiter.busy_timeout(Duration::from_secs(20)).unwrap();
            asked.send(()).unwrap();
            waiter.execute_batch("INSERT INTO t VALUES (1)")
        });
        hear.recv().unwrap();
        holder.execute_batch("COMMIT").unwrap();
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(number(&holder, "SELECT count(*) FROM t"), 1);
}

#[test]
fn the_last_connection_takes_the_wal_along_and_the_next_finds_everything() {
    let disk = MemoryDisk::new();
    let (a, b) = (open_wal(&disk, "/a.db", "FULL"), open(&disk, "/a.db"));
    a.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(number(&b, "SELECT count(*) FROM t"), 1);
    assert_eq!(disk.files(), [PathBuf::from("/a.db"), PathBuf::from("/a.db-wal")]);
    drop(a);
    assert_eq!(number(&b, "SELECT count(*) FROM t"), 1);
    drop(b);
    assert_eq!(disk.files(), [PathBuf::from("/a.db")]);
    assert_eq!(number(&open(&disk, "/a.db"), "SELECT count(*) FROM t"), 1);
}

#[test]
fn large_transactions_spill_and_vacuum_gives_space_back() {
    let disk = MemoryDisk::new();
    let connection = open(&disk, "/a.db");
    connection
        .execute_batch(
            "PRAGMA cache_size = 5; PRAGMA temp_store = FILE;
             CREATE TABLE t (x);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)
             INSERT INTO t SELECT randomblob(1000) FROM n;
             CREATE INDEX by_x ON t (x);",
        )
        .unwrap();
    let full = disk.used();
    assert_eq!(full, disk.len(Path::new("/a.db")).unwrap().unwrap(), "temporary files are gone");
    assert!(full > 6_000_000);
    connection.execute_batch("DELETE FROM t WHERE rowid > 30; VACUUM").unwrap();
    assert!(disk.used() < 200_000);
    assert_whole(&connection);
    assert_eq!(number(&connection, "SELECT count(*) FROM t"), 30);
}

#[test]
fn a_database_outlives_the_disk_that_was_let_go_and_then_its_name_is_gone() {
    let disk = MemoryDisk::new();
    let vfs = disk.vfs().to_owned();
    let connection = open_wal(&disk, "/a.db", "FULL");
    drop(disk);
    connection.execute_batch("CREATE TABLE t (x); VACUUM").unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let again = Connection::open_with_flags_and_vfs("/a.db", OpenFlags::default(), vfs.as_str());
    assert_eq!(number(&again.unwrap(), "SELECT count(*) FROM t"), 0);
    drop(connection);
    let gone = Connection::open_with_flags_and_vfs("/a.db", OpenFlags::default(), vfs.as_str());
    assert!(gone.unwrap_err().to_string().contains("no such vfs"));
}

/// Such a connection refers to the VFS with no file open: what must never be used after free.
#[test]
fn a_connection_without_files_survives_the_disk() {
    let disk = MemoryDisk::new();
    let connection = open(&disk, ":memory:");
    drop(disk);
    let year = number(&connection, "SELECT CAST(strftime('%Y', 'now') AS INT)");
    assert!((2020..3000).contains(&year), "the clock of the VFS still runs");
    let attach = connection.execute_batch("ATTACH '/a.db' AS a").unwrap_err();
    assert!(attach.to_string().contains("no such vfs"), "{attach}");
}

#[test]
fn disks_do_not_see_each_other() {
    let (a, b) = (MemoryDisk::new(), MemoryDisk::new());
    open(&a, "/x.db").execute_batch("CREATE TABLE t (x)").unwrap();
    assert_eq!(b.files(), [] as [PathBuf; 0]);
    assert_eq!(failure(&open(&b, "/x.db"), "SELECT * FROM t"), ffi::SQLITE_ERROR);
}
