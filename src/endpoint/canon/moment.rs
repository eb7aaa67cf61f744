//! Dates and times, as engines write them, in one form each.
//!
//! ```text
//! 2024-05-06 07:08:09.120000     2024-05-06T07:08:09.12        ─▶  2024-05-06 07:08:09.12
//! 2024-05-06 09:08:09+02         2024-05-06T07:08:09Z          ─▶  2024-05-06 07:08:09      (timestamptz)
//! 07:08                          07:08:09                      ─▶  07:08:00, 07:08:09
//! ```
//!
//! More digits of a second than the agreed type keeps are cut off, as the narrower engine would. A timestamp
//! without a zone is taken for UTC where a zone is asked for. Left out: years before 1 and after 9999, and
//! `infinity`: they stay as they were written.

/// A timestamp without a zone; one that is written is dropped with what it says.
pub(super) fn timestamp(text: &str, digits: u8) -> Option<String> {
    let (date, rest) = split_date(text)?;
    let (clock, zone) = split_zone(rest);
    // Of a moment in some other zone the local time is not known to be meant.
    if zone.is_some_and(|minutes| minutes != 0) {
        return None;
    }
    Some(format!("{date} {}", clock_time(clock, digits)?))
}

/// A moment, in UTC.
pub(super) fn timestamptz(text: &str, digits: u8) -> Option<String> {
    let (date, rest) = split_date(text)?;
    let (clock, zone) = split_zone(rest);
    let clock = clock_time(clock, digits)?;
    let offset = zone.unwrap_or(0);
    if offset == 0 {
        return Some(format!("{date} {clock}"));
    }
    let (days, minutes) = (days_of(&date)?, i64::from(minutes_of(&clock)?) - i64::from(offset));
    let (date, minutes) = (date_of(days + minutes.div_euclid(1440))?, minutes.rem_euclid(1440));
    Some(format!("{date} {:02}:{:02}{}", minutes / 60, minutes % 60, &clock[5..]))
}

/// A date; the time behind it, if there is one, is cut off.
pub(super) fn date(text: &str) -> Option<String> {
    let (date, rest) = split_date(text)?;
    // What is no time may say another day: "0044-03-15 BC".
    clock_time(split_zone(rest).0, 0)?;
    Some(date)
}

/// The date so many days before this one.
pub(in crate::endpoint) fn days_before(date: &str, days: i64) -> Option<String> {
    date_of(days_of(date)? - days)
}

/// A time of day, or a span of hours as MySQL has it.
pub(super) fn time(text: &str, digits: u8) -> Option<String> {
    let text = text.trim();
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", text),
    };
    let clock = clock_time(unsigned, digits)?;
    let zero = clock.bytes().all(|byte| matches!(byte, b'0' | b':' | b'.'));
    Some(if zero { clock } else { format!("{sign}{clock}") })
}

/// The date in `YYYY-MM-DD`, and what stands behind it.
fn split_date(text: &str) -> Option<(String, &str)> {
    let text = text.trim();
    let date = text.get(..10)?;
    days_of(date)?;
    let rest = &text[10..];
    let rest = rest.strip_prefix(['T', 't', ' ']).or(rest.is_empty().then_some(""))?;
    Some((date.to_owned(), rest))
}

/// What stands before the zone, and the zone's minutes east of Greenwich, if it is there.
fn split_zone(text: &str) -> (&str, Option<i32>) {
    let text = text.trim();
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return (clock, Some(0));
    }
    let Some(at) = text.rfind(['+', '-']) else { return (text, None) };
    let digits = text[at + 1..].replace(':', "");
    let number =
        |range: std::ops::Range<usize>| digits.get(range).map_or(Some(0), |d| d.parse().ok());
    match (number(0..2), number(2..4)) {
        (Some(hours), Some(minutes)) if matches!(digits.len(), 2 | 4) => {
            let east: i32 = hours * 60 + minutes;
            (&text[..at], Some(if text.as_bytes()[at] == b'-' { -east } else { east }))
        }
        _ => (text, None),
    }
}

/// `HH:MM:SS`, and as many digits of the second as say something.
fn clock_time(text: &str, digits: u8) -> Option<String> {
    let text = if text.is_empty() { "00" } else { text.trim() };
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    let mut part = |most: u32| match parts.next() {
        None => Some(0),
        Some(p) if !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => {
            p.parse().ok().filter(|n| *n <= most)
        }
        Some(_) => None,
    };
    let (hours, minutes, seconds): (u32, u32, u32) = (part(838)?, part(59)?, part(60)?);
    if parts.next().is_some() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.get(..usize::from(digits)).unwrap_or(fraction).trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{hours:02}:{minutes:02}:{seconds:02}{point}{fraction}"))
}

fn minutes_of(clock: &str) -> Option<u32> {
    Some(clock.get(..2)?.parse::<u32>().ok()? * 60 + clock.get(3..5)?.parse::<u32>().ok()?)
}

/// Days since 0000-03-01; none if there is no such day.
fn days_of(date: &str) -> Option<i64> {
    let bytes = date.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        let part = &date[range];
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if year == 0 || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    Some(days_from(year, month, day))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts years from March on, so that the leap day is the last one.
fn days_from(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1
}

fn date_of(days: i64) -> Option<String> {
    let mut year = days * 400 / 146_097;
    while days_from(year + 1, 3, 1) <= days {
        year += 1;
    }
    while days_from(year, 3, 1) > days {
        year -= 1;
    }
    let in_year = days - days_from(year, 3, 1);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (1..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_one_form() {
        let utc = |text: &str| timestamptz(text, 6);
        let form = |text: &str| Some(text.to_owned());
        assert_eq!(utc("2024-05-06 09:08:09.120000+02"), form("2024-05-06 07:08:09.12"));
        assert_eq!(utc("2024-01-01T00:30:00+05:45"), form("2023-12-31 18:45:00"));
        assert_eq!(utc("2024-02-28 23:30:00-01"), form("2024-02-29 00:30:00"));
        assert_eq!(utc("2024-05-06T07:08:09Z"), utc("2024-05-06 07:08:09"));
        assert_eq!(timestamp("2024-05-06 07:08:09.123456", 3), form("2024-05-06 07:08:09.123"));
        assert_eq!(timestamp("2024-05-06", 6), form("2024-05-06 00:00:00"));
        assert_eq!(date("2024-05-06 07:08:09"), form("2024-05-06"));
        assert_eq!(time("-00:00:00.0", 6), form("00:00:00"));
        assert_eq!(time("-101:02:03", 6), form("-101:02:03"));
        assert_eq!(time("07:08", 6), form("07:08:00"));
        for wrong in [
            "2023-02-29",
            "2024-13-01",
            "0000-00-00",
            "24-1-1",
            "2024-05-06x",
            "0044-03-15 BC",
            "",
            "now",
        ] {
            assert_eq!(date(wrong), None, "{wrong}");
        }
        assert_eq!(timestamp("2024-05-06 07:08:09+02", 6), None);
    }

    #[test]
    fn every_day_comes_back() {
        let mut days = days_of("0001-01-01").unwrap();
        let (mut year, mut month, mut day) = (1, 1, 1);
        while year < 2500 {
            let written = format!("{year:04}-{month:02}-{day:02}");
            assert_eq!(days_of(&written), Some(days));
            assert_eq!(date_of(days), Some(written));
            days += 1;
            day += 1;
            if day > days_in(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
