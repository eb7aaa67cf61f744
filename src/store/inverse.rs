//! Turning a commit round: its entries in reverse order, each undone by another.
//!
//! A step that destroyed rows cannot be undone from the log: the copy is then healed by another.

use super::sqlite::is_virtual_sql;
use crate::change::{
    BodyReader, Change, Commit, DeclaredTable, Decoder, ObjectKind, Op, RowChange, SchemaStep,
    Version,
};
use crate::error::{Error, Result};
use crate::store::Parts;

/// An entry, with the table that it names.
pub(crate) type Entry<'a> = (Change<'a>, Option<DeclaredTable>);

/// Hands over the entries of a commit, the last one first.
pub(crate) fn backwards(
    commit: &Commit,
    parts: Parts<'_>,
    mut each: impl FnMut(Entry<'_>) -> Result<()>,
) -> Result<()> {
    let mut bodies = Vec::new();
    if commit.parts() == 0 {
        bodies.push(commit.body().to_vec());
    }
    for index in 0..commit.parts() {
        bodies.push(parts(commit, index)?);
    }
    let mut reader = BodyReader::default();
    let mut starts = Vec::new();
    for body in &bodies {
        starts.push(reader.clone());
        collect(&mut reader, body)?;
    }
    for (body, mut reader) in bodies.iter().zip(starts).rev() {
        collect(&mut reader, body)?.into_iter().rev().try_for_each(&mut each)?;
    }
    Ok(())
}

/// The entries of a body with the tables they name, so that they can be walked backwards.
fn collect<'a>(reader: &mut BodyReader, body: &'a [u8]) -> Result<Vec<Entry<'a>>> {
    let mut decoder = Decoder(body);
    let mut changes = Vec::new();
    while let Some(change) = reader.next(&mut decoder)? {
        let table = match &change {
            Change::Row(row) => Some(reader.table(row.table).clone()),
            _ => None,
        };
        changes.push((change, table));
    }
    Ok(changes)
}

/// The row change that takes `row` back.
pub(crate) fn row<'a>(row: &RowChange<'a>) -> RowChange<'a> {
    let op = match row.op {
        Op::Insert => Op::Delete,
        Op::Update => Op::Update,
        Op::Delete => Op::Insert,
    };
    RowChange { table: row.table, op, before: row.after, after: row.before }
}

/// The schema step that takes `step` back.
pub(crate) fn step(step: SchemaStep, version: Version) -> Result<SchemaStep> {
    let destroyed = |name: &str| {
        Error::diverged("UNDO_IMPOSSIBLE", format!("version {version} destroyed rows of {name:?}"))
            .hint("this copy is rebuilt from its source")
    };
    match step {
        SchemaStep::Create(object) => Ok(SchemaStep::Drop(object)),
        SchemaStep::Drop(object)
            if object.kind == ObjectKind::Table && !is_virtual_sql(&object) =>
        {
            Err(destroyed(&object.name))
        }
        SchemaStep::Drop(object) => Ok(SchemaStep::Create(object)),
        SchemaStep::Alter { objects, dropped_column: Some(_) } => {
            Err(destroyed(objects.first().map_or("", |(before, _)| &before.name)))
        }
        SchemaStep::Alter { objects, dropped_column: None } => {
            let objects = objects.into_iter().map(|(before, after)| (after, before)).collect();
            Ok(SchemaStep::Alter { objects, dropped_column: None })
        }
    }
}
