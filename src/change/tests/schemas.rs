//! Shapes: what a fingerprint sees, and affinities.

use crate::change::{Column, KeyKind, ObjectKind, TableShape};

fn column(name: &str, decltype: &str) -> Column {
    Column { name: name.into(), decltype: decltype.into(), notnull: false, pk: 0, hidden: 0 }
}

fn shape(columns: Vec<Column>) -> TableShape {
    TableShape {
        name: "t".into(),
        columns,
        without_rowid: false,
        strict: false,
        key: KeyKind::Rowid,
        autoincrement: false,
    }
}

#[test]
fn fingerprint_sees_every_part_of_a_column_and_their_order() {
    let plain = shape(vec![column("a", "TEXT"), column("b", "INT")]);
    let edits: [fn(&mut TableShape); 11] = [
        |t| t.columns[0].name = "A".into(),
        |t| t.columns[0].decltype = "text".into(),
        |t| t.columns[0].notnull = true,
        |t| t.columns[0].pk = 1,
        |t| t.columns[0].hidden = 2,
        |t| t.columns.swap(0, 1),
        |t| t.columns.truncate(1),
        |t| t.without_rowid = true,
        |t| t.strict = true,
        |t| (t.columns[0].name, t.columns[0].decltype) = ("aT".into(), "EXT".into()),
        |t| t.columns.push(column("", "")),
    ];
    let mut seen = vec![plain.fingerprint()];
    for edit in edits {
        let mut edited = plain.clone();
        edit(&mut edited);
        assert!(!seen.contains(&edited.fingerprint()), "{edited:?}");
        seen.push(edited.fingerprint());
    }
}

#[test]
fn fingerprint_does_not_see_the_name_nor_the_key() {
    let plain = shape(vec![column("a", "INTEGER")]);
    let renamed = TableShape { name: "u".into(), key: KeyKind::Alias(0), ..plain.clone() };
    assert_eq!(plain.fingerprint(), renamed.fingerprint());
}

#[test]
fn stored_columns_leave_generated_ones_out() {
    let mut table = shape(vec![column("a", ""), column("g", ""), column("b", ""), column("h", "")]);
    table.columns[1].hidden = 2;
    table.columns[3].hidden = 3;
    assert_eq!(table.stored_columns().map(|(i, _)| i).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn real_affinity_is_found_as_sqlite_finds_it() {
    let real = ["REAL", "real", "DOUBLE PRECISION", "FLOAT(3)", "xfloax"];
    // INT is asked before CHAR, CHAR before BLOB, BLOB before REAL; nothing fits: NUMERIC.
    let other = ["FLOATING POINT", "", "NUMERIC", "CHARREAL", "DOUBLE BLOB", "TEXTREAL", "ANY"];
    assert!(real.iter().all(|t| column("c", t).is_real()));
    assert!(!other.iter().any(|t| column("c", t).is_real()));
}

#[test]
fn object_kinds_read_as_sqlite_schema_spells_them() {
    for kind in [ObjectKind::Table, ObjectKind::Index, ObjectKind::View, ObjectKind::Trigger] {
        assert_eq!(ObjectKind::parse(kind.as_str()), Some(kind));
    }
    assert_eq!(ObjectKind::parse("TABLE"), None);
}
