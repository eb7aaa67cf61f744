//! The rest of a pipeline, run by the writer.
//!
//! The requests go as they came, byte for byte. If the stream begins at the writer with them, what
//! it holds here goes before them: its settings, and the texts it stored. Those extra results are taken off again. A
//! stream that stays open stays at the writer from then on, as its transaction does.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::Json;
use super::request::{RawPipeline, Text, from_json};
use super::stream::{Place, Remote, Stream};
use crate::api::forward::{Answered, once_only, writer};
use crate::api::headers::RECEIPT;
use crate::api::node::Node;
use crate::api::reply::{self, Response};
use crate::change::Position;
use crate::engine::Database;
use crate::error::{Error, Kind, Result};

/// A pipeline whose rest is to run elsewhere.
pub(super) struct Rest<'a> {
    /// This node.
    pub node: &'a Node,
    /// Whose writer.
    pub database: &'a Database,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's body.
    pub body: &'a [u8],
    /// The first request that did not run here.
    pub from: usize,
    /// How long the client waits.
    pub timeout: Option<Duration>,
}

/// How it went.
pub(super) enum Ran {
    /// The results are written; the receipt, if the stream has one.
    Done(Option<Position>),
    /// The writer refused the whole, with this answer.
    Refused(Box<Response>),
}

/// What a writer answers.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    baton: Option<Text<'a>>,
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

impl Rest<'_> {
    /// Runs it, writes its results behind those already in `out`, and moves `stream` to the writer.
    pub async fn run(&self, stream: &mut Stream, out: &mut Json) -> Result<Ran> {
        once_only(self.headers, self.database)?;
        let (url, baton) = match &stream.place {
            Place::Writer(remote) => (remote.url.clone(), Some(remote.baton.as_str())),
            Place::Here(_) => (writer(self.database)?, None),
        };
        let (body, extra) = self.body(stream, baton)?;
        let path = format!("{url}/{}/v2/pipeline", self.database.options().name);
        let sent = self.node.forwarder.post(&path, self.headers, body.into(), self.timeout);
        let answered = sent.await?;
        if !answered.status.is_success() {
            return refused(&url, answered);
        }
        let answer: Answer<'_> = serde_json::from_slice(&answered.body)
            .map_err(|error| nonsense(&url, &error.to_string()))?;
        let wanted = self.requests()?.len() - self.from;
        if answer.results.len() != extra + wanted {
            return Err(nonsense(&url, "it answers another number of requests"));
        }
        for result in &answer.results[extra..] {
            out.comma().raw(result.get());
        }
        move_to(stream, &url, answer.baton);
        Ok(Ran::Done(self.seen(&answered.headers).await))
    }

    fn requests(&self) -> Result<Vec<&RawValue>> {
        Ok(from_json::<RawPipeline<'_>>(self.body)?.requests)
    }

    /// The pipeline for the writer, and how many of its requests are not the client's.
    fn body(&self, stream: &Stream, baton: Option<&str>) -> Result<(Vec<u8>, usize)> {
        let mut json = Json::default();
        json.raw(r#"{"baton":"#).optional(baton).raw(r#","requests":["#);
        let mut extra = 0;
        if let Place::Here(session) = &stream.place {
            for sql in session.settings() {
                json.comma().raw(r#"{"type":"execute","stmt":{"sql":"#).put(&sql).raw("}}");
                extra += 1;
            }
        }
        for (id, sql) in stream.texts.all() {
            json.comma().raw(r#"{"type":"store_sql","sql_id":"#).put(&id);
            json.raw(r#","sql":"#).put(sql).raw("}");
            extra += 1;
        }
        for request in &self.requests()?[self.from..] {
            json.comma().raw(request.get());
        }
        json.raw("]}");
        Ok((json.bytes, extra))
    }

    /// The receipt in `headers`, after this node's own copy has it too (or the wait for it is over).
    async fn seen(&self, headers: &HeaderMap) -> Option<Position> {
        let receipt: Position = headers.get(RECEIPT)?.to_str().ok()?.parse().ok()?;
        let wait = self.node.limits.forward_wait;
        let wait = self.timeout.map_or(wait, |timeout| timeout.min(wait));
        // A copy that is late says how late in its answer's headers: that is no error.
        let _ = self.database.reached(receipt, wait).await;
        Some(receipt)
    }
}

/// From now on `stream` lives at `url`, or (without a baton) no more.
fn move_to(stream: &mut Stream, url: &str, baton: Option<Text<'_>>) {
    let baton = baton.map(|baton| baton.0.into_owned()).unwrap_or_default();
    stream.place = Place::Writer(Remote { url: url.to_owned(), baton });
    stream.texts.clear();
}

/// Passes a refusal on, except one that only says that we asked the wrong node.
fn refused(url: &str, answered: Answered) -> Result<Ran> {
    if answered.status == hyper::StatusCode::MISDIRECTED_REQUEST {
        return Err(Error::unavailable(
            "WRITER_UNAVAILABLE",
            format!("the node at {url} is not the writer (any more)"),
        )
        .hint("nothing was written; try again in a moment"));
    }
    let mut response = reply::full(answered.status, "application/json", answered.body);
    if let Some(kind) = answered.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::clone(kind));
    }
    Ok(Ran::Refused(Box::new(response)))
}

fn nonsense(url: &str, what: &str) -> Error {
    Error::new(
        Kind::Unknown,
        "OUTCOME_UNKNOWN",
        format!("the writer at {url} gave an answer that makes no sense: {what}"),
    )
    .hint("is there a Syncline node of the same version?")
}
