//! How many sockets this process may have.

/// Kept for databases, logs and connections to other nodes.
const RESERVE: usize = 256;

/// Raises the limit on open files as far as the system lets us, and says how many connections fit.
///
/// The usual soft limit of 1,024 is far below what a server may hold. Without this, a few hundred
/// idle connections would make every further one fail at `accept`, before it could be given a place.
pub(super) fn connections_that_fit() -> usize {
    let most = raised_limit().unwrap_or(1024);
    most.saturating_sub(RESERVE).max(most / 2)
}

fn raised_limit() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the call to fill in.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return None;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `raised` is a valid rlimit for the call to read.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 {
        limit = raised;
    }
    Some(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_connections_always_fit() {
        let fit = connections_that_fit();
        assert!(fit >= 512, "{fit}");
        assert_eq!(fit, connections_that_fit(), "the limit is raised once and stays");
    }
}
