//! A reader over PostgreSQL: what its reads ask of the server, and its start on a large table.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use syncline::change::Value;
use syncline::engine::{Database, DatabaseOptions, WorkingCopy};

use crate::postgres::Postgres;
use crate::reader::{self, Copy, Follower};
use crate::table::{Row, count, median, per_second};
use crate::{Result, Settings, backed, grouped, workload};

const ROWS: i64 = 100_000;
const SELECT: &str = "SELECT client, body FROM bench WHERE id = ?";
/// How often the reader looks at the server: not for a read's sake, so it is counted apart.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Reads for as long as a measurement takes: how many a second.
type Reads<'a> = &'a mut dyn FnMut(i64) -> Result<()>;

/// Point reads at a reader, and the statements that the server had from it meanwhile.
pub fn reads(settings: &Settings) -> Result<()> {
    let (dir, postgres) = (settings.fresh_dir()?, Postgres::start(settings)?);
    let url = postgres.database()?;
    let writer = backed::open_writer(&url, &dir.path().join("w"))?;
    workload::fill_by(&writer, ROWS as usize, ROWS as usize)?;
    let reader = Database::open(DatabaseOptions {
        node: "reader".into(),
        backing: reader::place(&postgres.counted(&url)?)?,
        working_copy: WorkingCopy::Memory,
        check_every: CHECK_EVERY,
        full_every: backed::NEVER,
        ..DatabaseOptions::reader("", dir.path().join("r"))
    })?;
    let (mut ours, mut base, mut idle, mut busy) = (vec![], vec![], vec![], vec![]);
    let mut handle = reader.reader()?;
    for _ in 0..settings.runs {
        let before = postgres.statements()?;
        std::thread::sleep(settings.duration());
        let between = postgres.statements()?;
        ours.push(read_for(settings, &mut |id| {
            let body = handle.query_row(SELECT, &[Value::Integer(id)], |row| {
                row.get(1).map(|body| body.to_owned())
            })?;
            is_body(matches!(body, Some(Value::Text(body)) if body == *workload::BODY))
        })?);
        idle.push((between - before) as f64);
        busy.push((postgres.statements()? - between) as f64);
        base.push(over_the_network(settings, &url)?);
    }
    reader.close();
    writer.close();
    let (ours, base) = (median(&ours), median(&base));
    let row = Row {
        what: "postgres: point read at a reader".into(),
        ours: per_second(ours),
        baseline: format!("{} prepared, over TCP", per_second(base)),
        ratio: Some(ours / base),
        asked: "no query for a read".into(),
        notes: format!(
            "in {} s the server had {} statements of a reader that looked every 0.5 s and served \
             nothing, {} of one that served {} reads",
            settings.seconds,
            median(&idle),
            median(&busy),
            count(ours * settings.seconds)
        ),
    };
    row.publish(settings)
}

fn is_body(is: bool) -> Result<()> {
    if is { Ok(()) } else { Err("a read gave something else".into()) }
}

fn read_for(settings: &Settings, read: Reads<'_>) -> Result<f64> {
    let (started, mut reads) = (Instant::now(), 0);
    while started.elapsed() < settings.duration() {
        read(reads * 104_729 % ROWS + 1)?;
        reads += 1;
    }
    Ok(reads as f64 / started.elapsed().as_secs_f64())
}

fn over_the_network(settings: &Settings, url: &str) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(grouped::connect(url))?;
    let select = runtime.block_on(client.prepare(&SELECT.replace('?', "$1")))?;
    read_for(settings, &mut |id| {
        let row = runtime.block_on(client.query_one(&select, &[&id]))?;
        is_body(row.get::<_, &str>(1) == workload::BODY)
    })
}

/// A reader's start on a large table, and what it takes to rebuild beside the served copy.
pub fn start(settings: &Settings, rows: usize) -> Result<()> {
    let (dir, postgres) = (settings.fresh_dir()?, Postgres::start(settings)?);
    let url = postgres.database()?;
    let writer = backed::open_writer(&url, &dir.path().join("w"))?;
    workload::fill_by(&writer, rows, rows)?;
    let data = writer_pages(&writer)?;
    writer.close();
    let (mut ours, mut base, mut loaded, mut rebuilt) = (vec![], vec![], vec![], vec![]);
    let empty = empty_reader(settings, &postgres)?;
    for run in 0..settings.runs {
        let own = dir.path().join(format!("r{run}"));
        let started = Instant::now();
        let mut follower =
            Follower::start(settings, &url, &own, Copy::Memory, &["--rebuild-every", "1"])?;
        ours.push(started.elapsed().as_secs_f64());
        loaded.push(follower.process.memory("VmHWM")?);
        follower.rebuilt()?;
        rebuilt.push(follower.process.memory("VmHWM")?);
        follower.finish()?;
        base.push(copy_out(&url)?);
    }
    let (ours, base) = (median(&ours), median(&base));
    let rows = count(rows as f64);
    let row = Row {
        what: format!("postgres: reader's start on {rows} rows, copy in memory"),
        ours: format!("{ours:.2} s"),
        baseline: format!("{base:.2} s COPY … TO STDOUT"),
        ratio: Some(base / ours),
        asked: "report".into(),
        notes: format!("{:.1} times as long as COPY alone", ours / base),
    };
    row.publish(settings)?;
    let (loaded, rebuilt) = (median(&loaded), median(&rebuilt));
    let row = Row {
        what: format!(
            "postgres: reader's peak memory, {rows} rows, rebuilt beside the served copy"
        ),
        ours: format!("{rebuilt:.0} MiB"),
        baseline: format!("{data:.0} MiB data (SQLite's pages)"),
        ratio: Some(rebuilt / data),
        asked: "at most twice the data and 64 MiB".into(),
        notes: format!(
            "{loaded:.0} MiB after the start, {empty:.0} MiB on an empty table; beyond twice the data: \
             {:.0} MiB",
            rebuilt - 2.0 * data
        ),
    };
    row.publish(settings)
}

/// What a reader takes that has nothing to hold.
fn empty_reader(settings: &Settings, postgres: &Postgres) -> Result<f64> {
    let (dir, url) = (settings.fresh_dir()?, postgres.database()?);
    backed::open_writer(&url, &dir.path().join("w"))?.close();
    let follower = Follower::start(settings, &url, &dir.path().join("r"), Copy::Memory, &[])?;
    let peak = follower.process.memory("VmHWM")?;
    follower.finish()?;
    Ok(peak)
}

/// The size of a copy in MiB, as SQLite counts it.
fn writer_pages(db: &Database) -> Result<f64> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes = db.reader()?.query_row(sql, &[], |row| row.get(0).map(|bytes| bytes.to_owned()))?;
    match bytes {
        Some(Value::Integer(bytes)) => Ok(bytes as f64 / f64::from(1 << 20)),
        other => Err(format!("SQLite's pages are {other:?}").into()),
    }
}

/// Seconds that it takes to read the whole table as PostgreSQL writes it fastest, from connecting on.
fn copy_out(url: &str) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let started = Instant::now();
        let client = grouped::connect(url).await?;
        let mut rows = pin!(client.copy_out("COPY bench TO STDOUT").await?);
        let mut bytes = 0;
        while let Some(chunk) = rows.try_next().await? {
            bytes += chunk.len();
        }
        match bytes {
            0 => Err("the table is empty".into()),
            _ => Ok(started.elapsed().as_secs_f64()),
        }
    })
}
