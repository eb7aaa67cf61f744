//! The order of tables: parents before children.
//!
//! ```text
//!   child ──▶ parent          parent, child
//!   x ──▶ y ──▶ x             x without its reference, y, and then the reference
//! ```
//!
//! Left out: which order of a circle's tables leaves the fewest references over.

use super::table::is_meant;
use super::{ForeignKey, Table};

/// The places of the tables so that each comes after those it refers to. Where tables refer to each other in a
/// circle, one of them has to go first.
pub fn parents_first(tables: &[&Table]) -> Vec<usize> {
    let parents: Vec<Vec<usize>> = (0..tables.len()).map(|at| parents_of(tables, at)).collect();
    let (mut order, mut placed) = (Vec::new(), vec![false; tables.len()]);
    while let Some(first) = placed.iter().position(|is| !is) {
        let waits_for = |at: usize| parents[at].iter().copied().find(|parent| !placed[*parent]);
        let free = (first..tables.len()).find(|at| !placed[*at] && waits_for(*at).is_none());
        // Whoever follows those that wait for others long enough goes around in a circle.
        let on_circle = || (0..tables.len()).fold(first, |at, _| waits_for(at).unwrap_or(at));
        let next = free.unwrap_or_else(on_circle);
        placed[next] = true;
        order.push(next);
    }
    order
}

fn parents_of(tables: &[&Table], at: usize) -> Vec<usize> {
    let parents = tables[at].foreign_keys.iter().filter_map(|key| place_of(tables, &key.parent));
    parents.filter(|parent| *parent != at).collect()
}

/// Where the table of this name is; if there is none, one whose name differs in case only.
fn place_of(tables: &[&Table], name: &str) -> Option<usize> {
    let names: Vec<&str> = tables.iter().map(|table| &*table.name).collect();
    names.iter().position(|other| is_meant(name, other, &names))
}

/// Tables as they can be made one after another.
pub struct Making {
    /// In this order, without references to those that come later.
    pub tables: Vec<Table>,
    /// These references, each with its table's name: to be added in the end.
    pub later: Vec<(String, ForeignKey)>,
}

/// How these tables can be made. References that name no columns get those of the parent's key.
pub fn making(tables: &[Table]) -> Making {
    let all: Vec<&Table> = tables.iter().collect();
    let order = parents_first(&all);
    let mut making = Making { tables: Vec::new(), later: Vec::new() };
    for (turn, at) in order.iter().enumerate() {
        let mut table = all[*at].clone();
        for mut key in std::mem::take(&mut table.foreign_keys) {
            let parent = place_of(&all, &key.parent);
            if let (Some(parent), true) = (parent, key.parent_columns.is_empty()) {
                key.parent_columns.clone_from(&all[parent].key);
            }
            match parent.is_some_and(|parent| order[turn + 1..].contains(&parent)) {
                true => making.later.push((table.name.clone(), key)),
                false => table.foreign_keys.push(key),
            }
        }
        making.tables.push(table);
    }
    making
}

#[cfg(test)]
mod tests {
    use super::super::OnDelete;
    use super::*;

    fn tables(of: &[(&str, &[&str])]) -> Vec<Table> {
        let table = |(name, parents): &(&str, &[&str])| {
            let key = |parent: &&str| ForeignKey {
                columns: vec!["p".into()],
                parent: (*parent).into(),
                parent_columns: Vec::new(),
                on_delete: OnDelete::Refuse,
            };
            Table {
                name: (*name).into(),
                columns: Vec::new(),
                key: vec!["id".into()],
                unique: Vec::new(),
                foreign_keys: parents.iter().map(key).collect(),
                triggers: Vec::new(),
                rows: None,
                bytes: None,
                made_by: Vec::new(),
            }
        };
        of.iter().map(table).collect()
    }

    fn order(of: &[(&str, &[&str])]) -> String {
        let tables = tables(of);
        let order = parents_first(&tables.iter().collect::<Vec<_>>());
        order.iter().map(|at| of[*at].0).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn parents_come_before_their_children() {
        assert_eq!(order(&[("a", &["z"]), ("b", &["a", "b"]), ("z", &[])]), "z a b");
        assert_eq!(order(&[("a", &["gone"]), ("b", &["A"])]), "a b");
        assert_eq!(order(&[("U", &[]), ("a", &["u"]), ("u", &["x"]), ("x", &[])]), "U x u a");
        // What depends on a circle is not of it.
        assert_eq!(order(&[("a", &["x"]), ("x", &["y"]), ("y", &["x"])]), "x a y");
    }

    #[test]
    fn what_closes_a_circle_is_added_in_the_end() {
        let making = making(&tables(&[("a", &["x"]), ("x", &["y", "x"]), ("y", &["x"])]));
        let made: Vec<_> = making.tables.iter().map(|t| (&*t.name, t.foreign_keys.len())).collect();
        assert_eq!(made, [("x", 1), ("a", 1), ("y", 1)]);
        let [(table, key)] = &making.later[..] else { panic!("{:?}", making.later) };
        assert_eq!(
            (&**table, &*key.parent, &key.parent_columns[..]),
            ("x", "y", &["id".into()][..])
        );
    }
}
