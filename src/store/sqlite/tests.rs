//! Capture against its dumb twin: the log, applied to an empty copy, gives the same rows, the same
//! schema and the same digest, and a recount agrees; undone again, it gives the empty copy.

mod guarded;
mod recounted;
mod reported;

use std::sync::Arc;

use super::raw::Db;
use super::{Budget, Failed, SqliteStore, Statement, Sync};
use crate::change::{Lineage, Position, Tag, Timestamp, Value, Version};
use crate::store::vfs::MemoryDisk;
use crate::store::{Holder, Source, Store};

pub(super) fn budget() -> Budget {
    Budget { began: std::time::Instant::now(), time: None, rows: 100_000, bytes: 10 << 20 }
}

pub(super) fn holder() -> Holder {
    Holder {
        node: "a".into(),
        directory: "d".into(),
        pid: 1,
        advertise: String::new(),
        lease: Timestamp(0),
    }
}

pub(super) fn empty() -> SqliteStore {
    let disk = Arc::new(MemoryDisk::new());
    SqliteStore::open(disk, "/t.db".as_ref(), Sync::Off, 1 << 30).unwrap()
}

/// A store that has taken an epoch and serves clients.
pub(super) fn writer() -> SqliteStore {
    let mut store = empty();
    store.take_epoch(Tag(7), &holder()).unwrap();
    store.serve_clients().unwrap();
    store
}

/// Runs each statement as a transaction of its own, in a group of its own; gives the codes of those
/// that failed.
pub(super) fn run_each(store: &mut SqliteStore, sql: &[&str]) -> Vec<String> {
    sql.iter().filter_map(|sql| run_one(store, sql).err()).collect()
}

pub(super) fn run_one(store: &mut SqliteStore, sql: &str) -> Result<(), String> {
    transaction(store, &[sql])
}

/// Runs statements as one transaction; those that fail are passed over, as a client may.
pub(super) fn transaction(store: &mut SqliteStore, sql: &[&str]) -> Result<(), String> {
    store.begin().unwrap();
    store.begin_unit(true).unwrap();
    let mut failed = Ok(());
    for sql in sql {
        match store.run(&Statement::new(*sql, []), &budget()) {
            Ok(_) => {}
            Err(Failed::Statement(error)) => failed = Err(error.extended().to_owned()),
            Err(Failed::Unit(error)) => {
                store.rollback_unit().unwrap();
                store.commit().unwrap();
                return Err(error.extended().to_owned());
            }
            Err(Failed::Transaction(error)) => {
                store.rollback().unwrap();
                return Err(error.extended().to_owned());
            }
        }
    }
    if let Err(error) = store.commit_unit(Timestamp(1), None) {
        store.rollback_unit().unwrap();
        failed = Err(error.extended().to_owned());
    }
    store.commit().unwrap();
    failed
}

/// Everything in the database, as text: schema, rows with rowids, sequences.
pub(super) fn dump(store: &SqliteStore) -> Vec<String> {
    let mut lines = Vec::new();
    super::source::snapshot(store.db(), &mut |item| {
        // Negative zero is zero, as in the digest.
        lines.push(format!("{item:?}").replace("Real(-0.0)", "Real(0.0)"));
        Ok(())
    })
    .unwrap();
    lines.sort();
    lines
}

/// Compares two dumps; shows only the lines that differ.
pub(super) fn assert_same(found: &[String], wanted: &[String], what: &str) {
    let missing = |from: &[String], all: &[String]| -> Vec<String> {
        from.iter().filter(|line| !all.contains(line)).cloned().collect()
    };
    let (extra, missing) = (missing(found, wanted), missing(wanted, found));
    assert!(found == wanted, "{what}: too much {extra:#?}, missing {missing:#?}");
}

