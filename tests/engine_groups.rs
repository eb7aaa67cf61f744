//! Group commit: writes that wait together share one transaction and one sync, and a member that fails,
//! in whatever way, fails alone.
//!
//! Each offender stands in the middle of fifty others. They are made to wait behind an interactive
//! transaction, so that they really share a group. Afterwards each of the fifty is there once, in the
//! rows and in the log: a reader that applies the log ends with the same digest.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use support::*;
use syncline::change::{RequestId, Value};
use syncline::engine::{
    Condition, Database, DatabaseOptions, Limits, Outcome, Program, ReceiptState, RequestOptions,
    Role, Session, StepOutcome, WorkingCopy,
};
use syncline::error::Error;
use syncline::store::vfs::MemoryDisk;

type Answer = Result<Outcome, Error>;

/// Runs programs that all wait while another transaction has the writer, and then begin together.
fn together(writer: &Database, jobs: Vec<(Program, RequestOptions)>) -> Vec<Answer> {
    let mut blocker = writer.session();
    ok(&mut blocker, &["BEGIN IMMEDIATE"]);
    let mut sessions: Vec<Session> = jobs.iter().map(|_| writer.session()).collect();
    let mut waiting: Vec<Pin<Box<dyn Future<Output = Answer> + '_>>> = Vec::new();
    for (session, (program, options)) in sessions.iter_mut().zip(&jobs) {
        let mut running: Pin<Box<dyn Future<Output = Answer>>> =
            Box::pin(session.run(program.clone(), options));
        let polled = running.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending), "it waits for the writer");
        waiting.push(running);
    }
    ok(&mut blocker, &["COMMIT"]);
    waiting.into_iter().map(wait).collect()
}

fn plain(program: Program) -> (Program, RequestOptions) {
    (program, RequestOptions::default())
}

/// A writer and a reader on one disk in memory.
struct Pair {
    disk: MemoryDisk,
    writer: Database,
    reader: Database,
}

impl Pair {
    fn new(change: impl Fn(DatabaseOptions) -> DatabaseOptions) -> Pair {
        let disk = MemoryDisk::new();
        let options = |name: &str| DatabaseOptions {
            disk: Arc::new(disk.clone()),
            node: name.into(),
            data_dir: format!("/{name}").into(),
            readers: 1,
            ..DatabaseOptions::writer("/main.db")
        };
        let writer = Database::open(change(options("a"))).unwrap();
        let reader = DatabaseOptions {
            role: Role::Reader,
            working_copy: WorkingCopy::Memory,
            check_every: Duration::from_millis(20),
            ..options("r")
        };
        ok(&mut writer.session(), SCHEMA);
        let reader = Database::open(reader).unwrap();
        Pair { disk, writer, reader }
    }

    /// Rows of the log: each is one group's.
    fn groups(&self) -> i64 {
        let db = behind_its_back(&self.disk, "/main.db");
        db.query_row("SELECT count(*) FROM _syncline_log", [], |row| row.get(0)).unwrap()
    }

    /// The log, applied, gives the same rows: nothing was lost, doubled or made up in it.
    fn log_gives_the_same(&self) {
        assert_equal(&self.writer, &self.reader);
        assert_proved(&self.writer, self.reader.position());
        let status = self.reader.status();
        assert_eq!((status.mismatches, status.healed[3]), (0, 0), "the log was good enough");
    }

    fn close(self) {
        self.log_gives_the_same();
        self.reader.close();
        self.writer.close();
    }
}

const SCHEMA: &[&str] = &[
    "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT NOT NULL UNIQUE, n INTEGER CHECK (n >= 0))",
    "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
    "CREATE TABLE child (id INTEGER PRIMARY KEY, \
     parent INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE guarded (v TEXT)",
    "CREATE TRIGGER guard BEFORE INSERT ON guarded WHEN new.v = 'bad' \
     BEGIN SELECT RAISE(ROLLBACK, 'not that'); END",
    "CREATE TABLE bulk (v)",
    "INSERT INTO t VALUES (1, 'taken', 0)",
    "INSERT INTO parent VALUES (1)",
];

const ENDLESS: &str = "INSERT INTO bulk \
     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n LIMIT 1000000000";
const RETURNS_MUCH: &str = "INSERT INTO bulk WITH RECURSIVE n(i) AS \
     (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200) SELECT i FROM n RETURNING v";

