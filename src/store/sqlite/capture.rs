//! Capture: every row that a connection changes, before and after, through SQLite's preupdate hook.
//!
//! Rows are shipped, never statements, so `random()`, `datetime('now')`, triggers and cascades are
//! safe. The hook does not tell everything, and takes nothing back:
//!
//! * `ROLLBACK TO` and a failed statement undo rows that were already reported. So there is a
//!   [`Mark`] for each savepoint *and* each statement, to cut the capture back to.
//! * It is silent on CREATE TABLE AS, ALTER, DROP, `sqlite_sequence`, `user_version`: the group
//!   carries those itself.
//! * An INTEGER in a REAL column is reported as it is stored, not as SELECT returns it.
//!
//! The same hook serves a copy that applies commits: there it writes no body (the commit's own is
//! kept), it only sums what the copy's *own* rows were and are. That is what makes a copy's digest a
//! proof: it never comes from the images that were sent.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use rusqlite::ffi;

use super::raw::{Db, invalid_utf8, value_of};
use super::schema::{Schema, is_internal, unique_keys};
use super::spool::Spool;
use crate::change::{
    DeclaredTable, Digest, Fingerprint, KeyKind, RowHasher, SchemaStep, TableDigest, TableShape,
    ValueRef,
};
use crate::error::{Error, Result};
use crate::store::ledger::Ledger;
use crate::store::{Refusals, RowCheck};

/// A table as the hook needs it.
pub(crate) struct CapturedTable {
    pub shape: TableShape,
    pub fingerprint: Fingerprint,
    /// Indexes of the stored columns, and whether each is REAL.
    stored: Vec<(c_int, bool)>,
    /// Fails for what the backing database cannot hold.
    check: Option<RowCheck>,
}

impl CapturedTable {
    fn new(shape: &TableShape, check: Option<RowCheck>) -> Self {
        let stored = shape.stored_columns().map(|(i, c)| (i as c_int, c.is_real())).collect();
        CapturedTable { fingerprint: shape.fingerprint(), stored, shape: shape.clone(), check }
    }
}

impl fmt::Debug for CapturedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapturedTable({})", self.shape.name)
    }
}

/// What happened to one table's digest.
#[derive(Debug, Clone)]
struct Delta {
    table: Arc<CapturedTable>,
    rows: i64,
    digest: Digest,
}

/// A point to cut the capture back to.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    length: u64,
    declared: Vec<Arc<CapturedTable>>,
    deltas: Vec<Delta>,
}

impl Mark {
    /// The tables that were declared there.
    pub fn declared_tables(&self) -> Vec<DeclaredTable> {
        let declared = |table: &Arc<CapturedTable>| DeclaredTable {
            name: table.shape.name.clone(),
            by_rowid: table.shape.keyed_by_rowid(),
        };
        self.declared.iter().map(declared).collect()
    }
}

/// What the hook does with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing: internal statements and schema steps.
    Off,
    /// Writes the body and sums digests: a writer.
    Record,
    /// Sums digests only: a copy that applies a commit.
    Sum,
}

/// The capture of the open transaction.
pub(crate) struct Capture {
    pub mode: Mode,
    pub spool: Spool,
    limit: u64,
    /// What the backing database refuses, if it is another store.
    refusals: Option<Arc<dyn Refusals>>,
    tables: HashMap<String, Arc<CapturedTable>>,
    /// Tables the body has declared since the last schema step, by index.
    declared: Vec<Arc<CapturedTable>>,
    deltas: Vec<Delta>,
    hasher: RowHasher,
    failure: Option<Error>,
}

impl Capture {
    /// Hooks it to a connection; it must be kept as long as the connection is open.
    pub fn install(db: Db, limit: u64) -> Box<Capture> {
        let mut capture = Box::new(Capture {
            mode: Mode::Off,
            spool: Spool::default(),
            limit,
            refusals: None,
            tables: HashMap::new(),
            declared: Vec::new(),
            deltas: Vec::new(),
            hasher: RowHasher::default(),
            failure: None,
        });
        // SAFETY: the box does not move, and its owner drops it after closing the connection.
        unsafe {
            let context = ptr::from_mut(capture.as_mut()).cast::<c_void>();
            ffi::sqlite3_preupdate_hook(db.0, Some(on_change), context);
        }
        capture
    }

    /// Takes over a schema that was read anew; tables are declared again from here on.
    pub fn set_schema(&mut self, db: Db, schema: &Schema) {
        if self.refusals.is_some() {
            // Another index, and a shape that is as it was may be checked otherwise.
            self.tables.clear();
        }
        self.tables.retain(|name, table| schema.shapes.get(name) == Some(&table.shape));
        for (name, shape) in &schema.shapes {
            if !self.tables.contains_key(name) {
                let check = self.check_of(db, shape).ok().flatten();
                self.tables.insert(name.clone(), Arc::new(CapturedTable::new(shape, check)));
            }
        }
    }

