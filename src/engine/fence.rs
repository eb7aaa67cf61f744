//! Whether the backing file is still the one that this writer writes, and what it does if not.
//!
//! ```text
//! another file at the path, or none      ─► restored     stop writing, go on reading, wait for `resolve`
//! position row not as left: goes on      ─► fenced       hold what was not flushed, stop (exit 4)
//!                           does not     ─► restored
//! main file written by another hand      ─► overwritten  stop (exit 5), before the log is mixed with it
//! ```
//!
//! Left out: noticing a file that is copied over the open one and differs from it in nothing that a
//! checkpoint would not have written. Then every other page is in the log, and no harm is done.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::core::Core;
use super::mark::{self, beside, remove_database};
use super::shelf;
use super::status::State;
use crate::change::{Position, Version};
use crate::error::{Error, Kind, Result};
use crate::store::disk::FileId;
use crate::store::sqlite::position_without_log;
use crate::store::{Source, Standing, Store};

impl Core {
    fn identity_of(&self, path: impl Fn(&Path) -> PathBuf) -> Result<Option<FileId>> {
        let Some(file) = self.file() else { return Ok(None) };
        file.disk().identity(&path(file.path())).map_err(|error| {
            let message = format!("the backing file cannot be reached: {error}");
            Error::unavailable("BACKING_UNAVAILABLE", message)
        })
    }

    pub fn file_identity(&self) -> Result<Option<FileId>> {
        self.identity_of(Path::to_owned)
    }

    pub fn log_identity(&self) -> Result<Option<FileId>> {
        self.identity_of(|file| beside(file, "-wal"))
    }

    /// Whether another file lies at the backing file's path.
    pub fn was_replaced(&self) -> Result<bool> {
        Ok(self.file_identity()? != self.identity)
    }

    /// Whether the backing database is a file, and none lies there any more.
    pub fn is_gone(&self) -> Result<bool> {
        Ok(self.file().is_some() && self.file_identity()?.is_none())
    }

    /// Whether the write-ahead log at that path is still the one that this writer writes.
    pub fn log_is_ours(&self) -> Result<bool> {
        Ok(self.log.is_some() && self.log_identity()? == self.log)
    }

    pub fn refuse_if_not_writing(&self) -> Result<()> {
        self.refuse_if_not_reigning()?;
        self.refuse_if_damaged()
    }

