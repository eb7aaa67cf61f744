//! Tables of every kind.

use super::super::SqliteStore;
use super::super::schema::quote;
use super::Dice;
use super::values::{COLUMNS, TABLES, literal};
use crate::change::TableShape;

const TYPES: &[&str] =
    &["", "INT", "INTEGER", "REAL", "DOUBLE", "TEXT", "BLOB", "NUMERIC", "VARCHAR(3)", "ANY"];
const STRICT: &[&str] = &["INT", "INTEGER", "REAL", "TEXT", "BLOB", "ANY"];
pub const CONFLICTS: &[&str] = &["ABORT", "FAIL", "IGNORE", "REPLACE", "ROLLBACK"];
const ACTIONS: &[&str] = &["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"];

/// The tables that have rows and are nobody's shadow, in a fixed order.
pub fn plain(store: &SqliteStore) -> Vec<&TableShape> {
    let mut tables: Vec<_> =
        store.schema.shapes.values().filter(|shape| !shape.name.starts_with("fts")).collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables
}

/// The names of virtual tables.
pub fn virtual_ones(store: &SqliteStore) -> Vec<String> {
    let entries = store.schema.entries.iter().filter(|entry| entry.is_virtual());
    entries.map(|entry| entry.object.name.clone()).collect()
}

/// The name of some table: one that is there, mostly.
pub fn some_name(dice: &mut Dice, store: &SqliteStore) -> String {
    let all = plain(store);
    if all.is_empty() || dice.once_in(30) {
        return quote(dice.pick(TABLES));
    }
    quote(&dice.pick(&all).name)
}

fn conflict(dice: &mut Dice) -> String {
    if dice.once_in(4) { format!(" ON CONFLICT {}", dice.pick(CONFLICTS)) } else { String::new() }
}

fn reference(dice: &mut Dice, store: &SqliteStore) -> String {
    let mut sql = format!(" REFERENCES {}", some_name(dice, store));
    for event in ["DELETE", "UPDATE"] {
        if dice.once_in(2) {
            sql += &format!(" ON {event} {}", dice.pick(ACTIONS));
        }
    }
    sql + &dice.maybe(3, " DEFERRABLE INITIALLY DEFERRED")
}

/// What follows a column's name.
pub fn column(dice: &mut Dice, store: &SqliteStore, strict: bool, others: &[String]) -> String {
    let mut sql = format!(" {}", dice.pick(if strict { STRICT } else { TYPES }));
    if !others.is_empty() && dice.once_in(7) {
        let of = &others[dice.below(others.len())];
        let kind = dice.pick(&["VIRTUAL", "STORED"]);
        return sql + &format!(" AS ({of} || 'g') {kind}");
    }
    if dice.once_in(5) {
        sql += &format!(" UNIQUE{}", conflict(dice));
    }
    if dice.once_in(6) {
        sql += &format!(" NOT NULL{} DEFAULT {}", conflict(dice), default(dice));
    } else if dice.once_in(4) {
        sql += &format!(" DEFAULT {}", default(dice));
    }
    sql += &dice.maybe(6, " COLLATE NOCASE");
    if dice.once_in(5) {
        sql += &reference(dice, store);
    }
    sql
}

/// A default that ADD COLUMN may have too.
fn default(dice: &mut Dice) -> String {
    dice.pick(&["0", "1", "'d'", "2.5", "-0.0", "''", "x'01'", "'7'", "NULL", "9e999"]).to_string()
}

/// Some names of columns, in some order, each once.
fn names(dice: &mut Dice) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for _ in 0..1 + dice.below(5) {
        let common = if dice.once_in(4) { COLUMNS } else { &COLUMNS[..5] };
        let name = quote(dice.pick(common));
        if !names.iter().any(|n| n.eq_ignore_ascii_case(&name)) {
            names.push(name);
        }
    }
    names
}

/// CREATE TABLE of a random kind.
pub fn create(dice: &mut Dice, store: &SqliteStore) -> String {
    let strict = dice.once_in(6);
    let names = names(dice);
    let mut columns: Vec<String> = Vec::new();
    for i in 0..names.len() {
        let text = column(dice, store, strict, &names[..i]);
        columns.push(format!("{}{text}", names[i]));
    }
    let first = names[0].clone();
    let last = names[names.len() - 1].clone();
    let mut without_rowid = "";
    match dice.below(10) {
        0 | 1 => columns.insert(0, "id INTEGER PRIMARY KEY".into()),
        2 => columns.insert(0, "id INTEGER PRIMARY KEY AUTOINCREMENT".into()),
        3 => columns.push("id INTEGER PRIMARY KEY DESC".into()),
        4 => columns.insert(0, format!("id TEXT PRIMARY KEY{} NOT NULL", conflict(dice))),
        5 => columns.push(format!("id TEXT COLLATE NOCASE NOT NULL PRIMARY KEY{}", conflict(dice))),
        6 => columns.push(format!("PRIMARY KEY ({first}, {last})")),
        7 => {
            columns.push(format!("id INT, PRIMARY KEY ({last}, id)"));
            without_rowid = "WITHOUT ROWID";
        }
        8 => {
            columns.push(format!("PRIMARY KEY ({first} COLLATE NOCASE)"));
            without_rowid = "WITHOUT ROWID";
        }
        _ => {}
    }
    if dice.once_in(5) {
        columns.push(format!("CHECK ({first} <> {})", literal(dice)));
    }
    if dice.once_in(6) {
        columns.push(format!("UNIQUE ({first}, {last}){}", conflict(dice)));
    }
    let options: Vec<&str> = [without_rowid, if strict { "STRICT" } else { "" }]
        .into_iter()
        .filter(|option| !option.is_empty())
        .collect();
    // Constraints of the table follow all columns.
    columns.sort_by_key(|c| {
        c.starts_with("PRIMARY KEY (")
            || c.starts_with("CHECK")
            || c.starts_with("UNIQUE (")
            || c.contains(", PRIMARY KEY")
    });
    format!(
        "CREATE TABLE {} ({}) {}",
        quote(dice.pick(TABLES)),
        columns.join(", "),
        options.join(", ")
    )
}
