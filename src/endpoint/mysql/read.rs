//! Reading rows in canonical form.
//!
//! Left out: parallel scans.

use std::collections::{HashMap, HashSet};

use mysql_async::Value as Sql;

use super::declared::{Declared, list, quoted};
use super::order::{self, By};
use super::session::Session;
use super::value::{Renderer, raw};
use crate::change::Value;
use crate::endpoint::canon;
use crate::endpoint::chunk::Range;
use crate::endpoint::sort::{sorted, sorted_apart};
use crate::endpoint::version;
use crate::endpoint::{Key, Plan, PlannedColumn, Row, Sink, Type};
use crate::error::{Error, Result};

/// So many ranges are asked for at once.
const RANGES: usize = 64;
/// … where each question reads the whole table.
const SCANNED: usize = 512;
/// So many keys.
pub(super) const KEYS: usize = 200;

/// The columns of a plan, as SELECT lists them.
fn listed(plan: &Plan) -> String {
    list(plan.columns.iter().map(|column| &column.name))
}

/// The rows for which a condition and the filter hold.
pub(super) fn selection(plan: &Plan, condition: Option<String>) -> String {
    let filter = plan.filter.iter().map(|filter| format!("({filter})"));
    let all: Vec<String> =
        condition.map(|condition| format!("({condition})")).into_iter().chain(filter).collect();
    let condition =
        if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) };
    format!("SELECT {} FROM {}{condition}", listed(plan), quoted(&plan.table))
}

fn each(
    session: &mut Session,
    plan: &Plan,
    sql: &str,
    arguments: Vec<Sql>,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut renderer = Renderer::new(plan);
    session.stream(sql, arguments, &mut |row| {
        let (key, row) = renderer.render(row);
        sink(key, row)
    })
}

/// A read gave keys out of their order; the next one of that table will sort them.
const OUT_OF_ORDER: &str = "KEYS_OUT_OF_ORDER";

/// The rows of ranges, in the order of their keys.
pub(super) fn ranges(
    session: &mut Session,
    unordered: &mut HashSet<String>,
    plan: &Plan,
    ranges: &[Range],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let order = order_of(plan).filter(|_| !unordered.contains(&plan.table));
    let Some(order) = order else {
        let read = |plan: &Plan, sink: &mut Sink<'_>| {
            each(session, plan, &selection(plan, None), Vec::new(), sink)
        };
        let own = |column: &PlannedColumn| Declared::of(&column.declared).kind();
        return sorted_apart(plan, ranges, own, read, sink);
    };
    let read = in_order(session, plan, &order, ranges, sink);
    if read.as_ref().is_err_and(|error| error.code() == OUT_OF_ORDER) {
        unordered.insert(plan.table.clone());
    }
    read
}

/// What the server can sort the rows by; none if it cannot.
fn order_of(plan: &Plan) -> Option<Vec<String>> {
    let of_key = plan.columns[..plan.key].iter().map(|column| match order::by(column) {
        By::Column(sql) | By::Bytes(sql) => Some(sql),
        By::Nothing => None,
    });
    of_key.collect::<Option<Vec<_>>>().filter(|columns| !columns.is_empty())
}

fn in_order(
    session: &mut Session,
    plan: &Plan,
    order: &[String],
    ranges: &[Range],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut last: Option<Key> = None;
    for ranges in ranges.chunks(if is_indexed(plan) { RANGES } else { SCANNED }) {
        let (condition, arguments) = within(plan, order, ranges)?;
        let sql = format!("{} ORDER BY {}", selection(plan, condition), order.join(", "));
        let mut at = 0;
        each(session, plan, &sql, arguments, &mut |key, row| {
            match &mut last {
                Some(last) if key <= last.as_slice() => return Err(out_of_order(plan)),
                Some(last) => key.clone_into(last),
                None => last = Some(key.to_vec()),
            }
            while ranges.get(at).is_some_and(|range| range.ends_before(key)) {
                at += 1;
            }
            match ranges.get(at).is_some_and(|range| range.contains(key)) {
                true => sink(key, row),
                false => Ok(()),
            }
        })?;
    }
    Ok(())
}

/// The condition for keys in any of the ranges, and perhaps some more; none: for all.
fn within(plan: &Plan, order: &[String], ranges: &[Range]) -> Result<(Option<String>, Vec<Sql>)> {
    let (mut any, mut arguments) = (Vec::new(), Vec::new());
    if !is_indexed(plan) && ranges.len() > 1 {
        let condition = halved(plan, order, ranges, &mut arguments)?;
        return Ok((Some(condition), arguments));
    }
    for range in ranges {
        match inside(plan, order, range, &mut arguments)? {
            Some(condition) => any.push(condition),
            None => return Ok((None, Vec::new())),
        }
    }
    Ok((Some(any.join(" OR ")), arguments))
}

/// Whether an index has the order of the keys.
fn is_indexed(plan: &Plan) -> bool {
    matches!(plan.columns.first().map(order::by), Some(By::Column(_)))
}

