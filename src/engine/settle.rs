//! When the answer to the backing database's COMMIT was lost.
//!
//! ```text
//! COMMIT ──✂── ?      take the next epoch     waits for whatever the old connection still does,
//!                          │                  and whatever of it comes later finds itself fenced
//!                          ▼
//!                     what stands there?      the group's end: it was committed, the copy commits
//!                                             what stood there before: nothing of it was done
//! ```
//!
//! If the server cannot be reached, nobody knows: the members hear that the outcome is unknown, this copy
//! undoes the group, and before the next one it takes over what was committed after all.
//!
//! Left out: flushing again what was acknowledged from memory. It carries the old epoch: it is held.

use std::sync::atomic::Ordering;

use super::backing::Backing;
use super::core::Core;
use super::reign::take_epoch;
use super::shelf;
use crate::change::{Commit, Position};
use crate::error::{Error, Kind, Result};
use crate::store::Store;

/// How much of the log is taken over at once.
const BATCH: usize = 8 << 20;

fn not_done(cause: &Error) -> Error {
    Error::retry(
        "BACKING_UNAVAILABLE",
        format!("the backing database was lost before the commit: {}", cause.message()),
    )
    .hint("nothing of it was done: try again")
}

impl Core {
    /// Decides whether what was to stand at `attempted` does.
    ///
    /// Fails with a retriable error if nothing of it was done, and with `OUTCOME_UNKNOWN` if the server
    /// cannot be reached.
    pub(super) fn settle(&mut self, attempted: Position, cause: Error) -> Result<()> {
        let before = self.durable().position();
        self.unsettled = true;
        tracing::warn!(database = %self.shared.options.name, error = %cause, "the answer to a COMMIT was lost");
        match self.take_next_epoch() {
            Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Retry) => {
                return Err(cause);
            }
            taken => taken?,
        }
        let there = self.durable().position();
        if there.chain == attempted.chain {
            return Ok(());
        }
        Err(if there.chain == before.chain { not_done(&cause) } else { cause })
    }

    /// Takes over what was decided while this copy did not know, before it writes again.
    pub(super) fn be_settled(&mut self) -> Result<()> {
        if !self.unsettled {
            return Ok(());
        }
        if self.durable().lineage().0.len() == self.store.lineage().0.len() {
            self.take_next_epoch()?;
        }
        self.catch_up()
    }

    /// Brings this copy to where the backing database is.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        // A copy with others' rows has nothing to go on from: it is loaded anew.
        if self.damaged.is_none() {
            // Without clients' triggers and key actions.
            self.store.follow()?;
            let followed =
                self.undo_what_the_backing_lacks().and_then(|()| self.follow_the_backing());
            self.store.serve_clients()?;
            followed?;
        }
        self.unsettled = false;
        Ok(())
    }

    /// Fails with `FENCED` if somebody else took one in between. (One that is not known here, but ours, is
    /// from an earlier try whose answer was lost, too.)
    fn take_next_epoch(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let known = self.durable().lineage().clone();
        let there = self.durable().standing()?;
        let ours = there.holder.is_some_and(|holder| holder.directory == shared.directory);
        if there.lineage != known && !ours {
            return Err(self.fenced());
        }
        match take_epoch(&shared, self.durable(), false) {
            Err(error) if error.code() == "HOLDER_ALIVE" => Err(self.fenced()),
            taken => taken.map(drop),
        }
    }

    /// What was acknowledged from memory under the epoch before cannot be flushed any more.
    fn undo_what_the_backing_lacks(&mut self) -> Result<()> {
        let there = self.durable().position().version;
        if self.store.position().version > there {
            shelf::undo(&self.shared.clone(), &mut self.store, there)?;
        }
        self.unflushed = false;
        Ok(())
    }

    fn follow_the_backing(&mut self) -> Result<()> {
        let Backing::Server(server) = &mut self.backing else { return Ok(()) };
        let lineage = server.lineage().clone();
        loop {
            let commits = server.after(self.store.position().version, BATCH)?;
            let mut parts = |commit: &Commit, i| server.part(commit.version(), i);
            let position = self.store.apply(&lineage, &commits, &mut parts)?;
            if commits.is_empty() {
                self.shared.durable.store(position.version.0, Ordering::Release);
                self.shared.publish(position);
                return Ok(());
            }
        }
    }
}
