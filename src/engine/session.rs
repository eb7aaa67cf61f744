//! A client's stream: its settings, its transaction, its last receipt.

use std::time::Duration;

use super::program::{Description, Outcome, Program};
use crate::acknowledge::Level;
use crate::change::{Position, RequestId};
use crate::error::Result;

/// What a read asks for beyond "whatever is here".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadOptions {
    /// Run on the writer.
    pub writer: bool,
    /// See everything acknowledged before the read began.
    pub linearizable: bool,
    /// See at least this receipt; an undone one answers `UNDONE`.
    pub after: Option<Position>,
    /// See nothing older than this.
    pub max_stale: Option<Duration>,
}

/// Options of one request, from headers or from SQL functions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestOptions {
    /// What reads ask for.
    pub read: ReadOptions,
    /// Raised or lowered for this write.
    pub acknowledge: Option<Level>,
    /// How long the caller waits at most.
    pub timeout: Option<Duration>,
    /// The id the client brought for this write.
    pub request: Option<RequestId>,
}

/// A client's stream.
pub struct Session {}

impl Session {
    /// Runs a program. On a node that is not the writer, a program that writes (or opens a
    /// transaction that may) is refused with `NOT_WRITER` before anything of it has run: forward it.
    pub async fn run(&mut self, _program: Program, _options: &RequestOptions) -> Result<Outcome> {
        todo!()
    }

    /// Runs a text of several statements, stopping at the first that fails.
    pub async fn sequence(&mut self, _sql: &str, _options: &RequestOptions) -> Result<Outcome> {
        todo!()
    }

    /// What is known of a statement without running it.
    pub async fn describe(&mut self, _sql: &str) -> Result<Description> {
        todo!()
    }

    /// The statements that give a new stream this one's settings and options (none, if they are the
    /// default ones): run first where a forwarded stream goes on.
    pub fn settings(&self) -> Vec<String> {
        todo!()
    }

    /// Whether the stream is in no transaction.
    pub fn is_autocommit(&self) -> bool {
        todo!()
    }

    /// The receipt of the stream's last write.
    pub fn receipt(&self) -> Option<Position> {
        todo!()
    }
}
// Dropping a session rolls its transaction back and frees the writer.
