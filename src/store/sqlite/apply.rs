//! Applying commits to a copy: the one function by which any replica moves.
//!
//! Changes are applied in captured order, never as net images (a swap of two unique values would
//! fail), with triggers, foreign-key actions and CHECKs off, and always OR ABORT. The copy's digest is
//! summed from its own rows by the hook; that it equals the commit's is the check for "another row
//! than the before-image". A row that is missing, or in the way, fails by itself.

use super::SqliteStore;
use super::appliers::TableStatements;
use super::capture::Mode;
use super::schema::{self, Schema};
use super::sequences;
use super::state::{self, int};
use crate::change::{
    BodyReader, Change, Commit, DeclaredTable, Decoder, Lineage, Object, ObjectKind, Op, Position,
    RequestId, RowChange, SchemaStep, TableDigest, TableShape, Timestamp, ValueRef, Version,
};
use crate::error::{Error, Kind, Result};
use crate::store::Parts;
use crate::store::history::{self, diverged};

impl SqliteStore {
    /// Applies commits in one transaction: rows, log and position, or none of them.
    ///
    /// The commits must continue this copy's chain and lie on `lineage`. If one does not fit, those
    /// before it are applied and the error names it (`DIVERGED`).
    pub(crate) fn apply_commits(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
    ) -> Result<Position> {
        match self.try_apply(lineage, commits, parts) {
            Ok(position) => Ok(position),
            Err((0, error)) => Err(error),
            Err((fitting, error)) if error.kind() == Kind::Diverged => {
                self.try_apply(lineage, &commits[..fitting], parts).map_err(|(_, e)| e)?;
                Err(error)
            }
            Err((_, error)) => Err(error),
        }
    }

    pub(super) fn try_apply(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
    ) -> Result<Position, (usize, Error)> {
        self.begin().map_err(|e| (0, e))?;
        let mut done = 0;
        let applied = self.apply_each(lineage, commits, parts, &mut done);
        self.capture.mode = Mode::Off;
        applied.map_err(|error| {
            let undone = self.rollback();
            (done, undone.err().unwrap_or(error))
        })
    }

    fn apply_each(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
        done: &mut usize,
    ) -> Result<Position> {
        if self.lineage != *lineage {
            history::check_lineage(&self.lineage, self.position.version, lineage)?;
            state::write_lineage(self.db, lineage)?;
        }
        for commit in commits {
            self.apply_one(lineage, commit, parts)?;
            *done += 1;
        }
        let group = self.group.as_mut().expect("open");
        if let Some(last) = commits.last() {
            group.at = last.header().at;
        }
        let (head, tag) = history::under(lineage, group.head, self.tag);
        group.head = head;
        let old_tag = std::mem::replace(&mut self.tag, tag);
        let old_lineage = std::mem::replace(&mut self.lineage, lineage.clone());
        let committed = self.commit_applied(commits);
        if committed.is_err() {
            self.tag = old_tag;
            self.lineage = old_lineage;
        }
        committed
    }

    fn commit_applied(&mut self, commits: &[Commit]) -> Result<Position> {
        #[cfg(feature = "planted")]
        if crate::planted("cursor-outside") {
            self.db.execute_batch("COMMIT")?;
            self.db.execute_batch("BEGIN IMMEDIATE")?;
        }
        self.append_log(commits)?;
        self.write_state()?;
        self.finish_commit()
    }

    fn apply_one(&mut self, lineage: &Lineage, commit: &Commit, parts: Parts<'_>) -> Result<()> {
        let header = commit.header();
        let head = self.group.as_ref().expect("open").head;
        history::check_place(&head, lineage, header)?;
        self.capture.clear();
        self.capture.mode = Mode::Sum;
        let mut reader = BodyReader::default();
        if commit.parts() == 0 {
            self.apply_body(&mut reader, commit.body(), header.version, header.at)?;
        } else {
            self.apply_parts(&mut reader, commit, parts)?;
        }
        self.capture.mode = Mode::Off;
        self.capture.settle(&mut self.ledger);
        history::check_digest(self.ledger.total(), header)?;
        self.group.as_mut().expect("open").head = commit.position();
        Ok(())
    }

