//! Digests: a 128-bit sum over rows, so that a copy can prove that it equals its source.
//!
//! ```text
//! row       hash128(key ‖ v1 ‖ … ‖ vn)                     trailing NULLs dropped
//! table     Σ row                                           mod 2^128
//! database  Σ hash128(text name ‖ fingerprint ‖ table)      mod 2^128
//! ```
//!
//! `key` is the rowid of a table that has no usable key, and nothing otherwise. A sum does not depend
//! on the order of the rows, and a commit keeps it up to date by taking away the rows before and
//! adding the rows after. A sum, never XOR: two equal terms must not cancel, or a copy that holds a row
//! three times would pass for one that holds it once. `docs/formats.md` draws the bytes.
//!
//! Trailing NULLs are dropped so that ADD COLUMN without a default, which rewrites no row, changes no
//! row's hash either; only the fingerprint, hence the database's digest, moves.
//!
//! # What is left out
//!
//! XXH3-128 with seed 0 finds accidents; it does not stop an adversary. The number of rows is kept
//! beside a digest and is no part of it. Views, triggers and indexes are in the chain only. Where a
//! digest differs, it does not say which row: comparing ranges does.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use xxhash_rust::xxh3::xxh3_128;

use super::value::real_bits;
use super::{Fingerprint, ValueRef};

/// A sum of row hashes, modulo 2^128.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub u128);

impl Digest {
    /// The canonical 16 bytes: big-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From 16 stored bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Digest(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Add for Digest {
    type Output = Digest;
    fn add(self, other: Digest) -> Digest {
        #[cfg(feature = "planted")]
        if crate::planted("xor-digest") {
            return Digest(self.0 ^ other.0);
        }
        Digest(self.0.wrapping_add(other.0))
    }
}

impl Sub for Digest {
    type Output = Digest;
    fn sub(self, other: Digest) -> Digest {
        #[cfg(feature = "planted")]
        if crate::planted("xor-digest") {
            return Digest(self.0 ^ other.0);
        }
        Digest(self.0.wrapping_sub(other.0))
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Digest) {
        *self = *self + other;
    }
}

impl SubAssign for Digest {
    fn sub_assign(&mut self, other: Digest) {
        *self = *self - other;
    }
}

/// As much of a buffer as a hasher keeps.
const KEPT: usize = 1 << 20;

/// Hashes one row: push the key (if the table is keyed by rowid) and the values, then finish.
///
/// The buffer is kept between rows, so that hashing allocates nothing; one that a huge row needed is
/// given back.
#[derive(Debug, Default)]
pub struct RowHasher {
    buffer: Vec<u8>,
    /// Length of the buffer after the last value that was not NULL.
    significant: usize,
}

impl RowHasher {
    /// Begins a row; `rowid` is the key of a table that has no usable one.
    pub fn start(&mut self, rowid: Option<i64>) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        if let Some(rowid) = rowid {
            encode(&mut self.buffer, ValueRef::Integer(rowid));
        }
        self.significant = self.buffer.len();
    }

    /// Adds the next value in declared order, generated columns left out.
    pub fn push(&mut self, value: ValueRef<'_>) {
        encode(&mut self.buffer, value);
        if !value.is_null() {
            self.significant = self.buffer.len();
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// The row's hash.
    pub fn finish(&mut self) -> Digest {
        Digest(xxh3_128(&self.buffer[..self.significant]))
    }
}

/// The hash encoding of a value: tag, then big-endian bytes; text and blob with a u64 length.
pub(crate) fn encode(buffer: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => buffer.push(0),
        ValueRef::Integer(i) => {
            buffer.push(1);
            buffer.extend_from_slice(&i.to_be_bytes());
        }
        ValueRef::Real(r) => {
            buffer.push(2);
            buffer.extend_from_slice(&real_bits(r).to_be_bytes());
        }
        ValueRef::Text(t) => {
            buffer.push(3);
            buffer.extend_from_slice(&(t.len() as u64).to_be_bytes());
            buffer.extend_from_slice(t.as_bytes());
        }
        ValueRef::Blob(b) => {
            buffer.push(4);
            buffer.extend_from_slice(&(b.len() as u64).to_be_bytes());
            buffer.extend_from_slice(b);
        }
    }
}

/// What is known of one table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableDigest {
    /// Hash of the table's columns.
    pub fingerprint: Fingerprint,
    /// How many rows.
    pub rows: u64,
    /// The sum of their hashes.
    pub digest: Digest,
}

impl TableDigest {
    /// A table without rows.
    pub fn empty(fingerprint: Fingerprint) -> Self {
        TableDigest { fingerprint, rows: 0, digest: Digest::default() }
    }

    /// The table's term in the database's digest.
    pub fn term(&self, name: &str) -> Digest {
        let mut buffer = Vec::with_capacity(name.len() + 41);
        encode(&mut buffer, ValueRef::Text(name));
        buffer.extend_from_slice(&self.fingerprint.0.to_be_bytes());
        buffer.extend_from_slice(&self.digest.to_bytes());
        Digest(xxh3_128(&buffer))
    }
}

/// The digests of all tables, with their sum kept up to date.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatabaseDigest {
    tables: BTreeMap<String, TableDigest>,
    /// Invariant: the sum of `term(name)` over `tables`.
    total: Digest,
}

impl DatabaseDigest {
    /// The database's digest.
    pub fn total(&self) -> Digest {
        self.total
    }

    /// Every table, by name.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &TableDigest)> {
        self.tables.iter().map(|(name, table)| (name.as_str(), table))
    }

    /// One table.
    pub fn get(&self, name: &str) -> Option<&TableDigest> {
        self.tables.get(name)
    }

    /// Puts a table in, or replaces it.
    pub fn set(&mut self, name: &str, table: TableDigest) {
        if let Some(old) = self.tables.get_mut(name) {
            self.total -= old.term(name);
            *old = table;
        } else {
            self.tables.insert(name.to_owned(), table);
        }
        self.total += table.term(name);
    }

    /// Takes a table out.
    pub fn remove(&mut self, name: &str) -> Option<TableDigest> {
        let old = self.tables.remove(name)?;
        self.total -= old.term(name);
        Some(old)
    }
}

impl FromIterator<(String, TableDigest)> for DatabaseDigest {
    fn from_iter<I: IntoIterator<Item = (String, TableDigest)>>(tables: I) -> Self {
        let mut all = DatabaseDigest::default();
        for (name, table) in tables {
            all.set(&name, table);
        }
        all
    }
}