/// The condition for keys in a range, and perhaps some more; none: for all.
fn inside(
    plan: &Plan,
    order: &[String],
    range: &Range,
    arguments: &mut Vec<Sql>,
) -> Result<Option<String>> {
    let mut both = Vec::new();
    for (key, up) in [(&range.after, true), (&range.upto, false)] {
        let Some(key) = key else { continue };
        both.extend(order::beyond(&terms(plan, order, key)?, up, arguments));
    }
    Ok((!both.is_empty()).then(|| format!("({})", both.join(" AND "))))
}

fn terms(plan: &Plan, order: &[String], key: &[u8]) -> Result<Vec<order::Term>> {
    let values = canon::decode_key(key)?;
    let bounds = plan.columns.iter().zip(&values).map(|(c, value)| order::bound(c, value));
    Ok(order.iter().cloned().zip(bounds).collect())
}

/// The same for rows that no index finds: the ranges are halved again and again, so that each row is compared with
/// few of their ends, and not with all.
fn halved(
    plan: &Plan,
    order: &[String],
    ranges: &[Range],
    arguments: &mut Vec<Sql>,
) -> Result<String> {
    if let [range] = ranges {
        return Ok(inside(plan, order, range, arguments)?.unwrap_or("TRUE".into()));
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let end = lower.last().and_then(|range| range.upto.as_ref());
    let end = end.map(|end| terms(plan, order, end)).transpose()?;
    // An end of which a value is not known would take in more, which then were missed above.
    let exact = end.filter(|terms| terms.iter().all(|(_, value)| value.is_some()));
    let is_lower = exact.and_then(|terms| order::beyond(&terms, false, arguments));
    let lower = halved(plan, order, lower, arguments)?;
    let upper = halved(plan, order, upper, arguments)?;
    Ok(match is_lower {
        Some(is_lower) => format!("IF({is_lower}, {lower}, {upper})"),
        None => format!("({lower} OR {upper})"),
    })
}

fn out_of_order(plan: &Plan) -> Error {
    Error::retry(
        OUT_OF_ORDER,
        format!("{}'s keys do not come in the order of their values", plan.table),
    )
    .hint("the next attempt sorts them here")
}

/// Counts keys behind another one, up to the n-th.
struct Nth {
    range: Range,
    left: usize,
    key: Option<Key>,
}

impl Nth {
    fn take(&mut self, key: &[u8]) {
        if self.left > 0 && self.range.contains(key) {
            self.left -= 1;
            self.key = (self.left == 0).then(|| key.to_vec());
        }
    }
}

/// The key of the n-th row behind a key.
pub(super) fn nth_key(
    session: &mut Session,
    unordered: &mut HashSet<String>,
    plan: &Plan,
    after: Option<&Key>,
    n: usize,
) -> Result<Option<Key>> {
    let range = [Range { after: after.cloned(), upto: None }];
    let mut nth = Nth { range: range[0].clone(), left: n, key: None };
    let order = order_of(plan).filter(|_| !unordered.contains(&plan.table));
    let Some(order) = order else {
        let mut take = |key: &[u8], _: &[u8]| {
            nth.take(key);
            Ok(())
        };
        ranges(session, unordered, plan, &range, &mut take)?;
        return Ok(nth.key);
    };
    let keys = Plan { columns: plan.columns[..plan.key].to_vec(), version: None, ..plan.clone() };
    let (condition, arguments) = within(plan, &order, &range)?;
    let sql = format!("{} ORDER BY {}", selection(&keys, condition), order.join(", "));
    let mut seen = 0;
    while nth.left > 0 {
        // The condition may let through a few more, which come first.
        let (page, before) = (nth.left, seen);
        let sql = format!("{sql} LIMIT {page} OFFSET {seen}");
        each(session, &keys, &sql, arguments.clone(), &mut |key, _| {
            seen += 1;
            nth.take(key);
            Ok(())
        })?;
        if seen - before < page {
            break;
        }
    }
    Ok(nth.key)
}

/// A row as it is, and the values of its key as the server has them.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub row: Row,
    pub raw: Vec<Sql>,
}

/// The rows with these keys, by key. `lock`: nobody else may change them until the transaction ends.
pub(super) fn found(
    session: &mut Session,
    plan: &Plan,
    keys: &[&Key],
    lock: bool,
) -> Result<HashMap<Key, Found>> {
    let mut found = HashMap::new();
    looked_up(session, plan, keys, lock, &mut |key, row, raw| {
        found.insert(key.to_vec(), Found { row: row.to_vec(), raw });
        Ok(())
    })?;
    Ok(found)
}

/// Takes a key, a row, and the raw values of its key.
type RawSink<'a> = dyn FnMut(&[u8], &[u8], Vec<Sql>) -> Result<()> + 'a;

