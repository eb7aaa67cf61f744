//! SHIP: how does a commit travel?
//!
//! | answer | way |
//! | --- | --- |
//! | `shared` | readers look at the backing database that the writer writes to, and are woken |
//!
//! Looking costs latency (half the interval, on average) or load (a short interval), so a reader
//! keeps a stream open to the writer that says when to look: see [`wake_stream`]. The stream carries
//! positions and no data. A backing database on a server tells its readers itself: see [`news_stream`]. If
//! either breaks, nothing is lost but time: the reader looks every
//! `check_every` anyway.
//!
//! # What is left out
//!
//! `pull`, `stream`, `push` and `queue`: replicas that do not share a backing database.

mod news;
mod wake;

pub use news::{NewsStream, news_stream};
pub use wake::{Report, WakeStream, Waker, wake_stream};
