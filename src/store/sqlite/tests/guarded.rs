//! What client SQL may not do, in all the spellings that get past a look at the text.

use super::super::{Failed, SqliteStore, Statement, StatementResult};
use super::{rows, run_each, run_one, transaction, writer};
use crate::change::{Tag, Timestamp, Version};
use crate::store::{Source, Store};

/// Runs one statement; gives its code if it was refused.
fn ask(store: &mut SqliteStore, sql: &str) -> Result<StatementResult, String> {
    store.begin().unwrap();
    store.begin_unit(true).unwrap();
    let ran = store.run(&Statement::new(sql, []), &super::budget());
    store.rollback_unit().unwrap();
    store.rollback().unwrap();
    ran.map_err(|failed| match failed {
        Failed::Statement(e) | Failed::Unit(e) | Failed::Transaction(e) => e.code().to_owned(),
    })
}

fn refused(store: &mut SqliteStore, all: &[&str]) {
    for sql in all {
        assert_eq!(ask(store, sql).map(|r| r.rows), Err("BLOCKED".to_owned()), "{sql}");
    }
}

#[test]
fn nobody_touches_our_tables() {
    let mut store = writer();
    run_one(&mut store, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)").unwrap();
    refused(
        &mut store,
        &[
            "SELECT * FROM _syncline_log",
            "SELECT * FROM '_syncline_log'",
            "SELECT frames FROM main.[_SYNCLINE_LOG]",
            "SELECT frame FROM _syncline_held",
            "SELECT (SELECT max(chain) FROM _syncline_state) FROM t",
            "WITH syncline_held AS (SELECT frame FROM _syncline_held) SELECT * FROM syncline_held",
            "WITH syncline_x AS (SELECT * FROM _syncline_log) SELECT * FROM syncline_x",
            "UPDATE _syncline_state SET version = 9",
            "DELETE FROM _syncline_log",
            "INSERT INTO _syncline_state (name, rows, digest) VALUES ('x', 0, x'')",
            "DROP TABLE _syncline_held",
            "ALTER TABLE _syncline_log ADD COLUMN x",
            "ALTER TABLE _syncline_log RENAME TO mine",
            "CREATE INDEX i ON _syncline_log (at)",
            "CREATE TRIGGER r AFTER UPDATE ON _syncline_state BEGIN DELETE FROM t; END",
            "DROP INDEX _syncline_part_version",
            "CREATE TABLE x AS SELECT * FROM _syncline_log",
            "CREATE TABLE _syncline_x (a)",
            "CREATE VIEW syncline_v AS SELECT 1",
            "CREATE TABLE \"SYNCLINE_t\" (a)",
            "CREATE INDEX _syncline_i ON t (v)",
            "CREATE TRIGGER _syncline_r AFTER INSERT ON t BEGIN SELECT 1; END",
            "ALTER TABLE t RENAME TO _syncline_t",
            "ALTER TABLE t RENAME TO Syncline_t",
            "CREATE VIRTUAL TABLE _syncline USING fts5(x)",
            "PRAGMA table_info(_syncline_log)",
            "PRAGMA index_list('_SYNCLINE_log')",
            "PRAGMA index_info(sqlite_autoindex__syncline_request_1)",
            "SELECT * FROM pragma_table_info('_syncline_log')",
            "SELECT * FROM sqlite_schema s, pragma_table_xinfo('_syncline_' || 'log') x",
        ],
    );
    assert_eq!(rows(&store, "SELECT 1 FROM sqlite_schema WHERE name LIKE '%syncline_t'").len(), 0);
}

/// What was made before somebody looks through it is refused when it is used.
#[test]
fn nobody_reads_our_tables_through_what_they_made() {
    let mut store = writer();
    let made = [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
        "CREATE VIEW v AS SELECT * FROM _syncline_log",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM _syncline_log; END",
        "CREATE VIRTUAL TABLE f USING fts5(frames, content = '_syncline_log', content_rowid = 'version')",
    ];
    assert!(run_each(&mut store, &made).is_empty());
    refused(&mut store, &["SELECT * FROM v", "INSERT INTO t VALUES (1, 2)"]);
    assert!(ask(&mut store, "SELECT frames FROM f").is_err());
    assert!(ask(&mut store, "INSERT INTO f(f) VALUES ('rebuild')").is_err());
    assert_eq!(store.after(Version(0), usize::MAX).unwrap().len(), 4);
}

