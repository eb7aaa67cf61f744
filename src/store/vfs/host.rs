//! What SQLite asks a VFS about the machine rather than about files: time, sleep, randomness, and
//! extensions, of which a disk in memory has none.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::ffi::{SQLITE_OK, sqlite3_int64, sqlite3_vfs};

use super::ffi::guard;

/// 1970-01-01 as a Julian day, in milliseconds.
const UNIX_EPOCH_JULIAN: i64 = 210_866_760_000_000;

// Extensions are libraries on a real disk: there is nothing to load here. SQLite calls these
// without asking whether they are there.

pub(super) unsafe extern "C" fn dl_open(
    _vfs: *mut sqlite3_vfs,
    _path: *const c_char,
) -> *mut c_void {
    null_mut()
}

pub(super) unsafe extern "C" fn dl_error(_vfs: *mut sqlite3_vfs, room: c_int, out: *mut c_char) {
    let message = c"a disk in memory holds no extensions".to_bytes_with_nul();
    if room as usize >= message.len() {
        // SAFETY: `out` has `room` bytes.
        unsafe { out.cast::<u8>().copy_from_nonoverlapping(message.as_ptr(), message.len()) };
    }
}

/// A function of an extension.
pub(super) type Symbol = unsafe extern "C" fn(*mut sqlite3_vfs, *mut c_void, *const c_char);

pub(super) unsafe extern "C" fn dl_sym(
    _vfs: *mut sqlite3_vfs,
    _library: *mut c_void,
    _name: *const c_char,
) -> Option<Symbol> {
    None
}

pub(super) unsafe extern "C" fn dl_close(_vfs: *mut sqlite3_vfs, _library: *mut c_void) {}

pub(super) unsafe extern "C" fn randomness(
    _vfs: *mut sqlite3_vfs,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    guard(0, || {
        // SAFETY: `out` has `room` bytes.
        let bytes = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), room as usize) };
        if getrandom::fill(bytes).is_ok() { room } else { 0 }
    })
}

pub(super) unsafe extern "C" fn sleep(_vfs: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    std::thread::sleep(Duration::from_micros(microseconds.max(0) as u64));
    microseconds
}

fn julian_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH_JULIAN + since.as_millis() as i64
}

pub(super) unsafe extern "C" fn current_time(_vfs: *mut sqlite3_vfs, days: *mut f64) -> c_int {
    // SAFETY: a place for the answer.
    unsafe { *days = julian_milliseconds() as f64 / 86_400_000.0 };
    SQLITE_OK
}

pub(super) unsafe extern "C" fn current_time_int64(
    _vfs: *mut sqlite3_vfs,
    milliseconds: *mut sqlite3_int64,
) -> c_int {
    // SAFETY: a place for the answer.
    unsafe { *milliseconds = julian_milliseconds() };
    SQLITE_OK
}

pub(super) unsafe extern "C" fn get_last_error(
    _vfs: *mut sqlite3_vfs,
    _room: c_int,
    _out: *mut c_char,
) -> c_int {
    0
}
