//! A writer and a reader of one backing database, over HTTP: what the reader runs itself, what it
//! sends on, and what it says when there is nobody to send it to.

mod http;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::{Answer, Running, SOON, chunk, read, send, write};
use serde_json::{Value as Json, json};
use syncline::api::{HttpLimits, Server};
use syncline::engine::{Database, DatabaseOptions, Role, State};
use tokio::net::{TcpListener, TcpStream};

/// A writer and a reader.
struct Pair {
    writer: Running,
    reader: Running,
    databases: [Database; 2],
    _dir: tempfile::TempDir,
}

async fn open(options: DatabaseOptions) -> Database {
    tokio::task::spawn_blocking(|| Database::open(options)).await.unwrap().unwrap()
}

impl Pair {
    async fn start() -> Pair {
        Pair::with(HttpLimits::default()).await
    }

    /// `limits` are the reader's.
    async fn with(limits: HttpLimits) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let backing = dir.path().join("main.db");
        let [listen, second] = [listener().await, listener().await];
        let mut options = DatabaseOptions::writer(&backing);
        options.advertise = url(listen.local_addr().unwrap());
        let writing = open(options).await;
        let mut options = DatabaseOptions::reader(&backing, dir.path().join("reader"));
        options.node = "r1".into();
        options.advertise = url(second.local_addr().unwrap());
        std::fs::create_dir_all(&options.data_dir).unwrap();
        // What the tests wait for comes by wake-up: a poll would come too late for them.
        options.check_every = Duration::from_secs(3600);
        let reading = open(options).await;
        let served = [writing.clone(), reading.clone()];
        let [w, r] = served;
        let writer = Running::on(listen, |a| server("a", a, w)).await;
        let reader = Running::on(second, |a| server("r1", a, r).limits(limits)).await;
        Pair { writer, reader, databases: [writing, reading], _dir: dir }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let databases = self.databases.clone();
        std::thread::spawn(move || databases.iter().rev().for_each(Database::close))
            .join()
            .unwrap();
    }
}

