//! Whether the server keeps what is written to it.
//!
//! A trigger or a rule may make another row of it, and types that write a value in one way of several give back that
//! one: `1.2.3.4/32` comes back as `1.2.3.4`. Such rows would differ for ever, and be written again in every round.
//! Where there is such a thing, what was written is read back in the same transaction.
//!
//! Left out: triggers that run at COMMIT, and those that belong to a single partition.

use std::collections::HashMap;

use super::apply::Applying;
use super::failure::altered;
use super::read::Reading;
use super::relation::{Planned, Relation};
use crate::change::Value;
use crate::endpoint::{Key, Plan, Row};
use crate::error::{Error, Result};

/// Whether something may make another row of one that is written.
fn may_alter(relation: &Relation, columns: &[Planned<'_>]) -> bool {
    let has_hands = !relation.table.triggers.is_empty() || !relation.rules.is_empty();
    has_hands || columns.iter().any(|(_, held)| !held.verbatim)
}

impl Applying<'_> {
    /// Refuses the batch if not all of its rows are there as they must be.
    pub(super) fn must_be_kept(&mut self, columns: &[Planned<'_>]) -> Result<()> {
        if self.batch.puts.is_empty() || !may_alter(self.relation, columns) {
            return Ok(());
        }
        let plan = Plan { filter: None, ..self.batch.plan.clone() };
        let reading = Reading { relation: self.relation, plan: &plan };
        match plan.is_multiset() {
            true => self.must_be_among(&reading),
            false => self.must_be_found(&reading),
        }
    }

    fn must_be_found(&mut self, reading: &Reading<'_>) -> Result<()> {
        let keys: Vec<Key> = self.batch.puts.iter().map(|(key, _)| key.clone()).collect();
        let mut there: HashMap<Key, Row> = HashMap::new();
        reading.keys(self.session, &keys, &mut |key, row| {
            there.insert(key.to_vec(), row.to_vec());
            Ok(())
        })?;
        for (key, row) in self.batch.puts {
            match there.get(key) {
                Some(kept) if kept == row => {}
                kept => return Err(not_kept(reading.plan, row, kept)?),
            }
        }
        Ok(())
    }

    /// Rows without a key: as many of each as were written by this transaction.
    fn must_be_among(&mut self, reading: &Reading<'_>) -> Result<()> {
        let mut missing: HashMap<&[u8], u64> = HashMap::new();
        self.batch.puts.iter().for_each(|(_, row)| *missing.entry(row).or_default() += 1);
        reading.written_now(self.session, &mut |_, row| {
            if let Some(left) = missing.get_mut(row) {
                *left = left.saturating_sub(1);
            }
            Ok(())
        })?;
        let lost = self.batch.puts.iter().find(|(_, row)| missing[row.as_slice()] > 0);
        lost.map_or(Ok(()), |(_, row)| Err(not_kept(reading.plan, row, None)?))
    }
}

/// What became of a row.
fn not_kept(plan: &Plan, row: &[u8], kept: Option<&Row>) -> Result<Error> {
    let Some(kept) = kept else {
        return Ok(altered("the row is not there as it was written, once it is written".into()));
    };
    let (wanted, kept) = (plan.values(row)?, plan.values(kept)?);
    let at = wanted.iter().zip(&kept).position(|(wanted, kept)| wanted != kept).unwrap_or(0);
    let column = &plan.columns[at];
    let (name, declared) = (&column.name, &column.declared);
    let (kept, wanted) = (short(&kept[at]), short(&wanted[at]));
    Ok(altered(format!("{name} ({declared}) would keep {kept} in place of {wanted}")))
}

/// A value in few words.
fn short(value: &Value) -> String {
    const MOST: usize = 40;
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(i) => i.to_string(),
        Value::Real(r) => r.to_string(),
        Value::Text(text) if text.chars().count() <= MOST => format!("{text:?}"),
        Value::Text(text) => format!("a text of {} bytes", text.len()),
        Value::Blob(blob) => format!("{} bytes", blob.len()),
    }
}
