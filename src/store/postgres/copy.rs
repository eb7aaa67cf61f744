//! Rows in the text format of COPY, for long runs of inserts.
//!
//! COPY brings more rows a second than an INSERT over arrays, but takes round trips of its own, and nothing may
//! be sent behind it unanswered. As text a value goes through the input function of its column's type, so no
//! type needs a cast.
//!
//! Left out: the binary format. It is quicker, and knows no `numeric`, `json` or `timestamptz` from text.

use super::types::{ColumnType, decimal};
use crate::change::Value;

/// Adds a row to `out`.
pub(crate) fn add_row<'a>(
    out: &mut Vec<u8>,
    row: impl IntoIterator<Item = (ColumnType, &'a Value)>,
) {
    for (i, (kind, value)) in row.into_iter().enumerate() {
        if i > 0 {
            out.push(b'\t');
        }
        add_value(out, kind, value);
    }
    out.push(b'\n');
}

fn add_value(out: &mut Vec<u8>, kind: ColumnType, value: &Value) {
    match value {
        Value::Null => out.extend(br"\N"),
        Value::Integer(n) if kind == ColumnType::Boolean => {
            out.push(if *n == 0 { b'f' } else { b't' });
        }
        Value::Integer(_) | Value::Real(_) => out.extend(decimal(value.as_ref()).as_bytes()),
        Value::Text(text) => text.bytes().for_each(|byte| match byte {
            b'\\' => out.extend(br"\\"),
            b'\t' => out.extend(br"\t"),
            b'\n' => out.extend(br"\n"),
            b'\r' => out.extend(br"\r"),
            _ => out.push(byte),
        }),
        Value::Blob(blob) => {
            out.extend(br"\\x");
            let digit = |n: u8| char::from_digit(n.into(), 16).expect("four bits") as u8;
            blob.iter().for_each(|byte| out.extend([digit(byte >> 4), digit(byte & 15)]));
        }
    }
}
