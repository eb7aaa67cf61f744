//! What a database's threads and handles share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use tokio::sync::watch;

use super::options::{DatabaseOptions, Role};
use super::status::{ReaderStatus, State};
use crate::change::{Lineage, Position, Timestamp, Version};
use crate::error::{Error, Kind, Result};
use crate::store::Standing;
use crate::store::disk::{Disk, FileId};

/// A writer remembers no more readers than this.
const MOST_READERS: usize = 10_000;

/// Where the copy lies that serves reads; replaced when a copy is rebuilt.
pub(crate) struct Place {
    pub disk: Arc<dyn Disk>,
    pub path: PathBuf,
    /// Which file it is: one that was put in its place is not opened.
    identity: Option<FileId>,
    /// Counts up with each rebuild: connections to older places are dropped.
    pub generation: u64,
}

impl Place {
    /// A connection to it. If another file was put at its path, there is none: SQLite would read that
    /// one through the old file's write-ahead log.
    fn open<T>(&self, open: OpenAt<T>) -> Result<T> {
        let opened = open(&self.disk, &self.path)?;
        if self.disk.identity(&self.path).ok() == Some(self.identity) {
            return Ok(opened);
        }
        Err(Error::unavailable(
            "RESTORED",
            "the database file was replaced; its node looks into it",
        )
        .hint("try again in a moment; `syncline status` shows what to decide"))
    }
}

/// Opens a connection of some kind to a file.
type OpenAt<T> = fn(&Arc<dyn Disk>, &Path) -> Result<T>;

/// How the database is doing, and why.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub state: State,
    pub note: String,
}

/// What the threads and handles of one database share.
pub(crate) struct Shared {
    pub options: DatabaseOptions,
    /// The random id of the data directory.
    pub directory: String,
    pub position: watch::Sender<Position>,
    place: RwLock<Option<Arc<Place>>>,
    condition: Mutex<Condition>,
    role: Mutex<Role>,
    pub lineage: Mutex<Lineage>,
    /// The last version that is durable here.
    pub durable: AtomicU64,
    pub verified: AtomicU64,
    pub source_version: AtomicU64,
    /// When this copy last was known to have everything; 0 if never.
    pub fresh_at: AtomicU64,
    /// How long the write-ahead log of the file that is written is by now.
    pub log_bytes: AtomicU64,
    /// Readers held the last checkpoint back: the mark knows no first page until there is another.
    pub checkpoint_owed: AtomicBool,
    /// How much is held beside the copy.
    pub shelved: AtomicU64,
    /// The highest epoch that this node knows of: a restored file may not know it any more.
    pub highest: AtomicU64,
    /// Where this copy stood before it last had to undo something.
    pub undone: Mutex<Option<Position>>,
    /// What readers have of earlier epochs is no proof of a restore.
    pub settled: AtomicU64,
    /// Restores that were decided: each may have put another file in the backing file's place.
    pub decisions: AtomicU64,
    pub healed: [AtomicU64; 4],
    pub mismatches: AtomicU64,
    pub readers: Mutex<BTreeMap<String, ReaderStatus>>,
    /// The oldest version that the writer's log still has, as far as this process knows.
    log_begins: AtomicU64,
    /// Where the live holder says it can be reached, as last read from the backing database.
    pub holder_url: Mutex<Option<String>>,
    pub stop: watch::Sender<Option<(u8, String)>>,
}

