//! Text that PostgreSQL keeps in a type of its own, and gives back in one form only.
//!
//! PostgreSQL takes `2024-5-1T12:00Z` for a moment, and gives `2024-05-01 12:00:00+00` back. So a column of
//! such a type holds what PostgreSQL would write, to the letter, and refuses every other way to say the same:
//!
//! | declared | PostgreSQL | held |
//! | --- | --- | --- |
//! | TEXT UUID | `uuid` | 36 characters, lower case |
//! | TEXT DATE | `date` | `2024-05-31`, `infinity`, `-infinity` |
//! | TEXT TIME, with `(p)` | `time` | `12:30:00.25`, `24:00:00` |
//! | TEXT TIMESTAMP, with `(p)` | `timestamp` | `2024-05-31 12:30:00.25`, `infinity`, `-infinity` |
//! | TEXT TIMESTAMPTZ, with `(p)` | `timestamptz` | the same in UTC, with `+00` at the end |
//! | TEXT JSONB | `jsonb` | what `jsonb::text` gives, see the module `jsonb` |
//! | TEXT CHAR(n) | `char(n)` | n characters, blanks at the end among them |
//!
//! The two words of a declared type are what SQLite keeps and what PostgreSQL does. No ORM declares so by
//! itself: one that declares DATE writes dates in a form of its own, and has them kept as text.
//!
//! Years go from 1 to 9999. So the order of the texts, which is SQLite's, is that of time, which is
//! PostgreSQL's; with a year of five digits, or BC, it would not be.
//!
//! Left out: mending what is given. A writer's copy holds what it was given, and must hold what PostgreSQL
//! gives back.

use std::borrow::Cow;

use super::jsonb;

/// How many digits of a second are kept; all six, if it is not said.
type Precision = Option<u32>;

/// The most digits of a second that there can be.
const MOST_DIGITS: u32 = 6;

/// PostgreSQL's own limit of `char(n)`.
const LONGEST_CHAR: u32 = 10_485_760;

const WORDS: [&str; 7] = ["UUID", "DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "JSONB", "CHAR"];

/// A type whose values are text, each in one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `uuid`.
    Uuid,
    /// `date`.
    Date,
    /// `time without time zone`.
    Time(Precision),
    /// `timestamp without time zone`.
    Timestamp(Precision),
    /// `timestamp with time zone`.
    Timestamptz(Precision),
    /// `jsonb`.
    Jsonb,
    /// `character(n)`.
    Char(u32),
}