/// Applies the log of `store` to an empty copy and compares everything; then undoes it all.
pub(super) fn assert_replicates(store: &mut SqliteStore) {
    let recount = store.recount().unwrap();
    assert_eq!(recount, store.digests().unwrap());
    assert_eq!(recount.total(), store.position().digest, "the recount differs from the digest");
    assert_eq!(recount, store.digests().unwrap());
    let mut copy = empty();
    copy.follow().unwrap();
    let commits = store.after(Version(0), usize::MAX).unwrap();
    let lineage = store.lineage().clone();
    let mut parts = |c: &crate::change::Commit, i| store.part(c.version(), i);
    copy.apply(&lineage, &commits, &mut parts).unwrap();
    assert_eq!(copy.position(), store.position());
    assert_eq!(copy.recount().unwrap(), recount);
    assert_same(&dump(&copy), &dump(store), "the copy");
    assert_eq!(copy.after(Version(0), usize::MAX).unwrap(), commits);
    integrity(&copy);
    let mut filled = empty();
    filled.follow().unwrap();
    filled.fill(store).unwrap();
    assert_eq!(filled.position(), store.position());
    assert_same(&dump(&filled), &dump(store), "the filled copy");
    integrity(&filled);
    match copy.rewind(Version(0), "undone", Timestamp(2)) {
        Ok(position) => {
            assert_eq!(position.chain, Position::default().chain);
            assert_eq!(copy.recount().unwrap().total(), position.digest);
            assert_eq!(copy.held().unwrap().len(), commits.len());
            assert_eq!(
                dump(&copy).len(),
                2,
                "more than the two settings is left: {:#?}",
                dump(&copy)
            );
        }
        Err(error) => assert_eq!(error.code(), "UNDO_IMPOSSIBLE", "{error}"),
    }
}

pub(super) fn integrity(store: &SqliteStore) {
    // From another connection: full-text tables keep some of what they read.
    let connection = super::connection::open_readonly(&**store.disk(), store.path()).unwrap();
    let mut answers = Vec::new();
    Db::of(&connection)
        .query("PRAGMA integrity_check", &[], |row| {
            answers.push(row.text(0)?.to_owned());
            Ok(())
        })
        .unwrap();
    assert_eq!(answers, ["ok"]);
}

fn rows(store: &SqliteStore, sql: &str) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    store
        .db()
        .query(sql, &[], |row| {
            rows.push((0..row.columns()).map(|i| row.value(i).unwrap().to_owned()).collect());
            Ok(())
        })
        .unwrap();
    rows
}

/// Runs the statements, expects these failures, and checks that the log tells it all.
fn captures(sql: &[&str], failures: &[&str]) -> SqliteStore {
    let mut store = writer();
    assert_eq!(run_each(&mut store, sql), failures);
    assert_replicates(&mut store);
    store
}

/// Tables of every kind, filled and changed.
pub(super) const EVERY_KIND_OF_TABLE: &[&str] = &[
    "CREATE TABLE alias(id INTEGER PRIMARY KEY, v)",
    "CREATE TABLE keyless(a, b REAL, c TEXT)",
    "CREATE TABLE named(k TEXT PRIMARY KEY NOT NULL, v)",
    "CREATE TABLE nullable(k TEXT PRIMARY KEY, v)",
    "CREATE TABLE desc_key(id INTEGER PRIMARY KEY DESC, v)",
    "CREATE TABLE pair(a NOT NULL, b NOT NULL, c, PRIMARY KEY(b, a))",
    "CREATE TABLE clustered(a TEXT, b INT, c REAL, PRIMARY KEY(b, a)) WITHOUT ROWID",
    "CREATE TABLE strict_one(id INTEGER PRIMARY KEY, r REAL, a ANY) STRICT",
    "CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
    "CREATE TABLE shadowing(rowid TEXT, v)",
    "CREATE TABLE \"odd \"\"name\"(\"a b\" DEFAULT 'x', \"c\"\"d\")",
    "CREATE TABLE made(a INT, v INT AS (a + 1) VIRTUAL, s INT AS (a * 2) STORED, z)",
    "INSERT INTO alias VALUES (1, 'a'), (5, NULL), (-3, x'00ff')",
    "INSERT INTO keyless VALUES (1, 2, 3), (NULL, NULL, NULL), (1, 2, 3), (1.5, -0.0, '')",
    "INSERT INTO named VALUES ('x', 1), ('y', 2)",
    "INSERT INTO nullable VALUES ('x', 1), (NULL, 2), (NULL, 2)",
    "INSERT INTO desc_key VALUES (3, 1), (4, 1)",
    "INSERT INTO pair VALUES (1, 2, 3), ('1', 2, 4)",
    "INSERT INTO clustered VALUES ('a', 1, 1), ('b', 1, 2.5)",
    "INSERT INTO strict_one VALUES (1, 4, 4), (2, 4.5, '4')",
    "INSERT INTO counted(v) VALUES ('a'), ('b'), ('c')",
    "DELETE FROM counted WHERE id = 3",
    "INSERT INTO shadowing VALUES ('r', 1), ('r', 1)",
    "INSERT INTO \"odd \"\"name\" VALUES (1, 2)",
    "INSERT INTO made(a, z) VALUES (1, NULL), (2, 'z')",
    "UPDATE made SET a = a + 10, z = NULL",
    "UPDATE alias SET id = id + 100 WHERE v = 'a'",
    "UPDATE keyless SET rowid = rowid + 100, b = 7 WHERE a = 1",
    "UPDATE clustered SET b = b + 1, a = a || 'z' WHERE a = 'a'",
    "UPDATE named SET k = k || '!' WHERE k = 'x'",
    "UPDATE pair SET b = 9 WHERE c = 3",
    "UPDATE strict_one SET r = 5",
    "DELETE FROM keyless WHERE a IS NULL",
    "DELETE FROM clustered WHERE a = 'b'",
    "DELETE FROM sqlite_sequence",
    "INSERT INTO counted(v) VALUES ('d')",
    "PRAGMA user_version = 7",
];

