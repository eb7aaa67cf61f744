//! Faults that random SQL or a reader of the code found, each as short as it could be made.

use super::super::raw::Db;
use super::super::{Failed, SqliteStore, Statement, Sync, connection};
use super::{captures, empty, rows, run_one, transaction, writer};
use crate::change::{Tag, Timestamp, Value, Version};
use crate::store::{Source, Store};

/// Somebody else's connection to the same file.
fn open_behind(store: &SqliteStore) -> rusqlite::Connection {
    connection::open_writable(&**store.disk(), store.path(), Sync::Off).unwrap()
}

/// Triggers have names of their own: one may have the name of a table, whose rows are then not its.
#[test]
fn a_trigger_with_the_name_of_a_table_is_not_the_table() {
    captures(
        &[
            "CREATE TABLE t(a)",
            "INSERT INTO t VALUES (1), (2)",
            "CREATE TRIGGER t AFTER INSERT ON t BEGIN SELECT 1; END",
            "INSERT INTO t VALUES (3)",
            "ALTER TABLE t RENAME COLUMN a TO b",
            "DROP TRIGGER t",
            "INSERT INTO t VALUES (4)",
        ],
        &[],
    );
}

/// AUTOINCREMENT counts rows that OR IGNORE passes over, forgets to after OR FAIL, and what it counted
/// must not be lost because the same transaction changed the schema.
#[test]
fn what_autoincrement_counted_is_told_whatever_became_of_the_rows() {
    let mut store = captures(
        &[
            "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, u UNIQUE)",
            "INSERT INTO t VALUES (1, 1)",
            "INSERT OR IGNORE INTO t VALUES (50, 1)",
            "CREATE TABLE f(id INTEGER PRIMARY KEY AUTOINCREMENT, u UNIQUE)",
            "INSERT OR FAIL INTO f VALUES (7, 1), (8, 1)",
            "CREATE TABLE g(id INTEGER PRIMARY KEY AUTOINCREMENT)",
            "INSERT INTO g VALUES (9)",
            "DROP TABLE g",
        ],
        &["SQLITE_CONSTRAINT_UNIQUE"],
    );
    transaction(&mut store, &["INSERT INTO t(u) VALUES (2)", "CREATE TABLE x(a)"]).unwrap();
    transaction(
        &mut store,
        &["INSERT INTO t VALUES (90, 3)", "UPDATE sqlite_sequence SET seq = 51"],
    )
    .unwrap();
    super::assert_replicates(&mut store);
}

#[test]
fn a_sequence_that_sqlite_would_not_write_is_refused() {
    let mut store = writer();
    run_one(&mut store, "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)").unwrap();
    run_one(&mut store, "INSERT INTO t DEFAULT VALUES").unwrap();
    for sql in [
        "INSERT INTO sqlite_sequence VALUES ('t', 9)",
        "UPDATE sqlite_sequence SET seq = 'x'",
        "INSERT INTO sqlite_sequence VALUES (NULL, 9)",
    ] {
        assert_eq!(run_one(&mut store, sql), Err("SEQUENCE_INVALID".into()), "{sql}");
    }
    run_one(&mut store, "INSERT INTO sqlite_sequence VALUES ('nobody', 9)").unwrap();
    super::assert_replicates(&mut store);
}

/// Full-text tables write late: what one statement wrote must not count as the next one's, which
/// fails, or be lost in an ALTER, to which the capture does not listen.
#[test]
fn full_text_rows_that_were_held_back_belong_to_their_statement() {
    let mut store = writer();
    run_one(&mut store, "CREATE VIRTUAL TABLE f USING fts5(x)").unwrap();
    run_one(&mut store, "CREATE TABLE t(a UNIQUE)").unwrap();
    let failed = transaction(
        &mut store,
        &[
            "INSERT INTO f VALUES ('one')",
            "INSERT INTO t VALUES (1), (2), (1)",
            "INSERT INTO f VALUES ('two')",
            "ALTER TABLE f RENAME TO g",
            "INSERT INTO g VALUES ('three')",
            "CREATE TABLE other AS SELECT 1",
        ],
    );
    assert_eq!(failed, Err("SQLITE_CONSTRAINT_UNIQUE".into()));
    assert_eq!(rows(&store, "SELECT * FROM g WHERE g MATCH 'one OR two OR three'").len(), 3);
    super::assert_replicates(&mut store);
}

