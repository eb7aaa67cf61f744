//! Sending on to the writer what only the writer may run.
//!
//! Two failures matter. If the connection could not be made, nothing was sent: `WRITER_UNAVAILABLE`,
//! try again. If it broke afterwards, nobody here knows whether the writer ran it:
//! `OUTCOME_UNKNOWN`, ask with the idempotency key. A forwarded request says so in a header, and a node
//! that is not the writer refuses it: a request goes one step, never in a circle.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::headers::{ACKNOWLEDGE, FORWARDED, IDEMPOTENCY_KEY, READ, TIMEOUT};
use crate::engine::Database;
use crate::error::{Error, Kind, Result};

/// Bytes of an answer that we are willing to pass on.
const LARGEST: usize = 64 << 20;
/// How long the writer may take, unless the client said.
const PATIENCE: Duration = Duration::from_secs(660);

/// Speaks to the writer, over connections that are kept.
pub(super) struct Forwarder {
    client: Client<HttpConnector, Full<Bytes>>,
    node: HeaderValue,
}

/// What the writer answered.
pub(super) struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Forwarder {
    /// Forwards in the name of `node`.
    pub fn new(node: HeaderValue) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(connector);
        Forwarder { client, node }
    }

    /// Posts `body` to `url` with those of `headers` that go with a request.
    pub async fn post(
        &self,
        url: &str,
        headers: &HeaderMap,
        body: Bytes,
        patience: Option<Duration>,
    ) -> Result<Answered> {
        let request = self.request(url, headers, body)?;
        let sent = async {
            let answer = self.client.request(request).await.map_err(|error| {
                if error.is_connect() { unreachable(url, error) } else { cut(url, error) }
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LARGEST).collect().await;
            let body = body.map_err(|error| cut(url, error))?.to_bytes();
            Ok(Answered { status: head.status, headers: head.headers, body })
        };
        let patience = patience.unwrap_or(PATIENCE);
        tokio::time::timeout(patience, sent)
            .await
            .unwrap_or_else(|_| Err(cut(url, format!("no answer within {patience:?}"))))
    }

    fn request(&self, url: &str, headers: &HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.parse().map_err(|error: hyper::http::uri::InvalidUri| {
            Error::unavailable("WRITER_UNAVAILABLE", format!("{url:?} is no address of a writer"))
                .hint("check `writer` in the configuration, or the writer's `advertise`")
                .source(error)
        })?;
        let to = request.headers_mut();
        for name in [READ, ACKNOWLEDGE, TIMEOUT, IDEMPOTENCY_KEY, AUTHORIZATION, CONTENT_TYPE] {
            if let Some(value) = headers.get(&name) {
                to.insert(name, value.clone());
            }
        }
        to.insert(FORWARDED, self.node.clone());
        Ok(request)
    }
}

/// Where the writer of `database` is.
pub(super) fn writer(database: &Database) -> Result<String> {
    let url = database.writer_url().ok_or_else(|| {
        Error::unavailable("WRITER_UNAVAILABLE", "this node knows of no live writer")
            .hint("start the writer, or `syncline promote` a reader")
    })?;
    Ok(url.trim_end_matches('/').to_owned())
}

/// Refuses to send a request further that was forwarded already.
pub(super) fn once_only(headers: &HeaderMap, database: &Database) -> Result<()> {
    let Some(from) = headers.get(FORWARDED) else { return Ok(()) };
    let writer = database.writer_url();
    let writer = writer.as_deref().unwrap_or("not known here");
    Err(Error::unavailable(
        "NOT_WRITER",
        format!("{from:?} takes this node for the writer, but the writer is {writer}"),
    )
    .hint("the other node will learn of the new writer; try again"))
}

fn unreachable(url: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::unavailable("WRITER_UNAVAILABLE", format!("the writer at {url} cannot be reached"))
        .hint("nothing was written; try again, or `syncline promote` a reader")
        .source(error)
}

fn cut(url: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(
        Kind::Unknown,
        "OUTCOME_UNKNOWN",
        format!("the connection to the writer at {url} broke before it answered"),
    )
    .hint("it may have been written; with an Idempotency-Key the same request can be sent again")
    .source(error)
}
