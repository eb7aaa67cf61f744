//! The disk seam: how everything but SQLite itself reaches files, and which VFS SQLite uses.
//!
//! ```text
//!   store, heal, raft log … ──▶ Disk ──▶ NativeDisk   the operating system, VFS "unix"
//!   SQLite ──▶ Disk::vfs() ───────▶ MemoryDisk   memory, a VFS of its own (super::vfs)
//! ```
//!
//! One value names both ways to a file, so that a database and the files beside it can never come
//! to lie on two disks. What loses power in a test, loses it for SQLite and for us together.
//!
//! **What an implementation owes.** [`Disk::write_atomic`] is durable when it returns, and at no
//! moment, crash included, does a reader find anything but the whole old or the whole new content.
//! [`Disk::remove`], [`Disk::rename`] and [`Disk::create_dir_all`] are durable when they return.
//! [`Disk::identity`] differs between any two files that exist at the same time, survives a
//! rename, and changes when another file takes the name: it is how a restore is noticed.
//!
//! **Left out**: appending, streaming and locking. What grows lies in SQLite, which has its own
//! calls for all three; the files here are small and replaced as a whole.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The file system it lies on. In memory: 0.
    pub device: u64,
    /// The file on it.
    pub object: u64,
}

/// A disk. Shared as `Arc<dyn Disk>`.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// The name of the VFS through which SQLite must open its files on this disk.
    fn vfs(&self) -> &str;

    /// The whole content, or `None` where there is no file.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Up to `len` bytes from `offset`; fewer where the file ends earlier.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;

    /// Replaces the content, durably, and all or nothing. The file gets a new identity.
    ///
    /// After an error either content may be there: only a success says which.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Which file has this name now, or `None` where there is none.
    fn identity(&self, path: &Path) -> io::Result<Option<FileId>>;

    /// Its length, or `None` where there is no file.
    fn len(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Locks the file `path` (made if need be) against every other process, until the guard is
    /// dropped or the process ends. `None`: another one has it. Disks of one process lock nothing.
    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        Ok(Some(Box::new(())))
    }

    /// Removes the name. No file there is no error: it is gone, as was asked.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives the file another name, in place of any file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Creates a directory and those above it, where missing.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Which run of the machine this is, if that can be told: what was not synced in an earlier one may be
    /// gone.
    fn run_of_the_machine(&self) -> Option<String> {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
    }
}

/// A file that is locked until this is dropped.
///
/// Closing the file would leave the lock to a child process that is just being started and has the same
/// open file for a moment.
struct Locked(fs::File);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// The operating system's disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct NativeDisk;

impl Disk for NativeDisk {
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let file = fs::File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(Locked(file)))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn vfs(&self) -> &str {
        "unix"
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        unless_missing(fs::read(path))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = fs::File::open(path)?;
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    // A process killed in the middle leaves a `.tmp…` file behind. Its name is random, so that
    // two writers of one path do not write into each other's.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(directory_of(path))?;
        temporary.write_all(bytes)?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|e| e.error)?;
        sync_directory_of(path)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileId>> {
        let found = unless_missing(fs::metadata(path))?;
        Ok(found.map(|file| FileId { device: file.dev(), object: file.ino() }))
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(unless_missing(fs::metadata(path))?.map(|file| file.len()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match unless_missing(fs::remove_file(path))? {
            Some(()) => sync_directory_of(path),
            None => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_directory_of(to)?;
        if directory_of(from) == directory_of(to) { Ok(()) } else { sync_directory_of(from) }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        self.create_dir_all(directory_of(path))?;
        match fs::create_dir(path) {
            Err(_) if path.is_dir() => Ok(()),
            Err(e) => Err(e),
            Ok(()) => sync_directory_of(path),
        }
    }
}

fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name is durable only once its directory is: a synced file may otherwise be lost by name.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    fs::File::open(directory_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::vfs::MemoryDisk;
    use std::path::PathBuf;

    /// What every disk must do. `root` is an empty directory on it.
    fn conforms(disk: &dyn Disk, root: &Path) {
        let at = |name: &str| -> PathBuf { root.join("deep/er").join(name) };
        disk.create_dir_all(&at("")).unwrap();
        disk.create_dir_all(&at("")).unwrap();
        nothing_is_there(disk, &at("a"));
        contents_are_replaced_whole(disk, &at("a"));
        names_move_and_go(disk, &at("a"), &at("b"));
        sqlite_shares_it(disk, &at("c.db"));
    }

    fn nothing_is_there(disk: &dyn Disk, a: &Path) {
        assert_eq!(disk.read(a).unwrap(), None);
        assert_eq!(disk.len(a).unwrap(), None);
        assert_eq!(disk.identity(a).unwrap(), None);
        assert_eq!(disk.read_at(a, 0, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.rename(a, a).unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.remove(a).unwrap();
    }

    fn contents_are_replaced_whole(disk: &dyn Disk, a: &Path) {
        disk.write_atomic(a, b"first and longer").unwrap();
        let first = disk.identity(a).unwrap().unwrap();
        assert_eq!(disk.identity(a).unwrap(), Some(first));
        disk.write_atomic(a, b"second").unwrap();
        assert_eq!(disk.read(a).unwrap().unwrap(), b"second");
        assert_eq!(disk.len(a).unwrap(), Some(6));
        assert_ne!(disk.identity(a).unwrap(), Some(first), "another file took the name");
        assert_eq!(disk.read_at(a, 2, 3).unwrap(), b"con");
        assert_eq!(disk.read_at(a, 4, 10).unwrap(), b"nd");
        assert_eq!(disk.read_at(a, 9, 10).unwrap(), b"");
    }

    fn names_move_and_go(disk: &dyn Disk, a: &Path, b: &Path) {
        let moved = disk.identity(a).unwrap();
        disk.write_atomic(b, b"in the way").unwrap();
        disk.rename(a, b).unwrap();
        assert_eq!(disk.read(a).unwrap(), None);
        assert_eq!(disk.read(b).unwrap().unwrap(), b"second");
        assert_eq!(disk.identity(b).unwrap(), moved);
        disk.remove(b).unwrap();
        assert_eq!(disk.len(b).unwrap(), None);
    }

    /// A database that SQLite writes is a file of this disk, and one put there is a database.
    fn sqlite_shares_it(disk: &dyn Disk, path: &Path) {
        let open = |path: &Path| {
            let flags = rusqlite::OpenFlags::default();
            rusqlite::Connection::open_with_flags_and_vfs(path, flags, disk.vfs()).unwrap()
        };
        let first = open(path);
        first.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (7)").unwrap();
        drop(first);
        let bytes = disk.read(path).unwrap().unwrap();
        assert!(bytes.starts_with(b"SQLite format 3\0"));
        let copy = path.with_extension("copy");
        disk.write_atomic(&copy, &bytes).unwrap();
        let x: i64 = open(&copy).query_row("SELECT x FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(x, 7);
    }

    #[test]
    fn the_native_disk_conforms() {
        let directory = tempfile::tempdir().unwrap();
        conforms(&NativeDisk, directory.path());
    }

    #[test]
    fn the_memory_disk_conforms() {
        conforms(&MemoryDisk::new(), Path::new("/data"));
    }

    #[test]
    fn the_power_loss_disk_conforms() {
        conforms(&MemoryDisk::power_loss(), Path::new("/data"));
    }
}
