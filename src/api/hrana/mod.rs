//! SQL over HTTP, as the libSQL and Turso client SDKs speak it in remote mode.
//!
//! ```text
//! POST /v2/pipeline, /v3/pipeline          (below /DATABASE/ for another than the default one)
//! {"baton": null, "requests": [{"type": "execute", "stmt": {…}}, {"type": "close"}]}
//! {"results": [{"type": "ok", "response": {…}} | {"type": "error", "error": {…}}],
//!  "baton": null, "base_url": null}
//! ```
//!
//! Every request of a pipeline runs, even after one that failed. What is wrong with one request
//! stands in its result, under HTTP 200; what is wrong with the whole pipeline (or where it must go)
//! is an HTTP error. Both versions of the path speak the same here.
//!
//! [`cursor`] runs one batch whose results come as [`lines`] (`POST /v3/cursor`), while it runs if it
//! reads.
//!
//! [`request`] is what arrives, [`program`] turns it into the engine's terms, [`json`] writes what
//! leaves, [`stream`] keeps what outlives a request, [`pipeline`] runs it all, and [`rest`] sends the
//! rest of a pipeline to the writer.
//!
//! # What is left out
//!
//! `base_url` is sent only to a client that came by another name than the advertised one (through a
//! load balancer, say), which might reach another node next time.

mod cursor;
mod json;
mod lines;
mod pipeline;
mod program;
mod request;
mod rest;
mod stream;

pub(super) use cursor::answer as answer_cursor;
pub(super) use pipeline::answer;
pub(super) use program::BASE64;
pub(super) use stream::Streams;
