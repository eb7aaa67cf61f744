//! Writing into B: batches that tune themselves, rows that are held, a rate that is kept.
//!
//! A batch that fails by a row's fault is halved until the row is found; the rest of it goes on. A batch that
//! fails by nobody's fault is tried again after a pause; if B still answers other questions, it is halved, too:
//! some row may be more than the line can carry. If B does not answer, it is away, and that is no row's fault.
//!
//! A batch that fails because a unique value is taken is not halved at once: the row that has it may change, too,
//! and be in another batch. Such batches are gathered and tried together when all others are written.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::endpoint::{Applied, Batch, Endpoint, Engine, Key, Row};
use crate::error::{Error, Kind, Result};

use super::event::{Event, Events};
use super::held::{Fault, Held, fault, fingerprint};
use super::keep::Keep;
use super::options::SyncOptions;
use super::pair::Pair;
use super::position::Position;
use super::tuner::{MOST_BYTES, Tuner};

/// Pauses before a batch that failed by nobody's fault is tried again.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
/// So many rows of a table are held in one run; then something else is wrong than rows.
const MOST_HELD: usize = 10_000;

/// No more than so many rows, or bytes, are gathered because unique values were taken.
const MOST_CROWDED: (usize, usize) = (100_000, 4 * MOST_BYTES);

/// Seconds of Unix time.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What one run writes with.
pub struct Writing<'a> {
    /// What the user asked for.
    pub options: &'a SyncOptions,
    /// Set by somebody who wants it to end.
    pub stop: &'a AtomicBool,
    /// Where events go.
    pub events: &'a mut Events<'a>,
    /// Where the position is kept.
    pub keep: Keep,
    rate: Rate,
}

impl<'a> Writing<'a> {
    /// Nothing written yet.
    pub fn new(
        options: &'a SyncOptions,
        stop: &'a AtomicBool,
        events: &'a mut Events<'a>,
        keep: Keep,
    ) -> Writing<'a> {
        Writing { options, stop, events, keep, rate: Rate::new(options.limit_rate) }
    }

    fn check_stop(&self) -> Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(interrupted()),
        }
    }
}

/// Somebody asked for the end. Everything that was written is whole.
pub fn interrupted() -> Error {
    Error::retry("INTERRUPTED", "stopped; what was written by now is complete and kept")
        .hint("run the same command again: it goes on where it stopped")
}

/// Keeps to so many bytes a second.
struct Rate {
    limit: Option<u64>,
    since: Instant,
    bytes: u64,
}

impl Rate {
    fn new(limit: Option<u64>) -> Rate {
        Rate { limit: limit.filter(|limit| *limit > 0), since: Instant::now(), bytes: 0 }
    }

    fn sent(&mut self, bytes: usize) {
        let Some(limit) = self.limit else { return };
        self.bytes += bytes as u64;
        let due = Duration::from_secs_f64(self.bytes as f64 / limit as f64);
        std::thread::sleep(due.saturating_sub(self.since.elapsed()));
    }
}

/// One table that is written.
pub struct Table<'t, 'a> {
    b: &'t mut dyn Endpoint,
    pair: &'t Pair,
    writing: &'t mut Writing<'a>,
    tuner: Tuner,
    /// Rows that are held, by key: those of earlier runs, and of this one.
    held: HashMap<Key, Held>,
    /// Which of them were held in this run.
    fresh: usize,
    /// Goes with the first rows that are written: what was kept does not hold any more.
    anew: Option<Position>,
    /// Goes with the last ones: it says that all rows are there.
    position: Option<Position>,
    buffer: Vec<(Key, Row)>,
    bytes: usize,
    /// Rows of batches in which a unique value was taken, until all others are written.
    crowded: Vec<(Key, Row)>,
    crowded_bytes: usize,
    /// All rows that could be in each other's way are tried together: there is nothing more to gather.
    together: bool,
    /// What was done.
    pub applied: Applied,
    done: u64,
    of: Option<u64>,
}

impl<'t, 'a> Table<'t, 'a> {
    /// Begins to write a table, of which about so many rows are to come.
    pub fn new(
        b: &'t mut dyn Endpoint,
        pair: &'t Pair,
        writing: &'t mut Writing<'a>,
        position: &Position,
        held: HashMap<Key, Held>,
        of: Option<u64>,
    ) -> Table<'t, 'a> {
        let tuner = Tuner::new(position.batch, writing.options.batch_target);
        let (buffer, bytes, applied, done, fresh) = Default::default();
        let (crowded, crowded_bytes, together) = Default::default();
        Table {
            b,
            pair,
            writing,
            tuner,
            held,
            fresh,
            anew: None,
            position: None,
            buffer,
            bytes,
            crowded,
            crowded_bytes,
            together,
            applied,
            done,
            of,
        }
    }

