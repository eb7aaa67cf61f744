//! Reading rows of a SQLite file in canonical form: from its pages where that gives them in order, else by SQL.

use std::collections::{HashMap, HashSet};

use rusqlite::types::{ToSqlOutput, ValueRef as Sql};
use rusqlite::{CachedStatement, Connection, Row as SqlRow, Statement, params_from_iter};

use super::affinity::compares_as_agreed;
use super::pages::Rowids;
use super::record::Records;
use super::{failed, quoted};
use crate::change::{Digest, Value, ValueRef};
use crate::endpoint::canon::{self, form};
use crate::endpoint::chunk::Range;
use crate::endpoint::sort::{sorted, sorted_apart};
use crate::endpoint::version::{self, lowest_spelling};
use crate::endpoint::{Key, Plan, PlannedColumn, Row, Sink, Type, nth_of};
use crate::error::{Error, Result};

/// A value to bind.
pub(super) struct Bound<'a>(pub &'a Value);

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => Sql::Null,
            Value::Integer(i) => Sql::Integer(*i),
            Value::Real(r) => Sql::Real(*r),
            Value::Text(text) => Sql::Text(text.as_bytes()),
            Value::Blob(blob) => Sql::Blob(blob),
        }))
    }
}

/// The columns of a plan, as SELECT lists them.
pub(super) fn listed(plan: &Plan) -> String {
    plan.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
}

fn selection(plan: &Plan, conditions: &[String]) -> String {
    selected(plan, &listed(plan), conditions)
}

fn selected(plan: &Plan, what: &str, conditions: &[String]) -> String {
    let filter = plan.filter.iter().map(|filter| format!("({filter})"));
    let all: Vec<String> = conditions.iter().cloned().chain(filter).collect();
    let condition =
        if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) };
    format!("SELECT {what} FROM {}{condition}", quoted(&plan.table))
}

/// The key's columns, each compared by its bytes.
fn key_columns(plan: &Plan) -> Vec<String> {
    let of_key = &plan.columns[..plan.key];
    of_key.iter().map(|column| format!("{} COLLATE BINARY", quoted(&column.name))).collect()
}

/// Renders rows of a plan.
pub(super) struct Renderer<'a> {
    plan: &'a Plan,
    key: Key,
    row: Vec<u8>,
}

impl<'a> Renderer<'a> {
    pub fn new(plan: &'a Plan) -> Renderer<'a> {
        Renderer { plan, key: Vec::new(), row: Vec::new() }
    }

    /// Key and row of what SQL answered.
    pub fn render_sql(&mut self, row: &SqlRow<'_>) -> Result<(&[u8], &[u8])> {
        self.render(|i| Ok(value(row.get_ref(i).map_err(failed)?)))
    }

    /// Key and row, given the values by their places in the plan.
    pub fn render<'v>(
        &mut self,
        value_at: impl Fn(usize) -> Result<ValueRef<'v>>,
    ) -> Result<(&[u8], &[u8])> {
        self.key.clear();
        self.row.clear();
        for (i, column) in self.plan.columns.iter().enumerate() {
            let value = value_at(i)?;
            let ready = form::is_ready(value, column.agreed);
            let owned = if ready { None } else { Some(form::conform(value, column.agreed)) };
            let value = owned.as_deref().map_or(value, Value::as_ref);
            if i < self.plan.key {
                canon::put_key(&mut self.key, value);
            }
            canon::put_value(&mut self.row, value);
        }
        Ok((&self.key, &self.row))
    }
}

/// A value as SQL gives it.
pub(super) fn value(sql: Sql<'_>) -> ValueRef<'_> {
    match sql {
        Sql::Null => ValueRef::Null,
        Sql::Integer(i) => ValueRef::Integer(i),
        Sql::Real(r) => ValueRef::Real(r),
        Sql::Text(bytes) => text(bytes),
        Sql::Blob(blob) => ValueRef::Blob(blob),
    }
}

/// Text that is not UTF-8 counts as the bytes that it is.
pub(super) fn text(bytes: &[u8]) -> ValueRef<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => ValueRef::Text(text),
        Err(_) => ValueRef::Blob(bytes),
    }
}

fn each(
    plan: &Plan,
    select: &mut Statement<'_>,
    arguments: &[Value],
    mut then: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut renderer = Renderer::new(plan);
    let mut rows = select.query(params_from_iter(arguments.iter().map(Bound))).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let (key, row) = renderer.render_sql(row)?;
        then(key, row)?;
    }
    Ok(())
}

/// All rows, in no order.
fn every(connection: &Connection, plan: &Plan, sink: &mut Sink<'_>) -> Result<()> {
    if let Some(mut records) = Records::of(connection, plan)? {
        return records.each(plan, Rowids { after: None, upto: None }, sink);
    }
    let mut all = connection.prepare_cached(&selection(plan, &[])).map_err(failed)?;
    each(plan, &mut all, &[], |key, row| sink(key, row))
}

