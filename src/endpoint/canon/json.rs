//! JSON documents in one form: keys sorted, no blanks, numbers as decimals are written.
//!
//! Of two equal keys in one object the last one counts, as in PostgreSQL's `jsonb` and in MySQL's `JSON`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::value::RawValue;

use super::form::normal_decimal;

/// The document in its canonical form; none if it is none.
pub(super) fn canonical(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    write(&mut out, text.trim(), 0)?;
    Some(out)
}

/// As deep as a document may be.
const DEEPEST: usize = 100;

fn write(out: &mut String, text: &str, depth: usize) -> Option<()> {
    if depth > DEEPEST {
        return None;
    }
    match text.as_bytes().first()? {
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            out.push('{');
            for (i, (name, value)) in members.iter().enumerate() {
                separate(out, i);
                write!(out, "{}:", quoted(name)).ok()?;
                write(out, value.get(), depth + 1)?;
            }
            out.push('}');
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push('[');
            for (i, value) in elements.iter().enumerate() {
                separate(out, i);
                write(out, value.get(), depth + 1)?;
            }
            out.push(']');
        }
        b'"' => out.push_str(&quoted(&serde_json::from_str::<String>(text).ok()?)),
        b'-' | b'0'..=b'9' => {
            serde_json::from_str::<&RawValue>(text).ok()?;
            out.push_str(&normal_decimal(text)?);
        }
        _ => match text {
            "true" | "false" | "null" => out.push_str(text),
            _ => return None,
        },
    }
    Some(())
}

fn separate(out: &mut String, i: usize) {
    if i > 0 {
        out.push(',');
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text can be written")
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn documents_have_one_form() {
        let form = |text: &str| canonical(text).unwrap();
        assert_eq!(
            form(r#" {"b": 1.50, "a": [true, null, "\u00e9"]} "#),
            r#"{"a":[true,null,"é"],"b":1.5}"#
        );
        assert_eq!(form(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
        assert_eq!(form("1e2"), form("100.0"));
        assert_eq!(form("-0"), "0");
        for wrong in ["", "{", "[1,]", "nul", "\"", "{\"a\":}", "1 2", "01"] {
            assert_eq!(canonical(wrong), None, "{wrong}");
        }
        assert_eq!(canonical(&"[".repeat(100_000)), None);
    }
}
