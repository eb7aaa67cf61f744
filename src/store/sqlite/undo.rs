//! Undoing commits: their entries in reverse order, each turned round.
//!
//! The hook sums as it does for applying, so that the digest afterwards is again one of the copy's own
//! rows. A step that destroyed rows cannot be undone from the log: the copy is then healed by another.

use super::SqliteStore;
use super::capture::Mode;
use super::schema::quote;
use super::sequences;
use super::state::int;
use crate::change::{
    Change, Commit, DeclaredTable, ObjectKind, Op, RowChange, SchemaStep, ValueRef, Version,
};
use crate::error::Result;
use crate::store::{Parts, inverse};

impl SqliteStore {
    /// Undoes the entries of one commit in reverse order. The hook sums as it does for applying.
    ///
    /// Fails with `UNDO_IMPOSSIBLE` at a step that destroyed stored rows.
    pub(crate) fn undo_commit(&mut self, commit: &Commit, parts: Parts<'_>) -> Result<()> {
        self.capture.clear();
        self.capture.mode = Mode::Sum;
        let version = commit.version();
        inverse::backwards(commit, parts, |(change, table)| {
            self.undo_change(change, table, version)?;
            self.hook_failed()
        })?;
        self.capture.mode = Mode::Off;
        self.capture.settle(&mut self.ledger);
        Ok(())
    }

    fn undo_change(
        &mut self,
        change: Change<'_>,
        table: Option<DeclaredTable>,
        version: Version,
    ) -> Result<()> {
        match change {
            Change::Row(row) => self.undo_row(&row, &table.expect("a row has a table"), version),
            Change::Schema(step) => self.undo_schema(inverse::step(step, version)?),
            Change::Sequence { table, before, .. } => sequences::set(self.db, &table, before),
            Change::Setting { name, before, .. } => self.set_setting(&name, before),
            Change::Request { id, .. } => {
                let sql = "DELETE FROM main._syncline_request WHERE client = ?1 AND sequence = ?2";
                self.db.execute(sql, &[ValueRef::Text(&id.client), int(id.sequence)])
            }
        }
    }
}

impl SqliteStore {
    fn undo_row(
        &mut self,
        row: &RowChange<'_>,
        table: &DeclaredTable,
        version: Version,
    ) -> Result<()> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        row.values(&mut before, &mut after)?;
        let counted = self.schema.shapes.get(&table.name).is_some_and(|shape| shape.autoincrement);
        let db = self.db;
        let mut undo = || self.apply_row(table, &inverse::row(row), &after, &before, version);
        // What the commit did to the table's count is an entry of its own.
        match counted && row.op == Op::Delete {
            true => sequences::uncounted(db, &table.name, undo),
            false => undo(),
        }
    }

    fn undo_schema(&mut self, step: SchemaStep) -> Result<()> {
        let width = |store: &SqliteStore, table: &str| {
            store.schema.shapes.get(table).map(|shape| shape.columns.len())
        };
        let mut altered = Vec::new();
        if let SchemaStep::Alter { objects, .. } = &step {
            let tables = objects.iter().filter(|(was, _)| was.kind == ObjectKind::Table);
            altered.extend(tables.map(|(was, is)| (width(self, &was.name), is.name.clone())));
        }
        self.apply_step(&step)?;
        for (was, table) in altered {
            if width(self, &table) < was {
                self.rewrite_rows(&table)?;
            }
        }
        Ok(())
    }

    /// A column that was added is gone again, but rows written meanwhile still hold its value: the
    /// next column would show it. Written anew, they do not.
    fn rewrite_rows(&mut self, table: &str) -> Result<()> {
        let shape = &self.schema.shapes[table];
        let Some((_, column)) = shape.stored_columns().min_by_key(|(_, c)| c.pk) else {
            return Ok(());
        };
        let (table, column) = (quote(table), quote(&column.name));
        let mode = std::mem::replace(&mut self.capture.mode, Mode::Off);
        let sql = format!("UPDATE OR ABORT main.{table} SET {column} = {column}");
        let rewritten = self.db.execute_batch(&sql);
        self.capture.mode = mode;
        rewritten
    }
}
