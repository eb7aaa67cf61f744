//! Tables as an endpoint describes them, and the types that a pair of columns can agree on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a column's values are compared as.
///
/// The comment says what the canonical value is; see [`super::canon`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// Whatever is stored, of whatever class: between two SQLite columns.
    Stored,
    /// A 64-bit integer.
    Integer,
    /// Text of a decimal number without superfluous zeros; rounded to 15 significant digits where one side
    /// keeps no more.
    Decimal {
        /// All digits count.
        exact: bool,
    },
    /// A 64-bit float; -0.0 is 0.0, and there is one NaN. `single`: rounded to 32 bits.
    Real {
        /// One side keeps 32 bits.
        single: bool,
    },
    /// Text. `padded`: without the blanks at its end, which one side adds or ignores.
    Text {
        /// One side is a CHAR(n).
        padded: bool,
    },
    /// A blob.
    Bytes,
    /// The integer 0 or 1.
    Boolean,
    /// Text `YYYY-MM-DD HH:MM:SS[.ffffff]`, so many digits at most behind the point, zeros at the end left out.
    Timestamp {
        /// Digits of a second.
        digits: u8,
    },
    /// The same, in UTC.
    Timestamptz {
        /// Digits of a second.
        digits: u8,
    },
    /// Text `YYYY-MM-DD`.
    Date,
    /// Text `[-]HH:MM:SS[.ffffff]`.
    Time {
        /// Digits of a second.
        digits: u8,
    },
    /// Text of 36 characters, in lower case.
    Uuid,
    /// Text of a JSON document with sorted keys, without blanks, and with its numbers as decimals are.
    Json,
}

impl Type {
    /// What a type means where any word may be declared: SQLite itself looks at parts of the word, and so does this.
    pub fn meant_by(declared: &str) -> Type {
        let word = declared.to_ascii_uppercase();
        let has = |part: &str| word.contains(part);
        let (size, _) = numbers(declared);
        match () {
            () if word.is_empty() || has("ANY") => Type::Stored,
            () if has("BOOL") => Type::Boolean,
            () if has("TIMESTAMPTZ") || has("WITH TIME ZONE") => Type::Timestamptz { digits: 6 },
            () if has("DATETIME") || has("TIMESTAMP") => Type::Timestamp { digits: 6 },
            () if has("DATE") => Type::Date,
            () if has("UUID") || has("GUID") => Type::Uuid,
            () if has("JSON") => Type::Json,
            () if has("INT") && !has("POINT") => Type::Integer,
            () if has("TIME") => Type::Time { digits: 6 },
            () if has("CHAR") || has("CLOB") || has("TEXT") => Type::Text { padded: false },
            () if has("BLOB") || has("BINARY") || has("BYTEA") => Type::Bytes,
            () if has("REAL") || has("FLOA") || has("DOUB") => Type::Real { single: false },
            // With numeric affinity SQLite keeps 15 digits; in a column of text, all.
            () if has("DEC") || has("NUM") => {
                Type::Decimal { exact: size.is_some_and(|size| size <= 15) }
            }
            () => Type::Stored,
        }
    }
}

