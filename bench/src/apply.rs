//! How fast a reader works off a backlog of one-row commits.
//!
//! A reader in memory is stopped (by a signal, so that it keeps its copy) while the backlog is
//! written, and then continued: it replays. One on disk is closed and opened again. The baselines
//! are plain SQLite inserting the same rows in transactions of 1,000, in memory and in a file.
//! The reader ends at the writer's position with its digest, or there is no figure.

use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use syncline::engine::Database;

use crate::reader::{Copy, Follower, now_nanos, position_text};
use crate::served::Served;
use crate::table::{Row, median, per_second};
use crate::{Result, Settings, plain, workload};

/// How much.
#[derive(clap::Args)]
pub struct Args {
    /// Commits of the backlog.
    #[arg(long, default_value_t = 500_000)]
    commits: usize,
}

/// The `apply` command.
pub fn run(settings: &Settings, args: &Args) -> Result<()> {
    for copy in [Copy::Memory, Copy::Disk] {
        // What lies in memory syncs nothing: once is enough.
        if copy == Copy::Disk || settings.delay_us == 0 {
            backlog(settings, args.commits, copy)?;
        }
    }
    Ok(())
}

fn backlog(settings: &Settings, commits: usize, copy: Copy) -> Result<()> {
    let (mut ours, mut base) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        ours.push(replay(settings, commits, copy)?);
        base.push(plain_inserts(settings, commits, copy)?);
    }
    let (our_rate, base_rate) = (median(&ours), median(&base));
    let row = Row {
        what: format!("apply: reader ({}), {}", copy.as_str(), settings.sync_label()),
        ours: format!("{} commits", per_second(our_rate)),
        baseline: format!("{} plain rows in 1,000s ({})", per_second(base_rate), copy.as_str()),
        ratio: Some(our_rate / base_rate),
        asked: "≥ 0.60, ≥ 124,000/s".into(),
        notes: format!("backlog of {} one-row commits", crate::table::count(commits as f64)),
    };
    row.publish(settings)
}

/// Commits a second, from the moment the reader may begin.
fn replay(settings: &Settings, commits: usize, copy: Copy) -> Result<f64> {
    let dir = settings.fresh_dir()?;
    let writer = Served::start(dir.path())?;
    let begun = match copy {
        Copy::Memory => stopped_and_continued(settings, &writer.db, dir.path(), commits)?,
        Copy::Disk => closed_and_opened(settings, &writer.db, dir.path(), commits)?,
    };
    writer.close()?;
    Ok(commits as f64 / begun.as_secs_f64())
}

fn stopped_and_continued(
    settings: &Settings,
    db: &Database,
    dir: &std::path::Path,
    commits: usize,
) -> Result<Duration> {
    let backing = dir.join("main.db");
    let mut follower = Follower::start(settings, &backing, &dir.join("r"), Copy::Memory, false)?;
    follower.aim(db.position().version.0)?;
    follower.reached()?;
    follower.process.signal(libc::SIGSTOP);
    workload::fill(db, commits)?;
    follower.aim(db.position().version.0)?;
    let begun = now_nanos();
    follower.process.signal(libc::SIGCONT);
    let took = Duration::from_nanos(follower.reached()?.saturating_sub(begun));
    proved_equal(db, follower)?;
    Ok(took)
}

fn closed_and_opened(
    settings: &Settings,
    db: &Database,
    dir: &std::path::Path,
    commits: usize,
) -> Result<Duration> {
    let backing = dir.join("main.db");
    let start = || Follower::start(settings, &backing, &dir.join("r"), Copy::Disk, false);
    let mut follower = start()?;
    follower.aim(db.position().version.0)?;
    follower.reached()?;
    follower.finish()?;
    workload::fill(db, commits)?;
    let begun = now_nanos();
    let mut follower = start()?;
    follower.aim(db.position().version.0)?;
    let took = Duration::from_nanos(follower.reached()?.saturating_sub(begun));
    proved_equal(db, follower)?;
    Ok(took)
}

fn proved_equal(db: &Database, follower: Follower) -> Result<()> {
    let (_, theirs) = follower.finish()?;
    let ours = position_text(db);
    match ours == theirs {
        true => Ok(()),
        false => Err(format!("the reader ended at {theirs}, the writer at {ours}").into()),
    }
}

/// Rows a second of plain SQLite in transactions of 1,000.
fn plain_inserts(settings: &Settings, rows: usize, copy: Copy) -> Result<f64> {
    let dir = settings.fresh_dir()?;
    let db = match copy {
        Copy::Memory => {
            let db = Connection::open_in_memory()?;
            db.execute(workload::CREATE, [])?;
            db
        }
        Copy::Disk => plain::open(&dir.path().join("plain.db"))?,
    };
    let mut insert = db.prepare(workload::INSERT)?;
    let started = Instant::now();
    for row in 0..rows {
        if row % 1000 == 0 {
            db.execute_batch("BEGIN")?;
        }
        insert.execute(params![(row % 256) as i64, workload::BODY])?;
        if row % 1000 == 999 || row + 1 == rows {
            db.execute_batch("COMMIT")?;
        }
    }
    Ok(rows as f64 / started.elapsed().as_secs_f64())
}