/// Statements that fail, the code they must get, and how many rows they leave all the same.
const OFFENDERS: &[(&str, &str, i64)] = &[
    ("INSERT INTO t VALUES (1, 'x', 0)", "SQLITE_CONSTRAINT_PRIMARYKEY", 0),
    ("INSERT INTO t VALUES (2, 'taken', 0)", "SQLITE_CONSTRAINT_UNIQUE", 0),
    ("INSERT INTO t VALUES (2, NULL, 0)", "SQLITE_CONSTRAINT_NOTNULL", 0),
    ("INSERT INTO t VALUES (2, 'x', -1)", "SQLITE_CONSTRAINT_CHECK", 0),
    ("INSERT INTO t VALUES (2, 'x', 0), (3, 'taken', 0)", "SQLITE_CONSTRAINT_UNIQUE", 0),
    ("INSERT INTO child VALUES (1, 999)", "SQLITE_CONSTRAINT_FOREIGNKEY", 0),
    ("INSERT OR ROLLBACK INTO t VALUES (2, 'taken', 0)", "SQLITE_CONSTRAINT_UNIQUE", 0),
    ("INSERT OR FAIL INTO t VALUES (2, 'kept', 0), (3, 'taken', 0)", "SQLITE_CONSTRAINT_UNIQUE", 1),
    ("INSERT INTO guarded VALUES ('bad')", "SQLITE_CONSTRAINT_TRIGGER", 0),
    ("INSERT INTO bulk VALUES (CAST(x'ff' AS TEXT))", "TEXT_NOT_UTF8", 0),
    (ENDLESS, "STATEMENT_TIMEOUT", 0),
    (RETURNS_MUCH, "RESPONSE_TOO_LARGE", 0),
    ("INSERT INTO nowhere VALUES (1)", "SQLITE_ERROR", 0),
    ("INSERT INTO bulk VALUES (zeroblob(6000000))", "DISK_FULL", 0),
    ("INSERT INTO bulk VALUES (zeroblob(40000000))", "DISK_FULL", 0),
];

const EVERYTHING: &str = "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM child) + \
     (SELECT count(*) FROM guarded) + (SELECT count(*) FROM bulk)";

fn limits() -> Limits {
    Limits { statement: Duration::from_millis(300), response_rows: 100, ..Limits::default() }
}

/// Fifty inserts of `round`, with `offender` in their middle.
fn fifty_around(round: usize, offender: Program) -> Vec<(Program, RequestOptions)> {
    let insert = |i: usize| {
        let id = (round + 1) * 1000 + i;
        plain(program(&[&format!("INSERT INTO t VALUES ({id}, 'v{id}', {i})")]))
    };
    let mut jobs: Vec<_> = (0..50).map(insert).collect();
    jobs.insert(25, plain(offender));
    jobs
}

/// Runs the offender among its fifty, checks that they are there, and gives what it was answered.
fn among_fifty(pair: &Pair, round: usize, offender: Program) -> Vec<String> {
    let before = pair.writer.position().version;
    let mut answers = together(&pair.writer, fifty_around(round, offender));
    let offended = codes(answers.remove(25));
    let mut receipts: Vec<_> = answers
        .into_iter()
        .map(|answer| {
            let outcome = answer.expect("it is none of their business");
            assert!(matches!(outcome.steps[..], [StepOutcome::Done(_)]), "{outcome:?}");
            outcome.receipt.expect("it wrote")
        })
        .collect();
    for receipt in &receipts {
        let durable = ReceiptState::Durable(vec!["a".into()]);
        assert_eq!(pair.writer.receipt_state(*receipt).unwrap(), durable);
    }
    receipts.sort_unstable_by_key(|receipt| receipt.version);
    receipts.dedup();
    assert_eq!(receipts.len(), 50, "each has a version of its own");
    assert!(receipts[0].version > before);
    let range = format!("id BETWEEN {} AND {}", (round + 1) * 1000, (round + 1) * 1000 + 999);
    let there = format!("SELECT count(*) FROM t WHERE {range}");
    assert_eq!(number(&mut pair.writer.session(), &there), 50);
    offended
}

