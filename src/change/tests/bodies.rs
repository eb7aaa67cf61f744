//! Bodies: every kind of entry comes back, and whatever a writer would not write is refused.

use proptest::prelude::*;

use super::script::{Entry, body, read, script};
use crate::change::{
    BodyReader, BodyWriter, Decoder, Encoder, Object, ObjectKind, SchemaStep, ValueRef,
};
use crate::error::{Kind, Result};

fn read_all(body: &[u8]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    read(&mut BodyReader::default(), body, &mut entries).map(|()| entries)
}

/// Tables that a schema step follows at once are declared and forgotten unseen.
fn visible(script: Vec<Entry>) -> Vec<Entry> {
    let mut seen = Vec::new();
    for entry in script {
        if matches!(entry, Entry::Schema(_)) {
            while matches!(seen.last(), Some(Entry::Table(_))) {
                seen.pop();
            }
        }
        seen.push(entry);
    }
    seen
}

proptest! {
    #[test]
    fn body_round_trip(script in script()) {
        let bytes = body(&script);
        prop_assert_eq!(read_all(&bytes).unwrap(), visible(script));
    }

    #[test]
    fn body_with_one_wrong_byte_has_one_form_too(
        script in script(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = body(&script);
        if !bytes.is_empty() {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(entries) = read_all(&bytes) {
            let hidden = entries.iter().any(|entry| matches!(entry, Entry::Schema(_)));
            prop_assert!(hidden || body(&entries) == bytes, "a second form of one body");
        }
    }
}

/// A body that declares table 0, keyed by its columns, and then holds `entry`.
fn after_a_table(entry: &[u8]) -> Vec<u8> {
    let mut writer = BodyWriter::default();
    writer.table("t", false);
    [&writer.0.0, entry].concat()
}

#[test]
fn body_that_no_writer_writes_is_refused() {
    let huge = {
        let mut encoder = Encoder::default();
        encoder.varint(u64::MAX);
        encoder.0
    };
    let same_in_insert = [2, 0, 1, 5];
    let same_beyond_before = [4, 0, 1, 0, 2, 5, 5];
    let unchanged_written_out = [4, 0, 1, 1, 2, 1, 1, 2];
    let cases: [(&str, Vec<u8>); 13] = [
        ("unknown kind", vec![0]),
        ("unknown kind", vec![9]),
        ("not declared", vec![2, 0, 0]),
        ("not declared", after_a_table(&[2, 1, 0])),
        ("not declared", after_a_table(&[&[2], huge.as_slice()].concat())),
        ("more values than bytes", after_a_table(&[&[2, 0], huge.as_slice()].concat())),
        ("more values than bytes", after_a_table(&[2, 0, 1])),
        ("unknown tag", after_a_table(&same_in_insert)),
        ("unknown tag", after_a_table(&same_beyond_before)),
        ("not written as one", after_a_table(&unchanged_written_out)),
        ("neither 0 nor 1", vec![1, 1, b't', 2]),
        ("ends too early", [&[1], huge.as_slice()].concat()),
        ("not UTF-8", vec![1, 1, 0xff, 0]),
    ];
    for (why, bytes) in cases {
        let error = read_all(&bytes).expect_err(why);
        assert_eq!((error.kind(), error.code()), (Kind::Corrupt, "FORMAT_CORRUPT"));
        assert!(error.message().contains(why), "{error} is not: {why}");
    }
}

#[test]
fn body_forgets_its_tables_at_a_schema_step() {
    let table = Object {
        kind: ObjectKind::Table,
        name: "u".into(),
        table: "u".into(),
        sql: "CREATE TABLE u(a)".into(),
    };
    let mut writer = BodyWriter::default();
    writer.table("t", false);
    writer.insert(0, None, &[ValueRef::Integer(1)]);
    writer.schema(&SchemaStep::Create(table));
    writer.insert(0, None, &[ValueRef::Integer(1)]);
    let mut reader = BodyReader::default();
    let mut decoder = Decoder(&writer.0.0);
    reader.next(&mut decoder).unwrap();
    assert_eq!(reader.declared(), 1);
    reader.next(&mut decoder).unwrap();
    assert_eq!(reader.declared(), 0);
    assert!(reader.next(&mut decoder).is_err(), "its table may be another one by now");
}

#[test]
fn body_update_costs_what_it_changed() {
    let long = "x".repeat(1000);
    let before = [ValueRef::Integer(1), ValueRef::Text(&long)];
    let after = [ValueRef::Integer(2), ValueRef::Text(&long)];
    let size = |entry: &dyn Fn(&mut BodyWriter)| {
        let mut writer = BodyWriter::default();
        entry(&mut writer);
        writer.0.0.len()
    };
    let delete = size(&|w| w.delete(0, None, &before));
    let update = size(&|w| w.update(0, None, &before, &after));
    assert_eq!(update, delete + 4, "a count, the new integer, one byte for the text");
}