/// Locks, and goes on after a panic elsewhere: what these mutexes guard is replaced whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Shared {
    pub fn new(options: DatabaseOptions, directory: String, state: State) -> Shared {
        Shared {
            role: Mutex::new(options.role),
            options,
            directory,
            position: watch::Sender::new(Position::default()),
            place: RwLock::new(None),
            condition: Mutex::new(Condition { state, note: String::new() }),
            lineage: Mutex::default(),
            durable: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            source_version: AtomicU64::new(0),
            fresh_at: AtomicU64::new(0),
            log_bytes: AtomicU64::new(0),
            checkpoint_owed: AtomicBool::new(false),
            shelved: AtomicU64::new(0),
            highest: AtomicU64::new(0),
            undone: Mutex::default(),
            settled: AtomicU64::new(0),
            decisions: AtomicU64::new(0),
            healed: Default::default(),
            mismatches: AtomicU64::new(0),
            readers: Mutex::default(),
            log_begins: AtomicU64::new(0),
            holder_url: Mutex::default(),
            stop: watch::Sender::new(None),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    pub fn condition(&self) -> Condition {
        lock(&self.condition).clone()
    }

    /// Tells how the database is doing. A failure of the storage stays: no thread that knows less of it
    /// takes it back.
    pub fn set_condition(&self, state: State, note: impl Into<String>) {
        let note = note.into();
        let mut condition = lock(&self.condition);
        if condition.state == State::Failed {
            return;
        }
        let old = std::mem::replace(&mut *condition, Condition { state, note: note.clone() });
        drop(condition);
        if old.state != state {
            tracing::info!(database = %self.options.name, from = old.state.as_str(), to = state.as_str(), note, "state changed");
        }
    }

    /// What a look at the backing database shows of the writer: where it stands and is reached.
    pub fn source_stands(&self, standing: &Standing) {
        self.source_version.store(standing.position.version.0, Ordering::Relaxed);
        let url = standing.holder.as_ref().map(|holder| holder.advertise.clone());
        *lock(&self.holder_url) = url.filter(|url| !url.is_empty());
    }

    pub fn role(&self) -> Role {
        *lock(&self.role)
    }

    pub fn set_role(&self, role: Role) {
        *lock(&self.role) = role;
    }

    /// A reader told where it stands.
    pub fn heard_of(&self, node: &str, position: Position) {
        let (seen, expiry) = (self.now(), self.options.reader_expiry);
        let mut readers = lock(&self.readers);
        readers.retain(|_, reader| seen.since(reader.seen) < expiry);
        if readers.len() >= MOST_READERS && !readers.contains_key(node) {
            return;
        }
        let lost = position.version.next().0 < self.log_begins.load(Ordering::Relaxed);
        let status = ReaderStatus { node: node.to_owned(), position, seen, lost };
        readers.insert(node.to_owned(), status);
    }

    /// The log begins there now: a reader that is further behind is given up, with an alarm.
    pub fn log_begins_at(&self, oldest: Version) {
        self.log_begins.store(oldest.0, Ordering::Relaxed);
        for reader in lock(&self.readers).values_mut() {
            if !reader.lost && reader.position.version.next() < oldest {
                reader.lost = true;
                let (name, node) = (&self.options.name, &reader.node);
                tracing::warn!(database = %name, %node, stood_at = %reader.position, log_begins = oldest.0,
                    "the log outgrew keep_size and no longer reaches back to this reader; it will copy everything");
                metrics::counter!("syncline_readers_lost_total", "database" => name.clone())
                    .increment(1);
            }
        }
    }

    /// Where writes go, if not here.
    pub fn writer_url(&self) -> Option<String> {
        match self.role() {
            Role::Writer => None,
            Role::Reader => self.options.writer.clone().or_else(|| lock(&self.holder_url).clone()),
        }
    }

    /// The place that serves reads; `NOT_READY` while the first copy is loaded.
    pub fn place(&self) -> Result<Arc<Place>> {
        let place = self.place.read().unwrap_or_else(|e| e.into_inner()).clone();
        place.ok_or_else(|| {
            Error::unavailable("NOT_READY", "this node is still loading its first copy").hint(
                "try again in a moment, or ask another node; `syncline status` shows how far it is",
            )
        })
    }

    /// A connection to the place that serves reads, with its generation. A copy that was rebuilt takes its
    /// predecessor's files away, perhaps while they are being opened: then the new one is.
    pub fn open_place<T>(&self, open: OpenAt<T>) -> Result<(u64, T)> {
        loop {
            let place = self.place()?;
            match place.open(open) {
                Err(_) if self.place()?.generation != place.generation => {}
                opened => return Ok((place.generation, opened?)),
            }
        }
    }

    /// Makes reads go to another place from now on.
    pub fn set_place(&self, disk: Arc<dyn Disk>, path: PathBuf) {
        let mut place = self.place.write().unwrap_or_else(|e| e.into_inner());
        let generation = place.as_ref().map_or(1, |p| p.generation + 1);
        let identity = disk.identity(&path).ok().flatten();
        *place = Some(Arc::new(Place { disk, path, identity, generation }));
    }

    /// Remembers the epochs of a lineage: none of them may be taken again.
    pub fn knows(&self, lineage: &Lineage) {
        let highest = lineage.0.iter().map(|reign| reign.epoch.0).max();
        self.highest.fetch_max(highest.unwrap_or(0), Ordering::Relaxed);
    }

    /// Reads see `position` from now on.
    pub fn publish(&self, position: Position) {
        self.position.send_if_modified(|old| std::mem::replace(old, position) != position);
    }

    pub fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// The process must stop: see [`Database::stopped`](super::Database::stopped).
    pub fn stop(&self, code: u8, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!(database = %self.options.name, code, reason, "must stop");
        self.stop.send_if_modified(|old| {
            let first = old.is_none();
            if first {
                *old = Some((code, reason));
            }
            first
        });
    }

    /// The storage failed: nothing more is acknowledged, the process stops.
    pub fn storage_failed(&self, error: &Error) {
        self.set_condition(State::Failed, error.to_string());
        self.stop(5, error.to_string());
    }

    pub fn count_heal(&self, rung: usize) {
        self.healed[rung].fetch_add(1, Ordering::Relaxed);
        let name = self.options.name.clone();
        let rung = crate::heal::RUNGS[rung];
        metrics::counter!("syncline_heal_total", "database" => name, "rung" => rung).increment(1);
    }

    pub fn verified_at(&self, version: Version) {
        self.verified.store(version.0, Ordering::Relaxed);
    }
}

/// The error of a write that a failing storage may or may not have kept.
pub(crate) fn outcome_unknown(cause: &Error) -> Error {
    Error::new(
        Kind::Unknown,
        "OUTCOME_UNKNOWN",
        format!("the storage failed while this write was being made durable: {}", cause.message()),
    )
    .hint("restart the node, then ask with the receipt or repeat with the same Idempotency-Key")
}
