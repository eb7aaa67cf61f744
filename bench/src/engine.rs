//! Concurrent durable single-row writers in one process.
//!
//! The baseline commits the same rows in groups that form the same way, with the same hand-off
//! (a queue, one writing thread, a oneshot for each answer), but without savepoints, capture, log
//! and digest: what is missing to 1 is what Syncline costs. One writer alone is compared with a
//! plain loop, which has no hand-off at all. The notes give what both baselines reach if they, too, write
//! a log row and a position in each transaction: as near to 1 as anything with a log can come.
//!
//! Clients are threads that park, as a threaded program has them, and (where asked) tasks of one
//! thread, as an asynchronous program has them: the second leaves more of the machine to the
//! database, so it shows the database's own costs more sharply.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::block::block_on;
use crate::groups::GroupSizes;
use crate::table::{Latencies, Row, median, per_second};
use crate::workload::{self, Writer};
use crate::{Result, Settings, plain};

/// Which measurements to take.
#[derive(clap::Args)]
pub struct Args {
    /// Concurrent clients.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    clients: Vec<usize>,
    /// Clients as threads, as tasks, or both.
    #[arg(long, value_delimiter = ',', default_values = ["threads", "tasks"])]
    drive: Vec<Drive>,
}

/// What a client is.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq)]
pub enum Drive {
    /// A thread that parks while it waits.
    Threads,
    /// A task; all of them share one thread.
    Tasks,
}

impl Drive {
    fn as_str(self) -> &'static str {
        match self {
            Drive::Threads => "threads",
            Drive::Tasks => "tasks",
        }
    }
}

/// A client that inserts one row and waits until it is durable.
pub trait Insert: Send + 'static {
    /// Inserts; the row's id.
    fn insert(&mut self) -> impl Future<Output = Result<i64>> + Send;
}

impl Insert for Writer {
    fn insert(&mut self) -> impl Future<Output = Result<i64>> + Send {
        Writer::insert(self)
    }
}

impl Insert for plain::Client {
    fn insert(&mut self) -> impl Future<Output = Result<i64>> + Send {
        plain::Client::insert(self)
    }
}

/// One measurement.
#[derive(Default)]
pub struct Sample {
    /// Inserts a second.
    pub rate: f64,
    /// How long each took.
    pub latencies: Latencies,
    /// Members of each group.
    pub groups: Vec<u64>,
}

/// All runs of one measurement.
#[derive(Default)]
struct Taken {
    ours: Vec<Sample>,
    base: Vec<Sample>,
    /// The baseline with a log.
    logged: Vec<Sample>,
}

/// The `engine` command.
pub fn run(settings: &Settings, args: &Args) -> Result<()> {
    let groups = GroupSizes::install()?;
    for &clients in &args.clients {
        if clients == 1 {
            alone(settings, &groups)?;
            continue;
        }
        for &drive in &args.drive {
            concurrent(settings, &groups, clients, drive)?;
        }
    }
    Ok(())
}

/// One writer against a plain loop.
fn alone(settings: &Settings, groups: &GroupSizes) -> Result<()> {
    let mut taken = Taken::default();
    for _ in 0..settings.runs {
        taken.ours.push(measure_ours(settings, groups, 1, Drive::Threads)?);
        taken.base.push(plain_loop(settings, false)?);
        taken.logged.push(plain_loop(settings, true)?);
    }
    let what = format!("engine: 1 writer, {}", settings.sync_label());
    publish(settings, what, "plain loop", taken, "≥ 0.90")
}

/// Many writers against the dumb group committer.
fn concurrent(
    settings: &Settings,
    groups: &GroupSizes,
    clients: usize,
    drive: Drive,
) -> Result<()> {
    let mut taken = Taken::default();
    for _ in 0..settings.runs {
        taken.ours.push(measure_ours(settings, groups, clients, drive)?);
        taken.base.push(measure_plain(settings, clients, drive, false)?);
        taken.logged.push(measure_plain(settings, clients, drive, true)?);
    }
    let label = settings.sync_label();
    let what = format!("engine: {clients} writers ({}), {label}", drive.as_str());
    publish(settings, what, "plain groups", taken, "≥ 0.75")
}

fn publish(
    settings: &Settings,
    what: String,
    baseline: &str,
    mut taken: Taken,
    asked: &str,
) -> Result<()> {
    let rate = |samples: &[Sample]| median(&samples.iter().map(|s| s.rate).collect::<Vec<_>>());
    let Taken { ours, base, logged } = &mut taken;
    let (our_rate, base_rate, logged_rate) = (rate(ours), rate(base), rate(logged));
    let mut latencies = pooled(ours);
    let tail = latencies.quantile(0.999) / latencies.quantile(0.5).max(1e-9);
    println!("{what}: groups of ours {}", histogram(ours));
    println!("{what}: groups of {baseline} {}", histogram(base));
    println!("{what}: latency of {baseline} {}", pooled(base).summary());
    let row = Row {
        what,
        ours: per_second(our_rate),
        baseline: format!("{} {baseline}", per_second(base_rate)),
        ratio: Some(our_rate / base_rate),
        asked: asked.into(),
        notes: format!(
            "groups {} (baseline {}); {}; p99.9/p50 {tail:.1}; baseline with a log {}, {:.2} of it",
            typical_group(ours),
            typical_group(base),
            latencies.summary(),
            per_second(logged_rate),
            logged_rate / base_rate,
        ),
    };
    row.publish(settings)
}

