//! How soon a write shows: from the writer's answer to the first SQL query of a reader that sees
//! the row.
//!
//! A row that a reader sees before its writer has its answer counts as 0 ms.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncline::engine::Database;

use crate::backed;
use crate::paced::{self, Answer};
use crate::postgres::Postgres;
use crate::reader::{self, Copy, Follower, Sight};
use crate::served::Served;
use crate::table::{Latencies, Row, median, per_second};
use crate::{Result, Settings};

/// What the writer writes to.
enum Writing {
    /// A file; readers hear of commits over HTTP.
    File(Served, PathBuf),
    /// PostgreSQL; readers hear of commits by NOTIFY.
    Postgres(Database, String),
}

impl Writing {
    fn db(&self) -> &Database {
        match self {
            Writing::File(served, _) => &served.db,
            Writing::Postgres(db, _) => db,
        }
    }

    fn backing(&self) -> &OsStr {
        match self {
            Writing::File(_, path) => path.as_os_str(),
            Writing::Postgres(_, url) => url.as_ref(),
        }
    }

    fn close(self) -> Result<()> {
        match self {
            Writing::File(served, _) => served.close(),
            Writing::Postgres(db, _) => {
                db.close();
                Ok(())
            }
        }
    }
}

/// Where the reader runs.
#[derive(Clone, std::marker::Copy, PartialEq)]
enum Place {
    Process,
    Beside,
}

impl Place {
    fn as_str(self) -> &'static str {
        match self {
            Place::Process => "own process",
            Place::Beside => "same process",
        }
    }
}

/// The `visible` command.
pub fn run(settings: &Settings) -> Result<()> {
    for place in [Place::Process, Place::Beside] {
        for rate in [2_000.0, 10_000.0] {
            let what = format!("visible: reader (memory, {})", place.as_str());
            let asked = "p50 < 1 ms, p99 < 4 ms (native)";
            at_rate(settings, rate, place, (what, asked), &|dir| {
                Ok(Writing::File(Served::start(dir)?, dir.join("main.db")))
            })?;
        }
    }
    Ok(())
}

/// The same over PostgreSQL, where a reader is told by NOTIFY.
pub fn over_postgres(settings: &Settings) -> Result<()> {
    let postgres = Postgres::start(settings)?;
    for place in [Place::Process, Place::Beside] {
        let what = format!("postgres: visible by NOTIFY at a reader (memory, {})", place.as_str());
        at_rate(settings, 1_000.0, place, (what, "report"), &|dir| {
            let url = postgres.database()?;
            Ok(Writing::Postgres(backed::open_writer(&url, &dir.join("w"))?, url))
        })?;
    }
    Ok(())
}

fn at_rate(
    settings: &Settings,
    rate: f64,
    place: Place,
    (what, asked): (String, &str),
    open: &dyn Fn(&Path) -> Result<Writing>,
) -> Result<()> {
    let (mut p50, mut p99, mut max, mut rates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        let dir = settings.fresh_dir()?;
        let writer = open(dir.path())?;
        let (answers, sights) = match place {
            Place::Process => other_process(settings, &writer, dir.path(), rate)?,
            Place::Beside => same_process(settings, &writer, dir.path(), rate)?,
        };
        writer.close()?;
        let mut delays = delays(&answers, &sights)?;
        rates.push(answers.len() as f64 / settings.seconds);
        p50.push(delays.quantile(0.5));
        p99.push(delays.quantile(0.99));
        max.push(delays.quantile(1.0));
    }
    let row = Row {
        what: format!("{what}, {} writes, {}", per_second(rate), settings.sync_label()),
        ours: format!("p50 {:.2} p99 {:.2} max {:.1} ms", median(&p50), median(&p99), median(&max)),
        asked: asked.into(),
        notes: format!("{} reached", per_second(median(&rates))),
        ..Row::default()
    };
    row.publish(settings)
}

type Seen = (Vec<Answer>, Vec<Sight>);

fn other_process(settings: &Settings, writer: &Writing, dir: &Path, rate: f64) -> Result<Seen> {
    let own = dir.join("r");
    let mut follower = Follower::start(settings, writer.backing(), &own, Copy::Memory, &["--sql"])?;
    let answers = paced::write(writer.db(), rate, settings.duration())?;
    follower.aim(answers.iter().map(|a| a.id).max().unwrap_or(0))?;
    follower.reached()?;
    Ok((answers, follower.finish()?.0))
}

fn same_process(settings: &Settings, writer: &Writing, dir: &Path, rate: f64) -> Result<Seen> {
    let reader = reader::open(writer.backing(), &dir.join("r"), Copy::Memory)?;
    let sights = Arc::new(Mutex::new(Vec::new()));
    let noting = sights.clone();
    reader::observe(&reader, true, move |sight| {
        noting.lock().expect("no one panics with it").push(sight);
    });
    let answers = paced::write(writer.db(), rate, settings.duration())?;
    let last = answers.iter().map(|a| a.id).max().unwrap_or(0);
    reader::wait_until(&sights, last, Duration::from_secs(10))?;
    reader.close();
    let sights = std::mem::take(&mut *sights.lock().expect("no one panics with it"));
    Ok((answers, sights))
}

fn delays(answers: &[Answer], sights: &[Sight]) -> Result<Latencies> {
    let mut delays = Latencies::default();
    for answer in answers {
        let at = sights.partition_point(|sight| sight.seen < answer.id);
        let sight = sights.get(at).ok_or_else(|| format!("row {} never showed", answer.id))?;
        delays.record_nanos(sight.nanos.saturating_sub(answer.nanos));
    }
    Ok(delays)
}
