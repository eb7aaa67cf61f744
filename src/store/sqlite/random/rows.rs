//! Statements that change rows.

use super::super::SqliteStore;
use super::super::schema::{quote, rowid_name};
use super::Dice;
use super::tables::{CONFLICTS, plain, virtual_ones};
use super::values::{key, literal};
use crate::change::{KeyKind, TableShape};

/// Some statement that changes rows, or tries.
pub fn statement(dice: &mut Dice, store: &SqliteStore) -> String {
    let virtual_ones = virtual_ones(store);
    if !virtual_ones.is_empty() && dice.once_in(5) {
        let table = virtual_ones[dice.below(virtual_ones.len())].clone();
        return full_text(dice, &table);
    }
    let all = plain(store);
    if all.is_empty() {
        return "SELECT 1".into();
    }
    let table = dice.pick(&all);
    match dice.below(20) {
        0..=8 => insert(dice, store, table),
        9..=14 => update(dice, table),
        15..=17 => delete(dice, table),
        18 => sequence(dice, table),
        _ => {
            format!("PRAGMA {} = {}", dice.pick(&["user_version", "application_id"]), dice.below(9))
        }
    }
}

fn or(dice: &mut Dice) -> String {
    if dice.once_in(2) { format!("OR {} ", dice.pick(CONFLICTS)) } else { String::new() }
}

/// The stored columns' names, quoted, some left out.
fn some_columns(dice: &mut Dice, table: &TableShape) -> Vec<String> {
    let all: Vec<String> = table.stored_columns().map(|(_, c)| quote(&c.name)).collect();
    let some: Vec<String> = all.iter().filter(|_| !dice.once_in(5)).cloned().collect();
    if some.is_empty() { all } else { some }
}

/// A condition that a few rows meet.
fn condition(dice: &mut Dice, table: &TableShape) -> String {
    let column = |dice: &mut Dice| quote(&table.columns[dice.below(table.columns.len())].name);
    match (dice.below(7), rowid(table)) {
        (0, Some(rowid)) => format!("{rowid} % 3 = {}", dice.below(3)),
        (1, Some(rowid)) => format!("{rowid} = {}", dice.below(9)),
        (2, _) => format!("{} IS NULL", column(dice)),
        (3, _) => format!("{} > {}", column(dice), literal(dice)),
        (4, _) => format!("{} IN ({}, {})", column(dice), literal(dice), literal(dice)),
        (5, _) if dice.once_in(2) => "1".into(),
        _ => format!("{} = {}", column(dice), literal(dice)),
    }
}

fn rowid(table: &TableShape) -> Option<&'static str> {
    if table.without_rowid { None } else { rowid_name(table) }
}

/// A value for the column: most often one that it takes.
fn value_for(dice: &mut Dice, table: &TableShape, column: &str) -> String {
    let alias = match &table.key {
        KeyKind::Alias(i) => quote(&table.columns[*i].name),
        _ => "rowid".into(),
    };
    let integer = column == alias || Some(column) == rowid(table);
    if integer && !dice.once_in(12) { key(dice) } else { literal(dice) }
}

fn value_of(dice: &mut Dice, table: &TableShape, column: &str) -> String {
    match dice.below(7) {
        0 | 1 => format!("{column} + 1"),
        2 => format!("upper({column})"),
        3 => format!("-{column}"),
        _ => value_for(dice, table, column),
    }
}

