//! One round of sync, from the first look to the proof.
//!
//! ```text
//!  look       snapshots of both; per table: versions, ranges ─▶ work
//!  guard      too many deletes? nothing is written
//!  put        tables in the order of parents, in batches                      fill
//!  remove     tables in the order of children
//!  try again  what is held, as long as something of it goes in                waiting
//!  prove      B's digest beside that of A's snapshot
//! ```
//!
//! All of A is read in one snapshot: whatever is written there meanwhile is the next round's.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use crate::endpoint::order::parents_first;
use crate::endpoint::{Applied, Endpoint, Horizon, Key, PlannedColumn, Range, Type};
use crate::error::{Error, Kind, Result};

use super::apply::{Writing, now};
use super::collide::refuse_collisions;
use super::compare::{Ends, Found, Totals, both, compare, total};
use super::diff::estimate;
use super::event::{Event, Events};
use super::fill::{put, remove};
use super::foresee::tell;
use super::held::Held;
use super::keep::Keep;
use super::options::SyncOptions;
use super::pair::{Pair, Pairs};
use super::position::Position;
use super::versions;
use super::waiting::{let_go, try_again};
use super::work::{Counts, Work};

/// So many rounds, if B does not stay as it was written.
const ROUNDS: usize = 3;

/// From so many rows on it takes a while to write them.
const MUCH: u64 = 10_000;

/// What a sync did.
#[derive(Debug, Clone, Default)]
pub struct SyncReport {
    /// By table.
    pub tables: Vec<TableReport>,
    /// How many rounds it took.
    pub rounds: usize,
}

/// What a sync did to a table.
#[derive(Debug, Clone, Default)]
pub struct TableReport {
    /// Its name.
    pub table: String,
    /// What was found to differ.
    pub found: Counts,
    /// What was done.
    pub applied: Applied,
    /// Rows that could not be written.
    pub held: Vec<Held>,
    /// What both sides hold now, if the whole table was compared.
    pub totals: Option<Totals>,
}

impl TableReport {
    /// Whether both sides were compared whole and are equal.
    pub fn proved(&self) -> bool {
        self.totals.is_some_and(|totals| totals.equal())
    }
}

impl SyncReport {
    /// Whether all that was compared is equal, and nothing is held.
    pub fn done(&self) -> bool {
        let fine = |table: &TableReport| {
            table.held.is_empty() && table.totals.is_none_or(|totals| totals.equal())
        };
        self.tables.iter().all(fine)
    }
}

/// Makes B equal to A.
pub fn sync_once(
    ends: &mut Ends<'_>,
    options: &SyncOptions,
    stop: &AtomicBool,
    events: &mut Events<'_>,
) -> Result<SyncReport> {
    let mut report = round(ends, options, stop, events)?;
    report.rounds = 1;
    // Somebody else writes in B, or B makes something else of what is written: once more.
    while !options.dry_run && report.rounds < ROUNDS && unfinished(&report) {
        let next = round(ends, options, stop, events)?;
        for (table, next) in report.tables.iter_mut().zip(next.tables) {
            table.applied += next.applied;
            (table.held, table.totals) = (next.held, next.totals.or(table.totals));
        }
        report.rounds += 1;
    }
    Ok(report)
}

fn unfinished(report: &SyncReport) -> bool {
    let changed = |table: &TableReport| {
        table.held.is_empty() && table.totals.is_some_and(|totals| !totals.equal())
    };
    report.tables.iter().any(changed)
}

/// One table in one round.
pub(super) struct Job<'p> {
    pub pair: &'p Pair,
    /// As it was kept.
    pub kept: Position,
    pub position: Position,
    pub held: HashMap<Key, Held>,
    /// What was held when the round began.
    pub before: HashMap<Key, Held>,
    pub work: Work,
    /// Read again from this version on; the table has versions and was synced before.
    pub since: Option<Option<Key>>,
    /// What was compared.
    pub walk: Range,
    /// B had no rows, and nothing was compared: A's rows are counted when they are read.
    pub is_first: bool,
    pub totals: Option<Totals>,
    pub applied: Applied,
}

fn round(
    ends: &mut Ends<'_>,
    options: &SyncOptions,
    stop: &AtomicBool,
    events: &mut Events<'_>,
) -> Result<SyncReport> {
    let pairs = prepare(ends, options, events)?;
    let addresses = (ends.0.address(), ends.1.address());
    let keep = Keep::open(addresses, options.state_file.as_deref(), options.dry_run)?;
    let mut jobs = Vec::new();
    let of_b: Vec<_> = pairs.pairs.iter().map(|pair| &pair.b).collect();
    for at in parents_first(&of_b) {
        let pair = &pairs.pairs[at];
        let (kept, held) = keep.load(ends.1, pair)?;
        jobs.push(Job::new(pair, kept, held));
    }
    let mut writing = Writing::new(options, stop, events, keep);
    let done = in_snapshot(ends, &mut jobs, &mut writing);
    let ended = both(ends, |end, _| end.end());
    done?;
    ended?;
    if options.prove && !options.dry_run {
        prove(ends.1, &mut jobs)?;
    }
    let tables = jobs.into_iter().map(Job::report).collect();
    Ok(SyncReport { tables, rounds: 0 })
}

