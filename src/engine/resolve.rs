//! Deciding a restore: keep what lies in the backing database, or this node's copy.
//!
//! ```text
//!                 this node's copy                    the backing file
//! keep backing    what only it had ─► held            goes on, in a new epoch
//! keep node       put in its place, in a new epoch    what only it had ─► held
//! ```
//!
//! What is left out is held first, on the node's [shelf](super::shelf): whatever happens in between,
//! nothing is gone silently.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::backing::Backing;
use super::changed::fill_as_found;
use super::core::Core;
use super::database::{Database, Keep, wait};
use super::mark::{beside, remove_database};
use super::open::build_core;
use super::open_file::{open_file, part_from_log, put_in_place};
use super::open_server::open_backing_server;
use super::options::{BackingPlace, DatabaseOptions};
use super::reign::take_epoch;
use super::shared::Shared;
use super::shelf;
use super::status::State;
use crate::change::Position;
use crate::error::{Error, Result};
use crate::store::sqlite::{SqliteSource, SqliteStore};
use crate::store::{ServerStore, Store};

/// Decides, on the writer's thread.
pub(crate) fn resolve(database: &Database, keep: Keep) -> Result<Position> {
    let answer = database.inbox()?.errand(move |core| core.resolve(keep))?;
    wait(answer)
}

fn not_in_place(error: std::io::Error) -> Error {
    Error::storage("RESOLVE_FAILED", format!("the copy cannot be put in place: {error}"))
}

fn no_node_copy() -> Error {
    Error::invalid(
        "NO_NODE_COPY",
        "this node has no copy of its own: the one it had was the backing file, and that is overwritten",
    )
    .hint("keep the backing database; readers hold what they undo, and `syncline held replay` brings it back")
}

/// The copy that an earlier process set aside.
pub(crate) fn left_behind(options: &DatabaseOptions) -> Option<PathBuf> {
    let path = options.set_aside();
    let there = options.disk.identity(&path).is_ok_and(|there| there.is_some());
    there.then_some(path)
}

/// An earlier process set its copy aside, and now the backing file goes on: what only that copy has is
/// held.
pub(crate) fn hold_left_behind(shared: &Shared, there: &mut dyn Store) {
    let options = &shared.options;
    let Some(path) = left_behind(options) else { return };
    let held = open_file(options, &path)
        .and_then(|mut copy| shelf::hold_only_in(shared, &mut copy, there));
    match held {
        Ok(_) => remove_database(options.disk.as_ref(), &path),
        Err(error) => {
            tracing::error!(database = %options.name, %error, kept = %path.display(), "could not hold what a copy that was set aside has");
        }
    }
}

impl Core {
    /// Decides a restore one way or the other.
    pub(super) fn resolve(&mut self, keep: Keep) -> Result<Position> {
        if self.shared.condition().state != State::Restored {
            return Err(Error::invalid("NOTHING_TO_RESOLVE", "this database was not restored")
                .hint("`syncline status` shows how it is doing"));
        }
        let position = match keep {
            Keep::Backing => self.keep_backing()?,
            Keep::Node => self.keep_node()?,
        };
        tracing::info!(database = %self.shared.options.name, ?keep, %position, "resolved the restore");
        Ok(position)
    }

    /// Takes what lies in the backing database.
    fn keep_backing(&mut self) -> Result<Position> {
        let shared = self.shared.clone();
        match &shared.options.backing {
            BackingPlace::File(path) => {
                if self.is_gone()? {
                    return Err(Error::diverged(
                        "BACKING_GONE",
                        "there is no backing file to keep",
                    )
                    .hint(
                        "put it back, or keep this node's copy: `syncline resolve --keep node`",
                    ));
                }
                self.part_from_the_old_log(path)?;
                let mut file = open_file(&shared.options, path)?;
                self.with_node_copy(|copy| shelf::hold_only_in(&shared, copy, &mut file))?;
                self.go_on_with_file(file)
            }
            BackingPlace::Server(place) => {
                let mut server = open_backing_server(&shared, place.as_ref())?;
                self.with_node_copy(|copy| shelf::hold_only_in(&shared, copy, server.as_mut()))?;
                self.go_on_with_server(server)
            }
        }
    }

