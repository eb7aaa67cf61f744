//! What operators ask and decide, at `admin_listen`.
//!
//! | request | does |
//! | --- | --- |
//! | `GET /v1/status` | everything the node says of its databases |
//! | `GET …/held`, `GET …/held/ID` | lists what is held; shows one with its changes in words |
//! | `POST …/held/ID/replay` | applies it again as a new commit, at the writer |
//! | `DELETE …/held/ID`, `POST …/held/ID/discard` | forgets it |
//! | `POST …/verify` | recounts: `{"mode": "report" \| "adopt" \| "repair"}` |
//! | `POST …/promote` | makes this node the writer: `{"accept_loss": false}` |
//! | `POST …/resolve` | decides a restore: `{"keep": "node" \| "backing"}` |

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::body::read;
use super::feed::blocking;
use super::forward::{once_only, writer};
use super::health::statuses;
use super::node::Node;
use super::reply::{self, Answer};
use super::route::{Call, only};
use crate::change::Position;
use crate::engine::{Database, Held, Keep, Role, Status, VerifyMode};
use crate::error::{Error, Kind, Result};

/// Bytes of a held commit that one node sends to another.
const LARGEST_COMMIT: usize = 64 << 20;

/// `GET /v1/status`.
pub(super) async fn status(node: &Node) -> Answer {
    let databases = statuses(node).await?;
    let default = node.default.as_ref().map(|database| database.options().name.as_str());
    Ok(reply::json(
        StatusCode::OK,
        &json!({
            "node": node.name.to_str().unwrap_or_default(),
            "version": env!("CARGO_PKG_VERSION"),
            "advertise": node.advertise,
            "default": default,
            "databases": databases.iter().map(of_database).collect::<Vec<_>>(),
        }),
    ))
}

fn of_database(status: &Status) -> Value {
    let tables: serde_json::Map<_, _> = status.tables.iter().map(of_table).collect();
    let [incremental, rewind, diff, full] = status.healed;
    json!({
        "name": status.name,
        "role": status.role.as_str(),
        "state": status.state.as_str(),
        "note": status.note,
        "position": status.position.to_string(),
        "digest": status.position.digest.to_string(),
        "verified": status.verified.to_string(),
        "source_version": status.source_version.to_string(),
        "stale_ms": status.stale.as_millis() as u64,
        "acknowledge": status.acknowledge.to_string(),
        "writer": status.writer,
        "tables": tables,
        "held": status.held,
        "healed": {"incremental": incremental, "rewind": rewind, "diff": diff, "full": full},
        "mismatches": status.mismatches,
        "readers": status.readers.iter().map(|reader| json!({
            "node": reader.node,
            "position": reader.position.to_string(),
            "seen": reader.seen.to_string(),
            "lost": reader.lost,
        })).collect::<Vec<_>>(),
    })
}

/// A table's rows and digest, under its name.
pub(super) fn of_table(
    (name, rows, digest): &(String, u64, crate::change::Digest),
) -> (String, Value) {
    (name.clone(), json!({"rows": rows.to_string(), "digest": digest.to_string()}))
}

/// What is below `/v1/databases/{db}/`.
pub(super) async fn database(
    node: &Node,
    database: &Database,
    rest: &[&str],
    call: Call,
) -> Answer {
    match rest {
        ["held", rest @ ..] => held(node, database, rest, call).await,
        ["verify"] => verify(node, database, call).await,
        ["promote"] => promote(node, database, call).await,
        ["resolve"] => resolve(node, database, call).await,
        _ => Err(reply::not_found(call.head.uri.path())),
    }
}

async fn held(node: &Node, database: &Database, rest: &[&str], call: Call) -> Answer {
    let id = |id: &str| {
        id.parse::<i64>().map_err(|_| {
            Error::invalid("HELD_UNKNOWN", format!("nothing is held as {id:?}"))
                .hint("`syncline held list` shows what is")
        })
    };
    let of = database.clone();
    let method = call.head.method.clone();
    match (method.as_str(), rest) {
        ("GET", []) => {
            let list = blocking(move || of.held_list()).await?;
            let list: Vec<_> = list.iter().map(of_held).collect();
            Ok(reply::json(StatusCode::OK, &json!({ "held": list })))
        }
        ("GET", [one]) => {
            let one = id(one)?;
            let held = blocking(move || of.held_show(one)).await?;
            Ok(reply::json(StatusCode::OK, &of_held(&held)))
        }
        ("POST", [one, "replay"]) => {
            moved(replay(node, database, id(one)?, &call.head.headers).await?)
        }
        ("DELETE", [one]) | ("POST", [one, "discard"]) => {
            let one = id(one)?;
            blocking(move || of.held_discard(one)).await?;
            Ok(reply::json(StatusCode::OK, &json!({"discarded": one})))
        }
        _ => {
            only(&call.head, Method::GET)?;
            Err(reply::not_found(call.head.uri.path()))
        }
    }
}

