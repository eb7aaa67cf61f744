//! Ranges of keys, and the chunks that they fall into.
//!
//! ```text
//! keys        a   b   c   d   e   f   g   h          trailing zeros of each key's hash
//!             0   2   0   1   0   3   0   0
//! bits 0    |---|---|---|---|---|---|---|---|        every row is a chunk
//! bits 1    |-------|-------|-------|-------|        ends behind b, d, f, and at the range's end
//! bits 2    |-------|---------------|-------|        ends behind b, f
//! bits 64   |-------------------------------|        the range
//! ```
//!
//! A chunk ends behind a key whose hash says so, not after so many rows. Both sides find the same ends
//! without a word, a row that one side lacks moves no other end, and each end of a coarser level is one of
//! every finer level. So one scan for each side is enough; the coarser levels are folded from it.
//!
//! Ranges are half open: from behind a key up to and with another. The last one has no end, so that what lies
//! behind the other side's last row is compared, too.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::Key;
use super::canon;
use crate::change::Digest;

/// Keys above `after`, up to and with `upto`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Range {
    /// None: from the first one on.
    pub after: Option<Key>,
    /// None: to the last one.
    pub upto: Option<Key>,
}

impl Range {
    /// All keys.
    pub const ALL: Range = Range { after: None, upto: None };

    /// Whether a key lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.after.as_deref().is_none_or(|after| after < key) && !self.ends_before(key)
    }

    /// Whether a key lies behind it.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        self.upto.as_deref().is_some_and(|upto| upto < key)
    }
}

/// Rows that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The key of its last row, or the end of the range that it was asked for.
    pub end: Option<Key>,
    /// How many rows.
    pub rows: u64,
    /// The sum of their hashes.
    pub digest: Digest,
}

/// Cuts rows that arrive in order into chunks, range by range.
#[derive(Debug)]
pub struct Chunker<'a> {
    ranges: &'a [Range],
    bits: u32,
    done: Vec<Vec<Chunk>>,
    chunks: Vec<Chunk>,
    rows: u64,
    digest: Digest,
}

impl<'a> Chunker<'a> {
    /// For ranges that ascend and do not overlap.
    pub fn new(ranges: &'a [Range], bits: u32) -> Chunker<'a> {
        let (done, chunks) = (Vec::with_capacity(ranges.len()), Vec::new());
        Chunker { ranges, bits, done, chunks, rows: 0, digest: Digest::default() }
    }

    /// Adds rows of one key; it lies in one of the ranges, behind all before.
    pub fn push(&mut self, key: &[u8], rows: u64, digest: Digest) {
        while self.ranges[self.done.len()].ends_before(key) {
            self.end_range();
        }
        self.rows += rows;
        self.digest += digest;
        if canon::level(key) >= self.bits {
            self.end_chunk(Some(key.to_vec()));
        }
    }

    fn end_chunk(&mut self, end: Option<Key>) {
        let (rows, digest) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.digest));
        self.chunks.push(Chunk { end, rows, digest });
    }

    fn end_range(&mut self) {
        let end = self.ranges[self.done.len()].upto.clone();
        #[cfg(feature = "planted")]
        if end.is_none() && crate::planted("tail-range") {
            (self.rows, self.digest) = Default::default();
        }
        let is_closed = self.chunks.last().is_some_and(|last| end.is_some() && last.end == end);
        if !is_closed || self.rows > 0 {
            self.end_chunk(end);
        }
        self.done.push(std::mem::take(&mut self.chunks));
    }

    /// The chunks of each range; the last one of each ends where the range does.
    pub fn finish(mut self) -> Vec<Vec<Chunk>> {
        while self.done.len() < self.ranges.len() {
            self.end_range();
        }
        self.done
    }
}

/// The parts of a range in which two sides differ, each cut into chunks: the narrowest that both can name.
///
/// Where the range is one chunk on both sides the whole digests are compared, and otherwise their lower halves:
/// no more than these may have come over a line, and the lower half of a sum is the sum of the lower halves.
pub fn differing(range: &Range, a: &[Chunk], b: &[Chunk]) -> Vec<Part> {
    let is_whole = a.len() == 1 && b.len() == 1;
    let digest = |of: Digest| if is_whole { of.0 } else { u128::from(of.0 as u64) };
    let (mut a, mut b) = (Side::new(a), Side::new(b));
    let mut parts = Vec::new();
    let mut after = range.after.clone();
    loop {
        // Advance whichever ends first, until both end at the same key.
        while let Some(behind) = behind(&a, &b) {
            match behind {
                Which::A => a.advance(),
                Which::B => b.advance(),
            }
        }
        let upto = a.end().cloned();
        if (a.sum.0, digest(a.sum.1)) != (b.sum.0, digest(b.sum.1)) {
            let range = Range { after: after.clone(), upto: upto.clone() };
            parts.push(Part { range, rows: [a.sum.0, b.sum.0] });
        }
        if !a.next() | !b.next() {
            return parts;
        }
        after = upto;
    }
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// B lacks it.
    OnlyInA,
    /// A lacks it.
    OnlyInB,
    /// Both have the key, with different contents.
    Changed,
}

