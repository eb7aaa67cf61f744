//! `POST /v3/cursor`: one batch whose results come as lines.
//!
//! ```text
//! {"baton": null, "batch": {"steps": […]}}
//!
//! {"baton": "…", "base_url": null}                         one object a line from here on
//! {"type": "step_begin", "step": 0, "cols": […]}
//! {"type": "row", "row": […]}
//! {"type": "step_end", "affected_row_count": 0, "last_insert_rowid": null}
//! {"type": "step_error", "step": 1, "error": {…}}          a skipped step has no line
//! {"type": "error", "error": {…}}                          nothing of the batch ran
//! {"type": "replication_index", "replication_index": null}
//! ```
//!
//! It is a pipeline of one batch, in other clothes: it runs, waits, is forwarded and answers errors
//! of the whole as one, and only its results are written anew. The Rust and Python SDKs send each
//! statement so.
//!
//! # What is left out
//!
//! Rows do not leave before the batch is done: a group is answered after its sync, and then all of
//! it is there. So the limit on answers is that of a pipeline.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::Json;
use super::pipeline;
use super::request::from_json;
use crate::api::body::{Buffered, read};
use crate::api::node::Node;
use crate::api::reply::{Answer, Body, Response};
use crate::api::route::Call;
use crate::engine::Database;
use crate::error::{Error, Kind, Result};

/// What arrives.
#[derive(Deserialize)]
struct Cursor<'a> {
    #[serde(borrow, default)]
    baton: Option<&'a RawValue>,
    #[serde(borrow)]
    batch: &'a RawValue,
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

/// Answers `POST …/cursor`.
pub(in crate::api) async fn answer(node: &Node, database: &Database, call: Call) -> Answer {
    let Call { head, body, principal } = call;
    let Buffered { bytes, .. } = &read(node, &head.headers, body, node.limits.body).await?;
    let response = pipeline::run(node, database, &head, &as_pipeline(bytes)?, principal).await?;
    if response.status() != StatusCode::OK {
        return Ok(response);
    }
    as_lines(response)
}

fn as_pipeline(body: &[u8]) -> Result<Vec<u8>> {
    let cursor: Cursor<'_> = from_json(body)?;
    let mut json = Json::default();
    json.raw(r#"{"baton":"#).raw(or_null(cursor.baton));
    json.raw(r#","requests":[{"type":"batch","batch":"#).raw(cursor.batch.get()).raw("}]}");
    Ok(json.bytes)
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
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
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