#[test]
fn every_kind_of_table_replicates() {
    captures(EVERY_KIND_OF_TABLE, &[]);
}

#[test]
fn statements_that_fail_leave_what_sqlite_left() {
    let store = captures(
        &[
            "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL, CHECK (n < 100))",
            "INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)",
            "INSERT INTO t VALUES (3, 3, 3), (4, 1, 4)",
            "INSERT OR FAIL INTO t VALUES (5, 5, 5), (6, 6, 6), (7, 1, 7)",
            "INSERT OR REPLACE INTO t VALUES (8, 1, 8), (2, 9, 9)",
            "INSERT OR IGNORE INTO t VALUES (9, 5, 1), (10, 10, 10)",
            "INSERT OR ROLLBACK INTO t VALUES (11, 11, 11), (12, 5, 1)",
            "UPDATE t SET u = u + 1",
            "UPDATE OR FAIL t SET n = n + 92",
            "UPDATE t SET n = NULL",
            "INSERT INTO t VALUES (20, 20, 20) ON CONFLICT DO NOTHING",
            "INSERT INTO t VALUES (20, 21, 21) ON CONFLICT (id) DO UPDATE SET u = excluded.u RETURNING *",
            "UPDATE OR REPLACE t SET u = 21 WHERE id = 5",
        ],
        &[
            "SQLITE_CONSTRAINT_UNIQUE",
            "SQLITE_CONSTRAINT_UNIQUE",
            "SQLITE_CONSTRAINT_UNIQUE",
            "SQLITE_CONSTRAINT_UNIQUE",
            "SQLITE_CONSTRAINT_CHECK",
            "SQLITE_CONSTRAINT_NOTNULL",
        ],
    );
    assert!(!rows(&store, "SELECT 1 FROM t WHERE id = 6").is_empty(), "OR FAIL keeps rows");
    assert!(rows(&store, "SELECT 1 FROM t WHERE id IN (3, 4, 11, 12)").is_empty());
}

#[test]
fn a_statement_that_fails_inside_a_transaction_leaves_no_phantom_rows() {
    let mut store = writer();
    run_one(&mut store, "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE)").unwrap();
    let failed = transaction(
        &mut store,
        &[
            "INSERT INTO t VALUES (1, 1)",
            "INSERT INTO t VALUES (2, 2), (3, 1)",
            "INSERT OR FAIL INTO t VALUES (4, 4), (5, 1)",
            "UPDATE t SET u = u",
        ],
    );
    assert_eq!(failed, Err("SQLITE_CONSTRAINT_UNIQUE".into()));
    assert_eq!(rows(&store, "SELECT id FROM t").len(), 2);
    assert_replicates(&mut store);
}

