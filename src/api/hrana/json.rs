//! Answers of the protocol, written straight into one buffer.

use base64::Engine as _;
use serde::Serialize;

use super::program::BASE64;
use crate::change::{Value, ValueRef};
use crate::engine::{Description, ResultColumn, StatementResult, StepOutcome};
use crate::error::Error;

/// A JSON text in the making.
#[derive(Debug)]
pub(super) struct Json {
    /// What is written so far.
    pub bytes: Vec<u8>,
    /// Rows are no longer written beyond this many bytes.
    pub limit: usize,
}

impl Default for Json {
    fn default() -> Self {
        Json { bytes: Vec::new(), limit: usize::MAX }
    }
}

impl Json {
    /// An answer of at most `limit` bytes.
    pub fn limited(limit: usize) -> Self {
        Json { bytes: Vec::with_capacity(512), limit }
    }

    /// Whether it is larger than it may be.
    pub fn is_full(&self) -> bool {
        self.bytes.len() > self.limit
    }

    /// Appends a comma, unless what follows is the first of its list.
    pub fn comma(&mut self) -> &mut Self {
        if self.bytes.last() != Some(&b'[') {
            self.bytes.push(b',');
        }
        self
    }

    /// Appends JSON as it stands.
    pub fn raw(&mut self, json: &str) -> &mut Self {
        self.bytes.extend_from_slice(json.as_bytes());
        self
    }

    /// Appends a string or a number.
    pub fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> &mut Self {
        serde_json::to_writer(&mut self.bytes, value).expect("a buffer takes every byte");
        self
    }

    /// Appends a decimal number as a string.
    fn decimal(&mut self, n: i64) -> &mut Self {
        self.raw("\"").put(&n).raw("\"")
    }

