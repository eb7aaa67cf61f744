//! Reaching a database server: where it is, whether it is the right one, and how a thread waits for it.
//!
//! ```text
//! any thread          client          runtime thread, one for all          server
//!    │── call ──────────▶│── request ──────────▶│── bytes ──────────────────▶│
//!    │   parked, bounded │◀───────── answer ────│◀───────────────────────────│
//! ```
//!
//! The client libraries are asynchronous and whoever calls them here is not, and may be inside a runtime of
//! its own. So connections are driven by a thread that no caller can block, and the caller parks: [`wait`]
//! does so for any future and any server.
//!
//! What is known of one kind of server stands in its folder: its URL, its TLS, and what its errors mean. An
//! error is only sorted here. The codes and hints are given by whoever asked, who knows what to do about it.
//!
//! Left out: pools, and what is asked over a connection.

pub mod http;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
mod trust;
mod url;
mod wait;

pub use wait::{beside, block_on, spawn, wait};
