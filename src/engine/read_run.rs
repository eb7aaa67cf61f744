//! Running a program on a read connection: its steps, and the transaction that they open and end.
//!
//! What each step gives is collected, or goes to an [`Outlet`] while it runs. An error of the storage, or
//! of whoever takes the rows, ends the whole: the connection is not used again.

use std::time::Instant;

use super::program::{Program, StatementResult, StepOutcome};
use super::readers::OpenRead;
use super::run::{holds, write_in_readonly};
use super::shared::Shared;
use super::sink::Outlet;
use super::stream::{Settings, Stream};
use crate::error::{Error, Kind, Result};
use crate::store::sqlite::text::{self, Begin, Control};
use crate::store::sqlite::{Budget, Reader, Statement, check_name};

/// A program on its way through a read connection.
pub(super) struct ReadRun<'a> {
    pub shared: &'a Shared,
    pub reader: &'a mut Reader,
    pub stream: Stream,
    pub open: Option<OpenRead>,
    /// What each statement may use.
    pub budget: Budget,
    /// Where rows and ends go as they come; what each statement gives is collected, if none.
    pub outlet: Option<Outlet>,
}

impl ReadRun<'_> {
    /// Runs the steps whose conditions hold.
    pub fn program(&mut self, program: &Program) -> Result<Vec<StepOutcome>> {
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
            let mut outcome = match runs.then(|| self.step(outcomes.len(), &step.statement)) {
                None => StepOutcome::Skipped,
                Some(Ok(result)) => StepOutcome::Done(result),
                Some(Err(error)) if error.kind() == Kind::Storage => return Err(error),
                Some(Err(error)) => StepOutcome::Failed(error),
            };
            if let Some(outlet) = &mut self.outlet {
                outcome = outlet.end(outcomes.len(), outcome)?;
            }
            outcomes.push(outcome);
        }
        if special {
            self.reader.db.execute_batch(&Settings::default().pragmas())?;
        }
        self.stream.leave(&context)?;
        Ok(outcomes)
    }

    fn step(&mut self, index: usize, statement: &Statement) -> Result<StatementResult> {
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
        let budget = Budget { began: Instant::now(), ..self.budget };
        let (client, deadline) = (&mut self.reader.client, &self.reader.deadline);
        match &mut self.outlet {
            None => client.run(statement, &budget, deadline),
            Some(outlet) => client.run_each(statement, &budget, deadline, &mut |row| {
                deadline.extend(outlet.row(index, row)?);
                Ok(())
            }),
        }
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
