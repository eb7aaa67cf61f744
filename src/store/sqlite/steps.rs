//! Capturing what a statement did to the schema, which no hook reports.
//!
//! The schema is read before and after; the difference goes into the body as steps, and what they mean
//! for the digests is followed. Rows that come with a step (CREATE TABLE AS, a virtual table's own
//! tables) are read back. Left out: whatever `sqlite_*` objects do.

use super::SqliteStore;
use super::capture::{Image, Mode};
use super::recount;
use super::schema::{self, Schema};
use crate::change::{ObjectKind, SchemaStep};
use crate::error::Result;

impl SqliteStore {
    /// Captures what a statement did to the schema: `before` is what it was, `altered` whether the
    /// statement was ALTER TABLE.
    pub(crate) fn capture_schema(&mut self, altered: bool) -> Result<()> {
        let before = std::mem::take(&mut self.schema);
        let loaded = Schema::load(self.db);
        let after = match loaded {
            Ok(after) => after,
            Err(error) => {
                self.schema = before;
                return Err(error);
            }
        };
        let mut steps = schema::difference(&before.entries, &after.entries, altered);
        for step in &mut steps {
            name_dropped_column(step, &before, &after);
        }
        let checked = schema::check_names(&steps, &before, &after)
            .and_then(|()| self.capture.check_steps(self.db, &steps, &after));
        if let Err(error) = checked {
            self.schema = before;
            return Err(error);
        }
        self.schema = after;
        if steps.is_empty() {
            return Ok(());
        }
        self.unit().schema_changed = true;
        self.group_schema_changes();
        self.capture.settle(&mut self.ledger);
        self.schema_is_new();
        for step in &steps {
            self.capture.spool.tail.schema(step);
        }
        self.capture.spool.entry_ended()?;
        self.capture.forget_declared();
        self.follow_steps(&steps, &before)?;
        self.read_back_created(&steps)
    }

    /// CREATE TABLE AS and a virtual table's own tables come with rows that no hook reports.
    fn read_back_created(&mut self, steps: &[SchemaStep]) -> Result<()> {
        self.capture.mode = Mode::Record;
        for step in steps {
            let SchemaStep::Create(object) = step else { continue };
            if object.kind != ObjectKind::Table {
                continue;
            }
            let Some(table) = self.capture.table(&object.name).cloned() else { continue };
            let capture = &mut self.capture;
            recount::each_row(self.db, &table.shape, |rowid, values| {
                let image = Image { rowid, values: values.to_vec() };
                capture.row(&table, None, Some(&image))
            })?;
        }
        Ok(())
    }
}

/// Says which stored column an ALTER dropped.
fn name_dropped_column(step: &mut SchemaStep, before: &Schema, after: &Schema) {
    let SchemaStep::Alter { objects, dropped_column } = step else { return };
    for (was, is) in objects.iter().filter(|(was, _)| was.kind == ObjectKind::Table) {
        let (Some(old), Some(new)) = (before.shapes.get(&was.name), after.shapes.get(&is.name))
        else {
            continue;
        };
        if new.columns.len() < old.columns.len() {
            let kept = |name: &str| new.columns.iter().any(|c| c.name == name);
            *dropped_column = old.columns.iter().find(|c| !kept(&c.name)).map(|c| c.name.clone());
        }
    }
}
