//! Endpoints: what `diff` and `sync` need of any database.
//!
//! ```text
//!   describe ─▶ Table ─┐
//!                      ├─ agree ─▶ Plan A, Plan B      one type for each pair of columns
//!   describe ─▶ Table ─┘
//!
//!   read    Plan, ranges ─▶ (key, row), (key, row), …  ascending, canonical bytes
//!   digest  Plan, ranges ─▶ chunks: where each ends, how many rows, their digest
//!   apply   rows to be so, keys to be gone, a state    one transaction, or none of it
//! ```
//!
//! The seam is narrower than a store's: there is no log, no fence, and nothing of ours on a database that is
//! only read. What makes two engines comparable is the canonical form ([`canon`]): each endpoint renders its
//! rows under the types agreed for the pair, so that equal rows are equal bytes and keys compare as bytes.
//! Everything above works on these bytes and knows no engine.
//!
//! Chunks end behind keys that say so by their own hash ([`chunk`]). Both sides find the same ends without
//! being told, in one scan each, and only what differs is read again.
//!
//! # What is left out
//!
//! Schema beyond columns and keys: indexes, views and permissions are neither compared nor made. Ranges are of
//! keys, never of versions, except for [`Endpoint::since`].

pub mod agree;
pub mod canon;
pub mod chunk;
#[cfg(test)]
pub(crate) mod conformance;
pub mod digests;
pub mod http;
pub mod memory;
#[cfg(feature = "mysql")]
pub mod mysql;
pub mod open;
pub mod order;
pub mod plan;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod sort;
pub mod sqlite;
pub mod table;
pub mod version;
pub mod wire;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use chunk::{Chunk, Range};
pub use plan::{Plan, PlannedColumn};
pub use table::{Column, ForeignKey, OnDelete, Table, Type};

use crate::error::{Error, Result};

/// A row's key as canonical bytes, which compare as keys do.
pub type Key = Vec<u8>;
/// A row as canonical bytes: equal rows are equal bytes.
pub type Row = Vec<u8>;
/// Takes rows one after another: key and row.
pub type Sink<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// What kind of database an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// A SQLite file, or this library's own memory.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Sqlite => "SQLite",
            Engine::Postgres => "PostgreSQL",
            Engine::Mysql => "MySQL",
        })
    }
}

/// When a snapshot was taken, as its engine counts transactions.
///
/// A row that is committed later may have a version below the newest that the snapshot shows. Once every
/// transaction that was open then has ended, nothing below can come any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Horizon {
    /// One writer at a time: what commits later has been begun later.
    Serial,
    /// PostgreSQL's `pg_current_snapshot`: the oldest transaction that is still open, and the first one that
    /// had not begun.
    Transactions {
        /// All below it have ended.
        xmin: u64,
        /// All from here on are invisible.
        xmax: u64,
    },
    /// The engine does not tell: only time does.
    Untold,
}

/// What [`Endpoint::apply`] is to make true, all of it or nothing.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The table, as this side has it.
    pub plan: &'a Plan,
    /// Rows that must be there exactly so. One that is already so is not touched.
    pub puts: &'a [(Key, Row)],
    /// Keys that must not be there.
    pub deletes: &'a [Key],
    /// Entries of the state: a name, and its new value, or none to remove it.
    pub state: &'a [(String, Option<String>)],
}

/// What [`Endpoint::apply`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Rows that were not there.
    pub inserted: u64,
    /// Rows that were there and differed.
    pub updated: u64,
    /// Rows that were so already.
    pub equal: u64,
    /// Rows that were there and had to go.
    pub deleted: u64,
}

impl Applied {
    /// How many rows it changed.
    pub fn written(&self) -> u64 {
        self.inserted + self.updated + self.deleted
    }
}

impl std::ops::AddAssign for Applied {
    fn add_assign(&mut self, more: Applied) {
        self.inserted += more.inserted;
        self.updated += more.updated;
        self.equal += more.equal;
        self.deleted += more.deleted;
    }
}

/// The n-th key (1 is the first) that is read; nothing is read behind it.
fn nth_of(n: usize, read: impl FnOnce(&mut Sink<'_>) -> Result<()>) -> Result<Option<Key>> {
    let (mut left, mut nth) = (n, None);
    if n == 0 {
        return Ok(None);
    }
    let read = read(&mut |key, _| {
        left -= 1;
        if left > 0 {
            return Ok(());
        }
        nth = Some(key.to_vec());
        Err(Error::retry(ENOUGH, "what was looked for is found"))
    });
    match read {
        Err(error) if error.code() == ENOUGH => Ok(nth),
        read => read.map(|()| nth),
    }
}

/// Whoever reads wants no more.
const ENOUGH: &str = "READ_ENOUGH";

/// What went over a connection since it was opened; zero where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes in both directions.
    pub bytes: u64,
    /// Questions that were asked and answered.
    pub round_trips: u64,
}

