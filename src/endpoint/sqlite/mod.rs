//! A SQLite file as an endpoint.
//!
//! A file that is only read is opened so: nothing of it changes. On one that is written, triggers are off and
//! foreign keys are not enforced, as they are on no SQLite connection that does not ask for it: rows arrive as
//! they are on the other side, orphans too, and nothing cascades.
//!
//! SQLite's columns hold any class of value. What a column declares is taken for what it means: `DATETIME` for
//! timestamps, `UUID`, `JSON`, `DECIMAL(10,2)` and so on ([`describe`]).

mod affinity;
mod apply;
mod create;
mod describe;
mod pages;
mod read;
mod record;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::chunk::{Chunk, Range};
use super::digests::Leaves;
use super::{Applied, Batch, Column, Endpoint, Engine, Horizon, Interrupt, Key, Plan, Sink, Table};
use crate::error::{Error, Kind, Result};

/// A SQLite file.
pub struct SqliteEndpoint {
    address: String,
    connection: Connection,
    leaves: Leaves,
    /// Tables whose keys SQLite does not give in canonical order.
    unordered: HashSet<String>,
}

/// What an endpoint is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is only read.
    Read,
    /// It is made equal to another.
    Write,
}

/// How long a lock of somebody else's is waited for.
const BUSY: Duration = Duration::from_secs(10);

/// Whether another row has a value that may be there only once.
fn is_taken(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID};
    let taken = [
        rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE,
        SQLITE_CONSTRAINT_PRIMARYKEY,
        SQLITE_CONSTRAINT_ROWID,
    ];
    error.sqlite_error().is_some_and(|error| taken.contains(&error.extended_code))
}

/// An error of SQLite's, by whose fault it is.
fn failed(error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let text = error.to_string();
    let error = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::retry("ENDPOINT_BUSY", format!("somebody else holds the file: {text}"))
                .hint("try again when the other program has finished its transaction")
        }
        Some(ErrorCode::OperationInterrupted) => {
            Error::retry("SESSION_EXPIRED", "this was ended from outside while it ran")
                .hint("run the same command again")
        }
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            Error::new(Kind::Forbidden, "ENDPOINT_FORBIDDEN", text.clone())
                .hint("a node shows its clients' tables, and lets a condition only read")
        }
        Some(ErrorCode::DiskFull) => Error::unavailable("DISK_FULL", text.clone())
            .hint("free space on the disk, and run the same command again"),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
            Error::storage("ENDPOINT_STORAGE", text.clone()).hint("check the disk")
        }
        Some(ErrorCode::NotADatabase) => {
            Error::invalid("ENDPOINT_NOT_FOUND", format!("this is no SQLite file: {text}"))
                .hint("name a SQLite file, or a URL: postgres://, mysql://, http://")
        }
        Some(ErrorCode::DatabaseCorrupt) => Error::corrupt("ENDPOINT_CORRUPT", text.clone())
            .hint("is it a SQLite file? PRAGMA integrity_check says more"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            Error::new(Kind::Forbidden, "ENDPOINT_FORBIDDEN", text.clone())
                .hint("the user that runs this may not write the file or its directory")
        }
        _ if is_taken(&error) => Error::new(Kind::Behind, "VALUE_TAKEN", text.clone())
            .hint("another row has this value, and must change or go first"),
        _ => Error::invalid("ROW_REFUSED", text.clone()),
    };
    error.source(text)
}

