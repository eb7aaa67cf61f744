//! Applying commits to a copy, and undoing them: the one function by which any replica moves.
//!
//! Changes are applied in captured order, never as net images (a swap of two unique values would
//! fail), with triggers, foreign-key actions and CHECKs off, and always OR ABORT. The copy's digest is
//! summed from its own rows by the hook; that it equals the commit's is the check for "another row
//! than the before-image". A row that is missing, or in the way, fails by itself.

use std::collections::HashMap;

use super::SqliteStore;
use super::capture::{Mode, key_columns};
use super::raw::{Db, Stmt};
use super::schema::{self, Schema, quote, rowid_name};
use super::state::{self, int};
use crate::change::{
    BodyReader, ChainHasher, Change, Commit, DeclaredTable, Decoder, Lineage, Op, Position,
    RequestId, RowChange, SchemaStep, TableDigest, TableShape, Timestamp, ValueRef, Version,
};
use crate::error::{Error, Kind, Result};
use crate::store::Parts;

/// The statements that change one table's rows.
struct TableStatements {
    stored: usize,
    keys: Vec<usize>,
    insert: Stmt,
    delete: Stmt,
    /// Updates that leave the key alone: SQLite then leaves the key's index alone too.
    update: Option<Stmt>,
    update_key: Stmt,
}

/// Prepared statements by table; empty again after a schema step.
#[derive(Default)]
pub(crate) struct Appliers(HashMap<String, TableStatements>);

fn list(columns: impl IntoIterator<Item = String>, between: &str) -> String {
    columns.into_iter().collect::<Vec<_>>().join(between)
}

impl TableStatements {
    fn new(db: Db, shape: &TableShape) -> Result<TableStatements> {
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
            insert: db.prepare(&insert)?,
            delete: db.prepare(&format!("DELETE FROM main.{table} WHERE {}", condition(0)))?,
            update: (!plain.is_empty()).then(|| db.prepare(&update(&plain))).transpose()?,
            update_key: db.prepare(&update(&all))?,
            keys,
        })
    }

    fn run_update<'a>(&mut self, old: &[ValueRef<'a>], new: Vec<ValueRef<'a>>) -> Result<()> {
        let same_key = self.keys.iter().all(|k| old[*k] == new[*k]);
        let mut args = new;
        args.extend(self.keys.iter().map(|k| old[*k]));
        match self.update.as_mut().filter(|_| same_key) {
            Some(update) => update.execute(&args),
            None => self.update_key.execute(&args),
        }
    }

    /// Values as the statements number them: the rowid first, if it is the key.
    fn numbered<'a>(rowid: Option<i64>, values: &[ValueRef<'a>]) -> Vec<ValueRef<'a>> {
        rowid.map(ValueRef::Integer).into_iter().chain(values.iter().copied()).collect()
    }
}

