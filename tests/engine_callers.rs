//! Callers that may block do the writer's work themselves where nobody else wants it: whoever does it,
//! everything else must be as if the writer's own thread had.

mod support;

use std::thread;
use std::time::Duration;

use support::*;
use syncline::acknowledge::Level;
use syncline::change::{RequestId, Value};
use syncline::engine::{Database, DatabaseOptions, ReceiptState, RequestOptions};

const CREATE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, who)";

#[test]
fn a_lone_caller_gets_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    let mut session = writer.session().blocking();
    ok(&mut session, &[CREATE, "INSERT INTO t (who) VALUES ('a')"]);
    assert_eq!(session.receipt(), Some(writer.position()));
    assert_eq!(count(&mut session, "t"), 1);
    assert_eq!(
        run(&mut session, &["INSERT INTO t VALUES (1, 'b')"]),
        ["SQLITE_CONSTRAINT_PRIMARYKEY"]
    );
    ok(&mut session, &["BEGIN", "INSERT INTO t (who) VALUES ('c')"]);
    assert_eq!((count(&mut session, "t"), count(&mut writer.session(), "t")), (2, 1));
    ok(&mut session, &["COMMIT"]);
    let once = RequestOptions {
        request: Some(RequestId { client: "me".into(), sequence: 1 }),
        ..RequestOptions::default()
    };
    for _ in 0..2 {
        run_with(&mut session, &["INSERT INTO t (who) VALUES ('d')"], &once);
    }
    assert_eq!(count(&mut session, "t"), 3);
    assert_proved(&writer, writer.position());
    writer.close();
    assert_eq!(run(&mut session, &["INSERT INTO t (who) VALUES ('e')"]), ["NOT_WRITER"]);
}

#[test]
fn callers_and_the_thread_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    let reader = Database::open(reader_options(dir.path(), "r")).unwrap();
    ok(&mut writer.session(), &[CREATE]);
    const ROWS: i64 = 60;
    thread::scope(|scope| {
        for who in 0..6 {
            let writer = &writer;
            scope.spawn(move || {
                let mut session = writer.session();
                if who % 2 == 0 {
                    session = session.blocking();
                }
                let insert = format!("INSERT INTO t (who) VALUES ({who})");
                for round in 0..ROWS {
                    match (who, round % 10) {
                        (0 | 1, 0) => ok(&mut session, &["BEGIN IMMEDIATE", &insert, "COMMIT"]),
                        _ => ok(&mut session, &[&insert]),
                    }
                }
            });
        }
    });
    let every =
        format!("SELECT count(*) FROM (SELECT who FROM t GROUP BY who HAVING count(*) = {ROWS})");
    assert_eq!(number(&mut writer.session(), &every), 6);
    assert_equal(&writer, &reader);
}

#[test]
fn what_a_caller_leaves_in_memory_is_flushed_by_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let options = DatabaseOptions { flush_every: Duration::from_millis(20), ..options(dir.path()) };
    let writer = Database::open(options).unwrap();
    let mut session = writer.session().blocking();
    ok(&mut session, &[CREATE]);
    let memory = RequestOptions { acknowledge: Some(Level::Memory), ..RequestOptions::default() };
    run_with(&mut session, &["INSERT INTO t (who) VALUES ('a')"], &memory);
    let receipt = session.receipt().unwrap();
    eventually("it is durable", || {
        matches!(writer.receipt_state(receipt), Ok(ReceiptState::Durable(_)))
    });
}

#[test]
fn a_callers_transaction_that_expired_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.limits.idle_transaction = Duration::from_millis(20);
    let writer = Database::open(options).unwrap();
    let mut session = writer.session().blocking();
    ok(&mut session, &[CREATE, "BEGIN IMMEDIATE", "INSERT INTO t (who) VALUES ('a')"]);
    // It is over once somebody else gets the writer.
    ok(&mut writer.session(), &["INSERT INTO t (who) VALUES ('b')"]);
    let late = run(&mut session, &["INSERT INTO t (who) VALUES ('c')"]);
    assert_eq!(late, ["TRANSACTION_TIMEOUT"], "not a write of its own");
    assert_eq!(select(&mut writer.session(), "SELECT who FROM t"), [Value::Text("b".into())]);
}

#[test]
fn what_arrives_during_a_group_is_done_after_it() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing else wakes the writer's thread in time.
    let lease = Duration::from_secs(24 * 3600);
    let options = DatabaseOptions { lease, mark_every: lease, ..options(dir.path()) };
    let writer = Database::open(options).unwrap();
    ok(&mut writer.session(), &[CREATE]);
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) \
                INSERT INTO t (who) SELECT max(i) FROM n";
    thread::scope(|scope| {
        scope.spawn(|| ok(&mut writer.session(), &[slow]));
        thread::sleep(Duration::from_millis(40));
        let (done, closed) = std::sync::mpsc::channel();
        let writer = writer.clone();
        // Not of the scope: if nobody does it, the test must end all the same.
        thread::spawn(move || {
            writer.close();
            done.send(())
        });
        closed.recv_timeout(Duration::from_secs(20)).expect("it is closed before the next lease");
    });
}

#[test]
fn the_log_starts_over_in_place_and_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint_at = 256 << 10;
    let mark_every = Duration::from_millis(20);
    let options = DatabaseOptions { checkpoint_at, mark_every, ..options(dir.path()) };
    let log = dir.path().join("main.db-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    let writer = Database::open(options).unwrap();
    let mut session = writer.session();
    ok(&mut session, &["CREATE TABLE t (id INTEGER PRIMARY KEY, body)"]);
    let mut written = 0;
    for _ in 0..40 {
        for _ in 0..10 {
            ok(&mut session, &["INSERT INTO t (body) VALUES (randomblob(10000))"]);
            written += 20_000;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(written > 20 * checkpoint_at, "enough to fill it many times");
    assert!(length() < written / 2, "{} bytes of log after {written}", length());
    writer.close();
    assert_eq!(length(), 0, "after an orderly end the main file is everything");
}
