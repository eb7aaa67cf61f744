//! Applying commits: rows, log and position in one transaction, or none of them.
//!
//! ```text
//! BEGIN │ fence │ rows … │ lineage │ log, digests, NOTIFY │        COMMIT
//! └────────── sent without waiting, one round trip ────────┘ answers └─ one more
//! ```
//!
//! The fence moves the position to where the copy will stand: it is the first statement, so whoever was
//! overtaken writes nothing. Inserts into one table that follow each other are one statement, also across
//! commits. If anything does not fit, the transaction is taken back and done again commit by commit, which
//! tells exactly which one it was; those before it are applied.
//!
//! Unique keys are checked at the end of each statement, not at the end of the transaction (they could be):
//! a violation then belongs to a commit. Rows come in the order in which SQLite accepted them; across tables
//! only where PostgreSQL has foreign keys that somebody made.

use std::collections::HashMap;
use std::sync::Arc;

use super::parameter::{Parameter, Sent, bytes, int, text};
use super::pipeline::{Expect, Pipeline};
use super::tables::Table;
use super::{PostgresStore, copy, log, state};
use crate::change::{
    BodyReader, Change, Commit, DeclaredTable, Decoder, Digest, Lineage, Op, Position, RequestId,
    RowChange, RowHasher, TableDigest, Tag, Timestamp, Value, ValueRef, Version,
};
use crate::error::{Error, Result};
use crate::store::Parts;
use crate::store::history::{self, diverged};

/// A run of inserts is sent when it has so many bytes, or rows.
const RUN_BYTES: usize = 1 << 20;
const RUN_ROWS: usize = 10_000;
/// A run of so many rows is worth the round trips of a COPY.
const COPY_ROWS: usize = 1_000;

/// Inserts into one table, column by column.
struct Run {
    columns: Vec<Vec<Sent>>,
    rows: usize,
    bytes: usize,
    version: Version,
}

impl Run {
    /// Row by row, as COPY has it.
    fn as_text(&self, table: &Table) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.bytes);
        for row in 0..self.rows {
            let values = self.columns.iter().map(|column| &column[row].0);
            copy::add_row(&mut text, table.columns.iter().map(|(_, kind)| *kind).zip(values));
        }
        text
    }
}

/// An open transaction.
pub(crate) struct Work {
    /// Where the copy stands once it is committed.
    pub becomes: (Position, Tag),
    pub lineage: Lineage,
    /// The commit whose entries are on their way.
    pub version: Version,
    pub pipeline: Pipeline,
    runs: HashMap<String, Run>,
    moved: HashMap<String, (i64, Digest)>,
    hasher: RowHasher,
    /// The schema is another than at its beginning.
    pub schema_changed: bool,
    /// The last row of the log, which its end writes.
    pub logged: Option<Vec<Parameter>>,
}

/// Whether an error says that the copy and its source parted.
fn parts_ways(error: &Error) -> bool {
    error.code() == "DIVERGED"
}

impl PostgresStore {
    /// Applies commits in one transaction. If one does not fit, those before it are applied and the error
    /// names it (`DIVERGED`).
    pub(crate) fn apply_commits(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
    ) -> Result<Position> {
        let error = match self.try_apply(lineage, commits, parts, None) {
            Err(error) if parts_ways(&error) && !commits.is_empty() => error,
            done => return done,
        };
        let mut fitting = 0;
        if commits.len() > 1 {
            match self.try_apply(lineage, commits, parts, Some(&mut fitting)) {
                Err(exact) if parts_ways(&exact) => {
                    if fitting > 0 {
                        self.try_apply(lineage, &commits[..fitting], parts, None)?;
                    }
                    return Err(exact);
                }
                done => return done,
            }
        }
        Err(error)
    }

