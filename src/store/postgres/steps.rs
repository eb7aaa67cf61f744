//! Schema steps: carried out in the catalogue first, then on PostgreSQL's tables as far as they concern it.
//!
//! | step | PostgreSQL |
//! | --- | --- |
//! | a table came | CREATE TABLE, with the key that addresses its rows as PRIMARY KEY |
//! | a table went | DROP TABLE |
//! | a table has another name, or a column has | RENAME |
//! | a column came | ADD COLUMN, with what the rows that were there read in it |
//! | a column went | DROP COLUMN |
//! | unique keys came or went | ADD or DROP CONSTRAINT … UNIQUE DEFERRABLE |
//! | views, triggers, other indexes | nothing: they live in `_syncline_schema` |
//!
//! Names of constraints are counted, not made of the table's: an index of PostgreSQL stands among the tables,
//! and must not take the name of one that is made later.
//!
//! Left out: foreign keys, CHECKs, defaults and triggers. The writer's SQLite has seen to them.

use std::sync::Arc;

use super::PostgresStore;
use super::apply::Work;
use super::parameter::{Parameter, text};
use super::state;
use super::tables::Table;
use super::types::ColumnType;
use crate::change::{Object, ObjectKind, SchemaStep, TableDigest, TableShape};
use crate::error::{Error, Result};
use crate::store::history::diverged;
use crate::store::sqlite::{is_virtual_sql, quote};

/// Whether a step is one of a table.
fn is_table(object: &Object) -> bool {
    object.kind == ObjectKind::Table
}

impl PostgresStore {
    /// Carries out a step, and follows it in tables and digests.
    pub(crate) fn apply_step(&mut self, work: &mut Work, step: &SchemaStep) -> Result<()> {
        refuse_virtual(step)?;
        self.settle_rows(work)?;
        self.settle_digests(work);
        work.pipeline.finish(self.session()?)?;
        work.schema_changed = true;
        let old: Vec<TableShape> = self.catalogue.shapes().cloned().collect();
        self.catalogue.carry_out(step)?;
        match step {
            SchemaStep::Create(object) if is_table(object) => self.create_table(work, object)?,
            SchemaStep::Drop(object) if is_table(object) => self.drop_table(work, object)?,
            SchemaStep::Create(object) | SchemaStep::Drop(object) => {
                self.follow_keys(&object.table, object.kind)?;
            }
            SchemaStep::Alter { objects, dropped_column } => {
                let tables = objects.iter().filter(|(was, _)| is_table(was));
                for (was, is) in tables {
                    let before = old.iter().find(|shape| shape.name == was.name);
                    let Some(before) = before else { continue };
                    self.alter_table(work, before, &is.name, dropped_column.as_deref())?;
                }
            }
        }
        self.session()?.forget_prepared();
        Ok(())
    }

    fn shape(&self, table: &str) -> Result<TableShape> {
        let shape = self.catalogue.shape(table).cloned();
        shape.ok_or_else(|| Error::corrupt("STATE_CORRUPT", format!("there is no table {table:?}")))
    }

    /// Reads a table anew from the catalogue.
    fn retable(&mut self, name: &str) -> Result<Arc<Table>> {
        let shape = self.shape(name)?;
        let table = Arc::new(Table::of(&self.schema, &self.catalogue, &shape)?);
        self.tables.insert(name.to_owned(), table.clone());
        Ok(table)
    }

