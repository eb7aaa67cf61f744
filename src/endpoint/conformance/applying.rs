//! Writing: what was asked, all of it or nothing, and nothing besides.

use super::super::{Applied, Batch, Key, Plan, Range, Row, Type};
use super::shapes::{self, TEXT, bag, many_things, text, thing, things};
use super::{Random, Twin, World, apply, canonical, contents, filled, numbered, plan, puts, read};
use crate::change::Value;
use crate::error::Kind;

fn key(plan: &Plan, id: i64) -> Key {
    canonical(plan, &thing(id, 0)).0
}

pub(crate) fn what_was_done_is_counted(world: &mut dyn World) {
    let (plan, mut twin) = filled(world, &things(), &many_things(30));
    let there: Vec<_> = twin.iter().map(|(k, r)| (k.clone(), r.clone())).take(5).collect();
    let mut batch = there.clone();
    batch.extend(puts(&plan, &[thing(-60 + 3 * 8, 40), thing(-60 + 3 * 9, 41), thing(1_000, 1)]));
    let deletes = [key(&plan, -60 + 3 * 20), key(&plan, 2_000)];
    let applied = apply(world.endpoint(), &plan, &batch, &deletes).unwrap();
    assert_eq!(applied, Applied { inserted: 1, updated: 2, equal: 5, deleted: 1 });
    twin.extend(batch);
    twin.remove(&deletes[0]);
    assert_eq!(contents(world.endpoint(), &plan), twin);
    let nothing = apply(world.endpoint(), &plan, &[], &[]).unwrap();
    assert_eq!(nothing, Applied::default());
}

pub(crate) fn equal_rows_are_not_rewritten(world: &mut dyn World) {
    let (plan, twin) = filled(world, &things(), &many_things(30));
    let Some(before) = world.marks("things") else { return };
    assert_eq!(before.len(), 30);
    let mut batch: Vec<(Key, Row)> = twin.into_iter().collect();
    batch[4].1 = canonical(&plan, &thing(-48, 39)).1;
    let applied = apply(world.endpoint(), &plan, &batch, &[]).unwrap();
    assert_eq!(applied, Applied { updated: 1, equal: 29, ..Applied::default() });
    let after = world.marks("things").unwrap();
    let rewritten: Vec<i64> =
        after.iter().filter(|(id, mark)| before.get(id) != Some(mark)).map(|(id, _)| *id).collect();
    assert_eq!(rewritten, [-48]);
    assert_eq!(before.len(), after.len());
}

/// `must` takes no NULL.
fn strict_table() -> super::Table {
    let mut table = shapes::table("strict_one", 1, &[("id", Type::Integer), ("must", TEXT)]);
    table.columns[1].not_null = true;
    table
}

pub(crate) fn all_or_nothing(world: &mut dyn World) {
    let row = |id, value| vec![Value::Integer(id), value];
    let rows = [row(1, text("a")), row(2, text("b")), row(3, text("c"))];
    let (plan, twin) = filled(world, &strict_table(), &rows);
    let bad = puts(&plan, &[row(1, text("changed")), row(8, text("new")), row(9, Value::Null)]);
    let deletes = [canonical(&plan, &rows[2]).0];
    let state = [("mark".to_owned(), Some("8".to_owned()))];
    let batch = Batch { plan: &plan, puts: &bad, deletes: &deletes, state: &state };
    let error = world.endpoint().apply(&batch).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, "ROW_REFUSED"), "{error}");
    assert_eq!(contents(world.endpoint(), &plan), twin);
    assert_eq!(world.endpoint().state("").unwrap(), []);
    // Without the bad row it goes, and the endpoint is none the worse.
    let batch = Batch { puts: &bad[..2], ..batch };
    let applied = world.endpoint().apply(&batch).unwrap();
    assert_eq!(applied, Applied { inserted: 1, updated: 1, equal: 0, deleted: 1 });
}

/// `u` is unique, `aside` is in no plan.
fn unique_table() -> super::Table {
    let columns = [("id", Type::Integer), ("u", TEXT), ("aside", TEXT)];
    let mut table = shapes::table("uniques", 1, &columns);
    table.columns[1].not_null = true;
    table.columns[1].size = Some(60);
    table.unique = vec![vec!["u".into()]];
    table
}

/// Its rows, and a plan that leaves `aside` out.
fn uniques(world: &mut dyn World) -> (Plan, Plan) {
    let rows = ["a", "b", "c", "d"]
        .iter()
        .enumerate()
        .map(|(id, u)| vec![Value::Integer(id as i64), text(*u), text(format!("beside {id}"))]);
    let (whole, _) = filled(world, &unique_table(), &rows.collect::<Vec<_>>());
    let mut part = whole.clone();
    part.columns.truncate(2);
    (whole, part)
}

