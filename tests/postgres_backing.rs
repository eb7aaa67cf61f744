//! One writer and its readers over a PostgreSQL that the tests start and stop.
#![cfg(feature = "postgres")]

#[path = "support/cutter.rs"]
mod cutter;
#[path = "support/on_postgres.rs"]
mod on_postgres;
#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::time::Duration;

use cutter::Cutter;
use on_postgres::{name_in, reader_options, writer_options};
use postgres::Server;
use support::{assert_equal, count, eventually, number, ok, rows, run, select};
use syncline::acknowledge::Level;
use syncline::change::Value;
use syncline::engine::{Database, DatabaseOptions, Keep, State, VerifyMode, WorkingCopy};

const BOTH: [WorkingCopy; 2] = [WorkingCopy::Memory, WorkingCopy::Disk];

/// Ends everybody's connections to this database.
const END_SESSIONS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

const SCHEMA: [&str; 2] = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, price DECIMAL(10,2), there BOOLEAN, raw BLOB)",
    "CREATE TABLE keyless (a TEXT, b REAL)",
];

const ROWS: [&str; 4] = [
    "INSERT INTO t VALUES (1, 'one', 1.5, 1, x'00ff'), (2, 'two', 2, 0, NULL), (3, 'thrée', NULL, NULL, x'')",
    "INSERT INTO keyless VALUES ('a', 0.1), ('a', 0.1), (NULL, 1e300)",
    "UPDATE t SET name = 'zwei', price = price * 2 WHERE id = 2",
    "DELETE FROM keyless WHERE rowid = 2",
];

#[test]
fn readers_follow_a_writer_and_the_rows_are_ordinary() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let a = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
    ok(&mut a.session(), &SCHEMA);
    let early = Database::open(reader_options(&url, dir.path(), "early")).unwrap();
    ok(&mut a.session(), &ROWS);
    let late = Database::open(DatabaseOptions {
        working_copy: WorkingCopy::Disk,
        ..reader_options(&url, dir.path(), "late")
    })
    .unwrap();
    for reader in [&early, &late] {
        assert_equal(&a, reader);
        assert_eq!(
            rows(&mut reader.session(), "SELECT * FROM t"),
            rows(&mut a.session(), "SELECT * FROM t")
        );
    }
    assert!(a.verify(VerifyMode::Report).unwrap().equal, "also what PostgreSQL holds");
    let seen = server.sql(name_in(&url), "SELECT id, name, price, there, raw FROM t ORDER BY id");
    assert_eq!(
        seen,
        "1|one|1.50|t|\\x00ff\n2|zwei|4.00|f|\n3|thrée||||\\x\n".replace("||||", "|||")
    );
    [late, early, a].iter().for_each(Database::close);
}

/// A reader that was away for longer than the log is kept copies everything, beside the copy that it serves:
/// reads go on, and see one state or the other.
#[test]
fn a_reader_serves_on_while_its_copy_is_made_anew() {
    let Some(server) = Server::get() else { return };
    for working_copy in BOTH {
        let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
        let a = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
        let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) \
                    INSERT INTO t SELECT i, randomblob(100) FROM n";
        ok(&mut a.session(), &["CREATE TABLE t (id INTEGER PRIMARY KEY, fill BLOB)", rows]);
        let cutter = Cutter::start(server.address());
        let through = url.replace(&server.address().to_string(), &cutter.address.to_string());
        let options = reader_options(&through, dir.path(), "b");
        let b = Database::open(DatabaseOptions { working_copy, ..options }).unwrap();
        assert_equal(&a, &b);
        cutter.close(true);
        server.sql(name_in(&url), END_SESSIONS);
        eventually("it is away", || b.status().state == State::Stale);
        for id in 40_000..40_005 {
            let insert = format!("INSERT INTO t VALUES ({id}, NULL)");
            eventually("it writes", || run(&mut a.session(), &[&insert]).is_empty());
        }
        server.sql(name_in(&url), "DELETE FROM _syncline_log");
        cutter.close(false);
        let mut reads = 0;
        eventually("it has all", || {
            let rows = count(&mut b.session(), "t");
            reads += i32::from(rows == 30_000);
            assert!([30_000, 30_005].contains(&rows), "{rows} rows");
            rows == 30_005
        });
        assert!(reads > 5, "{reads} reads beside the copying");
        assert_equal(&a, &b);
        a.close();
        b.close();
    }
}

