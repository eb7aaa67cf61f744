//! Commits that were undone come back: whatever they did, as long as nothing is in their way.

mod support;

use support::world::*;
use support::*;
use syncline::change::RequestId;
use syncline::engine::{Database, Keep, RequestOptions, State, WorkingCopy};
use syncline::store::vfs::MemoryDisk;

/// A database with `before` in it; then `undone` was written, and a backup of before was put back and kept.
struct Undone {
    writer: Database,
    reader: Database,
}

impl Undone {
    fn new(before: &[&str], undone: &[&str]) -> Undone {
        let disk = MemoryDisk::new();
        let writer = Database::open(writer_on(&disk, "a")).unwrap();
        ok(&mut writer.session(), before);
        let backup = backup(&disk);
        let reader = open_reader(&disk, "r", WorkingCopy::Disk);
        undone.iter().enumerate().for_each(|(i, sql)| {
            let request = Some(RequestId { client: "c".into(), sequence: i as u64 });
            let options = RequestOptions { request, ..RequestOptions::default() };
            assert_eq!(run_with(&mut writer.session(), &[sql], &options), [""; 0], "{sql}");
        });
        assert_equal(&writer, &reader);
        restore(&disk, How::Rename, &backup);
        assert_eq!(run(&mut writer.session(), &["CREATE TABLE refused (x)"]), ["RESTORED"]);
        writer.resolve(Keep::Backing).unwrap();
        assert_eq!(writer.held_list().unwrap().len(), undone.len());
        Undone { writer, reader }
    }

    fn run(&self, sql: &str) {
        ok(&mut self.writer.session(), &[sql]);
    }

    /// What is in the way of each held commit, oldest first.
    fn replay_each(&self) -> Vec<Result<(), String>> {
        let replay = |id| block_on(self.writer.held_replay(id)).map(drop);
        let held = self.writer.held_list().unwrap();
        let told = |error: syncline::error::Error| {
            assert_eq!(error.code(), "REPLAY_CONFLICT", "{error}");
            assert!(error.hint_text().contains("held show"), "{error}");
            error.message().to_owned()
        };
        held.iter().map(|held| replay(held.id).map_err(told)).collect()
    }

    fn close(self) {
        assert_eq!(self.writer.status().state, State::Ok);
        assert_equal(&self.writer, &self.reader);
        assert_proved(&self.writer, self.writer.position());
        self.reader.close();
        self.writer.close();
    }
}

const BEFORE: [&str; 5] = [
    "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, gone)",
    "CREATE TABLE plain (a, b)",
    "CREATE TABLE old (x)",
    "INSERT INTO p (name, gone) VALUES ('one', 1), ('two', 2)",
    "INSERT INTO plain VALUES (1, 'a'), (2, NULL)",
];

const UNDONE: [&str; 16] = [
    "CREATE TABLE k (id TEXT PRIMARY KEY NOT NULL, v REAL) WITHOUT ROWID",
    "INSERT INTO k VALUES ('a', 1.5), ('b', NULL)",
    "CREATE INDEX by_name ON p (name)",
    "INSERT INTO p (name) VALUES ('three')",
    "UPDATE plain SET b = x'00ff' WHERE a = 1",
    "ALTER TABLE plain RENAME COLUMN b TO c",
    "ALTER TABLE plain ADD COLUMN d DEFAULT 'new'",
    "ALTER TABLE p DROP COLUMN gone",
    "ALTER TABLE k RENAME TO renamed",
    "CREATE TABLE made AS SELECT id, name FROM p",
    "CREATE VIEW names AS SELECT name FROM p",
    "CREATE TRIGGER note AFTER INSERT ON made BEGIN UPDATE made SET name = 'noted' WHERE id = new.id; END",
    "INSERT INTO made VALUES (77, 'x')",
    "CREATE VIRTUAL TABLE words USING fts5 (word)",
    "INSERT INTO words VALUES ('found again')",
    "DROP TABLE old",
];

