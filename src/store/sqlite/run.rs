//! Running one client statement inside a unit, so that the capture holds what SQLite kept.

use std::collections::HashMap;

use super::SqliteStore;
use super::capture::{CapturedTable, Mode, key_columns};
use super::client::Budget;
use super::group::{Point, Watch};
use super::guard::Facts;
use super::raw::Db;
use super::recount::select_rows;
use super::schema::{quote, rowid_name};
use super::statement::{Statement, StatementResult};
use crate::change::{BodyReader, Change, Decoder, TableShape, Value, ValueRef};
use crate::error::{Error, Result};

/// How far the damage of a statement that failed goes.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The statement failed; the unit goes on with what it had (or with what OR FAIL kept).
    Statement(Error),
    /// The statement left something that must not stay: the unit has to be undone.
    Unit(Error),
    /// SQLite ended the whole transaction, with everybody's units in it.
    Transaction(Error),
}

impl SqliteStore {
    /// Runs one statement of a client's in the open unit.
    pub(crate) fn run(
        &mut self,
        statement: &Statement,
        budget: &Budget,
    ) -> Result<StatementResult, Failed> {
        let prepared = self.client.prepared(&statement.sql).map_err(Failed::Statement)?;
        let (facts, readonly) = (prepared.facts, prepared.readonly);
        if readonly {
            let ran = self.client.run(statement, budget, &self.deadline);
            return ran.map_err(Failed::Statement);
        }
        let point = self.point();
        let Facts { counts, sequence, pragma, .. } = facts;
        let watch = Watch { counts, sequence, settings: pragma };
        self.watch(watch).map_err(Failed::Unit)?;
        // The rows of what a statement makes are read back; an ALTER changes none that are reported.
        self.capture.mode = if facts.creates || facts.alters { Mode::Off } else { Mode::Record };
        let ran = self.client.run(statement, budget, &self.deadline);
        self.capture.mode = Mode::Record;
        let unheard = self.capture.take_failure();
        if self.db.is_autocommit() {
            let error = ran.err().or(unheard);
            return Err(Failed::Transaction(error.unwrap_or_else(transaction_ended)));
        }
        match (ran, unheard) {
            (_, Some(error)) => Err(Failed::Unit(error)),
            (Ok(result), None) => {
                if facts.is_schema() {
                    self.capture_schema(facts.alters).map_err(Failed::Unit)?;
                }
                if facts.drops {
                    self.check_key_count().map_err(Failed::Unit)?;
                }
                self.flush_virtual_tables().map_err(Failed::Unit)?;
                Ok(result)
            }
            (Err(error), None) => {
                // OR FAIL keeps rows, of full-text tables too, but not what AUTOINCREMENT counted.
                self.unit().watch.sequence |= facts.counts;
                self.flush_virtual_tables().map_err(Failed::Unit)?;
                Err(self.after_failure(error, &point))
            }
        }
    }

    /// SQLite undid the statement, or kept its rows (OR FAIL); the hook heard of neither.
    fn after_failure(&mut self, error: Error, point: &Point) -> Failed {
        if !self.moved_since(point) {
            return Failed::Statement(error);
        }
        #[cfg(feature = "planted")]
        if crate::planted("phantom-rows") {
            return Failed::Statement(error);
        }
        if !error.code().starts_with("SQLITE_") {
            return Failed::Unit(error);
        }
        match self.kept(point) {
            Ok(Kept::All) => Failed::Statement(error),
            Ok(Kept::Nothing) => match self.went_back_to(point) {
                Ok(()) => Failed::Statement(error),
                Err(other) => Failed::Unit(other),
            },
            Ok(Kept::Some) => Failed::Unit(error),
            Err(other) => Failed::Unit(other),
        }
    }

