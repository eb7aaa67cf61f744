//! One round of sync, from the first look to the proof.
//!
//! ```text
//!  look       snapshots of both; per table: versions, ranges ─▶ work
//!  guard      too many deletes? nothing is written
//!  put        tables in the order of parents, in batches
//!  remove     tables in the order of children
//!  try again  what is held, together and alone, as long as something of it goes in
//!  prove      both sides compared once more
//! ```

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use crate::endpoint::order::parents_first;
use crate::endpoint::{Applied, Endpoint, Engine, Horizon, Key, Range, canon};
use crate::error::{Error, Kind, Result};

use super::apply::{Table as TableWriter, Writing, now};
use super::collide::refuse_collisions;
use super::compare::{Ends, Totals, both, compare, totals};
use super::diff::estimate;
use super::event::{Event, Events};
use super::held::{Held, show_key};
use super::keep::Keep;
use super::options::SyncOptions;
use super::pair::{Pair, Pairs};
use super::position::Position;
use super::versions;
use super::work::{Counts, Work};
use crate::endpoint::chunk::Difference;

/// So many rounds, if A changes while they run.
const ROUNDS: usize = 3;
/// So many rows are looked up at a time.
const GROUP: usize = 1_000;
/// So many rows without a key are removed at a time: each time the whole table is read to find them.
const MULTISET_GROUP: usize = 100_000;
/// Of so many rows a dry run tells the keys.
const SHOWN: u64 = 20;

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
    // What changed in A since the round began is the next one's, unless somebody cannot be satisfied.
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
struct Job<'p> {
    pair: &'p Pair,
    /// As it was kept.
    kept: Position,
    position: Position,
    held: HashMap<Key, Held>,
    /// What was held when the round began, by key: the row's hash.
    before: HashMap<Key, String>,
    work: Work,
    /// Read again from this version on; the table has versions and was synced before.
    since: Option<Option<Key>>,
    totals: Option<Totals>,
    applied: Applied,
}

fn round(
    ends: &mut Ends<'_>,
    options: &SyncOptions,
    stop: &AtomicBool,
    events: &mut Events<'_>,
) -> Result<SyncReport> {
    let pairs = prepare(ends, options, events)?;
    let keep = Keep::open(ends.0.address(), options.state_file.as_deref())?;
    let mut jobs = Vec::new();
    let of_b: Vec<_> = pairs.pairs.iter().map(|pair| &pair.b).collect();
    for at in parents_first(&of_b) {
        let pair = &pairs.pairs[at];
        let (position, held) = keep.load(ends.1, pair.name())?;
        let (since, totals, applied) = Default::default();
        let (kept, work) = (position.clone(), Work::new());
        let before = held.iter().map(|(key, held)| (key.clone(), held.row.clone())).collect();
        jobs.push(Job { pair, kept, position, held, before, work, since, totals, applied });
    }
    let mut writing = Writing::new(options, stop, events, keep);
    let done = in_snapshot(ends, &mut jobs, &mut writing);
    let ended = both(ends, |end, _| end.end());
    done?;
    ended?;
    if options.prove && !options.dry_run {
        prove(ends, &mut jobs)?;
    }
    let tables = jobs.into_iter().map(Job::report).collect();
    Ok(SyncReport { tables, rounds: 0 })
}

impl Job<'_> {
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
    if writing.options.dry_run {
        return jobs.iter_mut().try_for_each(|job| tell(job, writing));
    }
    guard(ends.1, jobs, writing.options)?;
    ends.1.end()?;
    for at in 0..jobs.len() {
        put(ends, jobs, at, writing)?;
    }
    for job in jobs.iter_mut().rev() {
        remove(ends.1, job, writing)?;
    }
    try_again(ends, jobs, writing)
}

/// Finds out what is to be done.
fn look(
    ends: &mut Ends<'_>,
    job: &mut Job<'_>,
    horizon: Horizon,
    options: &SyncOptions,
) -> Result<()> {
    let has_version = job.pair.plan(0).version.is_some();
    let was_synced = job.position.mark.is_some() || job.position.pending.is_some();
    let walk = match has_version && was_synced {
        true => {
            let plan =
                versions::look(ends, job.pair, &mut job.position, horizon, options, &mut job.work)?;
            job.since = Some(plan.since);
            plan.walk
        }
        false => {
            if has_version && let Some(newest) = ends.0.newest(job.pair.plan(0))? {
                job.position.saw(&newest, now(), horizon);
                job.position.walked_at = now();
            }
            Range::ALL
        }
    };
    let work = &mut job.work;
    let totals = compare(ends, job.pair, &walk, &mut |found| work.add(found))?;
    job.totals = (walk == Range::ALL).then_some(totals);
    match job.work.counts.only_in_a {
        0 => Ok(()),
        _ => refuse_collisions(ends.0, job.pair),
    }
}

