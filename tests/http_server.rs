//! The server itself, without a database: who is let in, how many, how long, and how it ends.

mod http;

use std::time::Duration;

use http::{Running, SOON, read, send, write};
use syncline::api::{HttpLimits, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn plain(advertise: &str) -> Server {
    Server::new("a", advertise)
}

fn limited(limits: HttpLimits) -> impl FnOnce(&str) -> Server {
    move |advertise| plain(advertise).limits(limits)
}

/// Whether the server has closed `socket`.
async fn is_closed(socket: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    matches!(tokio::time::timeout(SOON, socket.read_to_end(&mut rest)).await, Ok(Ok(_) | Err(_)))
}

#[tokio::test]
async fn health_and_version_are_there_for_clients_and_operators() {
    let node = Running::start(plain).await;
    for address in [&node.client, &node.admin] {
        let health = send(address, "GET /health HTTP/1.1\nhost: localhost", b"").await;
        assert_eq!((health.status, health.header("syncline-node")), (200, Some("a")));
        let version = send(address, "GET /version HTTP/1.1\nhost: localhost", b"").await;
        assert_eq!(version.json()["version"], env!("CARGO_PKG_VERSION"));
        let wrong = send(address, "DELETE /health HTTP/1.1\nhost: localhost", b"").await;
        assert_eq!((wrong.status, wrong.code().as_str()), (405, "METHOD_NOT_ALLOWED"));
    }
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused_before_anything_else() {
    // A page of evil.example whose name was made to resolve to 127.0.0.1 is "same origin".
    let node = Running::start(plain).await;
    for path in ["/health", "/v2/pipeline", "/nothing"] {
        let head = format!("GET {path} HTTP/1.1\nhost: evil.example");
        let answer = send(&node.client, &head, b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (421, "HOST_REFUSED"), "{path}");
    }
    let absolute = "GET http://evil.example/health HTTP/1.1\nhost: localhost";
    assert_eq!(send(&node.client, absolute, b"").await.status, 421);
}

#[tokio::test]
async fn pages_are_let_in_by_origin_only() {
    let build = |advertise: &str| plain(advertise).origins(vec!["https://app.example".into()]);
    let node = Running::start(build).await;
    let from = |origin: &str| format!("GET /health HTTP/1.1\nhost: localhost\norigin: {origin}");
    let listed = send(&node.client, &from("https://app.example"), b"").await;
    let allowed = listed.header("access-control-allow-origin");
    assert_eq!((listed.status, allowed), (200, Some("https://app.example")));
    let other = send(&node.client, &from("https://evil.example"), b"").await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (403, None));
    let ask = "OPTIONS /v2/pipeline HTTP/1.1\nhost: localhost\norigin: https://app.example\n\
               access-control-request-method: POST";
    assert_eq!(send(&node.client, ask, b"").await.status, 204);
}

#[tokio::test]
async fn protocols_that_are_not_spoken_get_a_sentence() {
    let node = Running::start(plain).await;
    for head in [
        "POST /sync HTTP/1.1",
        "GET /info HTTP/1.1",
        "GET /export/1 HTTP/1.1",
        "POST /pull-updates HTTP/1.1",
        "POST /wal_log.ReplicationLog/Hello HTTP/1.1\ncontent-type: application/grpc-web+proto",
        "POST /v1/execute HTTP/1.1",
        "GET / HTTP/1.1\nconnection: upgrade\nupgrade: websocket",
    ] {
        let answer = send(&node.client, &format!("{head}\nhost: localhost"), b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (501, "NOT_IMPLEMENTED"), "{head}");
        let error = &answer.json()["error"];
        assert!(error["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{head}");
    }
    let probe = send(&node.client, "GET /v3 HTTP/1.1\nhost: localhost", b"").await;
    assert_eq!(probe.status, 200);
}

#[tokio::test]
async fn an_unknown_database_is_named() {
    let node = Running::start(plain).await;
    let head = "GET /v1/databases/orders/position HTTP/1.1\nhost: localhost";
    let answer = send(&node.client, head, b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "DATABASE_UNKNOWN"));
    let root = "POST /v2/pipeline HTTP/1.1\nhost: localhost";
    assert_eq!(send(&node.client, root, b"{}").await.code(), "DATABASE_UNKNOWN");
}

#[tokio::test]
async fn a_sender_that_dribbles_its_head_is_cut_off() {
    let limits = HttpLimits { head_timeout: Duration::from_millis(200), ..HttpLimits::default() };
    let node = Running::start(limited(limits)).await;
    let mut slow = TcpStream::connect(&node.client).await.unwrap();
    slow.write_all(b"GET /health HTTP/1.1\r\nhost: loc").await.unwrap();
    assert!(is_closed(&mut slow).await);
    let mut silent = TcpStream::connect(&node.client).await.unwrap();
    assert!(is_closed(&mut silent).await);
}

#[tokio::test]
async fn idle_connections_shut_nobody_out() {
    let limits = HttpLimits { connections: 20, ..HttpLimits::default() };
    let node = Running::start(limited(limits)).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(&node.client).await.unwrap());
    }
    let health = "GET /health HTTP/1.1\nhost: localhost";
    assert_eq!(send(&node.client, health, b"").await.status, 200);
    assert!(is_closed(&mut idle[0]).await, "the first idled longest");
    let last = idle.last_mut().unwrap();
    write(last, health, b"").await;
    assert_eq!(read(last).await.status, 200, "the last has kept its place");
}

#[tokio::test]
async fn a_kept_connection_serves_one_request_after_the_other() {
    let node = Running::start(plain).await;
    let mut socket = TcpStream::connect(&node.client).await.unwrap();
    let (ok, wrong) =
        ("GET /health HTTP/1.1\nhost: localhost", "GET /none HTTP/1.1\nhost: localhost");
    for (head, status) in [(ok, 200), (wrong, 404), (ok, 200)] {
        write(&mut socket, head, b"").await;
        assert_eq!(read(&mut socket).await.status, status);
    }
}

#[tokio::test]
async fn the_end_closes_idle_connections_and_the_door() {
    let mut node = Running::start(plain).await;
    let mut fresh = TcpStream::connect(&node.client).await.unwrap();
    let mut used = TcpStream::connect(&node.client).await.unwrap();
    write(&mut used, "GET /health HTTP/1.1\nhost: localhost", b"").await;
    read(&mut used).await;
    let address = node.client.clone();
    node.ask_to_end();
    node.ended().await;
    assert!(is_closed(&mut fresh).await && is_closed(&mut used).await);
    assert!(TcpStream::connect(&address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn metrics_are_there_for_operators_only() {
    let node = Running::start(plain).await;
    let head = "GET /metrics HTTP/1.1\nhost: localhost";
    let metrics = send(&node.admin, head, b"").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.text().contains("syncline_connections 1"), "{}", metrics.text());
    assert_eq!(send(&node.client, head, b"").await.status, 404);
    let status = "GET /v1/status HTTP/1.1\nhost: localhost";
    assert_eq!(send(&node.admin, status, b"").await.json()["node"], "a");
    assert_eq!(send(&node.client, status, b"").await.status, 404);
}
