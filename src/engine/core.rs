//! The writer's copy and its backing database, and what a commit of the one needs of the other.
//!
//! ```text
//! working copy = backing file      begin ─ units ─ log, position ─ COMMIT (the sync)
//!
//! working copy ≠ backing file      begin ─ units ─ log, position ┐
//!                                              backing: COMMIT ──┤  under `disk`
//!                                  COMMIT of the working copy ───┘
//!                                              backing: COMMIT ────  under `memory`: later
//! ```
//!
//! If the working copy's COMMIT fails after the backing's, the process stops and reloads. What the
//! backing database does not have yet is in the working copy's log: flushing is copying the log.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use metrics::Histogram;

use super::mark::{beside, remove_database};
use super::shared::Shared;
use super::status::State;
use super::stream::Settings;
use crate::acknowledge::Level;
use crate::change::{Commit, Position, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::store::disk::{Disk, FileId};
use crate::store::sqlite::{SqliteStore, Sync};
use crate::store::{Source, Standing, Store};

/// How many bytes of commits are flushed in one transaction of the backing database.
const FLUSH: usize = 8 << 20;
/// What a page takes in the write-ahead log, about.
const PAGE: u64 = 4096;

/// What the writer thread writes to.
pub(crate) struct Core {
    pub store: SqliteStore,
    /// The backing database, where it is not the working copy itself.
    pub backing: Option<SqliteStore>,
    pub shared: Arc<Shared>,
    pub metrics: Metrics,
    sync: Sync,
    settings: Settings,
    /// The backing file that was opened: another one at its path is a restore.
    identity: Option<FileId>,
    /// Its write-ahead log, likewise.
    log: Option<FileId>,
    /// Where the node's own copy was set aside when the backing file was replaced.
    pub rescued: Option<PathBuf>,
    /// Commits that are not yet as durable as `disk` says.
    pub unflushed: bool,
    /// The hash of the main file's first page, since the last checkpoint that brought everything over and
    /// synced it; none while it may be anything that the log holds, or torn.
    pub first_page: Option<String>,
}

/// The histograms of the commit path, looked up once.
pub(crate) struct Metrics {
    pub commit_seconds: Histogram,
    pub group_size: Histogram,
    pub sync_seconds: Histogram,
}

impl Metrics {
    fn new(database: &str) -> Metrics {
        let name = database.to_owned();
        Metrics {
            commit_seconds: metrics::histogram!("syncline_commit_seconds", "database" => name.clone()),
            group_size: metrics::histogram!("syncline_group_size", "database" => name.clone()),
            sync_seconds: metrics::histogram!("syncline_sync_seconds", "database" => name),
        }
    }
}

impl Core {
    pub fn new(
        store: SqliteStore,
        backing: Option<SqliteStore>,
        shared: Arc<Shared>,
    ) -> Result<Core> {
        let mut core = Core {
            store,
            backing,
            metrics: Metrics::new(&shared.options.name),
            shared,
            sync: Sync::Full,
            settings: Settings::default(),
            identity: None,
            log: None,
            rescued: None,
            unflushed: false,
            first_page: None,
        };
        core.identity = core.file_identity()?;
        core.log = core.log_identity()?;
        core.store.serve_clients()?;
        if let Some(backing) = &core.backing {
            backing.follow()?;
            // The backing file is the truth; this copy can be made again.
            core.store.set_sync(Sync::Off)?;
            core.sync = Sync::Off;
        }
        Ok(core)
    }

    fn file(&self) -> &SqliteStore {
        self.backing.as_ref().unwrap_or(&self.store)
    }

    /// The file that this writer writes, and where it lies.
    pub fn file_place(&self) -> (PathBuf, Arc<dyn Disk>) {
        (self.file().path().to_owned(), self.file().disk().clone())
    }

    fn identity_of(&self, path: &Path) -> Result<Option<FileId>> {
        self.file().disk().identity(path).map_err(|error| {
            let message = format!("the backing file cannot be reached: {error}");
            Error::unavailable("BACKING_UNAVAILABLE", message)
        })
    }

    fn file_identity(&self) -> Result<Option<FileId>> {
        self.identity_of(self.file().path())
    }

    fn log_identity(&self) -> Result<Option<FileId>> {
        self.identity_of(&beside(self.file().path(), "-wal"))
    }

    /// Whether another file lies at the backing file's path.
    pub fn was_replaced(&self) -> Result<bool> {
        Ok(self.file_identity()? != self.identity)
    }

    /// Whether the write-ahead log at that path is still the one that this writer writes.
    pub fn log_is_ours(&self) -> Result<bool> {
        Ok(self.log.is_some() && self.log_identity()? == self.log)
    }

    /// Fails unless this writer still has the epoch.
    pub fn confirm(&mut self) -> Result<()> {
        self.refuse_if_not_writing()?;
        if self.was_replaced()? {
            return Err(self.restored("another file was put in the place of the backing file"));
        }
        let file = self.backing.as_mut().unwrap_or(&mut self.store);
        match file.begin() {
            Ok(()) => file.rollback(),
            Err(error) if error.code() == "FENCED" => Err(self.fenced()),
            Err(error) => Err(error),
        }
    }

    /// Gives the epoch up.
    pub fn release(&mut self) -> Result<()> {
        self.backing.as_mut().unwrap_or(&mut self.store).release()
    }

    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// Sets what the coming transaction runs under; no-op if it is set already.
    pub fn set_stream(&mut self, settings: Settings) -> Result<()> {
        if self.settings != settings {
            self.store.db().execute_batch(&settings.pragmas())?;
            self.settings = settings;
        }
        Ok(())
    }

    /// Begins a group: the file is still the one, the fence holds.
    pub fn begin(&mut self, level: Level) -> Result<()> {
        self.refuse_if_not_writing()?;
        if self.unflushed && self.shared.condition().state == State::DiskFull {
            // Without space, memory must not fill with what cannot be made durable.
            self.flush_now()?;
        }
        if self.backing.is_none() {
            let sync = if level == Level::Memory { Sync::Normal } else { Sync::Full };
            if self.sync != sync {
                self.store.set_sync(sync)?;
                self.sync = sync;
            }
        }
        if self.file_identity()? != self.identity {
            return Err(self.restored("another file was put in the place of the backing file"));
        }
        match self.store.begin() {
            Err(error) if error.code() == "FENCED" => Err(self.fenced()),
            begun => begun,
        }
    }

    fn refuse_if_not_writing(&self) -> Result<()> {
        let condition = self.shared.condition();
        match condition.state {
            State::Restored => Err(Error::new(Kind::Diverged, "RESTORED", condition.note).hint(
                "decide with `syncline resolve --keep node` or `--keep backing`; reads go on",
            )),
            State::Fenced => Err(Error::new(Kind::Diverged, "FENCED", condition.note)
                .hint("another node is the writer now: see `syncline status`")),
            State::Failed => Err(Error::unavailable("STORAGE_FAILED", condition.note)
                .hint("nothing of this was done; restart the node, or send it to another one")),
            _ => Ok(()),
        }
    }

    /// The backing database was put back from a backup: nothing more is written until someone decides.
    pub fn restored(&mut self, why: &str) -> Error {
        if let Err(error) = self.rescue() {
            tracing::warn!(%error, "the node's own copy could not be set aside; reads may stop");
        }
        let note = format!("the backing database was restored: {why}; writing has stopped");
        self.shared.set_condition(State::Restored, note.clone());
        Error::new(Kind::Diverged, "RESTORED", note)
            .hint("decide with `syncline resolve --keep node` or `--keep backing`; reads go on")
    }

    /// Another file took our file's name: as long as we have ours open, it can be copied. From that copy
    /// reads go on, and it is what `resolve --keep node` puts back.
    fn rescue(&mut self) -> Result<()> {
        if self.backing.is_some() || self.rescued.is_some() || !self.was_replaced()? {
            return Ok(());
        }
        let options = &self.shared.options;
        let path = options.data_dir.join(format!("{}.before-restore.db", options.name));
        let disk = options.disk.clone();
        remove_database(disk.as_ref(), &path);
        self.store.copy_pages(disk.as_ref(), &path)?;
        self.shared.set_place(disk, path.clone());
        self.rescued = Some(path);
        Ok(())
    }

    /// The position row is not as this writer left it: overtaken, or restored.
    fn fenced(&mut self) -> Error {
        let file = self.backing.as_mut().unwrap_or(&mut self.store);
        let overtaken = match was_overtaken(file) {
            Ok(overtaken) => overtaken,
            Err(error) => return error,
        };
        let Some(theirs) = overtaken else {
            return self.restored("its position is not the one this writer left");
        };
        let by = theirs.holder.map_or("another writer".to_owned(), |h| {
            format!("node {:?} (process {})", h.node, h.pid)
        });
        let note = format!("{by} took epoch {} of this database", theirs.position.epoch);
        self.shared.set_condition(State::Fenced, note.clone());
        self.shared.stop(4, note.clone());
        Error::new(Kind::Diverged, "FENCED", note).hint("send writes to the new writer")
    }

    /// Commits the open group: durable as `level` says when it returns.
    ///
    /// After `DISK_FULL` nothing is kept and writing may resume. Any other error of the storage has
    /// stopped the database: the outcome is unknown.
    pub fn commit(&mut self, level: Level) -> Result<Position> {
        let before = self.store.position();
        let committed = match self.backing {
            None => self.store.commit(),
            Some(_) => self.commit_both(level),
        };
        match committed {
            Ok(position) => {
                self.after_commit(before, position, level);
                Ok(position)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn commit_both(&mut self, level: Level) -> Result<Position> {
        if self.store.group_commits().is_empty() {
            return self.store.commit();
        }
        self.store.prepare_commit()?;
        if level > Level::Memory {
            self.flush()?;
        }
        // From here on the backing database has it: this copy must not lose it.
        self.store.finish_commit().map_err(|error| {
            let message = format!("the working copy could not follow: {}", error.message());
            Error::storage("WORKING_COPY_FAILED", message).hint("restart: it is loaded anew")
        })
    }

    fn after_commit(&mut self, before: Position, position: Position, level: Level) {
        self.there_is_space();
        if level > Level::Memory {
            self.unflushed = false;
            self.shared.durable.store(position.version.0, Ordering::Release);
        } else if position != before {
            self.unflushed = true;
        }
        self.tell_log_length();
        self.shared.publish(position);
    }

    /// The keeper decides by it when a checkpoint is due.
    pub(super) fn tell_log_length(&self) {
        let bytes = self.file().log_pages() * PAGE;
        self.shared.log_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Makes everything durable that was acknowledged from memory, and the open group with it.
    pub fn flush(&mut self) -> Result<()> {
        loop {
            let Some(backing) = self.backing.as_ref() else { return Ok(()) };
            // What was committed here may go in portions. The open group goes as one: if it fails, nothing
            // of it may be there.
            let (there, here) = (backing.position().version, self.store.position().version);
            let commits = match there.cmp(&here) {
                Less => {
                    let mut commits = self.store.after(there, FLUSH)?;
                    commits.retain(|commit| commit.version() <= here);
                    commits
                }
                Equal => self.store.group_commits().to_vec(),
                Greater => return Ok(()),
            };
            if commits.is_empty() {
                return Ok(());
            }
            self.flush_these(&commits)?;
        }
    }

    fn flush_these(&mut self, commits: &[Commit]) -> Result<()> {
        let Some(backing) = self.backing.as_mut() else { return Ok(()) };
        let (lineage, store) = (self.store.lineage().clone(), &mut self.store);
        let mut parts = |c: &Commit, i| store.part(c.version(), i);
        match backing.apply(&lineage, commits, &mut parts) {
            Ok(_) => Ok(()),
            Err(error) if error.code() == "FENCED" => Err(self.fenced()),
            Err(error) => Err(self.failed(match error.kind() {
                Kind::Diverged => Error::corrupt(
                    "BACKING_DIVERGED",
                    format!("the backing database no longer has the rows of this copy: {}", error.message()),
                )
                .hint("open it with working_copy = \"disk\", then `syncline verify` says what is different"),
                _ => error,
            })),
        }
    }

    /// What an error of the storage means for the database: no space is waited for, a failure stops it.
    pub(super) fn failed(&self, error: Error) -> Error {
        if error.code() == "DISK_FULL" {
            let note = "no space is left for the database; reads go on";
            self.shared.set_condition(State::DiskFull, note);
        } else if matches!(error.kind(), Kind::Storage | Kind::Corrupt) {
            self.shared.storage_failed(&error);
        }
        error
    }

    fn there_is_space(&self) {
        if self.shared.condition().state == State::DiskFull {
            self.shared.set_condition(State::Ok, "");
        }
    }

    /// Flushes from outside a group: under `memory`, every `flush_every`.
    pub fn flush_now(&mut self) -> Result<()> {
        if !self.unflushed {
            return Ok(());
        }
        self.refuse_if_not_writing()?;
        match self.backing {
            Some(_) => self.flush()?,
            // A commit that is synced takes all before it along.
            None => self.renew()?,
        }
        self.there_is_space();
        self.tell_log_length();
        self.unflushed = false;
        self.shared.durable.store(self.store.position().version.0, Ordering::Release);
        Ok(())
    }

    /// Renews the lease; notices at once if the database was overtaken or restored.
    pub fn renew(&mut self) -> Result<()> {
        self.refuse_if_not_writing()?;
        if self.file_identity()? != self.identity {
            return Err(self.restored("another file was put in the place of the backing file"));
        }
        let lease = self.now() + self.shared.options.lease;
        if self.backing.is_none() && self.sync != Sync::Full {
            self.store.set_sync(Sync::Full)?;
            self.sync = Sync::Full;
        }
        let file = self.backing.as_mut().unwrap_or(&mut self.store);
        match file.renew(lease) {
            Err(error) if error.code() == "FENCED" => Err(self.fenced()),
            Err(error) => Err(self.failed(error)),
            Ok(()) => {
                self.there_is_space();
                Ok(())
            }
        }
    }
}

/// The standing of whoever took the epoch behind all that this writer wrote; none if something of that is
/// gone: then the file was restored.
fn was_overtaken(file: &mut SqliteStore) -> Result<Option<Standing>> {
    let (ours, mine) = (file.lineage().clone(), file.position());
    let theirs = file.standing()?;
    let goes_on = theirs.lineage.0.starts_with(&ours.0) && theirs.lineage.0.len() > ours.0.len();
    let has_mine = theirs.lineage.at(mine.version) == ours.at(mine.version)
        && theirs.position.version >= mine.version
        && file.chain_at(mine.version)?.is_none_or(|chain| chain == mine.chain);
    Ok((goes_on && has_mine).then_some(theirs))
}