#[test]
fn the_connection_and_the_schema_stay_ours() {
    let mut store = writer();
    run_one(&mut store, "CREATE TABLE t(a)").unwrap();
    refused(
        &mut store,
        &[
            "ATTACH 'x.db' AS x",
            "DETACH x",
            "VACUUM",
            "/* */; VACUUM INTO 'x.db'",
            "SELECT load_extension('x')",
            "CREATE TEMP TABLE x (a)",
            "CREATE TABLE temp.x (a)",
            "CREATE TEMP VIEW x AS SELECT 1",
            "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
            "CREATE TRIGGER x INSTEAD OF DELETE ON syncline_tables BEGIN SELECT 1; END",
            "DROP VIEW syncline_tables",
            "DROP VIEW temp.syncline_schema",
            "CREATE VIRTUAL TABLE x USING sqlite_dbpage",
            "CREATE VIRTUAL TABLE x USING dbstat",
            "SELECT * FROM sqlite_dbpage",
            "SELECT * FROM dbstat",
            "PRAGMA writable_schema = ON",
            "PRAGMA journal_mode = DELETE",
            "PRAGMA main.journal_mode(off)",
            "PRAGMA synchronous = OFF",
            "PRAGMA schema_version = 7",
            "PRAGMA wal_checkpoint",
            "PRAGMA locking_mode = EXCLUSIVE",
            "PRAGMA trusted_schema = ON",
            "PRAGMA ignore_check_constraints = ON",
            "PRAGMA temp_store_directory = '/'",
            "PRAGMA encoding = 'UTF-16'",
        ],
    );
    for sql in [
        "INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 0, '')",
        "DELETE FROM 'sqlite_master'",
    ] {
        assert!(ask(&mut store, sql).is_err(), "{sql}");
    }
    assert!(ask(&mut store, "PRAGMA journal_mode = WAL").is_ok());
}

/// A COMMIT in a spelling that nobody recognised would end the transaction of a whole group.
#[test]
fn transaction_control_never_reaches_sqlite_as_a_statement() {
    let mut store = writer();
    run_one(&mut store, "CREATE TABLE t(a)").unwrap();
    let all =
        [";COMMIT", "; ;END", ";ROLLBACK", ";BEGIN", ";SAVEPOINT x", ";RELEASE _syncline_unit"];
    refused(&mut store, &all);
    store.begin().unwrap();
    store.begin_unit(true).unwrap();
    let commit = store.run(&Statement::new("\u{feff};/*;*/COMMIT", []), &super::budget());
    assert!(matches!(commit, Err(Failed::Statement(_))));
    store.run(&Statement::new("INSERT INTO t VALUES (1)", []), &super::budget()).unwrap();
    store.commit_unit(Timestamp(1), None).unwrap();
    store.commit().unwrap();
    assert_eq!(rows(&store, "SELECT * FROM t").len(), 1);
}

#[test]
fn the_catalogue_shows_what_clients_made_and_the_views_what_is_ours() {
    let mut store = writer();
    run_one(&mut store, "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)").unwrap();
    run_one(&mut store, "INSERT INTO t DEFAULT VALUES").unwrap();
    for sql in [
        "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'",
        "SELECT name FROM main.sqlite_schema WHERE name NOT LIKE 'sqlite_%'",
        "SELECT name FROM syncline_tables",
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'",
    ] {
        let names = ask(&mut store, sql).unwrap().rows;
        assert_eq!(names, [[crate::change::Value::Text("t".into())]], "{sql}");
    }
    assert!(ask(&mut store, "SELECT id, at, reason, bytes FROM syncline_held").is_ok());
    assert!(ask(&mut store, "SELECT count(*) FROM syncline_tables").is_ok());
}

/// A view over the catalogue must mean the same on a copy, and for every connection.
#[test]
fn what_is_made_is_stored_as_it_was_written() {
    let mut store = writer();
    run_one(&mut store, "CREATE VIEW v AS SELECT name FROM sqlite_master WHERE name = 'v'")
        .unwrap();
    assert_eq!(ask(&mut store, "SELECT * FROM v").unwrap().rows.len(), 1);
}

/// SQLite asks nothing about `DROP … IF EXISTS` of what is not there: what a statement does is another
/// thing once it is.
#[test]
fn statements_that_did_nothing_are_looked_at_again_when_the_schema_changes() {
    let mut store = super::captures(
        &[
            "CREATE TABLE t(a)",
            "DROP TABLE IF EXISTS u",
            "CREATE INDEX IF NOT EXISTS i ON t(a)",
            "CREATE TRIGGER IF NOT EXISTS r AFTER INSERT ON t BEGIN SELECT 1; END",
            "CREATE VIRTUAL TABLE IF NOT EXISTS f USING fts5(x)",
            "CREATE INDEX IF NOT EXISTS i ON t(a)",
            "CREATE TRIGGER IF NOT EXISTS r AFTER INSERT ON t BEGIN SELECT 1; END",
            "CREATE VIRTUAL TABLE IF NOT EXISTS f USING fts5(x)",
            "CREATE TABLE u AS SELECT 1",
            "DROP INDEX i",
            "DROP TRIGGER r",
            "DROP TABLE f",
            "CREATE INDEX IF NOT EXISTS i ON t(a)",
            "CREATE TRIGGER IF NOT EXISTS r AFTER INSERT ON t BEGIN SELECT 1; END",
            "CREATE VIRTUAL TABLE IF NOT EXISTS f USING fts5(x)",
            "DROP TABLE IF EXISTS u",
            "INSERT INTO f VALUES ('x')",
        ],
        &[],
    );
    assert_eq!(store.position().version, Version(13));
    store.take_epoch(Tag(8), &super::holder()).unwrap();
    assert_eq!(transaction(&mut store, &["INSERT INTO t VALUES (1)"]), Ok(()));
}
