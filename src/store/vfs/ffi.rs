//! The C side: what SQLite calls, turned into calls of [`Volume`] and [`Handle`].
//!
//! Every callback is a thin shell around a closure that [`guard`] runs, because a panic must not
//! unwind into C: it becomes an input/output error of that call. The mutex it may have poisoned
//! makes the file fail from then on, which is what a file deserves whose state nobody knows.
//!
//! **Lifetimes.** SQLite hands a connection the address of its `sqlite3_vfs` and never says when the
//! connection lets go of it: a connection to `:memory:` opened through this VFS uses it and has no
//! file open. So that structure, with its name (some 250 bytes a disk), is never freed. It refers to
//! the volume weakly and loses it when the volume goes; after that it can open nothing. An open file
//! holds the volume strongly, so a disk outlives its last `MemoryDisk` for as long as SQLite needs.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, RwLock, Weak};

use rusqlite::ffi::*;

use super::fault::Failure;
use super::file::SECTOR;
use super::handle::Handle;
use super::host::{
    current_time, current_time_int64, dl_close, dl_error, dl_open, dl_sym, get_last_error,
    randomness, sleep,
};
use super::lock::Level;
use super::shm::slots;
use super::volume::{Loss, Opening, Volume, name_of};

/// Longest name, its end included.
const LONGEST: usize = 1024;

/// A VFS known to SQLite under its name until this goes.
pub(super) struct Registration(*mut sqlite3_vfs);

// SAFETY: the pointer is only given to `sqlite3_vfs_unregister`, which any thread may call.
unsafe impl Send for Registration {}
// SAFETY: nothing can be done with a shared reference.
unsafe impl Sync for Registration {}

/// What the VFS is for: lives as long as the process.
struct App {
    volume: RwLock<Weak<Volume>>,
}

impl Registration {
    pub(super) fn new(name: &str, volume: Weak<Volume>) -> Registration {
        let name = CString::new(name).expect("we choose the name");
        let app = Box::new(App { volume: RwLock::new(volume) });
        let vfs = Box::into_raw(Box::new(vfs(name.into_raw(), Box::into_raw(app).cast())));
        // SAFETY: the structure, its name and its app data are leaked: they stay valid for ever.
        let code = unsafe { sqlite3_vfs_register(vfs, 0) };
        assert_eq!(code, SQLITE_OK, "SQLite cannot start in this process");
        Registration(vfs)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: registered in `new`, never freed.
        unsafe {
            sqlite3_vfs_unregister(self.0);
            *app(self.0).volume.write().unwrap() = Weak::new();
        }
    }
}

/// What SQLite allocates for an open file (`szOsFile`); it only knows of the first field.
#[repr(C)]
struct OpenFile {
    base: sqlite3_file,
    handle: *mut Handle,
}

fn vfs(name: *const c_char, app: *mut c_void) -> sqlite3_vfs {
    sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<OpenFile>() as c_int,
        mxPathname: LONGEST as c_int,
        pNext: null_mut(),
        zName: name,
        pAppData: app,
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: Some(dl_open),
        xDlError: Some(dl_error),
        xDlSym: Some(dl_sym),
        xDlClose: Some(dl_close),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(get_last_error),
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

/// Version 2: shared memory, no memory mapping.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Runs a callback; a panic in it becomes `on_panic`.
pub(super) fn guard(on_panic: c_int, callback: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(callback)).unwrap_or(on_panic)
}

/// The result code of a call that SQLite knows by its own kind of input/output error.
fn code(result: Result<(), Failure>, io: c_int) -> c_int {
    match result {
        Ok(()) => SQLITE_OK,
        Err(Failure::Full) => SQLITE_FULL,
        Err(Failure::ReadOnly) => SQLITE_READONLY,
        Err(Failure::Missing | Failure::Exists | Failure::Frozen | Failure::Io) => io,
    }
}

fn busy_unless(done: bool) -> c_int {
    if done { SQLITE_OK } else { SQLITE_BUSY }
}

/// The app data of one of our VFSs.
///
/// # Safety
/// `vfs` was made by [`Registration::new`].
unsafe fn app<'a>(vfs: *mut sqlite3_vfs) -> &'a App {
    // SAFETY: it points to a leaked `App`, of which there are only shared references.
    unsafe { &*(*vfs).pAppData.cast::<App>() }
}

/// The volume behind a VFS, unless it is gone.
///
/// # Safety
/// `vfs` was made by [`Registration::new`].
unsafe fn volume(vfs: *mut sqlite3_vfs) -> Option<Arc<Volume>> {
    // SAFETY: the caller's promise.
    unsafe { app(vfs) }.volume.read().unwrap().upgrade()
}

/// The handle of an open file.
///
/// # Safety
/// `file` was opened by [`open`] and not yet closed, and no other call on it is under way: SQLite
/// serialises the calls on one file by the connection's mutex.
unsafe fn handle<'a>(file: *mut sqlite3_file) -> &'a mut Handle {
    // SAFETY: by the promise above `handle` came from a box and nobody else refers to it.
    unsafe { &mut *(*file.cast::<OpenFile>()).handle }
}

