//! Random bodies: a script is what was done, its bytes are what a [`BodyWriter`] makes of it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::values::{borrowed, row, value};
use crate::change::{
    BodyReader, BodyWriter, Change, DeclaredTable, Decoder, Image, Object, ObjectKind, Op,
    RequestId, RowChange, SchemaStep, Value,
};
use crate::error::Result;

pub(super) type OwnedImage = (Option<i64>, Vec<Value>);

/// An owned [`Change`], the declaration of a table being one too.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    Table(DeclaredTable),
    Row { table: usize, op: Op, before: Option<OwnedImage>, after: Option<OwnedImage> },
    Schema(SchemaStep),
    Sequence(String, Option<i64>, Option<i64>),
    Setting(String, i64, i64),
    Request(RequestId, Vec<u8>),
}

fn name() -> impl Strategy<Value = String> {
    "[a-z\u{e9} \"]{0,6}"
}

fn object() -> impl Strategy<Value = Object> {
    let kind = prop_oneof![
        Just(ObjectKind::Table),
        Just(ObjectKind::Index),
        Just(ObjectKind::View),
        Just(ObjectKind::Trigger)
    ];
    (kind, name(), name(), ".{0,30}").prop_map(|(kind, name, table, sql)| Object {
        kind,
        name,
        table,
        sql,
    })
}

fn step() -> impl Strategy<Value = SchemaStep> {
    let alter = (vec((object(), object()), 1..4), option::of(name()));
    prop_oneof![
        object().prop_map(SchemaStep::Create),
        object().prop_map(SchemaStep::Drop),
        alter.prop_map(|(objects, dropped_column)| SchemaStep::Alter { objects, dropped_column }),
    ]
}

/// The row after an update: most values are those before.
fn changed(before: Vec<Value>) -> impl Strategy<Value = (Vec<Value>, Vec<Value>)> {
    let edits = vec(option::weighted(0.3, value()), before.len());
    (edits, vec(value(), 0..2), Just(before)).prop_map(|(edits, more, before)| {
        let kept = before.iter().zip(edits).map(|(old, new)| new.unwrap_or_else(|| old.clone()));
        let after = kept.chain(more).collect();
        (before, after)
    })
}

/// A row change with rowids and any table index: [`script`] makes both fit.
fn row_entry() -> impl Strategy<Value = Entry> {
    let update = row().prop_flat_map(changed);
    let images = prop_oneof![
        row().prop_map(|after| (Op::Insert, None, Some(after))),
        row().prop_map(|before| (Op::Delete, Some(before), None)),
        update.prop_map(|(before, after)| (Op::Update, Some(before), Some(after))),
    ];
    (any::<usize>(), any::<i64>(), any::<i64>(), images).prop_map(
        |(table, old, new, (op, before, after))| Entry::Row {
            table,
            op,
            before: before.map(|values| (Some(old), values)),
            after: after.map(|values| (Some(new), values)),
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let request = (name(), any::<u64>(), vec(any::<u8>(), 0..20));
    prop_oneof![
        8 => row_entry(),
        2 => (name(), any::<bool>())
            .prop_map(|(name, by_rowid)| Entry::Table(DeclaredTable { name, by_rowid })),
        1 => step().prop_map(Entry::Schema),
        1 => (name(), any::<Option<i64>>(), any::<Option<i64>>())
            .prop_map(|(table, before, after)| Entry::Sequence(table, before, after)),
        1 => (name(), any::<i64>(), any::<i64>())
            .prop_map(|(name, before, after)| Entry::Setting(name, before, after)),
        1 => request.prop_map(|(client, sequence, response)| {
            Entry::Request(RequestId { client, sequence }, response)
        }),
    ]
}

/// Any sequence of entries, in which every row names a table that is declared at its place.
pub(super) fn script() -> impl Strategy<Value = Vec<Entry>> {
    vec(entry(), 0..24).prop_map(|entries| {
        let mut tables: Vec<DeclaredTable> = Vec::new();
        entries.into_iter().filter_map(|entry| fit(entry, &mut tables)).collect()
    })
}

fn fit(mut entry: Entry, tables: &mut Vec<DeclaredTable>) -> Option<Entry> {
    match &mut entry {
        Entry::Table(table) => tables.push(table.clone()),
        Entry::Schema(_) => tables.clear(),
        Entry::Row { table, before, after, .. } => {
            *table = table.checked_rem(tables.len())?;
            if !tables[*table].by_rowid {
                for image in [before, after].into_iter().flatten() {
                    image.0 = None;
                }
            }
        }
        _ => {}
    }
    Some(entry)
}

/// Appends one entry.
pub(super) fn write(writer: &mut BodyWriter, entry: &Entry) {
    match entry {
        Entry::Table(table) => writer.table(&table.name, table.by_rowid),
        Entry::Row { table, before, after, .. } => match (before, after) {
            (None, Some(a)) => writer.insert(*table, a.0, &borrowed(&a.1)),
            (Some(b), None) => writer.delete(*table, b.0, &borrowed(&b.1)),
            (Some(b), Some(a)) => {
                writer.update(*table, b.0.zip(a.0), &borrowed(&b.1), &borrowed(&a.1));
            }
            (None, None) => unreachable!("a row change has an image"),
        },
        Entry::Schema(step) => writer.schema(step),
        Entry::Sequence(table, before, after) => writer.sequence(table, *before, *after),
        Entry::Setting(name, before, after) => writer.setting(name, *before, *after),
        Entry::Request(id, response) => writer.request(id, response),
    }
}

/// The bytes of a body.
pub(super) fn body(entries: &[Entry]) -> Vec<u8> {
    let mut writer = BodyWriter::default();
    entries.iter().for_each(|entry| write(&mut writer, entry));
    writer.0.0
}

/// Reads one part, appending its entries: a declaration where the reader shows a new table.
pub(super) fn read(reader: &mut BodyReader, part: &[u8], out: &mut Vec<Entry>) -> Result<()> {
    let mut decoder = Decoder(part);
    loop {
        let known = reader.declared();
        let change = reader.next(&mut decoder)?;
        out.extend((known..reader.declared()).map(|i| Entry::Table(reader.table(i).clone())));
        let Some(change) = change else { return Ok(()) };
        out.push(own(change)?);
    }
}

fn own(change: Change<'_>) -> Result<Entry> {
    Ok(match change {
        Change::Row(row) => own_row(&row)?,
        Change::Schema(step) => Entry::Schema(step),
        Change::Sequence { table, before, after } => Entry::Sequence(table, before, after),
        Change::Setting { name, before, after } => Entry::Setting(name, before, after),
        Change::Request { id, response } => Entry::Request(id, response.to_vec()),
    })
}

fn own_row(row: &RowChange<'_>) -> Result<Entry> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    row.values(&mut before, &mut after)?;
    let own = |image: Option<Image<'_>>, values: Vec<crate::change::ValueRef<'_>>| {
        image.map(|image| {
            assert_eq!(image.len(), values.len());
            (image.rowid, values.into_iter().map(|v| v.to_owned()).collect())
        })
    };
    let (before, after) = (own(row.before, before), own(row.after, after));
    Ok(Entry::Row { table: row.table, op: row.op, before, after })
}
