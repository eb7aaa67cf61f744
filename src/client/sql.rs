//! SQL over HTTP: one stream, whose transaction lives from pipeline to pipeline.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{Client, Failure, Result};
use crate::change::Value;

/// What a statement gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// The columns' names; empty for a statement that returns no rows.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
    /// Rows inserted, updated or deleted.
    pub affected: u64,
}

/// Why a statement failed; the stream goes on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SqlError {
    /// The stable code.
    #[serde(default)]
    pub code: String,
    /// SQLite's finer code, where there is one.
    #[serde(default)]
    pub extended_code: Option<String>,
    /// The sentence.
    pub message: String,
    /// The next step; may be empty.
    #[serde(default)]
    pub hint: Option<String>,
}

/// A stream of SQL: a session on a node, held by a baton that changes with every answer.
pub struct Stream {
    client: Client,
    base: String,
    baton: Option<String>,
    in_transaction: bool,
}

#[derive(Deserialize)]
struct Pipeline {
    baton: Option<String>,
    base_url: Option<String>,
    results: Vec<Answer>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Answer {
    Ok { response: Json },
    Error { error: SqlError },
}

impl Stream {
    pub(super) fn new(client: Client) -> Stream {
        let base = client.endpoint().sql();
        Stream { client, base, baton: None, in_transaction: false }
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Runs one statement. The outer failure is the node's, the inner one the statement's.
    pub async fn execute(
        &mut self,
        sql: &str,
        args: &[Value],
    ) -> Result<std::result::Result<Rows, SqlError>> {
        let args: Vec<Json> = args.iter().map(to_json).collect();
        let statement = json!({"sql": sql, "args": args, "want_rows": true});
        let requests =
            [json!({"type": "execute", "stmt": statement}), json!({"type": "get_autocommit"})];
        let mut results = self.pipeline(&requests).await?.into_iter();
        let outcome = results.next();
        if let Some(Answer::Ok { response }) = results.next() {
            self.in_transaction = response["is_autocommit"] == json!(false);
        }
        match outcome {
            Some(Answer::Ok { response }) => Ok(Ok(rows(&response["result"]))),
            Some(Answer::Error { error }) => Ok(Err(error)),
            None => Err(self.strange("a pipeline without results")),
        }
    }

    /// Sends requests, keeping the baton. An idle stream expires at the node: outside of a
    /// transaction nothing is lost by it, so a new one takes its place.
    async fn pipeline(&mut self, requests: &[Json]) -> Result<Vec<Answer>> {
        let first = self.send(requests).await;
        let again = match &first {
            Err(Failure::Refused(refusal)) => {
                self.baton.is_some() && !self.in_transaction && refusal.status == 404
            }
            _ => false,
        };
        if first.is_err() {
            // Whatever the reason, this baton is of no more use.
            *self = Stream::new(self.client.clone());
        }
        if again { self.send(requests).await } else { first }
    }

    async fn send(&mut self, requests: &[Json]) -> Result<Vec<Answer>> {
        let body = json!({"baton": self.baton, "requests": requests});
        let url = format!("{}/v2/pipeline", self.base);
        let answer: Pipeline = self.client.send(Method::POST, &url, Some(body)).await?;
        self.baton = answer.baton;
        if let Some(base) = answer.base_url {
            self.base = base;
        }
        Ok(answer.results)
    }

    fn strange(&self, what: &str) -> Failure {
        Failure::Strange { url: self.base.clone(), status: 200, start: what.into() }
    }
}

fn rows(result: &Json) -> Rows {
    let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
    let name = |column: &Json| column["name"].as_str().unwrap_or_default().to_string();
    let cells = |row: &Json| list(row).iter().map(from_json).collect();
    Rows {
        columns: list(&result["cols"]).iter().map(name).collect(),
        rows: list(&result["rows"]).iter().map(cells).collect(),
        affected: result["affected_row_count"].as_u64().unwrap_or(0),
    }
}

/// A value as the protocol writes it: integers as text, since JSON's readers round them.
fn to_json(value: &Value) -> Json {
    use base64::Engine as _;
    match value {
        Value::Null => json!({"type": "null"}),
        Value::Integer(n) => json!({"type": "integer", "value": n.to_string()}),
        Value::Real(x) => json!({"type": "float", "value": x}),
        Value::Text(text) => json!({"type": "text", "value": text}),
        Value::Blob(bytes) => {
            let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes);
            json!({"type": "blob", "base64": text})
        }
    }
}

fn from_json(json: &Json) -> Value {
    use base64::Engine as _;
    let text = |key: &str| json[key].as_str().unwrap_or_default();
    match text("type") {
        "integer" => text("value").parse().map_or(Value::Null, Value::Integer),
        "float" => json["value"].as_f64().map_or(Value::Null, Value::Real),
        "text" => Value::Text(text("value").into()),
        "blob" => {
            let plain = text("base64").trim_end_matches('=');
            let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(plain);
            Value::Blob(bytes.unwrap_or_default())
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were_sent() {
        for value in [
            Value::Null,
            Value::Integer(i64::MAX),
            Value::Integer(-9_007_199_254_740_993),
            Value::Real(0.1),
            Value::Text("häßlich \u{0} 'x'".into()),
            Value::Blob(vec![0, 255, 7]),
        ] {
            assert_eq!(from_json(&to_json(&value)), value);
        }
    }

    #[test]
    fn padded_base64_is_read_too() {
        assert_eq!(from_json(&json!({"type": "blob", "base64": "AA=="})), Value::Blob(vec![0]));
    }

    #[test]
    fn a_result_is_read() {
        let read = rows(&json!({
            "cols": [{"name": "a", "decltype": null}],
            "rows": [[{"type": "integer", "value": "3"}], [{"type": "null"}]],
            "affected_row_count": 2,
        }));
        assert_eq!(read.columns, ["a"]);
        assert_eq!(read.rows, [[Value::Integer(3)], [Value::Null]]);
        assert_eq!(read.affected, 2);
    }

    /// A node with prepared answers; what it was sent comes out of the channel.
    fn node(answers: Vec<(u16, Json)>) -> (Client, std::sync::mpsc::Receiver<Json>) {
        use std::io::{BufRead, BufReader, Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for (status, answer) in answers {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                let (mut line, mut length) = (String::new(), 0);
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                    if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                        length = n.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                sender.send(serde_json::from_slice(&body).unwrap()).unwrap();
                let answer = answer.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}",
                    answer.len()
                );
                write!(stream.get_mut(), "{head}\r\n\r\n{answer}").unwrap();
            }
        });
        let endpoint = super::super::Endpoint::parse(&url).unwrap();
        (Client::new(endpoint, std::time::Duration::from_secs(5)).unwrap(), seen)
    }

