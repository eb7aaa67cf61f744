//! Reads: a pool of connections to the copy that serves, and a few threads to run them on.
//!
//! A point read takes a few microseconds, and twice as long if another thread has to be woken for it. So a
//! lone statement is begun where it was asked for, even on a thread that must not block: for a millisecond
//! at most, then it starts again on a read thread. Once that has happened (or a page had to come from a
//! slow disk), the next hundred go to the read threads at once.
//!
//! A transaction that reads keeps its connection (and so its snapshot) between requests; whoever picks up
//! the next request gets the connection with it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::program::{Description, Outcome, Program, StatementResult, Step, StepOutcome};
use super::run::{budget, holds, write_in_readonly};
use super::shared::{Shared, lock};
use super::stream::{Settings, Stream};
use crate::change::Position;
use crate::error::{Error, Kind, Result};
use crate::store::sqlite::text::{self, Begin, Control};
use crate::store::sqlite::{Reader, Statement, check_name};

/// Transactions that may read at the same time, each with a connection of its own.
const OPEN: usize = 256;
/// Idle connections that are kept.
const IDLE: usize = 16;

/// How long a read may keep a thread that must not block.
const BRIEF: Duration = Duration::from_millis(1);
/// After one that took longer, so many go to the read threads at once.
const AFTER_LONG: u32 = 100;

/// A transaction that only reads, so far, with its connection.
pub(crate) struct ReadTransaction {
    reader: Reader,
    generation: u64,
    pub open: OpenRead,
}

/// What belongs to a transaction that reads.
#[derive(Default)]
pub(crate) struct OpenRead {
    /// BEGIN TRANSACTION READONLY: it may never write.
    pub readonly: bool,
    /// Where its snapshot stands; none until its first read.
    pub snapshot: Option<Position>,
    /// The client's open savepoints.
    pub savepoints: Vec<String>,
    seat: Option<Seat>,
}

/// One of the open transactions.
struct Seat(Arc<Pool>);

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.0.inner).open -= 1;
    }
}

/// What came of a program that was taken for reads.
pub(crate) struct Read {
    /// None if it writes: nothing of it has run.
    pub ran: Option<(Outcome, Stream)>,
    pub transaction: Option<Box<ReadTransaction>>,
}

type Work = Box<dyn FnOnce(&Readers) + Send>;

#[derive(Default)]
struct Inner {
    work: VecDeque<Work>,
    idle: Vec<(u64, Reader)>,
    open: usize,
    closed: bool,
}

struct Pool {
    inner: Mutex<Inner>,
    arrived: Condvar,
    limit: usize,
    /// So many more reads go to the read threads at once.
    long: AtomicU32,
}

/// The pool of read threads and connections.
#[derive(Clone)]
pub(crate) struct Readers {
    pool: Arc<Pool>,
    shared: Arc<Shared>,
}

impl Readers {
    /// Starts the threads.
    pub fn start(shared: Arc<Shared>) -> std::io::Result<(Readers, Vec<JoinHandle<()>>)> {
        let inner = Mutex::new(Inner::default());
        let (arrived, limit) = (Condvar::new(), shared.options.limits.queue);
        let pool = Arc::new(Pool { inner, arrived, limit, long: AtomicU32::new(0) });
        let readers = Readers { pool, shared };
        let count = readers.shared.options.readers.max(1);
        let thread = |i: usize| {
            let readers = readers.clone();
            let name = format!("syncline-reader-{i}");
            std::thread::Builder::new().name(name).spawn(move || readers.work())
        };
        let threads = (0..count).map(thread).collect::<std::io::Result<Vec<_>>>()?;
        Ok((readers, threads))
    }

    fn work(&self) {
        loop {
            let mut inner = lock(&self.pool.inner);
            let work = loop {
                if let Some(work) = inner.work.pop_front() {
                    break work;
                }
                if inner.closed {
                    return;
                }
                inner = self.pool.arrived.wait(inner).unwrap_or_else(|e| e.into_inner());
            };
            drop(inner);
            // A panic in one read must not take the thread from the others.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(self)));
        }
    }

    /// Lets the threads finish what waits, and end.
    pub fn close(&self) {
        let mut inner = lock(&self.pool.inner);
        inner.closed = true;
        inner.idle.clear();
        self.pool.arrived.notify_all();
    }

    fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Readers) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (reply, answer) = oneshot::channel();
        let mut inner = lock(&self.pool.inner);
        if inner.closed || inner.work.len() >= self.pool.limit {
            return Err(Error::retry("READERS_BUSY", "too many reads wait already")
                .hint("send fewer at once, or ask another node"));
        }
        inner.work.push_back(Box::new(move |readers| {
            let _ = reply.send(work(readers));
        }));
        drop(inner);
        self.pool.arrived.notify_one();
        Ok(answer)
    }

    /// A connection to the copy that serves now.
    pub fn checkout(&self) -> Result<(u64, Reader)> {
        let place = self.shared.place()?;
        let mut inner = lock(&self.pool.inner);
        inner.idle.retain(|(generation, _)| *generation == place.generation);
        if let Some(idle) = inner.idle.pop() {
            return Ok(idle);
        }
        drop(inner);
        self.shared.open_place(Reader::open)
    }

    /// Gives a connection back.
    pub fn checkin(&self, generation: u64, reader: Reader) {
        let current = self.shared.place().is_ok_and(|place| place.generation == generation);
        let mut inner = lock(&self.pool.inner);
        if current && !inner.closed && inner.idle.len() < IDLE && reader.db.is_autocommit() {
            inner.idle.push((generation, reader));
        }
    }

    /// Runs a program that seems to read only on a read thread; gives it back with what came of it.
    pub fn run(
        &self,
        program: Program,
        stream: Stream,
        transaction: Option<Box<ReadTransaction>>,
    ) -> Result<oneshot::Receiver<Result<(Program, Read)>>> {
        self.submit(move |readers| {
            let read = readers.run_here(&program, stream, transaction)?;
            Ok((program, read))
        })
    }

    /// The same on the caller's thread, which may block.
    pub fn run_here(
        &self,
        program: &Program,
        stream: Stream,
        transaction: Option<Box<ReadTransaction>>,
    ) -> Result<Read> {
        self.read(program, stream, transaction, self.shared.options.limits.statement)
    }

    /// The same on a thread that must not block; none if that takes too long.
    pub fn run_briefly(&self, program: &Program, stream: &Stream) -> Option<Result<Read>> {
        let [step] = program.steps.as_slice() else { return None };
        let sql = &step.statement.sql;
        let idle = !lock(&self.pool.inner).idle.is_empty();
        if !idle || text::control(sql).is_some() || self.one_of_the_long_ones() {
            return None;
        }
        let (began, limit) = (Instant::now(), self.shared.options.limits.statement);
        let read = self.read(program, stream.clone(), None, limit.min(BRIEF));
        if began.elapsed() >= BRIEF {
            self.pool.long.store(AFTER_LONG, Ordering::Relaxed);
        }
        match &read {
            Ok(Read { ran: Some((outcome, _)), .. }) if limit > BRIEF && was_stopped(outcome) => {
                None
            }
            _ => Some(read),
        }
    }

    fn one_of_the_long_ones(&self) -> bool {
        let less = |long: u32| long.checked_sub(1);
        self.pool.long.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// What is known of a statement without running it.
    pub fn describe(
        &self,
        sql: std::sync::Arc<str>,
    ) -> Result<oneshot::Receiver<Result<Description>>> {
        self.submit(move |readers| {
            let (generation, mut reader) = readers.checkout()?;
            let described = reader.client.describe(&sql);
            readers.checkin(generation, reader);
            described
        })
    }

    fn read(
        &self,
        program: &Program,
        stream: Stream,
        transaction: Option<Box<ReadTransaction>>,
        time: Duration,
    ) -> Result<Read> {
        let (generation, mut reader, open) = match transaction {
            Some(transaction) => {
                (transaction.generation, transaction.reader, Some(transaction.open))
            }
            None => {
                let (generation, reader) = self.checkout()?;
                (generation, reader, None)
            }
        };
        let readonly = open.as_ref().is_some_and(|open| open.readonly);
        if !readonly && program.steps.iter().any(|step| writes(&mut reader, step)) {
            let transaction = self.put_back(generation, reader, open)?;
            return Ok(Read { ran: None, transaction });
        }
        let mut run = ReadRun { shared: &self.shared, reader: &mut reader, stream, open, time };
        let steps = run.program(program);
        let (stream, open) = (run.stream, run.open);
        let outcome = Outcome { steps: steps?, receipt: None };
        let transaction = self.put_back(generation, reader, open)?;
        Ok(Read { ran: Some((outcome, stream)), transaction })
    }

    /// Gives a connection back, or keeps it for its open transaction.
    fn put_back(
        &self,
        generation: u64,
        reader: Reader,
        open: Option<OpenRead>,
    ) -> Result<Option<Box<ReadTransaction>>> {
        let Some(mut open) = open else {
            self.checkin(generation, reader);
            return Ok(None);
        };
        if open.seat.is_none() {
            open.seat = Some(self.seat()?);
        }
        Ok(Some(Box::new(ReadTransaction { reader, generation, open })))
    }

    fn seat(&self) -> Result<Seat> {
        let mut inner = lock(&self.pool.inner);
        if inner.open >= OPEN {
            return Err(Error::retry(
                "TRANSACTION_BUSY",
                "too many transactions are reading already",
            )
            .hint("end transactions soon; try again in a moment"));
        }
        inner.open += 1;
        Ok(Seat(self.pool.clone()))
    }
}

/// Whether its only statement was stopped by its time limit.
fn was_stopped(outcome: &Outcome) -> bool {
    matches!(&outcome.steps[..], [StepOutcome::Failed(error)] if error.code() == "STATEMENT_TIMEOUT")
}

