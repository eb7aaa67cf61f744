//! What a node says of a database.

use std::time::Duration;

use crate::acknowledge::Level;
use crate::change::{Digest, Position, Timestamp, Version};

use super::options::Role;

/// How a database is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Serving, and in step as far as it knows.
    Ok,
    /// A reader that loads its first copy.
    Loading,
    /// A reader that is replaying, rewinding or rebuilding while it serves on.
    Healing,
    /// The backing database is away: a reader serves what it has, a writer refuses writes.
    Stale,
    /// A writer that found its backing database restored; reads go on, writes wait for `resolve`.
    Restored,
    /// A writer that another one has overtaken.
    Fenced,
    /// No space: writes are refused until there is some.
    DiskFull,
    /// The source's rows do not give the digest it claims; the old copy is served on.
    SourceDamaged,
    /// The storage failed; the process is about to stop.
    Failed,
}

impl State {
    /// A stable word for status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Loading => "loading",
            State::Healing => "healing",
            State::Stale => "stale",
            State::Restored => "restored",
            State::Fenced => "fenced",
            State::DiskFull => "disk-full",
            State::SourceDamaged => "source-damaged",
            State::Failed => "failed",
        }
    }
}

/// A reader that registered with this writer.
#[derive(Debug, Clone, PartialEq)]
pub struct ReaderStatus {
    /// Its node's name.
    pub node: String,
    /// Where it stands.
    pub position: Position,
    /// When it was last heard of.
    pub seen: Timestamp,
    /// The log no longer reaches back to where it stands: it has to copy everything.
    pub lost: bool,
}

/// Everything `status` shows of a database.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// What this node is to it.
    pub role: Role,
    /// How it is doing.
    pub state: State,
    /// One sentence on the state, with the next step where one is needed; empty if all is well.
    pub note: String,
    /// Where this copy stands.
    pub position: Position,
    /// The last version at which stored rows were recounted and agreed.
    pub verified: Version,
    /// The version of the source, as last seen (the own one, at a writer).
    pub source_version: Version,
    /// How old this copy may be: time since it last was known to have everything; zero at a writer.
    pub stale: Duration,
    /// When "done" is said.
    pub acknowledge: Level,
    /// Where writes go.
    pub writer: Option<String>,
    /// Tables with rows and digest.
    pub tables: Vec<(String, u64, Digest)>,
    /// How many things are held.
    pub held: u64,
    /// What HEAL did, by rung: incremental, rewind, diff, full.
    pub healed: [u64; 4],
    /// Digest mismatches found since start.
    pub mismatches: u64,
    /// Registered readers (at a writer).
    pub readers: Vec<ReaderStatus>,
}

/// How far a receipt has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptState {
    /// Not durable anywhere yet.
    Pending,
    /// Durable on these nodes.
    Durable(Vec<String>),
    /// Its commit was undone (a restore, or a lost tail under `memory`).
    Undone,
}

/// One held thing.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its id in this copy.
    pub id: i64,
    /// When it was held.
    pub at: Timestamp,
    /// Why: `undone`, `fenced`, `poison`, `conflict`.
    pub reason: String,
    /// The position it had.
    pub position: Position,
    /// How many entries its commit has.
    pub changes: u64,
    /// Its changes in words (one line each), when asked for.
    pub detail: Vec<String>,
}
