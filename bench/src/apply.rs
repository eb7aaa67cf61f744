//! How fast a reader works off a backlog, of one-row commits and of commits of a thousand rows.
//!
//! A reader in memory is stopped (by a signal, so that it keeps its copy) while the backlog is
//! written, and then continued: it replays. One on disk is closed and opened again. The baselines
//! are plain SQLite inserting the same rows in transactions of 1,000, in memory (where nobody could read
//! beside it: there is no write-ahead log) and in a file.
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
    /// Rows of the backlog.
    #[arg(long, default_value_t = 500_000)]
    rows: usize,
    /// Rows of each commit.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1000])]
    per_commit: Vec<usize>,
}

/// What the reader has to work off.
#[derive(Clone, Copy)]
struct Backlog {
    rows: usize,
    per_commit: usize,
}

impl Backlog {
    fn write(self, db: &Database) -> Result<()> {
        match self.per_commit {
            1 => workload::fill(db, self.rows),
            size => workload::fill_by(db, self.rows, size),
        }
    }
}

/// The `apply` command.
pub fn run(settings: &Settings, args: &Args) -> Result<()> {
    for copy in [Copy::Memory, Copy::Disk] {
        // What lies in memory syncs nothing: once is enough.
        if copy == Copy::Disk || settings.delay_us == 0 {
            for &per_commit in &args.per_commit {
                backlog(settings, Backlog { rows: args.rows, per_commit }, copy)?;
            }
        }
    }
    Ok(())
}

fn backlog(settings: &Settings, backlog: Backlog, copy: Copy) -> Result<()> {
    let (mut ours, mut base, mut file) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        ours.push(replay(settings, backlog, copy)?);
        base.push(plain_inserts(settings, backlog.rows, copy)?);
        file.push(plain_inserts(settings, backlog.rows, Copy::Disk)?);
    }
    let (our_rate, base_rate, file_rate) = (median(&ours), median(&base), median(&file));
    let (rows, size) = (crate::table::count(backlog.rows as f64), backlog.per_commit);
    let copy = copy.as_str();
    let row = Row {
        what: format!("apply: reader ({copy}), commits of {size}, {}", settings.sync_label()),
        ours: format!("{} rows", per_second(our_rate)),
        baseline: format!("{} plain rows in 1,000s ({copy})", per_second(base_rate)),
        ratio: Some(our_rate / base_rate),
        asked: if size == 1 { "≥ 124,000/s" } else { "≥ 0.60" }.into(),
        notes: format!("backlog of {rows} rows; {:.2} of plain in a file", our_rate / file_rate),
    };
    row.publish(settings)
}

/// Rows a second, from the moment the reader may begin.
fn replay(settings: &Settings, backlog: Backlog, copy: Copy) -> Result<f64> {
    let dir = settings.fresh_dir()?;
    let writer = Served::start(dir.path())?;
    let begun = match copy {
        Copy::Memory => stopped_and_continued(settings, &writer.db, dir.path(), backlog)?,
        Copy::Disk => closed_and_opened(settings, &writer.db, dir.path(), backlog)?,
    };
    writer.close()?;
    Ok(backlog.rows as f64 / begun.as_secs_f64())
}

fn stopped_and_continued(
    settings: &Settings,
    db: &Database,
    dir: &std::path::Path,
    backlog: Backlog,
) -> Result<Duration> {
    let backing = dir.join("main.db");
    let mut follower = Follower::start(settings, &backing, &dir.join("r"), Copy::Memory, &[])?;
    follower.aim(db.position().version.0)?;
    follower.reached()?;
    follower.process.signal(libc::SIGSTOP);
    backlog.write(db)?;
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
    backlog: Backlog,
) -> Result<Duration> {
    let backing = dir.join("main.db");
    let start = || Follower::start(settings, &backing, &dir.join("r"), Copy::Disk, &[]);
    let mut follower = start()?;
    follower.aim(db.position().version.0)?;
    follower.reached()?;
    follower.finish()?;
    backlog.write(db)?;
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
