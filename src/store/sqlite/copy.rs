//! A full copy: HEAL's last rung, and how a copy in memory begins.
//!
//! Rows are read in one read transaction of the source, at its position, and recounted as they are
//! stored. If the sum is not what the source claims, the *source* is damaged: nothing is kept, unless the
//! caller wants to see what is there.

use super::SqliteStore;
use super::capture::Mode;
use super::connection;
use super::schema::{self, Schema};
use super::sequences;
use super::source::has_rows;
use super::state;
use crate::change::{
    DatabaseDigest, DeclaredTable, Object, Position, SchemaStep, TableDigest, ValueRef,
};
use crate::error::{Error, Result};
use crate::store::history::{rows_invalid, source_damaged};
use crate::store::{SnapshotItem, Source};

/// Asked about a source whose rows do not give its digest: fails if nothing is to be kept.
type Damaged<'a> = &'a mut dyn FnMut(Error) -> Result<()>;

impl SqliteStore {
    /// Fills this empty copy from `source`, in one transaction.
    ///
    /// With a rollback journal, where new pages go to their place at once: a write-ahead log would hold every
    /// page a second time, and with a copy in memory that is twice the memory.
    ///
    /// Fails with `SOURCE_DAMAGED`, nothing kept, if the source's rows do not give the digest that it
    /// claims.
    pub fn fill(&mut self, source: &mut dyn Source) -> Result<Position> {
        let filled = self.fill_by(source, &mut Err);
        filled.map_err(|error| match error.code() {
            "ROWS_INVALID" => {
                Error::corrupt("SOURCE_DAMAGED", error.message()).hint(error.hint_text())
            }
            _ => error,
        })?;
        Ok(self.position())
    }

    /// The same, also with rows that do not give the digest that the source claims: then this copy claims it,
    /// too, and the error that says so is given. Rows that the schema does not allow are refused
    /// (`ROWS_INVALID`).
    pub(crate) fn fill_as_found(&mut self, source: &mut dyn Source) -> Result<Option<Error>> {
        let mut damage = None;
        self.fill_by(source, &mut |damaged| {
            damage = Some(damaged);
            Ok(())
        })?;
        Ok(damage)
    }

    fn fill_by(&mut self, source: &mut dyn Source, damaged: Damaged<'_>) -> Result<()> {
        connection::use_rollback_journal(self.db)?;
        self.begin()?;
        let filled = self.fill_inside(source, damaged);
        if filled.is_err() {
            self.capture.mode = Mode::Off;
            self.rollback()?;
            self.load()?;
        }
        connection::use_log(self.db, &self.path)?;
        filled.map_err(|error| match error.code() {
            "SQLITE_CONSTRAINT" => rows_invalid(error.message()),
            _ => error,
        })
    }

    fn fill_inside(&mut self, source: &mut dyn Source, damaged: Damaged<'_>) -> Result<()> {
        self.group_schema_changes();
        self.capture.clear();
        let mut counted = Vec::new();
        let standing = source.snapshot(&mut |item| {
            if let SnapshotItem::Sequence(table, seq) = item {
                counted.push((table.to_owned(), seq));
            }
            self.fill_one(item)
        })?;
        self.capture.mode = Mode::Off;
        // Filling has counted, too.
        sequences::clear(self.db)?;
        for (table, seq) in counted {
            sequences::set(self.db, &table, Some(seq))?;
        }
        self.capture.settle(&mut self.ledger);
        if self.ledger.total() != standing.position.digest {
            let claimed = source.digests()?;
            let error = source_damaged(&standing, self.ledger.digest(), &claimed);
            if claimed.total() != standing.position.digest {
                return Err(error);
            }
            damaged(error)?;
            self.claim(&claimed);
        }
        state::write_lineage(self.db, &standing.lineage)?;
        self.set_head(standing.position, standing.at);
        self.lineage = standing.lineage;
        self.tag = standing.tag;
        self.reload_schema()?;
        self.prepare_commit()?;
        self.finish_commit().map(drop)
    }

    /// Makes the digests those, whatever the rows give.
    fn claim(&mut self, claimed: &DatabaseDigest) {
        for (name, table) in claimed.tables() {
            self.ledger.set(name, *table);
        }
    }

    fn fill_one(&mut self, item: SnapshotItem<'_>) -> Result<()> {
        match item {
            SnapshotItem::Object(object) if has_rows(object) => self.fill_table(object),
            SnapshotItem::Object(object) => {
                self.capture.mode = Mode::Off;
                let (db, step) = (self.db, SchemaStep::Create(object.clone()));
                schema::with_writable_schema(db, || schema::carry_out(db, &step))
            }
            SnapshotItem::Row { table, rowid, values } => self.fill_row(table, rowid, values),
            SnapshotItem::Sequence(..) => Ok(()),
            SnapshotItem::Setting(name, value) => self.set_setting(name, value),
        }
    }

    fn fill_table(&mut self, object: &Object) -> Result<()> {
        self.capture.mode = Mode::Off;
        self.capture.settle(&mut self.ledger);
        self.db.execute_batch(&object.sql)?;
        let shape = schema::shape(self.db, object)?;
        self.ledger.set(&object.name, TableDigest::empty(shape.fingerprint()));
        let mut schema: Schema = std::mem::take(&mut self.schema);
        schema.shapes.insert(object.name.clone(), shape);
        self.capture.set_schema(self.db, &schema);
        self.schema = schema;
        self.capture.mode = Mode::Sum;
        Ok(())
    }

    fn fill_row(&mut self, table: &str, rowid: Option<i64>, values: &[ValueRef<'_>]) -> Result<()> {
        let declared = DeclaredTable { name: table.to_owned(), by_rowid: rowid.is_some() };
        self.insert_row(&declared, rowid, values)?;
        self.hook_failed()
    }
}
