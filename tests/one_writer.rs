//! One writer, shown with real processes: one that was stopped and goes on, one that was stopped with
//! SQLite's lock in its hands, and one that died and was replaced.
//!
//! `SIGSTOP` is how a long pause looks to everyone else: a virtual machine that is moved, a laptop's
//! lid, a debugger. The process itself does not notice; only the fence keeps it from writing on.

mod cluster;

use std::path::Path;
use std::time::{Duration, Instant};

use cluster::{Node, answer, ask, execute, request};
use rusqlite::Connection;
use serde_json::{Value as Json, json};

/// How long the stopped writers keep their place.
const LEASE: &str = "1s";

fn node(dir: &Path, name: &str, role: &str) -> Node {
    let backing = dir.join("main.db");
    let body = format!(
        "role = \"{role}\"\nbacking = \"sqlite:{}\"\nlease = \"{LEASE}\"\n\
         [databases.main.heal]\ncheck_every = \"100ms\"\n",
        backing.display()
    );
    Node::new(dir, name, &body)
}

fn started(dir: &Path, name: &str, role: &str) -> Node {
    let mut node = node(dir, name, role);
    node.start();
    node.wait_ready();
    node
}

/// Stops the writer's process while it holds no lock of SQLite's: asked of SQLite, from outside.
fn stop_between_groups(writer: &Node, backing: &Path) {
    let probe = Connection::open(backing).unwrap();
    probe.busy_timeout(Duration::ZERO).unwrap();
    loop {
        writer.signal(libc::SIGSTOP);
        if probe.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
            return;
        }
        writer.signal(libc::SIGCONT);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn pipeline(baton: Option<&str>, statements: &[&str]) -> String {
    let execute = |sql: &&str| json!({"type": "execute", "stmt": {"sql": sql}});
    let requests: Vec<Json> = statements.iter().map(execute).collect();
    json!({"baton": baton, "requests": requests}).to_string()
}

/// Runs statements of one stream; its baton.
fn stream(node: &Node, baton: Option<&str>, statements: &[&str]) -> String {
    let body = pipeline(baton, statements);
    let (status, text) = request(node.listen, "POST", "/v2/pipeline", &body).unwrap();
    let answer: Json = serde_json::from_str(&text).unwrap();
    let failed = answer["results"].as_array().unwrap().iter().any(|r| r["type"] != "ok");
    assert!(status == 200 && !failed, "{status}: {text}");
    answer["baton"].as_str().unwrap().to_owned()
}

/// All of `t`, in order.
fn rows(node: &Node) -> Vec<String> {
    let result = execute(node.listen, "SELECT a FROM t ORDER BY rowid", &[]).unwrap();
    let text = |row: &Json| row[0]["value"].as_str().unwrap().to_owned();
    result["rows"].as_array().unwrap().iter().map(text).collect()
}

fn insert(node: &Node, text: &str) {
    execute(node.listen, &format!("INSERT INTO t VALUES ('{text}')"), &[]).unwrap();
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a second writer until the first one's place is free.
fn start_when_the_lease_is_over(node: &mut Node) {
    wait_until("the lease is over", || {
        node.start();
        match node.ready_or_ended() {
            None => true,
            Some(code) => {
                assert_eq!(code, 4, "{}", node.logged());
                assert!(node.logged().contains("HOLDER_ALIVE"), "{}", node.logged());
                false
            }
        }
    });
}

#[test]
fn a_writer_that_was_stopped_past_its_lease_writes_nothing_after_the_takeover() {
    for take_over in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut old = started(dir.path(), "old", "writer");
        execute(old.listen, "CREATE TABLE t(a)", &[]).unwrap();
        insert(&old, "before");
        stop_between_groups(&old, &dir.path().join("main.db"));
        // These wait at its port, as what clients sent into the pause does.
        let write = |n: usize| pipeline(None, &[&format!("INSERT INTO t VALUES ('late {n}')")]);
        let late = |n| ask(old.listen, "POST", "/v2/pipeline", &write(n)).unwrap();
        let waiting: Vec<_> = (0..8).map(late).collect();

        let mut new = node(dir.path(), "new", "writer");
        if take_over {
            new.start_and(&["--take-over"]);
            new.wait_ready();
        } else {
            start_when_the_lease_is_over(&mut new);
        }
        insert(&new, "after the takeover");
        old.signal(libc::SIGCONT);
        for stream in waiting {
            let (status, body) = answer(stream).expect("an answer");
            let body: Json = serde_json::from_str(&body).unwrap();
            let error = match status {
                200 => &body["results"][0]["error"],
                _ => &body["error"],
            };
            assert_eq!(error["code"], "FENCED", "{status}: {body}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("\"new\""), "it does not say who has the epoch: {message}");
        }
        assert_eq!(old.wait_ended(), 4, "{}", old.logged());
        insert(&new, "and on");
        assert_eq!(rows(&new), ["before", "after the takeover", "and on"]);
        old.start();
        assert_eq!(old.ready_or_ended(), Some(4), "the new writer lives");
        let log = old.logged();
        assert!(log.contains("HOLDER_ALIVE") && log.contains("\"new\""), "{log}");
    }
}

