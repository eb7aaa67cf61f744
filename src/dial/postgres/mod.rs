//! A PostgreSQL server: its URL, its certificate, and what its errors mean.
//!
//! ```text
//! let answer = wait(place.limit(), place.connect()?);    // None: silent; Some(Err(cause)): Reason::of
//! let (client, connection) = …;
//! let driver = spawn(connection);                        // until the client is dropped
//! ```
//!
//! Left out: what is set on a session, and what a session must find.

mod place;
mod reason;
mod tls;

pub use place::PostgresPlace;
pub(crate) use reason::{Answer, Reason, is_answer, said, state};
pub(crate) use tls::untrusted;
