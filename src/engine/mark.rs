//! The mark: what a node remembers of its database outside it, so that a restore, which puts back its
//! own evidence, is noticed.
//!
//! A small file in the data directory, at most a second old: lineage and position, which file it was,
//! and what its first page was as last checkpointed. A `-wal` that lies beside another main file is
//! never opened with it: SQLite would mix the two, and `integrity_check` would say ok.
//!
//! Another node may have been the writer since, and have checkpointed. So a writer leaves its mark beside
//! the backing file, too. It counts only if its lineage goes on from one's own mark: a file that was put
//! back together with the mark beside it does not.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::change::{Epoch, Lineage, Position};
use crate::error::{Error, Result};
use crate::store::Source;
use crate::store::disk::{Disk, FileId};

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// As text.
    pub position: String,
    pub lineage: Lineage,
    /// Device and number of the main file.
    pub file: (u64, u64),
    /// … and of its write-ahead log.
    #[serde(default)]
    pub log: Option<(u64, u64)>,
    /// The hash of its first page on the disk; none while a checkpoint may be changing it.
    pub page: Option<String>,
    /// Which run of the machine it was.
    #[serde(default)]
    pub run: Option<String>,
    /// What readers have of earlier epochs is no proof of a restore: see [`settled`].
    #[serde(default)]
    pub settled: Epoch,
}

fn io(what: &str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::StorageFull {
        return Error::unavailable("DISK_FULL", format!("{what}: {error}"))
            .hint("free space on the disk that holds the data directory");
    }
    Error::storage("MARK_FAILED", format!("{what}: {error}"))
        .hint("check the data directory: space, permissions, and that it is on a healthy disk")
        .source(error)
}

fn identity(disk: &dyn Disk, path: &Path) -> Result<Option<(u64, u64)>> {
    let id = disk.identity(path).map_err(|e| io("the backing file cannot be reached", e))?;
    Ok(id.map(|FileId { device, object }| (device, object)))
}

/// Where the mark of a database lies.
pub(crate) fn path(data_dir: &Path, database: &str) -> PathBuf {
    data_dir.join(format!("{database}.mark"))
}

pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Mark>> {
    let bytes = disk.read(path).map_err(|e| io("the mark cannot be read", e))?;
    bytes
        .map(|bytes| {
            serde_json::from_slice(&bytes).map_err(|error| {
                Error::corrupt(
                    "MARK_CORRUPT",
                    format!("the mark {} does not parse: {error}", path.display()),
                )
                .hint("if nobody restored this database, remove the mark and start again")
            })
        })
        .transpose()
}

pub(crate) fn write(disk: &dyn Disk, path: &Path, mark: &Mark) -> Result<()> {
    let bytes = serde_json::to_vec(mark).expect("a mark is plain data");
    disk.write_atomic(path, &bytes).map_err(|e| io("the mark cannot be written", e))
}

impl Mark {
    /// Remembers where the database stands now.
    pub fn of(disk: &dyn Disk, position: Position, lineage: &Lineage) -> Mark {
        Mark {
            position: position.to_string(),
            lineage: lineage.clone(),
            file: (0, 0),
            log: None,
            page: None,
            run: disk.run_of_the_machine(),
            settled: Epoch::default(),
        }
    }

    /// … and which files it lies in.
    pub fn remember_files(&mut self, disk: &dyn Disk, file: &Path) -> Result<()> {
        self.file = identity(disk, file)?.unwrap_or_default();
        self.log = identity(disk, &beside(file, "-wal"))?;
        Ok(())
    }

    pub fn position(&self) -> Result<Position> {
        self.position.parse()
    }

    /// Whether another reign went on from `other`, and left this.
    fn goes_on_from(&self, other: &Mark) -> bool {
        let (mine, theirs) = (&self.lineage.0, &other.lineage.0);
        mine.len() > theirs.len() && mine.starts_with(theirs)
    }
}

