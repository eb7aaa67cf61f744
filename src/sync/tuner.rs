//! How many rows a batch has: more while batches succeed in time, fewer when they do not.
//!
//! A batch costs a round trip and a sync however small it is, and holds locks and is lost as a whole however
//! large. Where the two meet depends on line and rows, and changes by the hour; so each table remembers.

use std::time::Duration;

/// The size of the first batch.
const FIRST: usize = 1_000;
/// No batch is larger: more would only take memory.
const MOST: usize = 20_000;
/// Nor does one hold more bytes.
pub const MOST_BYTES: usize = 8 << 20;

/// The size of the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuner {
    size: usize,
    target: Duration,
}

impl Tuner {
    /// Begins where the last run ended, if it is known.
    pub fn new(size: Option<usize>, target: Duration) -> Tuner {
        Tuner { size: size.unwrap_or(FIRST).clamp(1, MOST), target }
    }

    /// Rows of the next batch.
    pub fn size(&self) -> usize {
        self.size
    }

    /// A batch of so many rows was applied in this time.
    pub fn succeeded(&mut self, rows: usize, took: Duration) {
        if took > self.target {
            self.size = (self.size - self.size.div_ceil(4)).max(1);
        } else if rows >= self.size && took < self.target / 2 {
            self.size = (self.size * 2).min(MOST);
        }
    }

    /// A batch failed, or took too long.
    pub fn failed(&mut self) {
        self.size = (self.size / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line on which a batch takes a fixed time and some for each row, and fails beyond a size.
    fn settle(fixed: f64, row: f64, breaks_at: usize) -> usize {
        let mut tuner = Tuner::new(None, Duration::from_secs(2));
        for _ in 0..200 {
            let rows = tuner.size();
            match rows > breaks_at {
                true => tuner.failed(),
                false => tuner.succeeded(rows, Duration::from_secs_f64(fixed + row * rows as f64)),
            }
        }
        tuner.size()
    }

    #[test]
    fn sizes_settle_where_the_line_is() {
        assert_eq!(settle(0.05, 0.000_001, usize::MAX), MOST, "a fast line is filled");
        let slow = settle(0.1, 0.01, usize::MAX);
        assert!((90..=200).contains(&slow), "{slow}");
        let fragile = settle(0.01, 0.000_01, 300);
        assert!((125..=500).contains(&fragile), "{fragile}");
        assert_eq!(settle(10.0, 1.0, usize::MAX), 1, "one row is the least");
    }

    #[test]
    fn a_small_last_batch_says_nothing() {
        let mut tuner = Tuner::new(Some(500), Duration::from_secs(2));
        tuner.succeeded(3, Duration::from_millis(1));
        assert_eq!(tuner.size(), 500);
    }
}
