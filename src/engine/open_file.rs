//! Opening a SQLite backing file to write it: whether it is the one that was left, and with its own log.

use std::path::Path;

use super::database::Database;
use super::mark::{self, beside, remove_database};
use super::open::{begin_to_reign, build_core, io_failed, start_writing, wait_for_a_decision};
use super::options::{DatabaseOptions, OnRestore};
use super::reign::{holder_of, holder_that_may_be_followed, locked_by, may_take_epoch};
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::store::sqlite::{SqliteStore, Sync, copy_without_log};

/// WAL needs memory that processes share; network file systems have none.
pub(super) fn refuse_network_file_system(path: &Path) -> Result<()> {
    const NETWORK: [(i64, &str); 4] =
        [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB"), (0x0102_1997, "9p")];
    let directory = path.parent().unwrap_or(Path::new("."));
    let found = file_system(directory).and_then(|kind| NETWORK.iter().find(|(n, _)| *n == kind));
    match found {
        Some((_, name)) => Err(Error::invalid(
            "NETWORK_FILE_SYSTEM",
            format!(
                "{} lies on {name}; a SQLite backing file is for the processes of one machine",
                path.display()
            ),
        )
        .hint("put it on a local disk, or use a PostgreSQL backing database")),
        None => Ok(()),
    }
}

#[cfg(target_os = "linux")]
fn file_system(directory: &Path) -> Option<i64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes()).ok()?;
    // SAFETY: statfs fills the struct it is given; the path is NUL-terminated.
    unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        (libc::statfs(path.as_ptr(), &mut stat) == 0).then_some(stat.f_type as i64 & 0xffff_ffff)
    }
}

#[cfg(not(target_os = "linux"))]
fn file_system(_directory: &Path) -> Option<i64> {
    None
}

/// Opens the backing file to write it. If somebody has SQLite's lock all the while, that one is named.
pub(super) fn open_backing_file(shared: &Shared, path: &Path) -> Result<SqliteStore> {
    let options = &shared.options;
    open_file(options, path).map_err(|error| match error.code() {
        "SQLITE_BUSY" => {
            let holder = holder_of(options);
            let alive = may_take_epoch(shared, holder.as_ref(), options.take_over).err();
            alive.unwrap_or_else(|| locked_by(holder.as_ref()))
        }
        _ => error,
    })
}

/// Opens the writer of a backing file.
pub(super) fn open_writer(database: &Database, path: &Path) -> Result<()> {
    let shared = database.shared();
    let options = &shared.options;
    let mark = mark::read(options.disk.as_ref(), &mark::path(&options.data_dir, &options.name))?;
    if let Some(mark) = &mark {
        shared.knows(&mark.lineage);
    }
    let mut restored = match &mark {
        Some(mark) => mark::files_were_restored(options.disk.as_ref(), path, mark)?,
        None => None,
    };
    if restored.is_some() {
        refuse_if_gone(options, path)?;
    }
    if restored.is_some() || left_its_log(options, path, mark.as_ref())? {
        part_from_log(options, path)?;
    }
    let mut file = open_backing_file(shared, path)?;
    if let (Some(mark), None) = (&mark, &restored) {
        restored = mark::content_was_restored(&mut file, mark)?;
    }
    let adopt = options.on_restore == OnRestore::Adopt;
    if let Some(why) = restored.as_ref().filter(|_| !adopt) {
        holder_that_may_be_followed(shared, &mut file, options.take_over)?;
        return wait_for_a_decision(database, build_core(shared, file)?, why);
    }
    begin_to_reign(shared, &mut file, restored)?;
    start_writing(database, build_core(shared, file)?)
}

/// Whether the log at the backing file's place is of a file that lay there before. Even an empty one:
/// whoever has that file open still uses it.
fn left_its_log(options: &DatabaseOptions, path: &Path, mark: Option<&mark::Mark>) -> Result<bool> {
    mark.map_or(Ok(false), |mark| mark::log_is_of_another_file(options.disk.as_ref(), path, mark))
}

/// A SQLite file with a database in it, or to become one.
pub(crate) fn open_file(options: &DatabaseOptions, path: &Path) -> Result<SqliteStore> {
    SqliteStore::open(options.disk.clone(), path, Sync::Full, options.limits.commit_bytes)
}

fn refuse_if_gone(options: &DatabaseOptions, path: &Path) -> Result<()> {
    let there =
        options.disk.identity(path).map_err(io_failed("the backing file cannot be reached"))?;
    if there.is_some() {
        return Ok(());
    }
    Err(Error::diverged(
        "BACKING_GONE",
        format!("the backing file {} is gone; this node had written to it", path.display()),
    )
    .hint(format!(
        "put it back (a backup will do), promote a reader, or remove {} to begin an empty database",
        mark::path(&options.data_dir, &options.name).display()
    )))
}

/// Parts a main file from a log that belongs to another one.
///
/// Whoever opened the main file before that has read the log's index, and processes share the index by the
/// main file they have open. So the content gets a file of its own, that nobody has open.
pub(crate) fn part_from_log(options: &DatabaseOptions, path: &Path) -> Result<()> {
    let disk = options.disk.as_ref();
    let fresh = beside(path, ".parted");
    remove_database(disk, &fresh);
    copy_without_log(disk, path, &fresh)?;
    put_in_place(options, &fresh, path)
}

/// Puts a new file at the database's place, without the log that lies there.
pub(crate) fn put_in_place(options: &DatabaseOptions, fresh: &Path, path: &Path) -> Result<()> {
    set_log_aside(options, path)?;
    let disk = options.disk.as_ref();
    disk.rename(fresh, path).map_err(io_failed("the database cannot be put in its place"))?;
    remove_database(disk, fresh);
    Ok(())
}

/// A write-ahead log that belongs to another main file is kept, but out of SQLite's way; an empty one
/// only goes.
fn set_log_aside(options: &DatabaseOptions, path: &Path) -> Result<()> {
    let now = options.clock.now().0;
    let failed = io_failed("the old write-ahead log cannot be set aside");
    let wal = beside(path, "-wal");
    if mark::log_is_empty(options.disk.as_ref(), &wal)? {
        options.disk.remove(&wal).map_err(&failed)?;
    } else {
        let aside = beside(path, &format!("-wal.before-restore-{now}"));
        options.disk.rename(&wal, &aside).map_err(&failed)?;
        tracing::warn!(kept = %aside.display(), "set the write-ahead log of the replaced database aside");
    }
    options.disk.remove(&beside(path, "-shm")).map_err(&failed)
}
