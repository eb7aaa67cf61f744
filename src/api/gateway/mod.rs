//! An endpoint, served to `diff` and `sync` elsewhere: any database beside a `syncline gateway`, or a node's own.
//!
//! ```text
//! POST   /v1/gateway             Hello    a session begins: an endpoint of its own, on a thread of its own
//! POST   /v1/gateway/SESSION     Call     what an endpoint can do; the answer streams
//! DELETE /v1/gateway/SESSION              it ends, and its snapshot with it
//! ```
//!
//! A node answers so below `/v1/databases/DB/gateway` for each of its databases, and at `/v1/gateway` for the
//! default one. It is only read: its clients write it, so that every row is in some commit.
//!
//! Bodies are frames ([`crate::endpoint::wire`]). Whatever a call comes to is said in frames, too: the status
//! says only whether it was let in. A session belongs to whoever began it, and ends when it idles; there are not
//! many, for each may hold a snapshot that keeps a database from cleaning up. Where another copy of a database
//! takes the place of the one that is read, the sessions of the old one end. Nobody waits for an answer that was
//! given up: what was at work on it is interrupted, where its engine can be.
//!
//! Left out: fairness between sessions, and limits on what a call costs: whoever may ask for rows may ask for all
//! of them, under any condition that SQL can say.

mod sessions;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use hyper::{Method, StatusCode};

use super::body;
use super::node::Node;
use super::reply::{self, Answer};
use super::route::{Call as Request, only};
use crate::endpoint::wire::{
    Frame, FrameReader, FrameWriter, Hello, Kind as Piece, PROTOCOL, Welcome,
};
use crate::endpoint::{Endpoint, sqlite::Access};
use crate::engine::Database;
use crate::error::{Error, Kind, Result};
use sessions::{Owner, Sessions};

/// Opens the endpoint that is served.
pub type Opener = dyn Fn(Access) -> Result<Box<dyn Endpoint>> + Send + Sync;

/// Sessions at a time.
const SESSIONS: usize = 16;
/// How long a session may idle: the other side may be busy with its own.
const IDLE: Duration = Duration::from_secs(600);
/// How long a call may say nothing.
const QUIET: Duration = Duration::from_secs(10);
const BYTES: &str = "application/octet-stream";

/// An endpoint, and who uses it.
pub struct Gateway {
    open: Arc<Opener>,
    read_only: bool,
    /// Which copy is opened now.
    generation: Box<dyn Fn() -> u64 + Send + Sync>,
    sessions: Sessions,
}

impl Gateway {
    /// Serves what `open` opens; `read_only`: nobody may change it.
    pub fn new(open: Arc<Opener>, read_only: bool) -> Gateway {
        let generation = Box::new(|| 0);
        Gateway { open, read_only, generation, sessions: Sessions::new(SESSIONS, IDLE) }
    }

    /// Serves this node's copy of a database; nobody may change it.
    pub(super) fn of(database: &Database) -> Gateway {
        let (opened, asked) = (database.clone(), database.clone());
        let open = move |access| match access {
            Access::Read => Ok(Box::new(opened.endpoint()?) as Box<dyn Endpoint>),
            Access::Write => Err(written_by_clients(&opened.options().name)),
        };
        let generation = Box::new(move || asked.generation());
        Gateway { generation, ..Gateway::new(Arc::new(open), false) }
    }

    /// Ends the sessions that idled for too long.
    pub(super) fn expire(&self, now: Instant) {
        self.sessions.expire(now, (self.generation)());
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        self.sessions.clear();
    }

    /// Answers below its path.
    pub(super) async fn answer(&self, node: &Node, rest: &[&str], request: Request) -> Answer {
        match rest {
            [] => {
                only(&request.head, Method::POST)?;
                self.begin(node, request).await
            }
            [session] if request.head.method == Method::DELETE => {
                self.sessions.end(session, self.owner(&request));
                Ok(reply::full(StatusCode::NO_CONTENT, BYTES, ""))
            }
            [session] => {
                only(&request.head, Method::POST)?;
                self.call(node, session, request).await
            }
            _ => Err(reply::not_found(request.head.uri.path())),
        }
    }

    /// Whoever asks, and the copy that is here while they do.
    fn owner(&self, request: &Request) -> Owner {
        Owner { principal: request.principal, generation: (self.generation)() }
    }

    async fn begin(&self, node: &Node, request: Request) -> Answer {
        let owner = self.owner(&request);
        let body = body::read(node, &request.head.headers, request.body, 4 << 10).await?;
        let frames = frames(&body.bytes)?;
        let hello: Hello = frames.first().and_then(parsed).ok_or_else(strange)?;
        if hello.protocol != PROTOCOL {
            return Err(Error::invalid("GATEWAY_VERSION", "this gateway speaks another protocol")
                .hint("both ends of the line must run the same version of syncline"));
        }
        if hello.write && self.read_only {
            return Err(Error::new(
                Kind::Forbidden,
                "ENDPOINT_FORBIDDEN",
                "this gateway lets nobody write",
            )
            .hint("it was started with --read-only"));
        }
        let access = if hello.write { Access::Write } else { Access::Read };
        let (session, engine) = self.sessions.begin(self.open.clone(), access, owner).await?;
        let welcome = Welcome { protocol: PROTOCOL, session, engine };
        let (mut writer, mut answer) = (FrameWriter::default(), Vec::new());
        writer.put_json(&mut answer, &welcome)?;
        writer.put(&mut answer, Piece::End, b"")?;
        Ok(reply::full(StatusCode::OK, BYTES, answer))
    }

    async fn call(&self, node: &Node, session: &str, request: Request) -> Answer {
        let (most, owner) = (node.limits.body, self.owner(&request));
        let body = body::read(node, &request.head.headers, request.body, most).await?;
        let frames = frames(&body.bytes)?;
        drop(body);
        let answer = self.sessions.call(session, owner, frames)?;
        let pieces = stream::unfold(answer, |mut answer| async {
            match tokio::time::timeout(QUIET, answer.pieces.recv()).await {
                Ok(piece) => Some((piece?, answer)),
                Err(_) => Some((waiting().into(), answer)),
            }
        });
        Ok(reply::stream(BYTES, pieces.boxed()))
    }
}

fn written_by_clients(database: &str) -> Error {
    let what = format!("{database} is a node's database: only its clients write it");
    Error::new(Kind::Forbidden, "ENDPOINT_FORBIDDEN", what).hint(
        "a node can be A, not B: sync into a database of its own, or write here with SQL through the node",
    )
}

/// Says that the call is still at work.
fn waiting() -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameWriter::default().put(&mut bytes, Piece::Waiting, b"").expect("it is short");
    bytes
}

fn strange() -> Error {
    Error::invalid("REQUEST_INVALID", "the body is not what a gateway takes")
        .hint("both ends of the line must run the same version of syncline")
}

/// All frames of a body.
fn frames(bytes: &[u8]) -> Result<Vec<Frame>> {
    let mut reader = FrameReader::default();
    reader.push(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = reader.take().map_err(damaged)? {
        frames.push(frame);
    }
    if reader.is_within_a_frame() { Err(strange()) } else { Ok(frames) }
}

/// It was damaged on its way here: the client may send it again.
fn damaged(error: Error) -> Error {
    Error::retry("GATEWAY_GARBLED", error.message()).hint(error.hint_text())
}

fn parsed<T: serde::de::DeserializeOwned>(frame: &Frame) -> Option<T> {
    serde_json::from_slice(&frame.payload).ok().filter(|_| frame.kind == Piece::Json)
}
