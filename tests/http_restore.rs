//! A restore, seen over HTTP: by a subscriber of the change feed, and by whoever brings back what was
//! undone, at a reader.

mod http;

use std::path::PathBuf;
use std::time::Duration;

use http::{Answer, Running, SOON, chunk, send, write};
use serde_json::{Value as Json, json};
use syncline::api::Server;
use syncline::engine::{Database, DatabaseOptions, OnRestore, WorkingCopy};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// Rows of the commit that is undone: more than one part of the log can take.
const ROWS: usize = 2_000;

struct Node {
    running: Running,
    database: Database,
}

impl Node {
    async fn start(mut options: DatabaseOptions) -> Node {
        let listen = TcpListener::bind("127.0.0.1:0").await.unwrap();
        options.advertise = format!("http://{}", listen.local_addr().unwrap());
        let name = options.node.clone();
        let database =
            tokio::task::spawn_blocking(|| Database::open(options)).await.unwrap().unwrap();
        let served = database.clone();
        let build = move |advertise: &str| {
            Server::new(name, advertise).database(served).unwrap().default_database("main")
        };
        Node { running: Running::on(listen, build).await, database }
    }

    async fn end(mut self) {
        self.running.ask_to_end();
        self.running.ended().await;
        let database = self.database;
        tokio::task::spawn_blocking(move || database.close()).await.unwrap();
    }

    async fn run(&self, sql: &str) -> Json {
        let requests = json!([{"type": "execute", "stmt": {"sql": sql}}, {"type": "close"}]);
        let body = json!({ "requests": requests }).to_string();
        let head = "POST /v2/pipeline HTTP/1.1\nhost: localhost";
        let answer = send(&self.running.client, head, body.as_bytes()).await;
        assert_eq!(answer.json()["results"][0]["type"], "ok", "{}", answer.text());
        answer.json()["results"][0]["response"]["result"].clone()
    }

    async fn ids(&self) -> Vec<String> {
        let rows = self.run("SELECT id FROM t WHERE id < 100 ORDER BY id").await["rows"].clone();
        let id = |row: &Json| row[0]["value"].as_str().unwrap().to_owned();
        rows.as_array().unwrap().iter().map(id).collect()
    }

    async fn changes(&self, after: &str) -> Answer {
        let path = format!("/v1/databases/main/changes?after={after}");
        let head = format!("GET {path} HTTP/1.1\nhost: localhost");
        send(&self.running.client, &head, b"").await
    }

    async fn admin(&self, method: &str, path: &str) -> Answer {
        let head = format!("{method} /v1/databases/main/{path} HTTP/1.1\nhost: localhost");
        send(&self.running.admin, &head, b"").await
    }

    async fn held(&self) -> Vec<Json> {
        self.admin("GET", "held").await.json()["held"].as_array().unwrap().clone()
    }
}

/// A subscriber that follows, and what it was told and has not been asked for yet.
struct Follower {
    stream: TcpStream,
    told: String,
}

impl Follower {
    async fn of(node: &Node, after: &str) -> Follower {
        let mut stream = TcpStream::connect(&node.running.client).await.unwrap();
        let path = format!("/v1/databases/main/changes?after={after}&follow=true");
        write(&mut stream, &format!("GET {path} HTTP/1.1\nhost: localhost"), b"").await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        Follower { stream, told: String::new() }
    }

    /// The next line; none at the end of the stream.
    async fn line(&mut self) -> Option<Json> {
        while !self.told.contains('\n') {
            let piece = tokio::time::timeout(SOON, chunk(&mut self.stream)).await.expect("a line");
            if piece.is_empty() {
                return None;
            }
            self.told.push_str(std::str::from_utf8(&piece).unwrap());
        }
        let (line, rest) = self.told.split_once('\n').map(|(l, r)| (l.to_owned(), r.to_owned()))?;
        self.told = rest;
        Some(serde_json::from_str(&line).unwrap())
    }
}

async fn in_step(writer: &Node, reader: &Node) {
    let same = async {
        while writer.database.position() != reader.database.position() {
            reader.database.wake();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, same).await.expect("the reader is in step");
}

/// A writer and a reader; a backup was put back after the last commits, a large one among them.
struct Restored {
    writer: Node,
    reader: Node,
    follower: Follower,
    /// The last position that was kept, and those that were undone.
    kept: String,
    undone: [String; 2],
    _dir: tempfile::TempDir,
}

impl Restored {
    async fn new(working_copy: WorkingCopy) -> Restored {
        let dir = tempfile::tempdir().unwrap();
        let file = |suffix: &str| -> PathBuf { dir.path().join(format!("main.db{suffix}")) };
        let mut options = DatabaseOptions::writer(file(""));
        options.data_dir = dir.path().join("a");
        options.on_restore = OnRestore::Adopt;
        let writer = Node::start(options.clone()).await;
        let mut reading = DatabaseOptions::reader(file(""), dir.path().join("r"));
        reading.node = "r".into();
        reading.working_copy = working_copy;
        let reader = Node::start(reading).await;
        writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a)").await;
        writer.run("INSERT INTO t VALUES (1, 'kept')").await;
        let kept = writer.database.position().to_string();
        back_up(&file(""), &file("-backup"));
        writer.run("INSERT INTO t VALUES (2, 'undone')").await;
        let small = writer.database.position().to_string();
        writer
            .run(&format!(
                "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM c \
                 LIMIT {ROWS}) SELECT n, hex(randomblob(500)) FROM c"
            ))
            .await;
        let large = writer.database.position().to_string();
        in_step(&writer, &reader).await;
        let mut follower = Follower::of(&reader, &kept).await;
        for (position, changes) in [(&small, 1), (&large, ROWS)] {
            let commit = follower.line().await.unwrap();
            assert_eq!(commit["position"].as_str(), Some(position.as_str()));
            assert_eq!(commit["changes"].as_array().unwrap().len(), changes);
        }
        writer.end().await;
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(file(suffix));
        }
        std::fs::rename(file("-backup"), file("")).unwrap();
        let writer = Node::start(options).await;
        writer.run("INSERT INTO t VALUES (3, 'new')").await;
        in_step(&writer, &reader).await;
        Restored { writer, reader, follower, kept, undone: [small, large], _dir: dir }
    }

    async fn end(self) {
        self.reader.end().await;
        self.writer.end().await;
    }
}

