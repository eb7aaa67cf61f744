//! Writing rows into a SQLite file.
//!
//! Every statement says `OR ABORT`: a table may be declared with `ON CONFLICT REPLACE`, which would remove an equal
//! row that is in the way of another one, or with `IGNORE`, which would drop the new one without a word.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use rusqlite::{params, params_from_iter};

use super::read::{self, Bound, Lookup};
use super::{failed, is_taken, quoted};
use crate::change::{Digest, Value};
use crate::endpoint::{Applied, Batch, Key, Plan, PlannedColumn, Row, Type, canon};
use crate::error::{Error, Result};

const STATE: &str =
    "CREATE TABLE IF NOT EXISTS _syncline_sync (name TEXT PRIMARY KEY, value TEXT NOT NULL)";

/// Applies a batch; where unique values change places among its rows, in a second way.
pub(super) fn apply(connection: &mut Connection, batch: &Batch<'_>) -> Result<Applied> {
    let applied = match apply_in(connection, batch, Way::InPlace) {
        Err(Failed::Sqlite(error)) if is_taken(&error) && batch.puts.len() > 1 => {
            apply_in(connection, batch, Way::AsideFirst)
        }
        applied => applied,
    };
    applied.map_err(Failed::into_error)
}

/// How rows that differ are brought up to date.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// One after another.
    InPlace,
    /// All of them are taken out first, and put back as they must be: their unique values may have changed
    /// places.
    AsideFirst,
}

enum Failed {
    Sqlite(rusqlite::Error),
    Ours(Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        Failed::Sqlite(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Ours(error)
    }
}

impl Failed {
    fn into_error(self) -> Error {
        match self {
            Failed::Sqlite(error) => failed(error),
            Failed::Ours(error) => error,
        }
    }
}

fn apply_in(connection: &mut Connection, batch: &Batch<'_>, way: Way) -> Result<Applied, Failed> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut applied = Applied::default();
    // Deletes come first: a row that is put may need a unique value of one that goes.
    delete(&transaction, batch.plan, batch.deletes, &mut applied)?;
    put(&transaction, batch.plan, batch.puts, way, &mut applied)?;
    keep_state(&transaction, batch.state)?;
    transaction.commit()?;
    Ok(applied)
}

/// Writes the rows of a batch that are not so already.
fn put(
    transaction: &Transaction<'_>,
    plan: &Plan,
    puts: &[(Key, Row)],
    way: Way,
    applied: &mut Applied,
) -> Result<(), Failed> {
    let insert = Writer::new(plan, insert_sql(plan));
    let update = Writer::new(plan, update_sql(plan));
    let mut lookup = Lookup::new(transaction, plan)?;
    let mut aside = Vec::new();
    for (key, row) in puts {
        let there = match plan.is_multiset() {
            true => None,
            false => lookup.find(key)?,
        };
        if there.as_ref() == Some(row) {
            applied.equal += 1;
            continue;
        }
        let values = to_store(plan, row)?;
        match there {
            Some(_) => applied.updated += 1,
            None => applied.inserted += 1,
        }
        match (there, way) {
            (there, Way::AsideFirst) => {
                let old = there.map(|_| take_out(transaction, plan, &values)).transpose()?;
                aside.push((values, old, row));
            }
            (None, Way::InPlace) => insert.write(transaction, &values, row)?,
            (Some(_), Way::InPlace) => update.write(transaction, &values, row)?,
        }
    }
    for (values, old, row) in aside {
        match old {
            None => insert.write(transaction, &values, row)?,
            Some(old) => old.put_back(transaction, plan, values, row)?,
        };
    }
    Ok(())
}

/// A statement that writes one row.
struct Writer<'a> {
    plan: &'a Plan,
    plain: String,
    /// It gives back what the file keeps of the row, which takes longer.
    checked: String,
    keeps: Vec<Keeps>,
}

