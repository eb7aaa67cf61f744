//! Statements that change the schema.

use super::super::SqliteStore;
use super::super::schema::quote;
use super::Dice;
use super::tables::{self, plain, some_name, virtual_ones};
use super::values::{COLUMNS, TABLES, literal};
use crate::change::TableShape;

/// Some statement that changes the schema, or tries.
pub fn statement(dice: &mut Dice, store: &SqliteStore) -> String {
    let all = plain(store);
    if all.is_empty() {
        return tables::create(dice, store);
    }
    let table = dice.pick(&all);
    match dice.below(24) {
        0 | 1 => tables::create(dice, store),
        2 => create_as(dice, table),
        3 => drop(dice, store),
        4 => alter_virtual(dice, store, table),
        5..=7 => add_column(dice, store, table),
        8 | 9 => alter(dice, table, "DROP COLUMN"),
        10 | 11 => {
            format!("{} TO {}", alter(dice, table, "RENAME COLUMN"), quote(dice.pick(COLUMNS)))
        }
        12 | 13 => {
            format!("ALTER TABLE {} RENAME TO {}", quote(&table.name), quote(dice.pick(TABLES)))
        }
        14 | 15 => index(dice, table),
        16..=18 => trigger(dice, store, table),
        19 => format!(
            "CREATE VIEW {} AS SELECT * FROM {}",
            quote(dice.pick(TABLES)),
            quote(&table.name)
        ),
        20 | 21 => full_text(dice, table),
        22 => dice.pick(&["ANALYZE", "REINDEX"]).to_string(),
        _ => drop(dice, store),
    }
}

fn create_as(dice: &mut Dice, table: &TableShape) -> String {
    let name = quote(dice.pick(TABLES));
    let exists = dice.maybe(3, "IF NOT EXISTS ");
    format!("CREATE TABLE {exists}{name} AS SELECT *, 1 AS one FROM {} LIMIT 6", quote(&table.name))
}

/// DROP of anything.
fn drop(dice: &mut Dice, store: &SqliteStore) -> String {
    let entries: Vec<_> =
        store.schema.entries.iter().filter(|e| !e.object.name.starts_with("fts")).collect();
    let exists = dice.maybe(2, "IF EXISTS ");
    if entries.is_empty() || dice.once_in(5) {
        return format!("DROP TABLE {exists}{}", quote(dice.pick(TABLES)));
    }
    let object = &entries[dice.below(entries.len())].object;
    format!("DROP {} {exists}{}", object.kind.as_str().to_uppercase(), quote(&object.name))
}

fn alter(dice: &mut Dice, table: &TableShape, what: &str) -> String {
    let column = quote(&table.columns[dice.below(table.columns.len())].name);
    format!("ALTER TABLE {} {what} {column}", quote(&table.name))
}

fn add_column(dice: &mut Dice, store: &SqliteStore, table: &TableShape) -> String {
    let others: Vec<String> = table.columns.iter().map(|c| quote(&c.name)).collect();
    let column = tables::column(dice, store, table.strict, &others);
    let name = quote(dice.pick(COLUMNS));
    format!("ALTER TABLE {} ADD COLUMN {name}{column}", quote(&table.name))
}

fn alter_virtual(dice: &mut Dice, store: &SqliteStore, table: &TableShape) -> String {
    match virtual_ones(store).as_slice() {
        [] => full_text(dice, table),
        some => {
            let (name, to) = (&some[dice.below(some.len())], dice.below(4));
            match dice.below(3) {
                0 => format!("DROP TABLE {}", quote(name)),
                _ => format!("ALTER TABLE {} RENAME TO fts{to}", quote(name)),
            }
        }
    }
}

fn index(dice: &mut Dice, table: &TableShape) -> String {
    let unique = dice.maybe(2, "UNIQUE ");
    let exists = dice.maybe(3, "IF NOT EXISTS ");
    let (name, on) = (dice.below(4), quote(&table.name));
    let column = |dice: &mut Dice| quote(&table.columns[dice.below(table.columns.len())].name);
    let (one, other) = (column(dice), column(dice));
    let columns = match dice.below(4) {
        0 => format!("{one}, {other} DESC"),
        1 => format!("lower({one})"),
        2 => format!("{one} COLLATE NOCASE"),
        _ => one,
    };
    let partial = if dice.once_in(3) { format!(" WHERE {other} > 1") } else { String::new() };
    format!("CREATE {unique}INDEX {exists}i{name} ON {on} ({columns}){partial}")
}

fn trigger(dice: &mut Dice, store: &SqliteStore, table: &TableShape) -> String {
    let name = quote(dice.pick(TABLES));
    let exists = dice.maybe(3, "IF NOT EXISTS ");
    let event = dice.pick(&["INSERT", "UPDATE", "DELETE"]);
    let (time, on) = (dice.pick(&["BEFORE", "AFTER"]), quote(&table.name));
    let row = if event == "DELETE" { "old" } else { "new" };
    let column = quote(&table.columns[dice.below(table.columns.len())].name);
    let body = body(dice, store, &format!("{row}.{column}"));
    // Few rows: two triggers that feed each other would never end.
    let guard = format!("(SELECT count(*) FROM {on}) < 30");
    format!("CREATE TRIGGER {exists}{name} {time} {event} ON {on} WHEN {guard} BEGIN {body}; END")
}

/// What a trigger does. `value` is one of its row's.
fn body(dice: &mut Dice, store: &SqliteStore, value: &str) -> String {
    let other = some_name(dice, store);
    let all = plain(store);
    let column = |dice: &mut Dice| {
        let table = all.iter().find(|t| quote(&t.name) == other);
        table.map_or("a".into(), |t| quote(&t.columns[dice.below(t.columns.len())].name))
    };
    let (set, by) = (column(dice), column(dice));
    match dice.below(10) {
        0..=3 => format!("INSERT OR IGNORE INTO {other} ({set}) VALUES ({value})"),
        4 => format!(
            "INSERT OR REPLACE INTO {other} ({set}, {by}) VALUES ({value}, {})",
            literal(dice)
        ),
        5 => format!("UPDATE {other} SET {set} = {value} WHERE {by} = {}", literal(dice)),
        6 => format!("DELETE FROM {other} WHERE {by} = {}", literal(dice)),
        7 => format!("UPDATE sqlite_sequence SET seq = seq + {}", dice.below(3)),
        _ => {
            let raise = dice.pick(&["IGNORE", "ABORT, 'no'", "FAIL, 'no'", "ROLLBACK, 'no'"]);
            format!("SELECT RAISE({raise}) WHERE {value} = {}", literal(dice))
        }
    }
}

fn full_text(dice: &mut Dice, table: &TableShape) -> String {
    let n = dice.below(4);
    let exists = dice.maybe(3, "IF NOT EXISTS ");
    let options = match dice.below(6) {
        0 => ", content = ''".to_owned(),
        1 => ", content = '', columnsize = 0".to_owned(),
        2 if !table.without_rowid => format!(", content = {}", quote(&table.name)),
        3 => ", tokenize = 'porter', prefix = '2'".to_owned(),
        4 => ", detail = none".to_owned(),
        _ => String::new(),
    };
    format!("CREATE VIRTUAL TABLE {exists}fts{n} USING fts5(x, y{options})")
}