/// Fifty writers and one whose statement fails, for every way in which a statement can.
#[test]
fn a_statement_that_fails_fails_alone() {
    for working_copy in [WorkingCopy::Disk, WorkingCopy::Memory] {
        let pair = Pair::new(|o| DatabaseOptions { working_copy, limits: limits(), ..o });
        for (round, (offender, code, rows)) in OFFENDERS.iter().enumerate() {
            let everything = number(&mut pair.writer.session(), EVERYTHING);
            let groups = pair.groups();
            if *code == "DISK_FULL" {
                pair.disk.set_capacity(Some(pair.disk.used() + (3 << 20)));
            }
            let offended = among_fifty(&pair, round, program(&[offender]));
            pair.disk.set_capacity(None);
            assert_eq!(offended, [*code], "{offender}");
            let now = number(&mut pair.writer.session(), EVERYTHING);
            assert_eq!(now, everything + 50 + rows, "{offender}");
            let shared = pair.groups() - groups;
            assert!(shared <= 8, "{offender}: they took {shared} groups");
            run(&mut pair.writer.session(), &["DELETE FROM t WHERE id = 2", "DELETE FROM bulk"]);
        }
        pair.close();
    }
}

/// A batch that is one transaction and meets one of those failures in its middle: what SQLite would
/// keep of it is kept, and its COMMIT is answered as SQLite would.
#[test]
fn a_batch_with_a_failing_step_concerns_nobody_else() {
    let pair = Pair::new(|o| DatabaseOptions { limits: limits(), ..o });
    for (round, (offender, code, rows)) in OFFENDERS.iter().enumerate() {
        if *code == "DISK_FULL" {
            continue;
        }
        let everything = number(&mut pair.writer.session(), EVERYTHING);
        let batch = [
            "BEGIN",
            "INSERT INTO t VALUES (50, 'before', 0)",
            offender,
            "INSERT INTO t VALUES (51, 'after', 0)",
            "COMMIT",
        ];
        let offended = among_fifty(&pair, round, program(&batch));
        let (expected, kept) = expected_of_batch(code, offender, *rows);
        assert_eq!(offended, expected, "{offender}");
        let now = number(&mut pair.writer.session(), EVERYTHING);
        assert_eq!(now, everything + 50 + kept, "{offender}");
        let clean = ["DELETE FROM t WHERE id IN (2, 50, 51)", "DELETE FROM bulk"];
        ok(&mut pair.writer.session(), &clean);
    }
    pair.close();
}

/// The codes that the batch is answered, and how many rows stay.
fn expected_of_batch(code: &'static str, offender: &str, rows: i64) -> (Vec<&'static str>, i64) {
    match code {
        // The key is looked at when the transaction ends; then all of it goes.
        "SQLITE_CONSTRAINT_FOREIGNKEY" => (vec![code], 0),
        // SQLite ends the transaction: what follows stands alone, and there is nothing to commit.
        "SQLITE_CONSTRAINT_TRIGGER" | "STATEMENT_TIMEOUT" => (vec![code, "SQLITE_ERROR"], 1),
        _ if offender.contains("OR ROLLBACK") => (vec![code, "SQLITE_ERROR"], 1),
        // What cannot be kept and cannot be undone alone takes its transaction along.
        "TEXT_NOT_UTF8" | "RESPONSE_TOO_LARGE" => (vec![code, "SQLITE_ERROR"], 1),
        _ => (vec![code], 2 + rows),
    }
}

/// A batch whose COMMIT is conditional leaves its transaction open: it gets the writer to itself, the
/// others do not wait for it, and it can still be ended.
#[test]
fn a_batch_that_leaves_its_transaction_open_waits_for_nobody() {
    let pair = Pair::new(|o| o);
    let mut open = program(&["BEGIN", "INSERT INTO t VALUES (60, 'open', 0)", "COMMIT"]);
    open.steps[2].condition = Some(Condition::Error(1));
    assert_eq!(among_fifty(&pair, 0, open.clone()), Vec::<String>::new());
    // Its session is gone, and with it the transaction.
    assert_eq!(number(&mut pair.writer.session(), "SELECT count(*) FROM t WHERE id = 60"), 0);
    let mut session = pair.writer.session();
    try_run(&mut session, open, &RequestOptions::default()).unwrap();
    assert!(!session.is_autocommit());
    ok(&mut session, &["COMMIT"]);
    assert_eq!(number(&mut session, "SELECT count(*) FROM t WHERE id = 60"), 1);
    pair.close();
}

