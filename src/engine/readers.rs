//! Reads: a pool of connections to the copy that serves, and a few threads to run them on.
//!
//! A point read takes a few microseconds, and twice as long if another thread has to be woken for it. So a
//! lone statement is begun where it was asked for, even on a thread that must not block: for a millisecond
//! at most, then it starts again on a read thread. Once that has happened (or a page had to come from a
//! slow disk), the next hundred go to the read threads at once.
//!
//! A transaction that reads keeps its connection (and so its snapshot) between requests; whoever picks up
//! the next request gets the connection with it.
//!
//! A thread that has to wait until a client takes the rows of its statement steps aside: another one takes
//! its place, and one too many ends when the wait is over. So slow clients cost threads and connections,
//! as many as transactions may read, and never the turn of others.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::program::{Description, Outcome, Program, Step, StepOutcome};
use super::read_run::ReadRun;
use super::run::budget;
use super::shared::{Shared, lock};
use super::sink::{Outlet, Sink};
use super::stream::Stream;
use crate::change::Position;
use crate::error::{Error, Result};
use crate::store::sqlite::text::{self, Begin, Control};
use crate::store::sqlite::{Budget, Reader};

/// Transactions that may read (and statements that may wait for their clients) at the same time, each
/// with a connection of its own.
const OPEN: usize = 256;
/// Idle connections that are kept.
const IDLE: usize = 16;

/// How long a read may keep a thread that must not block.
const BRIEF: Duration = Duration::from_millis(1);
/// Bytes of rows that are held back meanwhile, of a read whose client takes them as they come.
const FEW: usize = 32 << 10;
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
    /// From its first request on.
    pub seat: Option<Seat>,
}

/// One of the open transactions.
pub(crate) struct Seat(Arc<Pool>);

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.0.inner).open -= 1;
    }
}

/// A read thread that stepped aside, until it is back.
pub(super) struct Aside(Seat);

impl Drop for Aside {
    fn drop(&mut self) {
        lock(&self.0.0.inner).surplus += 1;
        self.0.0.arrived.notify_one();
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
    threads: Vec<JoinHandle<()>>,
    /// So many threads are to end.
    surplus: usize,
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
    pub fn start(shared: Arc<Shared>) -> std::io::Result<Readers> {
        let inner = Mutex::new(Inner::default());
        let (arrived, limit) = (Condvar::new(), shared.options.limits.queue);
        let pool = Arc::new(Pool { inner, arrived, limit, long: AtomicU32::new(0) });
        let readers = Readers { pool, shared };
        let count = readers.shared.options.readers.max(1);
        (0..count).try_for_each(|_| readers.one_more(&mut lock(&readers.pool.inner)))?;
        Ok(readers)
    }

    fn one_more(&self, inner: &mut Inner) -> std::io::Result<()> {
        let readers = self.clone();
        let thread = std::thread::Builder::new().name("syncline-reader".into());
        let thread = thread.spawn(move || readers.work())?;
        inner.threads.retain(|thread| !thread.is_finished());
        inner.threads.push(thread);
        Ok(())
    }

    /// Puts another thread in the place of the calling one, which will wait for a client.
    pub(super) fn step_aside(&self) -> Result<Aside> {
        let seat = self.seat()?;
        let mut inner = lock(&self.pool.inner);
        if inner.closed {
            return Err(closing());
        }
        self.one_more(&mut inner).map_err(|error| busy().source(error))?;
        drop(inner);
        Ok(Aside(seat))
    }

    /// How long a statement waits for its client.
    pub(super) fn patience(&self) -> Duration {
        self.shared.options.limits.idle_transaction
    }

    /// Whether the threads are to end.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.pool.inner).closed
    }

    fn work(&self) {
        loop {
            let mut inner = lock(&self.pool.inner);
            let work = loop {
                if inner.surplus > 0 {
                    inner.surplus -= 1;
                    return;
                }
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

    /// Lets the threads finish what waits, and waits for their end.
    pub fn close(&self) {
        let threads = {
            let mut inner = lock(&self.pool.inner);
            inner.closed = true;
            inner.idle.clear();
            std::mem::take(&mut inner.threads)
        };
        self.pool.arrived.notify_all();
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Readers) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (reply, answer) = oneshot::channel();
        let mut inner = lock(&self.pool.inner);
        if inner.closed || inner.work.len() >= self.pool.limit {
            return Err(busy());
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

    /// Runs a program that seems to read only on a read thread; gives it back with what came of it,
    /// unless a sink got that.
    pub fn run(
        &self,
        program: Program,
        stream: Stream,
        transaction: Option<Box<ReadTransaction>>,
        sink: Option<Box<dyn Sink>>,
    ) -> Result<oneshot::Receiver<Result<(Program, Read)>>> {
        self.submit(move |readers| {
            let outlet = sink.map(|sink| Outlet::new(sink, readers.clone()));
            let read = readers.read(&program, stream, transaction, readers.budget(), outlet)?;
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
        self.read(program, stream, transaction, self.budget(), None)
    }

    /// What a statement may use, from its beginning on.
    fn budget(&self) -> Budget {
        let limits = &self.shared.options.limits;
        budget(limits.response_rows, limits.response_bytes, limits.statement)
    }

    /// The same on a thread that must not block; none if that takes too long, or gives more than a `few`
    /// rows where only those are wanted.
    pub fn run_briefly(
        &self,
        program: &Program,
        stream: &Stream,
        few: bool,
    ) -> Option<Result<Read>> {
        let [step] = program.steps.as_slice() else { return None };
        let sql = &step.statement.sql;
        let idle = !lock(&self.pool.inner).idle.is_empty();
        if !idle || text::control(sql).is_some() || self.one_of_the_long_ones() {
            return None;
        }
        let (began, limit) = (Instant::now(), self.shared.options.limits.statement);
        let mut budget = Budget { time: Some(limit.min(BRIEF)), ..self.budget() };
        if few {
            budget.bytes = budget.bytes.min(FEW);
        }
        let read = self.read(program, stream.clone(), None, budget, None);
        if began.elapsed() >= BRIEF {
            self.pool.long.store(AFTER_LONG, Ordering::Relaxed);
        }
        let failed = |code| matches!(&read, Ok(read) if read.failed_with(code));
        let too_long = limit > BRIEF && failed("STATEMENT_TIMEOUT");
        let too_much = few && failed("RESPONSE_TOO_LARGE");
        (!too_long && !too_much).then_some(read)
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
        budget: Budget,
        outlet: Option<Outlet>,
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
        let shared = &self.shared;
        let mut run = ReadRun { shared, reader: &mut reader, stream, open, budget, outlet };
        let steps = run.program(program);
        let (stream, open, outlet) = (run.stream, run.open, run.outlet);
        let collected = |steps| if outlet.is_none() { steps } else { Vec::new() };
        let outcome = Outcome { steps: steps.map(collected)?, receipt: None };
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

fn busy() -> Error {
    Error::retry("READERS_BUSY", "too many reads wait already")
        .hint("send fewer at once, or ask another node")
}

/// The error of what the database's end came before.
pub(super) fn closing() -> Error {
    Error::unavailable("CLOSING", "this node is shutting down").hint("send it to another node")
}

impl Read {
    /// Whether its only statement did.
    fn failed_with(&self, code: &str) -> bool {
        let Some((outcome, _)) = &self.ran else { return false };
        matches!(&outcome.steps[..], [StepOutcome::Failed(error)] if error.code() == code)
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
