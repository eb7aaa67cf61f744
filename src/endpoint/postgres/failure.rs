//! PostgreSQL's errors as an endpoint's, by whose fault they are.

use tokio_postgres::error::SqlState;

use crate::dial::postgres::{PostgresPlace, Reason, said, state, untrusted};
use crate::error::{Error, Kind};

/// The error of a connection that ended, or of a server that does not answer.
pub(super) fn lost(what: impl std::fmt::Display) -> Error {
    Error::unavailable("ENDPOINT_LOST", format!("the connection to PostgreSQL was lost: {what}"))
        .hint("run the same command again; see the server's log if this lasts")
}

/// The error of a right that the user lacks.
pub(super) fn forbidden(what: impl Into<String>, grant: impl Into<String>) -> Error {
    Error::new(Kind::Forbidden, "ENDPOINT_FORBIDDEN", what).hint(grant)
}

/// A row that the table does not take.
pub(super) fn refused(what: impl Into<String>) -> Error {
    Error::invalid("ROW_REFUSED", what)
}

/// A row of which the server would make another one.
pub(super) fn altered(what: String) -> Error {
    refused(what).hint("a trigger, a rule, or the column's type changes what is written; --columns leaves a column out")
}

/// A delete, or a change, that would reach rows which nobody named.
pub(super) fn would_cascade(what: impl Into<String>) -> Error {
    Error::new(Kind::Behind, "CASCADE_REFUSED", what)
        .hint("the rows that refer to it must go, or change, first")
}

/// What a call of the client library failed by.
pub(super) fn failed(cause: tokio_postgres::Error) -> Error {
    let said = said(&cause);
    let error = match Reason::of(&cause) {
        Reason::Unreachable => lost(said),
        Reason::Untrusted => untrusted(said),
        Reason::Login => Error::new(Kind::Forbidden, "ENDPOINT_LOGIN", said)
            .hint("check user and password in the URL, and pg_hba.conf on the server"),
        Reason::NoDatabase => Error::invalid("ENDPOINT_NOT_FOUND", said)
            .hint("check the database's name in the URL, or create it"),
        Reason::Forbidden => forbidden(said, "GRANT the user in the URL what it lacks"),
        Reason::ReadOnly => Error::unavailable("ENDPOINT_READ_ONLY", said)
            .hint("the server is a standby or set to read only: name the primary in the URL"),
        Reason::DiskFull => Error::unavailable("DISK_FULL", said)
            .hint("free space on the server's disk, and run the same command again"),
        Reason::Locked => Error::retry("ENDPOINT_BUSY", said)
            .hint("another session holds what is needed: see pg_locks on the server"),
        Reason::Conflict => {
            Error::retry("ENDPOINT_CONFLICT", format!("another transaction was in the way: {said}"))
        }
        Reason::Unable if is_cancelled(&cause) => {
            Error::retry("ENDPOINT_TIMEOUT", format!("the server gave up a statement: {said}"))
        }
        Reason::Unable => {
            Error::unavailable("ENDPOINT_UNABLE", format!("the server cannot now: {said}"))
                .hint("see its log, and run the same command again")
        }
        Reason::Value => of_row(&cause, said),
        Reason::Statement => Error::invalid(
            "ENDPOINT_STATEMENT",
            format!("the server does not know what was asked: {said}"),
        )
        .hint("is the table still as it was described, and the filter SQL of PostgreSQL's?"),
        Reason::Other if is_refusal(&cause) => refused(said),
        Reason::Other => {
            Error::unavailable("ENDPOINT_FAILED", format!("the server failed: {said}"))
                .hint("see the server's log")
        }
    };
    error.source(cause)
}

fn is_cancelled(cause: &tokio_postgres::Error) -> bool {
    cause.code() == Some(&SqlState::QUERY_CANCELED)
}

fn of_row(cause: &tokio_postgres::Error, said: String) -> Error {
    match cause.code() {
        Some(state) if *state == SqlState::FOREIGN_KEY_VIOLATION => {
            Error::new(Kind::Behind, "PARENT_MISSING", said)
                .hint("rows that others refer to must be there first")
        }
        Some(state) if TAKEN.contains(state) => value_taken(said),
        _ => refused(said),
    }
}

/// A value that another row has, which must change or go first.
pub(super) fn value_taken(what: impl Into<String>) -> Error {
    Error::new(Kind::Behind, "VALUE_TAKEN", what)
        .hint("another row has this value, and must change or go first")
}

const TAKEN: [SqlState; 2] = [SqlState::UNIQUE_VIOLATION, SqlState::EXCLUSION_VIOLATION];

/// What a trigger raised, what a view does not show, and what is too large for the server.
fn is_refusal(cause: &tokio_postgres::Error) -> bool {
    let Some(db) = cause.as_db_error() else { return false };
    matches!(&db.code().code()[..2], "54" | "P0" | "44" | "09" | "27")
        || db.message().starts_with("invalid memory alloc request size")
}

/// The error of a server that could not be reached.
pub(super) fn not_reached(place: &PostgresPlace, cause: Option<tokio_postgres::Error>) -> Error {
    let unreachable = |what: String| {
        Error::unavailable("ENDPOINT_UNREACHABLE", what)
            .hint("check host and port in the URL, and that the server listens there")
    };
    match cause {
        None => unreachable(format!("{place} does not answer within {:?}", place.limit())),
        Some(cause) if Reason::of(&cause) == Reason::Unreachable => {
            unreachable(format!("{place} cannot be reached: {}", said(&cause))).source(cause)
        }
        Some(cause) => place.not_reached(failed(cause)),
    }
}

/// Whether a unique value was in the way.
pub(super) fn is_taken(error: &Error) -> bool {
    state(error).is_some_and(|state| TAKEN.contains(state))
}
