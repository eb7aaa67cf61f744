//! Prepared statements that are kept beside their connection.
//!
//! `rusqlite::Statement` borrows its connection, so a struct cannot own both. These do not borrow:
//! whoever owns a [`Stmt`] drops it before the connection (field order does it).

use std::ffi::{CStr, c_int};
use std::ptr;

use rusqlite::ffi;

use super::codes;
use crate::change::ValueRef;
use crate::error::{Error, Result};

/// A connection's handle. Copies are as valid as the `rusqlite::Connection` they came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Db(pub *mut ffi::sqlite3);

// SAFETY: SQLite is built in serialized mode, and each connection is used by one thread at a time.
unsafe impl Send for Db {}

impl Db {
    /// The handle of `connection`.
    pub fn of(connection: &rusqlite::Connection) -> Db {
        // SAFETY: the handle is only used while the connection is open.
        Db(unsafe { connection.handle() })
    }

    /// The error that the last call left behind.
    pub fn error(self, code: i32) -> Error {
        // SAFETY: errmsg returns a NUL-terminated string that lives until the next call.
        let (extended, message) = unsafe {
            (
                ffi::sqlite3_extended_errcode(self.0),
                CStr::from_ptr(ffi::sqlite3_errmsg(self.0)).to_string_lossy().into_owned(),
            )
        };
        codes::error(if extended & 0xff == code & 0xff { extended } else { code }, &message)
    }

    /// Whether no transaction is open.
    pub fn is_autocommit(self) -> bool {
        // SAFETY: plain getter.
        unsafe { ffi::sqlite3_get_autocommit(self.0) != 0 }
    }

    /// Whether a foreign key, deferred or not, is broken at this moment.
    pub fn has_broken_keys(self) -> bool {
        let (mut current, mut high) = (0, 0);
        // SAFETY: out-pointers to two integers.
        unsafe {
            ffi::sqlite3_db_status(
                self.0,
                ffi::SQLITE_DBSTATUS_DEFERRED_FKS,
                &mut current,
                &mut high,
                0,
            );
        }
        current != 0
    }

    /// Whether foreign keys are enforced.
    pub fn enforces_keys(self) -> bool {
        let mut on = 0;
        // SAFETY: with -1 the option only tells, through an out-pointer to an int.
        unsafe {
            ffi::sqlite3_db_config(
                self.0,
                ffi::SQLITE_DBCONFIG_ENABLE_FKEY,
                -1 as c_int,
                &raw mut on,
            );
        }
        on != 0
    }

    /// Rows changed by the last INSERT, UPDATE or DELETE.
    pub fn changes(self) -> u64 {
        // SAFETY: plain getter.
        unsafe { ffi::sqlite3_changes64(self.0) as u64 }
    }

    /// Rows changed since the connection was opened, by triggers and actions too.
    pub fn total_changes(self) -> u64 {
        // SAFETY: plain getter.
        unsafe { ffi::sqlite3_total_changes64(self.0) as u64 }
    }

    /// The rowid of the last insert.
    pub fn last_insert_rowid(self) -> i64 {
        // SAFETY: plain getter.
        unsafe { ffi::sqlite3_last_insert_rowid(self.0) }
    }

    /// Makes `last_insert_rowid()` return `rowid`: streams share connections.
    pub fn set_last_insert_rowid(self, rowid: i64) {
        // SAFETY: plain setter.
        unsafe { ffi::sqlite3_set_last_insert_rowid(self.0, rowid) }
    }

    /// Switches a boolean option of the connection.
    pub fn configure(self, option: c_int, on: bool) -> Result<()> {
        // SAFETY: these options take an int and an optional out-pointer.
        let rc = unsafe {
            ffi::sqlite3_db_config(self.0, option, c_int::from(on), ptr::null_mut::<c_int>())
        };
        if rc == ffi::SQLITE_OK { Ok(()) } else { Err(self.error(rc)) }
    }

