//! Is it alive, may it be used, what is it, where does it stand.

use std::borrow::Cow;

use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Uri};
use serde_json::json;

use super::admin::of_table;
use super::feed::blocking;
use super::node::Node;
use super::reply::{self, Answer};
use super::route::only;
use crate::acknowledge::Level;
use crate::change::Position;
use crate::engine::{Database, ReceiptState, Role, State, Status, duration};
use crate::error::{Error, Result};

/// `/health`, `/ready` and `/version`.
pub(super) async fn answer(node: &Node, head: &Parts) -> Answer {
    only(head, Method::GET)?;
    match head.uri.path().trim_matches('/') {
        "health" => Ok(reply::json(StatusCode::OK, &json!({"status": "ok"}))),
        "ready" => ready(node, &head.uri).await,
        _ => version(),
    }
}

const OPENING: &str = "this node is still opening its databases";

/// What a node answers before it has databases: that it lives, and that it is not ready.
pub(super) fn while_opening(head: &Parts) -> Answer {
    let not_ready = json!({"ready": false, "reasons": [OPENING]});
    match head.uri.path().trim_matches('/') {
        "health" => {
            only(head, Method::GET)?;
            let alive = json!({"status": "ok", "ready": false, "reasons": [OPENING]});
            Ok(reply::json(StatusCode::OK, &alive))
        }
        "ready" => Ok(reply::json(StatusCode::SERVICE_UNAVAILABLE, &not_ready)),
        "version" => version(),
        _ => Err(Error::unavailable("NOT_READY", OPENING)
            .hint("try again in a moment; GET /ready says when")),
    }
}

fn version() -> Answer {
    let version = json!({"name": "syncline", "version": env!("CARGO_PKG_VERSION")});
    Ok(reply::json(StatusCode::OK, &version))
}

/// 200 if every database may be used as asked, else 503 with the reasons.
async fn ready(node: &Node, uri: &Uri) -> Answer {
    let role = query(uri, "role");
    if !matches!(role.as_deref(), None | Some("writer" | "reader")) {
        return Err(Error::invalid("QUERY_INVALID", "role is writer or reader"));
    }
    let max_stale = query(uri, "max_stale").map(|text| duration(&text)).transpose()?;
    let mut reasons: Vec<String> = Vec::new();
    for status in statuses(node).await? {
        let found = unready(&status, role.as_deref(), max_stale);
        reasons.extend(found.map(|reason| format!("{}: {reason}", status.name)));
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(reply::json(status, &json!({"ready": reasons.is_empty(), "reasons": reasons})))
}

/// The status of every database, by name.
pub(super) async fn statuses(node: &Node) -> Result<Vec<Status>> {
    let databases: Vec<_> = node.databases.values().cloned().collect();
    blocking(move || {
        let mut all: Vec<_> = databases.iter().map(Database::status).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    })
    .await
}

/// Why a database may not be used as asked.
fn unready(
    status: &Status,
    role: Option<&str>,
    max_stale: Option<std::time::Duration>,
) -> Option<String> {
    if role.is_some_and(|role| role != status.role.as_str()) {
        return Some(format!("this node is a {}", status.role.as_str()));
    }
    let writes = role != Some("reader") && status.role == Role::Writer;
    let usable = match status.state {
        State::Ok | State::Healing => true,
        State::Stale | State::Restored | State::DiskFull | State::SourceDamaged => !writes,
        State::Loading | State::Fenced | State::Failed => false,
    };
    if !usable {
        return Some(format!("it is {}: {}", status.state.as_str(), status.note));
    }
    max_stale
        .filter(|most| status.stale > *most)
        .map(|_| format!("it may be {} ms old", status.stale.as_millis()))
}

/// `/v1/databases/{db}/position`.
pub(super) async fn position(database: &Database) -> Answer {
    let of = database.clone();
    let status = blocking(move || Ok(of.status())).await?;
    let tables: serde_json::Map<_, _> = status.tables.iter().map(of_table).collect();
    let position = status.position;
    Ok(reply::json(
        StatusCode::OK,
        &json!({
            "epoch": position.epoch.to_string(),
            "version": position.version.to_string(),
            "chain": position.chain.to_string(),
            "digest": position.digest.to_string(),
            "verified": status.verified.to_string(),
            "tables": tables,
        }),
    ))
}

/// `/v1/databases/{db}/receipts/{receipt}`: how far a write has got.
pub(super) async fn receipt(database: &Database, receipt: &str) -> Answer {
    let receipt: Position = receipt.parse()?;
    let of = database.clone();
    let (state, durable_on, survives) = match blocking(move || of.receipt_state(receipt)).await? {
        ReceiptState::Pending => ("pending", vec![], Level::Memory.survives()),
        ReceiptState::Durable(on) => ("durable", on, Level::Disk.survives()),
        ReceiptState::Undone => ("undone", vec![], "nothing: it was undone; see what is held"),
    };
    Ok(reply::json(
        StatusCode::OK,
        &json!({"state": state, "durable_on": durable_on, "survives": survives}),
    ))
}

/// The value of `key` in the query, decoded; the first if there are several.
pub(super) fn query<'a>(uri: &'a Uri, key: &str) -> Option<Cow<'a, str>> {
    let pairs = uri.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| decode(value))
}

