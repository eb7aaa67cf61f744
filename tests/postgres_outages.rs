//! What becomes of a writer and its readers when PostgreSQL stops, takes no writes, fails over, or is
//! reached through something that holds messages back or hands sessions around.
#![cfg(feature = "postgres")]

mod cluster;
#[path = "support/cutter.rs"]
mod cutter;
#[path = "support/on_postgres.rs"]
mod on_postgres;
#[path = "support/pooler.rs"]
mod pooler;
#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::Node;
use cutter::Cutter;
use on_postgres::{name_in, reader_options, writer_options};
use pooler::Pooler;
use postgres::Server;
use support::{assert_equal, count, eventually, number, ok, run};
use syncline::engine::{Database, DatabaseOptions, Keep, State, VerifyMode};

/// A writer and a reader that reach the server by an address which may come to mean another one.
struct Nodes {
    url: String,
    /// The same, as the nodes reach it.
    through: String,
    cutter: Cutter,
    writer: Database,
    reader: Database,
    dir: tempfile::TempDir,
}

impl Nodes {
    fn over(server: &Server) -> Nodes {
        let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
        let cutter = Cutter::start(server.address());
        let through = url.replace(&server.address().to_string(), &cutter.address.to_string());
        let writer = Database::open(writer_options(&through, dir.path(), "a")).unwrap();
        let reader = Database::open(reader_options(&through, dir.path(), "b")).unwrap();
        ok(&mut writer.session(), &["CREATE TABLE t (id INTEGER PRIMARY KEY)"]);
        Nodes { url, through, cutter, writer, reader, dir }
    }

    fn insert(&self, id: i64) -> Vec<String> {
        run(&mut self.writer.session(), &[&format!("INSERT INTO t VALUES ({id})")])
    }

    /// Writes a row; every refusal on the way says that it may be tried again.
    fn insist(&self, id: i64) {
        eventually("it writes", || match &self.insert(id)[..] {
            [] => true,
            [code] if code.starts_with("BACKING_") => false,
            other => panic!("{other:?}"),
        });
    }

    /// Both serve so many rows.
    fn serve(&self, rows: i64) {
        for node in [&self.writer, &self.reader] {
            assert_eq!(count(&mut node.session(), "t"), rows);
        }
    }

    fn end_equal(self, rows: i64) {
        assert_equal(&self.writer, &self.reader);
        self.serve(rows);
        assert!(self.writer.verify(VerifyMode::Report).unwrap().equal);
        self.writer.close();
        self.reader.close();
    }
}

/// While the server is away writes are refused, reads go on, everybody says so; then all goes on by itself.
#[test]
fn a_server_that_stops_is_waited_for() {
    let Some(server) = Server::own() else { return };
    let nodes = Nodes::over(&server);
    for (id, how) in (1..).zip(["stop", "crash", "stop"]) {
        nodes.insist(id);
        assert_equal(&nodes.writer, &nodes.reader);
        server.order(how);
        for _ in 0..3 {
            assert_eq!(nodes.insert(100), ["BACKING_UNAVAILABLE"]);
        }
        assert_eq!(nodes.writer.status().state, State::Stale);
        eventually("the reader says so, too", || nodes.reader.status().state == State::Stale);
        nodes.serve(id);
        server.order("start");
        eventually("both notice", || {
            [&nodes.writer, &nodes.reader].iter().all(|node| node.status().state == State::Ok)
        });
    }
    nodes.end_equal(3);
}

/// Machines that start together start in any order: a node that is first waits, and can be asked meanwhile.
#[test]
fn a_server_that_starts_later_is_waited_for() {
    let Some(server) = Server::own() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let node = |name, role| {
        let database = format!("role = \"{role}\"\nbacking = \"{url}\"\nworking_copy = \"memory\"");
        Node::new(dir.path(), name, &database)
    };
    let mut nodes = [node("a", "writer"), node("b", "reader")];
    server.order("stop");
    nodes.iter_mut().for_each(Node::start);
    for node in &nodes {
        let status = |path| cluster::request(node.listen, "GET", path, "").map(|(code, _)| code);
        eventually("it lives", || status("/health") == Ok(200));
        assert_eq!(status("/ready"), Ok(503));
    }
    server.order("start");
    nodes.iter_mut().for_each(Node::wait_ready);
    let writer = nodes[0].listen;
    cluster::execute(writer, "CREATE TABLE t (id INTEGER PRIMARY KEY)", &[]).unwrap();
    let there = || cluster::execute(nodes[1].listen, "SELECT id FROM t", &[]).is_ok();
    eventually("the reader follows", there);
}

