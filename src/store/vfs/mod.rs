//! Disks in memory: a VFS for SQLite, with shared memory, that can be told to forget.
//!
//! SQLite reaches files through a table of functions, a VFS. This one keeps its files in this
//! process's memory and registers itself under a name of its own for every disk. It serves three
//! masters: replicas that are kept in memory, the power-loss tests, and the disks of the simulation.
//!
//! ```text
//!   connection ─ connection ─ connection        each with its own locks
//!        └────────────┼────────────┘
//!             ffi     the C callbacks
//!           handle    one open file
//!     ┌───────┬───────┴────────┬──────────┐
//!    lock    shm             file       volume ── fault
//!   5 steps  WAL index       chunks     names     gate, frozen, faults
//!            and 8 locks     sectors
//! ```
//!
//! # Why not what SQLite has
//!
//! A database that lives in memory and serves many threads needs readers that keep their snapshot
//! while a writer commits: WAL mode. WAL needs memory that connections share, which a VFS must
//! provide.
//!
//! | | snapshots while writing | several files | power loss |
//! |---|---|---|---|
//! | `:memory:` | one connection only | no | no |
//! | `memdb` VFS | no shared memory, so no WAL: a writer waits for readers, readers for it | yes | no |
//! | shared cache | table locks (`SQLITE_LOCKED`, which no busy handler sees), or reads of what is not committed | no | no |
//! | here | WAL | yes | yes |
//!
//! Here a page read is a shared lock and a copy. Nothing is ever written through to a file.
//!
//! # Power loss
//!
//! A disk made by [`MemoryDisk::power_loss`] remembers, sector by sector, what was there before the
//! last sync. [`MemoryDisk::crash`] then decides by a seed what each unsynced sector becomes (kept,
//! lost, half of each, rubbish), and gives that as a new disk; the old one is frozen, so
//! that threads of the "process" that died can change nothing any more. It promises SQLite no more
//! than it holds: no powersafe overwrite, no order of writes, 512-byte sectors.
//! ([`MemoryDisk::powersafe`] holds the first, as SQLite takes for granted of the system's disks.)
//!
//! Locks and shared memory are not on the disk: after a crash there are none.
//!
//! # What is left out
//!
//! * Directories: any path is as good as any other, and changes of names are durable at once. So a
//!   rename or a removal that a missing directory sync would lose is not lost here. A *file* created
//!   and not synced may well survive empty.
//! * Memory mapping, and sharing with other processes.
//! * Damage to what was synced: bit rot, lost writes, a drive that lies about syncs.
//! * Time and randomness of SQLite's own functions: they are the real ones, also in a simulation.

pub(in crate::store) mod chance;
mod fault;
mod ffi;
mod file;
mod handle;
mod host;
mod lock;
mod shm;
mod volume;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use fault::{Fault, FaultError, FaultOn, Times};

use super::disk::{Disk, FileId};
use chance::Chance;
use fault::Failure;
use volume::{Loss, Volume, name_of};

/// A disk in this process's memory.
///
/// Clones are the same disk. It lasts until the last clone is dropped and the last connection to a
/// file on it is closed; then SQLite forgets its name.
///
/// ```
/// use syncline::store::{disk::Disk, vfs::MemoryDisk};
///
/// let disk = MemoryDisk::new();
/// let open = || {
///     let flags = rusqlite::OpenFlags::default();
///     rusqlite::Connection::open_with_flags_and_vfs("/main.db", flags, disk.vfs())
/// };
/// let (writer, reader) = (open()?, open()?);
/// writer.pragma_update(None, "journal_mode", "wal")?;
/// writer.execute_batch("CREATE TABLE t (x)")?;
/// reader.execute_batch("BEGIN; SELECT * FROM t")?;
/// writer.execute_batch("INSERT INTO t VALUES (1)")?; // the reader is not in the way
/// # Ok::<(), rusqlite::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryDisk {
    volume: Arc<Volume>,
}

impl MemoryDisk {
    /// An empty disk that never loses power.
    pub fn new() -> MemoryDisk {
        MemoryDisk { volume: Volume::new(Loss::Never, u64::MAX) }
    }

    /// An empty disk that remembers what is not synced, so that it can [`MemoryDisk::crash`].
    pub fn power_loss() -> MemoryDisk {
        MemoryDisk { volume: Volume::new(Loss::Spoiled, u64::MAX) }
    }

