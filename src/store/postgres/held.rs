//! What was undone or not applied: kept, listed, replayable, never dropped silently.

use tokio_postgres::Row;

use super::PostgresStore;
use super::connect::Session;
use super::parameter::{bytes, int, text};
use super::state::number;
use crate::change::{Commit, Decoder, Timestamp};
use crate::error::{Error, Result};
use crate::store::Parts;
use crate::store::sqlite::HeldCommit;

/// Keeps a commit with its parts.
pub(crate) fn hold(
    session: &mut Session,
    commit: &Commit,
    reason: &str,
    at: Timestamp,
    parts: Parts<'_>,
) -> Result<()> {
    let sql = "INSERT INTO _syncline_held (at, reason, bytes, frame) VALUES ($1, $2, $3, $4) \
               RETURNING id";
    let frame = commit.frame();
    let length = int(frame.len() as u64);
    let rows = session.query(sql, &[int(at.0), text(reason), length, bytes(frame)])?;
    let id = number(&rows[0], 0);
    for index in 0..commit.parts() {
        let sql = "INSERT INTO _syncline_held_part (held, body) VALUES ($1, $2)";
        session.execute(sql, vec![int(id), bytes(&parts(commit, index)?)])?;
    }
    Ok(())
}

fn read(row: &Row) -> Result<HeldCommit> {
    Ok(HeldCommit {
        id: row.get(0),
        at: Timestamp(number(row, 1)),
        reason: row.get(2),
        commit: Commit::read(&mut Decoder(row.get(3)))?,
    })
}

impl PostgresStore {
    /// Everything held, oldest first.
    pub fn held(&mut self) -> Result<Vec<HeldCommit>> {
        let sql = "SELECT id, at, reason, frame FROM _syncline_held ORDER BY id";
        self.session()?.query(sql, &[])?.iter().map(read).collect()
    }

    /// How many things are held.
    pub fn held_count(&mut self) -> Result<u64> {
        let rows = self.session()?.query("SELECT count(*) FROM _syncline_held", &[])?;
        Ok(number(&rows[0], 0))
    }

    /// One held thing.
    pub fn held_one(&mut self, id: i64) -> Result<HeldCommit> {
        let sql = "SELECT id, at, reason, frame FROM _syncline_held WHERE id = $1";
        let rows = self.session()?.query(sql, &[int(id as u64)])?;
        rows.first().map(read).unwrap_or_else(|| {
            Err(Error::invalid("HELD_UNKNOWN", format!("nothing is held under the id {id}"))
                .hint("`syncline held list` shows what is"))
        })
    }

    /// The bodies of a held commit, part by part.
    pub fn held_bodies(&mut self, held: &HeldCommit) -> Result<Vec<Vec<u8>>> {
        if held.commit.parts() == 0 {
            return Ok(vec![held.commit.body().to_vec()]);
        }
        let sql = "SELECT body FROM _syncline_held_part WHERE held = $1 ORDER BY id";
        let rows = self.session()?.query(sql, &[int(held.id as u64)])?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Keeps a commit of this copy's log, or of another one's through `parts`.
    pub fn hold(
        &mut self,
        commit: &Commit,
        reason: &str,
        at: Timestamp,
        parts: Parts<'_>,
    ) -> Result<()> {
        let mut bodies = Vec::new();
        for index in 0..commit.parts() {
            bodies.push(parts(commit, index)?);
        }
        self.at_once(|session| {
            hold(session, commit, reason, at, &mut |_, i| Ok(bodies[i as usize].clone()))
        })
    }

    /// Forgets a held thing.
    pub fn discard(&mut self, id: i64) -> Result<()> {
        self.held_one(id)?;
        self.at_once(|session| {
            let sql = "DELETE FROM _syncline_held_part WHERE held = $1";
            session.execute(sql, vec![int(id as u64)])?;
            let sql = "DELETE FROM _syncline_held WHERE id = $1";
            session.execute(sql, vec![int(id as u64)]).map(|_| ())
        })
    }
}
