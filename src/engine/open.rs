//! Opening a database, and becoming its writer.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::backing::Backing;
use super::copies::working_log;
use super::core::Core;
use super::database::{Database, Inner, Writing, wait};
use super::follower::{self, Follower};
use super::keeper;
use super::open_file::{open_backing_file, refuse_network_file_system};
use super::open_server::open_backing_server;
use super::options::{BackingPlace, DatabaseOptions, Role, WorkingCopy};
use super::readers::Readers;
use super::reign::{holder_of, take_epoch};
use super::resolve::{hold_left_behind, left_behind};
use super::shared::{Shared, lock};
use super::shelf;
use super::status::State;
use super::{open_file, open_server, writer};
use crate::change::{Position, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::order::leader;
use crate::ship::{Report, Waker, news_stream, wake_stream};
use crate::store::sqlite::{SqliteStore, Sync};
use crate::store::vfs::MemoryDisk;
use crate::store::{Source, Store};

pub(super) fn io_failed(what: &str) -> impl Fn(io::Error) -> Error + '_ {
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
    if let BackingPlace::File(path) = &options.backing {
        refuse_network_file_system(path)?;
    }
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
    let readers = Readers::start(shared.clone()).map_err(io_failed("no thread can be started"))?;
    let database = Database(Arc::new(Inner {
        shared: shared.clone(),
        readers,
        writing: Mutex::new(None),
        following: Mutex::new(None),
        wake: Mutex::new(None),
        news: Mutex::new(None),
        lock: Mutex::new(Some(guard)),
    }));
    let opened = match shared.role() {
        Role::Writer => match &shared.options.backing {
            BackingPlace::File(path) => open_file::open_writer(&database, path),
            BackingPlace::Server(place) => open_server::open_writer(&database, place.as_ref()),
        },
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

/// The writer of a backing file: its copy is the file itself, or lies in memory and is filled from it.
pub(crate) fn build_core(shared: &Arc<Shared>, mut file: SqliteStore) -> Result<Core> {
    let core = match shared.options.working_copy {
        WorkingCopy::Disk => Core::new(file, Backing::Itself, shared.clone())?,
        WorkingCopy::Memory => {
            let copy = fill_in_memory(shared, &mut file)?;
            Core::new(copy, Backing::File(Box::new(file)), shared.clone())?
        }
    };
    core.serve()?;
    Ok(core)
}

/// A copy in memory of all that a backing database has.
pub(super) fn fill_in_memory(shared: &Shared, there: &mut dyn Source) -> Result<SqliteStore> {
    let mut copy = empty_in_memory(shared)?;
    copy.fill(there)?;
    Ok(copy)
}

/// A copy in memory that follows, of nothing yet.
pub(super) fn empty_in_memory(shared: &Shared) -> Result<SqliteStore> {
    let path = format!("/{}.db", shared.options.name);
    let limit = shared.options.limits.commit_bytes;
    let copy = SqliteStore::open(Arc::new(MemoryDisk::new()), path.as_ref(), Sync::Off, limit)?;
    copy.follow()?;
    Ok(copy)
}

/// Starts the writer's thread and its keeper.
pub(crate) fn start_writing(database: &Database, mut core: Core) -> Result<()> {
    let shared = database.shared().clone();
    let place = core.file_place();
    if shared.condition().state != State::Restored {
        core.checkpoint_begins()?;
        core.checkpoint(true)?;
    }
    let failed = io_failed("no thread can be started");
    let (inbox, thread) = writer::start(core).map_err(&failed)?;
    let keeper = keeper::start(shared.clone(), inbox.clone(), place)?;
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
    let BackingPlace::Server(place) = &shared.options.backing else { return };
    let Some(look) = following.as_ref().map(|f| f.waker()) else { return };
    match news_stream(place.clone(), look) {
        Ok(stream) => *lock(&database.0.news) = Some(stream),
        Err(error) => {
            tracing::warn!(%error, "cannot listen to the backing database; the poll goes on")
        }
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
    lock(&database.0.news).take();
    let promoting = shared.clone();
    let handed = {
        let following = lock(&database.0.following);
        let Some(following) = following.as_ref() else {
            return Err(Error::unavailable("NOT_READY", "this node has no copy yet"));
        };
        following.errand(move |follower| {
            let mut backing = open_backing(&promoting)?;
            let there = backing.beside().expect("it is opened beside the copy");
            take_epoch(&promoting, there, accept_loss || promoting.options.take_over)?;
            let copy = copy_in_step_with(there, follower)?;
            Ok((copy, backing))
        })?
    };
    let handed = wait(handed);
    let (copy, backing) = match handed {
        Ok(stores) => stores,
        Err(error) => {
            listen(database);
            return Err(error);
        }
    };
    drop(lock(&database.0.following).take());
    let core = Core::new(copy, backing, shared.clone())?;
    core.serve()?;
    start_writing(database, core)?;
    shared.set_condition(State::Ok, "");
    Ok(shared.position())
}

fn no_copy() -> Error {
    Error::unavailable("NOT_READY", "this node has no copy yet")
        .hint("wait until it has loaded one, or promote another reader")
}

/// Opens the backing database to write it, beside a copy.
fn open_backing(shared: &Shared) -> Result<Backing> {
    Ok(match &shared.options.backing {
        BackingPlace::File(path) => Backing::File(Box::new(open_backing_file(shared, path)?)),
        BackingPlace::Server(place) => {
            Backing::Server(open_backing_server(shared, place.as_ref())?)
        }
    })
}

/// The follower's copy, with all that its source has. If it cannot be brought into step, another one.
pub(super) fn copy_in_step_with(
    there: &mut dyn Store,
    follower: &mut Follower,
) -> Result<SqliteStore> {
    let looked = follower.look();
    let shared = follower.shared.clone();
    let condition = shared.condition();
    let Some(mut copy) = follower.hand_over() else {
        looked?;
        return Err(match condition.state {
            State::SourceDamaged => Error::corrupt("SOURCE_DAMAGED", condition.note).hint(
                "rows were changed behind Syncline's back, or rotted: put them back, or a backup",
            ),
            _ => no_copy(),
        });
    };
    let (mine, theirs) = (copy.standing()?, there.standing()?);
    if mine.position == theirs.position && mine.lineage == theirs.lineage {
        return Ok(copy);
    }
    fill_in_memory(&shared, there)
}

/// Serves what was found restored, and writes nothing, until someone decides.
pub(super) fn wait_for_a_decision(database: &Database, mut core: Core, why: &str) -> Result<()> {
    let shared = database.shared();
    core.found_restored = true;
    core.left_behind = left_behind(&shared.options);
    let note = format!("the backing database was restored while this node was down: {why}");
    shared.set_condition(State::Restored, note);
    start_writing(database, core)
}

/// Takes the next epoch, of a restored database too, and holds what only a copy that was set aside has.
pub(super) fn begin_to_reign(
    shared: &Shared,
    there: &mut dyn Store,
    restored: Option<String>,
) -> Result<()> {
    let taken = take_epoch(shared, there, shared.options.take_over)?;
    if let Some(why) = restored {
        tracing::warn!(database = %shared.options.name, why, "the backing database was restored; adopted it");
        shared.settled.store(taken.epoch.0, Ordering::Relaxed);
    }
    hold_left_behind(shared, there);
    Ok(())
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
        let state = self.shared.condition().state;
        if !matches!(state, State::Ok | State::DiskFull | State::Stale | State::SourceDamaged) {
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
        self.be_settled()?;
        let shared = self.shared.clone();
        let options = &shared.options;
        let older = shared.now().0.saturating_sub(options.log_keep_for.as_micros() as u64);
        let slowest =
            lock(&shared.readers).values().filter(|r| !r.lost).map(|r| r.position.version).min();
        let keep = slowest.unwrap_or(self.store.position().version);
        let durable = self.durable();
        let oldest = durable.trim(Timestamp(older), options.log_keep_size, keep)?;
        let flushed = durable.position().version;
        shared.log_begins_at(oldest.unwrap_or(flushed.next()));
        if !self.backing.is_itself() && flushed == self.store.position().version {
            let size = working_log(options);
            self.store.trim(Timestamp(older), size, flushed)?;
        }
        Ok(())
    }
}
