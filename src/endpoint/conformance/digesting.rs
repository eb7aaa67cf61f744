//! Digests: every level a recount, and narrowing that finds what differs and nothing else.

use std::collections::BTreeSet;

use super::super::chunk::{self, Chunk, Chunker, Difference};
use super::super::memory::MemoryEndpoint;
use super::super::{Endpoint, Key, Plan, Range, Row, canon};
use super::shapes::{bag, keyed, many_things, thing, things};
use super::{Random, Twin, World, apply, canonical, filled, puts};
use crate::change::Digest;

const LEVELS: [u32; 8] = [0, 1, 2, 3, 4, 5, 8, 64];

/// As digests are compared: where there are several in a range, by their lower halves.
fn comparable(mut ranges: Vec<Vec<Chunk>>) -> Vec<Vec<Chunk>> {
    for chunk in ranges.iter_mut().filter(|chunks| chunks.len() > 1).flatten() {
        chunk.digest = Digest(u128::from(chunk.digest.0 as u64));
    }
    ranges
}

fn digest(world: &mut dyn World, plan: &Plan, ranges: &[Range], bits: u32) -> Vec<Vec<Chunk>> {
    comparable(world.endpoint().digest(plan, ranges, bits).unwrap())
}

/// The chunks as the definition has them.
fn recount(twin: &Twin, ranges: &[Range], bits: u32) -> Vec<Vec<Chunk>> {
    let mut chunker = Chunker::new(ranges, bits);
    for (key, row) in twin {
        if ranges.iter().any(|range| range.contains(key)) {
            chunker.push(key, 1, canon::hash(row));
        }
    }
    comparable(chunker.finish())
}

pub(crate) fn digests_are_recounts_at_every_level(world: &mut dyn World) {
    let mut shapes = keyed();
    shapes.push((things(), many_things(700)));
    for (table, rows) in shapes {
        let (plan, twin) = filled(world, &table, &rows);
        for bits in LEVELS {
            // Each as the first question of a snapshot.
            world.endpoint().begin().unwrap();
            let wanted = recount(&twin, &[Range::ALL], bits);
            let got = digest(world, &plan, &[Range::ALL], bits);
            assert_eq!(got, wanted, "{} bits of {}", bits, plan.table);
            world.endpoint().end().unwrap();
        }
    }
}

pub(crate) fn folding_is_rescanning(world: &mut dyn World) {
    let (plan, twin) = filled(world, &things(), &many_things(900));
    world.endpoint().begin().unwrap();
    for bits in LEVELS.iter().rev() {
        let wanted = recount(&twin, &[Range::ALL], *bits);
        let got = digest(world, &plan, &[Range::ALL], *bits);
        assert_eq!(got, wanted, "{bits} bits");
        // The parts of this level, cut finer: every second one.
        let mut after = None;
        let mut parts = Vec::new();
        for chunk in &wanted[0] {
            parts.push(Range { after: after.clone(), upto: chunk.end.clone() });
            after.clone_from(&chunk.end);
        }
        let some: Vec<Range> = parts.into_iter().step_by(2).collect();
        for finer in [bits.saturating_sub(3), 0] {
            let got = digest(world, &plan, &some, finer);
            assert_eq!(got, recount(&twin, &some, finer), "{finer} bits within {bits}");
        }
    }
    world.endpoint().end().unwrap();
}

pub(crate) fn ranges_of_unknown_ends_are_digested(world: &mut dyn World) {
    let (plan, twin) = filled(world, &things(), &many_things(300));
    let key = |id: i64| Some(canonical(&plan, &thing(id, 0)).0);
    let ranges = [
        Range { after: None, upto: key(-1_000) },
        Range { after: key(-59), upto: key(-58) },
        Range { after: key(-50), upto: key(400) },
        Range { after: key(400), upto: key(401) },
        Range { after: key(500), upto: None },
    ];
    for is_scanned in [false, true] {
        world.endpoint().begin().unwrap();
        if is_scanned {
            digest(world, &plan, &[Range::ALL], 5);
        }
        for bits in LEVELS {
            let got = digest(world, &plan, &ranges, bits);
            assert_eq!(got, recount(&twin, &ranges, bits), "{bits} bits");
        }
        assert_eq!(digest(world, &plan, &[], 4), Vec::<Vec<Chunk>>::new());
        world.endpoint().end().unwrap();
    }
}

