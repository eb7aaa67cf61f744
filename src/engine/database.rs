//! A database as this node hosts it: the handle that everything above uses.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::follower::Following;
use super::handle::ReadHandle;
use super::inbox::Inbox;
use super::keeper::Keeper;
use super::options::{DatabaseOptions, Role};
use super::readers::{Readers, closing};
use super::session::Session;
use super::shared::{Shared, lock};
use super::status::{ReceiptState, Status};
use super::{open, resolve};
use crate::change::{Commit, Object, Position, Timestamp, Version};
use crate::error::{Error, Kind, Result};
use crate::heal::Side;
use crate::ship::{NewsStream, WakeStream};
use crate::store::sqlite::{Reader, SqliteStore};
use crate::store::{SnapshotItem as Item, Source};

/// The writer's side of a database, while this node has it.
pub(crate) struct Writing {
    pub inbox: Inbox,
    pub thread: Option<JoinHandle<()>>,
    pub keeper: Option<Keeper>,
}

pub(crate) struct Inner {
    pub shared: Arc<Shared>,
    pub readers: Readers,
    pub writing: Mutex<Option<Writing>>,
    pub following: Mutex<Option<Following>>,
    pub wake: Mutex<Option<WakeStream>>,
    pub news: Mutex<Option<NewsStream>>,
    /// Keeps a second process off the data directory.
    pub lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

/// A database as this node hosts it; clones are handles to the same one.
#[derive(Clone)]
pub struct Database(pub(crate) Arc<Inner>);

/// Which side of a restore to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// This node's copy.
    Node,
    /// What lies in the backing database.
    Backing,
}

/// One piece of a snapshot.
#[derive(Debug)]
pub enum SnapshotItem<'a> {
    /// A schema object, as a step that creates it.
    Object(&'a Object),
    /// A row of the table last named: its rowid if it has no usable key, and its values.
    Row {
        /// The table.
        table: &'a str,
        /// The key of a table that has no usable one.
        rowid: Option<i64>,
        /// The stored columns, in declared order.
        values: &'a [crate::change::ValueRef<'a>],
    },
}

/// Waits for an answer on a thread that may block.
pub(crate) fn wait<T>(answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    answer.blocking_recv().map_err(|_| closing())?
}

impl Database {
    /// Opens a database; blocks while a copy in memory is loaded.
    ///
    /// Fails with `HOLDER_ALIVE` if another writer holds it, naming that one.
    pub fn open(options: DatabaseOptions) -> Result<Database> {
        open::open(options)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.0.readers
    }

    pub(crate) fn inbox(&self) -> Result<Inbox> {
        let writing = lock(&self.0.writing);
        writing.as_ref().map(|w| w.inbox.clone()).ok_or_else(|| {
            Error::new(Kind::Retry, "NOT_WRITER", "this node is not the writer of this database")
        })
    }

    /// What it was opened with.
    pub fn options(&self) -> &DatabaseOptions {
        &self.0.shared.options
    }

    /// A new stream.
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    /// Reads on the caller's thread, by a connection of its own.
    pub fn reader(&self) -> Result<ReadHandle> {
        ReadHandle::new(self.0.shared.clone())
    }

    /// Where this copy stands: what its readers see now.
    pub fn position(&self) -> Position {
        self.0.shared.position()
    }