    fn apply_parts(
        &mut self,
        reader: &mut BodyReader,
        commit: &Commit,
        parts: Parts<'_>,
    ) -> Result<()> {
        let h = commit.header();
        history::each_part(commit, parts, |body| {
            self.append_part(h.version, body)?;
            self.apply_body(reader, body, h.version, h.at)
        })
    }

    /// Applies the entries of one part, in order.
    pub(crate) fn apply_body(
        &mut self,
        reader: &mut BodyReader,
        body: &[u8],
        version: Version,
        at: Timestamp,
    ) -> Result<()> {
        let mut decoder = Decoder(body);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        while let Some(change) = reader.next(&mut decoder)? {
            match change {
                Change::Row(row) => {
                    row.values(&mut before, &mut after)?;
                    self.apply_row(reader.table(row.table), &row, &before, &after, version)?;
                }
                other => self.apply_other(other, version, at)?,
            }
            self.hook_failed()?;
        }
        Ok(())
    }

    pub(crate) fn hook_failed(&mut self) -> Result<()> {
        self.capture.take_failure().map_or(Ok(()), Err)
    }

    fn apply_other(&mut self, change: Change<'_>, version: Version, at: Timestamp) -> Result<()> {
        match change {
            Change::Row(_) => unreachable!("rows are applied by apply_row"),
            Change::Schema(step) => self.apply_step(&step),
            Change::Sequence { table, after, .. } => sequences::set(self.db, &table, after),
            Change::Setting { name, after, .. } => self.set_setting(&name, after),
            Change::Request { id, response } => self.store_request(&id, response, version, at),
        }
    }

    fn appliers(
        &mut self,
        table: &DeclaredTable,
        version: Version,
    ) -> Result<&mut TableStatements> {
        let missing =
            |what: &str| diverged(version, format_args!("the table {:?} {what}", table.name));
        let (db, shapes) = (self.db, &self.schema.shapes);
        let prepare = || {
            let shape = shapes.get(&table.name).ok_or_else(|| missing("is not here"))?;
            TableStatements::new(db, shape)
        };
        let statements = self.appliers.of(&table.name, prepare)?;
        if statements.by_rowid != table.by_rowid {
            return Err(missing("has another key here"));
        }
        Ok(statements)
    }

