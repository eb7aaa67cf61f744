//! Group commit: programs that wait together run as units of one SQLite transaction and share its
//! sync.
//!
//! Nobody is answered before the sync. If SQLite ends the whole transaction at one member (a time
//! limit, OR ROLLBACK, RAISE(ROLLBACK), no space), the survivors run again without it: nobody has heard
//! of their results yet. If the space runs out only at the COMMIT, nobody knows whose rows were too many:
//! the group is halved until whoever does not fit is alone.

use std::time::Instant;

use super::answers::Answers;
use super::core::Core;
use super::program::{Outcome, StepOutcome};
use super::run::{Interrupt, Mode, Runner, Transaction};
use super::shared::outcome_unknown;
use super::stream::Stream;
use super::writer::{Job, Ran};
use crate::acknowledge::Level;
use crate::error::{Error, Kind, Result};

/// A program in a group.
pub(crate) struct Member {
    job: Job,
    ran: Option<(Stream, Outcome)>,
}

impl Member {
    pub fn new(job: Job) -> Member {
        Member { job, ran: None }
    }
}

/// How a group ended.
#[derive(Default)]
pub(crate) struct Finished {
    pub answers: Vec<(Job, Result<Ran>)>,
    /// Members that have to run alone, in order.
    pub alone: Vec<Job>,
}

/// How one run of the group went.
enum Round {
    Committed,
    /// SQLite ended the transaction at this member, with this error; so many of its transactions were
    /// over by then.
    LostAt(usize, Error, usize),
    /// Run it again, with savepoints.
    Savepoints,
    /// There was no space for all of them together.
    Full(Error),
    /// Nothing of it happened.
    Refused(Error),
    /// The storage failed.
    Stopped(Error),
}

/// Runs a group until every member is answered or has to run alone.
pub(crate) fn run(core: &mut Core, members: Vec<Member>) -> Finished {
    let finished = Finished::default();
    let mut group =
        Group { core, members, later: Vec::new(), without_space: 0, finished, savepoints: false };
    loop {
        while !group.members.is_empty() {
            let round = group.round();
            group.settle(round);
        }
        match group.later.pop() {
            Some(members) => group.members = members,
            None => return group.finished,
        }
    }
}

/// So many members that do not fit alone mean that the disk is full for everybody.
const WITHOUT_SPACE: usize = 3;

struct Group<'a> {
    core: &'a mut Core,
    members: Vec<Member>,
    /// Halves that wait for their turn, the next one last.
    later: Vec<Vec<Member>>,
    /// Members that did not fit alone.
    without_space: usize,
    finished: Finished,
    savepoints: bool,
}

impl Group<'_> {
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
        if let Some(round) = self.run_members(level) {
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
                (_, Ok(())) if error.code() == "DISK_FULL" => Round::Full(error),
                (_, Ok(())) => Round::Refused(error),
            };
        }
        self.measure(started, begun_commit);
        Round::Committed
    }

    fn measure(&self, started: Instant, begun_commit: Instant) {
        let metrics = &self.core.metrics;
        metrics.group_size.record(self.members.len() as f64);
        metrics.sync_seconds.record(begun_commit.elapsed().as_secs_f64());
        metrics.commit_seconds.record(started.elapsed().as_secs_f64());
    }

    /// Runs every member; none if all went well.
    fn run_members(&mut self, level: Level) -> Option<Round> {
        let mode = Mode::Grouped { savepoints: self.savepoints };
        let mut open_ended = Vec::new();
        for (i, member) in self.members.iter_mut().enumerate() {
            let mut stream = member.job.stream.clone();
            let mut transaction: Option<Transaction> = None;
            let mut runner = Runner {
                core: self.core,
                stream: &mut stream,
                transaction: &mut transaction,
                mode,
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
                    member.ran = Some((stream, Outcome { steps, receipt }));
                }
                Ok(_) if units == 0 => {
                    // Its transaction is still open: it must have the writer to itself.
                    open_ended.push(i);
                    if let Err(error) = self.core.store.rollback_unit() {
                        return Some(Round::Stopped(error));
                    }
                }
                Ok(_) => return Some(Round::LostAt(i, left_open(), units + 1)),
                Err(Interrupt::Savepoints) => return Some(Round::Savepoints),
                Err(Interrupt::Stop(error)) => return Some(Round::Stopped(error)),
                Err(Interrupt::Lost(error)) => return Some(Round::LostAt(i, error, units)),
            }
        }
        for i in open_ended.into_iter().rev() {
            self.finished.alone.insert(0, self.members.remove(i).job);
        }
        None
    }

    fn settle(&mut self, round: Round) {
        match round {
            Round::Committed => self.answer_all(),
            Round::Savepoints => self.savepoints = true,
            Round::LostAt(i, error, units) => {
                let job = self.members.remove(i).job;
                // One transaction, and it failed: that is its answer. Otherwise some of its
                // transactions may stand: alone, each gets its own end.
                if units <= 1 && job.program.steps.len() == 1 {
                    let steps = vec![StepOutcome::Failed(error)];
                    self.finished.answers.push(failed_alone(job, steps));
                } else {
                    self.finished.alone.push(job);
                }
            }
            Round::Full(error) => self.halve(&error),
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
            self.without_space += 1;
            return self.refuse_all(|| clone_of(error));
        }
        let rest = self.members.split_off(half);
        self.later.push(rest);
    }

    fn answer_all(&mut self) {
        for member in std::mem::take(&mut self.members) {
            let (stream, outcome) = member.ran.expect("every member ran");
            self.finished
                .answers
                .push((member.job, Ok(Ran { outcome, stream, transaction: None })));
        }
    }

    fn refuse_all(&mut self, error: impl Fn() -> Error) {
        for member in std::mem::take(&mut self.members) {
            self.finished.answers.push((member.job, Err(error())));
        }
    }
}

fn failed_alone(job: Job, steps: Vec<StepOutcome>) -> (Job, Result<Ran>) {
    let outcome = Outcome { steps, receipt: None };
    let stream = job.stream.clone();
    (job, Ok(Ran { outcome, stream, transaction: None }))
}

fn left_open() -> Error {
    Error::invalid("TRANSACTION_OPEN", "the program leaves a transaction open")
}

/// The same refusal for every member.
fn clone_of(error: &Error) -> Error {
    Error::new(error.kind(), error.code(), error.message()).hint(error.hint_text())
}
