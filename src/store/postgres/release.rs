//! Releasing: every trace of Syncline goes, and the rows stay.
//!
//! | trace | then |
//! | --- | --- |
//! | `_syncline_*` | dropped, with the log and whatever is held |
//! | the column `_syncline_rowid` of a table without a usable key | dropped; the table has no primary key |
//! | names of unique keys, `_syncline_key_7` | another name, `TABLE_key_7`; the keys stay, deferrable as they were |
//!
//! All in one transaction, which holds the position row: a writer waits, and then finds nothing to write to.
//! One that is alive is left alone (`HOLDER_ALIVE`), whatever is asked.
//!
//! Left out: views, triggers and indexes that only the nodes had. They are named, so that nobody misses them
//! unawares.

use super::connect::{Purpose, Session};
use super::source::in_snapshot;
use super::survey::has_traces;
use super::types::ROWID;
use super::{session_schema, state};
use crate::change::Timestamp;
use crate::dial::postgres::PostgresPlace;
use crate::error::{Error, Kind, Result};
use crate::store::Holder;
use crate::store::adoption::Traces;
use crate::store::sqlite::quote;

/// What there is to remove.
pub(crate) fn traces(place: &PostgresPlace) -> Result<Traces> {
    in_snapshot(place, |session| read(session, place))
}

fn read(session: &mut Session, place: &PostgresPlace) -> Result<Traces> {
    if !has_traces(session)? {
        return Err(not_adopted(place));
    }
    let held = session.query("SELECT count(*) FROM _syncline_held", &[])?;
    Ok(Traces {
        tables: names(session, OURS)?,
        keyless: names(session, KEYLESS)?,
        keys: keys(session)?,
        texts: names(session, TEXTS)?,
        held: state::number(&held[0], 0),
        holder: state::standing(session)?.holder,
    })
}

const OURS: &str = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() \
    AND tablename ~ '^_syncline_' ORDER BY 1";

const KEYLESS: &str = "SELECT c.relname::text FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
    WHERE n.nspname = current_schema() AND c.relkind = 'r' AND NOT a.attisdropped \
    AND a.attname = '_syncline_rowid' ORDER BY 1";

const TEXTS: &str =
    "SELECT kind || ' ' || name FROM _syncline_schema WHERE kind <> 'table' ORDER BY place";

/// A key of the column that goes, goes with it.
const KEYS: &str = "SELECT c.relname::text, k.conname::text FROM pg_constraint k \
    JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = current_schema() AND k.contype IN ('p', 'u') \
    AND k.conname ~ '^_syncline_key_' AND NOT EXISTS (SELECT FROM pg_attribute a \
    WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey) AND a.attname = '_syncline_rowid') \
    ORDER BY 1, 2";

fn names(session: &mut Session, sql: &str) -> Result<Vec<String>> {
    Ok(session.query(sql, &[])?.iter().map(|row| row.get(0)).collect())
}

fn keys(session: &mut Session) -> Result<Vec<(String, String)>> {
    Ok(session.query(KEYS, &[])?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn not_adopted(place: &PostgresPlace) -> Error {
    Error::invalid("NOT_ADOPTED", format!("{place} has nothing of Syncline's"))
        .hint("it is looked for in the first schema of the user's search_path")
}

/// Removes every trace, in one transaction.
pub(crate) fn release(place: &PostgresPlace, now: Timestamp) -> Result<Traces> {
    let mut session = Session::open(place, Purpose::Write)?;
    session.begin("")?;
    let done = release_inside(&mut session, place, now)
        .and_then(|traces| session.commit().map(|()| traces));
    done.inspect_err(|_| session.rollback())
}

fn release_inside(session: &mut Session, place: &PostgresPlace, now: Timestamp) -> Result<Traces> {
    session.take_your_time()?;
    if !has_traces(session)? {
        return Err(not_adopted(place));
    }
    session.batch("SELECT 1 FROM _syncline_position FOR UPDATE")?;
    let traces = read(session, place)?;
    if let Some(holder) = traces.alive(now) {
        return Err(alive(holder));
    }
    let schema = quote(&session_schema(session)?);
    for table in &traces.keyless {
        let (table, column) = (quote(table), quote(ROWID));
        session.batch(&format!("ALTER TABLE {schema}.{table} DROP COLUMN {column}"))?;
    }
    for (table, key) in &traces.keys {
        let (to, key) = (quote(&released_key(table, key)), quote(key));
        let table = quote(table);
        session.batch(&format!("ALTER TABLE {schema}.{table} RENAME CONSTRAINT {key} TO {to}"))?;
    }
    let ours: Vec<String> =
        traces.tables.iter().map(|table| format!("{schema}.{}", quote(table))).collect();
    session.batch(&format!("DROP TABLE {}", ours.join(", ")))?;
    session.batch(&format!("DROP SEQUENCE IF EXISTS {schema}._syncline_key_name"))?;
    Ok(traces)
}

/// `_syncline_key_7` of the table `t` is `t_key_7` then, cut to what PostgreSQL takes for a name.
fn released_key(table: &str, key: &str) -> String {
    let tail = key.trim_start_matches("_syncline");
    let mut end = table.len().min(63 - tail.len().min(63));
    while !table.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tail}", &table[..end])
}

fn alive(holder: &Holder) -> Error {
    let message =
        format!("node {:?} (process {}) still writes to this database", holder.node, holder.pid);
    Error::new(Kind::Diverged, "HOLDER_ALIVE", message)
        .hint("stop that node first; of one that crashed the lease ends by itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_key_is_named_after_its_table() {
        assert_eq!(released_key("t", "_syncline_key_7"), "t_key_7");
        let long = released_key(&"ä".repeat(31), "_syncline_key_12");
        assert_eq!(long, format!("{}_key_12", "ä".repeat(28)));
        assert!(long.len() <= 63);
    }
}
