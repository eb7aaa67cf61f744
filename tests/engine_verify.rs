//! Rows that somebody changed behind Syncline's back, by a connection of plain SQLite: they are found,
//! reported, never undone unasked; and no copy takes them over as if they were the history.

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::world::*;
use support::*;
use syncline::change::Value;
use syncline::engine::{Database, DatabaseOptions, Role, State, VerifyMode, WorkingCopy};
use syncline::store::vfs::MemoryDisk;

const HERE: [&str; 4] = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY, v)",
    "CREATE TABLE other (v)",
    "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    "INSERT INTO other VALUES ('untouched')",
];

/// A row changed, one gone, one that nobody wrote.
const DAMAGE: &str = "UPDATE t SET v = 'theirs' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (9, 'x')";

fn open(disk: &MemoryDisk) -> Database {
    let writer = Database::open(writer_on(disk, "a")).unwrap();
    ok(&mut writer.session(), &HERE);
    writer
}

fn damage(disk: &MemoryDisk, path: impl AsRef<Path>) {
    behind_its_back(disk, path).execute_batch(DAMAGE).unwrap();
}

fn values(database: &Database) -> Vec<Value> {
    select(&mut database.session(), "SELECT id || v FROM t ORDER BY id")
}

fn texts(all: &[&str]) -> Vec<Value> {
    all.iter().map(|text| Value::Text((*text).into())).collect()
}

fn both_readers(disk: &MemoryDisk) -> [Database; 2] {
    [("r", WorkingCopy::Memory), ("s", WorkingCopy::Disk)]
        .map(|(node, copy)| open_reader(disk, node, copy))
}

/// What is there becomes a commit, and every copy follows it, in whatever state the reader is by then.
#[test]
fn changed_rows_are_adopted_at_the_writer() {
    let disk = MemoryDisk::new();
    let writer = open(&disk);
    let readers = both_readers(&disk);
    damage(&disk, MAIN);
    let before = writer.position();
    let report = writer.verify(VerifyMode::Report).unwrap();
    assert!(!report.equal && report.findings.len() == 1, "{report:?}");
    assert!(report.findings[0].starts_with("table t: 3 rows"), "{report:?}");
    assert_eq!(writer.position(), before, "reported, and left as it is");
    assert_eq!(values(&writer), texts(&["1theirs", "3c", "9x"]));
    let report = writer.verify(VerifyMode::Adopt).unwrap();
    assert!(report.equal && report.findings[0].starts_with("table t"), "{report:?}");
    assert_eq!(writer.position().version, before.version.next(), "one commit");
    for reader in &readers {
        assert_equal(&writer, reader);
        assert_eq!(values(reader), texts(&["1theirs", "3c", "9x"]));
        assert_eq!(reader.status().healed[3], 0, "it is an ordinary commit to them");
        reader.close();
    }
    writer.close();
}

/// The old rows are written back; it is not a commit, since for every other copy nothing has happened.
#[test]
fn changed_rows_are_repaired_at_the_writer() {
    let disk = MemoryDisk::new();
    let writer = open(&disk);
    let readers = both_readers(&disk);
    damage(&disk, MAIN);
    let before = writer.position();
    assert!(writer.verify(VerifyMode::Repair).unwrap().equal);
    assert_eq!(writer.position(), before);
    assert_eq!(values(&writer), texts(&["1a", "2b", "3c"]));
    ok(&mut writer.session(), &["UPDATE t SET v = v || '!'"]);
    for reader in &readers {
        assert_equal(&writer, reader);
        reader.close();
    }
    writer.close();
}