impl<'p> Job<'p> {
    fn new(pair: &'p Pair, kept: Position, held: HashMap<Key, Held>) -> Job<'p> {
        let before = held.clone();
        let (since, walk, is_first, totals, applied) = Default::default();
        let (position, work) = (kept.clone(), Work::new());
        Job { pair, kept, position, held, before, work, since, walk, is_first, totals, applied }
    }

    /// Tells which rows are held that were not, or for another reason.
    fn tell_held(&self, events: &mut Events<'_>) {
        let is_new = |(key, held): &(&Key, &Held)| {
            self.before.get(*key).is_none_or(|before| before.reason != held.reason)
        };
        let mut held: Vec<(&Key, &Held)> = self.held.iter().filter(is_new).collect();
        held.sort_by_key(|(key, _)| *key);
        for (_, held) in held {
            events(Event::Held { table: self.pair.name(), key: &held.shown, reason: &held.reason });
        }
    }

    fn report(self) -> TableReport {
        let mut held: Vec<Held> = self.held.into_values().collect();
        held.sort_by(|a, b| a.key.cmp(&b.key));
        TableReport {
            table: self.pair.name().to_owned(),
            found: self.work.counts,
            applied: self.applied,
            held,
            totals: self.totals,
        }
    }
}

/// Pairs the tables, makes those that are missing, and refuses what could not end equal.
fn prepare(ends: &mut Ends<'_>, options: &SyncOptions, events: &mut Events<'_>) -> Result<Pairs> {
    let mut pairs = options.selection.pair(ends.0, ends.1)?;
    if !pairs.only_a.is_empty() {
        let statements = ends.1.create_statements(&pairs.only_a)?;
        if !options.create {
            return Err(missing_tables(ends.1, &pairs, &statements));
        }
        for table in pairs.only_a.iter().filter(|_| options.dry_run) {
            events(Event::Note(&format!("would create {}", table.name)));
        }
        if !options.dry_run {
            ends.1.create(&statements)?;
            pairs = options.selection.pair(ends.0, ends.1)?;
        }
    }
    for pair in &pairs.pairs {
        refuse_missing_columns(ends.1, pair)?;
    }
    let of_b: Vec<_> = pairs.pairs.iter().map(|pair| pair.b.clone()).collect();
    for warning in ends.1.warnings(&of_b)? {
        events(Event::Note(&warning));
    }
    estimate(ends, &pairs, events);
    Ok(pairs)
}

fn missing_tables(b: &dyn Endpoint, pairs: &Pairs, statements: &[String]) -> Error {
    let names: Vec<&str> = pairs.only_a.iter().map(|table| table.name.as_str()).collect();
    let what = format!("{} has no table {}", b.address(), names.join(", "));
    Error::invalid("MISSING_TABLE", what).hint(format!(
        "--create makes it, --exclude leaves it out; by hand: {}",
        statements.join("; ")
    ))
}

fn refuse_missing_columns(b: &dyn Endpoint, pair: &Pair) -> Result<()> {
    let missing: Vec<_> =
        pair.agreement.only_a.iter().filter_map(|name| pair.a.column(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|column| column.name.as_str()).collect();
    let statements = missing.iter().map(|column| b.add_column_statement(&pair.b.name, column));
    let statements = statements.collect::<Result<Vec<_>>>()?;
    let what = format!("{} in {} lacks {}", pair.b.name, b.address(), names.join(", "));
    Err(Error::invalid("COLUMNS_DIFFER", what).hint(format!(
        "add it ({}), or name the columns to sync with --columns",
        statements.join("; ")
    )))
}

fn in_snapshot(ends: &mut Ends<'_>, jobs: &mut [Job<'_>], writing: &mut Writing<'_>) -> Result<()> {
    let (horizon, _) = both(ends, |end, _| end.begin())?;
    for job in jobs.iter_mut() {
        (writing.events)(Event::Comparing { table: job.pair.name() });
        look(ends, job, horizon, writing.options)?;
        let differing = job.work.counts.all();
        (writing.events)(Event::Compared { table: job.pair.name(), differing });
    }
    let guarded = guard(ends.1, jobs, writing.options);
    if writing.options.dry_run {
        jobs.iter_mut().try_for_each(|job| tell(ends, job, writing))?;
        return would_stop(guarded, writing.events);
    }
    guarded?;
    let much: u64 = jobs.iter().map(|job| job.work.counts.all()).sum();
    if much >= MUCH
        && let Some(warning) = ends.0.snapshot_warning()?
    {
        (writing.events)(Event::Note(&warning));
    }
    ends.1.end()?;
    for at in 0..jobs.len() {
        put(ends, jobs, at, writing)?;
    }
    for job in jobs.iter_mut().rev() {
        remove(ends.1, job, writing)?;
    }
    try_again(ends, jobs, writing)?;
    let_go(ends, jobs, writing)?;
    jobs.iter().for_each(|job| job.tell_held(writing.events));
    Ok(())
}

/// Finds out what is to be done.
fn look(
    ends: &mut Ends<'_>,
    job: &mut Job<'_>,
    horizon: Horizon,
    options: &SyncOptions,
) -> Result<()> {
    let has_version = job.pair.plan(0).version.is_some();
    // A held row may be what B lacks.
    if has_version && job.held.is_empty() && versions::b_went_back(ends.1, job.pair, &job.position)?
    {
        job.position = job.position.unknown();
    }
    let was_synced = job.position.mark.is_some() || job.position.pending.is_some();
    if has_version && was_synced {
        let (pair, position) = (job.pair, &mut job.position);
        let plan = versions::look(ends, pair, position, horizon, options, &mut job.work)?;
        (job.since, job.walk) = (Some(plan.since), plan.walk);
    } else if has_version && let Some(newest) = ends.0.newest(job.pair.plan(0))? {
        job.position.saw(&newest, now(), versions::horizon_of(job.pair, horizon));
        job.position.walked_at = now();
    }
    job.is_first = job.walk == Range::ALL && !options.dry_run && can_fill(ends.1, job.pair)?;
    if job.is_first {
        job.work.add(Found::OnlyInA(Range::ALL, job.pair.a.rows.unwrap_or(0)))?;
    } else {
        let work = &mut job.work;
        let totals = compare(ends, job.pair, &job.walk, &mut |found| work.add(found))?;
        job.totals = (job.walk == Range::ALL).then_some(totals);
    }
    match job.is_first || job.work.counts.only_in_a > 0 {
        true => refuse_collisions(ends.0, job.pair),
        false => Ok(()),
    }
}

/// Whether B's table has no rows, and all of A's can go there without a look at them first: where keys are compared as
/// another type than A's own, two of them may be one.
fn can_fill(b: &mut dyn Endpoint, pair: &Pair) -> Result<bool> {
    let plan = pair.plan(0);
    let is_own = |column: &PlannedColumn| {
        let own = pair.a.column(&column.name).map(|column| column.kind);
        column.agreed == Type::Stored || own == Some(column.agreed)
    };
    if plan.is_multiset() || !plan.columns[..plan.key].iter().all(is_own) {
        return Ok(false);
    }
    // One that has many rows is not asked: their order may cost a scan.
    if pair.b.rows.unwrap_or(0) > 0 {
        return Ok(false);
    }
    Ok(b.nth_key(pair.plan(1), None, 1)?.is_none())
}

/// Stops a run that would delete too much, before anything is written.
fn guard(b: &mut dyn Endpoint, jobs: &[Job<'_>], options: &SyncOptions) -> Result<()> {
    for job in jobs.iter().filter(|job| !options.yes && job.work.counts.only_in_b > 0) {
        let rows = match job.totals {
            Some(totals) => totals.rows[1],
            None => total(b, job.pair.plan(1), &Range::ALL)?.0,
        };
        let deletes = job.work.counts.only_in_b;
        if options.max_delete.exceeded_by(deletes, rows) {
            let name = job.pair.name();
            let what = format!(
                "{deletes} of {rows} rows of {name} would be deleted, more than --max-delete {}; \
                 nothing of this round was written",
                options.max_delete
            );
            return Err(Error::new(Kind::Diverged, "TOO_MANY_DELETES", what).hint(
                "look with --dry-run; if that is meant, say --yes or a larger --max-delete",
            ));
        }
    }
    Ok(())
}

/// A dry run says so, too.
fn would_stop(guarded: Result<()>, events: &mut Events<'_>) -> Result<()> {
    match guarded {
        Err(error) if error.code() == "TOO_MANY_DELETES" => {
            events(Event::Note(&format!("a run would stop here: {error}")));
            Ok(())
        }
        guarded => guarded,
    }
}

/// Compares B, where it was written, with what A's snapshot held.
fn prove(b: &mut dyn Endpoint, jobs: &mut [Job<'_>]) -> Result<()> {
    b.begin()?;
    for job in jobs {
        let written = job.applied.written() > 0;
        if let Some(totals) = job.totals.as_mut().filter(|totals| written || !totals.equal()) {
            (totals.rows[1], totals.digests[1]) = total(b, job.pair.plan(1), &Range::ALL)?;
        }
    }
    b.end()
}