impl SqliteEndpoint {
    /// Opens a file. One that is to be written may be new.
    pub fn open(path: &Path, access: Access) -> Result<SqliteEndpoint> {
        let flags = match access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        let cannot = |why: String| {
            Error::invalid(
                "ENDPOINT_NOT_FOUND",
                format!("{} cannot be opened: {why}", path.display()),
            )
            .hint("name an existing SQLite file: sqlite:PATH, or the path alone")
        };
        if access == Access::Read && !path.is_file() {
            return Err(cannot("there is no such file".into()));
        }
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|e| cannot(e.to_string()))?;
        SqliteEndpoint::over(connection, format!("sqlite:{}", path.display()))
    }

    /// Over a connection of one's own, such as one to a database in memory.
    pub fn over(connection: Connection, address: String) -> Result<SqliteEndpoint> {
        connection.busy_timeout(BUSY).map_err(failed)?;
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)
            .map_err(failed)?;
        connection
            .execute_batch("PRAGMA foreign_keys = OFF; PRAGMA cache_size = -8000")
            .map_err(failed)?;
        let (leaves, unordered) = Default::default();
        Ok(SqliteEndpoint { address, connection, leaves, unordered })
    }

    /// The connection, for whoever shares it.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// An identifier as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Endpoint for SqliteEndpoint {
    fn address(&self) -> &str {
        &self.address
    }

    fn engine(&self) -> Engine {
        Engine::Sqlite
    }

    fn tables(&mut self) -> Result<Vec<Table>> {
        describe::tables(&self.connection)
    }

    fn begin(&mut self) -> Result<Horizon> {
        self.end()?;
        // A transaction begins with its first read.
        self.connection
            .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
            .map_err(failed)?;
        Ok(Horizon::Serial)
    }

    fn end(&mut self) -> Result<()> {
        self.leaves.forget();
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK").map_err(failed)?;
        }
        Ok(())
    }

    fn snapshot_warning(&mut self) -> Result<Option<String>> {
        let mode = self.connection.pragma_query_value(None, "journal_mode", |row| row.get(0));
        let mode: String = mode.map_err(failed)?;
        let address = &self.address;
        Ok((mode != "wal" && mode != "memory").then(|| {
            format!(
                "nobody can write to {address} until this sync has ended; after PRAGMA journal_mode = WAL \
                 in that file, both go on"
            )
        }))
    }

    fn read(&mut self, plan: &Plan, ranges: &[Range], sink: &mut Sink<'_>) -> Result<()> {
        read::ranges(&self.connection, &mut self.unordered, plan, ranges, sink)
    }

    fn rows(&mut self, plan: &Plan, keys: &[Key], sink: &mut Sink<'_>) -> Result<()> {
        read::keys(&self.connection, plan, keys, sink)
    }

    fn digest(&mut self, plan: &Plan, ranges: &[Range], bits: u32) -> Result<Vec<Vec<Chunk>>> {
        let (connection, unordered) = (&self.connection, &mut self.unordered);
        self.leaves.digest(plan, ranges, bits, |ranges, sink| {
            read::ranges(connection, unordered, plan, ranges, sink)
        })
    }

    fn since(
        &mut self,
        plan: &Plan,
        version: Option<&[u8]>,
        strict: bool,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        read::since(&self.connection, plan, version, strict, sink)
    }

    fn newest(&mut self, plan: &Plan) -> Result<Option<Key>> {
        read::newest(&self.connection, plan)
    }

    fn nth_key(&mut self, plan: &Plan, after: Option<&Key>, n: usize) -> Result<Option<Key>> {
        read::nth_key(&self.connection, &mut self.unordered, plan, after, n)
    }

    fn apply(&mut self, batch: &Batch<'_>) -> Result<Applied> {
        self.end()?;
        apply::apply(&mut self.connection, batch)
    }

    fn state(&mut self, prefix: &str) -> Result<Vec<(String, String)>> {
        apply::state(&self.connection, prefix)
    }

    fn create_statements(&self, tables: &[Table]) -> Result<Vec<String>> {
        // A reference may name a table that is not there yet.
        Ok(tables.iter().map(create::create_statement).collect())
    }

    fn add_column_statement(&self, table: &str, column: &Column) -> Result<String> {
        let definition = create::column_definition(column);
        Ok(format!("ALTER TABLE {} ADD COLUMN {definition}", quoted(table)))
    }

    fn create(&mut self, statements: &[String]) -> Result<()> {
        self.end()?;
        let transaction = self.connection.transaction().map_err(failed)?;
        statements.iter().try_for_each(|sql| transaction.execute_batch(sql)).map_err(failed)?;
        transaction.commit().map_err(failed)
    }

    fn interrupt(&self) -> Interrupt {
        let handle = self.connection.get_interrupt_handle();
        Box::new(move || handle.interrupt())
    }
}
