//! The statements that make tables like others.
//!
//! Text in keys gets the collation "C": its index then has the order in which rows are compared. Foreign keys
//! can be deferred, so that a batch may bring rows in any order.
//!
//! Left out: defaults, identity, other indexes, and what happens to children.

use super::quoted;
use crate::endpoint::order::making;
use crate::endpoint::{Column, ForeignKey, Table, Type};
use crate::error::Error;

/// PostgreSQL's own limit of `varchar(n)`.
const LONGEST_VARCHAR: u32 = 10_485_760;

/// A type that keeps all that the column holds.
fn declared(column: &Column) -> String {
    match column.kind {
        Type::Stored => "text".into(),
        Type::Integer => "bigint".into(),
        Type::Decimal { .. } => match (column.size, column.scale) {
            (Some(size @ 1..=1000), scale) if scale.unwrap_or(0) <= size => {
                format!("numeric({size}, {})", scale.unwrap_or(0))
            }
            _ => "numeric".into(),
        },
        Type::Real { single: true } => "real".into(),
        Type::Real { single: false } => "double precision".into(),
        Type::Text { padded } => match column.size {
            Some(size @ 1..=LONGEST_VARCHAR) if padded => format!("char({size})"),
            Some(size @ 1..=LONGEST_VARCHAR) if !is_lax(column) => format!("varchar({size})"),
            _ => "text".into(),
        },
        Type::Bytes => "bytea".into(),
        Type::Boolean => "boolean".into(),
        Type::Timestamp { digits: 6 } => "timestamp".into(),
        Type::Timestamp { digits } => format!("timestamp({digits})"),
        Type::Timestamptz { digits: 6 } => "timestamptz".into(),
        Type::Timestamptz { digits } => format!("timestamptz({digits})"),
        Type::Date => "date".into(),
        Type::Time { digits: 6 } => "time".into(),
        Type::Time { digits } => format!("time({digits})"),
        Type::Uuid => "uuid".into(),
        Type::Json => "jsonb".into(),
    }
}

/// Whether the length is only said: SQLite keeps texts of any.
fn is_lax(column: &Column) -> bool {
    column.declared.to_ascii_uppercase().contains("TEXT")
}

fn definition(column: &Column, in_key: bool) -> String {
    let bytewise = in_key && matches!(column.kind, Type::Text { .. } | Type::Stored);
    let collate = if bytewise { " COLLATE \"C\"" } else { "" };
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    format!("{} {}{collate}{not_null}", quoted(&column.name), declared(column))
}

/// A table's name with its schema, if it has one.
fn table_name(name: &str) -> String {
    match name.split_once('.') {
        Some((schema, table)) => format!("{}.{}", quoted(schema), quoted(table)),
        None => quoted(name),
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

fn reference(key: &ForeignKey) -> String {
    let parents = match key.parent_columns.is_empty() {
        true => String::new(),
        false => format!(" ({})", list(&key.parent_columns)),
    };
    let (columns, parent) = (list(&key.columns), table_name(&key.parent));
    format!("FOREIGN KEY ({columns}) REFERENCES {parent}{parents} DEFERRABLE")
}

/// The statements that make tables like these: parents first, and what closes a circle in the end.
pub(super) fn create_statements(tables: &[Table]) -> Vec<String> {
    let making = making(tables);
    let tables = making.tables.iter().map(create_statement);
    let later = making
        .later
        .iter()
        .map(|(table, key)| format!("ALTER TABLE {} ADD {}", table_name(table), reference(key)));
    tables.chain(later).collect()
}

/// What may be wrong with such statements.
pub(super) fn explained(error: Error) -> Error {
    match error.code() {
        "ENDPOINT_STATEMENT" => Error::invalid("ENDPOINT_STATEMENT", error.message().to_owned())
            .hint("nothing was made; does a table refer to one that is neither here nor selected? Make that one, too, or make them by hand")
            .source(error),
        _ => error,
    }
}

fn create_statement(table: &Table) -> String {
    let in_key = |column: &Column| {
        let keys = std::iter::once(&table.key).chain(&table.unique);
        keys.flatten().any(|name| *name == column.name)
    };
    let columns = table.columns.iter().filter(|column| !column.generated);
    let mut parts: Vec<String> = columns.map(|c| definition(c, in_key(c))).collect();
    if !table.key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", list(&table.key)));
    }
    parts.extend(table.unique.iter().map(|key| format!("UNIQUE ({})", list(key))));
    parts.extend(table.foreign_keys.iter().map(reference));
    format!("CREATE TABLE {} (\n  {}\n)", table_name(&table.name), parts.join(",\n  "))
}

/// The statement that adds a column like this one.
pub(super) fn add_column_statement(table: &str, column: &Column) -> String {
    format!("ALTER TABLE {} ADD COLUMN {}", table_name(table), definition(column, false))
}
