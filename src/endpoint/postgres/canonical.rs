//! Values as PostgreSQL sends them in binary, in canonical form.
//!
//! The formats are those of the types' send functions. Dates count days, and moments microseconds, from
//! 2000-01-01; a `numeric` is digits to the base of 10000, and where the point is.
//!
//! Left out: what PostgreSQL sends for types that it is asked to give as text.

use std::fmt::Write as _;

use super::base::Base;
use super::failure::lost;
use super::relation::Planned;
use super::tuples::Fields;
use crate::change::ValueRef;
use crate::endpoint::canon::{self, form};
use crate::endpoint::{Key, Plan, Row, Type};
use crate::error::{Error, Result};

/// Renders the rows of a plan.
pub(super) struct Renderer {
    columns: Vec<(Base, Type, bool)>,
    key_columns: usize,
    key: Key,
    row: Row,
    scratch: String,
}

/// Whether the server is asked for text: of what is not read in binary.
pub(super) fn is_text(base: Base) -> bool {
    matches!(base, Base::Json | Base::Other)
}

impl Renderer {
    /// For rows of these columns.
    pub fn new(plan: &Plan, columns: &[Planned<'_>]) -> Renderer {
        let columns = columns.iter().map(|(column, held)| {
            let exact = held.base.is_exact(held.digits, column.agreed) && !is_text(held.base);
            (held.base, column.agreed, exact)
        });
        let (key, row, scratch) = Default::default();
        Renderer { columns: columns.collect(), key_columns: plan.key, key, row, scratch }
    }

    /// Key and row.
    pub fn render(&mut self, fields: &mut Fields<'_>) -> Result<(&[u8], &[u8])> {
        self.key.clear();
        self.row.clear();
        for (i, (base, agreed, exact)) in self.columns.iter().enumerate() {
            let value = match fields.next() {
                None => ValueRef::Null,
                Some(bytes) => decode(*base, bytes, &mut self.scratch)?,
            };
            let ready = *exact || form::is_ready(value, *agreed);
            let owned = if ready { None } else { Some(form::conform(value, *agreed)) };
            let value = owned.as_deref().map_or(value, |value| value.as_ref());
            if i < self.key_columns {
                canon::put_key(&mut self.key, value);
            }
            canon::put_value(&mut self.row, value);
        }
        Ok((&self.key, &self.row))
    }
}

fn damaged() -> Error {
    lost("a value is not in its type's format")
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| damaged())
}

/// The value; in the scratch, if PostgreSQL sends it in another form.
fn decode<'a>(base: Base, bytes: &'a [u8], scratch: &'a mut String) -> Result<ValueRef<'a>> {
    scratch.clear();
    Ok(match base {
        Base::Bool => ValueRef::Integer(i64::from(array::<1>(bytes)?[0] != 0)),
        Base::Int2 => ValueRef::Integer(i16::from_be_bytes(array(bytes)?).into()),
        Base::Int4 => ValueRef::Integer(i32::from_be_bytes(array(bytes)?).into()),
        Base::Int8 => ValueRef::Integer(i64::from_be_bytes(array(bytes)?)),
        Base::Float4 => ValueRef::Real(f32::from_be_bytes(array(bytes)?).into()),
        Base::Float8 => ValueRef::Real(f64::from_be_bytes(array(bytes)?)),
        Base::Text | Base::Json | Base::Other => text(bytes),
        Base::Char => match text(bytes) {
            ValueRef::Text(text) => ValueRef::Text(text.trim_end_matches(' ')),
            bytes => bytes,
        },
        Base::Bytea => ValueRef::Blob(bytes),
        Base::Uuid => {
            uuid(scratch, array(bytes)?);
            ValueRef::Text(scratch)
        }
        Base::Date => {
            date(scratch, i32::from_be_bytes(array(bytes)?));
            ValueRef::Text(scratch)
        }
        Base::Time => {
            clock(scratch, i64::from_be_bytes(array(bytes)?));
            ValueRef::Text(scratch)
        }
        Base::Timestamp | Base::Timestamptz => {
            moment(scratch, i64::from_be_bytes(array(bytes)?));
            ValueRef::Text(scratch)
        }
        Base::Numeric => {
            numeric(scratch, bytes).ok_or_else(damaged)?;
            ValueRef::Text(scratch)
        }
    })
}

/// Text that is not UTF-8 (in a database that is not) counts as the bytes that it is.
fn text(bytes: &[u8]) -> ValueRef<'_> {
    std::str::from_utf8(bytes).map_or(ValueRef::Blob(bytes), ValueRef::Text)
}

fn uuid(out: &mut String, bytes: [u8; 16]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (i, byte) in bytes.into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

fn push_number(out: &mut String, number: i64, width: usize) {
    let mut divisor = 10i64.pow(width as u32 - 1);
    while divisor > 0 {
        out.push(char::from(b'0' + (number / divisor % 10) as u8));
        divisor /= 10;
    }
}

fn date(out: &mut String, days: i32) {
    match days {
        i32::MAX => out.push_str("infinity"),
        i32::MIN => out.push_str("-infinity"),
        days => {
            let before = push_date(out, days.into());
            out.push_str(before);
        }
    }
}

fn moment(out: &mut String, micros: i64) {
    match micros {
        i64::MAX => out.push_str("infinity"),
        i64::MIN => out.push_str("-infinity"),
        micros => {
            let before = push_date(out, micros.div_euclid(DAY));
            out.push(' ');
            clock(out, micros.rem_euclid(DAY));
            out.push_str(before);
        }
    }
}

/// Adds the date, and gives what stands at the end of one before the year 1.
fn push_date(out: &mut String, days: i64) -> &'static str {
    let (year, month, day) = civil(days);
    let (year, before) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    match year {
        0..=9999 => push_number(out, year, 4),
        year => write!(out, "{year}").expect("text takes everything"),
    }
    out.push('-');
    push_number(out, month, 2);
    out.push('-');
    push_number(out, day, 2);
    before
}