    /// Changes whenever the position does.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Position> {
        self.0.shared.position.subscribe()
    }

    /// What this node is to the database now (a promoted reader is a writer).
    pub fn role(&self) -> Role {
        self.0.shared.role()
    }

    /// How old this copy may be; zero at a writer. Cheap: it is asked with every answer.
    pub fn stale(&self) -> Duration {
        let shared = &self.0.shared;
        if shared.role() == Role::Writer {
            return Duration::ZERO;
        }
        shared.now().since(Timestamp(shared.fresh_at.load(Ordering::Relaxed)))
    }

    /// Where writes go, if not here.
    pub fn writer_url(&self) -> Option<String> {
        self.0.shared.writer_url()
    }

    /// Everything `status` shows. Blocks on storage.
    pub fn status(&self) -> Status {
        let shared = &self.0.shared;
        let condition = shared.condition();
        let position = self.position();
        let tables = self.tables().unwrap_or_default();
        let source = shared.source_version.load(Ordering::Relaxed);
        let role = shared.role();
        Status {
            name: shared.options.name.clone(),
            role,
            state: condition.state,
            note: condition.note,
            position,
            verified: Version(shared.verified.load(Ordering::Relaxed)),
            source_version: if role == Role::Writer { position.version } else { Version(source) },
            stale: self.stale(),
            acknowledge: shared.options.acknowledge,
            writer: self.writer_url(),
            tables,
            held: self.with_reader(|r| r.held_count()).unwrap_or(0)
                + shared.shelved.load(Ordering::Relaxed),
            healed: [0, 1, 2, 3].map(|rung| shared.healed[rung].load(Ordering::Relaxed)),
            mismatches: shared.mismatches.load(Ordering::Relaxed),
            readers: lock(&shared.readers).values().cloned().collect(),
        }
    }

    fn tables(&self) -> Result<Vec<(String, u64, crate::change::Digest)>> {
        self.with_reader(|reader| {
            let digests = reader.digests()?;
            Ok(digests.tables().map(|(name, t)| (name.to_owned(), t.rows, t.digest)).collect())
        })
    }

    pub(crate) fn with_reader<T>(&self, work: impl FnOnce(&mut Reader) -> Result<T>) -> Result<T> {
        let (generation, mut reader) = self.0.readers.checkout()?;
        let done = work(&mut reader);
        self.0.readers.checkin(generation, reader);
        done
    }

    /// Runs `work` on the copy, on the thread that owns it. Blocks on storage.
    pub(crate) fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteStore) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Ok(inbox) = self.inbox() {
            return wait(inbox.errand(move |core| work(&mut core.store))?);
        }
        let answer = match lock(&self.0.following).as_ref() {
            Some(following) => following.errand(move |follower| match follower.copy.as_mut() {
                Some(copy) => work(copy),
                None => Err(Error::unavailable("NOT_READY", "this node has no copy yet")),
            })?,
            None => return Err(closing()),
        };
        wait(answer)
    }

    /// Makes sure that this writer still has the epoch, and that what its readers see is durable.
    pub(crate) async fn confirm(&self) -> Result<()> {
        let answer = self.inbox()?.errand(|core| {
            core.flush_now()?;
            core.confirm()
        })?;
        answer.await.map_err(|_| closing())?
    }

    /// Waits until this copy has reached `receipt`, or fails with `UNDONE` or (at the deadline)
    /// `BEHIND`.
    pub async fn reached(&self, receipt: Position, within: Duration) -> Result<()> {
        let mut positions = self.watch();
        let deadline = tokio::time::Instant::now() + within;
        while positions.borrow_and_update().version < receipt.version {
            if self.is_cut_off(receipt) {
                return Err(undone(receipt));
            }
            let moved = tokio::time::timeout_at(deadline, positions.changed()).await;
            if moved.is_err() {
                let message = format!(
                    "this copy has not reached {receipt} yet; it stands at {}",
                    self.position()
                );
                return Err(Error::new(Kind::Behind, "BEHIND", message)
                    .hint("wait longer (Syncline-Timeout), or read from the writer"));
            }
        }
        if self.position().chain == receipt.chain {
            return Ok(());
        }
        let database = self.clone();
        let checked = tokio::task::spawn_blocking(move || database.is_in_history(receipt));
        match checked.await.map_err(|_| closing())?? {
            true => Ok(()),
            false => Err(undone(receipt)),
        }
    }

    /// Whether a later epoch began below a receipt that this copy has not reached: it never will.
    fn is_cut_off(&self, receipt: Position) -> bool {
        let lineage = lock(&self.0.shared.lineage);
        lineage.at(receipt.version).is_some_and(|reign| reign.epoch > receipt.epoch)
    }

    /// Whether a receipt lies in this copy's history. Where the log no longer reaches, the lineage says.
    fn is_in_history(&self, receipt: Position) -> Result<bool> {
        self.with_reader(|reader| {
            if let Some(chain) = reader.chain_at(receipt.version)? {
                return Ok(chain == receipt.chain);
            }
            let standing = reader.standing()?;
            let reign = standing.lineage.at(receipt.version);
            Ok(receipt.version <= standing.position.version
                && reign.is_some_and(|reign| reign.epoch == receipt.epoch))
        })
    }

    /// How far a receipt has got. Blocks on storage.
    pub fn receipt_state(&self, receipt: Position) -> Result<ReceiptState> {
        let shared = &self.0.shared;
        if receipt.version > self.position().version {
            let pending = shared.role() == Role::Reader && !self.is_cut_off(receipt);
            return Ok(if pending { ReceiptState::Pending } else { ReceiptState::Undone });
        }
        if !self.is_in_history(receipt)? {
            return Ok(ReceiptState::Undone);
        }
        if receipt.version.0 > shared.durable.load(Ordering::Acquire) {
            return Ok(ReceiptState::Pending);
        }
        let mut nodes = vec![shared.options.node.clone()];
        let readers = lock(&shared.readers);
        nodes.extend(
            readers
                .values()
                .filter(|r| r.position.version >= receipt.version)
                .map(|r| r.node.clone()),
        );
        Ok(ReceiptState::Durable(nodes))
    }

    /// The commits after `position`, at most about `bytes` of them (at least one if there is one), or
    /// `DIVERGED` (with the fork in the message, if what is held tells it) or `COMPACTED`. Blocks on
    /// storage.
    pub fn changes_after(&self, position: Position, bytes: usize) -> Result<Vec<Commit>> {
        let found = self.with_reader(|reader| {
            let standing = reader.standing()?;
            match reader.chain_at(position.version)? {
                Some(chain) if chain == position.chain => {
                    reader.after(position.version, bytes).map(Ok)
                }
                Some(_) => Ok(Err(standing.position)),
                None if position.version > standing.position.version => Ok(Err(standing.position)),
                None => Err(Error::new(
                    Kind::Behind,
                    "COMPACTED",
                    format!("the log no longer has the commits after version {}", position.version),
                )
                .hint("take a snapshot and follow from its position")),
            }
        })?;
        found.or_else(|end| Err(diverged(end, self.fork_of(position)?)))
    }

    /// The schema's objects, and the position at which they were read. Blocks on storage.
    pub fn schema(&self) -> Result<(Position, Vec<Object>)> {
        self.with_reader(|reader| reader.schema())
    }

    /// The body of a commit, wherever it lies, in parts (one if it is small): `each` gets the bytes.
    /// Blocks on storage.
    pub fn commit_body(
        &self,
        commit: &Commit,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if commit.parts() == 0 {
            return each(commit.body());
        }
        self.with_reader(|reader| {
            (0..commit.parts()).try_for_each(|index| each(&reader.part(commit.version(), index)?))
        })
    }

    /// Streams one consistent snapshot: schema first, then rows; returns the position to follow from.
    /// Blocks on storage.
    pub fn snapshot(
        &self,
        each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<Position> {
        self.with_reader(|reader| {
            let standing = reader.snapshot(&mut |item| match item {
                Item::Object(object) => each(SnapshotItem::Object(object)),
                Item::Row { table, rowid, values } => {
                    each(SnapshotItem::Row { table, rowid, values })
                }
                Item::Sequence(..) | Item::Setting(..) => Ok(()),
            })?;
            Ok(standing.position)
        })
    }

    /// A reader tells where it stands (kept for `status` and for the log's retention).
    ///
    /// One that has commits which are not in this writer's history proves that the backing database was
    /// restored, unless that was decided since, or power failed.
    pub fn register_reader(&self, node: &str, position: Position) {
        self.compare_with(node, position);
        self.0.shared.heard_of(node, position);
    }

    /// The writer's thread says whether a reader has what is not there: a commit may show in the file a
    /// moment before it shows in this writer's position. A reader that was in step stays so, behind: it
    /// is looked at when it is first heard of, and when it is ahead.
    fn compare_with(&self, node: &str, reader: Position) {
        let is_new = !lock(&self.0.shared.readers).contains_key(node);
        if is_new || reader.version > self.position().version {
            self.reader_undid(node, reader);
        }
    }

    /// A reader tells of a position that it had to undo, or has: the same proof, even if the reader has
    /// followed a restore already.
    pub fn reader_undid(&self, node: &str, undone: Position) {
        let settled = self.0.shared.settled.load(Ordering::Relaxed);
        let Some(inbox) = self.inbox().ok().filter(|_| undone.epoch.0 >= settled) else { return };
        let node = node.to_owned();
        let _ = inbox.errand(move |core| core.compare_with(&node, undone));
    }

    /// Looks at the backing database now, instead of at the next check. For readers.
    pub fn wake(&self) {
        if let Some(following) = lock(&self.0.following).as_ref() {
            following.waker()();
        }
    }

    /// Takes the epoch: this reader becomes the writer. Blocks on storage.
    pub fn promote(&self, accept_loss: bool) -> Result<Position> {
        open::promote(self, accept_loss)
    }

    /// Decides a restore. Blocks on storage.
    pub fn resolve(&self, keep: Keep) -> Result<Position> {
        resolve::resolve(self, keep)
    }

    /// Resolves when the database must stop the process: the exit code and the reason.
    pub async fn stopped(&self) -> (u8, String) {
        let mut stop = self.0.shared.stop.subscribe();
        loop {
            if let Some(stopped) = stop.borrow_and_update().clone() {
                return stopped;
            }
            if stop.changed().await.is_err() {
                return (0, String::new());
            }
        }
    }

    /// Answers what was accepted, flushes, releases the lease, closes. Blocks on storage.
    pub fn close(&self) {
        lock(&self.0.wake).take();
        lock(&self.0.news).take();
        drop(lock(&self.0.following).take());
        if let Some(mut writing) = lock(&self.0.writing).take() {
            // The keeper may wait for a transaction that is idle: it ends sooner if something waits.
            let hurry = writing.inbox.errand(|_| Ok(()));
            drop(writing.keeper.take());
            drop(hurry);
            if let Ok(answer) = writing.inbox.errand(|core| core.close()) {
                let _ = wait(answer);
            }
            writing.inbox.close();
            if let Some(thread) = writing.thread.take() {
                let _ = thread.join();
            }
        }
        self.0.readers.close();
        lock(&self.0.lock).take();
    }
}