/// A column that is added again after a rewind must not show what the first one held.
#[test]
fn an_added_column_that_is_undone_leaves_nothing_in_the_rows() {
    let mut store = writer();
    for sql in [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
        "INSERT INTO t VALUES (1, 1), (2, 2)",
        "ALTER TABLE t ADD COLUMN b DEFAULT 7",
        "UPDATE t SET b = 9 WHERE id = 1",
    ] {
        run_one(&mut store, sql).unwrap();
    }
    store.follow().unwrap();
    store.rewind(Version(2), "undone", Timestamp(1)).unwrap();
    store.take_epoch(Tag(8), &super::holder()).unwrap();
    store.serve_clients().unwrap();
    run_one(&mut store, "ALTER TABLE t ADD COLUMN c DEFAULT 5").unwrap();
    let five = Value::Integer(5);
    assert_eq!(rows(&store, "SELECT c FROM t"), [[five.clone()], [five]]);
    super::assert_replicates(&mut store);
}

/// What was prepared for a table with a column more must not meet the table without it.
#[test]
fn rows_are_applied_by_the_schema_that_is_there_after_a_rollback() {
    let mut store = writer();
    let wider = ["CREATE TABLE t(a)", "ALTER TABLE t ADD COLUMN b", "INSERT INTO t VALUES (1, 2)"];
    for sql in wider {
        run_one(&mut store, sql).unwrap();
    }
    let mut other = writer();
    run_one(&mut other, "CREATE TABLE t(a)").unwrap();
    run_one(&mut other, "INSERT INTO t VALUES (1)").unwrap();
    let lineage = store.lineage().clone();
    let commits = store.after(Version(0), usize::MAX).unwrap();
    let forged = other.after(Version(1), usize::MAX).unwrap();
    let mut copy = empty();
    copy.follow().unwrap();
    let mut none = |_: &_, _| unreachable!();
    copy.apply(&lineage, &commits[..1], &mut none).unwrap();
    let mixed = [commits[1].clone(), commits[2].clone(), forged[0].clone()];
    let error = copy.apply(&lineage, &mixed, &mut none).unwrap_err();
    assert_eq!(error.code(), "DIVERGED");
    assert_eq!(copy.position().version, Version(3), "the fitting prefix");
    copy.rewind(Version(1), "undone", Timestamp(1)).unwrap();
    copy.apply(&lineage, &commits[1..], &mut none).unwrap();
    assert_eq!(copy.position(), store.position());
}

/// A writer that went back and serves again: full-text tables keep what they once read.
#[test]
fn full_text_tables_read_anew_when_clients_are_served_again() {
    let mut store = writer();
    run_one(&mut store, "CREATE VIRTUAL TABLE f USING fts5(x)").unwrap();
    run_one(&mut store, "INSERT INTO f VALUES ('one')").unwrap();
    for i in 0..5 {
        run_one(&mut store, &format!("INSERT INTO f VALUES ('w{i}')")).unwrap();
    }
    store.follow().unwrap();
    store.rewind(Version(2), "undone", Timestamp(1)).unwrap();
    store.take_epoch(Tag(8), &super::holder()).unwrap();
    store.serve_clients().unwrap();
    run_one(&mut store, "INSERT INTO f VALUES ('after')").unwrap();
    super::integrity(&store);
    assert_eq!(rows(&store, "SELECT * FROM f WHERE f MATCH 'one OR after OR w3'").len(), 2);
    super::assert_replicates(&mut store);
}

