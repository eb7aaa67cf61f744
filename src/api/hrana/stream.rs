//! Streams that outlive their request, and the batons that name them.
//!
//! ```text
//!   request ──take(baton)──▶ in use ──keep──▶ idle under a new baton ──10 s──▶ expired
//!                              │  ╰──restore: nothing ran; the old baton stays good
//!                              ╰─ dropped (the caller went away): ended, rolled back
//! ```
//!
//! A baton is 128 random bits, another one after every request, so that it cannot be guessed and an
//! overheard one is soon worthless; it is good only for the caller and the database it was given
//! for. Most pipelines close their stream themselves and never come here.
//!
//! There is room for a bounded number. Clients of some SDKs leave streams open after each query, so
//! when the room is used up the stream that idled longest outside any transaction makes place; only
//! if all are in transactions is a new one refused.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::program::Texts;
use crate::api::guard::Principal;
use crate::engine::{Database, Session};
use crate::error::{Error, Kind, Result};

/// Where a stream's session lives.
pub(super) enum Place {
    /// On this node.
    Here(Session),
    /// On the writer, and we pass it on.
    Writer(Remote),
}

/// A stream that lives at the writer.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    /// The writer's address.
    pub url: String,
    /// The baton it gave us last.
    pub baton: String,
}

/// A client's stream.
pub(in crate::api) struct Stream {
    database: String,
    principal: Principal,
    /// Where it lives.
    pub(super) place: Place,
    /// The texts it stored.
    pub(super) texts: Texts,
}

impl Stream {
    /// Whether it can be ended without undoing anything.
    fn is_disposable(&self) -> bool {
        match &self.place {
            Place::Here(session) => session.is_autocommit(),
            Place::Writer(_) => false,
        }
    }
}

enum Slot {
    InUse,
    Idle(Box<Stream>),
}

#[derive(Default)]
struct Table {
    slots: HashMap<u128, Slot>,
    /// In the order in which they expire; batons that were taken since stay until then.
    order: VecDeque<(Instant, u128)>,
}

/// All open streams of a node.
pub(in crate::api) struct Streams {
    table: Mutex<Table>,
    idle: Duration,
    most: usize,
    texts: Arc<AtomicUsize>,
}

impl Streams {
    /// Room for `most` streams that idle at most `idle`.
    pub fn new(most: usize, idle: Duration) -> Self {
        Streams { table: Mutex::default(), idle, most, texts: Arc::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no panic while held")
    }

    /// A new stream of `principal`, not yet in the table.
    pub(super) fn open(&self, database: &Database, principal: Principal) -> Stream {
        Stream {
            database: database.options().name.clone(),
            principal,
            place: Place::Here(database.session()),
            texts: Texts::new(self.texts.clone()),
        }
    }

    /// Makes sure that a stream that is about to be opened can be kept.
    pub(super) fn make_room(&self) -> Result<()> {
        let evicted = {
            let mut table = self.table();
            if table.slots.len() < self.most {
                return Ok(());
            }
            table.evict()
        };
        evicted.map(drop).ok_or_else(|| {
            Error::retry("STREAMS_FULL", "all streams of this node are in transactions")
                .hint("try again; end transactions quickly, and streams with `close`")
        })
    }

    /// Keeps a new stream; returns its baton.
    pub(super) fn keep(&self, stream: Box<Stream>) -> String {
        let baton = random();
        self.table().put(baton, stream, Instant::now() + self.idle);
        format!("{baton:032x}")
    }

    /// A place for a stream that is in use until its answer is over, and has its next baton now.
    pub(super) fn reserve(self: &Arc<Self>) -> Taken {
        let key = random();
        self.table().slots.insert(key, Slot::InUse);
        Taken { streams: self.clone(), key, stream: None }
    }

    /// Takes the stream that `baton` names for `principal`'s use of `database`.
    pub(super) fn take(
        self: &Arc<Self>,
        baton: &str,
        database: &str,
        principal: Principal,
    ) -> Result<Taken> {
        let key = parse(baton).ok_or_else(expired)?;
        let mut table = self.table();
        let slot = table.slots.get_mut(&key).ok_or_else(expired)?;
        match slot {
            Slot::Idle(stream) if stream.database != database || stream.principal != principal => {
                return Err(expired());
            }
            Slot::Idle(_) => {}
            Slot::InUse => {
                return Err(Error::new(
                    Kind::Conflict,
                    "STREAM_BUSY",
                    "another request uses this baton now",
                )
                .hint("wait for its answer: it carries the next baton"));
            }
        }
        let Slot::Idle(stream) = std::mem::replace(slot, Slot::InUse) else { unreachable!() };
        Ok(Taken { streams: self.clone(), key, stream: Some(stream) })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.table().slots.len()
    }

    /// Ends what idled too long.
    pub fn expire(&self, now: Instant) {
        // Their sessions are dropped after the table is free again.
        let _expired = self.table().expire(now);
    }

    /// Ends all that are not in use.
    pub fn clear(&self) {
        let _ended = std::mem::take(&mut *self.table());
    }
}

impl Table {
    fn put(&mut self, key: u128, stream: Box<Stream>, deadline: Instant) {
        self.slots.insert(key, Slot::Idle(stream));
        self.order.push_back((deadline, key));
        if self.order.len() > 2 * self.slots.len() + 64 {
            let slots = &self.slots;
            self.order.retain(|(_, key)| matches!(slots.get(key), Some(Slot::Idle(_))));
        }
    }

