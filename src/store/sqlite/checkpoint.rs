//! Checkpoints: bringing the write-ahead log into the main file, in two steps.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::SqliteStore;
use super::codes::from_rusqlite;
use super::connection;
use super::raw::Db;
use crate::error::Result;
use crate::store::disk::Disk;

/// How long the last step waits for readers of old snapshots: commits wait with it.
const PATIENCE: Duration = Duration::from_millis(10);

/// The first step: everything up to a snapshot, beside the writer.
pub(crate) struct Checkpointer {
    snapshot: Connection,
    worker: Connection,
}

impl Checkpointer {
    /// Opens it beside the writer, and for as long as that lives: opened later, it might find another
    /// file at the path, and would write the old log into it.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Checkpointer> {
        let snapshot = connection::open_readonly(disk.as_ref(), path)?;
        let worker = connection::open_writable(disk.as_ref(), path, connection::Sync::Full)?;
        Ok(Checkpointer { snapshot, worker })
    }

    /// Takes a snapshot, copies the pages it sees and syncs both files. While the snapshot is held,
    /// SQLite does not start the log over.
    pub fn pass(&mut self) -> Result<()> {
        let db = Db::of(&self.snapshot);
        db.execute_batch("BEGIN")?;
        db.query_i64("SELECT count(*) FROM main.sqlite_schema", &[])?;
        Db::of(&self.worker).query("PRAGMA wal_checkpoint(PASSIVE)", &[], |_| Ok(()))
    }

    /// Lets the snapshot go.
    pub fn let_go(&mut self) {
        let _ = Db::of(&self.snapshot).execute_batch("ROLLBACK");
    }
}

impl SqliteStore {
    /// The last step, between two groups: the rest of the log, and the log starts over (unless readers
    /// hold it back: then it goes on growing until the next time). Whether all of it is in the main file,
    /// and that synced.
    pub(crate) fn checkpoint_rest(&mut self) -> Result<bool> {
        self.connection.busy_timeout(PATIENCE).map_err(from_rusqlite)?;
        let mut complete = false;
        let done = self.db.query("PRAGMA wal_checkpoint(TRUNCATE)", &[], |row| {
            complete = row.i64(1) == row.i64(2);
            Ok(())
        });
        self.connection.busy_timeout(connection::BUSY).map_err(from_rusqlite)?;
        match done {
            Err(error) if error.code() == "SQLITE_BUSY" || error.code() == "SQLITE_LOCKED" => {
                Ok(false)
            }
            done => done.map(|()| complete),
        }
    }

    /// Copies this database, page by page, into a new file: what VACUUM would renumber stays.
    pub(crate) fn copy_pages(&self, disk: &dyn Disk, to: &Path) -> Result<()> {
        let mut target = connection::open_writable(disk, to, connection::Sync::Full)?;
        let backup =
            rusqlite::backup::Backup::new(&self.connection, &mut target).map_err(from_rusqlite)?;
        backup.run_to_completion(4096, Duration::ZERO, None).map_err(from_rusqlite)?;
        drop(backup);
        Db::of(&target).query("PRAGMA wal_checkpoint(TRUNCATE)", &[], |_| Ok(()))
    }
}
