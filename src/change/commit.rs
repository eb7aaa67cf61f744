//! Changes and commits, and their bytes.
//!
//! ```text
//! frame   length u32 │ checksum u64 │ format u8 │ parts u32 │ region
//! region  previous chain 16 │ epoch u64 │ tag u64 │ version u64 │ at u64 │ body │ digest 16
//! chain   hash128(region)
//! ```
//!
//! The body is a row of entries (see [`BodyReader`]). A commit whose body is too large for one
//! frame travels in parts: each holds whole entries, the frame's body is then the chain itself,
//! and the chain is hashed over the parts in its place.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use super::codec::{Decoder, Encoder, FORMAT, malformed};
use super::{Chain, Digest, Epoch, LineageEntry, Position, Tag, Timestamp, ValueRef, Version};
use crate::error::{Error, Result};

const FRAME_HEADER: usize = 4 + 8;
const REGION_FIXED: usize = 16 + 8 + 8 + 8 + 8 + 16;

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

/// What an entry of `sqlite_schema` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A table, virtual ones included.
    Table,
    /// An index.
    Index,
    /// A view.
    View,
    /// A trigger.
    Trigger,
}

impl ObjectKind {
    /// As `sqlite_schema.type` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            ObjectKind::Table => "table",
            ObjectKind::Index => "index",
            ObjectKind::View => "view",
            ObjectKind::Trigger => "trigger",
        }
    }

    /// From `sqlite_schema.type`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "table" => ObjectKind::Table,
            "index" => ObjectKind::Index,
            "view" => ObjectKind::View,
            "trigger" => ObjectKind::Trigger,
            _ => return None,
        })
    }
}

/// One entry of `sqlite_schema`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// The table it belongs to.
    pub table: String,
    /// The statement that makes it, as SQLite stores it.
    pub sql: String,
}

/// One difference of `sqlite_schema`, never the client's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaStep {
    /// An object came.
    Create(Object),
    /// An object went (a table: with its rows).
    Drop(Object),
    /// An object's name or text changed in place.
    Alter {
        /// As it was.
        before: Object,
        /// As it is.
        after: Object,
        /// The stored column that went with it: the only alteration that rewrites rows.
        dropped_column: Option<String>,
    },
}

/// The values of a row image as they stand in the body, not yet decoded.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// The key of a table that has no usable one.
    pub rowid: Option<i64>,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Image<'a> {
    /// Appends the values; `same` gives those that an update left alone.
    fn decode_into(
        &self,
        same: Option<&[ValueRef<'a>]>,
        out: &mut Vec<ValueRef<'a>>,
    ) -> Result<()> {
        let mut decoder = Decoder(self.bytes);
        for i in 0..self.count {
            let tag = decoder.u8()?;
            out.push(if tag == SAME {
                *same
                    .and_then(|s| s.get(i))
                    .ok_or_else(|| malformed("an unchanged value has no before"))?
            } else {
                decoder.value_of(tag)?
            });
        }
        Ok(())
    }
}

