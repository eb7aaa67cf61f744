//! A file that SQLite has open: one connection's view of a file object, its locks, its part in the
//! shared memory. Everything the C callbacks do, without C.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fault::{Failure, FaultOn};
use super::file::File;
use super::lock::Level;
use super::shm::{Link, Slots};
use super::volume::Volume;

/// Used by one thread at a time: SQLite holds the connection's mutex during every call.
pub(super) struct Handle {
    pub(super) volume: Arc<Volume>,
    /// `SQLITE_FCNTL_PERSIST_WAL`: the WAL stays when the last connection closes.
    pub(super) persist_wal: bool,
    file: Arc<File>,
    /// Empty for a file without one.
    name: String,
    read_only: bool,
    level: Level,
    link: Link,
    /// The failed syncs of the file that this handle has heard of, or that were before it.
    heard: AtomicU64,
}

impl Handle {
    pub(super) fn new(volume: Arc<Volume>, file: Arc<File>, name: &str, read_only: bool) -> Handle {
        Handle {
            volume,
            persist_wal: false,
            heard: AtomicU64::new(file.failed_syncs()),
            file,
            name: name.to_owned(),
            read_only,
            level: Level::None,
            link: Link::default(),
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Failure> {
        self.volume.gate.fault(FaultOn::Read, &self.name)?;
        Ok(self.file.read(buffer, offset))
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Failure> {
        if self.read_only {
            return Err(Failure::ReadOnly);
        }
        let _passage = self.volume.gate.change(Some(FaultOn::Write), &self.name)?;
        self.file.write(bytes, offset)
    }

    pub(super) fn truncate(&self, len: u64) -> Result<(), Failure> {
        if self.read_only {
            return Err(Failure::ReadOnly);
        }
        let _passage = self.volume.gate.change(Some(FaultOn::Truncate), &self.name)?;
        self.file.set_len(len)
    }

    /// Syncs; fails also if a sync through another handle has failed since this one's last.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        let passage = self.volume.gate.change(Some(FaultOn::Sync), &self.name);
        match &passage {
            Ok(_) => self.file.sync(),
            Err(_) => self.file.sync_failed(),
        }
        let failed = self.file.failed_syncs();
        let heard = self.heard.swap(failed, Ordering::Relaxed);
        match passage {
            Ok(_) if heard != failed => Err(Failure::Io),
            passage => passage.map(drop),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.file.len()
    }

    /// Raises the lock. `false` if another connection is in the way.
    pub(super) fn lock(&mut self, to: Level) -> bool {
        self.level = self.file.locks.lock().unwrap().raise(self.level, to);
        self.level >= to
    }

    pub(super) fn unlock(&mut self, to: Level) {
        self.level = self.file.locks.lock().unwrap().lower(self.level, to);
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Whether any connection, this one included, is about to write.
    pub(super) fn is_reserved(&self) -> bool {
        self.file.locks.lock().unwrap().is_reserved()
    }

    /// Whether the name now belongs to another file, or to none.
    pub(super) fn has_moved(&self) -> bool {
        let now = self.volume.file(&self.name);
        !self.name.is_empty() && now.is_none_or(|file| !Arc::ptr_eq(&file, &self.file))
    }

    pub(super) fn shm_map(&mut self, region: usize, size: usize, extend: bool) -> *mut c_void {
        self.file.shm.map(&mut self.link, region, size, extend)
    }

    pub(super) fn shm_lock(&mut self, slots: Slots, exclusive: bool) -> bool {
        match exclusive {
            true => self.file.shm.lock_exclusive(&mut self.link, slots),
            false => self.file.shm.lock_shared(&mut self.link, slots),
        }
    }

    pub(super) fn shm_unlock(&mut self, slots: Slots) {
        self.file.shm.unlock(&mut self.link, slots);
    }

    pub(super) fn shm_detach(&mut self) {
        self.file.shm.detach(&mut self.link);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shm_detach();
        self.unlock(Level::None);
    }
}
