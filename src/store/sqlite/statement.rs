//! One SQL statement, and what it gives.

use std::sync::Arc;
use std::time::Duration;

use crate::change::Value;

/// The arguments of one statement.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Arguments {
    /// None.
    #[default]
    None,
    /// By place.
    Positional(Vec<Value>),
    /// By name, with or without `:`, `@` or `$`.
    Named(Vec<(String, Value)>),
}

/// One SQL statement with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The text: one statement.
    pub sql: Arc<str>,
    /// Its arguments.
    pub arguments: Arguments,
    /// Whether the rows are wanted.
    pub want_rows: bool,
}

impl Statement {
    /// A statement with positional arguments whose rows are wanted.
    pub fn new(sql: impl Into<Arc<str>>, arguments: impl Into<Vec<Value>>) -> Self {
        let arguments = Arguments::Positional(arguments.into());
        Statement { sql: sql.into(), arguments, want_rows: true }
    }
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultColumn {
    /// Its name.
    pub name: String,
    /// The declared type of the table column it comes from, if it comes from one.
    pub decltype: Option<String>,
}

/// What a statement gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatementResult {
    /// The columns; empty for a statement that returns no rows.
    pub columns: Vec<ResultColumn>,
    /// The rows; empty if they were not wanted.
    pub rows: Vec<Vec<Value>>,
    /// Rows inserted, updated or deleted.
    pub affected: u64,
    /// The rowid of the last insert; none for a statement that is no insert.
    pub last_insert_rowid: Option<i64>,
    /// How long it ran.
    pub duration: Duration,
}

/// What is known of a statement without running it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Description {
    /// The parameters' names, by place (none: `?`).
    pub parameters: Vec<Option<String>>,
    /// The columns it would give.
    pub columns: Vec<ResultColumn>,
    /// Whether it is EXPLAIN.
    pub is_explain: bool,
    /// Whether it only reads.
    pub is_readonly: bool,
}
