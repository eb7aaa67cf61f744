//! The suite that every endpoint must pass: a new one is done when it is green.
//!
//! ```text
//!   Table ──▶ World::create ──▶ the endpoint under test ◀── read, digest, since  compared with  Twin
//!                                  ▲          ▲                                    a map of keys to rows
//!   World::another (a second handle)          World::marks (what was rewritten), World::picture (all there is)
//! ```
//!
//! An implementation gives a [`World`], a new and empty database, and calls [`suite`] with a function that makes
//! one. What is put is canonical, as `sync` puts it. Values that some engine cannot keep (NaN, a NUL in a text)
//! may be refused as a row's fault; they may not be kept as something else.

pub(crate) mod applying;
pub(crate) mod digesting;
pub(crate) mod reading;
mod shapes;
pub(crate) mod versions;
mod worlds;

use std::collections::BTreeMap;

use super::sqlite::Access;
use super::{Applied, Batch, Endpoint, Key, Plan, PlannedColumn, Range, Row, Table, canon};
use crate::change::Value;
use crate::error::{Kind, Result};

/// A database of its own for one case.
pub(crate) trait World {
    /// A handle that may write.
    fn endpoint(&mut self) -> &mut dyn Endpoint;

    /// A second handle on the same database; none where there can be only one.
    fn another(&mut self, access: Access) -> Option<Box<dyn Endpoint>>;

    /// Makes a table as `--create` does.
    fn create(&mut self, table: &Table) {
        let statements = self.endpoint().create_statements(std::slice::from_ref(table)).unwrap();
        self.endpoint().create(&statements).unwrap_or_else(|e| panic!("{e}: {statements:?}"));
    }

    /// For each row of a table whose key is one integer: the key, and a mark that changes whenever the row is
    /// written, be it with what it holds already. None where nothing can tell.
    fn marks(&mut self, table: &str) -> Option<BTreeMap<i64, String>>;

    /// All that a reader could leave behind: the file's bytes, or the names of everything that was made.
    fn picture(&mut self) -> Option<Vec<u8>>;
}

/// One test for each case: `suite!(make)`, where `make()` gives a new world, or none where its server is not
/// installed.
macro_rules! suite {
    ($make:expr) => {
        $crate::endpoint::conformance::cases! { $make;
            reading: rows_come_in_the_order_of_their_keys, hard_keys_come_back_or_are_refused,
                ranges_are_half_open, several_ranges_are_read_in_one_go, tables_of_no_row_and_of_one,
                values_come_back, hard_values_come_back_or_are_refused, rows_are_found_by_their_keys,
                rows_are_found_however_their_keys_are_spelled,
                the_nth_key_is_found, filters_hold, a_snapshot_shows_no_later_writes, readers_leave_nothing_behind,
                duplicates_are_numbered, keys_that_become_one_are_refused,
                tables_are_described_as_they_were_made, related_tables_are_made_together;
            digesting: digests_are_recounts_at_every_level, folding_is_rescanning,
                ranges_of_unknown_ends_are_digested, duplicates_are_digested,
                narrowing_finds_exactly_what_differs;
            applying: what_was_done_is_counted, equal_rows_are_not_rewritten, all_or_nothing,
                unique_values_change_places, a_unique_value_passes_from_a_deleted_row,
                absent_keys_are_deleted_without_ado, other_columns_keep_their_values,
                hidden_rows_are_overwritten, state_goes_with_its_rows, state_is_found_by_its_prefix,
                duplicates_come_and_go, the_last_duplicates_go_first, random_batches_end_as_asked;
            versions: rows_since_a_version, newest_versions, moments_are_versions_too,
                a_read_that_is_broken_off_leaves_the_next_one_alone;
        }
    };
}

/// The tests of the cases that are named.
macro_rules! cases {
    ($make:expr; $($part:ident: $($case:ident),+);+ $(;)?) => {$(
        mod $part {
            #[allow(unused_imports)]
            use super::*;
            $(#[test]
            fn $case() {
                let Some(mut world) = $make() else { return };
                $crate::endpoint::conformance::$part::$case(&mut world);
            })+
        }
    )+};
}