/// Whether a step writes: then the whole program belongs to the writer. A statement that does not
/// prepare is taken for a read: it fails here as it would there.
fn writes(reader: &mut Reader, step: &Step) -> bool {
    let sql = &step.statement.sql;
    match text::control(sql) {
        Some(Control::Begin(begin)) => begin == Begin::Immediate,
        Some(_) => false,
        None if Stream::default().pragma(sql, false).is_some() => false,
        None => reader.client.prepared(sql).is_ok_and(|prepared| !prepared.readonly),
    }
}

/// A program on its way through a read connection.
struct ReadRun<'a> {
    shared: &'a Shared,
    reader: &'a mut Reader,
    stream: Stream,
    open: Option<OpenRead>,
    /// How long each statement may run.
    time: Duration,
}

impl ReadRun<'_> {
    fn program(&mut self, program: &Program) -> Result<Vec<StepOutcome>> {
        let snapshot = self.open.as_ref().and_then(|open| open.snapshot);
        let position = snapshot.unwrap_or_else(|| self.shared.position());
        let context = self.reader.context.clone();
        self.stream.enter(&context, &self.shared.options.node, position);
        self.reader.db.set_last_insert_rowid(self.stream.last_insert_rowid);
        let special = self.stream.settings != Settings::default();
        if special {
            self.reader.db.execute_batch(&self.stream.settings.pragmas())?;
        }
        let mut outcomes = Vec::with_capacity(program.steps.len());
        for step in &program.steps {
            let runs =
                step.condition.as_ref().is_none_or(|c| holds(c, &outcomes, self.open.is_none()));
            outcomes.push(match runs.then(|| self.step(&step.statement)) {
                None => StepOutcome::Skipped,
                Some(Ok(result)) => StepOutcome::Done(result),
                Some(Err(error)) if error.kind() == Kind::Storage => return Err(error),
                Some(Err(error)) => StepOutcome::Failed(error),
            });
        }
        if special {
            self.reader.db.execute_batch(&Settings::default().pragmas())?;
        }
        self.stream.leave(&context)?;
        Ok(outcomes)
    }

    fn step(&mut self, statement: &Statement) -> Result<StatementResult> {
        if let Some(control) = text::control(&statement.sql) {
            return self.control(&control);
        }
        if let Some(answer) = self.stream.pragma(&statement.sql, self.open.is_some()) {
            return Ok(answer);
        }
        if let Some(open) = &mut self.open {
            if open.snapshot.is_none() {
                // The snapshot is taken by the first read: note where it stands.
                open.snapshot = Some(self.reader.position()?);
            }
            if open.readonly && !self.reader.client.prepared(&statement.sql)?.readonly {
                return Err(write_in_readonly());
            }
        }
        let limits = &self.shared.options.limits;
        let budget = budget(limits.response_rows, limits.response_bytes, self.time);
        self.reader.client.run(statement, &budget, &self.reader.deadline)
    }

    fn control(&mut self, control: &Control) -> Result<StatementResult> {
        let sql_error = |message: String| Error::invalid("SQLITE_ERROR", message);
        let db = self.reader.db;
        match (control, self.open.is_some()) {
            (Control::Begin(_), true) => {
                return Err(sql_error("cannot start a transaction within a transaction".into()));
            }
            (Control::Begin(begin), false) => {
                db.execute_batch("BEGIN")?;
                let readonly = *begin == Begin::ReadOnly;
                self.open = Some(OpenRead { readonly, ..OpenRead::default() });
            }
            (Control::Commit | Control::Rollback, true) => self.end()?,
            (Control::Commit, false) => {
                return Err(sql_error("cannot commit - no transaction is active".into()));
            }
            (Control::Rollback, false) => {
                return Err(sql_error("cannot rollback - no transaction is active".into()));
            }
            (Control::Savepoint(name), _) => {
                check_name(name)?;
                db.execute_batch(&format!("SAVEPOINT {}", quoted(name)))?;
                self.open.get_or_insert_default().savepoints.push(name.clone());
            }
            (Control::Release(name), _) => {
                db.execute_batch(&format!("RELEASE {}", quoted(name)))?;
                if let Some(open) = &mut self.open {
                    let found = open.savepoints.iter().rposition(|n| n.eq_ignore_ascii_case(name));
                    open.savepoints.truncate(found.unwrap_or(0));
                }
                if db.is_autocommit() {
                    self.end()?;
                }
            }
            (Control::RollbackTo(name), _) => {
                db.execute_batch(&format!("ROLLBACK TO {}", quoted(name)))?;
            }
        }
        Ok(StatementResult::default())
    }

    fn end(&mut self) -> Result<()> {
        self.open = None;
        match self.reader.db.is_autocommit() {
            true => Ok(()),
            false => self.reader.db.execute_batch("ROLLBACK"),
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
