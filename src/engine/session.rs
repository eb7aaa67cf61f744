//! A client's stream: where its programs run, and what it remembers between them.
//!
//! ```text
//!            ┌─ reads only ───────────► read threads (a transaction keeps its connection)
//! program ───┤
//!            └─ writes, or may ───────► the writer (a transaction keeps it)
//! ```
//!
//! From its first BEGIN that is not READONLY, or its first write, a transaction of a node that is not
//! the writer belongs to the writer: such a program is refused with `NOT_WRITER` before anything of it
//! has run, and the server above forwards it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::database::Database;
use super::inbox::{Job, JobOptions, Ran};
use super::options::Role;
use super::program::{Condition, Description, Outcome, Program, Statement, Step};
use super::read_options::ReadOptions;
use super::readers::{Read, ReadTransaction, closing};
use super::sink::Sink;
use super::stream::Stream;
use crate::acknowledge::Level;
use crate::change::{Position, RequestId};
use crate::error::{Error, Kind, Result};
use crate::store::sqlite::Arguments;
use crate::store::sqlite::text::{self, Begin, Control};

/// Options of one request, from headers or from SQL functions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestOptions {
    /// What reads ask for.
    pub read: ReadOptions,
    /// Raised or lowered for this write.
    pub acknowledge: Option<Level>,
    /// How long the caller waits at most.
    pub timeout: Option<Duration>,
    /// The id the client brought for this write.
    pub request: Option<RequestId>,
}

/// The stream's open transaction.
enum Open {
    /// A mutex only because a connection may not be looked at by two threads, and a session may.
    Reading(Mutex<Box<ReadTransaction>>),
    Writing(u64),
}

/// A client's stream. Dropping it rolls its transaction back and frees the writer.
pub struct Session {
    database: Database,
    stream: Stream,
    open: Option<Open>,
    may_block: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(Open::Writing(id)) = self.open
            && let Ok(inbox) = self.database.inbox()
        {
            inbox.abandon(id);
        }
    }
}

/// Where a program has to run, as far as its text tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    Readers,
    Writer,
}

fn destination(program: &Program) -> Destination {
    let reads = |step: &Step| {
        let sql = &step.statement.sql;
        match text::control(sql) {
            Some(Control::Begin(begin)) => begin != Begin::Immediate,
            Some(_) => true,
            None => {
                let reads = ["SELECT", "VALUES", "EXPLAIN", "WITH", "PRAGMA"];
                text::begins_with(sql, &reads) || text::is_empty(sql)
            }
        }
    };
    if program.steps.iter().all(reads) { Destination::Readers } else { Destination::Writer }
}

/// Whether a program begins a transaction that may write later.
fn may_write(program: &Program) -> bool {
    program.steps.iter().any(|step| {
        matches!(
            text::control(&step.statement.sql),
            Some(Control::Begin(Begin::Deferred | Begin::Immediate) | Control::Savepoint(_))
        )
    })
}

fn unlocked<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(|e| e.into_inner())
}

impl Session {
    pub(crate) fn new(database: Database) -> Session {
        Session { database, stream: Stream::default(), open: None, may_block: false }
    }

    /// Lets SQL run on the caller's thread where nothing speaks against it: for threads that may block, as
    /// an asynchronous runtime's may not. A lone caller is spared the switches between threads.
    pub fn blocking(mut self) -> Session {
        self.may_block = true;
        self
    }

    /// Runs a program. On a node that is not the writer, a program that writes (or opens a
    /// transaction that may) is refused with `NOT_WRITER` before anything of it has run: forward it.
    pub async fn run(&mut self, program: Program, options: &RequestOptions) -> Result<Outcome> {
        self.run_into(program, options, None).await
    }

    /// Runs a program. If it reads, and gives more than a few rows, `sink` gets how its steps go, while
    /// they still run; else all of it is in the outcome.
    pub async fn run_into(
        &mut self,
        program: Program,
        options: &RequestOptions,
        sink: Option<Box<dyn Sink>>,
    ) -> Result<Outcome> {
        match &self.open {
            Some(Open::Writing(id)) => {
                let id = *id;
                self.write(program, options, Some(id)).await
            }
            Some(Open::Reading(_)) => self.read(program, options, sink).await,
            None if destination(&program) == Destination::Writer => {
                self.write(program, options, None).await
            }
            None => self.read(program, options, sink).await,
        }
    }

