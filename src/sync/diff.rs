//! The comparison of two databases, as a report.
//!
//! Two snapshots are never of the same moment. What differed is looked at again, a little later, by key: a row that
//! is equal by now, or that B has as A had it a moment ago, was on its way and is not reported.
//!
//! Left out: waiting for a copy that lags by more than the looks take ([`DiffOptions::looks`]).

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crate::change::{Digest, Value};
use crate::endpoint::chunk::Difference;
use crate::endpoint::{Engine, Key, Range, Row, Table, canon};
use crate::error::Result;

use super::compare::{Ends, Found, Totals, both, compare};
use super::event::{Event, Events};
use super::held::show_key;
use super::options::DiffOptions;
use super::pair::{Pair, Pairs};

/// So many differing rows of a table are looked at again; of more, it is said.
const LOOKED_AT: usize = 50_000;
/// So many of them at a time.
const GROUP: usize = 500;

/// What a comparison found.
#[derive(Debug, Clone, Default)]
pub struct DiffReport {
    /// Tables of both.
    pub tables: Vec<TableDiff>,
    /// Tables that only A has.
    pub only_a: Vec<String>,
    /// Tables that only B has.
    pub only_b: Vec<String>,
}

impl DiffReport {
    /// Whether nothing differs.
    pub fn equal(&self) -> bool {
        self.only_a.is_empty() && self.only_b.is_empty() && self.tables.iter().all(TableDiff::equal)
    }
}

/// What the comparison of one table found.
#[derive(Debug, Clone)]
pub struct TableDiff {
    /// Its name.
    pub table: String,
    /// Rows and digests of both sides at the first look.
    pub totals: Totals,
    /// Rows that B lacks.
    pub only_in_a: u64,
    /// Rows that A lacks.
    pub only_in_b: u64,
    /// Rows that differ.
    pub changed: u64,
    /// Rows that differed at the first look, and were on their way.
    pub in_flight: u64,
    /// So many were too many to be looked at again; they are counted as they were at the first look.
    pub not_looked_at_again: u64,
    /// Some of the rows that differ, by key.
    pub rows: Vec<RowDifference>,
    /// Columns that only A has.
    pub columns_only_a: Vec<String>,
    /// Columns that only B has.
    pub columns_only_b: Vec<String>,
    /// What each column was compared as.
    pub agreed: Vec<(String, String)>,
    /// Rows have no key: they were compared as a multiset.
    pub multiset: bool,
}

impl TableDiff {
    /// Whether nothing differs.
    pub fn equal(&self) -> bool {
        self.differing() == 0 && self.columns_only_a.is_empty() && self.columns_only_b.is_empty()
    }

    /// How many rows differ.
    pub fn differing(&self) -> u64 {
        self.only_in_a + self.only_in_b + self.changed
    }
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct RowDifference {
    /// Its key, by column.
    pub key: Vec<(String, Value)>,
    /// How.
    pub difference: Difference,
    /// Which columns, if both sides have it; all of them with A's and B's value.
    pub columns: Vec<(String, Value, Value)>,
}

/// Compares two databases.
pub fn diff(
    ends: &mut Ends<'_>,
    options: &DiffOptions,
    events: &mut Events<'_>,
) -> Result<DiffReport> {
    let pairs = options.selection.pair(ends.0, ends.1)?;
    estimate(ends, &pairs, events);
    both(ends, |end, _| end.begin())?;
    let report = diff_pairs(ends, &pairs, options, events);
    let ended = both(ends, |end, _| end.end());
    let report = report?;
    ended?;
    Ok(report)
}

/// Tells how much there is to compare, and how much of it a line must carry.
pub(super) fn estimate(ends: &Ends<'_>, pairs: &Pairs, events: &mut Events<'_>) {
    events(size(pairs));
    for (side, end) in [("A", &*ends.0), ("B", &*ends.1)] {
        let near =
            ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| end.address().contains(host));
        if end.engine() != Engine::Sqlite && end.sends_every_row() && !near {
            events(Event::Note(&format!(
                "{side} sends every row over the line to be compared; `syncline gateway` beside it sends digests"
            )));
        }
    }
}