/// Where the last writer, whichever node it was, left its mark for the others.
fn path_beside(file: &Path) -> PathBuf {
    beside(file, "-mark")
}

/// The mark of whoever wrote last: one's own, or another's that goes on from it.
fn last_of<'a>(mine: &'a Mark, beside: Option<&'a Mark>) -> &'a Mark {
    beside.filter(|there| there.goes_on_from(mine)).unwrap_or(mine)
}

/// Leaves the mark beside the backing file, unless it says already what others need of it.
pub(crate) fn leave_beside(disk: &dyn Disk, file: &Path, mark: &Mark) -> Result<()> {
    let path = path_beside(file);
    if let Some(there) = read(disk, &path)? {
        let matters =
            |m: &Mark| (m.file, m.log, m.page.clone(), m.lineage.clone(), m.run.clone(), m.settled);
        let same = matters(&there) == matters(mark);
        // A writer that was overtaken, and has not noticed yet, must not hide its successor's.
        if same || there.goes_on_from(mark) {
            return Ok(());
        }
    }
    write(disk, &path, mark)
}

/// The epoch up to which a reader may have what is not there, as a writer finds it that has just begun
/// `epoch`: a restore was decided then, or power failed and may have taken what was acknowledged from
/// memory. What a reader has of that epoch or a later one, everybody had.
pub(crate) fn settled(
    disk: &dyn Disk,
    own: &Path,
    file: Option<&Path>,
    epoch: Epoch,
) -> Result<Epoch> {
    let beside = file.map(|file| read(disk, &path_beside(file))).transpose()?;
    let marks = [read(disk, own)?, beside.flatten()];
    let run = disk.run_of_the_machine();
    let same_run = |mark: &Mark| mark.run.is_some() && mark.run == run;
    match marks.iter().flatten().all(same_run) {
        true => Ok(marks.iter().flatten().map(|mark| mark.settled).max().unwrap_or_default()),
        false => Ok(epoch),
    }
}

/// Whether the last writer left its mark for the main file that lies there now: then it has opened it, and
/// decided what to do about whatever lay beside it.
pub(crate) fn is_settled(disk: &dyn Disk, file: &Path) -> bool {
    let there = disk.identity(file).ok().flatten().map(|id| (id.device, id.object));
    let mark = read(disk, &path_beside(file)).ok().flatten();
    there.is_some() && there == mark.map(|mark| mark.file)
}

fn hash(page: &[u8]) -> String {
    format!("{:032x}", xxh3_128(page))
}

/// The hash of the first page as it lies in the main file.
pub(crate) fn first_page_hash(disk: &dyn Disk, file: &Path) -> Result<Option<String>> {
    Ok(first_page(disk, file)?.map(|page| hash(&page)))
}

/// Whether the first page in the main file is the one with this hash, or one that the log holds: then a
/// checkpoint wrote it.
pub(crate) fn first_page_is(disk: &dyn Disk, file: &Path, known: &str) -> Result<bool> {
    let Some(page) = first_page(disk, file)? else { return Ok(false) };
    Ok(known == hash(&page) || wal_holds(disk, &beside(file, "-wal"), &page)?)
}

/// The first page as it lies in the main file; none if there is no file yet.
fn first_page(disk: &dyn Disk, file: &Path) -> Result<Option<Vec<u8>>> {
    let reach = |e| io("the backing file cannot be read", e);
    if disk.len(file).map_err(reach)?.unwrap_or(0) < 512 {
        return Ok(None);
    }
    let header = disk.read_at(file, 16, 2).map_err(reach)?;
    let size = match u16::from_be_bytes([header[0], header[1]]) {
        1 => 65536,
        size => usize::from(size),
    };
    Ok(Some(disk.read_at(file, 0, size).map_err(reach)?))
}

/// A file beside the database's main file: `-wal` or `-shm`.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes a database's files; those that are not there are no error.
pub(crate) fn remove_database(disk: &dyn Disk, path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = disk.remove(&beside(path, suffix));
    }
}

