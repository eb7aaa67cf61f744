//! What happens, told while it happens: for progress, for people, for scripts.

use crate::endpoint::chunk::Difference;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// Before anything is read: how much there is.
    Estimate {
        /// How many tables.
        tables: usize,
        /// About how many rows on the side that has more, as far as the engines know.
        rows: u64,
        /// About how many bytes, if an engine knows.
        bytes: Option<u64>,
    },
    /// A table's digests are computed.
    Comparing {
        /// The table.
        table: &'a str,
    },
    /// A table was compared.
    Compared {
        /// The table.
        table: &'a str,
        /// How many rows differ.
        differing: u64,
    },
    /// Rows were written, or removed.
    Progress {
        /// The table.
        table: &'a str,
        /// So many by now.
        done: u64,
        /// Of so many; none: not known beforehand.
        of: Option<u64>,
        /// Rows of the next batch.
        batch: usize,
    },
    /// A row that differs.
    Row {
        /// The table.
        table: &'a str,
        /// Its key, as text by column.
        key: &'a [(String, String)],
        /// How.
        difference: Difference,
        /// Which columns, if both sides have it.
        columns: &'a [String],
    },
    /// A row could not be written and was put aside.
    Held {
        /// The table.
        table: &'a str,
        /// Its key, as text.
        key: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// Something to know.
    Note(&'a str),
}

/// Takes events.
pub type Events<'a> = dyn FnMut(Event<'_>) + 'a;