fn size(pairs: &Pairs) -> Event<'static> {
    let rows = |pair: &Pair| pair.a.rows.unwrap_or(0).max(pair.b.rows.unwrap_or(0));
    let bytes = |pair: &Pair| pair.a.bytes.max(pair.b.bytes);
    let known = pairs.pairs.iter().any(|pair| bytes(pair).is_some());
    Event::Estimate {
        tables: pairs.pairs.len(),
        rows: pairs.pairs.iter().map(rows).sum(),
        bytes: known.then(|| pairs.pairs.iter().filter_map(bytes).sum()),
    }
}

fn diff_pairs(
    ends: &mut Ends<'_>,
    pairs: &Pairs,
    options: &DiffOptions,
    events: &mut Events<'_>,
) -> Result<DiffReport> {
    let (mut first, mut began) = (Vec::new(), Instant::now());
    for pair in &pairs.pairs {
        events(Event::Comparing { table: pair.name() });
        let look = first_look(ends, pair)?;
        events(Event::Compared { table: pair.name(), differing: look.counts.values().sum() });
        first.push(look);
    }
    for pause in std::iter::once(None).chain(options.looks.iter().map(Some)) {
        if first.iter().all(|look| look.keys.is_empty()) {
            break;
        }
        if let Some(pause) = pause {
            std::thread::sleep(pause.saturating_sub(began.elapsed()));
            began = Instant::now();
            both(ends, |end, _| end.begin())?;
        }
        for (pair, look) in pairs.pairs.iter().zip(&mut first) {
            look.again(ends, pair, options)?;
        }
    }
    let looks = pairs.pairs.iter().zip(first);
    let tables = looks.map(|(pair, look)| look.report(pair)).collect();
    let names = |tables: &[Table]| tables.iter().map(|table| table.name.clone()).collect();
    Ok(DiffReport { tables, only_a: names(&pairs.only_a), only_b: names(&pairs.only_b) })
}

/// What differs of one table, as far as is known.
struct Look {
    totals: Totals,
    /// How many rows differ how.
    counts: HashMap<Difference, u64>,
    /// Those that are looked at again.
    keys: BTreeMap<Key, Difference>,
    /// How many that were at first.
    looked_at: u64,
    /// What A had of them at each look.
    seen: HashMap<Key, Vec<Option<Digest>>>,
    described: Vec<RowDifference>,
}

fn first_look(ends: &mut Ends<'_>, pair: &Pair) -> Result<Look> {
    let (mut counts, mut keys) = (HashMap::new(), BTreeMap::new());
    let mut ranges = Vec::new();
    let totals = compare(ends, pair, &Range::ALL, &mut |found| {
        match found {
            Found::OnlyInA(range, rows) => {
                *counts.entry(Difference::OnlyInA).or_default() += rows;
                ranges.push((range, rows));
            }
            Found::Rows(rows) => {
                for (key, difference) in rows {
                    *counts.entry(difference).or_default() += 1;
                    if keys.len() < LOOKED_AT {
                        keys.insert(key, difference);
                    }
                }
            }
        }
        Ok(())
    })?;
    for (range, rows) in ranges {
        if keys.len() as u64 + rows <= LOOKED_AT as u64 {
            ends.0.read(pair.plan(0), &[range], &mut |key, _| {
                keys.insert(key.to_vec(), Difference::OnlyInA);
                Ok(())
            })?;
        }
    }
    let (looked_at, seen, described) = (keys.len() as u64, HashMap::new(), Vec::new());
    Ok(Look { totals, counts, keys, looked_at, seen, described })
}

/// Rows of one side by key.
type Rows = HashMap<Key, Row>;

fn rows_of(ends: &mut Ends<'_>, pair: &Pair, keys: &[Key]) -> Result<(Rows, Rows)> {
    both(ends, |end, side| {
        let mut rows = Rows::new();
        end.rows(pair.plan(side), keys, &mut |key, row| {
            rows.insert(key.to_vec(), row.to_vec());
            Ok(())
        })?;
        Ok(rows)
    })
}