fn of_held(held: &Held) -> Value {
    json!({
        "id": held.id,
        "at": held.at.to_string(),
        "reason": held.reason,
        "position": held.position.to_string(),
        "changes": held.changes,
        "detail": held.detail,
    })
}

/// Replays at the writer, wherever that is; then it is held no longer.
async fn replay(
    node: &Node,
    database: &Database,
    id: i64,
    headers: &HeaderMap,
) -> Result<Position> {
    if database.role() == Role::Writer {
        return database.held_replay(id).await;
    }
    let of = database.clone();
    let body = blocking(move || of.held_body(id)).await?;
    let url = format!("{}/v1/databases/{}/replay", writer(database)?, database.options().name);
    let mut headers = headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let answered = node.forwarder.post(&url, &headers, body.into(), None).await?;
    let answer: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
    let position = answer["position"].as_str().filter(|_| answered.status.is_success());
    let position = position.map_or_else(|| Err(refused(answered.status, &answer)), str::parse)?;
    let of = database.clone();
    blocking(move || of.held_discard(id)).await?;
    Ok(position)
}

/// Why the writer did not replay, in its own words.
fn refused(status: StatusCode, answer: &Value) -> Error {
    let error = &answer["error"];
    let word = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    let message = format!("the writer refused it: {} ({})", word("message"), word("code"));
    let kind = match (status, error["retry"].as_str()) {
        (StatusCode::CONFLICT, _) | (_, Some("no")) => Kind::Conflict,
        (_, Some("yes")) => Kind::Unavailable,
        _ => Kind::Unknown,
    };
    Error::new(kind, "REPLAY_REFUSED", message).hint(word("hint"))
}

/// `POST /v1/databases/{db}/replay`, from another node, at the writer: the body is a commit's.
pub(super) async fn replay_here(node: &Node, database: &Database, call: Call) -> Answer {
    if database.role() != Role::Writer {
        once_only(&call.head.headers, database)?;
        return Err(Error::unavailable("NOT_WRITER", "a commit is replayed at the writer")
            .hint(writer(database)?));
    }
    let body = read(node, &call.head.headers, call.body, LARGEST_COMMIT).await?;
    moved(database.replay(body.bytes.to_vec()).await?)
}

/// Reads the choices in a body; an empty one makes the default choices.
async fn choices<T: DeserializeOwned + Default>(node: &Node, call: Call) -> Result<T> {
    only(&call.head, Method::POST)?;
    let body = read(node, &call.head.headers, call.body, 64 << 10).await?;
    if body.bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body.bytes).map_err(|error| {
        Error::invalid(
            "JSON_INVALID",
            format!("the body is not what {} takes: {error}", call.head.uri.path()),
        )
    })
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Verify {
    #[serde(default)]
    mode: Mode,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Report,
    Adopt,
    Repair,
}

async fn verify(node: &Node, database: &Database, call: Call) -> Answer {
    let Verify { mode } = choices(node, call).await?;
    let mode = match mode {
        Mode::Report => VerifyMode::Report,
        Mode::Adopt => VerifyMode::Adopt,
        Mode::Repair => VerifyMode::Repair,
    };
    let of = database.clone();
    let report = blocking(move || of.verify(mode)).await?;
    Ok(reply::json(
        StatusCode::OK,
        &json!({
            "position": report.position.to_string(),
            "equal": report.equal,
            "findings": report.findings,
        }),
    ))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Promote {
    #[serde(default)]
    accept_loss: bool,
}

async fn promote(node: &Node, database: &Database, call: Call) -> Answer {
    let Promote { accept_loss } = choices(node, call).await?;
    let of = database.clone();
    moved(blocking(move || of.promote(accept_loss)).await?)
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Resolve {
    keep: Option<Side>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Side {
    Node,
    Backing,
}

async fn resolve(node: &Node, database: &Database, call: Call) -> Answer {
    let keep = match choices::<Resolve>(node, call).await?.keep {
        Some(Side::Node) => Keep::Node,
        Some(Side::Backing) => Keep::Backing,
        None => {
            return Err(Error::invalid(
                "REQUEST_INVALID",
                "the body does not say which side to keep",
            )
            .hint("send {\"keep\": \"node\"} or {\"keep\": \"backing\"}"));
        }
    };
    let of = database.clone();
    moved(blocking(move || of.resolve(keep)).await?)
}

fn moved(position: Position) -> Answer {
    Ok(reply::json(StatusCode::OK, &json!({"position": position.to_string()})))
}
