//! The change feed and the snapshot: every commit as JSON, from any position on.
//!
//! ```text
//! GET /v1/databases/{db}/changes?after=POSITION&follow=true&tables=a,b
//! {"position":"7.1042.…","at":"2026-11-22T08:15:30.000042Z","changes":[
//!   {"table":"t","op":"update","key":{"id":1},"before":{"id":1,"a":null},"after":{"id":1,"a":"x"}},
//!   {"table":"t","op":"schema","kind":"index","name":"i","sql":"CREATE INDEX i ON t(a)"}]}
//! {"position":"7.1042.…"}                                              a heartbeat, every 10 s
//! ```
//!
//! One object a line, or as server-sent events (by `Accept`), whose id is the position: a browser that
//! connects again goes on where it was. Without `after` it begins with the next commit; without
//! `follow` it ends at the position the database had when it was asked.
//!
//! | value | JSON |
//! | --- | --- |
//! | null, text | null, a string |
//! | integer | a number; beyond ±(2^53 − 1), where many parsers round, `{"integer":"9007199254740993"}` |
//! | real | a number with a point or an exponent; `{"real":"Infinity"}` |
//! | blob | `{"base64":"…"}`, without padding |
//!
//! `key` holds the columns of the primary key, or `rowid` where there is no usable one; `new_key` too
//! if the update changed it. Columns have the names they had at that commit ([`shapes`]).
//!
//! The first commits are fetched before the answer begins, so that a position that is not of this
//! history is an HTTP status (409 `DIVERGED`, 410 `COMPACTED`). What goes wrong later is a last line
//! `{"error":{…}}`. A commit too large for one piece of memory is written part by part.
//!
//! # What is left out
//!
//! What replication keeps beside rows and schema (`sqlite_sequence`, `user_version`, clients' write
//! ids); the binary encoding, which followers without a shared backing database will read.

mod changes;
mod encode;
mod shapes;
mod snapshot;

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hyper::Uri;
use tokio::sync::{mpsc, watch};

use super::health::query;
use super::server::Stage;
use crate::error::{Error, Kind, Result};

pub(super) use changes::changes;
pub(super) use snapshot::snapshot;

/// Pieces of an answer are about this large.
const PIECE: usize = 64 << 10;
/// So many wait for the client.
const PIECES: usize = 4;

/// Which tables are asked for.
struct Tables(Option<HashSet<String>>);

impl Tables {
    fn of(uri: &Uri) -> Tables {
        let list = query(uri, "tables").filter(|list| !list.is_empty());
        Tables(list.map(|list| list.split(',').map(|t| t.trim().to_ascii_lowercase()).collect()))
    }

    fn wants(&self, table: &str) -> bool {
        self.0.as_ref().is_none_or(|tables| tables.contains(&table.to_ascii_lowercase()))
    }
}

/// Sends pieces from a thread that may block; a client that is slow slows it down.
struct Sender {
    pieces: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Sender {
    fn new(pieces: mpsc::Sender<Bytes>) -> Self {
        Sender { pieces, buffer: Vec::new() }
    }

    /// Sends what is buffered.
    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.buffer).into();
        self.pieces.blocking_send(piece).map_err(|_| client_gone())
    }
}

/// Sends what is in `buffer`, if it is enough for a piece.
fn pour(pieces: &mpsc::Sender<Bytes>, buffer: &mut Vec<u8>) -> Result<()> {
    if buffer.len() < PIECE {
        return Ok(());
    }
    pieces.blocking_send(std::mem::take(buffer).into()).map_err(|_| client_gone())
}

/// Nobody reads this error: it ends the work for a client that went away.
fn client_gone() -> Error {
    Error::new(Kind::Invalid, "CLIENT_GONE", "the client closed the stream")
}

/// The pieces as a body, until the sender ends or the server does.
fn body(pieces: mpsc::Receiver<Bytes>, stage: watch::Receiver<Stage>) -> BoxStream<'static, Bytes> {
    stream::unfold((pieces, stage), |(mut pieces, mut stage)| async move {
        let piece = tokio::select! {
            biased;
            _ = stage.wait_for(|stage| *stage != Stage::Serving) => None,
            piece = pieces.recv() => piece,
        };
        piece.map(|piece| (piece, (pieces, stage)))
    })
    .boxed()
}

/// Runs `work` where it may block; a panic in it is an error.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::new(Kind::Unknown, "INTERNAL", "this request met a bug in Syncline")
            .source(error))
    })
}