/// Undoes percent-encoding; what is no encoding stays as it is.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let (bytes, mut out, mut i) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while i < bytes.len() {
        let code = text.get(i + 1..i + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[i], code) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Whether `key` is given as a yes.
pub(super) fn flag(uri: &Uri, key: &str) -> Result<bool> {
    match query(uri, key).as_deref() {
        None | Some("false" | "0" | "no") => Ok(false),
        Some("" | "true" | "1" | "yes") => Ok(true),
        Some(other) => Err(Error::invalid("QUERY_INVALID", format!("{key} is not {other:?}"))
            .hint(format!("write {key}=true or {key}=false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Version;
    use std::time::Duration;

    #[test]
    fn a_query_is_decoded() {
        let uri: Uri = "/x?a=1&tables=a%2Cb%20c+d&bad=%zz%4&a=2&flag".parse().unwrap();
        assert_eq!(query(&uri, "tables").unwrap(), "a,b c d");
        assert_eq!(query(&uri, "a").unwrap(), "1");
        assert_eq!(query(&uri, "bad").unwrap(), "%zz%4");
        assert_eq!(query(&uri, "none"), None);
        assert!(flag(&uri, "flag").unwrap() && flag(&uri, "a").unwrap());
        assert!(!flag(&uri, "none").unwrap());
        assert_eq!(flag(&uri, "bad").unwrap_err().code(), "QUERY_INVALID");
    }

    fn status(role: Role, state: State, stale: u64) -> Status {
        Status {
            name: "main".into(),
            role,
            state,
            note: "see the log".into(),
            position: Position::default(),
            verified: Version(0),
            source_version: Version(0),
            stale: Duration::from_secs(stale),
            acknowledge: Level::Disk,
            writer: None,
            tables: vec![],
            held: 0,
            healed: [0; 4],
            mismatches: 0,
            readers: vec![],
        }
    }

    #[test]
    fn ready_means_usable_as_asked() {
        let of = |role, state, asked, most: Option<u64>| {
            unready(&status(role, state, 3), asked, most.map(Duration::from_secs)).is_none()
        };
        use {Role::*, State::*};
        assert!(of(Writer, Ok, None, None) && of(Writer, Ok, Some("writer"), None));
        assert!(!of(Writer, Ok, Some("reader"), None) && !of(Reader, Ok, Some("writer"), None));
        assert!(!of(Writer, Restored, None, None), "it refuses writes");
        assert!(of(Reader, Stale, Some("reader"), None), "it serves what it has");
        assert!(of(Reader, Ok, None, Some(3)) && !of(Reader, Ok, None, Some(2)));
        for state in [Loading, Fenced, Failed] {
            assert!(!of(Reader, state, None, None), "{state:?}");
        }
    }
}
