//! The reading half: what a copy is fed from, by a connection that cannot write.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::raw::Db;
use super::schema::{self, Entry, Schema};
use super::sequences::Sequences;
use super::{connection, group, log, recount, state};
use crate::change::{Chain, Commit, DatabaseDigest, ObjectKind, Version};
use crate::error::{Error, Result};
use crate::store::disk::{Disk, FileId};
use crate::store::{SnapshotItem, Source, Standing};

/// Which main file and which write-ahead log lie at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    main: Option<FileId>,
    log: Option<FileId>,
}

impl Files {
    fn at(disk: &dyn Disk, path: &Path) -> Result<Files> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Ok(Files { main: identity(disk, path)?, log: identity(disk, Path::new(&log))? })
    }

    /// Another main file beside the same log: SQLite would mix the two.
    fn mixes_with(&self, before: &Files) -> bool {
        self.main != before.main && self.log.is_some() && self.log == before.log
    }
}

/// A SQLite backing file, opened to be read.
pub struct SqliteSource {
    db: Db,
    _connection: Connection,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    files: Files,
}

impl SqliteSource {
    /// Opens a backing file that some writer has made. `before`: the files that were open last; another
    /// main file beside the same log is refused, until its writer has decided what to do about it.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, before: Option<Files>) -> Result<SqliteSource> {
        let files = Files::at(disk.as_ref(), path)?;
        if files.main.is_none() {
            return Err(Error::unavailable(
                "BACKING_UNAVAILABLE",
                format!("there is no {}", path.display()),
            )
            .hint("start the writer first, or correct `backing`"));
        }
        if before.is_some_and(|before| files.mixes_with(&before)) {
            return Err(Error::unavailable(
                "BACKING_REPLACED",
                format!(
                    "another file was put at {} beside the old write-ahead log",
                    path.display()
                ),
            )
            .hint(
                "decide at the writer with `syncline resolve`; this reader goes on by itself then",
            ));
        }
        let connection = connection::open_readonly(disk.as_ref(), path)?;
        let db = Db::of(&connection);
        if !state::exists(db)? {
            return Err(Error::unavailable(
                "BACKING_EMPTY",
                format!("{} holds no Syncline database yet", path.display()),
            )
            .hint("start a writer on it first"));
        }
        let now = Files::at(disk.as_ref(), path)?;
        if now.main != files.main {
            return Err(Error::unavailable(
                "BACKING_REPLACED",
                "the backing file is being replaced",
            ));
        }
        // SQLite makes the log when it opens a database that has none.
        let files = now;
        Ok(SqliteSource { db, _connection: connection, disk, path: path.to_owned(), files })
    }

    /// Whether the path still leads to the files that are open: a restore by rename puts others there.
    pub fn is_current(&self) -> Result<bool> {
        Ok(Files::at(self.disk.as_ref(), &self.path)? == self.files)
    }

    /// The files that are open.
    pub fn files(&self) -> Files {
        self.files
    }
}

fn identity(disk: &dyn Disk, path: &Path) -> Result<Option<FileId>> {
    disk.identity(path).map_err(|error| {
        Error::unavailable(
            "BACKING_UNAVAILABLE",
            format!("{} cannot be reached: {error}", path.display()),
        )
        .source(error)
    })
}

/// Runs `work` in one read transaction, unless one is open.
pub(crate) fn in_snapshot<T>(db: Db, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !db.is_autocommit() {
        return work();
    }
    db.execute_batch("BEGIN")?;
    let done = work();
    let ended = db.execute_batch("ROLLBACK");
    let value = done?;
    ended?;
    Ok(value)
}

pub(crate) fn standing(db: Db) -> Result<Standing> {
    in_snapshot(db, || {
        let row = state::position(db)?;
        Ok(Standing {
            position: row.position,
            tag: row.tag,
            at: row.at,
            verified: row.verified,
            holder: row.holder,
            lineage: state::lineage(db)?,
        })
    })
}

pub(crate) fn digests(db: Db) -> Result<DatabaseDigest> {
    in_snapshot(db, || state::digests(db, &Schema::load(db)?))
}

pub(crate) fn chain_at(db: Db, version: Version) -> Result<Option<Chain>> {
    in_snapshot(db, || log::chain_at(db, &state::position(db)?.position, version))
}

/// Hands over everything in one read transaction.
pub(crate) fn snapshot(
    db: Db,
    each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
) -> Result<Standing> {
    in_snapshot(db, || {
        let standing = standing(db)?;
        let schema = Schema::load(db)?;
        let is_table = |e: &&Entry| e.object.kind == ObjectKind::Table && !e.is_virtual();
        for entry in schema.entries.iter().filter(is_table) {
            each(SnapshotItem::Object(&entry.object))?;
            let shape = &schema.shapes[&entry.object.name];
            recount::each_row(db, shape, |rowid, values| {
                each(SnapshotItem::Row { table: &shape.name, rowid, values })
            })?;
        }
        for entry in schema.entries.iter().filter(|e| e.is_virtual()) {
            each(SnapshotItem::Object(&entry.object))?;
        }
        for entry in schema.entries.iter().filter(|e| e.object.kind != ObjectKind::Table) {
            each(SnapshotItem::Object(&entry.object))?;
        }
        for (table, seq) in &Sequences::read(db)?.entries {
            each(SnapshotItem::Sequence(table, *seq))?;
        }
        for (name, value) in group::SETTINGS.into_iter().zip(group::settings(db)?) {
            each(SnapshotItem::Setting(name, value))?;
        }
        Ok(standing)
    })
}

impl Source for SqliteSource {
    fn standing(&mut self) -> Result<Standing> {
        standing(self.db)
    }

    fn digests(&mut self) -> Result<DatabaseDigest> {
        digests(self.db)
    }

    fn after(&mut self, version: Version, bytes: usize) -> Result<Vec<Commit>> {
        log::after(self.db, version, bytes)
    }

    fn part(&mut self, version: Version, index: u32) -> Result<Vec<u8>> {
        log::part(self.db, version, index)
    }

    fn chain_at(&mut self, version: Version) -> Result<Option<Chain>> {
        chain_at(self.db, version)
    }

    fn oldest(&mut self) -> Result<Option<Version>> {
        log::oldest(self.db)
    }

    fn snapshot(
        &mut self,
        each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<Standing> {
        snapshot(self.db, each)
    }
}

/// A schema object that is a table with rows of its own.
pub(crate) fn has_rows(object: &crate::change::Object) -> bool {
    object.kind == ObjectKind::Table && !schema::is_virtual_sql(object)
}