impl Look {
    /// Looks at the rows again that differed so far.
    fn again(&mut self, ends: &mut Ends<'_>, pair: &Pair, options: &DiffOptions) -> Result<()> {
        self.described.clear();
        let all: Vec<Key> = self.keys.keys().cloned().collect();
        for group in all.chunks(GROUP) {
            let (of_a, of_b) = rows_of(ends, pair, group)?;
            for key in group {
                let (a, b) = (of_a.get(key), of_b.get(key));
                let Some(difference) = self.judge(key, a, b) else { continue };
                if options.rows == 0 || self.described.len() < options.rows {
                    self.described.push(describe(pair, key, difference, a, b)?);
                }
            }
        }
        Ok(())
    }

    /// How a row differs now; none if it does not, or was on its way.
    fn judge(&mut self, key: &Key, a: Option<&Row>, b: Option<&Row>) -> Option<Difference> {
        let before = self.seen.entry(key.clone()).or_default();
        before.push(a.map(|row| canon::hash(row)));
        let on_its_way = before.contains(&b.map(|row| canon::hash(row)));
        let now = difference(a, b).filter(|_| !on_its_way);
        let was = match now {
            Some(now) => self.keys.insert(key.clone(), now),
            None => self.keys.remove(key),
        };
        if let Some(was) = was {
            *self.counts.entry(was).or_default() -= 1;
        }
        if let Some(now) = now {
            *self.counts.entry(now).or_default() += 1;
        }
        now
    }

    fn report(self, pair: &Pair) -> TableDiff {
        let count = |difference| self.counts.get(&difference).copied().unwrap_or(0);
        let (only_in_a, only_in_b) = (count(Difference::OnlyInA), count(Difference::OnlyInB));
        let changed = count(Difference::Changed);
        let left = self.keys.len() as u64;
        let agreement = &pair.agreement;
        let agreed = agreement.a.columns.iter().map(|c| (c.name.clone(), c.agreed.to_string()));
        TableDiff {
            table: pair.name().to_owned(),
            totals: self.totals,
            only_in_a,
            only_in_b,
            changed,
            in_flight: self.looked_at - left,
            not_looked_at_again: only_in_a + only_in_b + changed - left,
            rows: self.described,
            columns_only_a: agreement.only_a.clone(),
            columns_only_b: agreement.only_b.clone(),
            agreed: agreed.collect(),
            multiset: agreement.a.is_multiset(),
        }
    }
}

fn difference(a: Option<&Row>, b: Option<&Row>) -> Option<Difference> {
    match (a, b) {
        (Some(_), None) => Some(Difference::OnlyInA),
        (None, Some(_)) => Some(Difference::OnlyInB),
        (a, b) => (a != b).then_some(Difference::Changed),
    }
}

fn describe(
    pair: &Pair,
    key: &[u8],
    difference: Difference,
    a: Option<&Row>,
    b: Option<&Row>,
) -> Result<RowDifference> {
    let plan = pair.plan(0);
    let values = |row: Option<&Row>| row.map(|row| plan.values(row)).transpose();
    let (of_a, of_b) = (values(a)?, values(b)?);
    let names = plan.columns.iter().map(|column| column.name.clone());
    let key = match of_a.as_ref().or(of_b.as_ref()) {
        // Without a key, the row itself is the best that can be shown.
        Some(values) => {
            let shown = if plan.is_multiset() { values.len() } else { plan.key };
            names.clone().zip(values.iter().cloned()).take(shown).collect()
        }
        None => vec![("key".into(), Value::Text(show_key(key)))],
    };
    let columns = match (of_a, of_b) {
        (Some(a), Some(b)) => {
            let both = names.zip(a.into_iter().zip(b)).filter(|(_, (a, b))| a != b);
            both.map(|(name, (a, b))| (name, a, b)).collect()
        }
        _ => Vec::new(),
    };
    Ok(RowDifference { key, difference, columns })
}
