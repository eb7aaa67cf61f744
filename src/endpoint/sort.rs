//! Sorting what an engine cannot give in the order of canonical keys, and rows that have no key.
//!
//! Rows go into a temporary SQLite file that nobody else sees, ordered by key; SQLite keeps to its cache and the
//! disk takes the rest. Equal rows without a key are numbered there.

use rusqlite::{Connection, params};

use super::chunk::Range;
use super::{Plan, Sink, canon};
use crate::error::{Error, Result};

fn failed(error: rusqlite::Error) -> Error {
    Error::unavailable(
        "SORT_FAILED",
        format!("rows could not be sorted in a temporary file: {error}"),
    )
    .hint("free space in the directory for temporary files, or set TMPDIR to another one")
    .source(error)
}

/// Gives the rows that `read` brings in any order to `sink` in the order of their keys, those in the ranges.
pub fn sorted(
    plan: &Plan,
    ranges: &[Range],
    read: impl FnOnce(&mut Sink<'_>) -> Result<()>,
    sink: &mut Sink<'_>,
) -> Result<()> {
    // An empty name is a file of SQLite's own that goes with the connection.
    let file = Connection::open("").map_err(failed)?;
    file.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -8000; BEGIN; \
         CREATE TABLE rows (key BLOB NOT NULL, row BLOB NOT NULL)",
    )
    .map_err(failed)?;
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

fn lies_in(ranges: &[Range], key: &[u8]) -> bool {
    let at = ranges.partition_point(|range| range.ends_before(key));
    ranges.get(at).is_some_and(|range| range.contains(key))
}