#[test]
fn a_reader_hears_of_a_commit_from_the_server() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let a = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
    ok(&mut a.session(), &["CREATE TABLE t (id INTEGER PRIMARY KEY)"]);
    let never = Duration::from_secs(3600);
    let options = DatabaseOptions {
        check_every: never,
        full_every: never,
        ..reader_options(&url, dir.path(), "b")
    };
    let b = Database::open(options).unwrap();
    for id in 1..20 {
        ok(&mut a.session(), &[&format!("INSERT INTO t VALUES ({id})")]);
        eventually("it is told", || count(&mut b.session(), "t") == id);
    }
    b.close();
    a.close();
}

#[test]
fn what_cannot_be_held_fails_its_own_statement() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let a = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
    let mut session = a.session();
    ok(&mut session, &SCHEMA);
    for refused in [
        "INSERT INTO t (id, price) VALUES (7, 'seven')",
        "INSERT INTO t (id, price) VALUES (7, 1.234)",
        "INSERT INTO t (id, there) VALUES (7, 2)",
        "INSERT INTO t (id, name) VALUES (7, 'a' || char(0))",
        "INSERT INTO t (id, raw) VALUES (7, 'text')",
        "CREATE TABLE untyped (a)",
        "CREATE TABLE shape (a GEOMETRY)",
        "CREATE VIRTUAL TABLE words USING fts5 (text)",
    ] {
        let codes = run(
            &mut session,
            &[refused, "INSERT INTO t (id) VALUES (8)", "DELETE FROM t WHERE id = 8"],
        );
        assert_eq!(codes.len(), 1, "{refused}: {codes:?}");
    }
    assert_eq!(count(&mut session, "t"), 0);
    assert!(a.verify(VerifyMode::Report).unwrap().equal);
    a.close();
}

#[test]
fn a_writer_that_starts_again_goes_on() {
    let Some(server) = Server::get() else { return };
    for working_copy in BOTH {
        let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
        let options = DatabaseOptions { working_copy, ..writer_options(&url, dir.path(), "a") };
        let mut a = Database::open(options.clone()).unwrap();
        ok(&mut a.session(), &SCHEMA);
        for round in 1..4 {
            ok(&mut a.session(), &[&format!("INSERT INTO t (id) VALUES ({round})")]);
            let (position, chain) = (a.position(), a.position().chain);
            a.close();
            a = Database::open(options.clone()).unwrap();
            assert_eq!(a.position().chain, chain);
            assert!(a.position().epoch > position.epoch, "each start is an epoch");
            assert_eq!(count(&mut a.session(), "t"), round);
            assert!(a.verify(VerifyMode::Report).unwrap().equal);
        }
        a.close();
    }
}

#[test]
fn of_two_writers_one_writes() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let a = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
    ok(&mut a.session(), &SCHEMA);
    let refused = Database::open(writer_options(&url, dir.path(), "b")).err().expect("it is held");
    assert_eq!(refused.code(), "HOLDER_ALIVE");
    assert!(refused.message().contains("\"a\""), "{refused}");
    let take_over = DatabaseOptions { take_over: true, ..writer_options(&url, dir.path(), "b") };
    let b = Database::open(take_over).unwrap();
    ok(&mut b.session(), &["INSERT INTO t (id) VALUES (1)"]);
    assert_eq!(run(&mut a.session(), &["INSERT INTO t (id) VALUES (2)"]), ["FENCED"]);
    assert_eq!(a.status().state, State::Fenced);
    ok(&mut b.session(), &["INSERT INTO t (id) VALUES (3)"]);
    assert_eq!(server.sql(name_in(&url), "SELECT id FROM t ORDER BY id"), "1\n3\n");
    a.close();
    b.close();
}

