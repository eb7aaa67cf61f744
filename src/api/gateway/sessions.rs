//! Sessions: each an endpoint on a thread, for endpoints are synchronous.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc as answers, oneshot};

use super::Opener;
use super::work::{self, Reply};
use crate::api::guard::Principal;
use crate::endpoint::wire::Frame;
use crate::endpoint::{Endpoint, Engine, Interrupt, sqlite::Access};
use crate::error::{Error, Result};

/// Pieces of an answer that may wait for the line.
const AHEAD: usize = 4;
/// Calls that may wait for the one before; a client sends one at a time.
const QUEUE: usize = 2;

/// Who began a session, and on which copy of the database: for anybody else there is no such session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub principal: Principal,
    pub generation: u64,
}

struct Session {
    owner: Owner,
    calls: mpsc::SyncSender<(Vec<Frame>, Reply)>,
    /// Calls that wait or run.
    open: Arc<AtomicUsize>,
    used: Instant,
    interrupt: Arc<Interrupt>,
}

impl Drop for Session {
    fn drop(&mut self) {
        (self.interrupt)();
    }
}

/// The answer to a call, as it comes. Whoever drops it before its end gives it up.
pub(super) struct Asked {
    pub pieces: answers::Receiver<Bytes>,
    interrupt: Arc<Interrupt>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.pieces.is_closed() {
            (self.interrupt)();
        }
    }
}

/// All sessions of a gateway.
pub(super) struct Sessions {
    most: usize,
    idle: Duration,
    by_name: Mutex<HashMap<String, Session>>,
    /// Those that are being opened, too.
    count: Arc<AtomicUsize>,
}

/// A session's place; it is free again once its thread has ended.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sessions {
    pub fn new(most: usize, idle: Duration) -> Sessions {
        Sessions { most, idle, by_name: Mutex::default(), count: Arc::default() }
    }

    fn by_name(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.by_name.lock().expect("no panic while held")
    }

    /// Opens an endpoint for a new session; the session's name, and what kind of database it is.
    pub async fn begin(
        &self,
        open: Arc<Opener>,
        access: Access,
        owner: Owner,
    ) -> Result<(String, Engine)> {
        let place = self.place()?;
        let (opened, is_open) = oneshot::channel();
        let (calls, queue) = mpsc::sync_channel(QUEUE);
        let running = Arc::new(AtomicUsize::new(0));
        let (working, name) = (running.clone(), new_name()?);
        let work = move || {
            let _place = place;
            match open(access) {
                Err(error) => drop(opened.send(Err(error))),
                Ok(endpoint) => {
                    if opened.send(Ok((endpoint.engine(), endpoint.interrupt()))).is_ok() {
                        serve(endpoint, access, &queue, &working);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("gateway".into()).spawn(work);
        thread.map_err(|e| {
            Error::retry("SESSIONS_FULL", format!("no thread for another session: {e}"))
        })?;
        let (engine, interrupt) = is_open.await.map_err(|_| died())??;
        let (used, interrupt) = (Instant::now(), Arc::new(interrupt));
        let session = Session { owner, calls, open: running, used, interrupt };
        self.by_name().insert(name.clone(), session);
        Ok((name, engine))
    }

    fn place(&self) -> Result<Place> {
        let place = Place(self.count.clone());
        if self.count.fetch_add(1, Ordering::Relaxed) < self.most {
            return Ok(place);
        }
        Err(Error::retry("SESSIONS_FULL", "all sessions of this gateway are taken")
            .hint("try again when another diff or sync has ended"))
    }

    /// Hands a call to its session; the answer comes in pieces.
    pub fn call(&self, name: &str, owner: Owner, frames: Vec<Frame>) -> Result<Asked> {
        let mut by_name = self.by_name();
        let session = by_name.get_mut(name).filter(|session| session.owner == owner);
        let session = session.ok_or_else(expired)?;
        session.used = Instant::now();
        let (pieces, answer) = answers::channel(AHEAD);
        session.open.fetch_add(1, Ordering::Relaxed);
        match session.calls.try_send((frames, Reply::new(pieces))) {
            Ok(()) => Ok(Asked { pieces: answer, interrupt: session.interrupt.clone() }),
            Err(mpsc::TrySendError::Full(_)) => {
                session.open.fetch_sub(1, Ordering::Relaxed);
                Err(Error::retry("SESSION_BUSY", "this session is at work for a call before")
                    .hint("try again when that one has ended"))
            }
            Err(mpsc::TrySendError::Disconnected(_)) => {
                by_name.remove(name);
                Err(expired())
            }
        }
    }

    /// Ends a session.
    pub fn end(&self, name: &str, owner: Owner) {
        let mut by_name = self.by_name();
        if by_name.get(name).is_some_and(|session| session.owner == owner) {
            by_name.remove(name);
        }
    }

    /// Ends those that have not been used for long, where a call that runs is use, and those of another copy
    /// than this one.
    pub fn expire(&self, now: Instant, generation: u64) {
        self.by_name().retain(|_, session| {
            if session.open.load(Ordering::Relaxed) > 0 {
                session.used = now;
            }
            session.owner.generation == generation
                && now.saturating_duration_since(session.used) < self.idle
        });
    }

    /// Ends all; what cannot be interrupted goes on until it says something.
    pub fn clear(&self) {
        self.by_name().clear();
    }
}

/// Answers calls until the session is dropped. A panic ends it, and its answer breaks off.
fn serve(
    mut endpoint: Box<dyn Endpoint>,
    access: Access,
    queue: &mpsc::Receiver<(Vec<Frame>, Reply)>,
    open: &AtomicUsize,
) {
    while let Ok((frames, reply)) = queue.recv() {
        work::answer(&mut *endpoint, access, &frames, reply);
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn died() -> Error {
    Error::new(crate::error::Kind::Unknown, "INTERNAL", "this session met a bug in Syncline")
        .hint("the gateway's log has the details; please report it")
}

fn expired() -> Error {
    Error::retry("SESSION_EXPIRED", "there is no such session, or it idled for too long")
        .hint("run the same command again")
}

/// Nobody can guess it: whoever has it may go on with the session.
fn new_name() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| {
        Error::unavailable("RANDOM", format!("the system gives no random bytes: {e}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
