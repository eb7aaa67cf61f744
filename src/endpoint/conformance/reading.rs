//! Reading: order, ranges, values, snapshots.

use super::super::{Endpoint, Key, Plan, Range, Type, canon};
use super::shapes::{self, REAL, TEXT, bag, hard_keys, keyed, many_things, text, thing, things};
use super::{Access, Twin, World, apply, canonical, contents, filled, put_or_refuse, puts, read};
use crate::change::Value;
use crate::error::Kind;

fn listed(twin: &Twin) -> Vec<(Key, Vec<u8>)> {
    twin.iter().map(|(key, row)| (key.clone(), row.clone())).collect()
}

pub(crate) fn rows_come_in_the_order_of_their_keys(world: &mut dyn World) {
    for (table, rows) in keyed() {
        let (plan, twin) = filled(world, &table, &rows);
        assert_eq!(read(world.endpoint(), &plan, &[Range::ALL]), listed(&twin), "{}", table.name);
    }
}

pub(crate) fn hard_keys_come_back_or_are_refused(world: &mut dyn World) {
    let (table, rows) = hard_keys();
    let (plan, _) = filled(world, &table, &[]);
    let kept = put_or_refuse(world, &plan, &rows);
    assert!(kept.len() >= rows.len() / 2, "only {} of {} were kept", kept.len(), rows.len());
    assert_eq!(read(world.endpoint(), &plan, &[Range::ALL]), listed(&kept));
}

/// Every key of a table, one between each two, and none.
fn ends(twin: &Twin) -> Vec<Option<Key>> {
    let mut ends = vec![None];
    for key in twin.keys() {
        ends.push(Some(key.clone()));
    }
    ends
}

pub(crate) fn ranges_are_half_open(world: &mut dyn World) {
    for (table, mut rows) in keyed() {
        // Ends that are no row's key, too.
        let absent = rows.split_off(rows.len() * 2 / 3);
        let (plan, twin) = filled(world, &table, &rows);
        let mut known = twin.clone();
        known.extend(puts(&plan, &absent));
        let ends = ends(&known);
        for after in ends.iter().step_by(2) {
            for upto in ends.iter().step_by(3) {
                if after.is_some() && upto.is_some() && after >= upto {
                    continue;
                }
                let range = Range { after: after.clone(), upto: upto.clone() };
                let wanted: Vec<_> =
                    listed(&twin).into_iter().filter(|(key, _)| range.contains(key)).collect();
                let ranges = [range];
                assert_eq!(read(world.endpoint(), &plan, &ranges), wanted, "{ranges:?}");
            }
        }
    }
}

pub(crate) fn several_ranges_are_read_in_one_go(world: &mut dyn World) {
    let (plan, twin) = filled(world, &things(), &many_things(50));
    let key = |id: i64| Some(canon::encode_key([Value::Integer(id).as_ref()]));
    let range = |after, upto| Range { after, upto };
    let ranges = [
        range(None, key(-57)),
        range(key(-57), key(-56)),
        range(key(-30), key(-3)),
        range(key(0), key(1)),
        range(key(60), None),
    ];
    let in_one = |key: &Key| ranges.iter().any(|range| range.contains(key));
    let wanted: Vec<_> = listed(&twin).into_iter().filter(|(key, _)| in_one(key)).collect();
    assert_eq!(read(world.endpoint(), &plan, &ranges), wanted);
    assert_eq!(read(world.endpoint(), &plan, &[]), []);
}

pub(crate) fn tables_of_no_row_and_of_one(world: &mut dyn World) {
    let (plan, _) = filled(world, &things(), &[]);
    assert_eq!(read(world.endpoint(), &plan, &[Range::ALL]), []);
    let empty = world.endpoint().digest(&plan, &[Range::ALL], 3).unwrap();
    assert_eq!(empty.len(), 1);
    assert_eq!(empty[0].iter().map(|chunk| chunk.rows).sum::<u64>(), 0);
    assert_eq!(empty[0].last().unwrap().end, None);
    let only = puts(&plan, &[thing(4, 2)]);
    apply(world.endpoint(), &plan, &only, &[]).unwrap();
    assert_eq!(read(world.endpoint(), &plan, &[Range::ALL]), only);
    let before = Range { after: None, upto: Some(canonical(&plan, &thing(3, 0)).0) };
    let tail = Range { after: before.upto.clone(), upto: None };
    assert_eq!(read(world.endpoint(), &plan, &[before]), []);
    assert_eq!(read(world.endpoint(), &plan, &[tail]), only);
}

