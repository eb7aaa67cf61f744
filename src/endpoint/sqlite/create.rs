//! The statements that make tables and columns like others.
//!
//! A table of another SQLite file is made by the statements that made it there: with its STRICT and WITHOUT ROWID,
//! its defaults, checks, collations and generated columns, and with types that keep every value as the other
//! file does. Any other engine's is made from its description.
//!
//! Left out: indexes that are not unique, views, and triggers.

use rusqlite::Connection;

use super::quoted;
use crate::endpoint::{Column, Table, Type};

/// A column of this type for SQLite: a word that keeps the value as it is, and says what is meant.
fn declared(column: &Column) -> String {
    let size = |word: &str| match (column.size, column.scale) {
        (Some(size), Some(scale)) => format!("{word}({size},{scale})"),
        (Some(size), None) => format!("{word}({size})"),
        _ => word.to_owned(),
    };
    match column.kind {
        Type::Stored => column.declared.clone(),
        Type::Integer => "INTEGER".into(),
        Type::Decimal { .. } if column.size.is_some_and(|size| size <= 15) => size("DECIMAL"),
        // Only SQLite itself has it so.
        Type::Decimal { exact: false } => column.declared.clone(),
        // Numeric affinity would round it.
        Type::Decimal { .. } => "TEXT DECIMAL".into(),
        Type::Real { .. } => "REAL".into(),
        Type::Text { .. } => "TEXT".into(),
        Type::Bytes => "BLOB".into(),
        Type::Boolean => "BOOLEAN".into(),
        Type::Timestamp { .. } => "DATETIME".into(),
        Type::Timestamptz { .. } => "TIMESTAMPTZ".into(),
        Type::Date => "DATE".into(),
        Type::Time { .. } => "TIME".into(),
        Type::Uuid => "TEXT UUID".into(),
        // Of a document that is a number, numeric affinity would make a number.
        Type::Json => "TEXT JSON".into(),
    }
}

/// A column as CREATE TABLE and ADD COLUMN write it.
pub(super) fn column_definition(column: &Column) -> String {
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    format!("{} {}{not_null}", quoted(&column.name), declared(column))
}

/// The statement that makes a table like this one: that of another SQLite file, as it is, if that is one; else what
/// is described.
pub(super) fn create_statement(table: &Table) -> String {
    match makes_the_table(table) {
        true => table.made_by.join(";\n"),
        false => described(table),
    }
}

/// Whether the statements that made the table make it anew, and nothing else: they may come from another machine, and
/// are going to be run.
fn makes_the_table(table: &Table) -> bool {
    let begins = |sql: &String, with: &str| {
        sql.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with))
    };
    let Some((first, indexes)) = table.made_by.split_first() else { return false };
    begins(first, "CREATE TABLE ")
        && indexes.iter().all(|sql| begins(sql, "CREATE UNIQUE INDEX "))
        && run_apart(table).is_ok_and(|made| made == [table.name.clone()])
}

/// Runs them on nothing: the tables that there are then. A second statement behind one of them is an error.
fn run_apart(table: &Table) -> rusqlite::Result<Vec<String>> {
    let empty = Connection::open_in_memory()?;
    table.made_by.iter().try_for_each(|sql| empty.execute(sql, []).map(drop))?;
    let mut select = empty.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )?;
    let names = select.query_map([], |row| row.get(0))?;
    names.collect()
}

fn described(table: &Table) -> String {
    let list = |names: &[String]| names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", ");
    let columns = table.columns.iter().filter(|column| !column.generated);
    let mut parts: Vec<String> = columns.map(column_definition).collect();
    if !table.key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", list(&table.key)));
    }
    parts.extend(table.unique.iter().map(|key| format!("UNIQUE ({})", list(key))));
    parts.extend(table.foreign_keys.iter().map(|key| {
        let parents = match key.parent_columns.is_empty() {
            true => String::new(),
            false => format!(" ({})", list(&key.parent_columns)),
        };
        format!("FOREIGN KEY ({}) REFERENCES {}{parents}", list(&key.columns), quoted(&key.parent))
    }));
    format!("CREATE TABLE {} (\n  {}\n)", quoted(&table.name), parts.join(",\n  "))
}

#[cfg(test)]
mod tests {
    use super::super::describe::tables;
    use super::*;

    fn made(sql: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        connection
    }

    fn schema(connection: &Connection) -> Vec<String> {
        let sql = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
        let mut select = connection.prepare(sql).unwrap();
        let all = select.query_map([], |row| row.get(0)).unwrap();
        all.map(Result::unwrap).collect()
    }

    #[test]
    fn a_table_of_another_file_is_made_as_it_was_there() {
        let a = made(
            "CREATE TABLE \"a b\" (d NUMERIC DEFAULT 7, e DECIMAL(20,2), f FLOAT, g INT AS (d + 1) STORED); \
             CREATE UNIQUE INDEX u ON \"a b\" (e) WHERE f > 0; CREATE INDEX slow ON \"a b\" (f); \
             CREATE TABLE s (k TEXT COLLATE NOCASE PRIMARY KEY, v ANY CHECK (v <> ';')) STRICT, WITHOUT ROWID; \
             CREATE TABLE n (id INTEGER PRIMARY KEY AUTOINCREMENT, \
                s TEXT REFERENCES s ON DELETE CASCADE, UNIQUE (s))",
        );
        let b = made("");
        for table in tables(&a).unwrap() {
            b.execute_batch(&create_statement(&table)).unwrap();
        }
        let mut wanted = schema(&a);
        wanted.retain(|sql| !sql.contains("slow"));
        assert_eq!(schema(&b), wanted);
    }

    /// What a stranger says made his table is run here only if it makes that table.
    #[test]
    fn statements_that_do_more_are_not_run() {
        let mut table =
            tables(&made("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")).unwrap().remove(0);
        let good = table.made_by[0].clone();
        assert_eq!(create_statement(&table), good);
        for bad in [
            vec![format!("{good}; DROP TABLE other")],
            vec![good.clone(), "DROP TABLE other".into()],
            vec![good.clone(), "CREATE UNIQUE INDEX i ON other (x)".into()],
            vec!["CREATE TABLE other (x)".into()],
            vec!["ATTACH 'x.db' AS x".into()],
            vec![good.replace("x)", "x CHECK (of_a_stranger(x)))")],
        ] {
            table.made_by = bad;
            let statement = create_statement(&table);
            assert!(statement.starts_with("CREATE TABLE \"t\""), "{statement}");
        }
    }

    /// A column that is added to a table that is there is declared as in the other file, too.
    #[test]
    fn a_number_stays_one() {
        let table = tables(&made("CREATE TABLE t (d NUMERIC, e DECIMAL(20,2))")).unwrap().remove(0);
        let added: Vec<String> = table.columns.iter().map(column_definition).collect();
        assert_eq!(added, ["\"d\" NUMERIC", "\"e\" DECIMAL(20,2)"]);
    }
}
