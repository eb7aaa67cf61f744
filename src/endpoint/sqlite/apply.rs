//! Writing rows into a SQLite file.

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};
use rusqlite::{params, params_from_iter};

use super::read::{self, Bound};
use super::{failed, quoted};
use crate::change::Value;
use crate::endpoint::{Applied, Batch, Key, Plan, PlannedColumn, Row, Type};
use crate::error::Result;

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
    Ours(crate::error::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        Failed::Sqlite(error)
    }
}

impl From<crate::error::Error> for Failed {
    fn from(error: crate::error::Error) -> Failed {
        Failed::Ours(error)
    }
}

impl Failed {
    fn into_error(self) -> crate::error::Error {
        match self {
            Failed::Sqlite(error) => failed(error),
            Failed::Ours(error) => error,
        }
    }
}

fn is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

fn apply_in(connection: &mut Connection, batch: &Batch<'_>, way: Way) -> Result<Applied, Failed> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut applied = Applied::default();
    let plan = batch.plan;
    if plan.is_multiset() {
        put_multiset(&transaction, plan, batch.puts, &mut applied)?;
        delete_multiset(&transaction, plan, batch.deletes, &mut applied)?;
    } else {
        put(&transaction, plan, batch.puts, way, &mut applied)?;
        delete(&transaction, plan, batch.deletes, &mut applied)?;
    }
    keep_state(&transaction, batch.state)?;
    transaction.commit()?;
    Ok(applied)
}

/// The rows of a batch that must be written: which, and whether they are there.
fn put(
    transaction: &Transaction<'_>,
    plan: &Plan,
    puts: &[(Key, Row)],
    way: Way,
    applied: &mut Applied,
) -> Result<(), Failed> {
    let mut insert = transaction.prepare_cached(&insert_sql(plan))?;
    let mut update = transaction.prepare_cached(&update_sql(plan))?;
    let mut aside = Vec::new();
    for (key, row) in puts {
        let there = stored(transaction, plan, key)?;
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
                aside.push((values, old));
            }
            (None, Way::InPlace) => {
                insert.execute(params_from_iter(values.iter().map(Bound)))?;
            }
            (Some(_), Way::InPlace) => {
                let key = &values[..plan.key];
                update.execute(params_from_iter(values.iter().chain(key).map(Bound)))?;
            }
        }
    }
    for (values, old) in aside {
        match old {
            None => insert.execute(params_from_iter(values.iter().map(Bound)))?,
            Some(old) => old.put_back(transaction, plan, values)?,
        };
    }
    Ok(())
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
    ) -> Result<usize, Failed> {
        for (column, value) in plan.columns.iter().zip(values) {
            let place = self.names.iter().position(|name| *name == column.name);
            self.values[place.expect("the table has the plan's columns")] = value;
        }
        let places = vec!["?"; self.names.len()].join(", ");
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({places})",
            quoted(&plan.table),
            list(&self.names)
        );
        Ok(transaction
            .prepare_cached(&sql)?
            .execute(params_from_iter(self.values.iter().map(Bound)))?)
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

fn key_condition(plan: &Plan) -> String {
    let of_key = plan.columns[..plan.key].iter();
    of_key.map(|column| format!("{} IS ?", quoted(&column.name))).collect::<Vec<_>>().join(" AND ")
}

fn insert_sql(plan: &Plan) -> String {
    let names: Vec<String> = plan.columns.iter().map(|column| column.name.clone()).collect();
    let places = vec!["?"; names.len()].join(", ");
    format!("INSERT INTO {} ({}) VALUES ({places})", quoted(&plan.table), list(&names))
}

fn update_sql(plan: &Plan) -> String {
    let set = plan.columns.iter().map(|column| format!("{} = ?", quoted(&column.name)));
    let set = set.collect::<Vec<_>>().join(", ");
    format!("UPDATE {} SET {set} WHERE {}", quoted(&plan.table), key_condition(plan))
}

/// The row with this key, as it is now; also one that the filter would not show.
fn stored(transaction: &Transaction<'_>, plan: &Plan, key: &Key) -> Result<Option<Row>, Failed> {
    let mut there = None;
    read::stored(transaction, plan, key, &mut |_, row| {
        there = Some(row.to_vec());
        Ok(())
    })?;
    Ok(there)
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
    let declared = column.declared.to_ascii_uppercase();
    match (&value, column.agreed) {
        (Value::Text(id), Type::Uuid)
            if declared.contains("BLOB") || declared.contains("BINARY") =>
        {
            let hex = id.replace('-', "");
            let bytes = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16));
            bytes.collect::<Result<_, _>>().map_or(value, Value::Blob)
        }
        (Value::Blob(bytes), Type::Bytes)
            if declared.contains("TEXT") || declared.contains("CHAR") =>
        {
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
    for key in keys {
        let Some(row) = stored(transaction, plan, key)? else { continue };
        let values = to_store(plan, &row)?;
        let sql = format!("DELETE FROM {} WHERE {}", quoted(&plan.table), key_condition(plan));
        let mut delete = transaction.prepare_cached(&sql)?;
        applied.deleted +=
            delete.execute(params_from_iter(values[..plan.key].iter().map(Bound)))? as u64;
    }
    Ok(())
}

fn put_multiset(
    transaction: &Transaction<'_>,
    plan: &Plan,
    puts: &[(Key, Row)],
    applied: &mut Applied,
) -> Result<(), Failed> {
    let mut insert = transaction.prepare_cached(&insert_sql(plan))?;
    for (_, row) in puts {
        insert.execute(params_from_iter(to_store(plan, row)?.iter().map(Bound)))?;
        applied.inserted += 1;
    }
    Ok(())
}

/// Of equal rows it does not matter which ones go.
fn delete_multiset(
    transaction: &Transaction<'_>,
    plan: &Plan,
    keys: &[Key],
    applied: &mut Applied,
) -> Result<(), Failed> {
    if keys.is_empty() {
        return Ok(());
    }
    let table = quoted(&plan.table);
    let same = plan.columns.iter().enumerate().map(|(i, column)| {
        let (name, n) = (quoted(&column.name), i + 1);
        match column.agreed {
            Type::Stored => {
                format!("{name} COLLATE BINARY IS ?{n} AND typeof({name}) = typeof(?{n})")
            }
            _ => format!("{name} COLLATE BINARY IS ?{n}"),
        }
    });
    let condition = same.collect::<Vec<_>>().join(" AND ");
    let sql = format!(
        "DELETE FROM {table} WHERE rowid = (SELECT rowid FROM {table} WHERE {condition} LIMIT 1)"
    );
    let mut doomed = Vec::new();
    read::keys(transaction, plan, keys, &mut |_, row| {
        doomed.push(row.to_vec());
        Ok(())
    })?;
    let mut delete = transaction.prepare_cached(&sql)?;
    for row in doomed {
        let values = to_store(plan, &row)?;
        applied.deleted += delete.execute(params_from_iter(values.iter().map(Bound)))? as u64;
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
