//! Digests: kept up to date step by step, and recounted by a twin that shares no arithmetic.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use super::values::row;
use crate::change::{DatabaseDigest, Digest, Fingerprint, RowHasher, TableDigest, Value, ValueRef};

fn hash(hasher: &mut RowHasher, rowid: Option<i64>, row: &[Value]) -> Digest {
    hasher.start(rowid);
    row.iter().for_each(|value| hasher.push(value.as_ref()));
    hasher.finish()
}

/// A row's hash as the format is drawn, value by value.
fn row_twin(rowid: Option<i64>, row: &[Value]) -> u128 {
    let end = row.iter().rposition(|value| *value != Value::Null).map_or(0, |last| last + 1);
    let key = rowid.map(Value::Integer);
    let bytes = |value: &Value| match value {
        Value::Null => vec![0],
        Value::Integer(i) => [&[1][..], &i.to_be_bytes()].concat(),
        Value::Real(r) if *r == 0.0 => vec![2, 0, 0, 0, 0, 0, 0, 0, 0],
        Value::Real(r) if r.is_nan() => vec![2, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
        Value::Real(r) => [&[2][..], &r.to_be_bytes()].concat(),
        Value::Text(t) => [&[3][..], &(t.len() as u64).to_be_bytes(), t.as_bytes()].concat(),
        Value::Blob(b) => [&[4][..], &(b.len() as u64).to_be_bytes(), b].concat(),
    };
    xxh3_128(&key.iter().chain(&row[..end]).flat_map(bytes).collect::<Vec<u8>>())
}

proptest! {
    #[test]
    fn row_hash_equals_its_twin(rows in vec((any::<Option<i64>>(), row()), 1..8)) {
        let mut kept = RowHasher::default();
        for (rowid, row) in rows {
            let hashed = hash(&mut kept, rowid, &row);
            prop_assert_eq!(hashed.0, row_twin(rowid, &row));
            prop_assert_eq!(hashed, hash(&mut RowHasher::default(), rowid, &row));
        }
    }

    #[test]
    fn row_hashes_are_equal_only_for_equal_rows(a in row(), b in row()) {
        let mut hasher = RowHasher::default();
        let significant = |row: &[Value]| {
            let trailing = row.iter().rev().take_while(|value| **value == Value::Null).count();
            row[..row.len() - trailing].to_vec()
        };
        let equal_hashes = hash(&mut hasher, None, &a) == hash(&mut hasher, None, &b);
        prop_assert_eq!(equal_hashes, significant(&a) == significant(&b));
    }
}

#[test]
fn row_hash_sees_classes_borders_and_the_rowid() {
    use ValueRef::*;
    let mut hasher = RowHasher::default();
    let mut hash = |rowid, row: &[ValueRef<'_>]| {
        hasher.start(rowid);
        row.iter().for_each(|value| hasher.push(*value));
        hasher.finish()
    };
    assert_ne!(hash(None, &[Integer(1)]), hash(None, &[Real(1.0)]));
    assert_ne!(hash(None, &[Text("a")]), hash(None, &[Blob(b"a")]));
    assert_ne!(hash(None, &[Text("ab"), Text("c")]), hash(None, &[Text("a"), Text("bc")]));
    assert_ne!(hash(None, &[Null, Integer(1)]), hash(None, &[Integer(1), Null]));
    assert_ne!(hash(Some(1), &[]), hash(Some(2), &[]));
    assert_ne!(hash(Some(1), &[]), hash(None, &[]));
    assert_eq!(hash(Some(1), &[Integer(5), Null, Null]), hash(Some(1), &[Integer(5)]));
    assert_eq!(hash(None, &[Real(-0.0)]), hash(None, &[Real(0.0)]));
}

/// A hasher that met one huge row does not hold its memory for ever.
#[test]
fn row_hasher_gives_a_huge_buffer_back() {
    let mut hasher = RowHasher::default();
    let huge = vec![Value::Blob(vec![7; 8 << 20])];
    let first = hash(&mut hasher, None, &huge);
    hash(&mut hasher, None, &[Value::Null]);
    assert!(hasher.capacity() < 2 << 20, "{}", hasher.capacity());
    assert_eq!(hash(&mut hasher, None, &huge), first);
}

/// The fault this is for: summed by XOR, a row that is there three times looks like a row that is
/// there once, and one that is there twice like one that is not there.
#[test]
fn digest_equal_rows_do_not_cancel() {
    let row = hash(&mut RowHasher::default(), None, &[Value::Text("twice".into())]);
    let none = Digest::default();
    let mut table = none;
    let mut seen = vec![none];
    for times in 1..=4 {
        table += row;
        assert!(!seen.contains(&table), "{times} equal rows look like fewer");
        seen.push(table);
    }
    while let Some(before) = seen.pop() {
        assert_eq!(table, before);
        table -= row;
    }
    assert_eq!(table + row, none, "a difference is undone by its sum");
}

/// What can be done to a database; rows and tables are chosen modulo what is there.
#[derive(Debug, Clone)]
enum Step {
    /// CREATE TABLE, or one of the same name with other columns.
    Set(u8, u128),
    Drop(u8),
    Rename(u8, u8),
    Insert(u8, Vec<Value>),
    Delete(u8, usize),
    Update(u8, usize, Vec<Value>),
}

fn step() -> impl Strategy<Value = Step> {
    // Few tables and few different rows, so that equal ones meet.
    let table = || 0..4u8;
    let row = || vec((0..2i64).prop_map(Value::Integer), 0..2);
    prop_oneof![
        2 => (table(), any::<u128>()).prop_map(|(t, print)| Step::Set(t, print)),
        1 => table().prop_map(Step::Drop),
        1 => (table(), table()).prop_map(|(from, to)| Step::Rename(from, to)),
        8 => (table(), row()).prop_map(|(t, row)| Step::Insert(t, row)),
        4 => (table(), any::<usize>()).prop_map(|(t, i)| Step::Delete(t, i)),
        4 => (table(), any::<usize>(), row()).prop_map(|(t, i, row)| Step::Update(t, i, row)),
    ]
}

/// The dumb database: every row of every table.
type Twin = BTreeMap<String, (u128, Rows)>;

type Rows = Vec<Vec<Value>>;

fn name(table: u8) -> String {
    format!("table {table}")
}

/// Takes `step` to the twin; returns the rows that went and came, or none if it cannot be done.
fn apply(twin: &mut Twin, step: &Step) -> Option<(Rows, Rows)> {
    let rows = |twin: &mut Twin, t: &u8| twin.get_mut(&name(*t)).map(|table| table.1.clone());
    match step {
        Step::Set(t, print) => {
            twin.insert(name(*t), (*print, Vec::new()));
        }
        Step::Drop(t) => {
            twin.remove(&name(*t))?;
        }
        Step::Rename(from, to) => {
            let table = twin.remove(&name(*from))?;
            twin.insert(name(*to), table);
        }
        Step::Insert(t, row) => {
            twin.get_mut(&name(*t))?.1.push(row.clone());
            return Some((vec![], vec![row.clone()]));
        }
        Step::Delete(t, i) => {
            let i = i.checked_rem(rows(twin, t)?.len())?;
            return Some((vec![twin.get_mut(&name(*t))?.1.swap_remove(i)], vec![]));
        }
        Step::Update(t, i, row) => {
            let i = i.checked_rem(rows(twin, t)?.len())?;
            let old = std::mem::replace(&mut twin.get_mut(&name(*t))?.1[i], row.clone());
            return Some((vec![old], vec![row.clone()]));
        }
    }
    Some((vec![], vec![]))
}

/// Takes the same step to the digest, from what it changed alone.
fn keep_up(digest: &mut DatabaseDigest, step: &Step, gone: &[Vec<Value>], came: &[Vec<Value>]) {
    let mut hasher = RowHasher::default();
    match step {
        Step::Set(t, print) => digest.set(&name(*t), TableDigest::empty(Fingerprint(*print))),
        Step::Drop(t) => assert!(digest.remove(&name(*t)).is_some()),
        Step::Rename(from, to) => {
            let table = digest.remove(&name(*from)).unwrap();
            digest.set(&name(*to), table);
        }
        Step::Insert(t, _) | Step::Delete(t, _) | Step::Update(t, ..) => {
            let mut table = *digest.get(&name(*t)).unwrap();
            for row in gone {
                table.digest -= hash(&mut hasher, None, row);
            }
            for row in came {
                table.digest += hash(&mut hasher, None, row);
            }
            table.rows = table.rows + came.len() as u64 - gone.len() as u64;
            digest.set(&name(*t), table);
        }
    }
}

/// Every row of every table, summed with plain integers.
fn recount(twin: &Twin) -> (u128, Vec<(String, u64, u128)>) {
    let mut total = 0u128;
    let mut tables = Vec::new();
    for (name, (print, rows)) in twin {
        let sum = rows.iter().fold(0u128, |sum, row| sum.wrapping_add(row_twin(None, row)));
        let mut term = vec![3];
        term.extend((name.len() as u64).to_be_bytes());
        term.extend(name.bytes());
        term.extend(print.to_be_bytes());
        term.extend(sum.to_be_bytes());
        total = total.wrapping_add(xxh3_128(&term));
        tables.push((name.clone(), rows.len() as u64, sum));
    }
    (total, tables)
}

proptest! {
    #[test]
    fn database_digest_equals_a_recount(steps in vec(step(), 0..40)) {
        let mut twin = Twin::new();
        let mut digest = DatabaseDigest::default();
        for step in steps {
            if let Some((gone, came)) = apply(&mut twin, &step) {
                keep_up(&mut digest, &step, &gone, &came);
            }
            let (total, tables) = recount(&twin);
            prop_assert_eq!(digest.total().0, total, "after {:?}", step);
            let kept: Vec<_> = digest
                .tables()
                .map(|(name, table)| (name.to_owned(), table.rows, table.digest.0))
                .collect();
            prop_assert_eq!(kept, tables);
        }
        let again = digest.tables().map(|(name, table)| (name.to_owned(), *table)).collect();
        prop_assert_eq!(digest, again);
    }

    #[test]
    fn digest_arithmetic_is_modulo_2_to_the_128((a, b) in any::<(u128, u128)>()) {
        prop_assert_eq!((Digest(a) + Digest(b)).0, a.wrapping_add(b));
        prop_assert_eq!(Digest(a) + Digest(b) - Digest(b), Digest(a));
        prop_assert_eq!(Digest::from_bytes(Digest(a).to_bytes()), Digest(a));
        prop_assert_eq!(u128::from_str_radix(&Digest(a).to_string(), 16).unwrap(), a);
    }
}

#[test]
fn table_term_sees_name_fingerprint_and_rows() {
    let table = TableDigest { fingerprint: Fingerprint(1), rows: 2, digest: Digest(3) };
    let others = [
        table.term("u"),
        TableDigest { fingerprint: Fingerprint(2), ..table }.term("t"),
        TableDigest { digest: Digest(4), ..table }.term("t"),
    ];
    assert!(!others.contains(&table.term("t")));
}