#[test]
fn a_writer_outlives_its_connections() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let a = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
    let b = Database::open(reader_options(&url, dir.path(), "b")).unwrap();
    ok(&mut a.session(), &SCHEMA);
    for id in 1..6 {
        server.sql(name_in(&url), END_SESSIONS);
        let insert = format!("INSERT INTO t (id) VALUES ({id})");
        eventually("it writes again", || {
            let codes = run(&mut a.session(), &[&insert]);
            assert!(codes.is_empty() || codes == ["BACKING_UNAVAILABLE"], "{codes:?}");
            codes.is_empty()
        });
    }
    assert_eq!(count(&mut a.session(), "t"), 5);
    assert_equal(&a, &b);
    assert!(a.verify(VerifyMode::Report).unwrap().equal);
    a.close();
    b.close();
}

/// A writer through a proxy that can cut it off, and a reader past it.
struct Thin {
    server: &'static Server,
    url: String,
    cutter: Cutter,
    writer: Database,
    reader: Database,
    _dir: tempfile::TempDir,
}

impl Thin {
    fn new(server: &'static Server) -> Thin {
        Thin::with(server, Level::Disk)
    }

    fn with(server: &'static Server, acknowledge: Level) -> Thin {
        let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
        let cutter = Cutter::start(server.address());
        let through = url.replace(&server.address().to_string(), &cutter.address.to_string());
        // Renewing the lease is a conversation, too: it would take the cut that is meant for a write.
        let lease = Duration::from_secs(60);
        let flush_every = Duration::from_millis(5);
        let options = writer_options(&through, dir.path(), "a");
        let options = DatabaseOptions { lease, acknowledge, flush_every, ..options };
        let writer = Database::open(options).unwrap();
        let reader = Database::open(reader_options(&url, dir.path(), "b")).unwrap();
        for table in ["t", "beside"] {
            ok(&mut writer.session(), &[&format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY)")]);
        }
        Thin { server, url, cutter, writer, reader, _dir: dir }
    }

    fn insert(&self, id: u64) -> Option<String> {
        run(&mut self.writer.session(), &[&format!("INSERT INTO t VALUES ({id})")]).pop()
    }

    /// Waits until the writer writes again.
    fn goes_on(&self) {
        self.cutter.let_pass();
        eventually("it goes on", || {
            run(&mut self.writer.session(), &["INSERT INTO beside DEFAULT VALUES"]).is_empty()
        });
    }

    /// The writer finds its connection gone, and can make no other yet.
    fn lose_connections(&self) {
        self.cutter.close(true);
        self.server.sql(name_in(&self.url), END_SESSIONS);
        run(&mut self.writer.session(), &["INSERT INTO beside DEFAULT VALUES"]);
        self.cutter.close(false);
    }

    /// How often the row is there: at the writer, and in PostgreSQL.
    fn there(&self, id: u64) -> i64 {
        let sql = format!("SELECT count(*) FROM t WHERE id = {id}");
        let here = number(&mut self.writer.session(), &sql);
        assert_eq!(self.server.sql(name_in(&self.url), &sql).trim(), here.to_string(), "row {id}");
        here
    }

    fn close(self) {
        self.cutter.let_pass();
        assert_equal(&self.writer, &self.reader);
        assert!(self.writer.verify(VerifyMode::Report).unwrap().equal);
        self.writer.close();
        self.reader.close();
    }
}

/// The connection is cut before each message of a write in turn, in both directions; once a write that finds
/// its connection open, once one that has to make it first.
#[test]
fn a_cut_at_any_message_loses_nothing_and_does_nothing_twice() {
    let Some(server) = Server::get() else { return };
    for warm in [true, false] {
        let thin = Thin::new(server);
        let (mut refused, mut settled) = (0, 0);
        for messages in 0.. {
            if !warm {
                thin.lose_connections();
            }
            let before = thin.cutter.cuts();
            thin.cutter.cut_after(messages);
            let failed = thin.insert(messages);
            let cut = thin.cutter.cuts() > before;
            thin.goes_on();
            match failed.as_deref() {
                None => assert_eq!(thin.there(messages), 1, "message {messages}: acknowledged"),
                Some("BACKING_UNAVAILABLE") => {
                    assert_eq!(thin.there(messages), 0, "message {messages}: refused");
                    refused += 1;
                }
                Some(other) => panic!("message {messages}: {other}"),
            }
            settled += u64::from(cut && failed.is_none());
            assert_equal(&thin.writer, &thin.reader);
            if !cut {
                break;
            }
        }
        assert!(refused > 30, "cuts before the commit are refusals: {refused}");
        assert!(settled >= 2, "each message of an answer that was lost: {settled}");
        thin.close();
    }
}

/// If the server cannot be asked, nobody knows; the next write finds out first.
#[test]
fn an_outcome_that_nobody_knows_is_called_unknown() {
    let Some(server) = Server::get() else { return };
    let thin = Thin::new(server);
    let (mut found, mut id) = ([0, 0], 0);
    for messages in (0..60).cycle().take(300) {
        if found.iter().all(|n| *n > 0) {
            break;
        }
        thin.goes_on();
        thin.cutter.close(true);
        thin.cutter.cut_after(messages);
        id += 1;
        let failed = thin.insert(id);
        if failed.as_deref() == Some("OUTCOME_UNKNOWN") {
            let refused = thin.insert(1000 + id);
            assert_eq!(refused.as_deref(), Some("BACKING_UNAVAILABLE"), "it is still away");
            thin.cutter.close(false);
            thin.goes_on();
            found[thin.there(id) as usize] += 1;
            assert_eq!(thin.there(1000 + id), 0);
            assert_equal(&thin.writer, &thin.reader);
        }
        thin.cutter.close(false);
    }
    assert!(found.iter().all(|n| *n > 0), "not committed, committed: {found:?}");
    thin.close();
}

/// What was acknowledged from memory, and whose flush did not arrive, is undone and held: as rows, without
/// the triggers of whoever wrote them.
#[test]
fn a_flush_that_was_lost_is_held() {
    let Some(server) = Server::get() else { return };
    let thin = Thin::with(server, Level::Memory);
    let trigger =
        "CREATE TRIGGER tr AFTER DELETE ON t BEGIN INSERT INTO beside (id) VALUES (NULL); END";
    ok(&mut thin.writer.session(), &[trigger]);
    let (mut lost, mut id) = (0, 0);
    for messages in (0..60).cycle().take(300) {
        if lost > 0 {
            break;
        }
        thin.goes_on();
        assert_equal(&thin.writer, &thin.reader);
        let before = thin.cutter.cuts();
        thin.cutter.cut_after(messages);
        id += 1;
        assert_eq!(thin.insert(id), None, "acknowledged from memory");
        let flushed = format!("SELECT count(*) FROM t WHERE id = {id}");
        eventually("its flush ends one way or the other", || {
            thin.cutter.cuts() > before
                || thin.server.sql(name_in(&thin.url), &flushed).trim() == "1"
        });
        thin.goes_on();
        assert_equal(&thin.writer, &thin.reader);
        lost += 1 - thin.there(id);
    }
    assert!(lost > 0, "some flush must be lost before its COMMIT");
    assert_eq!(thin.writer.status().held as i64, lost);
    thin.close();
}

/// A dump is put back while the writer runs: it stops, and either way on leads to equal copies.
#[test]
fn a_restored_dump_stops_the_writer_until_someone_decides() {
    let Some(server) = Server::get() else { return };
    for keep in [Keep::Backing, Keep::Node] {
        let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
        let a = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
        let b = Database::open(reader_options(&url, dir.path(), "b")).unwrap();
        ok(&mut a.session(), &SCHEMA);
        ok(&mut a.session(), &["INSERT INTO t (id) VALUES (1)"]);
        let dump = server.dump(name_in(&url));
        ok(&mut a.session(), &["INSERT INTO t (id) VALUES (2)", "INSERT INTO t (id) VALUES (3)"]);
        assert_equal(&a, &b);
        server.restore(name_in(&url), &dump);
        assert_eq!(run(&mut a.session(), &["INSERT INTO t (id) VALUES (4)"]), ["RESTORED"]);
        assert_eq!(a.status().state, State::Restored);
        assert_eq!(count(&mut a.session(), "t"), 3, "reads go on");
        a.resolve(keep).unwrap();
        let kept = if keep == Keep::Backing { 1 } else { 3 };
        assert_eq!(count(&mut a.session(), "t"), kept);
        ok(&mut a.session(), &["INSERT INTO t (id) VALUES (9)"]);
        assert_equal(&a, &b);
        assert!(a.status().held > 0 || keep == Keep::Node, "what was undone is held");
        let ids = server.sql(name_in(&url), "SELECT count(*) FROM t");
        assert_eq!(ids.trim(), (kept + 1).to_string());
        assert!(a.verify(VerifyMode::Report).unwrap().equal);
        a.close();
        b.close();
    }
}

/// Rows that others change are found and never undone unasked; a write that meets one is refused alone.
#[test]
fn rows_that_others_changed_are_reported() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let a = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
    let mut session = a.session();
    ok(&mut session, &SCHEMA);
    ok(&mut session, &["INSERT INTO t (id, name) VALUES (1, 'a'), (2, 'b')"]);
    server.sql(name_in(&url), "UPDATE t SET name = 'changed' WHERE id = 1");
    let report = a.verify(VerifyMode::Report).unwrap();
    assert!(!report.equal && report.findings[0].contains("table t"), "{report:?}");
    let codes = run(&mut session, &["UPDATE t SET name = 'x' WHERE id = 1"]);
    assert_eq!(codes, ["BACKING_DIFFERS"]);
    ok(&mut session, &["UPDATE t SET name = 'y' WHERE id = 2"]);
    assert_eq!(
        select(&mut session, "SELECT name FROM t"),
        [Value::Text("a".into()), Value::Text("y".into())]
    );
    let names = || server.sql(name_in(&url), "SELECT name FROM t ORDER BY id");
    assert_eq!(names(), "changed\ny\n");
    assert!(a.verify(VerifyMode::Repair).unwrap().equal);
    assert_eq!(names(), "a\ny\n");
    ok(&mut session, &["UPDATE t SET name = 'x' WHERE id = 1"]);
    assert_eq!(names(), "x\ny\n");
    a.close();
}

