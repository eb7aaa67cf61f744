//! Opening a database, and becoming its writer.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::core::Core;
use super::database::{Database, Inner, Writing, wait};
use super::follower;
use super::keeper;
use super::mark::{self, beside};
use super::options::{DatabaseOptions, OnRestore, Role, WorkingCopy};
use super::readers::Readers;
use super::resolve::{hold_left_behind, left_behind};
use super::shared::{Shared, lock};
use super::shelf;
use super::status::State;
use super::writer;
use crate::change::{Epoch, Position, Tag, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::order::leader::{self, Candidate};
use crate::ship::{Report, Waker, wake_stream};
use crate::store::sqlite::{SqliteSource, SqliteStore, Sync};
use crate::store::vfs::MemoryDisk;
use crate::store::{Holder, Source, Store};

fn io_failed(what: &str) -> impl Fn(io::Error) -> Error + '_ {
    move |error| {
        Error::unavailable("DATA_DIR_UNAVAILABLE", format!("{what}: {error}"))
            .hint("check that the directory exists and that this user may write it")
    }
}

/// Opens a database in the role that its options give it.
pub(crate) fn open(options: DatabaseOptions) -> Result<Database> {
    let disk = options.disk.clone();
    disk.create_dir_all(&options.data_dir)
        .map_err(io_failed("the data directory cannot be made"))?;
    refuse_network_file_system(&options)?;
    let lock_path = options.data_dir.join(format!("{}.lock", options.name));
    let Some(guard) =
        disk.lock(&lock_path).map_err(io_failed("the data directory cannot be locked"))?
    else {
        return Err(data_dir_in_use(&options));
    };
    let directory = directory_id(&options)?;
    let state = if options.role == Role::Reader { State::Loading } else { State::Ok };
    let shared = Arc::new(Shared::new(options, directory, state));
    shelf::count_again(&shared)?;
    let started = Readers::start(shared.clone());
    let (readers, read_threads) = started.map_err(io_failed("no thread can be started"))?;
    let database = Database(Arc::new(Inner {
        shared: shared.clone(),
        readers,
        read_threads: Mutex::new(read_threads),
        writing: Mutex::new(None),
        following: Mutex::new(None),
        wake: Mutex::new(None),
        lock: Mutex::new(Some(guard)),
    }));
    let opened = match shared.role() {
        Role::Writer => open_writer(&database),
        Role::Reader => open_reader(&database),
    };
    if opened.is_err() {
        database.close();
    }
    opened.map(|()| database)
}

/// A live process holds the data directory: name it, as far as the backing file tells.
fn data_dir_in_use(options: &DatabaseOptions) -> Error {
    match holder_of(options) {
        Some(holder) => leader::alive(&holder, options.clock.now()),
        None => Error::new(
            Kind::Diverged,
            "HOLDER_ALIVE",
            format!("another process uses the data directory {}", options.data_dir.display()),
        )
        .hint("stop that process, or give this one another data_dir"),
    }
}

/// Who holds the epoch of the backing file, as far as it can be read.
fn holder_of(options: &DatabaseOptions) -> Option<Holder> {
    let mut source = SqliteSource::open(options.disk.clone(), &options.backing, None).ok()?;
    source.standing().ok()?.holder
}

/// The random id of the data directory; made at first use.
fn directory_id(options: &DatabaseOptions) -> Result<String> {
    let path = options.data_dir.join("node-id");
    let failed = io_failed("the data directory's id cannot be kept");
    if let Some(id) = options.disk.read(&path).map_err(&failed)? {
        return Ok(String::from_utf8_lossy(&id).trim().to_owned());
    }
    let id = format!("{:016x}{:016x}", random()?, random()?);
    options.disk.write_atomic(&path, id.as_bytes()).map_err(&failed)?;
    Ok(id)
}

pub(crate) fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::unavailable("NO_RANDOMNESS", format!("the system gives no random numbers: {error}"))
    })?;
    Ok(u64::from_be_bytes(bytes))
}

/// WAL needs memory that processes share; network file systems have none.
fn refuse_network_file_system(options: &DatabaseOptions) -> Result<()> {
    const NETWORK: [(i64, &str); 4] =
        [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB"), (0x0102_1997, "9p")];
    let directory = options.backing.parent().unwrap_or(Path::new("."));
    let found = file_system(directory).and_then(|kind| NETWORK.iter().find(|(n, _)| *n == kind));
    match found {
        Some((_, name)) => Err(Error::invalid(
            "NETWORK_FILE_SYSTEM",
            format!(
                "{} lies on {name}; a SQLite backing file is for the processes of one machine",
                options.backing.display()
            ),
        )
        .hint("put it on a local disk, or use a PostgreSQL backing database")),
        None => Ok(()),
    }
}

#[cfg(target_os = "linux")]
fn file_system(directory: &Path) -> Option<i64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes()).ok()?;
    // SAFETY: statfs fills the struct it is given; the path is NUL-terminated.
    unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        (libc::statfs(path.as_ptr(), &mut stat) == 0).then_some(stat.f_type as i64 & 0xffff_ffff)
    }
}

