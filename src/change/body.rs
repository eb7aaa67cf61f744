//! The body of a commit: what one transaction did, entry by entry, in the order it happened.
//!
//! ```text
//! table     1 │ name │ by_rowid u8                    the next index; forgotten at a schema step
//! insert    2 │ table │ [rowid] │ image                after
//! delete    3 │ table │ [rowid] │ image                before
//! update    4 │ table │ [rowid] │ image │ [rowid] │ image   before, after
//! schema    5 │ 0 create, object │ 1 drop, object │ 2 alter, object, object, dropped column
//! sequence  6 │ name │ before │ after                  sqlite_sequence
//! setting   7 │ name │ before │ after                  user_version, application_id
//! request   8 │ client │ sequence │ response           idempotency
//! image     count │ value …                            stored columns in declared order
//! ```
//!
//! A table's name is written once a part of the history that shares a schema, and rows name it by
//! index. An image that belongs to a table keyed by rowid carries the rowid. In the after-image of an
//! update a value that did not change is one byte, [`SAME`]: an update costs what it changed.
//!
//! A body has one form only. Numbers are in their shortest form, reals are normalised, a value that
//! did not change is never written out; whatever else is refused as corrupt, so that equal changes
//! are equal bytes and the chain over them means what it says.
//!
//! # What is left out
//!
//! Column names and types: an image is read against the schema at its place in history. Whether an
//! image fits that schema is for the store that applies it to find out. Statements: rows travel, so
//! `random()` and triggers need not be repeated. Compression: the link's business.

use super::codec::{Decoder, Encoder, malformed};
use super::{Object, ObjectKind, SchemaStep, ValueRef};
use crate::error::Result;

const TABLE: u8 = 1;
const INSERT: u8 = 2;
const DELETE: u8 = 3;
const UPDATE: u8 = 4;
const SCHEMA: u8 = 5;
const SEQUENCE: u8 = 6;
const SETTING: u8 = 7;
const REQUEST: u8 = 8;
/// In an update's after-image: the value is the one before.
const SAME: u8 = 5;

const CREATE: u8 = 0;
const DROP: u8 = 1;
const ALTER: u8 = 2;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// It came.
    Insert,
    /// It changed (its key too, perhaps).
    Update,
    /// It went.
    Delete,
}

/// The id that a client brought for a write, so that a retry has no second effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// Who.
    pub client: String,
    /// Which of its writes.
    pub sequence: u64,
}

/// The values of a row image as they stand in the body, not yet decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image<'a> {
    /// The key of a table that has no usable one.
    pub rowid: Option<i64>,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Image<'a> {
    /// How many values it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has no value at all.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends the values; `before` holds those that an update may have left alone.
    fn decode_into(&self, before: &[ValueRef<'a>], out: &mut Vec<ValueRef<'a>>) -> Result<()> {
        let mut decoder = Decoder(self.bytes);
        for i in 0..self.count {
            let old = before.get(i).copied();
            let value = match decoder.u8()? {
                SAME => old,
                tag => Some(decoder.value_of(tag)?).filter(|new| old != Some(*new)),
            };
            out.push(value.ok_or_else(|| malformed("an unchanged value is not written as one"))?);
        }
        Ok(())
    }
}

/// One row's before-image and after-image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowChange<'a> {
    /// Index into the tables the body has declared so far.
    pub table: usize,
    /// What happened.
    pub op: Op,
    /// The row before: none for an insert.
    pub before: Option<Image<'a>>,
    /// The row after: none for a delete.
    pub after: Option<Image<'a>>,
}

impl<'a> RowChange<'a> {
    /// Replaces the content of `before` and `after` with the decoded values.
    ///
    /// The vectors are the caller's, so that a reader that keeps them allocates nothing per row.
    pub fn values(
        &self,
        before: &mut Vec<ValueRef<'a>>,
        after: &mut Vec<ValueRef<'a>>,
    ) -> Result<()> {
        before.clear();
        after.clear();
        if let Some(image) = &self.before {
            image.decode_into(&[], before)?;
        }
        if let Some(image) = &self.after {
            image.decode_into(before, after)?;
        }
        Ok(())
    }
}

/// One entry of a commit's body.
#[derive(Debug, Clone)]
pub enum Change<'a> {
    /// A row.
    Row(RowChange<'a>),
    /// A schema step. The tables declared so far are forgotten with it.
    Schema(SchemaStep),
    /// `sqlite_sequence` of an AUTOINCREMENT table, which no hook reports.
    Sequence {
        /// The table.
        table: String,
        /// Its entry before, if it had one.
        before: Option<i64>,
        /// Its entry after, if it has one.
        after: Option<i64>,
    },
    /// A number in the database header: `user_version` or `application_id`.
    Setting {
        /// The PRAGMA's name.
        name: String,
        /// Before.
        before: i64,
        /// After.
        after: i64,
    },
    /// The client's id of this write and what it was answered.
    Request {
        /// The id.
        id: RequestId,
        /// The answer, opaque to replication.
        response: &'a [u8],
    },
}

