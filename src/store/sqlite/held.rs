//! What was undone or not applied: kept, listed, replayable, never dropped silently.

use super::SqliteStore;
use super::raw::Db;
use super::state::int;
use crate::change::{Commit, Decoder, Timestamp, ValueRef};
use crate::error::{Error, Result};
use crate::store::Parts;

/// A held commit.
#[derive(Debug, Clone)]
pub struct HeldCommit {
    /// Its id in this copy.
    pub id: i64,
    /// When it was held.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// The commit.
    pub commit: Commit,
}

/// Keeps a commit with its parts.
pub(crate) fn hold(
    db: Db,
    commit: &Commit,
    reason: &str,
    at: Timestamp,
    parts: Parts<'_>,
) -> Result<()> {
    let sql = "INSERT INTO main._syncline_held (at, reason, bytes, frame) VALUES (?1, ?2, ?3, ?4)";
    let frame = commit.frame();
    let args = [int(at.0), ValueRef::Text(reason), int(frame.len() as u64), ValueRef::Blob(frame)];
    db.execute(sql, &args)?;
    let id = db.last_insert_rowid();
    for index in 0..commit.parts() {
        let body = parts(commit, index)?;
        let sql = "INSERT INTO main._syncline_held_part (held, body) VALUES (?1, ?2)";
        db.execute(sql, &[ValueRef::Integer(id), ValueRef::Blob(&body)])?;
    }
    Ok(())
}

/// Everything held, oldest first.
pub(crate) fn list(db: Db) -> Result<Vec<HeldCommit>> {
    let mut held = Vec::new();
    db.query("SELECT id, at, reason, frame FROM main._syncline_held ORDER BY id", &[], |row| {
        held.push(HeldCommit {
            id: row.i64(0),
            at: Timestamp(row.u64(1)),
            reason: row.text(2)?.to_owned(),
            commit: Commit::read(&mut Decoder(row.blob(3)?))?,
        });
        Ok(())
    })?;
    Ok(held)
}

/// How many things are held.
pub(crate) fn count(db: Db) -> Result<u64> {
    Ok(db.query_i64("SELECT count(*) FROM main._syncline_held", &[])?.unwrap_or(0) as u64)
}

/// The bodies of a held commit, part by part.
pub(crate) fn bodies(db: Db, held: &HeldCommit) -> Result<Vec<Vec<u8>>> {
    if held.commit.parts() == 0 {
        return Ok(vec![held.commit.body().to_vec()]);
    }
    let mut bodies = Vec::new();
    let sql = "SELECT body FROM main._syncline_held_part WHERE held = ?1 ORDER BY id";
    db.query(sql, &[ValueRef::Integer(held.id)], |row| {
        bodies.push(row.blob(0)?.to_vec());
        Ok(())
    })?;
    Ok(bodies)
}

impl SqliteStore {
    /// Everything held, oldest first.
    pub fn held(&self) -> Result<Vec<HeldCommit>> {
        list(self.db)
    }

    /// How many things are held.
    pub fn held_count(&self) -> Result<u64> {
        count(self.db)
    }

    /// One held thing.
    pub fn held_one(&self, id: i64) -> Result<HeldCommit> {
        let found = self.held()?.into_iter().find(|held| held.id == id);
        found.ok_or_else(|| {
            Error::invalid("HELD_UNKNOWN", format!("nothing is held under the id {id}"))
                .hint("`syncline held list` shows what is")
        })
    }

    /// The bodies of a held commit, part by part.
    pub fn held_bodies(&self, held: &HeldCommit) -> Result<Vec<Vec<u8>>> {
        bodies(self.db, held)
    }

    /// Keeps a commit of this copy's log, or of another one's through `parts`.
    pub fn hold(
        &mut self,
        commit: &Commit,
        reason: &str,
        at: Timestamp,
        parts: Parts<'_>,
    ) -> Result<()> {
        hold(self.db, commit, reason, at, parts)
    }

    /// Forgets a held thing.
    pub fn discard(&mut self, id: i64) -> Result<()> {
        self.held_one(id)?;
        self.db.execute(
            "DELETE FROM main._syncline_held_part WHERE held = ?1",
            &[ValueRef::Integer(id)],
        )?;
        self.db.execute("DELETE FROM main._syncline_held WHERE id = ?1", &[ValueRef::Integer(id)])
    }
}