#[test]
fn triggers_cascades_and_deferred_keys_replicate() {
    captures(
        &[
            "CREATE TABLE parent(id INTEGER PRIMARY KEY, v)",
            "CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE)",
            "CREATE TABLE late(p REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
            "CREATE TABLE log(what, at DEFAULT (random()))",
            "CREATE TRIGGER a AFTER INSERT ON parent BEGIN INSERT INTO log(what) VALUES ('in ' || new.id); END",
            "CREATE TRIGGER b BEFORE DELETE ON parent BEGIN SELECT RAISE(FAIL, 'no') WHERE old.v = 'keep'; END",
            "CREATE TRIGGER c BEFORE UPDATE ON parent BEGIN SELECT RAISE(IGNORE) WHERE new.v = 'ignore'; END",
            "INSERT INTO parent VALUES (1, 'a'), (2, 'keep'), (3, 'c')",
            "INSERT INTO child VALUES (1, 1), (2, 1), (3, 3)",
            "UPDATE parent SET id = 10 WHERE id = 1",
            "DELETE FROM parent",
            "UPDATE parent SET v = 'ignore'",
            "DELETE FROM parent WHERE id = 3",
            "INSERT INTO late VALUES (99)",
            "INSERT INTO late VALUES (2)",
            "CREATE TRIGGER d AFTER INSERT ON child BEGIN SELECT RAISE(ROLLBACK, 'gone'); END",
            "INSERT INTO child VALUES (9, 2)",
        ],
        &["SQLITE_CONSTRAINT_TRIGGER", "SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_TRIGGER"],
    );
}

#[test]
fn schema_steps_replicate() {
    captures(
        &[
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)",
            "INSERT INTO t VALUES (1, 'a', 'b'), (2, NULL, 'b')",
            "CREATE TABLE copy AS SELECT id, a, random() AS r FROM t",
            "ALTER TABLE t ADD COLUMN c",
            "ALTER TABLE t ADD COLUMN d INT NOT NULL DEFAULT 7",
            "ALTER TABLE t ADD COLUMN e AS (d * 2)",
            "INSERT INTO t VALUES (3, 1, 2, 3, 4)",
            "UPDATE t SET a = 'new' WHERE id = 1",
            "CREATE UNIQUE INDEX i ON t(b, id)",
            "CREATE VIEW v AS SELECT id, b FROM t",
            "CREATE TRIGGER r AFTER DELETE ON t BEGIN INSERT INTO copy VALUES (old.id, old.b, 0); END",
            "ALTER TABLE t RENAME COLUMN b TO bee",
            "ALTER TABLE t RENAME TO tee",
            "DELETE FROM tee WHERE id = 2",
            "ALTER TABLE tee DROP COLUMN a",
            "ALTER TABLE tee DROP COLUMN c",
            "INSERT INTO tee(id, bee, d) VALUES (9, 'x', 1)",
            "CREATE TABLE gone(a, b UNIQUE)",
            "INSERT INTO gone VALUES (1, 2)",
            "DROP TABLE gone",
            "DROP INDEX i",
            "DROP VIEW v",
            "CREATE TABLE seq(id INTEGER PRIMARY KEY AUTOINCREMENT, u UNIQUE)",
            "INSERT INTO seq VALUES (5, 1)",
            "ALTER TABLE seq RENAME TO seq2",
            "INSERT INTO seq2(u) VALUES (2)",
            "ANALYZE",
            "DROP TABLE seq2",
        ],
        &[],
    );
}

#[test]
fn schema_steps_are_undone_unless_they_destroyed_rows() {
    let mut store = captures(
        &[
            "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a UNIQUE)",
            "INSERT INTO t(a) VALUES (1), (2)",
            "ALTER TABLE t RENAME TO u",
            "ALTER TABLE u RENAME COLUMN a TO b",
            "CREATE INDEX i ON u(b)",
            "CREATE VIEW v AS SELECT * FROM u",
            "DROP INDEX i",
            "PRAGMA user_version = 3",
        ],
        &[],
    );
    store.follow().unwrap();
    store.rewind(Version(0), "undone", Timestamp(2)).unwrap();
    assert_eq!(store.held().unwrap().len(), 8);
}

