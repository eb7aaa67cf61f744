//! The suite that every store must pass: a new one is done when it is green.
//!
//! ```text
//!   Author ── commits ──▶ the store under test        SqliteStore on a disk of the system, and in memory;
//!   (a SqliteStore that                 ▲             PostgresStore on a private server
//!    serves clients' SQL)               └── Place::behind   somebody changes rows behind its back
//! ```
//!
//! Every case is a function of a [`Place`], where stores are opened by name, so that a case can open
//! one twice (another process) or again (a restart).

mod applying;
mod faults;
mod filling;
mod keeping;
#[cfg(feature = "postgres")]
#[path = "../../../tests/support/postgres.rs"]
pub(crate) mod server;
mod undoing;

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use super::disk::{Disk, NativeDisk};
#[cfg(feature = "postgres")]
use super::postgres::{PostgresPlace, PostgresSource, PostgresStore};
use super::sqlite::{Budget, Failed, HeldCommit, SqliteSource, SqliteStore, Statement, Sync};
use super::vfs::MemoryDisk;
use super::{Holder, Parts, SnapshotItem, Source, Standing, Store};
use crate::change::{
    Chain, Commit, DatabaseDigest, Epoch, Lineage, Position, Tag, Timestamp, ValueRef, Version,
};
use crate::error::{Error, Result};

/// Where stores are opened.
enum Place {
    /// As files, on a disk.
    Disk {
        disk: Arc<dyn Disk>,
        root: PathBuf,
        /// Removed with its content when the place goes.
        _directory: Option<tempfile::TempDir>,
    },
    /// As schemas, in a database of its own.
    #[cfg(feature = "postgres")]
    Postgres { server: &'static server::Server, url: String },
}

impl Place {
    fn native() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        Place::Disk { disk: Arc::new(NativeDisk), root, _directory: Some(directory) }
    }

    fn memory() -> Place {
        Place::on(MemoryDisk::new())
    }

    fn on(disk: MemoryDisk) -> Place {
        Place::Disk { disk: Arc::new(disk), root: PathBuf::from("/data"), _directory: None }
    }

    /// None where PostgreSQL is not installed.
    #[cfg(feature = "postgres")]
    fn postgres() -> Option<Place> {
        let server = server::Server::get()?;
        Some(Place::Postgres { server, url: server.database() })
    }

    /// The store of that name, made if need be; a copy that follows.
    fn open(&self, name: &str) -> AnyStore {
        match self {
            Place::Disk { .. } => AnyStore::Sqlite(self.open_sqlite(name)),
            #[cfg(feature = "postgres")]
            Place::Postgres { server, url } => {
                server.sql(database(url), &format!("CREATE SCHEMA IF NOT EXISTS {name}"));
                AnyStore::Postgres(PostgresStore::open(schema_of(url, name)).unwrap())
            }
        }
    }

    /// A SQLite store: on this place's disk, or in memory if it has none.
    fn open_sqlite(&self, name: &str) -> SqliteStore {
        match self {
            Place::Disk { disk, root, .. } => {
                let path = root.join(name);
                let store = SqliteStore::open(disk.clone(), &path, Sync::Full, 1 << 30).unwrap();
                store.follow().unwrap();
                store
            }
            #[cfg(feature = "postgres")]
            Place::Postgres { .. } => Place::memory().open_sqlite(name),
        }
    }

    /// The store of that name, to be read.
    fn source(&self, name: &str) -> Box<dyn Source> {
        match self {
            Place::Disk { disk, root, .. } => {
                Box::new(SqliteSource::open(disk.clone(), &root.join(name), None).unwrap())
            }
            #[cfg(feature = "postgres")]
            Place::Postgres { url, .. } => {
                Box::new(PostgresSource::open(schema_of(url, name)).unwrap())
            }
        }
    }

    /// Somebody runs SQL on what the store keeps, and Syncline is not asked. ROWID stands for the key of a
    /// table that has no usable one.
    fn behind(&self, name: &str, sql: &str) {
        match self {
            Place::Disk { disk, root, .. } => {
                let (path, flags) = (root.join(name), OpenFlags::default());
                let connection =
                    Connection::open_with_flags_and_vfs(path, flags, disk.vfs()).unwrap();
                connection.execute_batch(sql).unwrap();
            }
            #[cfg(feature = "postgres")]
            Place::Postgres { server, url } => {
                let sql = sql.replace("ROWID", "_syncline_rowid");
                server.sql(database(url), &format!("SET search_path = {name}; {sql}"));
            }
        }
    }
}

#[cfg(feature = "postgres")]
fn database(url: &str) -> &str {
    url.rsplit('/').next().expect("a URL ends with its database")
}

