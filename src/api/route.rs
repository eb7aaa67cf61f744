//! From a request to its handler: the guard first, panics caught, errors made answers.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, CONNECTION, CONTENT_TYPE, HeaderValue, ORIGIN, UPGRADE, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};

use super::connection::{Busy, Connection};
use super::guard::Principal;
use super::headers::NODE;
use super::node::{Door, Node};
use super::reply::{self, Answer, Body, Response};
use super::{admin, feed, health, hrana, metrics, wake};
use crate::engine::Database;
use crate::error::{Error, Kind, Result};

/// A request that was let in.
pub(super) struct Call {
    /// Its head.
    pub head: Parts,
    /// Its body, not yet read.
    pub body: Incoming,
    /// Who sent it.
    pub principal: Principal,
}

/// Answers one request; a panic on the way is an answer too.
pub(super) async fn answer(
    node: &Arc<Node>,
    door: Door,
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> std::result::Result<Response, Infallible> {
    let busy = connection.busy();
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = caught(handle(node, door, connection.local, request)).await;
    response.headers_mut().insert(NODE, node.name.clone());
    if node.opening {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(origin) = origin.filter(|origin| node.guard.listed(origin)) {
        allow_origin(&mut response, origin);
    }
    Ok(keep_busy(response, busy))
}

/// A connection is busy until its stream of pieces ends.
fn keep_busy(response: Response, busy: Busy) -> Response {
    response.map(|body| match body {
        Body::Full(bytes) => Body::Full(bytes),
        Body::Stream(pieces) => Body::Stream(
            pieces
                .map(move |piece| {
                    let _ = &busy;
                    piece
                })
                .boxed(),
        ),
    })
}

/// The answer of a handler; an error or a panic is an answer too.
async fn caught(handler: impl Future<Output = Answer>) -> Response {
    let answer = AssertUnwindSafe(handler).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| Err(panicked()));
    answer.unwrap_or_else(|error| reply::error(&error))
}

fn panicked() -> Error {
    tracing::error!("a request handler panicked; the node goes on");
    Error::new(Kind::Unknown, "INTERNAL", "this request met a bug in Syncline")
        .hint("the node's log has the details; please report it")
}

async fn handle(
    node: &Arc<Node>,
    door: Door,
    local: Option<IpAddr>,
    request: Request<Incoming>,
) -> Answer {
    let (head, body) = request.into_parts();
    let principal = node.guard.admit(&head, local)?;
    let call = Call { head, body, principal };
    if call.head.method == Method::OPTIONS {
        return Ok(reply::full(StatusCode::NO_CONTENT, "text/plain", ""));
    }
    match door {
        _ if node.opening => health::while_opening(&call.head),
        Door::Clients => for_clients(node, call).await,
        Door::Operators => for_operators(node, call).await,
    }
}

/// The segments of a path, empty ones left out (some clients join with two slashes).
fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

async fn for_clients(node: &Arc<Node>, call: Call) -> Answer {
    let path = call.head.uri.path();
    // Nearly all requests: no need to take the path apart.
    if (path == "/v2/pipeline" || path == "/v3/pipeline") && call.head.method == Method::POST {
        return hrana::answer(node, node.default()?, call).await;
    }
    let path = path.to_owned();
    match segments(&path).as_slice() {
        [] | ["v2" | "v3"] if call.head.method == Method::GET => greet(&call.head),
        ["v2" | "v3", "pipeline"] => {
            only(&call.head, Method::POST)?;
            hrana::answer(node, node.default()?, call).await
        }
        ["v3", "cursor"] => {
            only(&call.head, Method::POST)?;
            hrana::answer_cursor(node, node.default()?, call).await
        }
        ["health" | "ready" | "version"] => health::answer(node, &call.head).await,
        ["v1", "gateway", rest @ ..] => node.gateway()?.answer(node, rest, call).await,
        ["v1", "databases", name, "gateway", rest @ ..] => {
            node.endpoint(name)?.answer(node, rest, call).await
        }
        ["v1", "databases", name, rest @ ..] => {
            let database = node.database(name)?.clone();
            of_database(node, &database, rest, call).await
        }
        [name, rest @ ..] if node.databases.contains_key(*name) => {
            let database = node.database(name)?.clone();
            for_database(node, &database, rest, call).await
        }
        rest => unspoken(&call.head, rest),
    }
}

/// Below `/v1/databases/{db}/`, for clients and other nodes.
async fn of_database(node: &Arc<Node>, database: &Database, rest: &[&str], call: Call) -> Answer {
    let posts = matches!(rest, ["readers" | "replay"]);
    let known =
        posts || matches!(rest, ["position" | "changes" | "snapshot" | "wake"] | ["receipts", _]);
    if !known {
        return Err(reply::not_found(call.head.uri.path()));
    }
    only(&call.head, if posts { Method::POST } else { Method::GET })?;
    match rest {
        ["position"] => health::position(database).await,
        ["receipts", receipt] => health::receipt(database, receipt).await,
        ["changes"] => feed::changes(node, database, &call.head).await,
        ["snapshot"] => feed::snapshot(node, database, &call.head).await,
        ["wake"] => wake::wake(node, database),
        ["readers"] => wake::register(node, database, call).await,
        _ => admin::replay_here(node, database, call).await,
    }
}

/// Below `/DATABASE/`.
async fn for_database(node: &Arc<Node>, database: &Database, rest: &[&str], call: Call) -> Answer {
    match rest {
        [] | ["v2" | "v3"] if call.head.method == Method::GET => greet(&call.head),
        ["v2" | "v3", "pipeline"] => {
            only(&call.head, Method::POST)?;
            hrana::answer(node, database, call).await
        }
        ["v3", "cursor"] => {
            only(&call.head, Method::POST)?;
            hrana::answer_cursor(node, database, call).await
        }
        rest => unspoken(&call.head, rest),
    }
}

/// A client asks whether a version of the protocol is spoken.
fn greet(head: &Parts) -> Answer {
    if head.headers.contains_key(UPGRADE) {
        return unspoken(head, &[]);
    }
    Ok(reply::full(
        StatusCode::OK,
        "text/plain",
        "Syncline: SQL at /v2/pipeline and /v3/pipeline\n",
    ))
}

async fn for_operators(node: &Arc<Node>, call: Call) -> Answer {
    let path = call.head.uri.path().to_owned();
    match segments(&path).as_slice() {
        ["health" | "ready" | "version"] => health::answer(node, &call.head).await,
        ["metrics"] => {
            only(&call.head, Method::GET)?;
            metrics::render(node).await
        }
        ["v1", "status"] => {
            only(&call.head, Method::GET)?;
            admin::status(node).await
        }
        ["v1", "databases", name, rest @ ..] => {
            let database = node.database(name)?.clone();
            admin::database(node, &database, rest, call).await
        }
        _ => Err(reply::not_found(&path)),
    }
}

/// Refuses other methods than `method` (a HEAD counts as a GET).
pub(super) fn only(head: &Parts, method: Method) -> Result<()> {
    if head.method == method || head.method == Method::HEAD && method == Method::GET {
        return Ok(());
    }
    Err(Error::invalid(
        "METHOD_NOT_ALLOWED",
        format!("{} takes {method}, not {}", head.uri.path(), head.method),
    ))
}

/// Protocols of the same SDKs that are not spoken here get a sentence.
fn unspoken(head: &Parts, path: &[&str]) -> Answer {
    let grpc = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let embedded = ["sync", "info", "export", "pull-updates"];
    if grpc || path.first().is_some_and(|first| embedded.contains(first)) {
        return Err(reply::not_implemented(
            "embedded replicas and sync modes of the libSQL SDKs are another protocol, not spoken here",
            "use the SDK in remote mode: give it this node's http:// address and no sync URL",
        ));
    }
    if head.headers.contains_key(UPGRADE) {
        return Err(reply::not_implemented(
            "this version of Syncline does not speak the WebSocket form of the protocol",
            "write http:// in place of ws:// or libsql://",
        ));
    }
    match path {
        ["v1", "execute" | "batch"] => Err(reply::not_implemented(
            "this version of Syncline does not speak the stateless form of the protocol",
            "send the statements to /v2/pipeline",
        )),
        _ => Err(reply::not_found(head.uri.path())),
    }
}

fn allow_origin(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    let allowed = "content-type, authorization, idempotency-key, syncline-read, \
                   syncline-acknowledge, syncline-timeout";
    let exposed = "syncline-receipt, syncline-position, syncline-node, syncline-stale-ms";
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    headers.insert(VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_handler_is_an_answer() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let response = caught(async { panic!("a bug") }).await;
        std::panic::set_hook(hook);
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn two_slashes_are_one() {
        assert_eq!(segments("//orders//v3/pipeline"), ["orders", "v3", "pipeline"]);
        assert!(segments("/").is_empty());
    }
}
