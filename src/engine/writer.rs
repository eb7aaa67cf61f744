//! The writer: groups of programs, and one interactive transaction at a time.
//!
//! ```text
//! sessions ──► inbox ──► group ──► answers           all that waits together shares one sync
//!                 │
//!                 └────► interactive transaction     alone; the others wait up to busy_timeout
//! ```
//!
//! It has a thread of its own. A caller that may block, and finds the writer idle, does the work itself:
//! whoever holds the lock is the writer.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::answers::{self, Answers};
use super::core::Core;
use super::group;
use super::inbox::{Inbox, Intake, Job, Message, Ran, Waiting};
use super::program::Outcome;
use super::run::{Interrupt, Mode, Runner, Transaction};
use super::shared::{Shared, lock};
use crate::acknowledge::Level;
use crate::error::{Error, Kind, Result};

/// How long the thread looks for more work before it sleeps.
const SPIN: Duration = Duration::from_micros(30);

/// Starts the writer and its thread.
pub(crate) fn start(core: Core) -> std::io::Result<(Inbox, JoinHandle<()>)> {
    let shared = core.shared.clone();
    let waiting = Arc::new(Waiting::default());
    let writer = Arc::new(Mutex::new(Some(Writer::new(core, waiting.clone()))));
    let (inbox, receiver) = Inbox::new(writer.clone(), waiting, shared.options.limits.queue);
    let name = format!("syncline-writer-{}", shared.options.name);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        or_stop(&shared, || serve(&writer, &receiver));
        // Its files are closed when its thread has ended, whoever still has an inbox.
        lock(&writer).take();
    })?;
    Ok((inbox, thread))
}

/// A panic on the log's path leaves a state that nobody knows: the process stops.
fn or_stop(shared: &Shared, work: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
        shared.stop(5, "the writer panicked; a restart recovers");
    }
}

/// Works off what arrives, until the end.
fn serve(writer: &Mutex<Option<Writer>>, receiver: &Receiver<Message>) {
    let mut rest = Rest { until: Instant::now(), spin_until: Instant::now() };
    loop {
        let first = match rest.next(receiver) {
            Err(RecvTimeoutError::Disconnected) => Some(Message::Close),
            next => next.ok(),
        };
        let mut writer = lock(writer);
        let writer = writer.as_mut().expect("only this thread takes it");
        if !writer.turn(first, receiver) {
            return writer.end(receiver);
        }
        rest = writer.rest();
    }
}

/// How long there is nothing to do, unless something arrives.
struct Rest {
    until: Instant,
    spin_until: Instant,
}

impl Rest {
    /// The next message. A client that was just answered often writes again at once: looking for that
    /// a moment costs less than being put to sleep and woken.
    fn next(&self, receiver: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
        loop {
            if let Ok(message) = receiver.try_recv() {
                return Ok(message);
            }
            let now = Instant::now();
            if now >= self.spin_until {
                return receiver.recv_timeout(self.until.saturating_duration_since(now));
            }
            std::hint::spin_loop();
        }
    }
}

/// The interactive transaction that has the writer.
struct Open {
    id: u64,
    transaction: Transaction,
    level: Level,
    began: Instant,
    used: Instant,
}

/// What writes a database: a group at a time, or an interactive transaction.
pub(crate) struct Writer {
    core: Core,
    intake: Intake,
    open: Option<Open>,
    transactions: u64,
    worked: Instant,
    renewed: Instant,
    flushed: Instant,
}

impl Writer {
    fn new(core: Core, waiting: Arc<Waiting>) -> Writer {
        let (intake, now) = (Intake::new(waiting), Instant::now());
        let (worked, renewed, flushed) = (now, now, now);
        Writer { core, intake, open: None, transactions: 0, worked, renewed, flushed }
    }

    /// Takes in what has arrived and works it off; false at the end.
    fn turn(&mut self, first: Option<Message>, receiver: &Receiver<Message>) -> bool {
        if let Some(message) = first {
            self.intake.take(message);
        }
        self.intake.take_all(receiver);
        while let Some(job) = self.intake.continued.pop_front() {
            self.continue_open(job);
        }
        for id in std::mem::take(&mut self.intake.abandoned) {
            if self.open.as_ref().is_some_and(|open| open.id == id) {
                self.abandon_open();
            }
        }
        if self.intake.closing {
            return false;
        }
        self.expire();
        if self.open.is_none() {
            for errand in self.intake.all_errands() {
                errand(&mut self.core);
            }
            self.work(Some(receiver));
        }
        self.keep_up();
        true
    }

