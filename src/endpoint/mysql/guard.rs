//! What keeps a batch from reaching rows that it does not name.
//!
//! A foreign key that cascades would delete or change children together with their parent. Whether there are
//! any is asked in the same transaction, before the parent is touched.
//!
//! Left out: children that the user has no right to see, whose foreign keys the catalogue does not show.

use std::collections::HashMap;

use mysql_async::Value as Sql;

use super::apply::{Put, any_raw};
use super::catalogue::{Referrer, referrers};
use super::declared::{list, quoted};
use super::read::{Found, KEYS};
use super::session::Session;
use super::value::Renderer;
use crate::endpoint::{Key, Plan};
use crate::error::{Error, Kind, Result};

/// Refuses a delete that would cascade to rows that are not deleted by the same batch. `all`: or that any row refers
/// to, cascade or not.
pub(super) fn deletes(
    session: &mut Session,
    plan: &Plan,
    doomed: &HashMap<Key, Found>,
    all: bool,
) -> Result<()> {
    if doomed.is_empty() {
        return Ok(());
    }
    let raws: Vec<Vec<Sql>> = doomed.values().map(|found| found.raw.clone()).collect();
    let is_doomed = |key: &[u8]| doomed.contains_key(key);
    for referrer in referrers(session, &plan.table)?.iter().filter(|r| all || r.cascades_deletes) {
        if refers(session, plan, &raws, referrer, &is_doomed)? {
            return Err(refused(plan, referrer, "delete"));
        }
    }
    Ok(())
}

/// Refuses an update of columns that children refer to and would follow. `all`: or would be left behind by.
pub(super) fn updates(
    session: &mut Session,
    plan: &Plan,
    different: &[(&Put, Found)],
    all: bool,
) -> Result<()> {
    let (key, others) = plan.columns.split_at(plan.key);
    if different.is_empty() || others.is_empty() {
        return Ok(());
    }
    let is_in_key = |name: &String| key.iter().any(|column| column.name == *name);
    for referrer in referrers(session, &plan.table)?.iter().filter(|r| all || r.cascades_updates) {
        if referrer.parent_columns.iter().all(is_in_key) {
            continue;
        }
        let mut moved = Vec::new();
        for ((_, row), found) in different {
            let (new, old) = (plan.values(row)?, plan.values(&found.row)?);
            let of_parent = |i: &usize| referrer.parent_columns.contains(&plan.columns[*i].name);
            if (0..plan.columns.len()).filter(of_parent).any(|i| new[i] != old[i]) {
                moved.push(found.raw.clone());
            }
        }
        if refers(session, plan, &moved, referrer, &|_| false)? {
            return Err(refused(plan, referrer, "update"));
        }
    }
    Ok(())
}

/// Whether rows refer to one of these, but for those of the table itself that are excepted.
fn refers(
    session: &mut Session,
    plan: &Plan,
    raws: &[Vec<Sql>],
    referrer: &Referrer,
    is_excepted: &dyn Fn(&[u8]) -> bool,
) -> Result<bool> {
    let of_key = Plan { columns: plan.columns[..plan.key].to_vec(), ..plan.clone() };
    let (own, theirs) = (list(&referrer.columns), list(&referrer.parent_columns));
    let parent = quoted(&plan.table);
    // Of another table one child is enough; of the same one it depends on which. Nobody may add one meanwhile.
    let (shown, end) = match referrer.is_itself {
        true => (list(of_key.columns.iter().map(|column| &column.name)), ""),
        false => ("1".into(), " LIMIT 1"),
    };
    let mut any = false;
    for portion in raws.chunks(KEYS) {
        let mut arguments = Vec::new();
        let condition = any_raw(plan, portion, &mut arguments);
        let sql = format!(
            "SELECT {shown} FROM {} WHERE ({own}) IN (SELECT {theirs} FROM {parent} WHERE {condition}){end} LOCK IN SHARE MODE",
            referrer.child
        );
        let mut renderer = Renderer::new(&of_key);
        session.stream(&sql, arguments, &mut |row| {
            any |= !referrer.is_itself || !is_excepted(renderer.render(row).0);
            Ok(())
        })?;
    }
    Ok(any)
}

fn refused(plan: &Plan, referrer: &Referrer, what: &str) -> Error {
    let (table, child) = (&plan.table, &referrer.child);
    let what =
        format!("a {what} in {table} would cascade to rows of {child} that still refer to it");
    Error::new(Kind::Behind, "CASCADE_REFUSED", what).hint("rows that refer to it must go first")
}