    /// Like [`MemoryDisk::power_loss`], on a drive that never touches what nobody wrote.
    ///
    /// For whoever crashes again after a recovery: SQLite goes on writing in the sector in which the
    /// last frame of the log ends, so that a drive that spoils it takes what was synced long before.
    pub fn powersafe() -> MemoryDisk {
        MemoryDisk { volume: Volume::new(Loss::Torn, u64::MAX) }
    }

    /// Bytes in all files.
    pub fn used(&self) -> u64 {
        self.volume.space.used()
    }

    /// Limits the bytes in all files: what would exceed it fails with `SQLITE_FULL` and writes
    /// nothing. `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.volume.space.capacity.store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Power fails now. What survives is a new disk, the same for the same seed and the same
    /// operations before; this one is frozen: it can be read, and every change fails.
    ///
    /// On a disk that was not made by [`MemoryDisk::power_loss`] everything survives.
    pub fn crash(&self, seed: u64) -> MemoryDisk {
        MemoryDisk { volume: self.volume.crash(Some(Chance::new(seed))) }
    }

    /// The process dies now, and the machine lives on: everything written survives, synced or not
    /// (and what is not synced may still be lost to a later [`MemoryDisk::crash`]).
    pub fn kill(&self) -> MemoryDisk {
        MemoryDisk { volume: self.volume.crash(None) }
    }

    /// Freezes by itself after `n` more operations, so that a [`MemoryDisk::crash`] afterwards
    /// shows the state at that point.
    pub fn crash_at(&self, n: u64) {
        self.volume.gate.freeze_after(n);
    }

    /// Whether every change now fails.
    pub fn is_frozen(&self) -> bool {
        self.volume.gate.is_frozen()
    }

    /// Changes so far: writes, truncations, syncs, and files created, renamed or removed.
    pub fn operations(&self) -> u64 {
        self.volume.gate.operations()
    }

    /// Orders a fault.
    pub fn fail(&self, fault: Fault) {
        self.volume.gate.order(fault);
    }

    /// Takes back all faults that were ordered.
    pub fn heal(&self) {
        self.volume.gate.clear();
    }

    /// Puts another file in this place, as a restore does that renames: a new identity, synced.
    /// Connections that have the old one open keep it.
    ///
    /// Like [`MemoryDisk::copy_over`] the hand of another: no fault strikes it, no frozen disk stops
    /// it, and it counts as no operation.
    pub fn replace(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        self.volume.replace(&name_of(path.as_ref()), bytes);
    }

    /// Writes other content into the file, as a restore does that copies: the same identity, synced.
    pub fn copy_over(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        Ok(self.volume.copy_over(&name_of(path.as_ref()), bytes)?)
    }

    /// All files, by name.
    pub fn files(&self) -> Vec<PathBuf> {
        self.volume.names().into_iter().map(PathBuf::from).collect()
    }

    /// The content of a file now, synced or not; empty if there is none.
    pub fn snapshot(&self, path: impl AsRef<Path>) -> Vec<u8> {
        let file = self.volume.file(&name_of(path.as_ref()));
        file.map(|file| file.read_all()).unwrap_or_default()
    }
}

impl Default for MemoryDisk {
    fn default() -> MemoryDisk {
        MemoryDisk::new()
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk")
            .field("vfs", &self.volume.vfs)
            .field("files", &self.volume.names())
            .finish()
    }
}

impl Disk for MemoryDisk {
    fn vfs(&self) -> &str {
        &self.volume.vfs
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let name = name_of(path);
        self.volume.gate.fault(FaultOn::Read, &name)?;
        Ok(self.volume.file(&name).map(|file| file.read_all()))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let name = name_of(path);
        self.volume.gate.fault(FaultOn::Read, &name)?;
        let file = self.volume.file(&name).ok_or(Failure::Missing)?;
        let mut bytes = vec![0; len];
        let there = file.read(&mut bytes, offset);
        bytes.truncate(there);
        Ok(bytes)
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        Ok(self.volume.write_atomic(&name_of(path), bytes)?)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileId>> {
        let file = self.volume.file(&name_of(path));
        Ok(file.map(|file| FileId { device: 0, object: file.object }))
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(self.volume.file(&name_of(path)).map(|file| file.len()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.volume.remove(&name_of(path)) {
            Ok(()) | Err(Failure::Missing) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(self.volume.rename(&name_of(from), &name_of(to))?)
    }

    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn run_of_the_machine(&self) -> Option<String> {
        Some(format!("after {} failures of power", self.volume.failures))
    }
}