    /// The end of it, with the position to keep: which rows are held, and how large a batch was good.
    pub fn finish(mut self, at: Option<Position>) -> Result<(HashMap<Key, Held>, Applied, usize)> {
        if self.crowded.is_empty() {
            self.position.clone_from(&at);
        }
        self.flush()?;
        if !self.crowded.is_empty() {
            self.position = at;
            self.settle()?;
        }
        if self.position.is_some() {
            // The rows that it was to go with are held.
            self.write(Part { puts: &[], deletes: &[] })?;
        }
        Ok((self.held, self.applied, self.tuner.size()))
    }

    /// The position to keep with the first rows that are written.
    pub fn begin_anew(&mut self, position: Position) {
        self.anew = Some(position);
    }

    /// Puts a row, sooner or later.
    pub fn put(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        let held = self.held.get(key);
        if !self.writing.options.force_retry && held.is_some_and(|held| held.is_same(row)) {
            return Ok(());
        }
        self.bytes += key.len() + row.len();
        self.buffer.push((key.to_vec(), row.to_vec()));
        if self.buffer.len() >= self.tuner.size() || self.bytes >= MOST_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Puts a row that is held, whatever the reason was.
    pub fn put_again(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        self.together = true;
        self.bytes += key.len() + row.len();
        self.buffer.push((key.to_vec(), row.to_vec()));
        if self.bytes >= MOST_BYTES { self.flush() } else { Ok(()) }
    }

    /// Holds a row that must wait for another one.
    pub fn hold_back(&mut self, key: &[u8], row: &[u8], why: &Error) -> Result<()> {
        match self.held.get(key).is_some_and(|held| held.waits && held.row == fingerprint(row)) {
            true => Ok(()),
            false => self.hold(key.to_vec(), Some(row), why),
        }
    }

    /// Puts what was gathered, and keeps the position.
    pub fn flush(&mut self) -> Result<()> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.buffer);
        if !rows.is_empty() || self.position.is_some() {
            self.write(Part { puts: &rows, deletes: &[] })?;
        }
        Ok(())
    }

    /// Removes rows; those without a key all at once, because each batch reads the whole table to find its own.
    pub fn remove(&mut self, keys: &[Key]) -> Result<()> {
        self.flush()?;
        let at_once = match self.pair.plan(1).is_multiset() {
            true => keys.len().max(1),
            false => self.tuner.size(),
        };
        for keys in keys.chunks(at_once) {
            self.write(Part { puts: &[], deletes: keys })?;
        }
        Ok(())
    }

    fn write(&mut self, part: Part<'_>) -> Result<()> {
        self.write_with(part, &PAUSES)
    }

    fn write_with(&mut self, part: Part<'_>, pauses: &[Duration]) -> Result<()> {
        let mut pauses_left = pauses.iter();
        loop {
            self.writing.check_stop()?;
            let error = match self.try_once(part) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match fault(&error) {
                Fault::Fatal => return Err(error),
                Fault::Row if self.is_crowded(part, &error) => return self.gather(part),
                Fault::Row => return self.halve_or_hold(part, error, pauses),
                Fault::Nobody => self.tuner.failed(),
            }
            match pauses_left.next() {
                Some(pause) => std::thread::sleep(*pause),
                // Somebody who answers this is not away: a row is too much for the line, or locked.
                None if part.len() > 0 && !self.is_locked(&error) && self.b.state("-").is_ok() => {
                    return self.halve_or_hold(part, error, &[]);
                }
                None => return Err(error),
            }
        }
    }

    /// Whether what is in the way of these rows may be others that are to change, too.
    fn is_crowded(&self, part: Part<'_>, error: &Error) -> bool {
        error.code() == "VALUE_TAKEN" && !part.puts.is_empty() && !self.together
    }

    /// Puts rows off until all others are written.
    fn gather(&mut self, part: Part<'_>) -> Result<()> {
        self.crowded_bytes += part.bytes();
        self.crowded.extend_from_slice(part.puts);
        let (rows, bytes) = (self.crowded.len(), self.crowded_bytes);
        match rows >= MOST_CROWDED.0 || bytes >= MOST_CROWDED.1 {
            true => self.settle(),
            false => Ok(()),
        }
    }

    /// Writes all that was put off, in one batch if that is possible.
    fn settle(&mut self) -> Result<()> {
        self.crowded_bytes = 0;
        let rows = std::mem::take(&mut self.crowded);
        self.together = true;
        let written = self.write(Part { puts: &rows, deletes: &[] });
        self.together = false;
        written
    }

    /// Whether somebody else has all of B, and not just a row.
    fn is_locked(&self, error: &Error) -> bool {
        error.code() == "ENDPOINT_BUSY" && self.b.engine() == Engine::Sqlite
    }

    fn try_once(&mut self, part: Part<'_>) -> Result<()> {
        let plan = self.pair.plan(1);
        let state = self.state_with(part)?;
        let started = Instant::now();
        let in_b = if self.writing.keep.is_file() { &[] } else { &state[..] };
        let applied =
            self.b.apply(&Batch { plan, puts: part.puts, deletes: part.deletes, state: in_b })?;
        self.writing.keep.keep(&state)?;
        self.tuner.succeeded(part.len(), started.elapsed());
        for key in part.keys() {
            self.held.remove(key);
        }
        self.applied += applied;
        (self.anew, self.position) = (None, None);
        self.done += part.len() as u64;
        let (done, of, batch) = (self.done, self.of, self.tuner.size());
        (self.writing.events)(Event::Progress { table: self.pair.name(), done, of, batch });
        self.writing.rate.sent(part.bytes());
        Ok(())
    }

    /// What is to be kept in the transaction of these rows.
    fn state_with(&self, part: Part<'_>) -> Result<Vec<(String, Option<String>)>> {
        let mut state: Vec<_> = part
            .keys()
            .filter(|key| self.held.contains_key(*key))
            .map(|key| (self.writing.keep.held_name(self.pair, key), None))
            .collect();
        if let Some(position) = self.position.as_ref().or(self.anew.as_ref()) {
            let position = Position { batch: Some(self.tuner.size()), ..position.clone() };
            state.push((self.writing.keep.position_name(self.pair), Some(as_text(&position)?)));
        }
        Ok(state)
    }

    fn halve_or_hold(&mut self, part: Part<'_>, error: Error, pauses: &[Duration]) -> Result<()> {
        if part.len() > 1 {
            self.tuner.failed();
            let (first, second) = part.halves();
            let position = self.position.take();
            self.write_with(first, pauses)?;
            self.position = position;
            return self.write_with(second, pauses);
        }
        let row = part.puts.first().map(|(_, row)| &row[..]);
        let Some(key) = part.keys().next().cloned() else { return Err(error) };
        self.hold(key, row, &error)
    }

    fn hold(&mut self, key: Key, row: Option<&[u8]>, error: &Error) -> Result<()> {
        let table = self.pair.name();
        let held = Held::new(table, &key, row, error, now());
        let entry = (self.writing.keep.held_name(self.pair, &key), Some(as_text(&held)?));
        self.writing.keep.write(self.b, self.pair.plan(1), &[entry])?;
        self.held.insert(key, held);
        self.fresh += 1;
        match self.fresh > MOST_HELD {
            false => Ok(()),
            true => Err(too_many_held(table, error)),
        }
    }
}

