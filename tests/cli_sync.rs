//! `diff` and `sync` as people run them: the real binary on SQLite files.

#[path = "support/files.rs"]
mod files;

use std::io::Read;
use std::path::Path;
use std::process::Command;

use files::{Place, TABLE, eventually};
use serde_json::json;

const FOUR: &str =
    "INSERT INTO t VALUES (1, 210, 'a'), (2, 221, 'b'), (3, 234, 'c'), (4, 245, 'd')";

/// A snapshot is taken, row 3 is updated and synced, the snapshot is restored. Removing from B all that is above
/// A's newest version would remove row 3, and comparing versions would never bring it back.
#[test]
fn a_restored_source_is_followed_row_by_row() {
    for after_restore in [
        "SELECT 1",
        // The sequence hands 257 out again, for something else.
        "UPDATE t SET version = 257, content = 'another' WHERE id = 3",
        "INSERT INTO t VALUES (5, 257, 'new')",
        "DELETE FROM t WHERE id = 4",
        "INSERT INTO t VALUES (5, 300, 'above all')",
    ] {
        let place = Place::with(TABLE);
        place.sql("a.db", FOUR);
        place.versioned(&[]).exits(0);
        std::fs::copy(place.file("a.db"), place.file("saved.db")).unwrap();
        place.sql("a.db", "UPDATE t SET version = 257, content = 'c2' WHERE id = 3");
        place.versioned(&[]).exits(0);
        place.assert_equal("SELECT * FROM t");
        std::fs::copy(place.file("saved.db"), place.file("a.db")).unwrap();
        place.sql("a.db", after_restore);
        place.versioned(&[]).exits(0);
        place.assert_equal("SELECT * FROM t");
        place.run(&["diff", "a.db", "b.db"]).exits(0);
    }
}

#[test]
fn the_newest_row_is_deleted() {
    let place = Place::with(TABLE);
    place.sql("a.db", FOUR);
    place.versioned(&[]).exits(0);
    place.sql("a.db", "DELETE FROM t WHERE id = 4");
    let lines = place.versioned(&["--json"]).exits(0).lines();
    assert_eq!(
        (&lines[0]["deleted"], &lines[0]["updated"], &lines[0]["inserted"]),
        (&json!(1), &json!(0), &json!(0))
    );
    place.assert_equal("SELECT * FROM t");
}

