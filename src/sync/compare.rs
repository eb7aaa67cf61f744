//! Finding the rows that differ: digests of ranges, narrowed only where they differ.
//!
//! ```text
//! bits 64   |=================================|      one digest for each side: equal, or go on
//! bits 14   |====|===x==|=====|=x=|======|====|
//! bits 11             |=|x|=|  |==|x|
//! …
//! rows                   3:changed  17:only in A
//! ```
//!
//! Both sides work at the same time. Parts are narrowed in groups, depth first, so that what is remembered stays
//! bounded if everything differs. A part that one side has no rows in needs no narrowing: it is read.

use std::thread;

use crate::change::Digest;
use crate::endpoint::chunk::{self, Chunk, Difference, Part};
use crate::endpoint::{Endpoint, Key, Plan, Range};
use crate::error::{Error, Result};

use super::pair::Pair;

/// Two endpoints, compared or synced.
pub type Ends<'a> = (&'a mut dyn Endpoint, &'a mut dyn Endpoint);

/// Levels of chunks are so many bits apart: eight parts of each.
const STEP: u32 = 3;
/// So many parts are narrowed at a time.
const GROUP: usize = 512;
/// So many rows are handed over at a time.
const ROWS: usize = 10_000;

/// What a table, or a range of it, holds on both sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many rows A and B have.
    pub rows: [u64; 2],
    /// The digests of their rows.
    pub digests: [Digest; 2],
}

impl Totals {
    /// Whether both hold the same rows.
    pub fn equal(&self) -> bool {
        self.rows[0] == self.rows[1] && self.digests[0] == self.digests[1]
    }
}

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// These rows, in no order.
    Rows(Vec<(Key, Difference)>),
    /// All so many rows that A has in this range; B has none there.
    OnlyInA(Range, u64),
}

/// Runs the same on both sides at once.
pub fn both<T: Send>(
    ends: &mut Ends<'_>,
    mut on: impl FnMut(&mut dyn Endpoint, usize) -> Result<T> + Clone + Send,
) -> Result<(T, T)> {
    let (a, b) = (&mut *ends.0, &mut *ends.1);
    let mut on_a = on.clone();
    thread::scope(|scope| {
        let of_a = scope.spawn(move || on_a(a, 0));
        let of_b = on(b, 1);
        let of_a = of_a.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((of_a?, of_b?))
    })
}

/// For each range its chunks.
type Chunked = Vec<Vec<Chunk>>;

fn digests(
    ends: &mut Ends<'_>,
    pair: &Pair,
    ranges: &[Range],
    bits: u32,
) -> Result<(Chunked, Chunked)> {
    both(ends, |end, side| {
        digest(end, pair.plan(side), ranges, bits).map_err(|error| on_side(error, side))
    })
}

fn digest(end: &mut dyn Endpoint, plan: &Plan, ranges: &[Range], bits: u32) -> Result<Chunked> {
    match end.digest(plan, ranges, bits) {
        // The endpoint has learned that it must sort.
        Err(error) if error.code() == "KEYS_OUT_OF_ORDER" => end.digest(plan, ranges, bits),
        chunks => chunks,
    }
}

/// How many rows one side has in a range, and their digest.
pub fn total(end: &mut dyn Endpoint, plan: &Plan, range: &Range) -> Result<(u64, Digest)> {
    let chunks = digest(end, plan, std::slice::from_ref(range), 64)?;
    let sum = |sum: (u64, Digest), chunk: &Chunk| (sum.0 + chunk.rows, sum.1 + chunk.digest);
    Ok(chunks.iter().flatten().fold((0, Digest::default()), sum))
}

/// Two keys of one side that are one under the agreed types: the endpoint does not know which side it is.
fn on_side(error: Error, side: usize) -> Error {
    match error.code() {
        "KEYS_COLLIDE" => {
            let what = format!("in {}, {}", ["A", "B"][side], error.message());
            Error::invalid("KEYS_COLLIDE", what).hint(error.hint_text().to_owned())
        }
        _ => error,
    }
}

/// What both sides hold in a range.
pub fn totals(ends: &mut Ends<'_>, pair: &Pair, range: &Range) -> Result<Totals> {
    let (a, b) = both(ends, |end, side| {
        total(end, pair.plan(side), range).map_err(|error| on_side(error, side))
    })?;
    Ok(Totals { rows: [a.0, b.0], digests: [a.1, b.1] })
}

/// Compares a range of a table; hands over what differs as it is found.
pub fn compare(
    ends: &mut Ends<'_>,
    pair: &Pair,
    range: &Range,
    found: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<Totals> {
    let totals = totals(ends, pair, range)?;
    if !totals.equal() {
        let whole = vec![Part { range: range.clone(), rows: totals.rows }];
        let most = totals.rows[0].max(totals.rows[1]);
        narrow(ends, pair, whole, most.checked_ilog2().unwrap_or(0).saturating_sub(STEP), found)?;
    }
    Ok(totals)
}

fn narrow(
    ends: &mut Ends<'_>,
    pair: &Pair,
    parts: Vec<Part>,
    bits: u32,
    found: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<()> {
    let (one_sided, mut parts): (Vec<Part>, Vec<Part>) =
        parts.into_iter().partition(|part| part.rows.contains(&0));
    for part in one_sided {
        hand_over(ends, pair, part, found)?;
    }
    while !parts.is_empty() {
        let group: Vec<Range> =
            parts.drain(..parts.len().min(GROUP)).map(|part| part.range).collect();
        let (a, b) = digests(ends, pair, &group, bits)?;
        let sides = a.iter().zip(&b);
        if bits == 0 {
            let rows: Vec<_> = sides.flat_map(|(a, b)| chunk::differing_rows(a, b)).collect();
            found(Found::Rows(rows))?;
            continue;
        }
        let narrower = group.iter().zip(sides);
        let narrower = narrower.flat_map(|(range, (a, b))| chunk::differing(range, a, b)).collect();
        narrow(ends, pair, narrower, bits.saturating_sub(STEP), found)?;
    }
    Ok(())
}

/// A part that only one side has rows in. What A has is read when it is written; of what B has, the keys are
/// needed now, because B will change.
fn hand_over(
    ends: &mut Ends<'_>,
    pair: &Pair,
    part: Part,
    found: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<()> {
    if part.rows[0] > 0 {
        return found(Found::OnlyInA(part.range, part.rows[0]));
    }
    let mut keys = Vec::new();
    ends.1.read(pair.plan(1), &[part.range], &mut |key, _| {
        keys.push((key.to_vec(), Difference::OnlyInB));
        match keys.len() >= ROWS {
            true => found(Found::Rows(std::mem::take(&mut keys))),
            false => Ok(()),
        }
    })?;
    found(Found::Rows(keys))
}
