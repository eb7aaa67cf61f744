//! Versions: which values of a version column say how new a row is.
//!
//! A column of moments may hold `infinity`, one of text a slip of the pen, one of floats NaN. Such a value would stand
//! above all others for ever, and nothing below it would count as new. It is no version, like NULL: the row that
//! has it is found by comparing, not by its version.
//!
//! Versions are told by their canonical value, never by how it is spelled: what an engine finds by its own order may
//! be more, and is looked at again by [`Plan::has_reached`].
//!
//! Left out: between two SQLite columns values are compared as stored, and so are versions; a moment that is spelled
//! in several ways there has the order of its spellings.

use super::canon::{self, form};
use super::plan::{Plan, PlannedColumn};
use super::table::Type;
use super::{Key, Sink};
use crate::change::{Value, ValueRef};
use crate::error::Result;

impl Plan {
    /// The row's version, encoded; none if what it has is no version.
    pub fn version_of(&self, row: &[u8]) -> Result<Option<Key>> {
        let Some(place) = self.version else { return Ok(None) };
        let value = &self.values(row)?[place];
        let is_one = is_version(value.as_ref(), &self.columns[place]);
        Ok(is_one.then(|| canon::encode_key([value.as_ref()])))
    }

    /// Whether the row has a version, and it is at least (`strict`: above) this one.
    pub fn has_reached(&self, row: &[u8], version: Option<&[u8]>, strict: bool) -> Result<bool> {
        let of_row = self.version_of(row)?;
        Ok(of_row.is_some_and(|of_row| match version {
            None => true,
            Some(version) => of_row.as_slice() > version || !strict && of_row == version,
        }))
    }

    /// The same plan, for nothing but the versions.
    pub fn only_versions(&self) -> Plan {
        let columns = self.version.map(|place| self.columns[place].clone()).into_iter().collect();
        Plan { columns, key: 0, version: self.version.map(|_| 0), ..self.clone() }
    }
}

fn is_version(value: ValueRef<'_>, column: &PlannedColumn) -> bool {
    let meant = match column.agreed {
        Type::Stored => Type::meant_by(&column.declared),
        agreed => agreed,
    };
    match (value, meant) {
        (ValueRef::Null, _) => false,
        (ValueRef::Real(r), _) if r.is_nan() => false,
        (_, Type::Stored) => true,
        // SQLite's programs count moments in seconds, too.
        (ValueRef::Integer(_) | ValueRef::Real(_), _) if column.agreed == Type::Stored => true,
        (value, meant) => form::conforms(value, meant),
    }
}

/// The highest version, of an engine that orders by them: `read` gives so many rows, or all, from the highest value
/// down.
pub fn highest(
    plan: &Plan,
    mut read: impl FnMut(Option<usize>, &mut Sink<'_>) -> Result<()>,
) -> Result<Option<Key>> {
    let mut highest: Option<Key> = None;
    // What is no version and stands above them all is rare, but may be there often.
    for most in [Some(1), Some(1_000), None] {
        let mut rows = 0;
        read(most, &mut |_, row| {
            rows += 1;
            highest = highest.take().max(plan.version_of(row)?);
            Ok(())
        })?;
        if highest.is_some() || most.is_some_and(|most| rows < most) {
            break;
        }
    }
    Ok(highest)
}

/// The lowest value a row can hold where SQLite finds it if it has at least this version; none: SQLite's order says
/// nothing of these versions.
pub(super) fn lowest_spelling(column: &PlannedColumn, version: &Value) -> Option<Value> {
    let is_number = matches!(
        Type::meant_by(&column.declared),
        Type::Integer | Type::Real { .. } | Type::Decimal { .. }
    );
    let date = |text: &str| text.get(..10).map(str::to_owned);
    match (column.agreed, version) {
        (Type::Stored | Type::Text { padded: false }, version) => Some(version.clone()),
        (Type::Integer | Type::Real { single: false }, version) => {
            is_number.then(|| version.clone())
        }
        // 08:00 is before 08:00:00 there, and the same moment.
        (Type::Date | Type::Timestamp { .. }, Value::Text(text)) => date(text).map(Value::Text),
        // Nor does it know of zones, which are less than a day wide on either side.
        (Type::Timestamptz { .. }, Value::Text(text)) => {
            canon::moment::days_before(&date(text)?, 2).map(Value::Text)
        }
        _ => None,
    }
}