    fn create_table(&mut self, work: &mut Work, object: &Object) -> Result<()> {
        let table = self.retable(&object.name)?;
        let mut columns = Vec::new();
        for (i, (column, kind)) in table.columns.iter().enumerate() {
            let required = if table.key.contains(&i) { " NOT NULL" } else { "" };
            columns.push(format!("{column} {}{required}", kind.sql()));
        }
        let key: Vec<&str> = table.key.iter().map(|i| table.columns[*i].0.as_str()).collect();
        let key = key.join(", ");
        let constraint = self.new_key_name()?;
        let columns = columns.join(", ");
        let sql = format!(
            "CREATE TABLE {} ({columns}, CONSTRAINT {constraint} PRIMARY KEY ({key}))",
            table.name
        );
        self.session()?.batch(&sql)?;
        let empty = TableDigest::empty(table.shape.fingerprint());
        self.ledger.set(&object.name, empty);
        self.requests(work, [state::write_sequence(&object.name, None)])?;
        self.follow_keys(&object.name, ObjectKind::Index)
    }

    fn drop_table(&mut self, work: &mut Work, object: &Object) -> Result<()> {
        if let Some(table) = self.tables.remove(&object.name) {
            self.session()?.batch(&format!("DROP TABLE IF EXISTS {}", table.name))?;
        }
        self.ledger.remove(&object.name);
        self.requests(work, [state::write_sequence(&object.name, None)])
    }

    fn alter_table(
        &mut self,
        work: &mut Work,
        old: &TableShape,
        name: &str,
        dropped: Option<&str>,
    ) -> Result<()> {
        let Some(was) = self.tables.remove(&old.name) else { return Ok(()) };
        let new = self.shape(name)?;
        if was.shape.key != new.key
            && was.shape.stored_columns().count() == new.stored_columns().count()
        {
            let what = format_args!("the key of {name:?} is another, and no row says its number");
            return Err(diverged(work.version, what));
        }
        let table = self.retable(name)?;
        if old.name != name {
            let sql = format!("ALTER TABLE {} RENAME TO {}", was.name, quote(name));
            self.session()?.batch(&sql)?;
            let sql = "UPDATE _syncline_sequence SET name = $1 WHERE name = $2";
            self.requests(work, [(sql, vec![text(name), text(&old.name)])])?;
        }
        self.alter_columns(&was, &table, dropped)?;
        self.follow_keys(name, ObjectKind::Index)?;
        let digest = match self.catalogue.keeps_values(old, &new)? {
            true => {
                let same = self.ledger.get(&old.name).copied();
                let same = same.unwrap_or_else(|| TableDigest::empty(new.fingerprint()));
                TableDigest { fingerprint: new.fingerprint(), ..same }
            }
            false => super::source::count(self.session()?, &table)?,
        };
        self.ledger.remove(&old.name);
        self.ledger.set(name, digest);
        Ok(())
    }

    fn alter_columns(&mut self, was: &Table, table: &Table, dropped: Option<&str>) -> Result<()> {
        let dropped = dropped.map(quote);
        let mut kept = Vec::new();
        for (column, _) in &was.columns {
            if Some(column) == dropped.as_ref() {
                let sql = format!("ALTER TABLE {} DROP COLUMN {column}", table.name);
                self.session()?.batch(&sql)?;
            } else {
                kept.push(column);
            }
        }
        for (i, column) in kept.iter().enumerate() {
            let sql = match table.columns.get(i) {
                Some((same, _)) if same == *column => continue,
                Some((other, _)) => format!("RENAME COLUMN {column} TO {other}"),
                None => format!("DROP COLUMN {column}"),
            };
            self.session()?.batch(&format!("ALTER TABLE {} {sql}", table.name))?;
        }
        let added = table.columns.iter().skip(kept.len());
        added.into_iter().try_for_each(|(column, kind)| self.add_column(table, column, *kind))
    }