#[test]
fn virtual_tables_replicate_through_their_shadow_tables() {
    let mut store = captures(
        &[
            "CREATE VIRTUAL TABLE f USING fts5(body, tokenize = 'porter')",
            "INSERT INTO f VALUES ('the quick brown fox'), ('jumped over')",
            "UPDATE f SET body = 'the lazy dog' WHERE rowid = 2",
            "DELETE FROM f WHERE rowid = 1",
            "INSERT INTO f(f) VALUES ('optimize')",
            "CREATE TABLE doc(id INTEGER PRIMARY KEY, t)",
            "CREATE VIRTUAL TABLE e USING fts5(t, content = 'doc', content_rowid = 'id')",
            "CREATE TRIGGER g AFTER INSERT ON doc BEGIN INSERT INTO e(rowid, t) VALUES (new.id, new.t); END",
            "INSERT INTO doc(t) VALUES ('hello world')",
            "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)",
            "INSERT INTO r VALUES (1, 0, 1), (2, 5, 6)",
            "ALTER TABLE f RENAME TO f2",
            "INSERT INTO f2 VALUES ('after the rename')",
            "CREATE VIRTUAL TABLE h USING fts5(x)",
            "INSERT INTO h VALUES ('x')",
            "DROP TABLE h",
        ],
        &[],
    );
    let mut copy = empty();
    copy.follow().unwrap();
    copy.fill(&mut store).unwrap();
    for sql in ["SELECT * FROM f2 WHERE f2 MATCH 'renam'", "SELECT * FROM e WHERE e MATCH 'hello'"]
    {
        assert_eq!(rows(&copy, sql).len(), 1, "{sql}");
    }
    assert_eq!(rows(&copy, "SELECT id FROM r WHERE x0 > 4").len(), 1);
}

#[test]
fn swaps_of_unique_values_replicate_in_captured_order() {
    captures(
        &[
            "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE)",
            "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
            "REPLACE INTO t VALUES (1, 'b')",
            "INSERT INTO t VALUES (2, 'a')",
            "CREATE TABLE w(a, b UNIQUE, PRIMARY KEY(a)) WITHOUT ROWID",
            "INSERT INTO w VALUES (1, 1), (2, 2), (3, 3)",
            "REPLACE INTO w VALUES (1, 2)",
            "UPDATE OR REPLACE w SET a = 3 WHERE a = 1",
        ],
        &[],
    );
    let mut store = writer();
    run_one(&mut store, "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE)").unwrap();
    run_one(&mut store, "INSERT INTO t VALUES (1, 'a'), (2, 'b')").unwrap();
    transaction(
        &mut store,
        &[
            "UPDATE t SET u = 'x' WHERE id = 1",
            "UPDATE t SET u = 'a' WHERE id = 2",
            "UPDATE t SET u = 'b' WHERE id = 1",
        ],
    )
    .unwrap();
    assert_replicates(&mut store);
}

#[test]
fn text_that_is_not_utf8_fails_its_statement() {
    captures(
        &[
            "CREATE TABLE t(a)",
            "INSERT INTO t VALUES (CAST(x'ff' AS TEXT))",
            "INSERT INTO t VALUES (1)",
        ],
        &["TEXT_NOT_UTF8"],
    );
}

#[test]
fn a_large_commit_travels_in_parts() {
    let mut store = captures(
        &[
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
            "INSERT INTO t WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 4000) \
         SELECT i, randomblob(1000) FROM c",
            "UPDATE t SET v = 0 WHERE id > 3990",
        ],
        &[],
    );
    let commits = store.after(Version(1), 1).unwrap();
    assert!(commits[0].parts() > 2);
}

#[test]
fn lineage_travels_with_an_empty_log() {
    let mut store = writer();
    let position = store.take_epoch(Tag(8), &holder()).unwrap();
    let mut copy = empty();
    copy.follow().unwrap();
    let lineage: Lineage = store.lineage().clone();
    copy.apply(&lineage, &[], &mut |_, _| unreachable!()).unwrap();
    assert_eq!(copy.position(), position);
    assert_eq!(copy.lineage(), &lineage);
}