#[test]
fn differences_are_told_row_by_row() {
    let place = Place::with(&format!("{TABLE}; {FOUR}"));
    place.sql("b.db", "DELETE FROM t WHERE id = 1; UPDATE t SET content = 'x' WHERE id = 2; INSERT INTO t VALUES (9, 9, NULL)");
    let lines = place.run(&["diff", "a.db", "b.db", "--json", "--rows", "0"]).exits(1).lines();
    let of = |kind: &str| lines.iter().filter(|l| l["type"] == kind).cloned().collect::<Vec<_>>();
    let rows: Vec<_> = of("row")
        .iter()
        .map(|r| (r["key"]["id"].clone(), r["difference"].clone(), r["columns"].clone()))
        .collect();
    assert_eq!(
        rows,
        [
            (json!(1), json!("only_in_a"), json!([])),
            (json!(2), json!("changed"), json!(["content"])),
            (json!(9), json!("only_in_b"), json!([])),
        ]
    );
    assert_eq!(of("summary")[0]["differing_rows"], json!(3));
    assert_eq!(of("table")[0]["equal"], json!(false));
    let text = place.run(&["diff", "a.db", "b.db"]).exits(1).out();
    assert!(text.contains("t id=2: changed") && text.contains(r#"content: "b" | "x""#), "{text}");
    assert_eq!(
        place
            .run(&["diff", "a.db", "b.db", "--rows", "1", "--json"])
            .lines()
            .iter()
            .filter(|l| l["type"] == "row")
            .count(),
        1
    );
    place.run(&["diff", "a.db", "b.db", "--where", "t:id BETWEEN 3 AND 4"]).exits(0);
    place
        .run(&["diff", "a.db", "b.db", "--columns", "t.version", "--where", "t:id IN (2, 3)"])
        .exits(0);
    place.run(&["diff", "a.db", "b.db", "--exclude", "t"]).exits(0);
}

/// Texts of strangers do not act on the terminal, and what looks alike is told apart.
#[test]
fn values_are_shown_for_what_they_are() {
    let place = Place::with("CREATE TABLE t (k PRIMARY KEY, x) WITHOUT ROWID");
    place.sql("a.db", "INSERT INTO t VALUES (1, 9e999), ('1', -9e999), (2, 1), (3, char(27) || '[2J' || char(10) || 'x')");
    place.sql("b.db", "INSERT INTO t VALUES (1, NULL), ('1', NULL), (2, '1'), (3, 'x')");
    let text = place.run(&["diff", "a.db", "b.db"]).exits(1).out();
    assert!(!text.contains('\u{1b}'), "{text:?}");
    for line in [
        "t k=1: changed\n    x: inf | NULL\n",
        "t k=\"1\": changed\n    x: -inf | NULL\n",
        "t k=2: changed\n    x: 1 | \"1\"\n",
        "t k=3: changed\n    x: \"\\u{1b}[2J\\nx\" | \"x\"\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let lines = place.run(&["diff", "a.db", "b.db", "--json"]).exits(1).lines();
    let of_a: Vec<_> =
        lines.iter().filter(|l| l["type"] == "row").map(|l| l["a"]["x"].clone()).collect();
    assert_eq!(of_a[0], json!("Infinity"));
    assert!(of_a.contains(&json!("-Infinity")));
}

/// `| head` ends reading early.
#[test]
fn who_stops_reading_is_no_failure() {
    let place = Place::with(TABLE);
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
                INSERT INTO t SELECT i, i, 'something that is long enough to fill a pipe' FROM n";
    place.sql("a.db", many);
    for arguments in [
        &["diff", "a.db", "b.db", "--rows", "0"][..],
        &["diff", "a.db", "b.db", "--rows", "0", "--json"],
        &["sync", "a.db", "b.db", "--dry-run"],
    ] {
        let mut running = place.start(arguments);
        drop(running.0.stdout.take());
        let mut said = String::new();
        running.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let code = running.0.wait().unwrap().code();
        assert_eq!(code, Some(i32::from(arguments[0] == "diff")), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn nothing_is_written_to_a_and_a_dry_run_writes_nothing() {
    let place = Place::with(TABLE);
    place.sql("a.db", FOUR);
    place.sql("b.db", "INSERT INTO t VALUES (8, 1, 'only b')");
    let bytes = |name: &str| std::fs::read(place.file(name)).unwrap();
    let (a, b) = (bytes("a.db"), bytes("b.db"));
    let told = place.sync(&["--dry-run", "--yes"]).exits(0).out();
    assert!(
        told.contains("nothing was written") && told.contains("t 8: would be deleted"),
        "{told}"
    );
    assert!(bytes("b.db") == b, "a dry run wrote");
    place.sync(&["--yes"]).exits(0);
    assert!(bytes("a.db") == a, "A was written");
    let files = std::fs::read_dir(place.dir.path()).unwrap().count();
    assert_eq!(files, 2, "nothing else lies there");
    place.assert_equal("SELECT * FROM t");
}

#[test]
fn too_many_deletes_need_a_yes() {
    let place = Place::with(&format!("{TABLE}; {FOUR}"));
    place.sql("a.db", "DELETE FROM t WHERE id < 4; INSERT INTO t VALUES (7, 246, 'e')");
    let refused = place.sync(&[]).exits(4);
    assert!(
        refused.err().contains("TOO_MANY_DELETES") && refused.err().contains("--yes"),
        "{}",
        refused.err()
    );
    assert_eq!(place.rows("b.db", "SELECT count(*) FROM t"), ["Integer(4)"], "nothing was written");
    place.sync(&["--max-delete", "2"]).exits(4);
    place.sync(&["--max-delete", "3"]).exits(0);
    place.assert_equal("SELECT * FROM t");
}

/// One row can never be written, and another refers to it. The rest goes on; both come when the first is mended.
#[test]
fn a_poison_row_holds_up_only_what_depends_on_it() {
    let tables = |check: &str| {
        format!(
            "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT {check}); \
             CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id))"
        )
    };
    let place = Place { dir: tempfile::tempdir().unwrap() };
    place.sql("a.db", &tables(""));
    place.sql("b.db", &tables("CHECK (name <> 'poison')"));
    place.sql("a.db", "WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO parent SELECT i, 'p' || i FROM n");
    place.sql("a.db", "UPDATE parent SET name = 'poison' WHERE id = 777; INSERT INTO child VALUES (1, 776), (2, 777), (3, 778)");
    let lines = place.sync(&["--json"]).exits(1).lines();
    let held: Vec<_> = lines
        .iter()
        .filter(|l| l["type"] == "held")
        .map(|l| (l["table"].clone(), l["key"].clone()))
        .collect();
    assert_eq!(held, [(json!("parent"), json!("777")), (json!("child"), json!("2"))]);
    assert_eq!(place.rows("b.db", "SELECT count(*) FROM parent"), ["Integer(4999)"]);
    assert_eq!(place.rows("b.db", "SELECT id FROM child"), ["Integer(1)", "Integer(3)"]);
    // It is not tried for nothing, and still told.
    place.sync(&[]).exits(1);
    place.sql("a.db", "UPDATE parent SET name = 'fine' WHERE id = 777");
    place.sync(&[]).exits(0);
    place.assert_equal("SELECT * FROM parent");
    place.assert_equal("SELECT * FROM child");
    assert_eq!(
        place.rows("b.db", "SELECT count(*) FROM _syncline_sync WHERE name LIKE '%/held/%'"),
        ["Integer(0)"]
    );
}

#[test]
fn unique_values_change_places() {
    let place = Place::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT)");
    let all = "WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t SELECT i, 'n' || i, 'x' FROM n";
    place.sql("a.db", all);
    place.sql("b.db", all);
    // A swap, a ring around the whole table, and one that follows a row that must go.
    place.sql(
        "a.db",
        "UPDATE t SET name = 'm' || (id % 3000 + 1); UPDATE t SET name = 'n' || substr(name, 2)",
    );
    place.sql("a.db", "DELETE FROM t WHERE id = 5; INSERT INTO t VALUES (9000, 'n6', 'was row 5')");
    place.sync(&[]).exits(0);
    place.assert_equal("SELECT * FROM t");
}

/// Two keys of A are one for B: nothing is written, and both are named.
#[test]
fn keys_that_collide_in_b_only_are_named_before_anything_is_written() {
    let place = Place { dir: tempfile::tempdir().unwrap() };
    place.sql("a.db", "CREATE TABLE t (name TEXT PRIMARY KEY, n); INSERT INTO t VALUES ('a', 1), ('Bee', 2), ('bee', 3)");
    place.sql("b.db", "CREATE TABLE t (name TEXT PRIMARY KEY COLLATE NOCASE, n)");
    let said = place.sync(&[]).exits(2).err();
    assert!(said.contains("\"Bee\" and \"bee\"") && said.contains("KEYS_COLLIDE"), "{said}");
    assert_eq!(place.rows("b.db", "SELECT count(*) FROM t"), ["Integer(0)"]);
    place.sql("a.db", "DELETE FROM t WHERE name = 'bee'");
    place.sync(&[]).exits(0);
    place.assert_equal("SELECT * FROM t ORDER BY n");
}

/// Killed at any moment, the next run goes on, and the end is the same.
#[test]
fn a_sync_that_is_killed_goes_on() {
    let place = Place::with(TABLE);
    place.sql("a.db", "WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t SELECT i, i, hex(randomblob(20)) FROM n");
    let arguments =
        ["sync", "a.db", "b.db", "--version-column", "t=version", "--limit-rate", "400KiB/s"];
    let rows = || place.rows("b.db", "SELECT count(*) FROM t")[0].clone();
    let mut last = rows();
    for _ in 0..3 {
        let running = place.start(&arguments);
        eventually("it writes", || rows() != last);
        drop(running);
        last = rows();
    }
    assert_ne!(last, "Integer(20000)", "it was not killed in the middle");
    place.versioned(&[]).exits(0);
    place.assert_equal("SELECT * FROM t");
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let place = Place::with(TABLE);
    place.sql("a.db", "CREATE TABLE more (x); ALTER TABLE t ADD COLUMN extra TEXT");
    std::fs::write(
        place.file("text.db"),
        "this is no database at all, and long enough to be looked at",
    )
    .unwrap();
    for (arguments, word) in [
        (&["sync", "no.db", "b.db"][..], "no.db"),
        (&["sync", "a.db", "text.db"], "no SQLite file"),
        (&["sync", "a.db", "a.db"], "SAME_ENDPOINT"),
        (&["sync", "ftp://x/y", "b.db"], "ftp"),
        (&["sync", "a.db", "b.db"], "--create"),
        (
            &["sync", "a.db", "b.db", "--exclude", "more"],
            "ALTER TABLE \"t\" ADD COLUMN \"extra\" TEXT",
        ),
        (&["sync", "a.db", "b.db", "--tables", "tt"], "NO_SUCH_TABLE"),
        (&["sync", "a.db", "b.db", "--tables", "t", "--columns", "t.nothing"], "nothing"),
        (&["sync", "a.db", "b.db", "--where", "t"], "--where"),
        (&["sync", "a.db", "b.db", "--max-delete", "much"], "20%"),
        (&["sync", "a.db"], "<B>"),
        (&["sync", "-c", "none.toml"], "none.toml"),
        (&["diff", "a.db", "no.db"], "no.db"),
        (&["diff", "postgres://nobody@127.0.0.1:1/x", "b.db"], "A:"),
    ] {
        let said = place.run(arguments).exits(2).err();
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    assert_eq!(
        place.rows("b.db", "SELECT name FROM sqlite_schema"),
        ["Text(\"t\")"],
        "nothing was changed"
    );
    place.sync(&["--exclude", "more", "--columns", "t.version,t.content"]).exits(0);
    place.sql("b.db", "ALTER TABLE t ADD COLUMN extra TEXT");
    place.sync(&["--create"]).exits(0);
    assert_eq!(place.rows("b.db", "SELECT count(*) FROM more"), ["Integer(0)"]);
}

#[cfg(unix)]
#[test]
fn following_goes_on_until_it_is_asked_to_end() {
    let place = Place::with(TABLE);
    place.sql("a.db", "PRAGMA journal_mode = wal");
    std::fs::write(
        place.file("sync.toml"),
        "[[sync]]\na = \"a.db\"\nb = \"b.db\"\nevery = \"50ms\"\nversion_column = [\"t=version\"]\n\
         [[sync]]\na = \"a.db\"\nb = \"missing/c.db\"\nevery = \"50ms\"\n",
    )
    .unwrap();
    for arguments in
        [&["sync", "a.db", "b.db", "--follow", "--every", "50ms"][..], &["sync", "-c", "sync.toml"]]
    {
        let mut running = place.start(arguments);
        for _ in 0..3 {
            place.sql("a.db", "INSERT INTO t SELECT coalesce(max(id), 0) + 1, coalesce(max(version), 0) + 1, 'x' FROM t");
            let counted = |name| place.rows(name, "SELECT count(*) FROM t");
            eventually("the row arrives", || counted("a.db") == counted("b.db"));
        }
        let ended =
            Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().unwrap();
        assert!(ended.success());
        let status = running.0.wait().unwrap();
        let mut said = String::new();
        running.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(status.code(), Some(0), "{said}");
    }
    place.assert_equal("SELECT * FROM t");
}

#[test]
fn the_position_may_lie_in_a_file() {
    let place = Place::with(TABLE);
    place.sql("a.db", FOUR);
    let state = place.file("state.json");
    let with_state = |place: &Place| place.versioned(&["--state", path(&state)]).exits(0);
    with_state(&place);
    place.sql("a.db", "UPDATE t SET version = 300 WHERE id = 1");
    with_state(&place);
    place.assert_equal("SELECT * FROM t");
    assert_eq!(
        place.rows("b.db", "SELECT name FROM sqlite_schema"),
        ["Text(\"t\")"],
        "nothing of ours is in B"
    );
    assert!(std::fs::read_to_string(&state).unwrap().contains("mark"));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