#[test]
fn a_server_that_takes_no_writes_is_waited_for() {
    let Some(server) = Server::own() else { return };
    let nodes = Nodes::over(&server);
    nodes.insist(1);
    let read_only = |to: &str| {
        server.sql("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = {to}"));
        server.sql("postgres", "SELECT pg_reload_conf()");
    };
    read_only("on");
    let mut rows = 1;
    eventually("it refuses", || match &nodes.insert(rows + 1)[..] {
        [] => (rows += 1, false).1,
        [code] => code == "BACKING_READ_ONLY",
        other => panic!("{other:?}"),
    });
    assert_eq!(nodes.insert(100), ["BACKING_READ_ONLY"], "also over another connection");
    assert_equal(&nodes.writer, &nodes.reader);
    nodes.serve(rows);
    let late = Database::open(reader_options(&nodes.url, nodes.dir.path(), "late")).unwrap();
    assert_eq!(count(&mut late.session(), "t"), rows, "a reader needs no writes");
    late.close();
    read_only("off");
    nodes.insist(100);
    nodes.end_equal(rows + 1);
}

/// The address leads to a standby that has everything: no more than a connection that was lost.
#[test]
fn a_standby_that_has_all_takes_over_silently() {
    let Some(primary) = Server::own() else { return };
    let nodes = Nodes::over(&primary);
    nodes.insist(1);
    let standby = primary.standby();
    nodes.insist(2);
    caught_up(&standby, &nodes.url, 2);
    primary.order("stop");
    fail_over(&nodes.cutter, &standby);
    nodes.insist(3);
    assert_eq!(nodes.writer.status().state, State::Ok);
    assert_eq!(standby.sql(name_in(&nodes.url), "SELECT count(*) FROM t").trim(), "3");
    nodes.end_equal(3);
}

/// The standby lacks what was acknowledged last: a restore, whoever did it. Nobody goes on by guessing.
#[test]
fn a_standby_without_the_last_commits_is_a_restore() {
    for keep in [Keep::Backing, Keep::Node] {
        let Some(primary) = Server::own() else { return };
        let nodes = Nodes::over(&primary);
        nodes.insist(1);
        let standby = primary.standby();
        caught_up(&standby, &nodes.url, 1);
        standby.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
        standby.sql("postgres", "SELECT pg_reload_conf()");
        eventually("it follows no more", || {
            standby.sql("postgres", "SELECT count(*) FROM pg_stat_wal_receiver").trim() == "0"
        });
        nodes.insist(2);
        nodes.insist(3);
        assert_equal(&nodes.writer, &nodes.reader);
        primary.order("crash");
        fail_over(&nodes.cutter, &standby);
        eventually("it stops writing", || match &nodes.insert(4)[..] {
            [code] if code == "RESTORED" => true,
            [code] if code.starts_with("BACKING_") => false,
            other => panic!("{other:?}"),
        });
        assert_eq!(nodes.writer.status().state, State::Restored);
        assert_eq!(count(&mut nodes.writer.session(), "t"), 3, "reads go on");
        nodes.writer.resolve(keep).unwrap();
        let kept = if keep == Keep::Backing { 1 } else { 3 };
        nodes.insist(9);
        assert_equal(&nodes.writer, &nodes.reader);
        if keep == Keep::Backing {
            assert_eq!(nodes.writer.status().held, 2, "what was acknowledged and is gone is held");
            assert_eq!(nodes.reader.status().held, 2);
        }
        nodes.end_equal(kept + 1);
    }
}

/// The standby has been in recovery until now; from here on the address is its own.
fn fail_over(cutter: &Cutter, standby: &Server) {
    standby.sql("postgres", "SELECT pg_promote()");
    cutter.lead_to(standby.address());
}

