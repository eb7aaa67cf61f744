//! How the columns of a key sort and are found here, against how their canonical bytes do.
//!
//! ```text
//! column                        agreed       sorted by                         found by
//! bigint, date, datetime(6)     the same     itself                            itself
//! varchar … utf8mb4_nopad_bin   text         itself                            itself
//! varchar … utf8mb4_general_ci  text         its UTF-8 bytes (no index)        itself: all that fold to it
//! bigint unsigned               decimal      its digits as bytes               itself
//! varchar(36)                   uuid         its bytes without dashes          its usual spellings
//! datetime(6)                   date, …      us                                reading all of it
//! ```
//!
//! A condition may let through more than was asked for, never less; what is read is checked again by its
//! canonical bytes. So a bound that a column cannot be compared with is simply left out.
//!
//! Left out: an index for expressions. Where no key sorts by itself, each question scans the table.

use mysql_async::Value as Sql;

use super::declared::{Declared, quoted};
use super::value::uuid_bytes;
use crate::change::Value;
use crate::endpoint::{PlannedColumn, Type};

/// What a column of a key sorts by, in the order of its canonical bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum By {
    /// Itself.
    Column(String),
    /// An expression that gives bytes.
    Bytes(String),
    /// Nothing that the server has.
    Nothing,
}

/// What this column sorts by.
pub(super) fn by(column: &PlannedColumn) -> By {
    let (name, declared) = (quoted(&column.name), Declared::of(&column.declared));
    let utf8 = || format!("CONVERT({name} USING utf8mb4)");
    let is_own = declared.kind() == column.agreed;
    match column.agreed {
        Type::Integer | Type::Boolean if declared.is_integer() || declared.word == "bit" => {
            By::Column(name)
        }
        Type::Decimal { exact: true } if declared.is_integer() => {
            // With the zero there are no zeros before the digits.
            By::Bytes(format!("CAST({name} + 0 AS BINARY)"))
        }
        Type::Date | Type::Timestamp { .. } if is_own => By::Column(name),
        Type::Timestamptz { digits }
            if is_own || declared.kind() == (Type::Timestamp { digits }) =>
        {
            By::Column(name)
        }
        Type::Bytes if declared.holds_bytes() => By::Column(name),
        Type::Uuid if declared.word == "binary" && declared.size == Some(16) => By::Column(name),
        Type::Uuid if declared.word == "uuid" => {
            By::Bytes(format!("CAST(REPLACE(CAST({name} AS CHAR), '-', '') AS BINARY)"))
        }
        Type::Uuid if declared.is_text() => {
            By::Bytes(format!("CAST(LOWER(REPLACE({}, '-', '')) AS BINARY)", utf8()))
        }
        Type::Text { padded } if declared.is_text() && (!padded || declared.word == "char") => {
            match declared.is_exact() {
                true => By::Column(name),
                false => By::Bytes(format!("CAST({} AS BINARY)", utf8())),
            }
        }
        Type::Bytes if declared.is_text() => By::Bytes(format!("CAST({} AS BINARY)", utf8())),
        _ => By::Nothing,
    }
}

/// A value to compare such a column with; none if the server could not.
pub(super) fn bound(column: &PlannedColumn, value: &Value) -> Option<Sql> {
    let declared = Declared::of(&column.declared);
    match (column.agreed, value) {
        (Type::Integer | Type::Boolean, Value::Integer(i)) => Some(Sql::Int(*i)),
        (Type::Decimal { .. } | Type::Text { .. }, Value::Text(text)) => Some(Sql::from(text)),
        (Type::Date | Type::Timestamp { .. } | Type::Timestamptz { .. }, Value::Text(text)) => {
            is_moment(text).then(|| Sql::from(text))
        }
        (Type::Bytes, Value::Blob(blob)) => Some(Sql::Bytes(blob.clone())),
        (Type::Uuid, Value::Text(text)) if declared.holds_bytes() => {
            uuid_bytes(text).map(Sql::Bytes)
        }
        (Type::Uuid, Value::Text(text)) => Some(Sql::from(text.replace('-', ""))),
        _ => None,
    }
}

/// All values that a column may hold of which the canonical form is this one, or more; none: they cannot be
/// told.
pub(super) fn spellings(column: &PlannedColumn, value: &Value) -> Option<Vec<Sql>> {
    let declared = Declared::of(&column.declared);
    let only = |sql: Option<Sql>| Some(sql.into_iter().collect());
    match (column.agreed, value) {
        (Type::Integer | Type::Boolean, _) if declared.is_integer() || declared.word == "bit" => {
            match value {
                Value::Integer(i) => only(Some(Sql::Int(*i))),
                _ => only(None),
            }
        }
        (Type::Decimal { exact: true }, _) => only(decimal(declared, value)),
        (Type::Real { single }, Value::Real(r)) if single == (declared.word == "float") => {
            only(Some(Sql::Double(*r)))
        }
        (Type::Uuid, Value::Text(text)) => Some(spelled(declared, text)),
        (Type::Text { padded: true }, _) if declared.word != "char" => None,
        (Type::Text { .. }, Value::Text(text)) if declared.is_text() => only(Some(Sql::from(text))),
        (Type::Bytes, Value::Blob(blob)) if declared.is_text() || declared.holds_bytes() => {
            only(Some(Sql::Bytes(blob.clone())))
        }
        (Type::Date | Type::Timestamp { .. } | Type::Timestamptz { .. }, _)
            if by(column) != By::Nothing =>
        {
            only(bound(column, value))
        }
        _ => None,
    }
}