fn too_many_held(table: &str, last: &Error) -> Error {
    let what = format!(
        "{MOST_HELD} rows of {table} could not be written; the last one: {}",
        last.message()
    );
    Error::new(Kind::Diverged, "TOO_MANY_HELD", what)
        .hint("something else than single rows is wrong: compare the two tables' definitions")
}

fn as_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::corrupt("STATE_CORRUPT", e.to_string()))
}

/// Rows to put, or keys to remove.
#[derive(Clone, Copy)]
struct Part<'r> {
    puts: &'r [(Key, Row)],
    deletes: &'r [Key],
}

impl<'r> Part<'r> {
    fn len(self) -> usize {
        self.puts.len() + self.deletes.len()
    }

    fn bytes(self) -> usize {
        self.puts.iter().map(|(key, row)| key.len() + row.len()).sum()
    }

    fn keys(self) -> impl Iterator<Item = &'r Key> {
        self.puts.iter().map(|(key, _)| key).chain(self.deletes)
    }

    fn halves(self) -> (Part<'r>, Part<'r>) {
        let (first, second) = self.puts.split_at(self.puts.len() / 2);
        let (gone, going) = self.deletes.split_at(self.deletes.len() / 2);
        (Part { puts: first, deletes: gone }, Part { puts: second, deletes: going })
    }
}
