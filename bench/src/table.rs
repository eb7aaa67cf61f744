//! Rows of the table, medians and quantiles.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use crate::{Result, Settings};

/// One line of the table.
#[derive(Default)]
pub struct Row {
    /// What was measured, with its sync.
    pub what: String,
    /// Our figure.
    pub ours: String,
    /// The baseline's.
    pub baseline: String,
    /// Ours over the baseline's.
    pub ratio: Option<f64>,
    /// What was asked for.
    pub asked: String,
    /// Anything else worth knowing.
    pub notes: String,
}

impl Row {
    /// Prints the row, and appends it to the results.
    pub fn publish(&self, settings: &Settings) -> Result<()> {
        let ratio = self.ratio.map(|r| format!("{r:.2}")).unwrap_or_default();
        let Row { what, ours, baseline, asked, notes, .. } = self;
        let line = format!("| {what} | {ours} | {baseline} | {ratio} | {asked} | {notes} |");
        println!("{line}");
        if let Some(path) = &settings.out {
            writeln!(OpenOptions::new().create(true).append(true).open(path)?, "{line}")?;
        }
        Ok(())
    }
}

/// The median; the lower one of an even number.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

/// Durations of single operations, to be asked for quantiles.
#[derive(Default, Clone)]
pub struct Latencies {
    nanos: Vec<u64>,
    sorted: bool,
}

impl Latencies {
    /// Notes one operation.
    pub fn record(&mut self, took: Duration) {
        self.record_nanos(took.as_nanos() as u64);
    }

    /// Notes one operation.
    pub fn record_nanos(&mut self, nanos: u64) {
        self.nanos.push(nanos);
        self.sorted = false;
    }

    /// Adds what another client noted.
    pub fn merge(&mut self, other: &Latencies) {
        self.nanos.extend_from_slice(&other.nanos);
        self.sorted = false;
    }

    /// How many were noted.
    pub fn len(&self) -> usize {
        self.nanos.len()
    }

    /// The `q`-quantile, in milliseconds.
    pub fn quantile(&mut self, q: f64) -> f64 {
        if !self.sorted {
            self.nanos.sort_unstable();
            self.sorted = true;
        }
        let Some(last) = self.nanos.len().checked_sub(1) else { return 0.0 };
        let at = (q * last as f64).round() as usize;
        self.nanos[at] as f64 / 1e6
    }

    /// p50, p99, p99.9 and the maximum in words.
    pub fn summary(&mut self) -> String {
        let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|q| self.quantile(q));
        format!("p50 {p50:.2} p99 {p99:.2} p99.9 {p999:.2} max {max:.1} ms")
    }
}

/// A figure with thousands separated.
pub fn count(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Operations a second.
pub fn per_second(figure: f64) -> String {
    format!("{}/s", count(figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(count(1234567.4), "1,234,567");
        assert_eq!(count(999.0), "999");
    }

    #[test]
    fn the_median_is_a_sample() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.0);
    }

    #[test]
    fn quantiles_reach_both_ends() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        assert_eq!(latencies.quantile(1.0), 1000.0);
        assert_eq!(latencies.quantile(0.0), 1.0);
        assert_eq!(latencies.quantile(0.5), 501.0);
    }
}