fn caught_up(standby: &Server, url: &str, rows: i64) {
    let table = "SELECT count(to_regclass('t'))";
    eventually("it has the table", || standby.sql(name_in(url), table).trim() == "1");
    eventually("the standby has it", || {
        standby.sql(name_in(url), "SELECT count(*) FROM t").trim() == rows.to_string()
    });
}

/// A URL that names several servers reaches the one that takes writes.
#[test]
fn of_several_servers_the_primary_is_found() {
    let Some(primary) = Server::own() else { return };
    let (url, dir) = (primary.database(), tempfile::tempdir().unwrap());
    let standby = primary.standby();
    let hosts = format!("{},{}", standby.address(), primary.address());
    let any = url.replace(&primary.address().to_string(), &hosts);
    let error = Database::open(writer_options(&any, dir.path(), "a")).err().unwrap();
    assert_eq!(error.code(), "BACKING_READ_ONLY");
    assert!(error.hint_text().contains("target_session_attrs=read-write"), "{error}");
    let writable = format!("{any}?target_session_attrs=read-write");
    let a = Database::open(writer_options(&writable, dir.path(), "a")).unwrap();
    ok(&mut a.session(), &["CREATE TABLE t (id INTEGER PRIMARY KEY)"]);
    caught_up(&standby, &url, 0);
    primary.order("crash");
    standby.sql("postgres", "SELECT pg_promote()");
    eventually("it writes to the other", || {
        run(&mut a.session(), &["INSERT INTO t VALUES (1)"]).is_empty()
    });
    assert_eq!(standby.sql(name_in(&url), "SELECT id FROM t"), "1\n");
    a.close();
}

/// A writer is stopped in the middle of a commit, with the row of the position locked or not. Another one
/// takes over, and what the first had on its way arrives late: it must change nothing that the second one
/// stands on.
#[test]
fn a_writer_that_is_stopped_anywhere_is_overtaken() {
    let Some(server) = Server::get() else { return };
    let (mut end, mut early, mut late) = (0, 0, 0);
    while let Some(there) = stopped_at(server, end) {
        early += 1 - there;
        late += there;
        end += 7;
    }
    // The last messages are the COMMIT and its answer. A conversation in between may have made this count
    // larger than the next one: it goes back until it has found them.
    for back in 1..=end {
        if back > 7 && late > 0 {
            break;
        }
        late += stopped_at(server, end - back).unwrap_or(0);
    }
    assert!(early > 3 && late > 0, "stopped before the commit {early}, after it {late}");
}

/// Stops a write of row 2 after so many messages; whether the row is there. None if it was done by then.
fn stopped_at(server: &Server, messages: u64) -> Option<i64> {
    // Renewing the lease is a conversation, too: it would take the stop that is meant for the write.
    let nodes = Nodes::with_lease(server, Duration::from_secs(60));
    nodes.insist(1);
    nodes.cutter.hold_after(messages);
    let stopped = std::thread::scope(|scope| {
        let write = scope.spawn(|| nodes.insert(2));
        let waits = || nodes.cutter.is_holding() || write.is_finished();
        eventually("it is stopped, or done", waits);
        if write.is_finished() {
            assert_eq!(write.join().unwrap(), [""; 0]);
            nodes.cutter.let_pass();
            return None;
        }
        let options = writer_options(&nodes.url, nodes.dir.path(), "c");
        let lease = Duration::from_secs(4);
        let options = DatabaseOptions { take_over: true, lease, ..options };
        let second = Database::open(options).unwrap();
        let there = number(&mut second.session(), "SELECT count(*) FROM t WHERE id = 2");
        ok(&mut second.session(), &["INSERT INTO t VALUES (3)"]);
        nodes.cutter.let_pass();
        Some((second, there, write.join().unwrap()))
    });
    let (second, there, answer) = stopped?;
    // Whoever lost the row hears nothing that claims otherwise.
    let refused = ["FENCED", "BACKING_UNAVAILABLE", "OUTCOME_UNKNOWN"];
    assert!(
        answer.is_empty() && there == 1 || refused.contains(&&*answer[0]),
        "message {messages}: {answer:?}, {there}"
    );
    eventually("it knows", || nodes.insert(4) == ["FENCED"]);
    let rows = server.sql(name_in(&nodes.url), "SELECT count(*) FROM t");
    assert_eq!(rows.trim(), (2 + there).to_string(), "message {messages}");
    ok(&mut second.session(), &["INSERT INTO t VALUES (5)"]);
    assert_equal(&second, &nodes.reader);
    assert!(second.verify(VerifyMode::Report).unwrap().equal);
    [&second, &nodes.reader, &nodes.writer].iter().for_each(|node| node.close());
    Some(there)
}

