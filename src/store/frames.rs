//! The log's rows: the frames of several commits one behind the other, as they were grouped.
//!
//! One row holds the commits of one group, so that a group costs one insert. A commit whose body lies in
//! parts has a row of its own. Every store writes the same bytes.

use crate::change::{Commit, Decoder, Version};
use crate::error::{Error, Result};

/// About how large a row of the log may get.
const ROW: usize = 1 << 20;

/// The error for a version that the log should have and has not.
pub(crate) fn damaged(version: Version) -> Error {
    Error::corrupt("LOG_CORRUPT", format!("the log has no whole commit at version {version}"))
        .hint("readers heal by a full copy; `syncline verify` checks the rows themselves")
}

/// The commits of one row.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Commit>> {
    let mut decoder = Decoder(bytes);
    let mut commits = Vec::new();
    while !decoder.is_empty() {
        commits.push(Commit::read(&mut decoder)?);
    }
    Ok(commits)
}

/// The bytes of one row.
pub(crate) fn write(commits: &[Commit]) -> Vec<u8> {
    commits.iter().map(Commit::frame).collect::<Vec<_>>().concat()
}

/// How commits are spread over rows.
pub(crate) fn rows(commits: &[Commit]) -> Vec<&[Commit]> {
    let mut rows = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (i, commit) in commits.iter().enumerate() {
        let alone = commit.parts() > 0;
        if i > start && (alone || size + commit.frame().len() > ROW) {
            rows.push(&commits[start..i]);
            (start, size) = (i, 0);
        }
        size += commit.frame().len();
        if alone {
            rows.push(&commits[i..=i]);
            (start, size) = (i + 1, 0);
        }
    }
    if start < commits.len() {
        rows.push(&commits[start..]);
    }
    rows
}
