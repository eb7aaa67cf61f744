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
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use metrics::Histogram;

use super::backing::Backing;
use super::shared::Shared;
use super::status::State;
use super::stream::Settings;
use crate::acknowledge::Level;
use crate::change::{Commit, Position, Timestamp, Version};
use crate::error::{Error, Kind, Result};
use crate::store::Source;
use crate::store::disk::FileId;
use crate::store::sqlite::{SqliteStore, Sync};

/// How many bytes of commits are flushed in one transaction of the backing database.
const FLUSH: usize = 8 << 20;
/// What a page takes in the write-ahead log, about.
const PAGE: u64 = 4096;

/// What the writer thread writes to.
pub(crate) struct Core {
    pub store: SqliteStore,
    pub backing: Backing,
    pub shared: Arc<Shared>,
    pub metrics: Metrics,
    sync: Sync,
    settings: Settings,
    /// The backing file that was opened: another one at its path is a restore.
    pub(super) identity: Option<FileId>,
    /// Its write-ahead log, likewise.
    pub(super) log: Option<FileId>,
    /// The node's own copy was set aside when the backing file was replaced.
    pub(super) rescued: bool,
    /// The node's own copy, set aside by an earlier process.
    pub left_behind: Option<PathBuf>,
    /// The backing file was found restored at the start: nothing here is older than that.
    pub found_restored: bool,
    /// Commits that are not yet as durable as `disk` says.
    pub unflushed: bool,
    /// The answer to a COMMIT was lost, and this copy does not yet follow what was decided.
    pub(super) unsettled: bool,
    /// This copy was filled with rows that others changed, and knows no others: why.
    pub(super) damaged: Option<String>,
    /// The last checkpoint that brought everything over and synced it; none while another one is under way.
    pub checkpointed: Option<Checkpointed>,
}

/// What a checkpoint left.
#[derive(Clone)]
pub(crate) struct Checkpointed {
    /// The hash of the main file's first page.
    pub page: String,
    /// Everything up to this version is in the main file.
    pub version: Version,
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
    pub fn new(store: SqliteStore, backing: Backing, shared: Arc<Shared>) -> Result<Core> {
        let mut core = Core {
            store,
            backing,
            metrics: Metrics::new(&shared.options.name),
            shared,
            sync: Sync::Full,
            settings: Settings::default(),
            identity: None,
            log: None,
            rescued: false,
            left_behind: None,
            found_restored: false,
            unflushed: false,
            unsettled: false,
            damaged: None,
            checkpointed: None,
        };
        core.identity = core.file_identity()?;
        core.log = core.log_identity()?;
        if let Backing::File(file) = &core.backing {
            file.follow()?;
        }
        core.serve_clients_there()?;
        Ok(core)
    }

    fn serve_clients_there(&mut self) -> Result<()> {
        self.store.serve_clients()?;
        if let Backing::Server(server) = &self.backing {
            self.store.refuse_what(server.refusals());
        }
        if !self.backing.is_itself() {
            // The backing database is the truth: this copy may lose its end, but must stay whole.
            self.store.set_sync(Sync::Normal)?;
            self.sync = Sync::Normal;
            self.store.checkpoint_by_itself()?;
        }
        Ok(())
    }

    /// Goes on with another copy beside the same backing database.
    pub(super) fn go_on_with(&mut self, copy: SqliteStore) -> Result<()> {
        self.store = copy;
        self.settings = Settings::default();
        self.serve_clients_there()?;
        self.serve()
    }

    /// Fails unless this writer still has the epoch.
    pub fn confirm(&mut self) -> Result<()> {
        self.refuse_if_not_reigning()?;
        self.be_settled()?;
        self.refuse_if_replaced()?;
        match self.durable().confirm() {
            Err(error) if error.code() == "FENCED" => Err(self.fenced()),
            confirmed => confirmed,
        }
    }

    /// Gives the epoch up.
    pub fn release(&mut self) -> Result<()> {
        self.durable().release()
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
        self.be_settled()?;
        if self.unflushed && self.shared.condition().state == State::DiskFull {
            // Without space, memory must not fill with what cannot be made durable.
            self.flush_now()?;
        }
        if self.backing.is_itself() {
            let sync = if level == Level::Memory { Sync::Normal } else { Sync::Full };
            if self.sync != sync {
                self.store.set_sync(sync)?;
                self.sync = sync;
            }
        }
        self.refuse_if_replaced()?;
        match self.store.begin() {
            Err(error) if error.code() == "FENCED" => Err(self.fenced()),
            begun => begun,
        }
    }

