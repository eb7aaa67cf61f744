//! A schema without rows: what a store on another engine asks about SQLite's tables.
//!
//! The texts of `sqlite_schema` are carried out in an empty database in memory, which then knows what no
//! reading of the texts would: shapes, keys, indexes, and what a default comes to. A schema step is
//! carried out here first, and the store compares the shapes before and after.
//!
//! Left out: virtual tables. They have an entry here, and nothing behind it.

use rusqlite::Connection;

use super::codes::from_rusqlite;
use super::raw::Db;
use super::schema::{self, Schema, quote};
use crate::change::{Object, SchemaStep, TableShape, Value, ValueRef};
use crate::error::Result;

/// A schema, and a database in memory that has it.
pub(crate) struct Catalogue {
    db: Db,
    _connection: Connection,
    schema: Schema,
}

impl Catalogue {
    /// Carries out the texts of a schema, in order.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Result<Catalogue> {
        let connection = Connection::open_in_memory().map_err(from_rusqlite)?;
        let db = Db::of(&connection);
        db.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON")?;
        let steps = objects.into_iter().map(|object| SchemaStep::Create(object.clone()));
        schema::with_writable_schema(db, || {
            steps.into_iter().try_for_each(|step| schema::carry_out(db, &step))
        })?;
        Ok(Catalogue { db, _connection: connection, schema: Schema::load(db)? })
    }

    /// Carries out a step.
    pub fn carry_out(&mut self, step: &SchemaStep) -> Result<()> {
        let db = self.db;
        schema::with_writable_schema(db, || schema::carry_out(db, step))?;
        self.schema = Schema::load(db)?;
        Ok(())
    }

    /// All objects, in the order in which they make the schema.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.schema.entries.iter().map(|entry| &entry.object)
    }

    /// Every table that has rows of its own.
    pub fn shapes(&self) -> impl Iterator<Item = &TableShape> {
        self.schema.shapes.values()
    }

    /// A table's shape.
    pub fn shape(&self, table: &str) -> Option<&TableShape> {
        self.schema.shapes.get(table)
    }

    /// Its unique keys beside its own.
    pub fn unique_keys(&self, shape: &TableShape) -> Result<Vec<Vec<usize>>> {
        schema::unique_keys(self.db, shape)
    }

    /// Whether an alteration leaves every stored value as it was, and adds none but NULL.
    pub fn keeps_values(&self, old: &TableShape, new: &TableShape) -> Result<bool> {
        schema::keeps_values(self.db, old, new)
    }

    /// What a column that was added reads as in the rows that were there before. A default that only an
    /// empty table may get is NULL: there are no such rows.
    pub fn default_of(&self, shape: &TableShape, column: usize) -> Result<Value> {
        let mut default = String::new();
        let sql = "SELECT dflt_value FROM pragma_table_xinfo(?1, 'main') WHERE cid = ?2";
        let args = [ValueRef::Text(&shape.name), ValueRef::Integer(column as i64)];
        self.db.query(sql, &args, |row| {
            default = row.text(0)?.to_owned();
            Ok(())
        })?;
        if default.is_empty() {
            return Ok(Value::Null);
        }
        // A word in double quotes is a text only without the brackets.
        let default = if default.starts_with('"') { default } else { format!("({default})") };
        let aside = Connection::open_in_memory().map_err(from_rusqlite)?;
        let db = Db::of(&aside);
        db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (0)")?;
        let (name, decltype) = (quote("b"), &shape.columns[column].decltype);
        let added = format!("ALTER TABLE t ADD COLUMN {name} {decltype} DEFAULT {default}");
        let mut value = Value::Null;
        if db.execute_batch(&added).is_ok() {
            db.query("SELECT b FROM t", &[], |row| {
                value = row.value(0)?.to_owned();
                Ok(())
            })?;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::ObjectKind;

    fn table(name: &str, sql: &str) -> Object {
        Object { kind: ObjectKind::Table, name: name.into(), table: name.into(), sql: sql.into() }
    }

    #[test]
    fn unique_keys_are_those_that_every_row_has() {
        let sql = "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT UNIQUE, c TEXT, d AS (c) UNIQUE, UNIQUE(c, b))";
        let mut catalogue = Catalogue::of([&table("t", sql)]).unwrap();
        let index = |name: &str, sql: &str| {
            SchemaStep::Create(Object {
                kind: ObjectKind::Index,
                name: name.into(),
                table: "t".into(),
                sql: sql.into(),
            })
        };
        for (name, sql) in [
            ("i", "CREATE UNIQUE INDEX i ON t(c)"),
            ("j", "CREATE UNIQUE INDEX j ON t(lower(c))"),
            ("k", "CREATE UNIQUE INDEX k ON t(c) WHERE b > 'x'"),
            ("l", "CREATE INDEX l ON t(c, b)"),
        ] {
            catalogue.carry_out(&index(name, sql)).unwrap();
        }
        let shape = catalogue.shape("t").unwrap();
        assert_eq!(catalogue.unique_keys(shape).unwrap(), [vec![1], vec![2], vec![2, 1]]);
        let keyless =
            Catalogue::of([&table("t", "CREATE TABLE t(a, b TEXT PRIMARY KEY)")]).unwrap();
        let keys = keyless.unique_keys(keyless.shape("t").unwrap()).unwrap();
        assert_eq!(keys, [vec![1]], "its primary key addresses no row");
        let keyed = Catalogue::of([&table("t", "CREATE TABLE t(b TEXT PRIMARY KEY NOT NULL)")]);
        let keyed = keyed.unwrap();
        assert!(keyed.unique_keys(keyed.shape("t").unwrap()).unwrap().is_empty());
    }

    #[test]
    fn a_default_is_what_sqlite_makes_of_it() {
        let sql = "CREATE TABLE t(a, b TEXT DEFAULT 5, c INTEGER DEFAULT '7', d REAL DEFAULT 1, \
                   e NUMERIC(4, 2) DEFAULT 0.50, f DATE DEFAULT CURRENT_DATE, g TEXT DEFAULT \"word\", \
                   h BLOB DEFAULT x'00', i INT DEFAULT -3, j TEXT DEFAULT 'it''s', k INT DEFAULT NULL)";
        let catalogue = Catalogue::of([&table("t", sql)]).unwrap();
        let shape = catalogue.shape("t").unwrap();
        let text = |text: &str| Value::Text(text.to_owned());
        let expected = [
            Value::Null,
            text("5"),
            Value::Integer(7),
            Value::Real(1.0),
            Value::Real(0.5),
            Value::Null,
            text("word"),
            Value::Blob(vec![0]),
            Value::Integer(-3),
            text("it's"),
            Value::Null,
        ];
        for (column, expected) in expected.into_iter().enumerate() {
            assert_eq!(catalogue.default_of(shape, column).unwrap(), expected, "column {column}");
        }
    }
}
