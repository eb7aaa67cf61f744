//! What continues a copy's history, and what does not: asked before a row is touched.
//!
//! A commit fits if it names the chain where the copy stands, is the next version, and is of the epoch
//! that its source's lineage has there. A lineage fits if all that the copy has lies on it. Stores ask the
//! same questions, whatever they keep their rows in.
//!
//! Left out: what to do about a commit that does not fit. That is HEAL's business.

use super::{Parts, Standing};
use crate::change::{
    ChainHasher, Commit, DatabaseDigest, Digest, Epoch, Header, Lineage, LineageEntry, Position,
    Tag, Version,
};
use crate::error::{Error, Result};

/// An error that names the commit at which the copy and its source parted.
pub(crate) fn diverged(version: Version, what: impl std::fmt::Display) -> Error {
    Error::diverged(
        "DIVERGED",
        format!("this copy parts from its source at version {version}: {what}"),
    )
    .hint("it heals by itself; `syncline status` says how, `syncline held list` what was kept")
}

/// The error of a writer whose position row is not as it left it.
pub(crate) fn fenced() -> Error {
    Error::diverged("FENCED", "the position in the backing database is not as this writer left it")
        .hint("another writer took over, or the database was put back from a backup: see `syncline status`")
}

/// The error of a rewind that the log does not reach far enough for.
pub(crate) fn unreachable_version(to: Version) -> Error {
    Error::diverged(
        "UNDO_IMPOSSIBLE",
        format!("the log of this copy does not reach back to version {to}"),
    )
    .hint("this copy is rebuilt from its source")
}

/// Reads a commit's parts, and fails if they are not those that its chain names.
pub(crate) fn each_part(
    commit: &Commit,
    parts: Parts<'_>,
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let h = commit.header();
    let mut hasher = ChainHasher::new(h.previous, h.epoch, h.tag, h.version, h.at);
    for index in 0..commit.parts() {
        let body = parts(commit, index)?;
        hasher.update(&body);
        each(&body)?;
    }
    if hasher.finish(h.digest) != commit.chain() {
        return Err(diverged(h.version, "its parts do not give its chain"));
    }
    Ok(())
}

/// A lineage may replace a copy's if all that the copy has lies on it.
pub(crate) fn check_lineage(mine: &Lineage, at: Version, theirs: &Lineage) -> Result<()> {
    let fork = mine.fork(at, theirs, Version(u64::MAX));
    if fork >= at {
        return Ok(());
    }
    Err(diverged(fork.next(), "from there on its source has lived through other epochs"))
}

/// Whether a commit is the next one behind `head`, and of its source's lineage.
pub(crate) fn check_place(head: &Position, lineage: &Lineage, header: &Header) -> Result<()> {
    if header.version != head.version.next() || header.previous != head.chain {
        return Err(diverged(header.version, format_args!("the commit does not continue {head}")));
    }
    let reign = lineage.at(header.version);
    if reign.is_none_or(|r| (r.epoch, r.tag) != (header.epoch, header.tag)) {
        return Err(diverged(
            header.version,
            "the commit is of another epoch than its source's lineage",
        ));
    }
    Ok(())
}

/// Whether the copy's own rows give the digest that the source's gave.
pub(crate) fn check_digest(own: Digest, header: &Header) -> Result<()> {
    if own == header.digest {
        return Ok(());
    }
    let what = format_args!("its rows give the digest {own}, the source's gave {}", header.digest);
    Err(diverged(header.version, what))
}

/// The reign that begins behind whatever is stored, with a number above `floor`: a restored database does
/// not know of all.
pub(crate) fn next_reign(
    position: &Position,
    lineage: &Lineage,
    floor: Epoch,
    tag: Tag,
) -> LineageEntry {
    let highest = lineage.last().map_or(position.epoch, |e| e.epoch.max(position.epoch));
    LineageEntry { epoch: Epoch(highest.max(floor).0 + 1), tag, first: position.version.next() }
}

/// The lineage of a copy that went back to `to`, and its last epoch: those that began behind it are
/// forgotten.
pub(crate) fn cut(lineage: &Lineage, to: Version) -> Result<(Lineage, LineageEntry)> {
    let mut lineage = lineage.clone();
    while lineage.0.last().is_some_and(|e| e.first > to) && lineage.0.len() > 1 {
        lineage.0.pop();
    }
    let reign = lineage.last().copied().ok_or_else(|| unreachable_version(to))?;
    Ok((lineage, reign))
}

/// Where a copy stands once it lives by `lineage` and has applied up to `head`: the epoch goes on even if
/// no commit came.
pub(crate) fn under(lineage: &Lineage, head: Position, tag: Tag) -> (Position, Tag) {
    match lineage.at(head.version.next()) {
        Some(reign) => (Position { epoch: reign.epoch, ..head }, reign.tag),
        None => (head, tag),
    }
}

/// The error of a copy whose source's rows do not give the digest that it claims.
pub(crate) fn source_damaged(
    standing: &Standing,
    found: &DatabaseDigest,
    claimed: &DatabaseDigest,
) -> Error {
    let wrong: Vec<&str> = claimed
        .tables()
        .filter(|(name, table)| found.get(name) != Some(table))
        .map(|(name, _)| name)
        .collect();
    Error::corrupt(
        "SOURCE_DAMAGED",
        format!(
            "the source's rows at {} do not give the digest that it claims; tables: {}",
            standing.position,
            wrong.join(", ")
        ),
    )
    .hint("run `syncline verify` on the writer: rows were changed behind its back, or rotted")
}

/// The error of rows that only somebody else can have written.
pub(crate) fn rows_invalid(what: &str) -> Error {
    let message = format!("rows in the backing database are not as the schema demands: {what}");
    Error::invalid("ROWS_INVALID", message)
        .hint("nothing was done: put those rows right in the backing database first")
}