    pub(crate) fn apply_row(
        &mut self,
        table: &DeclaredTable,
        row: &RowChange<'_>,
        before: &[ValueRef<'_>],
        after: &[ValueRef<'_>],
        version: Version,
    ) -> Result<()> {
        #[cfg(feature = "planted")]
        if crate::planted("digest-from-images") {
            self.capture.mode = Mode::Off;
            self.sum_images(table, row, before, after)?;
        }
        let db = self.db;
        let t = self.appliers(table, version)?;
        for (image, values) in [(&row.before, before), (&row.after, after)] {
            if image.is_some() && values.len() != t.stored {
                return Err(diverged(
                    version,
                    format_args!("the table {:?} has other columns here", table.name),
                ));
            }
        }
        let old = TableStatements::numbered(row.before.and_then(|i| i.rowid), before);
        let new = TableStatements::numbered(row.after.and_then(|i| i.rowid), after);
        let ran = match row.op {
            Op::Insert => t.insert.execute(&new),
            Op::Delete => t.run_delete(&old),
            Op::Update => t.run_update(&old, new),
        };
        ran.map_err(|error| in_the_way(error, version, &table.name))?;
        if db.changes() != 1 {
            return Err(diverged(
                version,
                format_args!("a row of {:?} that changes is not here", table.name),
            ));
        }
        Ok(())
    }

    /// Inserts one row of a table that [`fill`](Self::fill) made.
    pub(crate) fn insert_row(
        &mut self,
        table: &DeclaredTable,
        rowid: Option<i64>,
        values: &[ValueRef<'_>],
    ) -> Result<()> {
        let numbered = TableStatements::numbered(rowid, values);
        self.appliers(table, Version(0))?.insert.execute(&numbered)
    }

    #[cfg(feature = "planted")]
    fn sum_images(
        &mut self,
        table: &DeclaredTable,
        row: &RowChange<'_>,
        before: &[ValueRef<'_>],
        after: &[ValueRef<'_>],
    ) -> Result<()> {
        use super::capture::Image;
        let old = row.before.map(|image| Image { rowid: image.rowid, values: before.to_vec() });
        let new = row.after.map(|image| Image { rowid: image.rowid, values: after.to_vec() });
        let captured = self.capture.table(&table.name).cloned().expect("known");
        let mode = std::mem::replace(&mut self.capture.mode, Mode::Sum);
        let summed = self.capture.row(&captured, old.as_ref(), new.as_ref());
        self.capture.mode = mode;
        summed
    }

    /// Carries out a schema step, and follows it in schema and digests.
    pub(crate) fn apply_step(&mut self, step: &SchemaStep) -> Result<()> {
        self.group_schema_changes();
        self.capture.settle(&mut self.ledger);
        let mode = std::mem::replace(&mut self.capture.mode, Mode::Off);
        let db = self.db;
        schema::with_writable_schema(db, || schema::carry_out(db, step))?;
        let before = std::mem::take(&mut self.schema);
        self.reload_schema()?;
        self.follow_steps(std::slice::from_ref(step), &before)?;
        self.capture.mode = mode;
        Ok(())
    }

    /// What schema steps mean for the digests; `self.schema` is already the one after them.
    pub(crate) fn follow_steps(&mut self, steps: &[SchemaStep], before: &Schema) -> Result<()> {
        // A trigger may have the name of a table.
        let is_table = |object: &Object| object.kind == ObjectKind::Table;
        for step in steps {
            match step {
                SchemaStep::Create(object) if is_table(object) => {
                    if let Some(shape) = self.schema.shapes.get(&object.name) {
                        let empty = TableDigest::empty(shape.fingerprint());
                        self.ledger.set(&object.name, empty);
                    }
                }
                SchemaStep::Drop(object) if is_table(object) => self.ledger.remove(&object.name),
                SchemaStep::Create(_) | SchemaStep::Drop(_) => {}
                SchemaStep::Alter { objects, .. } => {
                    for (was, is) in objects.iter().filter(|(was, _)| is_table(was)) {
                        self.follow_alter(&was.name, &is.name, before)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn follow_alter(&mut self, was: &str, is: &str, before: &Schema) -> Result<()> {
        let (Some(old), Some(new)) = (before.shapes.get(was), self.schema.shapes.get(is)) else {
            return Ok(());
        };
        let digest = self.digest_after_alter(was, old, new)?;
        self.ledger.remove(was);
        self.ledger.set(is, digest);
        Ok(())
    }

    /// Renames and columns that are NULL in every row cost nothing; whatever may have changed a stored value
    /// recounts the table.
    fn digest_after_alter(
        &self,
        name: &str,
        old: &TableShape,
        new: &TableShape,
    ) -> Result<TableDigest> {
        if schema::keeps_values(self.db, old, new)? {
            let same = self.ledger.get(name).copied();
            let same = same.unwrap_or_else(|| TableDigest::empty(new.fingerprint()));
            return Ok(TableDigest { fingerprint: new.fingerprint(), ..same });
        }
        super::recount::table(self.db, new)
    }

    pub(crate) fn set_setting(&mut self, name: &str, value: i64) -> Result<()> {
        match name {
            "user_version" | "application_id" => {
                self.db.execute_batch(&format!("PRAGMA main.{name} = {value}"))
            }
            _ => {
                Err(Error::corrupt("FORMAT_CORRUPT", format!("a commit sets the unknown {name:?}")))
            }
        }
    }

    /// Keeps what a client's write was answered, so that a retry has no second effect.
    pub(crate) fn store_request(
        &mut self,
        id: &RequestId,
        response: &[u8],
        version: Version,
        at: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO main._syncline_request \
                   (client, sequence, version, at, response) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.db.execute(
            sql,
            &[
                ValueRef::Text(&id.client),
                int(id.sequence),
                int(version.0),
                int(at.0),
                ValueRef::Blob(response),
            ],
        )
    }
}

fn in_the_way(error: Error, version: Version, table: &str) -> Error {
    match error.code() {
        "SQLITE_CONSTRAINT" | "SQLITE_MISMATCH" => {
            diverged(version, format_args!("in {table:?}, {}", error.message())).source(error)
        }
        _ => error,
    }
}