    /// Compares what was captured since `point` with what is stored.
    fn kept(&mut self, point: &Point) -> Result<Kept> {
        let body = self.captured_since(point)?;
        let tables: Vec<_> = self.capture.declared_tables().to_vec();
        let effects = net_effects(&body, point, &tables)?;
        let (mut all, mut nothing) = (true, true);
        for ((table, _), effect) in &effects {
            let shape = &tables[*table].shape;
            let stored = stored_row(self.db, shape, &effect.key)?;
            all &= stored == effect.after;
            nothing &= stored == effect.before;
        }
        Ok(match (all, nothing) {
            (true, _) => Kept::All,
            (false, true) => Kept::Nothing,
            (false, false) => Kept::Some,
        })
    }
}

fn transaction_ended() -> Error {
    Error::invalid("TRANSACTION_ENDED", "the statement ended the whole transaction")
}

enum Kept {
    All,
    Nothing,
    Some,
}

/// What a statement did to one row, from its first touch to its last.
struct Effect {
    key: Vec<Value>,
    before: Option<Vec<Value>>,
    after: Option<Vec<Value>>,
}

type Effects = HashMap<(usize, String), Effect>;

fn net_effects(
    body: &[u8],
    point: &Point,
    tables: &[std::sync::Arc<CapturedTable>],
) -> Result<Effects> {
    let mut reader = BodyReader::resume(point.declared_tables());
    let mut decoder = Decoder(body);
    let mut effects = Effects::new();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    while let Some(change) = reader.next(&mut decoder)? {
        let Change::Row(row) = change else { continue };
        row.values(&mut before, &mut after)?;
        let shape = &tables[row.table].shape;
        for (image, values, is_after) in [(row.before, &before, false), (row.after, &after, true)] {
            let Some(image) = image else { continue };
            let key = key_of(shape, image.rowid, values);
            let row_values: Vec<Value> = values.iter().map(|v| ValueRef::to_owned(*v)).collect();
            note(&mut effects, row.table, key, row_values, is_after);
        }
    }
    Ok(effects)
}

fn note(effects: &mut Effects, table: usize, key: Vec<Value>, values: Vec<Value>, is_after: bool) {
    let id = (table, format!("{key:?}"));
    match effects.get_mut(&id) {
        Some(effect) => effect.after = is_after.then_some(values),
        None if is_after => {
            effects.insert(id, Effect { key, before: None, after: Some(values) });
        }
        None => {
            effects.insert(id, Effect { key, before: Some(values), after: None });
        }
    }
}

fn key_of(shape: &TableShape, rowid: Option<i64>, values: &[ValueRef<'_>]) -> Vec<Value> {
    if let Some(rowid) = rowid {
        return vec![Value::Integer(rowid)];
    }
    let stored: Vec<usize> = shape.stored_columns().map(|(i, _)| i).collect();
    let place = |column: &usize| stored.iter().position(|i| i == column).expect("keys are stored");
    key_columns(shape).iter().map(|column| values[place(column)].to_owned()).collect()
}

fn stored_row(db: Db, shape: &TableShape, key: &[Value]) -> Result<Option<Vec<Value>>> {
    let columns: Vec<String> = match shape.keyed_by_rowid() {
        true => vec![rowid_name(shape).expect("checked").to_owned()],
        false => key_columns(shape).iter().map(|i| quote(&shape.columns[*i].name)).collect(),
    };
    let condition: Vec<String> =
        // The first finds the row by its index; the second sees a difference that the key does not.
        columns
            .iter()
            .enumerate()
            .map(|(i, c)| format!("{c} = ?{n} AND {c} = ?{n} COLLATE BINARY", n = i + 1))
            .collect();
    let select = select_rows(shape).replace(" NOT INDEXED", "");
    let sql = format!("{select} WHERE {}", condition.join(" AND "));
    let skip = usize::from(shape.keyed_by_rowid());
    let args: Vec<ValueRef<'_>> = key.iter().map(Value::as_ref).collect();
    let mut found = None;
    db.query(&sql, &args, |row| {
        let values = (skip..row.columns()).map(|i| Ok(row.value(i)?.to_owned()));
        found = Some(values.collect::<Result<Vec<_>>>()?);
        Ok(())
    })?;
    Ok(found)
}