    /// Runs statements that give no rows.
    pub fn execute_batch(self, sql: &str) -> Result<()> {
        let mut rest = sql;
        while let (Some(mut stmt), tail) = Stmt::prepare(self, rest, false)? {
            while stmt.step()? {}
            rest = &rest[tail..];
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// A statement to be kept and run often.
    pub fn prepare(self, sql: &str) -> Result<Stmt> {
        match Stmt::prepare(self, sql, true)? {
            (Some(stmt), _) => Ok(stmt),
            (None, _) => Err(Error::invalid("SQL_NO_STATEMENT", "there is no statement")),
        }
    }

    /// Runs one statement and hands over each row.
    pub fn query(
        self,
        sql: &str,
        args: &[ValueRef<'_>],
        mut each: impl FnMut(&Stmt) -> Result<()>,
    ) -> Result<()> {
        let mut stmt = self.prepare(sql)?;
        stmt.bind_all(args)?;
        while stmt.step()? {
            each(&stmt)?;
        }
        Ok(())
    }

    /// Runs one statement and gives the integer in its first row and column.
    pub fn query_i64(self, sql: &str, args: &[ValueRef<'_>]) -> Result<Option<i64>> {
        let mut found = None;
        self.query(sql, args, |row| {
            found.get_or_insert(row.i64(0));
            Ok(())
        })?;
        Ok(found)
    }

    /// Runs one statement that gives no rows.
    pub fn execute(self, sql: &str, args: &[ValueRef<'_>]) -> Result<()> {
        self.query(sql, args, |_| Ok(()))
    }
}

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Stmt {
    stmt: *mut ffi::sqlite3_stmt,
    db: Db,
}

// SAFETY: as for `Db`.
unsafe impl Send for Stmt {}

impl Drop for Stmt {
    fn drop(&mut self) {
        // SAFETY: the statement is finalized once; its connection is still open (see the module).
        unsafe {
            ffi::sqlite3_finalize(self.stmt);
        }
    }
}

impl Stmt {
    /// Prepares the first statement of `sql`; also gives where the next one begins. None if there is
    /// only white space and comments.
    pub fn prepare(db: Db, sql: &str, keep: bool) -> Result<(Option<Stmt>, usize)> {
        let mut stmt = ptr::null_mut();
        let mut tail = ptr::null();
        let flags = if keep { ffi::SQLITE_PREPARE_PERSISTENT } else { 0 };
        let length = c_int::try_from(sql.len())
            .map_err(|_| Error::invalid("SQL_TOO_LONG", "the statement is over 2 GiB long"))?;
        // SAFETY: pointer and length describe `sql`; the out-pointers are ours.
        let rc = unsafe {
            ffi::sqlite3_prepare_v3(db.0, sql.as_ptr().cast(), length, flags, &mut stmt, &mut tail)
        };
        if rc != ffi::SQLITE_OK {
            return Err(db.error(rc));
        }
        let used = tail as usize - sql.as_ptr() as usize;
        Ok(((!stmt.is_null()).then_some(Stmt { stmt, db }), used))
    }

    /// Binds one argument, from 1. The value must outlive the run: call [`reset`](Self::reset) after.
    pub fn bind(&mut self, index: usize, value: ValueRef<'_>) -> Result<()> {
        let i = index as c_int;
        // SAFETY: text and blobs are bound without a copy; `reset` unbinds them before they go.
        let rc = unsafe {
            match value {
                ValueRef::Null => ffi::sqlite3_bind_null(self.stmt, i),
                ValueRef::Integer(n) => ffi::sqlite3_bind_int64(self.stmt, i, n),
                ValueRef::Real(r) => ffi::sqlite3_bind_double(self.stmt, i, r),
                ValueRef::Text(t) => ffi::sqlite3_bind_text64(
                    self.stmt,
                    i,
                    t.as_ptr().cast(),
                    t.len() as u64,
                    ffi::SQLITE_STATIC(),
                    ffi::SQLITE_UTF8 as u8,
                ),
                ValueRef::Blob([]) => ffi::sqlite3_bind_zeroblob(self.stmt, i, 0),
                ValueRef::Blob(b) => ffi::sqlite3_bind_blob64(
                    self.stmt,
                    i,
                    b.as_ptr().cast(),
                    b.len() as u64,
                    ffi::SQLITE_STATIC(),
                ),
            }
        };
        if rc == ffi::SQLITE_OK { Ok(()) } else { Err(self.db.error(rc)) }
    }

    /// Binds arguments by place.
    pub fn bind_all(&mut self, args: &[ValueRef<'_>]) -> Result<()> {
        for (i, value) in args.iter().enumerate() {
            self.bind(i + 1, *value)?;
        }
        Ok(())
    }

    /// To the next row; false at the end.
    pub fn step(&mut self) -> Result<bool> {
        // SAFETY: the statement is valid.
        match unsafe { ffi::sqlite3_step(self.stmt) } {
            ffi::SQLITE_ROW => Ok(true),
            ffi::SQLITE_DONE => Ok(false),
            rc => Err(self.db.error(rc)),
        }
    }

    /// Ready to run again; forgets the arguments.
    pub fn reset(&mut self) {
        // SAFETY: the statement is valid; reset repeats the last error, which was already reported.
        unsafe {
            ffi::sqlite3_reset(self.stmt);
            ffi::sqlite3_clear_bindings(self.stmt);
        }
    }

    /// Binds, runs to the end, resets.
    pub fn execute(&mut self, args: &[ValueRef<'_>]) -> Result<()> {
        let ran = self.bind_all(args).and_then(|()| {
            while self.step()? {}
            Ok(())
        });
        self.reset();
        ran
    }

    /// Binds and runs; hands over each row; resets.
    pub fn rows(
        &mut self,
        args: &[ValueRef<'_>],
        mut each: impl FnMut(&Stmt) -> Result<()>,
    ) -> Result<()> {
        let ran = self.bind_all(args).and_then(|()| {
            while self.step()? {
                each(self)?;
            }
            Ok(())
        });
        self.reset();
        ran
    }

    /// A column of the row; fails on text that is not UTF-8.
    pub fn value(&self, column: usize) -> Result<ValueRef<'_>> {
        // SAFETY: the pointer is valid until the next step, reset or conversion; `&self` holds those off.
        unsafe { value_of(ffi::sqlite3_column_value(self.stmt, column as c_int)) }
    }

    /// An integer column of ours.
    pub fn i64(&self, column: usize) -> i64 {
        // SAFETY: plain getter.
        unsafe { ffi::sqlite3_column_int64(self.stmt, column as c_int) }
    }

    /// A number that SQLite keeps as its signed twin.
    pub fn u64(&self, column: usize) -> u64 {
        self.i64(column) as u64
    }

    /// A text column of ours, empty if NULL.
    pub fn text(&self, column: usize) -> Result<&str> {
        Ok(match self.value(column)? {
            ValueRef::Text(text) => text,
            _ => "",
        })
    }

    /// A blob column of ours, empty if NULL.
    pub fn blob(&self, column: usize) -> Result<&[u8]> {
        Ok(match self.value(column)? {
            ValueRef::Blob(blob) => blob,
            ValueRef::Text(text) => text.as_bytes(),
            _ => &[],
        })
    }

    /// Sixteen bytes of ours.
    pub fn u128(&self, column: usize) -> Result<u128> {
        let bytes = self.blob(column)?.try_into().map_err(|_| {
            Error::corrupt("STATE_CORRUPT", "a stored 128-bit number is not 16 bytes long")
                .hint("put the database back from a backup, or heal it from a reader")
        })?;
        Ok(u128::from_be_bytes(bytes))
    }

    /// How many columns a row has.
    pub fn columns(&self) -> usize {
        // SAFETY: plain getter.
        unsafe { ffi::sqlite3_column_count(self.stmt) as usize }
    }

    /// A column's name.
    pub fn column_name(&self, column: usize) -> String {
        // SAFETY: NUL-terminated, valid until the next call.
        unsafe { text_of(ffi::sqlite3_column_name(self.stmt, column as c_int)) }.unwrap_or_default()
    }

    /// The declared type of the table column behind a result column.
    pub fn column_decltype(&self, column: usize) -> Option<String> {
        // SAFETY: as above; NULL for expressions.
        unsafe { text_of(ffi::sqlite3_column_decltype(self.stmt, column as c_int)) }
    }

    /// How many parameters it has.
    pub fn parameters(&self) -> usize {
        // SAFETY: plain getter.
        unsafe { ffi::sqlite3_bind_parameter_count(self.stmt) as usize }
    }

    /// A parameter's name with its `:`, `@`, `$` or `?`, from 1.
    pub fn parameter_name(&self, index: usize) -> Option<String> {
        // SAFETY: as above; NULL for nameless ones.
        unsafe { text_of(ffi::sqlite3_bind_parameter_name(self.stmt, index as c_int)) }
    }

    /// Whether it writes nothing.
    pub fn is_readonly(&self) -> bool {
        // SAFETY: plain getter.
        unsafe { ffi::sqlite3_stmt_readonly(self.stmt) != 0 }
    }

    /// Whether it is EXPLAIN or EXPLAIN QUERY PLAN.
    pub fn is_explain(&self) -> bool {
        // SAFETY: plain getter.
        unsafe { ffi::sqlite3_stmt_isexplain(self.stmt) != 0 }
    }
}

unsafe fn text_of(pointer: *const std::ffi::c_char) -> Option<String> {
    // SAFETY: by the caller: NULL or NUL-terminated.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// The error for text that no other engine could hold.
pub(crate) fn invalid_utf8() -> Error {
    Error::invalid("TEXT_NOT_UTF8", "a text value is not valid UTF-8")
        .hint("store bytes as a BLOB: bind them as a blob, or CAST(… AS BLOB)")
}

/// Borrows a protected `sqlite3_value`.
///
/// # Safety
/// `value` must be valid, and stay unchanged, for `'a`.
pub(crate) unsafe fn value_of<'a>(value: *mut ffi::sqlite3_value) -> Result<ValueRef<'a>> {
    // SAFETY: by the caller.
    unsafe {
        Ok(match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => ValueRef::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => {
                let text = ffi::sqlite3_value_text(value);
                let length = ffi::sqlite3_value_bytes(value) as usize;
                ValueRef::Text(
                    std::str::from_utf8(slice(text, length)).map_err(|_| invalid_utf8())?,
                )
            }
            ffi::SQLITE_BLOB => {
                let blob = ffi::sqlite3_value_blob(value).cast();
                ValueRef::Blob(slice(blob, ffi::sqlite3_value_bytes(value) as usize))
            }
            _ => ValueRef::Null,
        })
    }
}

unsafe fn slice<'a>(pointer: *const u8, length: usize) -> &'a [u8] {
    if length == 0 || pointer.is_null() {
        return &[];
    }
    // SAFETY: by the caller: `pointer` holds `length` bytes.
    unsafe { std::slice::from_raw_parts(pointer, length) }
}
