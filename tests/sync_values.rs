//! Values that one engine lets in and another does not expect, synced as programs do it: types that SQLite makes up
//! as it goes, keys that are NULL, versions that are none, rows that a trigger rewrites.

#[path = "support/postgres.rs"]
mod postgres;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use postgres::Server;
use rusqlite::Connection;
use syncline::endpoint::Endpoint;
use syncline::endpoint::open::open;
use syncline::endpoint::sqlite::Access;
use syncline::sync::{
    DiffOptions, DiffReport, Event, Selection, SyncOptions, SyncReport, diff, sync_once,
};

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

/// By versions alone: the walk takes one row a round, from the first key on.
fn by_version() -> SyncOptions {
    let versions = vec![("t".to_owned(), "v".to_owned())];
    let selection = Selection { versions, ..Selection::default() };
    let (overlap, walk_within) = (Duration::ZERO, Duration::from_secs(1 << 30));
    SyncOptions { selection, create: true, overlap, walk_least: 1, walk_within, ..created() }
}

/// A's and B's address, and statements that run on A after B is filled; then row 30 has to be there.
fn assert_it_arrives(a: &str, b: &str, run: impl Fn(&str), changes: &[&str]) {
    sync_with(a, b, &by_version());
    sync_with(a, b, &by_version());
    for change in changes {
        run(change);
        let report = sync_with(a, b, &by_version());
        let applied = report.tables[0].applied;
        assert_eq!(applied.updated + applied.inserted, 1, "{change}");
        assert!(compared(a, b).equal(), "{change}");
    }
}

/// What SQLite takes for lower, for it is spelled shorter or in another zone, is as new, or newer.
#[test]
fn moments_that_are_spelled_in_other_ways_arrive() {
    let Some(server) = Server::get() else { return };
    for (kind, newest, changes) in [
        (
            "DATETIME",
            "2024-01-31 23:00",
            ["2024-01-31 23:00", "2024-01-31T23:00:00.0", "2024-01-31 23:00:00.1"],
        ),
        (
            "TIMESTAMPTZ",
            "2024-02-01 02:00+03",
            ["2024-01-31T20:00:00-03:00", "2024-01-31 22:30-02:30", "2024-02-02 00:00:00+14"],
        ),
        ("DATE", "2024-01-31T", ["2024-01-31", "2024-01-31 00:00", "2024-02-01"]),
    ] {
        let (files, b) = (Files::new(), server.database());
        files.sql("a.db", &format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v {kind}, x TEXT)"));
        files.sql(
            "a.db",
            &format!(
                "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) \
                    SELECT i, '2024-01-01 00:00', '' FROM n; UPDATE t SET v = '{newest}' WHERE id = 40"
            ),
        );
        let changes = changes
            .iter()
            .enumerate()
            .map(|(i, v)| format!("UPDATE t SET v = '{v}', x = x || '{i}' WHERE id = {}", 30 + i));
        let changes: Vec<String> = changes.collect();
        let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
        assert_it_arrives(&files.path("a.db"), &b, |sql| files.sql("a.db", sql), &changes);
    }
}

/// It would stand above all versions for ever.
#[test]
fn what_is_no_version_does_not_stop_those_that_are() {
    let files = Files::new();
    files.sql("a.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, v DATETIME, x TEXT)");
    files.sql("a.db", "INSERT INTO t VALUES (1, '2024-01-01 00:00:00', ''), (2, 'garbage', ''), (30, '2024-01-02 00:00:00', '')");
    let changes = [
        "UPDATE t SET v = '2024-01-02 00:00:00', x = 'tie' WHERE id = 30",
        "INSERT INTO t VALUES (31, '2024-01-03 00:00:00', 'new')",
    ];
    let (a, b) = (files.path("a.db"), files.path("b.db"));
    assert_it_arrives(&a, &b, |sql| files.sql("a.db", sql), &changes);
    // The row itself is found by the walk.
    files.sql("a.db", "UPDATE t SET x = 'walked' WHERE id = 2");
    (0..6).for_each(|_| drop(sync_with(&a, &b, &by_version())));
    assert!(compared(&a, &b).equal());
}