    /// `fitting`: counts the commits that fit, one by one.
    pub(super) fn try_apply(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
        mut fitting: Option<&mut usize>,
    ) -> Result<Position> {
        let end = commits.last().map_or(self.position, Commit::position);
        let becomes = history::under(lineage, end, self.tag);
        let at = commits.last().map(|commit| commit.header().at);
        self.in_transaction(becomes, at, lineage.clone(), |store, work| {
            history::check_lineage(&store.lineage, store.position.version, lineage)?;
            let mut head = store.position;
            for commit in commits {
                store.apply_one(work, &head, lineage, commit, parts)?;
                head = commit.position();
                if let Some(fitting) = fitting.as_deref_mut() {
                    store.settle_rows(work)?;
                    work.pipeline.finish(store.session()?)?;
                    *fitting += 1;
                }
            }
            store.settle_rows(work)?;
            let mut rows = log::append(commits);
            work.logged = rows.pop_if(|(sql, _)| *sql == log::INSERT).map(|(_, row)| row);
            store.requests(work, rows)
        })
    }

    fn apply_one(
        &mut self,
        work: &mut Work,
        head: &Position,
        lineage: &Lineage,
        commit: &Commit,
        parts: Parts<'_>,
    ) -> Result<()> {
        let h = commit.header();
        history::check_place(head, lineage, h)?;
        work.version = h.version;
        let mut reader = BodyReader::default();
        self.each_body(work, commit, parts, |store, work, body| {
            store.apply_body(work, &mut reader, body, h.at)
        })?;
        self.settle_digests(work);
        history::check_digest(self.ledger.total(), h)
    }