    async fn read(
        &mut self,
        program: Program,
        options: &RequestOptions,
        sink: Option<Box<dyn Sink>>,
    ) -> Result<Outcome> {
        let asked = self.read_options(options)?;
        let writer = self.database.role() == Role::Writer;
        if !writer && (asked.writer || asked.linearizable || may_write(&program)) {
            return Err(self.not_writer());
        }
        if self.open.is_none() {
            self.prepare_read(&asked, options).await?;
        }
        let transaction = match self.open.take() {
            Some(Open::Reading(transaction)) => Some(unlocked(transaction)),
            other => {
                self.open = other;
                None
            }
        };
        let (program, read) = self.read_somewhere(program, transaction, sink).await?;
        self.open = read.transaction.map(|t| Open::Reading(Mutex::new(t)));
        match read.ran {
            Some((outcome, stream)) => {
                self.stream = stream;
                Ok(outcome)
            }
            None => self.write(program, options, None).await,
        }
    }

    async fn read_somewhere(
        &self,
        program: Program,
        transaction: Option<Box<ReadTransaction>>,
        sink: Option<Box<dyn Sink>>,
    ) -> Result<(Program, Read)> {
        let readers = self.database.readers();
        if self.may_block && sink.is_none() {
            let read = readers.run_here(&program, self.stream.clone(), transaction)?;
            return Ok((program, read));
        }
        if transaction.is_none()
            && let Some(read) = readers.run_briefly(&program, &self.stream, sink.is_some())
        {
            return Ok((program, read?));
        }
        readers
            .run(program, self.stream.clone(), transaction, sink)?
            .await
            .map_err(|_| closing())?
    }

    /// Options of the request, then those that the stream was given by `syncline_read('…')`.
    fn read_options(&self, options: &RequestOptions) -> Result<ReadOptions> {
        match (&self.stream.read, options.read == ReadOptions::default()) {
            (Some(text), true) => text.parse(),
            _ => Ok(options.read.clone()),
        }
    }

    async fn prepare_read(&self, asked: &ReadOptions, options: &RequestOptions) -> Result<()> {
        if let Some(receipt) = asked.after {
            let within = options.timeout.unwrap_or(self.database.options().limits.busy_timeout);
            self.database.reached(receipt, within).await?;
        }
        if let Some(limit) = asked.max_stale {
            let stale = self.database.stale();
            if stale > limit {
                let message = format!("this copy may be {} ms old", stale.as_millis());
                return Err(Error::new(Kind::Behind, "STALE", message)
                    .hint("ask for more staleness, another node, or Syncline-Read: writer"));
            }
        }
        if asked.linearizable {
            self.database.confirm().await?;
        }
        Ok(())
    }

    fn not_writer(&self) -> Error {
        let writer = self.database.writer_url().unwrap_or_else(|| "unknown".into());
        Error::new(
            Kind::Retry,
            "NOT_WRITER",
            format!("this node is a reader; the writer is {writer}"),
        )
        .hint("send writes there; the HTTP interface forwards them by itself")
    }

    async fn write(
        &mut self,
        program: Program,
        options: &RequestOptions,
        transaction: Option<u64>,
    ) -> Result<Outcome> {
        if self.database.role() != Role::Writer {
            return Err(self.not_writer());
        }
        check_request(&program, options)?;
        let (program, snapshot, passed) = self.take_over_reading(program)?;
        let deadline = options.timeout.unwrap_or(self.database.options().limits.busy_timeout);
        let level = options.acknowledge.or(self.stream.acknowledge);
        let level = level.unwrap_or(self.database.options().acknowledge);
        check_level(level)?;
        let options = JobOptions {
            level,
            request: options.request.clone(),
            deadline: Instant::now() + deadline,
        };
        let stream = self.stream.clone();
        let (job, answer) = Job::new(program, stream, options, transaction, snapshot);
        let inbox = self.database.inbox()?;
        if self.may_block { inbox.run_here(job) } else { inbox.run(job) }?;
        let ran = answer.await.map_err(|_| closing())?.ran;
        if let Err(error) = &ran
            && error.code() == "TRANSACTION_TIMEOUT"
        {
            self.open = None;
        }
        let Ran { mut outcome, stream, transaction } = ran?;
        outcome.steps.drain(..passed);
        self.stream = stream;
        self.open = transaction.map(Open::Writing);
        Ok(outcome)
    }