#[test]
fn infinity_is_no_version_and_a_key_like_others() {
    let Some(server) = Server::get() else { return };
    for (kind, one, next) in [
        ("timestamptz", "2024-01-02 00:00:00", "2024-01-03 00:00:00"),
        ("date", "2024-01-02", "2024-01-03"),
        ("float8", "1.5", "2.5"),
    ] {
        let (files, a) = (Files::new(), server.database());
        let name = a.rsplit('/').next().unwrap().to_owned();
        let sql = |sql: &str| drop(server.sql(&name, sql));
        let top = if kind == "float8" { "NaN" } else { "infinity" };
        sql(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, v {kind}, x text); \
             INSERT INTO t VALUES (1, '{one}', ''), (2, '{one}', ''), (30, '{one}', '')"
        ));
        if kind != "float8" {
            sql("INSERT INTO t VALUES (3, 'infinity', ''), (4, '-infinity', '')");
        }
        let changes = [
            "UPDATE t SET x = 'tie' WHERE id = 30".to_owned(),
            format!("INSERT INTO t VALUES (31, '{next}', '')"),
        ];
        let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
        let b = files.path("b.db");
        assert_it_arrives(&a, &b, sql, &changes);
        // NaN is nothing that SQLite could hold.
        sql(&format!("UPDATE t SET v = '{top}', x = 'top' WHERE id = 1"));
        sync_with(&a, &b, &by_version());
        sql(&format!("INSERT INTO t VALUES (32, '{next}', '')"));
        let applied = sync_with(&a, &b, &by_version()).tables[0].applied;
        assert_eq!(applied.inserted, 1, "{kind}");
    }
    let (files, a) = (Files::new(), server.database());
    let name = a.rsplit('/').next().unwrap();
    server.sql(name, "CREATE TABLE k (d date, t timestamptz, x text, PRIMARY KEY (d, t)); \
                      INSERT INTO k VALUES ('infinity', '-infinity', 'a'), ('2024-01-01', 'infinity', 'b')");
    let b = files.path("b.db");
    sync_with(&a, &b, &created());
    assert!(compared(&a, &b).equal());
    server.sql(name, "UPDATE k SET x = 'changed'");
    let report = sync_with(&a, &b, &created());
    assert_eq!(report.tables[0].applied.updated, 2);
    let back = sync_with(&b, &a, &created());
    assert!(back.tables[0].proved() && compared(&a, &b).equal());
    files.sql("b.db", "UPDATE k SET x = 'and back'");
    let back = sync_with(&b, &a, &created());
    assert_eq!((back.tables[0].applied.updated, back.tables[0].proved()), (2, true));
}

