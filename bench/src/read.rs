//! Point reads through the library, on the caller's thread, beside a prepared statement.

use std::time::Instant;

use syncline::change::{Value, ValueRef};

use crate::table::{Row, median, per_second};
use crate::{Result, Settings, plain, workload};

const ROWS: i64 = 100_000;
const READS: i64 = 500_000;
const SELECT: &str = "SELECT client, body FROM bench WHERE id = ?";

/// The `read` command.
pub fn run(settings: &Settings) -> Result<()> {
    let dir = settings.fresh_dir()?;
    let series = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
         INSERT INTO bench SELECT i, i % 256, '{}' FROM n",
        workload::BODY
    );
    let db = workload::open_writer(dir.path())?;
    workload::execute(&db, &series)?;
    let plain = plain::open(&dir.path().join("plain.db"))?;
    plain.execute(&series, [])?;
    let (mut ours, mut base) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        ours.push(through_library(&db)?);
        base.push(prepared(&plain)?);
    }
    db.close();
    let (ours, base) = (median(&ours), median(&base));
    let row = Row {
        what: "read: point read through the library".into(),
        ours: per_second(ours),
        baseline: format!("{} prepared rusqlite", per_second(base)),
        ratio: Some(ours / base),
        asked: "≥ 0.67 (at most 1.5 times the time)".into(),
        notes: format!("{:.2} µs against {:.2} µs", 1e6 / ours, 1e6 / base),
    };
    row.publish(settings)
}

/// Some id; every one comes as often.
fn id(read: i64) -> i64 {
    read * 104_729 % ROWS + 1
}

fn through_library(db: &syncline::engine::Database) -> Result<f64> {
    let mut reader = db.reader()?;
    let started = Instant::now();
    let mut bytes = 0;
    for read in 0..READS {
        let found = reader.query_row(SELECT, &[Value::Integer(id(read))], |row| {
            let _client = row.get(0)?;
            match row.get(1)? {
                ValueRef::Text(body) => Ok(body.len()),
                other => unreachable!("the column is a text, not {other:?}"),
            }
        })?;
        bytes += found.ok_or("a row is missing")?;
    }
    all_read(bytes, started)
}

fn prepared(db: &rusqlite::Connection) -> Result<f64> {
    let mut select = db.prepare(SELECT)?;
    let started = Instant::now();
    let mut bytes = 0;
    for read in 0..READS {
        bytes += select.query_row([id(read)], |row| {
            let _client: i64 = row.get(0)?;
            Ok(row.get_ref(1)?.as_str()?.len())
        })?;
    }
    all_read(bytes, started)
}

fn all_read(bytes: usize, started: Instant) -> Result<f64> {
    assert_eq!(bytes, workload::BODY.len() * READS as usize, "every row is read, and whole");
    Ok(READS as f64 / started.elapsed().as_secs_f64())
}