/// One row's before-image and after-image.
#[derive(Debug, Clone, Copy)]
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
    pub fn values(
        &self,
        before: &mut Vec<ValueRef<'a>>,
        after: &mut Vec<ValueRef<'a>>,
    ) -> Result<()> {
        before.clear();
        after.clear();
        if let Some(image) = &self.before {
            image.decode_into(None, before)?;
        }
        if let Some(image) = &self.after {
            image.decode_into(self.before.is_some().then_some(before.as_slice()), after)?;
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
    /// Declares the next table index.
    pub fn table(&mut self, name: &str, by_rowid: bool) {
        self.0.u8(TABLE);
        self.0.bytes(name.as_bytes());
        self.0.u8(by_rowid.into());
    }

    fn image(&mut self, rowid: Option<i64>) {
        if let Some(rowid) = rowid {
            self.0.zigzag(rowid);
        }
    }

    fn values(&mut self, values: &[ValueRef<'_>]) {
        self.0.varint(values.len() as u64);
        for value in values {
            self.0.value(*value);
        }
    }

    /// A row that came.
    pub fn insert(&mut self, table: usize, rowid: Option<i64>, after: &[ValueRef<'_>]) {
        self.0.u8(INSERT);
        self.0.varint(table as u64);
        self.image(rowid);
        self.values(after);
    }

    /// A row that went.
    pub fn delete(&mut self, table: usize, rowid: Option<i64>, before: &[ValueRef<'_>]) {
        self.0.u8(DELETE);
        self.0.varint(table as u64);
        self.image(rowid);
        self.values(before);
    }

    /// A row that changed; equal values are written once.
    pub fn update(
        &mut self,
        table: usize,
        rowids: Option<(i64, i64)>,
        before: &[ValueRef<'_>],
        after: &[ValueRef<'_>],
    ) {
        self.0.u8(UPDATE);
        self.0.varint(table as u64);
        self.image(rowids.map(|r| r.0));
        self.values(before);
        self.image(rowids.map(|r| r.1));
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
        let object = |e: &mut Encoder, o: &Object| {
            e.u8(o.kind as u8);
            e.bytes(o.name.as_bytes());
            e.bytes(o.table.as_bytes());
            e.bytes(o.sql.as_bytes());
        };
        match step {
            SchemaStep::Create(o) => {
                self.0.u8(0);
                object(&mut self.0, o);
            }
            SchemaStep::Drop(o) => {
                self.0.u8(1);
                object(&mut self.0, o);
            }
            SchemaStep::Alter { before, after, dropped_column } => {
                self.0.u8(2);
                object(&mut self.0, before);
                object(&mut self.0, after);
                self.0.u8(dropped_column.is_some().into());
                if let Some(column) = dropped_column {
                    self.0.bytes(column.as_bytes());
                }
            }
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
    /// The table a row change names.
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
            let kind = decoder.u8()?;
            return Ok(Some(match kind {
                TABLE => {
                    let name = decoder.text()?.to_owned();
                    let by_rowid = flag(decoder)?;
                    self.tables.push(DeclaredTable { name, by_rowid });
                    continue;
                }
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
                    id: RequestId {
                        client: decoder.text()?.to_owned(),
                        sequence: decoder.varint()?,
                    },
                    response: decoder.bytes()?,
                },
                _ => return Err(malformed("an entry is of an unknown kind")),
            }));
        }
        Ok(None)
    }

    fn row<'a>(&self, kind: u8, decoder: &mut Decoder<'a>) -> Result<RowChange<'a>> {
        let table = decoder.varint()? as usize;
        let by_rowid = self
            .tables
            .get(table)
            .ok_or_else(|| malformed("a row's table was not declared"))?
            .by_rowid;
        let before = (kind != INSERT).then(|| image(decoder, by_rowid, false)).transpose()?;
        let after =
            (kind != DELETE).then(|| image(decoder, by_rowid, kind == UPDATE)).transpose()?;
        let op = match kind {
            INSERT => Op::Insert,
            DELETE => Op::Delete,
            _ => Op::Update,
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

fn image<'a>(decoder: &mut Decoder<'a>, by_rowid: bool, same_allowed: bool) -> Result<Image<'a>> {
    let rowid = by_rowid.then(|| decoder.zigzag()).transpose()?;
    let count = decoder.varint()?;
    let start = decoder.0;
    if count > start.len() as u64 {
        return Err(malformed("an image has more values than bytes"));
    }
    for _ in 0..count {
        let tag = decoder.u8()?;
        if tag != SAME || !same_allowed {
            decoder.value_of(tag)?;
        }
    }
    let bytes = &start[..start.len() - decoder.0.len()];
    Ok(Image { rowid, count: count as usize, bytes })
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

fn schema_step(decoder: &mut Decoder<'_>) -> Result<SchemaStep> {
    Ok(match decoder.u8()? {
        0 => SchemaStep::Create(object(decoder)?),
        1 => SchemaStep::Drop(object(decoder)?),
        2 => SchemaStep::Alter {
            before: object(decoder)?,
            after: object(decoder)?,
            dropped_column: if flag(decoder)? { Some(decoder.text()?.to_owned()) } else { None },
        },
        _ => return Err(malformed("a schema step is of an unknown kind")),
    })
}

/// Hashes a chain over a body that is not in one piece.
pub struct ChainHasher(Xxh3);

impl ChainHasher {
    /// Begins with what stands before the body.
    pub fn new(previous: Chain, epoch: Epoch, tag: Tag, version: Version, at: Timestamp) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(&previous.to_bytes());
        for n in [epoch.0, tag.0, version.0, at.0] {
            hasher.update(&n.to_be_bytes());
        }
        ChainHasher(hasher)
    }

    /// The next bytes of the body.
    pub fn update(&mut self, body: &[u8]) {
        self.0.update(body);
    }

    /// Ends with the digest.
    pub fn finish(mut self, digest: Digest) -> Chain {
        self.0.update(&digest.to_bytes());
        Chain(self.0.digest128())
    }
}

/// What a transaction did, not yet given its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Captured {
    /// When it was committed.
    pub at: Timestamp,
    /// Its entries.
    pub body: Vec<u8>,
    /// The database's digest after it.
    pub digest: Digest,
}

impl Captured {
    /// Gives it its place behind `previous`.
    pub fn order(self, reign: &LineageEntry, version: Version, previous: Chain) -> Commit {
        Commit::seal(
            Header {
                previous,
                epoch: reign.epoch,
                tag: reign.tag,
                version,
                at: self.at,
                digest: self.digest,
            },
            &self.body,
        )
    }
}

/// What a commit says of itself, without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The chain it continues: a gap shows at once.
    pub previous: Chain,
    /// The reign that made it.
    pub epoch: Epoch,
    /// The reign's mark.
    pub tag: Tag,
    /// Its place.
    pub version: Version,
    /// When it was committed.
    pub at: Timestamp,
    /// The database's digest after it.
    pub digest: Digest,
}

/// The changes of one transaction, in the order they happened, at their place in history: the unit
/// that is ordered, logged, shipped, applied and undone.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    header: Header,
    chain: Chain,
    parts: u32,
    frame: Vec<u8>,
}

impl Commit {
    /// A commit whose body is in one piece.
    pub fn seal(header: Header, body: &[u8]) -> Commit {
        let (frame, chain) = frame(&header, 0, body);
        Commit { header, chain, parts: 0, frame }
    }

    /// A commit whose body lies in `parts` pieces beside it, hashed into `chain` by a [`ChainHasher`].
    pub fn seal_parts(header: Header, parts: u32, chain: Chain) -> Commit {
        let (frame, _) = frame(&header, parts, &chain.to_bytes());
        Commit { header, chain, parts, frame }
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its place.
    pub fn version(&self) -> Version {
        self.header.version
    }

    /// The history up to and with it.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// Where a copy stands that has applied it.
    pub fn position(&self) -> Position {
        let Header { epoch, version, digest, .. } = self.header;
        Position { epoch, version, chain: self.chain, digest }
    }

    /// How many parts lie beside it; 0 if [`body`](Self::body) is all.
    pub fn parts(&self) -> u32 {
        self.parts
    }

    /// The entries (empty if they lie in parts).
    pub fn body(&self) -> &[u8] {
        if self.parts > 0 {
            return &[];
        }
        &self.frame[FRAME_HEADER + 5 + REGION_FIXED - 16..self.frame.len() - 16]
    }

    /// The bytes as they are stored and sent.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Reads the next frame, checking its length and checksum before anything else.
    pub fn read(decoder: &mut Decoder<'_>) -> Result<Commit> {
        let whole = decoder.0;
        let length = u32::from_be_bytes(decoder.take(4)?.try_into().expect("four bytes")) as usize;
        let checksum = decoder.u64()?;
        let content = decoder.take(length)?;
        if xxh3_64(content) != checksum {
            return Err(malformed("its checksum does not match"));
        }
        let mut d = Decoder(content);
        let format = d.u8()?;
        if format != FORMAT {
            return Err(Error::invalid(
                "FORMAT_UNKNOWN",
                format!("a commit is in format {format}; this build reads format {FORMAT}"),
            )
            .hint("upgrade this node before the one that writes"));
        }
        let parts = u32::from_be_bytes(d.take(4)?.try_into().expect("four bytes"));
        let region = d.0;
        if region.len() < REGION_FIXED {
            return Err(malformed("a commit is too short"));
        }
        let header = Header {
            previous: Chain(d.u128()?),
            epoch: Epoch(d.u64()?),
            tag: Tag(d.u64()?),
            version: Version(d.u64()?),
            at: Timestamp(d.u64()?),
            digest: Digest::from_bytes(region[region.len() - 16..].try_into().expect("sixteen")),
        };
        let chain = if parts == 0 {
            Chain(xxh3_128(region))
        } else if region.len() == REGION_FIXED + 16 {
            Chain(d.u128()?)
        } else {
            return Err(malformed("a commit in parts has a body"));
        };
        let frame = whole[..FRAME_HEADER + length].to_vec();
        Ok(Commit { header, chain, parts, frame })
    }
}

/// Lays out a frame around `body`; returns it with the hash of its region.
fn frame(header: &Header, parts: u32, body: &[u8]) -> (Vec<u8>, Chain) {
    let content = 5 + REGION_FIXED + body.len();
    let mut e = Vec::with_capacity(FRAME_HEADER + content);
    e.extend_from_slice(&(content as u32).to_be_bytes());
    e.extend_from_slice(&[0; 8]);
    e.push(FORMAT);
    e.extend_from_slice(&parts.to_be_bytes());
    e.extend_from_slice(&header.previous.to_bytes());
    for n in [header.epoch.0, header.tag.0, header.version.0, header.at.0] {
        e.extend_from_slice(&n.to_be_bytes());
    }
    e.extend_from_slice(body);
    e.extend_from_slice(&header.digest.to_bytes());
    let chain = Chain(xxh3_128(&e[FRAME_HEADER + 5..]));
    let checksum = xxh3_64(&e[FRAME_HEADER..]);
    e[4..12].copy_from_slice(&checksum.to_be_bytes());
    (e, chain)
}
