//! The keeper: checkpoints and the mark, off the commit path.
//!
//! ```text
//! keeper    ┌─ snapshot ─ checkpoint what it sees (most pages, most of the time) ─┐
//! writer   mark              groups go on …                         between two groups:
//!                                                   checkpoint the rest ─ log restarts ─ mark
//! ```
//!
//! The mark before says that a checkpoint is under way: if power fails in it, the first page may be torn,
//! and nobody may take that for a restore. The mark after knows the new first page.
//!
//! A sync of the keeper's that fails may have thrown away what the writer has written and is about to
//! sync. The writer is told by its own sync, through its own handle (Linux since 4.13): it relies on that
//! for the moment until the keeper has said that the storage failed.
//!
//! Left out: systems that report a failed sync to one handle only.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use super::changed::look_at_the_server;
use super::core::{Checkpointed, Core};
use super::database::Keep;
use super::inbox::Inbox;
use super::mark::{self, Mark};
use super::options::OnRestore;
use super::shared::{Shared, lock};
use super::status::State;
use crate::change::{Epoch, Position};
use crate::error::{Error, Kind, Result};
use crate::store::disk::Disk;
use crate::store::sqlite::Checkpointer;

/// How often the log is trimmed, and a checkpoint tried again: so many times as seldom as the mark is written.
const TRIM: u32 = 10;
/// A log that readers let grow beyond so many times its ordinary size gives the space back.
const SHRINK: u64 = 4;
/// How often the keeper looks: so many times as often.
const LOOKS: u32 = 5;

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

/// Starts the keeper of what a writer writes; `place`: the file, if it is one.
pub(crate) fn start(
    shared: Arc<Shared>,
    inbox: Inbox,
    place: Option<(PathBuf, Arc<dyn Disk>)>,
) -> Result<Keeper> {
    let (stop, stopped) = channel();
    let checkpoints = place.map(|(file, disk)| Checkpoints::open(file, disk)).transpose()?;
    let next = shared.options.checkpoint_at;
    let decisions = shared.decisions.load(Ordering::Acquire);
    let work = move || {
        let mut keeping = Keeping {
            shared,
            inbox,
            checkpoints,
            next,
            marked: Instant::now(),
            trimmed: Instant::now(),
            recounted: Instant::now(),
            last: None,
            decisions,
        };
        keeping.run(&stopped);
    };
    let thread = std::thread::Builder::new().name("syncline-keeper".into()).spawn(work);
    let thread = thread.map_err(|e| Error::unavailable("THREAD_FAILED", e.to_string()))?;
    Ok(Keeper { stop: Some(stop), thread: Some(thread) })
}

/// The checkpoints of a file.
struct Checkpoints {
    file: PathBuf,
    disk: Arc<dyn Disk>,
    most: Arc<Mutex<Checkpointer>>,
}

impl Checkpoints {
    fn open(file: PathBuf, disk: Arc<dyn Disk>) -> Result<Checkpoints> {
        let most = Arc::new(Mutex::new(Checkpointer::open(&disk, &file)?));
        Ok(Checkpoints { file, disk, most })
    }
}

struct Keeping {
    shared: Arc<Shared>,
    inbox: Inbox,
    checkpoints: Option<Checkpoints>,
    /// The size of the log at which the next checkpoint is due.
    next: u64,
    marked: Instant,
    trimmed: Instant,
    /// When the rows of a server were last recounted, because they were not what they should be.
    recounted: Instant,
    last: Option<Position>,
    /// Decisions about restores that this keeper has followed.
    decisions: u64,
}

