//! What the server says of its tables.
//!
//! Its catalogue shows each user only what that user has some right to, and is asked once for all tables. Names
//! of its columns are given in SQL, because servers differ in their case.
//!
//! Left out: views and sequences, indexes of expressions and of beginnings of values (they are no keys), and
//! tables of other databases than the URL's.

use std::collections::{HashMap, HashSet};

use super::declared::{Declared, quoted};
use super::session::Session;
use crate::endpoint::{Column, ForeignKey, OnDelete, Table};
use crate::error::Result;

type Line = Vec<Option<String>>;

/// A field of a line.
fn field(line: &Line, i: usize) -> String {
    line[i].clone().unwrap_or_default()
}

/// The lines of each table, whose name is the first field.
fn by_table(lines: Vec<Line>) -> HashMap<String, Vec<Line>> {
    let mut tables: HashMap<String, Vec<Line>> = HashMap::new();
    for line in lines {
        tables.entry(field(&line, 0)).or_default().push(line);
    }
    tables
}

const TABLES: &str = "SELECT table_name, table_rows, data_length FROM information_schema.tables \
    WHERE table_schema = DATABASE() AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') \
    AND table_name NOT LIKE '\\_syncline\\_%' ORDER BY table_name";

const COLUMNS: &str = "SELECT table_name, column_name, column_type, collation_name, is_nullable, extra, \
    character_maximum_length, numeric_precision, numeric_scale FROM information_schema.columns \
    WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position";

/// MariaDB's JSON is a LONGTEXT with this check.
const DOCUMENTS: &str = "SELECT table_name, constraint_name FROM information_schema.check_constraints \
    WHERE constraint_schema = DATABASE() AND level = 'Column' \
    AND check_clause = concat('json_valid(`', constraint_name, '`)')";

const UNIQUE: &str = "SELECT table_name, index_name, column_name, sub_part FROM information_schema.statistics \
    WHERE table_schema = DATABASE() AND non_unique = 0 \
    ORDER BY table_name, index_name, seq_in_index";

const FOREIGN: &str = "SELECT k.table_name, k.constraint_name, k.column_name, \
    IF(k.referenced_table_schema = DATABASE(), k.referenced_table_name, \
       concat(k.referenced_table_schema, '.', k.referenced_table_name)), \
    k.referenced_column_name, r.delete_rule \
    FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r \
    ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name \
    AND r.table_name = k.table_name \
    WHERE k.table_schema = DATABASE() AND k.referenced_table_name IS NOT NULL \
    ORDER BY k.table_name, k.constraint_name, k.ordinal_position";

const TRIGGERS: &str = "SELECT event_object_table, trigger_name FROM information_schema.triggers \
    WHERE event_object_schema = DATABASE() ORDER BY event_object_table, trigger_name";

/// All tables but ours.
pub(super) fn tables(session: &mut Session) -> Result<Vec<Table>> {
    let mut columns = by_table(session.texts(COLUMNS, &[])?);
    let documents: HashSet<(String, String)> = match session.server().is_maria {
        true => session.texts(DOCUMENTS, &[])?.iter().map(|l| (field(l, 0), field(l, 1))).collect(),
        false => HashSet::new(),
    };
    let mut unique = by_table(session.texts(UNIQUE, &[])?);
    let mut foreign = by_table(session.texts(FOREIGN, &[])?);
    let mut triggers = by_table(session.texts(TRIGGERS, &[])?);
    let mut tables = Vec::new();
    for line in session.texts(TABLES, &[])? {
        let name = field(&line, 0);
        let is_document = |column: &str| documents.contains(&(name.clone(), column.to_owned()));
        let of_table = columns.remove(&name).unwrap_or_default();
        let columns: Vec<Column> = of_table.iter().map(|line| column(line, is_document)).collect();
        let keys = unique_keys(unique.remove(&name).unwrap_or_default());
        let (key, unique) = chosen(&columns, keys);
        let triggers = triggers.remove(&name).unwrap_or_default();
        tables.push(Table {
            columns,
            key,
            unique,
            foreign_keys: foreign_keys(foreign.remove(&name).unwrap_or_default()),
            triggers: triggers.iter().map(|line| field(line, 1)).collect(),
            rows: field(&line, 1).parse().ok(),
            bytes: field(&line, 2).parse().ok(),
            made_by: Vec::new(),
            name,
        });
    }
    Ok(tables)
}

fn column(line: &Line, is_document: impl Fn(&str) -> bool) -> Column {
    let (name, column_type, extra) = (field(line, 1), field(line, 2), field(line, 5));
    let declared = match &line[3] {
        _ if is_document(&name) => "json".to_owned(),
        Some(collation) => format!("{column_type} COLLATE {collation}"),
        None => column_type,
    };
    let parts = Declared::of(&declared);
    let is_decimal = parts.word == "decimal" || parts.word == "bigint" && parts.is_unsigned;
    let number = |i| field(line, i).parse::<u32>().ok();
    Column {
        kind: parts.kind(),
        not_null: field(line, 4) == "NO",
        generated: extra.contains("VIRTUAL GENERATED")
            || extra.contains("STORED GENERATED")
            || extra.contains("PERSISTENT"),
        folds_case: parts.is_text() && !parts.is_exact(),
        size: if is_decimal { number(7) } else { number(6) },
        scale: if is_decimal { number(8) } else { None },
        name,
        declared,
    }
}

/// A unique index.
struct Unique {
    columns: Vec<String>,
    is_primary: bool,
}

