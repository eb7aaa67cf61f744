//! A reader's thread: keeps its copy in step with the shared backing database.
//!
//! ```text
//!            woken │ check_every │ full_every
//!                  ▼
//!   look ── in step
//!     ├──── incremental   apply what came
//!     ├──── rewind        undo to the fork, hold, look again
//!     └──── full          build beside, switch
//! ```
//!
//! A backing database that is away is no reason to stop serving: the copy says how old it is, and the
//! thread tries again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::copies::working_log;
use super::feed::{Feed, opened};
use super::options::{FullMode, WorkingCopy};
use super::shared::{Shared, lock};
use super::shelf;
use super::status::State;
use crate::change::{Chain, Commit, Version};
use crate::error::{Error, Kind, Result};
use crate::heal::{self, Rung, Side};
use crate::store::sqlite::{Files, SqliteStore};
use crate::store::{Source, Standing, Store};

/// Bytes of commits applied in one transaction.
const BATCH: usize = 4 << 20;
/// How long a reader waits before it tries a source that is away again.
const RETRY: Duration = Duration::from_millis(500);
/// A sync that found work starts the clock of the full check anew; but it comes at the latest after so
/// many times `full_every`, or a reader of a busy writer would never be recounted.
const FULL_AT_LATEST: u32 = 4;

pub(crate) type Errand = Box<dyn FnOnce(&mut Follower) + Send>;

enum Event {
    Wake,
    Errand(Errand),
    Close,
}

/// The handle to a reader's thread.
pub(crate) struct Following {
    sender: Sender<Event>,
    thread: Option<JoinHandle<()>>,
}

impl Following {
    /// Something may have come: look now.
    pub fn waker(&self) -> impl Fn() + Send + 'static + use<> {
        let sender = self.sender.clone();
        move || {
            let _ = sender.send(Event::Wake);
        }
    }

    /// Runs an errand between two looks.
    pub fn errand<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Follower) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (reply, answer) = oneshot::channel();
        let errand: Errand = Box::new(move |follower| {
            let _ = reply.send(work(follower));
        });
        let closed = |_| Error::unavailable("CLOSING", "this node is shutting down");
        self.sender.send(Event::Errand(errand)).map_err(closed)?;
        Ok(answer)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.sender.send(Event::Close);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// Which side failed.
enum Trouble {
    Source(Error),
    Copy(Error),
    /// A full copy is needed, and the source's rows do not give its digest.
    Damaged(Error),
    /// That was so, and nothing has moved since.
    StillDamaged,
}

/// A source whose rows do not give its digest.
struct Damaged {
    /// Where it stood. It is tried again when it stands elsewhere, or was verified …
    chain: Chain,
    verified: Version,
    /// … or then, in case it was repaired without a trace, but no more often than at each check.
    again: Instant,
    not_before: Instant,
}

fn source(error: Error) -> Trouble {
    Trouble::Source(error)
}

fn copy(error: Error) -> Trouble {
    Trouble::Copy(error)
}

/// What the thread works with.
pub(crate) struct Follower {
    pub shared: Arc<Shared>,
    /// The copy; none until the first was loaded, and after it was handed over.
    pub copy: Option<SqliteStore>,
    pub(super) source: Option<Feed>,
    /// The files that were open last.
    files: Option<Files>,
    pub(super) generation: u64,
    full_due: Instant,
    /// When the last full check began.
    full_began: Instant,
    trimmed: Instant,
    /// The source's rows were found damaged.
    damaged: Option<Damaged>,
    pub(super) ended: bool,
}

/// Starts the thread; tries once to load or catch up before it returns.
pub(crate) fn start(shared: Arc<Shared>) -> Result<Following> {
    let mut follower = Follower::open(shared)?;
    // Its condition tells what is wrong; it looks again.
    let _ = follower.look();
    let (sender, receiver) = channel();
    let name = format!("syncline-follower-{}", follower.shared.options.name);
    let shared = follower.shared.clone();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let run = std::panic::AssertUnwindSafe(|| follower.run(&receiver));
        if std::panic::catch_unwind(run).is_err() {
            shared.stop(5, "the follower's thread panicked; a restart recovers");
        }
    });
    let thread = thread.map_err(|e| Error::unavailable("THREAD_FAILED", e.to_string()))?;
    Ok(Following { sender, thread: Some(thread) })
}