impl Form {
    /// The second word of `TEXT UUID` and its like, in upper case.
    pub fn word(name: &str) -> Option<&str> {
        let mut words = name.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("TEXT"), Some(word), None) if WORDS.contains(&word) => Some(word),
            _ => None,
        }
    }

    /// The form of that word, with what stands in parentheses behind it.
    pub fn of(word: &str, arguments: Option<&str>) -> Option<Form> {
        let number: Option<u32> = match arguments {
            None => None,
            Some(digits) => Some(digits.trim().parse().ok()?),
        };
        let precision = number.filter(|n| *n <= MOST_DIGITS);
        let fits = precision == number;
        match word {
            "UUID" if number.is_none() => Some(Form::Uuid),
            "DATE" if number.is_none() => Some(Form::Date),
            "JSONB" if number.is_none() => Some(Form::Jsonb),
            "TIME" if fits => Some(Form::Time(precision)),
            "TIMESTAMP" if fits => Some(Form::Timestamp(precision)),
            "TIMESTAMPTZ" if fits => Some(Form::Timestamptz(precision)),
            "CHAR" => number.filter(|n| (1..=LONGEST_CHAR).contains(n)).map(Form::Char),
            _ => None,
        }
    }

    /// As PostgreSQL's CREATE TABLE says it, and `format_type`.
    pub fn sql(self) -> Cow<'static, str> {
        let (precision, zone) = match self {
            Form::Uuid | Form::Date | Form::Jsonb => return self.name().into(),
            Form::Char(n) => return format!("character({n})").into(),
            Form::Time(p) | Form::Timestamp(p) => (p, "without"),
            Form::Timestamptz(p) => (p, "with"),
        };
        let precision = precision.map_or(String::new(), |p| format!("({p})"));
        let name = self.name().trim_end_matches("tz");
        format!("{name}{precision} {zone} time zone").into()
    }

    /// How to declare a column that PostgreSQL reports so.
    pub fn declaration(reported: &str) -> Option<String> {
        let arguments = reported.split_once('(').and_then(|(_, rest)| rest.split(')').next());
        let is_it =
            |word: &&&str| Form::of(word, arguments).is_some_and(|form| form.sql() == reported);
        let word = WORDS.iter().find(is_it)?;
        let arguments = arguments.map_or(String::new(), |arguments| format!("({arguments})"));
        Some(format!("TEXT {word}{arguments}"))
    }

    /// The type's short name.
    pub fn name(self) -> &'static str {
        &self.cast()[2..]
    }

    /// What makes its value of text.
    pub fn cast(self) -> &'static str {
        match self {
            Form::Uuid => "::uuid",
            Form::Date => "::date",
            Form::Time(_) => "::time",
            Form::Timestamp(_) => "::timestamp",
            Form::Timestamptz(_) => "::timestamptz",
            Form::Jsonb => "::jsonb",
            Form::Char(_) => "::bpchar",
        }
    }

    /// What makes text of its value. As text `char(n)` would lose its blanks; it travels just like text.
    pub fn read_cast(self) -> &'static str {
        if matches!(self, Form::Char(_)) { "" } else { "::text" }
    }

    /// Whether PostgreSQL gives this text back as it is.
    pub fn holds(self, text: &str) -> bool {
        match self {
            Form::Uuid => is_uuid(text.as_bytes()),
            Form::Date => is_endless(text) || is_date(text.as_bytes()),
            Form::Time(p) => text == "24:00:00" || is_clock(text, p),
            Form::Timestamp(p) => is_endless(text) || is_moment(text, p),
            Form::Timestamptz(p) => {
                is_endless(text) || text.strip_suffix("+00").is_some_and(|text| is_moment(text, p))
            }
            Form::Jsonb => jsonb::is_canonical(text),
            Form::Char(n) => !text.contains('\0') && text.chars().count() as u64 == u64::from(n),
        }
    }

    /// What to say of a text that it does not hold.
    pub fn holds_only(self) -> &'static str {
        match self {
            Form::Uuid => "holds a uuid as PostgreSQL writes it only",
            Form::Date => "holds a date as PostgreSQL writes it only, of the years 1 to 9999",
            Form::Time(_) => "holds a time as PostgreSQL writes it only, no finer than declared",
            Form::Timestamp(_) | Form::Timestamptz(_) => {
                "holds a moment as PostgreSQL writes it only, no finer than declared, \
                 of the years 1 to 9999"
            }
            Form::Jsonb => "holds JSON as PostgreSQL writes jsonb only, of at most 500 levels",
            Form::Char(_) => {
                "holds as many characters as it is declared with, no more and no fewer"
            }
        }
    }

    /// How to write it instead.
    pub fn example(self) -> &'static str {
        match self {
            Form::Uuid => "write it like '0e37df36-f698-41e6-8dd4-cb9ced3df976', in lower case",
            Form::Date => "write it like '2024-05-31', or 'infinity'",
            Form::Time(_) => "write it like '12:30:00' or '12:30:00.25': no zero ends a fraction",
            Form::Timestamp(_) => {
                "write it like '2024-05-31 12:30:00' or '2024-05-31 12:30:00.25': a space, no zone, \
                 and no zero that ends a fraction; or 'infinity'"
            }
            Form::Timestamptz(_) => {
                "write it in UTC, like '2024-05-31 12:30:00+00' or '2024-05-31 12:30:00.25+00': a space, \
                 and no zero that ends a fraction; or 'infinity'"
            }
            Form::Jsonb => {
                "write it like '{\"b\": [1, 2.50], \"aa\": null}': one space after a colon or comma and none \
                 elsewhere, short keys first, none twice, numbers without an exponent"
            }
            Form::Char(_) => "fill it up with blanks at the end, as PostgreSQL does",
        }
    }
}

fn is_uuid(text: &[u8]) -> bool {
    let fits = |(place, byte): (usize, &u8)| match place {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.iter().enumerate().all(fits)
}

/// Before or after everything, also by the order of texts.
fn is_endless(text: &str) -> bool {
    text == "infinity" || text == "-infinity"
}

fn is_moment(text: &str, precision: Precision) -> bool {
    let parts = text.split_once(' ');
    parts.is_some_and(|(date, clock)| is_date(date.as_bytes()) && is_clock(clock, precision))
}

/// `2024-05-31`, a day that there was or will be.
fn is_date(text: &[u8]) -> bool {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return false };
    let (Some(y1), Some(y2)) = (number(y1, y2), number(y3, y4)) else { return false };
    let (Some(month), Some(day)) = (number(m1, m2), number(d1, d2)) else { return false };
    let year = y1 * 100 + y2;
    year > 0 && (1..=days(year, month)).contains(&day)
}