/// Every kind of table and schema step, each the write of a client with an id of its own. Replayed in
/// order, they lead to where they led.
#[test]
fn commits_with_schema_steps_are_replayed() {
    let reference = Database::open(writer_on(&MemoryDisk::new(), "x")).unwrap();
    ok(&mut reference.session(), &BEFORE);
    ok(&mut reference.session(), &UNDONE);
    let world = Undone::new(&BEFORE, &UNDONE);
    assert_eq!(world.replay_each(), vec![Ok(()); UNDONE.len()]);
    assert_eq!(world.writer.status().held, 0);
    assert_eq!(world.writer.position().digest, reference.position().digest);
    let found = "SELECT count(*) FROM words WHERE words MATCH 'again'";
    assert_eq!(number(&mut world.writer.session(), found), 1);
    // It counts on where it was, and the trigger works.
    world.run("INSERT INTO p (name) VALUES ('four')");
    assert_eq!(number(&mut world.writer.session(), "SELECT max(id) FROM p"), 4);
    world.run("INSERT INTO made VALUES (78, 'x')");
    assert_eq!(count(&mut world.writer.session(), "made WHERE name = 'noted'"), 2);
    // A client that repeats its write hears what it was answered then: no row is written twice.
    let request = Some(RequestId { client: "c".into(), sequence: 3 });
    let options = RequestOptions { request, ..RequestOptions::default() };
    assert_eq!(run_with(&mut world.writer.session(), &[UNDONE[3]], &options), [""; 0]);
    assert_eq!(count(&mut world.writer.session(), "p"), 4);
    reference.close();
    world.close();
}

/// What was written since is in the way of some: they are refused, each with what it is, and nothing of
/// them is done. The others are replayed.
#[test]
fn what_is_in_the_way_of_a_replay_is_said() {
    let before = ["CREATE TABLE t (id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 'a')"];
    let undone = [
        "CREATE TABLE same (x)",
        "ALTER TABLE t ADD COLUMN w",
        "UPDATE t SET v = 'b' WHERE id = 1",
        "INSERT INTO t (id, v) VALUES (2, 'mine')",
        "PRAGMA user_version = 7",
        "CREATE VIRTUAL TABLE words USING fts5 (word)",
        "INSERT INTO t (id, v) VALUES (3, 'fits')",
    ];
    let world = Undone::new(&before, &undone);
    world.run("CREATE TABLE same (y)");
    world.run("ALTER TABLE t RENAME COLUMN v TO renamed");
    world.run("ALTER TABLE t ADD COLUMN other");
    world.run("UPDATE t SET renamed = 'theirs'");
    world.run("INSERT INTO t (id, renamed) VALUES (2, 'theirs')");
    world.run("PRAGMA user_version = 3");
    world.run("CREATE TABLE words (other)");
    let ways = world.replay_each();
    let fits = "the held commit no longer fits: ";
    let said: Vec<_> =
        ways.iter().map(|way| way.as_ref().err().map(|s| &s[fits.len()..])).collect();
    let expected = [
        Some("table same already exists"),
        Some("the table \"t\" is not as it was before it"),
        Some("a row that it changes is not as it was before it"),
        Some("in \"t\", UNIQUE constraint failed: t.id"),
        Some("user_version is 3, it was 0"),
        Some("there is a \"words\" already"),
        None,
    ];
    assert_eq!(said, expected);
    assert_eq!(world.writer.status().held, 6);
    assert_eq!(count(&mut world.writer.session(), "t WHERE renamed = 'theirs'"), 2);
    world.close();
}

/// The client tried again after the restore: replaying its write, too, would do it twice.
#[test]
fn a_write_that_was_repeated_since_is_not_replayed() {
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)";
    let insert = "INSERT INTO t (v) VALUES ('once')";
    let world = Undone::new(&[create], &[insert]);
    let request = Some(RequestId { client: "c".into(), sequence: 0 });
    let options = RequestOptions { request, ..RequestOptions::default() };
    world.run("INSERT INTO t VALUES (7, 'other')");
    assert_eq!(run_with(&mut world.writer.session(), &[insert], &options), [""; 0]);
    let refused = world.replay_each().remove(0).unwrap_err();
    assert!(refused.contains("again"), "{refused}");
    assert_eq!(count(&mut world.writer.session(), "t"), 2);
    world.close();
}
