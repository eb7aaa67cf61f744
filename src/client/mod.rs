//! A small client: what the command line needs of a node over HTTP.
//!
//! ```text
//! Endpoint   http://host:port[/DB]             where
//! Client     one request, one answer           health, position, status, held, verify, …
//! Stream     pipelines with a baton            SQL with a session behind it
//! ```
//!
//! It never tries again by itself: whether that is safe depends on what was sent, and the answer
//! says so (`retry`). It does not use the environment's proxy: a node is asked where it is.
//!
//! Left out: https (a proxy in front may speak it, this client cannot yet), the change feed and
//! snapshots, which applications read with their own HTTP library.

mod admin;
mod failure;
mod sql;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

pub use admin::{DatabaseStatus, HeldItem, NodeStatus, ReaderEntry, TableStatus, VerifyAnswer};
pub use failure::{Failure, Refusal};
pub use sql::{Rows, SqlError, Stream};

/// `Result` with a [`Failure`].
pub type Result<T> = std::result::Result<T, Failure>;

/// Where a node is, and which of its databases is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host:port`.
    pub base: String,
    /// The database named in the path.
    pub database: Option<String>,
}

impl Endpoint {
    /// Reads `http://host:port[/DB]`.
    pub fn parse(text: &str) -> Result<Endpoint> {
        let bad = |why: &str| Failure::Address { url: text.into(), why: why.into() };
        if text.starts_with("https://") {
            return Err(bad("https is not in this version: use http on this machine, or a tunnel"));
        }
        let rest = text.strip_prefix("http://");
        let rest =
            rest.ok_or_else(|| bad("write http://HOST:PORT or http://HOST:PORT/DATABASE"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        if host.is_empty() || host.contains([' ', '?', '#']) {
            return Err(bad("the host is missing"));
        }
        if path.contains(['/', '?', '#']) {
            return Err(bad("only the name of a database may follow the port"));
        }
        let database = (!path.is_empty()).then(|| path.to_string());
        Ok(Endpoint { base: format!("http://{host}"), database })
    }

    /// The place of SQL requests: the root, or below the database's name.
    pub fn sql(&self) -> String {
        match &self.database {
            Some(database) => format!("{}/{database}", self.base),
            None => self.base.clone(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sql())
    }
}

/// Speaks to one node.
#[derive(Clone)]
pub struct Client {
    endpoint: Endpoint,
    http: reqwest::Client,
    token: Option<String>,
}

impl Client {
    /// A client of `endpoint` that waits at most `timeout` for an answer.
    pub fn new(endpoint: Endpoint, timeout: Duration) -> Result<Client> {
        let http = reqwest::Client::builder().no_proxy().timeout(timeout).build();
        let http = http.map_err(|e| Failure::unreachable(&Method::GET, &endpoint.base, &e))?;
        Ok(Client { endpoint, http, token: None })
    }

    /// Sends `token` with each request (a proxy in front may ask for one).
    pub fn with_token(mut self, token: Option<String>) -> Client {
        self.token = token;
        self
    }

    /// Whom it speaks to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A stream of SQL.
    pub fn stream(&self) -> Stream {
        Stream::new(self.clone())
    }

    /// Whether the node answers that it is alive.
    pub async fn health(&self) -> Result<()> {
        self.get::<Json>("/health").await.map(|_| ())
    }

    /// Why its databases may not be used as asked; nothing, if they may.
    pub async fn unready(&self, asked: &Asked) -> Result<Vec<String>> {
        let url = format!("{}/ready?{}", self.endpoint.base, asked.query());
        let (status, bytes) = self.ask(&Method::GET, &url, None).await?;
        #[derive(Deserialize)]
        struct Body {
            reasons: Vec<String>,
        }
        match serde_json::from_slice::<Body>(&bytes) {
            Ok(body) => Ok(body.reasons),
            Err(_) => read(&url, status, &bytes),
        }
    }

    /// Where the copy of `database` stands.
    pub async fn position(&self, database: &str) -> Result<PositionAnswer> {
        self.get(&format!("/v1/databases/{database}/position")).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let url = format!("{}{path}", self.endpoint.base);
        self.send(Method::GET, &url, None).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: Json) -> Result<T> {
        let url = format!("{}{path}", self.endpoint.base);
        self.send(Method::POST, &url, Some(body)).await
    }

    /// One request and its answer, read as JSON.
    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &str,
        body: Option<Json>,
    ) -> Result<T> {
        let (status, bytes) = self.ask(&method, url, body).await?;
        read(url, status, &bytes)
    }

    /// One request and its answer, as it came.
    async fn ask(
        &self,
        method: &Method,
        url: &str,
        body: Option<Json>,
    ) -> Result<(StatusCode, Bytes)> {
        let lost = |e: reqwest::Error| Failure::unreachable(method, url, &e);
        let mut request = self.http.request(method.clone(), url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        Ok((status, response.bytes().await.map_err(lost)?))
    }
}

/// What a node's databases are to be used for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `writer` or `reader`; without it, whatever they are.
    pub role: Option<&'static str>,
    /// How old their rows may be.
    pub max_stale: Option<Duration>,
}

impl Asked {
    fn query(&self) -> String {
        let role = self.role.map(|role| format!("role={role}"));
        let max_stale = self.max_stale.map(|most| format!("max_stale={}ms", most.as_millis()));
        role.into_iter().chain(max_stale).collect::<Vec<_>>().join("&")
    }
}

/// Reads an answer: what was asked for, a refusal, or something that no node says.
fn read<T: DeserializeOwned>(url: &str, status: StatusCode, bytes: &[u8]) -> Result<T> {
    let strange = || {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        Failure::Strange { url: url.into(), status: status.as_u16(), start }
    };
    if status.is_success() {
        let bytes = if bytes.is_empty() { b"null" } else { bytes };
        return serde_json::from_slice(bytes).map_err(|_| strange());
    }
    #[derive(Deserialize)]
    struct Body {
        error: Refusal,
    }
    let body: Body = serde_json::from_slice(bytes).map_err(|_| strange())?;
    Err(Failure::Refused(Refusal { status: status.as_u16(), ..body.error }))
}

/// `GET /v1/databases/{db}/position`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PositionAnswer {
    /// The epoch.
    pub epoch: String,
    /// The version.
    pub version: String,
    /// The hash over all history.
    pub chain: String,
    /// The sum over the rows.
    pub digest: String,
    /// The last version at which stored rows were recounted and agreed.
    pub verified: String,
    /// Each table's rows and digest.
    #[serde(default)]
    pub tables: std::collections::BTreeMap<String, TablePosition>,
}

impl PositionAnswer {
    /// The version as a number; zero if it is none.
    pub fn number(&self) -> u64 {
        self.version.parse().unwrap_or(0)
    }
}

/// A table in a position.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TablePosition {
    /// How many rows it has.
    pub rows: String,
    /// The sum over them.
    pub digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_node_and_perhaps_a_database() {
        let parse = |text| Endpoint::parse(text).map(|e| (e.base, e.database)).ok();
        let at = |base: &str, db: Option<&str>| Some((base.to_string(), db.map(String::from)));
        assert_eq!(parse("http://127.0.0.1:8080"), at("http://127.0.0.1:8080", None));
        assert_eq!(parse("http://127.0.0.1:8080/"), at("http://127.0.0.1:8080", None));
        assert_eq!(parse("http://[::1]:80/orders"), at("http://[::1]:80", Some("orders")));
        for wrong in ["127.0.0.1:8080", "http://", "http:///db", "http://h/a/b", "https://h"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_code_and_hint() {
        let body = br#"{"error":{"code":"FENCED","message":"m","hint":"h","retry":"no"}}"#;
        let Err(Failure::Refused(refusal)) = read::<Json>("u", StatusCode::CONFLICT, body) else {
            panic!("not a refusal")
        };
        assert_eq!((refusal.status, refusal.code.as_str()), (409, "FENCED"));
        assert_eq!(refusal.hint, "h");
    }

    #[test]
    fn what_no_node_says_is_shown_as_it_came() {
        let html = b"<html>it works</html>";
        for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
            let failure = read::<Json>("http://h", status, html).unwrap_err().to_string();
            assert!(failure.contains("it works"), "{failure}");
        }
    }
}
