//! What belongs to a client's stream and not to the connection it happens to run on.

use super::program::{ResultColumn, StatementResult};
use crate::acknowledge::Level;
use crate::change::{Position, Value};
use crate::error::Result;
use crate::store::sqlite::{Context, text};

/// Settings of a stream. SQLite keeps them per connection, and connections are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub foreign_keys: bool,
    pub recursive_triggers: bool,
    pub case_sensitive_like: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { foreign_keys: true, recursive_triggers: false, case_sensitive_like: false }
    }
}

impl Settings {
    /// The PRAGMAs that set them on a connection, outside any transaction.
    pub fn pragmas(&self) -> String {
        let on = |on: bool| if on { "ON" } else { "OFF" };
        format!(
            "PRAGMA foreign_keys = {}; PRAGMA recursive_triggers = {}; PRAGMA case_sensitive_like = {}",
            on(self.foreign_keys),
            on(self.recursive_triggers),
            on(self.case_sensitive_like)
        )
    }

    fn field(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "foreign_keys" => Some(&mut self.foreign_keys),
            "recursive_triggers" => Some(&mut self.recursive_triggers),
            "case_sensitive_like" => Some(&mut self.case_sensitive_like),
            _ => None,
        }
    }
}

/// A stream between two of its requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    pub settings: Settings,
    /// `PRAGMA defer_foreign_keys` outside a transaction counts for the next one.
    pub defer_next: bool,
    pub last_insert_rowid: i64,
    /// The receipt of its last write.
    pub receipt: Option<Position>,
    /// Set by `syncline_read('…')`.
    pub read: Option<String>,
    /// Set by `syncline_acknowledge('…')`.
    pub acknowledge: Option<Level>,
}

/// PRAGMAs that clients set out of habit, and that the node has settled for all of them.
const SETTLED: [(&str, &str); 4] = [
    ("journal_mode", "wal"),
    ("synchronous", "2"),
    ("busy_timeout", "5000"),
    ("cache_size", "-32000"),
];

fn one(name: &str, value: Value) -> StatementResult {
    StatementResult {
        columns: vec![ResultColumn { name: name.to_owned(), decltype: None }],
        rows: vec![vec![value]],
        ..StatementResult::default()
    }
}

impl Stream {
    /// Answers a PRAGMA that concerns the stream alone; none if SQLite has to.
    pub fn pragma(&mut self, sql: &str, in_transaction: bool) -> Option<StatementResult> {
        let (name, value) = text::pragma(sql)?;
        if let Some((name, settled)) = SETTLED.iter().find(|(n, _)| *n == name) {
            let settled = settled.parse().map_or(Value::Text((*settled).into()), Value::Integer);
            return Some(one(name, settled));
        }
        if name == "defer_foreign_keys" && !in_transaction {
            return Some(match value {
                Some(value) => {
                    self.defer_next = is_on(&value);
                    StatementResult::default()
                }
                None => one(&name, Value::Integer(self.defer_next.into())),
            });
        }
        let field = self.settings.field(&name)?;
        match value {
            // Inside a transaction SQLite ignores it silently, and so do clients expect.
            Some(_) if in_transaction && name == "foreign_keys" => {}
            Some(value) => *field = is_on(&value),
            None => return Some(one(&name, Value::Integer((*field).into()))),
        }
        Some(StatementResult::default())
    }

    /// Whether it may share a transaction with others.
    pub fn is_ordinary(&self) -> bool {
        self.settings == Settings::default() && !self.defer_next
    }

    /// Tells our SQL functions whom they serve.
    pub fn enter(&self, context: &Context, node: &str, position: Position) {
        let mut stream = context.stream();
        stream.receipt = self.receipt;
        stream.position = position;
        if stream.node != node {
            node.clone_into(&mut stream.node);
        }
        stream.read = None;
        stream.acknowledge = None;
    }

    /// Takes over what was asked through our SQL functions.
    pub fn leave(&mut self, context: &Context) -> Result<()> {
        let (read, acknowledge) = {
            let mut stream = context.stream();
            (stream.read.take(), stream.acknowledge.take())
        };
        if read.is_some() {
            self.read = read;
        }
        if let Some(level) = acknowledge {
            self.acknowledge = Some(level.parse()?);
        }
        Ok(())
    }
}

fn is_on(value: &str) -> bool {
    matches!(value, "1" | "on" | "true" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_keys_are_the_streams_own_and_fixed_inside_a_transaction() {
        let mut stream = Stream::default();
        assert!(stream.pragma("PRAGMA foreign_keys = off", true).is_some());
        assert!(stream.is_ordinary(), "ignored inside a transaction");
        assert!(stream.pragma("PRAGMA foreign_keys = off", false).is_some());
        assert!(!stream.is_ordinary());
        let answer = stream.pragma("PRAGMA foreign_keys", false).unwrap();
        assert_eq!(answer.rows, [[Value::Integer(0)]]);
    }

    #[test]
    fn settled_pragmas_answer_what_is() {
        let mut stream = Stream::default();
        let answer = stream.pragma("PRAGMA journal_mode = DELETE", false).unwrap();
        assert_eq!(answer.rows, [[Value::Text("wal".into())]]);
        assert!(stream.pragma("PRAGMA table_info(t)", false).is_none());
        assert!(stream.pragma("SELECT 1", false).is_none());
    }
}
