//! The store's seam, over PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use super::parameter::{int, text};
use super::refusals::PostgresRefusals;
use super::state::{self, number};
use super::{
    Listener, PostgresPlace, PostgresSource, PostgresStore, adopt, log, release, source, survey,
};
use crate::change::{
    Chain, Commit, DatabaseDigest, Epoch, Lineage, Position, Tag, Timestamp, Version,
};
use crate::error::Result;
use crate::store::adoption::{Adoption, Traces};
use crate::store::history::{self, fenced};
use crate::store::{
    Holder, News, Parts, Refusals, ServerPlace, ServerStore, SnapshotItem, Source, Standing, Store,
};

impl Source for PostgresStore {
    fn standing(&mut self) -> Result<Standing> {
        state::standing(self.session()?)
    }

    fn digests(&mut self) -> Result<DatabaseDigest> {
        state::digests(self.session()?)
    }

    fn after(&mut self, version: Version, bytes: usize) -> Result<Vec<Commit>> {
        log::after(self.session()?, version, bytes)
    }

    fn part(&mut self, version: Version, index: u32) -> Result<Vec<u8>> {
        log::part(self.session()?, version, index)
    }

    fn chain_at(&mut self, version: Version) -> Result<Option<Chain>> {
        source::chain_at(self.session()?, version)
    }

    fn oldest(&mut self) -> Result<Option<Version>> {
        log::oldest(self.session()?)
    }

    fn snapshot(
        &mut self,
        each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<Standing> {
        source::snapshot(&self.place, each)
    }
}

impl Store for PostgresStore {
    fn position(&self) -> Position {
        self.position
    }

    fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    fn confirm(&mut self) -> Result<()> {
        let standing = state::standing(self.session()?)?;
        match standing.position == self.position && standing.tag == self.tag {
            true => Ok(()),
            false => Err(fenced()),
        }
    }

    fn recount(&mut self) -> Result<DatabaseDigest> {
        source::recount(&self.place)
    }

    fn set_verified(&mut self, version: Version) -> Result<()> {
        let sql = "UPDATE _syncline_position SET verified = $1";
        self.behind_fence([(sql, vec![int(version.0)])])
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
        self.try_apply(lineage, commits, parts, None)
    }

    fn rewind(&mut self, to: Version, reason: &str, now: Timestamp) -> Result<Position> {
        self.rewind_to(to, reason, now)
    }

    /// Waits for whoever holds the position row: a transaction of an old connection, whose outcome is then
    /// known. One that does not end is ended.
    fn take_epoch_above(&mut self, floor: Epoch, tag: Tag, holder: &Holder) -> Result<Position> {
        match self.take_epoch_once(floor, tag, holder) {
            Err(error) if error.code() == "BACKING_LOCKED" => {
                self.session()?.query(END_OLD_SESSIONS, &[])?;
                self.take_epoch_once(floor, tag, holder)?;
            }
            taken => taken?,
        }
        self.load()?;
        Ok(self.position)
    }

    fn renew(&mut self, lease: Timestamp) -> Result<()> {
        self.behind_fence([("UPDATE _syncline_position SET lease = $1", vec![int(lease.0)])])
    }

    fn release(&mut self) -> Result<()> {
        let sql = "UPDATE _syncline_position SET node = NULL, lease = 0";
        self.behind_fence([(sql, Vec::new())])
    }

    fn trim(
        &mut self,
        older_than: Timestamp,
        size: u64,
        keep_after: Version,
    ) -> Result<Option<Version>> {
        let sql = "SELECT greatest( \
                   (SELECT max(version) FROM _syncline_log WHERE at < $1 AND version <= $2), \
                   (SELECT max(version) FROM (SELECT version, \
                    sum(size) OVER (ORDER BY version DESC) AS total FROM _syncline_log) AS l \
                    WHERE total > $3::bigint))";
        let rows =
            self.session()?.query(sql, &[int(older_than.0), int(keep_after.0), int(size)])?;
        let to = number(&rows[0], 0);
        if to > 0 {
            self.behind_fence(log::delete_to(Version(to)))?;
        }
        log::oldest(self.session()?)
    }
}

impl ServerStore for PostgresStore {
    fn refusals(&self) -> Arc<dyn Refusals> {
        Arc::new(PostgresRefusals)
    }

