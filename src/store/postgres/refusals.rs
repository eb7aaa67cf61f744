//! What PostgreSQL cannot give back exactly, asked by a writer before its own copy takes it.

use super::steps::refuse_virtual;
use super::types::TableTypes;
use crate::change::{SchemaStep, TableShape};
use crate::error::Result;
use crate::store::{Refusals, RowCheck};

/// The same for every server.
pub(crate) struct PostgresRefusals;

impl Refusals for PostgresRefusals {
    fn step(&self, step: &SchemaStep) -> Result<()> {
        refuse_virtual(step)
    }

    fn table(&self, shape: &TableShape, unique: &[Vec<usize>]) -> Result<RowCheck> {
        let types = TableTypes::of(shape, unique)?;
        Ok(Box::new(move |values| types.check(values)))
    }
}
