//! What `diff` and `sync` print: values of other people's databases, to terminals and to programs.
//!
//! A stored text may hold anything, such as what moves a terminal's cursor or sets its title: it is never printed
//! as it is. Whoever reads may go at any time (`| head`), which is no failure.

use std::io::{ErrorKind, Write};

use serde_json::{Value as Json, json};

use crate::change::Value;
use crate::error::{Error, Result};

/// Writes to standard output; without a word if nobody reads it any more.
pub fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let what = format!("the output could not be written: {error}");
            Err(Error::storage("OUTPUT_FAILED", what)
                .hint("free space where it goes")
                .source(error))
        }
        _ => Ok(()),
    }
}

/// The same, with the end of a line.
pub fn say_line(line: impl std::fmt::Display) -> Result<()> {
    say(&format!("{line}\n"))
}

/// A text without what a terminal would act on, on one line.
pub fn printable(text: &str) -> String {
    let one = |c: char| match c.is_control() {
        true => c.escape_debug().to_string(),
        false => c.to_string(),
    };
    text.chars().map(one).collect()
}

/// A value that fits on a line. Texts are quoted: `"1"` is not 1, nor is `"NULL"` NULL.
pub fn shown(value: &Value) -> String {
    const WIDEST: usize = 60;
    let text = match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Real(real) => format!("{real:?}"),
        other => crate::sync::held::show(other),
    };
    match text.char_indices().nth(WIDEST) {
        Some((at, _)) => format!("{}… ({} characters)", &text[..at], text.chars().count()),
        None => text,
    }
}

/// A value in JSON: bytes as hexadecimal text, and as text the numbers that JSON has not.
pub fn json_value(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(i) => json!(i),
        Value::Real(r) if r.is_nan() => json!("NaN"),
        Value::Real(r) if r.is_infinite() => json!(if *r > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::Real(r) => json!(r),
        Value::Text(text) => json!(text),
        Value::Blob(_) => json!(crate::sync::held::show(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_look_alike_are_told_apart() {
        let values = [
            Value::Null,
            Value::Text("NULL".into()),
            Value::Integer(1),
            Value::Real(1.0),
            Value::Text("1".into()),
            Value::Blob(b"1".to_vec()),
            Value::Text("x'31'".into()),
        ];
        let all: std::collections::HashSet<String> = values.iter().map(shown).collect();
        assert_eq!(all.len(), values.len(), "{all:?}");
    }

    #[test]
    fn what_json_has_not_is_no_null() {
        for (real, text) in
            [(f64::INFINITY, "Infinity"), (f64::NEG_INFINITY, "-Infinity"), (f64::NAN, "NaN")]
        {
            assert_eq!(json_value(&Value::Real(real)), json!(text));
        }
    }

    #[test]
    fn nothing_moves_the_cursor() {
        let text = "a\u{1b}[2Jb\nc\u{9b}d";
        for shown in [printable(text), shown(&Value::Text(text.into()))] {
            assert!(!shown.chars().any(char::is_control), "{shown}");
        }
        assert_eq!(printable("Größe 5"), "Größe 5");
    }
}
