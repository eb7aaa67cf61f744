//! One writer counts, in an epoch that it took in the backing database.
//!
//! ```text
//! holder row:  node, directory, pid, lease ─┐
//!                                           ▼
//! starting writer:  nobody │ ours │ dead │ lease over  → take the next epoch
//!                   alive                              → stop, and name the holder
//! ```
//!
//! The lease only says who is *expected* to be alive: no clock carries safety. What keeps a stopped
//! writer that wakes up again from writing is the fence: every group first checks that the position
//! row is as it left it, and the new epoch has changed it.

use crate::change::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::store::Holder;

/// What a starting writer knows.
pub struct Candidate<'a> {
    /// The id of its data directory, which it has locked.
    pub directory: &'a str,
    /// The time.
    pub now: Timestamp,
    /// Take the epoch from a holder that seems alive.
    pub take_over: bool,
}

/// Whether a candidate may take the next epoch.
///
/// `is_running` tells whether a process of this machine is; a SQLite backing file has no others.
/// Fails with `HOLDER_ALIVE`, naming the holder.
pub fn may_take_epoch(
    holder: Option<&Holder>,
    candidate: &Candidate<'_>,
    is_running: impl Fn(u32) -> bool,
) -> Result<()> {
    let Some(holder) = holder else { return Ok(()) };
    let ours = holder.directory == candidate.directory;
    let over = holder.lease <= candidate.now;
    if ours || over || candidate.take_over || !is_running(holder.pid) {
        return Ok(());
    }
    Err(alive(holder, candidate.now))
}

/// The error that names a living holder.
pub fn alive(holder: &Holder, now: Timestamp) -> Error {
    let left = holder.lease.since(now).as_secs();
    Error::new(
        Kind::Diverged,
        "HOLDER_ALIVE",
        format!(
            "node {:?} (process {}) holds this database; its lease runs {left} s more",
            holder.node, holder.pid
        ),
    )
    .hint("stop that writer first, run this node as a reader, or take the epoch with --take-over")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> Holder {
        Holder {
            node: "b".into(),
            directory: "theirs".into(),
            pid: 42,
            advertise: String::new(),
            lease: Timestamp(1_000_000),
        }
    }

    fn take(now: u64, directory: &str, running: bool, take_over: bool) -> bool {
        let candidate = Candidate { directory, now: Timestamp(now), take_over };
        may_take_epoch(Some(&holder()), &candidate, |_| running).is_ok()
    }

    #[test]
    fn only_a_living_stranger_with_a_lease_is_in_the_way() {
        assert!(!take(999_999, "mine", true, false), "alive");
        assert!(take(1_000_000, "mine", true, false), "its lease is over");
        assert!(take(0, "mine", false, false), "its process is gone");
        assert!(take(0, "theirs", true, false), "our own data directory: that process is gone");
        assert!(take(0, "mine", true, true), "taken over");
    }

    #[test]
    fn the_refusal_names_the_holder() {
        let candidate = Candidate { directory: "mine", now: Timestamp(0), take_over: false };
        let error = may_take_epoch(Some(&holder()), &candidate, |_| true).unwrap_err();
        assert_eq!(error.code(), "HOLDER_ALIVE");
        assert!(error.message().contains("\"b\"") && error.message().contains("42"));
    }
}
