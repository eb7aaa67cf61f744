//! From the protocol's statements to the engine's, and what is wrong with single requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::request::{Batch, Condition, Named, Scalar, Stmt, Test, Text, Value, ValueKind};
use crate::change;
use crate::engine::{Arguments, Condition as When, Program, Statement, Step};
use crate::error::{Error, Kind, Result};

/// Sent without padding, read with or without.
pub(in crate::api) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of text that one stream may store.
const STREAM_TEXTS: usize = 1 << 20;
/// Bytes of text that all streams of a node may store.
const NODE_TEXTS: usize = 64 << 20;

/// The texts that a stream stored under ids.
#[derive(Debug)]
pub(super) struct Texts {
    by_id: HashMap<i32, Arc<str>>,
    bytes: usize,
    /// Bytes that all streams store.
    shared: Arc<AtomicUsize>,
}

impl Texts {
    /// None yet; `shared` counts those of all streams.
    pub fn new(shared: Arc<AtomicUsize>) -> Self {
        Texts { by_id: HashMap::new(), bytes: 0, shared }
    }

    /// Keeps `sql` under `id`.
    pub fn store(&mut self, id: i32, sql: &str) -> Result<()> {
        if self.by_id.contains_key(&id) {
            return Err(Error::invalid("SQL_STORE_TWICE", format!("text {id} is stored already"))
                .hint("close it first, or use another id"));
        }
        let all = self.shared.load(Ordering::Relaxed) + sql.len();
        if self.bytes + sql.len() > STREAM_TEXTS || all > NODE_TEXTS {
            return Err(Error::new(
                Kind::Retry,
                "SQL_STORE_TOO_LARGE",
                "the streams of this node store too much SQL",
            )
            .hint("send the text with the request, or close texts that are not needed"));
        }
        self.bytes += sql.len();
        self.shared.fetch_add(sql.len(), Ordering::Relaxed);
        self.by_id.insert(id, sql.into());
        Ok(())
    }