/// The latencies of all runs.
pub fn pooled(samples: &mut [Sample]) -> Latencies {
    let mut all = Latencies::default();
    samples.iter().for_each(|sample| all.merge(&sample.latencies));
    all
}

fn measure_ours(
    settings: &Settings,
    groups: &GroupSizes,
    clients: usize,
    drive: Drive,
) -> Result<Sample> {
    let dir = settings.fresh_dir()?;
    let db = workload::open_writer(dir.path())?;
    groups.forget();
    let writer = |client| match drive {
        Drive::Threads => Writer::new(&db, client as i64).blocking(),
        Drive::Tasks => Writer::new(&db, client as i64),
    };
    let writers = (0..clients).map(writer).collect();
    let mut sample = drive_clients(writers, settings.duration(), drive)?;
    sample.groups = groups.take();
    db.close();
    Ok(sample)
}

fn measure_plain(
    settings: &Settings,
    clients: usize,
    drive: Drive,
    logged: bool,
) -> Result<Sample> {
    let dir = settings.fresh_dir()?;
    let committer = plain::Committer::open(dir.path(), logged)?;
    let inserters = (0..clients).map(|client| committer.client(client as i64)).collect();
    let mut sample = drive_clients(inserters, settings.duration(), drive)?;
    sample.groups = committer.finish()?;
    Ok(sample)
}

fn plain_loop(settings: &Settings, logged: bool) -> Result<Sample> {
    let dir = settings.fresh_dir()?;
    let db = plain::open(&dir.path().join("plain.db"))?;
    let mut log = logged.then(|| plain::Log::open(&db)).transpose()?;
    let (mut begin, mut commit) = (db.prepare("BEGIN IMMEDIATE")?, db.prepare("COMMIT")?);
    let mut insert = db.prepare(workload::INSERT)?;
    let mut latencies = Latencies::default();
    let started = Instant::now();
    while started.elapsed() < settings.duration() {
        let begun = Instant::now();
        if let Some(log) = &mut log {
            begin.execute([])?;
            insert.execute(rusqlite::params![0, workload::BODY])?;
            log.append(1)?;
            commit.execute([])?;
        } else {
            insert.execute(rusqlite::params![0, workload::BODY])?;
        }
        latencies.record(begun.elapsed());
    }
    let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
    Ok(Sample { rate, latencies, groups: Vec::new() })
}

/// Lets clients insert for so long.
pub fn drive_clients<C: Insert>(
    clients: Vec<C>,
    duration: Duration,
    drive: Drive,
) -> Result<Sample> {
    match drive {
        Drive::Threads => drive_threads(clients, duration),
        Drive::Tasks => drive_tasks(clients, duration),
    }
}

/// Inserts until the time is over.
async fn insert_until<C: Insert>(mut client: C, deadline: Instant) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    loop {
        let begun = Instant::now();
        if begun >= deadline {
            return Ok(latencies);
        }
        client.insert().await?;
        latencies.record(begun.elapsed());
    }
}

fn drive_threads<C: Insert>(clients: Vec<C>, duration: Duration) -> Result<Sample> {
    let started = Instant::now();
    let deadline = started + duration;
    let spawn = |client| {
        let body = move || block_on(insert_until(client, deadline));
        std::thread::Builder::new().stack_size(256 << 10).spawn(body)
    };
    let threads = clients.into_iter().map(spawn).collect::<Result<Vec<_>, _>>()?;
    let mut latencies = Latencies::default();
    for thread in threads {
        latencies.merge(&thread.join().map_err(|_| "a client panicked")??);
    }
    let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
    Ok(Sample { rate, latencies, groups: Vec::new() })
}

fn drive_tasks<C: Insert>(clients: Vec<C>, duration: Duration) -> Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for client in clients {
            tasks.spawn(insert_until(client, started + duration));
        }
        let mut latencies = Latencies::default();
        while let Some(done) = tasks.join_next().await {
            latencies.merge(&done??);
        }
        let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
        Ok(Sample { rate, latencies, groups: Vec::new() })
    })
}

/// The median group, weighed by members: the group that a typical write was in.
pub fn typical_group(samples: &[Sample]) -> String {
    let mut sizes: Vec<u64> = samples.iter().flat_map(|s| s.groups.iter().copied()).collect();
    sizes.sort_unstable();
    let half = sizes.iter().sum::<u64>() / 2;
    let mut members = 0;
    for size in &sizes {
        members += size;
        if members >= half {
            return size.to_string();
        }
    }
    "–".into()
}

/// Groups by size, in powers of two, with the share of writes that each bucket carried.
fn histogram(samples: &[Sample]) -> String {
    let mut buckets = [(0u64, 0u64); 20];
    for size in samples.iter().flat_map(|s| s.groups.iter().copied()).filter(|&size| size > 0) {
        let bucket = &mut buckets[(size.ilog2() as usize).min(19)];
        *bucket = (bucket.0 + 1, bucket.1 + size);
    }
    let all: u64 = buckets.iter().map(|b| b.1).sum();
    let line = |(i, (groups, members)): (usize, &(u64, u64))| {
        let share = 100.0 * *members as f64 / all.max(1) as f64;
        format!("{}-{}: {groups} ({share:.0} %)", 1 << i, (2u64 << i) - 1)
    };
    let filled = buckets.iter().enumerate().filter(|(_, b)| b.0 > 0);
    filled.map(line).collect::<Vec<_>>().join(", ")
}