fn looked_up(
    session: &mut Session,
    plan: &Plan,
    keys: &[&Key],
    lock: bool,
    sink: &mut RawSink<'_>,
) -> Result<()> {
    let columns = &plan.columns[..plan.key];
    let lock = if lock { " FOR UPDATE" } else { "" };
    for portion in keys.chunks(KEYS) {
        let wanted: HashSet<&[u8]> = portion.iter().map(|key| key.as_slice()).collect();
        let mut spelled = Some(Vec::new());
        for key in portion {
            let values = order::key_spellings(columns, &canon::decode_key(key)?);
            spelled = spelled.zip(values).map(|(mut all, key)| {
                all.extend(Some(key).filter(|key| key.iter().all(|values| !values.is_empty())));
                all
            });
        }
        let mut arguments = Vec::new();
        let sql = match &spelled {
            Some(keys) if keys.is_empty() => continue,
            Some(keys) => {
                let condition = order::any_of(columns, keys, &mut arguments);
                format!("{}{lock}", selection(plan, Some(condition)))
            }
            None => selection(plan, None),
        };
        let mut renderer = Renderer::new(plan);
        session.stream(&sql, arguments, &mut |sql_row| {
            let (key, row) = renderer.render(sql_row);
            // Where a collation takes several for one, only the very key counts.
            match wanted.contains(key) {
                true => sink(key, row, (0..plan.key).map(|i| raw(sql_row, i)).collect()),
                false => Ok(()),
            }
        })?;
    }
    Ok(())
}

/// The rows with these keys.
pub(super) fn keys(
    session: &mut Session,
    plan: &Plan,
    keys: &[Key],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let wanted: Vec<&Key> = keys.iter().collect();
    if !plan.is_multiset() {
        return looked_up(session, plan, &wanted, false, &mut |key, row, _| sink(key, row));
    }
    let wanted: HashSet<&[u8]> = wanted.into_iter().map(Vec::as_slice).collect();
    let all = selection(plan, None);
    let every = [Range::ALL];
    sorted(plan, &every, |sink| each(session, plan, &all, Vec::new(), sink), &mut |key, row| {
        match wanted.contains(key) {
            true => sink(key, row),
            false => Ok(()),
        }
    })
}

/// The version's column, and what it sorts by.
fn version_column(plan: &Plan) -> (String, String) {
    let column = &plan.columns[plan.version.expect("the plan has a version")];
    let name = quoted(&column.name);
    let by = match (column.agreed, order::by(column)) {
        (Type::Text { .. } | Type::Uuid, By::Bytes(sql)) => sql,
        _ => name.clone(),
    };
    (name, by)
}

/// The rows from a version on.
pub(super) fn since(
    session: &mut Session,
    plan: &Plan,
    version: Option<&[u8]>,
    strict: bool,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let (name, by) = version_column(plan);
    let mut condition = format!("{name} IS NOT NULL");
    let mut arguments = Vec::new();
    if let Some(version) = version.filter(|_| sorts_as_versions(plan)) {
        let column = &plan.columns[plan.version.expect("the plan has a version")];
        let values = canon::decode_key(version)?;
        let bound = values.first().and_then(|value| version_bound(column, value));
        if let Some(bound) = bound {
            condition = format!("{by} >= {}", order::place(column));
            arguments.push(bound);
        }
    }
    let sql = format!("{} ORDER BY {by}", selection(plan, Some(condition)));
    each(session, plan, &sql, arguments, &mut |key, row| {
        // A column may keep more digits than what was agreed on.
        match plan.has_reached(row, version, strict)? {
            true => sink(key, row),
            false => Ok(()),
        }
    })
}

/// Whether the server's order is that of versions: text that stands for numbers or moments has its own.
fn sorts_as_versions(plan: &Plan) -> bool {
    let column = &plan.columns[plan.version.expect("the plan has a version")];
    let by_bytes = matches!(column.agreed, Type::Text { .. } | Type::Uuid | Type::Bytes);
    by_bytes || !Declared::of(&column.declared).is_text()
}

fn version_bound(column: &PlannedColumn, value: &Value) -> Option<Sql> {
    match (column.agreed, value) {
        (Type::Decimal { .. }, _) => order::decimal(Declared::of(&column.declared), value),
        (Type::Real { .. }, Value::Real(r)) => Some(Sql::Double(*r)),
        (Type::Real { .. }, Value::Integer(i)) => Some(Sql::Int(*i)),
        _ => order::bound(column, value),
    }
}

/// The highest version.
pub(super) fn newest(session: &mut Session, plan: &Plan) -> Result<Option<Key>> {
    let plan = plan.only_versions();
    let (name, by) = version_column(&plan);
    let there = selection(&plan, Some(format!("{name} IS NOT NULL")));
    version::highest(&plan, |most, sink| {
        let most = most.filter(|_| sorts_as_versions(&plan));
        let most = most.map_or(String::new(), |most| format!(" LIMIT {most}"));
        let sql = format!("{there} ORDER BY {by} DESC{most}");
        each(session, &plan, &sql, Vec::new(), sink)
    })
}
