//! The second way: rows whose unique values change places are taken out, and put back as they must be.
//!
//! The server checks a unique key after every row, so that two values cannot be swapped in place. The columns
//! that nobody compares come back as they were. Rows that refer to one of these do not miss it: while it is away
//! no foreign key is checked, and none cascades. What they refer to must come back as it was.
//!
//! Left out: rows that change places and refer to each other. The first one back would miss the next.

use mysql_async::Value as Sql;

use super::apply::{Put, delete_raw, insert, to_send};
use super::catalogue::stored_columns;
use super::declared::{list, quoted};
use super::guard;
use super::order;
use super::read::Found;
use super::session::Session;
use super::value::raw;
use crate::endpoint::Plan;
use crate::error::Result;

/// Rows that were taken out, as they must be put back.
pub(super) struct Aside {
    names: Vec<String>,
    rows: Vec<Vec<Sql>>,
}

/// Takes rows out.
pub(super) fn take_out(
    session: &mut Session,
    plan: &Plan,
    different: &[(&Put, Found)],
) -> Result<Aside> {
    let mut aside = Aside { names: Vec::new(), rows: Vec::new() };
    if different.is_empty() {
        return Ok(aside);
    }
    let raws: Vec<Vec<Sql>> = different.iter().map(|(_, found)| found.raw.clone()).collect();
    guard::updates(session, plan, different, true)?;
    aside.names = stored_columns(session, &plan.table)?;
    let condition = order::is_key(&plan.columns[..plan.key]);
    let sql =
        format!("SELECT {} FROM {} WHERE {condition}", list(&aside.names), quoted(&plan.table));
    for ((_, row), found) in different {
        let wanted = to_send(session, plan, row)?;
        let mut old = Vec::new();
        session.stream(&sql, found.raw.clone(), &mut |row| {
            old = (0..row.len()).map(|i| raw(row, i)).collect();
            Ok(())
        })?;
        for (column, value) in plan.columns.iter().zip(wanted) {
            let place = aside.names.iter().position(|name| *name == column.name);
            old[place.expect("the table has the plan's columns")] = value;
        }
        aside.rows.push(old);
    }
    session.unchecked(|session| delete_raw(session, plan, &raws))?;
    Ok(aside)
}

/// Puts them back.
pub(super) fn put_back(session: &mut Session, plan: &Plan, aside: Aside) -> Result<()> {
    insert(session, &plan.table, &aside.names, aside.rows)
}
