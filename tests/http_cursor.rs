//! `POST /v3/cursor`: its lines, and that those of a read leave while it still runs.

mod http;

use std::time::Duration;

use http::{Answer, Running, SOON, chunk, read, send, write};
use serde_json::{Value as Json, json};
use syncline::api::{HttpLimits, Server};
use syncline::engine::{Database, DatabaseOptions};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Numbers up to `$`, each with half a kilobyte of text.
const MANY: &str = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < $)
    SELECT i, hex(zeroblob(250)) AS filler FROM n";

fn many(rows: u64) -> String {
    MANY.replace('$', &rows.to_string())
}

fn endless() -> String {
    many(i64::MAX as u64)
}

/// A writer on a database of its own.
struct Node {
    running: Running,
    database: Database,
    _dir: tempfile::TempDir,
}

impl Node {
    async fn start() -> Node {
        Node::with(HttpLimits::default(), |_| {}).await
    }

    async fn with(limits: HttpLimits, change: impl FnOnce(&mut DatabaseOptions)) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let mut options = DatabaseOptions::writer(dir.path().join("main.db"));
        change(&mut options);
        let database =
            tokio::task::spawn_blocking(|| Database::open(options)).await.unwrap().unwrap();
        let served = database.clone();
        let running = Running::start(|advertise| {
            let server = Server::new("a", advertise).limits(limits);
            server.database(served).unwrap().default_database("main")
        })
        .await;
        Node { running, database, _dir: dir }
    }

    async fn cursor(&self, baton: Option<&str>, steps: Json) -> Answer {
        send(&self.running.client, HEAD, &body(baton, &steps)).await
    }

    /// Sends a batch, and leaves its answer where it is.
    async fn asked(&self, baton: Option<&str>, steps: Json) -> TcpStream {
        let mut socket = TcpStream::connect(&self.running.client).await.unwrap();
        write(&mut socket, HEAD, &body(baton, &steps)).await;
        socket
    }

    async fn lines(&self, sql: &str) -> Vec<Json> {
        lines(&self.cursor(None, json!([step(sql)])).await)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let database = self.database.clone();
        std::thread::spawn(move || database.close()).join().unwrap();
    }
}

const HEAD: &str = "POST /v3/cursor HTTP/1.1\nhost: localhost";

fn body(baton: Option<&str>, steps: &Json) -> Vec<u8> {
    json!({"baton": baton, "batch": {"steps": steps}}).to_string().into_bytes()
}

fn step(sql: &str) -> Json {
    json!({"stmt": {"sql": sql}})
}

fn when(condition: Json, sql: &str) -> Json {
    json!({"stmt": {"sql": sql}, "condition": condition})
}

