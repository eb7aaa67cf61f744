//! Group commit: programs that wait together run as units of one SQLite transaction and share its
//! sync.
//!
//! Nobody is answered before the sync. If SQLite ends the whole transaction at one member (a time
//! limit, OR ROLLBACK, RAISE(ROLLBACK), no space), the survivors run again without it: nobody has heard
//! of their results yet. If the space runs out only at the COMMIT, nobody knows whose rows were too many:
//! the group is halved until whoever does not fit is alone.

use std::collections::{HashSet, VecDeque};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::answers::{self, Answers};
use super::core::Core;
use super::inbox::{Intake, Job, Message, Ran};
use super::program::{Outcome, StepOutcome};
use super::run::{Interrupt, Mode, Runner, Transaction};
use super::shared::outcome_unknown;
use crate::acknowledge::Level;
use crate::change::RequestId;
use crate::error::{Error, Kind};

/// A group takes no more programs than this.
const GROUP: usize = 1024;
/// So many members for whom alone there is no space mean that there is none for anybody.
const WITHOUT_SPACE: usize = 3;

/// A program in a group.
struct Member {
    job: Box<Job>,
    ran: Option<Ran>,
}

/// How one run of a member went.
enum MemberRan {
    Over,
    Open,
    Ended(Round),
}

/// How one run of the group went.
enum Round {
    Committed,
    /// SQLite ended the transaction at this member, with this error; so many of its transactions were
    /// over by then.
    LostAt(usize, Error, usize),
    /// Run it again, with savepoints.
    Savepoints,
    /// Not all of them fit, and nobody knows which.
    Misfit(Error),
    /// Nothing of it happened.
    Refused(Error),
    /// The storage failed.
    Stopped(Error),
}

/// Runs the programs at the head of the queue as a group, and those that `receiver` brings before it
/// commits, until every one is answered or has to run alone: gives those that have to.
pub(crate) fn run(
    core: &mut Core,
    intake: &mut Intake,
    receiver: Option<&Receiver<Message>>,
) -> VecDeque<Box<Job>> {
    let mut group = Group {
        core,
        intake,
        receiver,
        members: Vec::new(),
        requests: HashSet::new(),
        later: Vec::new(),
        without_space: 0,
        alone: VecDeque::new(),
        savepoints: false,
    };
    while group.join(None) {}
    loop {
        while !group.members.is_empty() {
            let round = group.round();
            group.settle(round);
            group.receiver = None;
        }
        match group.later.pop() {
            Some(members) => group.members = members,
            None => return group.alone,
        }
    }
}

struct Group<'a> {
    core: &'a mut Core,
    intake: &'a mut Intake,
    /// Where more members may come from, the first time the group runs.
    receiver: Option<&'a Receiver<Message>>,
    members: Vec<Member>,
    /// The ids that members brought.
    requests: HashSet<RequestId>,
    /// Halves that wait for their turn, the next one last.
    later: Vec<Vec<Member>>,
    /// Members for whom alone there was no space.
    without_space: usize,
    /// Members that have to run alone, in order.
    alone: VecDeque<Box<Job>>,
    savepoints: bool,
}

