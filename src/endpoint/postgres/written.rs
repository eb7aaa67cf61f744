//! Canonical values as the text that a column's input function reads.
//!
//! What the column would keep as another value is refused here: PostgreSQL rounds a decimal, and cuts blanks
//! from a text, without a word. Everything else that does not fit it refuses itself.

use super::base::Base;
use super::failure::refused;
use super::literal::value_text;
use super::relation::{Planned, Relation};
use crate::change::Value;
use crate::endpoint::Type;
use crate::error::{Error, Result};

/// The text; none for NULL.
pub(super) fn written(
    relation: &Relation,
    column: Planned<'_>,
    value: &Value,
) -> Result<Option<String>> {
    let (planned, held) = column;
    let cannot = |why: &str| {
        let what = format!("{}.{} ({}) {why}", relation.table.name, planned.name, planned.declared);
        Err(refused(what))
    };
    match (held.base, value) {
        (_, Value::Null) => Ok(None),
        (Base::Bytea, value) => Ok(Some(value_text(&Value::Blob(bytes_of(value, planned.agreed))))),
        (_, Value::Blob(blob)) => match std::str::from_utf8(blob) {
            Ok(text) if planned.agreed == Type::Bytes => Ok(Some(text.to_owned())),
            _ => cannot("holds text, and the value is bytes"),
        },
        (Base::Text | Base::Char, Value::Text(text)) if too_long(text, held.size) => {
            cannot("is too short for the value")
        }
        (Base::Time | Base::Timestamp | Base::Timestamptz, Value::Text(text))
            if text.contains(":60") || text.contains(" 24:") =>
        {
            cannot("would keep a later moment")
        }
        (Base::Numeric, value)
            if held.scale.is_some_and(|scale| digits(value) > scale as usize) =>
        {
            cannot("keeps fewer digits behind the point than the value has")
        }
        (_, value) => Ok(Some(value_text(value))),
    }
}

/// The bytes that stand for a value in a column of bytes.
fn bytes_of(value: &Value, agreed: Type) -> Vec<u8> {
    match (value, agreed) {
        (Value::Blob(blob), _) => blob.clone(),
        (Value::Integer(i @ 0..=1), Type::Boolean) => vec![*i as u8],
        (Value::Text(id), Type::Uuid) => {
            let hex = id.replace('-', "");
            let byte = |i: usize| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok();
            let bytes = (0..hex.len() / 2).map(byte).collect::<Option<Vec<u8>>>();
            bytes.unwrap_or_else(|| id.clone().into_bytes())
        }
        (value, _) => value_text(value).into_bytes(),
    }
}

fn too_long(text: &str, size: Option<u32>) -> bool {
    size.is_some_and(|size| text.len() > size as usize && text.chars().count() > size as usize)
}

/// Digits behind the point.
fn digits(value: &Value) -> usize {
    value_text(value).split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

/// Adds a row to `out` in the text format of COPY.
pub(super) fn add_row(out: &mut Vec<u8>, row: &[Option<String>]) {
    for (i, text) in row.iter().enumerate() {
        if i > 0 {
            out.push(b'\t');
        }
        let Some(text) = text else {
            out.extend(br"\N");
            continue;
        };
        text.bytes().for_each(|byte| match byte {
            b'\\' => out.extend(br"\\"),
            b'\t' => out.extend(br"\t"),
            b'\n' => out.extend(br"\n"),
            b'\r' => out.extend(br"\r"),
            _ => out.push(byte),
        });
    }
    out.push(b'\n');
}

/// The values of a canonical row as texts.
pub(super) fn row(
    relation: &Relation,
    columns: &[Planned<'_>],
    values: &[Value],
) -> Result<Vec<Option<String>>> {
    let texts = columns.iter().zip(values).map(|(column, value)| written(relation, *column, value));
    texts.collect::<Result<_, Error>>()
}
