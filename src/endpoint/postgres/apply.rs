//! Writing rows.
//!
//! ```text
//! BEGIN ISOLATION LEVEL REPEATABLE READ      nobody's change goes under: 40001 instead
//!   which rows are there, and where           keys ─▶ (ctid, row)
//!   COPY … FROM STDIN                         the missing ones
//!   UPDATE … FROM unnest(…) WHERE ctid = …    the different ones, the columns that differ
//!   guard; DELETE … WHERE ctid = ANY(…)       the doomed ones
//!   the written ones again                    where they may have become others (`kept`)
//!   state; SET CONSTRAINTS ALL IMMEDIATE; COMMIT
//! ```
//!
//! Rows are found by their canonical keys once, and then by where they are: what PostgreSQL takes for equal
//! does not matter. If a unique value was in the way, it may be that of a row that changes or goes, too: then
//! doomed rows go first, and those that change are taken out and put back by one statement; where others refer to
//! them, only their values are put out of the way ([`park`](super::park)).
//!
//! Foreign keys are enforced, and triggers run. `session_replication_role` would turn off both.

use std::collections::HashMap;

use super::failure::{forbidden, is_taken, refused, value_taken, would_cascade};
use super::guard::{self, at};
use super::park::park;
use super::quoted;
use super::read::{Place, Reading, tid};
use super::relation::{Planned, Reference, Relation};
use super::session::{Session, quote};
use super::written;
use crate::change::Value;
use crate::endpoint::{Applied, Batch, Key, OnDelete, Plan, Row};
use crate::error::{Error, Kind, Result};

const STATE: &str =
    "CREATE TABLE IF NOT EXISTS _syncline_sync (name text PRIMARY KEY, value text NOT NULL)";
/// From so many rows on it is worth a question whether the table has any between the first and the last.
const MANY: usize = 200;

/// A batch, its table, and the session that writes.
pub(super) struct Applying<'a> {
    pub session: &'a mut Session,
    pub relation: &'a Relation,
    pub batch: &'a Batch<'a>,
}

/// How rows come to be as they must.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// One after another.
    InPlace,
    /// Doomed rows go first, and changed ones are taken out and put back: unique values may have changed
    /// places.
    AsideFirst,
    /// Changed ones stay, because others refer to them, and only their unique values are put out of the way.
    ParkedFirst,
}

/// What is to be done.
struct Work {
    insert: Vec<Vec<Value>>,
    update: Vec<Change>,
    delete: Vec<Place>,
    equal: u64,
}

/// A row that differs.
pub(super) struct Change {
    pub place: Place,
    pub old: Vec<Value>,
    pub new: Vec<Value>,
}

