//! Rows that are not what the history says: bringing them back, or making them the history.

use std::sync::Arc;

use super::capture::{Image, Mode};
use super::raw::Db;
use super::schema::quote;
use super::{SqliteStore, Sync, recount, sequences};
use crate::change::{
    Commit, DatabaseDigest, DeclaredTable, ObjectKind, SchemaStep, TableDigest, Timestamp, Version,
};
use crate::error::{Error, Kind, Result};
use crate::store::history::rows_invalid;
use crate::store::vfs::MemoryDisk;
use crate::store::{Source, Store};

impl SqliteStore {
    /// The tables whose rows do not give the digest they should.
    fn disagreeing(&mut self) -> Result<Vec<(String, TableDigest)>> {
        let found: DatabaseDigest = recount::database(self.db)?;
        let wrong = |(name, table): (&str, &TableDigest)| {
            (self.ledger.get(name) != Some(table)).then(|| (name.to_owned(), *table))
        };
        Ok(found.tables().filter_map(wrong).collect())
    }

    /// In the open unit: each table that disagrees is dropped and made again, with the rows that are
    /// there, in the log alone.
    pub(crate) fn restate_tables(&mut self) -> Result<()> {
        // Made again, a table with AUTOINCREMENT would count on from its rows.
        self.unit().watch.sequence = true;
        for (name, found) in self.disagreeing()? {
            let of_table: Vec<_> = self
                .schema
                .entries
                .iter()
                .map(|entry| entry.object.clone())
                .filter(|object| object.table == name && object.kind != ObjectKind::View)
                .collect();
            let table = of_table.iter().find(|object| object.kind == ObjectKind::Table);
            let Some(table) = table.cloned() else { continue };
            self.capture.settle(&mut self.ledger);
            self.capture.spool.tail.schema(&SchemaStep::Drop(table.clone()));
            self.capture.spool.tail.schema(&SchemaStep::Create(table.clone()));
            self.capture.forget_declared();
            self.ledger.set(&name, TableDigest::empty(found.fingerprint));
            self.state_rows(&name)?;
            self.capture.settle(&mut self.ledger);
            for object in of_table.into_iter().filter(|object| object.kind != ObjectKind::Table) {
                self.capture.spool.tail.schema(&SchemaStep::Create(object));
            }
            self.capture.forget_declared();
        }
        Ok(())
    }

    /// Commits the rows that are there (see [`restate_tables`](Self::restate_tables)), of a copy that follows:
    /// gives the commit, if any table disagrees.
    ///
    /// Fails if one of those tables breaks a CHECK, NOT NULL or a foreign key.
    pub(crate) fn restated(&mut self, at: Timestamp) -> Result<Option<Commit>> {
        let wrong = self.disagreeing()?;
        if wrong.is_empty() {
            return Ok(None);
        }
        // Whoever follows is not asked about constraints.
        self.serve_clients()?;
        self.check_constraints(&wrong)?;
        self.follow()?;
        self.begin()?;
        self.begin_unit(false)?;
        self.restate_tables()?;
        self.commit_unit(at, None)?;
        let commit = self.group_commits().first().cloned();
        self.commit()?;
        Ok(commit)
    }

    fn check_constraints(&self, tables: &[(String, TableDigest)]) -> Result<()> {
        let mut broken = None;
        for (name, _) in tables {
            self.db.query(&format!("PRAGMA main.quick_check({})", quote(name)), &[], |row| {
                let said = row.text(0)?;
                broken = broken.take().or_else(|| (said != "ok").then(|| said.to_owned()));
                Ok(())
            })?;
        }
        let concerned =
            |table: &str| tables.iter().any(|(name, _)| name.eq_ignore_ascii_case(table));
        self.db.query("PRAGMA main.foreign_key_check", &[], |row| {
            let (child, parent) = (row.text(0)?.to_owned(), row.text(2)?);
            if broken.is_none() && (concerned(&child) || concerned(parent)) {
                broken = Some(format!("FOREIGN KEY constraint failed in {child}, to {parent}"));
            }
            Ok(())
        })?;
        broken.map_or(Ok(()), |what| Err(rows_invalid(&what)))
    }

    fn state_rows(&mut self, name: &str) -> Result<()> {
        let Some(table) = self.capture.table(name).cloned() else { return Ok(()) };
        let (db, capture) = (self.db, &mut self.capture);
        capture.mode = Mode::Record;
        recount::each_row(db, &table.shape, |rowid, values| {
            capture.row(&table, None, Some(&Image { rowid, values: values.to_vec() }))
        })
    }

    /// In the open group: writes back the rows that the history gives, table by table.
    ///
    /// Fails with `REPAIR_IMPOSSIBLE` if the log does not reach back to the beginning.
    pub(crate) fn repair_tables(&mut self) -> Result<()> {
        let db = self.db;
        let mut history = self.replayed_history()?;
        for (name, _) in self.disagreeing()? {
            self.capture.mode = Mode::Off;
            db.execute_batch(&format!("DELETE FROM main.{}", quote(&name)))?;
            let rows: &mut SqliteStore = &mut history;
            let Some(shape) = rows.schema.shapes.get(&name).cloned() else { continue };
            let declared = DeclaredTable { name: name.clone(), by_rowid: shape.keyed_by_rowid() };
            let from: Db = rows.db;
            let mut write_back = || {
                recount::each_row(from, &shape, |rowid, values| {
                    self.insert_row(&declared, rowid, values)
                })
            };
            match shape.autoincrement {
                true => sequences::uncounted(db, &name, write_back)?,
                false => write_back()?,
            }
        }
        let still = self.disagreeing()?;
        match still.first() {
            None => Ok(()),
            Some((name, _)) => Err(repair_impossible(&format!("{name:?} still disagrees"))),
        }
    }

    /// The whole log, applied to an empty copy in memory.
    fn replayed_history(&mut self) -> Result<SqliteStore> {
        if self.oldest()? != Some(Version(1)) {
            return Err(repair_impossible("the log does not reach back to the first commit"));
        }
        let disk = Arc::new(MemoryDisk::new());
        let mut history = SqliteStore::open(disk, "/history.db".as_ref(), Sync::Off, u64::MAX)?;
        history.follow()?;
        let lineage = self.lineage.clone();
        loop {
            let commits = self.after(history.position.version, 8 << 20)?;
            if commits.is_empty() {
                return Ok(history);
            }
            history.apply(&lineage, &commits, &mut |c, i| self.part(c.version(), i))?;
        }
    }
}

fn repair_impossible(why: &str) -> Error {
    Error::new(
        Kind::Diverged,
        "REPAIR_IMPOSSIBLE",
        format!("the old rows cannot be written back: {why}"),
    )
    .hint(
        "promote a reader that is verified, or make what is there the truth with `verify --adopt`",
    )
}
