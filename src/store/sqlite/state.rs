//! What a copy knows of itself, in tables of its own beside the rows.
//!
//! | table | holds |
//! | --- | --- |
//! | `_syncline_state` | a row for each table: its rows and digest; and one for the copy as a whole: where it stands, and who holds the epoch |
//! | `_syncline_lineage` | the epochs |
//! | `_syncline_log` | the commits, several in a row as they were grouped |
//! | `_syncline_part` | the bodies of large commits, in parts |
//! | `_syncline_held` | what was undone or not applied |
//! | `_syncline_request` | clients' ids of writes, and what they were answered |
//!
//! Every commit writes the position and the digests of its tables: they lie in one table so that they lie
//! on one page, as long as there are not too many tables. A page less is what a lone commit feels.

use super::raw::Db;
use super::schema::Schema;
use crate::change::{
    Chain, DatabaseDigest, Digest, Epoch, Lineage, LineageEntry, Position, TableDigest, Tag,
    Timestamp, ValueRef, Version,
};
use crate::error::{Error, Result};
use crate::store::Holder;

/// The version of the tables below.
const LAYOUT: i64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _syncline_state (
    name TEXT PRIMARY KEY, rows INTEGER, digest BLOB NOT NULL,
    layout INTEGER, epoch INTEGER, tag INTEGER, version INTEGER, chain BLOB, at INTEGER,
    verified INTEGER, node TEXT, directory TEXT, pid INTEGER, advertise TEXT, lease INTEGER)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _syncline_lineage (
    epoch INTEGER PRIMARY KEY, tag INTEGER NOT NULL, first INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_log (
    version INTEGER PRIMARY KEY, first INTEGER NOT NULL, chain BLOB NOT NULL, at INTEGER NOT NULL,
    size INTEGER NOT NULL, frames BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_part (
    id INTEGER PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS _syncline_part_version ON _syncline_part (version, id);
CREATE TABLE IF NOT EXISTS _syncline_held (
    id INTEGER PRIMARY KEY, at INTEGER NOT NULL, reason TEXT NOT NULL,
    bytes INTEGER NOT NULL, frame BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_held_part (
    id INTEGER PRIMARY KEY, held INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_request (
    client TEXT NOT NULL, sequence INTEGER NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL,
    response BLOB NOT NULL, PRIMARY KEY (client, sequence)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS _syncline_request_at ON _syncline_request (at);
";

/// A number that SQLite keeps as its signed twin.
pub(crate) fn int(n: u64) -> ValueRef<'static> {
    ValueRef::Integer(n as i64)
}

/// Makes the tables, with a position before the first commit.
pub(crate) fn create(db: Db) -> Result<()> {
    db.execute_batch(TABLES)?;
    let zero = [0u8; 16];
    let sql = "INSERT OR IGNORE INTO _syncline_state \
               (name, layout, epoch, tag, version, chain, digest, at, verified) \
               VALUES ('_syncline_position', ?1, 0, 0, 0, ?2, ?2, 0, 0)";
    db.execute(sql, &[ValueRef::Integer(LAYOUT), ValueRef::Blob(&zero)])
}

/// Makes durable what was found: a commit that was not synced when the power went may be there after
/// all, and SQLite does not sync what it recovers. Nobody must hear of a position that the next loss
/// of power takes back.
pub(crate) fn make_durable(db: Db) -> Result<()> {
    match update_position(db, "layout = layout", &[]) {
        // It can still be read, and nothing can be added to it.
        Err(error) if error.code() == "DISK_FULL" => Ok(()),
        done => done,
    }
}

/// Whether the tables are there.
pub(crate) fn exists(db: Db) -> Result<bool> {
    let sql = "SELECT 1 FROM main.sqlite_schema WHERE name = '_syncline_state'";
    Ok(db.query_i64(sql, &[])?.is_some())
}

/// Sets something of the position row.
pub(crate) fn update_position(db: Db, set: &str, args: &[ValueRef<'_>]) -> Result<()> {
    let sql = format!("UPDATE main._syncline_state SET {set} WHERE name = '_syncline_position'");
    db.execute(&sql, args)
}

/// The row of the copy as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PositionRow {
    pub position: Position,
    pub tag: Tag,
    pub at: Timestamp,
    pub verified: Version,
    pub holder: Option<Holder>,
}

pub(crate) const READ_POSITION: &str = "SELECT epoch, tag, version, chain, digest, at, verified, \
     node, directory, pid, advertise, lease, layout FROM main._syncline_state \
     WHERE name = '_syncline_position'";
pub(crate) const WRITE_POSITION: &str = "UPDATE main._syncline_state SET epoch = ?1, tag = ?2, \
     version = ?3, chain = ?4, digest = ?5, at = ?6 WHERE name = '_syncline_position'";
pub(crate) const WRITE_TABLE: &str = "INSERT INTO main._syncline_state (name, rows, digest) \
     VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET rows = ?2, digest = ?3";
pub(crate) const DELETE_TABLE: &str = "DELETE FROM main._syncline_state WHERE name = ?1";

/// Reads the position row.
pub(crate) fn read_position(row: &super::raw::Stmt) -> Result<PositionRow> {
    if row.i64(12) != LAYOUT {
        return Err(Error::invalid(
            "LAYOUT_UNKNOWN",
            format!("the database has layout {}; this build knows layout {LAYOUT}", row.i64(12)),
        )
        .hint("open it with the version of Syncline that wrote it, or upgrade this one"));
    }
    let holder = match row.text(7)? {
        "" => None,
        node => Some(Holder {
            node: node.to_owned(),
            directory: row.text(8)?.to_owned(),
            pid: row.i64(9) as u32,
            advertise: row.text(10)?.to_owned(),
            lease: Timestamp(row.u64(11)),
        }),
    };
    Ok(PositionRow {
        position: Position {
            epoch: Epoch(row.u64(0)),
            version: Version(row.u64(2)),
            chain: Chain(row.u128(3)?),
            digest: Digest(row.u128(4)?),
        },
        tag: Tag(row.u64(1)),
        at: Timestamp(row.u64(5)),
        verified: Version(row.u64(6)),
        holder,
    })
}

/// The position row, by a statement of its own.
pub(crate) fn position(db: Db) -> Result<PositionRow> {
    let mut found = None;
    db.query(READ_POSITION, &[], |row| {
        found = Some(read_position(row)?);
        Ok(())
    })?;
    found.ok_or_else(|| Error::corrupt("STATE_CORRUPT", "the database has lost its position"))
}

/// The epochs.
pub(crate) fn lineage(db: Db) -> Result<Lineage> {
    let mut entries = Vec::new();
    db.query("SELECT epoch, tag, first FROM main._syncline_lineage ORDER BY epoch", &[], |row| {
        entries.push(LineageEntry {
            epoch: Epoch(row.u64(0)),
            tag: Tag(row.u64(1)),
            first: Version(row.u64(2)),
        });
        Ok(())
    })?;
    Ok(Lineage(entries))
}

/// Replaces the epochs from the first that differs.
pub(crate) fn write_lineage(db: Db, lineage: &Lineage) -> Result<()> {
    let old = self::lineage(db)?;
    let shared = old.0.iter().zip(&lineage.0).take_while(|(a, b)| a == b).count();
    for entry in &old.0[shared..] {
        db.execute("DELETE FROM main._syncline_lineage WHERE epoch = ?1", &[int(entry.epoch.0)])?;
    }
    for entry in &lineage.0[shared..] {
        let args = [int(entry.epoch.0), int(entry.tag.0), int(entry.first.0)];
        db.execute("INSERT INTO main._syncline_lineage VALUES (?1, ?2, ?3)", &args)?;
    }
    Ok(())
}

/// The stored digests, for the tables that are there.
pub(crate) fn digests(db: Db, schema: &Schema) -> Result<DatabaseDigest> {
    let mut digest: DatabaseDigest = schema
        .shapes
        .values()
        .map(|shape| (shape.name.clone(), TableDigest::empty(shape.fingerprint())))
        .collect();
    let sql = "SELECT name, rows, digest FROM main._syncline_state WHERE rows IS NOT NULL";
    db.query(sql, &[], |row| {
        let name = row.text(0)?;
        if let Some(table) = digest.get(name).copied() {
            digest
                .set(name, TableDigest { rows: row.u64(1), digest: Digest(row.u128(2)?), ..table });
        }
        Ok(())
    })?;
    Ok(digest)
}
