//! What a sync keeps for the next one, and when that does not hold any more: nothing may be skipped that B lacks.

#[path = "support/files.rs"]
mod files;

use files::{Place, TABLE};

const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) \
                    INSERT INTO t SELECT i, i, 'row ' || i FROM n";
const ALL: &str = "SELECT * FROM t ORDER BY 1";

/// Both hold 30,000 rows, all below the mark: more than one round walks through.
fn synced() -> Place {
    let place = Place::with(TABLE);
    place.sql("a.db", ROWS);
    place.versioned(&[]).exits(0);
    place.assert_equal(ALL);
    place
}

#[test]
fn a_copy_that_was_emptied_is_filled_again() {
    for lost in ["DELETE FROM t", "DELETE FROM t WHERE version > 12000", "DROP TABLE t"] {
        let place = synced();
        place.sql("b.db", lost);
        place.versioned(&["--create"]).exits(0);
        place.assert_equal(ALL);
    }
}

/// The first batch of such a run holds the newest row: what is left must not look as if it had been synced.
#[test]
fn a_refill_that_is_cut_short_is_not_taken_for_a_copy() {
    let place = synced();
    place.sql("b.db", "DELETE FROM t WHERE version > 5000");
    // The last row of the first batch is the newest one, and the row behind it makes the run fail.
    place.sql("a.db", "UPDATE t SET version = 90000 WHERE id = 5500; UPDATE t SET version = 30000 WHERE id = 30000");
    place.sql("b.db", "CREATE TRIGGER stop BEFORE INSERT ON t WHEN new.id = 20000 BEGIN SELECT RAISE(ABORT, 'stop'); END");
    let mut cut = place.command(&[
        "sync",
        "a.db",
        "b.db",
        "--version-column",
        "t=version",
        "--limit-rate",
        "200KiB/s",
    ]);
    let mut cut = files::Running(cut.spawn().unwrap());
    files::eventually("some rows are there", || {
        place.rows("b.db", "SELECT id FROM t WHERE id = 5500").len() == 1
    });
    cut.0.kill().unwrap();
    cut.0.wait().unwrap();
    assert!(place.rows("b.db", ALL).len() < 30_000, "it was not cut short");
    place.versioned(&[]).exits(0);
    place.assert_equal(ALL);
}

#[test]
fn another_question_is_not_answered_by_what_is_known_of_this_one() {
    let place = Place::with(TABLE);
    place.sql("a.db", ROWS);
    place.versioned(&["--where", "t:id > 20000"]).exits(0);
    assert_eq!(place.rows("b.db", "SELECT count(*) FROM t"), ["Integer(10000)"]);
    place.versioned(&[]).exits(0);
    place.assert_equal(ALL);

    place.sql("a.db", "ALTER TABLE t ADD COLUMN more INTEGER DEFAULT 7");
    place.sql("b.db", "ALTER TABLE t ADD COLUMN more INTEGER");
    place.versioned(&[]).exits(0);
    place.assert_equal(ALL);

    place.sql("a.db", "UPDATE t SET content = 'changed', more = -5 WHERE id = 29000");
    place.sync(&["--version-column", "t=more"]).exits(0);
    place.assert_equal(ALL);
}

#[test]
fn files_are_told_apart_by_where_they_lie() {
    let place = Place::with(TABLE);
    for (folder, rows) in [("one", "INSERT INTO t VALUES (1, 9, 'one')"), ("two", ROWS)] {
        std::fs::create_dir(place.file(folder)).unwrap();
        place.sql(&format!("{folder}/a.db"), &format!("{TABLE}; {rows}"));
    }
    for folder in ["one", "two"] {
        let mut sync =
            place.command(&["sync", "a.db", "../b.db", "--version-column", "t=version", "--yes"]);
        assert!(sync.current_dir(place.file(folder)).output().unwrap().status.success());
    }
    assert_eq!(place.rows("b.db", ALL), place.rows("two/a.db", ALL));
}

