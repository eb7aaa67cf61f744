//! Affinities: what SQLite makes of values that are stored in a column.
//!
//! <https://www.sqlite.org/datatype3.html>, chapter 3.1.

use crate::endpoint::{Plan, Type};

/// What a column's declared type comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    /// By SQLite's rules, in their order.
    pub fn of(declared: &str) -> Affinity {
        let word = declared.to_ascii_uppercase();
        let has_any = |parts: &[&str]| parts.iter().any(|part| word.contains(part));
        match () {
            () if has_any(&["INT"]) => Affinity::Integer,
            () if has_any(&["CHAR", "CLOB", "TEXT"]) => Affinity::Text,
            () if word.is_empty() || has_any(&["BLOB"]) => Affinity::Blob,
            () if has_any(&["REAL", "FLOA", "DOUB"]) => Affinity::Real,
            () => Affinity::Numeric,
        }
    }
}

/// Whether SQL compares the columns of the key as their agreed types compare: it finds a range then, and the
/// index gives its order. A text that counts as an integer is still compared as text there.
pub(super) fn compares_as_agreed(plan: &Plan) -> bool {
    plan.columns[..plan.key].iter().all(|column| {
        matches!(
            (column.agreed, Affinity::of(&column.declared)),
            (Type::Stored, _)
                | (Type::Integer, Affinity::Integer)
                | (Type::Text { padded: false }, Affinity::Text)
                | (Type::Real { single: false }, Affinity::Real)
                | (Type::Bytes, Affinity::Blob)
        )
    })
}
