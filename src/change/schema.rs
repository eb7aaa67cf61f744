//! The shape of a table, as far as rows and digests depend on it.

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
