//! Numbers from a seed (SplitMix64): the same seed, the same crash.

/// A source of numbers that look random and are not.
pub(in crate::store) struct Chance(u64);

impl Chance {
    pub(in crate::store) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// A number from 0 to `limit` - 1. Slightly uneven for huge limits, which nobody here needs.
    pub(in crate::store) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
