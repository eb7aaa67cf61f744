//! `diff` and `sync` with nodes: processes of both, a file, PostgreSQL, and clients that write meanwhile.

mod cluster;
#[path = "support/postgres.rs"]
mod postgres;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster::{Node, execute, request};
use rusqlite::Connection;
use serde_json::{Value as Json, json};

/// Tables of every shape: with a key of each kind, without one, without rows.
const SCHEMA: [&str; 7] = [
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, state TEXT NOT NULL, total REAL, note BLOB)",
    "CREATE TABLE names (name TEXT PRIMARY KEY, at INTEGER) WITHOUT ROWID",
    "CREATE TABLE lines (orders INTEGER, line TEXT)",
    "CREATE TABLE empty (id INTEGER PRIMARY KEY)",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
     INSERT INTO orders SELECT i, 'state ' || (i % 5), i * 0.5, CASE i % 3 WHEN 0 THEN NULL ELSE zeroblob(i % 7) END FROM n",
    "INSERT INTO names SELECT 'name ' || id, id FROM orders WHERE id <= 300",
    "INSERT INTO lines SELECT id % 20, 'line' FROM orders WHERE id <= 100",
];

/// A writer on a file, and a reader with its copy in memory.
struct Pair {
    writer: Node,
    reader: Node,
    directory: tempfile::TempDir,
}

impl Pair {
    fn start() -> Pair {
        let directory = tempfile::tempdir().unwrap();
        let backing =
            format!("backing = \"sqlite:{}\"\n", directory.path().join("main.db").display());
        let mut writer = Node::new(directory.path(), "writer", &backing);
        writer.start();
        writer.wait_ready();
        let body = format!("role = \"reader\"\nworking_copy = \"memory\"\n{backing}");
        let mut reader = Node::new(directory.path(), "reader", &body);
        reader.start();
        reader.wait_ready();
        let pair = Pair { writer, reader, directory };
        for sql in SCHEMA {
            pair.run(sql);
        }
        pair
    }

