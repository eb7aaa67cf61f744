//! Where rows, log and position are kept.
//!
//! A store is a copy of one database: its rows, the log of its commits, and the position that says
//! where it stands. All three move together or not at all, so a commit that is delivered twice has no
//! second effect, and a copy never claims more than it has.
//!
//! | store | rows and log live |
//! | --- | --- |
//! | [`sqlite`] on [`disk::NativeDisk`] | in a SQLite file in WAL mode |
//! | [`sqlite`] on [`vfs::MemoryDisk`] | in memory, by the same code: the VFS is all that differs |
//! | `postgres` | in a schema of a PostgreSQL database, as ordinary typed tables |
//!
//! Left out: a store that keeps rows without a log. Every replica can feed others, and any can be
//! promoted, because they are all alike.

pub mod adoption;
#[cfg(test)]
mod conformance;
pub mod disk;
mod frames;
mod history;
mod inverse;
mod ledger;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod sqlite;
pub mod vfs;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::change::{
    Chain, Commit, DatabaseDigest, Epoch, Lineage, Object, Position, SchemaStep, TableShape, Tag,
    Timestamp, ValueRef, Version,
};
use crate::error::Result;
use adoption::{Adoption, Traces};

/// Who holds the epoch of a backing database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The node's name.
    pub node: String,
    /// The random id of its data directory.
    pub directory: String,
    /// Its process.
    pub pid: u32,
    /// Where others reach it.
    pub advertise: String,
    /// Until when it counts as alive, unless it renews.
    pub lease: Timestamp,
}

/// Gives a part of a large commit's body, from 0.
pub type Parts<'a> = &'a mut dyn FnMut(&Commit, u32) -> Result<Vec<u8>>;

/// What is stored beside the rows, read anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Where the copy stands.
    pub position: Position,
    /// The mark of its epoch.
    pub tag: Tag,
    /// When its last commit was made.
    pub at: Timestamp,
    /// The last version at which stored rows were recounted and agreed.
    pub verified: Version,
    /// Who holds the epoch, if anyone does.
    pub holder: Option<Holder>,
    /// The epochs it has lived through.
    pub lineage: Lineage,
}

