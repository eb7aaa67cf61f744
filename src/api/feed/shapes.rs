//! What columns a table had at a commit.
//!
//! Commits carry values by place; names are the schema's. A feed may begin long before the schema of
//! today, so the schema of its beginning is won by taking the steps since then back, and from there it
//! follows the steps as they come. Columns are read from a scratch database that is given the table's
//! own CREATE statement, so that nothing here has to understand SQL.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use crate::change::{BodyReader, Change, Decoder, Object, ObjectKind, Position, SchemaStep};
use crate::engine::Database;
use crate::error::{Error, Kind, Result};

/// Commits are scanned for schema steps in pieces of this many bytes.
const SCAN: usize = 4 << 20;

/// The stored columns of a table, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// Names, in the order of a row's values.
    pub names: Vec<String>,
    /// Places of the key's columns among them, in key order.
    pub key: Vec<usize>,
}

/// The tables as they were at some commit.
#[derive(Debug)]
pub(super) struct Shapes {
    /// CREATE statements by table.
    tables: HashMap<String, String>,
    known: HashMap<String, Option<Arc<Columns>>>,
}

impl Shapes {
    /// The tables among `objects`.
    pub fn new(objects: &[Object]) -> Shapes {
        let mut shapes = Shapes { tables: HashMap::new(), known: HashMap::new() };
        for object in objects {
            shapes.put(object);
        }
        shapes
    }

    /// The tables of `database` as they were at `after`. Blocks on storage.
    pub fn at(database: &Database, after: Position) -> Result<Shapes> {
        let (now, objects) = database.schema()?;
        let mut steps = Vec::new();
        let mut at = after;
        while at.version < now.version {
            let commits = database.changes_after(at, SCAN)?;
            let Some(last) = commits.last() else { break };
            at = last.position();
            for commit in commits.iter().filter(|commit| commit.version() <= now.version) {
                let mut reader = BodyReader::default();
                database.commit_body(commit, &mut |part| {
                    let mut decoder = Decoder(part);
                    while let Some(change) = reader.next(&mut decoder)? {
                        if let Change::Schema(step) = change {
                            steps.push(step);
                        }
                    }
                    Ok(())
                })?;
            }
        }
        let mut shapes = Shapes::new(&objects);
        steps.iter().rev().for_each(|step| shapes.take_back(step));
        Ok(shapes)
    }

    /// Follows a step.
    pub fn follow(&mut self, step: &SchemaStep) {
        match step {
            SchemaStep::Create(object) => self.put(object),
            SchemaStep::Drop(object) => self.remove(object),
            SchemaStep::Alter { objects, .. } => {
                objects.iter().for_each(|(before, _)| self.remove(before));
                objects.iter().for_each(|(_, after)| self.put(after));
            }
        }
    }

    fn take_back(&mut self, step: &SchemaStep) {
        match step {
            SchemaStep::Create(object) => self.remove(object),
            SchemaStep::Drop(object) => self.put(object),
            SchemaStep::Alter { objects, .. } => {
                objects.iter().for_each(|(_, after)| self.remove(after));
                objects.iter().for_each(|(before, _)| self.put(before));
            }
        }
    }

    fn put(&mut self, object: &Object) {
        if object.kind == ObjectKind::Table {
            self.known.remove(&object.name);
            self.tables.insert(object.name.clone(), object.sql.clone());
        }
    }

    fn remove(&mut self, object: &Object) {
        if object.kind == ObjectKind::Table {
            self.known.remove(&object.name);
            self.tables.remove(&object.name);
        }
    }

    /// The columns of `table`; none if its rows do not say, or it is not there.
    pub fn columns(&mut self, table: &str) -> Option<Arc<Columns>> {
        if let Some(known) = self.known.get(table) {
            return known.clone();
        }
        let read = self.tables.get(table).and_then(|sql| read_columns(table, sql).ok());
        let read = read.map(Arc::new);
        self.known.insert(table.to_owned(), read.clone());
        read
    }
}

/// Lets SQLite itself say what columns `sql` makes.
fn read_columns(table: &str, sql: &str) -> Result<Columns> {
    let failed = |error: rusqlite::Error| {
        Error::new(Kind::Corrupt, "SCHEMA_UNREADABLE", format!("table {table:?} cannot be read"))
            .source(error)
    };
    let scratch = Connection::open_in_memory().map_err(failed)?;
    scratch.execute_batch(sql).map_err(failed)?;
    let mut columns =
        scratch.prepare("SELECT name, pk, hidden FROM pragma_table_xinfo(?1)").map_err(failed)?;
    let rows = columns
        .query_map([table], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        .map_err(failed)?;
    let mut names: Vec<String> = Vec::new();
    let mut key = Vec::new();
    for row in rows {
        let (name, place, hidden) = row.map_err(failed)?;
        // Generated and hidden columns are neither stored nor shipped.
        if hidden != 0 {
            continue;
        }
        if place > 0 {
            key.push((place, names.len()));
        }
        names.push(name);
    }
    key.sort_unstable();
    Ok(Columns { names, key: key.into_iter().map(|(_, at)| at).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, sql: &str) -> Object {
        Object { kind: ObjectKind::Table, name: name.into(), table: name.into(), sql: sql.into() }
    }

    #[test]
    fn columns_are_those_that_are_stored() {
        let sql = r#"CREATE TABLE "a b"(x, y AS (x+1), z TEXT, "q""" INT,
                     PRIMARY KEY(z, x), FOREIGN KEY(x) REFERENCES not_there(y)) WITHOUT ROWID"#;
        let columns = Shapes::new(&[table("a b", sql)]).columns("a b").unwrap();
        assert_eq!(columns.names, ["x", "z", "q\""]);
        assert_eq!(columns.key, [1, 0]);
    }

    #[test]
    fn steps_are_followed_and_taken_back() {
        let first = table("t", "CREATE TABLE t(id INTEGER PRIMARY KEY, a)");
        let added = table("t", "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)");
        let renamed = table("u", "CREATE TABLE \"u\"(id INTEGER PRIMARY KEY, a, b)");
        let alter = |before: &Object, after: &Object| SchemaStep::Alter {
            objects: vec![(before.clone(), after.clone())],
            dropped_column: None,
        };
        let steps = [
            SchemaStep::Create(first.clone()),
            alter(&first, &added),
            alter(&added, &renamed),
            SchemaStep::Drop(renamed.clone()),
        ];
        let mut shapes = Shapes::new(&[]);
        let names = |shapes: &mut Shapes, table: &str| shapes.columns(table).map(|c| c.names.len());
        for (step, t, u) in
            [(0, Some(2), None), (1, Some(3), None), (2, None, Some(3)), (3, None, None)]
        {
            shapes.follow(&steps[step]);
            assert_eq!((names(&mut shapes, "t"), names(&mut shapes, "u")), (t, u), "after {step}");
        }
        for (step, t, u) in
            [(3, None, Some(3)), (2, Some(3), None), (1, Some(2), None), (0, None, None)]
        {
            shapes.take_back(&steps[step]);
            assert_eq!((names(&mut shapes, "t"), names(&mut shapes, "u")), (t, u), "before {step}");
        }
    }

    #[test]
    fn a_table_that_cannot_be_read_has_no_names() {
        let mut shapes = Shapes::new(&[table("t", "CREATE TABLE t(a CHECK (nonsense(a)))")]);
        assert_eq!(shapes.columns("t").map(|c| c.names.clone()), None);
        assert_eq!(shapes.columns("gone"), None);
    }
}
