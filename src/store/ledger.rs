//! The digests of the open transaction, with a way back.
//!
//! A group is undone, a member of it, a client's savepoint: all three go back by the same journal.

use std::collections::BTreeSet;

use crate::change::{DatabaseDigest, Digest, TableDigest};

/// Digests with a journal of what they were.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    digest: DatabaseDigest,
    journal: Vec<(String, Option<TableDigest>)>,
}

impl Ledger {
    /// With what was read from the store.
    pub fn new(digest: DatabaseDigest) -> Self {
        Ledger { digest, journal: Vec::new() }
    }

    /// The database's digest.
    pub fn total(&self) -> Digest {
        self.digest.total()
    }

    /// All of it.
    pub fn digest(&self) -> &DatabaseDigest {
        &self.digest
    }

    /// One table.
    pub fn get(&self, name: &str) -> Option<&TableDigest> {
        self.digest.get(name)
    }

    /// Puts a table in, or replaces it.
    pub fn set(&mut self, name: &str, table: TableDigest) {
        self.journal.push((name.to_owned(), self.digest.get(name).copied()));
        self.digest.set(name, table);
    }

    /// Takes a table out.
    pub fn remove(&mut self, name: &str) {
        if let Some(old) = self.digest.remove(name) {
            self.journal.push((name.to_owned(), Some(old)));
        }
    }

    /// A point to go back to.
    pub fn mark(&self) -> usize {
        self.journal.len()
    }

    /// Back to `mark`.
    pub fn undo_to(&mut self, mark: usize) {
        while self.journal.len() > mark {
            match self.journal.pop().expect("longer than the mark") {
                (name, Some(old)) => self.digest.set(&name, old),
                (name, None) => {
                    self.digest.remove(&name);
                }
            }
        }
    }

    /// The tables changed since the last call: what has to be stored; there is no way back then.
    pub fn settle(&mut self) -> BTreeSet<String> {
        self.journal.drain(..).map(|(name, _)| name).collect()
    }

    /// The tables changed so far.
    pub fn changed(&self) -> BTreeSet<&str> {
        self.journal.iter().map(|(name, _)| name.as_str()).collect()
    }
}