fn server(name: &str, advertise: &str, database: Database) -> Server {
    Server::new(name, advertise).database(database).unwrap().default_database("main")
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn execute(sql: &str) -> Json {
    json!({"type": "execute", "stmt": {"sql": sql}})
}

async fn pipeline(node: &Running, headers: &str, baton: Option<&str>, requests: Json) -> Answer {
    let body = json!({"baton": baton, "requests": requests}).to_string();
    let head = format!("POST /v2/pipeline HTTP/1.1\nhost: localhost\n{headers}");
    send(&node.client, &head, body.as_bytes()).await
}

/// One statement on a stream of its own.
async fn run(node: &Running, sql: &str) -> Answer {
    pipeline(node, "", None, json!([execute(sql), {"type": "close"}])).await
}

fn result(answer: &Answer, i: usize) -> Json {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let result = answer.json()["results"][i].clone();
    assert_eq!(result["type"], "ok", "{result}");
    result["response"]["result"].clone()
}

fn value(answer: &Answer, i: usize) -> Json {
    result(answer, i)["rows"][0][0]["value"].clone()
}

fn baton(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["baton"].as_str().expect("an open stream").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_over_a_reader_is_seen_there_at_once() {
    let pair = Pair::start().await;
    result(&run(&pair.reader, "CREATE TABLE t(a)").await, 0);
    for n in 1..=20 {
        let written = run(&pair.reader, &format!("INSERT INTO t VALUES ({n})")).await;
        let receipt = written.header("syncline-receipt").expect("a write has a receipt");
        assert_eq!(written.header("syncline-position"), Some(receipt), "the own copy has it");
        assert_eq!(written.header("syncline-node"), Some("r1"));
        assert!(written.header("syncline-stale-ms").is_some());
        let seen = run(&pair.reader, "SELECT count(*) FROM t").await;
        assert_eq!(value(&seen, 0), n.to_string());
    }
    assert_eq!(value(&run(&pair.writer, "SELECT count(*) FROM t").await, 0), "20");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_split_where_the_writer_is_needed() {
    let pair = Pair::start().await;
    run(&pair.writer, "CREATE TABLE t(a UNIQUE)").await;
    run(&pair.reader, "INSERT INTO t VALUES (1)").await;
    let answer = pipeline(
        &pair.reader,
        "",
        None,
        json!([
            execute("SELECT count(*) FROM t"),
            {"type": "store_sql", "sql_id": 3, "sql": "INSERT INTO t VALUES (2)"},
            {"type": "execute", "stmt": {"sql_id": 3}},
            execute("INSERT INTO t VALUES (2)"),
            execute("SELECT count(*) FROM t"),
            {"type": "close"},
        ]),
    )
    .await;
    assert_eq!(value(&answer, 0), "1");
    assert_eq!(result(&answer, 2)["affected_row_count"], 1, "the stored text went along");
    assert_eq!(answer.json()["results"][3]["error"]["extended_code"], "SQLITE_CONSTRAINT_UNIQUE");
    assert_eq!(value(&answer, 4), "2");
    assert_eq!(answer.json()["results"].as_array().unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_over_a_reader_lives_at_the_writer() {
    let pair = Pair::start().await;
    run(&pair.writer, "CREATE TABLE t(a)").await;
    let begun = pipeline(
        &pair.reader,
        "",
        None,
        json!([execute("BEGIN"), execute("INSERT INTO t VALUES (1)")]),
    );
    let begun = begun.await;
    let mine = baton(&begun);
    assert_eq!(value(&run(&pair.writer, "SELECT count(*) FROM t").await, 0), "0");
    let at_writer = pipeline(&pair.writer, "", Some(&mine), json!([execute("COMMIT")])).await;
    assert_eq!(at_writer.status, 404, "the reader's baton is not the writer's");
    let inside = pipeline(
        &pair.reader,
        "",
        Some(&mine),
        json!([execute("SELECT count(*) FROM t"),
        {"type": "get_autocommit"}]),
    )
    .await;
    assert_eq!(value(&inside, 0), "1");
    assert_eq!(inside.json()["results"][1]["response"]["is_autocommit"], false);
    let end = json!([execute("COMMIT"), {"type": "close"}]);
    let committed = pipeline(&pair.reader, "", Some(&baton(&inside)), end).await;
    assert!(committed.json()["baton"].is_null());
    let receipt = committed.header("syncline-receipt").expect("a receipt");
    assert_eq!(committed.header("syncline-position"), Some(receipt));
    assert_eq!(value(&run(&pair.reader, "SELECT count(*) FROM t").await, 0), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_s_settings_go_with_it_to_the_writer() {
    // An ORM rebuilds a parent table with foreign_keys off. Were the setting lost on the way, the
    // DROP would delete every child by cascade.
    let pair = Pair::start().await;
    for sql in [
        "CREATE TABLE p(id INTEGER PRIMARY KEY, a)",
        "CREATE TABLE c(p REFERENCES p(id) ON DELETE CASCADE)",
        "INSERT INTO p VALUES (1, 'x')",
        "INSERT INTO c VALUES (1)",
    ] {
        result(&run(&pair.writer, sql).await, 0);
    }
    let off = pipeline(&pair.reader, "", None, json!([execute("PRAGMA foreign_keys = OFF")])).await;
    let rebuild = pipeline(
        &pair.reader,
        "",
        Some(&baton(&off)),
        json!([{"type": "batch", "batch": {
        "steps": [
            {"stmt": {"sql": "BEGIN"}},
            {"stmt": {"sql": "CREATE TABLE q(id INTEGER PRIMARY KEY, a, b)"}},
            {"stmt": {"sql": "INSERT INTO q(id, a) SELECT id, a FROM p"}},
            {"stmt": {"sql": "DROP TABLE p"}},
            {"stmt": {"sql": "ALTER TABLE q RENAME TO p"}},
            {"stmt": {"sql": "COMMIT"}},
        ]}}, {"type": "close"}]),
    )
    .await;
    let errors = result(&rebuild, 0)["step_errors"].clone();
    assert!(errors.as_array().unwrap().iter().all(Json::is_null), "{errors}");
    assert_eq!(value(&run(&pair.reader, "SELECT count(*) FROM c").await, 0), "1");
    assert_eq!(value(&run(&pair.reader, "SELECT count(b IS NULL) FROM p").await, 0), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_ask_for_the_writer_go_there() {
    let limits = HttpLimits { forward_wait: Duration::ZERO, ..HttpLimits::default() };
    let pair = Pair::with(limits).await;
    run(&pair.writer, "CREATE TABLE t(a)").await;
    for (n, read) in ["writer", "linearizable"].into_iter().enumerate() {
        run(&pair.writer, "INSERT INTO t VALUES (1)").await;
        let headers = format!("syncline-read: {read}");
        let count = json!([execute("SELECT count(*) FROM t"), {"type": "close"}]);
        let answer = pipeline(&pair.reader, &headers, None, count).await;
        assert_eq!(value(&answer, 0), (n + 1).to_string(), "{read}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_goes_no_further() {
    let pair = Pair::start().await;
    run(&pair.writer, "CREATE TABLE t(a)").await;
    let insert = json!([execute("INSERT INTO t VALUES (1)"), {"type": "close"}]);
    let answer = pipeline(&pair.reader, "syncline-forwarded: r2", None, insert).await;
    assert_eq!((answer.status, answer.code().as_str()), (421, "NOT_WRITER"));
    assert!(answer.text().contains(&pair.writer.client), "it names the writer: {}", answer.text());
    assert_eq!(value(&run(&pair.writer, "SELECT count(*) FROM t").await, 0), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_writer_reads_go_on_and_writes_may_be_tried_again() {
    let mut pair = Pair::start().await;
    run(&pair.writer, "CREATE TABLE t(a)").await;
    result(&run(&pair.reader, "INSERT INTO t VALUES (1)").await, 0);
    let open = baton(&pipeline(&pair.reader, "", None, json!([execute("SELECT 1")])).await);
    pair.writer.ask_to_end();
    while TcpStream::connect(&pair.writer.client).await.is_ok() {}
    let answer = run(&pair.reader, "INSERT INTO t VALUES (2)").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "WRITER_UNAVAILABLE"));
    assert_eq!(answer.json()["error"]["retry"], "yes");
    assert_eq!(value(&run(&pair.reader, "SELECT count(*) FROM t").await, 0), "1");
    let insert = json!([execute("INSERT INTO t VALUES (2)")]);
    let answer = pipeline(&pair.reader, "", Some(&open), insert).await;
    assert_eq!(answer.status, 503);
    let same = pipeline(&pair.reader, "", Some(&open), json!([execute("SELECT 1")])).await;
    assert_eq!(same.status, 200, "nothing ran, so the old baton is still good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_goes_silent_leaves_the_outcome_unknown() {
    // It takes the connection and the request, and then the connection breaks.
    let pair = Pair::start().await;
    run(&pair.writer, "CREATE TABLE t(a)").await;
    let trap = listener().await;
    let address = trap.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = trap.accept().await {
            let mut some = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut some).await;
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let mut options = pair.databases[1].options().clone();
    options.node = "r2".into();
    options.data_dir = dir.path().into();
    options.writer = Some(url(address));
    let database = open(options).await;
    let served = database.clone();
    let lost = Running::start(|a| server("r2", a, served)).await;
    let answer = run(&lost, "INSERT INTO t VALUES (1)").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "OUTCOME_UNKNOWN"));
    assert_eq!(answer.json()["error"]["retry"], "unknown");
    tokio::task::spawn_blocking(move || database.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_wakes_its_readers_and_knows_where_they_stand() {
    let pair = Pair::start().await;
    let mut stream = TcpStream::connect(&pair.writer.client).await.unwrap();
    let head = "GET /v1/databases/main/wake?node=x HTTP/1.1\nhost: localhost";
    write(&mut stream, head, b"").await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap());
    }
    let now = pair.databases[0].position();
    assert_eq!(line(&mut stream).await["position"], now.to_string(), "at once");
    let written = run(&pair.writer, "CREATE TABLE t(a)").await;
    let receipt = written.header("syncline-receipt").unwrap();
    while line(&mut stream).await["position"] != receipt {}

    let refused = "GET /v1/databases/main/wake?node=x HTTP/1.1\nhost: localhost";
    assert_eq!(send(&pair.reader.client, refused, b"").await.status, 421);
    let status = "GET /v1/status HTTP/1.1\nhost: localhost";
    let known = async {
        loop {
            let status = send(&pair.writer.admin, status, b"").await.json();
            let readers = status["databases"][0]["readers"].clone();
            if readers[0]["node"] == "r1" && readers[0]["position"] == receipt {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, known).await.expect("the reader reports its position");
}

async fn line(stream: &mut TcpStream) -> Json {
    let line = tokio::time::timeout(SOON, chunk(stream)).await.expect("a line");
    serde_json::from_slice(&line).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_reader_takes_writes_itself() {
    let mut pair = Pair::start().await;
    run(&pair.writer, "CREATE TABLE t(a)").await;
    result(&run(&pair.reader, "INSERT INTO t VALUES (1)").await, 0);
    pair.writer.ask_to_end();
    let writer = pair.databases[0].clone();
    tokio::task::spawn_blocking(move || writer.close()).await.unwrap();
    let head = "POST /v1/databases/main/promote HTTP/1.1\nhost: localhost";
    let mut socket = TcpStream::connect(&pair.reader.admin).await.unwrap();
    write(&mut socket, head, b"{\"accept_loss\": false}").await;
    let promoted = read(&mut socket).await;
    assert_eq!(promoted.status, 200, "{}", promoted.text());
    assert_eq!(pair.databases[1].role(), Role::Writer);
    result(&run(&pair.reader, "INSERT INTO t VALUES (2)").await, 0);
    assert_eq!(value(&run(&pair.reader, "SELECT count(*) FROM t").await, 0), "2");
}

fn back_up(file: &Path, to: &Path) {
    let open = |path| rusqlite::Connection::open(path).unwrap();
    let (from, mut to) = (open(file), open(to));
    let copy = rusqlite::backup::Backup::new(&from, &mut to).unwrap();
    copy.run_to_completion(100, Duration::ZERO, None).unwrap();
}

/// The backing file is put back from a backup, and a writer goes on that knows nothing of what was there.
/// The reader follows at once, and holds what it undoes: it is the only one that can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_followed_a_restore_tells_the_writer_of_it() {
    let pair = Pair::start().await;
    result(&run(&pair.writer, "CREATE TABLE t(a)").await, 0);
    let dir = pair._dir.path();
    let (file, backup) = (dir.join("main.db"), dir.join("backup.db"));
    back_up(&file, &backup);
    result(&run(&pair.writer, "INSERT INTO t VALUES (1)").await, 0);
    let seen = pair.databases[0].position();
    let reader = &pair.databases[1];
    reader.watch().wait_for(|position| *position == seen).await.unwrap();
    let listen = listener().await;
    std::fs::rename(&backup, &file).unwrap();
    std::fs::remove_file(dir.join("main.db-wal")).unwrap();
    let mut options = DatabaseOptions::writer(&file);
    options.data_dir = dir.join("next");
    options.node = "b".into();
    options.advertise = url(listen.local_addr().unwrap());
    options.take_over = true;
    let next = open(options).await;
    assert_eq!(next.status().state, State::Ok);
    let serving = next.clone();
    let _serving = Running::on(listen, |address| server("b", address, serving)).await;
    reader.wake();
    tokio::time::timeout(SOON, async {
        while next.status().state != State::Restored {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the reader tells");
    let note = next.status().note;
    assert!(note.contains("\"r1\"") && note.contains(&seen.to_string()), "{note}");
    assert_eq!(reader.status().held, 1, "and holds what it undid");
    tokio::task::spawn_blocking(move || next.close()).await.unwrap();
}

/// A cursor's rows are read here while they leave; what it writes is written there, in the same lines.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_reads_here_and_writes_there() {
    let pair = Pair::start().await;
    let cursor = async |baton: Option<&str>, sql: &str| {
        let body = json!({"baton": baton, "batch": {"steps": [{"stmt": {"sql": sql}}]}});
        let head = "POST /v3/cursor HTTP/1.1\nhost: localhost";
        let answer = send(&pair.reader.client, head, body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let lines: Vec<Json> =
            answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (answer.header("transfer-encoding").is_some(), lines)
    };
    cursor(None, "CREATE TABLE t(a)").await;
    let (_, written) = cursor(None, "INSERT INTO t VALUES (1), (2)").await;
    assert_eq!(written[2]["affected_row_count"], 2, "{written:?}");

    let many = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
        SELECT i, hex(zeroblob(250)) FROM n, t";
    let (streamed, read) = cursor(None, many).await;
    assert!(streamed);
    assert_eq!(read.len(), 6000 + 4);

    // The same stream goes on at the writer, in its transaction.
    let (_, begun) = cursor(read[0]["baton"].as_str(), "BEGIN").await;
    let (_, inside) = cursor(begun[0]["baton"].as_str(), "INSERT INTO t VALUES (3)").await;
    let (streamed, seen) = cursor(inside[0]["baton"].as_str(), "SELECT count(*) FROM t").await;
    assert!(!streamed);
    assert_eq!(seen[2]["row"][0]["value"], "3");
    let (_, outside) = cursor(None, "SELECT count(*) FROM t").await;
    assert_eq!(outside[2]["row"][0]["value"], "2");
}
