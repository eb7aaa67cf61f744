//! Schema: the shape of a table, as far as rows and digests depend on it, and its differences.
//!
//! A shape is what `PRAGMA table_xinfo` and `PRAGMA table_list` report, and its fingerprint a hash of
//! that: two copies with equal fingerprints read the same columns in the same order, whatever text
//! made them. Which columns address a row ([`KeyKind`]) is found from the shape and from the index
//! list; `docs/formats.md` gives the rule.
//!
//! A schema step is one difference of `sqlite_schema` between the beginning and the end of a
//! statement. It holds both texts, so that it can be undone.
//!
//! # What is left out
//!
//! A fingerprint does not see defaults, CHECKs, collations, foreign keys, indexes, views nor
//! triggers: none of them changes what a stored row reads as. They travel as schema steps, hence
//! they are in the chain, and copies with equal chains have them alike. Nor does it see the one bit
//! that the key rule takes from the index list (`INTEGER PRIMARY KEY DESC`).

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

use super::ValueRef;
use super::digest::encode;

/// A hash of a table's columns: equal fingerprints mean equal columns in equal order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Fingerprint(pub u128);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A column as `table_xinfo` reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, as declared.
    pub name: String,
    /// Its declared type, as written (may be empty).
    pub decltype: String,
    /// Whether NOT NULL is declared (or implied, in WITHOUT ROWID and STRICT keys).
    pub notnull: bool,
    /// Its place in the primary key, from 1; 0 if it is not part of it.
    pub pk: u32,
    /// 0 ordinary, 1 hidden (virtual tables), 2 generated VIRTUAL, 3 generated STORED.
    pub hidden: u32,
}

impl Column {
    /// Whether its values are stored rows' own (generated columns are not hashed nor shipped).
    pub fn is_stored(&self) -> bool {
        self.hidden == 0
    }

    /// Whether SQLite gives it REAL affinity: integers in it read back as reals.
    pub fn is_real(&self) -> bool {
        let t = self.decltype.to_ascii_uppercase();
        let has = |s: &str| t.contains(s);
        !has("INT")
            && !has("CHAR")
            && !has("CLOB")
            && !has("TEXT")
            && !has("BLOB")
            && (has("REAL") || has("FLOA") || has("DOUB"))
    }
}

/// How a row is addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyKind {
    /// An INTEGER PRIMARY KEY: the column is the rowid.
    Alias(usize),
    /// These columns, in key order: WITHOUT ROWID, or a PRIMARY KEY that is all NOT NULL.
    Columns(Vec<usize>),
    /// No usable key: the rowid itself is replicated.
    Rowid,
}

/// A table's name, columns and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// As in `sqlite_schema`.
    pub name: String,
    /// In declared order, generated ones included.
    pub columns: Vec<Column>,
    /// Declared WITHOUT ROWID.
    pub without_rowid: bool,
    /// Declared STRICT.
    pub strict: bool,
    /// How rows are addressed.
    pub key: KeyKind,
    /// INTEGER PRIMARY KEY AUTOINCREMENT: `sqlite_sequence` belongs to its state.
    pub autoincrement: bool,
}

impl TableShape {
    /// Whether the rowid is shipped and hashed, because there is no usable key.
    pub fn keyed_by_rowid(&self) -> bool {
        self.key == KeyKind::Rowid
    }

    /// The columns whose values are hashed and shipped, with their index in `columns`.
    pub fn stored_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| column.is_stored())
    }

    /// hash128 over name, type, notnull, pk and hidden of each column, then WITHOUT ROWID and
    /// STRICT, each in the hash encoding of a value.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut buffer = Vec::new();
        for column in &self.columns {
            encode(&mut buffer, ValueRef::Text(&column.name));
            encode(&mut buffer, ValueRef::Text(&column.decltype));
            encode(&mut buffer, ValueRef::Integer(column.notnull.into()));
            encode(&mut buffer, ValueRef::Integer(column.pk.into()));
            encode(&mut buffer, ValueRef::Integer(column.hidden.into()));
        }
        encode(&mut buffer, ValueRef::Integer(self.without_rowid.into()));
        encode(&mut buffer, ValueRef::Integer(self.strict.into()));
        Fingerprint(xxh3_128(&buffer))
    }
}

/// What an entry of `sqlite_schema` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A table, virtual ones included.
    Table = 0,
    /// An index.
    Index = 1,
    /// A view.
    View = 2,
    /// A trigger.
    Trigger = 3,
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
    /// Names or texts changed in place, all by one statement: a table's new column name stands in its
    /// indexes and triggers too, and none of them parses without the others.
    Alter {
        /// Each object as it was and as it is.
        objects: Vec<(Object, Object)>,
        /// The stored column that went with it: the only alteration that rewrites rows.
        dropped_column: Option<String>,
    },
}
