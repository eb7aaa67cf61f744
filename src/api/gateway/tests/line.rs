//! What goes over the line: how much of it, and what becomes of a bad one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;

use super::proxy::{Harm, Proxy};
use super::{Served, customers, open, plan_of};
use crate::change::Value;
use crate::endpoint::chunk;
use crate::endpoint::sqlite::{Access, SqliteEndpoint};
use crate::endpoint::{Chunk, Endpoint, Key, Plan, Range};
use crate::error::Result;

/// From the whole table down to rows, eight parts of each that differs.
const STEPS: [u32; 7] = [17, 14, 11, 8, 5, 2, 0];

/// Both sides at once, as `diff` asks them.
fn both(
    a: &mut dyn Endpoint,
    b: &mut dyn Endpoint,
    plan: &Plan,
    ranges: &[Range],
    bits: u32,
) -> [Vec<Vec<Chunk>>; 2] {
    std::thread::scope(|scope| {
        let of_a = scope.spawn(|| a.digest(plan, ranges, bits).unwrap());
        let of_b = b.digest(plan, ranges, bits).unwrap();
        [of_a.join().unwrap(), of_b]
    })
}

/// The keys of the rows that differ.
fn narrowed(a: &mut dyn Endpoint, b: &mut dyn Endpoint, plan: &Plan) -> Vec<Key> {
    let mut ranges = vec![Range::ALL];
    let mut keys = Vec::new();
    for bits in STEPS {
        let [of_a, of_b] = both(a, b, plan, &ranges, bits);
        if bits == 0 {
            let rows = of_a.iter().zip(&of_b).flat_map(|(a, b)| chunk::differing_rows(a, b));
            keys = rows.map(|(key, _)| key).collect();
            break;
        }
        let parts = ranges.iter().zip(of_a.iter().zip(&of_b));
        let parts = parts.flat_map(|(range, (a, b))| chunk::differing(range, a, b));
        ranges = parts.map(|part| part.range).collect();
    }
    keys
}

#[test]
fn a_million_rows_are_compared_over_a_thin_line() {
    let directory = tempfile::tempdir().unwrap();
    let here = customers(directory.path(), "here.db", 1_000_000);
    let there = directory.path().join("there.db");
    std::fs::copy(&here, &there).unwrap();
    let served = Served::file(&there);
    let mut a = SqliteEndpoint::open(&here, Access::Read).unwrap();

    let proxy = Proxy::before(served.address);
    let mut b = open(&proxy.url(), Access::Read).unwrap();
    let plan = plan_of(&mut b);
    let whole = |a: &mut dyn Endpoint, b: &mut dyn Endpoint| {
        a.begin().unwrap();
        b.begin().unwrap();
        let [of_a, of_b] = both(a, b, &plan, &[Range::ALL], 64);
        of_a == of_b
    };
    assert!(whole(&mut a, &mut b));
    drop(b);
    let equal = proxy.bytes();
    println!("equal: {equal} bytes");
    assert!(equal < 4_000, "{equal} bytes to find out that all is equal");

    change(&there);
    let proxy = Proxy::before(served.address);
    let mut b = open(&proxy.url(), Access::Read).unwrap();
    b.tables().unwrap();
    assert!(!whole(&mut a, &mut b));
    let keys = narrowed(&mut a, &mut b, &plan);
    let found: BTreeSet<i64> = keys.iter().map(|key| id(key)).collect();
    assert_eq!(found, changed().collect());
    let mut rows = 0;
    b.rows(&plan, &keys, &mut |_, _| {
        rows += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(rows, 90, "ten of them are gone there");
    b.end().unwrap();
    let traffic = b.traffic();
    assert_eq!(traffic.bytes, proxy.bytes(), "what is told is what went through the socket");
    println!("100 differences: {} bytes in {} round trips", traffic.bytes, traffic.round_trips);
    assert!(traffic.bytes < 128_000, "{traffic:?}");
}

fn changed() -> impl Iterator<Item = i64> {
    (0..100).map(|i| i * 9_973 + 17)
}

/// 90 rows get another city, 10 are deleted.
fn change(file: &std::path::Path) {
    let file = Connection::open(file).unwrap();
    for (i, id) in changed().enumerate() {
        let sql = match i % 10 {
            0 => "DELETE FROM customers WHERE id = ?",
            _ => "UPDATE customers SET city = 'elsewhere' WHERE id = ?",
        };
        assert_eq!(file.execute(sql, [id]).unwrap(), 1);
    }
}

fn id(key: &[u8]) -> i64 {
    match crate::endpoint::canon::decode_key(key).unwrap()[..] {
        [Value::Integer(id)] => id,
        _ => panic!("no id"),
    }
}

/// All that diff asks: the tables, digests, rows.
fn asked(url: &str) -> Result<(Vec<Vec<Chunk>>, Vec<Key>, u64)> {
    let mut endpoint = open(url, Access::Read)?;
    let table = endpoint.tables()?.remove(0);
    let engine = endpoint.engine();
    let sides = ((engine, &table), (engine, &table));
    let plan = crate::endpoint::agree::agree(sides.0, sides.1, &Default::default())?.a;
    endpoint.begin()?;
    let digest = endpoint.digest(&plan, &[Range::ALL], 3)?;
    let mut keys = Vec::new();
    endpoint.read(&plan, &[Range::ALL], &mut |key, _| {
        keys.push(key.to_vec());
        Ok(())
    })?;
    endpoint.end()?;
    let bytes = endpoint.traffic().bytes;
    Ok((digest, keys, bytes))
}

/// Every byte of a short talk is changed once, and the line is cut at each: there is an error, or the answer that
/// there is without harm. Some bytes may be other ones, as those of the date.
#[test]
fn a_bad_line_is_an_error_and_never_a_wrong_answer() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::file(&customers(directory.path(), "a.db", 40));
    let (digest, keys, bytes) = asked(&served.url()).unwrap();
    let errors = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (served, errors, digest, keys) = (&served, &errors, &digest, &keys);
            scope.spawn(move || {
                let proxy = Proxy::before(served.address);
                for place in (worker..bytes).step_by(8) {
                    for (there, back) in harms(place) {
                        proxy.harm(there, back);
                        match asked(&proxy.url()) {
                            Err(_) => {
                                errors.fetch_add(1, Ordering::SeqCst);
                            }
                            Ok(got) => assert_eq!((&got.0, &got.1), (digest, keys), "{place}"),
                        }
                    }
                }
            });
        }
    });
    // Half of all bytes go one way; of these all but few matter.
    let errors = errors.into_inner() as u64;
    assert!(errors > bytes, "only {errors} errors for {bytes} bytes");
}

fn harms(place: u64) -> [(Harm, Harm); 3] {
    [
        (Harm::None, Harm::Turn(place)),
        (Harm::None, Harm::Cut(place)),
        (Harm::Turn(place), Harm::None),
    ]
}
