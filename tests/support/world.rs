//! A database with readers and a backup of it, and all the ways in which people put a backup in place.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use syncline::change::Value;
use syncline::engine::{Database, DatabaseOptions, ReceiptState, Role, State, WorkingCopy};
use syncline::store::disk::Disk;
use syncline::store::vfs::MemoryDisk;

use super::*;

pub const MAIN: &str = "/main.db";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Another file takes the name.
    Rename,
    /// SQLite's backup API writes into the file, as a transaction.
    BackupApi,
    /// The bytes are copied into the file.
    CopyOver,
}

pub fn writer_on(disk: &MemoryDisk, node: &str) -> DatabaseOptions {
    DatabaseOptions {
        disk: Arc::new(disk.clone()),
        node: node.into(),
        data_dir: format!("/{node}").into(),
        mark_every: Duration::from_millis(20),
        readers: 1,
        ..DatabaseOptions::writer(MAIN)
    }
}

pub fn open_reader(disk: &MemoryDisk, node: &str, working_copy: WorkingCopy) -> Database {
    let check_every = Duration::from_millis(20);
    let role = Role::Reader;
    let options = DatabaseOptions { role, working_copy, check_every, ..writer_on(disk, node) };
    Database::open(options).unwrap()
}

/// A writer, a reader with its copy in memory and one with its copy on disk, and a backup.
pub struct World {
    pub disk: MemoryDisk,
    pub writer: Database,
    pub readers: Vec<Database>,
    pub backup: Vec<u8>,
}

impl World {
    pub fn new(working_copy: WorkingCopy) -> World {
        World::with(|options| DatabaseOptions { working_copy, ..options })
    }

    pub fn with(change: impl Fn(DatabaseOptions) -> DatabaseOptions) -> World {
        let disk = MemoryDisk::new();
        let writer = Database::open(change(writer_on(&disk, "a"))).unwrap();
        let sql =
            ["CREATE TABLE t (id INTEGER PRIMARY KEY, fill)", "INSERT INTO t VALUES (1, 'x')"];
        ok(&mut writer.session(), &sql);
        let begun = writer.position();
        let durable = || matches!(writer.receipt_state(begun), Ok(ReceiptState::Durable(_)));
        eventually("row 1 is durable", durable);
        let copies = [("r", WorkingCopy::Memory), ("s", WorkingCopy::Disk)];
        let readers = copies.map(|(node, copy)| open_reader(&disk, node, copy)).into();
        let backup = backup(&disk);
        let world = World { disk, writer, readers, backup };
        world.insert(2);
        world.insert(3);
        world.readers.iter().for_each(|reader| assert_equal(&world.writer, reader));
        world
    }

    pub fn insert(&self, id: i64) {
        insert(&self.writer, id);
    }

    /// Rows 2 and 3 are on readers and writer, and the mark knows them.
    pub fn wait_for_the_mark(&self) {
        let position = self.writer.position().to_string();
        eventually("the mark knows the last commit, and no checkpoint is under way", || {
            let mark = self.disk.snapshot("/a/main.mark");
            let mark = String::from_utf8_lossy(&mark);
            mark.contains(&position) && !mark.contains(r#""page":null"#)
        });
    }

    pub fn restore(&self, how: How) {
        restore(&self.disk, how, &self.backup);
    }

    pub fn all_end_equal(&self) {
        self.readers.iter().for_each(|reader| assert_equal(&self.writer, reader));
    }

    pub fn close(self) {
        self.all_end_equal();
        self.readers.iter().for_each(Database::close);
        self.writer.close();
        let again = Database::open(DatabaseOptions {
            working_copy: self.writer.options().working_copy,
            ..writer_on(&self.disk, "a")
        });
        assert_eq!(again.unwrap().status().state, State::Ok, "it is over");
    }
}

/// A copy of the database as it is now, by SQLite's own means.
pub fn backup(disk: &MemoryDisk) -> Vec<u8> {
    let source = behind_its_back(disk, MAIN);
    let flags = rusqlite::OpenFlags::default();
    let mut target =
        rusqlite::Connection::open_with_flags_and_vfs("/backup.db", flags, disk.vfs()).unwrap();
    let copy = rusqlite::backup::Backup::new(&source, &mut target).unwrap();
    copy.run_to_completion(100, Duration::ZERO, None).unwrap();
    drop(copy);
    drop(target);
    let bytes = disk.snapshot("/backup.db");
    disk.remove(Path::new("/backup.db")).unwrap();
    bytes
}

pub fn restore(disk: &MemoryDisk, how: How, backup: &[u8]) {
    match how {
        How::Rename => disk.replace(MAIN, backup),
        How::CopyOver => disk.copy_over(MAIN, backup).unwrap(),
        How::BackupApi => {
            disk.replace("/old.db", backup);
            let source = behind_its_back(disk, "/old.db");
            let mut target = behind_its_back(disk, MAIN);
            let copy = rusqlite::backup::Backup::new(&source, &mut target).unwrap();
            copy.run_to_completion(100, Duration::ZERO, None).unwrap();
        }
    }
}

pub fn remove_log(disk: &MemoryDisk) {
    for suffix in ["-wal", "-shm"] {
        disk.remove(Path::new(&format!("{MAIN}{suffix}"))).unwrap();
    }
}

pub fn insert(database: &Database, id: i64) {
    ok(&mut database.session(), &[&format!("INSERT INTO t VALUES ({id}, 'y')")]);
}

/// The keys that are there.
pub fn ids(database: &Database) -> Vec<i64> {
    let ids = select(&mut database.session(), "SELECT id FROM t ORDER BY id");
    ids.into_iter()
        .map(|id| if let Value::Integer(id) = id { id } else { panic!("{id:?}") })
        .collect()
}

pub fn refused(database: &Database) -> String {
    run(&mut database.session(), &["INSERT INTO t VALUES (99, 'z')"]).remove(0)
}

pub fn stopped(database: &Database) -> Option<u8> {
    let stopped = std::pin::pin!(database.stopped());
    match stopped.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready((code, _)) => Some(code),
        Poll::Pending => None,
    }
}

/// Brings back what `holder` holds, at the writer.
pub fn replay_all(holder: &Database, writer: &Database) {
    for held in holder.held_list().unwrap() {
        assert!(["undone", "fenced"].contains(&held.reason.as_str()), "{held:?}");
        let body = holder.held_body(held.id).unwrap();
        block_on(writer.replay(body)).unwrap();
        holder.held_discard(held.id).unwrap();
    }
    assert_eq!(holder.status().held, 0);
}