/// A table as a body declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredTable {
    /// Its name.
    pub name: String,
    /// Whether images carry the rowid.
    pub by_rowid: bool,
}

/// Appends entries to a body.
#[derive(Debug, Default)]
pub struct BodyWriter(pub Encoder);

impl BodyWriter {
    /// Declares the next table index. Rows of the table then bring a rowid if `by_rowid`, else none.
    pub fn table(&mut self, name: &str, by_rowid: bool) {
        self.0.u8(TABLE);
        self.0.bytes(name.as_bytes());
        self.0.u8(by_rowid.into());
    }

    fn row(&mut self, kind: u8, table: usize) {
        self.0.u8(kind);
        self.0.varint(table as u64);
    }

    fn rowid(&mut self, rowid: Option<i64>) {
        if let Some(rowid) = rowid {
            self.0.zigzag(rowid);
        }
    }

    fn image(&mut self, rowid: Option<i64>, values: &[ValueRef<'_>]) {
        self.rowid(rowid);
        self.0.varint(values.len() as u64);
        for value in values {
            self.0.value(*value);
        }
    }

    /// A row that came.
    pub fn insert(&mut self, table: usize, rowid: Option<i64>, after: &[ValueRef<'_>]) {
        self.row(INSERT, table);
        self.image(rowid, after);
    }

    /// A row that went.
    pub fn delete(&mut self, table: usize, rowid: Option<i64>, before: &[ValueRef<'_>]) {
        self.row(DELETE, table);
        self.image(rowid, before);
    }

    /// A row that changed; equal values are written once.
    pub fn update(
        &mut self,
        table: usize,
        rowids: Option<(i64, i64)>,
        before: &[ValueRef<'_>],
        after: &[ValueRef<'_>],
    ) {
        self.row(UPDATE, table);
        self.image(rowids.map(|r| r.0), before);
        self.rowid(rowids.map(|r| r.1));
        self.0.varint(after.len() as u64);
        for (i, value) in after.iter().enumerate() {
            if before.get(i) == Some(value) {
                self.0.u8(SAME);
            } else {
                self.0.value(*value);
            }
        }
    }

    /// A schema step; forget the tables declared so far.
    pub fn schema(&mut self, step: &SchemaStep) {
        self.0.u8(SCHEMA);
        match step {
            SchemaStep::Create(object) => {
                self.0.u8(CREATE);
                self.object(object);
            }
            SchemaStep::Drop(object) => {
                self.0.u8(DROP);
                self.object(object);
            }
            SchemaStep::Alter { objects, dropped_column } => {
                self.0.u8(ALTER);
                self.0.varint(objects.len() as u64);
                for (before, after) in objects {
                    self.object(before);
                    self.object(after);
                }
                self.0.u8(dropped_column.is_some().into());
                if let Some(column) = dropped_column {
                    self.0.bytes(column.as_bytes());
                }
            }
        }
    }

    fn object(&mut self, object: &Object) {
        self.0.u8(object.kind as u8);
        for text in [&object.name, &object.table, &object.sql] {
            self.0.bytes(text.as_bytes());
        }
    }

    fn optional(&mut self, n: Option<i64>) {
        self.0.u8(n.is_some().into());
        if let Some(n) = n {
            self.0.zigzag(n);
        }
    }

    /// A table's entry in `sqlite_sequence`.
    pub fn sequence(&mut self, table: &str, before: Option<i64>, after: Option<i64>) {
        self.0.u8(SEQUENCE);
        self.0.bytes(table.as_bytes());
        self.optional(before);
        self.optional(after);
    }

    /// `user_version` or `application_id`.
    pub fn setting(&mut self, name: &str, before: i64, after: i64) {
        self.0.u8(SETTING);
        self.0.bytes(name.as_bytes());
        self.0.zigzag(before);
        self.0.zigzag(after);
    }

    /// The client's id of this write and what it was answered.
    pub fn request(&mut self, id: &RequestId, response: &[u8]) {
        self.0.u8(REQUEST);
        self.0.bytes(id.client.as_bytes());
        self.0.varint(id.sequence);
        self.0.bytes(response);
    }
}

/// Reads the entries of a body; kept across the parts of a large commit.
#[derive(Debug, Default, Clone)]
pub struct BodyReader {
    tables: Vec<DeclaredTable>,
}

impl BodyReader {
    /// Goes on where a body was cut, with the tables declared up to there.
    pub fn resume(tables: Vec<DeclaredTable>) -> Self {
        BodyReader { tables }
    }

    /// The table a row change names, as long as no later entry was read. An index that was not
    /// declared is the caller's mistake, and a panic.
    pub fn table(&self, index: usize) -> &DeclaredTable {
        &self.tables[index]
    }

    /// How many tables are declared; falls to zero at a schema step.
    pub fn declared(&self) -> usize {
        self.tables.len()
    }

    /// The next entry, or none at the end of this part.
    pub fn next<'a>(&mut self, decoder: &mut Decoder<'a>) -> Result<Option<Change<'a>>> {
        while !decoder.is_empty() {
            match decoder.u8()? {
                TABLE => {
                    let name = decoder.text()?.to_owned();
                    let by_rowid = flag(decoder)?;
                    self.tables.push(DeclaredTable { name, by_rowid });
                }
                kind => return self.entry(kind, decoder).map(Some),
            }
        }
        Ok(None)
    }

    fn entry<'a>(&mut self, kind: u8, decoder: &mut Decoder<'a>) -> Result<Change<'a>> {
        Ok(match kind {
            INSERT | DELETE | UPDATE => Change::Row(self.row(kind, decoder)?),
            SCHEMA => {
                self.tables.clear();
                Change::Schema(schema_step(decoder)?)
            }
            SEQUENCE => Change::Sequence {
                table: decoder.text()?.to_owned(),
                before: optional(decoder)?,
                after: optional(decoder)?,
            },
            SETTING => Change::Setting {
                name: decoder.text()?.to_owned(),
                before: decoder.zigzag()?,
                after: decoder.zigzag()?,
            },
            REQUEST => Change::Request {
                id: RequestId { client: decoder.text()?.to_owned(), sequence: decoder.varint()? },
                response: decoder.bytes()?,
            },
            _ => return Err(malformed("an entry is of an unknown kind")),
        })
    }

    fn row<'a>(&self, kind: u8, decoder: &mut Decoder<'a>) -> Result<RowChange<'a>> {
        let index = decoder.varint()?;
        let table = usize::try_from(index).ok().filter(|i| *i < self.tables.len());
        let table = table.ok_or_else(|| malformed("a row's table was not declared"))?;
        let by_rowid = self.tables[table].by_rowid;
        let (op, before, after) = match kind {
            INSERT => (Op::Insert, None, Some(image(decoder, by_rowid, 0)?)),
            DELETE => (Op::Delete, Some(image(decoder, by_rowid, 0)?), None),
            _ => {
                let before = image(decoder, by_rowid, 0)?;
                let after = image(decoder, by_rowid, before.count)?;
                (Op::Update, Some(before), Some(after))
            }
        };
        Ok(RowChange { table, op, before, after })
    }
}

