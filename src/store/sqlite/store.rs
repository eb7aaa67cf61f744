//! The store's seam, over SQLite.

use super::SqliteStore;
use super::state::{self, int};
use super::{held, log, recount, source};
use crate::change::{
    Chain, Commit, DatabaseDigest, Epoch, Lineage, Position, Tag, Timestamp, ValueRef, Version,
};
use crate::error::Result;
use crate::store::history::{self, unreachable_version};
use crate::store::{Holder, Parts, SnapshotItem, Source, Standing, Store};

impl Source for SqliteStore {
    fn standing(&mut self) -> Result<Standing> {
        source::standing(self.db)
    }

    fn digests(&mut self) -> Result<DatabaseDigest> {
        source::digests(self.db)
    }

    fn after(&mut self, version: Version, bytes: usize) -> Result<Vec<Commit>> {
        log::after(self.db, version, bytes)
    }

    fn part(&mut self, version: Version, index: u32) -> Result<Vec<u8>> {
        log::part(self.db, version, index)
    }

    fn chain_at(&mut self, version: Version) -> Result<Option<Chain>> {
        source::chain_at(self.db, version)
    }

    fn oldest(&mut self) -> Result<Option<Version>> {
        log::oldest(self.db)
    }

    fn snapshot(
        &mut self,
        each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<Standing> {
        source::snapshot(self.db, each)
    }
}

impl Store for SqliteStore {
    fn position(&self) -> Position {
        self.position
    }

    fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    fn confirm(&mut self) -> Result<()> {
        self.begin()?;
        self.rollback()
    }

    fn recount(&mut self) -> Result<DatabaseDigest> {
        let db = self.db;
        source::in_snapshot(db, || recount::database(db))
    }

    fn set_verified(&mut self, version: Version) -> Result<()> {
        let args = [int(version.0)];
        self.in_group(|store| state::update_position(store.db, "verified = ?1", &args))
    }

    fn apply(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
    ) -> Result<Position> {
        self.apply_commits(lineage, commits, parts)
    }

    fn append(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
    ) -> Result<Position> {
        self.try_apply(lineage, commits, parts).map_err(|(_, error)| error)
    }

    fn rewind(&mut self, to: Version, reason: &str, now: Timestamp) -> Result<Position> {
        self.begin()?;
        let undone = self.rewind_inside(to, reason, now);
        if undone.is_err() {
            self.rollback()?;
            self.load()?;
        }
        undone
    }

    fn take_epoch_above(&mut self, floor: Epoch, tag: Tag, holder: &Holder) -> Result<Position> {
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let taken = self.take_epoch_inside(floor, tag, holder);
        let taken = taken.and_then(|()| self.db.execute_batch("COMMIT"));
        if taken.is_err() && !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK")?;
        }
        taken?;
        self.load()?;
        Ok(self.position)
    }

    fn renew(&mut self, lease: Timestamp) -> Result<()> {
        self.in_group(|store| state::update_position(store.db, "lease = ?1", &[int(lease.0)]))
    }

    fn release(&mut self) -> Result<()> {
        self.in_group(|store| state::update_position(store.db, "node = NULL, lease = 0", &[]))
    }

    fn trim(
        &mut self,
        older_than: Timestamp,
        size: u64,
        keep_after: Version,
    ) -> Result<Option<Version>> {
        let by_age = "SELECT max(version) FROM main._syncline_log WHERE at < ?1 AND version <= ?2";
        let by_age = self.db.query_i64(by_age, &[int(older_than.0), int(keep_after.0)])?;
        let by_size = "SELECT max(version) FROM (SELECT version, \
             sum(size) OVER (ORDER BY version DESC) AS total FROM main._syncline_log) WHERE total > ?1";
        let by_size = self.db.query_i64(by_size, &[int(size)])?;
        let to = by_age.max(by_size).unwrap_or(0);
        if to > 0 {
            self.in_group(|store| log::delete_to(store.db, Version(to as u64)))?;
        }
        log::oldest(self.db)
    }
}

impl SqliteStore {
    /// Runs `work` in a transaction behind the fence.
    fn in_group(&mut self, work: impl FnOnce(&mut SqliteStore) -> Result<()>) -> Result<()> {
        self.begin()?;
        let done = work(self).and_then(|()| self.commit().map(|_| ()));
        if done.is_err() {
            self.rollback()?;
        }
        done
    }

    fn take_epoch_inside(&mut self, floor: Epoch, tag: Tag, holder: &Holder) -> Result<()> {
        let row = state::position(self.db)?;
        let mut lineage = state::lineage(self.db)?;
        let reign = history::next_reign(&row.position, &lineage, floor, tag);
        lineage.begin(reign);
        state::write_lineage(self.db, &lineage)?;
        let position = Position { epoch: reign.epoch, ..row.position };
        self.write_position(position, tag, row.at)?;
        state::update_position(
            self.db,
            "node = ?1, directory = ?2, pid = ?3, advertise = ?4, lease = ?5",
            &[
                ValueRef::Text(&holder.node),
                ValueRef::Text(&holder.directory),
                ValueRef::Integer(holder.pid.into()),
                ValueRef::Text(&holder.advertise),
                int(holder.lease.0),
            ],
        )
    }

    fn rewind_inside(&mut self, to: Version, reason: &str, now: Timestamp) -> Result<Position> {
        let db = self.db;
        if to == self.position.version {
            return self.commit();
        }
        self.group_schema_changes();
        let reached = log::oldest(db)?.is_some_and(|oldest| oldest <= to.next());
        if !reached || to > self.position.version {
            return Err(unreachable_version(to));
        }
        let commits = log::after(db, to, usize::MAX)?;
        for commit in commits.iter().rev() {
            self.undo_commit(commit, &mut |c, index| log::part(db, c.version(), index))?;
        }
        // Held in their order, so that a replay can follow it.
        for commit in &commits {
            held::hold(db, commit, reason, now, &mut |c, index| log::part(db, c.version(), index))?;
        }
        let first = commits.first().ok_or_else(|| unreachable_version(to))?;
        let at = log::at(db, to)?;
        log::delete_after(db, to)?;
        let (lineage, reign) = history::cut(&self.lineage, to)?;
        state::write_lineage(db, &lineage)?;
        let (chain, digest) = (first.header().previous, self.ledger_total());
        self.set_head(Position { epoch: reign.epoch, version: to, chain, digest }, at);
        self.tag = reign.tag;
        self.lineage = lineage;
        self.prepare_commit()?;
        self.finish_commit()
    }
}
