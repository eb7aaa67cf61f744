//! What a copy knows of itself, in tables of its own beside the rows.
//!
//! | table | holds |
//! | --- | --- |
//! | `_syncline_position` | one row: where the copy stands, and who holds the epoch |
//! | `_syncline_tables` | rows, digest and fingerprint of each table |
//! | `_syncline_schema` | SQLite's schema: the text of each object, in order |
//! | `_syncline_sequence`, `_syncline_setting` | `sqlite_sequence`; `user_version`, `application_id` |
//! | `_syncline_lineage` | the epochs |
//! | `_syncline_log` | the commits, several in a row as they were grouped |
//! | `_syncline_part` | the bodies of large commits, in parts |
//! | `_syncline_held`, `_syncline_held_part` | what was undone or not applied |
//! | `_syncline_request` | clients' ids of writes, and what they were answered |
//!
//! They lie in the first schema of the user's `search_path`. Unsigned numbers are kept as their signed
//! twins, 128-bit ones as 16 bytes, big-endian. Frames are not compressed: they were hashed as they are, and
//! compressing them is what a commit would wait for.

use tokio_postgres::Row;

use super::connect::Session;
use super::parameter::{Parameter, Sent, bytes, int, text};
use crate::change::{
    Chain, DatabaseDigest, Digest, Epoch, Fingerprint, Lineage, LineageEntry, Object, ObjectKind,
    Position, TableDigest, Tag, Timestamp, Value, Version,
};
use crate::error::{Error, Result};
use crate::store::{Holder, Standing};

/// The version of the tables below.
const LAYOUT: i64 = 1;

const TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS _syncline_position (
    id bigint PRIMARY KEY CHECK (id = 1), layout bigint NOT NULL,
    epoch bigint NOT NULL, tag bigint NOT NULL, version bigint NOT NULL,
    chain bytea NOT NULL, digest bytea NOT NULL, at bigint NOT NULL, verified bigint NOT NULL,
    node text, directory text, pid bigint, advertise text, lease bigint);
