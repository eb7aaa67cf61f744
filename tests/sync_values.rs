//! Values that one engine lets in and another does not expect, synced as programs do it: types that SQLite makes up
//! as it goes, keys that are NULL, versions that are none.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use rusqlite::Connection;
use syncline::endpoint::Endpoint;
use syncline::endpoint::open::open;
use syncline::endpoint::sqlite::Access;
use syncline::sync::{DiffOptions, DiffReport, Event, SyncOptions, SyncReport, diff, sync_once};

fn opened(address: &str, access: Access) -> Box<dyn Endpoint> {
    open(address, access).unwrap_or_else(|error| panic!("{address}: {error:?}"))
}

fn sync_with(a: &str, b: &str, options: &SyncOptions) -> SyncReport {
    let (mut a, mut b) = (opened(a, Access::Read), opened(b, Access::Write));
    let stop = AtomicBool::new(false);
    sync_once(&mut (a.as_mut(), b.as_mut()), options, &stop, &mut |_: Event<'_>| {})
        .unwrap_or_else(|error| panic!("{error:?}"))
}

fn created() -> SyncOptions {
    SyncOptions { create: true, ..SyncOptions::default() }
}

fn compared(a: &str, b: &str) -> DiffReport {
    let (mut a, mut b) = (opened(a, Access::Read), opened(b, Access::Read));
    diff(&mut (a.as_mut(), b.as_mut()), &DiffOptions::default(), &mut |_: Event<'_>| {}).unwrap()
}

/// Two files that go with the test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn sql(&self, name: &str, sql: &str) {
        Connection::open(self.path(name)).unwrap().execute_batch(sql).unwrap();
    }

    /// What a query gives, with the classes of its values.
    fn rows(&self, name: &str, sql: &str) -> Vec<String> {
        let connection = Connection::open(Path::new(&self.path(name))).unwrap();
        let mut select = connection.prepare(sql).unwrap();
        let columns = select.column_count();
        let text = |row: &rusqlite::Row<'_>| {
            let value = |i| row.get::<_, rusqlite::types::Value>(i).map(|v| format!("{v:?}"));
            (0..columns).map(value).collect::<Result<Vec<_>, _>>().map(|v| v.join(" "))
        };
        select.query_map([], text).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// Makes `b.db` like `a.db`, with nothing held and all of it proved.
    fn fill(&self) {
        let report = sync_with(&self.path("a.db"), &self.path("b.db"), &created());
        for table in &report.tables {
            assert!(table.held.is_empty(), "{}: {:?}", table.table, table.held);
            assert!(table.proved(), "{}: {:?}", table.table, table.totals);
        }
    }

    #[track_caller]
    fn assert_alike(&self, sql: &str) {
        assert_eq!(self.rows("b.db", sql), self.rows("a.db", sql));
    }
}

#[test]
fn a_created_file_keeps_every_value_as_the_other_does() {
    let files = Files::new();
    files.sql(
        "a.db",
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY, d NUMERIC, e DECIMAL(20,2), f FLOAT DEFAULT 1); \
         INSERT INTO numbers VALUES (1, 4, 4, 4), (2, 1.5, '1.50', 1.5), (3, 'x', x'00', 1e300); \
         CREATE TABLE anything (k ANY PRIMARY KEY, v TEXT NOT NULL, w INT AS (length(v))) STRICT; \
         INSERT INTO anything VALUES (1, 'one'), ('1', 'text'), (x'31', 'bytes'), (1.5, 'half'); \
         CREATE TABLE packed (k TEXT COLLATE NOCASE, n INT, PRIMARY KEY (k, n)) WITHOUT ROWID; \
         INSERT INTO packed VALUES ('a', 1), ('B', 2)",
    );
    files.fill();
    files.assert_alike("SELECT *, typeof(d), typeof(e), typeof(f) FROM numbers ORDER BY id");
    files.assert_alike("SELECT *, typeof(k) FROM anything ORDER BY v");
    files.assert_alike("SELECT * FROM packed ORDER BY n");
    files.assert_alike("SELECT sql FROM sqlite_schema WHERE name NOT LIKE '%syncline%' ORDER BY 1");
}

#[test]
fn a_value_that_would_change_is_held_with_its_column() {
    let files = Files::new();
    files.sql("a.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT, n TEXT)");
    files.sql("a.db", "INSERT INTO t VALUES (1, '1', '007')");
    files.sql("b.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT, n NUMERIC)");
    let report = sync_with(&files.path("a.db"), &files.path("b.db"), &SyncOptions::default());
    let [held] = &report.tables[0].held[..] else { panic!("{:?}", report.tables[0].held) };
    assert!(held.reason.ends_with("another value in n (NUMERIC)"), "{}", held.reason);
}

/// A primary key of SQLite's may be NULL, as often as one likes.
#[test]
fn rows_whose_primary_key_is_null_are_all_synced() {
    let files = Files::new();
    let rows = "SELECT k, x, y FROM t ORDER BY 1, 2, 3";
    files.sql("a.db", "CREATE TABLE t (k TEXT, x TEXT, y, PRIMARY KEY (k, x))");
    files.sql("a.db", "INSERT INTO t VALUES (NULL,'a',1), (NULL,'a',2), ('k',NULL,3), ('k','c',4)");
    files.fill();
    files.assert_alike(rows);
    files.sql("b.db", "DELETE FROM t WHERE y = 1; INSERT INTO t VALUES (NULL,'a',2)");
    assert!(!compared(&files.path("a.db"), &files.path("b.db")).equal());
    files.fill();
    files.assert_alike(rows);
    // Without them, rows are told by their key again: one that changes is one that changes.
    files.sql("a.db", "DELETE FROM t WHERE k IS NULL OR x IS NULL; UPDATE t SET y = 5");
    files.sql("b.db", "DELETE FROM t WHERE k IS NULL OR x IS NULL");
    let report = sync_with(&files.path("a.db"), &files.path("b.db"), &SyncOptions::default());
    let applied = report.tables[0].applied;
    assert_eq!((applied.updated, applied.inserted, applied.deleted), (1, 0, 0));
    files.assert_alike(rows);
}