/// `12:30:00`, with a fraction that says something.
fn is_clock(text: &str, precision: Precision) -> bool {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = clock.as_bytes() else { return false };
    let below = |limit: u32, tens, ones| number(tens, ones).is_some_and(|n| n < limit);
    let most = precision.unwrap_or(MOST_DIGITS) as usize;
    let says_something = |fraction: &str| {
        (1..=most).contains(&fraction.len())
            && fraction.bytes().all(|byte| byte.is_ascii_digit())
            && !fraction.ends_with('0')
    };
    below(24, h1, h2)
        && below(60, m1, m2)
        && below(60, s1, s2)
        && fraction.is_none_or(says_something)
}

/// Two digits.
fn number(tens: u8, ones: u8) -> Option<u32> {
    let digit = |byte: u8| char::from(byte).to_digit(10);
    Some(digit(tens)? * 10 + digit(ones)?)
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_type_is_two_words() {
        let of = |name: &str, arguments| Form::of(Form::word(name)?, arguments);
        assert_eq!(of("TEXT  UUID", None), Some(Form::Uuid));
        assert_eq!(of("TEXT TIMESTAMPTZ", Some(" 3 ")), Some(Form::Timestamptz(Some(3))));
        for (name, arguments) in [
            ("TEXT TIME", Some("7")),
            ("TEXT TIME", Some("-1")),
            ("TEXT DATE", Some("3")),
            ("TEXT CHAR", None),
            ("TEXT CHAR", Some("0")),
            ("TEXT DATES", None),
            ("UUID", None),
            ("UUID TEXT", None),
            ("TEXT UUID X", None),
        ] {
            assert_eq!(of(name, arguments), None, "{name} {arguments:?}");
        }
    }

    #[test]
    fn what_is_reported_leads_back_to_itself() {
        for (reported, declared) in [
            ("uuid", Some("TEXT UUID")),
            ("jsonb", Some("TEXT JSONB")),
            ("time without time zone", Some("TEXT TIME")),
            ("time(0) without time zone", Some("TEXT TIME(0)")),
            ("timestamp(3) without time zone", Some("TEXT TIMESTAMP(3)")),
            ("timestamp(6) with time zone", Some("TEXT TIMESTAMPTZ(6)")),
            ("character(3)", Some("TEXT CHAR(3)")),
            ("character varying(3)", None),
            ("time with time zone", None),
            ("timestamp(7) with time zone", None),
        ] {
            assert_eq!(Form::declaration(reported).as_deref(), declared, "{reported}");
        }
    }

    #[test]
    fn there_is_one_way_to_write_a_moment() {
        let held = |form: Form, text: &str| assert!(form.holds(text), "{form:?} {text}");
        let refused = |form: Form, text: &str| assert!(!form.holds(text), "{form:?} {text}");
        for text in ["2024-02-29 00:00:00", "9999-12-31 23:59:59.999999", "-infinity"] {
            held(Form::Timestamp(None), text);
        }
        for text in [
            "2023-02-29 00:00:00",
            "2024-05-31T12:30:00",
            "2024-05-31 12:30:00.10",
            "2024-05-31 12:30:00.",
            "2024-05-31 12:30:00.1234567",
            "2024-05-31 24:00:00",
            "2024-05-31 23:59:60",
            "2024-05-31 12:30",
            "2024-05-31 12:30:00+00",
            "0000-05-31 12:30:00",
            "10000-05-31 12:30:00",
            "0044-03-15 12:00:00 BC",
            "Infinity",
            "now",
            "",
        ] {
            refused(Form::Timestamp(None), text);
        }
        held(Form::Timestamptz(Some(3)), "2024-05-31 12:30:00.125+00");
        refused(Form::Timestamptz(Some(3)), "2024-05-31 12:30:00.1255+00");
        for zone in ["", "+02", "Z", "+00:00", "-00"] {
            refused(Form::Timestamptz(None), &format!("2024-05-31 12:30:00{zone}"));
        }
        held(Form::Time(None), "24:00:00");
        refused(Form::Time(None), "24:00:00.1");
        refused(Form::Uuid, "0E37DF36-F698-41E6-8DD4-CB9CED3DF976");
        refused(Form::Uuid, "0e37df36f69841e68dd4cb9ced3df976");
    }
}