/// It has written, and not committed: SQLite's lock is its own, and nobody can take that away. So the
/// takeover waits, gives up, and says whom to wake or to kill.
#[test]
fn a_writer_that_was_stopped_inside_a_group_is_named_by_the_takeover() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = started(dir.path(), "old", "writer");
    execute(old.listen, "CREATE TABLE t(a)", &[]).unwrap();
    let mine = stream(&old, None, &["BEGIN IMMEDIATE", "INSERT INTO t VALUES ('unfinished')"]);
    old.signal(libc::SIGSTOP);
    let mut new = node(dir.path(), "new", "writer");
    new.start_and(&["--take-over"]);
    assert_eq!(new.ready_or_ended(), Some(4), "{}", new.logged());
    let log = new.logged();
    assert!(log.contains("HOLDER_STOPPED"), "{log}");
    assert!(log.contains(&format!("process {}", old.pid())), "the process is not named: {log}");

    // Continued, it is the writer it was: nobody has taken anything from it.
    old.signal(libc::SIGCONT);
    stream(&old, Some(&mine), &["COMMIT"]);
    assert_eq!(rows(&old), ["unfinished"]);

    // Killed, it leaves the lock, and nothing of what it had not committed.
    stream(&old, None, &["BEGIN IMMEDIATE", "INSERT INTO t VALUES ('never')"]);
    old.signal(libc::SIGSTOP);
    old.kill();
    new.start_and(&["--take-over"]);
    new.wait_ready();
    insert(&new, "after");
    assert_eq!(rows(&new), ["unfinished", "after"]);
}

/// Where a node's copy stands, without how far it was recounted.
fn stands(node: &Node) -> Vec<Json> {
    let position = node.position().unwrap();
    ["epoch", "version", "chain", "digest"].map(|key| position[key].clone()).into()
}

#[test]
fn a_reader_is_promoted_only_when_the_writer_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = started(dir.path(), "old", "writer");
    execute(old.listen, "CREATE TABLE t(a)", &[]).unwrap();
    let reader = started(dir.path(), "reader", "reader");
    insert(&old, "by the old one");
    let promote = |node: &Node| {
        request(node.admin, "POST", "/v1/databases/main/promote", "{\"accept_loss\": false}")
    };
    let (status, refused) = promote(&reader).unwrap();
    assert_eq!(status, 409, "{refused}");
    assert!(refused.contains("HOLDER_ALIVE") && refused.contains("\\\"old\\\""), "{refused}");
    insert(&reader, "forwarded");
    assert_eq!(rows(&old), ["by the old one", "forwarded"], "the refusal changed nothing");
    old.kill();
    let (status, promoted) = promote(&reader).unwrap();
    assert_eq!(status, 200, "{promoted}");
    insert(&reader, "by the promoted one");
    assert_eq!(rows(&reader), ["by the old one", "forwarded", "by the promoted one"]);
}

/// Whoever wrote meanwhile has checkpointed, and (killed) left a write-ahead log beside a main file that
/// the old writer never saw. That is no restore: taken for one, the log would be set aside, and every
/// write in it lost.
#[test]
fn a_writer_that_died_comes_back_by_the_rules() {
    for how_the_other_ends in [libc::SIGTERM, libc::SIGKILL] {
        let dir = tempfile::tempdir().unwrap();
        let mut old = started(dir.path(), "old", "writer");
        execute(old.listen, "CREATE TABLE t(a)", &[]).unwrap();
        insert(&old, "by the old one");
        let mut other = started(dir.path(), "other", "reader");
        old.kill();
        let promoted = request(other.admin, "POST", "/v1/databases/main/promote", "{}").unwrap();
        assert_eq!(promoted.0, 200, "{promoted:?}");
        insert(&other, "by the other");
        // While that one lives, the old one may not come back as a writer …
        old.start();
        assert_eq!(old.ready_or_ended(), Some(4), "{}", old.logged());
        assert!(old.logged().contains("\"other\""), "{}", old.logged());
        insert(&other, "by the other, still");
        // … afterwards it may, with everything that was written meanwhile.
        other.signal(how_the_other_ends);
        other.wait_ended();
        old.start();
        old.wait_ready();
        insert(&old, "by the old one again");
        let all = ["by the old one", "by the other", "by the other, still", "by the old one again"];
        assert_eq!(rows(&old), all);
        // Started again as it is configured, the other one is a reader, and equal.
        other.start();
        other.wait_ready();
        wait_until("the reader is equal", || stands(&other) == stands(&old));
        assert_eq!(rows(&other), all);
    }
}
