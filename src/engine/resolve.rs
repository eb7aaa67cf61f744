//! Deciding a restore: keep what lies in the backing database, or this node's copy.
//!
//! Either way a new epoch begins, and what the other side had is held: nothing is silent.

use super::core::Core;
use super::database::{Database, Keep, wait, with_sides};
use super::mark::{beside, remove_database};
use super::open::{self, build_core, refill, set_log_aside, take_epoch};
use super::status::State;
use crate::change::{Commit, Position, Version};
use crate::error::{Error, Result};
use crate::heal::{self, Rung};
use crate::store::Source;
use crate::store::sqlite::{SqliteStore, Sync};

/// Decides, on the writer's thread.
pub(crate) fn resolve(database: &Database, keep: Keep) -> Result<Position> {
    let answer = database.inbox()?.errand(move |core| {
        if core.shared.condition().state != State::Restored {
            return Err(Error::invalid("NOTHING_TO_RESOLVE", "this database was not restored")
                .hint("`syncline status` shows how it is doing"));
        }
        match keep {
            Keep::Backing => core.keep_backing(),
            Keep::Node => core.keep_node(),
        }
    })?;
    let position = wait(answer)?;
    // The keeper still has the old file open.
    open::restart_keeper(database)?;
    Ok(position)
}

impl Core {
    /// Takes what lies in the backing database; what only this node had is held there.
    fn keep_backing(&mut self) -> Result<Position> {
        let shared = self.shared.clone();
        let options = shared.options.clone();
        let rescued = self.rescued.take();
        let replaced = self.was_replaced()?;
        if replaced && self.log_is_ours()? {
            set_log_aside(&options)?;
        }
        let limit = options.limits.commit_bytes;
        let mut file =
            SqliteStore::open(options.disk.clone(), &options.backing, Sync::Full, limit)?;
        let undone = self.only_here(&mut file)?;
        for commit in undone {
            let store = &mut self.store;
            let mut parts = |c: &Commit, i| store.part(c.version(), i);
            file.hold(&commit, "undone", shared.now(), &mut parts)?;
        }
        take_epoch(&shared, &mut file, true)?;
        *self = match self.backing.is_some() {
            true => {
                let copy = refill(&shared, &mut file)?;
                Core::new(copy, Some(file), shared.clone())?
            }
            false => build_core(&shared, file)?,
        };
        let position = self.resolved()?;
        if let Some(path) = rescued {
            remove_database(options.disk.as_ref(), &path);
        }
        Ok(position)
    }

    /// The commits that this node's copy has and the file has not.
    fn only_here(&mut self, file: &mut SqliteStore) -> Result<Vec<Commit>> {
        let rung = with_sides(&mut self.store, file, heal::next_step)?;
        let fork = match rung {
            Rung::InStep | Rung::Incremental => return Ok(Vec::new()),
            Rung::Rewind(fork) => fork,
            Rung::Full(_) => {
                self.store.oldest()?.map_or(Version(0), |v| Version(v.0.saturating_sub(1)))
            }
        };
        self.store.after(fork, usize::MAX)
    }

    /// Writes this node's copy over the backing database.
    fn keep_node(&mut self) -> Result<Position> {
        let shared = self.shared.clone();
        let options = shared.options.clone();
        if self.backing.is_none() && !self.was_replaced()? {
            return Err(Error::invalid(
                "NO_NODE_COPY",
                "this node's copy is the backing file itself, and that was overwritten",
            )
            .hint("keep the backing database; readers hold what they undo, and `syncline held replay` brings it back"));
        }
        let failed = |e: std::io::Error| {
            Error::storage("RESOLVE_FAILED", format!("the copy cannot be put in place: {e}"))
        };
        let fresh = beside(&options.backing, ".resolving");
        remove_database(options.disk.as_ref(), &fresh);
        self.store.copy_pages(options.disk.as_ref(), &fresh)?;
        set_log_aside(&options)?;
        options.disk.rename(&fresh, &options.backing).map_err(failed)?;
        remove_database(options.disk.as_ref(), &fresh);
        let rescued = self.rescued.take();
        let limit = options.limits.commit_bytes;
        let mut file =
            SqliteStore::open(options.disk.clone(), &options.backing, Sync::Full, limit)?;
        take_epoch(&shared, &mut file, true)?;
        *self = build_core(&shared, file)?;
        let position = self.resolved()?;
        if let Some(path) = rescued {
            remove_database(options.disk.as_ref(), &path);
        }
        Ok(position)
    }

    fn resolved(&mut self) -> Result<Position> {
        self.serve()?;
        self.shared.set_condition(State::Ok, "");
        self.write_mark()?;
        Ok(self.store.position())
    }
}