/// The numbers in brackets behind a type.
pub(super) fn numbers(declared: &str) -> (Option<u32>, Option<u32>) {
    let inside = declared.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let mut numbers =
        inside.map_or("", |(inside, _)| inside).split(',').map(|n| n.trim().parse().ok());
    (numbers.next().flatten(), numbers.next().flatten())
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Stored => f.write_str("as stored"),
            Type::Integer => f.write_str("integer"),
            Type::Decimal { exact: true } => f.write_str("decimal"),
            Type::Decimal { exact: false } => f.write_str("decimal (15 digits)"),
            Type::Real { single: false } => f.write_str("real"),
            Type::Real { single: true } => f.write_str("real (32 bits)"),
            Type::Text { padded: false } => f.write_str("text"),
            Type::Text { padded: true } => f.write_str("text (blanks at the end ignored)"),
            Type::Bytes => f.write_str("bytes"),
            Type::Boolean => f.write_str("boolean"),
            Type::Timestamp { digits: 6 } => f.write_str("timestamp"),
            Type::Timestamp { digits } => write!(f, "timestamp ({digits} digits)"),
            Type::Timestamptz { digits: 6 } => f.write_str("timestamptz"),
            Type::Timestamptz { digits } => write!(f, "timestamptz ({digits} digits)"),
            Type::Date => f.write_str("date"),
            Type::Time { digits: 6 } => f.write_str("time"),
            Type::Time { digits } => write!(f, "time ({digits} digits)"),
            Type::Uuid => f.write_str("uuid"),
            Type::Json => f.write_str("json"),
        }
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as the engine calls it.
    pub declared: String,
    /// The widest type that it holds all of.
    pub kind: Type,
    /// Whether it takes no NULL.
    pub not_null: bool,
    /// The engine computes it: it is neither compared nor written.
    pub generated: bool,
    /// It compares equal what differs in case (or more): see [`super::agree`].
    pub folds_case: bool,
    /// Longest text in characters, or precision of a decimal; for `--create`.
    pub size: Option<u32>,
    /// Digits of a decimal behind the point; for `--create`.
    pub scale: Option<u32>,
}

/// What happens to children when their parent is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// The delete is refused.
    Refuse,
    /// Children are deleted or changed too.
    Cascade,
}

/// A reference to another table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Columns of this table.
    pub columns: Vec<String>,
    /// The table that they refer to.
    pub parent: String,
    /// … and its columns.
    pub parent_columns: Vec<String>,
    /// What a delete of the parent does.
    pub on_delete: OnDelete,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name; with its schema before it, if that is not the default one.
    pub name: String,
    /// In declared order.
    pub columns: Vec<Column>,
    /// The primary key, or else the narrowest unique key without NULLs; empty: none, and rows are compared as
    /// a multiset.
    pub key: Vec<String>,
    /// All other unique keys.
    pub unique: Vec<Vec<String>>,
    /// References to other tables.
    pub foreign_keys: Vec<ForeignKey>,
    /// Triggers that would run.
    pub triggers: Vec<String>,
    /// About how many rows, if the engine knows without counting.
    pub rows: Option<u64>,
    /// About how many bytes.
    pub bytes: Option<u64>,
    /// What made it and its unique indexes, in the engine's own words, which only the same engine reads: SQLite
    /// keeps them, and another SQLite file can be made alike in all that is not described here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made_by: Vec<String>,
}

impl Table {
    /// The column of this name; if there is none, one whose name differs in case only.
    pub fn column(&self, name: &str) -> Option<&Column> {
        let names: Vec<&str> = self.columns.iter().map(|column| &*column.name).collect();
        self.columns.iter().find(|column| is_meant(name, &column.name, &names))
    }
}

/// Whether a name that somebody wrote means this one of several: the one that is spelled so, and others that differ
/// in case only if none is.
pub fn is_meant(written: &str, name: &str, names: &[&str]) -> bool {
    written == name || written.eq_ignore_ascii_case(name) && !names.contains(&written)
}

/// For each name of A its counterpart among those of B: the one that is spelled so, or else one that differs in case
/// only and has no counterpart of its own.
pub fn paired_names(a: &[&str], b: &[&str]) -> Vec<Option<usize>> {
    let mut pairs: Vec<_> = a.iter().map(|name| b.iter().position(|n| n == name)).collect();
    for (at, name) in a.iter().enumerate() {
        if pairs[at].is_none() {
            let is_free = |place: &usize| !pairs.contains(&Some(*place));
            let mut alike = (0..b.len()).filter(|place| b[*place].eq_ignore_ascii_case(name));
            pairs[at] = alike.find(is_free);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_those_that_are_spelled_alike_first() {
        let pairs = paired_names(&["Users", "users", "Id", "gone"], &["users", "ID", "id", "more"]);
        assert_eq!(pairs, [None, Some(0), Some(1), None]);
        let meant = |written| ["Users", "users"].map(|n| is_meant(written, n, &["Users", "users"]));
        assert_eq!(meant("users"), [false, true]);
        assert_eq!(meant("USERS"), [true, true]);
        assert_eq!(meant("user"), [false, false]);
    }
}
