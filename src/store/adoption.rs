//! What adopting and releasing a database would do, for people to read before it is done.
//!
//! ```text
//!   tables of a server ──survey──▶ [`Adoption`] ──a person agrees──▶ adopt ──▶ a backing database
//!   a backing database ──traces──▶ [`Traces`]   ──a person agrees──▶ release ──▶ tables of a server
//! ```
//!
//! Left out: how a server is asked. That is its store's.

use crate::change::{Object, Timestamp};
use crate::store::Holder;

/// What adopting would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// The tables that would be Syncline's.
    pub tables: Vec<Adoptable>,
    /// Those that would not, by name.
    pub left_out: Vec<LeftOut>,
}

impl Adoption {
    /// The tables that nobody excluded, and that cannot be adopted.
    pub fn unnamed(&self) -> impl Iterator<Item = &LeftOut> {
        self.left_out.iter().filter(|table| !table.excluded)
    }
}

/// A table that can be adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoptable {
    /// The table as SQLite will have it.
    pub object: Object,
    /// How many rows it has.
    pub rows: u64,
    /// Its columns.
    pub columns: Vec<AdoptedColumn>,
    /// What stays the server's business: defaults, CHECKs, foreign keys, triggers.
    pub not_carried_over: Vec<String>,
}

/// A column of such a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedColumn {
    /// Its name.
    pub name: String,
    /// Its type on the server.
    pub kind: String,
    /// As it is declared in SQLite.
    pub declared: String,
}

/// A table that stays as it is, and that no node will see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub table: String,
    /// Why it cannot be adopted; none if it could be.
    pub reason: Option<String>,
    /// Whether it was named to be left out.
    pub excluded: bool,
}

/// What Syncline has put into a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// Its own tables.
    pub tables: Vec<String>,
    /// Tables that lose the column by which Syncline names their rows.
    pub keyless: Vec<String>,
    /// Unique keys that Syncline has named: they stay, by other names.
    pub keys: Vec<(String, String)>,
    /// Views, triggers and indexes that only the nodes' copies have: nobody will have them.
    pub texts: Vec<String>,
    /// Commits that are held, and would be forgotten.
    pub held: u64,
    /// Who holds the epoch.
    pub holder: Option<Holder>,
}

impl Traces {
    /// Whoever still writes here.
    pub fn alive(&self, now: Timestamp) -> Option<&Holder> {
        self.holder.as_ref().filter(|holder| holder.lease > now)
    }
}