impl<'a> Writer<'a> {
    fn new(plan: &'a Plan, plain: String) -> Writer<'a> {
        let checked = format!("{plain} RETURNING {}", read::listed(plan));
        let keeps = plan.columns.iter().map(Keeps::of).collect();
        Writer { plan, plain, checked, keeps }
    }

    /// Writes a row, and sees that what the file keeps of it is what was asked: SQLite makes NULL of NaN, and a
    /// number of text in a column of numbers.
    fn write(
        &self,
        transaction: &Transaction<'_>,
        values: &[Value],
        wanted: &[u8],
    ) -> Result<(), Failed> {
        if self.keeps.iter().zip(values).all(|(column, value)| column.keeps(value)) {
            let mut statement = transaction.prepare_cached(&self.plain)?;
            statement.execute(params_from_iter(values.iter().map(Bound)))?;
            return Ok(());
        }
        self.write_checked(transaction, values, wanted)
    }

    fn write_checked(
        &self,
        transaction: &Transaction<'_>,
        values: &[Value],
        wanted: &[u8],
    ) -> Result<(), Failed> {
        let mut statement = transaction.prepare_cached(&self.checked)?;
        let mut written = statement.query(params_from_iter(values.iter().map(Bound)))?;
        let mut renderer = read::Renderer::new(self.plan);
        while let Some(row) = written.next()? {
            let kept = renderer.render_sql(row)?.1;
            if kept != wanted {
                return Err(Failed::Ours(altered(self.plan, kept, wanted)?));
            }
        }
        Ok(())
    }
}

/// What a column certainly keeps as it is, besides NULL and blobs.
#[derive(Clone, Copy, PartialEq)]
enum Keeps {
    Integers,
    Reals,
    Texts,
    /// It may make one of another, or this does not know.
    Unsure,
}

impl Keeps {
    /// By SQLite's rules for the affinity of a declared type.
    fn of(column: &PlannedColumn) -> Keeps {
        let declared = column.declared.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
        match () {
            () if has(&["INT"]) => Keeps::Integers,
            () if has(&["CHAR", "CLOB", "TEXT"]) => Keeps::Texts,
            () if has(&["BLOB"]) => Keeps::Unsure,
            () if has(&["REAL", "FLOA", "DOUB"]) => Keeps::Reals,
            () => Keeps::Unsure,
        }
    }

    fn keeps(self, value: &Value) -> bool {
        match value {
            Value::Null | Value::Blob(_) => true,
            Value::Integer(_) => self == Keeps::Integers,
            Value::Real(r) => self == Keeps::Reals && !r.is_nan(),
            Value::Text(_) => self == Keeps::Texts,
        }
    }
}

/// Why a row is refused of which the file would keep something else.
fn altered(plan: &Plan, kept: &[u8], wanted: &[u8]) -> Result<Error> {
    let (kept, wanted) = (plan.values(kept)?, plan.values(wanted)?);
    let differ = kept.iter().zip(&wanted).map(|(kept, wanted)| kept != wanted);
    let differing = plan.columns.iter().zip(differ).filter(|(_, differs)| *differs);
    let columns: Vec<String> =
        differing.map(|(column, _)| format!("{} ({})", column.name, column.declared)).collect();
    let what =
        format!("{}: SQLite would keep another value in {}", plan.table, columns.join(" and "));
    Ok(Error::invalid("ROW_REFUSED", what)
        .hint("NaN has no place in SQLite, nor has text like 007 in a column of numbers"))
}

/// A row that was taken out, with the columns that nobody compares.
struct Aside {
    names: Vec<String>,
    values: Vec<Value>,
}

fn take_out(transaction: &Transaction<'_>, plan: &Plan, values: &[Value]) -> Result<Aside, Failed> {
    let (table, condition) = (quoted(&plan.table), key_condition(plan));
    let names = stored_columns(transaction, &plan.table)?;
    let sql = format!("SELECT {} FROM {table} WHERE {condition}", list(&names));
    let key = &values[..plan.key];
    let mut select = transaction.prepare_cached(&sql)?;
    let values = select.query_row(params_from_iter(key.iter().map(Bound)), |row| {
        (0..names.len()).map(|i| row.get_ref(i).map(|v| read::value(v).to_owned())).collect()
    })?;
    let delete = format!("DELETE FROM {table} WHERE {condition}");
    transaction.prepare_cached(&delete)?.execute(params_from_iter(key.iter().map(Bound)))?;
    Ok(Aside { names, values })
}

impl Aside {
    /// Puts the row back, with these values in the plan's columns.
    fn put_back(
        mut self,
        transaction: &Transaction<'_>,
        plan: &Plan,
        values: Vec<Value>,
        wanted: &[u8],
    ) -> Result<(), Failed> {
        for (column, value) in plan.columns.iter().zip(values) {
            let place = self.names.iter().position(|name| *name == column.name);
            self.values[place.expect("the table has the plan's columns")] = value;
        }
        let places = vec!["?"; self.names.len()].join(", ");
        let sql = format!(
            "INSERT OR ABORT INTO {} ({}) VALUES ({places})",
            quoted(&plan.table),
            list(&self.names)
        );
        Writer::new(plan, sql).write_checked(transaction, &self.values, wanted)
    }
}

/// The columns that hold values of their own.
fn stored_columns(transaction: &Transaction<'_>, table: &str) -> Result<Vec<String>, Failed> {
    let sql = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0";
    let mut select = transaction.prepare_cached(sql)?;
    let names = select.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// The one row whose key is bound first. The column's own collation may take others for it, but has the index.
fn key_condition(plan: &Plan) -> String {
    let of_key = plan.columns[..plan.key].iter().enumerate().map(|(i, column)| {
        let (name, n) = (quoted(&column.name), i + 1);
        format!("{name} IS ?{n} AND {name} COLLATE BINARY IS ?{n}")
    });
    of_key.collect::<Vec<_>>().join(" AND ")
}

fn insert_sql(plan: &Plan) -> String {
    let names: Vec<String> = plan.columns.iter().map(|column| column.name.clone()).collect();
    let places = vec!["?"; names.len()].join(", ");
    format!("INSERT OR ABORT INTO {} ({}) VALUES ({places})", quoted(&plan.table), list(&names))
}

fn update_sql(plan: &Plan) -> String {
    let columns = plan.columns.iter().enumerate();
    let set = columns.map(|(i, column)| format!("{} = ?{}", quoted(&column.name), i + 1));
    let set = set.collect::<Vec<_>>().join(", ");
    format!("UPDATE OR ABORT {} SET {set} WHERE {}", quoted(&plan.table), key_condition(plan))
}

/// The values of a canonical row as this file's columns keep them.
fn to_store(plan: &Plan, row: &[u8]) -> Result<Vec<Value>, Failed> {
    let values = plan.values(row)?;
    Ok(values
        .into_iter()
        .zip(&plan.columns)
        .map(|(value, column)| keep_as(value, column))
        .collect())
}

fn keep_as(value: Value, column: &PlannedColumn) -> Value {
    let is_declared = |parts: [&str; 2]| {
        let declared = column.declared.to_ascii_uppercase();
        parts.iter().any(|part| declared.contains(part))
    };
    match (&value, column.agreed) {
        (Value::Text(id), Type::Uuid) if is_declared(["BLOB", "BINARY"]) => {
            let hex = id.replace('-', "");
            let bytes = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16));
            bytes.collect::<Result<_, _>>().map_or(value, Value::Blob)
        }
        (Value::Blob(bytes), Type::Bytes) if is_declared(["TEXT", "CHAR"]) => {
            String::from_utf8(bytes.clone()).map_or(value, Value::Text)
        }
        _ => value,
    }
}

