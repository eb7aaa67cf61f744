//! Tables and rows that the cases are about.

use super::super::{Column, ForeignKey, OnDelete, Table, Type};
use super::Random;
use crate::change::Value;

pub(super) const TEXT: Type = Type::Text { padded: false };
pub(super) const REAL: Type = Type::Real { single: false };

pub(super) fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

/// A column for `--create`; one of a key takes no NULL and says how long it may be.
fn column(name: &str, kind: Type, not_null: bool) -> Column {
    Column {
        name: name.into(),
        declared: String::new(),
        kind,
        not_null,
        generated: false,
        folds_case: false,
        size: (not_null && matches!(kind, Type::Text { .. } | Type::Bytes)).then_some(60),
        scale: None,
    }
}

/// A table of these columns, the first `key` of which are its key.
pub(super) fn table(name: &str, key: usize, columns: &[(&str, Type)]) -> Table {
    let columns = columns.iter().enumerate();
    let columns: Vec<_> = columns.map(|(i, (name, kind))| column(name, *kind, i < key)).collect();
    Table {
        name: name.into(),
        key: columns[..key].iter().map(|column| column.name.clone()).collect(),
        columns,
        unique: Vec::new(),
        foreign_keys: Vec::new(),
        triggers: Vec::new(),
        rows: None,
        bytes: None,
        made_by: Vec::new(),
    }
}

/// References of these columns, one after another, to the keys of these tables.
pub(super) fn references(columns: &[&str], parents: &[&str]) -> Vec<ForeignKey> {
    let reference = |(column, parent): (&&str, &&str)| ForeignKey {
        columns: vec![(*column).into()],
        parent: (*parent).into(),
        parent_columns: Vec::new(),
        on_delete: OnDelete::Refuse,
    };
    columns.iter().zip(parents).map(reference).collect()
}

/// A key of one integer, and a column of each ordinary class.
pub(super) fn things() -> Table {
    let columns = [
        ("id", Type::Integer),
        ("name", TEXT),
        ("score", REAL),
        ("data", Type::Bytes),
        ("n", Type::Integer),
    ];
    table("things", 1, &columns)
}

pub(super) fn thing(id: i64, variant: u64) -> Vec<Value> {
    let name = match variant % 3 {
        0 => Value::Null,
        1 => text(""),
        _ => text(format!("thing {id} {variant}")),
    };
    let data = vec![variant as u8; (variant % 40) as usize];
    vec![
        Value::Integer(id),
        name,
        Value::Real(variant as f64 / 8.0),
        Value::Blob(data),
        Value::Integer(variant as i64 - 5),
    ]
}

/// So many things, by ids with gaps, from negative ones on.
pub(super) fn many_things(count: i64) -> Vec<Vec<Value>> {
    (0..count).map(|i| thing(i * 3 - 60, i.unsigned_abs() % 17)).collect()
}

/// A table and rows for each kind of key, the rows in no order.
pub(super) fn keyed() -> Vec<(Table, Vec<Vec<Value>>)> {
    let integers = [i64::MIN, -300, -256, -1, 0, 1, 2, 255, 256, 1 << 40, i64::MAX];
    let texts = [
        "",
        "A",
        "B",
        "Z",
        "_",
        "a",
        "aa",
        "ab",
        "b",
        "z",
        "~",
        "ä",
        "é",
        "ß",
        "я",
        "字",
        "\u{fffd}",
        "\u{10000}",
        "10",
        "9",
        "-1",
    ];
    let blobs: [&[u8]; 9] =
        [b"", b"\0", b"\0\0", b"\0\x01", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff\0"];
    let pairs = texts.iter().flat_map(|t| [1, 0, -1].map(|n| vec![text(*t), Value::Integer(n)]));
    let mut shapes = vec![
        (
            table("by_integer", 1, &[("k", Type::Integer), ("v", TEXT)]),
            integers.map(|i| vec![Value::Integer(i)]).to_vec(),
        ),
        (table("by_text", 1, &[("k", TEXT), ("v", TEXT)]), texts.map(|t| vec![text(t)]).to_vec()),
        (
            table("by_blob", 1, &[("k", Type::Bytes), ("v", TEXT)]),
            blobs.map(|b| vec![Value::Blob(b.to_vec())]).to_vec(),
        ),
        (table("by_two", 2, &[("k", TEXT), ("l", Type::Integer), ("v", TEXT)]), pairs.collect()),
    ];
    for (_, rows) in &mut shapes {
        Random(7).shuffle(rows);
        for (i, row) in rows.iter_mut().enumerate() {
            row.push(text(format!("row {i}")));
        }
    }
    shapes
}

/// Keys that differ in what some collations ignore.
pub(super) fn hard_keys() -> (Table, Vec<Vec<Value>>) {
    let keys = [
        "a", "a ", "a  ", " a", "A", "á", "a\u{301}", "a\0", "a\0b", "\0", "\t", " ", "", "a\n",
        "ß", "ss",
    ];
    let rows = keys.iter().map(|key| vec![text(*key), Value::Integer(1)]);
    (table("hard", 1, &[("k", TEXT), ("v", Type::Integer)]), rows.collect())
}

/// No key, and rows that are there more than once.
pub(super) fn bag() -> (Table, Vec<Vec<Value>>) {
    let row = |a: i64, b: Value| vec![Value::Integer(a), b];
    let mut rows =
        vec![row(2, text("y")), row(3, Value::Null), row(3, Value::Null), row(3, text(""))];
    rows.extend((0..4).map(|_| row(1, text("x"))));
    rows.extend((0..40).map(|i| row(i, text("many"))));
    (table("bag", 0, &[("a", Type::Integer), ("b", TEXT)]), rows)
}
