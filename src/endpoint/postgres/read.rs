//! Reading rows in canonical form.
//!
//! ```text
//! keys in PostgreSQL's order   WHERE … OR … ORDER BY key      ranges as row comparisons, by the index
//! other keys, and no keys      everything, through a sort      `numeric`, rounded types, multisets
//! ```
//!
//! Text is ordered by its bytes: by the index, where the column's collation is "C", and else by a sort on the
//! server. What comes out of order all the same (a date before Christ) ends the read, and the next one of that
//! table sorts here.
//!
//! Every row is looked at again when it has come: a bound that has no literal is only a wider question.

use std::collections::HashSet;

use super::canonical::{Renderer, is_text};
use super::literal;
use super::quoted;
use super::relation::{Planned, Relation};
use super::session::{Session, quote_array};
use crate::change::Value;
use crate::endpoint::canon;
use crate::endpoint::chunk::Range;
use crate::endpoint::sort::{sorted, sorted_apart};
use crate::endpoint::version;
use crate::endpoint::{Key, Plan, PlannedColumn, Sink, nth_of};
use crate::error::{Error, Result};

/// A read gave keys out of their order; the next one of that table will sort them.
pub(super) const OUT_OF_ORDER: &str = "KEYS_OUT_OF_ORDER";
/// As many ranges are asked for at once.
const RANGES: usize = 64;
/// … where each question reads the whole table.
const SCANNED: usize = 512;
/// As many keys are.
const KEYS: usize = 5000;

/// What is read, of which table.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub relation: &'a Relation,
    pub plan: &'a Plan,
}

/// Where a row is: the table or partition, and the place in it.
pub(super) type Place = (u32, u64);
/// Takes rows one after another: place, key and row.
type PlacedSink<'a> = dyn FnMut(Place, &[u8], &[u8]) -> Result<()> + 'a;