impl Applying<'_> {
    /// Applies the batch; where a unique value was in the way, in another way.
    pub fn run(&mut self) -> Result<Applied> {
        let several = self.batch.puts.len() + self.batch.deletes.len() > 1;
        let applied = match self.try_to(Way::InPlace) {
            Err(error) if is_taken(&error) && several => match self.try_to(Way::AsideFirst) {
                // Others refer to the rows. If that fails, too, the value in the way is what is wrong.
                Err(second) if second.kind() == Kind::Behind && !is_taken(&second) => {
                    self.try_to(Way::ParkedFirst).map_err(|third| match third.kind() {
                        Kind::Behind | Kind::Invalid => error,
                        _ => third,
                    })
                }
                applied => applied,
            },
            applied => applied,
        };
        applied.map_err(|error| self.explained(error))
    }

    fn try_to(&mut self, way: Way) -> Result<Applied> {
        self.session.begin_batch()?;
        let applied = self.in_transaction(way);
        let applied = applied.and_then(|applied| {
            let state = self.state_sql()?;
            self.session.commit(&state)?;
            Ok(applied)
        });
        applied.inspect_err(|_| {
            // The first error counts, whatever becomes of the session.
            let _ = self.session.rollback();
        })
    }

    /// An error that tells more to whoever knows the batch.
    fn explained(&self, error: Error) -> Error {
        let name = &self.relation.table.name;
        let only_deletes = self.batch.puts.is_empty();
        match error.code() {
            "PARENT_MISSING" if only_deletes => {
                would_cascade(error.message().to_owned()).source(error)
            }
            "ENDPOINT_FORBIDDEN" => forbidden(
                format!("{name}: {}", error.message()),
                format!(
                    "GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO the user in the URL",
                    self.relation.sql
                ),
            )
            .source(error),
            "VALUE_TAKEN" => value_taken(format!("{name}: {}", error.message())).source(error),
            "ROW_REFUSED" => refused(format!("{name}: {}", error.message()))
                .hint(error.hint_text().to_owned())
                .source(error),
            _ => error,
        }
    }

    fn in_transaction(&mut self, way: Way) -> Result<Applied> {
        let plan = self.batch.plan;
        let columns = self.relation.planned(plan)?;
        let mut work = match plan.is_multiset() {
            true => self.multiset_work()?,
            false => self.keyed_work()?,
        };
        self.guard_changes(&columns, &work.update)?;
        match way {
            Way::InPlace => {
                self.insert(&columns, &work.insert)?;
                self.update(&columns, &work.update)?;
                self.delete(&work.delete)?;
            }
            Way::AsideFirst => {
                self.delete(&work.delete)?;
                self.put_back(&columns, &work.update)?;
                self.insert(&columns, &work.insert)?;
            }
            Way::ParkedFirst => {
                self.delete(&work.delete)?;
                park(self.session, self.relation, &columns, &mut work.update)?;
                self.update(&columns, &work.update)?;
                self.insert(&columns, &work.insert)?;
            }
        }
        self.must_be_kept(&columns)?;
        self.advance_sequences(&columns, &work)?;
        Ok(Applied {
            inserted: work.insert.len() as u64,
            updated: work.update.len() as u64,
            equal: work.equal,
            deleted: work.delete.len() as u64,
        })
    }

    /// All rows count, also those that the filter would not show.
    fn unfiltered(&self) -> Plan {
        Plan { filter: None, ..self.batch.plan.clone() }
    }

    fn keyed_work(&mut self) -> Result<Work> {
        let plan = self.unfiltered();
        let keys = self.batch.puts.iter().map(|(key, _)| key).chain(self.batch.deletes);
        let keys: Vec<Key> = keys.cloned().collect();
        let mut there: HashMap<Key, (Place, Row)> = HashMap::new();
        let reading = Reading { relation: self.relation, plan: &plan };
        if keys.len() < MANY || reading.may_hold(self.session, &keys)? {
            reading.places(self.session, &keys, &mut |place, key, row| {
                there.insert(key.to_vec(), (place, row.to_vec()));
                Ok(())
            })?;
        }
        let (insert, update, delete) = Default::default();
        let mut work = Work { insert, update, delete, equal: 0 };
        for (key, row) in self.batch.puts {
            match there.remove(key) {
                None => work.insert.push(plan.values(row)?),
                Some((_, old)) if old == *row => work.equal += 1,
                Some((place, old)) => {
                    let (old, new) = (plan.values(&old)?, plan.values(row)?);
                    work.update.push(Change { place, old, new });
                }
            }
        }
        work.delete =
            self.batch.deletes.iter().filter_map(|key| Some(there.remove(key)?.0)).collect();
        Ok(work)
    }

    /// Of equal rows it does not matter which ones go, only how many.
    fn multiset_work(&mut self) -> Result<Work> {
        let plan = self.batch.plan;
        let insert = self.batch.puts.iter().map(|(_, row)| plan.values(row));
        let insert = insert.collect::<Result<Vec<_>>>()?;
        let mut delete = Vec::new();
        if !self.batch.deletes.is_empty() {
            let mut equal: HashMap<Vec<u8>, Vec<Place>> = HashMap::new();
            let hashes = self.batch.deletes.iter().map(|key| (hash_of(key).to_vec(), Vec::new()));
            equal.extend(hashes);
            let reading = Reading { relation: self.relation, plan };
            reading.all_placed(self.session, &mut |place, _, row| {
                if let Some(places) = equal.get_mut(&plan.hash(row).to_bytes()[..]) {
                    places.push(place);
                }
                Ok(())
            })?;
            for key in self.batch.deletes {
                let nth = u32::from_be_bytes(key[key.len() - 4..].try_into().expect("four bytes"));
                delete.extend(equal[hash_of(key)].get(nth as usize));
            }
        }
        Ok(Work { insert, update: Vec::new(), delete, equal: 0 })
    }

    fn insert(&mut self, columns: &[Planned<'_>], rows: &[Vec<Value>]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let copy = format!("COPY {} ({}) FROM STDIN", self.relation.sql, names(columns));
        let written = self.session.copy_in(&copy, rows, |text, values| {
            written::add_row(text, &written::row(self.relation, columns, values)?);
            Ok(())
        })?;
        self.must_be(written, rows.len())
    }

    /// A trigger or a rule can drop a row without a word.
    fn must_be(&self, written: u64, wanted: usize) -> Result<()> {
        match written == wanted as u64 {
            true => Ok(()),
            false => Err(refused(format!(
                "a trigger or a rule let only {written} of {wanted} rows be written"
            ))),
        }
    }

    fn update(&mut self, columns: &[Planned<'_>], changes: &[Change]) -> Result<()> {
        let places = changed(changes);
        if places.iter().any(|place| columns[*place].1.identity) {
            // Such a column takes a value only with a whole row.
            return self.put_back(columns, changes);
        }
        if places.is_empty() {
            return Ok(());
        }
        let set = places.iter().enumerate().map(|(i, place)| {
            let (column, held) = columns[*place];
            format!("{} = v.c{i}::{}", quoted(&column.name), held.cast)
        });
        let set = set.collect::<Vec<_>>().join(", ");
        let (source, parameters) = self.values(columns, &places, changes)?;
        let sql = format!(
            "UPDATE {} t SET {set} FROM {source} WHERE t.tableoid = v.rel::oid AND t.ctid = v.tid::tid",
            self.relation.from()
        );
        let written = self.session.execute(&sql, &parameters)?;
        self.must_be(written, changes.len())
    }

    /// The new values of these columns beside the rows' places, as FROM has them.
    fn values(
        &self,
        columns: &[Planned<'_>],
        places: &[usize],
        changes: &[Change],
    ) -> Result<(String, Vec<Vec<Option<String>>>)> {
        let mut parameters: Vec<Vec<Option<String>>> = vec![
            changes.iter().map(|change| Some(change.place.0.to_string())).collect(),
            changes.iter().map(|change| Some(tid(change.place))).collect(),
        ];
        for place in places {
            let texts = changes.iter().map(|change| {
                written::written(self.relation, columns[*place], &change.new[*place])
            });
            parameters.push(texts.collect::<Result<_>>()?);
        }
        let arrays = (1..=parameters.len()).map(|n| format!("${n}"));
        let names = (0..places.len()).map(|i| format!(", c{i}")).collect::<String>();
        let arrays = arrays.collect::<Vec<_>>().join(", ");
        Ok((format!("unnest({arrays}) AS v(rel, tid{names})"), parameters))
    }

    fn delete(&mut self, places: &[Place]) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let cascades = |reference: &Reference| reference.on_delete == OnDelete::Cascade;
        guard::check(self.session, self.relation, places, cascades)?;
        let sql = format!("DELETE FROM {} WHERE {}", self.relation.from(), at("", places));
        let gone = self.session.execute(&sql, &[])?;
        self.must_be(gone, places.len())
    }

    /// Takes rows out and puts them back as they must be, with what nobody compares. The order makes the server
    /// take out all of them before the first one comes back.
    fn put_back(&mut self, columns: &[Planned<'_>], changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let places: Vec<Place> = changes.iter().map(|change| change.place).collect();
        let acts = |r: &Reference| r.on_delete == OnDelete::Cascade || r.restricts;
        guard::check(self.session, self.relation, &places, acts)?;
        let set = changed(changes);
        let (source, parameters) = self.values(columns, &set, changes)?;
        let kept = self.relation.table.columns.iter().filter(|column| !column.generated);
        let (mut names, mut from) = (Vec::new(), Vec::new());
        for column in kept {
            let name = quoted(&column.name);
            let new = set.iter().position(|place| columns[*place].0.name == column.name);
            from.push(match new {
                Some(i) => format!("v.c{i}::{}", columns[set[i]].1.cast),
                None => format!("gone.{name}"),
            });
            names.push(name);
        }
        let sql = format!(
            "WITH gone AS (DELETE FROM {from_table} WHERE {} \
                RETURNING tableoid AS _syncline_rel, ctid AS _syncline_tid, *) \
             INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM gone JOIN {source} \
             ON v.rel::oid = _syncline_rel AND v.tid::tid = _syncline_tid \
             ORDER BY _syncline_rel, _syncline_tid",
            at("", &places),
            self.relation.sql,
            names.join(", "),
            from.join(", "),
            from_table = self.relation.from(),
        );
        let written = self.session.execute(&sql, &parameters)?;
        self.must_be(written, changes.len())
    }

    /// A foreign key may change children with what they refer to, if that is not the key.
    fn guard_changes(&mut self, columns: &[Planned<'_>], changes: &[Change]) -> Result<()> {
        for reference in &self.relation.referenced {
            if reference.on_update != OnDelete::Cascade {
                continue;
            }
            let refers = |place: &usize| reference.parent_columns.contains(&columns[*place].0.name);
            let moved = |change: &&Change| {
                (0..columns.len())
                    .filter(refers)
                    .any(|place| change.old[place] != change.new[place])
            };
            let places: Vec<Place> = changes.iter().filter(moved).map(|c| c.place).collect();
            if !places.is_empty() {
                let this = |other: &Reference| {
                    other.name == reference.name && other.child == reference.child
                };
                guard::check(self.session, self.relation, &places, this)?;
            }
        }
        Ok(())
    }

    /// Sequences that belong to columns go on behind what was written; never back.
    fn advance_sequences(&mut self, columns: &[Planned<'_>], work: &Work) -> Result<()> {
        for (place, (_, held)) in columns.iter().enumerate() {
            let Some(sequence) = &held.sequence else { continue };
            let rows = work.insert.iter().chain(work.update.iter().map(|change| &change.new));
            let numbers = rows.filter_map(|row| match row[place] {
                Value::Integer(n) => Some(n),
                _ => None,
            });
            let Some(most) = numbers.max() else { continue };
            let sequence_text = quote(sequence);
            self.session.rows(&format!(
                "SELECT setval({sequence_text}::regclass, {most}) FROM {sequence} s, pg_sequence q \
                 WHERE q.seqrelid = {sequence_text}::regclass AND q.seqincrement > 0 \
                    AND {most} <= q.seqmax AND {most} >= q.seqmin \
                    AND has_sequence_privilege(q.seqrelid, 'UPDATE') \
                    AND (s.last_value < {most} OR s.last_value = {most} AND NOT s.is_called)"
            ))?;
        }
        Ok(())
    }

    fn state_sql(&mut self) -> Result<String> {
        if self.batch.state.is_empty() {
            return Ok(String::new());
        }
        let mut statements = Vec::new();
        if !has_state(self.session)? {
            statements.push(STATE.to_owned());
        }
        for (name, value) in self.batch.state {
            let name = quote(name);
            statements.push(match value {
                Some(value) => format!(
                    "INSERT INTO _syncline_sync VALUES ({name}, {0}) \
                     ON CONFLICT (name) DO UPDATE SET value = {0}",
                    quote(value)
                ),
                None => format!("DELETE FROM _syncline_sync WHERE name = {name}"),
            });
        }
        Ok(statements.join("; "))
    }
}

fn hash_of(key: &[u8]) -> &[u8] {
    &key[..key.len().saturating_sub(4)]
}

fn names(columns: &[Planned<'_>]) -> String {
    columns.iter().map(|(column, _)| quoted(&column.name)).collect::<Vec<_>>().join(", ")
}

/// The columns in which any row differs.
fn changed(changes: &[Change]) -> Vec<usize> {
    let columns = changes.first().map_or(0, |change| change.new.len());
    (0..columns).filter(|place| changes.iter().any(|c| c.old[*place] != c.new[*place])).collect()
}

fn has_state(session: &mut Session) -> Result<bool> {
    let sql = "SELECT 1 WHERE to_regclass(quote_ident(current_schema()) || '._syncline_sync') IS NOT NULL";
    Ok(!session.rows(sql)?.is_empty())
}

/// The entries of the state whose names begin so.
pub(super) fn state(session: &mut Session, prefix: &str) -> Result<Vec<(String, String)>> {
    if !has_state(session)? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT name, value FROM _syncline_sync WHERE starts_with(name, {}) ORDER BY name COLLATE \"C\"",
        quote(prefix)
    );
    Ok(session.rows(&sql)?.iter().map(|row| (row.get(0), row.get(1))).collect())
}
