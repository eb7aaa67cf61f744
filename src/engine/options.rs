//! What a database is opened with: the policy as meant, every default resolved.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::acknowledge::Level;
use crate::change::{Clock, SystemClock};
use crate::store::ServerPlace;
use crate::store::disk::{Disk, NativeDisk};

/// What a node is to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one that writes.
    Writer,
    /// One of those that follow the shared backing database.
    Reader,
}

impl Role {
    /// `writer` or `reader`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Reader => "reader",
        }
    }
}

/// Where the backing database is.
#[derive(Debug, Clone)]
pub enum BackingPlace {
    /// A SQLite file, for the processes of one machine.
    File(PathBuf),
    /// A database on a server.
    Server(Arc<dyn ServerPlace>),
}

impl BackingPlace {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            BackingPlace::File(path) => Some(path),
            BackingPlace::Server(_) => None,
        }
    }
}

impl fmt::Display for BackingPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackingPlace::File(path) => write!(f, "{}", path.display()),
            BackingPlace::Server(place) => write!(f, "{place}"),
        }
    }
}

/// Where the copy that serves SQL lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkingCopy {
    /// On disk: where the backing database is a file, a writer's is that file. Any other lies in the data
    /// directory.
    Disk,
    /// In memory, loaded from the backing database at start.
    Memory,
}

/// What to do about a restored database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRestore {
    /// Stop writing and wait for `syncline resolve`.
    Stop,
    /// Take what was restored as the truth, in a new epoch.
    Adopt,
}

/// When a full check rebuilds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullMode {
    /// Recount and compare first; rebuild if different.
    Compare,
    /// Always rebuild.
    Always,
}

/// Limits on what one client may use. DESIGN's defaults.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A statement may run this long.
    pub statement: Duration,
    /// Schema steps and imports may run this long.
    pub schema_statement: Duration,
    /// A transaction may be idle this long.
    pub idle_transaction: Duration,
    /// … and this long while others wait for the writer.
    pub contended_idle_transaction: Duration,
    /// A transaction may last this long.
    pub total_transaction: Duration,
    /// How long a write waits for the writer.
    pub busy_timeout: Duration,
    /// Bytes of one answer.
    pub response_bytes: usize,
    /// Rows of one answer.
    pub response_rows: usize,
    /// Bytes of one commit.
    pub commit_bytes: u64,
    /// Writes that may wait; one more is refused with `WRITER_BUSY`.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            statement: Duration::from_secs(5),
            schema_statement: Duration::from_secs(600),
            idle_transaction: Duration::from_secs(10),
            contended_idle_transaction: Duration::from_secs(1),
            total_transaction: Duration::from_secs(30),
            busy_timeout: Duration::from_secs(5),
            response_bytes: 10 << 20,
            response_rows: 100_000,
            commit_bytes: 4 << 30,
            queue: 10_000,
        }
    }
}

/// Everything a database is opened with.
#[derive(Clone)]
pub struct DatabaseOptions {
    /// Its name.
    pub name: String,
    /// The node's name.
    pub node: String,
    /// The node's data directory: marks, held things of a fenced writer, readers' disk copies.
    pub data_dir: PathBuf,
    /// Where others reach this node (`http://host:port`).
    pub advertise: String,
    /// What this node is to the database.
    pub role: Role,
    /// The backing database.
    pub backing: BackingPlace,
    /// Where the copy that serves SQL lives.
    pub working_copy: WorkingCopy,
    /// Where a reader forwards writes; none: the live holder's advertised address.
    pub writer: Option<String>,
    /// When "done" is said.
    pub acknowledge: Level,
    /// Under `memory`: how long a commit may wait for its sync.
    pub flush_every: Duration,
    /// How often a reader looks at the backing database when nothing wakes it.
    pub check_every: Duration,
    /// How often a copy recounts itself.
    pub full_every: Duration,
    /// Whether a full check always rebuilds.
    pub full: FullMode,
    /// What to do about a restored database.
    pub on_restore: OnRestore,
    /// How long the log is kept.
    pub log_keep_for: Duration,
    /// How large the log may grow.
    pub log_keep_size: u64,
    /// How long a reader that was not seen holds the log back.
    pub reader_expiry: Duration,
    /// How long a writer's lease lasts.
    pub lease: Duration,
    /// Take the epoch although another holder seems alive.
    pub take_over: bool,
    /// Read connections (and threads).
    pub readers: usize,
    /// A write-ahead log beyond so many bytes is checkpointed.
    pub checkpoint_at: u64,
    /// How old the mark outside the database may get; checkpoints are looked for five times as often.
    pub mark_every: Duration,
    /// Limits on clients.
    pub limits: Limits,
    /// Files and the VFS.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl DatabaseOptions {
    /// A writer named `main` on the SQLite file `backing`, with every default.
    pub fn writer(backing: impl Into<PathBuf>) -> Self {
        let backing = backing.into();
        let data_dir = backing.parent().map(PathBuf::from).unwrap_or_default();
        DatabaseOptions {
            name: "main".into(),
            node: "a".into(),
            data_dir,
            advertise: String::new(),
            role: Role::Writer,
            backing: BackingPlace::File(backing),
            working_copy: WorkingCopy::Disk,
            writer: None,
            acknowledge: Level::Disk,
            flush_every: Duration::from_millis(100),
            check_every: Duration::from_secs(40),
            full_every: Duration::from_secs(300),
            full: FullMode::Compare,
            on_restore: OnRestore::Stop,
            log_keep_for: Duration::from_secs(24 * 3600),
            log_keep_size: 10 << 30,
            reader_expiry: Duration::from_secs(24 * 3600),
            lease: Duration::from_secs(10),
            take_over: false,
            readers: 4,
            checkpoint_at: 32 << 20,
            mark_every: Duration::from_secs(1),
            limits: Limits::default(),
            disk: Arc::new(NativeDisk),
            clock: Arc::new(SystemClock),
        }
    }

    /// Where the node's own copy is put when the backing file was replaced under it.
    pub(crate) fn set_aside(&self) -> PathBuf {
        self.data_dir.join(format!("{}.before-restore.db", self.name))
    }

    /// A reader of the SQLite file `backing` with its copy in memory, with every default.
    pub fn reader(backing: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Self {
        DatabaseOptions {
            role: Role::Reader,
            working_copy: WorkingCopy::Memory,
            data_dir: data_dir.into(),
            ..DatabaseOptions::writer(backing)
        }
    }
}