    fn replace(&mut self, source: &mut dyn Source) -> Result<Position> {
        self.replace_by(source)
    }

    fn restate(
        &mut self,
        lineage: &Lineage,
        commit: &Commit,
        parts: Parts<'_>,
    ) -> Result<Position> {
        self.restate_by(lineage, commit, parts)
    }
}

impl ServerPlace for PostgresPlace {
    fn open(&self, limit: Duration) -> Result<Box<dyn ServerStore>> {
        Ok(Box::new(PostgresStore::open(self.clone().within(limit))?))
    }

    fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(PostgresSource::open(self.clone())?))
    }

    fn listen(&self) -> Result<Box<dyn News>> {
        Ok(Box::new(Listener::open(self)?))
    }

    fn survey(&self, exclude: &[String]) -> Result<Adoption> {
        survey::survey(self, exclude)
    }

    fn adopt(&self, plan: &Adoption) -> Result<Position> {
        adopt::adopt(self, plan)
    }

    fn traces(&self) -> Result<Traces> {
        release::traces(self)
    }

    fn release(&self, now: Timestamp) -> Result<Traces> {
        release::release(self, now)
    }
}

/// Ends our own kind's sessions that have written the position row and not committed.
///
/// A process that was stopped between two messages of one statement leaves a session that no time limit
/// before PostgreSQL 17 ends: the server waits for the rest of what it takes for a command on its way.
const END_OLD_SESSIONS: &str = "SELECT pg_terminate_backend(activity.pid) \
    FROM pg_locks AS lock JOIN pg_stat_activity AS activity USING (pid) \
    WHERE lock.relation = '_syncline_position'::regclass AND lock.mode = 'RowExclusiveLock' \
    AND lock.granted AND activity.datname = current_database() AND activity.usename = current_user \
    AND activity.application_name = current_setting('application_name') \
    AND activity.pid <> pg_backend_pid()";

impl News for Listener {
    fn wait(&mut self, limit: Duration) -> Result<bool> {
        Listener::wait(self, limit)
    }
}

impl PostgresStore {
    /// Runs statements of ours in a transaction behind the fence.
    fn behind_fence(&mut self, requests: impl IntoIterator<Item = state::Request>) -> Result<()> {
        let (stays, lineage) = ((self.position, self.tag), self.lineage.clone());
        self.in_transaction(stays, None, lineage, |store, work| store.requests(work, requests))
            .map(|_| ())
    }

    fn take_epoch_once(&mut self, floor: Epoch, tag: Tag, holder: &Holder) -> Result<()> {
        self.inside(|store| {
            store.session()?.begin("")?;
            store.take_epoch_inside(floor, tag, holder)?;
            store.session()?.commit()
        })
    }

    fn take_epoch_inside(&mut self, floor: Epoch, tag: Tag, holder: &Holder) -> Result<()> {
        let session = self.session()?;
        session.batch("SELECT 1 FROM _syncline_position FOR UPDATE")?;
        let row = state::standing(session)?;
        let reign = history::next_reign(&row.position, &row.lineage, floor, tag);
        let mut lineage = row.lineage.clone();
        lineage.begin(reign);
        for (sql, parameters) in state::write_lineage(&row.lineage, &lineage) {
            session.execute(sql, parameters)?;
        }
        let sql = "UPDATE _syncline_position SET epoch = $1, tag = $2, \
                   node = $3, directory = $4, pid = $5, advertise = $6, lease = $7";
        let mut parameters = vec![int(reign.epoch.0), int(tag.0), text(&holder.node)];
        parameters.extend([text(&holder.directory), int(holder.pid.into())]);
        parameters.extend([text(&holder.advertise), int(holder.lease.0)]);
        session.execute(sql, parameters).map(|_| ())
    }
}