/// Ends what an endpoint is at work on, from another thread.
pub type Interrupt = Box<dyn Fn() + Send + Sync>;

/// A database that is compared, read from, or written to.
///
/// # What an implementation owes
///
/// - Between [`begin`](Self::begin) and [`end`](Self::end) all reads see one state, where the engine can.
/// - [`read`](Self::read) gives keys in ascending order of their bytes, whatever collation the engine sorts by.
/// - Two endpoints give equal bytes for rows that are equal under the plan, and different ones otherwise.
/// - [`apply`](Self::apply) is one transaction. It never touches a row that is neither put nor deleted: an
///   engine's REPLACE, which removes rows in the way, must not be used, and a cascade that would reach further
///   refuses the batch. A batch that fails leaves nothing behind. Of equal rows without a key, a delete takes the
///   one with its number if there are so many; so whoever removes several begins with the last one.
/// - Two rows of which the keys are one under the agreed types are refused by whatever reads both
///   (`KEYS_COLLIDE`), never handed over.
/// - Errors tell whose fault it is: `Kind::Invalid` (`ROW_REFUSED` and relatives) is a row's,
///   `Kind::Behind` (`PARENT_MISSING`, `VALUE_TAKEN`) a row's that waits for another, `Kind::Unavailable` and `Kind::Retry`
///   are nobody's: try again later.
/// - Nothing is created or written but by `apply` and `create`.
pub trait Endpoint: Send {
    /// As it may be printed: without secrets.
    fn address(&self) -> &str;

    /// What kind of database.
    fn engine(&self) -> Engine;

    /// All tables that can be compared, by name.
    fn tables(&mut self) -> Result<Vec<Table>>;

    /// Begins a consistent view for the reads that follow; one that was begun before ends.
    fn begin(&mut self) -> Result<Horizon>;

    /// Ends it.
    fn end(&mut self) -> Result<()>;

    /// The rows whose keys lie in the ranges, which ascend and do not overlap.
    fn read(&mut self, plan: &Plan, ranges: &[Range], sink: &mut Sink<'_>) -> Result<()>;

    /// The rows with these keys, in any order; keys that are not there are passed over.
    fn rows(&mut self, plan: &Plan, keys: &[Key], sink: &mut Sink<'_>) -> Result<()>;

    /// For each range its chunks: see [`chunk`]. `bits` 64 or more: one chunk for the range.
    fn digest(&mut self, plan: &Plan, ranges: &[Range], bits: u32) -> Result<Vec<Vec<Chunk>>>;

    /// The rows whose version is at least (`strict`: above) this one, an encoded key of one value, in the order that
    /// the engine gives them, which is ascending unless they are spelled in several ways; all rows with a
    /// version, if none is given. What counts as one: see [`version`].
    fn since(
        &mut self,
        plan: &Plan,
        version: Option<&[u8]>,
        strict: bool,
        sink: &mut Sink<'_>,
    ) -> Result<()>;

    /// The highest version, as an encoded key of one value; none if no row has one.
    fn newest(&mut self, plan: &Plan) -> Result<Option<Vec<u8>>>;

    /// The key of the n-th row (1 is the first) behind a key; none if there are fewer.
    ///
    /// An engine that can find it without reading every row should.
    fn nth_key(&mut self, plan: &Plan, after: Option<&Key>, n: usize) -> Result<Option<Key>> {
        let range = [Range { after: after.cloned(), upto: None }];
        nth_of(n, |sink| self.read(plan, &range, sink))
    }

    /// Makes rows so, and keeps the state, in one transaction.
    fn apply(&mut self, batch: &Batch<'_>) -> Result<Applied>;

    /// The entries of the state whose names begin so; none where nothing was ever kept.
    fn state(&mut self, prefix: &str) -> Result<Vec<(String, String)>>;

    /// The statements that would make tables like these, in an order that works.
    fn create_statements(&self, tables: &[Table]) -> Result<Vec<String>>;

    /// The statement that would add a column like this one.
    fn add_column_statement(&self, table: &str, column: &Column) -> Result<String>;

    /// Runs statements of the two above: all or none of them, where the engine can take back what it made.
    fn create(&mut self, statements: &[String]) -> Result<()>;

    /// What cannot be kept from happening when rows are applied here: triggers that will run, for instance.
    fn warnings(&mut self, _tables: &[Table]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// What a snapshot here keeps others from for as long as it lasts.
    fn snapshot_warning(&mut self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Whether rows come to this process to be hashed, and not their digests.
    fn sends_every_row(&self) -> bool {
        true
    }

    /// What makes a call that runs fail soon; where there is no way to, nothing.
    fn interrupt(&self) -> Interrupt {
        Box::new(|| {})
    }

    /// What went over the wire.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}
