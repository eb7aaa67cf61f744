//! A disk that fails under the engine: the N-th sync or write, for every N of a short workload.
//!
//! A sync that failed may have thrown pages away, and say "done" the next time: so after the first
//! failure nothing more is acknowledged, the database asks for the end of its process (code 5), and a
//! restart finds everything that was acknowledged, also if the power fails in between. "No space" costs
//! the write, not the process.

mod support;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use support::*;
use syncline::acknowledge::Level;
use syncline::change::Value;
use syncline::engine::{Database, DatabaseOptions, RequestOptions, Session, State, WorkingCopy};
use syncline::error::{Error, Kind};
use syncline::store::vfs::{Fault, FaultError, FaultOn, MemoryDisk, Times};

/// Rows that a workload inserts.
const ROWS: i64 = 24;

fn on(disk: &MemoryDisk, working_copy: WorkingCopy) -> DatabaseOptions {
    DatabaseOptions {
        data_dir: "/a".into(),
        disk: Arc::new(disk.clone()),
        working_copy,
        checkpoint_at: 32 << 10,
        mark_every: Duration::from_millis(5),
        readers: 1,
        ..DatabaseOptions::writer("/main.db")
    }
}

/// The code with which the database asked its process to stop, if it did.
fn stopped(database: &Database) -> Option<u8> {
    let stopped = std::pin::pin!(database.stopped());
    match stopped.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready((code, _)) => Some(code),
        Poll::Pending => None,
    }
}

fn insert(session: &mut Session, n: i64) -> Result<(), Error> {
    let fill = Value::Blob(vec![n as u8; 1500]);
    let insert = with_arguments("INSERT INTO t VALUES (?1, ?2)", [Value::Integer(n), fill]);
    try_run(session, insert, &RequestOptions::default()).map(drop)
}

/// A disk with an empty table on it, its database closed.
fn prepared() -> MemoryDisk {
    let disk = MemoryDisk::power_loss();
    let database = Database::open(on(&disk, WorkingCopy::Disk)).unwrap();
    ok(&mut database.session(), &["CREATE TABLE t (n INTEGER PRIMARY KEY, fill BLOB)"]);
    database.close();
    disk
}

/// Opens the database, inserts rows and closes it. Gives the rows that were acknowledged, and whether
/// the database stopped (or did not open).
fn work(disk: &MemoryDisk, working_copy: WorkingCopy) -> (Vec<i64>, bool) {
    let mut acknowledged = Vec::new();
    let database = match Database::open(on(disk, working_copy)) {
        Ok(database) => database,
        Err(error) => {
            assert!(matches!(error.kind(), Kind::Storage | Kind::Unavailable), "{error:?}");
            return (acknowledged, true);
        }
    };
    let mut session = database.session();
    for n in 0..ROWS {
        let was_stopped = stopped(&database).is_some();
        match insert(&mut session, n) {
            Ok(()) => {
                assert!(!was_stopped, "{n} was acknowledged after the failure");
                acknowledged.push(n);
            }
            Err(error) => {
                assert!(["OUTCOME_UNKNOWN", "STORAGE_FAILED"].contains(&error.code()), "{error:?}");
                assert_eq!(stopped(&database), Some(5), "{error:?}");
            }
        }
    }
    database.close();
    let stopped = stopped(&database);
    assert!(stopped.is_none_or(|code| code == 5));
    (acknowledged, stopped.is_some())
}

/// What is on the disk now opens, is sound, and has every acknowledged row.
fn has_all(disk: &MemoryDisk, acknowledged: &[i64], refused: &[i64]) {
    let database = Database::open(on(disk, WorkingCopy::Disk)).expect("it opens");
    assert_eq!(database.status().state, State::Ok, "{}", database.status().note);
    let mut session = database.session();
    let stored = select(&mut session, "SELECT n FROM t");
    for n in acknowledged {
        assert!(stored.contains(&Value::Integer(*n)), "{n} was acknowledged and is gone");
    }
    for n in refused {
        assert!(!stored.contains(&Value::Integer(*n)), "{n} was refused and is there");
    }
    assert_proved(&database, database.position());
    assert_eq!(integrity(disk, "/main.db"), "ok");
    let next = number(&mut session, "SELECT ifnull(max(n), 0) + 1000 FROM t");
    insert(&mut session, next).expect("it writes again");
    database.close();
}

