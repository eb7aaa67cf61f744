//! ACKNOWLEDGE: when may we say "done"?
//!
//! | answer | the client hears "done" when the commit is |
//! | --- | --- |
//! | `memory` | applied in the writer's memory; durable within `flush_every` |
//! | `disk` | synced in the backing database |
//!
//! A policy gives the level of a database; a write may raise or lower its own. What it survives
//! stands in its receipt. Nothing here waits: the engine asks which level a group needs, and the
//! answer decides whether its commit is synced before anyone hears of it.
//!
//! Left out: `followers`, `all` and `quorum` are parsed, so that the configuration can refuse them
//! with a sentence where no follower can be, but nothing here waits for one yet.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How safe a commit must be before its client hears "done"; later ones are safer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// In the writer's memory.
    Memory,
    /// Synced in the backing database.
    #[default]
    Disk,
    /// Also durable on this many followers.
    Followers(u32),
    /// Also durable on every registered follower.
    All,
    /// Durable on a majority.
    Quorum,
}

impl Level {
    /// What a commit acknowledged at this level survives, in words for the receipt.
    pub fn survives(self) -> &'static str {
        match self {
            Level::Memory => "nothing yet: a crash of the writer may undo it",
            Level::Disk => "loss of the writer's process and of its machine's power",
            Level::Followers(_) => "loss of the writer",
            Level::All => "loss of all nodes but one",
            Level::Quorum => "loss of a minority of the nodes",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Memory => f.write_str("memory"),
            Level::Disk => f.write_str("disk"),
            Level::Followers(n) => write!(f, "followers({n})"),
            Level::All => f.write_str("all"),
            Level::Quorum => f.write_str("quorum"),
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let followers = || text.strip_prefix("followers(")?.strip_suffix(')')?.parse().ok();
        Ok(match text {
            "memory" => Level::Memory,
            "disk" => Level::Disk,
            "all" => Level::All,
            "quorum" => Level::Quorum,
            _ => match followers() {
                Some(n) => Level::Followers(n),
                None => {
                    return Err(Error::invalid(
                        "ACKNOWLEDGE_INVALID",
                        format!("{text:?} is not a level of acknowledgement"),
                    )
                    .hint("write memory, disk, followers(N), all or quorum"));
                }
            },
        })
    }
}
