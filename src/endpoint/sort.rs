//! Sorting what an engine cannot give in the order of canonical keys, and rows that have no key.
//!
//! Rows go into a temporary SQLite file that nobody else sees, ordered by key; SQLite keeps to its cache and the
//! disk takes the rest. Equal rows without a key are numbered there.
//!
//! What an engine keeps apart may be one under the agreed type: the texts `1` and `01` as integers. Such keys come
//! out of order, or twice, so that their table ends here, where they are neighbours and are refused: of two
//! rows with one key a comparison would see but one, and a sync would write now this one, now that.

use rusqlite::{Connection, params};

use super::canon::form;
use super::chunk::Range;
use super::{Key, Plan, PlannedColumn, Sink, Type, canon};
use crate::change::Value;
use crate::error::{Error, Result};

fn failed(error: rusqlite::Error) -> Error {
    Error::unavailable(
        "SORT_FAILED",
        format!("rows could not be sorted in a temporary file: {error}"),
    )
    .hint("free space in the directory for temporary files, or set TMPDIR to another one")
    .source(error)
}

/// A file that nobody else sees, with this table.
fn temporary(table: &str) -> Result<Connection> {
    // An empty name is a file of SQLite's own that goes with the connection.
    let file = Connection::open("").map_err(failed)?;
    let settings =
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -8000; BEGIN";
    file.execute_batch(&format!("{settings}; {table}")).map_err(failed)?;
    Ok(file)
}

/// Gives the rows that `read` brings in any order to `sink` in the order of their keys, those in the ranges.
pub fn sorted(
    plan: &Plan,
    ranges: &[Range],
    read: impl FnOnce(&mut Sink<'_>) -> Result<()>,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let file = temporary("CREATE TABLE rows (key BLOB NOT NULL, row BLOB NOT NULL)")?;
    {
        let mut insert = file.prepare("INSERT INTO rows VALUES (?, ?)").map_err(failed)?;
        read(&mut |key, row| {
            let hash;
            let key = match plan.is_multiset() {
                true => {
                    hash = plan.hash(row).to_bytes();
                    &hash[..]
                }
                false => key,
            };
            if plan.is_multiset() || lies_in(ranges, key) {
                insert.execute(params![key, row]).map_err(failed)?;
            }
            Ok(())
        })?;
    }
    let mut select = file.prepare("SELECT key, row FROM rows ORDER BY key, row").map_err(failed)?;
    let mut rows = select.query([]).map_err(failed)?;
    let (mut last, mut nth) = (Vec::new(), 0);
    while let Some(sorted) = rows.next().map_err(failed)? {
        let bytes = |i| sorted.get_ref(i).and_then(|v| Ok(v.as_blob()?)).map_err(failed);
        let (key, row) = (bytes(0)?, bytes(1)?);
        if !plan.is_multiset() {
            sink(key, row)?;
            continue;
        }
        nth = if last == key { nth + 1 } else { 0 };
        last = key.to_vec();
        let numbered = canon::multiset_key(plan.hash(row), nth);
        if lies_in(ranges, &numbered) {
            sink(&numbered, row)?;
        }
    }
    Ok(())
}

/// Gives the keys that `keys` brings in any order to `then`, the last one first.
pub fn last_first(
    keys: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    then: &mut dyn FnMut(Key) -> Result<()>,
) -> Result<()> {
    let file = temporary("CREATE TABLE keys (key BLOB NOT NULL)")?;
    {
        let mut insert = file.prepare("INSERT INTO keys VALUES (?)").map_err(failed)?;
        keys(&mut |key| insert.execute([key]).map(drop).map_err(failed))?;
    }
    let mut select = file.prepare("SELECT key FROM keys ORDER BY key DESC").map_err(failed)?;
    let mut keys = select.query_map([], |row| row.get(0)).map_err(failed)?;
    keys.try_for_each(|key| then(key.map_err(failed)?))
}

/// Two rows of a table have one key under the agreed types.
const COLLIDE: &str = "KEYS_COLLIDE";

/// The same for a table's own rows: two with one key are refused, by their keys as the engine has them.
///
/// `read` brings the rows under a plan, in any order; `own` is what a column's values are without any agreement.
pub fn sorted_apart(
    plan: &Plan,
    ranges: &[Range],
    own: impl Fn(&PlannedColumn) -> Type,
    mut read: impl FnMut(&Plan, &mut Sink<'_>) -> Result<()>,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut last: Option<Key> = None;
    let result = sorted(plan, ranges, |sink| read(plan, sink), &mut |key, row| {
        match &mut last {
            Some(last) if key == last.as_slice() => return Err(collision(plan, key, &[])),
            Some(last) => key.clone_into(last),
            None => last = Some(key.to_vec()),
        }
        sink(key, row)
    });
    match (result, last) {
        (Err(error), Some(key)) if error.code() == COLLIDE => {
            let as_stored = spellings(plan, &key, own, read)?;
            Err(collision(plan, &key, &as_stored))
        }
        (result, _) => result,
    }
}

/// The keys of the rows with this key, as the engine has them.
fn spellings(
    plan: &Plan,
    key: &[u8],
    own: impl Fn(&PlannedColumn) -> Type,
    mut read: impl FnMut(&Plan, &mut Sink<'_>) -> Result<()>,
) -> Result<Vec<String>> {
    let of_key = &plan.columns[..plan.key];
    let as_own = |column: &PlannedColumn| PlannedColumn { agreed: own(column), ..column.clone() };
    let keys = Plan { columns: of_key.iter().map(as_own).collect(), version: None, ..plan.clone() };
    let mut found = Vec::new();
    read(&keys, &mut |_, row| {
        let values = keys.values(row)?;
        let agreed = values.iter().zip(of_key).map(|(v, c)| form::conform(v.as_ref(), c.agreed));
        let agreed: Vec<Value> = agreed.map(|value| value.into_owned()).collect();
        if canon::encode_key(agreed.iter().map(Value::as_ref)) == key {
            found.push(shown(&values));
        }
        Ok(())
    })?;
    Ok(found)
}

fn collision(plan: &Plan, key: &[u8], as_stored: &[String]) -> Error {
    let as_types = plan.columns[..plan.key].iter().map(|column| column.agreed.to_string());
    let as_types = as_types.collect::<Vec<_>>().join(", ");
    let what = match as_stored {
        [one, other, ..] if one != other => {
            format!("{}: the keys {one} and {other} are one, compared as {as_types}", plan.table)
        }
        _ => {
            let key = canon::decode_key(key).unwrap_or_default();
            format!("{}: two rows have the key {}, compared as {as_types}", plan.table, shown(&key))
        }
    };
    Error::invalid(COLLIDE, what)
        .hint("remove or rename one of the two, give both sides' key the same type, or leave the table out with --exclude")
}

/// A key for people.
fn shown(values: &[Value]) -> String {
    let shown = values.iter().map(|value| match value {
        Value::Null => "NULL".into(),
        Value::Integer(i) => i.to_string(),
        Value::Real(r) => r.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::Blob(blob) => {
            format!("x'{}'", blob.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn lies_in(ranges: &[Range], key: &[u8]) -> bool {
    let at = ranges.partition_point(|range| range.ends_before(key));
    ranges.get(at).is_some_and(|range| range.contains(key))
}
