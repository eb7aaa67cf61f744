//! Unique values that change places among rows which others refer to.
//!
//! Such rows cannot be taken out: what refers to them would go with them, or forbids it. So the values are put
//! out of the way first, where nobody's are, and the rows then get what they must have.
//!
//! ```text
//!   1: a   2: b          1: NULL   2: NULL          1: b   2: a
//!          UPDATE … SET u = NULL        UPDATE … SET u = what it must be
//! ```
//!
//! Left out: types of which no value is known that nobody has; partitioned tables, in which a value may decide
//! where the row is; indexes over expressions or over a part of the rows.

use super::apply::Change;
use super::base::Base;
use super::failure::refused;
use super::quoted;
use super::read::{Place, tid};
use super::relation::{Planned, Relation};
use super::session::Session;
use crate::error::Result;

/// Puts the unique values of rows that change out of each other's way; the rows are somewhere else then.
pub(super) fn park(
    session: &mut Session,
    relation: &Relation,
    columns: &[Planned<'_>],
    changes: &mut [Change],
) -> Result<()> {
    let parked = to_park(relation, columns, changes)?;
    let moves = |change: &Change| parked.iter().any(|(at, _)| change.old[*at] != change.new[*at]);
    let moving: Vec<usize> = (0..changes.len()).filter(|at| moves(&changes[*at])).collect();
    if moving.is_empty() {
        return Ok(());
    }
    let set = parked.iter().map(|(at, value)| {
        let (column, held) = columns[*at];
        format!("{} = ({value})::{}", quoted(&column.name), held.cast)
    });
    let sql = format!(
        "UPDATE {} t SET {} FROM unnest($1, $2, $3) AS v(rel, tid, n) \
         WHERE t.tableoid = v.rel::oid AND t.ctid = v.tid::tid RETURNING v.n::int8, t.tableoid, t.ctid::text",
        relation.from(),
        set.collect::<Vec<_>>().join(", ")
    );
    let of_moving =
        |text: &dyn Fn(usize) -> String| moving.iter().map(|at| Some(text(*at))).collect();
    let parameters = [
        of_moving(&|at| changes[at].place.0.to_string()),
        of_moving(&|at| tid(changes[at].place)),
        of_moving(&|at| at.to_string()),
    ];
    for row in session.rows_over(&sql, &parameters)? {
        let (at, table, tuple) = (row.get::<_, i64>(0), row.get(1), row.get::<_, &str>(2));
        changes[at as usize].place = place(table, tuple);
    }
    Ok(())
}

/// Of each unique key in which rows change one column, and what to put there.
fn to_park(
    relation: &Relation,
    columns: &[Planned<'_>],
    changes: &[Change],
) -> Result<Vec<(usize, String)>> {
    let table = &relation.table;
    let mut parked: Vec<(usize, String)> = Vec::new();
    for key in std::iter::once(&table.key).chain(&table.unique) {
        let changed = (0..columns.len()).filter(|at| {
            key.contains(&columns[*at].0.name) && changes.iter().any(|c| c.old[*at] != c.new[*at])
        });
        let changed: Vec<usize> = changed.collect();
        if changed.is_empty() || changed.iter().any(|at| parked.iter().any(|(p, _)| p == at)) {
            continue;
        }
        let values = changed.iter().filter_map(|at| Some((*at, nobodys(relation, columns[*at])?)));
        // Where there may be NULL, that is no value at all.
        match values.min_by_key(|(_, value)| value != "NULL") {
            Some(value) if !relation.partitioned => parked.push(value),
            _ => return Err(refused("unique values change places, and cannot be put aside")),
        }
    }
    Ok(parked)
}

/// A value that no row has, other ones for other `v.n`; if some row has it all the same, the statement fails.
fn nobodys(relation: &Relation, (column, held): Planned<'_>) -> Option<String> {
    let name = quoted(&column.name);
    let highest = format!("(SELECT max({name}) FROM {})", relation.from());
    let is_nullable = relation.table.column(&column.name).is_some_and(|column| !column.not_null);
    Some(match held.base {
        _ if is_nullable => "NULL".into(),
        Base::Int2 | Base::Int4 | Base::Int8 | Base::Numeric => {
            format!("{highest} + v.n::int8 + 1")
        }
        Base::Date => format!("{highest} + v.n::int4 + 1"),
        Base::Timestamp | Base::Timestamptz => {
            format!("{highest} + (v.n::int8 + 1) * interval '1 second'")
        }
        Base::Text | Base::Char => "chr(1) || to_hex(v.n::int8)".into(),
        Base::Uuid => "'ffffffff-ffff-4fff-8fff-' || lpad(to_hex(v.n::int8), 12, '0')".into(),
        Base::Bytea => r"'\x01'::bytea || int8send(v.n::int8)".into(),
        _ => return None,
    })
}

/// A place as it is kept here.
fn place(table: u32, tid: &str) -> Place {
    let mut parts = tid.trim_matches(['(', ')']).split(',').map(|n| n.parse::<u64>().unwrap_or(0));
    let (block, offset) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (table, block << 16 | offset)
}