/// The rowids of the rows whose hash is wanted, by that hash.
pub(super) fn rowids(
    connection: &Connection,
    plan: &Plan,
    wanted: impl Fn(Digest) -> bool,
) -> Result<HashMap<Digest, Vec<i64>>> {
    let sql = selected(plan, &format!("{}, rowid", listed(plan)), &[]);
    let mut select = connection.prepare(&sql).map_err(failed)?;
    let mut rows = select.query([]).map_err(failed)?;
    let mut renderer = Renderer::new(plan);
    let mut found: HashMap<Digest, Vec<i64>> = HashMap::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let hash = plan.hash(renderer.render_sql(row)?.1);
        if wanted(hash) {
            let rowid = row.get(plan.columns.len()).map_err(failed)?;
            found.entry(hash).or_default().push(rowid);
        }
    }
    Ok(found)
}

/// Whether rows are sorted here, because SQL does not give them in the order of their keys.
fn is_sorted_here(plan: &Plan, unordered: &HashSet<String>) -> bool {
    plan.is_multiset() || !compares_as_agreed(plan) || unordered.contains(&plan.table)
}

/// The rows of ranges, in the order of their keys.
pub(super) fn ranges(
    connection: &Connection,
    unordered: &mut HashSet<String>,
    plan: &Plan,
    ranges: &[Range],
    sink: &mut Sink<'_>,
) -> Result<()> {
    if is_sorted_here(plan, unordered) {
        let read = |plan: &Plan, sink: &mut Sink<'_>| every(connection, plan, sink);
        return sorted_apart(plan, ranges, |_| Type::Stored, read, sink);
    }
    let read = in_order(connection, plan, ranges, sink);
    if read.as_ref().is_err_and(|error| error.code() == OUT_OF_ORDER) {
        unordered.insert(plan.table.clone());
    }
    read
}

/// A read gave keys out of their order; the next one of that table will sort them.
pub(super) const OUT_OF_ORDER: &str = "KEYS_OUT_OF_ORDER";

fn in_order(
    connection: &Connection,
    plan: &Plan,
    ranges: &[Range],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut records = Records::of(connection, plan)?;
    let mut last: Option<Key> = None;
    for range in ranges {
        if let (Some(records), Some(rowids)) = (&mut records, Records::rowids(range)?) {
            records.each(plan, rowids, sink)?;
            continue;
        }
        let (sql, arguments) = selection_in(plan, range)?;
        let mut select = connection.prepare_cached(&sql).map_err(failed)?;
        each(plan, &mut select, &arguments, |key, row| {
            match &mut last {
                Some(last) if key <= last.as_slice() => return Err(out_of_order(plan)),
                Some(last) => key.clone_into(last),
                None => last = Some(key.to_vec()),
            }
            sink(key, row)
        })?;
    }
    Ok(())
}

/// The statement that reads a range in order, and its arguments.
fn selection_in(plan: &Plan, range: &Range) -> Result<(String, Vec<Value>)> {
    let order = key_columns(plan).join(", ");
    let places = vec!["?"; plan.key].join(", ");
    let (mut conditions, mut arguments) = (Vec::new(), Vec::new());
    for (key, operator) in [(&range.after, ">"), (&range.upto, "<=")] {
        if let Some(key) = key {
            conditions.push(format!("({order}) {operator} ({places})"));
            arguments.extend(canon::decode_key(key)?);
        }
    }
    Ok((format!("{} ORDER BY {order}", selection(plan, &conditions)), arguments))
}

fn out_of_order(plan: &Plan) -> Error {
    Error::retry(
        OUT_OF_ORDER,
        format!("{}'s keys do not come in the order of their values", plan.table),
    )
}

/// Finds rows by their keys, whatever the filter says.
pub(super) struct Lookup<'a> {
    plan: &'a Plan,
    select: CachedStatement<'a>,
}

impl<'a> Lookup<'a> {
    pub fn new(connection: &'a Connection, plan: &'a Plan) -> Result<Lookup<'a>> {
        let everything = Plan { filter: None, ..plan.clone() };
        let select = connection.prepare_cached(&by_key(&everything)).map_err(failed)?;
        Ok(Lookup { plan, select })
    }

    /// The row with this key, as it is now.
    pub fn find(&mut self, key: &[u8]) -> Result<Option<Row>> {
        let mut there = None;
        each(self.plan, &mut self.select, &canon::decode_key(key)?, |found, row| {
            // Where a collation takes several for one, only the very key counts.
            if found == key {
                there = Some(row.to_vec());
            }
            Ok(())
        })?;
        Ok(there)
    }
}

/// The rows with a key.
fn by_key(plan: &Plan) -> String {
    let of_key = plan.columns[..plan.key].iter();
    let equal = of_key.map(|column| format!("{} IS ?", quoted(&column.name)));
    selection(plan, &equal.collect::<Vec<_>>())
}