impl Keeping {
    fn run(&mut self, stopped: &Receiver<()>) {
        let every = self.shared.options.mark_every / LOOKS;
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
            match self.look() {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), Kind::Storage | Kind::Corrupt) => {
                    self.shared.storage_failed(&error);
                }
                Err(error) => tracing::warn!(%error, "the keeper could not do its work"),
            }
        }
    }

    fn look(&mut self) -> Result<()> {
        match self.shared.condition().state {
            State::Restored if self.shared.options.on_restore == OnRestore::Adopt => {
                return self.between_groups(|core| core.resolve(Keep::Backing).map(drop));
            }
            State::Restored | State::Fenced | State::Failed => return Ok(()),
            State::SourceDamaged => self.look_at_the_rows(),
            _ => {}
        }
        self.follow_decisions()?;
        let options = &self.shared.options;
        let (mark_every, checkpoint_at) = (options.mark_every, options.checkpoint_at);
        let seldom = self.trimmed.elapsed() >= mark_every * TRIM;
        if seldom {
            self.trimmed = Instant::now();
            self.between_groups(|core| core.trim())?;
        }
        let owed = seldom && self.shared.checkpoint_owed.load(Ordering::Relaxed);
        if owed || self.shared.log_bytes.load(Ordering::Relaxed) >= self.next {
            self.checkpoint()?;
            // If readers held it back, the log stays large: try again when it has grown or after a while.
            self.next = self.shared.log_bytes.load(Ordering::Relaxed) + checkpoint_at;
        } else if self.marked.elapsed() >= mark_every && self.last != Some(self.shared.position()) {
            self.marked = Instant::now();
            self.last = Some(self.shared.position());
            self.between_groups(|core| core.write_mark())?;
        }
        Ok(())
    }

    /// The rows that this copy was filled with were changed by others. Perhaps they have put them back.
    fn look_at_the_rows(&mut self) {
        if self.recounted.elapsed() < self.shared.options.check_every {
            return;
        }
        let looked = look_at_the_server(&self.shared).and_then(|there| match there.equal {
            true => self.between_groups(Core::load_again),
            false => Ok(()),
        });
        self.recounted = Instant::now();
        // Nothing of this node's own failed.
        if let Err(error) = looked {
            tracing::warn!(%error, "could not look whether the rows are back");
        }
    }

    /// After a restore was decided, another file may lie there. The writer has it open by now.
    fn follow_decisions(&mut self) -> Result<()> {
        let decisions = self.shared.decisions.load(Ordering::Acquire);
        if self.decisions == decisions {
            return Ok(());
        }
        if let Some(Checkpoints { file, disk, most }) = &self.checkpoints {
            let (most, disk, file) = (most.clone(), disk.clone(), file.clone());
            self.between_groups(move |_| {
                *lock(&most) = Checkpointer::open(&disk, &file)?;
                Ok(())
            })?;
        }
        self.decisions = decisions;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        let Some(Checkpoints { file, disk, most }) = &self.checkpoints else { return Ok(()) };
        self.between_groups(|core| core.checkpoint_begins())?;
        let most = most.clone();
        let wal = mark::beside(file, "-wal");
        let size = disk.len(&wal).ok().flatten().unwrap_or(0);
        let shrink = size > SHRINK * self.shared.options.checkpoint_at;
        let passed = lock(&most).pass();
        if let Err(error) = passed {
            lock(&most).let_go();
            return Err(error);
        }
        self.between_groups(move |core| {
            lock(&most).let_go();
            core.checkpoint(shrink)
        })
    }

    fn between_groups(
        &self,
        work: impl FnOnce(&mut Core) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let answer = self.inbox.chore(work)?;
        let gone = || Error::unavailable("CLOSING", "the writer has ended");
        answer.blocking_recv().map_err(|_| gone())?
    }
}

impl Core {
    /// Writes the mark: where the durable copy stands, and the first page of its main file.
    pub(crate) fn write_mark(&mut self) -> Result<()> {
        // What is not synced must not be remembered: its loss would look like a restore.
        self.flush_now()?;
        self.refuse_if_overwritten()?;
        let shared = self.shared.clone();
        let options = &shared.options;
        let path = mark::path(&options.data_dir, &options.name);
        let disk = options.disk.as_ref();
        let durable = self.durable();
        let mut mark = Mark::of(disk, durable.position(), durable.lineage());
        mark.settled = Epoch(shared.settled.load(Ordering::Relaxed));
        let file = self.file().map(|file| file.path().to_owned());
        if let Some(file) = &file {
            mark.remember_files(disk, file)?;
            mark.page = self.checkpointed.as_ref().map(|left| left.page.clone());
        }
        let same = mark::read(disk, &path)?.as_ref() == Some(&mark);
        if !same {
            mark::write(disk, &path, &mark)?;
        }
        file.map_or(Ok(()), |file| mark::leave_beside(disk, &file, &mark))
    }

    /// From now on the first page may be torn by a loss of power: the mark says so.
    pub(crate) fn checkpoint_begins(&mut self) -> Result<()> {
        self.refuse_if_overwritten()?;
        self.checkpointed = None;
        self.write_mark()
    }

    /// Brings the rest of the write-ahead log into the main file, and lets it start over: in place, or from
    /// nothing.
    pub(crate) fn checkpoint(&mut self, shrink: bool) -> Result<()> {
        let Some((path, disk)) = self.file_place() else { return self.write_mark() };
        let version = self.durable().position().version;
        let done = self.file_mut().map_or(Ok(true), |file| file.checkpoint_rest(shrink));
        self.tell_log_length();
        self.shared.checkpoint_owed.store(matches!(done, Ok(false)), Ordering::Relaxed);
        match done {
            // SQLite syncs the main file only if it could bring everything over.
            Ok(true) => {
                let page = mark::first_page_hash(disk.as_ref(), &path)?;
                self.checkpointed = page.map(|page| Checkpointed { page, version });
                self.write_mark()
            }
            Ok(false) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }
}
