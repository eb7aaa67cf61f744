//! Why a call failed: the client library's errors, sorted by what is to be done about them.
//!
//! Left out: our codes. A store that may not log in and an end of a sync that may not are told to different
//! people.

use std::error::Error as StdError;

use tokio_postgres::error::{Severity, SqlState};

use crate::error::Error;

/// `Result` with the client library's error.
pub(crate) type Answer<T> = Result<T, tokio_postgres::Error>;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It cannot be reached, or the connection was lost.
    Unreachable,
    /// It says that it cannot now: it starts or stops, has no room, or ended the session or what ran in it.
    Unable,
    /// It showed a certificate that is not trusted: it will show the same again.
    Untrusted,
    /// It does not know the user, or the password is wrong.
    Login,
    /// It has no such database.
    NoDatabase,
    /// The user may not do this.
    Forbidden,
    /// It takes no writes: a standby, or set to read only.
    ReadOnly,
    /// Its disk is full.
    DiskFull,
    /// Another session holds what is needed.
    Locked,
    /// Another transaction was in the way: the same may succeed now.
    Conflict,
    /// A value or a row is not one that the table takes.
    Value,
    /// What was asked is not SQL to it, or names what is not there.
    Statement,
    /// Anything else: see the server's log.
    Other,
}

impl Reason {
    /// By what the server said, or what came instead of an answer.
    pub fn of(cause: &tokio_postgres::Error) -> Reason {
        match cause.code() {
            Some(state) => Reason::of_state(state),
            None if is_untrusted(cause) => Reason::Untrusted,
            None => Reason::Unreachable,
        }
    }

    fn of_state(state: &SqlState) -> Reason {
        match (state, &state.code()[..2]) {
            (s, _) if *s == SqlState::DISK_FULL => Reason::DiskFull,
            (s, _) if *s == SqlState::READ_ONLY_SQL_TRANSACTION => Reason::ReadOnly,
            (s, _) if *s == SqlState::LOCK_NOT_AVAILABLE => Reason::Locked,
            (s, _) if *s == SqlState::INSUFFICIENT_PRIVILEGE => Reason::Forbidden,
            (_, "08" | "53" | "57" | "25") => Reason::Unable,
            (_, "40") => Reason::Conflict,
            (_, "28") => Reason::Login,
            (_, "3D") => Reason::NoDatabase,
            (_, "42") => Reason::Statement,
            (_, "22" | "23") => Reason::Value,
            _ => Reason::Other,
        }
    }
}

/// What the server said, with its code, or what came instead of an answer.
pub(crate) fn said(cause: &tokio_postgres::Error) -> String {
    match cause.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => chain(cause),
    }
}

/// What the client library said, if it is the source of this error.
fn cause(error: &Error) -> Option<&tokio_postgres::Error> {
    StdError::source(error)?.downcast_ref()
}

/// What the server called it, if it was the server.
pub(crate) fn state(error: &Error) -> Option<&SqlState> {
    cause(error)?.code()
}

/// Whether the server itself said so, and goes on: whatever was asked did not happen.
pub(crate) fn is_answer(error: &Error) -> bool {
    let db = cause(error).and_then(|cause| cause.as_db_error());
    // The other severity is in the server's language.
    db.is_some_and(|db| db.parsed_severity() == Some(Severity::Error))
}

fn is_untrusted(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        next = error.source();
    }
    false
}

fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finer_code_counts_before_its_class() {
        for (code, reason) in [
            ("08006", Reason::Unable),
            ("53300", Reason::Unable),
            ("53100", Reason::DiskFull),
            ("57014", Reason::Unable),
            ("57P01", Reason::Unable),
            ("25P03", Reason::Unable),
            ("25006", Reason::ReadOnly),
            ("55P03", Reason::Locked),
            ("40001", Reason::Conflict),
            ("28P01", Reason::Login),
            ("28000", Reason::Login),
            ("3D000", Reason::NoDatabase),
            ("42501", Reason::Forbidden),
            ("42P01", Reason::Statement),
            ("22003", Reason::Value),
            ("23505", Reason::Value),
            ("XX000", Reason::Other),
        ] {
            assert_eq!(Reason::of_state(&SqlState::from_code(code)), reason, "{code}");
        }
    }
}
