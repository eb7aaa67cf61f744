//! What is sent to the writer, and how it gets there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::core::Core;
use super::program::{Outcome, Program};
use super::stream::Stream;
use super::writer::Writer;
use crate::acknowledge::Level;
use crate::change::{Position, RequestId};
use crate::error::{Error, Result};
use crate::store::sqlite::text::{self, Control};

/// A group waits for those who may be on their way at most one such part of what a sync takes, …
const LINGER: u32 = 4;
/// … one such part for the next of them, …
const GAP: u32 = 16;
/// … and looks so often, sleeping in between if that is worth it.
const NAP: u32 = 64;
const SHORTEST_NAP: Duration = Duration::from_micros(20);

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

/// What whoever waits for a program gets.
pub(crate) struct Answer {
    pub ran: Result<Ran>,
    /// It goes back to the thread that made it: freeing what another thread allocated is slow, and the
    /// writer has enough to do.
    _program: Program,
}

/// A program and whoever waits for it.
pub(crate) struct Job {
    pub program: Program,
    pub stream: Stream,
    pub options: JobOptions,
    /// The open transaction that it belongs to.
    pub transaction: Option<u64>,
    /// A transaction that began by reading: it may write only if nothing was committed since.
    pub snapshot: Option<Option<Position>>,
    /// Whether it may run beside others: it is over when it is over, belongs to no open transaction, and
    /// its stream is ordinary.
    pub is_groupable: bool,
    pub reply: oneshot::Sender<Answer>,
}

impl Job {
    /// With the end at which its caller waits.
    pub fn new(
        program: Program,
        stream: Stream,
        options: JobOptions,
        transaction: Option<u64>,
        snapshot: Option<Option<Position>>,
    ) -> (Box<Job>, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let continues = transaction.is_some() || snapshot.is_some();
        let is_groupable = !continues && stream.is_ordinary() && ends_by_itself(&program);
        let job = Job { program, stream, options, transaction, snapshot, is_groupable, reply };
        (Box::new(job), answer)
    }
}

/// Whether a program leaves, as far as its text tells, nothing behind that concerns others.
fn ends_by_itself(program: &Program) -> bool {
    let mut opens = false;
    let mut ends = false;
    for step in &program.steps {
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

/// The way to the writer, with its bound.
#[derive(Clone)]
pub(crate) struct Inbox {
    sender: Sender<Message>,
    waiting: Arc<Waiting>,
    limit: usize,
    writer: Arc<Mutex<Option<Writer>>>,
}

/// Counts what was sent and is not yet answered, or not yet begun.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    programs: AtomicUsize,
    errands: AtomicUsize,
}

impl Waiting {
    fn program_answered(&self) {
        self.programs.fetch_sub(1, Ordering::Relaxed);
    }

    fn nothing(&self) -> bool {
        self.programs.load(Ordering::Relaxed) == 0 && self.errands.load(Ordering::Relaxed) == 0
    }
}

fn closed() -> Error {
    Error::unavailable("CLOSING", "this node is shutting down")
        .hint("send the write to another node")
}

impl Inbox {
    /// The way to `writer`, and the end that its thread listens at.
    pub fn new(
        writer: Arc<Mutex<Option<Writer>>>,
        waiting: Arc<Waiting>,
        limit: usize,
    ) -> (Inbox, Receiver<Message>) {
        let (sender, receiver) = channel();
        (Inbox { sender, waiting, limit, writer }, receiver)
    }

    /// Sends a program to the writer; refused with `WRITER_BUSY` if too many wait.
    pub fn run(&self, job: Box<Job>) -> Result<()> {
        if self.waiting.programs.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.waiting.program_answered();
            return Err(Error::retry("WRITER_BUSY", "too many writes wait already")
                .hint("send fewer at once, or raise limits.queue"));
        }
        self.sender.send(Message::Run(job)).map_err(|_| closed())
    }

    /// Runs a program on the caller's thread if the writer has nothing else to do: that saves a lone
    /// caller two switches between threads. Else sends it.
    pub fn run_here(&self, job: Box<Job>) -> Result<()> {
        if self.waiting.nothing()
            && let Ok(mut writer) = self.writer.try_lock()
            && let Some(writer) = writer.as_mut().filter(|writer| writer.is_for(&job))
        {
            self.waiting.programs.fetch_add(1, Ordering::Relaxed);
            writer.run_for_caller(job);
            return Ok(());
        }
        self.run(job)
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
        self.waiting.errands.fetch_add(1, Ordering::Relaxed);
        self.sender.send(message(errand)).map_err(|_| closed())?;
        Ok(answer)
    }

    pub fn close(&self) {
        let _ = self.sender.send(Message::Close);
    }
}

/// What the writer has taken in and not yet done.
pub(crate) struct Intake {
    waiting: Arc<Waiting>,
    /// Programs that wait for the writer, in order of arrival.
    pub queue: VecDeque<Box<Job>>,
    /// Programs of a transaction that has the writer.
    pub continued: VecDeque<Box<Job>>,
    /// Transactions whose streams are gone.
    pub abandoned: Vec<u64>,
    errands: Vec<Errand>,
    chores: Vec<Errand>,
    pub closing: bool,
    /// How many shared the last sync, or waited for it to end.
    expected: usize,
    /// How long it took.
    sync: Duration,
}

