//! Values and names: few, so that they collide, and odd.

use super::Dice;

const NUMBERS: &[&str] = &[
    "0", "1", "1", "2", "2", "3", "3", "4", "5", "6", "7", "8", "-1", "NULL", "1.0", "2.5", "-0.0",
    "0.0",
];

const ODD: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "9007199254740993",
    "9e999",
    "-9e999",
    "9e999 - 9e999",
    "1e300",
    "4.0e15",
    "''",
    "x''",
    "x'00ff00'",
    "zeroblob(3)",
    "char(0)",
    "'a' || char(0) || 'b'",
    "'é€😀'",
    "'3'",
    "' 3'",
    "'3.0'",
    "'0x10'",
    "TRUE",
    "CAST('1' AS BLOB)",
    "printf('%.*c', 300, 'w')",
];

const TEXTS: &[&str] = &["'a'", "'A'", "'b'", "'B'", "'c'", "'ab'", "'x y'"];

/// A literal.
pub fn literal(dice: &mut Dice) -> String {
    match dice.below(20) {
        0..=9 => dice.pick(NUMBERS),
        10..=15 => dice.pick(TEXTS),
        19 if dice.once_in(12) => "CAST(x'ff' AS TEXT)",
        _ => dice.pick(ODD),
    }
    .to_string()
}

/// A number that may be a key.
pub fn key(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => "NULL".into(),
        1 => dice.pick(&["9223372036854775807", "-5", "3.0", "'7'"]).to_owned(),
        _ => dice.below(9).to_string(),
    }
}

/// Names for columns, tables, and what else has one.
pub const COLUMNS: &[&str] =
    &["a", "b", "c", "d", "e", "rowid", "oid", "A b", "q\"q", "select", "a'b", "f[x]", "Ä"];

/// Names of tables. The trigger names are among them: they are a world of their own.
pub const TABLES: &[&str] =
    &["t", "u", "v", "w", "t 1", "q\"t", "group", "T2", "it's", "[x]", "Ünder"];