    /// Writes this node's copy over the backing database.
    fn keep_node(&mut self) -> Result<Position> {
        let shared = self.shared.clone();
        match &shared.options.backing {
            BackingPlace::File(path) => self.keep_node_in_file(path),
            BackingPlace::Server(place) => {
                let mut server = open_backing_server(&shared, place.as_ref())?;
                let held = self
                    .with_node_copy(|copy| shelf::hold_only_in(&shared, server.as_mut(), copy))?;
                held.ok_or_else(no_node_copy)?;
                self.with_node_copy(|copy| server.replace(copy))?;
                self.go_on_with_server(server)
            }
        }
    }

    fn keep_node_in_file(&mut self, path: &Path) -> Result<Position> {
        let shared = self.shared.clone();
        let options = &shared.options;
        let fresh = beside(path, ".resolving");
        remove_database(options.disk.as_ref(), &fresh);
        let copied = self.with_node_copy(|copy| copy.copy_pages(options.disk.as_ref(), &fresh))?;
        copied.ok_or_else(no_node_copy)?;
        if !self.is_gone()? {
            self.hold_theirs(path)?;
        }
        put_in_place(options, &fresh, path)?;
        let file = open_file(options, path)?;
        self.go_on_with_file(file)
    }

    /// Holds what only the backing file has; one that is no database of ours is set aside instead.
    fn hold_theirs(&mut self, path: &Path) -> Result<()> {
        let shared = self.shared.clone();
        let options = &shared.options;
        let theirs = self
            .part_from_the_old_log(path)
            .and_then(|()| SqliteSource::open(options.disk.clone(), path, None));
        let held = theirs.and_then(|mut theirs| {
            self.with_node_copy(|copy| shelf::hold_only_in(&shared, &mut theirs, copy))
        });
        let Err(error) = held else { return Ok(()) };
        let kept = beside(path, &format!(".unreadable-{}", shared.now().0));
        tracing::warn!(%error, kept = %kept.display(), "set the file aside that lay at the backing file's place");
        options.disk.rename(path, &kept).map_err(not_in_place)
    }

    /// A log that belongs to the file that was there before must not be read with the one that is there.
    fn part_from_the_old_log(&mut self, path: &Path) -> Result<()> {
        if self.was_replaced()? && self.log_is_ours()? {
            part_from_log(&self.shared.options, path)?;
        }
        Ok(())
    }

    /// Works on what this node had, apart from the backing file; none if it has nothing of its own.
    fn with_node_copy<T>(
        &mut self,
        work: impl FnOnce(&mut SqliteStore) -> Result<T>,
    ) -> Result<Option<T>> {
        if let Some(path) = &self.left_behind {
            return work(&mut open_file(&self.shared.options, path)?).map(Some);
        }
        let own = !self.backing.is_itself() || self.was_replaced()?;
        if own && !self.found_restored { work(&mut self.store).map(Some) } else { Ok(None) }
    }

    fn go_on_with_file(&mut self, mut file: SqliteStore) -> Result<Position> {
        let shared = self.shared.clone();
        self.take_epoch_of(&mut file)?;
        *self = build_core(&shared, file)?;
        // The keeper has the old file open.
        shared.decisions.fetch_add(1, Ordering::Release);
        self.resolved()
    }

    fn go_on_with_server(&mut self, mut server: Box<dyn ServerStore>) -> Result<Position> {
        let shared = self.shared.clone();
        self.take_epoch_of(server.as_mut())?;
        let (copy, damage) = fill_as_found(&shared, server.as_mut())?;
        *self = Core::new(copy, Backing::Server(server), shared)?;
        self.serve()?;
        self.goes_on(damage.as_ref());
        self.resolved()
    }

    fn take_epoch_of(&mut self, there: &mut dyn Store) -> Result<()> {
        let taken = take_epoch(&self.shared, there, true)?;
        self.shared.settled.store(taken.epoch.0, Ordering::Relaxed);
        Ok(())
    }

    fn resolved(&mut self) -> Result<Position> {
        let shared = self.shared.clone();
        self.is_well_again();
        self.checkpoint_begins()?;
        self.checkpoint(true)?;
        remove_database(shared.options.disk.as_ref(), &shared.options.set_aside());
        Ok(self.store.position())
    }
}
