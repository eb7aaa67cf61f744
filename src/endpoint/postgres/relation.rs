//! What must be known of a table beyond its description: how SQL names it, and what lies in its columns.

use super::base::Base;
use crate::endpoint::{OnDelete, Plan, PlannedColumn, Table, Type};
use crate::error::{Error, Result};

/// A table on this server.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// As everybody sees it.
    pub table: Table,
    pub oid: u32,
    /// As SQL names it, with its schema.
    pub sql: String,
    /// Its rows lie in other tables.
    pub partitioned: bool,
    /// What belongs to the table's columns, in their order.
    pub held: Vec<Held>,
    /// References from other tables, and from itself.
    pub referenced: Vec<Reference>,
    /// Rules that rewrite what is written to it.
    pub rules: Vec<String>,
}

/// What is in a column.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub base: Base,
    /// The type to cast text to: without a length, so that what is too long is refused and not cut.
    pub cast: String,
    /// It gives back every text that it takes, as it was.
    pub verbatim: bool,
    /// Digits of a second, of a type that has some.
    pub digits: u8,
    /// Longest text in characters.
    pub size: Option<u32>,
    /// Digits of a decimal behind the point.
    pub scale: Option<u32>,
    /// Texts compare as their bytes do.
    pub bytewise: bool,
    /// GENERATED ALWAYS AS IDENTITY.
    pub identity: bool,
    /// The sequence that belongs to it, as SQL names it.
    pub sequence: Option<String>,
    /// Whether the user may read it.
    pub readable: bool,
}

/// A foreign key of another table, or of this one, that refers to this one.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub name: String,
    pub child: u32,
    /// The child as SQL names it.
    pub child_sql: String,
    pub columns: Vec<String>,
    pub parent_columns: Vec<String>,
    pub on_delete: OnDelete,
    /// What a change of the columns that it refers to does.
    pub on_update: OnDelete,
    /// A delete with children is refused at once, even if they go later in the transaction.
    pub restricts: bool,
}

/// A column of a plan, and what is in it.
pub(super) type Planned<'a> = (&'a PlannedColumn, &'a Held);

impl Relation {
    /// What follows FROM. The rows of tables that inherit from this one are theirs.
    pub fn from(&self) -> String {
        if self.partitioned { self.sql.clone() } else { format!("ONLY {}", self.sql) }
    }

    /// The columns of a plan.
    pub fn planned<'a>(&'a self, plan: &'a Plan) -> Result<Vec<Planned<'a>>> {
        let columns = plan.columns.iter().map(|column| {
            let place = self.table.columns.iter().position(|c| c.name == column.name);
            let held = place.map(|place| &self.held[place]);
            held.map(|held| (column, held)).ok_or_else(|| self.no_such_column(&column.name))
        });
        columns.collect()
    }

    /// What a column's values are without any agreement.
    pub fn own_kind(&self, column: &PlannedColumn) -> Type {
        self.table.columns.iter().find(|c| c.name == column.name).map_or(column.agreed, |c| c.kind)
    }

    fn no_such_column(&self, column: &str) -> Error {
        let what = format!("{} has no column {column} any more", self.table.name);
        Error::invalid("ENDPOINT_STATEMENT", what)
            .hint("the table was altered in the meantime: run the same command again")
    }
}
