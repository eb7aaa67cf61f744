//! SQL over HTTP against a writer: what the stock SDKs send, and what they must never send.

mod http;

use std::time::Duration;

use http::{Answer, Running, read, send, write};
use serde_json::{Value as Json, json};
use syncline::api::{HttpLimits, Server};
use syncline::engine::{Database, DatabaseOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

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
        syncline::api::record_metrics();
        let dir = tempfile::tempdir().unwrap();
        let mut options = DatabaseOptions::writer(dir.path().join("main.db"));
        change(&mut options);
        let database =
            tokio::task::spawn_blocking(|| Database::open(options)).await.unwrap().unwrap();
        let served = database.clone();
        let running = Running::start(|advertise| {
            let server = Server::new("a", advertise).limits(limits);
            let name = served.options().name.clone();
            server.database(served).unwrap().default_database(name)
        })
        .await;
        Node { running, database, _dir: dir }
    }

    async fn post(&self, path: &str, headers: &str, body: &Json) -> Answer {
        let head = format!("POST {path} HTTP/1.1\nhost: localhost\n{headers}");
        send(&self.running.client, &head, body.to_string().as_bytes()).await
    }

    async fn pipeline(&self, baton: Option<&str>, requests: Json) -> Answer {
        self.post("/v2/pipeline", "", &json!({"baton": baton, "requests": requests})).await
    }

    /// Runs one statement on a stream of its own.
    async fn run(&self, sql: &str) -> Json {
        let answer = self.pipeline(None, json!([execute(sql), {"type": "close"}])).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["results"][0].clone()
    }

    /// The only value of a query's only row.
    async fn value(&self, sql: &str) -> Json {
        let result = self.run(sql).await;
        assert_eq!(result["type"], "ok", "{result}");
        result["response"]["result"]["rows"][0][0]["value"].clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let database = self.database.clone();
        std::thread::spawn(move || database.close()).join().unwrap();
    }
}

fn execute(sql: &str) -> Json {
    json!({"type": "execute", "stmt": {"sql": sql}})
}

fn baton(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["baton"].as_str().expect("an open stream").to_owned()
}

fn result(answer: &Answer, i: usize) -> Json {
    let result = answer.json()["results"][i].clone();
    assert_eq!(result["type"], "ok", "{result}");
    result["response"]["result"].clone()
}

