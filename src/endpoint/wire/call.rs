//! What is asked of a gateway, and how its errors travel.

use std::collections::HashSet;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::super::{Column, Engine, Plan, Table};
use crate::error::{Error, Kind};

/// Begins a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// [`super::PROTOCOL`]
    pub protocol: u32,
    /// Whether rows will be applied.
    pub write: bool,
}

/// The session that began.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// [`super::PROTOCOL`]
    pub protocol: u32,
    /// Its name, in the path of all calls.
    pub session: String,
    /// What kind of database stands behind.
    pub engine: Engine,
}

/// A method of [`super::super::Endpoint`], with what is small of its arguments; the rest comes in frames.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they are called as the methods are")]
pub enum Call {
    Tables,
    Begin,
    End,
    Read { plan: Plan },
    Rows { plan: Plan },
    Digest { plan: Plan, bits: u32 },
    Since { plan: Plan, strict: bool },
    Newest { plan: Plan },
    NthKey { plan: Plan, n: usize },
    Apply { plan: Plan, state: Vec<(String, Option<String>)> },
    State { prefix: String },
    CreateStatements { tables: Vec<Table> },
    AddColumnStatement { table: String, column: Column },
    Create { statements: Vec<String> },
    Warnings { tables: Vec<Table> },
}

/// An error on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fault {
    kind: String,
    code: String,
    message: String,
    hint: String,
}

const KINDS: [Kind; 10] = [
    Kind::Invalid,
    Kind::Retry,
    Kind::Conflict,
    Kind::Behind,
    Kind::Diverged,
    Kind::Corrupt,
    Kind::Unavailable,
    Kind::Unknown,
    Kind::Forbidden,
    Kind::Storage,
];

impl From<&Error> for Fault {
    fn from(error: &Error) -> Fault {
        Fault {
            kind: format!("{:?}", error.kind()),
            code: error.code().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint_text().to_owned(),
        }
    }
}

impl Fault {
    /// The error that it was.
    pub fn into_error(self) -> Error {
        let kind = KINDS.into_iter().find(|kind| format!("{kind:?}") == self.kind);
        Error::new(kind.unwrap_or(Kind::Unknown), known_code(&self.code), self.message)
            .hint(self.hint)
    }
}

/// A code of the other side's, kept for as long as this process lives. There are not many.
pub(crate) fn known_code(code: &str) -> &'static str {
    static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut known = KNOWN.lock().expect("no panic while held");
    let known = known.get_or_insert_default();
    if let Some(code) = known.get(code) {
        return code;
    }
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if known.len() >= 500 || code.len() > 60 || !code.bytes().all(plain) {
        return "GATEWAY_REFUSED";
    }
    let code: &'static str = Box::leak(code.to_owned().into_boxed_str());
    known.insert(code);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_arrive_as_they_were() {
        for kind in KINDS {
            let error = Error::new(kind, "ROW_REFUSED", "a sentence").hint("a hint");
            let json = serde_json::to_string(&Fault::from(&error)).unwrap();
            let again = serde_json::from_str::<Fault>(&json).unwrap().into_error();
            assert_eq!((again.kind(), again.code()), (kind, "ROW_REFUSED"));
            assert_eq!((again.message(), again.hint_text()), ("a sentence", "a hint"));
        }
        assert_eq!(known_code("no code <b>"), "GATEWAY_REFUSED");
    }
}
