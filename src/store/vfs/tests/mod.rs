//! What SQLite does on this disk, alone and in a crowd, and what is left after a crash.

mod bytes;
mod crash;
mod crowd;
mod trouble;

use rusqlite::{Connection, OpenFlags};

use super::*;

/// A connection to `path` that does not wait for locks.
fn open(disk: &MemoryDisk, path: &str) -> Connection {
    let flags = OpenFlags::default();
    let connection = Connection::open_with_flags_and_vfs(path, flags, disk.vfs()).unwrap();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    connection
}

/// The same in WAL mode, with `synchronous` as given.
fn open_wal(disk: &MemoryDisk, path: &str, synchronous: &str) -> Connection {
    let connection = open(disk, path);
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    connection.pragma_update(None, "synchronous", synchronous).unwrap();
    connection
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn assert_whole(connection: &Connection) {
    let check = "PRAGMA integrity_check";
    let verdict: String = connection.query_row(check, [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

/// The extended result code of a statement that fails.
fn failure(connection: &Connection, sql: &str) -> i32 {
    let error = connection.execute_batch(sql).unwrap_err();
    error.sqlite_error().expect("SQLite's own error").extended_code
}
