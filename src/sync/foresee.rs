//! What a round would do: told, and not done.

use std::collections::{HashMap, HashSet};

use crate::endpoint::chunk::Difference;
use crate::endpoint::{Endpoint, Key, Plan, Row};
use crate::error::Result;

use super::apply::Writing;
use super::compare::Ends;
use super::event::{Event, Events};
use super::held::named_key;
use super::run::Job;
use super::versions::{ENOUGH, enough};

/// Of so many rows of a table the keys are told.
const SHOWN: usize = 20;
/// So many rows are looked up at a time.
const GROUP: usize = 1_000;

/// Says what would be done.
pub(super) fn tell(
    ends: &mut Ends<'_>,
    job: &mut Job<'_>,
    writing: &mut Writing<'_>,
) -> Result<()> {
    if let Some(since) = job.since.clone() {
        foresee(ends, job, since.as_deref())?;
    }
    let (plan, events) = (job.pair.plan(0), &mut *writing.events);
    let mut teller = Teller { table: job.pair.name(), plan, events, shown: 0 };
    job.work.each_put(&mut |key, difference| teller.say(&key, difference))?;
    job.work.each_delete(&mut |key| teller.say(&key, Difference::OnlyInB))?;
    let read = ends.0.read(plan, job.work.ranges(), &mut |key, _| {
        if teller.shown >= SHOWN {
            return Err(enough());
        }
        teller.say(key, Difference::OnlyInA)
    });
    read.or_else(|error| if error.code() == ENOUGH { Ok(()) } else { Err(error) })
}

struct Teller<'t, 'e> {
    table: &'t str,
    plan: &'t Plan,
    events: &'t mut Events<'e>,
    shown: usize,
}

impl Teller<'_, '_> {
    fn say(&mut self, key: &[u8], difference: Difference) -> Result<()> {
        self.shown += 1;
        if self.shown <= SHOWN {
            let key = named_key(self.plan, key);
            let (table, key) = (self.table, &key[..]);
            (self.events)(Event::Row { table, key, difference, columns: &[] });
        }
        Ok(())
    }
}

/// Adds the rows above the mark that B lacks or has otherwise; a round would just write them.
fn foresee(ends: &mut Ends<'_>, job: &mut Job<'_>, since: Option<&[u8]>) -> Result<()> {
    let mut known = HashSet::new();
    job.work.each_put(&mut |key, _| {
        known.insert(key);
        Ok(())
    })?;
    let (a, b) = (&mut *ends.0, &mut *ends.1);
    let mut group: Vec<(Key, Row)> = Vec::new();
    let mut add = |group: &mut Vec<(Key, Row)>| {
        differing(b, job.pair.plan(1), group, &mut |key, how| job.work.add_row(key, how))?;
        group.clear();
        Ok(())
    };
    a.since(job.pair.plan(0), since, false, &mut |key, row| {
        if !known.contains(key) && !job.walk.contains(key) {
            group.push((key.to_vec(), row.to_vec()));
        }
        if group.len() >= GROUP { add(&mut group) } else { Ok(()) }
    })?;
    add(&mut group)
}

/// How B differs in these rows.
fn differing(
    b: &mut dyn Endpoint,
    plan: &Plan,
    rows: &[(Key, Row)],
    found: &mut dyn FnMut(&[u8], Difference) -> Result<()>,
) -> Result<()> {
    let keys: Vec<Key> = rows.iter().map(|(key, _)| key.clone()).collect();
    let mut of_b = HashMap::new();
    b.rows(plan, &keys, &mut |key, row| {
        of_b.insert(key.to_vec(), row.to_vec());
        Ok(())
    })?;
    for (key, row) in rows {
        match of_b.get(key) {
            None => found(key, Difference::OnlyInA)?,
            Some(other) if other != row => found(key, Difference::Changed)?,
            Some(_) => {}
        }
    }
    Ok(())
}
