//! Running a program on the writer: its steps, its transactions, and what each failure takes with it.
//!
//! | mode | a transaction of the client's is | its end |
//! | --- | --- | --- |
//! | grouped | a unit of the group, beside others' | shares the group's sync |
//! | alone | a group of its own | its own sync |
//!
//! Grouped is for programs that are over when they are over. A transaction that stays open, a stream
//! with settings of its own, and whatever upset a group run alone.

use std::time::{Duration, Instant};

use super::answers::Answers;
use super::core::Core;
use super::program::{Condition, Program, StatementResult, Step, StepOutcome};
use super::stream::Stream;
use crate::acknowledge::Level;
use crate::change::{Position, RequestId};
use crate::error::{Error, Kind, Result};
use crate::store::sqlite::text::{self, Begin, Control};
use crate::store::sqlite::{Budget, Failed, Point, Statement, check_name};

/// Why a program could not go on in its group.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// SQLite ended the transaction of the whole group at this member.
    Lost(Error),
    /// Something must be undone that only a savepoint could undo: run the group with savepoints.
    Savepoints,
    /// The storage failed: the process stops.
    Stop(Error),
}

/// How units are opened and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Grouped { savepoints: bool },
    Alone,
}

/// The client's open transaction.
#[derive(Default)]
pub(crate) struct Transaction {
    savepoints: Vec<(String, Point)>,
    /// SAVEPOINT outside a transaction opens one, and its RELEASE commits it.
    opened_by_savepoint: bool,
    /// BEGIN TRANSACTION READONLY: SQLite would let it write.
    readonly: bool,
}

/// One program on its way.
pub(crate) struct Runner<'a> {
    pub core: &'a mut Core,
    pub stream: &'a mut Stream,
    pub transaction: &'a mut Option<Transaction>,
    pub mode: Mode,
    pub level: Level,
    pub request: Option<&'a RequestId>,
    /// The position of the last commit made.
    pub receipt: Option<Position>,
    /// Transactions ended well or badly so far.
    pub units: usize,
    /// What the steps so far gave, for a retry of a write that brought its own id.
    pub answers: Answers,
}

type Stepped = Result<StatementResult, Stop>;

/// Why a step gave no result.
enum Stop {
    Step(Error),
    Interrupt(Interrupt),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error.kind() {
            Kind::Storage | Kind::Corrupt => Stop::Interrupt(Interrupt::Stop(error)),
            _ => Stop::Step(error),
        }
    }
}