/// The rows that differ, of a range whose rows are chunks of their own (`bits` 0), by key; by the lower halves of
/// their digests.
pub fn differing_rows(a: &[Chunk], b: &[Chunk]) -> Vec<(Key, Difference)> {
    // The last chunk may be the empty one up to the end of the range.
    let rows = |chunks: &[Chunk]| {
        let rows = chunks.iter().filter(|chunk| chunk.rows > 0);
        rows.filter_map(|chunk| Some((chunk.end.clone()?, chunk.digest.0 as u64)))
            .collect::<Vec<_>>()
    };
    let (mut a, mut b) = (rows(a).into_iter().peekable(), rows(b).into_iter().peekable());
    let mut differing = Vec::new();
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some((x, _)), Some((y, _))) => x.cmp(y),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return differing,
        };
        let of_a = if order.is_le() { a.next() } else { None };
        let of_b = if order.is_ge() { b.next() } else { None };
        differing.extend(match (of_a, of_b) {
            (Some((key, x)), Some((_, y))) => (x != y).then_some((key, Difference::Changed)),
            (Some((key, _)), None) => Some((key, Difference::OnlyInA)),
            (None, Some((key, _))) => Some((key, Difference::OnlyInB)),
            (None, None) => None,
        });
    }
}

/// A part in which two sides differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where.
    pub range: Range,
    /// How many rows each side has there.
    pub rows: [u64; 2],
}

enum Which {
    A,
    B,
}

/// The side whose present chunk ends before the other's; none if they end together.
fn behind(a: &Side<'_>, b: &Side<'_>) -> Option<Which> {
    match (a.end(), b.end()) {
        (Some(x), Some(y)) if x == y => None,
        (None, None) => None,
        (Some(x), Some(y)) if x < y => Some(Which::A),
        (Some(_), None) => Some(Which::A),
        _ => Some(Which::B),
    }
}

/// A place in one side's chunks, and what has come since both sides ended together.
struct Side<'a> {
    chunks: &'a [Chunk],
    at: usize,
    sum: (u64, Digest),
}

impl<'a> Side<'a> {
    fn new(chunks: &'a [Chunk]) -> Side<'a> {
        let mut side = Side { chunks, at: 0, sum: Default::default() };
        side.take();
        side
    }

    fn end(&self) -> Option<&'a Key> {
        self.chunks.get(self.at).and_then(|chunk| chunk.end.as_ref())
    }

    fn take(&mut self) {
        if let Some(chunk) = self.chunks.get(self.at) {
            self.sum.0 += chunk.rows;
            self.sum.1 += chunk.digest;
        }
    }

    /// On to the next chunk of the same part.
    fn advance(&mut self) {
        self.at += 1;
        self.take();
    }

    /// On to a new part; whether there is one.
    fn next(&mut self) -> bool {
        self.sum = Default::default();
        self.advance();
        self.at < self.chunks.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Rows = BTreeMap<u16, u8>;

    fn key(n: u16) -> Key {
        n.to_be_bytes().to_vec()
    }

    fn chunks(rows: &Rows, range: &Range, bits: u32) -> Vec<Chunk> {
        let ranges = [range.clone()];
        let mut chunker = Chunker::new(&ranges, bits);
        for (n, content) in rows {
            if range.contains(&key(*n)) {
                chunker.push(&key(*n), 1, canon::hash(&[&key(*n)[..], &[*content]].concat()));
            }
        }
        chunker.finish().remove(0)
    }

    /// Narrows from the whole table down to rows, as `diff` does.
    fn found(a: &Rows, b: &Rows) -> Vec<u16> {
        let mut ranges = vec![Range::ALL];
        for bits in [64, 6, 4, 2, 1] {
            let parts = ranges.iter().flat_map(|range| {
                differing(range, &chunks(a, range, bits), &chunks(b, range, bits))
            });
            ranges = parts.map(|part| part.range).collect();
        }
        let rows = ranges
            .iter()
            .flat_map(|range| differing_rows(&chunks(a, range, 0), &chunks(b, range, 0)));
        rows.map(|(key, _)| u16::from_be_bytes(key.try_into().unwrap())).collect()
    }

    fn rows() -> impl Strategy<Value = Rows> {
        proptest::collection::btree_map(0u16..400, 0u8..3, 0..300)
    }

    proptest! {
        /// The dumb twin compares every row. What is found holds all of it, and nothing that is equal.
        #[test]
        fn narrowing_finds_exactly_what_differs(
            a in rows(), edits in proptest::collection::vec((0u16..420, proptest::option::of(0u8..3)), 0..20),
        ) {
            let mut b = a.clone();
            for (n, content) in edits {
                match content {
                    Some(content) => { b.insert(n, content); }
                    None => { b.remove(&n); }
                }
            }
            let wanted: Vec<u16> = (0..420).filter(|n| a.get(n) != b.get(n)).collect();
            prop_assert_eq!(found(&a, &b), wanted);
        }

        #[test]
        fn chunks_fold_into_coarser_ones(rows in rows(), after in 0u16..400) {
            let range = Range { after: Some(key(after)), upto: None };
            let fine = chunks(&rows, &range, 1);
            let ranges = [range.clone()];
            let mut chunker = Chunker::new(&ranges, 4);
            for chunk in &fine {
                let end = chunk.end.clone().unwrap_or(vec![0xff; 3]);
                chunker.push(&end, chunk.rows, chunk.digest);
            }
            let sums = |chunks: &[Chunk]| chunks.iter().fold((0, Digest::default()), |sum, c| (sum.0 + c.rows, sum.1 + c.digest));
            let folded = chunker.finish().remove(0);
            prop_assert_eq!(sums(&folded), sums(&chunks(&rows, &range, 4)));
        }
    }

    #[test]
    fn a_range_without_rows_is_one_empty_chunk() {
        let range = Range { after: None, upto: Some(key(9)) };
        let empty = chunks(&Rows::new(), &range, 0);
        assert_eq!(empty, [Chunk { end: Some(key(9)), rows: 0, digest: Digest::default() }]);
        assert_eq!(differing(&range, &empty, &empty), []);
    }
}