    /// A transaction that has read so far goes on at the writer: the same savepoints, and only if
    /// nothing was committed since its snapshot. Gives how many steps were put in front.
    #[allow(clippy::type_complexity)]
    fn take_over_reading(
        &mut self,
        mut program: Program,
    ) -> Result<(Program, Option<Option<Position>>, usize)> {
        let Some(Open::Reading(open)) = &mut self.open else { return Ok((program, None, 0)) };
        let open = open.get_mut().unwrap_or_else(|e| e.into_inner());
        let savepoints = open.open.savepoints.iter();
        let mut steps = vec![unconditional("BEGIN IMMEDIATE")];
        steps
            .extend(savepoints.map(|name| {
                unconditional(&format!("SAVEPOINT \"{}\"", name.replace('"', "\"\"")))
            }));
        let passed = steps.len();
        for step in &mut program.steps {
            if let Some(condition) = &mut step.condition {
                shift(condition, passed);
            }
        }
        steps.append(&mut program.steps);
        Ok((Program { steps }, Some(open.open.snapshot), passed))
    }

    /// Runs a text of several statements, stopping at the first that fails.
    pub async fn sequence(&mut self, sql: &str, options: &RequestOptions) -> Result<Outcome> {
        let steps = text::split(sql).into_iter().enumerate().map(|(i, sql)| Step {
            condition: i.checked_sub(1).map(Condition::Ok),
            statement: Statement { sql: sql.into(), arguments: Arguments::None, want_rows: false },
        });
        self.run(Program { steps: steps.collect() }, options).await
    }

    /// What is known of a statement without running it.
    pub async fn describe(&mut self, sql: &str) -> Result<Description> {
        let sql: Arc<str> = sql.into();
        let answer = self.database.readers().describe(sql)?;
        answer.await.map_err(|_| closing())?
    }

    /// The statements that give a new stream this one's settings and options (none, if they are the
    /// default ones): run first where a forwarded stream goes on.
    pub fn settings(&self) -> Vec<String> {
        let mut statements = Vec::new();
        if !self.stream.is_ordinary() {
            let pragmas = self.stream.settings.pragmas();
            statements.extend(pragmas.split("; ").map(str::to_owned));
            if self.stream.defer_next {
                statements.push("PRAGMA defer_foreign_keys = ON".into());
            }
        }
        if let Some(level) = self.stream.acknowledge {
            statements.push(format!("SELECT syncline_acknowledge('{level}')"));
        }
        statements
    }

    /// Whether the stream is in no transaction.
    pub fn is_autocommit(&self) -> bool {
        self.open.is_none()
    }

    /// The receipt of the stream's last write.
    pub fn receipt(&self) -> Option<Position> {
        self.stream.receipt
    }
}

fn unconditional(sql: &str) -> Step {
    Step { statement: Statement::new(sql, []), condition: None }
}

/// Makes a condition count the steps that were put in front.
fn shift(condition: &mut Condition, by: usize) {
    match condition {
        Condition::Ok(step) | Condition::Error(step) => *step += by,
        Condition::Not(not) => shift(not, by),
        Condition::And(all) | Condition::Or(all) => all.iter_mut().for_each(|c| shift(c, by)),
        Condition::IsAutocommit => {}
    }
}

/// A write that brings its own id must be one transaction: its id is kept in it.
fn check_request(program: &Program, options: &RequestOptions) -> Result<()> {
    let begins =
        |step: &Step| matches!(text::control(&step.statement.sql), Some(Control::Begin(_)));
    if options.request.is_some() && program.steps.len() > 1 && !program.steps.iter().any(begins) {
        return Err(Error::invalid(
            "IDEMPOTENCY_NEEDS_TRANSACTION",
            "a batch with an Idempotency-Key must be one transaction",
        )
        .hint("put BEGIN in front of its statements and COMMIT behind them"));
    }
    Ok(())
}

fn check_level(level: Level) -> Result<()> {
    match level {
        Level::Memory | Level::Disk => Ok(()),
        _ => Err(Error::invalid(
            "ACKNOWLEDGE_UNAVAILABLE",
            format!("this database has no followers, so nothing can be acknowledged at {level}"),
        )
        .hint("write memory or disk")),
    }
}