fn flag(decoder: &mut Decoder<'_>) -> Result<bool> {
    match decoder.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(malformed("a flag is neither 0 nor 1")),
    }
}

fn optional(decoder: &mut Decoder<'_>) -> Result<Option<i64>> {
    Ok(if flag(decoder)? { Some(decoder.zigzag()?) } else { None })
}

/// Finds the end of an image; its first `unchanged` values may be [`SAME`].
fn image<'a>(decoder: &mut Decoder<'a>, by_rowid: bool, unchanged: usize) -> Result<Image<'a>> {
    let rowid = by_rowid.then(|| decoder.zigzag()).transpose()?;
    let count = decoder.varint()?;
    let start = decoder.0;
    // A value is at least a byte, so that no count makes room for more than was sent.
    let count = usize::try_from(count).ok().filter(|n| *n <= start.len());
    let count = count.ok_or_else(|| malformed("an image has more values than bytes"))?;
    for i in 0..count {
        let tag = decoder.u8()?;
        if tag != SAME || i >= unchanged {
            decoder.value_of(tag)?;
        }
    }
    let bytes = &start[..start.len() - decoder.0.len()];
    Ok(Image { rowid, count, bytes })
}

fn object(decoder: &mut Decoder<'_>) -> Result<Object> {
    let kind = match decoder.u8()? {
        0 => ObjectKind::Table,
        1 => ObjectKind::Index,
        2 => ObjectKind::View,
        3 => ObjectKind::Trigger,
        _ => return Err(malformed("a schema object is of an unknown kind")),
    };
    Ok(Object {
        kind,
        name: decoder.text()?.to_owned(),
        table: decoder.text()?.to_owned(),
        sql: decoder.text()?.to_owned(),
    })
}

fn altered(decoder: &mut Decoder<'_>) -> Result<Vec<(Object, Object)>> {
    let count = decoder.varint()?;
    // Grown as it is read, never by the count: that was not checked.
    (0..count).map(|_| Ok((object(decoder)?, object(decoder)?))).collect()
}

fn schema_step(decoder: &mut Decoder<'_>) -> Result<SchemaStep> {
    Ok(match decoder.u8()? {
        CREATE => SchemaStep::Create(object(decoder)?),
        DROP => SchemaStep::Drop(object(decoder)?),
        ALTER => SchemaStep::Alter {
            objects: altered(decoder)?,
            dropped_column: if flag(decoder)? { Some(decoder.text()?.to_owned()) } else { None },
        },
        _ => return Err(malformed("a schema step is of an unknown kind")),
    })
}
