//! HEAL: how do we know that a copy parted from its source, and how do we mend it?
//!
//! A ladder; each rung only if the one above cannot do it:
//!
//! | rung | when | what |
//! | --- | --- | --- |
//! | `incremental` | my chain lies on the source's history | the commits since my position |
//! | `rewind` | we share a past that my log still reaches | undo to the fork, hold what was undone, go on |
//! | `full` | nothing else can | copy everything beside the live copy, and switch |
//!
//! ```text
//! source   1 ── 2 ── 3 ── 4'── 5'     (put back from a backup at 3, then written to)
//! copy     1 ── 2 ── 3 ── 4 ── 5 ── 6
//!                    └ fork: undo 6, 5, 4 (held), then apply 4', 5'
//! ```
//!
//! The fork is found from the lineages in one step; only where a database repeated its own epoch's
//! numbers with other content does a search by chain follow, in the steps of a bisection.
//!
//! Left out for now: `diff` by ranges (the third rung); a copy that cannot rewind is copied in full.

use crate::change::{Chain, Position, Version};
use crate::error::Result;
use crate::store::Standing;

/// What brings a copy into step with its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rung {
    /// Nothing: both stand at the same place.
    InStep,
    /// Apply what came after my position.
    Incremental,
    /// Undo what came after this version, then go on.
    Rewind(Version),
    /// Copy everything; why.
    Full(&'static str),
}

/// The names of the rungs, for status and metrics.
pub const RUNGS: [&str; 4] = ["incremental", "rewind", "diff", "full"];

/// What the decision needs to know of one side.
pub struct Side<'a> {
    /// Where it stands.
    pub standing: &'a Standing,
    /// The first version its log still has; none if it is empty.
    pub oldest: Option<Version>,
    /// The chain at a version, as far as its log reaches.
    pub chain_at: &'a mut dyn FnMut(Version) -> Result<Option<Chain>>,
}

impl Side<'_> {
    fn position(&self) -> Position {
        self.standing.position
    }

    /// The earliest version whose chain is known: what the log begins behind.
    fn floor(&self) -> Version {
        match self.oldest {
            Some(oldest) => Version(oldest.0.saturating_sub(1)),
            None => self.position().version,
        }
    }
}

/// Decides the next step of a copy. Steps are taken one at a time: after a rewind, decide again.
pub fn next_step(mine: &mut Side<'_>, theirs: &mut Side<'_>) -> Result<Rung> {
    let (me, them) = (mine.position(), theirs.position());
    if me.version <= them.version && (theirs.chain_at)(me.version)? == Some(me.chain) {
        let in_step = me == them && mine.standing.lineage == theirs.standing.lineage;
        return Ok(if in_step { Rung::InStep } else { Rung::Incremental });
    }
    let (lineage, other) = (&mine.standing.lineage, &theirs.standing.lineage);
    let highest = lineage.fork(me.version, other, them.version);
    let lowest = mine.floor().max(theirs.floor());
    if highest < lowest {
        return Ok(Rung::Full("the log no longer reaches the place where the copies parted"));
    }
    match last_common(mine, theirs, lowest, highest)? {
        Some(fork) if fork < me.version => Ok(Rung::Rewind(fork)),
        Some(_) => Ok(Rung::Full("the source's log has a gap")),
        None => Ok(Rung::Full("the copies share no history that a log still has")),
    }
}

