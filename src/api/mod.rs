//! HTTP: SQL for clients, the change feed, status and administration.
//!
//! ```text
//!            connection                     places, timeouts, the end
//!                │ request
//!              route ── guard               one choke point: Host, Origin, content type, panics
//!   ┌────────┬───┴────┬─────────┬───────┐
//! hrana    feed    snapshot   wake    admin, health, metrics, gateway
//!   │ └─ stream                             batons, bound to their caller; idle ones expire
//!   └─ forward                              what only the writer may run
//! ```
//!
//! # SQL
//!
//! The protocol is that of the libSQL and Turso client SDKs in remote mode ([`hrana`]): a pipeline
//! of requests over one stream, where most pipelines are one-shot. Those touch no table of streams
//! and start no task: the request is parsed in place, run on a session of the engine, and written
//! into one buffer.
//!
//! # Readers forward
//!
//! Clients of these protocols expect that the node they reached runs their first request, so a reader
//! does not redirect: it runs what it can, and the rest of the pipeline, from the first request that
//! the engine refuses with `NOT_WRITER` (before anything of it has run), goes to the writer as it
//! came. A stream that is still open then lives on at the writer, and the reader only passes it
//! on. Before it answers a forwarded write, a reader waits until its own copy has the receipt.
//!
//! # What is left out
//!
//! The WebSocket form and the stateless `/v1/execute` (501, with a sentence); HTTP/2; compression. [`tls`] and
//! [`tokens`] are there, but only a [`gateway`] is given them: nodes would have to show each other tokens, too.

mod admin;
mod body;
mod connection;
mod feed;
mod files;
mod forward;
mod gateway;
mod guard;
mod headers;
mod health;
mod hrana;
mod metrics;
mod node;
mod reply;
mod route;
mod server;
mod stall;
mod tls;
mod tokens;
mod wake;

pub use gateway::{Gateway, Opener};
pub use metrics::record_metrics;
pub use server::{HttpLimits, RESERVED, Server, check_name};
pub use tls::Tls;
pub use tokens::Tokens;
