//! The shelf: held things that cannot lie in the copy itself.
//!
//! A copy on disk holds what it undoes in a table of its own, in the same transaction. The shelf, a small
//! database `DATA_DIR/NAME.held.db`, takes what has no such place: what a copy in memory undoes (it ends
//! with its process), what a fenced writer had not flushed (the backing database is another's by then),
//! and what a decision about a restore leaves out (it is held before anything is replaced).
//!
//! Left out: moving things from here into a copy. Both are listed together, told apart by their ids.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::database::with_sides;
use super::options::{DatabaseOptions, WorkingCopy};
use super::shared::Shared;
use crate::change::{Chain, Commit, Timestamp, Version};
use crate::error::Result;
use crate::heal::{self, Rung};
use crate::store::sqlite::{HeldCommit, SqliteStore, Sync};
use crate::store::{Source, Store};

/// Ids on the shelf are greater than those in a copy, by this.
const FIRST: i64 = 1 << 40;

/// How many bytes of commits are looked at together.
const BATCH: usize = 8 << 20;

/// Which commits of a source are to be held.
type Wanted<'a> = &'a mut dyn FnMut(&Commit) -> Result<bool>;

/// The opened shelf.
pub(crate) struct Shelf(SqliteStore);

fn path(options: &DatabaseOptions) -> PathBuf {
    options.data_dir.join(format!("{}.held.db", options.name))
}

impl Shelf {
    /// Opens it, made if need be.
    pub fn open(options: &DatabaseOptions) -> Result<Shelf> {
        let limit = options.limits.commit_bytes;
        Ok(Shelf(SqliteStore::open(options.disk.clone(), &path(options), Sync::Full, limit)?))
    }

    /// Opens it, if there is one.
    pub fn existing(options: &DatabaseOptions) -> Result<Option<Shelf>> {
        match options.disk.identity(&path(options)) {
            Ok(Some(_)) => Shelf::open(options).map(Some),
            _ => Ok(None),
        }
    }

    /// Keeps what `source` has after `fork`, all that is wanted or nothing; durable when it returns. What
    /// is here already is not kept twice.
    fn hold(
        &mut self,
        source: &mut dyn Source,
        fork: Version,
        (reason, at): (&str, Timestamp),
        wanted: Wanted<'_>,
    ) -> Result<u64> {
        let here: HashSet<Chain> = self.0.held()?.iter().map(|held| held.commit.chain()).collect();
        let mut wanted = |commit: &Commit| Ok(!here.contains(&commit.chain()) && wanted(commit)?);
        self.0.db().execute_batch("BEGIN IMMEDIATE")?;
        let kept = self.hold_each(source, fork, (reason, at), &mut wanted);
        self.0.db().execute_batch(if kept.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        self.0.checkpoint_rest(true)?;
        kept
    }

    fn hold_each(
        &mut self,
        source: &mut dyn Source,
        fork: Version,
        (reason, at): (&str, Timestamp),
        wanted: Wanted<'_>,
    ) -> Result<u64> {
        let (mut seen, mut kept) = (fork, 0);
        loop {
            let commits = source.after(seen, BATCH)?;
            let Some(last) = commits.last() else { return Ok(kept) };
            seen = last.version();
            for commit in &commits {
                if wanted(commit)? {
                    self.0.hold(commit, reason, at, &mut |c, i| source.part(c.version(), i))?;
                    kept += 1;
                }
            }
        }
    }

    /// Everything on it, oldest first.
    pub fn list(&self) -> Result<Vec<HeldCommit>> {
        let mut held = self.0.held()?;
        held.iter_mut().for_each(|held| held.id += FIRST);
        Ok(held)
    }

    /// The bodies of a commit that [`list`](Self::list) gave, part by part.
    pub fn bodies(&self, held: &HeldCommit) -> Result<Vec<Vec<u8>>> {
        let mut here = held.clone();
        here.id -= FIRST;
        self.0.held_bodies(&here)
    }

    fn discard(&mut self, id: i64) -> Result<()> {
        self.0.discard(id - FIRST)
    }
}

/// Holds on the shelf of this node what `source` has after `fork`, as far as it is wanted. Says how much.
pub(crate) fn hold(
    shared: &Shared,
    source: &mut dyn Source,
    fork: Version,
    reason: &str,
    wanted: Wanted<'_>,
) -> Result<u64> {
    if source.after(fork, 1)?.is_empty() {
        return Ok(0);
    }
    let mut shelf = Shelf::open(&shared.options)?;
    let kept = shelf.hold(source, fork, (reason, shared.now()), wanted)?;
    shared.shelved.store(shelf.0.held_count()?, Ordering::Relaxed);
    tracing::warn!(database = %shared.options.name, after = %fork, kept, reason, "held commits in the data directory");
    Ok(kept)
}

/// Undoes what a copy has after `to`, and holds it: of a copy in memory, where it outlives the process.
pub(crate) fn undo(shared: &Shared, copy: &mut SqliteStore, to: Version) -> Result<()> {
    let in_memory = shared.options.working_copy == WorkingCopy::Memory;
    if in_memory {
        hold(shared, copy, to, "undone", &mut |_| Ok(true))?;
    }
    copy.rewind(to, "undone", shared.now())?;
    if in_memory {
        for held in copy.held()? {
            copy.discard(held.id)?;
        }
    }
    Ok(())
}

/// Holds the commits that `one` has and `other` has not.
pub(crate) fn hold_only_in(
    shared: &Shared,
    one: &mut dyn Source,
    other: &mut dyn Source,
) -> Result<u64> {
    let fork = match with_sides(one, other, heal::next_step)? {
        Rung::InStep | Rung::Incremental => return Ok(0),
        Rung::Rewind(fork) => fork,
        Rung::Full(_) => one.oldest()?.map_or(Version(0), |v| Version(v.0.saturating_sub(1))),
    };
    hold(shared, one, fork, "undone", &mut |_| Ok(true))
}

/// Whether an id is one of the shelf's.
pub(crate) fn is_here(id: i64) -> bool {
    id > FIRST
}

/// Forgets something on the shelf.
pub(crate) fn discard(shared: &Shared, id: i64) -> Result<()> {
    let mut shelf = Shelf::open(&shared.options)?;
    shelf.discard(id)?;
    shared.shelved.store(shelf.0.held_count()?, Ordering::Relaxed);
    Ok(())
}

/// Counts what an earlier process left on it.
pub(crate) fn count_again(shared: &Shared) -> Result<()> {
    if let Some(shelf) = Shelf::existing(&shared.options)? {
        shared.shelved.store(shelf.0.held_count()?, Ordering::Relaxed);
    }
    Ok(())
}