#[test]
fn without_a_key_versions_are_not_asked() {
    let table = "CREATE TABLE t (n INTEGER, version INTEGER)";
    let place = Place::with(table);
    place.sql("a.db", "INSERT INTO t VALUES (1, 1), (2, 2), (2, 2), (3, 3)");
    for new in ["", "INSERT INTO t VALUES (4, 4)", "UPDATE t SET version = 5 WHERE n = 3", ""] {
        place.sql("a.db", new);
        place.versioned(&["--yes"]).exits(0);
        place.assert_equal("SELECT * FROM t ORDER BY n, version");
    }
}

#[test]
fn held_rows_are_let_go_when_both_sides_agree() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER, content TEXT";
    let place = Place { dir: tempfile::tempdir().unwrap() };
    place.sql(
        "a.db",
        &format!("{sql}); INSERT INTO t VALUES (1, 1, 'a'), (2, 2, NULL), (3, 3, NULL)"),
    );
    place.sql("b.db", &format!("{sql} CHECK (content IS NOT NULL))"));
    place.sync(&[]).exits(1);
    place.sql("a.db", "DELETE FROM t WHERE id = 2");
    let one = place.sync(&[]).exits(1).out();
    assert!(one.contains("1 rows are held") && one.contains("held: t 3"), "{one}");
    place.sql("a.db", "UPDATE t SET content = 'c' WHERE id = 3");
    place.sql("b.db", "INSERT INTO t VALUES (3, 3, 'c')");
    place.sync(&[]).exits(0);
    assert_eq!(
        place.rows("b.db", "SELECT name FROM _syncline_sync WHERE name LIKE '%/held/%'").len(),
        0
    );
}

/// Two syncs of one table into one B do not share a mark, and neither do one state file's two Bs.
#[test]
fn each_sync_has_a_mark_of_its_own() {
    let place = Place::with(TABLE);
    place.sql("a.db", ROWS);
    for part in ["t:id % 2 = 0", "t:id % 2 = 1", "t:id % 2 = 0"] {
        place.versioned(&["--where", part]).exits(0);
    }
    place.assert_equal(ALL);
    place.sql("c.db", TABLE);
    for b in ["b.db", "c.db"] {
        place
            .run(&["sync", "a.db", b, "--version-column", "t=version", "--state", "s.json"])
            .exits(0);
    }
    assert_eq!(place.rows("c.db", ALL), place.rows("a.db", ALL));
}

/// More than is remembered of what only B has: the whole table is compared instead.
#[test]
fn a_source_that_lost_almost_all_is_followed() {
    let place = Place::with(TABLE);
    place.sql("a.db", &ROWS.replace("30000", "130000"));
    place.versioned(&[]).exits(0);
    place.sql("a.db", "DELETE FROM t WHERE id > 7");
    place.versioned(&["--yes"]).exits(0);
    place.assert_equal(ALL);
}

/// A moment is taken before the transaction that writes it down has its turn.
#[test]
fn a_moment_may_come_late() {
    let place =
        Place::with("CREATE TABLE t (id INTEGER PRIMARY KEY, version DATETIME, content TEXT)");
    place.sql("a.db", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) \
                       INSERT INTO t SELECT i, datetime('2024-01-01', i || ' seconds'), 'row' FROM n");
    place.versioned(&[]).exits(0);
    place.sql(
        "a.db",
        "UPDATE t SET content = 'new', version = '2024-06-01 12:00:09' WHERE id = 29000",
    );
    place.versioned(&[]).exits(0);
    place.sql(
        "a.db",
        "UPDATE t SET content = 'late', version = '2024-06-01 12:00:01' WHERE id = 29001",
    );
    place.versioned(&[]).exits(0);
    place.assert_equal(ALL);
}