impl Intake {
    /// Empty.
    pub fn new(waiting: Arc<Waiting>) -> Intake {
        Intake {
            waiting,
            queue: VecDeque::new(),
            continued: VecDeque::new(),
            abandoned: Vec::new(),
            errands: Vec::new(),
            chores: Vec::new(),
            closing: false,
            expected: 0,
            sync: Duration::ZERO,
        }
    }

    /// Takes in one message.
    pub fn take(&mut self, message: Message) {
        match message {
            Message::Run(job) if job.transaction.is_some() => self.continued.push_back(job),
            Message::Run(job) => self.queue.push_back(job),
            Message::Abandon(id) => self.abandoned.push(id),
            Message::Errand(errand) => self.errands.push(errand),
            Message::Chore(errand) => self.chores.push(errand),
            Message::Close => self.closing = true,
        }
    }

    /// Takes in whatever has arrived.
    pub fn take_all(&mut self, receiver: &Receiver<Message>) {
        while let Ok(message) = receiver.try_recv() {
            self.take(message);
        }
    }

    /// Errands and chores: nobody's transaction is open.
    pub fn all_errands(&mut self) -> Vec<Errand> {
        let mut all = std::mem::take(&mut self.errands);
        all.append(&mut self.chores);
        self.waiting.errands.fetch_sub(all.len(), Ordering::Relaxed);
        all
    }

    /// Whether anyone waits for the open transaction to end.
    pub fn is_contended(&self) -> bool {
        !self.queue.is_empty() || !self.errands.is_empty()
    }

    /// Whether something was taken in, during a group, that needs no message more to be done: programs and
    /// errands wait for an `open` transaction, the rest does not.
    pub fn is_due(&self, open: bool) -> bool {
        let waits = self.is_contended() || !self.chores.is_empty();
        let now = self.closing || !self.continued.is_empty() || !self.abandoned.is_empty();
        now || (waits && !open)
    }

    /// Whether there is nothing else to do, and was nobody to share the last sync.
    pub fn is_alone(&self) -> bool {
        !self.is_contended() && self.expected <= 1 && !self.closing
    }

    /// The first of those that wait, if `fits`.
    pub fn next_if(&mut self, fits: impl FnOnce(&Job) -> bool) -> Option<Box<Job>> {
        if self.queue.front().is_some_and(|job| fits(job)) { self.queue.pop_front() } else { None }
    }

    /// A group of so many was committed, and is about to be answered.
    pub fn committed(&mut self, members: usize, sync: Duration) {
        self.expected = members + self.queue.len();
        self.sync = sync;
    }

    /// Whether something waits to join a group of `members`. As long as it is smaller than the last one and
    /// all that waited for that one, the others are perhaps on their way: they are waited for, for a small
    /// part of what the sync costs and until `end`, a larger one. Without that, two halves of the clients
    /// would wait for each other's syncs for ever.
    pub fn more(
        &mut self,
        receiver: &Receiver<Message>,
        members: usize,
        end: &mut Option<Instant>,
    ) -> bool {
        let mut gap_ends = None;
        loop {
            self.take_all(receiver);
            if !self.queue.is_empty() {
                return true;
            }
            if members >= self.expected || self.closing || self.is_contended() {
                return false;
            }
            let now = Instant::now();
            let end = *end.get_or_insert(now + self.sync / LINGER);
            if now >= end.min(*gap_ends.get_or_insert(now + self.sync / GAP)) {
                return false;
            }
            match self.sync / NAP {
                nap if nap < SHORTEST_NAP => std::hint::spin_loop(),
                nap => std::thread::sleep(nap),
            }
        }
    }

    /// Answers a program.
    pub fn answer(&self, job: Box<Job>, ran: Result<Ran>) {
        self.waiting.program_answered();
        let _ = job.reply.send(Answer { ran, _program: job.program });
    }

    /// Refuses what has waited for too long.
    pub fn refuse_late(&mut self, now: Instant) {
        let late = |job: &Job| job.options.deadline <= now;
        if !self.queue.iter().any(|job| late(job)) {
            return;
        }
        let (late, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.queue).into_iter().partition(|job| late(job));
        self.queue = rest;
        late.into_iter().for_each(|job| self.answer(job, Err(busy())));
    }

    /// Refuses everything: it is the end.
    pub fn refuse_all(&mut self) {
        let all = std::mem::take(&mut self.queue).into_iter();
        let all = all.chain(std::mem::take(&mut self.continued));
        all.for_each(|job| self.answer(job, Err(closed())));
    }
}

fn busy() -> Error {
    Error::retry("SQLITE_BUSY", "the writer was busy for the whole time this write could wait")
        .hint("try again; keep transactions short, or raise limits.busy_timeout")
}
