//! The log: commits in order, written in the transaction of their rows.
//!
//! Its rows are those of [`frames`]; the body of a large commit lies in `_syncline_part`.

use super::SqliteStore;
use super::connection;
use super::raw::Db;
use super::state::int;
use crate::change::{
    Chain, ChainHasher, Commit, Header, LineageEntry, Position, RequestId, Timestamp, ValueRef,
    Version,
};
use crate::error::Result;
use crate::store::frames;

/// The commits after `after`, at most about `bytes` of them, but at least one if there is one.
pub(crate) fn after(db: Db, after: Version, bytes: usize) -> Result<Vec<Commit>> {
    let mut commits: Vec<Commit> = Vec::new();
    let mut stmt = db.prepare(
        "SELECT frames, size FROM main._syncline_log WHERE version > ?1 ORDER BY version",
    )?;
    stmt.bind(1, int(after.0))?;
    let mut size = 0;
    while size < bytes && stmt.step()? {
        commits.extend(frames::read(stmt.blob(0)?)?.into_iter().filter(|c| c.version() > after));
        size += stmt.i64(1) as usize;
    }
    Ok(commits)
}

/// A part of a large commit's body, from 0.
pub(crate) fn part(db: Db, version: Version, index: u32) -> Result<Vec<u8>> {
    let mut found = None;
    let sql =
        "SELECT body FROM main._syncline_part WHERE version = ?1 ORDER BY id LIMIT 1 OFFSET ?2";
    db.query(sql, &[int(version.0), int(index.into())], |row| {
        found = Some(row.blob(0)?.to_vec());
        Ok(())
    })?;
    found.ok_or_else(|| frames::damaged(version))
}

/// The chain at `version`, if the log reaches it.
pub(crate) fn chain_at(db: Db, head: &Position, version: Version) -> Result<Option<Chain>> {
    if version == head.version {
        return Ok(Some(head.chain));
    }
    let mut found = None;
    let sql = "SELECT frames FROM main._syncline_log WHERE version >= ?1 ORDER BY version LIMIT 1";
    db.query(sql, &[int(version.0 + 1)], |row| {
        let commits = frames::read(row.blob(0)?)?;
        let next = commits.iter().find(|c| c.version() == version.next());
        found = next.map(|c| c.header().previous);
        Ok(())
    })?;
    if found.is_none() && version == Version(0) && head.version == Version(0) {
        found = Some(Chain::default());
    }
    Ok(found)
}

/// The position of the commit at `version`, if the log has it.
pub(crate) fn position_at(db: Db, version: Version) -> Result<Option<Position>> {
    let mut found = None;
    let sql = "SELECT frames FROM main._syncline_log WHERE version >= ?1 ORDER BY version LIMIT 1";
    db.query(sql, &[int(version.0)], |row| {
        let commits = frames::read(row.blob(0)?)?;
        found = commits.iter().find(|c| c.version() == version).map(Commit::position);
        Ok(())
    })?;
    Ok(found)
}

/// When the commit at `version` was made, if the log still has it: else the beginning of time.
pub(crate) fn at(db: Db, version: Version) -> Result<Timestamp> {
    let commits = after(db, Version(version.0.saturating_sub(1)), 1)?;
    let found = commits.iter().find(|c| c.version() == version);
    Ok(found.map_or(Timestamp(0), |c| c.header().at))
}

/// The first version whose commit the log still has; none if it is empty.
pub(crate) fn oldest(db: Db) -> Result<Option<Version>> {
    let sql = "SELECT first FROM main._syncline_log ORDER BY version LIMIT 1";
    Ok(db.query_i64(sql, &[])?.map(|v| Version(v as u64)))
}

/// Deletes the rows up to `version`.
pub(crate) fn delete_to(db: Db, version: Version) -> Result<()> {
    db.execute("DELETE FROM main._syncline_part WHERE version <= ?1", &[int(version.0)])?;
    db.execute("DELETE FROM main._syncline_log WHERE version <= ?1", &[int(version.0)])
}

