//! Agreement: which columns of two tables are compared, and as what.
//!
//! The narrower side decides: what it cannot keep apart must not count as a difference, or the two could never
//! be made equal. Text and SQLite's columns without a type hold anything, so the other side's type is agreed.
//!
//! ```text
//!             SQLite            PostgreSQL          MySQL              agreed
//!             INTEGER           bigint              bigint             integer
//!             TEXT              timestamptz         timestamp(6)       timestamptz
//!             DATETIME          timestamp           datetime(3)        timestamp (3 digits)
//!             NUMERIC(30,10)    numeric(30,10)                         decimal (15 digits)
//! ```

use super::table::{Column, Table, Type, is_meant, paired_names};
use super::{Engine, Plan, PlannedColumn};
use crate::error::{Error, Result};

/// What a user says about the comparison of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Only these columns (and the key); none: all that both have.
    pub columns: Option<Vec<String>>,
    /// Only rows for which this SQL condition holds, on both sides.
    pub filter: Option<String>,
    /// The column that says how new a row is.
    pub version: Option<String>,
}

/// Two plans that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// How to read A.
    pub a: Plan,
    /// How to read B.
    pub b: Plan,
    /// Columns that only A has.
    pub only_a: Vec<String>,
    /// Columns that only B has.
    pub only_b: Vec<String>,
}

/// One side of a comparison.
pub type Sided<'a> = (Engine, &'a Table);

/// Agrees on how to compare two tables. Columns are paired by name, and then by names that differ in case only.
pub fn agree(a: Sided<'_>, b: Sided<'_>, wishes: &Wishes) -> Result<Agreement> {
    let Paired { mut pairs, mut only_a, mut only_b } = paired(a.1, b.1);
    let key = common_key(a.1, b.1, &pairs);
    if wishes.columns.is_some() {
        // What is not asked for is not missed.
        only_a.retain(|name| wanted(wishes, a.1, name));
        only_b.retain(|name| wanted(wishes, b.1, name));
    }
    let place = |name: &str| key.iter().position(|k| k == name);
    pairs.retain(|(column, _)| place(&column.name).is_some() || wanted(wishes, a.1, &column.name));
    if let Some(missing) = unknown_column(a.1, wishes) {
        return Err(no_such_column(a.1, &missing));
    }
    pairs.sort_by_key(|(column, _)| place(&column.name).unwrap_or(usize::MAX));
    let same_engine = a.0 == b.0;
    let mut plans = [a, b].map(|(_, table)| Plan {
        table: table.name.clone(),
        columns: Vec::with_capacity(pairs.len()),
        key: key.len(),
        version: None,
        filter: wishes.filter.clone(),
    });
    for (x, y) in &pairs {
        let agreed = match same_engine && a.0 == Engine::Sqlite {
            true => Type::Stored,
            false => agree_column(x, y).ok_or_else(|| incomparable(a.1, x, y))?,
        };
        for (plan, column) in plans.iter_mut().zip([x, y]) {
            let (name, declared) = (column.name.clone(), column.declared.clone());
            plan.columns.push(PlannedColumn { name, declared, agreed });
        }
    }
    let [mut a_plan, mut b_plan] = plans;
    if let Some(version) = &wishes.version {
        let names: Vec<&str> = a_plan.columns.iter().map(|column| &*column.name).collect();
        let place = names.iter().position(|name| is_meant(version, name, &names));
        let place = place.ok_or_else(|| no_such_column(a.1, version))?;
        let agreed = a_plan.columns[place].agreed;
        if matches!(agreed, Type::Decimal { .. } | Type::Boolean | Type::Json) {
            return Err(unfit_version(a.1, version, agreed));
        }
        (a_plan.version, b_plan.version) = (Some(place), Some(place));
    }
    Ok(Agreement { a: a_plan, b: b_plan, only_a, only_b })
}

/// Columns that belong together, and the names of the others.
struct Paired<'t> {
    pairs: Vec<(&'t Column, &'t Column)>,
    only_a: Vec<String>,
    only_b: Vec<String>,
}

