//! What a delete, or a change, would reach beyond the rows that it names.
//!
//! A foreign key may delete or change children with their parent. Whether any child refers to a row is asked in
//! the transaction that is about to remove it. One that comes meanwhile is seen by nobody's snapshot; then the
//! server finds it while it cascades, and ends a REPEATABLE READ transaction with an error.

use super::failure::would_cascade;
use super::quoted;
use super::read::{Place, tid};
use super::relation::{Reference, Relation};
use super::session::{Session, quote, quote_array};
use crate::error::Result;

/// The rows of one table or partition: `tableoid = … AND ctid = ANY(…)`, of this alias.
pub(super) fn at(alias: &str, places: &[Place]) -> String {
    let mut tables: Vec<u32> = places.iter().map(|place| place.0).collect();
    tables.sort_unstable();
    tables.dedup();
    let of_table = tables.iter().map(|table| {
        let of_it = places.iter().filter(|place| place.0 == *table).map(|place| tid(*place));
        let of_it: Vec<String> = of_it.collect();
        let array = quote_array(of_it.iter().map(String::as_str));
        format!("({alias}tableoid = {table} AND {alias}ctid = ANY({array}::tid[]))")
    });
    format!("({})", of_table.collect::<Vec<_>>().join(" OR "))
}

/// Refuses to remove these rows if others refer to them by a foreign key of this kind.
pub(super) fn check(
    session: &mut Session,
    relation: &Relation,
    places: &[Place],
    concerns: impl Fn(&Reference) -> bool,
) -> Result<()> {
    for reference in relation.referenced.iter().filter(|reference| concerns(reference)) {
        let pairs = reference.columns.iter().zip(&reference.parent_columns);
        let same = pairs.map(|(own, parents)| format!("c.{} = p.{}", quoted(own), quoted(parents)));
        let same = same.collect::<Vec<_>>().join(" AND ");
        // Children that go, too, are nobody's loss.
        let stays = match reference.child == relation.oid {
            true => format!(" AND NOT {}", at("c.", places)),
            false => String::new(),
        };
        let sql = format!(
            "SELECT {} WHERE EXISTS (SELECT 1 FROM {} c JOIN {} p ON {same} WHERE {}{stays})",
            quote(&reference.name),
            reference.child_sql,
            relation.from(),
            at("p.", places),
        );
        if !session.rows(&sql)?.is_empty() {
            return Err(would_cascade(format!(
                "rows of {} refer to a row of {} by {}, and would be changed or deleted with it",
                reference.child_sql, relation.table.name, reference.name
            )));
        }
    }
    Ok(())
}