pub(crate) use {cases, suite};

/// What the database must hold: rows by key, in plain memory.
type Twin = BTreeMap<Key, Row>;

/// The plan for a table as the endpoint describes it, each column compared as what it was made for.
fn plan(endpoint: &mut dyn Endpoint, table: &Table) -> Plan {
    let described = endpoint.tables().unwrap();
    let here = described.iter().find(|t| t.name == table.name).expect("the table was made");
    let mut columns: Vec<_> = table.columns.iter().collect();
    let place = |name: &str| table.key.iter().position(|k| k == name).unwrap_or(usize::MAX);
    columns.sort_by_key(|column| place(&column.name));
    let columns = columns.into_iter().map(|column| PlannedColumn {
        name: column.name.clone(),
        declared: here.column(&column.name).expect("it has the column").declared.clone(),
        agreed: column.kind,
    });
    Plan {
        table: table.name.clone(),
        columns: columns.collect(),
        key: table.key.len(),
        version: None,
        filter: None,
    }
}

/// A row of values as it is put.
fn canonical(plan: &Plan, values: &[Value]) -> (Key, Row) {
    let mut row = Row::new();
    values.iter().for_each(|value| canon::put_value(&mut row, value.as_ref()));
    (canon::encode_key(values[..plan.key].iter().map(Value::as_ref)), row)
}

/// Rows without a key, numbered as they must come.
fn numbered(plan: &Plan, rows: &[Vec<Value>]) -> Vec<(Key, Row)> {
    let mut twin = Twin::new();
    for values in rows {
        let row = canonical(plan, values).1;
        let nth = twin.values().filter(|other| **other == row).count() as u32;
        twin.insert(canon::multiset_key(plan.hash(&row), nth), row);
    }
    twin.into_iter().collect()
}

fn puts(plan: &Plan, rows: &[Vec<Value>]) -> Vec<(Key, Row)> {
    rows.iter().map(|values| canonical(plan, values)).collect()
}

fn apply(
    endpoint: &mut dyn Endpoint,
    plan: &Plan,
    puts: &[(Key, Row)],
    deletes: &[Key],
) -> Result<Applied> {
    endpoint.apply(&Batch { plan, puts, deletes, state: &[] })
}

/// Makes a table with these rows; its plan, and what it must hold.
fn filled(world: &mut dyn World, table: &Table, rows: &[Vec<Value>]) -> (Plan, Twin) {
    world.create(table);
    let plan = plan(world.endpoint(), table);
    let rows = match plan.is_multiset() {
        true => numbered(&plan, rows),
        false => puts(&plan, rows),
    };
    apply(world.endpoint(), &plan, &rows, &[]).unwrap();
    (plan, rows.into_iter().collect())
}

fn read(endpoint: &mut dyn Endpoint, plan: &Plan, ranges: &[Range]) -> Vec<(Key, Row)> {
    let mut read = Vec::new();
    endpoint
        .read(plan, ranges, &mut |key, row| {
            read.push((key.to_vec(), row.to_vec()));
            Ok(())
        })
        .unwrap();
    read
}

/// All rows, tried again where keys turned out not to come in order.
fn contents(endpoint: &mut dyn Endpoint, plan: &Plan) -> Twin {
    read(endpoint, plan, &[Range::ALL]).into_iter().collect()
}

/// Puts rows one by one; those that the engine cannot keep are refused as the row's fault.
fn put_or_refuse(world: &mut dyn World, plan: &Plan, rows: &[Vec<Value>]) -> Twin {
    let mut kept = Twin::new();
    for values in rows {
        let row = canonical(plan, values);
        match apply(world.endpoint(), plan, std::slice::from_ref(&row), &[]) {
            Ok(_) => drop(kept.insert(row.0, row.1)),
            Err(error) => assert_eq!(error.kind(), Kind::Invalid, "{values:?}: {error}"),
        }
    }
    kept
}

/// Numbers that look random, the same ones in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}
