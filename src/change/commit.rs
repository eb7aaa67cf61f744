//! Commits: their place in history, their bytes, and the chain over them.
//!
//! ```text
//! frame   length u32 │ checksum u64 │ format u8 │ parts u32 │ region
//!                                     └───── length bytes, hash64 ─┘
//! region  previous chain 16 │ epoch u64 │ tag u64 │ version u64 │ at u64 │ body │ digest 16
//! chain   hash128(region)
//! ```
//!
//! A commit is sealed once it has its place, and never changes: the frame is what is logged, shipped
//! and applied. It names the chain before it, so that a gap or a stranger shows at once, and the
//! digest after it, so that whoever applies it can tell whether its own rows agree.
//!
//! The body is a row of entries (see [`BodyReader`](super::BodyReader)). A commit whose body is too
//! large for one frame travels in parts: each holds whole entries and continues the tables that the
//! parts before it declared. The frame then holds the chain where the body would be, and the chain is
//! hashed over the parts in its place: how a commit was cut is not part of history.
//!
//! # What is left out
//!
//! Where parts lie and how large they are: the store's business. Reading a frame checks that its
//! bytes are those that were written, not that the body makes sense: walking it does. Compression and
//! encryption: the link's business. Signatures: a peer that may ship commits is trusted to.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use super::codec::{Decoder, FORMAT, malformed};
use super::{Chain, Digest, Epoch, LineageEntry, Position, Tag, Timestamp, Version};
use crate::error::{Error, Result};

/// Length and checksum.
const FRAME_HEADER: usize = 4 + 8;
/// Where the region begins: after format and parts.
const REGION: usize = FRAME_HEADER + 1 + 4;
const DIGEST: usize = 16;
/// What a region has before its body.
const REGION_HEADER: usize = 16 + 8 + 8 + 8 + 8;

/// Hashes a chain over a body that is not in one piece.
pub struct ChainHasher(Xxh3);

impl ChainHasher {
    /// Begins with what stands before the body.
    pub fn new(previous: Chain, epoch: Epoch, tag: Tag, version: Version, at: Timestamp) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(&previous.to_bytes());
        for n in [epoch.0, tag.0, version.0, at.0] {
            hasher.update(&n.to_be_bytes());
        }
        ChainHasher(hasher)
    }

    /// The next bytes of the body.
    pub fn update(&mut self, body: &[u8]) {
        self.0.update(body);
    }

    /// Ends with the digest.
    pub fn finish(mut self, digest: Digest) -> Chain {
        self.0.update(&digest.to_bytes());
        Chain(self.0.digest128())
    }
}

/// What a transaction did, not yet given its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Captured {
    /// When it was committed.
    pub at: Timestamp,
    /// Its entries.
    pub body: Vec<u8>,
    /// The database's digest after it.
    pub digest: Digest,
}

impl Captured {
    /// Gives it its place behind `previous`.
    pub fn order(self, reign: &LineageEntry, version: Version, previous: Chain) -> Commit {
        Commit::seal(
            Header {
                previous,
                epoch: reign.epoch,
                tag: reign.tag,
                version,
                at: self.at,
                digest: self.digest,
            },
            &self.body,
        )
    }
}

/// What a commit says of itself, without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The chain it continues: a gap shows at once.
    pub previous: Chain,
    /// The reign that made it.
    pub epoch: Epoch,
    /// The reign's mark.
    pub tag: Tag,
    /// Its place.
    pub version: Version,
    /// When it was committed.
    pub at: Timestamp,
    /// The database's digest after it.
    pub digest: Digest,
}

/// The changes of one transaction, in the order they happened, at their place in history: the unit
/// that is ordered, logged, shipped, applied and undone.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    header: Header,
    chain: Chain,
    parts: u32,
    frame: Vec<u8>,
}

impl Commit {
    /// A commit whose body is in one piece.
    ///
    /// # Panics
    ///
    /// If the body is larger than a frame can say (4 GiB): such a commit travels in parts.
    pub fn seal(header: Header, body: &[u8]) -> Commit {
        let (frame, chain) = frame(&header, 0, body);
        Commit { header, chain, parts: 0, frame }
    }

