//! The keeper: checkpoints and the mark, off the commit path.
//!
//! ```text
//! keeper    snapshot ─ checkpoint what it sees (most pages, most of the time) ─┐
//! writer                     groups go on …                        between two groups:
//!                                                     mark ─ checkpoint the rest ─ log restarts
//! ```
//!
//! The snapshot keeps SQLite from starting the log over before the mark knows the new first page.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::core::Core;
use super::mark::{self, Mark};
use super::shared::{Shared, lock};
use super::status::State;
use super::writer::Inbox;
use crate::change::Position;
use crate::error::{Error, Result};
use crate::store::disk::Disk;
use crate::store::sqlite::Checkpointer;

/// A write-ahead log beyond this is checkpointed.
const WAL: u64 = 16 << 20;
/// How often the keeper looks.
const EVERY: Duration = Duration::from_millis(200);
/// How often the log is trimmed.
const TRIM: Duration = Duration::from_secs(10);
/// How old the mark may get.
const MARK: Duration = Duration::from_secs(1);

/// The running keeper; ends when dropped.
pub(crate) struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the keeper of the file that a writer writes.
pub(crate) fn start(
    shared: Arc<Shared>,
    inbox: Inbox,
    file: &Path,
    disk: Arc<dyn Disk>,
) -> Result<Keeper> {
    let (stop, stopped) = channel();
    let file = file.to_owned();
    let most = Arc::new(Mutex::new(Checkpointer::open(&disk, &file)?));
    let work = move || {
        let mut keeping = Keeping {
            shared,
            inbox,
            file,
            disk,
            most,
            next: WAL,
            marked: Instant::now(),
            trimmed: Instant::now(),
            last: None,
        };
        keeping.run(&stopped);
    };
    let thread = std::thread::Builder::new().name("syncline-keeper".into()).spawn(work);
    let thread = thread.map_err(|e| Error::unavailable("THREAD_FAILED", e.to_string()))?;
    Ok(Keeper { stop: Some(stop), thread: Some(thread) })
}

struct Keeping {
    shared: Arc<Shared>,
    inbox: Inbox,
    file: std::path::PathBuf,
    disk: Arc<dyn Disk>,
    most: Arc<Mutex<Checkpointer>>,
    /// The size of the log at which the next checkpoint is due.
    next: u64,
    marked: Instant,
    trimmed: Instant,
    last: Option<Position>,
}

impl Keeping {
    fn run(&mut self, stopped: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
            if let Err(error) = self.look() {
                tracing::warn!(%error, "the keeper could not do its work");
            }
        }
    }

    fn look(&mut self) -> Result<()> {
        if matches!(self.shared.condition().state, State::Restored | State::Fenced | State::Failed)
        {
            return Ok(());
        }
        if self.trimmed.elapsed() >= TRIM {
            self.trimmed = Instant::now();
            self.between_groups(|core| core.trim())?;
        }
        let wal = mark::beside(&self.file, "-wal");
        let size = self.disk.len(&wal).ok().flatten().unwrap_or(0);
        if size >= self.next {
            self.checkpoint()?;
            let left = self.disk.len(&wal).ok().flatten().unwrap_or(0);
            // If readers held it back, the log stays large: try again when it has grown, not at once.
            self.next = WAL.max(left + WAL);
        } else if self.marked.elapsed() >= MARK && self.last != Some(self.shared.position()) {
            self.mark()?;
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        self.marked = Instant::now();
        self.last = Some(self.shared.position());
        self.between_groups(|core| core.write_mark())
    }

    fn checkpoint(&mut self) -> Result<()> {
        let most = self.most.clone();
        let passed = lock(&most).pass();
        if let Err(error) = passed {
            lock(&most).let_go();
            return Err(error);
        }
        self.between_groups(move |core| {
            lock(&most).let_go();
            core.write_mark()?;
            core.checkpoint()
        })
    }

    fn between_groups(
        &self,
        work: impl FnOnce(&mut Core) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let answer = self.inbox.errand(work)?;
        let gone = || Error::unavailable("CLOSING", "the writer has ended");
        answer.blocking_recv().map_err(|_| gone())?
    }
}

impl Core {
    /// Writes the mark: where the durable copy stands, and its first page.
    pub(crate) fn write_mark(&mut self) -> Result<()> {
        if self.unflushed && self.backing.is_none() {
            // What is not synced yet must not be remembered as lost.
            return Ok(());
        }
        let shared = self.shared.clone();
        let options = &shared.options;
        let path = mark::path(&options.data_dir, &options.name);
        let disk = options.disk.as_ref();
        let old = mark::read(disk, &path)?;
        let file = self.backing.as_mut().unwrap_or(&mut self.store);
        let page = file.first_page()?;
        let mark =
            Mark::of(disk, file.path(), file.position(), file.lineage(), &page, old.as_ref())?;
        if old.as_ref() == Some(&mark) { Ok(()) } else { mark::write(disk, &path, &mark) }
    }

    /// Brings the rest of the write-ahead log into the main file, and lets it start over.
    pub(crate) fn checkpoint(&mut self) -> Result<()> {
        let file = self.backing.as_mut().unwrap_or(&mut self.store);
        let done = file.checkpoint_rest();
        if let Err(error) = &done
            && error.kind() == crate::error::Kind::Storage
        {
            self.shared.storage_failed(error);
        }
        done
    }
}
