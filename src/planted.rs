//! Bugs planted on purpose, so that the checkers can show that they catch them.
//!
//! Built only with `--features planted`, and chosen by the environment variable `SYNCLINE_PLANT`.

use std::sync::OnceLock;

/// Whether the bug called `name` is planted in this process.
pub(crate) fn planted(name: &str) -> bool {
    static PLANTED: OnceLock<Option<String>> = OnceLock::new();
    PLANTED.get_or_init(|| std::env::var("SYNCLINE_PLANT").ok()).as_deref() == Some(name)
}