impl Runner<'_> {
    /// Runs the steps whose conditions hold.
    pub fn program(&mut self, program: &Program) -> Result<Vec<StepOutcome>, Interrupt> {
        let context = self.core.store.context.clone();
        self.stream.enter(&context, &self.core.shared.options.node, self.core.store.position());
        self.core.store.db().set_last_insert_rowid(self.stream.last_insert_rowid);
        let mut outcomes: Vec<StepOutcome> = Vec::with_capacity(program.steps.len());
        for step in &program.steps {
            let outcome = self.conditional(step, &outcomes)?;
            if self.request.is_some() {
                self.answers.push(&outcome);
            }
            outcomes.push(outcome);
        }
        self.stream.last_insert_rowid = self.core.store.db().last_insert_rowid();
        if let Err(error) = self.stream.leave(&context)
            && let Some(last) = outcomes.last_mut()
        {
            *last = StepOutcome::Failed(error);
        }
        Ok(outcomes)
    }

    fn conditional(
        &mut self,
        step: &Step,
        outcomes: &[StepOutcome],
    ) -> Result<StepOutcome, Interrupt> {
        let autocommit = self.transaction.is_none();
        if !step.condition.as_ref().is_none_or(|c| holds(c, outcomes, autocommit)) {
            return Ok(StepOutcome::Skipped);
        }
        match self.step(&step.statement) {
            Ok(result) => Ok(StepOutcome::Done(result)),
            Err(Stop::Step(error)) => Ok(StepOutcome::Failed(error)),
            Err(Stop::Interrupt(interrupt)) => Err(interrupt),
        }
    }

    fn step(&mut self, statement: &Statement) -> Stepped {
        if let Some(control) = text::control(&statement.sql) {
            return self.control(&control);
        }
        if let Some(answer) = self.stream.pragma(&statement.sql, self.transaction.is_some()) {
            return Ok(answer);
        }
        match self.transaction {
            Some(_) => self.in_transaction(statement),
            None => self.autocommit(statement),
        }
    }

    fn budget(&self, statement: &Statement) -> Budget {
        let limits = &self.core.shared.options.limits;
        let schema =
            text::begins_with(&statement.sql, &["CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE"]);
        let limit = if schema { limits.schema_statement } else { limits.statement };
        budget(limits.response_rows, limits.response_bytes, limit)
    }

    fn open(&mut self, explicit: bool) -> Result<(), Stop> {
        if self.mode == Mode::Alone {
            self.core.set_stream(self.stream.settings)?;
            self.core.begin(self.level)?;
        }
        let savepoints =
            matches!(self.mode, Mode::Grouped { savepoints } if savepoints || explicit);
        self.core.store.begin_unit(savepoints)?;
        if std::mem::take(&mut self.stream.defer_next) {
            self.core.store.db().execute_batch("PRAGMA defer_foreign_keys = ON")?;
        }
        Ok(())
    }

    /// Commits the unit; a deferred key that is broken fails it, with the unit still open.
    fn close(&mut self, last: &StatementResult) -> Result<(), Stop> {
        let at = self.core.now();
        let response = self.request.map(|_| self.answers.ending_with(last));
        let request = self.request.zip(response.as_deref());
        let position = self.core.store.commit_unit(at, request)?;
        self.units += 1;
        // A program that defers keys by PRAGMA runs alone, and COMMIT ends that by itself: in a group
        // nothing has to be set back. (It would also make SQLite prepare every statement anew.)
        if self.mode == Mode::Alone
            && let Err(error) = self.core.commit(self.level)
        {
            self.core.store.rollback()?;
            return Err(error.into());
        }
        if position.is_some() {
            self.receipt = position;
            self.stream.receipt = position;
        }
        Ok(())
    }

    /// Undoes the unit.
    fn abort(&mut self) -> Result<(), Stop> {
        self.units += 1;
        match self.mode {
            Mode::Alone => self.core.store.rollback()?,
            Mode::Grouped { .. } if self.core.store.has_savepoint() => {
                self.core.store.rollback_unit()?;
            }
            Mode::Grouped { .. } => return Err(Stop::Interrupt(Interrupt::Savepoints)),
        }
        Ok(())
    }

    fn autocommit(&mut self, statement: &Statement) -> Stepped {
        let budget = self.budget(statement);
        self.open(false)?;
        match self.core.store.run(statement, &budget) {
            Ok(result) => match self.close(&result) {
                Ok(()) => Ok(result),
                Err(stop) => self.undo_for(stop),
            },
            Err(Failed::Statement(error)) if self.core.store.unit_moved() => {
                self.close(&StatementResult::default())?;
                Err(error.into())
            }
            Err(Failed::Statement(error)) => {
                self.core.store.rollback_unit()?;
                self.units += 1;
                if self.mode == Mode::Alone {
                    self.core.store.rollback()?;
                }
                Err(error.into())
            }
            Err(Failed::Unit(error)) => self.undo_for(error.into()),
            Err(Failed::Transaction(error)) => self.lost(error),
        }
    }

    fn undo_for(&mut self, stop: Stop) -> Stepped {
        if let Stop::Interrupt(_) = stop {
            return Err(stop);
        }
        self.abort()?;
        Err(stop)
    }

    /// SQLite ended the transaction: the client's own, or the whole group's.
    fn lost(&mut self, error: Error) -> Stepped {
        self.units += 1;
        *self.transaction = None;
        match (Stop::from(error), self.mode) {
            (Stop::Step(error), Mode::Grouped { .. }) => {
                Err(Stop::Interrupt(Interrupt::Lost(error)))
            }
            (stop, Mode::Alone) => {
                self.core.store.rollback()?;
                Err(stop)
            }
            (stop, _) => Err(stop),
        }
    }

    fn in_transaction(&mut self, statement: &Statement) -> Stepped {
        if self.open_transaction().readonly
            && !self.core.store.client.prepared(&statement.sql)?.readonly
        {
            return Err(write_in_readonly().into());
        }
        let budget = self.budget(statement);
        match self.core.store.run(statement, &budget) {
            Ok(result) => Ok(result),
            Err(Failed::Statement(error)) => Err(error.into()),
            Err(Failed::Unit(error)) => {
                *self.transaction = None;
                self.undo_for(error.into())
            }
            Err(Failed::Transaction(error)) => self.lost(error),
        }
    }

    fn control(&mut self, control: &Control) -> Stepped {
        match (control, self.transaction.is_some()) {
            (Control::Begin(_), true) => {
                Err(sql_error("cannot start a transaction within a transaction").into())
            }
            (Control::Begin(begin), false) => {
                self.open(true)?;
                let readonly = *begin == Begin::ReadOnly;
                *self.transaction = Some(Transaction { readonly, ..Transaction::default() });
                Ok(StatementResult::default())
            }
            (Control::Commit, true) => self.end_well(),
            (Control::Rollback, true) => {
                *self.transaction = None;
                self.abort()?;
                Ok(StatementResult::default())
            }
            (Control::Commit, false) => {
                Err(sql_error("cannot commit - no transaction is active").into())
            }
            (Control::Rollback, false) => {
                Err(sql_error("cannot rollback - no transaction is active").into())
            }
            (Control::Savepoint(name), open) => {
                check_name(name)?;
                if !open {
                    self.open(true)?;
                    let opened_by_savepoint = true;
                    *self.transaction =
                        Some(Transaction { opened_by_savepoint, ..Transaction::default() });
                }
                self.savepoint(name)
            }
            (Control::Release(name) | Control::RollbackTo(name), false) => {
                Err(sql_error(&format!("no such savepoint: {name}")).into())
            }
            (Control::Release(name), true) => self.release(name),
            (Control::RollbackTo(name), true) => self.rollback_to(name),
        }
    }

    fn end_well(&mut self) -> Stepped {
        self.close(&StatementResult::default())?;
        *self.transaction = None;
        Ok(StatementResult::default())
    }

    fn execute(&mut self, sql: &str) -> Result<(), Stop> {
        Ok(self.core.store.db().execute_batch(sql)?)
    }

    fn savepoint(&mut self, name: &str) -> Stepped {
        self.execute(&format!("SAVEPOINT {}", quoted(name)))?;
        let point = self.core.store.point();
        self.open_transaction().savepoints.push((name.to_owned(), point));
        Ok(StatementResult::default())
    }

    fn open_transaction(&mut self) -> &mut Transaction {
        self.transaction.as_mut().expect("a transaction is open")
    }

    fn find(&mut self, name: &str) -> Result<usize, Stop> {
        let savepoints = &self.open_transaction().savepoints;
        let found = savepoints.iter().rposition(|(n, _)| n.eq_ignore_ascii_case(name));
        found.ok_or_else(|| sql_error(&format!("no such savepoint: {name}")).into())
    }

    fn release(&mut self, name: &str) -> Stepped {
        let i = self.find(name)?;
        if i == 0 && self.open_transaction().opened_by_savepoint {
            return self.end_well();
        }
        self.execute(&format!("RELEASE {}", quoted(name)))?;
        self.open_transaction().savepoints.truncate(i);
        Ok(StatementResult::default())
    }

    fn rollback_to(&mut self, name: &str) -> Stepped {
        let i = self.find(name)?;
        self.execute(&format!("ROLLBACK TO {}", quoted(name)))?;
        self.open_transaction().savepoints.truncate(i + 1);
        let (name, point) = self.open_transaction().savepoints.pop().expect("found above");
        let went = self.core.store.went_back_to(&point);
        self.open_transaction().savepoints.push((name, point));
        went?;
        Ok(StatementResult::default())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn sql_error(message: &str) -> Error {
    Error::invalid("SQLITE_ERROR", message)
}

/// The error of a write in a transaction that was begun READONLY.
pub(crate) fn write_in_readonly() -> Error {
    Error::invalid("SQLITE_READONLY", "attempt to write in a transaction that was begun READONLY")
        .hint("begin the transaction with BEGIN or BEGIN IMMEDIATE")
}

pub(crate) fn budget(rows: usize, bytes: usize, limit: Duration) -> Budget {
    Budget { began: Instant::now(), time: Some(limit), rows, bytes }
}

/// Whether a condition holds after the steps so far.
pub(crate) fn holds(condition: &Condition, outcomes: &[StepOutcome], autocommit: bool) -> bool {
    match condition {
        Condition::Ok(step) => matches!(outcomes.get(*step), Some(StepOutcome::Done(_))),
        Condition::Error(step) => {
            matches!(outcomes.get(*step), Some(StepOutcome::Failed(_) | StepOutcome::Skipped))
        }
        Condition::Not(not) => !holds(not, outcomes, autocommit),
        Condition::And(all) => all.iter().all(|c| holds(c, outcomes, autocommit)),
        Condition::Or(any) => any.iter().any(|c| holds(c, outcomes, autocommit)),
        Condition::IsAutocommit => autocommit,
    }
}
