//! Reads: a few threads, each run on a connection of its own to the copy that serves.
//!
//! SQLite never runs on the runtime's threads. A transaction that reads keeps its connection (and so
//! its snapshot) between requests; whoever picks up the next request gets the connection with it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

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

/// A transaction that only reads, so far.
pub(crate) struct ReadTransaction {
    reader: Reader,
    generation: u64,
    /// BEGIN TRANSACTION READONLY: it may never write.
    pub readonly: bool,
    /// Where its snapshot stands; none until its first read.
    pub snapshot: Option<Position>,
    /// The client's open savepoints.
    pub savepoints: Vec<String>,
    _place: Seat,
}

/// One of the open transactions.
struct Seat(Arc<Pool>);

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.0.inner).open -= 1;
    }
}

/// What came of a program that was taken for reads.
pub(crate) enum Read {
    Ran {
        outcome: Outcome,
        stream: Stream,
        transaction: Option<Box<ReadTransaction>>,
    },
    /// It writes: nothing of it has run.
    Writes {
        program: Program,
        transaction: Option<Box<ReadTransaction>>,
    },
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
        let pool =
            Arc::new(Pool { inner, arrived: Condvar::new(), limit: shared.options.limits.queue });
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
        Ok((place.generation, place.open()?))
    }

    /// Gives a connection back.
    pub fn checkin(&self, generation: u64, reader: Reader) {
        let current = self.shared.place().is_ok_and(|place| place.generation == generation);
        let mut inner = lock(&self.pool.inner);
        if current && !inner.closed && inner.idle.len() < IDLE && reader.db.is_autocommit() {
            inner.idle.push((generation, reader));
        }
    }

    /// Runs a program that seems to read only.
    pub fn run(
        &self,
        program: Program,
        stream: Stream,
        transaction: Option<Box<ReadTransaction>>,
    ) -> Result<oneshot::Receiver<Result<Read>>> {
        self.submit(move |readers| readers.read(program, stream, transaction))
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

    /// The same on the caller's thread.
    pub fn read(
        &self,
        program: Program,
        stream: Stream,
        transaction: Option<Box<ReadTransaction>>,
    ) -> Result<Read> {
        let (generation, mut reader, rest) = match transaction {
            Some(open) => {
                let ReadTransaction { reader, generation, readonly, snapshot, savepoints, _place } =
                    *open;
                (generation, reader, Some((readonly, snapshot, savepoints, _place)))
            }
            None => {
                let (generation, reader) = self.checkout()?;
                (generation, reader, None)
            }
        };
        let readonly = rest.as_ref().is_some_and(|(readonly, ..)| *readonly);
        let writes = program.steps.iter().any(|step| writes(&mut reader, step));
        let back = |readers: &Readers,
                    reader: Reader,
                    rest: Option<(bool, Option<Position>, Vec<String>, Seat)>| {
            match rest {
                Some((readonly, snapshot, savepoints, _place)) => Some(Box::new(ReadTransaction {
                    reader,
                    generation,
                    readonly,
                    snapshot,
                    savepoints,
                    _place,
                })),
                None => {
                    readers.checkin(generation, reader);
                    None
                }
            }
        };
        if writes && !readonly {
            return Ok(Read::Writes { program, transaction: back(self, reader, rest) });
        }
        let mut run = ReadRun {
            shared: &self.shared,
            reader: &mut reader,
            stream,
            open: rest.is_some(),
            readonly,
            snapshot: rest.as_ref().and_then(|(_, snapshot, ..)| *snapshot),
            savepoints: rest
                .as_ref()
                .map(|(_, _, savepoints, _)| savepoints.clone())
                .unwrap_or_default(),
        };
        let ran = run.program(&program);
        let (stream, open, readonly) = (run.stream, run.open, run.readonly);
        let (snapshot, savepoints) = (run.snapshot, run.savepoints);
        let steps = ran?;
        let transaction = match (open, rest) {
            (true, Some((.., seat))) => {
                back(self, reader, Some((readonly, snapshot, savepoints, seat)))
            }
            (true, None) => {
                back(self, reader, Some((readonly, snapshot, savepoints, self.seat()?)))
            }
            (false, _) => back(self, reader, None),
        };
        Ok(Read::Ran { outcome: Outcome { steps, receipt: None }, stream, transaction })
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
    open: bool,
    readonly: bool,
    snapshot: Option<Position>,
    savepoints: Vec<String>,
}

impl ReadRun<'_> {
    fn program(&mut self, program: &Program) -> Result<Vec<StepOutcome>> {
        let position = self.snapshot.unwrap_or_else(|| self.shared.position());
        let context = self.reader.context.clone();
        self.stream.enter(&context, &self.shared.options.node, position);
        self.reader.db.set_last_insert_rowid(self.stream.last_insert_rowid);
        let special = self.stream.settings != Settings::default();
        if special {
            self.reader.db.execute_batch(&self.stream.settings.pragmas())?;
        }
        let mut outcomes = Vec::with_capacity(program.steps.len());
        for step in &program.steps {
            let runs = step.condition.as_ref().is_none_or(|c| holds(c, &outcomes, !self.open));
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
        if let Some(answer) = self.stream.pragma(&statement.sql, self.open) {
            return Ok(answer);
        }
        if self.open && self.snapshot.is_none() {
            // The snapshot is taken by the first read: note where it stands.
            self.snapshot = Some(self.reader.position()?);
        }
        if self.readonly && !self.reader.client.prepared(&statement.sql)?.readonly {
            return Err(write_in_readonly());
        }
        let limits = &self.shared.options.limits;
        let budget = budget(limits.response_rows, limits.response_bytes, limits.statement);
        self.reader.client.run(statement, &budget, &self.reader.deadline)
    }

    fn control(&mut self, control: &Control) -> Result<StatementResult> {
        let sql_error = |message: String| Error::invalid("SQLITE_ERROR", message);
        let db = self.reader.db;
        match (control, self.open) {
            (Control::Begin(_), true) => {
                return Err(sql_error("cannot start a transaction within a transaction".into()));
            }
            (Control::Begin(begin), false) => {
                db.execute_batch("BEGIN")?;
                self.readonly = *begin == Begin::ReadOnly;
                self.open = true;
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
                self.open = true;
                self.savepoints.push(name.clone());
            }
            (Control::Release(name), _) => {
                db.execute_batch(&format!("RELEASE {}", quoted(name)))?;
                let found = self.savepoints.iter().rposition(|n| n.eq_ignore_ascii_case(name));
                self.savepoints.truncate(found.unwrap_or(0));
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
        if !self.reader.db.is_autocommit() {
            self.reader.db.execute_batch("ROLLBACK")?;
        }
        self.open = false;
        self.readonly = false;
        self.snapshot = None;
        self.savepoints.clear();
        Ok(())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