impl Group<'_> {
    /// Takes in the next of those that wait, if it may join a group that commits at `level`; false if
    /// there is none that may.
    fn join(&mut self, level: Option<Level>) -> bool {
        let requests = &self.requests;
        let fits = |job: &Job| {
            let id = job.options.request.as_ref();
            // The same write twice: the second hears later what the first is answered.
            job.is_groupable
                && level.is_none_or(|level| job.options.level <= level)
                && id.is_none_or(|id| !requests.contains(id))
        };
        if self.members.len() >= GROUP {
            return false;
        }
        let Some(job) = self.intake.next_if(fits) else { return false };
        match answers::answered_before(self.core, &job) {
            Some(answer) => self.intake.answer(job, answer),
            None => {
                self.requests.extend(job.options.request.clone());
                self.members.push(Member { job, ran: None });
            }
        }
        true
    }

    fn level(&self) -> Level {
        self.members.iter().map(|m| m.job.options.level).max().unwrap_or_default()
    }

    fn round(&mut self) -> Round {
        let started = Instant::now();
        let level = self.level();
        if let Err(error) = self.core.begin(level) {
            return match error.kind() {
                Kind::Storage => Round::Stopped(error),
                _ => Round::Refused(error),
            };
        }
        if let Some(round) = self.run_all(level) {
            return match self.core.store.rollback() {
                Ok(()) => round,
                Err(error) => Round::Stopped(error),
            };
        }
        let begun_commit = Instant::now();
        if let Err(error) = self.core.commit(level) {
            let undone = self.core.store.rollback();
            return match (error.kind(), undone) {
                (Kind::Storage | Kind::Corrupt, _) => Round::Stopped(error),
                (_, Err(other)) => Round::Stopped(other),
                (_, Ok(())) if is_somebodys(&error) => Round::Misfit(error),
                (_, Ok(())) => Round::Refused(error),
            };
        }
        self.measure(started, begun_commit);
        Round::Committed
    }

    fn measure(&mut self, started: Instant, begun_commit: Instant) {
        let metrics = &self.core.metrics;
        let now = Instant::now();
        let (members, sync) = (self.members.len(), now - begun_commit);
        metrics.group_size.record(members as f64);
        metrics.sync_seconds.record(sync.as_secs_f64());
        metrics.commit_seconds.record((now - started).as_secs_f64());
        if let Some(receiver) = self.receiver {
            self.intake.take_all(receiver);
        }
        self.intake.committed(members, sync);
    }

    /// Runs every member, and those that arrive meanwhile; none if all went well.
    fn run_all(&mut self, level: Level) -> Option<Round> {
        let mut open_ended = Vec::new();
        let mut linger = None;
        let mut i = 0;
        loop {
            while i < self.members.len() {
                match self.run_member(i, level) {
                    MemberRan::Over => {}
                    // Its transaction is still open: it must have the writer to itself.
                    MemberRan::Open => open_ended.push(i),
                    MemberRan::Ended(round) => return Some(round),
                }
                i += 1;
            }
            let Some(receiver) = self.receiver else { break };
            let more = self.intake.more(receiver, self.members.len(), &mut linger);
            if !more || !self.join(Some(level)) {
                break;
            }
        }
        for i in open_ended.into_iter().rev() {
            self.alone.push_front(self.members.remove(i).job);
        }
        None
    }

    fn run_member(&mut self, i: usize, level: Level) -> MemberRan {
        let member = &mut self.members[i];
        let mut stream = member.job.stream.clone();
        let mut transaction: Option<Transaction> = None;
        let mut runner = Runner {
            core: self.core,
            stream: &mut stream,
            transaction: &mut transaction,
            mode: Mode::Grouped { savepoints: self.savepoints },
            level,
            request: member.job.options.request.as_ref(),
            receipt: None,
            units: 0,
            answers: Answers::default(),
        };
        let ran = runner.program(&member.job.program);
        let (units, receipt) = (runner.units, runner.receipt);
        match ran {
            Ok(steps) if transaction.is_none() => {
                let outcome = Outcome { steps, receipt };
                member.ran = Some(Ran { outcome, stream, transaction: None });
                MemberRan::Over
            }
            Ok(_) if units == 0 => match self.core.store.rollback_unit() {
                Ok(()) => MemberRan::Open,
                Err(error) => MemberRan::Ended(Round::Stopped(error)),
            },
            Ok(_) => MemberRan::Ended(Round::LostAt(i, left_open(), units + 1)),
            Err(Interrupt::Savepoints) => MemberRan::Ended(Round::Savepoints),
            Err(Interrupt::Stop(error)) => MemberRan::Ended(Round::Stopped(error)),
            Err(Interrupt::Lost(error)) => MemberRan::Ended(Round::LostAt(i, error, units)),
        }
    }

    fn settle(&mut self, round: Round) {
        match round {
            Round::Committed => self.answer_all(),
            Round::Savepoints => self.savepoints = true,
            Round::LostAt(i, error, units) => {
                let mut job = self.members.remove(i).job;
                // One transaction, and it failed: that is its answer. Otherwise some of its
                // transactions may stand: alone, each gets its own end.
                if units <= 1 && job.program.steps.len() == 1 {
                    let stream = std::mem::take(&mut job.stream);
                    let outcome =
                        Outcome { steps: vec![StepOutcome::Failed(error)], receipt: None };
                    self.intake.answer(job, Ok(Ran { outcome, stream, transaction: None }));
                } else {
                    self.alone.push_back(job);
                }
            }
            Round::Misfit(error) => self.halve(&error),
            Round::Refused(error) => self.refuse_all(|| clone_of(&error)),
            Round::Stopped(error) => {
                self.core.shared.storage_failed(&error);
                self.refuse_all(|| outcome_unknown(&error));
            }
        }
    }

    fn halve(&mut self, error: &Error) {
        let half = self.members.len() / 2;
        if half == 0 || self.without_space >= WITHOUT_SPACE {
            self.without_space += usize::from(error.code() == "DISK_FULL");
            return self.refuse_all(|| clone_of(error));
        }
        let rest = self.members.split_off(half);
        self.later.push(rest);
    }

    fn answer_all(&mut self) {
        for member in std::mem::take(&mut self.members) {
            self.intake.answer(member.job, Ok(member.ran.expect("every member ran")));
        }
    }

    fn refuse_all(&mut self, error: impl Fn() -> Error) {
        for member in std::mem::take(&mut self.members) {
            self.intake.answer(member.job, Err(error()));
        }
    }
}

/// Whether an error of the COMMIT is one member's fault.
fn is_somebodys(error: &Error) -> bool {
    ["DISK_FULL", "BACKING_DIFFERS", "BACKING_CONSTRAINT"].contains(&error.code())
}

fn left_open() -> Error {
    Error::invalid("TRANSACTION_OPEN", "the program leaves a transaction open")
}

/// The same refusal for every member.
fn clone_of(error: &Error) -> Error {
    Error::new(error.kind(), error.code(), error.message()).hint(error.hint_text())
}
