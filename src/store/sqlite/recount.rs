//! The dumb twin of the digest: read every row and add up.

use super::raw::Db;
use super::schema::{Schema, quote, rowid_name};
use crate::change::{DatabaseDigest, RowHasher, TableDigest, TableShape, ValueRef};
use crate::error::Result;

/// The statement that reads every row of a table: the rowid first if it is the key, then the stored
/// columns.
pub(crate) fn select_rows(shape: &TableShape) -> String {
    let mut columns = Vec::new();
    if shape.keyed_by_rowid() {
        columns.push(rowid_name(shape).expect("checked when the shape was read").to_owned());
    }
    columns.extend(shape.stored_columns().map(|(_, column)| quote(&column.name)));
    format!("SELECT {} FROM main.{} NOT INDEXED", columns.join(", "), quote(&shape.name))
}

/// Hands over every row of a table: rowid, if it is the key, and the stored values.
pub(crate) fn each_row(
    db: Db,
    shape: &TableShape,
    mut each: impl FnMut(Option<i64>, &[ValueRef<'_>]) -> Result<()>,
) -> Result<()> {
    let skip = usize::from(shape.keyed_by_rowid());
    db.query(&select_rows(shape), &[], |row| {
        let mut values = Vec::with_capacity(row.columns() - skip);
        for i in skip..row.columns() {
            values.push(row.value(i)?);
        }
        each((skip == 1).then(|| row.i64(0)), &values)
    })
}

/// Adds up one table.
pub(crate) fn table(db: Db, shape: &TableShape) -> Result<TableDigest> {
    let mut sum = TableDigest::empty(shape.fingerprint());
    let mut hasher = RowHasher::default();
    each_row(db, shape, |rowid, values| {
        hasher.start(rowid);
        values.iter().for_each(|value| hasher.push(*value));
        sum.rows += 1;
        sum.digest += hasher.finish();
        Ok(())
    })?;
    Ok(sum)
}

/// Adds up everything, from the schema on.
pub(crate) fn database(db: Db) -> Result<DatabaseDigest> {
    let schema = Schema::load(db)?;
    let sum = |shape: &TableShape| Ok((shape.name.clone(), table(db, shape)?));
    schema.shapes.values().map(sum).collect()
}
