//! Rows without a key.
//!
//! The key of such a row is its hash, and its number among equal ones. Each batch scans the table once to count
//! the rows with its hashes, and once more to see that those were written which must be.
//!
//! Left out: any index. A table without a key is slow to write, and says so by its lack of one.

use std::collections::HashMap;

use mysql_async::Value as Sql;

use super::apply::{insert, to_send};
use super::declared::{Declared, quoted};
use super::order;
use super::read::selection;
use super::session::Session;
use super::value::{Renderer, raw};
use crate::endpoint::{Applied, Batch, Key, Plan, PlannedColumn};
use crate::error::{Error, Result};

/// A row's hash, as its key begins.
const HASH: usize = 16;

/// All rows with some hashes, by these: their raw values.
type Counted = HashMap<Vec<u8>, Vec<Vec<Sql>>>;

/// Applies a batch.
pub(super) fn apply(
    session: &mut Session,
    plan: &Plan,
    batch: &Batch<'_>,
    applied: &mut Applied,
) -> Result<()> {
    let keys = batch.puts.iter().map(|(key, _)| key).chain(batch.deletes);
    let wanted: Counted = keys.map(|key| (key[..HASH].to_vec(), Vec::new())).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let there = counted(session, plan, wanted)?;
    let is_there = |key: &Key| number(key) < there[&key[..HASH]].len();
    let mut rows = Vec::new();
    let mut counts: HashMap<&[u8], usize> =
        there.iter().map(|(hash, rows)| (hash.as_slice(), rows.len())).collect();
    for (key, row) in batch.puts {
        match is_there(key) {
            true => applied.equal += 1,
            false => {
                rows.push(to_send(session, plan, row)?);
                *counts.get_mut(&key[..HASH]).expect("it was asked for") += 1;
            }
        }
    }
    applied.inserted += rows.len() as u64;
    let names = plan.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    insert(session, &plan.table, &names, rows)?;
    for key in batch.deletes.iter().filter(|key| is_there(key)) {
        *counts.get_mut(&key[..HASH]).expect("it was asked for") -= 1;
        applied.deleted += 1;
    }
    let doomed = batch.deletes.iter().filter(|key| is_there(key));
    delete(session, plan, doomed.map(|key| (&key[..HASH], &there[&key[..HASH]][number(key)])))?;
    let empty = there.keys().map(|hash| (hash.clone(), Vec::new())).collect();
    let after = counted(session, plan, empty)?;
    match after.iter().all(|(hash, rows)| counts[hash.as_slice()] == rows.len()) {
        true => Ok(()),
        false => Err(changed(plan)),
    }
}

/// Which of equal rows it is.
fn number(key: &Key) -> usize {
    let nth: [u8; 4] = key[HASH..].try_into().expect("a multiset's key is a hash and a number");
    u32::from_be_bytes(nth) as usize
}

fn counted(session: &mut Session, plan: &Plan, mut wanted: Counted) -> Result<Counted> {
    let mut renderer = Renderer::new(plan);
    session.stream(&selection(plan, None), Vec::new(), &mut |sql_row| {
        let hash = plan.hash(renderer.render(sql_row).1).to_bytes();
        if let Some(rows) = wanted.get_mut(&hash[..]) {
            rows.push((0..sql_row.len()).map(|i| raw(sql_row, i)).collect());
        }
        Ok(())
    })?;
    Ok(wanted)
}

/// Deletes these rows, each by its hash and its raw values: like ones with one statement. Of equal rows it does not
/// matter which ones go.
fn delete<'r>(
    session: &mut Session,
    plan: &Plan,
    doomed: impl Iterator<Item = (&'r [u8], &'r Vec<Sql>)>,
) -> Result<()> {
    // Rows with one hash may still be spelled in several ways.
    let mut like: HashMap<&[u8], Vec<(&Vec<Sql>, usize)>> = HashMap::new();
    for (hash, raw) in doomed {
        let spelled = like.entry(hash).or_default();
        match spelled.iter_mut().find(|(other, _)| *other == raw) {
            Some((_, many)) => *many += 1,
            None => spelled.push((raw, 1)),
        }
    }
    let same = plan.columns.iter().map(same).collect::<Vec<_>>().join(" AND ");
    let sql = format!("DELETE FROM {} WHERE {same} LIMIT ", quoted(&plan.table));
    for (raw, many) in like.into_values().flatten() {
        session.execute(&format!("{sql}{many}"), raw.clone())?;
    }
    Ok(())
}

/// The condition that a column holds this very value.
fn same(column: &PlannedColumn) -> String {
    let (name, declared) = (quoted(&column.name), Declared::of(&column.declared));
    match declared.word {
        "json" => format!("CAST(CONVERT(CAST({name} AS CHAR) USING utf8mb4) AS BINARY) <=> ?"),
        _ if declared.is_text() => {
            format!("CAST(CONVERT({name} USING utf8mb4) AS BINARY) <=> ?")
        }
        _ => format!("{name} <=> {}", order::place(column)),
    }
}

fn changed(plan: &Plan) -> Error {
    let what = format!("{}: rows without a key would not be kept as they are", plan.table);
    Error::invalid("ROW_REFUSED", what)
        .hint("a column is narrower than a value, or a trigger changes it")
}
