//! What a read asks for beyond "whatever is here".

use std::str::FromStr;
use std::time::Duration;

use crate::change::Position;
use crate::error::{Error, Result};

/// What a read asks for beyond "whatever is here".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadOptions {
    /// Run on the writer.
    pub writer: bool,
    /// See everything acknowledged before the read began.
    pub linearizable: bool,
    /// See at least this receipt; an undone one answers `UNDONE`.
    pub after: Option<Position>,
    /// See nothing older than this.
    pub max_stale: Option<Duration>,
}

impl FromStr for ReadOptions {
    type Err = Error;

    /// Reads `any`, `writer`, `linearizable`, `after=RECEIPT`, `max-stale=2s`, several with `,`.
    fn from_str(text: &str) -> Result<ReadOptions> {
        let mut options = ReadOptions::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value))) {
                ("any", None) => {}
                ("writer", None) => options.writer = true,
                ("linearizable", None) => options.linearizable = true,
                ("after", Some(receipt)) => options.after = Some(receipt.parse()?),
                ("max-stale", Some(most)) => options.max_stale = Some(duration(most)?),
                _ => {
                    return Err(Error::invalid(
                        "READ_OPTION_INVALID",
                        format!("Syncline-Read does not know {part:?}"),
                    )
                    .hint("write any, writer, linearizable, after=RECEIPT or max-stale=2s"));
                }
            }
        }
        Ok(options)
    }
}

/// Reads `500ms`, `2s`, `5m` or `1h`.
pub fn duration(text: &str) -> Result<Duration> {
    let bad = || {
        Error::invalid("DURATION_INVALID", format!("{text:?} is not a duration"))
            .hint("write a number and a unit: 500ms, 2s, 5m or 1h")
    };
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (count, unit) = text.split_at(unit);
    let count: u64 = count.parse().map_err(|_| bad())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    count.checked_mul(millis).map(Duration::from_millis).ok_or_else(bad)
}