/// N = 1, 2, …, then in growing steps.
fn after(nth: u64) -> u64 {
    nth + 1 + nth / 24
}

/// Lets the N-th call fail once, for one N after another, until the workload ends before it.
fn every_failure_stops_it(on: FaultOn, working_copy: WorkingCopy) {
    let (mut nth, mut unreached, mut failures) = (1, 0, 0);
    while unreached < 3 {
        let disk = prepared();
        let fault = Fault { on, nth, error: FaultError::Io, times: Times::Once, file: None };
        disk.fail(fault);
        let (acknowledged, failed) = work(&disk, working_copy);
        disk.heal();
        match failed {
            true => (unreached, failures) = (0, failures + 1),
            false => unreached += 1,
        }
        assert!(failed || acknowledged.len() as i64 == ROWS, "{on:?} {nth}: {acknowledged:?}");
        // The process ended; the machine lives on, or not.
        let left = if nth % 2 == 0 { disk.kill() } else { disk.crash(nth) };
        println!("{on:?} {nth}: {} acknowledged, failed: {failed}", acknowledged.len());
        has_all(&left, &acknowledged, &[]);
        has_all(&left.crash(nth), &acknowledged, &[]);
        nth = after(nth);
    }
    assert!(failures > 20, "only {failures} places were reached");
}

/// The drive reports an error for one sync, and then says that all is well.
#[test]
fn a_failed_sync_stops_the_database_and_loses_nothing() {
    every_failure_stops_it(FaultOn::Sync, WorkingCopy::Disk);
}

/// The same where the copy that serves is in memory.
#[test]
fn a_failed_sync_of_the_backing_file_stops_a_copy_in_memory() {
    every_failure_stops_it(FaultOn::Sync, WorkingCopy::Memory);
}

/// A write fails for good, by an error that is not "no space".
#[test]
fn a_failed_write_stops_the_database_and_loses_nothing() {
    every_failure_stops_it(FaultOn::Write, WorkingCopy::Disk);
}

/// The keeper's sync of the main file fails while a transaction is open: its COMMIT could sync the log,
/// which is another file, and is refused all the same.
#[test]
fn a_transaction_that_is_open_when_the_disk_fails_is_not_acknowledged() {
    eventually("a transaction is open while the keeper fails", || {
        let disk = prepared();
        let database = Database::open(on(&disk, WorkingCopy::Disk)).unwrap();
        let (on, error, times) = (FaultOn::Sync, FaultError::Io, Times::Once);
        disk.fail(Fault { on, nth: 1, error, times, file: Some("/main.db".into()) });
        let mut session = database.session();
        let met = (0..200).find_map(|n| commit_late(&database, &mut session, n));
        database.close();
        met.expect("the keeper comes to the main file")
    });
}

/// Lets a transaction wait for the disk to fail. If it fails, whether the transaction was open.
fn commit_late(database: &Database, session: &mut Session, n: i64) -> Option<bool> {
    let mut send = |sql: &str| try_run(session, program(&[sql]), &RequestOptions::default());
    if send("BEGIN IMMEDIATE").is_err() {
        assert_eq!(stopped(database), Some(5));
        return Some(false);
    }
    send(&format!("INSERT INTO t VALUES ({n}, zeroblob(3000))")).unwrap();
    std::thread::sleep(Duration::from_millis(3));
    let failed = stopped(database).is_some();
    let committed = send("COMMIT");
    if failed {
        assert_eq!(committed.unwrap_err().code(), "OUTCOME_UNKNOWN");
        return Some(true);
    }
    committed.is_err().then_some(false)
}

