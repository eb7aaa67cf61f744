//! What a user says about a comparison or a sync.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::pair::Selection;

/// Options of [`super::diff()`].
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// Which tables, and what of them.
    pub selection: Selection,
    /// How many differing rows are described; 0: all.
    pub rows: usize,
    /// Pauses before what differed is looked at again.
    pub looks: Vec<Duration>,
}

impl Default for DiffOptions {
    fn default() -> DiffOptions {
        let looks = vec![Duration::from_millis(50)];
        DiffOptions { selection: Selection::default(), rows: 20, looks }
    }
}

/// How much a run may delete of a table before it asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxDelete {
    /// So many rows.
    Rows(u64),
    /// So much of B's rows, in hundredths; one row is always allowed.
    Percent(f64),
}

impl MaxDelete {
    /// Whether `deletes` of `rows` rows are too many.
    pub fn exceeded_by(self, deletes: u64, rows: u64) -> bool {
        match self {
            MaxDelete::Rows(most) => deletes > most,
            MaxDelete::Percent(percent) => {
                deletes > 1 && deletes as f64 > rows as f64 * percent / 100.0
            }
        }
    }
}

impl fmt::Display for MaxDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxDelete::Rows(rows) => write!(f, "{rows} rows"),
            MaxDelete::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for MaxDelete {
    type Err = String;
    fn from_str(text: &str) -> Result<MaxDelete, String> {
        let wrong = || format!("{text}: write a number of rows, or a share such as 20%");
        match text.trim().strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
                let sensible = (0.0..=100.0).contains(&percent);
                sensible.then_some(MaxDelete::Percent(percent)).ok_or_else(wrong)
            }
            None => text.trim().parse().map(MaxDelete::Rows).map_err(|_| wrong()),
        }
    }
}

/// Options of [`super::sync_once`].
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// Which tables, and what of them.
    pub selection: Selection,
    /// Nothing is written; what would be is told.
    pub dry_run: bool,
    /// Tables that B lacks are made.
    pub create: bool,
    /// For how long a version may be late, where the engine cannot tell.
    pub overlap: Duration,
    /// The guard.
    pub max_delete: MaxDelete,
    /// The guard is off.
    pub yes: bool,
    /// Bytes of rows a second.
    pub limit_rate: Option<u64>,
    /// Held rows are tried again though they have not changed.
    pub force_retry: bool,
    /// How long a batch should take.
    pub batch_target: Duration,
    /// Within this time a table with a version column is compared whole.
    pub walk_within: Duration,
    /// … and so many rows of it a round at least.
    pub walk_least: u64,
    /// The position is kept here, and not in B.
    pub state_file: Option<std::path::PathBuf>,
    /// After a run that wrote something both sides are compared once more.
    pub prove: bool,
}

impl Default for SyncOptions {
    fn default() -> SyncOptions {
        SyncOptions {
            selection: Selection::default(),
            dry_run: false,
            create: false,
            overlap: Duration::from_secs(600),
            max_delete: MaxDelete::Percent(20.0),
            yes: false,
            limit_rate: None,
            force_retry: false,
            batch_target: Duration::from_secs(1),
            walk_within: Duration::from_secs(24 * 3600),
            walk_least: 10_000,
            state_file: None,
            prove: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_counts_rows_or_shares() {
        let guard = |text: &str| text.parse::<MaxDelete>().unwrap();
        assert!(guard("20%").exceeded_by(21, 100));
        assert!(!guard("20%").exceeded_by(20, 100));
        assert!(!guard("20%").exceeded_by(1, 4), "the newest row was deleted");
        assert!(guard("0").exceeded_by(1, 4));
        assert!(!guard("100%").exceeded_by(4, 4));
        for wrong in ["", "x", "-1", "120%", "%"] {
            assert!(wrong.parse::<MaxDelete>().is_err(), "{wrong}");
        }
    }
}