#[cfg(feature = "postgres")]
fn schema_of(url: &str, schema: &str) -> PostgresPlace {
    let url = format!("{url}?options=-csearch_path%3D{schema}");
    PostgresPlace::read(&url).unwrap()
}

/// A store under test.
enum AnyStore {
    Sqlite(SqliteStore),
    #[cfg(feature = "postgres")]
    Postgres(PostgresStore),
}

/// Does the same with whichever store it is.
macro_rules! with_store {
    ($any:expr, $store:ident => $work:expr) => {
        match $any {
            AnyStore::Sqlite($store) => $work,
            #[cfg(feature = "postgres")]
            AnyStore::Postgres($store) => $work,
        }
    };
}

impl AnyStore {
    fn held(&mut self) -> Result<Vec<HeldCommit>> {
        with_store!(self, store => store.held())
    }

    fn held_bodies(&mut self, held: &HeldCommit) -> Result<Vec<Vec<u8>>> {
        with_store!(self, store => store.held_bodies(held))
    }

    fn held_count(&mut self) -> Result<u64> {
        with_store!(self, store => store.held_count())
    }

    fn discard(&mut self, id: i64) -> Result<()> {
        with_store!(self, store => store.discard(id))
    }
}

impl Source for AnyStore {
    fn standing(&mut self) -> Result<Standing> {
        with_store!(self, store => store.standing())
    }

    fn digests(&mut self) -> Result<DatabaseDigest> {
        with_store!(self, store => store.digests())
    }

    fn after(&mut self, version: Version, bytes: usize) -> Result<Vec<Commit>> {
        with_store!(self, store => store.after(version, bytes))
    }

    fn part(&mut self, version: Version, index: u32) -> Result<Vec<u8>> {
        with_store!(self, store => store.part(version, index))
    }

    fn chain_at(&mut self, version: Version) -> Result<Option<Chain>> {
        with_store!(self, store => store.chain_at(version))
    }

    fn oldest(&mut self) -> Result<Option<Version>> {
        with_store!(self, store => store.oldest())
    }

    fn snapshot(
        &mut self,
        each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<Standing> {
        with_store!(self, store => store.snapshot(each))
    }
}

impl Store for AnyStore {
    fn position(&self) -> Position {
        with_store!(self, store => store.position())
    }

    fn lineage(&self) -> &Lineage {
        with_store!(self, store => store.lineage())
    }

    fn confirm(&mut self) -> Result<()> {
        with_store!(self, store => store.confirm())
    }

    fn recount(&mut self) -> Result<DatabaseDigest> {
        with_store!(self, store => store.recount())
    }

    fn set_verified(&mut self, version: Version) -> Result<()> {
        with_store!(self, store => store.set_verified(version))
    }

    fn apply(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
    ) -> Result<Position> {
        with_store!(self, store => store.apply(lineage, commits, parts))
    }

    fn append(
        &mut self,
        lineage: &Lineage,
        commits: &[Commit],
        parts: Parts<'_>,
    ) -> Result<Position> {
        with_store!(self, store => store.append(lineage, commits, parts))
    }

    fn rewind(&mut self, to: Version, reason: &str, now: Timestamp) -> Result<Position> {
        with_store!(self, store => store.rewind(to, reason, now))
    }

    fn take_epoch_above(&mut self, floor: Epoch, tag: Tag, holder: &Holder) -> Result<Position> {
        with_store!(self, store => store.take_epoch_above(floor, tag, holder))
    }

    fn renew(&mut self, lease: Timestamp) -> Result<()> {
        with_store!(self, store => store.renew(lease))
    }

    fn release(&mut self) -> Result<()> {
        with_store!(self, store => store.release())
    }