/// The parts of a large commit that cannot be stored: the unit is undone, and nobody else's.
#[test]
fn a_unit_that_cannot_be_sealed_leaves_the_others() {
    let mut store = writer();
    run_one(&mut store, "CREATE TABLE t(a)").unwrap();
    // In place of a full disk: the log's table of parts takes nothing.
    store
        .db()
        .execute_batch(
            "CREATE TRIGGER no BEFORE INSERT ON _syncline_part BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .unwrap();
    store.reload_schema().unwrap();
    store.begin().unwrap();
    for (sql, fails) in [
        ("INSERT INTO t VALUES (1)", false),
        ("INSERT INTO t VALUES (zeroblob(2000000))", true),
        ("INSERT INTO t VALUES (3)", false),
    ] {
        store.begin_unit(true).unwrap();
        store
            .run(&Statement::new(sql, []), &super::budget())
            .map_err(|f| format!("{f:?}"))
            .unwrap();
        let sealed = store.commit_unit(Timestamp(1), None);
        assert_eq!(sealed.is_err(), fails);
        if fails {
            store.rollback_unit().unwrap();
        }
    }
    store.commit().unwrap();
    assert_eq!(rows(&store, "SELECT a FROM t").len(), 2);
    assert_eq!(store.recount().unwrap().total(), store.position().digest);
}

/// Before- and after-image of a value near the limit are together beyond it.
#[test]
fn a_row_as_large_as_allowed_can_be_changed() {
    let mut store = writer();
    run_one(&mut store, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)").unwrap();
    // In place of the real limit, which would take a while.
    connection::set_length_limit(store.db(), 2_000_000);
    run_one(&mut store, "INSERT INTO t VALUES (1, zeroblob(1400000))").unwrap();
    run_one(&mut store, "UPDATE t SET v = zeroblob(1900000)").unwrap();
    assert_eq!(
        run_one(&mut store, "UPDATE t SET v = zeroblob(2000001)"),
        Err("SQLITE_TOOBIG".into())
    );
    assert_eq!(store.recount().unwrap().total(), store.position().digest);
}

/// A failed statement in a table whose key ignores case: the row found by the key is the wrong one.
#[test]
fn a_failed_change_of_case_leaves_the_unit_alone() {
    let mut store = writer();
    run_one(&mut store, "CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, u UNIQUE)")
        .unwrap();
    run_one(&mut store, "INSERT INTO t VALUES ('a', 1), ('b', 2)").unwrap();
    store.begin().unwrap();
    store.begin_unit(true).unwrap();
    let sql = "UPDATE t SET k = upper(k), u = 5";
    let failed = store.run(&Statement::new(sql, []), &super::budget());
    assert!(matches!(failed, Err(Failed::Statement(_))), "{failed:?}");
    store.commit_unit(Timestamp(1), None).unwrap();
    store.commit().unwrap();
    super::assert_replicates(&mut store);
}

/// When the last commit was made stays known, whatever moves the position.
#[test]
fn the_time_of_the_last_commit_survives() {
    let mut store = writer();
    for (i, sql) in ["CREATE TABLE t(a)", "INSERT INTO t VALUES (1)"].iter().enumerate() {
        store.begin().unwrap();
        store.begin_unit(true).unwrap();
        store
            .run(&Statement::new(*sql, []), &super::budget())
            .map_err(|f| format!("{f:?}"))
            .unwrap();
        store.commit_unit(Timestamp(10 + i as u64), None).unwrap();
        store.commit().unwrap();
    }
    store.renew(Timestamp(99)).unwrap();
    assert_eq!(store.standing().unwrap().at, Timestamp(11));
    let mut filled = empty();
    filled.follow().unwrap();
    filled.fill(&mut store).unwrap();
    assert_eq!(filled.standing().unwrap().at, Timestamp(11));
    let lineage = store.lineage().clone();
    filled.apply(&lineage, &[], &mut |_, _| unreachable!()).unwrap();
    assert_eq!(filled.standing().unwrap().at, Timestamp(11));
    store.follow().unwrap();
    store.rewind(Version(1), "undone", Timestamp(50)).unwrap();
    assert_eq!(store.standing().unwrap().at, Timestamp(10));
}

/// Rows that are adopted as they are: the table is made again in the log, and would count from its rows.
#[test]
fn adopted_rows_replicate_and_autoincrement_goes_on() {
    let mut store = writer();
    for sql in [
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "CREATE INDEX i ON t(v)",
        "CREATE TRIGGER t AFTER INSERT ON t BEGIN SELECT 1; END",
        "INSERT INTO t(v) VALUES (1), (2), (3)",
        "DELETE FROM t WHERE id = 3",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "INSERT INTO f VALUES ('a b')",
    ] {
        run_one(&mut store, sql).unwrap();
    }
    let behind = open_behind(&store);
    Db::of(&behind)
        .execute_batch("UPDATE t SET v = 'mine' WHERE id = 1; INSERT INTO f VALUES ('c')")
        .unwrap();
    store.begin().unwrap();
    store.begin_unit(true).unwrap();
    store.restate_tables().unwrap();
    store.commit_unit(Timestamp(1), None).unwrap().expect("it is a commit");
    store.commit().unwrap();
    super::assert_replicates(&mut store);
    run_one(&mut store, "INSERT INTO t(v) VALUES ('next')").unwrap();
    assert_eq!(rows(&store, "SELECT max(id) FROM t"), [[Value::Integer(4)]]);
    super::assert_replicates(&mut store);
}

/// The old rows are written back without touching any others: no trigger, no cascade.
#[test]
fn repaired_rows_are_those_of_the_history_and_no_others_change() {
    let mut store = writer();
    for sql in [
        "CREATE TABLE parent(id INTEGER PRIMARY KEY, v)",
        "CREATE TABLE child(p REFERENCES parent ON DELETE CASCADE)",
        "CREATE TRIGGER r AFTER DELETE ON parent BEGIN DELETE FROM child; END",
        "INSERT INTO parent VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO child VALUES (1), (2)",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "INSERT INTO f VALUES ('a b')",
    ] {
        run_one(&mut store, sql).unwrap();
    }
    let whole = super::dump(&store);
    let behind = open_behind(&store);
    Db::of(&behind)
        .execute_batch("UPDATE parent SET v = 'mine'; INSERT INTO f VALUES ('c')")
        .unwrap();
    store.follow().unwrap();
    store.begin().unwrap();
    store.repair_tables().unwrap();
    store.commit().unwrap();
    store.serve_clients().unwrap();
    super::assert_same(&super::dump(&store), &whole, "repaired");
    super::assert_replicates(&mut store);
    super::integrity(&store);
}

/// Rows whose deletion is undone are inserted, and SQLite counts what is inserted: also where a client
/// had set the count below them, and nothing in the commit tells of it.
#[test]
fn rows_that_come_back_are_not_counted_again() {
    let mut store = writer();
    for sql in [
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "INSERT INTO t VALUES (3, 'a'), (7, 'b')",
        "DELETE FROM sqlite_sequence WHERE name = 't'",
        "DELETE FROM t WHERE id = 7",
        "INSERT INTO sqlite_sequence VALUES ('t', 1)",
        "DELETE FROM t",
    ] {
        run_one(&mut store, sql).unwrap();
    }
    let (commits, lineage) =
        (store.after(Version(0), usize::MAX).unwrap(), store.lineage().clone());
    let mut copy = empty();
    copy.follow().unwrap();
    copy.apply(&lineage, &commits, &mut |_, _| unreachable!("small commits")).unwrap();
    let counted_at = [(5, Some(1)), (4, None), (3, None), (2, Some(7)), (1, None)];
    for (version, wanted) in counted_at {
        copy.rewind(Version(version), "undone", Timestamp(1)).unwrap();
        let counted = copy.db().query_i64("SELECT seq FROM sqlite_sequence", &[]).unwrap();
        assert_eq!(counted, wanted, "at version {version}");
    }
    super::assert_replicates(&mut store);
}

/// The same where rows are written back that another hand took.
#[test]
fn repaired_rows_are_not_counted_again() {
    let mut store = writer();
    for sql in [
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "INSERT INTO t VALUES (3, 'a'), (7, 'b')",
        "UPDATE sqlite_sequence SET seq = 5",
    ] {
        run_one(&mut store, sql).unwrap();
    }
    let whole = super::dump(&store);
    let behind = open_behind(&store);
    Db::of(&behind).execute_batch("DELETE FROM t WHERE id = 7").unwrap();
    store.follow().unwrap();
    store.begin().unwrap();
    store.repair_tables().unwrap();
    store.commit().unwrap();
    super::assert_same(&super::dump(&store), &whole, "repaired");
}

/// Rows that named a table that is not there were never counted as broken; dropping them counts down.
#[test]
fn a_drop_that_counts_broken_keys_below_zero_fails_alone() {
    let mut store = writer();
    store.db().execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    for sql in [
        "CREATE TABLE orphan(id INTEGER PRIMARY KEY, p REFERENCES nowhere DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO orphan VALUES (1, 1), (2, 2)",
        "CREATE TABLE child(p REFERENCES orphan)",
        "CREATE TABLE other(a)",
    ] {
        run_one(&mut store, sql).unwrap();
    }
    store.db().execute_batch("PRAGMA foreign_keys = ON").unwrap();
    store.begin().unwrap();
    store.begin_unit(true).unwrap();
    store.run(&Statement::new("INSERT INTO other VALUES (1)", []), &super::budget()).unwrap();
    store.commit_unit(Timestamp(1), None).unwrap();
    store.begin_unit(true).unwrap();
    let dropped = store.run(&Statement::new("DROP TABLE orphan", []), &super::budget());
    assert!(matches!(dropped, Err(Failed::Unit(_))), "{dropped:?}");
    store.rollback_unit().unwrap();
    store.commit().unwrap();
    assert_eq!(rows(&store, "SELECT * FROM other").len(), 1);
    run_one(&mut store, "DROP TABLE other").unwrap();
    super::assert_replicates(&mut store);
}