/// The rows with these keys.
pub(super) fn keys(
    connection: &Connection,
    plan: &Plan,
    keys: &[Key],
    sink: &mut Sink<'_>,
) -> Result<()> {
    if plan.is_multiset() {
        let wanted: HashSet<&Key> = keys.iter().collect();
        let mut matching = |key: &[u8], row: &[u8]| match wanted.contains(&key.to_vec()) {
            true => sink(key, row),
            false => Ok(()),
        };
        let all = |sink: &mut Sink<'_>| every(connection, plan, sink);
        return sorted(plan, &[Range::ALL], all, &mut matching);
    }
    let mut select = connection.prepare_cached(&by_key(plan)).map_err(failed)?;
    let mut missing: HashSet<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    for wanted in keys {
        each(plan, &mut select, &canon::decode_key(wanted)?, |key, row| match key == wanted {
            true => {
                missing.remove(key);
                sink(key, row)
            }
            false => Ok(()),
        })?;
    }
    if missing.is_empty() || plan.columns[..plan.key].iter().all(is_spelled_once) {
        return Ok(());
    }
    // They may be there in another spelling, of which no index knows.
    every(connection, plan, &mut |key, row| match missing.contains(key) {
        true => sink(key, row),
        false => Ok(()),
    })
}

/// Whether a column holds each value in its canonical form only: a uuid in a column of texts may be in upper case.
fn is_spelled_once(column: &PlannedColumn) -> bool {
    let declared = column.declared.to_ascii_uppercase();
    match column.agreed {
        Type::Stored => true,
        Type::Integer => declared.contains("INT"),
        Type::Text { padded: false } => declared.contains("TEXT") || declared.contains("CHAR"),
        Type::Bytes => declared.contains("BLOB"),
        _ => false,
    }
}

/// The version's column by its bytes, which is how canonical text is compared.
fn version_column(plan: &Plan) -> String {
    let column = &plan.columns[plan.version.expect("the plan has a version")];
    format!("{} COLLATE BINARY", quoted(&column.name))
}

/// The condition that finds all rows of at least this version, and more; and what is bound to it.
fn at_least(plan: &Plan, version: Option<&[u8]>) -> Result<(String, Vec<Value>)> {
    let column = &plan.columns[plan.version.expect("the plan has a version")];
    let version = version.map(canon::decode_key).transpose()?;
    let lowest = version.and_then(|version| lowest_spelling(column, version.first()?));
    let name = version_column(plan);
    Ok(match lowest {
        None => (format!("{name} IS NOT NULL"), Vec::new()),
        Some(lowest) => (format!("{name} >= ?"), vec![lowest]),
    })
}

/// The rows from a version on.
pub(super) fn since(
    connection: &Connection,
    plan: &Plan,
    version: Option<&[u8]>,
    strict: bool,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let (condition, arguments) = at_least(plan, version)?;
    let sql = format!("{} ORDER BY {}", selection(plan, &[condition]), version_column(plan));
    let mut select = connection.prepare_cached(&sql).map_err(failed)?;
    each(plan, &mut select, &arguments, |key, row| {
        match plan.has_reached(row, version, strict)? {
            true => sink(key, row),
            false => Ok(()),
        }
    })
}

/// The highest version: the first one from above, or one of those that SQLite may have put below it.
pub(super) fn newest(connection: &Connection, plan: &Plan) -> Result<Option<Key>> {
    let plan = plan.only_versions();
    let (name, (there, _)) = (version_column(&plan), at_least(&plan, None)?);
    let first = version::highest(&plan, |most, sink| {
        let most = most.map_or(-1, |most| most as i64);
        let sql = format!(
            "{} ORDER BY {name} DESC LIMIT {most}",
            selection(&plan, std::slice::from_ref(&there))
        );
        let mut select = connection.prepare_cached(&sql).map_err(failed)?;
        each(&plan, &mut select, &[], |key, row| sink(key, row))
    })?;
    let Some(mut newest) = first else { return Ok(None) };
    let (condition, arguments) = at_least(&plan, Some(&newest))?;
    if arguments == canon::decode_key(&newest)? {
        return Ok(Some(newest));
    }
    let mut select = connection.prepare_cached(&selection(&plan, &[condition])).map_err(failed)?;
    each(&plan, &mut select, &arguments, |_, row| {
        if let Some(version) = plan.version_of(row)? {
            newest = version.max(std::mem::take(&mut newest));
        }
        Ok(())
    })?;
    Ok(Some(newest))
}

/// The key of the n-th row behind a key.
pub(super) fn nth_key(
    connection: &Connection,
    unordered: &mut HashSet<String>,
    plan: &Plan,
    after: Option<&Key>,
    n: usize,
) -> Result<Option<Key>> {
    let range = Range { after: after.cloned(), upto: None };
    if is_sorted_here(plan, unordered) {
        let range = [range];
        return nth_of(n, |sink| ranges(connection, unordered, plan, &range, sink));
    }
    let mut nth = None;
    let (sql, arguments) = selection_in(plan, &range)?;
    let sql = format!("{sql} LIMIT 1 OFFSET {}", n.saturating_sub(1));
    let mut select = connection.prepare_cached(&sql).map_err(failed)?;
    each(plan, &mut select, &arguments, |key, _| {
        nth = Some(key.to_vec());
        Ok(())
    })?;
    Ok(nth)
}
