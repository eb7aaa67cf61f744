//! What the engine's tests share: databases on a disk of one's choice, plain SQL through sessions, and
//! waiting with a deadline.

#![allow(dead_code, reason = "each test that includes this module uses a part of it")]

pub mod pair;
pub mod world;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use syncline::change::{Position, Value};
use syncline::engine::{
    Database, DatabaseOptions, Outcome, Program, RequestOptions, Session, Statement, Step,
    StepOutcome, VerifyMode,
};
use syncline::error::Error;
use syncline::store::disk::Disk;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Waits for a future that needs a runtime's clock or its blocking threads.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A writer in `dir`, its data directory beside the backing file.
pub fn options(dir: &Path) -> DatabaseOptions {
    DatabaseOptions { data_dir: dir.join("a"), ..DatabaseOptions::writer(dir.join("main.db")) }
}

/// A reader in `dir` with its copy in memory, that looks often.
pub fn reader_options(dir: &Path, name: &str) -> DatabaseOptions {
    DatabaseOptions {
        node: name.into(),
        check_every: Duration::from_millis(20),
        ..DatabaseOptions::reader(dir.join("main.db"), dir.join(name))
    }
}

/// The steps of `sql`, each without arguments.
pub fn program(sql: &[&str]) -> Program {
    let step = |sql: &&str| Step { statement: Statement::new(*sql, []), condition: None };
    Program { steps: sql.iter().map(step).collect() }
}

/// One statement with arguments.
pub fn with_arguments(sql: &str, arguments: impl Into<Vec<Value>>) -> Program {
    Program::single(Statement::new(sql, arguments))
}

/// Runs a program; the first error of a step counts as the program's.
pub fn try_run(
    session: &mut Session,
    program: Program,
    options: &RequestOptions,
) -> Result<Outcome, Error> {
    let mut outcome = wait(session.run(program, options))?;
    let failed = outcome.steps.iter().position(|step| matches!(step, StepOutcome::Failed(_)));
    match failed.map(|i| outcome.steps.swap_remove(i)) {
        Some(StepOutcome::Failed(error)) => Err(error),
        _ => Ok(outcome),
    }
}

/// Runs statements as one program; gives the code of each that failed.
pub fn run(session: &mut Session, sql: &[&str]) -> Vec<String> {
    run_with(session, sql, &RequestOptions::default())
}

/// The same, with options.
pub fn run_with(session: &mut Session, sql: &[&str], options: &RequestOptions) -> Vec<String> {
    codes(wait(session.run(program(sql), options)))
}

/// The code of each step that failed, or of the request.
pub fn codes(outcome: Result<Outcome, Error>) -> Vec<String> {
    let code = |step| match step {
        StepOutcome::Failed(error) => Some(error.extended().to_owned()),
        _ => None,
    };
    match outcome {
        Ok(outcome) => outcome.steps.into_iter().filter_map(code).collect(),
        Err(error) => vec![error.code().to_owned()],
    }
}

/// Runs statements that must all succeed.
pub fn ok(session: &mut Session, sql: &[&str]) {
    assert_eq!(run(session, sql), Vec::<String>::new(), "{sql:?}");
}

/// All rows.
pub fn rows(session: &mut Session, sql: &str) -> Vec<Vec<Value>> {
    let outcome = wait(session.run(program(&[sql]), &RequestOptions::default()));
    match outcome.unwrap().steps.into_iter().next() {
        Some(StepOutcome::Done(result)) => result.rows,
        other => panic!("{sql}: {other:?}"),
    }
}

/// The first column of each row.
pub fn select(session: &mut Session, sql: &str) -> Vec<Value> {
    rows(session, sql).into_iter().map(|mut row| row.remove(0)).collect()
}

/// The one number that a query gives.
pub fn number(session: &mut Session, sql: &str) -> i64 {
    match select(session, sql)[..] {
        [Value::Integer(n)] => n,
        ref other => panic!("{sql}: {other:?}"),
    }
}

/// How many rows a table has.
pub fn count(session: &mut Session, table: &str) -> i64 {
    number(session, &format!("SELECT count(*) FROM {table}"))
}

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until it holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the reader stands where the writer does.
pub fn in_step(writer: &Database, reader: &Database) -> bool {
    reader.wake();
    writer.position() == reader.position()
}

/// Waits until the reader is in step, and recounts its rows.
pub fn assert_equal(writer: &Database, reader: &Database) {
    let deadline = Instant::now() + PATIENCE;
    while !in_step(writer, reader) {
        let late = Instant::now() > deadline;
        assert!(!late, "writer {:#?}\nreader {:#?}", writer.status(), reader.status());
        thread::sleep(Duration::from_millis(2));
    }
    assert_proved(reader, writer.position());
}

/// Recounts the stored rows: they give the digest at `position`.
pub fn assert_proved(database: &Database, position: Position) {
    let verified = database.verify(VerifyMode::Report).unwrap();
    assert!(verified.equal, "{verified:?}");
    assert_eq!(verified.position, position);
}

/// A plain SQLite connection to a file of `disk`, past everything of ours.
pub fn behind_its_back(disk: &dyn Disk, path: impl AsRef<Path>) -> rusqlite::Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    rusqlite::Connection::open_with_flags_and_vfs(path, flags, disk.vfs()).unwrap()
}

/// What SQLite's own check says of a file.
pub fn integrity(disk: &dyn Disk, path: impl AsRef<Path>) -> String {
    let db = behind_its_back(disk, path);
    db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// Numbers that look random, the same for the same seed.
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// Whether the long version was asked for.
pub fn long() -> bool {
    std::env::var_os("SYNCLINE_LONG").is_some()
}