/// Rows of [`uniques`]: id, unique value, and what stands beside them.
fn shown(world: &mut dyn World, whole: &Plan) -> Vec<String> {
    let shown = |value: &Value| match value {
        Value::Integer(i) => i.to_string(),
        Value::Text(text) => text.clone(),
        _ => "-".into(),
    };
    let rows = read(world.endpoint(), whole, &[Range::ALL]);
    let rows = rows.iter().map(|(_, row)| whole.values(row).unwrap());
    rows.map(|values| values.iter().map(shown).collect::<Vec<_>>().join(" ")).collect()
}

fn pairs(plan: &Plan, rows: &[(i64, &str)]) -> Vec<(Key, Row)> {
    let rows: Vec<_> = rows.iter().map(|(id, u)| vec![Value::Integer(*id), text(*u)]).collect();
    puts(plan, &rows)
}

pub(crate) fn unique_values_change_places(world: &mut dyn World) {
    let (whole, part) = uniques(world);
    let rotated = pairs(&part, &[(0, "b"), (1, "c"), (2, "a"), (3, "d"), (9, "new")]);
    let applied = apply(world.endpoint(), &part, &rotated, &[]).unwrap();
    assert_eq!(applied, Applied { inserted: 1, updated: 3, equal: 1, deleted: 0 });
    let wanted = ["0 b beside 0", "1 c beside 1", "2 a beside 2", "3 d beside 3", "9 new -"];
    assert_eq!(shown(world, &whole), wanted);
    // Taken by a row that the batch does not touch: refused, and nothing done.
    let taken = pairs(&part, &[(0, "x"), (5, "d")]);
    let error = apply(world.endpoint(), &part, &taken, &[]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Behind, "VALUE_TAKEN"), "{error}");
    assert_eq!(shown(world, &whole), wanted);
}

pub(crate) fn a_unique_value_passes_from_a_deleted_row(world: &mut dyn World) {
    let (whole, part) = uniques(world);
    let gone = pairs(&part, &[(0, "a")])[0].0.clone();
    let heirs = pairs(&part, &[(7, "a")]);
    let applied = apply(world.endpoint(), &part, &heirs, &[gone]).unwrap();
    assert_eq!(applied, Applied { inserted: 1, deleted: 1, ..Applied::default() });
    assert_eq!(shown(world, &whole)[..1], ["1 b beside 1"]);
    assert_eq!(shown(world, &whole)[3..], ["7 a -"]);
}

pub(crate) fn absent_keys_are_deleted_without_ado(world: &mut dyn World) {
    let (plan, twin) = filled(world, &things(), &many_things(5));
    let deletes = [key(&plan, -59), key(&plan, 10_000)];
    let applied = apply(world.endpoint(), &plan, &[], &deletes).unwrap();
    assert_eq!(applied, Applied::default());
    assert_eq!(contents(world.endpoint(), &plan), twin);
}

pub(crate) fn other_columns_keep_their_values(world: &mut dyn World) {
    let (whole, part) = uniques(world);
    apply(world.endpoint(), &part, &pairs(&part, &[(1, "other")]), &[]).unwrap();
    assert_eq!(shown(world, &whole)[1], "1 other beside 1");
}

/// A row that the filter hides is in the way of one with its key.
pub(crate) fn hidden_rows_are_overwritten(world: &mut dyn World) {
    let (mut plan, twin) = filled(world, &things(), &[thing(1, 2), thing(2, 5), thing(3, 8)]);
    plan.filter = Some("n > 1".into());
    let batch = puts(&plan, &[thing(1, 9)]);
    assert!(twin.contains_key(&batch[0].0));
    let applied = apply(world.endpoint(), &plan, &batch, &[]).unwrap();
    assert_eq!(applied, Applied { updated: 1, ..Applied::default() });
    plan.filter = None;
    assert_eq!(contents(world.endpoint(), &plan)[&batch[0].0], batch[0].1);
}

fn entry(name: &str, value: Option<&str>) -> (String, Option<String>) {
    (name.to_owned(), value.map(str::to_owned))
}

pub(crate) fn state_goes_with_its_rows(world: &mut dyn World) {
    let (plan, _) = filled(world, &strict_table(), &[]);
    assert_eq!(world.endpoint().state("").unwrap(), []);
    let good = puts(&plan, &[vec![Value::Integer(1), text("a")]]);
    let bad = puts(&plan, &[vec![Value::Integer(2), Value::Null]]);
    let keep = |world: &mut dyn World, puts: &[(Key, Row)], value: Option<&str>| {
        let state = [entry("mark", value)];
        let batch = Batch { plan: &plan, puts, deletes: &[], state: &state };
        world.endpoint().apply(&batch)
    };
    let state = |world: &mut dyn World| world.endpoint().state("mark").unwrap();
    let is = |value: &str| vec![("mark".to_owned(), value.to_owned())];
    keep(world, &good, Some("1")).unwrap();
    assert_eq!(state(world), is("1"));
    keep(world, &bad, Some("2")).unwrap_err();
    assert_eq!(state(world), is("1"));
    keep(world, &bad, None).unwrap_err();
    assert_eq!(state(world), is("1"));
    keep(world, &[], Some("3")).unwrap();
    assert_eq!(state(world), is("3"));
    let tables = world.endpoint().tables().unwrap();
    assert!(
        tables.iter().all(|table| !table.name.contains("_syncline_")),
        "ours is no table to sync"
    );
    keep(world, &[], None).unwrap();
    assert_eq!(state(world), []);
}