impl Follower {
    /// With the copy of an earlier run, if there is one.
    pub fn open(shared: Arc<Shared>) -> Result<Follower> {
        let mut follower = Follower {
            full_due: Instant::now() + shared.options.full_every,
            full_began: Instant::now(),
            trimmed: Instant::now(),
            shared,
            copy: None,
            source: None,
            files: None,
            generation: 0,
            damaged: None,
            ended: false,
        };
        follower.open_disk_copy()?;
        Ok(follower)
    }

    fn run(&mut self, events: &Receiver<Event>) {
        while !self.ended {
            match events.recv_timeout(self.patience()) {
                Ok(Event::Wake) | Err(RecvTimeoutError::Timeout) => drop(self.look()),
                Ok(Event::Errand(errand)) => errand(self),
                Ok(Event::Close) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn patience(&self) -> Duration {
        let every = self.shared.options.check_every;
        match self.shared.condition().state {
            // A full check that is due has to wait for the source, too.
            State::Stale | State::Loading | State::Healing => RETRY.min(every),
            _ => every.min(self.full_due.saturating_duration_since(Instant::now())),
        }
    }

    /// Brings the copy into step, and says how it went. Fails if the source could not be read.
    pub fn look(&mut self) -> Result<()> {
        match self.in_step() {
            Ok(()) => {
                self.shared.fresh_at.store(self.shared.now().0, Ordering::Relaxed);
                self.shared.set_condition(State::Ok, "");
                self.trim();
            }
            Err(Trouble::Damaged(_) | Trouble::StillDamaged) => {}
            Err(Trouble::Source(error)) => {
                self.source = None;
                let state = if self.copy.is_some() { State::Stale } else { State::Loading };
                self.shared.set_condition(state, error.to_string());
                return Err(error);
            }
            Err(Trouble::Copy(error)) if error.kind() == Kind::Storage => {
                self.shared.storage_failed(&error);
                self.ended = true;
            }
            Err(Trouble::Copy(error)) => {
                self.shared.set_condition(State::Healing, error.to_string())
            }
        }
        Ok(())
    }

    fn in_step(&mut self) -> Result<(), Trouble> {
        self.open_source().map_err(source)?;
        if self.is_still_damaged().map_err(source)? {
            return Err(Trouble::StillDamaged);
        }
        if self.copy.is_none() {
            return self.rebuild("the first copy");
        }
        // A rewind is followed by another decision; a history that moves under us ends the loop by its
        // bound, and the next look goes on.
        for _ in 0..64 {
            match self.decide()? {
                Rung::InStep => return self.check_in_full(),
                Rung::Incremental => self.incremental()?,
                Rung::Rewind(to) => match self.rewind(to) {
                    Ok(()) => self.after_heal(1),
                    Err(error) if error.code() == "UNDO_IMPOSSIBLE" => {
                        self.rebuild(error.message())?
                    }
                    Err(error) => return Err(copy(error)),
                },
                Rung::Full(why) => return self.rebuild(why),
            }
        }
        self.check_in_full()
    }

    /// Undoes what came after `to`, and holds it.
    fn rewind(&mut self, to: Version) -> Result<()> {
        let shared = self.shared.clone();
        let mine = self.copy();
        let stood_at = mine.position();
        shelf::undo(&shared, mine, to)?;
        *lock(&shared.undone) = Some(stood_at);
        Ok(())
    }

    fn copy(&mut self) -> &mut SqliteStore {
        self.copy.as_mut().expect("a copy is loaded")
    }

    fn open_source(&mut self) -> Result<()> {
        let current = match &self.source {
            Some(source) => source.is_current()?,
            None => false,
        };
        if current {
            return Ok(());
        }
        self.source = None;
        self.source = Some(Feed::open(&self.shared.options, &mut self.files)?);
        Ok(())
    }

    fn decide(&mut self) -> Result<Rung, Trouble> {
        let feed = opened(&mut self.source);
        let mine = self.copy.as_mut().expect("a copy is loaded");
        let theirs_standing = feed.standing().map_err(source)?;
        let mine_standing = mine.standing().map_err(copy)?;
        self.shared.source_stands(&theirs_standing);
        let my_oldest = mine.oldest().map_err(copy)?;
        let their_oldest = feed.oldest().map_err(source)?;
        let mut mine_at = |v| mine.chain_at(v);
        let mut theirs_at = |v| feed.chain_at(v);
        let mut mine = Side { standing: &mine_standing, oldest: my_oldest, chain_at: &mut mine_at };
        let mut theirs =
            Side { standing: &theirs_standing, oldest: their_oldest, chain_at: &mut theirs_at };
        heal::next_step(&mut mine, &mut theirs).map_err(source)
    }

    fn incremental(&mut self) -> Result<(), Trouble> {
        let feed = opened(&mut self.source);
        let mine = self.copy.as_mut().expect("a copy is loaded");
        let commits = feed.after(mine.position().version, BATCH).map_err(source)?;
        let lineage = feed.standing().map_err(source)?.lineage;
        let mut parts = |c: &Commit, i| feed.part(c.version(), i);
        match mine.apply(&lineage, &commits, &mut parts) {
            Ok(position) => {
                self.shared.publish(position);
                if !commits.is_empty() {
                    let every = self.shared.options.full_every;
                    let latest = self.full_began + every * FULL_AT_LATEST;
                    self.full_due = (Instant::now() + every).min(latest);
                    self.shared.count_heal(0);
                }
                self.remember();
                Ok(())
            }
            Err(error) if error.kind() == Kind::Diverged || error.kind() == Kind::Corrupt => {
                self.mismatch();
                self.rebuild(error.message())
            }
            Err(error) if error.kind() == Kind::Storage => Err(copy(error)),
            Err(error) => Err(source(error)),
        }
    }

    fn mismatch(&self) {
        self.shared.mismatches.fetch_add(1, Ordering::Relaxed);
        let name = self.shared.options.name.clone();
        metrics::counter!("syncline_digest_mismatch_total", "database" => name).increment(1);
    }

    /// When it is time: recounts the copy's own rows; rebuilds if they do not give its digest.
    fn check_in_full(&mut self) -> Result<(), Trouble> {
        // Its own rows may be why a full copy was needed.
        if Instant::now() < self.full_due && self.damaged.is_none() {
            return Ok(());
        }
        self.full_began = Instant::now();
        self.full_due = self.full_began + self.shared.options.full_every;
        if self.shared.options.full == FullMode::Always {
            return self.rebuild("full = \"always\"");
        }
        let mine = self.copy();
        let recount = mine.recount().map_err(copy)?;
        let position = mine.position();
        if recount.total() != position.digest {
            self.mismatch();
            return self.rebuild("a recount of its rows does not give its digest");
        }
        self.damaged = None;
        self.copy().set_verified(position.version).map_err(copy)?;
        self.shared.verified_at(position.version);
        Ok(())
    }

    fn is_still_damaged(&mut self) -> Result<bool> {
        let Some(damaged) = &self.damaged else { return Ok(false) };
        let now = Instant::now();
        let there = opened(&mut self.source).standing()?;
        let same = (there.position.chain, there.verified) == (damaged.chain, damaged.verified);
        Ok(now < damaged.not_before || (same && now < damaged.again))
    }

    /// Makes the copy anew, because someone asked.
    pub fn rebuild_now(&mut self) -> Result<()> {
        let rebuilt = self.open_source().map_err(source).and_then(|()| self.rebuild("asked for"));
        rebuilt.map_err(|trouble| match trouble {
            Trouble::Source(error) | Trouble::Copy(error) | Trouble::Damaged(error) => error,
            Trouble::StillDamaged => unreachable!("a rebuild that is asked for is tried"),
        })
    }

    /// Builds a new copy beside the live one, carries over what is held, and switches.
    fn rebuild(&mut self, why: &str) -> Result<(), Trouble> {
        let feed = opened(&mut self.source);
        let standing = feed.standing().map_err(source)?;
        self.shared.source_stands(&standing);
        let state = if self.copy.is_some() { State::Healing } else { State::Loading };
        self.shared.set_condition(state, format!("copying everything: {why}"));
        let mut fresh = self.new_copy().map_err(copy)?;
        let feed = opened(&mut self.source);
        if let Err(error) = fresh.fill(feed) {
            self.discard_copy(&fresh);
            if error.code() == "SOURCE_DAMAGED" {
                self.found_damaged(&standing, &error);
                return Err(Trouble::Damaged(error));
            }
            return Err(source(error));
        }
        self.damaged = None;
        self.carry_over(&mut fresh).map_err(copy)?;
        self.switch_to(fresh).map_err(copy)
    }

    fn found_damaged(&mut self, source: &Standing, error: &Error) {
        let (now, options) = (Instant::now(), &self.shared.options);
        self.damaged = Some(Damaged {
            chain: source.position.chain,
            verified: source.verified,
            again: now + options.full_every,
            not_before: now + options.check_every,
        });
        self.shared.set_condition(State::SourceDamaged, error.to_string());
        self.mismatch();
    }

    /// Held things, and commits that only the old copy had, go into the new one.
    fn carry_over(&mut self, fresh: &mut SqliteStore) -> Result<()> {
        let Some(old) = self.copy.as_mut() else { return Ok(()) };
        for held in old.held()? {
            let bodies = old.held_bodies(&held)?;
            fresh.hold(&held.commit, &held.reason, held.at, &mut |_, i| {
                Ok(bodies[i as usize].clone())
            })?;
        }
        let common = {
            let theirs = fresh.standing()?.lineage;
            let mine = old.standing()?;
            mine.lineage.fork(mine.position.version, &theirs, fresh.position().version)
        };
        let (shared, now) = (&self.shared, self.shared.now());
        let mut only_here =
            |commit: &Commit| Ok(fresh.chain_at(commit.version())? != Some(commit.chain()));
        if old.position().version > common {
            *lock(&shared.undone) = Some(old.position());
        }
        if shared.options.working_copy == WorkingCopy::Memory {
            return shelf::hold(shared, old, common, "undone", &mut only_here).map(drop);
        }
        for commit in old.after(common, usize::MAX)? {
            if fresh.chain_at(commit.version())? != Some(commit.chain()) {
                fresh.hold(&commit, "undone", now, &mut |c, i| old.part(c.version(), i))?;
            }
        }
        Ok(())
    }

    fn switch_to(&mut self, fresh: SqliteStore) -> Result<()> {
        let position = fresh.position();
        self.point_at(&fresh)?;
        self.shared.set_place(fresh.disk().clone(), fresh.path().to_owned());
        let first = self.copy.is_none();
        if let Some(old) = self.copy.replace(fresh) {
            self.discard_copy(&old);
        }
        self.shared.publish(position);
        self.copy().set_verified(position.version)?;
        self.shared.verified_at(position.version);
        if !first {
            self.after_heal(3);
        }
        self.remember();
        Ok(())
    }

    fn after_heal(&mut self, rung: usize) {
        self.shared.count_heal(rung);
        let position = self.copy().position();
        self.shared.publish(position);
        self.remember();
        tracing::info!(database = %self.shared.options.name, rung = heal::RUNGS[rung], %position, "healed");
    }

    /// What status shows without asking this thread.
    pub(super) fn remember(&mut self) {
        let mine = self.copy.as_mut().expect("a copy is loaded");
        self.shared.knows(mine.lineage());
        *lock(&self.shared.lineage) = mine.lineage().clone();
        self.shared.durable.store(mine.position().version.0, Ordering::Relaxed);
    }

    fn trim(&mut self) {
        if self.trimmed.elapsed() < Duration::from_secs(10) {
            return;
        }
        self.trimmed = Instant::now();
        let options = self.shared.options.clone();
        let size = working_log(&options);
        let older = self.shared.now().0.saturating_sub(options.log_keep_for.as_micros() as u64);
        let mine = self.copy();
        let head = mine.position().version;
        if let Err(error) = mine.trim(crate::change::Timestamp(older), size, head) {
            tracing::warn!(%error, "could not trim the copy's log");
        }
    }
}
