//! Why a request to a node came to nothing.

use std::fmt;

use reqwest::Method;
use serde::Deserialize;

/// What a node answered in place of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// The sentence.
    pub message: String,
    /// The next step; may be empty.
    #[serde(default)]
    pub hint: String,
    /// Whether the same request may be sent again: `yes`, `no`, `unknown`.
    #[serde(default)]
    pub retry: String,
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The address is none.
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answered.
    Unreachable {
        /// Who was asked.
        url: String,
        /// What happened.
        why: String,
        /// Whether what was asked for may have been done: it was more than a look, and was sent.
        perhaps_done: bool,
    },
    /// The node answered with an error.
    Refused(Refusal),
    /// Something answered that is no node, or another version.
    Strange {
        /// Who was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// How the answer begins.
        start: String,
    },
}

impl Failure {
    pub(super) fn unreachable(method: &Method, url: &str, error: &reqwest::Error) -> Failure {
        let why = match error.is_timeout() {
            true => "no answer in time".into(),
            false => root_cause(error),
        };
        let perhaps_done = method != Method::GET && !error.is_connect();
        Failure::Unreachable { url: url.into(), why, perhaps_done }
    }

    /// The next step, if there is one to name.
    pub fn hint(&self) -> Option<String> {
        match self {
            Failure::Refused(refusal) => {
                (!refusal.hint.is_empty()).then(|| refusal.hint.clone())
            }
            Failure::Unreachable { perhaps_done: true, .. } => {
                Some("the request may have been carried out; look before you send it again".into())
            }
            Failure::Unreachable { .. } => {
                Some("is the node running, and is this its address? `syncline serve` prints it".into())
            }
            Failure::Strange { .. } => {
                Some("is this the address of a Syncline node? status and administration are at admin_listen".into())
            }
            Failure::Address { .. } => None,
        }
    }

    /// The stable code, as errors of this program have one.
    pub fn code(&self) -> &str {
        match self {
            Failure::Address { .. } => "URL_INVALID",
            Failure::Unreachable { .. } => "UNREACHABLE",
            Failure::Refused(refusal) => &refusal.code,
            Failure::Strange { .. } => "ANSWER_STRANGE",
        }
    }
}

/// The innermost reason: the outer ones only say that a request failed.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Address { url, why } => write!(f, "{url:?} is no address of a node: {why}"),
            Failure::Unreachable { url, why, .. } => write!(f, "{url} cannot be reached: {why}"),
            Failure::Refused(refusal) => f.write_str(&refusal.message),
            Failure::Strange { url, status, start } => {
                write!(f, "{url} answered {status} with something unknown: {start:?}")
            }
        }
    }
}

impl std::error::Error for Failure {}