#[cfg(not(target_os = "linux"))]
fn file_system(_directory: &Path) -> Option<i64> {
    None
}

fn is_running(pid: u32) -> bool {
    // SAFETY: signal 0 only asks. A process of another user answers EPERM: it runs.
    let asked = unsafe { libc::kill(pid as libc::pid_t, 0) };
    asked == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

fn me(shared: &Shared) -> Holder {
    let options = &shared.options;
    Holder {
        node: options.node.clone(),
        directory: shared.directory.clone(),
        pid: std::process::id(),
        advertise: options.advertise.clone(),
        lease: shared.now() + options.lease,
    }
}

/// Takes the next epoch of a backing file, unless somebody alive holds it.
pub(crate) fn take_epoch(
    shared: &Shared,
    store: &mut SqliteStore,
    take_over: bool,
) -> Result<Position> {
    let holder = holder_that_may_be_followed(shared, store, take_over)?;
    let tag = Tag(random()?);
    let options = &shared.options;
    let floor = Epoch(shared.highest.load(Ordering::Relaxed));
    let taken =
        store.take_epoch_above(floor, tag, &me(shared)).map_err(|error| match error.code() {
            "SQLITE_BUSY" => locked_by(holder.as_ref()),
            _ => error,
        })?;
    let (disk, own) = (options.disk.as_ref(), mark::path(&options.data_dir, &options.name));
    let settled = mark::settled(disk, &own, &options.backing, taken.epoch)?;
    shared.settled.fetch_max(settled.0, Ordering::Relaxed);
    tracing::info!(database = %options.name, epoch = taken.epoch.0, version = taken.version.0, "took the epoch");
    Ok(taken)
}

/// The holder, if there was one; `HOLDER_ALIVE` if somebody alive holds the backing file.
fn holder_that_may_be_followed(
    shared: &Shared,
    store: &mut SqliteStore,
    take_over: bool,
) -> Result<Option<Holder>> {
    let holder = store.standing()?.holder;
    may_take_epoch(shared, holder.as_ref(), take_over)?;
    Ok(holder)
}

fn locked_by(holder: Option<&Holder>) -> Error {
    let who =
        holder.map_or("a process".into(), |h| format!("node {:?}, process {},", h.node, h.pid));
    Error::new(
        Kind::Diverged,
        "HOLDER_STOPPED",
        format!("{who} holds SQLite's write lock and does not let go"),
    )
    .hint("it was stopped inside a group: let it continue, or kill it, then try again")
}

/// Opens the backing file to write it. If somebody has SQLite's lock all the while, that one is named.
fn open_backing(shared: &Shared) -> Result<SqliteStore> {
    let options = &shared.options;
    open_file(options, &options.backing).map_err(|error| match error.code() {
        "SQLITE_BUSY" => {
            let holder = holder_of(options);
            let alive = may_take_epoch(shared, holder.as_ref(), options.take_over).err();
            alive.unwrap_or_else(|| locked_by(holder.as_ref()))
        }
        _ => error,
    })
}

fn may_take_epoch(shared: &Shared, holder: Option<&Holder>, take_over: bool) -> Result<()> {
    let candidate = Candidate { directory: &shared.directory, now: shared.now(), take_over };
    leader::may_take_epoch(holder, &candidate, is_running)
}

fn open_writer(database: &Database) -> Result<()> {
    let shared = database.shared();
    let options = &shared.options;
    let mark = mark::read(options.disk.as_ref(), &mark::path(&options.data_dir, &options.name))?;
    if let Some(mark) = &mark {
        shared.knows(&mark.lineage);
    }
    let mut restored = match &mark {
        Some(mark) => mark::files_were_restored(options.disk.as_ref(), &options.backing, mark)?,
        None => None,
    };
    if restored.is_some() {
        refuse_if_gone(options)?;
    }
    if restored.is_some() || left_its_log(options, mark.as_ref())? {
        set_log_aside(options)?;
    }
    let mut file = open_backing(shared)?;
    if let (Some(mark), None) = (&mark, &restored) {
        restored = mark::content_was_restored(&mut file, mark)?;
    }
    let adopt = options.on_restore == OnRestore::Adopt;
    if let Some(why) = restored.as_ref().filter(|_| !adopt) {
        holder_that_may_be_followed(shared, &mut file, options.take_over)?;
        let mut core = build_core(shared, file)?;
        core.found_restored = true;
        core.left_behind = left_behind(options);
        let note = format!("the backing database was restored while this node was down: {why}");
        shared.set_condition(State::Restored, note);
        return start_writing(database, core);
    }
    let taken = take_epoch(shared, &mut file, options.take_over)?;
    if let Some(why) = restored {
        tracing::warn!(database = %options.name, why, "the backing database was restored; adopted it");
        shared.settled.store(taken.epoch.0, Ordering::Relaxed);
    }
    hold_left_behind(shared, &mut file);
    start_writing(database, build_core(shared, file)?)
}

/// Whether the log at the backing file's place is of a file that lay there before. Even an empty one:
/// whoever has that file open still uses it.
fn left_its_log(options: &DatabaseOptions, mark: Option<&mark::Mark>) -> Result<bool> {
    mark.map_or(Ok(false), |mark| {
        mark::log_is_of_another_file(options.disk.as_ref(), &options.backing, mark)
    })
}

/// A SQLite file with a database in it, or to become one.
pub(crate) fn open_file(options: &DatabaseOptions, path: &Path) -> Result<SqliteStore> {
    SqliteStore::open(options.disk.clone(), path, Sync::Full, options.limits.commit_bytes)
}

fn refuse_if_gone(options: &DatabaseOptions) -> Result<()> {
    let there = options
        .disk
        .identity(&options.backing)
        .map_err(io_failed("the backing file cannot be reached"))?;
    if there.is_some() {
        return Ok(());
    }
    Err(Error::diverged(
        "BACKING_GONE",
        format!(
            "the backing file {} is gone; this node had written to it",
            options.backing.display()
        ),
    )
    .hint(format!(
        "put it back (a backup will do), promote a reader, or remove {} to begin an empty database",
        mark::path(&options.data_dir, &options.name).display()
    )))
}

/// A write-ahead log that belongs to another main file is kept, but out of SQLite's way; an empty one
/// only goes.
pub(crate) fn set_log_aside(options: &DatabaseOptions) -> Result<()> {
    let now = options.clock.now().0;
    let failed = io_failed("the old write-ahead log cannot be set aside");
    let wal = beside(&options.backing, "-wal");
    if mark::log_is_empty(options.disk.as_ref(), &wal)? {
        options.disk.remove(&wal).map_err(&failed)?;
    } else {
        let aside = beside(&options.backing, &format!("-wal.before-restore-{now}"));
        options.disk.rename(&wal, &aside).map_err(&failed)?;
        tracing::warn!(kept = %aside.display(), "set the write-ahead log of the replaced database aside");
    }
    options.disk.remove(&beside(&options.backing, "-shm")).map_err(&failed)
}

/// The writer's copy: the backing file itself, or one in memory filled from it.
pub(crate) fn build_core(shared: &Arc<Shared>, mut file: SqliteStore) -> Result<Core> {
    let options = &shared.options;
    let core = match options.working_copy {
        WorkingCopy::Disk => Core::new(file, None, shared.clone())?,
        WorkingCopy::Memory => {
            let path = format!("/{}.db", options.name);
            let disk = Arc::new(MemoryDisk::new());
            let limit = options.limits.commit_bytes;
            let mut copy = SqliteStore::open(disk, path.as_ref(), Sync::Off, limit)?;
            copy.follow()?;
            copy.fill(&mut file)?;
            Core::new(copy, Some(file), shared.clone())?
        }
    };
    core.serve()?;
    Ok(core)
}

/// Starts the writer's thread and its keeper.
pub(crate) fn start_writing(database: &Database, mut core: Core) -> Result<()> {
    let shared = database.shared().clone();
    let (path, disk) = core.file_place();
    if shared.condition().state != State::Restored {
        core.checkpoint_begins()?;
        core.checkpoint(true)?;
    }
    let failed = io_failed("no thread can be started");
    let (inbox, thread) = writer::start(core).map_err(&failed)?;
    let keeper = keeper::start(shared.clone(), inbox.clone(), &path, disk)?;
    shared.set_role(Role::Writer);
    *lock(&database.0.writing) =
        Some(Writing { inbox, thread: Some(thread), keeper: Some(keeper) });
    Ok(())
}

fn open_reader(database: &Database) -> Result<()> {
    let shared = database.shared();
    let following = follower::start(shared.clone())?;
    *lock(&database.0.following) = Some(following);
    listen(database);
    Ok(())
}

/// Listens to the writer, wherever it is by then; the poll is the safety net.
pub(crate) fn listen(database: &Database) {
    let shared = database.shared();
    let finding = shared.clone();
    let waker = Waker {
        writer: Arc::new(move || finding.writer_url()),
        database: shared.options.name.clone(),
        node: shared.options.node.clone(),
    };
    let following = lock(&database.0.following);
    let Some(wake) = following.as_ref().map(|f| f.waker()) else { return };
    let reporting = shared.clone();
    let report =
        move || Report { position: reporting.position(), undone: *lock(&reporting.undone) };
    match wake_stream(waker, move |_| wake(), report) {
        Ok(stream) => *lock(&database.0.wake) = Some(stream),
        Err(error) => tracing::warn!(%error, "cannot listen to the writer; the poll goes on"),
    }
}

/// Makes this reader the writer.
///
/// It first catches up with the backing database; whatever only an unreachable writer had (nothing,
/// unless it acknowledged from memory) is lost, and `accept_loss` says that this is known.
pub(crate) fn promote(database: &Database, accept_loss: bool) -> Result<Position> {
    let shared = database.shared().clone();
    if shared.role() == Role::Writer {
        return Ok(shared.position());
    }
    lock(&database.0.wake).take();
    let promoting = shared.clone();
    let handed = {
        let following = lock(&database.0.following);
        let Some(following) = following.as_ref() else {
            return Err(Error::unavailable("NOT_READY", "this node has no copy yet"));
        };
        following.errand(move |follower| {
            let mut file = open_backing(&promoting)?;
            take_epoch(&promoting, &mut file, accept_loss || promoting.options.take_over)?;
            follower.look();
            let mut copy = follower.hand_over().ok_or_else(no_copy)?;
            let (mine, theirs) = (copy.standing()?, file.standing()?);
            if mine.position != theirs.position || mine.lineage != theirs.lineage {
                copy = refill(&promoting, &mut file)?;
            }
            file.follow()?;
            Ok((copy, file))
        })?
    };
    let handed = wait(handed);
    let (copy, file) = match handed {
        Ok(stores) => stores,
        Err(error) => {
            listen(database);
            return Err(error);
        }
    };
    drop(lock(&database.0.following).take());
    let core = Core::new(copy, Some(file), shared.clone())?;
    core.serve()?;
    start_writing(database, core)?;
    shared.set_condition(State::Ok, "");
    Ok(shared.position())
}

fn no_copy() -> Error {
    Error::unavailable("NOT_READY", "this node has no copy yet")
        .hint("wait until it has loaded one, or promote another reader")
}

/// The copy could not be brought into step: begin again from the backing file.
pub(crate) fn refill(shared: &Shared, file: &mut SqliteStore) -> Result<SqliteStore> {
    let path = format!("/{}.db", shared.options.name);
    let limit = shared.options.limits.commit_bytes;
    let mut copy = SqliteStore::open(Arc::new(MemoryDisk::new()), path.as_ref(), Sync::Off, limit)?;
    copy.follow()?;
    copy.fill(file)?;
    Ok(copy)
}

impl Core {
    /// Makes reads go to this copy.
    pub(crate) fn serve(&self) -> Result<()> {
        let shared = &self.shared;
        shared.set_place(self.store.disk().clone(), self.store.path().to_owned());
        shared.publish(self.store.position());
        shared.knows(self.store.lineage());
        *lock(&shared.lineage) = self.store.lineage().clone();
        let version = self.store.position().version.0;
        shared.durable.store(version, Ordering::Release);
        shared.verified_at(self.store.verified()?);
        Ok(())
    }

    /// Orderly end: everything durable, the log in the main file, the epoch given up.
    pub(crate) fn close(&mut self) -> Result<()> {
        // Also after a commit that found no space, if there is some by now: what it wrote of itself behind
        // the log's end may be whole, and the next start would take it for done. This writes over it.
        if !matches!(self.shared.condition().state, State::Ok | State::DiskFull) {
            return Ok(());
        }
        self.flush_now()?;
        self.release()?;
        self.checkpoint_begins()?;
        self.checkpoint(true)
    }

    /// Forgets what the log need not have any more: by age, by size, and never what a registered
    /// reader still has to come for, unless the size asks for it: then the reader is given up.
    pub(crate) fn trim(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let options = &shared.options;
        let older = shared.now().0.saturating_sub(options.log_keep_for.as_micros() as u64);
        let slowest =
            lock(&shared.readers).values().filter(|r| !r.lost).map(|r| r.position.version).min();
        let keep = slowest.unwrap_or(self.store.position().version);
        let file = self.backing.as_mut().unwrap_or(&mut self.store);
        let oldest = file.trim(Timestamp(older), options.log_keep_size, keep)?;
        shared.log_begins_at(oldest.unwrap_or(file.position().version.next()));
        Ok(())
    }
}
