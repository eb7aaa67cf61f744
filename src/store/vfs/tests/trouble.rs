//! Faults to order, full disks, and files that others put in place.

use rusqlite::ffi;

use super::*;

fn fault(on: FaultOn, error: FaultError) -> Fault {
    Fault { on, nth: 1, error, times: Times::Once, file: None }
}

/// A database with one table and one row, in WAL mode, nothing waiting to be checkpointed.
fn database(disk: &MemoryDisk) -> Connection {
    let connection = open_wal(disk, "/a.db", "FULL");
    connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(number(&connection, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
    connection
}

#[test]
fn a_full_disk_refuses_the_commit_and_reading_goes_on() {
    for journal in ["WAL", "DELETE"] {
        let disk = MemoryDisk::new();
        let connection = open(&disk, "/a.db");
        connection.query_row(&format!("PRAGMA journal_mode = {journal}"), [], |_| Ok(())).unwrap();
        connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        disk.set_capacity(Some(disk.used() + 20_000));
        let insert = "INSERT INTO t VALUES (randomblob(100000))";
        assert_eq!(failure(&connection, insert), ffi::SQLITE_FULL, "{journal}");
        assert!(disk.used() <= disk.volume.space.capacity.load(Ordering::Relaxed));
        assert_eq!(number(&connection, "SELECT count(*) FROM t"), 1);
        disk.set_capacity(None);
        connection.execute_batch(insert).unwrap();
        assert_eq!(number(&connection, "SELECT count(*) FROM t"), 2);
        assert_whole(&connection);
    }
}

#[test]
fn each_fault_strikes_its_call() {
    let strike = |ordered: Fault, sql: &str| {
        let disk = MemoryDisk::power_loss();
        let connection = database(&disk);
        connection.pragma_update(None, "cache_size", 0).unwrap();
        disk.fail(ordered);
        let struck = failure(&connection, sql);
        disk.heal();
        assert_whole(&connection);
        struck
    };
    let insert = "INSERT INTO t VALUES (2)";
    assert_eq!(strike(fault(FaultOn::Sync, FaultError::Io), insert), ffi::SQLITE_IOERR_FSYNC);
    assert_eq!(strike(fault(FaultOn::Sync, FaultError::Full), insert), ffi::SQLITE_FULL);
    assert_eq!(strike(fault(FaultOn::Write, FaultError::Io), insert), ffi::SQLITE_IOERR_WRITE);
    assert_eq!(strike(fault(FaultOn::Write, FaultError::Full), insert), ffi::SQLITE_FULL);
    let checkpoint = "INSERT INTO t VALUES (2); PRAGMA wal_checkpoint(TRUNCATE)";
    assert_eq!(
        strike(fault(FaultOn::Truncate, FaultError::Io), checkpoint),
        ffi::SQLITE_IOERR_TRUNCATE
    );
}

#[test]
fn a_read_that_fails_is_an_error_and_not_an_empty_table() {
    let disk = MemoryDisk::new();
    drop(database(&disk));
    let connection = open(&disk, "/a.db");
    disk.fail(Fault { times: Times::Forever, ..fault(FaultOn::Read, FaultError::Io) });
    assert_eq!(failure(&connection, "SELECT * FROM t"), ffi::SQLITE_IOERR_READ);
    assert!(disk.read(Path::new("/a.db")).is_err());
    assert!(disk.read_at(Path::new("/a.db"), 0, 1).is_err());
    disk.heal();
    assert_eq!(number(&connection, "SELECT count(*) FROM t"), 1);
}

#[test]
fn a_fault_strikes_the_nth_call_on_its_file_once_or_for_ever() {
    let disk = MemoryDisk::new();
    let connection = database(&disk);
    let on_wal = |nth, times| Fault {
        nth,
        times,
        file: Some("-wal".into()),
        ..fault(FaultOn::Write, FaultError::Io)
    };
    disk.fail(Fault { file: Some("-journal".into()), ..on_wal(1, Times::Forever) });
    // Header and one frame, a header and a page each; then a frame a commit.
    disk.fail(on_wal(4, Times::Once));
    connection.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(failure(&connection, "INSERT INTO t VALUES (3)"), ffi::SQLITE_IOERR_WRITE);
    connection.execute_batch("INSERT INTO t VALUES (3)").unwrap();
    disk.fail(on_wal(1, Times::Forever));
    assert_eq!(failure(&connection, "INSERT INTO t VALUES (4)"), ffi::SQLITE_IOERR_WRITE);
    assert_eq!(failure(&connection, "INSERT INTO t VALUES (4)"), ffi::SQLITE_IOERR_WRITE);
    disk.heal();
    connection.execute_batch("INSERT INTO t VALUES (4)").unwrap();
    assert_eq!(number(&connection, "SELECT sum(x) FROM t"), 10);
}

/// What a restore by rename does to a process that has the database open.
#[test]
fn a_replaced_file_has_another_identity_and_open_connections_keep_the_old_one() {
    let disk = MemoryDisk::new();
    let path = Path::new("/a.db");
    let connection = open(&disk, "/a.db");
    connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    let (before, backup) = (disk.identity(path).unwrap(), disk.snapshot(path));
    connection.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    disk.replace(path, &backup);
    assert_ne!(disk.identity(path).unwrap(), before);
    assert_eq!(number(&connection, "SELECT count(*) FROM t"), 2);
    assert_eq!(number(&open(&disk, "/a.db"), "SELECT count(*) FROM t"), 1);
    // SQLite asks whether its file has moved before it writes a journal beside another one.
    assert_eq!(failure(&connection, "INSERT INTO t VALUES (3)"), ffi::SQLITE_READONLY_DBMOVED);
}

/// What a restore by copying does: nothing to notice but the content.
#[test]
fn a_file_copied_over_keeps_its_identity_and_open_connections_see_it() {
    let disk = MemoryDisk::power_loss();
    let path = Path::new("/a.db");
    let connection = open(&disk, "/a.db");
    connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    let (before, backup) = (disk.identity(path).unwrap(), disk.snapshot(path));
    connection.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(number(&connection, "SELECT count(*) FROM t"), 2);
    disk.copy_over(path, &backup).unwrap();
    assert_eq!(disk.identity(path).unwrap(), before);
    assert_eq!(number(&connection, "SELECT count(*) FROM t"), 1);
    assert_eq!(disk.crash(1).snapshot(path), backup, "it was synced");
    assert!(disk.copy_over("/nowhere", b"").is_err());
}

#[test]
fn a_read_only_connection_cannot_write_and_creates_nothing() {
    let disk = MemoryDisk::new();
    let read_only = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        Connection::open_with_flags_and_vfs("/a.db", flags, disk.vfs())
    };
    let missing = read_only().unwrap_err().sqlite_error().unwrap().extended_code;
    assert_eq!(missing, ffi::SQLITE_CANTOPEN);
    let writer = database(&disk);
    let reader = read_only().unwrap();
    assert_eq!(failure(&reader, "INSERT INTO t VALUES (2)"), ffi::SQLITE_READONLY);
    writer.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(number(&reader, "SELECT count(*) FROM t"), 2);
}

#[test]
fn a_path_has_one_spelling() {
    for path in ["/data/a.db", "data/a.db", "./data//a.db", "/data/x/../a.db", "../data/./a.db"] {
        assert_eq!(name_of(Path::new(path)), "/data/a.db");
    }
    let disk = MemoryDisk::new();
    drop(database(&disk));
    assert_eq!(number(&open(&disk, "x/../a.db"), "SELECT count(*) FROM t"), 1);
    let flags = OpenFlags::default();
    let long = "x".repeat(2000);
    assert!(Connection::open_with_flags_and_vfs(&long, flags, disk.vfs()).is_err());
}

/// `sqlite3_file_control` on the main database, for the controls that answer in an `int`.
fn control(connection: &Connection, op: i32, mut value: i32) -> i32 {
    // SAFETY: an open connection, and an `int` where these controls want one.
    let code = unsafe {
        let value: *mut i32 = &raw mut value;
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), op, value.cast())
    };
    assert_eq!(code, ffi::SQLITE_OK);
    value
}