fn lines(answer: &Answer) -> Vec<Json> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let text = answer.text();
    assert!(text.ends_with("{\"type\":\"replication_index\",\"replication_index\":null}\n"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the lines are; rows are counted.
fn kinds(lines: &[Json]) -> Vec<String> {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for line in &lines[1..] {
        let kind = line["type"].as_str().unwrap();
        match kinds.last_mut() {
            Some((last, count)) if last == kind => *count += 1,
            _ => kinds.push((kind.to_owned(), 1)),
        }
    }
    kinds.into_iter().map(|(kind, n)| if n == 1 { kind } else { format!("{n} {kind}") }).collect()
}

fn is_streamed(answer: &Answer) -> bool {
    answer.header("transfer-encoding") == Some("chunked")
}

fn baton(lines: &[Json]) -> &str {
    lines[0]["baton"].as_str().expect("the stream stays open")
}

/// Reads until the head of the answer and some of its body are there.
async fn beginning(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let mut text = String::new();
    while !text.contains("\"row\"") {
        text += std::str::from_utf8(&chunk(socket).await).unwrap();
    }
    text
}

/// A read that is answered while it runs has the lines that it has when all of it is there at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_the_same_lines_however_they_leave() {
    let node = Node::start().await;
    for rows in [3u64, 5000] {
        let answer = node
            .cursor(
                None,
                json!([
                    step(&many(rows)),
                    step("SELECT nothing"),
                    when(json!({"type": "ok", "step": 1}), "SELECT 'skipped'"),
                    when(json!({"type": "error", "step": 1}), "SELECT 7 AS seven WHERE 0"),
                    step("PRAGMA journal_mode"),
                ]),
            )
            .await;
        assert!(is_streamed(&answer) || rows < 5000, "{:?}", answer.headers);
        let lines = lines(&answer);
        assert_eq!(
            kinds(&lines),
            [
                "step_begin",
                &format!("{rows} row"),
                "step_end",
                "step_error",
                "step_begin",
                "step_end",
                "step_begin",
                "row",
                "step_end",
                "replication_index"
            ]
        );
        let cols = json!([{"name": "i", "decltype": null}, {"name": "filler", "decltype": null}]);
        assert_eq!(lines[1], json!({"type": "step_begin", "step": 0, "cols": cols}));
        for (i, line) in (1..=rows).zip(&lines[2..]) {
            assert_eq!(line["row"][0], json!({"type": "integer", "value": i.to_string()}));
            assert_eq!(line["row"][1], json!({"type": "text", "value": "0".repeat(500)}));
        }
        let rest = &lines[2 + rows as usize..];
        let end = json!({"type": "step_end", "affected_row_count": 0, "last_insert_rowid": null});
        assert_eq!(rest[0], end);
        assert_eq!(rest[1]["step"], 1);
        assert_eq!(rest[1]["error"]["code"], "SQL_PARSE_ERROR");
        assert_eq!(rest[2]["step"], 3);
        assert_eq!(rest[2]["cols"][0]["name"], "seven");
        assert_eq!(rest[5]["row"], json!([{"type": "text", "value": "wal"}]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_writes_is_answered_when_it_is_written() {
    let node = Node::start().await;
    let steps = json!([
        step("CREATE TABLE t(a UNIQUE)"),
        step("INSERT INTO t VALUES (1), (2)"),
        step("INSERT INTO t VALUES (2)"),
        step("SELECT a FROM t"),
    ]);
    let answer = node.cursor(None, steps).await;
    assert!(!is_streamed(&answer) && answer.header("syncline-receipt").is_some());
    let written = lines(&answer);
    assert_eq!(written[4]["affected_row_count"], 2);
    assert_eq!(written[4]["last_insert_rowid"], "2");
    assert_eq!(written[5]["error"]["extended_code"], "SQLITE_CONSTRAINT_UNIQUE");
    assert_eq!(kinds(&written[5..]), ["step_begin", "2 row", "step_end", "replication_index"]);

    // Only when it is prepared does this one prove to write.
    let sql = "WITH n(i) AS (VALUES (3)) INSERT INTO t SELECT i FROM n RETURNING a";
    let written = node.lines(sql).await;
    assert_eq!(kinds(&written), ["step_begin", "row", "step_end", "replication_index"]);
    assert_eq!(node.lines("SELECT count(*) FROM t").await[2]["row"][0]["value"], "3");
    let broken = node.lines("nonsense").await;
    assert_eq!(kinds(&broken), ["step_error", "replication_index"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_whole_batch_is_one_line() {
    let node = Node::start().await;
    let steps = json!([{"stmt": {"sql_id": 9}}]);
    let lines = lines(&node.cursor(None, steps).await);
    assert_eq!(kinds(&lines), ["error", "replication_index"]);
    let answer = node.cursor(Some("00000000000000000000000000000000"), json!([])).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "STREAM_EXPIRED"));
}

/// More rows than one answer may have: those that leave as they come need no memory.
#[tokio::test(flavor = "multi_thread")]
async fn limits_on_answers_are_not_for_rows_that_leave_as_they_come() {
    let node = Node::with(HttpLimits::default(), |options| {
        options.limits.response_rows = 1000;
        options.limits.response_bytes = 100_000;
    })
    .await;
    let lines = node.lines(&many(4000)).await;
    assert_eq!(kinds(&lines), ["step_begin", "4000 row", "step_end", "replication_index"]);
    let huge = node.lines("SELECT 1 UNION ALL SELECT hex(zeroblob(60000))").await;
    assert_eq!(kinds(&huge), ["step_begin", "row", "step_error", "replication_index"]);
    assert_eq!(huge[3]["error"]["code"], "RESPONSE_TOO_LARGE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_on_the_way_keeps_the_rows_it_gave() {
    let node = Node::start().await;
    let sql = format!("{} UNION ALL SELECT abs(-9223372036854775808), ''", many(3000));
    let answer = node.cursor(None, json!([step(&sql), step("SELECT 2")])).await;
    assert!(is_streamed(&answer));
    let lines = lines(&answer);
    let expected = [
        "step_begin",
        "3000 row",
        "step_error",
        "step_begin",
        "row",
        "step_end",
        "replication_index",
    ];
    assert_eq!(kinds(&lines), expected);
    assert_eq!(lines[3002]["error"]["message"], "integer overflow");
}

/// The stream of a long answer is in use until its last line, and good from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_goes_on_behind_a_long_answer() {
    let node = Node::start().await;
    node.lines("CREATE TABLE t(a)").await;
    let begun = lines(&node.cursor(None, json!([step("BEGIN")])).await);
    let mut first = begun.clone();
    // The first read is in a transaction that reads, the second in one that has written.
    for sql in ["INSERT INTO t VALUES (1)", "SELECT a FROM t"] {
        let long = node.cursor(Some(baton(&first)), json!([step(&many(3000))])).await;
        assert_eq!(kinds(&lines(&long))[1], "3000 row");
        first = lines(&node.cursor(Some(baton(&lines(&long))), json!([step(sql)])).await);
    }
    assert_eq!(kinds(&first), ["step_begin", "row", "step_end", "replication_index"]);
    let committed = node.cursor(Some(baton(&first)), json!([step("COMMIT")])).await;
    assert_eq!(kinds(&lines(&committed)), ["step_begin", "step_end", "replication_index"]);
    assert_eq!(node.lines("SELECT count(*) FROM t").await[2]["row"][0]["value"], "1");
    let used = node.cursor(Some(baton(&begun)), json!([])).await;
    assert_eq!(used.code(), "STREAM_EXPIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_arrive_while_their_statement_runs_and_a_client_that_goes_ends_it() {
    let limits = HttpLimits { streams: 1, ..HttpLimits::default() };
    let node = Node::with(limits, |_| {}).await;
    let mut socket = node.asked(None, json!([step(&endless())])).await;
    let text = beginning(&mut socket).await;
    let first: Json = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let early = node.cursor(first["baton"].as_str(), json!([step("SELECT 1")])).await;
    assert_eq!((early.status, early.code().as_str()), (409, "STREAM_BUSY"));
    let full = node.cursor(None, json!([step("SELECT 1")])).await;
    assert_eq!((full.status, full.code().as_str()), (429, "STREAMS_FULL"));
    drop(socket);
    let freed = async {
        while node.cursor(None, json!([step("SELECT 1")])).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, freed).await.expect("the stream ends with its client");
}

/// The only read thread steps aside for those who do take their rows; a client that takes none is not
/// waited for, and hears so when it takes them after all.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_keeps_nobody_waiting_and_is_not_waited_for() {
    let node = Node::with(HttpLimits::default(), |options| {
        options.readers = 1;
        options.limits.idle_transaction = Duration::from_millis(500);
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut socket = node.asked(None, json!([step(&endless())])).await;
        beginning(&mut socket).await;
        slow.push(socket);
    }
    for _ in 0..5 {
        let lines = node.lines(&many(2000)).await;
        assert_eq!(kinds(&lines)[1], "2000 row");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for socket in &mut slow {
        let mut text = String::new();
        loop {
            let piece = tokio::time::timeout(SOON, chunk(socket)).await.expect("an end");
            if piece.is_empty() {
                break;
            }
            text = String::from_utf8(piece).unwrap();
        }
        let lines: Vec<Json> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0]["type"], "error", "{text}");
        assert_eq!(lines[0]["error"]["code"], "CLIENT_SLOW");
        assert_eq!(lines[1]["type"], "replication_index");
    }
    // The socket is whole: the same connection goes on.
    write(&mut slow[0], HEAD, &body(None, &json!([step("SELECT 1")]))).await;
    let answer = read(&mut slow[0]).await;
    assert_eq!(kinds(&lines(&answer)), ["step_begin", "row", "step_end", "replication_index"]);
}
