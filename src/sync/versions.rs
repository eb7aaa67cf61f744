//! What versions tell: what is new, and whether A went back.

use crate::endpoint::chunk::Difference;
use crate::endpoint::{Endpoint, Horizon, Key, Range, Type};
use crate::error::{Error, Result};

use super::apply::now;
use super::compare::Ends;
use super::options::SyncOptions;
use super::pair::Pair;
use super::position::Position;
use super::work::Work;

/// Rows are looked up so many at a time.
const GROUP: usize = 1_000;
/// So many keys above A's newest version are remembered.
const MOST_ABOVE: usize = 100_000;
/// Said by whoever has seen enough of a read.
pub const ENOUGH: &str = "ENOUGH";

/// Ends a read.
pub fn enough() -> Error {
    Error::retry(ENOUGH, "these are enough")
}

/// What is to be done about one table with versions.
pub struct Plan {
    /// Read again from here on.
    pub since: Option<Key>,
    /// Compare this range, too.
    pub walk: Range,
}

/// Looks at the versions of both sides, with snapshots begun. What B has above A's newest is looked up in A: those
/// that A has are to be written over, only the rest is to go.
pub fn look(
    ends: &mut Ends<'_>,
    pair: &Pair,
    position: &mut Position,
    horizon: Horizon,
    options: &SyncOptions,
    work: &mut Work,
) -> Result<Plan> {
    let (now, horizon) = (now(), horizon_of(pair, horizon));
    let newest = ends.0.newest(pair.plan(0))?;
    let went_back = position.go_back_to(newest.as_ref());
    // What was late has come below the version that ripens now: from the old mark on it is read once more.
    let since = position.mark.clone();
    position.ripen(now, horizon, options.overlap.as_secs());
    let above = above(ends, pair, newest.as_ref())?;
    let restored = |above: &Vec<(Key, bool)>| went_back && above.iter().any(|(_, in_a)| *in_a);
    let (above, walk) = match above {
        Some(above) if !restored(&above) => {
            (above, next_range(ends.0, pair, position, now, options)?)
        }
        // What was written since may differ anywhere.
        above => (above.unwrap_or_default(), whole(position, now)),
    };
    for (key, in_a) in above.iter().filter(|(key, _)| !walk.contains(key)) {
        let difference = if *in_a { Difference::Changed } else { Difference::OnlyInB };
        work.add_row(key, difference)?;
    }
    if let Some(newest) = &newest {
        position.saw(newest, now, horizon);
    }
    Ok(Plan { since, walk })
}

/// When nothing below a version can come any more. A moment is often taken when a transaction begins, or before it
/// waits for a lock: whatever the engine knows of open transactions, only time tells.
pub fn horizon_of(pair: &Pair, of_snapshot: Horizon) -> Horizon {
    let plan = pair.plan(0);
    let version = plan.version.and_then(|at| pair.a.column(&plan.columns[at].name));
    match version.map(|column| column.kind) {
        Some(Type::Timestamp { .. } | Type::Timestamptz { .. } | Type::Date) => Horizon::Untold,
        _ => of_snapshot,
    }
}

/// Whether B lacks what it had: it was restored, emptied, or made anew.
pub fn b_went_back(b: &mut dyn Endpoint, pair: &Pair, position: &Position) -> Result<bool> {
    let Some(mark) = &position.mark else { return Ok(false) };
    Ok(b.newest(pair.plan(1))?.is_none_or(|newest| newest < *mark))
}

/// The keys of B's rows above A's newest version, and whether A has them; none if they are so many that the whole table
/// is better compared.
fn above(
    ends: &mut Ends<'_>,
    pair: &Pair,
    newest: Option<&Key>,
) -> Result<Option<Vec<(Key, bool)>>> {
    let mut keys = Vec::new();
    let newest = (newest.map(Vec::as_slice), newest.is_some());
    let read = ends.1.since(pair.plan(1), newest.0, newest.1, &mut |key, _| {
        keys.push((key.to_vec(), false));
        if keys.len() <= MOST_ABOVE { Ok(()) } else { Err(enough()) }
    });
    match read {
        Err(error) if error.code() == ENOUGH => return Ok(None),
        read => read?,
    }
    keys.sort();
    for group in keys.chunks_mut(GROUP) {
        let wanted: Vec<Key> = group.iter().map(|(key, _)| key.clone()).collect();
        ends.0.rows(pair.plan(0), &wanted, &mut |key, _| {
            if let Ok(at) = group.binary_search_by(|(k, _)| k.as_slice().cmp(key)) {
                group[at].1 = true;
            }
            Ok(())
        })?;
    }
    Ok(Some(keys))
}

fn whole(position: &mut Position, now: u64) -> Range {
    (position.walked, position.walked_at) = (None, now);
    Range::ALL
}

/// The next range of the walk, so large that the whole table is compared within the stated time.
fn next_range(
    a: &mut dyn Endpoint,
    pair: &Pair,
    position: &mut Position,
    now: u64,
    options: &SyncOptions,
) -> Result<Range> {
    let rows = pair.a.rows.unwrap_or(0) as f64;
    let passed = now.saturating_sub(position.walked_at) as f64;
    let share = rows * passed / options.walk_within.as_secs_f64().max(1.0);
    let many = (share.ceil() as u64).max(options.walk_least);
    let after = position.walked.take();
    let upto =
        a.nth_key(pair.plan(0), after.as_ref(), usize::try_from(many).unwrap_or(usize::MAX))?;
    (position.walked, position.walked_at) = (upto.clone(), now);
    // The last range has no end: what B has behind A's last row is compared, too.
    Ok(Range { after, upto })
}
