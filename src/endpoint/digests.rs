//! Digests of ranges for an endpoint that can read rows: one scan, kept as leaves.
//!
//! The first question about a table scans all of it and keeps its chunks, so fine that there are not too many of
//! them. Coarser questions are answered by folding these, finer ones by reading again, which is asked only for
//! ranges that differ. Leaves hold for one snapshot and one plan.
//!
//! Memory is bounded by [`MOST`]: a table that has more chunks gets larger ones, while it is scanned.

use super::chunk::{Chunk, Chunker, Range};
use super::{Key, Plan, Sink, canon};
use crate::change::Digest;
use crate::error::Result;

/// As many leaves are kept; a leaf of an integer key takes about 64 bytes.
const MOST: usize = 1 << 17;
/// Bits of the finest leaves: about 16 rows each.
const FINEST: u32 = 4;

/// Leaves of one table in one snapshot.
#[derive(Debug, Default)]
pub struct Leaves {
    of: Option<Plan>,
    bits: u32,
    /// The end of each leaf but the last one, which has none.
    ends: Vec<Key>,
    sums: Vec<(u64, Digest)>,
    /// Rows behind the last end.
    open: (u64, Digest),
}

impl Leaves {
    /// Forgets everything: the snapshot has ended.
    pub fn forget(&mut self) {
        *self = Leaves::default();
    }

    /// The chunks of each range; `read` gives the rows of ranges in order.
    pub fn digest(
        &mut self,
        plan: &Plan,
        ranges: &[Range],
        bits: u32,
        mut read: impl FnMut(&[Range], &mut Sink<'_>) -> Result<()>,
    ) -> Result<Vec<Vec<Chunk>>> {
        if self.of.as_ref() != Some(plan) && ranges == [Range::ALL] {
            self.scan(plan, &mut read)?;
        }
        if self.of.as_ref() == Some(plan) && bits >= self.bits && self.know(ranges) {
            return Ok(self.fold(ranges, bits));
        }
        let mut chunker = Chunker::new(ranges, bits);
        read(ranges, &mut |key, row| {
            chunker.push(key, 1, plan.hash(row));
            Ok(())
        })?;
        Ok(chunker.finish())
    }

    fn scan(
        &mut self,
        plan: &Plan,
        read: &mut impl FnMut(&[Range], &mut Sink<'_>) -> Result<()>,
    ) -> Result<()> {
        self.forget();
        self.bits = FINEST;
        read(&[Range::ALL], &mut |key, row| {
            self.open.0 += 1;
            self.open.1 += plan.hash(row);
            if canon::level(key) >= self.bits {
                self.end(key.to_vec());
                if self.ends.len() >= MOST {
                    self.coarsen();
                }
            }
            Ok(())
        })?;
        self.sums.push(self.open);
        self.of = Some(plan.clone());
        Ok(())
    }

    fn end(&mut self, key: Key) {
        self.ends.push(key);
        self.sums.push(std::mem::take(&mut self.open));
    }

    /// Leaves of twice the size. What lies behind the last end that is left is open again.
    fn coarsen(&mut self) {
        self.bits += 1;
        let (ends, sums) = (std::mem::take(&mut self.ends), std::mem::take(&mut self.sums));
        for (end, (rows, sum)) in ends.into_iter().zip(sums) {
            self.open = (self.open.0 + rows, self.open.1 + sum);
            if canon::level(&end) >= self.bits {
                self.end(end);
            }
        }
    }

    /// Whether all ranges begin and end where leaves do.
    fn know(&self, ranges: &[Range]) -> bool {
        let known =
            |end: &Option<Key>| end.as_ref().is_none_or(|end| self.ends.binary_search(end).is_ok());
        ranges.iter().all(|range| known(&range.after) && known(&range.upto))
    }

    fn fold(&self, ranges: &[Range], bits: u32) -> Vec<Vec<Chunk>> {
        let mut folded = Vec::with_capacity(ranges.len());
        for range in ranges {
            folded.push(self.fold_one(range, bits));
        }
        folded
    }

    fn fold_one(&self, range: &Range, bits: u32) -> Vec<Chunk> {
        let place = |end: &Key| self.ends.binary_search(end).expect("it is known");
        let first = range.after.as_ref().map_or(0, |after| place(after) + 1);
        let last = range.upto.as_ref().map_or(self.sums.len() - 1, place);
        let (mut chunks, mut rows, mut digest) = (Vec::new(), 0, Digest::default());
        for leaf in first..=last {
            let (more, sum) = self.sums[leaf];
            rows += more;
            digest += sum;
            let end = self.ends.get(leaf);
            if leaf == last || end.is_some_and(|end| canon::level(end) >= bits) {
                let digest = std::mem::take(&mut digest);
                chunks.push(Chunk { end: end.cloned(), rows: std::mem::take(&mut rows), digest });
            }
        }
        chunks
    }
}
