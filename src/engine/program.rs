//! What a client asks to run, and what it gets back.

use crate::change::Position;
use crate::error::Error;
pub use crate::store::sqlite::{Arguments, Description, ResultColumn, Statement, StatementResult};

/// When a step of a program runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// That step ran and did not fail.
    Ok(usize),
    /// That step ran and failed.
    Error(usize),
    /// Not so.
    Not(Box<Condition>),
    /// All of them.
    And(Vec<Condition>),
    /// Any of them.
    Or(Vec<Condition>),
    /// The stream is in no transaction.
    IsAutocommit,
}

/// One step of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What runs.
    pub statement: Statement,
    /// When; always, if none.
    pub condition: Option<Condition>,
}

/// What one request runs: a single statement, or several that see each other's outcomes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program {
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Program {
    /// A program of one statement.
    pub fn single(statement: Statement) -> Self {
        Program { steps: vec![Step { statement, condition: None }] }
    }
}

/// How a step ended.
#[derive(Debug)]
pub enum StepOutcome {
    /// Its condition did not hold.
    Skipped,
    /// It ran.
    Done(StatementResult),
    /// It failed.
    Failed(Error),
}

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// One for each step; none at all if a [`Sink`](super::Sink) got them while they came.
    pub steps: Vec<StepOutcome>,
    /// The receipt, if something was written.
    pub receipt: Option<Position>,
}