/// Among many writes that share a transaction, each that meets a row that somebody changed is refused, and
/// only those: what was before it in the group must not be there twice, nor half.
#[test]
fn who_meets_a_changed_row_is_refused_alone() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let a = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
    let b = Database::open(reader_options(&url, dir.path(), "b")).unwrap();
    ok(&mut a.session(), &["CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)"]);
    ok(&mut a.session(), &["CREATE TABLE good (id INTEGER PRIMARY KEY)"]);
    let changed: Vec<String> = (0..5).map(|id| format!("INSERT INTO t VALUES ({id}, 0)")).collect();
    ok(&mut a.session(), &changed.iter().map(String::as_str).collect::<Vec<_>>());
    server.sql(name_in(&url), "UPDATE t SET n = 7");
    for round in 0..10 {
        std::thread::scope(|scope| {
            for writer in 0..20 {
                let mut session = a.session();
                scope.spawn(move || match writer % 4 {
                    3 => {
                        let sql = format!("UPDATE t SET n = n + 1 WHERE id = {}", writer / 4);
                        assert_eq!(run(&mut session, &[&sql]), ["BACKING_DIFFERS"]);
                    }
                    _ => ok(
                        &mut session,
                        &[&format!("INSERT INTO good VALUES ({})", round * 20 + writer)],
                    ),
                });
            }
        });
    }
    assert_eq!(count(&mut a.session(), "good"), 150);
    assert_eq!(server.sql(name_in(&url), "SELECT count(*), sum(n) FROM good, t"), "750|5250\n");
    assert_equal(&a, &b);
    a.close();
    b.close();
}
