//! The change feed and the snapshot: what an application that follows a database is told.

mod http;

use http::{Answer, Running, SOON, chunk, send, write};
use serde_json::{Value as Json, json};
use syncline::api::Server;
use syncline::engine::{Database, DatabaseOptions};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

struct Node {
    running: Running,
    database: Database,
    _dir: tempfile::TempDir,
}

impl Node {
    async fn start() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let options = DatabaseOptions::writer(dir.path().join("main.db"));
        let database =
            tokio::task::spawn_blocking(|| Database::open(options)).await.unwrap().unwrap();
        let served = database.clone();
        let running = Running::start(|advertise| {
            Server::new("a", advertise).database(served).unwrap().default_database("main")
        })
        .await;
        Node { running, database, _dir: dir }
    }

    /// Runs a statement; returns the position after it.
    async fn run(&self, sql: &str) -> String {
        let body =
            json!({"requests": [{"type": "execute", "stmt": {"sql": sql}}, {"type": "close"}]});
        let head = "POST /v2/pipeline HTTP/1.1\nhost: localhost";
        let answer = send(&self.running.client, head, body.to_string().as_bytes()).await;
        assert_eq!(answer.json()["results"][0]["type"], "ok", "{}", answer.text());
        answer.header("syncline-position").unwrap().to_owned()
    }

    async fn get(&self, path: &str, headers: &str) -> Answer {
        let head = format!("GET /v1/databases/main/{path} HTTP/1.1\nhost: localhost\n{headers}");
        send(&self.running.client, &head, b"").await
    }

    /// Everything after `position`, line by line.
    async fn changes(&self, position: &str, more: &str) -> Vec<Json> {
        let answer = self.get(&format!("changes?after={position}{more}"), "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        lines(&answer)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let database = self.database.clone();
        std::thread::spawn(move || database.close()).join().unwrap();
    }
}

