//! Reading.

use tokio_postgres::binary_copy::BinaryCopyOutRow;

use super::failure;
use super::types::{ColumnType, read_decimal};
use crate::change::ValueRef;
use crate::error::Result;

/// A column of a row that was read in the type in which its values travel.
pub(crate) fn read_value(
    row: &BinaryCopyOutRow,
    place: usize,
    kind: ColumnType,
) -> Result<ValueRef<'_>> {
    let value = match kind {
        ColumnType::Integer => row.try_get(place).map(|n: Option<i64>| n.map(ValueRef::Integer)),
        ColumnType::Boolean => {
            row.try_get(place).map(|b: Option<bool>| b.map(|b| ValueRef::Integer(b.into())))
        }
        ColumnType::Real => row.try_get(place).map(|r: Option<f64>| r.map(ValueRef::Real)),
        ColumnType::Blob => row.try_get(place).map(|b: Option<&[u8]>| b.map(ValueRef::Blob)),
        ColumnType::Numeric(_) => row.try_get(place).map(|t: Option<&str>| t.map(read_decimal)),
        ColumnType::Text(_) | ColumnType::Json => {
            row.try_get(place).map(|t: Option<&str>| t.map(ValueRef::Text))
        }
    };
    Ok(value.map_err(failure::error)?.unwrap_or(ValueRef::Null))
}