fn back_up(from: &std::path::Path, to: &std::path::Path) {
    let from = rusqlite::Connection::open(from).unwrap();
    let mut to = rusqlite::Connection::open(to).unwrap();
    let backup = rusqlite::backup::Backup::new(&from, &mut to).unwrap();
    backup.run_to_completion(1_000, Duration::ZERO, None).unwrap();
}

/// What a subscriber was told of is undone. It must hear of that, and where to go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_told_that_its_history_was_undone_and_where() {
    for working_copy in [WorkingCopy::Memory, WorkingCopy::Disk] {
        let mut restored = Restored::new(working_copy).await;
        let last = restored.follower.line().await.expect("a reason");
        assert_eq!(last["error"]["code"], "DIVERGED", "{last}");
        assert_eq!(restored.follower.line().await, None, "and that is the end");
        for undone in &restored.undone {
            let answer = restored.reader.changes(undone).await;
            assert_eq!((answer.status, answer.code().as_str()), (409, "DIVERGED"));
            assert!(answer.text().contains(&restored.kept), "{}", answer.text());
        }
        let answer = restored.reader.changes(&restored.kept).await;
        let commits: Vec<Json> =
            answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(commits.len(), 1, "{commits:?}");
        assert_eq!(commits[0]["changes"][0]["after"], json!({"id": 3, "a": "new"}));
        // A position that nobody here ever had: where it parted is not known, and not made up.
        let stranger = format!("9.2.{:032x}", 0xbad);
        let answer = restored.reader.changes(&stranger).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "DIVERGED"));
        assert!(!answer.text().contains(&restored.kept), "{}", answer.text());
        restored.end().await;
    }
}

/// The reader is the one that holds what was undone; brought back from there, it becomes a commit of the
/// writer's, once.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_holds_is_replayed_at_the_writer() {
    for working_copy in [WorkingCopy::Memory, WorkingCopy::Disk] {
        let restored = Restored::new(working_copy).await;
        let (writer, reader) = (&restored.writer, &restored.reader);
        let held = reader.held().await;
        let positions: Vec<_> = held.iter().map(|h| h["position"].as_str().unwrap()).collect();
        assert_eq!(positions, restored.undone);
        assert_eq!((&held[0]["reason"], &held[0]["changes"]), (&json!("undone"), &json!(1)));
        assert_eq!(held[1]["changes"], ROWS);
        let shown = reader.admin("GET", &format!("held/{}", held[0]["id"])).await.json();
        assert!(shown["detail"][0].as_str().unwrap().contains("\"undone\""), "{shown}");

        // One that is in its way: it stays held, and the writer is as it was.
        writer.run("INSERT INTO t VALUES (2, 'in the way')").await;
        let before = writer.database.position();
        let replay = format!("held/{}/replay", held[0]["id"]);
        let refused = reader.admin("POST", &replay).await;
        assert_eq!((refused.status, refused.code().as_str()), (409, "REPLAY_REFUSED"));
        assert!(refused.text().contains("REPLAY_CONFLICT"), "{}", refused.text());
        assert_eq!((reader.held().await.len(), writer.database.position()), (2, before));

        writer.run("DELETE FROM t WHERE id = 2").await;
        for (one, rest) in held.iter().zip([1, 0]) {
            let replay = format!("held/{}/replay", one["id"]);
            let replayed = reader.admin("POST", &replay).await;
            assert_eq!(replayed.status, 200, "{}", replayed.text());
            let position = writer.database.position().to_string();
            assert_eq!(replayed.json()["position"].as_str(), Some(position.as_str()));
            assert_eq!(reader.held().await.len(), rest, "it is held no longer");
            let again = reader.admin("POST", &replay).await;
            assert_eq!((again.status, again.code().as_str()), (404, "HELD_UNKNOWN"));
        }
        in_step(writer, reader).await;
        assert_eq!(reader.ids().await, ["1", "2", "3"]);
        let large = reader.run("SELECT count(*) FROM t WHERE id >= 100").await;
        assert_eq!(large["rows"][0][0]["value"], ROWS.to_string());
        restored.end().await;
    }
}
