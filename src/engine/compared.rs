//! This node's copy as an endpoint of `diff` and `sync`.
//!
//! A connection of its own reads whichever copy serves reads: the backing file, a copy on disk, or one in memory.
//! What it is asked holds names and conditions of whoever compares: they see what a client's SQL may see, and
//! Syncline's own tables are none of it. SQLite maps no file of a node's into memory: one that somebody cuts off
//! would end the process.
//!
//! Left out: writing. A row that came in here would be in no commit, and no reader would hear of it.

use super::database::Database;
use crate::endpoint::sqlite::SqliteEndpoint;
use crate::error::Result;
use crate::store::sqlite::{only_reads, open_for_others};

impl Database {
    /// Opens the copy that serves reads now. Blocks on storage.
    pub fn endpoint(&self) -> Result<SqliteEndpoint> {
        let (_, connection) = self.shared().open_place(open_for_others)?;
        let name = &self.options().name;
        let mut endpoint = SqliteEndpoint::over(connection, format!("database {name}"))?;
        only_reads(endpoint.connection())?;
        Ok(endpoint)
    }

    /// Which copy serves reads: another number whenever another one takes its place.
    pub fn generation(&self) -> u64 {
        self.shared().place().map_or(0, |place| place.generation)
    }
}
