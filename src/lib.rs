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
//!            store                    rows, log and position, in one transaction; files and the VFS
//!           change                    values, changes, commits, positions, digests: pure
//!            error                    sorted by what the caller does next
//! ```
//!
//! From the top: [`cli`], [`client`], [`config`], [`api`], [`engine`], [`store`], [`change`],
//! [`error`]. Begin with [`change`], whose nouns all others use, then [`engine`].

pub mod acknowledge;
pub mod api;
pub mod change;
pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
pub mod error;
pub mod heal;
pub mod order;
pub mod ship;
pub mod store;

#[cfg(feature = "planted")]
mod planted;
#[cfg(feature = "planted")]
pub(crate) use planted::planted;