/// Deletes the commits after `version`; a row that holds both sides of it is written again.
pub(crate) fn delete_after(db: Db, version: Version) -> Result<()> {
    let mut kept = Vec::new();
    let sql = "SELECT frames FROM main._syncline_log WHERE version > ?1 AND first <= ?1";
    db.query(sql, &[int(version.0)], |row| {
        kept = frames::read(row.blob(0)?)?;
        kept.retain(|c| c.version() <= version);
        Ok(())
    })?;
    db.execute("DELETE FROM main._syncline_part WHERE version > ?1", &[int(version.0)])?;
    db.execute("DELETE FROM main._syncline_log WHERE version > ?1", &[int(version.0)])?;
    if kept.is_empty() { Ok(()) } else { insert(&mut prepare_insert(db)?, &kept, 0) }
}

pub(crate) fn prepare_insert(db: Db) -> Result<super::raw::Stmt> {
    db.prepare(
        "INSERT INTO main._syncline_log (version, first, chain, at, size, frames) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
}

fn insert(stmt: &mut super::raw::Stmt, commits: &[Commit], in_parts: u64) -> Result<()> {
    let (first, last) = (&commits[0], &commits[commits.len() - 1]);
    let frames = frames::write(commits);
    stmt.execute(&[
        int(last.version().0),
        int(first.version().0),
        ValueRef::Blob(&last.chain().to_bytes()),
        int(last.header().at.0),
        int(frames.len() as u64 + in_parts),
        ValueRef::Blob(&frames),
    ])
}

impl SqliteStore {
    /// The position of the commit at `version`, if the log has it.
    pub fn position_at(&self, version: Version) -> Result<Option<Position>> {
        position_at(self.db, version)
    }

    /// What a write that brought `id` was answered, and its version.
    pub(crate) fn answered(&self, id: &RequestId) -> Result<Option<(Version, Vec<u8>)>> {
        let mut found = None;
        let sql = "SELECT version, response FROM main._syncline_request WHERE client = ?1 AND sequence = ?2";
        self.db.query(sql, &[ValueRef::Text(&id.client), int(id.sequence)], |row| {
            found = Some((Version(row.u64(0)), row.blob(1)?.to_vec()));
            Ok(())
        })?;
        Ok(found)
    }

    /// Appends commits; the parts of large ones are there already.
    pub(crate) fn append_log(&mut self, commits: &[Commit]) -> Result<()> {
        for row in frames::rows(commits) {
            let in_parts = match row[0].parts() {
                0 => 0,
                _ => {
                    let sql =
                        "SELECT sum(length(body)) FROM main._syncline_part WHERE version = ?1";
                    self.db.query_i64(sql, &[int(row[0].version().0)])?.unwrap_or(0)
                }
            };
            insert(&mut self.statements.insert_log, row, in_parts as u64)?;
        }
        Ok(())
    }

    /// Stores one part of a large commit.
    pub(crate) fn append_part(&mut self, version: Version, body: &[u8]) -> Result<()> {
        let sql = "INSERT INTO main._syncline_part (version, body) VALUES (?1, ?2)";
        // One entry may be a row before and after, each as large as a client's value may be.
        let limit = connection::set_length_limit(self.db, connection::LOG_LIMIT);
        let stored = self.db.execute(sql, &[int(version.0), ValueRef::Blob(body)]);
        connection::set_length_limit(self.db, limit);
        stored
    }

    /// Seals a commit whose body is too large for one frame.
    pub(crate) fn seal_parts(
        &mut self,
        at: Timestamp,
        digest: crate::change::Digest,
        reign: LineageEntry,
        head: Position,
    ) -> Result<Commit> {
        let version = head.version.next();
        let (epoch, tag) = (reign.epoch, reign.tag);
        let mut hasher = ChainHasher::new(head.chain, epoch, tag, version, at);
        let ends = self.capture.spool.parts();
        let mut start = 0;
        for end in &ends {
            let body = self.capture.spool.read(start, *end)?;
            hasher.update(&body);
            self.append_part(version, &body)?;
            start = *end;
        }
        let header = Header { previous: head.chain, epoch, tag, version, at, digest };
        Ok(Commit::seal_parts(header, ends.len() as u32, hasher.finish(digest)))
    }
}