/// Stops a run that would delete too much, before anything is written.
fn guard(b: &mut dyn Endpoint, jobs: &[Job<'_>], options: &SyncOptions) -> Result<()> {
    for job in jobs.iter().filter(|job| !options.yes && job.work.counts.only_in_b > 0) {
        let rows = match job.totals {
            Some(totals) => totals.rows[1],
            None => count(b, job.pair)?,
        };
        let deletes = job.work.counts.only_in_b;
        if options.max_delete.exceeded_by(deletes, rows) {
            let name = job.pair.name();
            let what = format!(
                "{deletes} of {rows} rows of {name} would be deleted, more than --max-delete {}; \
                 nothing was written",
                options.max_delete
            );
            return Err(Error::new(Kind::Diverged, "TOO_MANY_DELETES", what).hint(
                "look with --dry-run; if that is meant, say --yes or a larger --max-delete",
            ));
        }
    }
    Ok(())
}

fn count(b: &mut dyn Endpoint, pair: &Pair) -> Result<u64> {
    let chunks = b.digest(pair.plan(1), &[Range::ALL], 64)?;
    Ok(chunks.iter().flatten().map(|chunk| chunk.rows).sum())
}

/// Says what would be done.
fn tell(job: &mut Job<'_>, writing: &mut Writing<'_>) -> Result<()> {
    let mut shown = 0;
    let (pair, events) = (job.pair, &mut writing.events);
    let mut say = |key: Key, difference| {
        shown += 1;
        if shown <= SHOWN {
            let key = [("key".to_owned(), show_key(&key))];
            events(Event::Row { table: pair.name(), key: &key, difference, columns: &[] });
        }
        Ok(())
    };
    job.work.each_put(&mut |key| say(key, Difference::Changed))?;
    job.work.each_delete(&mut |key| say(key, Difference::OnlyInB))
}

impl<'p> Job<'p> {
    fn writer<'t, 'a>(
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

    fn wrote(&mut self, writer: TableWriter<'_, '_>) -> Result<()> {
        let (held, applied, batch) = writer.finish()?;
        self.held = held;
        self.applied += applied;
        self.position.batch = Some(batch);
        Ok(())
    }
}

/// Writes what A has. The position goes with the last batch, unless rows are still to be removed.
fn put(
    ends: &mut Ends<'_>,
    jobs: &mut [Job<'_>],
    at: usize,
    writing: &mut Writing<'_>,
) -> Result<()> {
    let waits = waiting_for(ends.1, jobs, at)?;
    let job = &mut jobs[at];
    let (pair, a) = (job.pair, &mut *ends.0);
    let plan = pair.plan(0);
    let counts = job.work.counts;
    let of = job.since.is_none().then_some(counts.only_in_a + counts.changed);
    let mut writer = job.writer(ends.1, writing, of);
    let put = |writer: &mut TableWriter<'_, '_>, key: &[u8], row: &[u8]| match waits
        .iter()
        .find_map(|parent| parent.keeps_out(plan, row).transpose())
    {
        None => writer.put(key, row),
        Some(why) => writer.hold_back(key, row, &why?),
    };
    a.read(plan, job.work.ranges(), &mut |key, row| put(&mut writer, key, row))?;
    let mut keys = Vec::new();
    job.work.each_put(&mut |key| {
        keys.push(key);
        if keys.len() >= GROUP {
            a.rows(plan, &keys, &mut |key, row| put(&mut writer, key, row))?;
            keys.clear();
        }
        Ok(())
    })?;
    a.rows(plan, &keys, &mut |key, row| put(&mut writer, key, row))?;
    if let Some(since) = &job.since {
        a.since(plan, since.as_deref(), false, &mut |key, row| put(&mut writer, key, row))?;
    }
    if counts.only_in_b == 0 && plan.version.is_some() && job.position != job.kept {
        writer.stand_at(job.position.clone());
    }
    job.wrote(writer)
}

/// Removes what A has not.
fn remove(b: &mut dyn Endpoint, job: &mut Job<'_>, writing: &mut Writing<'_>) -> Result<()> {
    if job.work.counts.only_in_b == 0 {
        return Ok(());
    }
    let mut writer = job.writer(b, writing, Some(job.work.counts.only_in_b));
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
    if job.pair.plan(0).version.is_some() {
        writer.stand_at(job.position.clone());
    }
    job.wrote(writer)
}

/// Parents of one foreign key that could not be written, and are not in B.
struct Missing {
    parent: String,
    columns: Vec<usize>,
    keys: Vec<Key>,
}

impl Missing {
    /// Why a row has to wait; none if it need not.
    fn keeps_out(&self, plan: &crate::endpoint::Plan, row: &[u8]) -> Result<Option<Error>> {
        let values = plan.values(row)?;
        let key = canon::encode_key(self.columns.iter().map(|at| values[*at].as_ref()));
        Ok(self.keys.contains(&key).then(|| {
            let what = format!("it refers to a held row of {}: {}", self.parent, show_key(&key));
            Error::new(Kind::Behind, "PARENT_HELD", what)
        }))
    }
}

/// Where the engine does not enforce foreign keys, rows that depend on a held one wait with it all the same.
fn waiting_for(b: &mut dyn Endpoint, jobs: &[Job<'_>], at: usize) -> Result<Vec<Missing>> {
    if b.engine() != Engine::Sqlite {
        return Ok(Vec::new());
    }
    let child = jobs[at].pair;
    let mut missing = Vec::new();
    for foreign in &child.b.foreign_keys {
        let is_parent = |job: &&Job<'_>| job.pair.b.name.eq_ignore_ascii_case(&foreign.parent);
        let Some(parent) = jobs.iter().find(is_parent).filter(|job| !job.held.is_empty()) else {
            continue;
        };
        let plan = parent.pair.plan(1);
        let of_key = plan.columns[..plan.key].iter();
        let columns: Option<Vec<usize>> = of_key
            .enumerate()
            .map(|(place, column)| {
                let refers = |name: &String| name.eq_ignore_ascii_case(&column.name);
                let at = if foreign.parent_columns.is_empty() {
                    Some(place)
                } else {
                    foreign.parent_columns.iter().position(refers)
                };
                let name = foreign.columns.get(at?)?;
                child.plan(1).columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
            })
            .collect();
        // A reference to something else than the key is not followed.
        let Some(columns) = columns.filter(|columns| columns.len() == foreign.columns.len()) else {
            continue;
        };
        let mut keys: Vec<Key> = parent.held.keys().cloned().collect();
        let mut there = Vec::new();
        b.rows(plan, &keys, &mut |key, _| {
            there.push(key.to_vec());
            Ok(())
        })?;
        keys.retain(|key| !there.contains(key));
        missing.push(Missing { parent: parent.pair.name().to_owned(), columns, keys });
    }
    Ok(missing)
}

/// Tries held rows again, all of a table together: they may only have stood in each other's way, or have waited
/// for one that is there by now.
fn try_again(ends: &mut Ends<'_>, jobs: &mut [Job<'_>], writing: &mut Writing<'_>) -> Result<()> {
    loop {
        let before: usize = jobs.iter().map(|job| job.held.len()).sum();
        for at in 0..jobs.len() {
            let waits = waiting_for(ends.1, jobs, at)?;
            let job = &mut jobs[at];
            let plan = job.pair.plan(0);
            let is_new = |key: &Key, held: &Held| job.before.get(key) != Some(&held.row);
            let again = job.held.iter().filter(|(key, held)| held.waits || is_new(key, held));
            let keys: Vec<Key> = again.map(|(key, _)| key.clone()).collect();
            if keys.is_empty() {
                continue;
            }
            let mut writer = job.writer(ends.1, writing, None);
            let mut gone: std::collections::HashSet<Key> = keys.iter().cloned().collect();
            ends.0.rows(plan, &keys, &mut |key, row| {
                gone.remove(key);
                match waits.iter().find_map(|parent| parent.keeps_out(plan, row).transpose()) {
                    None => writer.put_again(key, row),
                    Some(_) => Ok(()),
                }
            })?;
            writer.flush()?;
            writer.remove(&gone.into_iter().collect::<Vec<_>>())?;
            job.wrote(writer)?;
        }
        let after: usize = jobs.iter().map(|job| job.held.len()).sum();
        if after >= before {
            return Ok(());
        }
    }
}

/// Compares both sides once more, where something was written.
fn prove(ends: &mut Ends<'_>, jobs: &mut [Job<'_>]) -> Result<()> {
    let is_open = |job: &Job<'_>| job.totals.is_some_and(|totals| !totals.equal());
    if !jobs.iter().any(is_open) {
        return Ok(());
    }
    both(ends, |end, _| end.begin())?;
    for job in jobs.iter_mut().filter(|job| is_open(job)) {
        job.totals = Some(totals(ends, job.pair, &Range::ALL)?);
    }
    both(ends, |end, _| end.end())?;
    Ok(())
}
