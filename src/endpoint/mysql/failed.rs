//! Errors of the server, by whose fault they are.
//!
//! Left out: errors that a server gives in place of a row's own, such as a trigger that reports a full disk as
//! a wrong value.

use std::error::Error as StdError;

use mysql_async::{Error as Driver, IoError, ServerError};

use crate::error::{Error, Kind};

const LATER: &str = "run the same command again: what was done stays, and the rest follows";

/// An error of a statement.
pub(super) fn failed(error: Driver) -> Error {
    match error {
        Driver::Server(server) => of_server(server),
        gone => {
            Error::unavailable("ENDPOINT_LOST", format!("the connection was lost: {}", said(&gone)))
                .hint(LATER)
                .source(gone.to_string())
        }
    }
}

/// An error of connecting to a place.
pub(super) fn not_reached(place: &str, error: Driver) -> Error {
    match error {
        Driver::Server(server) => {
            let error = of_server(server);
            let message = format!("{place}: {}", error.message());
            Error::new(error.kind(), error.code(), message).hint(error.hint_text())
        }
        Driver::Io(IoError::Tls(tls)) => {
            Error::invalid("ENDPOINT_UNTRUSTED", format!("{place} cannot be trusted: {}", said(&tls)))
                .hint("sslrootcert in the URL names a PEM file with the certificates to trust; sslmode=disable asks for none")
        }
        other if is_certificate(&other) => {
            Error::invalid("ENDPOINT_UNTRUSTED", format!("{place} cannot be trusted: {}", said(&other)))
                .hint("sslrootcert in the URL names a PEM file with the certificates to trust; sslmode=disable asks for none")
        }
        other => unreachable_at(place, &said(&other)),
    }
}

/// Nobody answered at a place.
pub(super) fn unreachable_at(place: &str, why: &str) -> Error {
    Error::unavailable("ENDPOINT_UNREACHABLE", format!("{place} cannot be reached: {why}"))
        .hint("is the host right, and the port, and does the server run there?")
}

fn is_certificate(error: &dyn StdError) -> bool {
    said(error).contains("certificate")
}

/// The innermost words, which say most.
fn said(error: &dyn StdError) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// The server's number for an error, if it came from there.
pub(super) fn code(error: &Error) -> Option<u16> {
    let server = StdError::source(error)?.downcast_ref::<ServerError>()?;
    Some(server.code)
}

/// A unique key has this value already.
pub(super) const DUPLICATE: u16 = 1062;

fn of_server(server: ServerError) -> Error {
    let said = format!("{} ({})", server.message, server.code);
    let error = match (server.code, server.state.get(..2).unwrap_or_default()) {
        (1045 | 1698 | 3118 | 4151, _) => Error::new(Kind::Forbidden, "ENDPOINT_LOGIN", said)
            .hint("check user and password in the URL; signs such as @ and / are written %40 and %2F"),
        (1049, _) => Error::invalid("ENDPOINT_NOT_FOUND", said)
            .hint("name an existing database behind the host: mysql://USER@HOST/DATABASE"),
        (1044 | 1142 | 1143 | 1227 | 1370, _) => {
            Error::new(Kind::Forbidden, "ENDPOINT_FORBIDDEN", said).hint(grant(&server))
        }
        (1040 | 1203 | 1226, _) => Error::unavailable("ENDPOINT_UNREACHABLE", said).hint(LATER),
        (1205 | 1213 | 1020 | 1412 | 1317 | 1615 | 1969 | 3024, _) | (_, "40") => {
            Error::retry("ENDPOINT_BUSY", said)
                .hint("another transaction was in the way: the same may succeed now")
        }
        (1021 | 1114, _) => Error::unavailable("DISK_FULL", said)
            .hint("free space on the server's disk, and run the same command again"),
        // So it was set by whoever opened this session.
        (1792, _) => Error::new(Kind::Forbidden, "ENDPOINT_FORBIDDEN", said)
            .hint("this side is only read: nothing is ever written to it"),
        (1290 | 1836, _) => Error::unavailable("ENDPOINT_READ_ONLY", said)
            .hint("the server takes no writes: is it a replica?"),
        (1053 | 1927, _) | (_, "08") => Error::unavailable("ENDPOINT_LOST", said).hint(LATER),
        (1216 | 1452, _) => Error::new(Kind::Behind, "PARENT_MISSING", said)
            .hint("the row that it refers to must be there first"),
        (1217 | 1451, _) => Error::new(Kind::Behind, "CASCADE_REFUSED", said)
            .hint("rows that refer to it must go first"),
        (DUPLICATE, _) => Error::new(Kind::Behind, "VALUE_TAKEN", said)
            .hint("another row has this value, and must change or go first"),
        (number, class) if is_of_row(number, class) => Error::invalid("ROW_REFUSED", said)
            .hint("the server does not take this row as it is"),
        _ => Error::invalid("STATEMENT_REFUSED", said)
            .hint("does the table still have these columns, and is the filter a condition in the server's SQL?"),
    };
    error.source(server)
}