    /// Through the reader: it answers when it shows what was written.
    fn run(&self, sql: &str) {
        execute(self.reader.listen, sql, &[]).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn main_of(node: &Node) -> String {
    format!("http://{}/main", node.listen)
}

fn syncline(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncline"));
    command.args(arguments).env_remove("SYNCLINE_TOKEN").output().unwrap()
}

/// Runs it, and expects this exit; what it printed.
fn expect(exit: i32, arguments: &[&str]) -> String {
    let output = syncline(arguments);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {text}");
    text
}

/// Table, key and difference of each row that differs.
fn differing(a: &str, b: &str) -> Vec<(String, Json, String)> {
    let printed = expect(1, &["diff", a, b, "--json", "--rows", "0"]);
    let lines = printed.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let rows = lines.filter(|line| line["type"] == "row");
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    rows.map(|row| (text(&row["table"]), row["key"].clone(), text(&row["difference"]))).collect()
}

/// Rows of a table that differed at first, and did no longer.
fn in_flight_of(line: &str) -> u64 {
    serde_json::from_str::<Json>(line).unwrap()["in_flight"].as_u64().unwrap_or(0)
}

fn edit(file: &Path, sql: &str) {
    Connection::open(file).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_node_is_compared_and_copied_like_any_database() {
    let pair = Pair::start();
    let copy = pair.file("copy.db");
    let (writer, reader) = (main_of(&pair.writer), main_of(&pair.reader));
    let copy_url = copy.to_str().unwrap();
    expect(0, &["sync", &writer, copy_url, "--create"]);
    let root = format!("http://{}", pair.writer.listen);
    let long = format!("http://{}/v1/databases/main", pair.reader.listen);
    for node in [&writer, &reader, &root, &long] {
        let text = expect(0, &["diff", node, copy_url]);
        assert!(text.contains("orders") && text.contains("2,000"), "{text}");
        assert!(!text.contains("_syncline"), "{text}");
    }
    edit(
        &copy,
        "UPDATE orders SET state = 'lost' WHERE id = 77; DELETE FROM orders WHERE id = 2000; \
         INSERT INTO names VALUES ('nobody', 1)",
    );
    let expected = [
        ("names".to_owned(), json!({"name": "nobody"}), "only_in_b".to_owned()),
        ("orders".to_owned(), json!({"id": 77}), "changed".to_owned()),
        ("orders".to_owned(), json!({"id": 2000}), "only_in_a".to_owned()),
    ];
    assert_eq!(differing(&writer, copy_url), expected);
    assert_eq!(differing(&reader, copy_url), expected);
    expect(0, &["sync", &reader, copy_url, "--yes"]);
    expect(0, &["diff", copy_url, &writer]);
    expect(0, &["diff", &writer, &reader]);
}

#[test]
fn a_node_goes_to_postgres() {
    let Some(server) = postgres::Server::get() else { return };
    let pair = Pair::start();
    let (node, there) = (main_of(&pair.reader), server.database());
    expect(0, &["sync", &node, &there, "--create"]);
    expect(0, &["diff", &node, &there]);
    pair.run("UPDATE orders SET total = total + 1 WHERE id % 100 = 0");
    pair.run("DELETE FROM names WHERE at = 5");
    assert_eq!(differing(&node, &there).len(), 21);
    expect(0, &["sync", &node, &there, "--yes"]);
    let name = there.rsplit('/').next().unwrap();
    assert_eq!(server.sql(name, "SELECT sum(total) FROM orders").trim(), "1000520");
    expect(0, &["diff", &there, &main_of(&pair.writer)]);
}

/// What is written behind a node's back would be in no commit.
#[test]
fn a_node_is_no_target() {
    let pair = Pair::start();
    let copy = pair.file("copy.db");
    edit(
        &copy,
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, state TEXT NOT NULL, total REAL, note BLOB)",
    );
    let copy = copy.to_str().unwrap();
    let before = pair.writer.position().unwrap();
    for node in [&pair.writer, &pair.reader] {
        let text = expect(2, &["sync", copy, &main_of(node), "--yes"]);
        assert!(text.contains("ENDPOINT_FORBIDDEN") && text.contains("clients"), "{text}");
        // What would change may be asked.
        let text = expect(0, &["sync", copy, &main_of(node), "--dry-run", "--tables", "orders"]);
        assert!(text.contains("2,000"), "{text}");
    }
    assert_eq!(pair.writer.position().unwrap(), before);
}

#[test]
fn a_wrong_address_says_what_to_write() {
    let pair = Pair::start();
    let copy = pair.file("copy.db");
    edit(&copy, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let wrong = format!("http://{}/shop", pair.writer.listen);
    let text = expect(2, &["diff", copy.to_str().unwrap(), &wrong]);
    assert!(text.contains("ENDPOINT_NOT_FOUND") && text.contains("/main"), "{text}");
    let admin = format!("http://{}/main", pair.writer.admin);
    let text = expect(2, &["diff", copy.to_str().unwrap(), &admin]);
    assert!(text.contains("ENDPOINT_NOT_FOUND"), "{text}");
}

/// Clients write all the time: nothing that is on its way is reported, and nobody has to wait.
#[test]
fn rows_in_flight_are_no_difference() {
    let pair = Pair::start();
    let (writer, reader) = (main_of(&pair.writer), main_of(&pair.reader));
    let (stop, listen) = (AtomicBool::new(false), pair.writer.listen);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let id = 1 + round * 7 % 2000;
                let update = format!("UPDATE orders SET total = -{round} WHERE id = {id}");
                execute(listen, &update, &[]).unwrap();
                execute(listen, "INSERT INTO orders (state) VALUES ('new')", &[]).unwrap();
            }
        });
        let until = Instant::now() + Duration::from_secs(60);
        let (mut in_flight, mut verdict) = (0, Ok(()));
        while verdict.is_ok() && in_flight < 3 && Instant::now() < until {
            let output = syncline(&["diff", &writer, &reader, "--settle", "1s", "--json"]);
            let printed = String::from_utf8(output.stdout).unwrap();
            in_flight += printed.lines().map(in_flight_of).sum::<u64>();
            verdict = if output.status.success() { Ok(()) } else { Err(printed) };
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(verdict, Ok(()));
        assert!(in_flight > 0, "no comparison met a row on its way");
    });
    // Once it is quiet, both are the same in every row.
    let until = Instant::now() + Duration::from_secs(20);
    while pair.reader.position() != pair.writer.position() {
        assert!(Instant::now() < until, "the reader does not follow");
        std::thread::sleep(Duration::from_millis(5));
    }
    expect(0, &["diff", &writer, &reader]);
}

/// A node that is asked to end does, whoever still compares.
#[test]
fn a_session_keeps_no_node_from_ending() {
    use syncline::endpoint::Endpoint;
    use syncline::endpoint::http::{HttpEndpoint, Login};
    use syncline::endpoint::sqlite::Access;
    let mut pair = Pair::start();
    let mut session =
        HttpEndpoint::open(&main_of(&pair.writer), Access::Read, &Login::default()).unwrap();
    session.begin().unwrap();
    assert_eq!(session.tables().unwrap().len(), 4);
    assert_eq!(request(pair.writer.listen, "GET", "/health", "").unwrap().0, 200);
    pair.writer.signal(libc::SIGTERM);
    assert_eq!(pair.writer.wait_ended(), 0);
    assert_eq!(session.tables().unwrap_err().code(), "ENDPOINT_UNREACHABLE");
}
