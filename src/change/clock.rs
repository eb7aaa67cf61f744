//! Time is passed in: nothing below the program's edge asks the operating system for it.
//!
//! So that a whole node can run in a simulation, and a test can let a day pass in no time.
//!
//! # What is left out
//!
//! Monotonic time: a wall clock may step back, and differences are then zero, never negative. No
//! decision about safety may rest on one; epochs and chains carry that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Wall-clock time in microseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::fmt::Display for Timestamp {
    /// As RFC 3339 has it: `2026-11-22T08:15:30.000042Z`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (year, month, day) = civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// The date that lies `days` after 1970-01-01, in eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    (era * 400 + year + u64::from(month <= 2), month, day)
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, d: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(d.as_micros().try_into().unwrap_or(u64::MAX)))
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock now.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_micros() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_a_date() {
        let at = |seconds: u64| Timestamp(seconds * 1_000_000 + 42).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00.000042Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000042Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000042Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000042Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000042Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000042Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(0);
        for days in 1..200_000 {
            let next = civil(days);
            let (year, month, day) = last;
            let follows = next == (year, month, day + 1)
                || next == (year, month + 1, 1) && day >= 28
                || next == (year + 1, 1, 1) && (month, day) == (12, 31);
            assert!(follows, "{last:?} {next:?}");
            last = next;
        }
    }
}