/// The last version in `lowest..=highest` at which both chains are equal. Chains that part stay apart,
/// so bisection finds it.
fn last_common(
    mine: &mut Side<'_>,
    theirs: &mut Side<'_>,
    lowest: Version,
    highest: Version,
) -> Result<Option<Version>> {
    let mut equal = |version: Version| -> Result<bool> {
        let (a, b) = ((mine.chain_at)(version)?, (theirs.chain_at)(version)?);
        Ok(a.is_some() && a == b)
    };
    if equal(highest)? {
        return Ok(Some(highest));
    }
    if !equal(lowest)? {
        return Ok(None);
    }
    let (mut low, mut high) = (lowest.0, highest.0);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if equal(Version(middle))? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(Some(Version(low)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Digest, Epoch, Lineage, LineageEntry, Tag, Timestamp};

    /// A history: the chain of each version, from 0.
    struct History {
        chains: Vec<u128>,
        lineage: Lineage,
        oldest: u64,
    }

    impl History {
        fn standing(&self) -> Standing {
            let version = self.chains.len() as u64 - 1;
            let reign = self.lineage.last().unwrap();
            Standing {
                position: Position {
                    epoch: reign.epoch,
                    version: Version(version),
                    chain: Chain(*self.chains.last().unwrap()),
                    digest: Digest(0),
                },
                tag: reign.tag,
                at: Timestamp(0),
                verified: Version(0),
                holder: None,
                lineage: self.lineage.clone(),
            }
        }
    }

    fn history(chains: &[u128], lineage: &[(u64, u64, u64)], oldest: u64) -> History {
        let entry = |(epoch, tag, first): &(u64, u64, u64)| LineageEntry {
            epoch: Epoch(*epoch),
            tag: Tag(*tag),
            first: Version(*first),
        };
        let lineage = Lineage(lineage.iter().map(entry).collect());
        History { chains: chains.to_vec(), lineage, oldest }
    }

    fn step(mine: &History, theirs: &History) -> Rung {
        let (m, t) = (mine.standing(), theirs.standing());
        let chain = |h: &History, v: Version| {
            let reached = v.0 + 1 >= h.oldest && (v.0 as usize) < h.chains.len();
            Ok(reached.then(|| Chain(h.chains[v.0 as usize])))
        };
        let mut mine_at = |v| chain(mine, v);
        let mut theirs_at = |v| chain(theirs, v);
        let oldest =
            |h: &History| ((h.oldest as usize) < h.chains.len()).then_some(Version(h.oldest));
        let mut mine = Side { standing: &m, oldest: oldest(mine), chain_at: &mut mine_at };
        let mut theirs = Side { standing: &t, oldest: oldest(theirs), chain_at: &mut theirs_at };
        next_step(&mut mine, &mut theirs).unwrap()
    }

    const ONE: &[(u64, u64, u64)] = &[(1, 10, 1)];

    #[test]
    fn a_copy_that_is_behind_goes_on() {
        let copy = history(&[0, 1, 2], ONE, 1);
        assert_eq!(step(&copy, &history(&[0, 1, 2], ONE, 1)), Rung::InStep);
        assert_eq!(step(&copy, &history(&[0, 1, 2, 3], ONE, 1)), Rung::Incremental);
        let new_epoch = history(&[0, 1, 2], &[(1, 10, 1), (2, 20, 3)], 1);
        assert_eq!(step(&copy, &new_epoch), Rung::Incremental, "an epoch without commits");
    }

    #[test]
    fn a_source_that_went_backwards_is_rewound_to() {
        let copy = history(&[0, 1, 2, 3, 4], ONE, 1);
        let restored = history(&[0, 1, 2, 33, 44, 55], &[(1, 10, 1), (2, 20, 3)], 1);
        assert_eq!(step(&copy, &restored), Rung::Rewind(Version(2)));
        assert_eq!(step(&copy, &history(&[0, 1, 2], ONE, 1)), Rung::Rewind(Version(2)));
    }

    #[test]
    fn a_source_that_repeated_its_numbers_is_found_by_chain() {
        let copy = history(&[0, 1, 2, 3, 4, 5, 6], ONE, 1);
        let repeated = history(&[0, 1, 2, 3, 44, 55, 66, 77], ONE, 1);
        assert_eq!(step(&copy, &repeated), Rung::Rewind(Version(3)));
        let same_version = history(&[0, 1, 2, 3, 4, 5, 66], ONE, 1);
        assert_eq!(step(&copy, &same_version), Rung::Rewind(Version(5)));
    }

    #[test]
    fn what_no_log_reaches_is_copied_in_full() {
        let copy = history(&[0, 1, 2, 3], ONE, 1);
        let trimmed = history(&[0, 1, 2, 3, 4, 5, 6], ONE, 6);
        assert!(matches!(step(&copy, &trimmed), Rung::Full(_)));
        let stranger = history(&[0, 7, 8], &[(1, 99, 1)], 1);
        assert_eq!(step(&copy, &stranger), Rung::Rewind(Version(0)), "an empty past is common");
        let forgetful = history(&[0, 1, 2, 3], ONE, 3);
        assert!(matches!(step(&forgetful, &stranger), Rung::Full(_)));
    }
}