/// Year, month and day of so many days since 2000-01-01. Years begin in March, so that the leap day is the
/// last one of its year, and eras of 400 years are all of one length.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 730_425;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + next, month, day)
}

fn clock(out: &mut String, micros: i64) {
    let seconds = micros / 1_000_000;
    push_number(out, seconds / 3600, 2);
    out.push(':');
    push_number(out, seconds / 60 % 60, 2);
    out.push(':');
    push_number(out, seconds % 60, 2);
    let micros = micros % 1_000_000;
    if micros > 0 {
        out.push('.');
        push_number(out, micros, 6);
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// A `numeric` as decimals are written: without zeros that say nothing, and without a sign on zero.
fn numeric(out: &mut String, bytes: &[u8]) -> Option<()> {
    let words = bytes.chunks_exact(2).map(|word| i16::from_be_bytes([word[0], word[1]]));
    let words: Vec<i16> = words.collect();
    let (head, digits) = words.split_at_checked(4)?;
    match head[2] as u16 {
        0 => {}
        0x4000 => out.push('-'),
        0xc000 => out.push_str("NaN"),
        0xd000 => out.push_str("Infinity"),
        0xf000 => out.push_str("-Infinity"),
        _ => return None,
    }
    if head[2] as u16 >= 0xc000 {
        return Some(());
    }
    if digits.iter().all(|digit| *digit == 0) {
        out.clear();
        out.push('0');
        return Some(());
    }
    let digit = |place: i32| digits.get(usize::try_from(place).ok()?).copied();
    let weight = i32::from(head[1]);
    let start = out.len();
    for place in 0..=weight {
        push_number(out, digit(place).unwrap_or(0).into(), 4);
    }
    let zeros = out[start..].bytes().take_while(|byte| *byte == b'0').count();
    out.replace_range(start..start + zeros, "");
    if out.len() == start {
        out.push('0');
    }
    out.push('.');
    for place in weight + 1..digits.len() as i32 {
        push_number(out, digit(place).unwrap_or(0).into(), 4);
    }
    let fraction = out.trim_end_matches('0');
    out.truncate(fraction.strip_suffix('.').unwrap_or(fraction).len());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(base: Base, bytes: &[u8]) -> String {
        let mut scratch = String::new();
        match decode(base, bytes, &mut scratch).unwrap() {
            ValueRef::Text(text) => text.to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn moments_are_written_as_everybody_writes_them() {
        let date = |days: i32| under(Base::Date, &days.to_be_bytes());
        assert_eq!(date(0), "2000-01-01");
        assert_eq!(date(59), "2000-02-29");
        assert_eq!(date(60), "2000-03-01");
        assert_eq!(date(-1), "1999-12-31");
        assert_eq!(date(-730_119), "0001-01-01");
        assert_eq!(date(-730_120), "0001-12-31 BC");
        assert_eq!(date(2_921_940), "10000-01-01");
        assert_eq!(date(i32::MIN), "-infinity");
        let moment = |micros: i64| under(Base::Timestamp, &micros.to_be_bytes());
        assert_eq!(moment(-1), "1999-12-31 23:59:59.999999");
        assert_eq!(moment(10_120_000), "2000-01-01 00:00:10.12");
        assert_eq!(moment(i64::MAX), "infinity");
        assert_eq!(under(Base::Time, &DAY.to_be_bytes()), "24:00:00");
    }

    #[test]
    fn every_day_of_the_calendar_comes_as_itself() {
        let mut day = (1, 1, 1);
        for days in -730_119..300_000 {
            assert_eq!(civil(days), day);
            let leap = day.0 % 4 == 0 && (day.0 % 100 != 0 || day.0 % 400 == 0);
            let last = match day.1 {
                2 => 28 + i64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day.2 += 1;
            if day.2 > last {
                day = (day.0, day.1 + 1, 1);
            }
            if day.1 > 12 {
                day = (day.0 + 1, 1, 1);
            }
        }
    }

    #[test]
    fn numbers_lose_what_says_nothing() {
        let number = |words: &[i32]| {
            let bytes = words.iter().flat_map(|word| (*word as i16).to_be_bytes());
            under(Base::Numeric, &bytes.collect::<Vec<_>>())
        };
        assert_eq!(number(&[0, 0, 0, 2]), "0");
        assert_eq!(number(&[2, 0, 0, 2, 12, 5000]), "12.5");
        assert_eq!(number(&[1, -1, 0x4000, 4, 7]), "-0.0007");
        assert_eq!(number(&[1, -2, 0, 8, 7000]), "0.00007");
        assert_eq!(number(&[1, 2, 0, 0, 1]), "100000000");
        assert_eq!(number(&[2, 1, 0x4000, 0, 1, 20]), "-10020");
        assert_eq!(number(&[0, 0, 0xc000, 0]), "NaN");
        assert_eq!(number(&[0, 0, 0xf000, 0]), "-Infinity");
    }
}
