//! PostgreSQL's errors as ours, by what the caller does next.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::dial::postgres::{Reason, said, state, untrusted};
use crate::error::{Error, Kind};

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
    let said = said(&cause);
    let message = format!("PostgreSQL says: {said}");
    let error = match Reason::of(&cause) {
        _ if is_another_sessions(&cause) => pooled(),
        Reason::Unreachable => unavailable(said),
        Reason::Untrusted => untrusted(said),
        Reason::Unable => unavailable(message),
        Reason::Login | Reason::NoDatabase | Reason::Forbidden | Reason::Statement => {
            refused(message)
        }
        Reason::ReadOnly => read_only(),
        Reason::DiskFull => Error::unavailable("DISK_FULL", message)
            .hint("free space on the server's disk; writing resumes by itself"),
        Reason::Locked => Error::retry(
            "BACKING_LOCKED",
            format!("another session holds what is needed: {message}"),
        )
        .hint("`SELECT * FROM pg_locks` on the server names it"),
        Reason::Conflict => Error::retry("BACKING_CONFLICT", message),
        Reason::Value => Error::invalid("BACKING_CONSTRAINT", message),
        Reason::Other => Error::storage("BACKING_FAILED", message).hint("see the server's log"),
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
fn is_another_sessions(cause: &tokio_postgres::Error) -> bool {
    let prepared = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
    cause.as_db_error().is_some_and(|db| {
        prepared.contains(db.code())
            || (*db.code() == SqlState::UNDEFINED_OBJECT
                && db.message().contains("syncline.session_"))
    })
}

/// The error of a server that does not let us in, or does not do as it must.
pub(crate) fn refused(what: impl std::fmt::Display) -> Error {
    Error::invalid("BACKING_REFUSED", format!("PostgreSQL cannot be used: {what}"))
        .hint("check the URL, the user's rights and the schema in the backing database")
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