    /// A commit whose body lies in `parts` pieces beside it, hashed into `chain` by a [`ChainHasher`].
    ///
    /// # Panics
    ///
    /// If there are no parts.
    pub fn seal_parts(header: Header, parts: u32, chain: Chain) -> Commit {
        assert!(parts > 0, "a commit in parts has at least one");
        let (frame, _) = frame(&header, parts, &chain.to_bytes());
        Commit { header, chain, parts, frame }
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its place.
    pub fn version(&self) -> Version {
        self.header.version
    }

    /// The history up to and with it.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// Where a copy stands that has applied it.
    pub fn position(&self) -> Position {
        let Header { epoch, version, digest, .. } = self.header;
        Position { epoch, version, chain: self.chain, digest }
    }

    /// How many parts lie beside it; 0 if [`body`](Self::body) is all.
    pub fn parts(&self) -> u32 {
        self.parts
    }

    /// The entries (empty if they lie in parts).
    pub fn body(&self) -> &[u8] {
        if self.parts > 0 {
            return &[];
        }
        &self.frame[REGION + REGION_HEADER..self.frame.len() - DIGEST]
    }

    /// The bytes as they are stored and sent.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Reads the next frame, checking its length and checksum before anything else.
    ///
    /// If it fails, `decoder` stays where it is.
    pub fn read(decoder: &mut Decoder<'_>) -> Result<Commit> {
        let mut rest = *decoder;
        let content = checked_content(&mut rest)?;
        let frame = &decoder.0[..FRAME_HEADER + content.len()];
        let mut d = Decoder(content);
        let format = d.u8()?;
        if format != FORMAT {
            return Err(Error::invalid(
                "FORMAT_UNKNOWN",
                format!("a commit is in format {format}; this build reads format {FORMAT}"),
            )
            .hint("upgrade this node before the one that writes"));
        }
        let parts = d.u32()?;
        let region = d.0;
        let (header, body) = read_region(d)?;
        let chain = match parts {
            0 => Chain(xxh3_128(region)),
            _ => Chain::from_bytes(
                body.try_into().map_err(|_| malformed("a commit in parts has a body"))?,
            ),
        };
        let commit = Commit { header, chain, parts, frame: frame.to_vec() };
        *decoder = rest;
        Ok(commit)
    }
}

/// What stands in the next frame behind its checksum, which it matches.
fn checked_content<'a>(decoder: &mut Decoder<'a>) -> Result<&'a [u8]> {
    let length = decoder.u32()? as usize;
    let checksum = decoder.u64()?;
    let content = decoder.take(length)?;
    if xxh3_64(content) != checksum {
        return Err(malformed("its checksum does not match"));
    }
    Ok(content)
}

/// Splits a region into what it says and its body.
fn read_region(mut d: Decoder<'_>) -> Result<(Header, &[u8])> {
    let previous = Chain(d.u128()?);
    let (epoch, tag) = (Epoch(d.u64()?), Tag(d.u64()?));
    let (version, at) = (Version(d.u64()?), Timestamp(d.u64()?));
    let body = d.0.len().checked_sub(DIGEST).ok_or_else(|| malformed("a commit is too short"))?;
    let body = d.take(body)?;
    let digest = Digest(d.u128()?);
    Ok((Header { previous, epoch, tag, version, at, digest }, body))
}

/// Lays out a frame around `body`; returns it with the hash of its region.
fn frame(header: &Header, parts: u32, body: &[u8]) -> (Vec<u8>, Chain) {
    let length = REGION - FRAME_HEADER + REGION_HEADER + body.len() + DIGEST;
    let mut e = Vec::with_capacity(FRAME_HEADER + length);
    let length = u32::try_from(length).expect("a body of 4 GiB travels in parts");
    e.extend_from_slice(&length.to_be_bytes());
    e.extend_from_slice(&[0; 8]);
    e.push(FORMAT);
    e.extend_from_slice(&parts.to_be_bytes());
    e.extend_from_slice(&header.previous.to_bytes());
    for n in [header.epoch.0, header.tag.0, header.version.0, header.at.0] {
        e.extend_from_slice(&n.to_be_bytes());
    }
    e.extend_from_slice(body);
    e.extend_from_slice(&header.digest.to_bytes());
    let chain = Chain(xxh3_128(&e[REGION..]));
    let checksum = xxh3_64(&e[FRAME_HEADER..]);
    e[4..FRAME_HEADER].copy_from_slice(&checksum.to_be_bytes());
    (e, chain)
}