/// The unique indexes that are keys of whole columns.
fn unique_keys(lines: Vec<Line>) -> Vec<Unique> {
    let mut keys: Vec<(String, Vec<String>, bool)> = Vec::new();
    for line in lines {
        let index = field(&line, 1);
        if keys.last().is_none_or(|(last, ..)| *last != index) {
            keys.push((index, Vec::new(), true));
        }
        let (_, columns, is_whole) = keys.last_mut().expect("one was just there");
        *is_whole &= line[2].is_some() && line[3].is_none();
        columns.push(field(&line, 2));
    }
    let whole = keys.into_iter().filter(|(_, _, is_whole)| *is_whole);
    whole.map(|(name, columns, _)| Unique { columns, is_primary: name == "PRIMARY" }).collect()
}

/// The key by which rows are told apart, and the others.
fn chosen(columns: &[Column], keys: Vec<Unique>) -> (Vec<String>, Vec<Vec<String>>) {
    let not_null = |name: &String| columns.iter().any(|c| c.name == *name && c.not_null);
    let whole = keys.iter().filter(|key| key.columns.iter().all(not_null));
    let chosen = whole.min_by_key(|key| (!key.is_primary, key.columns.len()));
    let key = chosen.map(|key| key.columns.clone()).unwrap_or_default();
    let others = keys.into_iter().map(|key| key.columns).filter(|other| *other != key).collect();
    (key, others)
}

fn foreign_keys(lines: Vec<Line>) -> Vec<ForeignKey> {
    let mut keys: Vec<(String, ForeignKey)> = Vec::new();
    for line in lines {
        let name = field(&line, 1);
        if keys.last().is_none_or(|(last, _)| *last != name) {
            let on_delete = match field(&line, 5).as_str() {
                "CASCADE" | "SET NULL" | "SET DEFAULT" => OnDelete::Cascade,
                _ => OnDelete::Refuse,
            };
            let (columns, parent_columns) = Default::default();
            let parent = field(&line, 3);
            keys.push((name, ForeignKey { columns, parent, parent_columns, on_delete }));
        }
        let key = &mut keys.last_mut().expect("one was just there").1;
        key.columns.push(field(&line, 2));
        key.parent_columns.push(field(&line, 4));
    }
    keys.into_iter().map(|(_, key)| key).collect()
}

/// The columns of a table that hold values of their own, also invisible ones.
pub(super) fn stored_columns(session: &mut Session, table: &str) -> Result<Vec<String>> {
    let sql = "SELECT column_name FROM information_schema.columns \
        WHERE table_schema = DATABASE() AND table_name = ? \
        AND extra NOT LIKE '%GENERATED%' AND extra NOT LIKE '%PERSISTENT%' ORDER BY ordinal_position";
    Ok(session.texts(sql, &[table])?.iter().map(|line| field(line, 0)).collect())
}

/// Tables whose engine knows no transactions.
pub(super) fn without_transactions(session: &mut Session) -> Result<Vec<(String, String)>> {
    let sql = "SELECT t.table_name, t.engine FROM information_schema.tables t \
        JOIN information_schema.engines e ON e.engine = t.engine \
        WHERE t.table_schema = DATABASE() AND t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') \
        AND e.transactions <> 'YES' ORDER BY t.table_name";
    Ok(session.texts(sql, &[])?.iter().map(|l| (field(l, 0), field(l, 1))).collect())
}

/// A foreign key of some table that refers to the table asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Referrer {
    /// The table, with its database, as SQL writes it.
    pub child: String,
    /// Whether that is the table itself.
    pub is_itself: bool,
    pub columns: Vec<String>,
    pub parent_columns: Vec<String>,
    /// A delete of the parent changes the children.
    pub cascades_deletes: bool,
    /// So does a change of the columns that they refer to.
    pub cascades_updates: bool,
}

/// The foreign keys that refer to a table.
pub(super) fn referrers(session: &mut Session, table: &str) -> Result<Vec<Referrer>> {
    let sql = "SELECT k.table_schema, k.table_name, k.constraint_name, k.column_name, \
        k.referenced_column_name, r.delete_rule, r.update_rule, k.table_schema = DATABASE() \
        FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r \
        ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name \
        AND r.table_name = k.table_name \
        WHERE k.referenced_table_schema = DATABASE() AND k.referenced_table_name = ? \
        ORDER BY k.table_schema, k.table_name, k.constraint_name, k.ordinal_position";
    let mut referrers: Vec<([String; 3], Referrer)> = Vec::new();
    for line in session.texts(sql, &[table])? {
        let name = [field(&line, 0), field(&line, 1), field(&line, 2)];
        if referrers.last().is_none_or(|(last, _)| *last != name) {
            let cascades =
                |i| matches!(field(&line, i).as_str(), "CASCADE" | "SET NULL" | "SET DEFAULT");
            let referrer = Referrer {
                child: format!("{}.{}", quoted(&name[0]), quoted(&name[1])),
                is_itself: name[1] == table && field(&line, 7) == "1",
                columns: Vec::new(),
                parent_columns: Vec::new(),
                cascades_deletes: cascades(5),
                cascades_updates: cascades(6),
            };
            referrers.push((name, referrer));
        }
        let referrer = &mut referrers.last_mut().expect("one was just there").1;
        referrer.columns.push(field(&line, 3));
        referrer.parent_columns.push(field(&line, 4));
    }
    Ok(referrers.into_iter().map(|(_, referrer)| referrer).collect())
}
