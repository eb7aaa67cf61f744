//! Whether JSON is written as PostgreSQL writes `jsonb`: to the letter.
//!
//! ```text
//! value   {"b": [1, 2.50], "aa": null}      one space after ':' and ',', none elsewhere
//! keys    shorter ones first, then by their bytes; none twice
//! number  -?(0|[1-9][0-9]*)(\.[0-9]+)?      no exponent, no zero with a sign
//! string  \" \\ \b \f \n \r \t; \u001f for what else is below a space; all others as they are
//! ```
//!
//! PostgreSQL keeps a number's digits, also the zeros at its end, and forgets how everything else was
//! written. A test asks a server about the same texts.
//!
//! Left out: rewriting JSON into this form.

use std::borrow::Cow;

use super::types::DEEPEST_JSON;

/// What PostgreSQL's `numeric` takes, before and after the point.
const MOST_DIGITS: (usize, usize) = (131_072, 16_383);

/// Whether PostgreSQL gives this text back when it is read as `jsonb`.
pub(crate) fn is_canonical(text: &str) -> bool {
    let mut reader = Reader { rest: text.as_bytes() };
    reader.value(0).is_some() && reader.rest.is_empty()
}

/// Takes canonical JSON from the front; none where something else stands.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn eat(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.rest.first()? {
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => self.string().map(drop),
            b'n' => self.eat(b"null"),
            b't' => self.eat(b"true"),
            b'f' => self.eat(b"false"),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.eat(b"[")?;
        if depth > DEEPEST_JSON || self.eat(b"]").is_some() {
            return (depth <= DEEPEST_JSON).then_some(());
        }
        loop {
            self.value(depth)?;
            if self.eat(b"]").is_some() {
                return Some(());
            }
            self.eat(b", ")?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.eat(b"{")?;
        if depth > DEEPEST_JSON || self.eat(b"}").is_some() {
            return (depth <= DEEPEST_JSON).then_some(());
        }
        let mut last: Option<Cow<'a, [u8]>> = None;
        loop {
            let key = self.string()?;
            if last.is_some_and(|last| (last.len(), &last) >= (key.len(), &key)) {
                return None;
            }
            self.eat(b": ")?;
            self.value(depth)?;
            if self.eat(b"}").is_some() {
                return Some(());
            }
            self.eat(b", ")?;
            last = Some(key);
        }
    }

    /// What a string says.
    fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        self.eat(b"\"")?;
        let mut said = Cow::Borrowed(self.plain());
        while self.eat(b"\"").is_none() {
            let escaped = self.escaped()?;
            let plain = self.plain();
            let said = said.to_mut();
            said.push(escaped);
            said.extend_from_slice(plain);
        }
        Some(said)
    }

    /// Characters that stand for themselves.
    fn plain(&mut self) -> &'a [u8] {
        let is_special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
        let end = self.rest.iter().position(is_special).unwrap_or(self.rest.len());
        let (plain, rest) = self.rest.split_at(end);
        self.rest = rest;
        plain
    }

    fn escaped(&mut self) -> Option<u8> {
        let [b'\\', letter, rest @ ..] = self.rest else { return None };
        self.rest = rest;
        Some(match letter {
            b'"' | b'\\' => *letter,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => self.control()?,
            _ => return None,
        })
    }

    /// `001f` of `\u001f`: a control character that has no letter. There is no NUL in PostgreSQL's text.
    fn control(&mut self) -> Option<u8> {
        let [b'0', b'0', high @ (b'0' | b'1'), low, rest @ ..] = self.rest else { return None };
        let low = match low {
            b'0'..=b'9' => low - b'0',
            b'a'..=b'f' => low - b'a' + 10,
            _ => return None,
        };
        self.rest = rest;
        let byte = (high - b'0') * 16 + low;
        (![0, 8, 9, 10, 12, 13].contains(&byte)).then_some(byte)
    }

    fn number(&mut self) -> Option<()> {
        let has_sign = self.eat(b"-").is_some();
        let whole = self.digits();
        let fraction = match self.eat(b".") {
            Some(()) => Some(self.digits()).filter(|digits| !digits.is_empty())?,
            None => &[],
        };
        let is_zero = whole.iter().chain(fraction).all(|digit| *digit == b'0');
        let starts_well = whole == b"0" || whole.first().is_some_and(|digit| *digit != b'0');
        let fits = whole.len() <= MOST_DIGITS.0 && fraction.len() <= MOST_DIGITS.1;
        (starts_well && fits && !(has_sign && is_zero)).then_some(())
    }

    fn digits(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !byte.is_ascii_digit());
        let (digits, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_way_to_write_a_document() {
        for text in [
            "null",
            "-1.50",
            "0.000",
            "\"\\u001f\\n\\\"/\u{7f}ü\"",
            "[]",
            "{}",
            r#"{"b": [1, 2.50], "aa": {"": true}}"#,
            r#"{"": 1, "ü": 2, "\t\t\t": 3}"#,
        ] {
            assert!(is_canonical(text), "{text}");
        }
        for text in [
            "",
            " 1",
            "1 ",
            "01",
            "-0",
            "-0.0",
            "1.",
            ".5",
            "1e5",
            "+1",
            "[1,2]",
            "[1, ]",
            "[ ]",
            r#"{"a":1}"#,
            r#"{"aa": 1, "b": 2}"#,
            r#"{"a": 1, "a": 1}"#,
            r#"{"b": 1, "\u0061": 1}"#,
            r#""\u0041""#,
            r#""\u001F""#,
            r#""\u0000""#,
            r#""\u000a""#,
            r#""\/""#,
            "\"\n\"",
            "\"",
            "nul",
            "NaN",
        ] {
            assert!(!is_canonical(text), "{text}");
        }
        assert!(is_canonical(&("[".repeat(500) + &"]".repeat(500))));
        assert!(!is_canonical(&("[".repeat(501) + &"]".repeat(501))));
    }
}
