//! The suite that every store must pass: a new one is done when it is green.
//!
//! ```text
//!   Author ── commits ──▶ the store under test        SqliteStore on a disk of the system, and in memory
//!   (a store that serves                ▲
//!    clients' SQL)                      └── Place::behind   somebody changes rows behind its back
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
use super::sqlite::{Budget, Failed, SqliteStore, Statement, Sync};
use super::vfs::MemoryDisk;
use super::{Holder, SnapshotItem, Store};
use crate::change::{Commit, DatabaseDigest, Position, Tag, Timestamp, ValueRef, Version};
use crate::error::{Error, Result};

/// Where stores are opened.
struct Place {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Removed with its content when the place goes.
    _directory: Option<tempfile::TempDir>,
}

impl Place {
    fn native() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        Place { disk: Arc::new(NativeDisk), root, _directory: Some(directory) }
    }

    fn memory() -> Place {
        Place::on(MemoryDisk::new())
    }

    fn on(disk: MemoryDisk) -> Place {
        Place { disk: Arc::new(disk), root: PathBuf::from("/data"), _directory: None }
    }

    /// The store of that name, made if need be; a copy that follows.
    fn open(&self, name: &str) -> SqliteStore {
        self.try_open(name).unwrap()
    }

    fn try_open(&self, name: &str) -> Result<SqliteStore> {
        let store =
            SqliteStore::open(self.disk.clone(), &self.root.join(name), Sync::Full, 1 << 30)?;
        store.follow()?;
        Ok(store)
    }

    /// Somebody runs SQL on the store's file, and Syncline is not asked.
    fn behind(&self, name: &str, sql: &str) {
        let flags = OpenFlags::default();
        let path = self.root.join(name);
        let connection = Connection::open_with_flags_and_vfs(path, flags, self.disk.vfs()).unwrap();
        connection.execute_batch(sql).unwrap();
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

fn holder(node: &str) -> Holder {
    Holder {
        node: node.into(),
        directory: format!("{node}'s"),
        pid: 7,
        advertise: format!("http://{node}"),
        lease: Timestamp(1000),
    }
}

/// Writes the history that others follow.
struct Author {
    store: SqliteStore,
    clock: u64,
}

impl Author {
    fn new() -> Author {
        Author::on(Place::memory().open("author"))
    }

    fn on(store: SqliteStore) -> Author {
        let mut author = Author { store, clock: 100 };
        author.reign(1);
        author
    }

    /// A history of a table: versions 1 to 6, the fourth in parts, two of them in one group.
    fn with_history() -> Author {
        let mut author = Author::new();
        author.group(&["CREATE TABLE t(id INTEGER PRIMARY KEY, v)"]);
        author.group(&[
            "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
            "UPDATE t SET v = 'c' WHERE id = 2",
        ]);
        author.group(&["INSERT INTO t VALUES (3, zeroblob(1100000)), (4, zeroblob(10))"]);
        author.group(&["DELETE FROM t WHERE id = 4", "CREATE INDEX i ON t(v)"]);
        assert!(author.commits(0)[3].parts() > 1);
        author
    }

    fn reign(&mut self, tag: u64) -> Position {
        let position = self.store.take_epoch(Tag(tag), &holder("author")).unwrap();
        self.store.serve_clients().unwrap();
        position
    }

    /// One group, each statement a commit.
    fn group(&mut self, sql: &[&str]) {
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
    fn commits(&mut self, after: u64) -> Vec<Commit> {
        use super::Source as _;
        self.store.after(Version(after), usize::MAX).unwrap()
    }

    /// Applies commits of this history to a copy.
    fn give(&mut self, copy: &mut dyn Store, commits: &[Commit]) -> Result<Position> {
        use super::Source as _;
        let lineage = self.store.lineage().clone();
        let store = &mut self.store;
        copy.apply(&lineage, commits, &mut |commit, index| store.part(commit.version(), index))
    }

    /// Brings a copy from `from` up to date.
    fn bring(&mut self, copy: &mut dyn Store, from: u64) -> Position {
        let commits = self.commits(from);
        self.give(copy, &commits).unwrap()
    }
}

/// All that can be seen of a store: what must be the same after whatever must change nothing.
fn look(store: &mut dyn Store) -> (Vec<String>, DatabaseDigest) {
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
        ValueRef::Blob(blob) if blob.len() > 100 => format!("a blob of {}", blob.len()),
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