fn error_code(answer: &Answer, i: usize) -> String {
    answer.json()["results"][i]["error"]["code"].as_str().unwrap_or("none").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_shot_pipeline_has_the_shape_of_the_protocol() {
    let node = Node::start().await;
    node.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, x, b BLOB)").await;
    let insert = json!({"type": "execute", "stmt": {
    "sql": "INSERT INTO t(name, x, b) VALUES (:name, @x, $b) RETURNING id",
    "named_args": [
        {"name": "name", "value": {"type": "text", "value": "Ünï\u{1F600}\"\\"}},
        {"name": "@x", "value": {"type": "integer", "value": "9007199254740993"}},
        {"name": "$b", "value": {"type": "blob", "base64": "AAEC/w=="}},
    ]}});
    let answer = node.pipeline(None, json!([insert, {"type": "close"}])).await;
    let inserted = result(&answer, 0);
    assert_eq!(inserted["rows"], json!([[{"type": "integer", "value": "1"}]]));
    assert_eq!(
        (&inserted["affected_row_count"], &inserted["last_insert_rowid"]),
        (&json!(1), &json!("1"))
    );
    let receipt = answer.header("syncline-receipt").expect("a write has a receipt");
    assert_eq!(answer.header("syncline-position"), Some(receipt));
    assert_eq!(answer.json()["results"][1], json!({"type": "ok", "response": {"type": "close"}}));
    assert!(answer.json()["baton"].is_null() && answer.json()["base_url"].is_null());

    let select = json!({"type": "execute", "stmt": {
        "sql": "SELECT name, x, b, NULL, 1.5 AS r FROM t WHERE id = ?",
        "args": [{"type": "float", "value": 1}]}});
    let answer = node.pipeline(None, json!([select, {"type": "close"}])).await;
    assert_eq!(answer.header("syncline-receipt"), None, "a read has none");
    let got = result(&answer, 0);
    assert_eq!(got["cols"][0], json!({"name": "name", "decltype": "TEXT"}));
    assert_eq!(got["cols"][4], json!({"name": "r", "decltype": null}));
    assert_eq!(
        got["rows"][0],
        json!([
            {"type": "text", "value": "Ünï\u{1F600}\"\\"},
            {"type": "integer", "value": "9007199254740993"},
            {"type": "blob", "base64": "AAEC/w"},
            {"type": "null"},
            {"type": "float", "value": 1.5},
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_and_the_database_s_own_path_lead_to_it() {
    let node = Node::start().await;
    let body = json!({"requests": [execute("SELECT 1"), {"type": "close"}]});
    for path in ["/v2/pipeline", "/v3/pipeline", "/main/v2/pipeline", "//main//v3/pipeline"] {
        assert_eq!(node.post(path, "", &body).await.status, 200, "{path}");
    }
    let get = "GET /v2/pipeline HTTP/1.1\nhost: localhost";
    assert_eq!(send(&node.running.client, get, b"").await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_stand_in_the_results_and_the_rest_runs() {
    let node = Node::start().await;
    node.run("CREATE TABLE t(a UNIQUE)").await;
    let answer = node
        .pipeline(
            None,
            json!([
                execute("INSERT INTO t VALUES (1)"),
                execute("INSERT INTO t VALUES (1)"),
                execute("SELEC 1"),
                execute("SELECT 1; SELECT 2"),
                execute("-- nothing"),
                execute("ATTACH 'x' AS x"),
                execute("SELECT count(*) FROM t"),
                {"type": "close"},
            ]),
        )
        .await;
    let results = answer.json()["results"].clone();
    assert_eq!(results[1]["type"], "error");
    assert_eq!(results[1]["error"]["code"], "SQLITE_CONSTRAINT");
    assert_eq!(results[1]["error"]["extended_code"], "SQLITE_CONSTRAINT_UNIQUE");
    assert_eq!(results[1]["error"]["message"], "UNIQUE constraint failed: t.a");
    assert_eq!(error_code(&answer, 2), "SQL_PARSE_ERROR");
    assert_eq!(error_code(&answer, 3), "SQL_MANY_STATEMENTS");
    assert_eq!(error_code(&answer, 4), "SQL_NO_STATEMENT");
    assert_eq!(error_code(&answer, 5), "BLOCKED");
    assert_eq!(result(&answer, 6)["rows"][0][0]["value"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_a_transaction_by_its_conditions() {
    // What the JavaScript client sends for `batch([…], "write")`.
    let node = Node::start().await;
    node.run("CREATE TABLE t(a UNIQUE)").await;
    let ok = |step: usize| json!({"type": "ok", "step": step});
    let batch = |second: &str| {
        json!([{"type": "batch", "batch": {"steps": [
            {"stmt": {"sql": "BEGIN IMMEDIATE"}},
            {"stmt": {"sql": "INSERT INTO t VALUES (1)"}, "condition": ok(0)},
            {"stmt": {"sql": second}, "condition": ok(1)},
            {"stmt": {"sql": "COMMIT"}, "condition": ok(2)},
            {"stmt": {"sql": "ROLLBACK"}, "condition": {"type": "and", "conds": [
                {"type": "not", "cond": ok(3)},
                {"type": "not", "cond": {"type": "is_autocommit"}}]}},
        ]}}, {"type": "close"}])
    };
    let failed = node.pipeline(None, batch("INSERT INTO t VALUES (1)")).await;
    let got = result(&failed, 0);
    assert_eq!(got["step_errors"][2]["code"], "SQLITE_CONSTRAINT");
    assert!(got["step_results"][3].is_null() && got["step_errors"][3].is_null(), "skipped: {got}");
    assert!(got["step_results"][4].is_object(), "rolled back: {got}");
    assert_eq!(node.value("SELECT count(*) FROM t").await, "0");

    let done = node.pipeline(None, batch("INSERT INTO t VALUES (2)")).await;
    assert!(result(&done, 0)["step_results"][4].is_null());
    assert_eq!(node.value("SELECT count(*) FROM t").await, "2");
    assert!(done.header("syncline-receipt").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_lives_across_requests_under_changing_batons() {
    let node = Node::start().await;
    node.run("CREATE TABLE t(a)").await;
    let begun =
        node.pipeline(None, json!([execute("BEGIN"), execute("INSERT INTO t VALUES (1)")])).await;
    let first = baton(&begun);
    assert_eq!(node.value("SELECT count(*) FROM t").await, "0", "not committed");
    let asked = node
        .pipeline(
            Some(&first),
            json!([execute("SELECT count(*) FROM t"), {"type": "get_autocommit"}]),
        )
        .await;
    let second = baton(&asked);
    assert_ne!(first, second);
    assert_eq!(result(&asked, 0)["rows"][0][0]["value"], "1", "its own write");
    assert_eq!(asked.json()["results"][1]["response"]["is_autocommit"], false);

    let old = node.pipeline(Some(&first), json!([execute("COMMIT")])).await;
    assert_eq!((old.status, old.code().as_str()), (404, "STREAM_EXPIRED"));
    let end = json!([execute("COMMIT"), {"type": "close"}]);
    let committed = node.pipeline(Some(&second), end).await;
    assert!(committed.json()["baton"].is_null());
    assert!(committed.header("syncline-receipt").is_some());
    assert_eq!(node.value("SELECT count(*) FROM t").await, "1");
    let closed = node.pipeline(Some(&second), json!([execute("SELECT 1")])).await;
    assert_eq!(closed.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baton_that_was_not_given_out_opens_nothing() {
    let node = Node::start().await;
    baton(&node.pipeline(None, json!([execute("SELECT 1")])).await);
    for guess in ["", "0", "x", &"0".repeat(32), &"f".repeat(32), &"é".repeat(16)] {
        let answer = node.pipeline(Some(guess), json!([execute("SELECT 1")])).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "STREAM_EXPIRED"), "{guess}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baton_is_good_for_its_database_only() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let mut options = DatabaseOptions::writer(dir.path().join(format!("{name}.db")));
        options.name = name.into();
        Database::open(options).unwrap()
    };
    let (one, two) = (open("one"), open("two"));
    let served = [one.clone(), two.clone()];
    let running = Running::start(|advertise| {
        let [one, two] = served;
        Server::new("a", advertise).database(one).unwrap().database(two).unwrap()
    })
    .await;
    let post = async |path: &str, baton: Option<&str>| {
        let body = json!({"baton": baton, "requests": [execute("SELECT 1")]}).to_string();
        let head = format!("POST {path} HTTP/1.1\nhost: localhost");
        send(&running.client, &head, body.as_bytes()).await
    };
    let mine = baton(&post("/one/v2/pipeline", None).await);
    assert_eq!(post("/two/v2/pipeline", Some(&mine)).await.status, 404);
    assert_eq!(post("/one/v2/pipeline", Some(&mine)).await.status, 200, "and it is still good");
    let closed = tokio::task::spawn_blocking(move || [one, two].iter().for_each(Database::close));
    closed.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_expires_and_its_transaction_with_it() {
    let limits = HttpLimits { stream_idle: Duration::from_millis(100), ..HttpLimits::default() };
    let node = Node::with(limits, |_| {}).await;
    node.run("CREATE TABLE t(a)").await;
    let begun = node
        .pipeline(None, json!([execute("BEGIN IMMEDIATE"), execute("INSERT INTO t VALUES (1)")]))
        .await;
    let old = baton(&begun);
    // Waits for the writer until the stream's expiry frees it.
    let inserted = node.run("INSERT INTO t VALUES (2)").await;
    assert_eq!(inserted["type"], "ok", "{inserted}");
    let answer = node.pipeline(Some(&old), json!([execute("COMMIT")])).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "STREAM_EXPIRED"));
    assert_eq!(node.value("SELECT group_concat(a) FROM t").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_left_open_make_room_but_transactions_do_not() {
    let limits = HttpLimits { streams: 3, ..HttpLimits::default() };
    let node = Node::with(limits, |_| {}).await;
    let open = json!([execute("SELECT 1")]);
    let first = baton(&node.pipeline(None, open.clone()).await);
    for _ in 0..10 {
        baton(&node.pipeline(None, open.clone()).await);
    }
    let gone = node.pipeline(Some(&first), open.clone()).await;
    assert_eq!(gone.code(), "STREAM_EXPIRED", "it idled longest");

    let begin = json!([execute("BEGIN TRANSACTION READONLY"), execute("SELECT 1")]);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(baton(&node.pipeline(None, begin.clone()).await));
    }
    let refused = node.pipeline(None, open.clone()).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "STREAMS_FULL"));
    assert_eq!(node.value("SELECT 1").await, "1", "one-shot pipelines need no room");
    node.pipeline(Some(&held[0]), json!([{"type": "close"}])).await;
    assert_eq!(node.pipeline(None, open).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baton_is_not_used_twice_at_a_time() {
    let short =
        |options: &mut DatabaseOptions| options.limits.statement = Duration::from_millis(300);
    let node = Node::with(HttpLimits::default(), short).await;
    let mine = baton(&node.pipeline(None, json!([execute("SELECT 1")])).await);
    // Endless, until its time limit: whatever comes meanwhile comes too early.
    let endless =
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c";
    let asked = json!([{"type": "get_autocommit"}]);
    let (first, second) = tokio::join!(
        node.pipeline(Some(&mine), json!([execute(endless)])),
        node.pipeline(Some(&mine), asked.clone()),
    );
    let (used, refused) = if first.status == 200 { (first, second) } else { (second, first) };
    let code = refused.code();
    // If the short one came first, the other one's baton was used before it came.
    assert!(code == "STREAM_BUSY" && refused.status == 409 || code == "STREAM_EXPIRED", "{code}");
    assert_eq!(node.pipeline(Some(&baton(&used)), asked).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_stored_for_the_stream() {
    let node = Node::start().await;
    let stored = node
        .pipeline(
            None,
            json!([
                {"type": "store_sql", "sql_id": 7, "sql": "SELECT 42"},
                {"type": "execute", "stmt": {"sql_id": 7}},
                {"type": "describe", "sql_id": 7},
                {"type": "sequence", "sql": "CREATE TABLE s(a); INSERT INTO s VALUES (1); -- end"},
            ]),
        )
        .await;
    assert_eq!(result(&stored, 1)["rows"][0][0]["value"], "42");
    assert_eq!(result(&stored, 2)["is_readonly"], true);
    assert_eq!(
        stored.json()["results"][3],
        json!({"type": "ok", "response": {"type": "sequence"}})
    );
    let closed = node
        .pipeline(
            Some(&baton(&stored)),
            json!([
                {"type": "execute", "stmt": {"sql_id": 7}},
                {"type": "close_sql", "sql_id": 7},
                {"type": "execute", "stmt": {"sql_id": 7}},
                {"type": "describe", "sql": "INSERT INTO s VALUES (:a)"},
                {"type": "close"},
            ]),
        )
        .await;
    assert_eq!(result(&closed, 0)["rows"][0][0]["value"], "42");
    assert_eq!(error_code(&closed, 2), "SQL_NOT_STORED");
    let described = result(&closed, 3);
    assert_eq!(described["params"], json!([{"name": ":a"}]));
    assert_eq!(
        (&described["is_readonly"], &described["is_explain"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(node.value("SELECT count(*) FROM s").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_are_refused_and_the_node_goes_on() {
    let limits = HttpLimits { body_timeout: Duration::from_millis(300), ..HttpLimits::default() };
    let node = Node::with(limits, |_| {}).await;
    let head = "POST /v2/pipeline HTTP/1.1\nhost: localhost";
    let truncated = send(&node.running.client, head, b"{\"requests\":[{\"type\":\"exec").await;
    assert_eq!((truncated.status, truncated.code().as_str()), (400, "JSON_INVALID"));

    // A gigabyte that is announced is refused before it is sent, one that is not, on the way.
    let announced = format!("{head}\ncontent-length: 1073741824");
    let answer = send(&node.running.client, &announced, b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "BODY_TOO_LARGE"));
    let mut socket = TcpStream::connect(&node.running.client).await.unwrap();
    write(&mut socket, &format!("{head}\ntransfer-encoding: chunked"), b"").await;
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    let mut sent = 0;
    while sent < 1024 && socket.write_all(&chunk).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "the node took {sent} MiB");

    let mut slow = TcpStream::connect(&node.running.client).await.unwrap();
    write(&mut slow, &format!("{head}\ncontent-length: 100"), b"").await;
    slow.write_all(b"{\"req").await.unwrap();
    let answer = read(&mut slow).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "BODY_TIMEOUT"));
    assert_eq!(node.value("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_grows_too_large_is_an_error() {
    let node = Node::start().await;
    let large = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 4000) \
                 SELECT hex(zeroblob(2000)) FROM c";
    let answer =
        node.pipeline(None, json!([execute(large), execute("SELECT 1"), {"type": "close"}])).await;
    assert_eq!(error_code(&answer, 0), "RESPONSE_TOO_LARGE");
    assert_eq!(result(&answer, 1)["rows"][0][0]["value"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_makes_a_retry_harmless() {
    let node = Node::start().await;
    node.run("CREATE TABLE t(a)").await;
    let body = json!({"requests": [execute("INSERT INTO t VALUES (1)"), {"type": "close"}]});
    let key = "idempotency-key: shop-1, 42";
    let first = node.post("/v2/pipeline", key, &body).await;
    let again = node.post("/v2/pipeline", key, &body).await;
    assert_eq!((first.status, again.status), (200, 200), "{}", again.text());
    assert_eq!(first.header("syncline-receipt"), again.header("syncline-receipt"));
    assert_eq!(node.value("SELECT count(*) FROM t").await, "1");
    let bare = node.post("/v2/pipeline", "idempotency-key: c0ffee", &body).await;
    assert_eq!((bare.status, bare.code().as_str()), (400, "IDEMPOTENCY_KEY_INVALID"));
    let two = json!({"requests": [execute("INSERT INTO t VALUES (2)"), execute("SELECT 1")]});
    let two = node.post("/v2/pipeline", "idempotency-key: shop-1, 43", &two).await;
    assert_eq!((two.status, two.code().as_str()), (400, "IDEMPOTENCY_KEY_AMBIGUOUS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_after_a_receipt_sees_it() {
    let node = Node::start().await;
    node.run("CREATE TABLE t(a)").await;
    let body = json!({"requests": [execute("INSERT INTO t VALUES (1)"), {"type": "close"}]});
    let receipt = node.post("/v2/pipeline", "", &body).await;
    let receipt = receipt.header("syncline-receipt").unwrap().to_owned();
    let select = json!({"requests": [execute("SELECT count(*) FROM t"), {"type": "close"}]});
    let after =
        node.post("/v2/pipeline", &format!("syncline-read: after={receipt}"), &select).await;
    assert_eq!(result(&after, 0)["rows"][0][0]["value"], "1");
    let wrong = node.post("/v2/pipeline", "syncline-read: newest", &select).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "READ_OPTION_INVALID"));

    let head = format!("GET /v1/databases/main/receipts/{receipt} HTTP/1.1\nhost: localhost");
    let state = send(&node.running.client, &head, b"").await.json();
    assert_eq!(state["state"], "durable", "{state}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_answers_what_was_accepted() {
    let mut node = Node::start().await;
    node.run("CREATE TABLE t(a)").await;
    let body =
        json!({"requests": [execute("INSERT INTO t VALUES (1)"), {"type": "close"}]}).to_string();
    let head = "POST /v2/pipeline HTTP/1.1\nhost: localhost\nexpect: 100-continue";
    let mut socket = TcpStream::connect(&node.running.client).await.unwrap();
    write(&mut socket, &format!("{head}\ncontent-length: {}", body.len()), b"").await;
    assert_eq!(read(&mut socket).await.status, 100, "its handler waits for the body");
    node.running.ask_to_end();
    while TcpStream::connect(&node.running.client).await.is_ok() {}
    socket.write_all(body.as_bytes()).await.unwrap();
    let answer = read(&mut socket).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(answer.json()["results"][0]["type"], "ok", "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_what_was_committed() {
    let node = Node::with(HttpLimits::default(), |options| options.name = "seen".into()).await;
    let post = async |sql: &str| {
        let body = json!({"requests": [execute(sql), {"type": "close"}]});
        node.post("/seen/v2/pipeline", "", &body).await
    };
    post("CREATE TABLE t(a)").await;
    let receipt = post("INSERT INTO t VALUES (1), (2)").await;
    let receipt = receipt.header("syncline-receipt").unwrap().to_owned();

    let get = async |address: &str, path: &str| {
        send(address, &format!("GET {path} HTTP/1.1\nhost: localhost"), b"").await
    };
    let running = &node.running;
    let metrics = get(&running.admin, "/metrics").await;
    let value = |name: &str| -> f64 {
        let line = metrics.text().lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {}", metrics.text())).trim().parse().unwrap()
    };
    assert!(value(r#"syncline_position_version{database="seen"}"#) >= 2.0);
    assert!(value(r#"syncline_commit_seconds_count{database="seen"}"#) >= 2.0);
    assert!(value(r#"syncline_group_size_count{database="seen"}"#) >= 2.0);
    assert!(value(r#"syncline_sync_seconds_count{database="seen"}"#) >= 2.0);
    assert_eq!(value(r#"syncline_heal_total{database="seen",rung="full"}"#), 0.0);

    let status = get(&running.admin, "/v1/status").await.json()["databases"][0].clone();
    assert_eq!(
        (&status["name"], &status["role"], &status["state"]),
        (&json!("seen"), &json!("writer"), &json!("ok"))
    );
    assert_eq!(status["position"], receipt);
    assert_eq!(status["tables"]["t"]["rows"], "2");
    let position = get(&running.client, "/v1/databases/seen/position").await.json();
    assert_eq!(position["digest"], status["digest"]);
    assert_eq!(position["tables"]["t"], status["tables"]["t"]);
    assert_eq!(get(&running.client, "/ready?role=writer&max_stale=5s").await.status, 200);
    let ready = get(&running.client, "/ready?role=reader").await;
    assert_eq!((ready.status, ready.json()["ready"] == false), (503, true));

    let verify =
        send(&running.admin, "POST /v1/databases/seen/verify HTTP/1.1\nhost: localhost", b"").await;
    assert_eq!((verify.status, &verify.json()["equal"]), (200, &json!(true)), "{}", verify.text());
    let held = get(&running.admin, "/v1/databases/seen/held").await;
    assert_eq!(held.json(), json!({"held": []}));
    let none = get(&running.admin, "/v1/databases/seen/held/7").await;
    assert_eq!(none.status, 404, "{}", none.text());
    let keep =
        send(&running.admin, "POST /v1/databases/seen/resolve HTTP/1.1\nhost: localhost", b"{}")
            .await;
    assert_eq!((keep.status, keep.code().as_str()), (400, "REQUEST_INVALID"));
}