#[test]
fn file_controls_answer_for_the_disk() {
    let disks =
        [(MemoryDisk::new(), 1), (MemoryDisk::powersafe(), 1), (MemoryDisk::power_loss(), 0)];
    for (disk, powersafe) in disks {
        let connection = database(&disk);
        assert_eq!(control(&connection, ffi::SQLITE_FCNTL_POWERSAFE_OVERWRITE, -1), powersafe);
        assert_eq!(control(&connection, ffi::SQLITE_FCNTL_LOCKSTATE, -1), 1, "shared, in WAL");
        assert_eq!(control(&connection, ffi::SQLITE_FCNTL_PERSIST_WAL, -1), 0);
        control(&connection, ffi::SQLITE_FCNTL_PERSIST_WAL, 1);
        assert_eq!(control(&connection, ffi::SQLITE_FCNTL_PERSIST_WAL, -1), 1);
        drop(connection);
        assert_eq!(disk.files().len(), 2, "the WAL stays");
    }
}

/// Unwinding into C would be undefined. The panic's message on the terminal belongs to this test.
#[test]
fn a_panic_in_a_callback_becomes_its_error() {
    let code = super::super::ffi::guard(ffi::SQLITE_IOERR_READ, || panic!("on purpose"));
    assert_eq!(code, ffi::SQLITE_IOERR_READ);
}