fn insert(dice: &mut Dice, store: &SqliteStore, table: &TableShape) -> String {
    let mut columns = some_columns(dice, table);
    if let (true, Some(rowid)) = (table.keyed_by_rowid() && dice.once_in(4), rowid(table)) {
        columns.push(rowid.to_owned());
    }
    let or = or(dice);
    let name = quote(&table.name);
    let rows: Vec<String> = (0..1 + dice.below(4))
        .map(|_| {
            let row: Vec<String> = columns.iter().map(|c| value_for(dice, table, c)).collect();
            format!("({})", row.join(", "))
        })
        .collect();
    let source = match dice.below(8) {
        0 => {
            let from = dice.pick(&plain(store));
            let picked: Vec<String> = columns
                .iter()
                .map(|_| quote(&from.columns[dice.below(from.columns.len())].name))
                .collect();
            format!("SELECT {} FROM {} WHERE 1 LIMIT 4", picked.join(", "), quote(&from.name))
        }
        1 if or.is_empty() => return format!("INSERT INTO {name} DEFAULT VALUES"),
        _ => format!("VALUES {}", rows.join(", ")),
    };
    let upsert = match dice.below(8) {
        0 => " ON CONFLICT DO NOTHING".to_owned(),
        1 => {
            let set = columns[0].clone();
            format!(" ON CONFLICT DO UPDATE SET {set} = excluded.{set}")
        }
        2 => {
            let set = columns[dice.below(columns.len())].clone();
            let value = value_of(dice, table, &set);
            format!(" ON CONFLICT DO UPDATE SET {set} = {value} WHERE {}", condition(dice, table))
        }
        _ => String::new(),
    };
    let returning = dice.maybe(8, " RETURNING *");
    format!("INSERT {or}INTO {name} ({}) {source}{upsert}{returning}", columns.join(", "))
}

fn update(dice: &mut Dice, table: &TableShape) -> String {
    let mut columns = some_columns(dice, table);
    columns.truncate(1 + dice.below(3));
    if let (true, Some(rowid)) = (dice.once_in(5), rowid(table)) {
        columns.push(rowid.to_owned());
    }
    let set: Vec<String> =
        columns.iter().map(|c| format!("{c} = {}", value_of(dice, table, c))).collect();
    let condition = condition(dice, table);
    let returning = dice.maybe(8, " RETURNING *");
    let (or, name) = (or(dice), quote(&table.name));
    format!("UPDATE {or}{name} SET {} WHERE {condition}{returning}", set.join(", "))
}

fn delete(dice: &mut Dice, table: &TableShape) -> String {
    let returning = dice.maybe(8, " RETURNING *");
    format!("DELETE FROM {} WHERE {}{returning}", quote(&table.name), condition(dice, table))
}

fn sequence(dice: &mut Dice, table: &TableShape) -> String {
    let name = table.name.replace('\'', "''");
    let n = dice.below(50);
    match dice.below(4) {
        0 => format!("UPDATE sqlite_sequence SET seq = {n} WHERE name = '{name}'"),
        1 => format!("DELETE FROM sqlite_sequence WHERE name = '{name}'"),
        2 => format!("INSERT INTO sqlite_sequence (name, seq) VALUES ('{name}', {n})"),
        _ => format!("UPDATE sqlite_sequence SET seq = {}", literal(dice)),
    }
}

const WORDS: &[&str] = &["'a quick fox'", "'the lazy dog'", "'a b c a'", "''", "NULL", "'ünï'"];

/// What one does with a full-text table whose columns are `x` and `y`.
fn full_text(dice: &mut Dice, table: &str) -> String {
    let name = quote(table);
    let (x, y) = (dice.pick(WORDS), dice.pick(WORDS));
    match dice.below(9) {
        0..=3 => format!("INSERT INTO {name} (x, y) VALUES ({x}, {y}), ({y}, {x})"),
        4 => format!("UPDATE {name} SET x = {x} WHERE rowid % 2 = 0"),
        5 => format!("DELETE FROM {name} WHERE rowid = {}", dice.below(6)),
        6 => format!("INSERT INTO {name} (rowid, x) VALUES ({}, {x})", dice.below(6)),
        7 => format!(
            "INSERT INTO {name} ({name}) VALUES ('{}')",
            dice.pick(&["optimize", "rebuild", "delete-all"])
        ),
        _ => format!(
            "INSERT OR REPLACE INTO {name} (rowid, x, y) VALUES (1, {x}, {y}), (2, {y}, {x})"
        ),
    }
}