pub(crate) fn state_is_found_by_its_prefix(world: &mut dyn World) {
    let (plan, _) = filled(world, &things(), &[]);
    let names = ["a", "a/1", "a/2", "a%", "a_1", "A/1", "ä/1", "b"];
    let long = "{\"x\": [1, 2]}\n".repeat(6_000);
    let state: Vec<_> = names.iter().map(|name| entry(name, Some(&long))).collect();
    world.endpoint().apply(&Batch { plan: &plan, puts: &[], deletes: &[], state: &state }).unwrap();
    for prefix in ["", "a", "a/", "a%", "a_", "A", "ä", "c"] {
        let found = world.endpoint().state(prefix).unwrap();
        let mut found: Vec<&str> = found
            .iter()
            .inspect(|(_, v)| assert_eq!(*v, long))
            .map(|(name, _)| &name[..])
            .collect();
        found.sort_unstable();
        let mut wanted: Vec<&str> =
            names.iter().filter(|name| name.starts_with(prefix)).copied().collect();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{prefix}");
    }
}

pub(crate) fn duplicates_come_and_go(world: &mut dyn World) {
    let (table, mut rows) = bag();
    let (plan, twin) = filled(world, &table, &rows);
    // One of the four that are equal goes, one more of another kind comes.
    let x = vec![Value::Integer(1), text("x")];
    let y = vec![Value::Integer(2), text("y")];
    let one_x = canonical(&plan, &x).1;
    let gone = twin.iter().rfind(|(_, row)| **row == one_x).unwrap().0.clone();
    rows.remove(rows.iter().position(|row| *row == x).unwrap());
    rows.push(y.clone());
    let wanted: Twin = numbered(&plan, &rows).into_iter().collect();
    let new =
        wanted.iter().filter(|(k, _)| !twin.contains_key(*k)).map(|(k, r)| (k.clone(), r.clone()));
    let applied = apply(world.endpoint(), &plan, &new.collect::<Vec<_>>(), &[gone]).unwrap();
    assert_eq!((applied.inserted, applied.deleted), (1, 1), "{applied:?}");
    assert_eq!(contents(world.endpoint(), &plan), wanted);
}

/// In several batches, one of which comes twice, because its answer was lost.
pub(crate) fn the_last_duplicates_go_first(world: &mut dyn World) {
    let like = vec![vec![Value::Integer(7), text("like")]; 12];
    let rows: Vec<_> = like.into_iter().chain([vec![Value::Integer(1), text("stays")]]).collect();
    let (plan, mut twin) = filled(world, &bag().0, &rows);
    let one = canonical(&plan, &rows[0]).1;
    let mut deletes: Vec<Key> =
        twin.iter().filter(|(_, row)| **row == one).map(|(key, _)| key.clone()).collect();
    deletes.reverse();
    deletes.truncate(10);
    for (batch, gone) in [(&deletes[..4], 4), (&deletes[..4], 0), (&deletes[4..], 6)] {
        let applied = apply(world.endpoint(), &plan, &[], batch).unwrap();
        assert_eq!(applied, Applied { deleted: gone, ..Applied::default() });
    }
    deletes.iter().for_each(|key| drop(twin.remove(key)));
    assert_eq!(contents(world.endpoint(), &plan), twin);
}

pub(crate) fn random_batches_end_as_asked(world: &mut dyn World) {
    for (table, rows) in shapes::keyed() {
        world.create(&table);
        let plan = plan(world.endpoint(), &table);
        let (mut twin, mut random) = (Twin::new(), Random(3));
        for round in 0..12 {
            let (mut batch, mut deletes) = (Vec::new(), Vec::new());
            for values in &rows {
                let mut values = values.clone();
                *values.last_mut().unwrap() = text(format!("{}", random.below(3)));
                let (key, row) = canonical(&plan, &values);
                match random.below(4) {
                    0 => deletes.push(key),
                    1 | 2 => batch.push((key, row)),
                    _ => {}
                }
            }
            let applied = apply(world.endpoint(), &plan, &batch, &deletes).unwrap();
            let wanted = counted(&twin, &batch, &deletes);
            assert_eq!(applied, wanted, "round {round}");
            deletes.iter().for_each(|key| drop(twin.remove(key)));
            twin.extend(batch);
            assert_eq!(contents(world.endpoint(), &plan), twin);
        }
    }
}

fn counted(twin: &Twin, puts: &[(Key, Row)], deletes: &[Key]) -> Applied {
    let mut counted = Applied::default();
    for (key, row) in puts {
        match twin.get(key) {
            None => counted.inserted += 1,
            Some(there) if there == row => counted.equal += 1,
            Some(_) => counted.updated += 1,
        }
    }
    counted.deleted = deletes.iter().filter(|key| twin.contains_key(*key)).count() as u64;
    counted
}