/// A name as SQLite gives it; `None` for the null pointer that asks for a nameless file.
///
/// # Safety
/// `name` is null or a C string that lives as long as the call.
unsafe fn name<'a>(name: *const c_char) -> Option<std::borrow::Cow<'a, str>> {
    // SAFETY: the caller's promise.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy())
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    path: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    guard(SQLITE_CANTOPEN, || {
        // SAFETY: SQLite passes our VFS, a null or a full path, and `szOsFile` bytes for the file.
        let (volume, path) = unsafe {
            // Without methods SQLite does not close what was never opened.
            (*file).pMethods = null();
            (volume(vfs), name(path))
        };
        let Some(volume) = volume else { return SQLITE_CANTOPEN };
        let opening = Opening {
            create: flags & SQLITE_OPEN_CREATE != 0,
            exclusive: flags & SQLITE_OPEN_EXCLUSIVE != 0,
            read_only: flags & SQLITE_OPEN_READONLY != 0,
            delete_on_close: flags & SQLITE_OPEN_DELETEONCLOSE != 0,
        };
        match volume.open(path.as_deref(), opening) {
            // SAFETY: `file` has room for an `OpenFile`; `flags_out` is null or valid.
            Ok(handle) => unsafe { opened(file.cast(), handle, flags, flags_out) },
            Err(Failure::Frozen) => SQLITE_IOERR,
            Err(_) => SQLITE_CANTOPEN,
        }
    })
}

/// # Safety
/// `file` has room for an [`OpenFile`]; `flags_out` is null or valid.
unsafe fn opened(
    file: *mut OpenFile,
    handle: Handle,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let base = sqlite3_file { pMethods: &raw const METHODS };
    // SAFETY: the caller's promise.
    unsafe {
        file.write(OpenFile { base, handle: Box::into_raw(Box::new(handle)) });
        if !flags_out.is_null() {
            *flags_out = flags;
        }
    }
    SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    guard(SQLITE_IOERR_CLOSE, || {
        // SAFETY: the box that `opened` let go of; SQLite closes a file once and uses it no more.
        drop(unsafe { Box::from_raw((*file.cast::<OpenFile>()).handle) });
        SQLITE_OK
    })
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    to: *mut c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    guard(SQLITE_IOERR_READ, || {
        // SAFETY: SQLite's buffer has `amount` bytes, and is its own until we return.
        let (handle, buffer) = unsafe {
            (handle(file), std::slice::from_raw_parts_mut(to.cast::<u8>(), amount as usize))
        };
        match handle.read(buffer, offset as u64) {
            Ok(read) if read == buffer.len() => SQLITE_OK,
            Ok(_) => SQLITE_IOERR_SHORT_READ,
            Err(failure) => code(Err(failure), SQLITE_IOERR_READ),
        }
    })
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    guard(SQLITE_IOERR_WRITE, || {
        // SAFETY: SQLite's buffer has `amount` bytes and does not change until we return.
        let (handle, bytes) = unsafe {
            (handle(file), std::slice::from_raw_parts(from.cast::<u8>(), amount as usize))
        };
        code(handle.write(bytes, offset as u64), SQLITE_IOERR_WRITE)
    })
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: an open file of ours.
    guard(SQLITE_IOERR_TRUNCATE, || unsafe {
        code(handle(file).truncate(size as u64), SQLITE_IOERR_TRUNCATE)
    })
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: an open file of ours.
    guard(SQLITE_IOERR_FSYNC, || unsafe { code(handle(file).sync(), SQLITE_IOERR_FSYNC) })
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    guard(SQLITE_IOERR_FSTAT, || {
        // SAFETY: an open file of ours, and a place for the answer.
        unsafe { *size = handle(file).len() as sqlite3_int64 };
        SQLITE_OK
    })
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file of ours.
    guard(SQLITE_IOERR_LOCK, || unsafe {
        busy_unless(handle(file).lock(Level::from_number(level)))
    })
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    guard(SQLITE_IOERR_UNLOCK, || {
        // SAFETY: an open file of ours.
        unsafe { handle(file) }.unlock(Level::from_number(level));
        SQLITE_OK
    })
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, result: *mut c_int) -> c_int {
    guard(SQLITE_IOERR_CHECKRESERVEDLOCK, || {
        // SAFETY: an open file of ours, and a place for the answer.
        unsafe { *result = handle(file).is_reserved().into() };
        SQLITE_OK
    })
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    guard(SQLITE_IOERR, || {
        // SAFETY: an open file of ours; `arg` is what the documentation of `op` says.
        unsafe {
            let handle = handle(file);
            match op {
                SQLITE_FCNTL_LOCKSTATE => *arg.cast::<c_int>() = handle.level() as c_int,
                SQLITE_FCNTL_HAS_MOVED => *arg.cast::<c_int>() = handle.has_moved().into(),
                SQLITE_FCNTL_PERSIST_WAL => ask_or_set(&mut handle.persist_wal, arg.cast()),
                SQLITE_FCNTL_POWERSAFE_OVERWRITE => {
                    *arg.cast::<c_int>() = (handle.volume.loss != Loss::Spoiled).into();
                }
                SQLITE_FCNTL_VFSNAME => {
                    let name = CString::new(handle.volume.vfs.as_str()).expect("we chose it");
                    *arg.cast::<*mut c_char>() = sqlite3_mprintf(c"%s".as_ptr(), name.as_ptr());
                }
                // Space is taken as it is written.
                SQLITE_FCNTL_SIZE_HINT | SQLITE_FCNTL_CHUNK_SIZE => {}
                _ => return SQLITE_NOTFOUND,
            }
        }
        SQLITE_OK
    })
}

