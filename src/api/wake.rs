//! Waking readers: the writer's side. (The reader's is in [`crate::ship`].)
//!
//! A line goes out whenever the position moves; while one is on its way the moves after it are taken
//! together, so that a slow reader hears the latest and nobody waits for it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use hyper::StatusCode;
use serde::Deserialize;
use tokio::sync::watch;

use super::body::read;
use super::forward::writer;
use super::node::Node;
use super::reply::{self, Answer};
use super::route::Call;
use super::server::Stage;
use crate::change::Position;
use crate::engine::{Database, Role};
use crate::error::{Error, Result};

/// How often a line goes out although nothing moved.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A node's name may be this long.
const LONGEST_NAME: usize = 200;

/// `GET /v1/databases/{db}/wake?node=NAME`.
pub(super) fn wake(node: &Node, database: &Database) -> Answer {
    is_writer(database)?;
    let mut positions = database.watch();
    positions.mark_changed();
    let state = (positions, node.stage.clone());
    let lines = stream::unfold(state, |(mut positions, mut stage)| async move {
        let position = next(&mut positions, &mut stage).await?;
        let line = Bytes::from(format!("{{\"position\":\"{position}\"}}\n"));
        Some((line, (positions, stage)))
    });
    Ok(reply::stream("application/jsonl", lines.boxed()))
}

/// The position when it moves, or at the latest after a while; none when the stream must end.
async fn next(
    positions: &mut watch::Receiver<Position>,
    stage: &mut watch::Receiver<Stage>,
) -> Option<Position> {
    tokio::select! {
        biased;
        moved = positions.changed() => moved.ok()?,
        _ = stage.wait_for(|stage| *stage != Stage::Serving) => return None,
        () = tokio::time::sleep(HEARTBEAT) => {}
    }
    Some(*positions.borrow_and_update())
}

/// What a reader says of itself.
#[derive(Deserialize)]
struct Report {
    node: String,
    position: String,
    undone: Option<String>,
}

/// `POST /v1/databases/{db}/readers`.
pub(super) async fn register(node: &Node, database: &Database, call: Call) -> Answer {
    is_writer(database)?;
    let body = read(node, &call.head.headers, call.body, 64 << 10).await?;
    let report: Report = serde_json::from_slice(&body.bytes).map_err(|error| {
        Error::invalid("JSON_INVALID", format!("the body is no report: {error}"))
            .hint("send {\"node\": \"NAME\", \"position\": \"EPOCH.VERSION.CHAIN\"}")
    })?;
    if report.node.is_empty() || report.node.len() > LONGEST_NAME {
        return Err(Error::invalid("NODE_NAME_INVALID", "the report names no node"));
    }
    if let Some(undone) = &report.undone {
        database.reader_undid(&report.node, undone.parse()?);
    }
    database.register_reader(&report.node, report.position.parse()?);
    Ok(reply::full(StatusCode::NO_CONTENT, "application/json", ""))
}

/// Readers listen to the writer only: another reader's position says nothing of what is there.
fn is_writer(database: &Database) -> Result<()> {
    if database.role() == Role::Writer {
        return Ok(());
    }
    let writer = writer(database).unwrap_or_else(|_| "not known here".into());
    Err(Error::unavailable("NOT_WRITER", format!("the writer of this database is {writer}"))
        .hint("connect to the writer"))
}