    /// The stream that idled longest outside any transaction.
    fn evict(&mut self) -> Option<Box<Stream>> {
        let disposable = |key: &u128| match self.slots.get(key) {
            Some(Slot::Idle(stream)) => stream.is_disposable(),
            _ => false,
        };
        let key = self.order.iter().map(|(_, key)| *key).find(disposable)?;
        match self.slots.remove(&key) {
            Some(Slot::Idle(stream)) => Some(stream),
            _ => None,
        }
    }

    fn expire(&mut self, now: Instant) -> Vec<Slot> {
        let mut expired = Vec::new();
        while self.order.front().is_some_and(|(deadline, _)| *deadline <= now) {
            let Some((_, key)) = self.order.pop_front() else { break };
            if matches!(self.slots.get(&key), Some(Slot::Idle(_))) {
                expired.extend(self.slots.remove(&key));
            }
        }
        expired
    }
}

/// A stream in use. Dropped without more, it is ended.
pub(super) struct Taken {
    streams: Arc<Streams>,
    key: u128,
    stream: Option<Box<Stream>>,
}

impl Taken {
    /// The stream.
    pub fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("held until it is given back")
    }

    /// The stream without its baton, which names nothing any more.
    pub fn into_stream(mut self) -> Box<Stream> {
        self.stream.take().expect("held until it is given back")
    }

    /// The baton that it is in use under.
    pub fn baton(&self) -> String {
        format!("{:032x}", self.key)
    }

    /// Gives it back under a new baton.
    pub fn keep(self) -> String {
        let streams = self.streams.clone();
        streams.keep(self.into_stream())
    }

    /// Gives it back under the old baton: nothing of the request has run.
    pub fn restore(mut self) {
        let stream = self.stream.take().expect("held until it is given back");
        self.fill(stream);
    }

    /// Puts a stream into the place.
    pub fn fill(self, stream: Box<Stream>) {
        self.streams.table().put(self.key, stream, Instant::now() + self.streams.idle);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut table = self.streams.table();
        if matches!(table.slots.get(&self.key), Some(Slot::InUse)) {
            table.slots.remove(&self.key);
        }
    }
}

/// 128 bits that nobody can guess.
fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    u128::from_ne_bytes(bytes)
}

fn parse(baton: &str) -> Option<u128> {
    let plain = baton.len() == 32 && baton.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u128::from_str_radix(baton, 16).ok()).flatten()
}

fn expired() -> Error {
    Error::invalid("STREAM_EXPIRED", "this baton names no open stream: it expired or was used")
        .hint("begin again without a baton; an open transaction was rolled back")
}
