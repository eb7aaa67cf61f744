//! A pipeline as it arrives: parsed in place, text borrowed from the body wherever JSON allows it.
//!
//! Every request is one flat record whose fields are all optional: `type` says which of them count.
//! (An internally tagged enum would buffer each request as a tree first.) Unknown fields are
//! ignored: clients send `replication_index: null` and the like.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// `{baton, requests}`.
#[derive(Debug, Deserialize)]
pub(super) struct Pipeline<'a> {
    /// The stream to go on with; none opens one.
    #[serde(borrow, default)]
    pub baton: Option<Text<'a>>,
    /// What to run.
    #[serde(borrow)]
    pub requests: Vec<Request<'a>>,
}

/// The same pipeline with its requests as they came, for sending them on.
#[derive(Debug, Deserialize)]
pub(super) struct RawPipeline<'a> {
    /// One text for each.
    #[serde(borrow)]
    pub requests: Vec<&'a RawValue>,
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verb {
    /// Run one statement.
    Execute,
    /// Run statements under conditions.
    Batch,
    /// Run a text of statements.
    Sequence,
    /// Say what a statement is.
    Describe,
    /// Keep a text under an id.
    StoreSql,
    /// Forget it.
    CloseSql,
    /// Say whether a transaction is open.
    GetAutocommit,
    /// End the stream.
    Close,
}

/// One request.
#[derive(Debug, Deserialize)]
pub(super) struct Request<'a> {
    /// What it wants.
    #[serde(rename = "type")]
    pub verb: Verb,
    /// Of `execute`.
    #[serde(borrow, default)]
    pub stmt: Option<Stmt<'a>>,
    /// Of `batch`.
    #[serde(borrow, default)]
    pub batch: Option<Batch<'a>>,
    /// Of `sequence`, `describe` and `store_sql`.
    #[serde(borrow, default)]
    pub sql: Option<Text<'a>>,
    /// In place of `sql`; what `store_sql` and `close_sql` name.
    #[serde(default)]
    pub sql_id: Option<i32>,
}

/// One statement.
#[derive(Debug, Deserialize)]
pub(super) struct Stmt<'a> {
    /// Its text …
    #[serde(borrow, default)]
    pub sql: Option<Text<'a>>,
    /// … or the id of a stored one.
    #[serde(default)]
    pub sql_id: Option<i32>,
    /// Arguments by place.
    #[serde(borrow, default)]
    pub args: Option<Vec<Value<'a>>>,
    /// Arguments by name.
    #[serde(borrow, default)]
    pub named_args: Option<Vec<Named<'a>>>,
    /// Whether the rows are wanted (yes, if it does not say).
    #[serde(default)]
    pub want_rows: Option<bool>,
}

/// An argument by name.
#[derive(Debug, Deserialize)]
pub(super) struct Named<'a> {
    /// With or without `:`, `@`, `$`.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// What it stands for.
    #[serde(borrow)]
    pub value: Value<'a>,
}

/// Statements under conditions.
#[derive(Debug, Deserialize)]
pub(super) struct Batch<'a> {
    /// In order.
    #[serde(borrow)]
    pub steps: Vec<BatchStep<'a>>,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub(super) struct BatchStep<'a> {
    /// When it runs.
    #[serde(default)]
    pub condition: Option<Condition>,
    /// What runs.
    #[serde(borrow)]
    pub stmt: Stmt<'a>,
}

/// When a step runs.
#[derive(Debug, Deserialize)]
pub(super) struct Condition {
    /// Which condition it is.
    #[serde(rename = "type")]
    pub kind: Test,
    /// Of `ok` and `error`.
    #[serde(default)]
    pub step: Option<usize>,
    /// Of `not`.
    #[serde(default)]
    pub cond: Option<Box<Condition>>,
    /// Of `and` and `or`.
    #[serde(default)]
    pub conds: Option<Vec<Condition>>,
}

/// The conditions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Test {
    /// The step ran and did not fail.
    Ok,
    /// It did not.
    Error,
    /// The opposite.
    Not,
    /// All of them.
    And,
    /// One of them.
    Or,
    /// No transaction is open.
    IsAutocommit,
}

/// A value with its type.
#[derive(Debug, Deserialize)]
pub(super) struct Value<'a> {
    /// Which.
    #[serde(rename = "type")]
    pub kind: ValueKind,
    /// Of integers (a decimal string), floats (a number) and text.
    #[serde(borrow, default)]
    pub value: Option<Scalar<'a>>,
    /// Of blobs.
    #[serde(borrow, default)]
    pub base64: Option<Text<'a>>,
}

