//! SQL of our own, for clients that cannot set headers: functions and read-only views, never PRAGMAs
//! or grammar, since client libraries parse SQL themselves.

use std::sync::{Arc, Mutex};

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Error as SqliteError};

use super::codes::from_rusqlite;
use crate::change::Position;
use crate::error::Result;

/// The catalogue without our own tables, and what we show of ourselves.
pub(crate) const VIEWS: &str = r"
CREATE TEMP VIEW syncline_schema AS
    SELECT type, name, tbl_name, rootpage, sql FROM main.sqlite_schema
    WHERE name NOT LIKE '\_syncline\_%' ESCAPE '\'
      AND tbl_name NOT LIKE '\_syncline\_%' ESCAPE '\';
CREATE TEMP VIEW syncline_table_list AS
    SELECT * FROM pragma_table_list
    WHERE name NOT LIKE '\_syncline\_%' ESCAPE '\' AND name NOT LIKE 'syncline\_%' ESCAPE '\';
CREATE TEMP VIEW syncline_tables AS
    SELECT name, rows, lower(hex(digest)) AS digest FROM main._syncline_state
    WHERE rows IS NOT NULL;
CREATE TEMP VIEW syncline_held AS
    SELECT id, at, reason, bytes FROM main._syncline_held;
";

/// What the functions answer, and what they were asked: set before a stream's statements run, read
/// after.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context(Arc<Mutex<Stream>>);

/// The stream on whose behalf the connection works now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    /// The receipt of its last write.
    pub receipt: Option<Position>,
    /// Where the copy stands that it sees.
    pub position: Position,
    /// The node it talks to.
    pub node: String,
    /// `syncline_read('…')` was called with this.
    pub read: Option<String>,
    /// `syncline_acknowledge('…')` was called with this.
    pub acknowledge: Option<String>,
}

impl Context {
    /// The stream, to be set or read.
    pub fn stream(&self) -> std::sync::MutexGuard<'_, Stream> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Registers the functions.
pub(crate) fn install(connection: &Connection) -> Result<Context> {
    let context = Context::default();
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    let getter = |name: &str, get: fn(&Stream) -> Option<String>| {
        let context = context.clone();
        connection
            .create_scalar_function(name, 0, flags, move |_| Ok(get(&context.stream())))
            .map_err(from_rusqlite)
    };
    getter("syncline_receipt", |s| s.receipt.map(|receipt| receipt.to_string()))?;
    getter("syncline_position", |s| Some(s.position.to_string()))?;
    getter("syncline_node", |s| Some(s.node.clone()))?;
    let setter = |name: &str, set: fn(&mut Stream, String)| {
        let context = context.clone();
        connection
            .create_scalar_function(name, 1, flags, move |call| {
                let option: String = call.get(0).map_err(|_| wants_text())?;
                set(&mut context.stream(), option.clone());
                Ok(option)
            })
            .map_err(from_rusqlite)
    };
    setter("syncline_read", |s, option| s.read = Some(option))?;
    setter("syncline_acknowledge", |s, option| s.acknowledge = Some(option))?;
    Ok(context)
}

fn wants_text() -> SqliteError {
    SqliteError::UserFunctionError("the option is a text, such as 'max-stale=2s'".into())
}