    /// From now on what `refusals` refuses fails here.
    pub fn set_refusals(&mut self, db: Db, refusals: Arc<dyn Refusals>, schema: &Schema) {
        self.refusals = Some(refusals);
        self.set_schema(db, schema);
    }

    fn check_of(&self, db: Db, shape: &TableShape) -> Result<Option<RowCheck>> {
        let Some(refusals) = &self.refusals else { return Ok(None) };
        refusals.table(shape, &unique_keys(db, shape)?).map(Some)
    }

    /// Fails if steps bring anything that the backing database cannot hold.
    pub fn check_steps(&self, db: Db, steps: &[SchemaStep], after: &Schema) -> Result<()> {
        let Some(refusals) = &self.refusals else { return Ok(()) };
        steps.iter().try_for_each(|step| refusals.step(step))?;
        after.shapes.values().try_for_each(|shape| self.check_of(db, shape).map(drop))
    }

    /// A table.
    pub fn table(&self, name: &str) -> Option<&Arc<CapturedTable>> {
        self.tables.get(name)
    }

    /// A schema step was written to the body: its reader forgets the tables declared before.
    pub fn forget_declared(&mut self) {
        self.declared.clear();
    }

    /// Where the capture stands.
    pub fn mark(&self) -> Mark {
        Mark {
            length: self.spool.len(),
            declared: self.declared.clone(),
            deltas: self.deltas.clone(),
        }
    }

    /// Whether anything was captured since `mark`.
    pub fn moved_since(&self, mark: &Mark) -> bool {
        self.spool.len() != mark.length
    }

    /// The bytes captured since `mark`, and the tables they may name.
    pub fn since(&mut self, mark: &Mark) -> Result<Vec<u8>> {
        self.spool.read(mark.length, self.spool.len())
    }

    /// The tables declared so far, by index.
    pub fn declared_tables(&self) -> &[Arc<CapturedTable>] {
        &self.declared
    }

    /// Forgets everything captured since `mark`.
    pub fn cut_back(&mut self, mark: &Mark) -> Result<()> {
        self.failure = None;
        self.declared.clone_from(&mark.declared);
        self.deltas.clone_from(&mark.deltas);
        self.spool.truncate(mark.length)
    }

    /// Empty, for the next transaction.
    pub fn clear(&mut self) {
        self.spool.clear();
        self.declared.clear();
        self.deltas.clear();
        self.failure = None;
    }

    /// The error that the hook could not return.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Adds what was captured since the last call to the digests.
    pub fn settle(&mut self, ledger: &mut Ledger) {
        for delta in self.deltas.drain(..) {
            let name = &delta.table.shape.name;
            let old = ledger.get(name).copied();
            let old = old.unwrap_or_else(|| TableDigest::empty(delta.table.fingerprint));
            let rows = old.rows.wrapping_add_signed(delta.rows);
            let digest = old.digest + delta.digest;
            ledger.set(name, TableDigest { fingerprint: delta.table.fingerprint, rows, digest });
        }
    }

    fn delta(&mut self, table: &Arc<CapturedTable>) -> &mut Delta {
        let found = self.deltas.iter().rposition(|d| Arc::ptr_eq(&d.table, table));
        let i = found.unwrap_or_else(|| {
            self.deltas.push(Delta { table: table.clone(), rows: 0, digest: Digest::default() });
            self.deltas.len() - 1
        });
        &mut self.deltas[i]
    }

    fn declare(&mut self, table: &Arc<CapturedTable>) -> usize {
        let found = self.declared.iter().rposition(|d| Arc::ptr_eq(d, table));
        found.unwrap_or_else(|| {
            self.spool.tail.table(&table.shape.name, table.shape.keyed_by_rowid());
            self.declared.push(table.clone());
            self.declared.len() - 1
        })
    }

    fn hash(&mut self, image: &Image<'_>) -> Digest {
        self.hasher.start(image.rowid);
        for value in &image.values {
            self.hasher.push(*value);
        }
        self.hasher.finish()
    }

