//! The statements that change one row of a copy, prepared once a table.
//!
//! They name a row by its key, and always say OR ABORT: a conflict clause in the table's definition must
//! not make a copy do what its source did not. An update of a row whose key stays leaves the key's index
//! alone. Left out: any look at the values. What does not fit, SQLite refuses, or the digest shows.

use std::collections::HashMap;

use super::capture::key_columns;
use super::raw::{Db, Stmt};
use super::schema::{quote, rowid_name};
use crate::change::{TableShape, ValueRef};
use crate::error::Result;

/// The statements that change one table's rows.
pub(crate) struct TableStatements {
    /// How many values a row has.
    pub stored: usize,
    /// Whether the rowid is its key.
    pub by_rowid: bool,
    keys: Vec<usize>,
    pub insert: Stmt,
    delete: Stmt,
    /// Updates that leave the key alone: SQLite then leaves the key's index alone too.
    update: Option<Stmt>,
    update_key: Stmt,
}

/// Prepared statements by table; empty again after a schema step.
#[derive(Default)]
pub(crate) struct Appliers {
    all: Vec<TableStatements>,
    by_name: HashMap<String, usize>,
}

impl Appliers {
    /// Forgets them: the schema is another.
    pub fn clear(&mut self) {
        self.by_name.clear();
        self.all.clear();
    }

    /// Those of a table, prepared before or now.
    pub fn of(
        &mut self,
        name: &str,
        prepare: impl FnOnce() -> Result<TableStatements>,
    ) -> Result<&mut TableStatements> {
        let place = match self.by_name.get(name) {
            Some(place) => *place,
            None => {
                self.all.push(prepare()?);
                self.by_name.insert(name.to_owned(), self.all.len() - 1);
                self.all.len() - 1
            }
        };
        Ok(&mut self.all[place])
    }
}

fn list(columns: impl IntoIterator<Item = String>, between: &str) -> String {
    columns.into_iter().collect::<Vec<_>>().join(between)
}

impl TableStatements {
    /// Prepares them.
    pub fn new(db: Db, shape: &TableShape) -> Result<TableStatements> {
        let rowid = shape.keyed_by_rowid().then(|| rowid_name(shape).expect("checked").to_owned());
        let key_of = key_columns(shape);
        let stored: Vec<(usize, String)> =
            shape.stored_columns().map(|(i, c)| (i, quote(&c.name))).collect();
        let names: Vec<String> =
            rowid.iter().cloned().chain(stored.iter().map(|(_, n)| n.clone())).collect();
        let keys: Vec<usize> = match &rowid {
            Some(_) => vec![0],
            None => key_of
                .iter()
                .map(|k| stored.iter().position(|(i, _)| i == k).expect("keys are stored"))
                .collect(),
        };
        let table = quote(&shape.name);
        let n = names.len();
        let marks = list((1..=n).map(|i| format!("?{i}")), ", ");
        let insert =
            format!("INSERT OR ABORT INTO main.{table} ({}) VALUES ({marks})", names.join(", "));
        let condition = |offset: usize| {
            list(
                keys.iter()
                    .enumerate()
                    .map(|(i, k)| format!("{} = ?{}", names[*k], offset + i + 1)),
                " AND ",
            )
        };
        let set = |columns: &[usize]| {
            list(columns.iter().map(|c| format!("{} = ?{}", names[*c], c + 1)), ", ")
        };
        let all: Vec<usize> = (0..n).collect();
        let plain: Vec<usize> = all.iter().copied().filter(|c| !keys.contains(c)).collect();
        let update = |columns: &[usize]| {
            format!("UPDATE OR ABORT main.{table} SET {} WHERE {}", set(columns), condition(n))
        };
        Ok(TableStatements {
            stored: stored.len(),
            by_rowid: shape.keyed_by_rowid(),
            insert: db.prepare(&insert)?,
            delete: db.prepare(&format!("DELETE FROM main.{table} WHERE {}", condition(0)))?,
            update: (!plain.is_empty()).then(|| db.prepare(&update(&plain))).transpose()?,
            update_key: db.prepare(&update(&all))?,
            keys,
        })
    }

    pub fn run_delete(&mut self, old: &[ValueRef<'_>]) -> Result<()> {
        let key: Vec<ValueRef<'_>> = self.keys.iter().map(|k| old[*k]).collect();
        self.delete.execute(&key)
    }

    pub fn run_update<'a>(&mut self, old: &[ValueRef<'a>], new: Vec<ValueRef<'a>>) -> Result<()> {
        let same_key = self.keys.iter().all(|k| old[*k] == new[*k]);
        let mut args = new;
        args.extend(self.keys.iter().map(|k| old[*k]));
        match self.update.as_mut().filter(|_| same_key) {
            Some(update) => update.execute(&args),
            None => self.update_key.execute(&args),
        }
    }

    /// Values as the statements number them: the rowid first, if it is the key.
    pub fn numbered<'a>(rowid: Option<i64>, values: &[ValueRef<'a>]) -> Vec<ValueRef<'a>> {
        rowid.map(ValueRef::Integer).into_iter().chain(values.iter().copied()).collect()
    }
}