/// A row of which B makes another one would be written again for ever.
#[test]
fn rows_that_the_server_rewrites_are_held() {
    let Some(server) = Server::get() else { return };
    let (files, b) = (Files::new(), server.database());
    let name = b.rsplit('/').next().unwrap();
    files.sql(
        "a.db",
        "CREATE TABLE upper (id INTEGER PRIMARY KEY, x TEXT); \
         INSERT INTO upper VALUES (1, 'LOUD'), (2, 'quiet'), (3, '3'); \
         CREATE TABLE moved (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO moved VALUES (1, 'a'), (2, 'b'); \
         CREATE TABLE bag (n INTEGER, x TEXT); INSERT INTO bag VALUES (1, 'A'), (1, 'A'), (2, 'b'); \
         CREATE TABLE net (id INTEGER PRIMARY KEY, a TEXT); \
         INSERT INTO net VALUES (1, '1.2.3.4'), (2, '1.2.3.5/32'), (3, '10.0.0.0/8'); \
         CREATE TABLE late (id INTEGER PRIMARY KEY, t DATETIME); \
         INSERT INTO late VALUES (1, '2024-01-01 23:59:59'), (2, '2024-01-01 23:59:60'), (3, '2024-01-01 24:00:00')",
    );
    server.sql(
        name,
        "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.x := upper(new.x); RETURN new; END $$; \
         CREATE TABLE upper (id int PRIMARY KEY, x text); \
         CREATE TRIGGER loud BEFORE INSERT OR UPDATE ON upper FOR EACH ROW EXECUTE FUNCTION loud(); \
         INSERT INTO upper VALUES (3, 'three'); \
         CREATE TABLE bag (n int, x text); \
         CREATE TRIGGER loud BEFORE INSERT ON bag FOR EACH ROW EXECUTE FUNCTION loud(); \
         CREATE TABLE moved (id int PRIMARY KEY, x text); \
         CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.id := -new.id; RETURN new; END $$; \
         CREATE TRIGGER away BEFORE INSERT ON moved FOR EACH ROW WHEN (new.id = 2) EXECUTE FUNCTION away(); \
         CREATE TABLE net (id int PRIMARY KEY, a inet); CREATE TABLE late (id int PRIMARY KEY, t timestamp)",
    );
    let a = files.path("a.db");
    for again in [false, true] {
        let report = sync_with(&a, &b, &SyncOptions::default());
        let mut held: Vec<(&str, &str)> = Vec::new();
        for table in &report.tables {
            assert_eq!(table.applied.inserted > 0, !again, "{}", table.table);
            assert_eq!(
                (table.applied.updated > 0, table.applied.deleted),
                (!again && table.table == "upper", 0)
            );
            held.extend(table.held.iter().map(|held| (table.table.as_str(), held.reason.as_str())));
        }
        let late = "late.t (timestamp without time zone) would keep a later moment";
        let late = format!("late: {late}");
        let gone = "the row is not there as it was written, once it is written";
        let (bag, moved) = (format!("bag: {gone}"), format!("moved: {gone}"));
        let mut wanted = [
            ("bag", bag.as_str()),
            ("late", &late),
            ("late", &late),
            ("moved", &moved),
            ("net", r#"net: a (inet) would keep "1.2.3.4/32" in place of "1.2.3.4""#),
            ("upper", r#"upper: x (text) would keep "QUIET" in place of "quiet""#),
        ];
        wanted.sort();
        held.sort();
        assert_eq!(held, wanted, "{again}");
    }
    server.sql(name, "DROP TRIGGER loud ON upper");
    files.sql("a.db", "UPDATE upper SET x = 'still' WHERE id = 2");
    let report = sync_with(&a, &b, &SyncOptions::default());
    let upper = report.tables.iter().find(|table| table.table == "upper").unwrap();
    assert!(upper.held.is_empty() && upper.proved(), "{upper:?}");
}

/// The one that has the value of a row is in another batch.
#[test]
fn unique_values_change_places_across_batches() {
    let files = Files::new();
    let numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)";
    files.sql("a.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, u INTEGER NOT NULL UNIQUE)");
    files.sql("a.db", &format!("INSERT INTO t {numbers} SELECT i, i FROM n"));
    let lite = files.path("b.db");
    let targets = std::iter::once(lite).chain(Server::get().map(Server::database));
    let targets: Vec<String> = targets.collect();
    let a = files.path("a.db");
    targets.iter().for_each(|b| drop(sync_with(&a, b, &created())));
    files.sql(
        "a.db",
        "UPDATE t SET u = -u; UPDATE t SET u = 5001 + u; INSERT INTO t VALUES (9999, 0)",
    );
    for b in &targets {
        let (mut from, mut to) = (opened(&a, Access::Read), opened(b, Access::Write));
        let (mut held, mut batches) = (0, 0);
        let mut count = |event: Event<'_>| match event {
            Event::Held { .. } => held += 1,
            Event::Progress { .. } => batches += 1,
            _ => {}
        };
        let stop = AtomicBool::new(false);
        let mut ends: (&mut dyn Endpoint, &mut dyn Endpoint) = (from.as_mut(), to.as_mut());
        let report = sync_once(&mut ends, &SyncOptions::default(), &stop, &mut count).unwrap();
        let [table] = &report.tables[..] else { panic!("{:?}", report.tables) };
        assert_eq!((table.applied.updated, table.applied.inserted), (5000, 1), "{b}");
        assert!(table.held.is_empty() && table.proved(), "{b}: {table:?}");
        assert!(held == 0 && batches < 10, "{b}: {held} held, {batches} batches");
    }
}