    /// Takes in one row, as the hook reports it or as it was read back.
    pub fn row(
        &mut self,
        table: &Arc<CapturedTable>,
        before: Option<&Image<'_>>,
        after: Option<&Image<'_>>,
    ) -> Result<()> {
        if let (Mode::Record, Some(check), Some(after)) = (self.mode, &table.check, after) {
            check(&after.values)?;
        }
        let removed = before.map(|image| self.hash(image)).unwrap_or_default();
        let added = after.map(|image| self.hash(image)).unwrap_or_default();
        let delta = self.delta(table);
        delta.rows += i64::from(after.is_some()) - i64::from(before.is_some());
        delta.digest = delta.digest + added - removed;
        if self.mode != Mode::Record {
            return Ok(());
        }
        let index = self.declare(table);
        let body = &mut self.spool.tail;
        match (before, after) {
            (None, Some(after)) => body.insert(index, after.rowid, &after.values),
            (Some(before), None) => body.delete(index, before.rowid, &before.values),
            (Some(before), Some(after)) => {
                let rowids = before.rowid.zip(after.rowid);
                body.update(index, rowids, &before.values, &after.values);
            }
            (None, None) => {}
        }
        self.spool.entry_ended()?;
        if self.spool.len() > self.limit {
            return Err(Error::invalid(
                "COMMIT_TOO_LARGE",
                "the transaction changes too much at once",
            )
            .hint("write it in several transactions, or raise limits.commit"));
        }
        Ok(())
    }

    /// The hook's work, where `?` may be used.
    fn on_change(&mut self, db: Db, op: c_int, name: &str, keys: (i64, i64)) -> Result<()> {
        let table = match self.declared.last().or(self.deltas.last().map(|d| &d.table)) {
            Some(last) if last.shape.name == name => last.clone(),
            _ => match self.tables.get(name) {
                Some(table) => table.clone(),
                None if is_internal(name) => return Ok(()),
                None => return Err(unknown_table(name)),
            },
        };
        let by_rowid = table.shape.keyed_by_rowid();
        let before = (op != ffi::SQLITE_INSERT)
            .then(|| image(db, &table, ffi::sqlite3_preupdate_old, by_rowid.then_some(keys.0)))
            .transpose()?;
        let after = (op != ffi::SQLITE_DELETE)
            .then(|| image(db, &table, ffi::sqlite3_preupdate_new, by_rowid.then_some(keys.1)))
            .transpose()?;
        self.row(&table, before.as_ref(), after.as_ref())
    }
}

fn unknown_table(name: &str) -> Error {
    Error::corrupt("CAPTURE_UNKNOWN_TABLE", format!("a row of the unknown table {name:?} changed"))
        .hint("this is a fault in Syncline: please report the statement")
}

/// A row's stored values, as SELECT returns them.
pub(crate) struct Image<'a> {
    pub rowid: Option<i64>,
    pub values: Vec<ValueRef<'a>>,
}

type Getter = unsafe extern "C" fn(*mut ffi::sqlite3, c_int, *mut *mut ffi::sqlite3_value) -> c_int;

/// Reads one side of the row that is about to change.
fn image<'a>(db: Db, table: &CapturedTable, get: Getter, rowid: Option<i64>) -> Result<Image<'a>> {
    let mut values = Vec::with_capacity(table.stored.len());
    for (index, real) in &table.stored {
        let mut value = ptr::null_mut();
        // SAFETY: called from within the hook, with a column index of this table; the values live
        // until the hook returns, and `on_change` keeps none of them longer.
        let rc = unsafe { get(db.0, *index, &mut value) };
        if rc != ffi::SQLITE_OK {
            return Err(db.error(rc));
        }
        // SAFETY: as above.
        values.push(as_stored(unsafe { value_of(value)? }, *real));
    }
    Ok(Image { rowid, values })
}

/// An integer in a REAL column reads back as a real.
pub(crate) fn as_stored(value: ValueRef<'_>, real: bool) -> ValueRef<'_> {
    match value {
        ValueRef::Integer(i) if real => ValueRef::Real(i as f64),
        value => value,
    }
}

unsafe extern "C" fn on_change(
    context: *mut c_void,
    db: *mut ffi::sqlite3,
    op: c_int,
    schema: *const c_char,
    table: *const c_char,
    old_key: i64,
    new_key: i64,
) {
    // SAFETY: the context is the boxed Capture; SQLite calls from the thread that steps.
    let capture = unsafe { &mut *context.cast::<Capture>() };
    if capture.mode == Mode::Off || capture.failure.is_some() {
        return;
    }
    // SAFETY: SQLite passes NUL-terminated names.
    let (schema, name) = unsafe { (CStr::from_ptr(schema), CStr::from_ptr(table)) };
    if schema != c"main" {
        return;
    }
    let Ok(name) = name.to_str() else {
        capture.failure = Some(invalid_utf8());
        return;
    };
    if name.starts_with("_syncline_") {
        return;
    }
    let db = Db(db);
    if let Err(error) = capture.on_change(db, op, name, (old_key, new_key)) {
        capture.failure = Some(error);
    }
}

/// The columns and the condition by which SQL addresses a row of `shape`.
pub(crate) fn key_columns(shape: &TableShape) -> Vec<usize> {
    match &shape.key {
        KeyKind::Alias(column) => vec![*column],
        KeyKind::Columns(columns) => columns.clone(),
        KeyKind::Rowid => Vec::new(),
    }
}
