//! `POST /v3/cursor`: one batch whose results come as lines.
//!
//! ```text
//! {"baton": null, "batch": {"steps": […]}}
//!
//! {"baton": "…", "base_url": null}                         one object a line from here on
//! {"type": "step_begin", "step": 0, "cols": […]}
//! {"type": "row", "row": […]}
//! {"type": "step_end", "affected_row_count": 0, "last_insert_rowid": null}
//! {"type": "step_error", "step": 1, "error": {…}}          perhaps after rows; a skipped step has no line
//! {"type": "error", "error": {…}}                          nothing of the batch ran, or no more of it
//! {"type": "replication_index", "replication_index": null}
//! ```
//!
//! The Rust and Python SDKs send each statement so. A batch that only reads, here, is answered while it
//! runs ([`lines`](super::lines)): the first piece brings the answer's head, and the baton of the stream,
//! which is in use until the last line. A small answer is there at once, and so is that of a batch that
//! writes: it waits for its sync. What belongs to the writer goes there as a pipeline of one batch, and
//! only its results are written anew.
//!
//! # What is left out
//!
//! Rows that the writer reads for us do not leave before the batch is done, nor do those of a batch that
//! writes; the limits on answers are for them. Over HTTP an answer that has begun cannot become an error:
//! from then on errors are lines.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::json::Json;
use super::lines::{Lines, Pipe};
use super::pipeline::{self, Open, base_url, belongs_to_writer, describe, too_large};
use super::program::batch;
use super::request::{self, Text, from_json};
use super::stream::Place;
use crate::api::body::{counted, read};
use crate::api::headers;
use crate::api::node::Node;
use crate::api::reply::{self, Answer, Body, Response};
use crate::api::route::Call;
use crate::engine::{Database, Outcome, Program, RequestOptions};
use crate::error::{Error, Kind, Result};

const LINES: &str = "application/x-ndjson";

/// What arrives.
#[derive(Deserialize)]
struct Cursor<'a> {
    #[serde(borrow, default)]
    baton: Option<Text<'a>>,
    #[serde(borrow)]
    batch: request::Batch<'a>,
}

/// The same as it came, for sending it on.
#[derive(Deserialize)]
struct RawCursor<'a> {
    #[serde(borrow, default)]
    baton: Option<&'a RawValue>,
    #[serde(borrow)]
    batch: &'a RawValue,
}

/// Answers `POST …/cursor`.
pub(in crate::api) async fn answer(node: &Node, database: &Database, call: Call) -> Answer {
    let Call { head, body, principal } = call;
    let body = read(node, &head.headers, body, node.limits.body).await?;
    let options = headers::options(&head.headers)?;
    let cursor: Cursor<'_> = from_json(&body.bytes)?;
    let mut open = Open::of(node, database, principal, cursor.baton.as_ref(), false)?;
    let elsewhere = if belongs_to_writer(database, &options, open.stream()) {
        open
    } else {
        let program = batch(Some(cursor.batch), &open.stream().texts);
        match here(&Asked { node, database, head: &head }, open, program, options).await? {
            Went::Here(response) => return Ok(*response),
            Went::Elsewhere(open) => *open,
        }
    };
    // The pipeline takes the stream again: nothing has run.
    elsewhere.settle(false);
    let response =
        pipeline::run(node, database, &head, &as_pipeline(&body.bytes)?, principal).await?;
    if response.status() != StatusCode::OK {
        return Ok(response);
    }
    as_lines(response)
}

/// Who was asked, and how.
struct Asked<'a> {
    node: &'a Node,
    database: &'a Database,
    head: &'a Parts,
}

/// What came of a batch that was taken for one of ours.
enum Went {
    Here(Box<Response>),
    /// It belongs to the writer: nothing of it has run.
    Elsewhere(Box<Open>),
}

/// A batch on its way, with its stream.
type Running = Pin<Box<dyn Future<Output = (Open, Result<Outcome>)> + Send>>;

async fn here(
    asked: &Asked<'_>,
    open: Open,
    program: Result<Program>,
    options: RequestOptions,
) -> Result<Went> {
    let limit = asked.database.options().limits.response_bytes;
    let steps = program.as_ref().map_or(0, |program| program.steps.len());
    let (pipe, mut pieces) = Pipe::new(steps, limit, asked.node.buffers.clone());
    let mut running: Running = Box::pin(run(open, program, options, pipe));
    let answered = tokio::select! {
        biased;
        (open, ran) = &mut running => match ran {
            Err(error) if error.code() == "NOT_WRITER" => return Ok(Went::Elsewhere(Box::new(open))),
            ran => at_once(asked, open, ran, &mut pieces)?,
        },
        Some(first) = pieces.recv() => bit_by_bit(asked, first, pieces, running),
    };
    Ok(Went::Here(Box::new(answered)))
}

