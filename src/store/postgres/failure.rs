//! PostgreSQL's errors as ours, by what the caller does next.

use std::time::Duration;

use tokio_postgres::error::{Severity, SqlState};

use super::tls;
use crate::error::{Error, Kind, Result};

/// The error of a server that is away, or does not answer.
pub(crate) fn unavailable(what: impl std::fmt::Display) -> Error {
    Error::unavailable("BACKING_UNAVAILABLE", format!("PostgreSQL is not available: {what}"))
        .hint("a node that runs asks again by itself; see the server's log if this lasts")
}

/// The error of an answer that did not come in time.
pub(crate) fn silent(limit: Duration) -> Error {
    unavailable(format_args!("it did not answer within {limit:?}"))
}

/// The error for a COMMIT whose answer was lost.
pub(crate) fn outcome_unknown(cause: &Error) -> Error {
    let message = format!("the answer to a COMMIT was lost: {}", cause.message());
    Error::new(Kind::Unknown, "OUTCOME_UNKNOWN", message).hint(
        "the next epoch decides: ask with the receipt, or repeat with the same Idempotency-Key",
    )
}

/// What a call of the client library failed by.
pub(crate) fn error(cause: tokio_postgres::Error) -> Error {
    let Some(db) = cause.as_db_error() else {
        let what = chain(&cause);
        let error = if is_untrusted(&cause) { tls::refused(what) } else { unavailable(what) };
        return error.source(cause);
    };
    let message = format!("PostgreSQL says: {} ({})", db.message(), db.code().code());
    let error = match (db.code(), &db.code().code()[..2]) {
        (code, _) if *code == SqlState::DISK_FULL => Error::unavailable("DISK_FULL", message)
            .hint("free space on the server's disk; writing resumes by itself"),
        (code, _) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => read_only(),
        (code, _) if is_another_sessions(code, db.message()) => pooled(),
        (code, _) if *code == SqlState::LOCK_NOT_AVAILABLE => Error::retry(
            "BACKING_LOCKED",
            format!("another session holds what is needed: {message}"),
        )
        .hint("`SELECT * FROM pg_locks` on the server names it"),
        (code, _) if *code == SqlState::QUERY_CANCELED => unavailable(message),
        (_, "08" | "53" | "57" | "25") => unavailable(message),
        (_, "40") => Error::retry("BACKING_CONFLICT", message),
        (_, "28" | "3D" | "42") => refused(message),
        (_, "22" | "23") => Error::invalid("BACKING_CONSTRAINT", message),
        _ => Error::storage("BACKING_FAILED", message).hint("see the server's log"),
    };
    error.source(cause)
}

/// The error of a server that cannot be written to: a standby, or one set to read only.
pub(crate) fn read_only() -> Error {
    Error::unavailable("BACKING_READ_ONLY", "PostgreSQL takes no writes: it is a standby, or read only")
        .hint("name the primary in the URL; several hosts may be given with target_session_attrs=read-write")
}

/// The error of a connection whose transactions come to other sessions of the server each time.
fn pooled() -> Error {
    Error::unavailable(
        "BACKING_POOLED",
        "a connection pooler gives each transaction another session of PostgreSQL",
    )
    .hint("connect to PostgreSQL itself, or have the pooler keep a session for each connection (PgBouncer: pool_mode = session)")
}

/// Whether a session was asked for what we gave another one: its mark, or a prepared statement.
fn is_another_sessions(code: &SqlState, message: &str) -> bool {
    let prepared = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
    prepared.contains(code)
        || (*code == SqlState::UNDEFINED_OBJECT && message.contains("syncline.session_"))
}

/// The error of a server that does not let us in, or does not do as it must.
pub(crate) fn refused(what: impl std::fmt::Display) -> Error {
    Error::invalid("BACKING_REFUSED", format!("PostgreSQL cannot be used: {what}"))
        .hint("check the URL, the user's rights and the schema in the backing database")
}

/// What the server called it, if it was the server.
pub(crate) fn state(error: &Error) -> Option<&SqlState> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<tokio_postgres::Error>()?.code()
}

/// Whether the server itself said so, and goes on: whatever was asked did not happen.
pub(crate) fn is_answer(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    let db = source.and_then(|source| source.as_db_error());
    // The other severity is in the server's language.
    db.is_some_and(|db| db.parsed_severity() == Some(Severity::Error))
}

/// An error that the rows are to blame for: what was asked does not fit them.
pub(crate) fn is_misfit(error: &Error) -> bool {
    state(error).is_some_and(|state| {
        let undefined = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN];
        undefined.contains(state)
            || ["22", "23"].contains(&&state.code()[..2])
            || *state == SqlState::DATATYPE_MISMATCH
            || *state == SqlState::UNDEFINED_FUNCTION
    })
}

/// Whether the server showed a certificate that is not trusted: it will show the same again.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
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

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// `Result` with the client library's error.
pub(crate) type Answer<T> = Result<T, tokio_postgres::Error>;