/// The types of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ValueKind {
    /// NULL.
    Null,
    /// 64 bits.
    Integer,
    /// Double precision.
    Float,
    /// UTF-8.
    Text,
    /// Bytes.
    Blob,
}

/// A string or a number.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
}

/// Text, borrowed unless it holds escapes. (`Option<Cow<str>>` alone would always copy.)
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Integer(n))
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Scalar<'de>, E> {
        Ok(i64::try_from(n).map_or(Scalar::Float(n as f64), Scalar::Integer))
    }

    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Scalar<'de>, E> {
        if n.is_finite() { Ok(Scalar::Float(n)) } else { Err(E::custom("a number is too large")) }
    }
}

/// Parses a pipeline and checks what makes the whole of it wrong.
pub(super) fn parse(body: &[u8]) -> Result<Pipeline<'_>> {
    let pipeline: Pipeline<'_> = from_json(body)?;
    let last = pipeline.requests.len().saturating_sub(1);
    let early = pipeline.requests.iter().take(last).any(|request| request.verb == Verb::Close);
    if early {
        return Err(Error::invalid("CLOSE_NOT_LAST", "something follows `close` in the pipeline")
            .hint("send `close` as the last request"));
    }
    Ok(pipeline)
}

/// Parses JSON of ours.
pub(super) fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Error::invalid("JSON_INVALID", format!("the body is not a pipeline: {error}"))
            .hint("send {\"baton\": null, \"requests\": [{\"type\": \"execute\", \"stmt\": {\"sql\": \"…\"}}, {\"type\": \"close\"}]}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_borrowed_unless_it_holds_escapes() {
        let body = br#"{"baton":null,"requests":[
            {"type":"execute","stmt":{"sql":"SELECT ?","args":[{"type":"text","value":"plain"}]}},
            {"type":"execute","stmt":{"sql":"SELECT \"a\""}}]}"#;
        let pipeline = parse(body).unwrap();
        let stmt = |i: usize| pipeline.requests[i].stmt.as_ref().unwrap();
        let borrowed = |text: &Cow<'_, str>| matches!(text, Cow::Borrowed(_));
        assert!(borrowed(&stmt(0).sql.as_ref().unwrap().0));
        let Some(Scalar::Text(text)) = &stmt(0).args.as_ref().unwrap()[0].value else { panic!() };
        assert!(borrowed(text));
        assert_eq!(stmt(1).sql.as_ref().unwrap().0, "SELECT \"a\"");
    }

    #[test]
    fn unknown_fields_and_nulls_pass() {
        let body = br#"{"requests":[{"type":"execute","replication_index":null,"stmt":{
            "sql":"SELECT 1","sql_id":null,"args":null,"named_args":[],"want_rows":null,
            "replication_index":{"deep":[1,{}]}}},{"type":"close"}],"more":1}"#;
        assert_eq!(parse(body).unwrap().requests.len(), 2);
    }

    #[test]
    fn a_wrong_body_is_refused_as_a_whole() {
        let code = |body: &str| parse(body.as_bytes()).unwrap_err().code();
        for body in [
            "",
            "{",
            "[]",
            r#"{"requests":null}"#,
            r#"{"requests":[{"type":"execut"}]}"#,
            r#"{"requests":[{"type":"close"}"#,
            r#"{"requests":[{"stmt":{}}]}"#,
            r#"{"requests":[]} trailing"#,
            r#"{"requests":[{"type":"execute","stmt":{"sql":"x","args":[{"type":"float","value":1e999}]}}]}"#,
        ] {
            assert_eq!(code(body), "JSON_INVALID", "{body}");
        }
        let close = r#"{"requests":[{"type":"close"},{"type":"get_autocommit"}]}"#;
        assert_eq!(code(close), "CLOSE_NOT_LAST");
    }

    #[test]
    fn a_tower_of_conditions_does_not_exhaust_the_stack() {
        let tower = format!(
            r#"{{"requests":[{{"type":"batch","batch":{{"steps":[{{"stmt":{{"sql":"x"}},"condition":{}{}{}}}]}}}}]}}"#,
            r#"{"type":"not","cond":"#.repeat(100_000),
            r#"{"type":"is_autocommit"}"#,
            "}".repeat(100_000)
        );
        assert_eq!(parse(tower.as_bytes()).unwrap_err().code(), "JSON_INVALID");
    }
}
