//! A writer, and a reader whose way to the backing file can be cut.
//!
//! The reader's path leads through a symbolic link, the writer's does not. So the writer goes on while the
//! reader sees nothing, an empty directory, or rubbish.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use syncline::change::Position;
use syncline::engine::{BackingPlace, Database, DatabaseOptions, State, Status, WorkingCopy};

use super::{count, eventually, ok, reader_options};

/// A writer with a table, and a reader that reaches the backing file through a link.
pub struct Pair {
    pub dir: tempfile::TempDir,
    pub writer: Database,
    pub reader: Database,
}

impl Pair {
    /// With the default options.
    pub fn new(working_copy: WorkingCopy) -> Pair {
        Pair::with(working_copy, |options| options)
    }

    /// `change` is done to the options of both.
    pub fn with(
        working_copy: WorkingCopy,
        change: impl Fn(DatabaseOptions) -> DatabaseOptions,
    ) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        let backing = dir.path().join("real/main.db");
        let data_dir = dir.path().join("a");
        let writer = DatabaseOptions { data_dir, ..DatabaseOptions::writer(backing) };
        let writer = Database::open(change(writer)).unwrap();
        ok(&mut writer.session(), &["CREATE TABLE t(id INTEGER PRIMARY KEY, v)"]);
        lead(dir.path(), "real");
        let reader = DatabaseOptions {
            backing: BackingPlace::File(link(dir.path()).join("main.db")),
            working_copy,
            ..reader_options(dir.path(), "r")
        };
        let reader = Database::open(change(reader)).unwrap();
        Pair { dir, writer, reader }
    }

    /// Inserts a row at the writer; its receipt.
    pub fn insert(&self, id: i64) -> Position {
        let mut session = self.writer.session();
        ok(&mut session, &[&format!("INSERT INTO t VALUES ({id}, 'v{id}')")]);
        session.receipt().unwrap()
    }

    /// From now on the reader's path leads to `target`.
    pub fn lead(&self, target: &str) {
        lead(self.dir.path(), target);
    }

    /// From now on it leads nowhere.
    pub fn cut(&self) {
        std::fs::remove_file(link(self.dir.path())).unwrap();
    }

    /// Copies the backing file as it is now, as SQLite's own backup does it.
    pub fn back_up(&self, to: &Path) {
        let from = rusqlite::Connection::open(self.dir.path().join("real/main.db")).unwrap();
        let mut to = rusqlite::Connection::open(to).unwrap();
        let backup = rusqlite::backup::Backup::new(&from, &mut to).unwrap();
        backup.run_to_completion(1_000, std::time::Duration::ZERO, None).unwrap();
    }

    /// Closes both.
    pub fn close(self) {
        self.reader.close();
        self.writer.close();
    }
}

fn link(dir: &Path) -> PathBuf {
    dir.join("link")
}

fn lead(dir: &Path, target: &str) {
    let next = dir.join("next");
    symlink(dir.join(target), &next).unwrap();
    std::fs::rename(next, link(dir)).unwrap();
}

/// How many rows the table has.
pub fn rows_of(database: &Database) -> i64 {
    count(&mut database.session(), "t")
}

/// Waits until it is in that state.
pub fn wait_for(database: &Database, state: State) -> Status {
    eventually(state.as_str(), || {
        database.wake();
        database.status().state == state
    });
    database.status()
}