/// Ten different failures in one group: each gets its own answer.
#[test]
fn many_failures_in_one_group_are_told_apart() {
    let pair = Pair::new(|o| DatabaseOptions { limits: limits(), ..o });
    let mut jobs = Vec::new();
    let mut expected = Vec::new();
    for (i, (offender, code, _)) in OFFENDERS.iter().enumerate() {
        if *code != "DISK_FULL" {
            jobs.push(plain(program(&[offender])));
            expected.push(vec![(*code).to_owned()]);
        }
        jobs.push(plain(program(&[&format!("INSERT INTO t VALUES (9{i:03}, 'w{i}', 0)")])));
        expected.push(Vec::new());
    }
    let answers: Vec<_> = together(&pair.writer, jobs).into_iter().map(codes).collect();
    assert_eq!(answers, expected);
    let there = "SELECT count(*) FROM t WHERE id >= 9000";
    assert_eq!(number(&mut pair.writer.session(), there), OFFENDERS.len() as i64);
    pair.close();
}

/// A client that got no answer sends the same write again while the first still waits: one effect, and
/// both hear the same.
#[test]
fn the_same_request_twice_in_one_group_has_one_effect() {
    let pair = Pair::new(|o| o);
    let id = RequestId { client: "c".into(), sequence: 7 };
    let options = RequestOptions { request: Some(id), ..RequestOptions::default() };
    let insert = "INSERT INTO bulk VALUES (random()) RETURNING v";
    let jobs = (0..3).map(|_| (program(&[insert]), options.clone())).collect();
    let answers: Vec<Outcome> =
        together(&pair.writer, jobs).into_iter().map(Result::unwrap).collect();
    assert_eq!(count(&mut pair.writer.session(), "bulk"), 1);
    for answer in &answers {
        assert_eq!(answer.receipt, answers[0].receipt);
        match (&answer.steps[0], &answers[0].steps[0]) {
            (StepOutcome::Done(a), StepOutcome::Done(b)) => assert_eq!(a.rows, b.rows),
            other => panic!("{other:?}"),
        }
    }
    pair.close();
}

/// An ORM changes a parent table the way SQLite's manual says: keys off, a new table, copy, drop, rename,
/// keys on. The setting is the stream's own and set outside the transaction; were it lost, dropping the
/// parent would empty the child table by cascade. Fifty clients write children meanwhile.
#[test]
fn rebuilding_a_parent_table_keeps_every_child() {
    let pair = Pair::new(|o| o);
    let mut session = pair.writer.session();
    let schema = [
        "CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT)",
        "CREATE TABLE book (id INTEGER PRIMARY KEY, \
         author INTEGER NOT NULL REFERENCES author ON DELETE CASCADE)",
        "INSERT INTO author VALUES (1, 'a'), (2, 'b')",
    ];
    ok(&mut session, &schema);
    let writer = &pair.writer;
    thread::scope(|scope| {
        for client in 0..50 {
            scope.spawn(move || {
                let mut session = writer.session();
                for i in 0..6 {
                    let book = client * 100 + i;
                    let insert = format!("INSERT INTO book VALUES ({book}, {})", 1 + i % 2);
                    ok(&mut session, &[&insert]);
                }
            });
        }
        for round in 0..4 {
            let mut orm = writer.session();
            ok(&mut orm, &["PRAGMA foreign_keys = off"]);
            let column = format!("extra{round}");
            let create =
                format!("CREATE TABLE new_author (id INTEGER PRIMARY KEY, name TEXT, {column})");
            ok(
                &mut orm,
                &[
                    "BEGIN",
                    &create,
                    "INSERT INTO new_author (id, name) SELECT id, name FROM author",
                    "DROP TABLE author",
                    "ALTER TABLE new_author RENAME TO author",
                    "COMMIT",
                ],
            );
            ok(&mut orm, &["PRAGMA foreign_keys = on"]);
        }
    });
    assert_eq!(count(&mut session, "book"), 300, "every child is still there");
    assert_eq!(
        run(&mut session, &["INSERT INTO book VALUES (9999, 77)"]),
        ["SQLITE_CONSTRAINT_FOREIGNKEY"]
    );
    ok(&mut session, &["DELETE FROM author WHERE id = 2"]);
    assert_eq!(count(&mut session, "book"), 150, "keys are on again, and cascade");
    pair.close();
}

fn small_limits() -> Limits {
    Limits {
        idle_transaction: Duration::from_secs(3),
        contended_idle_transaction: Duration::from_millis(100),
        busy_timeout: Duration::from_millis(150),
        ..Limits::default()
    }
}

