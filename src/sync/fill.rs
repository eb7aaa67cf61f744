//! Writing what was found into B: what A has in the order of parents, and what it lacks in that of children.
//!
//! A is read on a thread of its own, some groups of rows ahead: reading one side and writing the other take their
//! time together.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use crate::change::Digest;
use crate::endpoint::{Endpoint, Key, Plan, Range, Sink};
use crate::error::{Error, Result};

use super::apply::{Table as TableWriter, Writing};
use super::compare::{Ends, Totals};
use super::position::Position;
use super::run::Job;
use super::waiting::{keeps_out, waiting_for};
use super::work::Work;

/// So many rows are looked up at a time.
const GROUP: usize = 1_000;
/// So many rows without a key are removed at a time: each time the whole table is read to find them.
const MULTISET_GROUP: usize = 100_000;
/// So many bytes of rows are handed over at a time …
const PIECE: usize = 256 << 10;
/// … and so many pieces may wait.
const AHEAD: usize = 4;

/// Rows on their way from one thread to the other.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Where each key, and each row behind it, ends.
    ends: Vec<(usize, usize)>,
}

impl Piece {
    fn push(&mut self, key: &[u8], row: &[u8]) {
        self.bytes.extend_from_slice(key);
        let end_of_key = self.bytes.len();
        self.bytes.extend_from_slice(row);
        self.ends.push((end_of_key, self.bytes.len()));
    }

    fn each(&self, then: &mut Sink<'_>) -> Result<()> {
        let mut begin = 0;
        for (end_of_key, end) in &self.ends {
            then(&self.bytes[begin..*end_of_key], &self.bytes[*end_of_key..*end])?;
            begin = *end;
        }
        Ok(())
    }
}

/// Runs `read` on a thread of its own, and `take` with its rows on this one.
fn pump(read: impl FnOnce(&mut Sink<'_>) -> Result<()> + Send, take: &mut Sink<'_>) -> Result<()> {
    thread::scope(|scope| {
        let (pieces, rows) = mpsc::sync_channel(AHEAD);
        let reader = scope.spawn(move || fill(read, &pieces));
        let taken = drain(rows, take);
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Whoever writes hung up if it failed, and then the reader's error says only that.
        taken.and(read)
    })
}

fn fill(read: impl FnOnce(&mut Sink<'_>) -> Result<()>, pieces: &SyncSender<Piece>) -> Result<()> {
    let hung_up = |_| Error::retry("INTERRUPTED", "nobody takes the rows any more");
    let mut piece = Piece::default();
    read(&mut |key, row| {
        piece.push(key, row);
        match piece.bytes.len() >= PIECE {
            true => pieces.send(std::mem::take(&mut piece)).map_err(hung_up),
            false => Ok(()),
        }
    })?;
    pieces.send(piece).map_err(hung_up)
}

fn drain(rows: Receiver<Piece>, take: &mut Sink<'_>) -> Result<()> {
    rows.into_iter().try_for_each(|piece| piece.each(take))
}

/// Writes what A has. The position goes with the last batch, unless rows are still to be removed.
pub(super) fn put(
    ends: &mut Ends<'_>,
    jobs: &mut [Job<'_>],
    at: usize,
    writing: &mut Writing<'_>,
) -> Result<()> {
    let waits = waiting_for(ends.1, jobs, at)?;
    let job = &mut jobs[at];
    let (plan, counts) = (job.pair.plan(0), job.work.counts);
    let of = job.since.is_none().then_some(counts.only_in_a + counts.changed);
    let mut writer = job.writer(ends.1, writing, of);
    if job.must_begin_anew() {
        writer.begin_anew(job.position.unknown());
    }
    let (mut rows, mut digest) = (0, Digest::default());
    let (a, work, since) = (&mut *ends.0, &mut job.work, job.since.as_ref());
    pump(|sink| wanted(a, plan, work, since, sink), &mut |key, row| {
        if job.is_first {
            rows += 1;
            digest += plan.hash(row);
        }
        match keeps_out(&waits, plan, row)? {
            None => writer.put(key, row),
            Some(why) => writer.hold_back(key, row, &why),
        }
    })?;
    if job.is_first {
        job.work.counts.only_in_a = rows;
        job.totals = Some(Totals { rows: [rows, 0], digests: [digest, Digest::default()] });
    }
    let is_all = counts.only_in_b == 0 && plan.version.is_some() && job.position != job.kept;
    let at = is_all.then(|| job.position.clone());
    job.wrote(writer, at)
}

/// Reads the rows that B is to have.
fn wanted(
    a: &mut dyn Endpoint,
    plan: &Plan,
    work: &mut Work,
    since: Option<&Option<Key>>,
    sink: &mut Sink<'_>,
) -> Result<()> {
    a.read(plan, work.ranges(), sink)?;
    let mut keys = Vec::new();
    work.each_put(&mut |key, _| {
        keys.push(key);
        if keys.len() >= GROUP {
            a.rows(plan, &std::mem::take(&mut keys), sink)?;
        }
        Ok(())
    })?;
    a.rows(plan, &keys, sink)?;
    match since {
        Some(since) => a.since(plan, since.as_deref(), false, sink),
        None => Ok(()),
    }
}

/// Removes what A has not.
pub(super) fn remove(
    b: &mut dyn Endpoint,
    job: &mut Job<'_>,
    writing: &mut Writing<'_>,
) -> Result<()> {
    if job.work.counts.only_in_b == 0 {
        return Ok(());
    }
    let mut writer = job.writer(b, writing, Some(job.work.counts.only_in_b));
    if job.must_begin_anew() {
        writer.begin_anew(job.position.unknown());
    }
    let (mut keys, is_multiset) = (Vec::new(), job.pair.plan(1).is_multiset());
    let group = if is_multiset { MULTISET_GROUP } else { GROUP };
    let mut remove = |key| {
        keys.push(key);
        if keys.len() >= group { writer.remove(&std::mem::take(&mut keys)) } else { Ok(()) }
    };
    match is_multiset {
        true => job.work.each_delete_last_first(&mut remove)?,
        false => job.work.each_delete(&mut remove)?,
    }
    writer.remove(&keys)?;
    let at = job.pair.plan(0).version.is_some().then(|| job.position.clone());
    job.wrote(writer, at)
}

impl<'p> Job<'p> {
    /// Whether what was kept does not hold any more: a run that is cut short must not leave it behind, with rows that
    /// look as if they had been synced.
    fn must_begin_anew(&self) -> bool {
        let knew = self.kept.mark.is_some() || self.kept.pending.is_some();
        knew && self.walk == Range::ALL
    }

    pub(super) fn writer<'t, 'a>(
        &mut self,
        b: &'t mut dyn Endpoint,
        writing: &'t mut Writing<'a>,
        of: Option<u64>,
    ) -> TableWriter<'t, 'a>
    where
        'p: 't,
    {
        TableWriter::new(b, self.pair, writing, &self.position, std::mem::take(&mut self.held), of)
    }

    pub(super) fn wrote(
        &mut self,
        writer: TableWriter<'_, '_>,
        at: Option<Position>,
    ) -> Result<()> {
        let (held, applied, batch) = writer.finish(at)?;
        self.held = held;
        self.applied += applied;
        self.position.batch = Some(batch);
        Ok(())
    }
}