fn undone(receipt: Position) -> Error {
    Error::diverged("UNDONE", format!("the write {receipt} was undone"))
        .hint("the database was put back from a backup; `syncline held list` shows what is kept")
}

fn diverged(end: Position, fork: Option<Position>) -> Error {
    let not_here = "that position is not in this history";
    match fork {
        Some(fork) => {
            Error::diverged("DIVERGED", format!("{not_here}: it was undone after {fork}")).hint(
                "undo what came after that position and follow from there, or take a snapshot",
            )
        }
        None => Error::diverged("DIVERGED", format!("{not_here}, which now ends at {end}"))
            .hint("take a snapshot and follow from its position"),
    }
}

/// The side of a store, for HEAL's decision.
pub(crate) fn with_sides<T>(
    mine: &mut dyn Source,
    theirs: &mut dyn Source,
    decide: impl FnOnce(&mut Side<'_>, &mut Side<'_>) -> Result<T>,
) -> Result<T> {
    let (my_standing, their_standing) = (mine.standing()?, theirs.standing()?);
    let (my_oldest, their_oldest) = (mine.oldest()?, theirs.oldest()?);
    let mut mine_at = |v| mine.chain_at(v);
    let mut theirs_at = |v| theirs.chain_at(v);
    let mut mine = Side { standing: &my_standing, oldest: my_oldest, chain_at: &mut mine_at };
    let mut theirs =
        Side { standing: &their_standing, oldest: their_oldest, chain_at: &mut theirs_at };
    decide(&mut mine, &mut theirs)
}
