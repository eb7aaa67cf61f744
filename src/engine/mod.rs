//! One node's databases: where the five questions meet.
//!
//! ```text
//!                 Session ── programs of SQL, one stream's settings and transaction
//!                 │     │
//!      reads ─────┘     └───── writes
//!        │                       │
//!      Readers                 Writer ── groups, interactive transactions, the lease
//!        │                       │
//!        │                      Core ── working copy, backing database, what a commit needs of both
//!        │                       │  └── Keeper: checkpoints, and the mark outside the database
//!        ▼                       ▼
//!      the copy that serves  ◄── or, on a reader: Follower ── look, apply, rewind, rebuild
//! ```
//!
//! Every copy is alike (rows, log, position), so a reader that is promoted hands its copy to a writer,
//! and goes on from where it stands.
//!
//! Left out for now: followers that acknowledge, a cluster manager, several writers.

mod answers;
mod backing;
mod changed;
mod compared;
mod copies;
mod core;
mod database;
mod feed;
mod fence;
mod follower;
mod group;
mod handle;
mod held;
mod inbox;
mod keeper;
mod mark;
mod open;
mod open_file;
mod open_server;
mod options;
mod program;
mod read_options;
mod read_run;
mod readers;
mod reign;
mod resolve;
mod run;
mod session;
mod settle;
mod shared;
mod shelf;
mod sink;
mod status;
mod stream;
mod verify;
mod writer;

pub use crate::store::sqlite::Row;
pub use database::{Database, Keep, SnapshotItem};
pub use handle::ReadHandle;
pub use options::{BackingPlace, DatabaseOptions, FullMode, Limits, OnRestore, Role, WorkingCopy};
pub use program::{
    Arguments, Condition, Description, Outcome, Program, ResultColumn, Statement, StatementResult,
    Step, StepOutcome,
};
pub use read_options::{ReadOptions, duration};
pub use session::{RequestOptions, Session};
pub use sink::Sink;
pub use status::{Held, ReaderStatus, ReceiptState, State, Status};
pub use verify::{VerifyMode, VerifyReport};
