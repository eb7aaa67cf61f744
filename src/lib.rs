//! Syncline keeps SQL tables in step: across processes, servers and datacenters.
//!
//! Every copy can prove that it equals its source; when it cannot, it says so, finds the exact
//! place where the two parted, and mends only that.
//!
//! # The five questions
//!
//! A database is replicated under a *policy*: the answers to five questions. Each question is a
//! module, a page of `docs/concepts/`, and a key of the configuration. They are strangers to each
//! other and meet only in [`engine`].
//!
//! | question | module | asks | answered here with |
//! | --- | --- | --- | --- |
//! | ORDER | [`order`] | which write comes first? | `leader`: one writer counts, in an epoch it took |
//! | ACKNOWLEDGE | [`acknowledge`] | when may we say "done"? | `memory`, `disk` |
//! | SHIP | [`ship`] | how does a commit travel? | `shared`: readers follow the backing database |
//! | MERGE | `merge` | what if two disagree? | `refuse`: a commit that does not fit is a fork |
//! | HEAL | [`heal`] | how do we know, and how do we mend? | incremental, rewind, full |
//!
//! # Two databases in step
//!
//! ```
//! use std::time::Duration;
//! use syncline::change::Value;
//! use syncline::engine::{Database, DatabaseOptions, Program, RequestOptions, Statement};
//!
//! # #[tokio::main]
//! # async fn main() -> syncline::error::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! let file = folder.path().join("main.db");
//! let writer = Database::open(DatabaseOptions::writer(&file))?;
//! let reader = Database::open(DatabaseOptions {
//!     node: "b".into(),
//!     check_every: Duration::from_millis(10),
//!     ..DatabaseOptions::reader(&file, folder.path().join("b"))
//! })?;
//!
//! let as_usual = RequestOptions::default();
//! let mut session = writer.session();
//! session.sequence("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)", &as_usual).await?;
//! let insert = Statement::new("INSERT INTO notes (text) VALUES (?)", [Value::Text("first".into())]);
//! let written = session.run(Program::single(insert), &as_usual).await?;
//!
//! // The receipt says which state a reader must have reached to show this write.
//! let receipt = written.receipt.expect("something was written");
//! reader.reached(receipt, Duration::from_secs(5)).await?;
//!
//! // Same history, and the same rows: each computed its digest from its own.
//! assert_eq!(reader.position(), writer.position());
//! # tokio::task::spawn_blocking(move || [reader, writer].iter().for_each(Database::close)).await.unwrap();
//! # Ok(())
//! # }
//! ```
//!
//! # The house
//!
//! A module names only modules below it (`tests/layers.rs` holds us to it):
//!
//! ```text
//!            main                     the program: a table of contents
//!             cli                     serve, shell, status, explain, demo, …
//!      client    config               HTTP to a node; a file, as written and as meant
//!             api                     HTTP: SQL for clients, feed, status, administration
//!           engine                    one database: writer or reader, sessions, groups
//! order  acknowledge  ship  heal      the five questions (merge comes with several writers)
//!            sync                     are two databases equal, and make them so: needs no node
//!       store   endpoint              rows, log and position; what diff and sync need of any database
//!      change      dial               values, commits, positions, digests: pure; reaching a server
//!            error                    sorted by what the caller does next
//! ```
//!
//! From the top: [`cli`], [`client`], [`config`], [`api`], [`engine`], [`sync`], [`store`], [`endpoint`], [`change`],
//! [`dial`], [`error`]. Begin with [`change`], whose nouns all others use, then [`engine`].

// The pages are read in the source as often as in the browser, and there private names are no riddle.
#![allow(rustdoc::private_intra_doc_links)]

pub mod acknowledge;
pub mod api;
pub mod change;
pub mod cli;
pub mod client;
pub mod config;
pub mod dial;
pub mod endpoint;
pub mod engine;
pub mod error;
pub mod heal;
pub mod order;
pub mod ship;
pub mod store;
pub mod sync;

#[cfg(feature = "planted")]
mod planted;
#[cfg(feature = "planted")]
pub(crate) use planted::planted;
