//! Canonical values as literals of SQL, and whether PostgreSQL's own comparison of them can be trusted.
//!
//! A value may be one that the column's type cannot hold, for the other side's can: a key of text, `2024-02-30`,
//! a date that is none. PostgreSQL would refuse the statement. Such a value has no literal, and whoever asks
//! compares by himself.

use super::base::Base;
use super::relation::{Held, Planned};
use super::session::quote;
use crate::change::{Value, ValueRef};
use crate::endpoint::Type;
use crate::endpoint::canon::form;

/// The expression by which a column's values have the order of their canonical keys; none if there is none.
pub(super) fn ordered(column: Planned<'_>, quoted: &str) -> Option<String> {
    let (planned, held) = column;
    let exact = held.base.is_exact(held.digits, planned.agreed);
    match held.base {
        _ if !exact => None,
        // Their canonical text does not compare as they do.
        Base::Numeric | Base::Json => None,
        Base::Other => Some(format!("{quoted}::text COLLATE \"C\"")),
        Base::Text | Base::Char if !held.bytewise => Some(format!("{quoted} COLLATE \"C\"")),
        _ => Some(quoted.to_owned()),
    }
}

/// Whether equal canonical values are equal to PostgreSQL, and the other way round but for case.
pub(super) fn is_comparable(column: Planned<'_>) -> bool {
    let (planned, held) = column;
    held.base.is_exact(held.digits, planned.agreed)
}

/// Whether of two values the lower one is nowhere the higher one under the agreed type: digits of a second that are
/// cut off make equal what was not, and no more.
pub(super) fn keeps_order(column: Planned<'_>) -> bool {
    let (planned, held) = column;
    matches!(
        (held.base, planned.agreed),
        (Base::Timestamp | Base::Timestamptz, Type::Timestamptz { .. })
            | (Base::Timestamp, Type::Timestamp { .. })
    )
}

/// Whether the index of a key has the order of [`ordered`].
pub(super) fn is_indexed(column: &Planned<'_>) -> bool {
    let held = column.1;
    match held.base {
        Base::Text | Base::Char => held.bytewise,
        base => base != Base::Other,
    }
}

/// Whether the order is that of canonical keys for all values, and an index has it. (Of dates, those before
/// Christ come out of order.)
pub(super) fn is_total(column: &Planned<'_>) -> bool {
    let held = column.1;
    match held.base {
        Base::Text | Base::Char => held.bytewise,
        Base::Date | Base::Time | Base::Timestamp | Base::Timestamptz => false,
        base => !matches!(base, Base::Numeric | Base::Json | Base::Other),
    }
}

/// The value's text for the type [`Base::literal`]; none if the type does not hold it.
pub(super) fn text(base: Base, value: &Value) -> Option<String> {
    match (base, value) {
        (Base::Bool, Value::Integer(0 | 1)) => Some(value_text(value)),
        (Base::Int2 | Base::Int4 | Base::Int8, Value::Integer(_)) => Some(value_text(value)),
        (Base::Float4 | Base::Float8, Value::Integer(_) | Value::Real(_)) => {
            Some(value_text(value))
        }
        (Base::Bytea, Value::Blob(_)) => Some(value_text(value)),
        (Base::Text | Base::Char | Base::Other, Value::Text(text)) if !text.contains('\0') => {
            Some(text.clone())
        }
        (_, Value::Text(text)) if is_of(base, text) => Some(text.clone()),
        _ => None,
    }
}

/// As PostgreSQL reads it.
pub(super) fn value_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(i) => i.to_string(),
        Value::Real(r) if r.is_nan() => "NaN".into(),
        Value::Real(r) if r.is_infinite() => if *r > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Value::Real(r) => r.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(blob) => bytea(blob),
    }
}

fn bytea(blob: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(n.into(), 16).expect("four bits");
    let mut hex = String::with_capacity(2 + 2 * blob.len());
    hex.push_str(r"\x");
    blob.iter().for_each(|byte| hex.extend([digit(byte >> 4), digit(byte & 15)]));
    hex
}

/// Whether a canonical text is one of this type. What conforms in a longer form conforms.
fn is_of(base: Base, text: &str) -> bool {
    let back = |longer: String, agreed: Type| matches!(form::conform(ValueRef::Text(&longer), agreed).as_ref(), Value::Text(t) if t == text);
    // Of the second after the last one of a minute PostgreSQL makes the next minute.
    let even = !text.contains(":60");
    match base {
        Base::Date | Base::Timestamp | Base::Timestamptz
            if matches!(text, "infinity" | "-infinity") =>
        {
            true
        }
        Base::Uuid => text.len() == 36 && back(text.replace('-', ""), Type::Uuid),
        Base::Date => back(format!("{text} 00:00:00"), Type::Date),
        Base::Timestamp | Base::Timestamptz => {
            even && back(format!("{text}+00"), Type::Timestamptz { digits: 6 })
        }
        Base::Time => {
            let longer = if text.contains('.') { format!("{text}0") } else { format!("{text}.0") };
            even && text < "24"
                && text.find(':') == Some(2)
                && text.len() >= 8
                && back(longer, Type::Time { digits: 6 })
        }
        Base::Numeric => {
            let digits = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
            text.bytes().all(digits) && back(format!("{text}e0"), Type::Decimal { exact: true })
        }
        _ => false,
    }
}

/// The value as SQL writes it, to be compared with what [`ordered`] orders by.
pub(super) fn of(held: &Held, value: &Value) -> Option<String> {
    let text = text(held.base, value)?;
    let literal = format!("{}::{}", quote(&text), held.base.literal());
    Some(match held.base {
        Base::Other => format!("{literal} COLLATE \"C\""),
        // A collation that is said would not be that of the index, even if it is the same.
        Base::Text | Base::Char if !held.bytewise => format!("{literal} COLLATE \"C\""),
        _ => literal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_type_holds_has_a_literal() {
        let of = |base: Base, text: &str| super::text(base, &Value::Text(text.into()));
        assert_eq!(of(Base::Date, "2024-02-29").as_deref(), Some("2024-02-29"));
        assert!(of(Base::Timestamp, "2024-02-29 10:00:00.5").is_some());
        assert!(of(Base::Time, "23:59:59").is_some());
        assert!(of(Base::Date, "infinity").is_some());
        assert!(of(Base::Timestamptz, "-infinity").is_some());
        assert!(of(Base::Numeric, "-0.5").is_some());
        assert!(of(Base::Uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430c8").is_some());
        for (base, text) in [
            (Base::Date, "2023-02-29"),
            (Base::Date, "2024-02-29 00:00:00"),
            (Base::Date, "x"),
            (Base::Date, "Infinity"),
            (Base::Timestamp, "2024-02-29"),
            (Base::Timestamp, "2024-02-30 10:00:00"),
            (Base::Timestamp, "2024-02-29 10:00:60"),
            (Base::Time, "101:00:00"),
            (Base::Time, "-01:00:00"),
            (Base::Time, "7"),
            (Base::Numeric, "12a"),
            (Base::Numeric, ""),
            (Base::Uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430cg"),
            (Base::Int8, "7"),
            (Base::Bool, "true"),
            (Base::Text, "a\0b"),
        ] {
            assert_eq!(of(base, text), None, "{base:?} {text:?}");
        }
    }
}
