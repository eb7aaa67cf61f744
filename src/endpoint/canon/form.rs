//! Values under an agreed type: what an engine holds, in the one form that equal values share.
//!
//! An engine gives what it has, as a number, as text in the engine's ordinary form, or as bytes. What does not
//! conform to the type stays as it is: it differs from everything that conforms, and whoever is asked to store
//! it will say what is wrong with it.

use std::borrow::Cow;

use super::json;
use super::moment;
use crate::change::{Value, ValueRef};
use crate::endpoint::table::Type;

/// The canonical value; the same one where nothing needs to be done.
pub fn conform<'a>(value: ValueRef<'a>, agreed: Type) -> Cow<'a, Value> {
    Cow::Owned(conformed(value, agreed).unwrap_or_else(|| value.to_owned()))
}

/// Whether a value of this class may need another form under this type. The rest can be hashed as it is.
pub fn is_ready(value: ValueRef<'_>, agreed: Type) -> bool {
    use ValueRef::*;
    matches!(
        (value, agreed),
        (Null, _)
            | (_, Type::Stored)
            | (Integer(_), Type::Integer)
            | (Text(_), Type::Text { padded: false })
            | (Real(_), Type::Real { single: false })
            | (Blob(_), Type::Bytes)
            | (Integer(0 | 1), Type::Boolean)
    )
}

/// Whether a value is one of this type, in whatever form.
pub fn conforms(value: ValueRef<'_>, agreed: Type) -> bool {
    conformed(value, agreed).is_some()
}

fn conformed(value: ValueRef<'_>, agreed: Type) -> Option<Value> {
    if value.is_null() {
        return Some(Value::Null);
    }
    match agreed {
        Type::Stored => None,
        Type::Integer => integer(value).map(Value::Integer),
        Type::Decimal { exact } => decimal(value, exact).map(Value::Text),
        Type::Real { single } => real(value).map(|r| Value::Real(rounded(r, single))),
        Type::Text { padded } => text(value).map(|t| Value::Text(unpadded(t, padded))),
        Type::Bytes => bytes(value).map(Value::Blob),
        Type::Boolean => boolean(value).map(Value::Integer),
        Type::Timestamp { digits } => moment::timestamp(text_in(value)?, digits).map(Value::Text),
        Type::Timestamptz { digits } => {
            moment::timestamptz(text_in(value)?, digits).map(Value::Text)
        }
        Type::Date => moment::date(text_in(value)?).map(Value::Text),
        Type::Time { digits } => moment::time(text_in(value)?, digits).map(Value::Text),
        Type::Uuid => uuid(value).map(Value::Text),
        Type::Json => json::canonical(text_in(value)?).map(Value::Text),
    }
}

fn text_in(value: ValueRef<'_>) -> Option<&str> {
    match value {
        ValueRef::Text(text) => Some(text),
        ValueRef::Blob(blob) => std::str::from_utf8(blob).ok(),
        _ => None,
    }
}

fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(i) => Some(i),
        // Beyond 2^53 a real is no one integer.
        ValueRef::Real(r) if r.fract() == 0.0 && r.abs() <= 9_007_199_254_740_992.0 => {
            Some(r as i64)
        }
        ValueRef::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn real(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Integer(i) => Some(i as f64),
        ValueRef::Real(r) => Some(r),
        ValueRef::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn rounded(real: f64, single: bool) -> f64 {
    if single { f64::from(real as f32) } else { real }
}

fn boolean(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(i) => (i == 0 || i == 1).then_some(i),
        ValueRef::Real(r) => (r == 0.0 || r == 1.0).then_some(r as i64),
        ValueRef::Blob(bits) => match bits {
            [0] => Some(0),
            [1] => Some(1),
            _ => None,
        },
        ValueRef::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "1" | "yes" | "on" => Some(1),
            "f" | "false" | "0" | "no" | "off" => Some(0),
            _ => None,
        },
        ValueRef::Null => None,
    }
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Integer(i) => Some(i.to_string()),
        ValueRef::Real(r) => Some(r.to_string()),
        other => text_in(other).map(str::to_owned),
    }
}

fn unpadded(mut text: String, padded: bool) -> String {
    if padded {
        text.truncate(text.trim_end_matches(' ').len());
    }
    text
}

fn bytes(value: ValueRef<'_>) -> Option<Vec<u8>> {
    match value {
        ValueRef::Blob(blob) => Some(blob.to_vec()),
        ValueRef::Text(text) => Some(text.as_bytes().to_vec()),
        _ => None,
    }
}

fn decimal(value: ValueRef<'_>, exact: bool) -> Option<String> {
    let plain = match value {
        ValueRef::Integer(i) => return Some(i.to_string()),
        ValueRef::Real(r) => normal_decimal(&r.to_string())?,
        other => normal_decimal(text_in(other)?.trim())?,
    };
    // Whoever keeps 15 digits of a fraction keeps an integer of 64 bits whole.
    if exact || plain.parse::<i64>().is_ok() {
        return Some(plain);
    }
    match plain.parse::<f64>().ok()? {
        real if real.is_finite() => normal_decimal(&format!("{real:.14e}")),
        _ => Some(plain),
    }
}

