//! What is replicated: values, changes, commits, and where a copy stands.
//!
//! ```text
//!   value     null · integer · real · text · blob
//!     │
//!   change    one row's before- and after-image, or one schema step
//!     │
//!   commit    the changes of one transaction, in the order they happened
//!     │
//!   chain     hash128(previous chain, epoch, tag, version, commit bytes, digest)
//!     │
//!   position  (epoch, version, chain, digest): where a copy stands
//! ```
//!
//! Everything here is pure: no file, no clock, no socket. `docs/formats.md` draws each format byte
//! by byte, so that anyone can recount a digest in another language.

mod body;
mod clock;
mod codec;
mod commit;
mod digest;
mod position;
mod schema;
mod value;

#[cfg(test)]
mod tests;

pub use body::{BodyReader, BodyWriter, Change, DeclaredTable, Image, Op, RequestId, RowChange};
pub use clock::{Clock, SystemClock, Timestamp};
pub use codec::{Decoder, Encoder, FORMAT};
pub use commit::{Captured, ChainHasher, Commit, Header};
pub use digest::{DatabaseDigest, Digest, RowHasher, TableDigest};
pub use position::{Chain, Epoch, Lineage, LineageEntry, Position, Tag, Version};
pub use schema::{Column, Fingerprint, KeyKind, Object, ObjectKind, SchemaStep, TableShape};
pub use value::{Value, ValueRef};