/// SQLite's habit for a bit: negative asks, everything else sets.
///
/// # Safety
/// `arg` is valid.
unsafe fn ask_or_set(bit: &mut bool, arg: *mut c_int) {
    // SAFETY: the caller's promise.
    match unsafe { *arg } {
        // SAFETY: the same.
        ..0 => unsafe { *arg = (*bit).into() },
        value => *bit = value != 0,
    }
}

unsafe extern "C" fn sector_size(_file: *mut sqlite3_file) -> c_int {
    SECTOR as c_int
}

// Honest in every mode. A disk that loses power tears sectors and writes in any order, so it
// promises nothing, and SQLite pads its WAL to whole sectors. One that never loses power
// keeps every promise there is, and SQLite skips the syncs and the padding.
unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    const NEVER_LOSES: c_int =
        SQLITE_IOCAP_POWERSAFE_OVERWRITE | SQLITE_IOCAP_SAFE_APPEND | SQLITE_IOCAP_SEQUENTIAL;
    guard(0, || {
        // SAFETY: an open file of ours.
        let loss = unsafe { handle(file) }.volume.loss;
        SQLITE_IOCAP_SUBPAGE_READ
            | match loss {
                Loss::Never => NEVER_LOSES,
                Loss::Torn => SQLITE_IOCAP_POWERSAFE_OVERWRITE,
                Loss::Spoiled => 0,
            }
    })
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    address: *mut *mut c_void,
) -> c_int {
    guard(SQLITE_IOERR_SHMMAP, || {
        // SAFETY: an open file of ours, and a place for the answer.
        unsafe { *address = handle(file).shm_map(region as usize, size as usize, extend != 0) };
        SQLITE_OK
    })
}

unsafe extern "C" fn shm_lock(
    file: *mut sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    guard(SQLITE_IOERR_SHMLOCK, || {
        // SAFETY: an open file of ours.
        let handle = unsafe { handle(file) };
        let slots = slots(first, count);
        if flags & SQLITE_SHM_UNLOCK != 0 {
            handle.shm_unlock(slots);
            return SQLITE_OK;
        }
        busy_unless(handle.shm_lock(slots, flags & SQLITE_SHM_EXCLUSIVE != 0))
    })
}

unsafe extern "C" fn shm_barrier(_file: *mut sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, _delete: c_int) -> c_int {
    guard(SQLITE_IOERR_SHMMAP, || {
        // SAFETY: an open file of ours.
        unsafe { handle(file) }.shm_detach();
        SQLITE_OK
    })
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, path: *const c_char, _sync: c_int) -> c_int {
    guard(SQLITE_IOERR_DELETE, || {
        // SAFETY: our VFS and a C string.
        let (volume, path) = unsafe { (volume(vfs), name(path)) };
        match volume.zip(path).map(|(volume, path)| volume.remove(&path)) {
            None | Some(Err(Failure::Missing)) => SQLITE_IOERR_DELETE_NOENT,
            Some(result) => code(result, SQLITE_IOERR_DELETE),
        }
    })
}

unsafe extern "C" fn access(
    vfs: *mut sqlite3_vfs,
    path: *const c_char,
    flags: c_int,
    result: *mut c_int,
) -> c_int {
    guard(SQLITE_IOERR_ACCESS, || {
        // SAFETY: our VFS and a C string.
        let (volume, path) = unsafe { (volume(vfs), name(path)) };
        let file = volume.zip(path).and_then(|(volume, path)| volume.file(&path));
        // An empty file "exists" no more than it does for SQLite's own VFS: a journal that was
        // created and never written is not a reason to recover.
        let there = file.is_some_and(|file| flags != SQLITE_ACCESS_EXISTS || file.len() > 0);
        // SAFETY: a place for the answer.
        unsafe { *result = there.into() };
        SQLITE_OK
    })
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut sqlite3_vfs,
    path: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    guard(SQLITE_CANTOPEN, || {
        // SAFETY: a C string.
        let Some(path) = (unsafe { name(path) }) else { return SQLITE_CANTOPEN };
        let full = name_of(Path::new(&*path));
        if full.len() >= room as usize {
            return SQLITE_CANTOPEN;
        }
        // SAFETY: `out` has `room` bytes, enough for the name and its end.
        unsafe {
            out.cast::<u8>().copy_from_nonoverlapping(full.as_ptr(), full.len());
            *out.add(full.len()) = 0;
        }
        SQLITE_OK
    })
}