/// Whether a row is wrong: a value that the column does not take, or a constraint.
fn is_of_row(code: u16, class: &str) -> bool {
    matches!(class, "01" | "22" | "23" | "44" | "45")
        || matches!(
            code,
            1048 | 1153
                | 1264
                | 1265
                | 1292
                | 1301
                | 1364
                | 1366
                | 1406
                | 1526
                | 1644
                | 1906
                | 3105
                | 3140
                | 3819
                | 4025
        )
}

/// The statement that would give the right that was missing.
fn grant(server: &ServerError) -> String {
    let statement = || {
        let (right, rest) = server.message.split_once(" command denied to user ")?;
        let (user, what) = rest.split_once(" for ")?;
        let table = what.rsplit_once("table ")?.1;
        Some(format!("GRANT {right} ON {} TO {user}", table.replace('\'', "`")))
    };
    let of_database = || {
        let (_, rest) = server.message.split_once("denied for user ")?;
        let (user, database) = rest.split_once(" to database ")?;
        Some(format!("GRANT SELECT ON {}.* TO {user}", database.replace('\'', "`")))
    };
    match statement().or_else(of_database) {
        Some(grant) => format!("an administrator can allow it: {grant}"),
        None => "an administrator can allow it by GRANT".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u16, state: &str, message: &str) -> Error {
        let (state, message) = (state.to_owned(), message.to_owned());
        failed(Driver::Server(ServerError { code, state, message }))
    }

    #[test]
    fn errors_tell_whose_fault_they_are() {
        for (code, state, kind, ours) in [
            (1045, "28000", Kind::Forbidden, "ENDPOINT_LOGIN"),
            (1142, "42000", Kind::Forbidden, "ENDPOINT_FORBIDDEN"),
            (1205, "HY000", Kind::Retry, "ENDPOINT_BUSY"),
            (1213, "40001", Kind::Retry, "ENDPOINT_BUSY"),
            (1114, "HY000", Kind::Unavailable, "DISK_FULL"),
            (1290, "HY000", Kind::Unavailable, "ENDPOINT_READ_ONLY"),
            (1452, "23000", Kind::Behind, "PARENT_MISSING"),
            (1451, "23000", Kind::Behind, "CASCADE_REFUSED"),
            (1062, "23000", Kind::Behind, "VALUE_TAKEN"),
            (1265, "01000", Kind::Invalid, "ROW_REFUSED"),
            (1644, "45000", Kind::Invalid, "ROW_REFUSED"),
            (1146, "42S02", Kind::Invalid, "STATEMENT_REFUSED"),
        ] {
            let error = error(code, state, "");
            assert_eq!((error.kind(), error.code()), (kind, ours), "{code}");
        }
        assert_eq!(super::code(&error(1062, "23000", "")), Some(DUPLICATE));
    }

    #[test]
    fn the_missing_right_is_named() {
        for (said, wanted) in [
            (
                "SELECT command denied to user 'r'@'h' for table `d`.`t`",
                "GRANT SELECT ON `d`.`t` TO 'r'@'h'",
            ),
            (
                "UPDATE command denied to user 'r'@'h' for column 'c' in table 't'",
                "GRANT UPDATE ON `t` TO 'r'@'h'",
            ),
            ("Access denied for user 'r'@'%' to database 'd'", "GRANT SELECT ON `d`.* TO 'r'@'%'"),
        ] {
            let error = error(1142, "42000", said);
            assert!(error.hint_text().ends_with(wanted), "{}", error.hint_text());
        }
    }
}