impl<'a> Reading<'a> {
    fn columns(&self) -> Result<Vec<Planned<'a>>> {
        self.relation.planned(self.plan)
    }

    /// SELECT … FROM … WHERE …, with these expressions before the plan's columns.
    fn select(&self, before: &str, conditions: &[String]) -> Result<String> {
        let columns = self.columns()?;
        let listed = columns.iter().map(|(column, held)| match is_text(held.base) {
            true => format!("{}::text", quoted(&column.name)),
            false => quoted(&column.name),
        });
        let listed = listed.collect::<Vec<_>>().join(", ");
        let filter = self.plan.filter.iter().map(|filter| format!("({filter})"));
        let all: Vec<String> = conditions.iter().cloned().chain(filter).collect();
        let all =
            if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) };
        Ok(format!("SELECT {before}{listed} FROM {}{all}", self.relation.from()))
    }

    /// Hands on the rows of a SELECT.
    fn each(&self, session: &mut Session, select: &str, then: &mut Sink<'_>) -> Result<()> {
        let mut renderer = Renderer::new(self.plan, &self.columns()?);
        session.copy_out(select, &mut |mut fields| {
            let (key, row) = renderer.render(&mut fields)?;
            then(key, row)
        })
    }

    /// The expressions to order by; none if PostgreSQL cannot order these keys.
    fn order(&self) -> Result<Option<Vec<String>>> {
        let columns = self.columns()?;
        let key = columns[..self.plan.key].iter();
        let order = key.map(|column| literal::ordered(*column, &quoted(&column.0.name)));
        Ok(order.collect::<Option<Vec<_>>>().filter(|order| !order.is_empty()))
    }

    /// Whether an index has the order of the keys.
    fn is_indexed(&self, columns: &[Planned<'_>]) -> bool {
        columns.first().is_some_and(literal::is_indexed)
    }

    /// The rows of ranges, in the order of their keys.
    pub fn ranges(
        &self,
        session: &mut Session,
        unordered: &mut HashSet<String>,
        ranges: &[Range],
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let table = &self.plan.table;
        let order = self.order()?.filter(|_| !unordered.contains(table));
        let Some(order) = order else {
            let read = |plan: &Plan, sink: &mut Sink<'_>| {
                let all = Reading { plan, ..*self };
                all.each(session, &all.select("", &[])?, sink)
            };
            let own = |column: &PlannedColumn| self.relation.own_kind(column);
            return sorted_apart(self.plan, ranges, own, read, sink);
        };
        let mut last: Option<Key> = None;
        let at_once = if self.is_indexed(&self.columns()?) { RANGES } else { SCANNED };
        for some in ranges.chunks(at_once) {
            let read = self.in_order(session, &order, some, &mut last, sink);
            if read.as_ref().is_err_and(|error| error.code() == OUT_OF_ORDER) {
                unordered.insert(table.clone());
            }
            read?;
        }
        Ok(())
    }

    /// The key of the n-th row behind a key: the server counts, and only that key comes over the line.
    pub fn nth_key(
        &self,
        session: &mut Session,
        unordered: &mut HashSet<String>,
        after: Option<&Key>,
        n: usize,
    ) -> Result<Option<Key>> {
        if let Some(select) = self.select_nth(unordered, after, n)? {
            let keys = Reading { plan: &self.only_key(), ..*self };
            let mut nth: Option<Key> = None;
            keys.each(session, &select, &mut |key, _| {
                nth = Some(key.to_vec());
                Ok(())
            })?;
            // Dates before Christ come first, and are not what comes next.
            if nth.as_ref().is_none_or(|nth| after.is_none_or(|after| nth > after)) {
                return Ok(nth);
            }
        }
        let range = [Range { after: after.cloned(), upto: None }];
        nth_of(n, |sink| self.ranges(session, unordered, &range, sink))
    }

    fn only_key(&self) -> Plan {
        let columns = self.plan.columns[..self.plan.key].to_vec();
        Plan { columns, version: None, ..self.plan.clone() }
    }

    /// The statement for the n-th key; none if the server would count others, too.
    fn select_nth(
        &self,
        unordered: &HashSet<String>,
        after: Option<&Key>,
        n: usize,
    ) -> Result<Option<String>> {
        let order = self.order()?.filter(|_| n > 0 && !unordered.contains(&self.plan.table));
        let Some(order) = order else { return Ok(None) };
        let columns = self.columns()?;
        let behind = bounded(&columns[..self.plan.key], &order, &[(after, ">")])?;
        if after.is_some() && behind.is_none() {
            return Ok(None);
        }
        let plan = self.only_key();
        let select = Reading { plan: &plan, ..*self }.select("", &Vec::from_iter(behind))?;
        Ok(Some(format!("{select} ORDER BY {} OFFSET {} LIMIT 1", order.join(", "), n - 1)))
    }

    fn in_order(
        &self,
        session: &mut Session,
        order: &[String],
        ranges: &[Range],
        last: &mut Option<Key>,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let columns = self.columns()?;
        let key = &columns[..self.plan.key];
        let within = match self.is_indexed(key) {
            true => any_of(key, order, ranges)?,
            false => halved(key, order, ranges)?,
        };
        let select = self.select("", &Vec::from_iter(within))?;
        let select = format!("{select} ORDER BY {}", order.join(", "));
        self.each(session, &select, &mut |key, row| {
            match last {
                Some(last) if key <= last.as_slice() => return Err(out_of_order(self.plan)),
                Some(last) => key.clone_into(last),
                None => *last = Some(key.to_vec()),
            }
            let at = ranges.partition_point(|range| range.ends_before(key));
            match ranges.get(at).is_some_and(|range| range.contains(key)) {
                true => sink(key, row),
                false => Ok(()),
            }
        })
    }

    /// The rows with these keys.
    pub fn keys(&self, session: &mut Session, keys: &[Key], sink: &mut Sink<'_>) -> Result<()> {
        self.keys_with(session, "", keys, &mut |_, key, row| sink(key, row))
    }

    /// … and where they are.
    pub fn places(
        &self,
        session: &mut Session,
        keys: &[Key],
        sink: &mut PlacedSink<'_>,
    ) -> Result<()> {
        self.keys_with(session, "tableoid, ctid, ", keys, sink)
    }

    fn keys_with(
        &self,
        session: &mut Session,
        before: &str,
        keys: &[Key],
        sink: &mut PlacedSink<'_>,
    ) -> Result<()> {
        let columns = self.columns()?;
        let comparable =
            columns[..self.plan.key].iter().all(|column| literal::is_comparable(*column));
        let wanted: HashSet<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let mut matching = |place: Place, key: &[u8], row: &[u8]| match wanted.contains(key) {
            true => sink(place, key, row),
            false => Ok(()),
        };
        if self.plan.is_multiset() {
            let all = self.select("", &[])?;
            let read = |sink: &mut Sink<'_>| self.each(session, &all, sink);
            return sorted(self.plan, &[Range::ALL], read, &mut |key, row| {
                matching(Place::default(), key, row)
            });
        }
        if !comparable {
            let all = self.select(before, &[])?;
            return self.each_placed(session, before, &all, &mut matching);
        }
        session.by_index(|session| {
            for some in keys.chunks(KEYS) {
                let Some(condition) = among(&columns[..self.plan.key], some)? else { continue };
                let select = self.select(before, &[condition])?;
                self.each_placed(session, before, &select, &mut matching)?;
            }
            Ok(())
        })
    }

    /// Whether there may be rows between the first and the last of these keys, both included: where a table is
    /// filled in the order of its keys there are none, and nothing more needs to be asked.
    pub fn may_hold(&self, session: &mut Session, keys: &[Key]) -> Result<bool> {
        let columns = self.columns()?;
        let key = &columns[..self.plan.key];
        let order = self.order()?.filter(|_| key.iter().all(literal::is_total));
        let condition = match order {
            None => None,
            Some(order) => {
                bounded(key, &order, &[(keys.iter().min(), ">="), (keys.iter().max(), "<=")])?
            }
        };
        let condition = condition.unwrap_or("true".into());
        let sql = format!("SELECT 1 FROM {} WHERE {condition} LIMIT 1", self.relation.from());
        session.by_index(|session| Ok(!session.rows(&sql)?.is_empty()))
    }

    /// The rows that the transaction that runs has written.
    pub fn written_now(&self, session: &mut Session, then: &mut Sink<'_>) -> Result<()> {
        let select = self.select("", &["xmin = pg_current_xact_id()::xid".into()])?;
        self.each(session, &select, then)
    }

    /// All rows, with where they are.
    pub fn all_placed(&self, session: &mut Session, then: &mut PlacedSink<'_>) -> Result<()> {
        let before = "tableoid, ctid, ";
        let select = self.select(before, &[])?;
        self.each_placed(session, before, &select, then)
    }

    fn each_placed(
        &self,
        session: &mut Session,
        before: &str,
        select: &str,
        then: &mut PlacedSink<'_>,
    ) -> Result<()> {
        let mut renderer = Renderer::new(self.plan, &self.columns()?);
        session.copy_out(select, &mut |mut fields| {
            let mut place = Place::default();
            if !before.is_empty() {
                let (table, tuple) = (fields.next().unwrap_or(&[]), fields.next().unwrap_or(&[]));
                place = (number(table) as u32, number(tuple));
            }
            let (key, row) = renderer.render(&mut fields)?;
            then(place, key, row)
        })
    }

    /// The rows from a version on, in the order of versions.
    pub fn since(
        &self,
        session: &mut Session,
        version: Option<&[u8]>,
        strict: bool,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let (name, by) = self.version()?;
        let bound = version.map(canon::decode_key).transpose()?.and_then(|mut values| values.pop());
        // A value that PostgreSQL does not know bounds nothing.
        let condition = match bound.and_then(|value| literal::of(by.1, &value)) {
            None => format!("{name} IS NOT NULL"),
            Some(literal) => format!("{name} >= {literal}"),
        };
        let select = format!("{} ORDER BY {name}", self.select("", &[condition])?);
        self.each(session, &select, &mut |key, row| match self
            .plan
            .has_reached(row, version, strict)?
        {
            true => sink(key, row),
            false => Ok(()),
        })
    }

    /// The highest version.
    pub fn newest(&self, session: &mut Session) -> Result<Option<Key>> {
        let (name, _) = self.version()?;
        let plan = self.plan.only_versions();
        let reading = Reading { plan: &plan, ..*self };
        let there = reading.select("", &[format!("{name} IS NOT NULL")])?;
        version::highest(&plan, |most, sink| {
            let most = most.map_or(String::new(), |most| format!(" LIMIT {most}"));
            reading.each(session, &format!("{there} ORDER BY {name} DESC{most}"), sink)
        })
    }

    /// The version as it is ordered by, and its column.
    fn version(&self) -> Result<(String, Planned<'a>)> {
        let place = self.plan.version.expect("the plan has a version");
        let column = self.columns()?[place];
        let name = quoted(&column.0.name);
        let by = match literal::ordered(column, &name) {
            None if literal::is_comparable(column) || literal::keeps_order(column) => Some(name),
            by => by,
        };
        by.map(|by| (by, column)).ok_or_else(|| self.unusable())
    }

    fn unusable(&self) -> Error {
        let column = &self.plan.columns[self.plan.version.expect("the plan has a version")];
        let what = format!(
            "{}.{} is {} here and compared as {}: its values have no order as versions",
            self.plan.table, column.name, column.declared, column.agreed
        );
        Error::invalid("VERSION_UNUSABLE", what)
            .hint("name a column that is a number or a timestamp on both sides, or none")
    }
}

