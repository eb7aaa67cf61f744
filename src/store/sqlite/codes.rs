//! SQLite's result codes, as errors sorted by what the caller does next.

use rusqlite::ffi;

use crate::error::{Error, Kind};

macro_rules! names {
    ($code:expr; $($name:ident),* $(,)?) => {
        match $code {
            $(ffi::$name => Some(stringify!($name)),)*
            _ => None,
        }
    };
}

/// The name of an extended result code.
fn extended_name(code: i32) -> Option<&'static str> {
    names!(code;
        SQLITE_CONSTRAINT_CHECK, SQLITE_CONSTRAINT_COMMITHOOK, SQLITE_CONSTRAINT_FOREIGNKEY,
        SQLITE_CONSTRAINT_FUNCTION, SQLITE_CONSTRAINT_NOTNULL, SQLITE_CONSTRAINT_PRIMARYKEY,
        SQLITE_CONSTRAINT_TRIGGER, SQLITE_CONSTRAINT_UNIQUE, SQLITE_CONSTRAINT_VTAB,
        SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_PINNED, SQLITE_CONSTRAINT_DATATYPE,
        SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT, SQLITE_BUSY_TIMEOUT, SQLITE_LOCKED_SHAREDCACHE,
        SQLITE_READONLY_RECOVERY, SQLITE_READONLY_CANTLOCK, SQLITE_READONLY_ROLLBACK,
        SQLITE_READONLY_DBMOVED, SQLITE_READONLY_CANTINIT, SQLITE_READONLY_DIRECTORY,
        SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC,
        SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_FSTAT, SQLITE_IOERR_UNLOCK,
        SQLITE_IOERR_RDLOCK, SQLITE_IOERR_DELETE, SQLITE_IOERR_NOMEM, SQLITE_IOERR_ACCESS,
        SQLITE_IOERR_LOCK, SQLITE_IOERR_CLOSE, SQLITE_IOERR_DELETE_NOENT,
        SQLITE_IOERR_CHECKRESERVEDLOCK, SQLITE_IOERR_BLOCKED, SQLITE_IOERR_GETTEMPPATH,
        SQLITE_IOERR_CONVPATH, SQLITE_IOERR_VNODE, SQLITE_IOERR_AUTH, SQLITE_IOERR_DATA,
        SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE,
        SQLITE_IOERR_SHMLOCK, SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SEEK, SQLITE_IOERR_MMAP,
        SQLITE_IOERR_CORRUPTFS, SQLITE_CORRUPT_VTAB, SQLITE_CORRUPT_INDEX, SQLITE_CANTOPEN_ISDIR,
        SQLITE_CANTOPEN_FULLPATH, SQLITE_ABORT_ROLLBACK, SQLITE_AUTH_USER,
    )
}

/// The name of a primary result code.
fn primary_name(code: i32) -> &'static str {
    names!(code & 0xff;
        SQLITE_ERROR, SQLITE_INTERNAL, SQLITE_PERM, SQLITE_ABORT, SQLITE_BUSY, SQLITE_LOCKED,
        SQLITE_NOMEM, SQLITE_READONLY, SQLITE_INTERRUPT, SQLITE_IOERR, SQLITE_CORRUPT,
        SQLITE_NOTFOUND, SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_PROTOCOL, SQLITE_SCHEMA,
        SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_MISUSE, SQLITE_NOLFS,
        SQLITE_AUTH, SQLITE_RANGE, SQLITE_NOTADB,
    )
    .unwrap_or("SQLITE_UNKNOWN")
}

/// What the caller of a statement that ended with `code` does next.
fn kind(code: i32) -> Kind {
    match code & 0xff {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_NOMEM => Kind::Retry,
        ffi::SQLITE_FULL => Kind::Unavailable,
        ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN => Kind::Storage,
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => Kind::Corrupt,
        ffi::SQLITE_AUTH => Kind::Forbidden,
        _ => Kind::Invalid,
    }
}

/// SQLite's error as ours: its own names as codes.
pub(crate) fn error(code: i32, message: &str) -> Error {
    let error = match code & 0xff {
        ffi::SQLITE_FULL => Error::new(Kind::Unavailable, "DISK_FULL", message)
            .hint("free space on the disk that holds the database; writing resumes by itself"),
        ffi::SQLITE_INTERRUPT => Error::new(
            Kind::Invalid,
            "STATEMENT_TIMEOUT",
            "the statement ran longer than its limit and was stopped",
        )
        .hint("narrow it, add an index, or raise limits.statement"),
        _ => Error::new(kind(code), primary_name(code), message),
    };
    match extended_name(code) {
        Some(name) => error.with_extended(name),
        None => error,
    }
}

/// The error of a `rusqlite` call.
pub(crate) fn from_rusqlite(error_: rusqlite::Error) -> Error {
    match error_ {
        rusqlite::Error::SqliteFailure(e, message) => {
            error(e.extended_code, message.as_deref().unwrap_or("SQLite failed"))
        }
        other => Error::new(Kind::Invalid, "SQLITE_ERROR", other.to_string()),
    }
}