    /// Forgets `id`; it need not be there.
    pub fn close(&mut self, id: i32) {
        if let Some(sql) = self.by_id.remove(&id) {
            self.bytes -= sql.len();
            self.shared.fetch_sub(sql.len(), Ordering::Relaxed);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.by_id.clear();
        self.shared.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }

    /// What is stored.
    pub fn all(&self) -> impl Iterator<Item = (i32, &str)> {
        self.by_id.iter().map(|(id, sql)| (*id, &**sql))
    }

    /// The text of a request: sent with it, or stored before.
    pub fn resolve(&self, sql: Option<&Text<'_>>, id: Option<i32>) -> Result<Arc<str>> {
        match (sql, id) {
            (Some(sql), None) => Ok(Arc::from(&*sql.0)),
            (None, Some(id)) => self.by_id.get(&id).cloned().ok_or_else(|| {
                Error::invalid("SQL_NOT_STORED", format!("no text is stored under {id}"))
                    .hint("store it on this stream first")
            }),
            (None, None) => Err(Error::invalid(
                "SQL_NO_STATEMENT",
                "the request has neither `sql` nor `sql_id`",
            )),
            (Some(_), Some(_)) => {
                Err(Error::invalid("SQL_INVALID", "the request has both `sql` and `sql_id`"))
            }
        }
    }
}

impl Drop for Texts {
    fn drop(&mut self) {
        self.shared.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A statement of the engine.
pub(super) fn statement(stmt: Option<Stmt<'_>>, texts: &Texts) -> Result<Statement> {
    let stmt = stmt.ok_or_else(|| missing("stmt"))?;
    let sql = texts.resolve(stmt.sql.as_ref(), stmt.sql_id)?;
    let positional = stmt.args.unwrap_or_default();
    let named = stmt.named_args.unwrap_or_default();
    let arguments = match (positional.is_empty(), named.is_empty()) {
        (true, true) => Arguments::None,
        (false, true) => {
            Arguments::Positional(positional.into_iter().map(value).collect::<Result<_>>()?)
        }
        (true, false) => Arguments::Named(named.into_iter().map(pair).collect::<Result<_>>()?),
        (false, false) => {
            return Err(Error::invalid(
                "ARGS_BOTH_POSITIONAL_AND_NAMED",
                "the statement has arguments by place and by name",
            )
            .hint("use one of them"));
        }
    };
    Ok(Statement { sql, arguments, want_rows: stmt.want_rows.unwrap_or(true) })
}

/// A program of the engine.
pub(super) fn batch(batch: Option<Batch<'_>>, texts: &Texts) -> Result<Program> {
    let batch = batch.ok_or_else(|| missing("batch"))?;
    let mut steps = Vec::with_capacity(batch.steps.len());
    for step in batch.steps {
        let condition = step.condition.map(|c| condition(c, steps.len())).transpose()?;
        steps.push(Step { statement: statement(Some(step.stmt), texts)?, condition });
    }
    Ok(Program { steps })
}

/// A condition on steps before `here`.
///
/// The protocol's `error` is "not ok": true for a skipped step too. The engine's is "ran and failed".
fn condition(given: Condition, here: usize) -> Result<When> {
    let step = |step: Option<usize>| match step {
        Some(step) if step < here => Ok(step),
        _ => Err(Error::invalid(
            "CONDITION_INVALID",
            format!("a condition of step {here} names no step before it"),
        )),
    };
    let all = |conds: Option<Vec<Condition>>| -> Result<Vec<When>> {
        conds.unwrap_or_default().into_iter().map(|c| condition(c, here)).collect()
    };
    Ok(match given.kind {
        Test::Ok => When::Ok(step(given.step)?),
        Test::Error => When::Not(Box::new(When::Ok(step(given.step)?))),
        Test::Not => {
            let inner = given.cond.ok_or_else(|| missing("cond"))?;
            When::Not(Box::new(condition(*inner, here)?))
        }
        Test::And => When::And(all(given.conds)?),
        Test::Or => When::Or(all(given.conds)?),
        Test::IsAutocommit => When::IsAutocommit,
    })
}

fn pair(named: Named<'_>) -> Result<(String, change::Value)> {
    Ok((named.name.0.into_owned(), value(named.value)?))
}

/// A value of the engine.
fn value(given: Value<'_>) -> Result<change::Value> {
    let wrong = |what: &str| Error::invalid("ARGS_INVALID", format!("an argument {what}"));
    Ok(match (given.kind, given.value) {
        (ValueKind::Null, _) => change::Value::Null,
        (ValueKind::Integer, Some(Scalar::Text(text))) => change::Value::Integer(
            text.parse().map_err(|_| wrong("of type integer is no 64-bit decimal number"))?,
        ),
        (ValueKind::Integer, Some(Scalar::Integer(n))) => change::Value::Integer(n),
        (ValueKind::Float, Some(Scalar::Float(n))) => change::Value::Real(n),
        (ValueKind::Float, Some(Scalar::Integer(n))) => change::Value::Real(n as f64),
        (ValueKind::Text, Some(Scalar::Text(text))) => change::Value::Text(text.into_owned()),
        (ValueKind::Blob, None) => {
            let base64 = given.base64.ok_or_else(|| wrong("of type blob has no base64"))?;
            let bytes = BASE64.decode(base64.0.as_bytes());
            change::Value::Blob(bytes.map_err(|_| wrong("of type blob is no base64"))?)
        }
        _ => return Err(wrong("has a value of another type than it says")),
    })
}

/// A field that the request's type needs.
pub(super) fn missing(field: &str) -> Error {
    Error::invalid("REQUEST_INVALID", format!("the request has no `{field}`"))
}

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::*;

    fn texts() -> Texts {
        Texts::new(Arc::default())
    }

    fn of(stmt: &str) -> Result<Statement> {
        let body = format!(r#"{{"requests":[{{"type":"execute","stmt":{stmt}}}]}}"#);
        statement(parse(body.as_bytes())?.requests.remove(0).stmt, &texts())
    }

    fn argument(json: &str) -> Result<change::Value> {
        match of(&format!(r#"{{"sql":"SELECT ?","args":[{json}]}}"#))?.arguments {
            Arguments::Positional(mut values) => Ok(values.remove(0)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_arrive_exactly() {
        use change::Value::*;
        let get = |json| argument(json).unwrap();
        assert_eq!(get(r#"{"type":"null"}"#), Null);
        assert_eq!(get(r#"{"type":"integer","value":"-9223372036854775808"}"#), Integer(i64::MIN));
        assert_eq!(get(r#"{"type":"integer","value":"9007199254740993"}"#), Integer((1 << 53) + 1));
        assert_eq!(get(r#"{"type":"float","value":1}"#), Real(1.0));
        assert_eq!(get(r#"{"type":"float","value":-0.0}"#), Real(0.0));
        assert_eq!(get(r#"{"type":"float","value":5e-324}"#), Real(5e-324));
        assert_eq!(get(r#"{"type":"float","value":0.30000000000000004}"#), Real(0.1 + 0.2));
        assert_eq!(
            get(r#"{"type":"text","value":"a\"\u00e9\ud83d\ude00"}"#),
            Text("a\"é😀".into())
        );
        assert_eq!(get(r#"{"type":"blob","base64":"AAE"}"#), Blob(vec![0, 1]));
        assert_eq!(get(r#"{"type":"blob","base64":"AAE="}"#), Blob(vec![0, 1]));
        assert_eq!(get(r#"{"type":"blob","base64":""}"#), Blob(vec![]));
    }

    #[test]
    fn every_float_survives_the_way_in() {
        // Parsing decimal text exactly is easy to get almost right.
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let float = f64::from_bits(bits);
            if !float.is_finite() {
                continue;
            }
            let json = serde_json::to_string(&float).unwrap();
            let got = argument(&format!(r#"{{"type":"float","value":{json}}}"#)).unwrap();
            assert_eq!(got, change::Value::Real(float), "{json}");
        }
    }

    #[test]
    fn wrong_arguments_have_a_code() {
        for json in [
            r#"{"type":"integer","value":"9223372036854775808"}"#,
            r#"{"type":"integer","value":"1.0"}"#,
            r#"{"type":"integer"}"#,
            r#"{"type":"float","value":"1"}"#,
            r#"{"type":"text","value":1}"#,
            r#"{"type":"blob","base64":"A"}"#,
            r#"{"type":"blob","value":"AAE"}"#,
        ] {
            assert_eq!(argument(json).unwrap_err().code(), "ARGS_INVALID", "{json}");
        }
        let both = r#"{"sql":"x","args":[{"type":"null"}],
                       "named_args":[{"name":"a","value":{"type":"null"}}]}"#;
        assert_eq!(of(both).unwrap_err().code(), "ARGS_BOTH_POSITIONAL_AND_NAMED");
        assert_eq!(of("{}").unwrap_err().code(), "SQL_NO_STATEMENT");
        assert_eq!(of(r#"{"sql_id":1}"#).unwrap_err().code(), "SQL_NOT_STORED");
    }

    #[test]
    fn conditions_look_back_only() {
        let program = |condition: &str| {
            let body = format!(
                r#"{{"requests":[{{"type":"batch","batch":{{"steps":[
                    {{"stmt":{{"sql":"a"}}}},
                    {{"stmt":{{"sql":"b"}},"condition":{condition}}}]}}}}]}}"#
            );
            batch(parse(body.as_bytes()).unwrap().requests.remove(0).batch, &texts())
        };
        let when =
            |condition: &str| program(condition).unwrap().steps[1].condition.clone().unwrap();
        let ok = || When::Ok(0);
        assert_eq!(when(r#"{"type":"ok","step":0}"#), ok());
        assert_eq!(when(r#"{"type":"error","step":0}"#), When::Not(Box::new(ok())));
        assert_eq!(
            when(
                r#"{"type":"and","conds":[{"type":"is_autocommit"},
                     {"type":"not","cond":{"type":"or","conds":[]}}]}"#
            ),
            When::And(vec![When::IsAutocommit, When::Not(Box::new(When::Or(vec![])))])
        );
        for wrong in [r#"{"type":"ok","step":1}"#, r#"{"type":"ok"}"#] {
            assert_eq!(program(wrong).unwrap_err().code(), "CONDITION_INVALID", "{wrong}");
        }
        assert_eq!(program(r#"{"type":"not"}"#).unwrap_err().code(), "REQUEST_INVALID");
    }

    #[test]
    fn stored_texts_are_bounded_and_given_back() {
        let shared: Arc<AtomicUsize> = Arc::default();
        let mut texts = Texts::new(shared.clone());
        texts.store(1, "SELECT 1").unwrap();
        assert_eq!(texts.store(1, "SELECT 2").unwrap_err().code(), "SQL_STORE_TWICE");
        assert_eq!(&*texts.resolve(None, Some(1)).unwrap(), "SELECT 1");
        let large = "x".repeat(STREAM_TEXTS);
        assert_eq!(texts.store(2, &large).unwrap_err().code(), "SQL_STORE_TOO_LARGE");
        texts.close(1);
        texts.store(2, &large).unwrap();
        assert_eq!(shared.load(Ordering::Relaxed), STREAM_TEXTS);
        drop(texts);
        assert_eq!(shared.load(Ordering::Relaxed), 0);
    }
}