    /// Hands over the body of a commit. That of a large one comes in parts, which are stored on the way.
    pub(super) fn each_body(
        &mut self,
        work: &mut Work,
        commit: &Commit,
        parts: Parts<'_>,
        mut each: impl FnMut(&mut PostgresStore, &mut Work, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if commit.parts() == 0 {
            return each(self, work, commit.body());
        }
        history::each_part(commit, parts, |body| {
            self.requests(work, [log::append_part(commit.version(), body)])?;
            each(self, work, body)?;
            // Nothing of a large commit is kept longer than it must.
            self.settle_rows(work)?;
            work.pipeline.finish(self.session()?)
        })
    }

    /// Applies the entries of one part, in order.
    fn apply_body(
        &mut self,
        work: &mut Work,
        reader: &mut BodyReader,
        body: &[u8],
        at: Timestamp,
    ) -> Result<()> {
        let mut decoder = Decoder(body);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        while let Some(change) = reader.next(&mut decoder)? {
            match change {
                Change::Row(row) => {
                    row.values(&mut before, &mut after)?;
                    self.apply_row(work, reader.table(row.table), &row, &before, &after)?;
                }
                Change::Schema(step) => self.apply_step(work, &step)?,
                other => self.apply_beside_rows(work, other, at)?,
            }
        }
        Ok(())
    }

    /// Applies what a commit says of neither rows nor schema.
    pub(super) fn apply_beside_rows(
        &mut self,
        work: &mut Work,
        change: Change<'_>,
        at: Timestamp,
    ) -> Result<()> {
        let request = match change {
            Change::Row(_) | Change::Schema(_) => return Ok(()),
            Change::Sequence { table, after, .. } => state::write_sequence(&table, after),
            Change::Setting { name, after, .. } => write_setting(&name, after)?,
            Change::Request { id, response } => write_request(&id, response, work.version, at),
        };
        self.requests(work, [request])
    }

    fn table_for(&self, declared: &DeclaredTable, version: Version) -> Result<Arc<Table>> {
        let missing =
            |what: &str| diverged(version, format_args!("the table {:?} {what}", declared.name));
        let table = self.tables.get(&declared.name).ok_or_else(|| missing("is not here"))?;
        if table.altered {
            return Err(missing("was altered here"));
        }
        if table.shape.keyed_by_rowid() != declared.by_rowid {
            return Err(missing("has another key here"));
        }
        Ok(table.clone())
    }

    /// Sends off what one row change means, and adds up its images.
    pub(crate) fn apply_row(
        &mut self,
        work: &mut Work,
        declared: &DeclaredTable,
        row: &RowChange<'_>,
        before: &[ValueRef<'_>],
        after: &[ValueRef<'_>],
    ) -> Result<()> {
        let table = self.table_for(declared, work.version)?;
        self.keep_order(work, &declared.name)?;
        if row.before.is_some() {
            check_width(&table, before, work.version)?;
            work.count(&declared.name, row.before.and_then(|i| i.rowid), before, false);
        }
        let (old_id, new_id) = (row.before.and_then(|i| i.rowid), row.after.and_then(|i| i.rowid));
        match row.op {
            Op::Insert => self.insert_row(work, declared, new_id, after),
            Op::Delete => {
                self.send_run(work, &declared.name)?;
                self.send_row(work, &table, &table.delete, numbered(old_id, before))
            }
            Op::Update => {
                self.send_run(work, &declared.name)?;
                work.count_new(&table, new_id, after)?;
                let (mut old, new) = (numbered(old_id, before), numbered(new_id, after));
                let mut changed: Vec<usize> =
                    (0..old.len()).filter(|i| old[*i] != new[*i]).collect();
                if changed.is_empty() {
                    changed.push(table.key[0]);
                }
                let sql = table.update(&changed);
                old.extend(changed.iter().map(|i| new[*i]));
                self.send_row(work, &table, &sql, old)
            }
        }
    }

    /// Adds a row to those that are sent together.
    pub(crate) fn insert_row(
        &mut self,
        work: &mut Work,
        declared: &DeclaredTable,
        rowid: Option<i64>,
        values: &[ValueRef<'_>],
    ) -> Result<()> {
        let table = self.table_for(declared, work.version)?;
        work.count_new(&table, rowid, values)?;
        self.add_to_run(work, &table, rowid, values)
    }

    fn send_row(
        &mut self,
        work: &mut Work,
        table: &Table,
        sql: &str,
        values: Vec<ValueRef<'_>>,
    ) -> Result<()> {
        let (table, version) = (table.shape.name.as_str().into(), work.version);
        let expect = Expect::Rows { count: 1, table, version };
        let parameters = values.into_iter().map(Parameter::from).collect();
        work.pipeline.send(self.session()?, sql, parameters, expect)
    }

    fn add_to_run(
        &mut self,
        work: &mut Work,
        table: &Table,
        rowid: Option<i64>,
        after: &[ValueRef<'_>],
    ) -> Result<()> {
        let version = work.version;
        if !work.runs.contains_key(&table.shape.name) {
            let columns = table.columns.iter().map(|_| Vec::new()).collect();
            work.runs.insert(table.shape.name.clone(), Run { columns, rows: 0, bytes: 0, version });
        }
        let run = work.runs.get_mut(&table.shape.name).expect("it was put there");
        for (column, value) in run.columns.iter_mut().zip(numbered(rowid, after)) {
            run.bytes += size(value);
            column.push(Sent(value.to_owned()));
        }
        run.rows += 1;
        match run.rows >= RUN_ROWS || run.bytes >= RUN_BYTES {
            true => self.send_run(work, &table.shape.name),
            false => Ok(()),
        }
    }

    fn send_run(&mut self, work: &mut Work, name: &str) -> Result<()> {
        let Some(run) = work.runs.remove(name) else { return Ok(()) };
        let table = self.tables[name].clone();
        let (count, version) = (run.rows as u64, run.version);
        let expect = Expect::Rows { count, table: name.into(), version };
        if run.rows >= COPY_ROWS {
            let rows = run.as_text(&table);
            return work.pipeline.copy(self.session()?, &table.copy, rows, &expect);
        }
        let columns = run.columns.into_iter().map(Parameter::Many).collect();
        work.pipeline.send(self.session()?, &table.insert, columns, expect)
    }

    /// Where foreign keys look on, a row must not overtake those of other tables.
    fn keep_order(&mut self, work: &mut Work, name: &str) -> Result<()> {
        if !self.has_foreign_keys {
            return Ok(());
        }
        let others: Vec<String> = work.runs.keys().filter(|run| *run != name).cloned().collect();
        others.iter().try_for_each(|other| self.send_run(work, other))
    }

    /// Sends off all rows that wait for others to join them.
    pub(crate) fn settle_rows(&mut self, work: &mut Work) -> Result<()> {
        let names: Vec<String> = work.runs.keys().cloned().collect();
        names.iter().try_for_each(|name| self.send_run(work, name))
    }

    /// Adds to the digests what the rows since the last call come to.
    pub(crate) fn settle_digests(&mut self, work: &mut Work) {
        for (name, (rows, digest)) in work.moved.drain() {
            let Some(table) = self.tables.get(&name) else { continue };
            let empty = || TableDigest::empty(table.shape.fingerprint());
            let old = self.ledger.get(&name).copied().unwrap_or_else(empty);
            let rows = old.rows.wrapping_add_signed(rows);
            self.ledger.set(&name, TableDigest { rows, digest: old.digest + digest, ..old });
        }
    }

    /// Sends off statements of ours.
    pub(crate) fn requests(
        &mut self,
        work: &mut Work,
        requests: impl IntoIterator<Item = state::Request>,
    ) -> Result<()> {
        let session = self.session()?;
        requests.into_iter().try_for_each(|request| work.pipeline.request(session, request))
    }
}

impl Work {
    /// Towards a position, on a lineage.
    pub fn towards(becomes: (Position, Tag), lineage: Lineage) -> Work {
        Work {
            becomes,
            lineage,
            version: Version(0),
            pipeline: Pipeline::default(),
            runs: HashMap::new(),
            moved: HashMap::new(),
            hasher: RowHasher::default(),
            schema_changed: false,
            logged: None,
        }
    }

    /// Counts a row that came, if the table can hold it.
    fn count_new(
        &mut self,
        table: &Table,
        rowid: Option<i64>,
        values: &[ValueRef<'_>],
    ) -> Result<()> {
        check_width(table, values, self.version)?;
        table.types.check(values)?;
        self.count(&table.shape.name, rowid, values, true);
        Ok(())
    }

    /// Counts a row that came or went.
    fn count(&mut self, table: &str, rowid: Option<i64>, values: &[ValueRef<'_>], came: bool) {
        self.hasher.start(rowid);
        values.iter().for_each(|value| self.hasher.push(*value));
        let digest = self.hasher.finish();
        if !self.moved.contains_key(table) {
            self.moved.insert(table.to_owned(), (0, Digest::default()));
        }
        let (rows, sum) = self.moved.get_mut(table).expect("it was put there");
        match came {
            true => (*rows, *sum) = (*rows + 1, *sum + digest),
            false => (*rows, *sum) = (*rows - 1, *sum - digest),
        }
    }
}

fn check_width(table: &Table, values: &[ValueRef<'_>], version: Version) -> Result<()> {
    if values.len() == table.types.columns.len() {
        return Ok(());
    }
    let name = &table.shape.name;
    Err(diverged(version, format_args!("the table {name:?} has other columns here")))
}

/// Values as the statements number them: the rowid first, if it is the key.
fn numbered<'a>(rowid: Option<i64>, values: &[ValueRef<'a>]) -> Vec<ValueRef<'a>> {
    rowid.map(ValueRef::Integer).into_iter().chain(values.iter().copied()).collect()
}

fn size(value: ValueRef<'_>) -> usize {
    std::mem::size_of::<Value>()
        + match value {
            ValueRef::Text(text) => text.len(),
            ValueRef::Blob(blob) => blob.len(),
            _ => 0,
        }
}

/// What sets `user_version` or `application_id`.
pub(crate) fn write_setting(name: &str, value: i64) -> Result<state::Request> {
    match name {
        "user_version" | "application_id" => Ok(state::write_setting(name, value)),
        _ => Err(Error::corrupt("FORMAT_CORRUPT", format!("a commit sets the unknown {name:?}"))),
    }
}

/// What keeps the answer to a client's write, so that a retry has no second effect.
fn write_request(
    id: &RequestId,
    response: &[u8],
    version: Version,
    at: Timestamp,
) -> state::Request {
    let sql = "INSERT INTO _syncline_request (client, sequence, version, at, response) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT (client, sequence) \
               DO UPDATE SET version = $3, at = $4, response = $5";
    let id = [text(&id.client), int(id.sequence)];
    let rest = [int(version.0), int(at.0), bytes(response)];
    (sql, id.into_iter().chain(rest).collect())
}