async fn run(
    mut open: Open,
    program: Result<Program>,
    options: RequestOptions,
    pipe: Pipe,
) -> (Open, Result<Outcome>) {
    let Place::Here(session) = &mut open.stream().place else {
        unreachable!("a stream at the writer is forwarded as a whole")
    };
    let ran = match program {
        Ok(program) => session.run_into(program, &options, Some(Box::new(pipe))).await,
        Err(error) => Err(error),
    };
    (open, ran)
}

/// The answer of a batch that is over: all of it.
fn at_once(
    asked: &Asked<'_>,
    open: Open,
    ran: Result<Outcome>,
    pieces: &mut mpsc::Receiver<Bytes>,
) -> Answer {
    let limit = asked.database.options().limits.response_bytes;
    let receipt = ran.as_ref().ok().and_then(|outcome| outcome.receipt);
    let mut lines = asked.begun(open.keep(asked.node).as_deref());
    while let Ok(piece) = pieces.try_recv() {
        lines.json.bytes.extend_from_slice(&piece);
    }
    let mark = lines.json.bytes.len();
    lines.json.limit = limit.saturating_add(mark);
    let steps = ran.as_ref().map_or(&[][..], |outcome| &outcome.steps);
    steps.iter().enumerate().for_each(|(i, step)| lines.end(i, step));
    if lines.json.is_full() {
        lines.json.bytes.truncate(mark);
        lines.tail(Some(&too_large(limit)));
    } else {
        lines.tail(ran.as_ref().err());
    }
    let bytes = counted(&asked.node.buffers, lines.json.bytes, receipt.is_some())?;
    let mut response = reply::full(StatusCode::OK, LINES, bytes);
    describe(&mut response, asked.database, receipt);
    Ok(response)
}