/// The rows are in no log any more: nothing is touched, and the hint names the ways that are left.
#[test]
fn a_repair_that_is_impossible_changes_nothing() {
    let disk = MemoryDisk::new();
    let forgetful = DatabaseOptions {
        log_keep_for: Duration::ZERO,
        mark_every: Duration::from_millis(5),
        ..writer_on(&disk, "a")
    };
    let writer = Database::open(forgetful).unwrap();
    HERE.iter().for_each(|sql| ok(&mut writer.session(), &[sql]));
    let begins = || {
        let oldest = "SELECT coalesce(min(first), 99) FROM _syncline_log";
        behind_its_back(&disk, MAIN).query_row(oldest, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    eventually("the log is trimmed", || begins() > 1);
    damage(&disk, MAIN);
    let error = writer.verify(VerifyMode::Repair).unwrap_err();
    assert_eq!(error.code(), "REPAIR_IMPOSSIBLE");
    assert!(error.hint_text().contains("--adopt"), "{error}");
    assert_eq!(values(&writer), texts(&["1theirs", "3c", "9x"]));
    ok(&mut writer.session(), &["INSERT INTO other VALUES ('writing goes on')"]);
    assert!(writer.verify(VerifyMode::Adopt).unwrap().equal);
    writer.close();
}

/// Where a reader keeps its copy.
fn copy_of(disk: &MemoryDisk, node: &str) -> PathBuf {
    let is_copy = |file: &PathBuf| {
        let name = file.to_string_lossy();
        name.starts_with(&format!("/{node}/main.copy-")) && name.ends_with(".db")
    };
    disk.files().into_iter().find(is_copy).expect("a copy")
}

/// A reader's own copy was changed: it reports, it cannot adopt, and its repair is another copy.
#[test]
fn changed_rows_of_a_readers_copy_are_repaired_there() {
    let disk = MemoryDisk::new();
    let writer = open(&disk);
    let reader = open_reader(&disk, "s", WorkingCopy::Disk);
    assert_equal(&writer, &reader);
    damage(&disk, copy_of(&disk, "s"));
    assert!(!reader.verify(VerifyMode::Report).unwrap().equal);
    assert_eq!(values(&reader), texts(&["1theirs", "3c", "9x"]));
    let error = reader.verify(VerifyMode::Adopt).unwrap_err();
    assert_eq!(error.code(), "NOT_WRITER");
    assert!(error.hint_text().contains("--repair"), "{error}");
    assert!(reader.verify(VerifyMode::Repair).unwrap().equal);
    assert_eq!(values(&reader), texts(&["1a", "2b", "3c"]));
    assert_equal(&writer, &reader);
    reader.close();
    writer.close();
}

/// Nobody asks: the full check of the reader finds it.
#[test]
fn a_readers_full_check_finds_changed_rows_and_mends_them() {
    let disk = MemoryDisk::new();
    let writer = open(&disk);
    let options = DatabaseOptions {
        role: Role::Reader,
        check_every: Duration::from_millis(5),
        full_every: Duration::from_millis(20),
        ..writer_on(&disk, "s")
    };
    let reader = Database::open(options).unwrap();
    assert_equal(&writer, &reader);
    damage(&disk, copy_of(&disk, "s"));
    eventually("it is mended", || values(&reader) == texts(&["1a", "2b", "3c"]));
    eventually("it says so", || reader.status().state == State::Ok);
    assert_eq!(reader.status().mismatches, 1);
    assert_equal(&writer, &reader);
    reader.close();
    writer.close();
}

/// A reader of a damaged source: `again` is how soon it looks again of its own accord.
fn damaged_reader(disk: &MemoryDisk, node: &str, again: Duration) -> Database {
    let check_every = Duration::from_millis(2);
    let options = DatabaseOptions { check_every, full_every: again, ..writer_on(disk, node) };
    Database::open(DatabaseOptions { role: Role::Reader, ..options }).unwrap()
}

const NEVER: Duration = Duration::from_secs(3600);

/// The source's rows do not give its digest, and the reader needs a full copy. It keeps the one it has,
/// says what is wrong, does not call itself fresh, and does not try again until the source moves.
#[test]
fn a_damaged_source_is_not_copied() {
    let disk = MemoryDisk::new();
    let writer = open(&disk);
    let reader = damaged_reader(&disk, "s", NEVER);
    assert_equal(&writer, &reader);
    damage(&disk, MAIN);
    // A change of a row that is not as the reader knows it: its commit cannot be applied.
    ok(&mut writer.session(), &["UPDATE t SET v = 'new' WHERE id = 1"]);
    eventually("it says so", || reader.status().state == State::SourceDamaged);
    let status = reader.status();
    assert!(status.note.contains("tables: t"), "{}", status.note);
    assert_eq!(values(&reader), texts(&["1a", "2b", "3c"]), "the old copy");
    assert!(status.position.version < writer.position().version);
    let since = Instant::now();
    eventually("it has looked again and again", || since.elapsed() > Duration::from_millis(100));
    let later = reader.status();
    assert_eq!(later.state, State::SourceDamaged);
    assert_eq!(later.mismatches, status.mismatches, "without copying or applying anything");
    assert!(later.stale >= since.elapsed() / 2, "{:?}", later.stale);
    // It moves, and is damaged still.
    ok(&mut writer.session(), &["INSERT INTO other VALUES ('moved')"]);
    eventually("it tries again", || reader.status().mismatches > status.mismatches);
    eventually("and says so", || reader.status().state == State::SourceDamaged);
    assert_eq!(
        reader.verify(VerifyMode::Report).unwrap().findings,
        [""; 0],
        "its own rows are right"
    );
    assert!(writer.verify(VerifyMode::Adopt).unwrap().equal);
    assert_equal(&writer, &reader);
    assert_eq!(values(&reader), texts(&["1new", "3c", "9x"]));
    assert_eq!(reader.status().state, State::Ok);
    reader.close();
    writer.close();
}

/// A reader that has no copy yet has nothing to keep: it is not ready, and waits. A repair leaves no trace
/// in the history; it looks again after `full_every`.
#[test]
fn a_first_copy_is_not_taken_from_a_damaged_source() {
    let disk = MemoryDisk::new();
    let writer = open(&disk);
    damage(&disk, MAIN);
    let reader = damaged_reader(&disk, "s", Duration::from_millis(50));
    assert_eq!(reader.status().state, State::SourceDamaged);
    assert_eq!(run(&mut reader.session(), &["SELECT 1"]), ["NOT_READY"]);
    assert!(writer.verify(VerifyMode::Repair).unwrap().equal);
    assert_equal(&writer, &reader);
    assert_eq!(reader.status().state, State::Ok);
    assert_eq!(values(&reader), texts(&["1a", "2b", "3c"]));
    reader.close();
    writer.close();
}

/// With its copy in memory a writer does not see what happens to the file, unless it looks.
#[test]
fn a_writer_in_memory_verifies_the_backing_file_too() {
    let disk = MemoryDisk::new();
    let on = |working_copy| DatabaseOptions { working_copy, ..writer_on(&disk, "a") };
    let writer = Database::open(on(WorkingCopy::Memory)).unwrap();
    ok(&mut writer.session(), &HERE);
    assert!(writer.verify(VerifyMode::Report).unwrap().equal);
    damage(&disk, MAIN);
    let report = writer.verify(VerifyMode::Report).unwrap();
    assert!(!report.equal, "{report:?}");
    assert!(report.findings[0].starts_with("in the backing database, table t"), "{report:?}");
    let error = writer.verify(VerifyMode::Repair).unwrap_err();
    assert_eq!(error.code(), "BACKING_DIFFERS");
    assert!(error.hint_text().contains("working_copy"), "{error}");
    assert_eq!(values(&writer), texts(&["1a", "2b", "3c"]));
    writer.close();
    let writer = Database::open(on(WorkingCopy::Disk)).unwrap();
    assert!(writer.verify(VerifyMode::Repair).unwrap().equal);
    writer.close();
    let writer = Database::open(on(WorkingCopy::Memory)).unwrap();
    assert_eq!(values(&writer), texts(&["1a", "2b", "3c"]));
    writer.close();
}
