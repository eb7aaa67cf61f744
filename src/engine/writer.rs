//! The writer's thread: one inbox, groups of programs, and one interactive transaction at a time.
//!
//! ```text
//! sessions ──► inbox ──► group ──► answers           all that waits together shares one sync
//!                 │
//!                 └────► interactive transaction     alone; the others wait up to busy_timeout
//! ```

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::answers::{self, Answers};
use super::core::Core;
use super::group::{self, Member};
use super::program::{Outcome, Program};
use super::run::{Interrupt, Mode, Runner, Transaction};
use super::shared::Shared;
use super::stream::Stream;
use crate::acknowledge::Level;
use crate::change::{Position, RequestId};
use crate::error::{Error, Kind, Result};
use crate::store::sqlite::text::{self, Control};

/// How long the thread looks for more work before it sleeps.
const SPIN: Duration = Duration::from_micros(30);
/// A group takes no more programs than this.
const GROUP: usize = 1024;

/// What a program runs under.
#[derive(Debug, Clone)]
pub(crate) struct JobOptions {
    pub level: Level,
    pub request: Option<RequestId>,
    /// If it has not begun by then, it is refused.
    pub deadline: Instant,
}

/// A program that ran.
pub(crate) struct Ran {
    pub outcome: Outcome,
    pub stream: Stream,
    /// The transaction that it left open.
    pub transaction: Option<u64>,
}

pub(crate) type Reply = oneshot::Sender<Result<Ran>>;

/// A program and whoever waits for it.
pub(crate) struct Job {
    pub program: Program,
    pub stream: Stream,
    pub options: JobOptions,
    /// The open transaction that it belongs to.
    pub transaction: Option<u64>,
    /// A transaction that began by reading: it may write only if nothing was committed since.
    pub snapshot: Option<Option<Position>>,
    pub reply: Reply,
}

/// Work of the node itself, done between groups.
pub(crate) type Errand = Box<dyn FnOnce(&mut Core) + Send>;

pub(crate) enum Message {
    Run(Box<Job>),
    /// The stream of this transaction is gone.
    Abandon(u64),
    Errand(Errand),
    /// An errand that can wait: no client's transaction is cut short for it.
    Chore(Errand),
    Close,
}

/// The inbox, with its bound.
#[derive(Clone)]
pub(crate) struct Inbox {
    sender: Sender<Message>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

fn closed() -> Error {
    Error::unavailable("CLOSING", "this node is shutting down")
        .hint("send the write to another node")
}

impl Inbox {
    /// Sends a program to the writer; refused with `WRITER_BUSY` if too many wait.
    pub fn run(&self, job: Job) -> Result<()> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::retry("WRITER_BUSY", "too many writes wait already")
                .hint("send fewer at once, or raise limits.queue"));
        }
        self.sender.send(Message::Run(Box::new(job))).map_err(|_| closed())
    }

    /// Gives up an open transaction.
    pub fn abandon(&self, transaction: u64) {
        let _ = self.sender.send(Message::Abandon(transaction));
    }

    /// Runs an errand between groups, and gives what it gave.
    pub fn errand<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        self.send(work, Message::Errand)
    }

    /// The same for work that can wait until clients' transactions are over.
    pub fn chore<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        self.send(work, Message::Chore)
    }

    fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> Result<T> + Send + 'static,
        message: fn(Errand) -> Message,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (reply, answer) = oneshot::channel();
        let errand = Box::new(move |core: &mut Core| {
            let _ = reply.send(work(core));
        });
        self.sender.send(message(errand)).map_err(|_| closed())?;
        Ok(answer)
    }

    pub fn close(&self) {
        let _ = self.sender.send(Message::Close);
    }
}