    fn add_column(&mut self, table: &Table, column: &str, kind: ColumnType) -> Result<()> {
        let places = table.shape.columns.iter();
        let place = places.enumerate().find(|(_, c)| quote(&c.name) == column).map(|(i, _)| i);
        let default = self.catalogue.default_of(&table.shape, place.expect("it is one of them"))?;
        let sql = format!("ALTER TABLE {} ADD COLUMN {column} {}", table.name, kind.sql());
        self.session()?.batch(&sql)?;
        if default.as_ref().is_null() {
            return Ok(());
        }
        if let Some(why) = kind.refuses(default.as_ref()) {
            let message = format!("column {column} of table {:?} {why}", table.shape.name);
            return Err(Error::invalid("VALUE_UNSUPPORTED", message).hint("choose another default"));
        }
        let (wire, cast) = (kind.wire(), kind.wire_cast());
        let sql = format!("UPDATE {} SET {column} = $1::{wire}{cast}", table.name);
        self.session()?.execute(&sql, vec![Parameter::from(default.as_ref())]).map(|_| ())
    }

    fn new_key_name(&mut self) -> Result<String> {
        let rows = self.session()?.query("SELECT nextval('_syncline_key_name')", &[])?;
        Ok(quote(&format!("_syncline_key_{}", rows[0].get::<_, i64>(0))))
    }

    /// Makes PostgreSQL's unique keys of a table those that the catalogue names; those that somebody else
    /// made stay, and count. Views and triggers have none.
    fn follow_keys(&mut self, name: &str, kind: ObjectKind) -> Result<()> {
        if kind != ObjectKind::Index || !self.tables.contains_key(name) {
            return Ok(());
        }
        let table = self.retable(name)?;
        let mut wanted = self.wanted_keys(&table)?;
        let sql = "SELECT c.relname::text, c.relname ~ '^_syncline_key_', \
                   ARRAY(SELECT a.attname::text \
                   FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) \
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
                   WHERE k.place <= i.indnkeyatts ORDER BY k.place) \
                   FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                   WHERE i.indrelid = to_regclass($1) AND i.indisunique AND NOT i.indisprimary \
                   AND i.indpred IS NULL AND i.indexprs IS NULL";
        for row in self.session()?.query(sql, &[text(&table.name)])? {
            let (constraint, is_ours, columns): (String, bool, Vec<String>) =
                (row.get(0), row.get(1), row.get(2));
            let columns: Vec<String> = columns.iter().map(|c| quote(c)).collect();
            match wanted.iter().position(|key| *key == columns) {
                Some(place) => drop(wanted.remove(place)),
                None if !is_ours => {}
                None => {
                    let constraint = quote(&constraint);
                    let sql = format!("ALTER TABLE {} DROP CONSTRAINT {constraint}", table.name);
                    self.session()?.batch(&sql)?;
                }
            }
        }
        for key in wanted {
            let constraint = self.new_key_name()?;
            let sql = format!(
                "ALTER TABLE {} ADD CONSTRAINT {constraint} UNIQUE ({}) DEFERRABLE INITIALLY IMMEDIATE",
                table.name,
                key.join(", ")
            );
            self.session()?.batch(&sql)?;
        }
        Ok(())
    }

    /// The unique keys that PostgreSQL can check, as names of columns.
    fn wanted_keys(&self, table: &Table) -> Result<Vec<Vec<String>>> {
        let mut wanted = Vec::new();
        for key in self.catalogue.unique_keys(&table.shape)? {
            let names: Vec<String> =
                key.iter().map(|c| quote(&table.shape.columns[*c].name)).collect();
            let has_order = |name: &String| {
                table.columns.iter().any(|(column, kind)| column == name && kind.has_order())
            };
            if names.iter().all(has_order) {
                wanted.push(names);
            }
        }
        Ok(wanted)
    }
}

pub(crate) fn refuse_virtual(step: &SchemaStep) -> Result<()> {
    match step {
        SchemaStep::Create(object) if is_virtual_sql(object) => {
            let message = format!(
                "{:?} is a virtual table: PostgreSQL cannot hold what is behind it",
                object.name
            );
            Err(Error::invalid("VIRTUAL_TABLE_UNSUPPORTED", message)
                .hint("keep it in a SQLite backing database, or make an ordinary table of it"))
        }
        _ => Ok(()),
    }
}
