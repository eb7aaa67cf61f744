//! What a SQLite file says of its tables.

use rusqlite::{Connection, OptionalExtension};

use super::{failed, quoted};
use crate::endpoint::table::numbers;
use crate::endpoint::{Column, ForeignKey, OnDelete, Table, Type};
use crate::error::Result;

/// All tables but SQLite's own, virtual ones with what lies under them, and ours.
pub(super) fn tables(connection: &Connection) -> Result<Vec<Table>> {
    let names = texts(
        connection,
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_syncline\\_%' ESCAPE '\\' \
         ORDER BY name",
        &[],
    )?;
    names.iter().map(|name| table(connection, name)).collect()
}

fn texts(connection: &Connection, sql: &str, arguments: &[&str]) -> Result<Vec<String>> {
    let mut select = connection.prepare_cached(sql).map_err(failed)?;
    let rows = select.query_map(rusqlite::params_from_iter(arguments), |row| row.get(0));
    rows.map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

fn table(connection: &Connection, name: &str) -> Result<Table> {
    let collations = key_collations(connection, name)?;
    let (mut columns, mut primary) = columns(connection, name, &collations)?;
    if may_hold_null(connection, name, &columns, &primary)? {
        primary.clear();
    }
    for column in &mut columns {
        column.not_null |= primary.contains(&column.name);
    }
    let unique = unique_keys(connection, name)?;
    let not_null = |key: &&Vec<String>| {
        key.iter().all(|name| columns.iter().any(|c| c.name == *name && c.not_null))
    };
    let key = match primary.is_empty() {
        false => primary,
        true => unique.iter().filter(not_null).min_by_key(|k| k.len()).cloned().unwrap_or_default(),
    };
    let unique = unique.into_iter().filter(|other| *other != key).collect();
    Ok(Table {
        name: name.to_owned(),
        columns,
        key,
        unique,
        foreign_keys: foreign_keys(connection, name)?,
        triggers: texts(
            connection,
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?",
            &[name],
        )?,
        rows: about_rows(connection, name),
        bytes: None,
        made_by: made_by(connection, name)?,
    })
}

/// Whether a primary key tells no rows apart: SQLite lets it be NULL as often as one likes, unless it is the rowid or
/// says otherwise. Where none is, as nearly everywhere, it is a key all the same.
fn may_hold_null(
    connection: &Connection,
    table: &str,
    columns: &[Column],
    primary: &[String],
) -> Result<bool> {
    let may = |name: &&String| columns.iter().any(|c| c.name == **name && !c.not_null);
    let is_null = |name: &String| format!("{} IS NULL", quoted(name));
    let nulls: Vec<String> = primary.iter().filter(may).map(is_null).collect();
    let index = "SELECT name FROM pragma_index_list(?) WHERE origin = 'pk'";
    if nulls.is_empty() || texts(connection, index, &[table])?.is_empty() {
        return Ok(false);
    }
    let sql = format!("SELECT 1 FROM {} WHERE {} LIMIT 1", quoted(table), nulls.join(" OR "));
    let found = connection.query_row(&sql, [], |_| Ok(())).optional().map_err(failed)?;
    Ok(found.is_some())
}

/// The statements that made a table and its unique indexes.
fn made_by(connection: &Connection, table: &str) -> Result<Vec<String>> {
    let sql = "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND (type = 'table' OR type = 'index' \
               AND name IN (SELECT name FROM pragma_index_list(tbl_name) WHERE \"unique\")) \
               AND sql IS NOT NULL ORDER BY type = 'index', name";
    texts(connection, sql, &[table])
}

/// The columns, and the primary key in its own order.
fn columns(
    connection: &Connection,
    table: &str,
    collations: &[(String, String)],
) -> Result<(Vec<Column>, Vec<String>)> {
    let mut select = connection
        .prepare_cached("SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?)")
        .map_err(failed)?;
    let mut rows = select.query([table]).map_err(failed)?;
    let (mut columns, mut primary) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next().map_err(failed)? {
        let get = || -> rusqlite::Result<_> {
            let place: i64 = row.get(3)?;
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get(2)?,
                place,
                row.get::<_, i64>(4)?,
            ))
        };
        let (name, declared, not_null, place, hidden): (_, _, bool, _, _) =
            get().map_err(failed)?;
        if place > 0 {
            primary.push((place, name.clone()));
        }
        let (size, scale) = numbers(&declared);
        let folds = collations.iter().any(|(column, by)| *column == name && by != "BINARY");
        columns.push(Column {
            kind: Type::meant_by(&declared),
            not_null,
            generated: hidden >= 2,
            folds_case: folds,
            size,
            scale,
            name,
            declared,
        });
    }
    primary.sort();
    Ok((columns, primary.into_iter().map(|(_, name)| name).collect()))
}

/// The collations of the columns of all unique indexes.
fn key_collations(connection: &Connection, table: &str) -> Result<Vec<(String, String)>> {
    let sql = "SELECT x.name, upper(x.coll) FROM pragma_index_list(?) i, pragma_index_xinfo(i.name) x \
               WHERE i.\"unique\" AND x.key AND x.name IS NOT NULL";
    let mut select = connection.prepare_cached(sql).map_err(failed)?;
    let rows = select.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failed)?;
    rows.collect::<Result<_, _>>().map_err(failed)
}

fn unique_keys(connection: &Connection, table: &str) -> Result<Vec<Vec<String>>> {
    let indexes = texts(
        connection,
        "SELECT name FROM pragma_index_list(?) WHERE \"unique\" AND NOT partial ORDER BY seq",
        &[table],
    )?;
    let mut keys = Vec::new();
    for index in indexes {
        let sql = "SELECT coalesce(name, '') FROM pragma_index_info(?) ORDER BY seqno";
        let key = texts(connection, sql, &[&index])?;
        // An expression has no name.
        if !key.iter().any(String::is_empty) {
            keys.push(key);
        }
    }
    Ok(keys)
}

fn foreign_keys(connection: &Connection, table: &str) -> Result<Vec<ForeignKey>> {
    let sql = "SELECT id, \"table\", \"from\", coalesce(\"to\", ''), on_delete \
               FROM pragma_foreign_key_list(?) ORDER BY id, seq";
    let mut select = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = select.query([table]).map_err(failed)?;
    let mut keys: Vec<(i64, ForeignKey)> = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let text = |i| row.get::<_, String>(i).map_err(failed);
        let (id, from, to): (i64, _, _) = (row.get(0).map_err(failed)?, text(2)?, text(3)?);
        if keys.last().is_none_or(|(last, _)| *last != id) {
            // On this connection nothing is enforced, hence nothing cascades.
            let on_delete = OnDelete::Refuse;
            let (columns, parent_columns) = Default::default();
            keys.push((id, ForeignKey { columns, parent: text(1)?, parent_columns, on_delete }));
        }
        let key = &mut keys.last_mut().expect("one was just there").1;
        key.columns.push(from);
        if !to.is_empty() {
            key.parent_columns.push(to);
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// From the highest rowid: a guess that costs nothing.
fn about_rows(connection: &Connection, table: &str) -> Option<u64> {
    let sql = format!("SELECT max(rowid) FROM {}", quoted(table));
    let highest = connection.query_row(&sql, [], |row| row.get::<_, Option<i64>>(0)).optional();
    highest.ok().flatten().map(|highest| u64::try_from(highest.unwrap_or(0)).unwrap_or(0))
}