/// Starts the writer's thread.
pub(crate) fn start(core: Core) -> std::io::Result<(Inbox, JoinHandle<()>)> {
    let (sender, receiver) = channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let limit = core.shared.options.limits.queue;
    let inbox = Inbox { sender, waiting: waiting.clone(), limit };
    let name = format!("syncline-writer-{}", core.shared.options.name);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let shared = core.shared.clone();
        let writer = Writer {
            core,
            receiver,
            waiting,
            queue: VecDeque::new(),
            errands: VecDeque::new(),
            chores: VecDeque::new(),
            open: None,
            transactions: 0,
            worked: Instant::now(),
            renewed: Instant::now(),
            flushed: Instant::now(),
        };
        // A panic on the log's path leaves a state nobody knows: the process stops.
        let run = std::panic::AssertUnwindSafe(|| writer.run());
        if std::panic::catch_unwind(run).is_err() {
            shared.stop(5, "the writer's thread panicked; a restart recovers");
        }
    })?;
    Ok((inbox, thread))
}

/// The interactive transaction that has the writer.
struct Open {
    id: u64,
    transaction: Transaction,
    level: Level,
    began: Instant,
    used: Instant,
}

struct Writer {
    core: Core,
    receiver: Receiver<Message>,
    waiting: Arc<AtomicUsize>,
    /// What waits for the writer, in order of arrival.
    queue: VecDeque<Job>,
    errands: VecDeque<Errand>,
    chores: VecDeque<Errand>,
    open: Option<Open>,
    transactions: u64,
    worked: Instant,
    renewed: Instant,
    flushed: Instant,
}

impl Writer {
    fn run(mut self) {
        loop {
            if !self.receive() {
                break;
            }
            self.expire();
            if self.open.is_none() {
                self.errands.append(&mut self.chores);
                while let Some(errand) = self.errands.pop_front() {
                    errand(&mut self.core);
                }
                self.work();
            }
            self.keep_up();
        }
        self.abandon_open();
        let _ = self.core.flush_now();
        self.refuse_all(closed);
    }

    fn shared(&self) -> &Shared {
        &self.core.shared
    }