fn lines(answer: &Answer) -> Vec<Json> {
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_commit_is_told_with_the_names_it_had() {
    let node = Node::start().await;
    let begin = node.database.position().to_string();
    node.run("CREATE TABLE t(id INTEGER PRIMARY KEY, old)").await;
    let inserted = node.run("INSERT INTO t VALUES (1, 'x'), (2, x'00ff')").await;
    node.run("ALTER TABLE t RENAME COLUMN old TO new").await;
    node.run("UPDATE t SET new = 9007199254740993 WHERE id = 1").await;
    node.run("CREATE TABLE plain(line)").await;
    let last = node.run("INSERT INTO plain VALUES (1.5)").await;

    let commits = node.changes(&begin, "").await;
    assert_eq!(commits.len(), 6, "{commits:#?}");
    assert_eq!(commits[1]["position"], inserted);
    assert!(commits[1]["at"].as_str().is_some_and(|at| at.starts_with("20") && at.ends_with('Z')));
    assert_eq!(
        commits[1]["changes"],
        json!([
            {"table": "t", "op": "insert", "key": {"id": 1}, "after": {"id": 1, "old": "x"}},
            {"table": "t", "op": "insert", "key": {"id": 2}, "after": {"id": 2, "old": {"base64": "AP8"}}},
        ])
    );
    assert_eq!(commits[2]["changes"][0]["op"], "schema");
    assert_eq!(
        commits[3]["changes"],
        json!([
            {"table": "t", "op": "update", "key": {"id": 1}, "before": {"id": 1, "new": "x"},
             "after": {"id": 1, "new": {"integer": "9007199254740993"}}},
        ])
    );
    assert_eq!(
        commits[5]["changes"],
        json!([
            {"table": "plain", "op": "insert", "key": {"rowid": 1}, "after": {"line": 1.5}},
        ])
    );

    let rest = node.changes(&inserted, "&tables=plain,none").await;
    assert_eq!(rest.len(), 2, "{rest:#?}");
    assert_eq!(rest[1]["position"], last);
    assert!(node.changes(&last, "").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_of_each_commit_as_it_comes() {
    let node = Node::start().await;
    let begin = node.run("CREATE TABLE t(a INTEGER PRIMARY KEY)").await;
    let mut stream = TcpStream::connect(&node.running.client).await.unwrap();
    let head = format!(
        "GET /v1/databases/main/changes?after={begin}&follow=true HTTP/1.1\nhost: localhost\n\
         accept: text/event-stream"
    );
    write(&mut stream, &head, b"").await;
    let mut answered = Vec::new();
    while !answered.ends_with(b"\r\n\r\n") {
        answered.push(stream.read_u8().await.unwrap());
    }
    let answered = String::from_utf8(answered).unwrap();
    assert!(answered.contains("content-type: text/event-stream"), "{answered}");
    for n in 1..=3 {
        let position = node.run(&format!("INSERT INTO t VALUES ({n})")).await;
        let event = tokio::time::timeout(SOON, chunk(&mut stream)).await.expect("an event");
        let event = String::from_utf8(event).unwrap();
        let data = event.strip_prefix(&format!("id: {position}\ndata: ")).expect(&event);
        assert!(data.ends_with("\n\n"));
        let commit: Json = serde_json::from_str(data).unwrap();
        assert_eq!(commit["changes"][0]["after"], json!({"a": n}));
    }
    // Connecting again with the last id goes on after it.
    let last = node.database.position().to_string();
    let again = node.get("changes", &format!("last-event-id: {last}")).await;
    assert_eq!((again.status, again.text()), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_of_another_history_is_refused() {
    let node = Node::start().await;
    node.run("CREATE TABLE t(a)").await;
    let now = node.database.position();
    let fork = format!("{}.{}.{:032x}", now.epoch, now.version, 0xbad);
    let answer = node.get(&format!("changes?after={fork}&follow=true"), "").await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "DIVERGED"), "{}", answer.text());
    let wrong = node.get("changes?after=12", "").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "POSITION_INVALID"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_the_changes_after_it_give_everything() {
    let node = Node::start().await;
    node.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a)").await;
    node.run("CREATE TABLE plain(line)").await;
    node.run("CREATE INDEX i ON t(a)").await;
    node.run("INSERT INTO t VALUES (1, 'x'), (2, NULL)").await;
    let position = node.run("INSERT INTO plain VALUES ('p')").await;
    let answer = node.get("snapshot", "").await;
    assert_eq!(answer.status, 200);
    let lines = lines(&answer);
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("schema").len(), 3, "{lines:#?}");
    assert_eq!(
        of("row"),
        [
            &json!({"type": "row", "table": "t", "values": {"id": 1, "a": "x"}}),
            &json!({"type": "row", "table": "t", "values": {"id": 2, "a": null}}),
            &json!({"type": "row", "table": "plain", "rowid": 1, "values": {"line": "p"}}),
        ]
    );
    let end = json!({"type": "position", "position": position});
    assert_eq!(lines.last(), Some(&end));
    assert!(node.changes(&position, "").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_commit_is_told_in_pieces_and_whole() {
    let node = Node::start().await;
    let begin = node.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b)").await;
    node.run(
        "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 4000) \
         SELECT n, hex(randomblob(500)) FROM c",
    )
    .await;
    let commits = node.changes(&begin, "").await;
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0]["changes"].as_array().unwrap().len(), 4_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_server() {
    let mut node = Node::start().await;
    let mut stream = TcpStream::connect(&node.running.client).await.unwrap();
    let head = "GET /v1/databases/main/changes?follow=true HTTP/1.1\nhost: localhost";
    write(&mut stream, head, b"").await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    node.running.ask_to_end();
    let last = tokio::time::timeout(SOON, chunk(&mut stream)).await.expect("the end");
    assert!(last.is_empty(), "a whole chunked body, ended");
}