fn paired<'t>(a: &'t Table, b: &'t Table) -> Paired<'t> {
    let own = |table: &'t Table| table.columns.iter().filter(|column| !column.generated);
    let (of_a, of_b): (Vec<_>, Vec<_>) = (own(a).collect(), own(b).collect());
    let names = |columns: &[&'t Column]| columns.iter().map(|c| &*c.name).collect::<Vec<&str>>();
    let places = paired_names(&names(&of_a), &names(&of_b));
    let (mut pairs, mut only_a) = (Vec::new(), Vec::new());
    for (column, place) in of_a.iter().zip(&places) {
        match place {
            Some(place) => pairs.push((*column, of_b[*place])),
            None => only_a.push(column.name.clone()),
        }
    }
    let only_b = (0..of_b.len()).filter(|place| !places.contains(&Some(*place)));
    let only_b = only_b.map(|place| of_b[place].name.clone()).collect();
    Paired { pairs, only_a, only_b }
}

/// The key that both can tell rows by, as A calls its columns: A's, if B has its columns as a key, too, or B's,
/// likewise.
fn common_key(a: &Table, b: &Table, pairs: &[(&Column, &Column)]) -> Vec<String> {
    let keys = |table: &Table| {
        let mut keys = vec![table.key.clone()];
        let not_null = |name: &String| table.column(name).is_some_and(|column| column.not_null);
        keys.extend(table.unique.iter().filter(|key| key.iter().all(not_null)).cloned());
        keys.retain(|key| !key.is_empty());
        keys
    };
    let same = |x: &[String], y: &[String]| {
        let in_y =
            |n: &String| pairs.iter().any(|(of_a, of_b)| of_a.name == *n && y.contains(&of_b.name));
        x.len() == y.len() && x.iter().all(in_y)
    };
    let of_b = keys(b);
    let common = keys(a).into_iter().find(|key| of_b.iter().any(|other| same(key, other)));
    common.unwrap_or_default()
}

fn wanted(wishes: &Wishes, table: &Table, name: &str) -> bool {
    let names: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
    let is_it = |wish: &String| is_meant(wish, name, &names);
    wishes.columns.as_ref().is_none_or(|columns| columns.iter().any(is_it))
        || wishes.version.as_ref().is_some_and(is_it)
}

fn unknown_column(table: &Table, wishes: &Wishes) -> Option<String> {
    let mut names = wishes.columns.iter().flatten();
    names.find(|name| table.column(name).is_none()).cloned()
}

fn no_such_column(table: &Table, column: &str) -> Error {
    Error::invalid("NO_SUCH_COLUMN", format!("{} has no column {column} on both sides", table.name))
        .hint("name a column that both have, and that is not generated")
}

/// Versions are compared by their canonical bytes, which must be in the order of the values.
fn unfit_version(table: &Table, column: &str, agreed: Type) -> Error {
    let what = format!("{}.{column} cannot be the version: it is compared as {agreed}", table.name);
    Error::invalid("VERSION_UNFIT", what)
        .hint("name a column of integers, of moments, or a rowversion; without one, all rows are compared")
}

fn incomparable(table: &Table, a: &Column, b: &Column) -> Error {
    let what = format!(
        "{}.{} is {} in A and {} in B, which cannot be compared",
        table.name, a.name, a.declared, b.declared
    );
    Error::invalid("COLUMNS_DIFFER", what)
        .hint("change one of the two, or leave the column out with --columns")
}

/// What a pair of columns is compared as; none if nothing would make sense.
pub fn agree_column(a: &Column, b: &Column) -> Option<Type> {
    agree_type(a.kind, b.kind).or_else(|| agree_type(b.kind, a.kind))
}

fn agree_type(a: Type, b: Type) -> Option<Type> {
    use Type::*;
    Some(match (a, b) {
        (Stored, other) => other,
        (Text { padded: x }, Text { padded: y }) => Text { padded: x || y },
        (Real { single: x }, Real { single: y }) => Real { single: x || y },
        (Decimal { exact: x }, Decimal { exact: y }) => Decimal { exact: x && y },
        (Timestamp { digits: x }, Timestamp { digits: y }) => Timestamp { digits: x.min(y) },
        (Timestamptz { digits: x }, Timestamptz { digits: y } | Timestamp { digits: y }) => {
            Timestamptz { digits: x.min(y) }
        }
        (Time { digits: x }, Time { digits: y }) => Time { digits: x.min(y) },
        (a, b) if a == b => a,
        (Text { .. }, Stored) => a,
        (Text { .. }, other) => other,
        (Integer, Boolean) => Boolean,
        (Integer, Decimal { .. } | Real { .. }) => b,
        (Decimal { .. }, Real { .. }) => b,
        (Boolean, Decimal { .. }) => Boolean,
        (Bytes, Uuid) => Uuid,
        (Bytes, Boolean) => Boolean,
        (Bytes, Json) => Json,
        (Date, Timestamp { .. } | Timestamptz { .. }) => Date,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: &[Type] = &[
        Type::Stored,
        Type::Integer,
        Type::Decimal { exact: true },
        Type::Decimal { exact: false },
        Type::Real { single: false },
        Type::Real { single: true },
        Type::Text { padded: false },
        Type::Text { padded: true },
        Type::Bytes,
        Type::Boolean,
        Type::Timestamp { digits: 6 },
        Type::Timestamp { digits: 0 },
        Type::Timestamptz { digits: 6 },
        Type::Date,
        Type::Time { digits: 6 },
        Type::Uuid,
        Type::Json,
    ];

    #[test]
    fn agreement_does_not_depend_on_who_is_a() {
        let of = |x, y| agree_type(x, y).or_else(|| agree_type(y, x));
        for x in KINDS {
            assert_eq!(of(*x, *x), Some(*x), "{x}");
            for y in KINDS {
                assert_eq!(of(*x, *y), of(*y, *x), "{x} and {y}");
            }
        }
    }
}
