//! One node's databases: where the five questions meet.

mod options;
mod program;
mod session;
mod status;

use std::time::Duration;

use crate::change::{Commit, Position};
use crate::error::Result;

pub use options::{DatabaseOptions, FullMode, Limits, OnRestore, Role, WorkingCopy};
pub use program::{
    Arguments, Condition, Description, Outcome, Program, ResultColumn, Statement, StatementResult,
    Step, StepOutcome,
};
pub use session::{ReadOptions, RequestOptions, Session};
pub use status::{Held, ReaderStatus, ReceiptState, State, Status};

/// A database as this node hosts it; clones are handles to the same one.
#[derive(Clone)]
pub struct Database {}

/// Which side of a restore to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// This node's copy.
    Node,
    /// What lies in the backing database.
    Backing,
}

/// What `verify` does about rows that do not give the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyMode {
    /// Report them.
    Report,
    /// Turn them into a commit.
    Adopt,
    /// Write the old ones back.
    Repair,
}

/// What `verify` found.
#[derive(Debug, Clone)]
pub struct VerifyReport {
    /// The position that was recounted.
    pub position: Position,
    /// Whether every table agreed.
    pub equal: bool,
    /// One line for each table that did not.
    pub findings: Vec<String>,
}

impl Database {
    /// Opens a database; blocks while a copy in memory is loaded.
    pub fn open(_options: DatabaseOptions) -> Result<Database> {
        todo!()
    }
    /// What it was opened with.
    pub fn options(&self) -> &DatabaseOptions {
        todo!()
    }
    /// A new stream.
    pub fn session(&self) -> Session {
        todo!()
    }
    /// Where this copy stands: what its readers see now.
    pub fn position(&self) -> Position {
        todo!()
    }
    /// Changes whenever the position does.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Position> {
        todo!()
    }
    /// What this node is to the database now (a promoted reader is a writer).
    pub fn role(&self) -> Role {
        todo!()
    }
    /// Everything `status` shows.
    pub fn status(&self) -> Status {
        todo!()
    }
    /// How old this copy may be; zero at a writer. Cheap: it is asked with every answer.
    pub fn stale(&self) -> Duration {
        todo!()
    }
    /// Where writes go, if not here.
    pub fn writer_url(&self) -> Option<String> {
        todo!()
    }
    /// Waits until this copy has reached `receipt`, or fails with `UNDONE` or (at the deadline) `BEHIND`.
    pub async fn reached(&self, _receipt: Position, _within: Duration) -> Result<()> {
        todo!()
    }
    /// How far a receipt has got. Blocks on storage.
    pub fn receipt_state(&self, _receipt: Position) -> Result<ReceiptState> {
        todo!()
    }
    /// The commits after `position`, at most about `bytes` of them (at least one if there is one), or
    /// `DIVERGED` (with the latest common position in the message) or `COMPACTED`. Blocks on storage.
    pub fn changes_after(&self, _position: Position, _bytes: usize) -> Result<Vec<Commit>> {
        todo!()
    }
    /// The schema's objects, and the position at which they were read. Blocks on storage.
    pub fn schema(&self) -> Result<(Position, Vec<crate::change::Object>)> {
        todo!()
    }
    /// The body of a commit, wherever it lies, in parts (one if it is small): `each` gets the bytes.
    /// Blocks on storage.
    pub fn commit_body(
        &self,
        _commit: &Commit,
        _each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        todo!()
    }
    /// Streams one consistent snapshot: schema first, then rows; returns the position to follow from.
    /// Blocks on storage.
    pub fn snapshot(
        &self,
        _each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<Position> {
        todo!()
    }
    /// A reader tells where it stands (kept for `status` and for the log's retention).
    pub fn register_reader(&self, _node: &str, _position: Position) {
        todo!()
    }
    /// What is held. Blocks on storage.
    pub fn held_list(&self) -> Result<Vec<Held>> {
        todo!()
    }
    /// One held thing, with its changes in words. Blocks on storage.
    pub fn held_show(&self, _id: i64) -> Result<Held> {
        todo!()
    }
    /// Applies a held commit again as a new one (on the writer), or refuses with what is in its way; a
    /// reader forwards the raw frame: see `held_frame`.
    pub async fn held_replay(&self, _id: i64) -> Result<Position> {
        todo!()
    }
    /// Replays a commit that another node held: at the writer.
    pub async fn replay(&self, _body: Vec<u8>) -> Result<Position> {
        todo!()
    }
    /// The body of a held commit. Blocks on storage.
    pub fn held_body(&self, _id: i64) -> Result<Vec<u8>> {
        todo!()
    }
    /// Forgets a held thing. Blocks on storage.
    pub fn held_discard(&self, _id: i64) -> Result<()> {
        todo!()
    }
    /// Recounts every stored row and compares. Blocks on storage, long.
    pub fn verify(&self, _mode: VerifyMode) -> Result<VerifyReport> {
        todo!()
    }
    /// Takes the epoch: this reader becomes the writer. Blocks on storage.
    pub fn promote(&self, _accept_loss: bool) -> Result<Position> {
        todo!()
    }
    /// Decides a restore. Blocks on storage.
    pub fn resolve(&self, _keep: Keep) -> Result<Position> {
        todo!()
    }
    /// Resolves when the database must stop the process: the exit code and the reason.
    pub async fn stopped(&self) -> (u8, String) {
        todo!()
    }
    /// Answers what was accepted, flushes, releases the lease, closes. Blocks on storage.
    pub fn close(&self) {
        todo!()
    }
}

/// One piece of a snapshot.
#[derive(Debug)]
pub enum SnapshotItem<'a> {
    /// A schema object, as a step that creates it.
    Object(&'a crate::change::Object),
    /// A row of the table last named: its rowid if it has no usable key, and its values.
    Row { table: &'a str, rowid: Option<i64>, values: &'a [crate::change::ValueRef<'a>] },
}
