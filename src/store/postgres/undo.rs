//! Undoing commits: their entries in reverse order, each turned round, and everything held.

use super::apply::{Work, write_setting};
use super::parameter::{int, text};
use super::{PostgresStore, held, log, state};
use crate::change::{Change, Commit, Position, Timestamp, Version};
use crate::error::Result;
use crate::store::history::{self, unreachable_version};
use crate::store::inverse::{self, Entry};

impl PostgresStore {
    /// Undoes the commits after `to`, newest first, and holds them.
    pub(crate) fn rewind_to(
        &mut self,
        to: Version,
        reason: &str,
        now: Timestamp,
    ) -> Result<Position> {
        let stays = (self.position, self.tag);
        let lineage = self.lineage.clone();
        if to == self.position.version {
            return self.in_transaction(stays, None, lineage, |_, _| Ok(()));
        }
        if to > self.position.version {
            self.in_transaction(stays, None, lineage, |_, _| Ok(()))?;
            return Err(unreachable_version(to));
        }
        self.in_transaction(stays, None, lineage, |store, work| {
            store.rewind_inside(work, to, reason, now)
        })
    }

    fn rewind_inside(
        &mut self,
        work: &mut Work,
        to: Version,
        reason: &str,
        now: Timestamp,
    ) -> Result<()> {
        // Nobody may have moved the copy: the log is read behind the fence.
        work.pipeline.finish(self.session()?)?;
        if log::oldest(self.session()?)?.is_none_or(|oldest| oldest > to.next()) {
            return Err(unreachable_version(to));
        }
        let commits = log::after(self.session()?, to, usize::MAX)?;
        let first = commits.first().ok_or_else(|| unreachable_version(to))?.clone();
        for commit in commits.iter().rev() {
            self.undo_commit(work, commit)?;
        }
        // Held in their order, so that a replay can follow it.
        for commit in &commits {
            let mut bodies = Vec::new();
            for index in 0..commit.parts() {
                bodies.push(self.part_here(commit.version(), index)?);
            }
            let session = self.session()?;
            held::hold(session, commit, reason, now, &mut |_, i| Ok(bodies[i as usize].clone()))?;
        }
        let at = log::at(self.session()?, to)?;
        let requests = log::delete_after(self.session()?, to)?;
        self.requests(work, requests)?;
        let (lineage, reign) = history::cut(&self.lineage, to)?;
        let (chain, digest) = (first.header().previous, self.ledger.total());
        let back = Position { epoch: reign.epoch, version: to, chain, digest };
        let seen = (self.position, self.tag);
        self.requests(work, [state::compare_and_set(seen, (back, reign.tag), Some(at))])?;
        (work.becomes, work.lineage) = ((back, reign.tag), lineage);
        Ok(())
    }

    fn part_here(&mut self, version: Version, index: u32) -> Result<Vec<u8>> {
        log::part(self.session()?, version, index)
    }

    fn undo_commit(&mut self, work: &mut Work, commit: &Commit) -> Result<()> {
        let version = commit.version();
        let mut bodies = Vec::new();
        for index in 0..commit.parts() {
            bodies.push(self.part_here(version, index)?);
        }
        let mut parts = |_: &Commit, index: u32| Ok(bodies[index as usize].clone());
        work.version = version;
        inverse::backwards(commit, &mut parts, |entry| self.undo_entry(work, entry))?;
        self.settle_rows(work)?;
        self.settle_digests(work);
        work.pipeline.finish(self.session()?)
    }

    fn undo_entry(&mut self, work: &mut Work, (change, table): Entry<'_>) -> Result<()> {
        match change {
            Change::Row(row) => {
                let (mut before, mut after) = (Vec::new(), Vec::new());
                row.values(&mut before, &mut after)?;
                let table = table.expect("a row has a table");
                let inverse = inverse::row(&row);
                self.apply_row(work, &table, &inverse, &after, &before)
            }
            Change::Schema(step) => self.apply_step(work, &inverse::step(step, work.version)?),
            Change::Sequence { table, before, .. } => {
                self.requests(work, [state::write_sequence(&table, before)])
            }
            Change::Setting { name, before, .. } => {
                self.requests(work, [write_setting(&name, before)?])
            }
            Change::Request { id, .. } => {
                let sql = "DELETE FROM _syncline_request WHERE client = $1 AND sequence = $2";
                self.requests(work, [(sql, vec![text(&id.client), int(id.sequence)])])
            }
        }
    }
}