    /// Fails if this node is not, or not any more, who may write.
    pub fn refuse_if_not_reigning(&self) -> Result<()> {
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

    /// Fails if the storage failed under another thread while this one wrote: then what this one was told
    /// about its own sync is not believed either.
    pub fn refuse_if_failed(&self) -> Result<()> {
        let condition = self.shared.condition();
        match condition.state {
            State::Failed => Err(Error::storage("SYNC_NOT_TRUSTED", condition.note)
                .hint("restart the node, then ask with the receipt or repeat the write")),
            _ => Ok(()),
        }
    }

    /// The backing database was put back from a backup: nothing more is written until someone decides.
    pub fn restored(&mut self, why: &str) -> Error {
        let mut note = format!("the backing database was restored: {why}; writing has stopped");
        if let Err(error) = self.rescue() {
            note.push_str(&format!("; this node's own copy could not be set aside: {error}"));
        }
        self.shared.set_condition(State::Restored, note.clone());
        Error::new(Kind::Diverged, "RESTORED", note)
            .hint("decide with `syncline resolve --keep node` or `--keep backing`; reads go on")
    }

    pub fn refuse_if_replaced(&mut self) -> Result<()> {
        if !self.was_replaced()? {
            return Ok(());
        }
        Err(match self.is_gone()? {
            true => self.restored("the backing file is gone"),
            false => self.restored("another file was put in the place of the backing file"),
        })
    }

    /// Only checkpoints write the main file: any other hand leaves one that no longer fits its log.
    ///
    /// The checkpoint may be another's: a new writer's (then this one is fenced), or that of any program
    /// that opened the file. What such a one brought over is of this history, and since the last one here.
    pub fn refuse_if_overwritten(&mut self) -> Result<()> {
        let Some(left) = self.checkpointed.clone() else { return Ok(()) };
        let Some((path, disk)) = self.file_place() else { return Ok(()) };
        if self.was_replaced()? || mark::first_page_is(disk.as_ref(), &path, &left.page)? {
            return Ok(());
        }
        if let Ok(Some(_)) = was_overtaken(self.durable()) {
            return Err(self.fenced());
        }
        if let Ok(there) = position_without_log(disk.as_ref(), &path)
            && there.version >= left.version
            && self.durable().chain_at(there.version)? == Some(there.chain)
        {
            return Ok(());
        }
        // Another file may have taken its place between these looks: then it was not overwritten.
        if self.was_replaced()? {
            return Ok(());
        }
        Err(self.failed(
            Error::corrupt(
                "BACKING_OVERWRITTEN",
                "the database file was overwritten while it was open: it no longer fits its log",
            )
            .hint("start again: what lies there is taken for a restore, then `syncline resolve`"),
        ))
    }

    /// Sets this node's own copy aside, while it is still open: `resolve --keep node` puts it back, also
    /// after a restart. If it was the file whose name another one took, reads go on from there.
    pub fn rescue(&mut self) -> Result<()> {
        if self.rescued
            || self.found_restored
            || (self.backing.is_itself() && !self.was_replaced()?)
        {
            return Ok(());
        }
        // SQLite copies no database that its own connection is writing.
        self.store.rollback()?;
        let options = &self.shared.options;
        let (path, disk) = (options.set_aside(), options.disk.clone());
        // Under its name only when it is whole: half a copy must never be kept.
        let growing = beside(&path, ".growing");
        remove_database(disk.as_ref(), &growing);
        self.store.copy_pages(disk.as_ref(), &growing)?;
        remove_database(disk.as_ref(), &path);
        disk.rename(&growing, &path).map_err(|e| {
            Error::storage("COPY_FAILED", format!("the copy cannot be reached: {e}"))
        })?;
        remove_database(disk.as_ref(), &growing);
        if self.backing.is_itself() {
            self.shared.set_place(disk, path);
        }
        self.rescued = true;
        Ok(())
    }

    /// The position row is not as this writer left it: overtaken, or restored.
    pub fn fenced(&mut self) -> Error {
        let overtaken = match was_overtaken(self.durable()) {
            Ok(overtaken) => overtaken,
            Err(error) => return error,
        };
        let Some(theirs) = overtaken else {
            return self.restored("its position is not the one this writer left");
        };
        let by = theirs.holder.map_or("another writer".to_owned(), |h| {
            format!("node {:?} (process {})", h.node, h.pid)
        });
        let mut note = format!("{by} took epoch {} of this database", theirs.position.epoch);
        match self.hold_unflushed() {
            Ok(0) => {}
            Ok(held) => note.push_str(&format!(
                "; {held} commits that were acknowledged from memory are held in {}",
                self.shared.options.data_dir.display()
            )),
            Err(error) => {
                note.push_str(&format!("; what it acknowledged from memory is lost: {error}"));
            }
        }
        self.shared.set_condition(State::Fenced, note.clone());
        self.shared.stop(4, note.clone());
        Error::new(Kind::Diverged, "FENCED", note).hint("send writes to the new writer")
    }

    /// A reader tells where it stands. What it has and this history has not was in the backing database:
    /// another writer put it there, or the file was restored.
    pub fn compare_with(&mut self, node: &str, reader: Position) -> Result<()> {
        self.be_settled()?;
        let settled = self.shared.settled.load(Ordering::Relaxed);
        let counts = self.shared.condition().state == State::Ok && reader.epoch.0 >= settled;
        if !counts || !self.has_lost(reader)? {
            return Ok(());
        }
        self.confirm()?;
        let mine = self.store.position();
        Err(self.restored(&format!(
            "the reader {node:?} had already seen {reader}, this writer stands at {mine}"
        )))
    }

    /// Whether that position is not in this history. Where the log no longer reaches, the lineage says.
    fn has_lost(&mut self, seen: Position) -> Result<bool> {
        if seen.version == Version(0) {
            return Ok(false);
        }
        if seen.version > self.store.position().version {
            return Ok(true);
        }
        if let Some(chain) = self.store.chain_at(seen.version)? {
            return Ok(chain != seen.chain);
        }
        let reigns = &self.store.lineage().0;
        let Some(i) = reigns.iter().position(|reign| reign.epoch == seen.epoch) else {
            return Ok(true);
        };
        Ok(reigns.get(i + 1).is_some_and(|next| seen.version >= next.first))
    }

    /// What the backing database never heard of: it is another's now.
    fn hold_unflushed(&mut self) -> Result<u64> {
        let Some(backing) = self.backing.beside() else { return Ok(0) };
        let there = backing.position().version;
        // Of an open group nobody has heard.
        self.store.rollback()?;
        shelf::hold(&self.shared, &mut self.store, there, "fenced", &mut |_| Ok(true))
    }
}

/// The standing of whoever took the epoch behind all that this writer wrote; none if something of that is
/// gone: then the file was restored.
fn was_overtaken(there: &mut dyn Store) -> Result<Option<Standing>> {
    let (ours, mine) = (there.lineage().clone(), there.position());
    let theirs = there.standing()?;
    let goes_on = theirs.lineage.0.starts_with(&ours.0) && theirs.lineage.0.len() > ours.0.len();
    let has_mine = theirs.lineage.at(mine.version) == ours.at(mine.version)
        && theirs.position.version >= mine.version
        && there.chain_at(mine.version)?.is_none_or(|chain| chain == mine.chain);
    Ok((goes_on && has_mine).then_some(theirs))
}