    fn end(&mut self, receiver: &Receiver<Message>) {
        self.abandon_open();
        let _ = self.core.flush_now();
        self.intake.take_all(receiver);
        self.intake.refuse_all();
    }

    fn shared(&self) -> &Shared {
        &self.core.shared
    }

    /// Whether a program may run on its caller's thread: nobody else is there to share a sync with.
    pub fn is_for(&self, job: &Job) -> bool {
        // What is flushed later needs the thread to wake up in time.
        let durable = job.options.level > Level::Memory && !self.core.unflushed;
        durable && self.open.is_none() && self.intake.is_alone() && job.is_groupable
    }

    /// Runs it on its caller's thread.
    pub fn run_for_caller(&mut self, job: Box<Job>) {
        let shared = self.core.shared.clone();
        or_stop(&shared, || {
            self.intake.queue.push_back(job);
            self.work(None);
            self.keep_up();
        });
    }

    /// How long nothing has to be done.
    fn rest(&self) -> Rest {
        let until = match &self.open {
            open if self.intake.is_due(open.is_some()) => Instant::now(),
            // The lease and what is not flushed have to wait for it.
            Some(open) => {
                let deadlines = self.intake.queue.iter().map(|job| job.options.deadline);
                deadlines.fold(self.expires(open), Instant::min)
            }
            None => self.due(),
        };
        Rest { until, spin_until: (self.worked + SPIN).min(until) }
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
        let idle = match self.intake.is_contended() {
            false => limits.idle_transaction,
            true => limits.contended_idle_transaction,
        };
        (open.used + idle).min(open.began + limits.total_transaction)
    }

    fn expire(&mut self) {
        let now = Instant::now();
        if self.open.as_ref().is_some_and(|open| now >= self.expires(open)) {
            self.abandon_open();
        }
        self.intake.refuse_late(now);
    }

    /// Works off what waits: groups, and whatever runs alone.
    fn work(&mut self, receiver: Option<&Receiver<Message>>) {
        if self.intake.queue.is_empty() {
            return;
        }
        while self.open.is_none()
            && let Some(job) = self.intake.queue.front()
        {
            let alone = match job.is_groupable {
                true => group::run(&mut self.core, &mut self.intake, receiver),
                false => self.intake.queue.pop_front().into_iter().collect(),
            };
            for job in alone {
                self.run_alone(job);
            }
        }
        self.worked = Instant::now();
    }

    /// Runs a program alone; if it leaves a transaction open, the transaction keeps the writer.
    fn run_alone(&mut self, job: Box<Job>) {
        if self.open.is_some() {
            return self.intake.queue.push_back(job);
        }
        if let Some(answer) = answers::answered_before(&self.core, &job) {
            return self.intake.answer(job, answer);
        }
        if let Some(snapshot) = job.snapshot
            && snapshot.is_some_and(|seen| seen.chain != self.core.store.position().chain)
        {
            return self.intake.answer(job, Err(stale_snapshot()));
        }
        self.run_in(job, None);
    }

    /// Goes on with the open transaction.
    fn continue_open(&mut self, job: Box<Job>) {
        match self.open.take() {
            Some(open) if Some(open.id) == job.transaction => self.run_in(job, Some(open)),
            other => {
                self.open = other;
                self.intake.answer(job, Err(transaction_gone()));
            }
        }
    }

    fn run_in(&mut self, mut job: Box<Job>, open: Option<Open>) {
        let (id, began, level) = match &open {
            Some(open) => (open.id, open.began, open.level),
            None => {
                self.transactions += 1;
                (self.transactions, Instant::now(), job.options.level)
            }
        };
        let mut transaction = open.map(|open| open.transaction);
        let mut runner = Runner {
            core: &mut self.core,
            stream: &mut job.stream,
            transaction: &mut transaction,
            mode: Mode::Alone,
            level,
            request: job.options.request.as_ref(),
            receipt: None,
            units: 0,
            answers: Answers::default(),
        };
        let ran = runner.program(&job.program);
        let receipt = runner.receipt;
        if transaction.is_none() {
            self.back_to_ordinary();
        }
        let answer = match ran {
            Ok(steps) => {
                let stream = std::mem::take(&mut job.stream);
                let transaction = transaction.is_some().then_some(id);
                Ok(Ran { outcome: Outcome { steps, receipt }, stream, transaction })
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
        self.intake.answer(job, answer);
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