#[test]
fn beside_a_file_options_are_refused() {
    let place = Place::with(TABLE);
    place.sql("a.db", "INSERT INTO t VALUES (1, 1, 'a')");
    std::fs::write(place.file("s.toml"), "[[sync]]\na = \"a.db\"\nb = \"b.db\"\n").unwrap();
    let run = place.run(&["sync", "-c", "s.toml", "--dry-run"]).exits(2);
    assert!(run.err().contains("--dry-run"), "{}", run.err());
    assert!(place.rows("b.db", ALL).is_empty());
}

/// The position goes with the last rows, and where those are held, after them.
#[test]
fn a_held_row_at_the_end_keeps_no_position_back() {
    let place = Place { dir: tempfile::tempdir().unwrap() };
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER, content TEXT";
    place.sql(
        "a.db",
        &format!("{table}); INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, NULL)"),
    );
    place.sql("b.db", &format!("{table} CHECK (content IS NOT NULL))"));
    place.versioned(&[]).exits(1);
    let marks = "SELECT name FROM _syncline_sync WHERE name LIKE '%/position/%' AND value LIKE '%\"mark\":\"%'";
    assert_eq!(place.rows("b.db", marks).len(), 1);
    assert_eq!(place.rows("b.db", "SELECT id FROM t").len(), 2);
}

/// Somebody's lock is no fault of a row.
#[test]
fn a_lock_holds_no_row_for_good() {
    let place = Place::with(TABLE);
    place.sql("a.db", "INSERT INTO t VALUES (1, 1, 'a')");
    let locked = rusqlite::Connection::open(place.file("b.db")).unwrap();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    let run = place.sync(&[]).exits(2);
    assert!(run.err().contains("ENDPOINT_BUSY") && !run.err().contains("held"), "{}", run.err());
    drop(locked);
    place.sync(&[]).exits(0);
    place.assert_equal(ALL);
}

#[test]
fn a_dry_run_foretells_what_a_run_does() {
    let place = synced();
    place.sql("a.db", "INSERT INTO t VALUES (30001, 40000, 'new'), (30002, 40001, 'new'); \
                       UPDATE t SET content = 'x', version = 40002 WHERE id = 29999; DELETE FROM t WHERE id = 5");
    let sums = |more: &[&str]| {
        let run = place.versioned(&[&["--json"], more].concat()).exits(0);
        let lines = run.lines();
        let table = lines.iter().find(|line| line["type"] == "table").unwrap().clone();
        (table, lines)
    };
    let (told, lines) = sums(&["--dry-run", "--state", "none.json"]);
    assert!(!place.file("none.json").exists(), "a dry run makes no file");
    let (told_again, _) = sums(&["--dry-run"]);
    assert_eq!(
        (&told["only_in_a"], &told["changed"], &told["only_in_b"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!((&told_again["only_in_a"], &told_again["changed"]), (&2.into(), &1.into()));
    let rows: Vec<_> = lines.iter().filter(|line| line["type"] == "row").collect();
    let is_told = |id: &str, how: &str| {
        rows.iter().any(|row| row["key"]["id"] == id && row["difference"] == how)
    };
    assert!(
        is_told("30001", "only_in_a") && is_told("29999", "changed") && is_told("5", "only_in_b"),
        "{rows:?}"
    );
    let (done, _) = sums(&[]);
    assert_eq!(
        (&done["inserted"], &done["updated"], &done["deleted"]),
        (&2.into(), &1.into(), &1.into())
    );
    place.assert_equal(ALL);

    place.sql("a.db", "DELETE FROM t WHERE id < 15000");
    let run = place.sync(&["--dry-run"]).exits(0);
    assert!(
        run.err().contains("a run would stop here") && run.err().contains("--yes"),
        "{}",
        run.err()
    );
    place.run(&["sync", "a.db", "new.db", "--create", "--dry-run"]).exits(0);
    assert!(!place.file("new.db").exists());
}