impl Nodes {
    fn with_lease(server: &Server, lease: Duration) -> Nodes {
        let nodes = Nodes::over(server);
        nodes.writer.close();
        let options = writer_options(&nodes.through, nodes.dir.path(), "a");
        let writer = Database::open(DatabaseOptions { lease, ..options }).unwrap();
        Nodes { writer, ..nodes }
    }
}

fn through(url: &str, from: SocketAddr, to: SocketAddr) -> String {
    url.replace(&from.to_string(), &to.to_string())
}

/// A pooler that keeps a session for each connection is as good as none.
#[test]
fn a_pooler_of_sessions_changes_nothing() {
    let Some(server) = Server::get() else { return };
    let Some(pooler) = Pooler::start(server.address(), "session") else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let through = through(&url, server.address(), pooler.address);
    let a = Database::open(writer_options(&through, dir.path(), "a")).unwrap();
    let b = Database::open(reader_options(&through, dir.path(), "b")).unwrap();
    ok(&mut a.session(), &["CREATE TABLE t (id INTEGER PRIMARY KEY)"]);
    for id in 0..20 {
        ok(&mut a.session(), &[&format!("INSERT INTO t VALUES ({id})")]);
    }
    assert_equal(&a, &b);
    assert!(a.verify(VerifyMode::Report).unwrap().equal);
    a.close();
    b.close();
}

/// One that gives each transaction any session is named, by a write or already at the start: what was set on a
/// session, time limits above all, would hold for somebody else.
#[test]
fn a_pooler_of_transactions_is_refused() {
    let Some(server) = Server::get() else { return };
    let Some(pooler) = Pooler::start(server.address(), "transaction") else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let direct = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
    ok(&mut direct.session(), &["CREATE TABLE t (id INTEGER PRIMARY KEY)"]);
    direct.close();
    let through = through(&url, server.address(), pooler.address);
    let (enough, database) = (AtomicBool::new(false), name_in(&url));
    let answers = std::thread::scope(|scope| {
        // Others use the pooler, too, so that a transaction does not always find the session before.
        for _ in 0..3 {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    server.sql_by(pooler.address, database, "SELECT pg_sleep(0.01)");
                }
            });
        }
        let answers = write_over(&through, dir.path());
        enough.store(true, Ordering::Relaxed);
        answers
    });
    let (written, refused) = answers.into_iter().partition::<Vec<_>, _>(Vec::is_empty);
    let refused = refused.concat();
    let known = ["BACKING_POOLED", "BACKING_UNAVAILABLE"];
    assert!(refused.iter().all(|code| known.contains(&code.as_str())), "{refused:?}");
    let named = refused.iter().filter(|code| *code == "BACKING_POOLED").count();
    assert!(named > 0, "it must be told what is wrong");
    let rows = server.sql(name_in(&url), "SELECT count(*) FROM t");
    assert_eq!(rows.trim(), written.len().to_string(), "what was acknowledged, and nothing else");
    let direct = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
    assert!(direct.verify(VerifyMode::Report).unwrap().equal);
    direct.close();
}

/// What writers are answered, one after the other, until one hears of the pooler.
fn write_over(url: &str, dir: &Path) -> Vec<Vec<String>> {
    let (mut answers, mut id) = (Vec::new(), 0);
    let pooled = ["BACKING_POOLED".to_owned()];
    while answers.len() < 1000 && !answers.iter().any(|codes| *codes == pooled) {
        match Database::open(writer_options(url, dir, "a")) {
            Err(error) => answers.push(vec![error.code().to_owned()]),
            Ok(a) => {
                for _ in 0..10 {
                    id += 1;
                    answers.push(run(&mut a.session(), &[&format!("INSERT INTO t VALUES ({id})")]));
                }
                a.close();
            }
        }
    }
    answers
}
