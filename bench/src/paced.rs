//! Writes at a steady rate.

use std::time::{Duration, Instant};

use syncline::engine::Database;

use crate::Result;
use crate::reader::now_nanos;
use crate::workload::Writer;

/// One write's answer: when it came, and the row's id.
pub struct Answer {
    /// The monotonic clock's reading.
    pub nanos: u64,
    /// The row.
    pub id: u64,
}

const CLIENTS: usize = 256;

/// Writes `rate` rows a second, spread evenly over clients of which none waits for another.
pub fn write(db: &Database, rate: f64, duration: Duration) -> Result<Vec<Answer>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let started = Instant::now() + Duration::from_millis(20);
        let every = Duration::from_secs_f64(CLIENTS as f64 / rate);
        let mut tasks = tokio::task::JoinSet::new();
        for client in 0..CLIENTS {
            let offset = every.mul_f64(client as f64 / CLIENTS as f64);
            let writer = Writer::new(db, client as i64);
            tasks.spawn(client_writes(writer, started + offset, every, started + duration));
        }
        let mut answers = Vec::new();
        while let Some(done) = tasks.join_next().await {
            answers.extend(done??);
        }
        Ok(answers)
    })
}

/// A late answer does not move the next write: a slow database shows, instead of slowing its load.
async fn client_writes(
    mut writer: Writer,
    mut due: Instant,
    every: Duration,
    until: Instant,
) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    while due < until {
        tokio::time::sleep_until(due.into()).await;
        let id = writer.insert().await? as u64;
        answers.push(Answer { nanos: now_nanos(), id });
        due += every;
    }
    Ok(answers)
}