/// An error that names the commit at which the copy and its source parted.
pub(crate) fn diverged(version: Version, what: impl std::fmt::Display) -> Error {
    Error::diverged(
        "DIVERGED",
        format!("this copy parts from its source at version {version}: {what}"),
    )
    .hint("it heals by itself; `syncline status` says how, `syncline held list` what was kept")
}

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

    fn try_apply(
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
            state::write_lineage(self.db, lineage)?;
        }
        for commit in commits {
            self.apply_one(lineage, commit, parts)?;
            *done += 1;
        }
        let group = self.group.as_mut().expect("open");
        group.commits = commits.to_vec();
        let reign = lineage.at(group.head.version.next());
        group.head.epoch = reign.map_or(group.head.epoch, |reign| reign.epoch);
        let tag = reign.map(|reign| reign.tag);
        let old_tag = self.tag;
        self.tag = tag.unwrap_or(old_tag);
        let old_lineage = std::mem::replace(&mut self.lineage, lineage.clone());
        let committed = self.commit_applied();
        if committed.is_err() {
            self.tag = old_tag;
            self.lineage = old_lineage;
        }
        committed
    }

    fn commit_applied(&mut self) -> Result<Position> {
        #[cfg(feature = "planted")]
        if crate::planted("cursor-outside") {
            return self.commit_with_cursor_outside();
        }
        self.prepare_commit()?;
        self.finish_commit()
    }

    #[cfg(feature = "planted")]
    fn commit_with_cursor_outside(&mut self) -> Result<Position> {
        self.db.execute_batch("COMMIT")?;
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        self.prepare_commit()?;
        self.finish_commit()
    }

    fn apply_one(&mut self, lineage: &Lineage, commit: &Commit, parts: Parts<'_>) -> Result<()> {
        let header = commit.header();
        let head = self.group.as_ref().expect("open").head;
        if header.version != head.version.next() || header.previous != head.chain {
            return Err(diverged(
                header.version,
                format_args!("the commit does not continue {head}"),
            ));
        }
        let reign = lineage.at(header.version);
        if reign.is_none_or(|r| (r.epoch, r.tag) != (header.epoch, header.tag)) {
            return Err(diverged(
                header.version,
                "the commit is of another epoch than its source's lineage",
            ));
        }
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
        if self.ledger.total() != header.digest {
            return Err(diverged(
                header.version,
                format_args!(
                    "its rows give the digest {}, the source's gave {}",
                    self.ledger.total(),
                    header.digest
                ),
            ));
        }
        self.group.as_mut().expect("open").head = commit.position();
        Ok(())
    }

    fn apply_parts(
        &mut self,
        reader: &mut BodyReader,
        commit: &Commit,
        parts: Parts<'_>,
    ) -> Result<()> {
        let h = *commit.header();
        let mut hasher = ChainHasher::new(h.previous, h.epoch, h.tag, h.version, h.at);
        for index in 0..commit.parts() {
            let body = parts(commit, index)?;
            hasher.update(&body);
            self.append_part(h.version, &body)?;
            self.apply_body(reader, &body, h.version, h.at)?;
        }
        if hasher.finish(h.digest) != commit.chain() {
            return Err(diverged(h.version, "its parts do not give its chain"));
        }
        Ok(())
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
            Change::Sequence { table, after, .. } => self.set_sequence(&table, after),
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
        if !self.appliers.0.contains_key(&table.name) {
            let shape =
                self.schema.shapes.get(&table.name).ok_or_else(|| missing("is not here"))?;
            let statements = TableStatements::new(self.db, shape)?;
            self.appliers.0.insert(table.name.clone(), statements);
        }
        let shape = self.schema.shapes.get(&table.name).ok_or_else(|| missing("is not here"))?;
        if shape.keyed_by_rowid() != table.by_rowid {
            return Err(missing("has another key here"));
        }
        Ok(self.appliers.0.get_mut(&table.name).expect("just put in"))
    }

    fn apply_row(
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
            Op::Delete => t.delete.execute(&t.keys.iter().map(|k| old[*k]).collect::<Vec<_>>()),
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
        let image = |image: &Option<crate::change::Image<'_>>, values: &[ValueRef<'_>]| {
            image.map(|i| i.rowid).map(|rowid| (rowid, values.to_vec()))
        };
        let old = image(&row.before, before).map(|(rowid, values)| Image { rowid, values });
        let new = image(&row.after, after).map(|(rowid, values)| Image { rowid, values });
        let captured = self.capture.table(&table.name).cloned().expect("known");
        let mode = std::mem::replace(&mut self.capture.mode, Mode::Sum);
        let summed = self.capture.row(&captured, old.as_ref(), new.as_ref());
        self.capture.mode = mode;
        summed
    }

    /// Carries out a schema step, and follows it in schema and digests.
    pub(crate) fn apply_step(&mut self, step: &SchemaStep) -> Result<()> {
        self.capture.settle(&mut self.ledger);
        self.appliers.0.clear();
        let mode = std::mem::replace(&mut self.capture.mode, Mode::Off);
        let db = self.db;
        schema::with_writable_schema(db, || schema::carry_out(db, step))?;
        let after = Schema::load(db)?;
        let before = std::mem::replace(&mut self.schema, after);
        self.capture.set_schema(&self.schema);
        self.follow_steps(std::slice::from_ref(step), &before)?;
        self.capture.mode = mode;
        self.group_schema_changes();
        Ok(())
    }

    /// What schema steps mean for the digests; `self.schema` is already the one after them.
    pub(crate) fn follow_steps(&mut self, steps: &[SchemaStep], before: &Schema) -> Result<()> {
        for step in steps {
            match step {
                SchemaStep::Create(object) => {
                    if let Some(shape) = self.schema.shapes.get(&object.name) {
                        let empty = TableDigest::empty(shape.fingerprint());
                        self.ledger.set(&object.name, empty);
                    }
                }
                SchemaStep::Drop(object) => self.ledger.remove(&object.name),
                SchemaStep::Alter { objects, .. } => {
                    for (was, is) in objects {
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

    /// Renames cost nothing; whatever may have changed a stored value recounts the table.
    fn digest_after_alter(
        &self,
        name: &str,
        old: &TableShape,
        new: &TableShape,
    ) -> Result<TableDigest> {
        let layout = |s: &TableShape| -> Vec<(bool, u32)> {
            s.columns.iter().map(|c| (c.is_real(), c.hidden)).collect()
        };
        if layout(old) == layout(new) && old.key == new.key {
            let same = self.ledger.get(name).copied();
            let same = same.unwrap_or_else(|| TableDigest::empty(new.fingerprint()));
            return Ok(TableDigest { fingerprint: new.fingerprint(), ..same });
        }
        super::recount::table(self.db, new)
    }

    pub(crate) fn set_sequence(&mut self, table: &str, seq: Option<i64>) -> Result<()> {
        let there = "SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'";
        if self.db.query_i64(there, &[])?.is_none() {
            return Ok(());
        }
        let name = ValueRef::Text(table);
        self.db.execute("DELETE FROM main.sqlite_sequence WHERE name = ?1", &[name])?;
        match seq {
            Some(seq) => {
                let sql = "INSERT INTO main.sqlite_sequence (name, seq) VALUES (?1, ?2)";
                self.db.execute(sql, &[name, ValueRef::Integer(seq)])
            }
            None => Ok(()),
        }
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

/// The entries of a body with the tables they name, so that they can be walked backwards.
fn collect<'a>(
    reader: &mut BodyReader,
    body: &'a [u8],
) -> Result<Vec<(Change<'a>, Option<DeclaredTable>)>> {
    let mut decoder = Decoder(body);
    let mut changes = Vec::new();
    while let Some(change) = reader.next(&mut decoder)? {
        let table = match &change {
            Change::Row(row) => Some(reader.table(row.table).clone()),
            _ => None,
        };
        changes.push((change, table));
    }
    Ok(changes)
}

/// The row change that takes `row` back.
fn inverse<'a>(row: &RowChange<'a>) -> RowChange<'a> {
    let op = match row.op {
        Op::Insert => Op::Delete,
        Op::Update => Op::Update,
        Op::Delete => Op::Insert,
    };
    RowChange { table: row.table, op, before: row.after, after: row.before }
}

impl SqliteStore {
    /// Undoes the entries of one commit in reverse order. The hook sums as it does for applying.
    ///
    /// Fails with `UNDO_IMPOSSIBLE` at a step that destroyed stored rows.
    pub(crate) fn undo_commit(&mut self, commit: &Commit, parts: Parts<'_>) -> Result<()> {
        self.capture.clear();
        self.capture.mode = Mode::Sum;
        let version = commit.version();
        let mut bodies = Vec::new();
        if commit.parts() == 0 {
            bodies.push(commit.body().to_vec());
        }
        for index in 0..commit.parts() {
            bodies.push(parts(commit, index)?);
        }
        let mut reader = BodyReader::default();
        let mut starts = Vec::new();
        for body in &bodies {
            starts.push(reader.clone());
            collect(&mut reader, body)?;
        }
        for (body, mut reader) in bodies.iter().zip(starts).rev() {
            for (change, table) in collect(&mut reader, body)?.into_iter().rev() {
                self.undo_change(change, table, version)?;
                self.hook_failed()?;
            }
        }
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
            Change::Row(row) => {
                let (mut before, mut after) = (Vec::new(), Vec::new());
                row.values(&mut before, &mut after)?;
                let table = table.expect("a row has a table");
                self.apply_row(&table, &inverse(&row), &after, &before, version)
            }
            Change::Schema(step) => self.apply_step(&undo_step(step, version)?),
            Change::Sequence { table, before, .. } => self.set_sequence(&table, before),
            Change::Setting { name, before, .. } => self.set_setting(&name, before),
            Change::Request { id, .. } => {
                let sql = "DELETE FROM main._syncline_request WHERE client = ?1 AND sequence = ?2";
                self.db.execute(sql, &[ValueRef::Text(&id.client), int(id.sequence)])
            }
        }
    }
}

fn undo_step(step: SchemaStep, version: Version) -> Result<SchemaStep> {
    use crate::change::ObjectKind::Table;
    let destroyed = |name: &str| {
        Error::diverged("UNDO_IMPOSSIBLE", format!("version {version} destroyed rows of {name:?}"))
            .hint("this copy is rebuilt from its source")
    };
    match step {
        SchemaStep::Create(object) => Ok(SchemaStep::Drop(object)),
        SchemaStep::Drop(object) if object.kind == Table && !schema::is_virtual_sql(&object) => {
            Err(destroyed(&object.name))
        }
        SchemaStep::Drop(object) => Ok(SchemaStep::Create(object)),
        SchemaStep::Alter { objects, dropped_column: Some(_) } => {
            Err(destroyed(objects.first().map_or("", |(before, _)| &before.name)))
        }
        SchemaStep::Alter { objects, dropped_column: None } => {
            let objects = objects.into_iter().map(|(before, after)| (after, before)).collect();
            Ok(SchemaStep::Alter { objects, dropped_column: None })
        }
    }
}
