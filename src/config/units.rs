//! Durations and sizes as people write them: `"40s"`, `"8MiB"`.

use std::time::Duration;

/// Longest unit first, so that `ms` is not read as `m`.
const TIMES: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Reads `NUMBER UNIT`; the number may have a fraction, the unit may not be left out.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    let scale = units.iter().find(|(name, _)| *name == unit)?.1;
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(scale),
        Err(_) => fraction(number, scale),
    }
}

/// `1.5` of a unit; the float is exact enough below 2^53.
fn fraction(number: &str, scale: u64) -> Option<u64> {
    let product = number.parse::<f64>().ok()? * scale as f64;
    (product.is_finite() && product < 9e15).then_some(product as u64)
}

/// Reads a duration such as `250ms`, `40s`, `5m`, `24h` or `7d`.
pub fn duration(text: &str) -> Option<Duration> {
    parse(text, TIMES).map(Duration::from_millis)
}

/// Reads a size such as `512B`, `64KiB`, `8MiB` or `10GB`.
pub fn size(text: &str) -> Option<u64> {
    parse(text, SIZES)
}

/// Writes a duration in the largest unit that leaves no rest; a single day is 24 hours.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis() as u64;
    let units = if millis > 86_400_000 { &TIMES[1..] } else { &TIMES[1..4] };
    show(millis, units).unwrap_or_else(|| format!("{millis}ms"))
}

/// Writes a size in the largest binary unit that leaves no rest.
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES[..4]).unwrap_or_else(|| format!("{bytes}B"))
}

fn show(value: u64, units: &[(&str, u64)]) -> Option<String> {
    let fits = |scale: u64| value > 0 && value.is_multiple_of(scale);
    let (name, scale) = units.iter().rev().find(|(_, scale)| fits(*scale))?;
    Some(format!("{}{name}", value / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, millis) in [
            ("250ms", 250),
            ("40s", 40_000),
            ("5m", 300_000),
            ("1.5h", 5_400_000),
            ("7 d", 604_800_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for (text, bytes) in
            [("512B", 512), ("8MiB", 8 << 20), ("1.5KiB", 1536), ("10GB", 10_000_000_000)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_or_past_the_end_is_refused() {
        for text in
            ["", "40", "s", "-1s", "40 seconds", "1..5s", "1e3s", "99999999999999999999s", "∞s"]
        {
            assert_eq!(duration(text), None, "{text:?}");
        }
        for text in ["8", "8mb", "MiB", "18446744073709551615TiB"] {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["1ms", "1500ms", "40s", "5m", "24h", "90s", "0ms"] {
            let read = duration(text).unwrap();
            assert_eq!(duration(&show_duration(read)), Some(read), "{text}");
        }
        assert_eq!(show_duration(Duration::from_secs(24 * 3600)), "24h");
        assert_eq!(show_duration(Duration::from_secs(7 * 86_400)), "7d");
        assert_eq!(show_size(10 << 30), "10GiB");
        assert_eq!(size(&show_size(1_000_001)), Some(1_000_001));
    }
}