    fn trim(
        &mut self,
        older_than: Timestamp,
        size: u64,
        keep_after: Version,
    ) -> Result<Option<Version>> {
        with_store!(self, store => store.trim(older_than, size, keep_after))
    }
}

/// A test of each case on each kind of disk.
macro_rules! on_every_disk {
    ($($case:ident),* $(,)?) => {
        mod on_a_native_disk {
            $(#[test] fn $case() { super::$case(&super::super::Place::native()); })*
        }
        mod on_a_memory_disk {
            $(#[test] fn $case() { super::$case(&super::super::Place::memory()); })*
        }
    };
}
use on_every_disk;

/// … and on PostgreSQL, where that is installed.
macro_rules! on_every_place {
    ($($case:ident),* $(,)?) => {
        crate::store::conformance::on_every_disk! { $($case),* }
        #[cfg(feature = "postgres")]
        mod on_postgres {
            $(#[test] fn $case() {
                let Some(place) = super::super::Place::postgres() else { return };
                super::$case(&place);
            })*
        }
    };
}
use on_every_place;

pub(crate) fn holder(node: &str) -> Holder {
    Holder {
        node: node.into(),
        directory: format!("{node}'s"),
        pid: 7,
        advertise: format!("http://{node}"),
        lease: Timestamp(1000),
    }
}

/// Writes the history that others follow.
pub(crate) struct Author {
    pub(crate) store: SqliteStore,
    clock: u64,
}

impl Author {
    pub(crate) fn new() -> Author {
        Author::on(Place::memory().open_sqlite("author"))
    }

    pub(crate) fn on(store: SqliteStore) -> Author {
        let mut author = Author { store, clock: 100 };
        author.reign(1);
        author
    }

    /// A history of a table: versions 1 to 6, the fourth in parts, two of them in one group.
    pub(crate) fn with_history() -> Author {
        let mut author = Author::new();
        author.group(&["CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)"]);
        author.group(&[
            "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
            "UPDATE t SET v = 'c' WHERE id = 2",
        ]);
        author.group(&["INSERT INTO t VALUES (3, printf('%.1100000c', 'x')), (4, 'd')"]);
        author.group(&["DELETE FROM t WHERE id = 4", "CREATE INDEX i ON t(v)"]);
        assert!(author.commits(0)[3].parts() > 1);
        author
    }

    pub(crate) fn reign(&mut self, tag: u64) -> Position {
        let position = self.store.take_epoch(Tag(tag), &holder("author")).unwrap();
        self.store.serve_clients().unwrap();
        position
    }

    /// One group, each statement a commit.
    pub(crate) fn group(&mut self, sql: &[&str]) {
        let budget =
            Budget { began: std::time::Instant::now(), time: None, rows: 10_000, bytes: 1 << 20 };
        self.store.begin().unwrap();
        for sql in sql {
            self.clock += 1;
            self.store.begin_unit(true).unwrap();
            match self.store.run(&Statement::new(*sql, []), &budget) {
                Ok(_) => {}
                Err(Failed::Statement(e) | Failed::Unit(e) | Failed::Transaction(e)) => {
                    panic!("{sql}: {e}")
                }
            }
            self.store
                .commit_unit(Timestamp(self.clock), None)
                .unwrap()
                .expect("it does something");
        }
        self.store.commit().unwrap();
    }

    /// The commits after a version.
    pub(crate) fn commits(&mut self, after: u64) -> Vec<Commit> {
        self.store.after(Version(after), usize::MAX).unwrap()
    }

    /// Applies commits of this history to a copy.
    pub(crate) fn give(&mut self, copy: &mut dyn Store, commits: &[Commit]) -> Result<Position> {
        let lineage = self.store.lineage().clone();
        let store = &mut self.store;
        copy.apply(&lineage, commits, &mut |commit, index| store.part(commit.version(), index))
    }

    /// Brings a copy from `from` up to date.
    pub(crate) fn bring(&mut self, copy: &mut dyn Store, from: u64) -> Position {
        let commits = self.commits(from);
        self.give(copy, &commits).unwrap()
    }
}

/// All that can be seen of a store: what must be the same after whatever must change nothing.
pub(crate) fn look(store: &mut dyn Store) -> (Vec<String>, DatabaseDigest) {
    let mut seen = Vec::new();
    let standing = store
        .snapshot(&mut |item| {
            seen.push(text(&item));
            Ok(())
        })
        .unwrap();
    seen.sort();
    seen.push(format!("{standing:?}"));
    let log = store.after(Version(0), usize::MAX).unwrap();
    seen.push(format!("{:?}", log.iter().map(Commit::position).collect::<Vec<_>>()));
    let digests = store.digests().unwrap();
    assert_eq!(digests, store.recount().unwrap(), "the kept digest against the count");
    assert_eq!(digests.total(), standing.position.digest);
    (seen, digests)
}

/// An item of a snapshot, large values by their length.
fn text(item: &SnapshotItem<'_>) -> String {
    let SnapshotItem::Row { table, rowid, values } = item else { return format!("{item:?}") };
    let short = |value: &ValueRef<'_>| match value {
        ValueRef::Text(text) if text.len() > 100 => format!("a text of {}", text.len()),
        value => format!("{value:?}"),
    };
    format!("{table} {rowid:?} {:?}", values.iter().map(short).collect::<Vec<_>>())
}

/// Runs `work`, which must fail with `code` and change nothing.
fn fails_with<S: Store, T: std::fmt::Debug>(
    code: &str,
    store: &mut S,
    work: impl FnOnce(&mut S) -> Result<T>,
) -> Error {
    let before = look(store);
    let error = work(store).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(look(store) == before, "{code}: something changed");
    error
}
