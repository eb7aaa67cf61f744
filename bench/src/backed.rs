//! Over PostgreSQL, each part against a private server of its own.
//!
//! | part | ours | baseline |
//! | --- | --- | --- |
//! | `commits` | concurrent writers, memory copy, acknowledged when PostgreSQL has committed | plain tokio-postgres committing groups of the same size, by the same hand-off |
//! | `bulk` | INSERTs over arrays, as the store sends many rows, by plain tokio-postgres | `COPY … FROM STDIN` |
//! | `reads` | point reads at a reader, and the server's statements meanwhile | a prepared SELECT over tokio-postgres |
//! | `start` | a reader's process until it serves, copy in memory | `COPY … TO STDOUT` of the same table |
//! | `visible` | from the writer's answer to visible at a reader that hears of it by NOTIFY | (none: absolute) |

use std::path::Path;
use std::time::Duration;

use syncline::engine::{Database, DatabaseOptions, WorkingCopy};

use crate::engine::{Drive, Sample, drive_clients, pooled};
use crate::groups::GroupSizes;
use crate::postgres::Postgres;
use crate::table::{Row, count, median, per_second};
use crate::workload::{self, Writer};
use crate::{Result, Settings, backed_reader, grouped, reader, visible};

/// Which measurements to take.
#[derive(clap::Args)]
pub struct Args {
    /// Only these parts.
    #[arg(long, value_delimiter = ',', default_values = ["commits", "bulk", "reads", "start", "visible"])]
    only: Vec<Part>,
    /// Concurrent writers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    clients: Vec<usize>,
    /// Rows of the table that a reader starts on.
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
}

/// A part of the comparison.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq)]
enum Part {
    Commits,
    Bulk,
    Reads,
    Start,
    Visible,
}

/// The `postgres` command.
pub fn run(settings: &Settings, args: &Args) -> Result<()> {
    for part in &args.only {
        match part {
            Part::Commits => commits(settings, &args.clients)?,
            // What syncs nothing is measured once.
            _ if settings.delay_us > 0 => {}
            Part::Bulk => bulk(settings, args.rows)?,
            Part::Reads => backed_reader::reads(settings)?,
            Part::Start => backed_reader::start(settings, args.rows)?,
            Part::Visible => visible::over_postgres(settings)?,
        }
    }
    Ok(())
}

/// A writer on the PostgreSQL database at `url`, with its copy in memory, and the table.
pub fn open_writer(url: &str, dir: &Path) -> Result<Database> {
    let db = Database::open(DatabaseOptions {
        backing: reader::place(url)?,
        working_copy: WorkingCopy::Memory,
        ..DatabaseOptions::writer(dir.join("main.db"))
    })?;
    workload::execute(&db, workload::CREATE)?;
    Ok(db)
}

fn commits(settings: &Settings, clients: &[usize]) -> Result<()> {
    let groups = GroupSizes::install()?;
    clients.iter().try_for_each(|&clients| concurrent(settings, &groups, clients))
}

fn concurrent(settings: &Settings, groups: &GroupSizes, clients: usize) -> Result<()> {
    let postgres = Postgres::start(settings)?;
    let (mut ours, mut base) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        let sample = measure_ours(settings, &postgres, groups, clients)?;
        let size = mean(&sample.groups).round() as usize;
        ours.push(sample);
        let url = postgres.database()?;
        postgres.create(&url)?;
        base.push(grouped::measure(&url, clients, size, settings.duration())?);
    }
    let rate = |samples: &[Sample]| median(&samples.iter().map(|s| s.rate).collect::<Vec<_>>());
    let size =
        |samples: &[Sample]| median(&samples.iter().map(|s| mean(&s.groups)).collect::<Vec<_>>());
    let (our_rate, base_rate) = (rate(&ours), rate(&base));
    let row = Row {
        what: format!("postgres: commits, {clients} writers, {}", settings.sync_label()),
        ours: per_second(our_rate),
        baseline: format!("{} plain groups", per_second(base_rate)),
        ratio: Some(our_rate / base_rate),
        asked: "≥ 0.50".into(),
        notes: format!(
            "mean group {:.0} (baseline {:.0}); {}; plain {}; PostgreSQL {}",
            size(&ours),
            size(&base),
            pooled(&mut ours).summary(),
            pooled(&mut base).summary(),
            postgres.version
        ),
    };
    row.publish(settings)
}

fn mean(groups: &[u64]) -> f64 {
    groups.iter().sum::<u64>() as f64 / groups.len().max(1) as f64
}

fn measure_ours(
    settings: &Settings,
    postgres: &Postgres,
    groups: &GroupSizes,
    clients: usize,
) -> Result<Sample> {
    let dir = settings.fresh_dir()?;
    let db = open_writer(&postgres.database()?, dir.path())?;
    groups.forget();
    let writers = (0..clients).map(|client| Writer::new(&db, client as i64)).collect();
    let mut sample = drive_clients(writers, settings.duration(), Drive::Tasks)?;
    sample.groups = groups.take();
    db.close();
    Ok(sample)
}

/// Which way many rows go in: without anything of ours.
fn bulk(settings: &Settings, rows: usize) -> Result<()> {
    let postgres = Postgres::start(settings)?;
    let (mut arrays, mut copy) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        for (by_copy, rates) in [(false, &mut arrays), (true, &mut copy)] {
            let url = postgres.database()?;
            postgres.create(&url)?;
            rates.push(grouped::bulk(&url, rows as i64, by_copy)?);
        }
    }
    let (arrays, copy) = (median(&arrays), median(&copy));
    let row = Row {
        what: format!("postgres: {} rows into a table, arrays of 10,000 rows", count(rows as f64)),
        ours: format!("{} rows", per_second(arrays)),
        baseline: format!("{} rows COPY (binary)", per_second(copy)),
        ratio: Some(arrays / copy),
        asked: "report".into(),
        notes: "both plain tokio-postgres, in one transaction".into(),
    };
    row.publish(settings)
}

/// Never within a measurement.
pub const NEVER: Duration = Duration::from_secs(3600);