pub(crate) fn duplicates_are_digested(world: &mut dyn World) {
    let (table, rows) = bag();
    let (plan, twin) = filled(world, &table, &rows);
    world.endpoint().begin().unwrap();
    for bits in LEVELS {
        let got = digest(world, &plan, &[Range::ALL], bits);
        assert_eq!(got, recount(&twin, &[Range::ALL], bits), "{bits} bits");
    }
    world.endpoint().end().unwrap();
}

type Sides<'a> = (&'a mut dyn Endpoint, &'a mut dyn Endpoint);

/// Narrows from the whole table down to rows, as `diff` does.
fn narrowed(sides: Sides<'_>, plan: &Plan) -> BTreeSet<(Key, String)> {
    let (a, b) = sides;
    let mut ranges = vec![Range::ALL];
    for bits in [64, 6, 4, 2, 1] {
        let both = [a.digest(plan, &ranges, bits).unwrap(), b.digest(plan, &ranges, bits).unwrap()];
        let parts = ranges.iter().zip(&both[0]).zip(&both[1]);
        let parts = parts.flat_map(|((range, a), b)| chunk::differing(range, a, b));
        ranges = parts.map(|part| part.range).collect();
    }
    let both = [a.digest(plan, &ranges, 0).unwrap(), b.digest(plan, &ranges, 0).unwrap()];
    let rows = both[0].iter().zip(&both[1]).flat_map(|(a, b)| chunk::differing_rows(a, b));
    rows.map(|(key, difference)| (key, format!("{difference:?}"))).collect()
}

/// What differs, row by row.
fn compared(a: &Twin, b: &Twin) -> BTreeSet<(Key, String)> {
    let keys: BTreeSet<&Key> = a.keys().chain(b.keys()).collect();
    let difference = |key: &Key| match (a.get(key), b.get(key)) {
        (Some(x), Some(y)) if x == y => None,
        (Some(_), Some(_)) => Some(Difference::Changed),
        (Some(_), None) => Some(Difference::OnlyInA),
        _ => Some(Difference::OnlyInB),
    };
    let differing = keys.into_iter().filter_map(|key| Some((key.clone(), difference(key)?)));
    differing.map(|(key, difference)| (key, format!("{difference:?}"))).collect()
}

pub(crate) fn narrowing_finds_exactly_what_differs(world: &mut dyn World) {
    let (plan, mut twin) = filled(world, &things(), &many_things(400));
    let mut other = MemoryEndpoint::default();
    other.define(things());
    let rows: Vec<(Key, Row)> = twin.clone().into_iter().collect();
    apply(&mut other, &plan, &rows, &[]).unwrap();
    let mut random = Random(11);
    for round in 0..12 {
        let mut edits = Vec::new();
        let mut gone = Vec::new();
        for _ in 0..random.below(8) {
            let id = random.below(1_300) as i64 - 80;
            match random.below(3) {
                0 => gone.push(canonical(&plan, &thing(id, 0)).0),
                _ => edits.push(thing(id, random.below(50))),
            }
        }
        let edits: Twin = puts(&plan, &edits).into_iter().collect();
        gone.retain(|key| !edits.contains_key(key));
        let puts: Vec<_> = edits.into_iter().collect();
        apply(world.endpoint(), &plan, &puts, &gone).unwrap();
        gone.iter().for_each(|key| drop(twin.remove(key)));
        twin.extend(puts);
        world.endpoint().begin().unwrap();
        let found = narrowed((world.endpoint(), &mut other), &plan);
        world.endpoint().end().unwrap();
        assert_eq!(found, compared(&twin, other.contents("things")), "round {round}");
    }
}