/// A decimal number without exponent, without zeros that say nothing, and without a sign on zero.
pub(crate) fn normal_decimal(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    match lower.trim_start_matches(['+', '-']) {
        "nan" => return Some("NaN".into()),
        "inf" | "infinity" => {
            return Some(if lower.starts_with('-') { "-Infinity" } else { "Infinity" }.into());
        }
        _ => {}
    }
    let (mantissa, exponent) = match lower.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (lower.as_str(), 0),
    };
    let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = [whole, fraction].concat();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // More zeros than any engine keeps digits.
    if !is_number || exponent.abs() > 100_000 {
        return None;
    }
    let sign = if mantissa.starts_with('-') { "-" } else { "" };
    Some(placed(sign, digits, whole.len() as i64 + i64::from(exponent)))
}

/// Puts the point behind so many of the digits.
fn placed(sign: &str, mut digits: String, point: i64) -> String {
    let mut point = point;
    if point < 0 {
        digits.insert_str(0, &"0".repeat(point.unsigned_abs() as usize));
        point = 0;
    }
    while (digits.len() as i64) < point {
        digits.push('0');
    }
    let (whole, fraction) = digits.split_at(point as usize);
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    match (whole, fraction) {
        ("", "") => "0".into(),
        (whole, "") => format!("{sign}{whole}"),
        ("", fraction) => format!("{sign}0.{fraction}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    }
}

fn uuid(value: ValueRef<'_>) -> Option<String> {
    let hex = match value {
        ValueRef::Blob(bytes) if bytes.len() == 16 => {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        }
        other => {
            let text = text_in(other)?.trim().trim_start_matches('{').trim_end_matches('}');
            text.replace('-', "").to_ascii_lowercase()
        }
    };
    if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Some(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(agreed: Type, value: &str) -> Value {
        conform(ValueRef::Text(value), agreed).into_owned()
    }

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    #[test]
    fn decimals_have_one_form() {
        let exact = Type::Decimal { exact: true };
        for (written, form) in [
            ("12.50", "12.5"),
            ("-0.00", "0"),
            ("007", "7"),
            ("+1e3", "1000"),
            ("1.5E-3", "0.0015"),
            (".5", "0.5"),
            ("-12.", "-12"),
            ("1000", "1000"),
            ("nan", "NaN"),
            ("-inf", "-Infinity"),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.1"),
        ] {
            assert_eq!(under(exact, written), text(form), "{written}");
        }
        assert_eq!(under(exact, "12a"), text("12a"), "what is no number stays");
        let rough = Type::Decimal { exact: false };
        assert_eq!(under(rough, "0.1000000000000000055"), text("0.1"));
        assert_eq!(conform(ValueRef::Real(0.1), rough).into_owned(), text("0.1"));
        for whole in [123_456_789_012_345_601, i64::MAX, i64::MIN] {
            assert_eq!(
                conform(ValueRef::Integer(whole), rough).into_owned(),
                text(&whole.to_string())
            );
            assert_eq!(under(rough, &format!("{whole}.00")), text(&whole.to_string()));
        }
        assert_ne!(under(rough, "9007199254740993"), under(rough, "9007199254740992"));
        assert_eq!(under(rough, "98765432109876543210.5"), under(rough, "98765432109876500000"));
        assert_eq!(conform(ValueRef::Integer(-20), exact).into_owned(), text("-20"));
    }

    #[test]
    fn the_narrower_side_decides_what_counts() {
        let padded = Type::Text { padded: true };
        assert_eq!(under(padded, "ab  "), under(padded, "ab"));
        assert_ne!(under(Type::Text { padded: false }, "ab  "), text("ab"));
        let single = Type::Real { single: true };
        assert_eq!(
            conform(ValueRef::Real(0.1), single),
            conform(ValueRef::Real(0.1f32.into()), single)
        );
        assert_eq!(under(Type::Boolean, "t"), Value::Integer(1));
        assert_eq!(conform(ValueRef::Integer(2), Type::Boolean).into_owned(), Value::Integer(2));
        assert_eq!(under(Type::Integer, ""), text(""), "empty is not NULL, nor zero");
        assert_eq!(conform(ValueRef::Null, Type::Integer).into_owned(), Value::Null);
    }

    #[test]
    fn uuids_come_as_bytes_and_as_text() {
        let id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        let bytes = (0..16).map(|i| u8::from_str_radix(&id.replace('-', "")[2 * i..2 * i + 2], 16));
        let bytes: Vec<u8> = bytes.map(Result::unwrap).collect();
        assert_eq!(conform(ValueRef::Blob(&bytes), Type::Uuid).into_owned(), text(id));
        assert_eq!(under(Type::Uuid, &id.to_uppercase()), text(id));
        assert_eq!(under(Type::Uuid, "6ba7"), text("6ba7"));
    }
}
