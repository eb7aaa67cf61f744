//! Rows that wait: for a row that they refer to, for one that stands in their way, or to be let go.

use std::collections::{HashMap, HashSet};

use crate::change::Digest;
use crate::endpoint::{Endpoint, Engine, Key, Plan, canon};
use crate::error::{Error, Kind, Result};

use super::apply::Writing;
use super::compare::Ends;
use super::held::{Held, show_key};
use super::run::Job;

/// So many rows are looked up at a time.
const GROUP: usize = 1_000;

/// Parents of one foreign key that could not be written, and are not in B.
pub(super) struct Missing {
    parent: String,
    columns: Vec<usize>,
    keys: Vec<Key>,
}

impl Missing {
    /// Why a row has to wait; none if it need not.
    fn keeps_out(&self, plan: &Plan, row: &[u8]) -> Result<Option<Error>> {
        let values = plan.values(row)?;
        let key = canon::encode_key(self.columns.iter().map(|at| values[*at].as_ref()));
        Ok(self.keys.contains(&key).then(|| {
            let what = format!("it refers to a held row of {}: {}", self.parent, show_key(&key));
            Error::new(Kind::Behind, "PARENT_HELD", what)
        }))
    }
}

/// Why a row has to wait for one of these; none if it need not.
pub(super) fn keeps_out(parents: &[Missing], plan: &Plan, row: &[u8]) -> Result<Option<Error>> {
    let mut why = parents.iter().filter_map(|parent| parent.keeps_out(plan, row).transpose());
    why.next().transpose()
}

/// Where the engine does not enforce foreign keys, rows that depend on a held one wait with it all the same.
pub(super) fn waiting_for(
    b: &mut dyn Endpoint,
    jobs: &[Job<'_>],
    at: usize,
) -> Result<Vec<Missing>> {
    if b.engine() != Engine::Sqlite {
        return Ok(Vec::new());
    }
    let child = jobs[at].pair;
    let mut missing = Vec::new();
    for foreign in &child.b.foreign_keys {
        let is_parent = |job: &&Job<'_>| job.pair.b.name.eq_ignore_ascii_case(&foreign.parent);
        let Some(parent) = jobs.iter().find(is_parent).filter(|job| !job.held.is_empty()) else {
            continue;
        };
        let plan = parent.pair.plan(1);
        let of_key = plan.columns[..plan.key].iter();
        let columns: Option<Vec<usize>> = of_key
            .enumerate()
            .map(|(place, column)| {
                let refers = |name: &String| name.eq_ignore_ascii_case(&column.name);
                let at = if foreign.parent_columns.is_empty() {
                    Some(place)
                } else {
                    foreign.parent_columns.iter().position(refers)
                };
                let name = foreign.columns.get(at?)?;
                child.plan(1).columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
            })
            .collect();
        // A reference to something else than the key is not followed.
        let Some(columns) = columns.filter(|columns| columns.len() == foreign.columns.len()) else {
            continue;
        };
        let mut keys: Vec<Key> = parent.held.keys().cloned().collect();
        let mut there = Vec::new();
        b.rows(plan, &keys, &mut |key, _| {
            there.push(key.to_vec());
            Ok(())
        })?;
        keys.retain(|key| !there.contains(key));
        missing.push(Missing { parent: parent.pair.name().to_owned(), columns, keys });
    }
    Ok(missing)
}

/// Tries held rows again, all of a table together: they may only have stood in each other's way, or have waited
/// for one that is there by now.
pub(super) fn try_again(
    ends: &mut Ends<'_>,
    jobs: &mut [Job<'_>],
    writing: &mut Writing<'_>,
) -> Result<()> {
    loop {
        let before: usize = jobs.iter().map(|job| job.held.len()).sum();
        for at in 0..jobs.len() {
            let waits = waiting_for(ends.1, jobs, at)?;
            let job = &mut jobs[at];
            let plan = job.pair.plan(0);
            let is_new =
                |key: &Key, held: &Held| job.before.get(key).is_none_or(|b| b.row != held.row);
            let again = job.held.iter().filter(|(key, held)| held.waits || is_new(key, held));
            let keys: Vec<Key> = again.map(|(key, _)| key.clone()).collect();
            if keys.is_empty() {
                continue;
            }
            let mut writer = job.writer(ends.1, writing, None);
            let mut gone: HashSet<Key> = keys.iter().cloned().collect();
            ends.0.rows(plan, &keys, &mut |key, row| {
                gone.remove(key);
                match keeps_out(&waits, plan, row)? {
                    None => writer.put_again(key, row),
                    Some(_) => Ok(()),
                }
            })?;
            writer.flush()?;
            writer.remove(&gone.into_iter().collect::<Vec<_>>())?;
            job.wrote(writer, None)?;
        }
        let after: usize = jobs.iter().map(|job| job.held.len()).sum();
        if after >= before {
            return Ok(());
        }
    }
}

/// Lets go of held rows that both sides agree on by now: A changed its mind, or somebody mended B.
pub(super) fn let_go(
    ends: &mut Ends<'_>,
    jobs: &mut [Job<'_>],
    writing: &mut Writing<'_>,
) -> Result<()> {
    for job in jobs.iter_mut().filter(|job| !job.held.is_empty()) {
        let keys: Vec<Key> = job.held.keys().cloned().collect();
        let (a, b) =
            (found(ends.0, job.pair.plan(0), &keys)?, found(ends.1, job.pair.plan(1), &keys)?);
        let agreed = keys.iter().filter(|key| a.get(*key) == b.get(*key));
        let name = |key: &Key| (writing.keep.held_name(job.pair, key), None);
        let state: Vec<_> = agreed.clone().map(name).collect();
        if !state.is_empty() {
            writing.keep.write(ends.1, job.pair.plan(1), &state)?;
            agreed.for_each(|key| drop(job.held.remove(key)));
        }
    }
    Ok(())
}

/// The hashes of the rows with these keys.
fn found(end: &mut dyn Endpoint, plan: &Plan, keys: &[Key]) -> Result<HashMap<Key, Digest>> {
    let mut rows = HashMap::new();
    for group in keys.chunks(GROUP) {
        end.rows(plan, group, &mut |key, row| {
            rows.insert(key.to_vec(), canon::hash(row));
            Ok(())
        })?;
    }
    Ok(rows)
}