/// A decimal's value for a column of integers or decimals.
pub(super) fn decimal(declared: Declared<'_>, value: &Value) -> Option<Sql> {
    let Value::Text(text) = value else { return None };
    let is_number = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
    match declared.word {
        "decimal" => is_number.then(|| Sql::from(text)),
        _ => text.parse().map(Sql::Int).or_else(|_| text.parse().map(Sql::UInt)).ok(),
    }
}

/// Upper and lower case, with dashes and without, and as bytes.
fn spelled(declared: Declared<'_>, text: &str) -> Vec<Sql> {
    let Some(bytes) = uuid_bytes(text) else {
        return if declared.is_text() { vec![Sql::from(text)] } else { Vec::new() };
    };
    if declared.word == "uuid" {
        return vec![Sql::from(text)];
    }
    let bare = text.replace('-', "");
    let mut all = [text, &bare, &text.to_uppercase(), &bare.to_uppercase()].map(Sql::from).to_vec();
    if declared.holds_bytes() {
        all.push(Sql::Bytes(bytes));
    }
    all
}

/// What stands for a value that is compared with this column. As text, a decimal would be compared as a float.
pub(super) fn place(column: &PlannedColumn) -> String {
    let declared = Declared::of(&column.declared);
    match (declared.word, declared.size) {
        ("decimal", Some(size)) => {
            format!("CAST(? AS DECIMAL({size},{}))", declared.scale.unwrap_or(0))
        }
        _ => "?".into(),
    }
}

/// A text that the server takes for a date, with or without a time: others are an error to some servers.
fn is_moment(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| text.get(from..to).and_then(|n| n.parse::<u32>().ok());
    let (Some(year), Some(month), Some(day)) = (number(0, 4), number(5, 7), number(8, 10)) else {
        return false;
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    bytes[4] == b'-' && bytes[7] == b'-' && month <= 12 && day <= last
}

/// One column of a key with a value: name or expression, what stands for the value, and the value.
pub(super) type Term = (String, Option<Sql>);

/// The condition for keys above these values (`up` false: for those up to them), as the optimizer wants it to use
/// an index. A value that is not known cuts the rest off, which lets through more.
pub(super) fn beyond(terms: &[Term], up: bool, arguments: &mut Vec<Sql>) -> Option<String> {
    let [(name, Some(value)), rest @ ..] = terms else { return None };
    let strict = if up { ">" } else { "<" };
    arguments.push(value.clone());
    if rest.is_empty() {
        return Some(format!("{name} {} ?", if up { ">" } else { "<=" }));
    }
    arguments.push(value.clone());
    match beyond(rest, up, arguments) {
        Some(more) => Some(format!("({name} {strict} ? OR ({name} = ? AND {more}))")),
        None => {
            arguments.pop();
            Some(format!("{name} {strict}= ?"))
        }
    }
}

/// The condition for one stored key, by its raw values.
pub(super) fn is_key(columns: &[PlannedColumn]) -> String {
    let equal =
        columns.iter().map(|column| format!("{} = {}", quoted(&column.name), place(column)));
    equal.collect::<Vec<_>>().join(" AND ")
}

/// The condition for any of these keys, whose values may each be spelled in several ways.
pub(super) fn any_of(
    columns: &[PlannedColumn],
    keys: &[Vec<Vec<Sql>>],
    arguments: &mut Vec<Sql>,
) -> String {
    let within = |column: &PlannedColumn, values: &[Sql], arguments: &mut Vec<Sql>| {
        arguments.extend(values.iter().cloned());
        let places = vec![place(column); values.len()].join(", ");
        format!("{} IN ({places})", quoted(&column.name))
    };
    if let [column] = columns {
        let values: Vec<Sql> = keys.iter().flat_map(|key| key[0].iter().cloned()).collect();
        return within(column, &values, arguments);
    }
    let each = keys.iter().map(|key| {
        let parts =
            columns.iter().zip(key).map(|(column, values)| within(column, values, arguments));
        format!("({})", parts.collect::<Vec<_>>().join(" AND "))
    });
    each.collect::<Vec<_>>().join(" OR ")
}

/// The spellings of a whole key; none: it can only be found by reading everything. Empty ones stand for keys that
/// nothing here can have.
pub(super) fn key_spellings(columns: &[PlannedColumn], key: &[Value]) -> Option<Vec<Vec<Sql>>> {
    columns.iter().zip(key).map(|(column, value)| spellings(column, value)).collect()
}
