//! Values as the binary protocol gives and takes them.
//!
//! The text protocol would lose digits of a FLOAT, so that everything with values goes by the binary one.
//!
//! Left out: what a value means under an agreed type; see [`crate::endpoint::canon::form`].

use mysql_async::consts::ColumnType;
use mysql_async::{Column as SqlColumn, Row as SqlRow, Value as Sql};

use super::declared::Declared;
use crate::change::{Value, ValueRef};
use crate::endpoint::canon::{self, form};
use crate::endpoint::{Key, Plan, PlannedColumn, Type};

/// The character set of what has none.
const BINARY: u16 = 63;

/// A value as it arrived, or in words.
enum Got<'a> {
    Ref(ValueRef<'a>),
    Own(Value),
}

impl Got<'_> {
    fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Got::Ref(value) => *value,
            Got::Own(value) => value.as_ref(),
        }
    }
}

fn got<'a>(sql: &'a Sql, column: &SqlColumn) -> Got<'a> {
    Got::Ref(match sql {
        Sql::NULL => ValueRef::Null,
        Sql::Int(i) => ValueRef::Integer(*i),
        Sql::UInt(u) => return Got::Own(unsigned(*u)),
        Sql::Float(f) => ValueRef::Real(f64::from(*f)),
        Sql::Double(d) => ValueRef::Real(*d),
        Sql::Bytes(bytes) if column.column_type() == ColumnType::MYSQL_TYPE_BIT => {
            return Got::Own(unsigned(bits(bytes)));
        }
        Sql::Bytes(bytes) => text_or_bytes(bytes, column),
        Sql::Date(y, mo, d, h, mi, s, us) => {
            let is_date = column.column_type() == ColumnType::MYSQL_TYPE_DATE;
            let date = format!("{y:04}-{mo:02}-{d:02}");
            return Got::Own(Value::Text(match is_date {
                true => date,
                false => format!("{date} {}", clock(u32::from(*h), *mi, *s, *us)),
            }));
        }
        Sql::Time(is_negative, d, h, mi, s, us) => {
            let sign = if *is_negative { "-" } else { "" };
            let clock = clock(d * 24 + u32::from(*h), *mi, *s, *us);
            return Got::Own(Value::Text(format!("{sign}{clock}")));
        }
    })
}

fn clock(hours: u32, minutes: u8, seconds: u8, micros: u32) -> String {
    match micros {
        0 => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{hours:02}:{minutes:02}:{seconds:02}.{micros:06}"),
    }
}

/// What no 64-bit integer holds is written in digits, as decimals are.
fn unsigned(u: u64) -> Value {
    i64::try_from(u).map_or_else(|_| Value::Text(u.to_string()), Value::Integer)
}

fn bits(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

fn text_or_bytes<'a>(bytes: &'a [u8], column: &SqlColumn) -> ValueRef<'a> {
    use ColumnType::*;
    let holds_bytes = matches!(
        column.column_type(),
        MYSQL_TYPE_STRING
            | MYSQL_TYPE_VAR_STRING
            | MYSQL_TYPE_VARCHAR
            | MYSQL_TYPE_BLOB
            | MYSQL_TYPE_TINY_BLOB
            | MYSQL_TYPE_MEDIUM_BLOB
            | MYSQL_TYPE_LONG_BLOB
            | MYSQL_TYPE_GEOMETRY
    );
    match std::str::from_utf8(bytes) {
        Ok(text) if !holds_bytes || column.character_set() != BINARY => ValueRef::Text(text),
        _ => ValueRef::Blob(bytes),
    }
}

/// A value as it can be asked for, or stored, again.
pub(super) fn raw(row: &SqlRow, i: usize) -> Sql {
    match row.as_ref(i).expect("it was selected") {
        Sql::Bytes(bytes) if row.columns_ref()[i].column_type() == ColumnType::MYSQL_TYPE_BIT => {
            Sql::UInt(bits(bytes))
        }
        other => other.clone(),
    }
}

/// Renders rows of a plan.
pub(super) struct Renderer<'a> {
    plan: &'a Plan,
    key: Key,
    row: Vec<u8>,
}

impl<'a> Renderer<'a> {
    pub fn new(plan: &'a Plan) -> Renderer<'a> {
        Renderer { plan, key: Vec::new(), row: Vec::new() }
    }

    /// Key and row.
    pub fn render(&mut self, row: &SqlRow) -> (&[u8], &[u8]) {
        self.key.clear();
        self.row.clear();
        let columns = row.columns_ref();
        for (i, column) in self.plan.columns.iter().enumerate() {
            let got = got(row.as_ref(i).expect("it was selected"), &columns[i]);
            let value = got.as_ref();
            let ready = form::is_ready(value, column.agreed);
            let owned = if ready { None } else { Some(form::conform(value, column.agreed)) };
            let value = owned.as_deref().map_or(value, Value::as_ref);
            if i < self.plan.key {
                canon::put_key(&mut self.key, value);
            }
            canon::put_value(&mut self.row, value);
        }
        (&self.key, &self.row)
    }
}

/// A canonical value as this column takes it.
pub(super) fn to_store(value: Value, column: &PlannedColumn) -> Sql {
    let declared = Declared::of(&column.declared);
    match value {
        Value::Null => Sql::NULL,
        Value::Integer(i) => Sql::Int(i),
        Value::Real(r) => Sql::Double(r),
        Value::Text(text) if declared.word == "bit" => {
            // As text it would be stored as the letters' bits.
            text.parse().map_or_else(|_| Sql::from(text), Sql::UInt)
        }
        Value::Text(text) if column.agreed == Type::Uuid && declared.holds_bytes() => {
            match uuid_bytes(&text) {
                Some(bytes) => Sql::Bytes(bytes),
                None => Sql::from(text),
            }
        }
        Value::Text(text) => Sql::from(text),
        Value::Blob(blob) => Sql::Bytes(blob),
    }
}

/// The 16 bytes of a UUID's text.
pub(super) fn uuid_bytes(text: &str) -> Option<Vec<u8>> {
    let hex = text.replace('-', "");
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    (0..16).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()).collect()
}

/// About how many bytes a value takes on its way to the server.
pub(super) fn size(value: &Sql) -> usize {
    match value {
        Sql::Bytes(bytes) => bytes.len() + 12,
        _ => 14,
    }
}