/// A client begins, writes and goes to lunch. While nobody waits it may take longer than when others do;
/// then the writer is taken from it, and its next statement says so.
#[test]
fn an_idle_transaction_is_ended_sooner_when_others_wait() {
    let limits = Limits { busy_timeout: Duration::from_secs(5), ..small_limits() };
    let mark_every = Duration::from_millis(5);
    let pair = Pair::new(|o| DatabaseOptions { limits: limits.clone(), mark_every, ..o });
    let (mut idle, mut other) = (pair.writer.session(), pair.writer.session());
    let begin = ["BEGIN IMMEDIATE", "INSERT INTO t VALUES (70, 'idle', 0)"];
    let began = Instant::now();
    ok(&mut idle, &begin);
    ok(&mut other, &["INSERT INTO t VALUES (71, 'waits', 0)"]);
    let contended = began.elapsed();
    assert!(contended >= limits.contended_idle_transaction, "{contended:?}");
    assert!(contended < limits.idle_transaction, "{contended:?}");
    assert_eq!(run(&mut idle, &["COMMIT"]), ["TRANSACTION_TIMEOUT"]);
    assert!(idle.is_autocommit());
    assert_eq!(number(&mut other, "SELECT count(*) FROM t WHERE id = 70"), 0);

    // The node's own work (here the mark, which is due all the time) hurries nobody.
    ok(&mut idle, &begin);
    thread::sleep(limits.contended_idle_transaction * 2);
    ok(&mut idle, &["COMMIT"]);
    assert_eq!(number(&mut other, "SELECT count(*) FROM t WHERE id = 70"), 1);
    pair.close();
}

/// A client that is never idle, and never done.
#[test]
fn a_transaction_has_an_end() {
    let total_transaction = Duration::from_millis(300);
    let limits = Limits { total_transaction, ..Limits::default() };
    let pair = Pair::new(|o| DatabaseOptions { limits: limits.clone(), ..o });
    let mut busy = pair.writer.session();
    let began = Instant::now();
    ok(&mut busy, &["BEGIN IMMEDIATE"]);
    let code = loop {
        match run(&mut busy, &["INSERT INTO bulk VALUES (1)"]).pop() {
            None => assert!(began.elapsed() < Duration::from_secs(20)),
            Some(code) => break code,
        }
    };
    assert_eq!(code, "TRANSACTION_TIMEOUT");
    assert!(began.elapsed() >= total_transaction);
    assert_eq!(count(&mut pair.writer.session(), "bulk"), 0);
    pair.close();
}

/// Whoever waits longer than `busy_timeout` for the writer is told so; a request may say how long.
#[test]
fn waiting_for_the_writer_has_an_end() {
    let pair = Pair::new(|o| {
        let limits =
            Limits { contended_idle_transaction: Duration::from_secs(5), ..small_limits() };
        DatabaseOptions { limits, ..o }
    });
    let (mut holder, mut other) = (pair.writer.session(), pair.writer.session());
    ok(&mut holder, &["BEGIN IMMEDIATE"]);
    let began = Instant::now();
    assert_eq!(run(&mut other, &["INSERT INTO bulk VALUES (1)"]), ["SQLITE_BUSY"]);
    assert!(began.elapsed() >= small_limits().busy_timeout);
    let timeout = Some(Duration::from_millis(20));
    let short = RequestOptions { timeout, ..RequestOptions::default() };
    let began = Instant::now();
    assert_eq!(run_with(&mut other, &["BEGIN IMMEDIATE"], &short), ["SQLITE_BUSY"]);
    assert!(began.elapsed() < small_limits().busy_timeout);
    ok(&mut holder, &["INSERT INTO bulk VALUES (2)", "COMMIT"]);
    assert_eq!(select(&mut other, "SELECT v FROM bulk"), [Value::Integer(2)]);
    pair.close();
}

/// A stream breaks in the middle of its transaction: the transaction goes with it, at once.
#[test]
fn a_session_that_is_dropped_gives_the_writer_back() {
    let pair = Pair::new(|o| o);
    let mut gone = pair.writer.session();
    ok(&mut gone, &["BEGIN IMMEDIATE", "INSERT INTO bulk VALUES (1)"]);
    drop(gone);
    let began = Instant::now();
    ok(&mut pair.writer.session(), &["INSERT INTO bulk VALUES (2)"]);
    assert!(began.elapsed() < Limits::default().contended_idle_transaction);
    assert_eq!(select(&mut pair.writer.session(), "SELECT v FROM bulk"), [Value::Integer(2)]);
    pair.close();
}
