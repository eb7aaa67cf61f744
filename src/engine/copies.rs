//! Where a reader's copies lie.
//!
//! ```text
//! in memory   a disk of its own each, gone with the last one that has it open
//! on disk     DATA_DIR/NAME.copy-7.db, and in DATA_DIR/NAME.copy the number of the current one
//! ```
//!
//! A new copy is built beside the current one under the next number. Left out: finding copies that a
//! process left half-built; the next one of that number takes their place.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::follower::Follower;
use super::mark::remove_database;
use super::options::{DatabaseOptions, WorkingCopy};
use crate::error::{Error, Result};
use crate::store::Source;
use crate::store::disk::Disk;
use crate::store::sqlite::{SqliteStore, Sync};
use crate::store::vfs::MemoryDisk;

/// The log of a copy in memory keeps no more than this: whoever needs more finds it in the backing
/// database.
const MEMORY_LOG: u64 = 64 << 20;

/// How large the log of a working copy may get.
pub(super) fn working_log(options: &DatabaseOptions) -> u64 {
    match options.working_copy {
        WorkingCopy::Memory => options.log_keep_size.min(MEMORY_LOG),
        WorkingCopy::Disk => options.log_keep_size,
    }
}

impl Follower {
    fn pointer(&self) -> PathBuf {
        let options = &self.shared.options;
        options.data_dir.join(format!("{}.copy", options.name))
    }

    fn numbered(&self, number: u64) -> PathBuf {
        let options = &self.shared.options;
        options.data_dir.join(format!("{}.copy-{number}.db", options.name))
    }

    /// Opens the copy of an earlier run, if this reader keeps it on disk.
    pub(super) fn open_disk_copy(&mut self) -> Result<()> {
        let options = self.shared.options.clone();
        if options.working_copy == WorkingCopy::Memory {
            return Ok(());
        }
        let unreadable = |e: std::io::Error| {
            Error::storage("COPY_FAILED", format!("the copy cannot be reached: {e}"))
        };
        let Some(bytes) = options.disk.read(&self.pointer()).map_err(unreadable)? else {
            return Ok(());
        };
        self.generation = String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(0);
        let path = self.numbered(self.generation);
        if options.disk.identity(&path).map_err(unreadable)?.is_none() {
            return Ok(());
        }
        let mut store = self.open_copy(options.disk.clone(), path)?;
        self.shared.set_place(store.disk().clone(), store.path().to_owned());
        self.shared.publish(store.position());
        self.shared.verified_at(store.verified()?);
        // It had everything that there was when its last commit was made; whatever came later is missing.
        self.shared.fresh_at.store(store.standing()?.at.0, Ordering::Relaxed);
        self.copy = Some(store);
        self.remember();
        Ok(())
    }

    fn open_copy(&self, disk: Arc<dyn Disk>, path: PathBuf) -> Result<SqliteStore> {
        let limit = self.shared.options.limits.commit_bytes;
        let store = SqliteStore::open(disk, &path, Sync::Normal, limit)?;
        store.follow()?;
        store.checkpoint_by_itself()?;
        Ok(store)
    }

    pub(super) fn new_copy(&mut self) -> Result<SqliteStore> {
        self.generation += 1;
        let options = self.shared.options.clone();
        match options.working_copy {
            WorkingCopy::Memory => {
                let path = PathBuf::from(format!("/{}.db", options.name));
                self.open_copy(Arc::new(MemoryDisk::new()), path)
            }
            WorkingCopy::Disk => {
                let path = self.numbered(self.generation);
                remove_database(options.disk.as_ref(), &path);
                self.open_copy(options.disk.clone(), path)
            }
        }
    }

    pub(super) fn point_at(&self, store: &SqliteStore) -> Result<()> {
        if self.shared.options.working_copy == WorkingCopy::Memory {
            return Ok(());
        }
        let number = self.generation.to_string();
        store.disk().write_atomic(&self.pointer(), number.as_bytes()).map_err(|e| {
            Error::storage(
                "COPY_FAILED",
                format!("the new copy cannot be made the current one: {e}"),
            )
        })
    }

    pub(super) fn discard_copy(&self, store: &SqliteStore) {
        if self.shared.options.working_copy == WorkingCopy::Disk {
            remove_database(store.disk().as_ref(), store.path());
        }
    }

    /// Hands the copy over to a writer; this thread ends.
    pub fn hand_over(&mut self) -> Option<SqliteStore> {
        self.ended = true;
        self.source = None;
        self.copy.take()
    }
}