    /// Commits the open group: durable as `level` says when it returns.
    ///
    /// After `DISK_FULL` nothing is kept and writing may resume. Any other error of the storage has
    /// stopped the database: the outcome is unknown. So it is if the keeper met the error meanwhile.
    pub fn commit(&mut self, level: Level) -> Result<Position> {
        let before = self.store.position();
        let committed = match self.backing {
            Backing::Itself => self.store.commit(),
            _ => self.commit_both(level),
        };
        match committed.and_then(|position| self.refuse_if_failed().map(|()| position)) {
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
        self.is_well();
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
        let pages = self.file().map_or(0, SqliteStore::log_pages);
        self.shared.log_bytes.store(pages * PAGE, Ordering::Relaxed);
    }

    /// Makes everything durable that was acknowledged from memory, and the open group with it.
    pub fn flush(&mut self) -> Result<()> {
        loop {
            let Some(backing) = self.backing.beside() else { return Ok(()) };
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
        let Some(backing) = self.backing.beside() else { return Ok(()) };
        let (lineage, store) = (self.store.lineage().clone(), &mut self.store);
        let mut parts = |c: &Commit, i| store.part(c.version(), i);
        match backing.append(&lineage, commits, &mut parts) {
            Ok(_) => Ok(()),
            Err(error) if error.code() == "FENCED" => Err(self.fenced()),
            Err(error) if error.kind() == Kind::Unknown => {
                let last = commits.last().expect("something was flushed").position();
                self.settle(last, error)
            }
            // Others may write there; what they wrote in the way of is refused, and the rest goes on.
            Err(error) if error.kind() == Kind::Diverged && self.file().is_none() => {
                let message = format!("the backing database does not take this: {}", error.message());
                Err(Error::diverged("BACKING_DIFFERS", message).hint(
                    "either a rule of its own refuses the row (the message names it), or somebody changed its rows: `syncline verify` says which",
                ))
            }
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
    pub(super) fn failed(&mut self, error: Error) -> Error {
        if error.code() == "DISK_FULL" {
            let note = "no space is left for the database; reads go on";
            self.shared.set_condition(State::DiskFull, note);
        } else if is_away(&error) {
            let note = format!("writes are refused, reads go on: {}", error.message());
            self.shared.set_condition(State::Stale, note);
        } else if matches!(error.kind(), Kind::Storage | Kind::Corrupt) {
            // Nobody else has what was acknowledged from memory, and a damaged file has nothing.
            let alone = self.unflushed || error.kind() == Kind::Corrupt;
            if alone
                && !self.backing.is_itself()
                && let Err(error) = self.rescue()
            {
                tracing::error!(%error, "this node's own copy could not be set aside");
            }
            self.shared.storage_failed(&error);
        }
        error
    }

    /// What was away, or full, is not any more.
    fn is_well(&self) {
        if matches!(self.shared.condition().state, State::DiskFull | State::Stale) {
            self.is_well_again();
        }
    }

    /// Flushes from outside a group: under `memory`, every `flush_every`.
    pub fn flush_now(&mut self) -> Result<()> {
        if !self.unflushed {
            return Ok(());
        }
        self.refuse_if_not_writing()?;
        match self.backing {
            // A commit that is synced takes all before it along.
            Backing::Itself => self.renew()?,
            _ => self.flush()?,
        }
        self.refuse_if_failed()?;
        self.is_well();
        self.tell_log_length();
        self.unflushed = false;
        self.shared.durable.store(self.store.position().version.0, Ordering::Release);
        Ok(())
    }

    /// Renews the lease; notices at once if the database was overtaken or restored.
    pub fn renew(&mut self) -> Result<()> {
        self.refuse_if_not_reigning()?;
        self.be_settled()?;
        self.refuse_if_replaced()?;
        let lease = self.now() + self.shared.options.lease;
        if self.backing.is_itself() && self.sync != Sync::Full {
            self.store.set_sync(Sync::Full)?;
            self.sync = Sync::Full;
        }
        match self.durable().renew(lease) {
            Err(error) if error.code() == "FENCED" => Err(self.fenced()),
            Err(error) => Err(self.failed(error)),
            Ok(()) => {
                self.is_well();
                Ok(())
            }
        }
    }
}

/// Whether the backing database is out of reach, or takes no writes, for now.
fn is_away(error: &Error) -> bool {
    ["BACKING_UNAVAILABLE", "BACKING_READ_ONLY"].contains(&error.code())
}