    /// Appends a string or null.
    pub fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.put(text),
            None => self.raw("null"),
        }
    }

    /// Appends what `each` writes of every item, between commas.
    fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.raw("[");
        for (i, item) in items.iter().enumerate() {
            if self.is_full() {
                break;
            }
            if i > 0 {
                self.raw(",");
            }
            each(self, item);
        }
        self.raw("]")
    }

    /// Appends a value with its type.
    pub fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Integer(n) => {
                self.raw(r#"{"type":"integer","value":"#).decimal(n).raw("}");
            }
            ValueRef::Real(n) if n.is_finite() => {
                self.raw(r#"{"type":"float","value":"#).put(&n).raw("}");
            }
            // JSON has no word for the others.
            ValueRef::Null | ValueRef::Real(_) => {
                self.raw(r#"{"type":"null"}"#);
            }
            ValueRef::Text(text) => {
                self.raw(r#"{"type":"text","value":"#).put(text).raw("}");
            }
            ValueRef::Blob(bytes) => {
                self.raw(r#"{"type":"blob","base64":""#).base64(bytes).raw("\"}");
            }
        }
    }

    fn base64(&mut self, bytes: &[u8]) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.resize(start + bytes.len().div_ceil(3) * 4, 0);
        let written = BASE64.encode_slice(bytes, &mut self.bytes[start..]).expect("room was made");
        self.bytes.truncate(start + written);
        self
    }

    /// Appends what the columns of a result are.
    pub fn columns(&mut self, columns: &[ResultColumn]) -> &mut Self {
        self.list(columns, |json, column| {
            json.raw(r#"{"name":"#).put(&column.name);
            json.raw(r#","decltype":"#).optional(column.decltype.as_deref()).raw("}");
        })
    }

    /// Appends the values of a row.
    pub fn row(&mut self, row: &[Value]) -> &mut Self {
        self.list(row, |json, value| json.value(value.as_ref()))
    }

    /// Appends, behind other members, what a statement wrote.
    pub fn written(&mut self, result: &StatementResult) -> &mut Self {
        self.raw(r#","affected_row_count":"#).put(&result.affected);
        self.raw(r#","last_insert_rowid":"#);
        match result.last_insert_rowid {
            Some(rowid) => self.decimal(rowid),
            None => self.raw("null"),
        }
    }

    /// Appends what a statement gave.
    pub fn result(&mut self, result: &StatementResult) -> &mut Self {
        self.raw(r#"{"cols":"#).columns(&result.columns).raw(r#","rows":"#);
        self.list(&result.rows, |json, row| {
            json.row(row);
        });
        self.written(result);
        self.raw(r#","rows_read":"#).put(&result.rows.len());
        self.raw(r#","rows_written":"#).put(&result.affected);
        let duration = result.duration.as_secs_f64() * 1e3;
        self.raw(r#","query_duration_ms":"#).put(&duration);
        self.raw(r#","replication_index":null}"#)
    }

    /// Appends how the steps of a batch ended, as parallel lists.
    pub fn batch(&mut self, steps: &[StepOutcome]) -> &mut Self {
        self.raw(r#"{"step_results":"#);
        self.list(steps, |json, step| {
            match step {
                StepOutcome::Done(result) => json.result(result),
                _ => json.raw("null"),
            };
        });
        self.raw(r#","step_errors":"#);
        self.list(steps, |json, step| {
            match step {
                StepOutcome::Failed(error) => json.error(error),
                _ => json.raw("null"),
            };
        });
        self.raw(r#","replication_index":null}"#)
    }

    /// Appends what is known of a statement.
    pub fn description(&mut self, of: &Description) -> &mut Self {
        self.raw(r#"{"params":"#);
        self.list(&of.parameters, |json, name| {
            json.raw(r#"{"name":"#).optional(name.as_deref()).raw("}");
        });
        self.raw(r#","cols":"#).columns(&of.columns);
        self.raw(r#","is_explain":"#).put(&of.is_explain);
        self.raw(r#","is_readonly":"#).put(&of.is_readonly).raw("}")
    }

    /// Appends an error inside a result.
    ///
    /// ORMs take SQLite's sentences apart, so those stay as they are; ours carry their hint, since
    /// the protocol has no other place for it.
    pub fn error(&mut self, error: &Error) -> &mut Self {
        self.raw(r#"{"message":"#);
        if error.hint_text().is_empty() || error.code().starts_with("SQLITE_") {
            self.put(error.message());
        } else {
            self.put(&format!("{}; {}", error.message(), error.hint_text()));
        }
        self.raw(r#","code":"#).put(error.code());
        if error.extended() != error.code() || error.code().starts_with("SQLITE_") {
            self.raw(r#","extended_code":"#).put(error.extended());
        }
        self.raw("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn value(value: Value) -> String {
        let mut json = Json::default();
        json.value(value.as_ref());
        String::from_utf8(json.bytes).unwrap()
    }

    #[test]
    fn values_leave_exactly() {
        assert_eq!(value(Value::Null), r#"{"type":"null"}"#);
        assert_eq!(
            value(Value::Integer(i64::MIN)),
            r#"{"type":"integer","value":"-9223372036854775808"}"#
        );
        assert_eq!(value(Value::Real(1.0)), r#"{"type":"float","value":1.0}"#);
        assert_eq!(value(Value::Real(5e-324)), r#"{"type":"float","value":5e-324}"#);
        assert_eq!(value(Value::Real(f64::INFINITY)), r#"{"type":"null"}"#);
        assert_eq!(
            value(Value::Text("a\"\n\u{1}é".into())),
            "{\"type\":\"text\",\"value\":\"a\\\"\\n\\u0001é\"}"
        );
        assert_eq!(value(Value::Blob(vec![0, 1])), r#"{"type":"blob","base64":"AAE"}"#);
        assert_eq!(value(Value::Blob(vec![])), r#"{"type":"blob","base64":""}"#);
        assert_eq!(value(Value::Blob(vec![255; 3])), r#"{"type":"blob","base64":"////"}"#);
    }

    fn done(rowid: Option<i64>) -> StatementResult {
        StatementResult {
            columns: vec![
                ResultColumn { name: "id".into(), decltype: Some("INTEGER".into()) },
                ResultColumn { name: "1+1".into(), decltype: None },
            ],
            rows: vec![vec![Value::Integer(7), Value::Null], vec![]],
            affected: 3,
            last_insert_rowid: rowid,
            duration: Duration::from_micros(1500),
        }
    }

    #[test]
    fn a_result_is_written_as_the_protocol_has_it() {
        let mut json = Json::default();
        json.result(&done(Some(9)));
        assert_eq!(
            String::from_utf8(json.bytes).unwrap(),
            r#"{"cols":[{"name":"id","decltype":"INTEGER"},{"name":"1+1","decltype":null}],"rows":[[{"type":"integer","value":"7"},{"type":"null"}],[]],"affected_row_count":3,"last_insert_rowid":"9","rows_read":2,"rows_written":3,"query_duration_ms":1.5,"replication_index":null}"#
        );
        let mut json = Json::default();
        json.result(&StatementResult::default());
        let parsed: serde_json::Value = serde_json::from_slice(&json.bytes).unwrap();
        assert!(parsed["last_insert_rowid"].is_null());
    }

    #[test]
    fn a_skipped_step_is_null_twice() {
        let failed = || {
            Error::invalid("SQLITE_CONSTRAINT", "UNIQUE constraint failed: t.a")
                .with_extended("SQLITE_CONSTRAINT_UNIQUE")
        };
        let steps = [
            StepOutcome::Done(StatementResult::default()),
            StepOutcome::Failed(failed().hint("not for ORMs")),
            StepOutcome::Skipped,
        ];
        let mut json = Json::default();
        json.batch(&steps);
        let got: serde_json::Value = serde_json::from_slice(&json.bytes).unwrap();
        assert!(got["step_results"][0].is_object() && got["step_errors"][0].is_null());
        assert!(got["step_results"][1].is_null());
        assert_eq!(
            got["step_errors"][1],
            serde_json::json!({
                "message": "UNIQUE constraint failed: t.a",
                "code": "SQLITE_CONSTRAINT",
                "extended_code": "SQLITE_CONSTRAINT_UNIQUE",
            })
        );
        assert!(got["step_results"][2].is_null() && got["step_errors"][2].is_null());
    }

    #[test]
    fn our_own_errors_carry_their_hint() {
        let mut json = Json::default();
        json.error(&Error::invalid("BLOCKED", "ATTACH is not allowed").hint("use a database each"));
        assert_eq!(
            String::from_utf8(json.bytes).unwrap(),
            r#"{"message":"ATTACH is not allowed; use a database each","code":"BLOCKED"}"#
        );
    }
}