    /// Takes in what has arrived, waiting for the first if there is nothing to do; false at the end.
    fn receive(&mut self) -> bool {
        let idle = self.open.is_some() || self.queue.is_empty();
        if idle {
            match self.first() {
                Ok(message) => {
                    if !self.take(message) {
                        return false;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        while let Ok(message) = self.receiver.try_recv() {
            if !self.take(message) {
                return false;
            }
        }
        true
    }

    /// The next message. A client that was just answered often writes again at once: looking for that
    /// a moment costs less than being put to sleep and woken.
    fn first(&self) -> Result<Message, RecvTimeoutError> {
        while self.worked.elapsed() < SPIN {
            if let Ok(message) = self.receiver.try_recv() {
                return Ok(message);
            }
            std::hint::spin_loop();
        }
        self.receiver.recv_timeout(self.patience())
    }

    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Run(job) if job.transaction.is_some() => self.continue_open(*job),
            Message::Run(job) => self.queue.push_back(*job),
            Message::Abandon(id) => {
                if self.open.as_ref().is_some_and(|open| open.id == id) {
                    self.abandon_open();
                }
            }
            Message::Errand(errand) => self.errands.push_back(errand),
            Message::Chore(errand) => self.chores.push_back(errand),
            Message::Close => return false,
        }
        true
    }

    /// How long nothing has to be done.
    fn patience(&self) -> Duration {
        let next = match &self.open {
            // The lease and what is not flushed have to wait for it.
            Some(open) => {
                let deadlines = self.queue.iter().map(|job| job.options.deadline);
                deadlines.fold(self.expires(open), Instant::min)
            }
            None => self.due(),
        };
        next.saturating_duration_since(Instant::now())
    }

    /// When the lease has to be renewed, or something flushed.
    fn due(&self) -> Instant {
        let options = &self.shared().options;
        let renew = self.renewed + options.lease / 3;
        match self.core.unflushed {
            true => renew.min(self.flushed + options.flush_every),
            false => renew,
        }
    }

    fn expires(&self, open: &Open) -> Instant {
        let limits = &self.shared().options.limits;
        let idle = match self.queue.is_empty() && self.errands.is_empty() {
            true => limits.idle_transaction,
            false => limits.contended_idle_transaction,
        };
        (open.used + idle).min(open.began + limits.total_transaction)
    }

    fn expire(&mut self) {
        let now = Instant::now();
        if self.open.as_ref().is_some_and(|open| now >= self.expires(open)) {
            self.abandon_open();
        }
        if !self.queue.iter().any(|job| job.options.deadline <= now) {
            return;
        }
        let late: VecDeque<_> = {
            let all = std::mem::take(&mut self.queue);
            let (late, rest): (VecDeque<_>, VecDeque<_>) =
                all.into_iter().partition(|job| job.options.deadline <= now);
            self.queue = rest;
            late
        };
        for job in late {
            self.answer(job.reply, Err(busy()));
        }
    }

    fn answer(&self, reply: Reply, answer: Result<Ran>) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let _ = reply.send(answer);
    }

    fn refuse_all(&mut self, error: fn() -> Error) {
        for job in std::mem::take(&mut self.queue) {
            self.answer(job.reply, Err(error()));
        }
        while let Ok(message) = self.receiver.try_recv() {
            if let Message::Run(job) = message {
                self.answer(job.reply, Err(error()));
            }
        }
    }

    /// Works off what waits: groups, and whatever runs alone.
    fn work(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        while self.open.is_none() && !self.queue.is_empty() {
            let mut members = Vec::new();
            while members.len() < GROUP && self.queue.front().is_some_and(is_groupable) {
                members.push(self.queue.pop_front().expect("looked at"));
            }
            match members.is_empty() {
                true => {
                    let job = self.queue.pop_front().expect("not empty");
                    self.run_alone(job);
                }
                false => self.run_group(members),
            }
        }
        self.worked = Instant::now();
    }

    fn run_group(&mut self, jobs: Vec<Job>) {
        let mut members = Vec::with_capacity(jobs.len());
        let mut requests = HashSet::new();
        for job in jobs {
            if let Some(id) = &job.options.request
                && !requests.insert(id.clone())
            {
                // The same write twice: the second hears what the first is answered.
                self.queue.push_front(job);
                continue;
            }
            match self.answered_before(&job) {
                None => members.push(Member::new(job)),
                Some(answer) => self.answer(job.reply, answer),
            }
        }
        let finished = group::run(&mut self.core, members);
        for (job, answer) in finished.answers {
            self.answer(job.reply, answer);
        }
        for job in finished.alone {
            self.run_alone(job);
        }
    }

    /// A retry of a write that brought its id hears what the first try was answered.
    fn answered_before(&mut self, job: &Job) -> Option<Result<Ran>> {
        let id = job.options.request.as_ref()?;
        let (version, response) = match self.core.store.answered(id) {
            Ok(found) => found?,
            Err(error) => return Some(Err(error)),
        };
        let ran = answers::decode(&response, job.program.steps.len()).and_then(|steps| {
            let receipt = self.core.store.position_at(version)?;
            let mut stream = job.stream.clone();
            stream.receipt = receipt.or(stream.receipt);
            Ok(Ran { outcome: Outcome { steps, receipt }, stream, transaction: None })
        });
        Some(ran)
    }

    /// Runs a program alone; if it leaves a transaction open, the transaction keeps the writer.
    fn run_alone(&mut self, job: Job) {
        if self.open.is_some() {
            self.queue.push_back(job);
            return;
        }
        if let Some(answer) = self.answered_before(&job) {
            return self.answer(job.reply, answer);
        }
        if let Some(snapshot) = job.snapshot
            && snapshot.is_some_and(|seen| seen.chain != self.core.store.position().chain)
        {
            return self.answer(job.reply, Err(stale_snapshot()));
        }
        self.run_in(job, None);
    }

    /// Goes on with the open transaction.
    fn continue_open(&mut self, job: Job) {
        match self.open.take() {
            Some(open) if Some(open.id) == job.transaction => self.run_in(job, Some(open)),
            other => {
                self.open = other;
                self.answer(job.reply, Err(transaction_gone()));
            }
        }
    }

    fn run_in(&mut self, job: Job, open: Option<Open>) {
        let Job { program, mut stream, options, reply, .. } = job;
        let (id, began, level) = match &open {
            Some(open) => (open.id, open.began, open.level),
            None => {
                self.transactions += 1;
                (self.transactions, Instant::now(), options.level)
            }
        };
        let mut transaction = open.map(|open| open.transaction);
        let mut runner = Runner {
            core: &mut self.core,
            stream: &mut stream,
            transaction: &mut transaction,
            mode: Mode::Alone,
            level,
            request: options.request.as_ref(),
            receipt: None,
            units: 0,
            answers: Answers::default(),
        };
        let ran = runner.program(&program);
        let receipt = runner.receipt;
        if transaction.is_none() {
            self.back_to_ordinary();
        }
        let answer = match ran {
            Ok(steps) => {
                let outcome = Outcome { steps, receipt };
                Ok(Ran { outcome, stream, transaction: transaction.is_some().then_some(id) })
            }
            Err(interrupt) => {
                transaction = None;
                Err(self.stopped_by(interrupt))
            }
        };
        self.open = transaction.map(|transaction| Open {
            id,
            transaction,
            level,
            began,
            used: Instant::now(),
        });
        self.answer(reply, answer);
    }

    fn back_to_ordinary(&mut self) {
        if let Err(error) = self.core.set_stream(super::stream::Settings::default()) {
            self.shared().storage_failed(&error);
        }
    }

    fn stopped_by(&mut self, interrupt: Interrupt) -> Error {
        let _ = self.core.store.rollback();
        match interrupt {
            Interrupt::Stop(error) | Interrupt::Lost(error) => {
                self.shared().storage_failed(&error);
                super::shared::outcome_unknown(&error)
            }
            Interrupt::Savepoints => {
                Error::invalid("SQLITE_INTERNAL", "a lone program asked for savepoints")
            }
        }
    }

    fn abandon_open(&mut self) {
        if self.open.take().is_some() {
            if let Err(error) = self.core.store.rollback() {
                self.shared().storage_failed(&error);
            }
            self.back_to_ordinary();
        }
    }

    /// Renews the lease and flushes, when it is time.
    fn keep_up(&mut self) {
        if self.open.is_some() {
            return;
        }
        let now = Instant::now();
        if self.core.unflushed && now >= self.flushed + self.shared().options.flush_every {
            self.flushed = now;
            if let Err(error) = self.core.flush_now() {
                tracing::warn!(%error, "could not flush");
            }
        }
        if now >= self.renewed + self.shared().options.lease / 3 {
            self.renewed = now;
            if let Err(error) = self.core.renew() {
                tracing::warn!(%error, "could not renew the lease");
            }
        }
    }
}

fn busy() -> Error {
    Error::retry("SQLITE_BUSY", "the writer was busy for the whole time this write could wait")
        .hint("try again; keep transactions short, or raise limits.busy_timeout")
}

fn stale_snapshot() -> Error {
    Error::new(
        Kind::Conflict,
        "SQLITE_BUSY",
        "others have written since this transaction began to read",
    )
    .with_extended("SQLITE_BUSY_SNAPSHOT")
    .hint("roll back and begin again, with BEGIN IMMEDIATE if it is going to write")
}

fn transaction_gone() -> Error {
    Error::new(
        Kind::Conflict,
        "TRANSACTION_TIMEOUT",
        "the transaction was idle for too long and was rolled back",
    )
    .hint("begin it again; keep transactions short")
}

/// Whether a program may run beside others: it is over when it is over, and its stream is ordinary.
fn is_groupable(job: &Job) -> bool {
    if job.snapshot.is_some() || !job.stream.is_ordinary() {
        return false;
    }
    let mut opens = false;
    let mut ends = false;
    for step in &job.program.steps {
        match text::control(&step.statement.sql) {
            Some(Control::Begin(_) | Control::Savepoint(_)) => opens = true,
            Some(Control::Commit | Control::Rollback | Control::Release(_)) => ends = true,
            Some(Control::RollbackTo(_)) => {}
            None if text::pragma(&step.statement.sql).is_some() => return false,
            None => {}
        }
    }
    !opens || ends
}
