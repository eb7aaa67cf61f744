//! The log: the same bytes as any store's, in a table of PostgreSQL.

use super::connect::Session;
use super::parameter::{bytes, int};
use super::state::{Request, number};
use crate::change::{Chain, Commit, Position, Timestamp, Version};
use crate::error::Result;
use crate::store::frames;

/// The commits after `after`, at most about `limit` bytes of them, but at least one if there is one.
///
/// Rows are asked for a few at a time, so that a reader far behind does not get the whole log.
pub(crate) fn after(session: &mut Session, after: Version, limit: usize) -> Result<Vec<Commit>> {
    let sql = "SELECT version, size, frames FROM _syncline_log WHERE version > $1 \
               ORDER BY version LIMIT 16";
    let mut commits: Vec<Commit> = Vec::new();
    let (mut size, mut last) = (0, after.0);
    while size < limit {
        let rows = session.query(sql, &[int(last)])?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            if size >= limit {
                break;
            }
            commits.extend(frames::read(row.get(2))?.into_iter().filter(|c| c.version() > after));
            size += number(row, 1) as usize;
            last = number(row, 0);
        }
    }
    Ok(commits)
}

/// A part of a large commit's body, from 0.
pub(crate) fn part(session: &mut Session, version: Version, index: u32) -> Result<Vec<u8>> {
    let sql = "SELECT body FROM _syncline_part WHERE version = $1 ORDER BY id LIMIT 1 OFFSET $2";
    let rows = session.query(sql, &[int(version.0), int(index.into())])?;
    rows.first().map(|row| row.get(0)).ok_or_else(|| frames::damaged(version))
}

/// The commit at `version`, if the log has it.
fn commit_at(session: &mut Session, version: Version) -> Result<Option<Commit>> {
    let sql = "SELECT frames FROM _syncline_log WHERE version >= $1 ORDER BY version LIMIT 1";
    let rows = session.query(sql, &[int(version.0)])?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(frames::read(row.get(0))?.into_iter().find(|c| c.version() == version))
}

/// The chain at `version`, if the log reaches it.
pub(crate) fn chain_at(
    session: &mut Session,
    head: &Position,
    version: Version,
) -> Result<Option<Chain>> {
    if version == head.version {
        return Ok(Some(head.chain));
    }
    let next = commit_at(session, version.next())?;
    Ok(next.map(|c| c.header().previous))
}

/// The position of the commit at `version`, if the log has it.
pub(crate) fn position_at(session: &mut Session, version: Version) -> Result<Option<Position>> {
    Ok(commit_at(session, version)?.as_ref().map(Commit::position))
}

/// When the commit at `version` was made, if the log still has it: else the beginning of time.
pub(crate) fn at(session: &mut Session, version: Version) -> Result<Timestamp> {
    Ok(commit_at(session, version)?.map_or(Timestamp(0), |c| c.header().at))
}

/// The first version whose commit the log still has; none if it is empty.
pub(crate) fn oldest(session: &mut Session) -> Result<Option<Version>> {
    let rows = session.query("SELECT first FROM _syncline_log ORDER BY version LIMIT 1", &[])?;
    Ok(rows.first().map(|row| Version(number(row, 0))))
}

/// What appends commits; the parts of large ones are there already.
pub(crate) fn append(commits: &[Commit]) -> Vec<Request> {
    frames::rows(commits).into_iter().map(insert).collect()
}

/// What stores a row of commits whose bodies are in it …
pub(crate) const INSERT: &str = "INSERT INTO _syncline_log (version, first, chain, at, size, frames) \
    VALUES ($1, $2, $3, $4, $5, $6)";
/// … and of one whose body lies in parts.
const INSERT_BESIDE_PARTS: &str = "INSERT INTO _syncline_log (version, first, chain, at, size, frames) VALUES ($1, $2, $3, $4, \
     $5 + (SELECT sum(length(body)) FROM _syncline_part WHERE version = $1), $6)";

fn insert(row: &[Commit]) -> Request {
    let (first, last) = (&row[0], &row[row.len() - 1]);
    let sql = if last.parts() == 0 { INSERT } else { INSERT_BESIDE_PARTS };
    let frames = frames::write(row);
    let mut parameters = vec![int(last.version().0), int(first.version().0)];
    parameters.extend([bytes(&last.chain().to_bytes()), int(last.header().at.0)]);
    parameters.extend([int(frames.len() as u64), bytes(&frames)]);
    (sql, parameters)
}

/// What stores one part of a large commit.
pub(crate) fn append_part(version: Version, body: &[u8]) -> Request {
    let sql = "INSERT INTO _syncline_part (version, body) VALUES ($1, $2)";
    (sql, vec![int(version.0), bytes(body)])
}

/// What deletes the rows up to `version`.
pub(crate) fn delete_to(version: Version) -> [Request; 2] {
    [
        ("DELETE FROM _syncline_part WHERE version <= $1", vec![int(version.0)]),
        ("DELETE FROM _syncline_log WHERE version <= $1", vec![int(version.0)]),
    ]
}

/// What deletes the commits after `version`; a row that holds both sides of it is written again.
pub(crate) fn delete_after(session: &mut Session, version: Version) -> Result<Vec<Request>> {
    let sql = "SELECT frames FROM _syncline_log WHERE version > $1 AND first <= $1";
    let rows = session.query(sql, &[int(version.0)])?;
    let mut kept = match rows.first() {
        Some(row) => frames::read(row.get(0))?,
        None => Vec::new(),
    };
    kept.retain(|c| c.version() <= version);
    let mut requests: Vec<Request> = vec![
        ("DELETE FROM _syncline_part WHERE version > $1", vec![int(version.0)]),
        ("DELETE FROM _syncline_log WHERE version > $1", vec![int(version.0)]),
    ];
    requests.extend(append(&kept));
    Ok(requests)
}