/// The answer of a batch that runs: its beginning, and the rest as it comes.
fn bit_by_bit(
    asked: &Asked<'_>,
    first: Bytes,
    pieces: mpsc::Receiver<Bytes>,
    running: Running,
) -> Response {
    let place = asked.node.streams.reserve();
    let lines = asked.begun(Some(&place.baton()));
    let begun = stream::iter([Bytes::from(lines.json.bytes), first]);
    let rest = stream::unfold(pieces, |mut pieces| async {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    let end = running.map(|(open, ran)| {
        // Before the last line: whoever has read it may use the baton.
        place.fill(open.into_stream());
        let mut lines = Lines::default();
        lines.tail(ran.err().as_ref());
        Bytes::from(lines.json.bytes)
    });
    let mut response = reply::stream(LINES, begun.chain(rest).chain(end.into_stream()).boxed());
    describe(&mut response, asked.database, None);
    response
}

impl Asked<'_> {
    /// An answer's first line.
    fn begun(&self, baton: Option<&str>) -> Lines {
        let mut lines = Lines::default();
        let base = baton.and_then(|_| base_url(self.node, self.database, self.head));
        lines.head(baton, base.as_deref());
        lines
    }
}

fn as_pipeline(body: &[u8]) -> Result<Vec<u8>> {
    let cursor: RawCursor<'_> = from_json(body)?;
    let mut json = Json::default();
    json.raw(r#"{"baton":"#).raw(or_null(cursor.baton));
    json.raw(r#","requests":[{"type":"batch","batch":"#).raw(cursor.batch.get()).raw("}]}");
    Ok(json.bytes)
}

/// What the pipeline answers.
#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow)]
    baton: Option<&'a RawValue>,
    #[serde(borrow)]
    base_url: Option<&'a RawValue>,
    #[serde(borrow)]
    results: [Batch<'a>; 1],
}

/// Its one result.
#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow, default)]
    response: Option<Ran<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Ran<'a> {
    #[serde(borrow)]
    result: Steps<'a>,
}

#[derive(Deserialize)]
struct Steps<'a> {
    #[serde(borrow)]
    step_results: Vec<Option<Step<'a>>>,
    #[serde(borrow)]
    step_errors: Vec<Option<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Step<'a> {
    #[serde(borrow)]
    cols: &'a RawValue,
    #[serde(borrow)]
    rows: Vec<&'a RawValue>,
    #[serde(borrow)]
    affected_row_count: &'a RawValue,
    #[serde(borrow)]
    last_insert_rowid: Option<&'a RawValue>,
}

fn or_null(value: Option<&RawValue>) -> &str {
    value.map_or("null", RawValue::get)
}

/// The pipeline's answer with another body; its headers stay.
fn as_lines(response: Response) -> Answer {
    let (mut head, body) = response.into_parts();
    let Body::Full(Some(bytes)) = body else { return Err(not_ours("it is empty")) };
    let answered: Answered<'_> =
        serde_json::from_slice(&bytes).map_err(|error| not_ours(&error.to_string()))?;
    let lines = lines(&answered);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    Ok(Response::from_parts(head, Body::Full(Some(lines.into()))))
}

fn lines(answered: &Answered<'_>) -> Vec<u8> {
    let mut out = Json::default();
    out.raw(r#"{"baton":"#).raw(or_null(answered.baton));
    out.raw(r#","base_url":"#).raw(or_null(answered.base_url)).raw("}\n");
    let [batch] = &answered.results;
    if let Some(error) = batch.error {
        out.raw(r#"{"type":"error","error":"#).raw(error.get()).raw("}\n");
    }
    if let Some(Ran { result }) = &batch.response {
        for (i, (result, error)) in result.step_results.iter().zip(&result.step_errors).enumerate()
        {
            step(&mut out, i, result.as_ref(), *error);
        }
    }
    out.raw("{\"type\":\"replication_index\",\"replication_index\":null}\n");
    out.bytes
}

fn step(out: &mut Json, i: usize, result: Option<&Step<'_>>, error: Option<&RawValue>) {
    if let Some(result) = result {
        out.raw(r#"{"type":"step_begin","step":"#).put(&i);
        out.raw(r#","cols":"#).raw(result.cols.get()).raw("}\n");
        for row in &result.rows {
            out.raw(r#"{"type":"row","row":"#).raw(row.get()).raw("}\n");
        }
        out.raw(r#"{"type":"step_end","affected_row_count":"#).raw(result.affected_row_count.get());
        out.raw(r#","last_insert_rowid":"#).raw(or_null(result.last_insert_rowid)).raw("}\n");
    } else if let Some(error) = error {
        out.raw(r#"{"type":"step_error","step":"#).put(&i);
        out.raw(r#","error":"#).raw(error.get()).raw("}\n");
    }
}

/// A bug, here or at a writer that is another program.
fn not_ours(what: &str) -> Error {
    Error::new(
        Kind::Unknown,
        "OUTCOME_UNKNOWN",
        format!("the batch's answer makes no sense: {what}"),
    )
    .hint("is the writer a Syncline node of the same version?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(answer: &str) -> String {
        String::from_utf8(lines(&serde_json::from_str(answer).unwrap())).unwrap()
    }

    /// Clients count on a line for each step that ran, none for a skipped one, and the same end.
    #[test]
    fn each_step_that_ran_has_its_lines() {
        let answer = concat!(
            r#"{"baton":"b1","base_url":null,"results":[{"type":"ok","response":{"type":"batch","#,
            r#""result":{"step_results":[{"cols":[{"name":"n"}],"rows":[[{"type":"null"}]],"#,
            r#""affected_row_count":0,"last_insert_rowid":null,"rows_read":2},null,null],"#,
            r#""step_errors":[null,null,{"message":"m","code":"C"}]}}}]}"#,
        );
        let expected = concat!(
            "{\"baton\":\"b1\",\"base_url\":null}\n",
            "{\"type\":\"step_begin\",\"step\":0,\"cols\":[{\"name\":\"n\"}]}\n",
            "{\"type\":\"row\",\"row\":[{\"type\":\"null\"}]}\n",
            "{\"type\":\"step_end\",\"affected_row_count\":0,\"last_insert_rowid\":null}\n",
            "{\"type\":\"step_error\",\"step\":2,\"error\":{\"message\":\"m\",\"code\":\"C\"}}\n",
            "{\"type\":\"replication_index\",\"replication_index\":null}\n",
        );
        assert_eq!(written(answer), expected);
    }

    #[test]
    fn an_error_of_the_whole_batch_is_one_line() {
        let answer =
            r#"{"baton":null,"base_url":null,"results":[{"type":"error","error":{"code":"C"}}]}"#;
        let text = written(answer);
        assert_eq!(text.lines().nth(1), Some(r#"{"type":"error","error":{"code":"C"}}"#));
        assert_eq!(text.lines().count(), 3);
    }
}