/// Under `memory` nobody waits for the sync that fails: the database stops all the same, and does not
/// try it again on the same file.
#[test]
fn a_failed_flush_stops_the_database() {
    for working_copy in [WorkingCopy::Disk, WorkingCopy::Memory] {
        let disk = prepared();
        let options = DatabaseOptions {
            acknowledge: Level::Memory,
            flush_every: Duration::from_millis(10),
            ..on(&disk, working_copy)
        };
        let database = Database::open(options).unwrap();
        insert(&mut database.session(), 1).unwrap();
        let (on, error, times) = (FaultOn::Sync, FaultError::Io, Times::Once);
        disk.fail(Fault { on, nth: 1, error, times, file: Some("-wal".into()) });
        eventually("it stops", || {
            let _ = insert(&mut database.session(), 2);
            stopped(&database) == Some(5)
        });
        let refused = insert(&mut database.session(), 3).unwrap_err();
        assert_eq!(refused.code(), "STORAGE_FAILED");
        database.close();
        has_all(&disk.kill(), &[], &[3]);
    }
}

/// One write finds no space, wherever it is: it costs what was being written, and nothing else.
#[test]
fn no_space_costs_one_write_and_not_the_database() {
    for working_copy in [WorkingCopy::Disk, WorkingCopy::Memory] {
        let (mut nth, mut refusals) = (1, 0);
        loop {
            let disk = prepared();
            let (on_write, error, times) = (FaultOn::Write, FaultError::Full, Times::Once);
            disk.fail(Fault { on: on_write, nth, error, times, file: None });
            let opened = Database::open(on(&disk, working_copy));
            let database = opened.or_else(|_| Database::open(on(&disk, working_copy))).unwrap();
            let mut session = database.session();
            let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
            for n in 0..ROWS {
                match insert(&mut session, n) {
                    Ok(()) => acknowledged.push(n),
                    Err(error) => {
                        assert_eq!(error.code(), "DISK_FULL", "{error:?}");
                        assert_eq!(count(&mut session, "t"), acknowledged.len() as i64);
                        refused.push(n);
                    }
                }
            }
            assert!(refused.len() <= 1, "{nth}: {refused:?}");
            let last_refused = acknowledged.last() != Some(&(ROWS - 1));
            let state = if last_refused { State::DiskFull } else { State::Ok };
            assert_eq!(database.status().state, state, "{nth}: {refused:?}");
            database.close();
            assert_eq!(stopped(&database), None);
            has_all(&disk.crash(nth), &acknowledged, &refused);
            refusals += refused.len();
            if nth > 400 {
                break;
            }
            nth += 1 + nth / 6;
        }
        assert!(refusals > 5, "only {refusals} writes met the full disk");
    }
}

/// The disk is full for a while: writes are refused, reads go on, nothing stops, and when there is space
/// again writing goes on by itself.
#[test]
fn writing_resumes_when_space_returns() {
    for (working_copy, acknowledge) in [
        (WorkingCopy::Disk, Level::Disk),
        (WorkingCopy::Memory, Level::Disk),
        (WorkingCopy::Memory, Level::Memory),
    ] {
        let disk = prepared();
        let flush_every = Duration::from_millis(5);
        let lease = Duration::from_millis(100);
        let options =
            DatabaseOptions { acknowledge, flush_every, lease, ..on(&disk, working_copy) };
        let database = Database::open(options).unwrap();
        let mut session = database.session();
        insert(&mut session, 1).unwrap();
        disk.set_capacity(Some(disk.used()));
        eventually("writes are refused", || {
            let n = count(&mut session, "t") + 1;
            insert(&mut session, n).is_err_and(|error| error.code() == "DISK_FULL")
        });
        assert_eq!(database.status().state, State::DiskFull);
        let before = count(&mut session, "t");
        assert_eq!(insert(&mut session, 500).unwrap_err().code(), "DISK_FULL");
        assert_eq!(count(&mut session, "t"), before, "reads go on");
        disk.set_capacity(None);
        if acknowledge == Level::Disk {
            eventually("it notices by itself", || database.status().state == State::Ok);
        }
        insert(&mut session, 600).unwrap();
        assert_eq!(database.status().state, State::Ok);
        assert_eq!(count(&mut session, "t"), before + 1);
        database.close();
        assert_eq!(stopped(&database), None);
        has_all(&disk.kill(), &[1, 600], &[500]);
    }
}
