//! How soon a write shows: from the writer's answer to the first SQL query of a reader that sees
//! the row.
//!
//! A row that a reader sees before its writer has its answer counts as 0 ms.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncline::engine::Database;

use crate::paced::{self, Answer};
use crate::reader::{self, Copy, Follower, Sight};
use crate::served::Served;
use crate::table::{Latencies, Row, median, per_second};
use crate::{Result, Settings};

/// Where the reader runs.
#[derive(Clone, std::marker::Copy, PartialEq)]
enum Place {
    Process,
    Beside,
}

/// The `visible` command.
pub fn run(settings: &Settings) -> Result<()> {
    for place in [Place::Process, Place::Beside] {
        for rate in [2_000.0, 10_000.0] {
            at_rate(settings, rate, place)?;
        }
    }
    Ok(())
}

fn at_rate(settings: &Settings, rate: f64, place: Place) -> Result<()> {
    let (mut p50, mut p99, mut max, mut rates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        let dir = settings.fresh_dir()?;
        let writer = Served::start(dir.path())?;
        let (answers, sights) = match place {
            Place::Process => other_process(settings, &writer.db, dir.path(), rate)?,
            Place::Beside => same_process(settings, &writer.db, dir.path(), rate)?,
        };
        writer.close()?;
        let mut delays = delays(&answers, &sights)?;
        rates.push(answers.len() as f64 / settings.seconds);
        p50.push(delays.quantile(0.5));
        p99.push(delays.quantile(0.99));
        max.push(delays.quantile(1.0));
    }
    let place = if place == Place::Process { "own process" } else { "same process" };
    let row = Row {
        what: format!(
            "visible: reader (memory, {place}), {} writes, {}",
            per_second(rate),
            settings.sync_label()
        ),
        ours: format!("p50 {:.2} p99 {:.2} max {:.1} ms", median(&p50), median(&p99), median(&max)),
        asked: "p50 < 1 ms, p99 < 4 ms (native)".into(),
        notes: format!("{} reached", per_second(median(&rates))),
        ..Row::default()
    };
    row.publish(settings)
}

type Seen = (Vec<Answer>, Vec<Sight>);

fn other_process(settings: &Settings, db: &Database, dir: &Path, rate: f64) -> Result<Seen> {
    let backing = dir.join("main.db");
    let mut follower = Follower::start(settings, &backing, &dir.join("r"), Copy::Memory, true)?;
    let answers = paced::write(db, rate, settings.duration())?;
    follower.aim(answers.iter().map(|a| a.id).max().unwrap_or(0))?;
    follower.reached()?;
    Ok((answers, follower.finish()?.0))
}

fn same_process(settings: &Settings, db: &Database, dir: &Path, rate: f64) -> Result<Seen> {
    let reader = reader::open(&dir.join("main.db"), &dir.join("r"), Copy::Memory)?;
    let sights = Arc::new(Mutex::new(Vec::new()));
    let noting = sights.clone();
    reader::observe(&reader, true, move |sight| {
        noting.lock().expect("no one panics with it").push(sight);
    });
    let answers = paced::write(db, rate, settings.duration())?;
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