    fn answered(baton: &str, autocommit: bool) -> (u16, Json) {
        let done = json!({"type": "ok", "response": {"type": "execute", "result": {"cols": [], "rows": []}}});
        let mode = json!({"type": "ok", "response": {"is_autocommit": autocommit}});
        (200, json!({"baton": baton, "base_url": null, "results": [done, mode]}))
    }

    fn expired() -> (u16, Json) {
        (404, json!({"error": {"code": "STREAM_EXPIRED", "message": "gone", "retry": "no"}}))
    }

    /// A person thinks longer than a stream lives: outside of a transaction they need not know.
    #[tokio::test]
    async fn an_expired_stream_is_begun_anew_outside_of_a_transaction() {
        let (client, seen) = node(vec![answered("b1", true), expired(), answered("b2", true)]);
        let mut stream = client.stream();
        stream.execute("SELECT 1", &[]).await.unwrap().unwrap();
        stream.execute("SELECT 2", &[]).await.unwrap().unwrap();
        let batons: Vec<Json> = seen.iter().map(|body| body["baton"].clone()).collect();
        assert_eq!(batons, [json!(null), json!("b1"), json!(null)]);
    }

    /// Inside of one, its statements would be lost without a word.
    #[tokio::test]
    async fn an_expired_transaction_is_an_error() {
        let (client, seen) = node(vec![answered("b1", false), expired()]);
        let mut stream = client.stream();
        stream.execute("BEGIN", &[]).await.unwrap().unwrap();
        assert!(stream.in_transaction());
        let failure = stream.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap_err();
        assert_eq!(failure.code(), "STREAM_EXPIRED");
        assert!(!stream.in_transaction());
        assert_eq!(seen.iter().count(), 2, "the statement must not run outside of its transaction");
    }
}