/// The number that an oid, or a place in a table, is.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A place as `tid` is written.
pub(super) fn tid(place: Place) -> String {
    format!("({},{})", place.1 >> 16, place.1 & 0xffff)
}

fn out_of_order(plan: &Plan) -> Error {
    Error::retry(
        OUT_OF_ORDER,
        format!("{}'s keys do not come in the order of their values", plan.table),
    )
}

/// What is asked of the keys of a range; none if nothing is.
fn condition(key: &[Planned<'_>], order: &[String], range: &Range) -> Result<Option<String>> {
    bounded(key, order, &[(range.after.as_ref(), ">"), (range.upto.as_ref(), "<=")])
}

/// What is asked of keys in any of the ranges; none if nothing is.
fn any_of(key: &[Planned<'_>], order: &[String], ranges: &[Range]) -> Result<Option<String>> {
    let mut any = Vec::new();
    for range in ranges {
        match condition(key, order, range)? {
            Some(condition) => any.push(condition),
            None => return Ok(None),
        }
    }
    Ok(Some(format!("({})", any.join(" OR "))))
}

/// The same where no index finds the rows: the ranges are halved again and again, so that each row is compared with
/// few of their ends, and not with all.
fn halved(key: &[Planned<'_>], order: &[String], ranges: &[Range]) -> Result<Option<String>> {
    if let [range] = ranges {
        return condition(key, order, range);
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let end = lower.last().and_then(|range| range.upto.as_ref());
    let is_lower = bounded(key, order, &[(end, "<=")])?;
    let [lower, upper] = [halved(key, order, lower)?, halved(key, order, upper)?]
        .map(|condition| condition.unwrap_or("true".into()));
    Ok(Some(match is_lower {
        Some(is_lower) => format!("CASE WHEN {is_lower} THEN {lower} ELSE {upper} END"),
        None => format!("({lower} OR {upper})"),
    }))
}

fn bounded(
    key: &[Planned<'_>],
    order: &[String],
    by: &[(Option<&Key>, &str)],
) -> Result<Option<String>> {
    let mut bounds = Vec::new();
    for (bound, operator) in by {
        let Some(bound) = bound else { continue };
        let values = canon::decode_key(bound)?;
        let literals = key.iter().zip(&values).map(|((_, held), value)| literal::of(held, value));
        if let Some(literals) = literals.collect::<Option<Vec<_>>>() {
            let (order, literals) = (order.join(", "), literals.join(", "));
            bounds.push(format!("ROW({order}) {operator} ROW({literals})"));
        }
    }
    Ok((!bounds.is_empty()).then(|| format!("({})", bounds.join(" AND "))))
}

/// That the key is one of these; none if the table can hold none of them.
fn among(key: &[Planned<'_>], keys: &[Key]) -> Result<Option<String>> {
    let mut texts: Vec<Vec<String>> = vec![Vec::new(); key.len()];
    for wanted in keys {
        let values: Vec<Value> = canon::decode_key(wanted)?;
        let held = key.iter().zip(&values);
        let held = held.map(|((_, held), value)| literal::text(held.base, value));
        if let Some(held) = held.collect::<Option<Vec<_>>>() {
            texts.iter_mut().zip(held).for_each(|(column, text)| column.push(text));
        }
    }
    if texts.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    let arrays = key.iter().zip(&texts).map(|((_, held), texts)| {
        let array = quote_array(texts.iter().map(String::as_str));
        format!("{array}::{}[]", held.base.literal())
    });
    let arrays: Vec<String> = arrays.collect();
    // Enumerations and others are compared as what they are read as.
    let names = key.iter().map(|(column, held)| match is_text(held.base) {
        true => format!("{}::text", quoted(&column.name)),
        false => quoted(&column.name),
    });
    let names: Vec<String> = names.collect();
    Ok(Some(match &names[..] {
        [name] => format!("{name} = ANY({})", arrays[0]),
        _ => format!("({}) IN (SELECT * FROM unnest({}) _k)", names.join(", "), arrays.join(", ")),
    }))
}
