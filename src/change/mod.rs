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
//!
//! A row's hash, and the digest of a table that holds the row:
//!
//! ```
//! use syncline::change::{Digest, RowHasher, ValueRef};
//!
//! let mut hasher = RowHasher::default();
//! hasher.start(None); // the table has a usable key: no rowid
//! hasher.push(ValueRef::Integer(1));
//! hasher.push(ValueRef::Text("Ada"));
//! let row = hasher.finish();
//! assert_eq!(row.to_string(), "910382adac927eaa75af29d738544ec9");
//!
//! let mut table = Digest::default();
//! table += row;
//! table += row;
//! assert_ne!(table, Digest::default()); // equal rows do not cancel
//! ```
//!
//! A commit, sealed and read back:
//!
//! ```
//! use syncline::change::*;
//!
//! let mut body = BodyWriter::default();
//! body.table("people", false);
//! body.insert(0, None, &[ValueRef::Integer(1), ValueRef::Text("Ada")]);
//! let header = Header {
//!     previous: Chain::default(),
//!     epoch: Epoch(1),
//!     tag: Tag(0x5eed),
//!     version: Version(1),
//!     at: Timestamp(1_800_000_000_000_000),
//!     digest: Digest(42),
//! };
//! let sealed = Commit::seal(header, &body.0.0);
//!
//! let read = Commit::read(&mut Decoder(sealed.frame()))?;
//! assert_eq!(read.position(), sealed.position());
//! let (mut reader, mut entries) = (BodyReader::default(), Decoder(read.body()));
//! let Some(Change::Row(row)) = reader.next(&mut entries)? else { panic!("a row was written") };
//! let (mut before, mut after) = (Vec::new(), Vec::new());
//! row.values(&mut before, &mut after)?;
//! assert_eq!(reader.table(row.table).name, "people");
//! assert_eq!(after, [ValueRef::Integer(1), ValueRef::Text("Ada")]);
//! assert!(reader.next(&mut entries)?.is_none());
//! # Ok::<(), syncline::error::Error>(())
//! ```
//!
//! # What is left out
//!
//! Meaning: nothing here knows whether an image fits its table, whether a chain is the one that a copy
//! expects next, or whether a digest is true. Stores, ORDER and HEAL decide that, with these types.

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