/// Why the files, before anything opens them, are not those that this node left; none if they are.
pub(crate) fn files_were_restored(
    disk: &dyn Disk,
    file: &Path,
    mine: &Mark,
) -> Result<Option<String>> {
    loop {
        let beside = read(disk, &path_beside(file))?;
        let last = last_of(mine, beside.as_ref());
        let misfit = files_misfit(disk, file, last)?;
        // Its writer may live and be in a checkpoint: mark and page must be of the same moment.
        if misfit.is_none() || read(disk, &path_beside(file))? == beside {
            return Ok(misfit);
        }
    }
}

fn files_misfit(disk: &dyn Disk, file: &Path, mark: &Mark) -> Result<Option<String>> {
    if identity(disk, file)?.is_none() {
        return Ok(Some(format!("{} is gone", file.display())));
    }
    if log_is_empty(disk, &beside(file, "-wal"))? {
        return Ok(None);
    }
    if lies_beside_another_file(disk, file, mark)? {
        return Ok(Some("another file lies beside the old write-ahead log".into()));
    }
    if identity(disk, file)? != Some(mark.file) {
        return Ok(None);
    }
    match &mark.page {
        Some(left) if !first_page_is(disk, file, left)? => {
            Ok(Some("the main file was overwritten beside the old write-ahead log".into()))
        }
        _ => Ok(None),
    }
}

/// Whether the log is one that was left, and the main file is not. (Where both are others, they were moved
/// here together, or another writer made the log.)
fn lies_beside_another_file(disk: &dyn Disk, file: &Path, left: &Mark) -> Result<bool> {
    let log = identity(disk, &beside(file, "-wal"))?;
    let was_left = log.is_some() && (left.log.is_none() || left.log == log);
    Ok(was_left && identity(disk, file)? != Some(left.file))
}

/// Whether the log at the file's place, perhaps an empty one, is of a file that lay there before.
pub(crate) fn log_is_of_another_file(disk: &dyn Disk, file: &Path, mine: &Mark) -> Result<bool> {
    let there = read(disk, &path_beside(file))?;
    lies_beside_another_file(disk, file, last_of(mine, there.as_ref()))
}

/// Whether there is nothing in a write-ahead log but its header, if that.
pub(crate) fn log_is_empty(disk: &dyn Disk, wal: &Path) -> Result<bool> {
    let length = disk.len(wal).map_err(|e| io("the write-ahead log cannot be reached", e))?;
    Ok(length.unwrap_or(0) <= 32)
}

/// Whether the write-ahead log holds `page` as a version of page 1: then a checkpoint wrote it.
fn wal_holds(disk: &dyn Disk, wal: &Path, page: &[u8]) -> Result<bool> {
    let bytes = disk.read(wal).map_err(|e| io("the write-ahead log cannot be read", e))?;
    let bytes = bytes.unwrap_or_default();
    if bytes.len() < 32 {
        return Ok(false);
    }
    let salts = &bytes[16..24];
    let frames = bytes[32..].chunks_exact(24 + page.len());
    Ok(frames.into_iter().any(|f| f[..4] == [0, 0, 0, 1] && &f[8..16] == salts && &f[24..] == page))
}

/// Why the opened database is not the one that this node left; none if it is.
pub(crate) fn content_was_restored(store: &mut dyn Source, mark: &Mark) -> Result<Option<String>> {
    let standing = store.standing()?;
    let remembered = mark.position()?;
    let lived = mark.lineage.0.iter().all(|entry| standing.lineage.0.contains(entry));
    if standing.position.version < remembered.version || !lived {
        return Ok(Some(format!(
            "it stands at {}, this node had seen {remembered}",
            standing.position
        )));
    }
    match store.chain_at(remembered.version)? {
        Some(chain) if chain != remembered.chain => {
            Ok(Some(format!("version {} has another content", remembered.version)))
        }
        _ => Ok(None),
    }
}