fn delete(
    transaction: &Transaction<'_>,
    plan: &Plan,
    keys: &[Key],
    applied: &mut Applied,
) -> Result<(), Failed> {
    if plan.is_multiset() {
        return delete_multiset(transaction, plan, keys, applied);
    }
    let sql = format!("DELETE FROM {} WHERE {}", quoted(&plan.table), key_condition(plan));
    let mut delete = transaction.prepare_cached(&sql)?;
    let mut lookup = Lookup::new(transaction, plan)?;
    for key in keys {
        let Some(row) = lookup.find(key)? else { continue };
        let values = to_store(plan, &row)?;
        applied.deleted +=
            delete.execute(params_from_iter(values[..plan.key].iter().map(Bound)))? as u64;
    }
    Ok(())
}

/// Of equal rows it does not matter which ones go, only how many of them are there.
fn delete_multiset(
    transaction: &Transaction<'_>,
    plan: &Plan,
    keys: &[Key],
    applied: &mut Applied,
) -> Result<(), Failed> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut doomed: HashMap<Digest, Vec<u32>> = HashMap::new();
    for key in keys {
        let (hash, nth) = canon::split_multiset_key(key)?;
        doomed.entry(hash).or_default().push(nth);
    }
    let there = read::rowids(transaction, plan, |hash| doomed.contains_key(&hash))?;
    let sql = format!("DELETE FROM {} WHERE rowid = ?", quoted(&plan.table));
    let mut delete = transaction.prepare_cached(&sql)?;
    for (hash, nths) in doomed {
        let Some(rowids) = there.get(&hash) else { continue };
        for rowid in nths.iter().filter_map(|nth| rowids.get(*nth as usize)) {
            applied.deleted += delete.execute([rowid])? as u64;
        }
    }
    Ok(())
}

fn keep_state(
    transaction: &Transaction<'_>,
    state: &[(String, Option<String>)],
) -> Result<(), Failed> {
    if state.is_empty() {
        return Ok(());
    }
    transaction.execute_batch(STATE)?;
    for (name, value) in state {
        match value {
            Some(value) => transaction
                .prepare_cached("INSERT INTO _syncline_sync VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2")?
                .execute(params![name, value])?,
            None => transaction.prepare_cached("DELETE FROM _syncline_sync WHERE name = ?")?.execute([name])?,
        };
    }
    Ok(())
}

/// The entries of the state whose names begin so.
pub(super) fn state(connection: &Connection, prefix: &str) -> Result<Vec<(String, String)>> {
    let is_there = "SELECT 1 FROM sqlite_schema WHERE name = '_syncline_sync'";
    if connection.query_row(is_there, [], |_| Ok(())).optional().map_err(failed)?.is_none() {
        return Ok(Vec::new());
    }
    let sql = "SELECT name, value FROM _syncline_sync WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name";
    let mut select = connection.prepare_cached(sql).map_err(failed)?;
    let entries =
        select.query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failed)?;
    entries.collect::<Result<_, _>>().map_err(failed)
}