/// One piece of a snapshot, in the order a copy needs them: each table before its rows, everything
/// else after all rows.
#[derive(Debug, Clone, Copy)]
pub enum SnapshotItem<'a> {
    /// A schema object.
    Object(&'a Object),
    /// A row of the table last given: its rowid if it has no usable key, and its stored values.
    Row {
        /// The table.
        table: &'a str,
        /// The key of a table that has no usable one.
        rowid: Option<i64>,
        /// The stored columns, in declared order.
        values: &'a [ValueRef<'a>],
    },
    /// An entry of `sqlite_sequence`.
    Sequence(&'a str, i64),
    /// `user_version` or `application_id`.
    Setting(&'a str, i64),
}

/// What a copy can be fed from: the reading half of a store.
pub trait Source: Send {
    /// What is stored beside the rows, as it is now, even if another process wrote it.
    fn standing(&mut self) -> Result<Standing>;

    /// The digests as they are kept up to date by every commit.
    fn digests(&mut self) -> Result<DatabaseDigest>;

    /// The commits after `version`, at most about `bytes` of them, but at least one if there is one.
    fn after(&mut self, version: Version, bytes: usize) -> Result<Vec<Commit>>;

    /// A part of a large commit's body.
    fn part(&mut self, version: Version, index: u32) -> Result<Vec<u8>>;

    /// The chain at `version`, if the log reaches it.
    fn chain_at(&mut self, version: Version) -> Result<Option<Chain>>;

    /// The first version whose commit the log has.
    fn oldest(&mut self) -> Result<Option<Version>>;

    /// Hands over everything in one read transaction, and what stands beside it.
    fn snapshot(
        &mut self,
        each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<Standing>;
}

/// A copy of one database.
///
/// The duties of an implementer stand at each method; the suite in `conformance` checks them, and
/// a new store is done when it is green.
pub trait Store: Source {
    /// Where the copy stands, as this handle last wrote or loaded it.
    fn position(&self) -> Position;

    /// The epochs, likewise.
    fn lineage(&self) -> &Lineage;

    /// Fails with `FENCED` unless the stored position is the one this handle last saw.
    fn confirm(&mut self) -> Result<()>;

    /// Recounts every stored row: the dumb twin of [`digests`](Source::digests).
    fn recount(&mut self) -> Result<DatabaseDigest>;

    /// Notes that the rows were recounted and agreed at `version`.
    fn set_verified(&mut self, version: Version) -> Result<()>;

    /// Applies commits: rows, log and position in one transaction, or none of them.
    ///
    /// They must continue this copy's chain and lie on `lineage`, which replaces the stored one. Fails
    /// with `FENCED` if the stored position is not the one this handle last saw, and with `DIVERGED`,
    /// the fitting ones applied, at the first commit that does not fit the rows.
    fn apply(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
    ) -> Result<Position>;

    /// The same for commits of a writer's open group: all of them, or none.
    ///
    /// Whoever is told that a group failed runs its members again: nothing of it may be there.
    fn append(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
    ) -> Result<Position>;

    /// Undoes the commits after `to`, newest first, and holds them with `reason`, in one transaction.
    ///
    /// Fails with `UNDO_IMPOSSIBLE`, nothing done, if one of them destroyed rows or the log does not
    /// reach `to`.
    fn rewind(&mut self, to: Version, reason: &str, now: Timestamp) -> Result<Position>;

    /// Begins a new epoch behind whatever is stored, and above `floor`, held by `holder`; gives the
    /// position. A restored database may not know how high its epochs were.
    fn take_epoch_above(&mut self, floor: Epoch, tag: Tag, holder: &Holder) -> Result<Position>;

    /// The same behind whatever is stored.
    fn take_epoch(&mut self, tag: Tag, holder: &Holder) -> Result<Position> {
        self.take_epoch_above(Epoch(0), tag, holder)
    }

    /// Renews the holder's lease; `FENCED` if it is another's now.
    fn renew(&mut self, lease: Timestamp) -> Result<()>;

    /// Gives the epoch up: nobody holds it.
    fn release(&mut self) -> Result<()>;

    /// Forgets commits made before `older_than` and, whatever their age, the oldest beyond `size` bytes
    /// of log; but never one after `keep_after`, unless the size asks for it. Gives the oldest version
    /// still there.
    fn trim(
        &mut self,
        older_than: Timestamp,
        size: u64,
        keep_after: Version,
    ) -> Result<Option<Version>>;
}

/// What a store cannot give back exactly as it was given, and so refuses. A writer asks before it lets its
/// own copy have it.
pub trait Refusals: Send + Sync {
    /// Fails if the store cannot follow such a step.
    fn step(&self, step: &SchemaStep) -> Result<()>;

    /// Checks rows of a table of this shape, with these unique keys beside its own (places among its
    /// columns). Fails, naming the column, if the store cannot hold the table.
    fn table(&self, shape: &TableShape, unique: &[Vec<usize>]) -> Result<RowCheck>;
}

/// Fails, naming the column, for stored values that cannot be held.
pub type RowCheck = Box<dyn Fn(&[ValueRef<'_>]) -> Result<()> + Send + Sync>;

/// A copy in a database on a server.
pub trait ServerStore: Store {
    /// What it refuses.
    fn refusals(&self) -> Arc<dyn Refusals>;

    /// Takes over everything that `source` has, rows and standing, in place of what is here, in one
    /// transaction.
    ///
    /// Fails with `SOURCE_DAMAGED`, nothing changed, if the source's rows do not give the digest that it
    /// claims.
    fn replace(&mut self, source: &mut dyn Source) -> Result<Position>;

    /// Takes over a commit that says what others have written here: log, digests and position, and no rows,
    /// which are here already. In one transaction, in which nobody else writes to the tables.
    ///
    /// Nothing is done if the rows do not give the digest that the commit claims (`BACKING_CHANGING`: others
    /// wrote again), or if a value would not come back exactly (`ROWS_INVALID`).
    fn restate(&mut self, lineage: &Lineage, commit: &Commit, parts: Parts<'_>)
    -> Result<Position>;
}

/// A database on a server, as it is known before anyone has reached it. Shown without its password.
pub trait ServerPlace: fmt::Debug + fmt::Display + Send + Sync {
    /// Opens it to be written, and makes what a copy needs there if it is new. A transaction that takes
    /// longer than `limit`, the server ends by itself: whoever took over need not wait for it.
    fn open(&self, limit: Duration) -> Result<Box<dyn ServerStore>>;

    /// Opens what some writer has made, to be read.
    fn source(&self) -> Result<Box<dyn Source>>;

    /// Listens to whoever writes it.
    fn listen(&self) -> Result<Box<dyn News>>;

    /// What adopting the tables that are there would do; `ADOPTED_ALREADY` if it was done.
    fn survey(&self, exclude: &[String]) -> Result<Adoption>;

    /// Does it, in one transaction that changes no table of anybody else.
    fn adopt(&self, plan: &Adoption) -> Result<Position>;

    /// What releasing it would remove; `NOT_ADOPTED` if there is nothing.
    fn traces(&self) -> Result<Traces>;

    /// Removes it, in one transaction, unless somebody alive holds the epoch (`HOLDER_ALIVE`).
    fn release(&self, now: Timestamp) -> Result<Traces>;
}

/// Says when something was committed at a server.
pub trait News: Send {
    /// Waits for the next commit, but not for longer than `limit`; whether there was one. After an error
    /// nobody listens any more.
    fn wait(&mut self, limit: Duration) -> Result<bool>;
}
