//! Versions: from one on, with ties, without NULLs.

use super::super::{Endpoint, Plan, Range, Type, canon};
use super::shapes::{self, TEXT, text};
use super::{World, filled};
use crate::change::Value;
use crate::error::Error;

const VERSIONS: [Option<i64>; 9] =
    [Some(5), None, Some(-3), Some(5), Some(900), Some(4), None, Some(900), Some(0)];

/// A table whose rows have these versions, in no order of their keys.
fn versioned(world: &mut dyn World, name: &str, kind: Type, of: impl Fn(i64) -> Value) -> Plan {
    let table = shapes::table(name, 1, &[("id", Type::Integer), ("v", kind), ("t", TEXT)]);
    let rows = VERSIONS.iter().enumerate().map(|(id, version)| {
        vec![Value::Integer(id as i64), version.map_or(Value::Null, &of), text("x")]
    });
    let (mut plan, _) = filled(world, &table, &rows.collect::<Vec<_>>());
    plan.version = Some(1);
    plan
}

/// The versions that come, each as its key.
fn since(
    endpoint: &mut dyn Endpoint,
    plan: &Plan,
    version: Option<&[u8]>,
    strict: bool,
) -> Vec<Vec<u8>> {
    let mut versions = Vec::new();
    let mut take = |key: &[u8], row: &[u8]| {
        assert_eq!(canon::encode_key([plan.values(row)?[0].as_ref()]), key);
        versions.push(plan.version_of(row)?.expect("no NULLs"));
        Ok(())
    };
    endpoint.since(plan, version, strict, &mut take).unwrap();
    versions
}

fn check_since(world: &mut dyn World, plan: &Plan, of: impl Fn(i64) -> Value) {
    let key = |n: i64| canon::encode_key([of(n).as_ref()]);
    let mut all: Vec<_> = VERSIONS.iter().flatten().map(|n| key(*n)).collect();
    all.sort();
    assert_eq!(since(world.endpoint(), plan, None, false), all);
    for from in [-4, -3, 0, 4, 5, 6, 900, 901] {
        let from = key(from);
        for strict in [false, true] {
            let reached = |version: &&Vec<u8>| **version > from || !strict && **version == from;
            let wanted: Vec<_> = all.iter().filter(reached).cloned().collect();
            assert_eq!(since(world.endpoint(), plan, Some(&from), strict), wanted);
        }
    }
    assert_eq!(world.endpoint().newest(plan).unwrap(), all.pop());
}

pub(crate) fn rows_since_a_version(world: &mut dyn World) {
    let plan = versioned(world, "versioned", Type::Integer, Value::Integer);
    check_since(world, &plan, Value::Integer);
}

pub(crate) fn newest_versions(world: &mut dyn World) {
    let table = |name| shapes::table(name, 1, &[("id", Type::Integer), ("v", Type::Integer)]);
    let (mut empty, _) = filled(world, &table("empty"), &[]);
    empty.version = Some(1);
    assert_eq!(world.endpoint().newest(&empty).unwrap(), None);
    assert_eq!(since(world.endpoint(), &empty, None, false), Vec::<Vec<u8>>::new());
    let rows = [1, 2].map(|id| vec![Value::Integer(id), Value::Null]);
    let (mut nulls, _) = filled(world, &table("nulls"), &rows);
    nulls.version = Some(1);
    assert_eq!(world.endpoint().newest(&nulls).unwrap(), None);
    assert_eq!(since(world.endpoint(), &nulls, None, false), Vec::<Vec<u8>>::new());
}

pub(crate) fn moments_are_versions_too(world: &mut dyn World) {
    let of =
        |n: i64| text(format!("2024-05-06 07:08:{:02}.{:06}", (n + 4) / 100, (n + 4) % 100 + 1));
    // Canonical text has no zeros at its end.
    let of = |n: i64| match of(n) {
        Value::Text(text) => Value::Text(text.trim_end_matches('0').to_owned()),
        other => other,
    };
    let kind = Type::Timestamp { digits: 6 };
    let plan = versioned(world, "moments", kind, of);
    check_since(world, &plan, of);
}

/// Whoever has seen enough ends a read with an error of their own: it comes back as it is, in and out of a snapshot.
pub(crate) fn a_read_that_is_broken_off_leaves_the_next_one_alone(world: &mut dyn World) {
    let table =
        shapes::table("many", 1, &[("id", Type::Integer), ("v", Type::Integer), ("t", TEXT)]);
    // More than goes over a line at a time.
    let rows = (0..3_000)
        .map(|n| [n, n].map(Value::Integer).into_iter().chain([text("x".repeat(500))]).collect());
    let (mut plan, _) = filled(world, &table, &rows.collect::<Vec<_>>());
    plan.version = Some(1);
    let endpoint = world.endpoint();
    for in_snapshot in [true, false] {
        if in_snapshot {
            endpoint.begin().unwrap();
        }
        for which in 0..3 {
            let mut seen = 0;
            let mut enough = |_: &[u8], _: &[u8]| {
                seen += 1;
                if seen < 5 { Ok(()) } else { Err(Error::retry("ENOUGH", "these are enough")) }
            };
            let keys: Vec<_> =
                (0..1_000).map(|n| canon::encode_key([Value::Integer(n).as_ref()])).collect();
            let broken = match which {
                0 => endpoint.since(&plan, None, false, &mut enough),
                1 => endpoint.read(&plan, &[Range::ALL], &mut enough),
                _ => endpoint.rows(&plan, &keys, &mut enough),
            };
            assert_eq!(broken.unwrap_err().code(), "ENOUGH");
            assert_eq!(since(endpoint, &plan, None, false).len(), 3_000, "{which}");
        }
        endpoint.end().unwrap();
    }
}