CREATE TABLE IF NOT EXISTS _syncline_tables (
    name text COLLATE "C" PRIMARY KEY, rows bigint NOT NULL, digest bytea NOT NULL,
    fingerprint bytea NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_schema (
    place bigint PRIMARY KEY, kind text NOT NULL, name text NOT NULL, tbl_name text NOT NULL,
    sql text NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_sequence (
    name text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_setting (
    name text COLLATE "C" PRIMARY KEY, value bigint NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_lineage (
    epoch bigint PRIMARY KEY, tag bigint NOT NULL, first bigint NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_log (
    version bigint PRIMARY KEY, first bigint NOT NULL, chain bytea NOT NULL, at bigint NOT NULL,
    size bigint NOT NULL, frames bytea NOT NULL);
ALTER TABLE _syncline_log ALTER frames SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS _syncline_part (
    id bigserial PRIMARY KEY, version bigint NOT NULL, body bytea NOT NULL);
ALTER TABLE _syncline_part ALTER body SET STORAGE EXTERNAL;
CREATE INDEX IF NOT EXISTS _syncline_part_version ON _syncline_part (version, id);
CREATE TABLE IF NOT EXISTS _syncline_held (
    id bigserial PRIMARY KEY, at bigint NOT NULL, reason text NOT NULL, bytes bigint NOT NULL,
    frame bytea NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_held_part (
    id bigserial PRIMARY KEY, held bigint NOT NULL, body bytea NOT NULL);
CREATE TABLE IF NOT EXISTS _syncline_request (
    client text COLLATE "C" NOT NULL, sequence bigint NOT NULL, version bigint NOT NULL,
    at bigint NOT NULL, response bytea NOT NULL, PRIMARY KEY (client, sequence));
CREATE INDEX IF NOT EXISTS _syncline_request_at ON _syncline_request (at);
CREATE SEQUENCE IF NOT EXISTS _syncline_key_name;
"#;

/// Makes the tables, with a position before the first commit, unless they are there.
pub(crate) fn create(session: &mut Session) -> Result<()> {
    if exists(session)? {
        return Ok(());
    }
    session.begin("")?;
    let made = make(session).and_then(|()| session.batch("COMMIT"));
    made.inspect_err(|_| session.rollback())
}

/// Makes them in the open transaction, and lets nobody else do so meanwhile.
pub(crate) fn make(session: &mut Session) -> Result<()> {
    session.batch("SELECT pg_advisory_xact_lock(hashtext('syncline ' || current_schema()))")?;
    session.batch(TABLES)?;
    let zero = "'\\x00000000000000000000000000000000'";
    session.batch(&format!(
        "INSERT INTO _syncline_position \
         (id, layout, epoch, tag, version, chain, digest, at, verified) \
         VALUES (1, {LAYOUT}, 0, 0, 0, {zero}, {zero}, 0, 0) ON CONFLICT DO NOTHING"
    ))
}

/// Whether the tables are there.
pub(crate) fn exists(session: &mut Session) -> Result<bool> {
    let sql = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() \
               AND tablename = '_syncline_position'";
    Ok(!session.query(sql, &[])?.is_empty())
}

/// A column of ours that holds a number.
pub(crate) fn number(row: &Row, place: usize) -> u64 {
    row.get::<_, Option<i64>>(place).unwrap_or(0) as u64
}

fn sixteen(bytes: &[u8]) -> Result<u128> {
    let bytes = bytes.try_into().map_err(|_| {
        Error::corrupt("STATE_CORRUPT", "a stored 128-bit number is not 16 bytes long")
            .hint("put the database back from a backup, or heal it from a reader")
    })?;
    Ok(u128::from_be_bytes(bytes))
}

const STANDING: &str = "SELECT epoch, tag, version, chain, digest, at, verified, \
    node, directory, pid, advertise, lease, layout, \
    ARRAY(SELECT epoch FROM _syncline_lineage ORDER BY epoch), \
    ARRAY(SELECT tag FROM _syncline_lineage ORDER BY epoch), \
    ARRAY(SELECT first FROM _syncline_lineage ORDER BY epoch) FROM _syncline_position";

/// What is stored beside the rows, as one statement sees it.
pub(crate) fn standing(session: &mut Session) -> Result<Standing> {
    let rows = session.query(STANDING, &[])?;
    let row = rows.first();
    let row =
        row.ok_or_else(|| Error::corrupt("STATE_CORRUPT", "the database has lost its position"))?;
    let layout: i64 = row.get(12);
    if layout != LAYOUT {
        return Err(Error::invalid(
            "LAYOUT_UNKNOWN",
            format!("the database has layout {layout}; this build knows layout {LAYOUT}"),
        )
        .hint("open it with the version of Syncline that wrote it, or upgrade this one"));
    }
    let text = |place| row.get::<_, Option<String>>(place).unwrap_or_default();
    let holder = Some(text(7)).filter(|node| !node.is_empty()).map(|node| Holder {
        node,
        directory: text(8),
        pid: number(row, 9) as u32,
        advertise: text(10),
        lease: Timestamp(number(row, 11)),
    });
    Ok(Standing {
        position: Position {
            epoch: Epoch(number(row, 0)),
            version: Version(number(row, 2)),
            chain: Chain(sixteen(row.get(3))?),
            digest: Digest(sixteen(row.get(4))?),
        },
        tag: Tag(number(row, 1)),
        at: Timestamp(number(row, 5)),
        verified: Version(number(row, 6)),
        holder,
        lineage: lineage(row),
    })
}

fn lineage(row: &Row) -> Lineage {
    let numbers = |place| row.get::<_, Vec<i64>>(place).into_iter().map(|n| n as u64);
    let entries = numbers(13).zip(numbers(14)).zip(numbers(15));
    let entry = |((epoch, tag), first)| LineageEntry {
        epoch: Epoch(epoch),
        tag: Tag(tag),
        first: Version(first),
    };
    Lineage(entries.map(entry).collect())
}

/// The stored digests.
pub(crate) fn digests(session: &mut Session) -> Result<DatabaseDigest> {
    let rows =
        session.query("SELECT name, rows, digest, fingerprint FROM _syncline_tables", &[])?;
    let table = |row: &Row| {
        let (digest, fingerprint) = (Digest(sixteen(row.get(2))?), sixteen(row.get(3))?);
        let fingerprint = Fingerprint(fingerprint);
        Ok((row.get(0), TableDigest { rows: number(row, 1), digest, fingerprint }))
    };
    rows.iter().map(table).collect()
}

/// SQLite's schema, in order.
pub(crate) fn objects(session: &mut Session) -> Result<Vec<Object>> {
    let rows = session
        .query("SELECT kind, name, tbl_name, sql FROM _syncline_schema ORDER BY place", &[])?;
    let object = |row: &Row| {
        let kind: String = row.get(0);
        let kind = ObjectKind::parse(&kind).ok_or_else(|| {
            Error::corrupt(
                "STATE_CORRUPT",
                format!("the schema has an object of the kind {kind:?}"),
            )
        })?;
        Ok(Object { kind, name: row.get(1), table: row.get(2), sql: row.get(3) })
    };
    rows.iter().map(object).collect()
}

/// A statement with its parameters.
pub(crate) type Request = (&'static str, Vec<Parameter>);

/// The fence: moves the position row, if it is as this handle last saw it.
pub(crate) fn compare_and_set(
    seen: (Position, Tag),
    becomes: (Position, Tag),
    at: Option<Timestamp>,
) -> Request {
    let sql = "UPDATE _syncline_position SET epoch = $1, tag = $2, version = $3, chain = $4, \
               digest = $5, at = coalesce($6, at) \
               WHERE id = 1 AND epoch = $7 AND tag = $8 AND version = $9 AND chain = $10";
    let mut parameters = Vec::with_capacity(10);
    let ((now, tag), (seen, seen_tag)) = (becomes, seen);
    parameters.extend([int(now.epoch.0), int(tag.0), int(now.version.0)]);
    parameters.extend([bytes(&now.chain.to_bytes()), bytes(&now.digest.to_bytes())]);
    parameters.push(at.map_or(crate::change::ValueRef::Null.into(), |at| int(at.0)));
    parameters.extend([int(seen.epoch.0), int(seen_tag.0), int(seen.version.0)]);
    parameters.push(bytes(&seen.chain.to_bytes()));
    (sql, parameters)
}

/// What makes the stored epochs those of `new`, from the first that differs.
pub(crate) fn write_lineage(old: &Lineage, new: &Lineage) -> Vec<Request> {
    let shared = old.0.iter().zip(&new.0).take_while(|(a, b)| a == b).count();
    let gone = old.0[shared..].iter().map(|entry| -> Request {
        ("DELETE FROM _syncline_lineage WHERE epoch = $1", vec![int(entry.epoch.0)])
    });
    let come = new.0[shared..].iter().map(|entry| -> Request {
        let sql = "INSERT INTO _syncline_lineage (epoch, tag, first) VALUES ($1, $2, $3)";
        (sql, vec![int(entry.epoch.0), int(entry.tag.0), int(entry.first.0)])
    });
    gone.chain(come).collect()
}

/// What forgets a table's digest.
pub(crate) fn forget_digest(name: &str) -> Request {
    ("DELETE FROM _syncline_tables WHERE name = $1", vec![text(name)])
}

/// Tables' digests, column by column.
pub(crate) fn digest_columns<'a>(
    tables: impl Iterator<Item = (&'a str, &'a TableDigest)>,
) -> [Parameter; 4] {
    let (mut names, mut rows, mut digests, mut fingerprints) = (vec![], vec![], vec![], vec![]);
    let blob = |bytes: [u8; 16]| Sent(Value::Blob(bytes.into()));
    for (name, table) in tables {
        names.push(Sent(Value::Text(name.into())));
        rows.push(Sent(Value::Integer(table.rows as i64)));
        digests.push(blob(table.digest.to_bytes()));
        fingerprints.push(blob(table.fingerprint.0.to_be_bytes()));
    }
    [names, rows, digests, fingerprints].map(Parameter::Many)
}

/// What stores the digests of tables.
macro_rules! write_digests {
    () => {
        "INSERT INTO _syncline_tables (name, rows, digest, fingerprint) \
         SELECT * FROM unnest($1::text[], $2::int8[], $3::bytea[], $4::bytea[]) \
         ON CONFLICT (name) DO UPDATE \
         SET rows = excluded.rows, digest = excluded.digest, fingerprint = excluded.fingerprint"
    };
}

/// … as a statement.
pub(crate) const WRITE_DIGESTS: &str = write_digests!();
const END: &str = concat!("WITH counted AS (", write_digests!(), ") SELECT pg_notify($5, $6)");
const LOGGED_END: &str = concat!(
    "WITH counted AS (",
    write_digests!(),
    "), logged AS (INSERT INTO _syncline_log (version, first, chain, at, size, frames) \
     VALUES ($7, $8, $9, $10, $11, $12)) SELECT pg_notify($5, $6)"
);

/// The last statement of a transaction: digests, news for those who listen, and a row of the log, if one is
/// left to be written. What a small commit costs is statements, more than rows.
pub(crate) fn end(
    digests: [Parameter; 4],
    news: [Parameter; 2],
    logged: Option<Vec<Parameter>>,
) -> Request {
    let sql = if logged.is_some() { LOGGED_END } else { END };
    (sql, digests.into_iter().chain(news).chain(logged.into_iter().flatten()).collect())
}

/// What makes the stored schema this one.
pub(crate) fn write_objects<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<Request> {
    let mut requests: Vec<Request> = vec![("DELETE FROM _syncline_schema", Vec::new())];
    for (place, object) in objects.enumerate() {
        let sql = "INSERT INTO _syncline_schema (place, kind, name, tbl_name, sql) \
                   VALUES ($1, $2, $3, $4, $5)";
        let kind = text(object.kind.as_str());
        let names = [text(&object.name), text(&object.table), text(&object.sql)];
        requests.push((sql, [int(place as u64), kind].into_iter().chain(names).collect()));
    }
    requests
}

/// What sets an entry of `sqlite_sequence`, or forgets it.
pub(crate) fn write_sequence(table: &str, seq: Option<i64>) -> Request {
    match seq {
        None => ("DELETE FROM _syncline_sequence WHERE name = $1", vec![text(table)]),
        Some(seq) => (
            "INSERT INTO _syncline_sequence (name, seq) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET seq = $2",
            vec![text(table), int(seq as u64)],
        ),
    }
}

/// What sets `user_version` or `application_id`.
pub(crate) fn write_setting(name: &str, value: i64) -> Request {
    let sql = "INSERT INTO _syncline_setting (name, value) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET value = $2";
    (sql, vec![text(name), int(value as u64)])
}