/// A table of one column of the type beside its key.
fn of_type(name: &str, kind: Type) -> super::Table {
    shapes::table(name, 1, &[("id", Type::Integer), ("v", kind)])
}

fn with_ids(values: Vec<Value>) -> Vec<Vec<Value>> {
    let values = values.into_iter().enumerate();
    values.map(|(id, value)| vec![Value::Integer(id as i64), value]).collect()
}

pub(crate) fn values_come_back(world: &mut dyn World) {
    let texts = |texts: &[&str]| texts.iter().map(|t| text(*t)).collect::<Vec<_>>();
    let integers = [0, 1, -1, 1 << 53, (1 << 53) + 1, i64::MIN, i64::MAX].map(Value::Integer);
    let reals =
        [0.0, -0.0, 0.1, -1.5, 1e300, f64::MAX, f64::MIN_POSITIVE, 1.0, 3e15].map(Value::Real);
    let blobs = [vec![], vec![0], vec![0xff; 300], vec![7; 1 << 20]].map(Value::Blob);
    let long = "ä".repeat(200_000);
    let cases = [
        (Type::Integer, integers.to_vec()),
        (REAL, reals.to_vec()),
        (Type::Bytes, blobs.to_vec()),
        (
            TEXT,
            texts(&[
                "",
                " ",
                "a ",
                "1",
                "1.0",
                "Ä",
                "e\u{301}",
                "字\u{10ffff}",
                "'\"\\%_;--",
                "\r\n\t",
                &long,
            ]),
        ),
        (Type::Boolean, vec![Value::Integer(0), Value::Integer(1)]),
        (Type::Decimal { exact: false }, texts(&["0", "-12.5", "0.001", "123456789012345"])),
        (
            Type::Timestamp { digits: 6 },
            texts(&["1970-01-01 00:00:00", "2024-02-29 23:59:59.123456"]),
        ),
        (Type::Timestamptz { digits: 6 }, texts(&["1970-01-01 00:00:01", "2024-02-29 23:59:59.1"])),
        (Type::Date, texts(&["1970-01-01", "2024-02-29", "1000-01-01"])),
        (Type::Time { digits: 6 }, texts(&["00:00:00", "23:59:59.999999"])),
        (Type::Uuid, texts(&["6ba7b810-9dad-11d1-80b4-00c04fd430c8"])),
        (Type::Json, texts(&[r#"{"a":[1,null,"ä"],"b":{}}"#, "[]", "\"x\"", "1", "true", "null"])),
    ];
    for (i, (kind, mut values)) in cases.into_iter().enumerate() {
        values.push(Value::Null);
        let (plan, twin) = filled(world, &of_type(&format!("values_{i}"), kind), &with_ids(values));
        assert_same(world.endpoint(), &plan, &twin);
    }
}

/// Compares by values, so that a failure can be read.
fn assert_same(endpoint: &mut dyn Endpoint, plan: &Plan, twin: &Twin) {
    let read = contents(endpoint, plan);
    for (key, row) in twin {
        let found = read.get(key).map(|row| plan.values(row).unwrap());
        assert_eq!(found, Some(plan.values(row).unwrap()), "{}", plan.columns[1].agreed);
    }
    assert_eq!(&read, twin);
    let again: Vec<_> = twin.clone().into_iter().collect();
    let applied = apply(endpoint, plan, &again, &[]).unwrap();
    assert_eq!(applied.equal, twin.len() as u64, "equal rows count as equal: {applied:?}");
}

pub(crate) fn hard_values_come_back_or_are_refused(world: &mut dyn World) {
    let texts = |texts: &[&str]| texts.iter().map(|t| text(*t)).collect::<Vec<_>>();
    let reals = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324].map(Value::Real);
    let digits = "1234567890".repeat(3);
    let cases = [
        (REAL, reals.to_vec()),
        (TEXT, texts(&["a\0b", "\0", "\u{feff}x"])),
        (Type::Decimal { exact: true }, texts(&[&digits, "NaN", &format!("0.{digits}1")])),
        (Type::Date, texts(&["0001-01-01", "9999-12-31", "no date", "0000-00-00"])),
        (Type::Timestamp { digits: 6 }, texts(&["infinity", "9999-12-31 23:59:59.999999", ""])),
        (Type::Time { digits: 6 }, texts(&["24:00:00", "-838:59:59", "838:59:59"])),
        (Type::Uuid, texts(&["no id"])),
        (Type::Integer, texts(&["no number", ""])),
        (Type::Boolean, vec![Value::Integer(2)]),
    ];
    for (i, (kind, values)) in cases.into_iter().enumerate() {
        let (plan, _) = filled(world, &of_type(&format!("hard_{i}"), kind), &[]);
        let kept = put_or_refuse(world, &plan, &with_ids(values));
        assert_same(world.endpoint(), &plan, &kept);
    }
}

pub(crate) fn rows_are_found_by_their_keys(world: &mut dyn World) {
    let (mut shapes, (table, rows)) = (keyed(), bag());
    shapes.push((table, rows));
    for (table, rows) in shapes {
        let (plan, twin) = filled(world, &table, &rows);
        let mut wanted: Vec<Key> = twin.keys().step_by(2).cloned().rev().collect();
        let there = wanted.len();
        let absent =
            match plan.is_multiset() {
                true => canon::multiset_key(plan.hash(b"absent"), 0),
                false => canon::encode_key(plan.columns[..plan.key].iter().map(|column| {
                    match column.agreed {
                        Type::Integer => crate::change::ValueRef::Integer(77),
                        Type::Bytes => crate::change::ValueRef::Blob(b"absent"),
                        _ => crate::change::ValueRef::Text("absent"),
                    }
                })),
            };
        wanted.insert(1, absent);
        let mut found = Twin::new();
        let mut take = |key: &[u8], row: &[u8]| {
            found.insert(key.to_vec(), row.to_vec());
            Ok(())
        };
        world.endpoint().rows(&plan, &wanted, &mut take).unwrap();
        assert_eq!(found.len(), there);
        assert!(found.iter().all(|(key, row)| twin[key] == *row && wanted.contains(key)));
    }
}

/// Texts that the table keeps apart, and the agreed type does not.
pub(crate) fn keys_that_become_one_are_refused(world: &mut dyn World) {
    let id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let cases = [
        ("as_integers", Type::Integer, ["1".to_owned(), "01".into(), "2".into()]),
        ("as_uuids", Type::Uuid, [id.into(), id.to_uppercase(), id.replace('6', "7")]),
    ];
    for (name, agreed, keys) in cases {
        let table = shapes::table(name, 1, &[("k", TEXT), ("v", TEXT)]);
        let rows: Vec<_> = keys.iter().map(|key| vec![text(key), text("x")]).collect();
        let (mut plan, _) = filled(world, &table, &rows);
        plan.columns[0].agreed = agreed;
        let endpoint = world.endpoint();
        // The first look may only find out that the keys do not come in order.
        let _ = endpoint.digest(&plan, &[Range::ALL], 64);
        let digested = endpoint.digest(&plan, &[Range::ALL], 64).unwrap_err();
        let read_all = endpoint.read(&plan, &[Range::ALL], &mut |_, _| Ok(())).unwrap_err();
        for error in [digested, read_all] {
            assert_eq!((error.kind(), error.code()), (Kind::Invalid, "KEYS_COLLIDE"), "{error}");
            for named in [name, &keys[0], &keys[1]] {
                assert!(error.message().contains(named), "{named}: {error}");
            }
        }
        // What is read of the table without the two is read.
        let last = canon::form::conform(text(&keys[2]).as_ref(), agreed).into_owned();
        let first = canon::form::conform(text(&keys[0]).as_ref(), agreed).into_owned();
        let [last, first] = [last, first].map(|key| canon::encode_key([key.as_ref()]));
        let behind = Range { after: Some(first), upto: None };
        let keys = read(endpoint, &plan, &[behind]).into_iter().map(|(key, _)| key);
        assert_eq!(keys.collect::<Vec<_>>(), [last]);
    }
}

/// A key that the table spells in another way than its canonical form.
pub(crate) fn rows_are_found_however_their_keys_are_spelled(world: &mut dyn World) {
    let id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let table = shapes::table("spelled", 1, &[("k", TEXT), ("v", TEXT)]);
    let rows = [id.to_uppercase(), id.replace('6', "7")].map(|key| vec![text(key), text("x")]);
    let (mut plan, _) = filled(world, &table, &rows);
    plan.columns[0].agreed = Type::Uuid;
    let mut found = Vec::new();
    let mut take = |key: &[u8], _: &[u8]| {
        found.push(key.to_vec());
        Ok(())
    };
    let wanted = [id.to_owned(), id.replace('6', "7"), id.replace('6', "8")];
    let wanted = wanted.map(|id| canon::encode_key([text(id).as_ref()]));
    world.endpoint().rows(&plan, &wanted, &mut take).unwrap();
    found.sort();
    assert_eq!(found, wanted[..2]);
}

pub(crate) fn the_nth_key_is_found(world: &mut dyn World) {
    let (mut shapes, (table, rows)) = (keyed(), bag());
    shapes.push((table, rows));
    for (table, rows) in shapes {
        let (plan, twin) = filled(world, &table, &rows);
        let keys: Vec<&Key> = twin.keys().collect();
        for after in [None, Some(0), Some(3), Some(keys.len() - 1)] {
            let rest = &keys[after.map_or(0, |at| at + 1)..];
            for n in [1, 2, rest.len(), rest.len() + 1] {
                let behind = after.map(|at| keys[at]);
                let found = world.endpoint().nth_key(&plan, behind, n).unwrap();
                assert_eq!(
                    found.as_ref(),
                    n.checked_sub(1).and_then(|i| rest.get(i).copied()),
                    "{n}"
                );
            }
        }
    }
}

pub(crate) fn filters_hold(world: &mut dyn World) {
    let (mut plan, mut twin) = filled(world, &things(), &many_things(40));
    plan.filter = Some("id > 3 OR id < -50".into());
    let id = |row: &Vec<u8>| match plan.values(row).unwrap()[0] {
        Value::Integer(id) => id,
        _ => unreachable!(),
    };
    twin.retain(|_, row| id(row) > 3 || id(row) < -50);
    assert_eq!(contents(world.endpoint(), &plan), twin);
    let middle = Range { after: twin.keys().nth(1).cloned(), upto: twin.keys().nth(9).cloned() };
    let read: Vec<Key> =
        read(world.endpoint(), &plan, &[middle]).into_iter().map(|(key, _)| key).collect();
    assert_eq!(read, twin.keys().skip(2).take(8).cloned().collect::<Vec<_>>());
    let hidden = canonical(&plan, &thing(0, 0)).0;
    let mut none = |_: &[u8], _: &[u8]| panic!("the filter hides it");
    world.endpoint().rows(&plan, &[hidden], &mut none).unwrap();
}

pub(crate) fn a_snapshot_shows_no_later_writes(world: &mut dyn World) {
    let (plan, mut twin) = filled(world, &things(), &many_things(30));
    let Some(mut reader) = world.another(Access::Read) else { return };
    reader.begin().unwrap();
    let digest = reader.digest(&plan, &[Range::ALL], 64).unwrap();
    let (key, row) = canonical(&plan, &thing(1_000, 3));
    let gone = twin.keys().next().unwrap().clone();
    let puts = [(key.clone(), row.clone())];
    // Where readers and writers exclude each other, the writer is the one who waits.
    let written = apply(world.endpoint(), &plan, &puts, std::slice::from_ref(&gone));
    assert_eq!(contents(&mut *reader, &plan), twin);
    assert_eq!(reader.digest(&plan, &[Range::ALL], 64).unwrap(), digest);
    reader.end().unwrap();
    match written {
        Ok(_) => {}
        Err(error) if error.kind() == Kind::Retry => {
            apply(world.endpoint(), &plan, &puts, std::slice::from_ref(&gone)).unwrap();
        }
        Err(error) => panic!("{error}"),
    }
    twin.remove(&gone);
    twin.insert(key, row);
    reader.begin().unwrap();
    assert_eq!(contents(&mut *reader, &plan), twin);
    assert_ne!(reader.digest(&plan, &[Range::ALL], 64).unwrap(), digest);
    reader.end().unwrap();
}

pub(crate) fn readers_leave_nothing_behind(world: &mut dyn World) {
    let (mut plan, twin) = filled(world, &things(), &many_things(30));
    plan.version = Some(4);
    let Some(before) = world.picture() else { return };
    let Some(mut reader) = world.another(Access::Read) else { return };
    reader.begin().unwrap();
    reader.tables().unwrap();
    assert_eq!(contents(&mut *reader, &plan), twin);
    reader.digest(&plan, &[Range::ALL], 0).unwrap();
    reader.newest(&plan).unwrap();
    assert_eq!(reader.state("").unwrap(), []);
    reader.end().unwrap();
    let row = canonical(&plan, &thing(7, 7));
    let state = [("a".to_owned(), Some("b".to_owned()))];
    let puts = [row];
    let batch = super::Batch { plan: &plan, puts: &puts, deletes: &[], state: &state };
    let error = reader.apply(&batch).unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden, "{error}");
    let statements = reader.create_statements(&[of_type("unwanted", TEXT)]).unwrap();
    assert_eq!(reader.create(&statements).unwrap_err().kind(), Kind::Forbidden);
    drop(reader);
    assert!(world.picture() == Some(before), "a reader changed something");
}

pub(crate) fn duplicates_are_numbered(world: &mut dyn World) {
    let (table, rows) = bag();
    let (plan, twin) = filled(world, &table, &rows);
    assert_eq!(read(world.endpoint(), &plan, &[Range::ALL]), listed(&twin));
    let ends: Vec<Key> = twin.keys().step_by(7).cloned().collect();
    for pair in ends.windows(2) {
        let range = Range { after: Some(pair[0].clone()), upto: Some(pair[1].clone()) };
        let wanted: Vec<_> =
            listed(&twin).into_iter().filter(|(key, _)| range.contains(key)).collect();
        assert_eq!(read(world.endpoint(), &plan, &[range]), wanted);
    }
}

pub(crate) fn tables_are_described_as_they_were_made(world: &mut dyn World) {
    for (table, _) in keyed() {
        world.create(&table);
        let described = world.endpoint().tables().unwrap();
        let here = described.iter().find(|t| t.name == table.name).unwrap();
        assert_eq!(here.key, table.key);
        for column in &table.columns {
            let same = here.column(&column.name).unwrap();
            assert_eq!(same.kind, column.kind, "{}.{}", table.name, column.name);
            assert_eq!(same.not_null, column.not_null, "{}.{}", table.name, column.name);
            assert!(!same.generated && !same.folds_case);
        }
    }
    let more = of_type("more", TEXT);
    let statement = world.endpoint().add_column_statement("by_text", &more.columns[1]).unwrap();
    let renamed = statement.replace("\"v\"", "\"w\"").replace("`v`", "`w`");
    world.endpoint().create(&[renamed]).unwrap();
    let described = world.endpoint().tables().unwrap();
    let here = described.iter().find(|t| t.name == "by_text").unwrap();
    assert_eq!(here.column("w").map(|column| column.kind), Some(TEXT));
}

/// A child that comes before its parent, two that refer to each other, and one that refers to itself.
pub(crate) fn related_tables_are_made_together(world: &mut dyn World) {
    let of = |name: &str, parents: &[&str]| {
        let columns = [("id", Type::Integer), ("p", Type::Integer), ("q", Type::Integer)];
        let mut table = shapes::table(name, 1, &columns);
        table.foreign_keys = shapes::references(&["p", "q"], parents);
        table
    };
    let tables = [
        of("a_child", &["x_circle", "z_parent"]),
        of("x_circle", &["y_circle"]),
        of("y_circle", &["x_circle", "y_circle"]),
        of("z_parent", &[]),
    ];
    let statements = world.endpoint().create_statements(&tables).unwrap();
    world.endpoint().create(&statements).unwrap_or_else(|e| panic!("{e}: {statements:?}"));
    let described = world.endpoint().tables().unwrap();
    for table in &tables {
        let here = described.iter().find(|t| t.name == table.name).unwrap();
        let parents = |table: &super::Table| {
            let mut parents: Vec<_> = table.foreign_keys.iter().map(|k| k.parent.clone()).collect();
            parents.sort();
            parents
        };
        assert_eq!(parents(here), parents(table), "{}", table.name);
        // Named, or the parent's key, whatever that is.
        let is_key = |columns: &[String]| columns.is_empty() || columns == ["id"];
        assert!(here.foreign_keys.iter().all(|key| is_key(&key.parent_columns)), "{here:?}");
    }
}
