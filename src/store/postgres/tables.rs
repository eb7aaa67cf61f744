//! The tables as PostgreSQL has them: shapes, types, and the statements that change their rows.
//!
//! A row is named by its key, and an UPDATE or DELETE compares every column with the before-image: what it
//! finds is the row that was meant, or nothing. So the sum of the images is the sum of the stored rows.
//!
//! Left out: `ON CONFLICT`. A row in the way is a divergence, never something to step over.

use std::collections::HashMap;

use super::connect::Session;
use super::types::{ColumnType, ROWID, TableTypes};
use crate::change::{KeyKind, TableShape};
use crate::error::Result;
use crate::store::sqlite::{Catalogue, quote};

/// One table.
pub(crate) struct Table {
    pub shape: TableShape,
    pub types: TableTypes,
    /// With its schema, quoted.
    pub name: String,
    /// Columns as PostgreSQL has them, quoted: the rowid first, if it is the key.
    pub columns: Vec<(String, ColumnType)>,
    /// Places among `columns`.
    pub key: Vec<usize>,
    /// Somebody altered it: it has other columns, or another key.
    pub altered: bool,
    pub insert: String,
    pub copy: String,
    pub delete: String,
    pub select: String,
}

/// A column as the server reports it: name, type, whether it is in the primary key.
pub(crate) type Reported = (String, String, bool);

impl Table {
    /// A table of the catalogue, in the PostgreSQL schema `schema`.
    pub fn of(schema: &str, catalogue: &Catalogue, shape: &TableShape) -> Result<Table> {
        let types = TableTypes::of(shape, &catalogue.unique_keys(shape)?)?;
        let name = format!("{}.{}", quote(schema), quote(&shape.name));
        let rowid = shape.keyed_by_rowid().then(|| (quote(ROWID), ColumnType::Integer));
        let stored = types.columns.iter().map(|column| (quote(&column.name), column.kind));
        let columns: Vec<_> = rowid.into_iter().chain(stored).collect();
        let place = |column: &usize| {
            shape.stored_columns().position(|(i, _)| i == *column).expect("keys are stored")
        };
        let key = match &shape.key {
            KeyKind::Rowid => vec![0],
            KeyKind::Alias(column) => vec![place(column)],
            KeyKind::Columns(columns) => columns.iter().map(place).collect(),
        };
        let mut table = Table {
            shape: shape.clone(),
            types,
            insert: insert(&name, &columns),
            copy: copy(&name, &columns),
            delete: String::new(),
            select: select(&name, &columns),
            name,
            columns,
            key,
            altered: false,
        };
        table.delete = format!("DELETE FROM {} WHERE {}", table.name, table.is_the_row());
        Ok(table)
    }

    /// The row that has the before-image, whose values are the first parameters.
    fn is_the_row(&self) -> String {
        let same = |(i, (column, kind)): (usize, &(String, ColumnType))| {
            let (column, parameter) = kind.sides(column, i + 1);
            match self.key.contains(&i) {
                true => format!("{column} = {parameter}"),
                false => format!("{column} IS NOT DISTINCT FROM {parameter}"),
            }
        };
        self.columns.iter().enumerate().map(same).collect::<Vec<_>>().join(" AND ")
    }

    /// The statement that sets these columns of the row with the before-image; their new values follow it.
    pub fn update(&self, changed: &[usize]) -> String {
        let set = changed.iter().enumerate().map(|(i, place)| {
            let (column, kind) = &self.columns[*place];
            let parameter = self.columns.len() + i + 1;
            format!("{column} = ${parameter}::{}{}", kind.wire(), kind.wire_cast())
        });
        let set = set.collect::<Vec<_>>().join(", ");
        format!("UPDATE {} SET {set} WHERE {}", self.name, self.is_the_row())
    }

    /// Whether the server has it as it was made.
    pub fn is_as(&self, reported: Option<&Vec<Reported>>) -> bool {
        let Some(reported) = reported else { return false };
        let has = |(i, (column, kind)): (usize, &(String, ColumnType))| {
            reported.iter().any(|(name, is, in_key)| {
                name == column && kind.is_reported_as(is) && *in_key == self.key.contains(&i)
            })
        };
        self.columns.len() == reported.len() && self.columns.iter().enumerate().all(has)
    }
}

fn insert(name: &str, columns: &[(String, ColumnType)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(column, _)| column.as_str()).collect();
    let each = columns.iter().enumerate();
    let values: Vec<String> =
        each.clone().map(|(i, (_, kind))| format!("v{i}{}", kind.wire_cast())).collect();
    let arrays: Vec<String> =
        each.clone().map(|(i, (_, kind))| format!("${}::{}[]", i + 1, kind.wire())).collect();
    let aliases: Vec<String> = each.map(|(i, _)| format!("v{i}")).collect();
    format!(
        "INSERT INTO {name} ({}) SELECT {} FROM unnest({}) AS v({})",
        names.join(", "),
        values.join(", "),
        arrays.join(", "),
        aliases.join(", ")
    )
}

fn copy(name: &str, columns: &[(String, ColumnType)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(column, _)| column.as_str()).collect();
    format!("COPY {name} ({}) FROM STDIN", names.join(", "))
}

fn select(name: &str, columns: &[(String, ColumnType)]) -> String {
    let columns: Vec<String> =
        columns.iter().map(|(column, kind)| format!("{column}{}", kind.read_cast())).collect();
    format!("SELECT {} FROM {name}", columns.join(", "))
}

/// The type of the column `a`, as `format_type` has it; of a domain, the one that it is made of.
pub(super) const COLUMN_TYPE: &str = "(WITH RECURSIVE made_of AS ( \
    SELECT a.atttypid AS type, a.atttypmod AS size UNION ALL \
    SELECT t.typbasetype, t.typtypmod FROM made_of m JOIN pg_type t ON t.oid = m.type \
    WHERE t.typtype = 'd') SELECT format_type(m.type, m.size) FROM made_of m \
    JOIN pg_type t ON t.oid = m.type WHERE t.typtype <> 'd')";

/// What the server says of the tables of a schema: columns, by the table's name.
pub(crate) fn reported(session: &mut Session) -> Result<HashMap<String, Vec<Reported>>> {
    let sql = format!(
        "SELECT c.relname::text, a.attname::text, {COLUMN_TYPE}, \
               coalesce(a.attnum = ANY (i.indkey), false) FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_attribute a ON a.attrelid = c.oid \
               LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
               WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND a.attnum > 0 \
               AND NOT a.attisdropped AND c.relname !~ '^_syncline_'"
    );
    let mut tables: HashMap<String, Vec<Reported>> = HashMap::new();
    for row in session.query(&sql, &[])? {
        let column: String = row.get(1);
        tables.entry(row.get(0)).or_default().push((quote(&column), row.get(2), row.get(3)));
    }
    Ok(tables)
}

/// Whether any table of the schema has a foreign key.
pub(crate) fn have_foreign_keys(session: &mut Session) -> Result<bool> {
    let sql = "SELECT 1 FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace \
               WHERE n.nspname = current_schema() AND c.contype = 'f' LIMIT 1";
    Ok(!session.query(sql, &[])?.is_empty())
}
