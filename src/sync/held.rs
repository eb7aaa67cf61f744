//! Held rows: those that could not be written, with the reason, until they change or somebody asks again.

use serde::{Deserialize, Serialize};

use crate::change::{Digest, Value};
use crate::endpoint::{Key, Plan, canon};
use crate::error::{Error, Kind};

use super::position::hex;

/// A row that was put aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The table, as A calls it.
    pub table: String,
    /// Its key, in hexadecimal.
    pub key: String,
    /// The key for people.
    pub shown: String,
    /// The hash of A's row; empty: it was to be removed.
    pub row: String,
    /// A stable code.
    pub code: String,
    /// What the database said.
    pub reason: String,
    /// It waits for another row, or for somebody else's lock, and is tried again each time.
    pub waits: bool,
    /// Since when, in seconds of Unix time.
    pub since: u64,
}

impl Held {
    /// A row that this error kept out. `row`: A's row; none: it was to be removed.
    pub fn new(table: &str, key: &[u8], row: Option<&[u8]>, why: &Error, now: u64) -> Held {
        Held {
            table: table.to_owned(),
            key: hex::text(key),
            shown: show_key(key),
            row: row.map(fingerprint).unwrap_or_default(),
            code: why.code().to_owned(),
            reason: why.message().to_owned(),
            waits: fault(why) == Fault::Nobody
                || matches!(why.kind(), Kind::Behind | Kind::Conflict),
            since: now,
        }
    }

    /// Its key.
    pub fn key(&self) -> Option<Key> {
        hex::key(&self.key)
    }

    /// Whether trying this row again would be trying the same thing again.
    pub fn is_same(&self, row: &[u8]) -> bool {
        !self.waits && self.row == fingerprint(row)
    }
}

/// A row's hash as text.
pub fn fingerprint(row: &[u8]) -> String {
    let hash: Digest = canon::hash(row);
    hash.to_string()
}

/// A key for people.
pub fn show_key(key: &[u8]) -> String {
    match canon::decode_key(key) {
        Ok(values) => values.iter().map(show).collect::<Vec<_>>().join(", "),
        // Of a row without a key it is a hash.
        Err(_) => format!("row {}", hex::text(key)),
    }
}

/// A key as text, by column.
pub fn named_key(plan: &Plan, key: &[u8]) -> Vec<(String, String)> {
    match canon::decode_key(key) {
        Ok(values) if values.len() == plan.key => {
            let names = plan.columns.iter().map(|column| column.name.clone());
            names.zip(values.iter().map(show)).collect()
        }
        _ => vec![("key".to_owned(), show_key(key))],
    }
}

/// A value for people.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(i) => i.to_string(),
        Value::Real(r) => r.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(blob) => format!("x'{}'", hex::text(blob)),
    }
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A row's: it will fail again.
    Row,
    /// Nobody's: it may pass.
    Nobody,
    /// Not to be mended here.
    Fatal,
}

/// Whose fault an error of `apply` is.
pub fn fault(error: &Error) -> Fault {
    match error.kind() {
        // However few rows they are.
        _ if matches!(error.code(), "DISK_FULL" | "ENDPOINT_READ_ONLY") => Fault::Fatal,
        Kind::Invalid | Kind::Behind | Kind::Conflict => Fault::Row,
        Kind::Unavailable | Kind::Retry | Kind::Unknown => Fault::Nobody,
        Kind::Forbidden | Kind::Storage | Kind::Corrupt | Kind::Diverged => Fault::Fatal,
    }
}
