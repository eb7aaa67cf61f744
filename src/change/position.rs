//! Where a copy stands, and by which road it came.
//!
//! ```text
//! version    1  2  3  4  5  6  7  8
//! a          ├──── epoch 1 ────┤├─ 3 ─      lineage (1, tag, 1) (3, tag, 7)
//! b          ├── epoch 1 ──┤├─ 2 ─          lineage (1, tag, 1) (2, tag, 5)
//!                          ↑
//!                       fork: 4             the smaller end of the last entry both have
//! ```
//!
//! An epoch has one writer, so inside one epoch there is one history: two copies that both lived
//! through it hold the same commits as far as both have got. It ends where the next one begins, which
//! each copy's lineage says for itself.
//!
//! # What is left out
//!
//! A lineage is believed, and it proves nothing. A backup that is restored and then written to without
//! taking an epoch repeats the tag, and the fork found here is then above the true one: the chains
//! disagree there, and HEAL searches below. A digest does not travel in a position's text: it can
//! return to an earlier value, so histories are never compared by it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Digest;
use crate::error::{Error, Result};

/// One reign of one writer process; every start of a writer begins a new one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

/// A random mark of an epoch: a restored database can repeat a number, never a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Tag(pub u64);

/// The commit's place: counted without gaps inside its epoch and onward from the last one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Version(pub u64);

impl Version {
    /// The place after this one.
    pub fn next(self) -> Version {
        Version(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A hash over all history up to a commit. Equal chains mean equal histories.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Chain(pub u128);

impl Chain {
    /// The 16 bytes as they are stored: big-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From 16 stored bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Chain(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({self})")
    }
}

/// Where a copy stands.
///
/// Its text form is `EPOCH.VERSION.CHAIN`; the digest does not travel in it, since histories are
/// compared by chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Position {
    /// The reign in which the last commit was made (or the epoch was taken).
    pub epoch: Epoch,
    /// The last commit.
    pub version: Version,
    /// The history up to it.
    pub chain: Chain,
    /// The sum over the rows after it.
    pub digest: Digest,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.version, self.chain)
    }
}

impl FromStr for Position {
    type Err = Error;

    /// Reads `EPOCH.VERSION.CHAIN`; the digest is left at zero.
    ///
    /// A position has one text: leading zeros, signs and capitals are refused.
    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let mut parts = text.split('.');
            let epoch = Epoch(parts.next()?.parse().ok()?);
            let version = Version(parts.next()?.parse().ok()?);
            let chain = Chain(u128::from_str_radix(parts.next()?, 16).ok()?);
            Some(Position { epoch, version, chain, digest: Digest::default() })
        };
        parse().filter(|position: &Position| position.to_string() == text).ok_or_else(|| {
            Error::invalid("POSITION_INVALID", format!("{text:?} is not a position"))
                .hint("a position reads EPOCH.VERSION.CHAIN: two decimal numbers and 32 hex digits")
        })
    }
}

/// One epoch of a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageEntry {
    /// The reign.
    pub epoch: Epoch,
    /// Its random mark.
    pub tag: Tag,
    /// The version its first commit has (or would have).
    pub first: Version,
}

/// The epochs a copy has lived through, oldest first.
///
/// Two copies fork at the last entry they share, at the smaller of the two ends: one message, no
/// search.
///
/// Invariant: the first versions never fall; [`begin`](Self::begin) keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lineage(pub Vec<LineageEntry>);

impl Lineage {
    /// The current epoch.
    pub fn last(&self) -> Option<&LineageEntry> {
        self.0.last()
    }

    /// Takes an epoch.
    ///
    /// A copy that is behind may know of epochs that began beyond its head. They are not in the history
    /// that goes on here: were they kept, a fork would be looked for above the true one.
    pub fn begin(&mut self, entry: LineageEntry) {
        self.0.retain(|known| known.first <= entry.first);
        self.0.push(entry);
    }

    /// The epoch in which `version` was committed: the last whose first version is not above it.
    pub fn at(&self, version: Version) -> Option<&LineageEntry> {
        self.0.iter().rev().find(|entry| entry.first <= version)
    }

    /// The last version that two copies, at `mine` and `theirs`, can have in common.
    ///
    /// Never below the true fork; above it only if a tag was repeated (a copy that was restored and
    /// then written to behind Syncline's back): compare the chains there.
    pub fn fork(&self, mine: Version, other: &Lineage, theirs: Version) -> Version {
        let shared = self.0.iter().zip(&other.0).take_while(|(a, b)| a == b).count();
        if shared == 0 {
            return Version(0);
        }
        let end = |lineage: &Lineage, head: Version| match lineage.0.get(shared) {
            Some(next) => Version(next.first.0.saturating_sub(1)).min(head),
            None => head,
        };
        end(self, mine).min(end(other, theirs))
    }
}
