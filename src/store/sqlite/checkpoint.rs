//! Checkpoints: bringing the write-ahead log into the main file, in two steps.
//!
//! The log is begun again in place, not cut off: a sync of bytes that have their place on the disk
//! already has no file system's metadata to write.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ffi};

use super::SqliteStore;
use super::codes::from_rusqlite;
use super::raw::Db;
use super::{connection, state};
use crate::change::Position;
use crate::error::Result;
use crate::store::disk::Disk;

/// How long the last step waits for readers of old snapshots: commits wait with it.
const PATIENCE: Duration = Duration::from_millis(10);

/// How often the first step is repeated at most.
const PASSES: usize = 4;
/// So few pages may be left to the last step.
const FEW: i64 = 256;

/// How far the write-ahead log has grown, as SQLite tells after each commit.
#[derive(Debug, Default)]
pub(crate) struct LogLength {
    pages: Cell<u64>,
}

unsafe extern "C" fn on_commit(
    context: *mut c_void,
    _: *mut ffi::sqlite3,
    _: *const c_char,
    pages: c_int,
) -> c_int {
    // SAFETY: the context is the boxed LogLength of this connection.
    let length = unsafe { &*context.cast::<LogLength>() };
    length.pages.set(u64::try_from(pages).unwrap_or(0));
    ffi::SQLITE_OK
}

impl LogLength {
    /// Hooks it to a connection; it must be kept as long as the connection is open.
    pub fn install(db: Db) -> Box<LogLength> {
        let length = Box::new(LogLength::default());
        let context = ptr::from_ref(length.as_ref()).cast_mut().cast();
        // SAFETY: the box does not move, and its owner drops it after closing the connection.
        unsafe { ffi::sqlite3_wal_hook(db.0, Some(on_commit), context) };
        length
    }
}

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

    /// Copies the log's pages and syncs both files, again and again as long as the log grows much
    /// meanwhile: what is left, commits have to wait for.
    pub fn pass(&mut self) -> Result<()> {
        let mut done = 0;
        for _ in 0..PASSES {
            let before = std::mem::replace(&mut done, self.pass_once()?);
            if done < before + FEW {
                break;
            }
        }
        Ok(())
    }

    /// Takes a snapshot and copies the pages it sees: so many of the log are copied by now. While the
    /// snapshot is held, SQLite does not start the log over.
    fn pass_once(&mut self) -> Result<i64> {
        let db = Db::of(&self.snapshot);
        if !db.is_autocommit() {
            db.execute_batch("ROLLBACK")?;
        }
        db.execute_batch("BEGIN")?;
        db.query_i64("SELECT count(*) FROM main.sqlite_schema", &[])?;
        let mut copied = 0;
        Db::of(&self.worker).query("PRAGMA wal_checkpoint(PASSIVE)", &[], |row| {
            copied = row.i64(2);
            Ok(())
        })?;
        Ok(copied)
    }

    /// Lets the snapshot go.
    pub fn let_go(&mut self) {
        let _ = Db::of(&self.snapshot).execute_batch("ROLLBACK");
    }
}

/// Where the main file stands by itself, without its log.
pub(crate) fn position_without_log(disk: &dyn Disk, path: &Path) -> Result<Position> {
    let connection = connection::open_without_log(disk, path)?;
    Ok(state::position(Db::of(&connection))?.position)
}

impl SqliteStore {
    /// How many pages the log holds.
    pub(crate) fn log_pages(&self) -> u64 {
        self.log_length.pages.get()
    }

    /// The last step, between two groups: the rest of the log, and the log starts over (unless readers
    /// hold it back: then it goes on growing until the next time), in place or, if it is to `shrink`,
    /// from nothing. Whether all of it is in the main file, and that synced.
    pub(crate) fn checkpoint_rest(&mut self, shrink: bool) -> Result<bool> {
        self.connection.busy_timeout(PATIENCE).map_err(from_rusqlite)?;
        let mode = if shrink { "TRUNCATE" } else { "RESTART" };
        let mut complete = false;
        let log_length = &self.log_length;
        let done = self.db.query(&format!("PRAGMA wal_checkpoint({mode})"), &[], |row| {
            complete = row.i64(1) == row.i64(2);
            if complete && row.i64(0) == 0 {
                log_length.pages.set(0);
            }
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
        copy_pages(&self.connection, disk, to)
    }
}

/// Copies the main file of a database that nobody writes, whatever the log beside it says.
pub(crate) fn copy_without_log(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    copy_pages(&connection::open_without_log(disk, from)?, disk, to)
}

fn copy_pages(from: &Connection, disk: &dyn Disk, to: &Path) -> Result<()> {
    let mut target = connection::open_writable(disk, to, connection::Sync::Full)?;
    let backup = rusqlite::backup::Backup::new(from, &mut target).map_err(from_rusqlite)?;
    backup.run_to_completion(4096, Duration::ZERO, None).map_err(from_rusqlite)?;
    drop(backup);
    Db::of(&target).query("PRAGMA wal_checkpoint(TRUNCATE)", &[], |_| Ok(()))
}
