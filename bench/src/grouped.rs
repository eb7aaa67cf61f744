//! Plain tokio-postgres, committing the same rows in groups of a given size, without fence, log or digest.
//!
//! The best plain way was looked for: a group is one INSERT over arrays, and BEGIN, INSERT and COMMIT are sent
//! one behind the other without waiting; a row alone is one prepared INSERT that commits by itself.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Statement};

use crate::engine::{Insert, Sample};
use crate::table::Latencies;
use crate::{Result, workload};

const ONE: &str = "INSERT INTO bench (id, client, body) VALUES ($1, $2, $3)";
const MANY: &str = "INSERT INTO bench (id, client, body) \
                    SELECT * FROM unnest($1::int8[], $2::int8[], $3::text[])";

/// Connects; the connection is driven by a task of the runtime.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// One insert that waits for its answer.
struct Job {
    client: i64,
    body: String,
    answer: oneshot::Sender<i64>,
}

/// A client of the committer.
struct Inserter {
    jobs: mpsc::Sender<Job>,
    client: i64,
}

impl Insert for Inserter {
    async fn insert(&mut self) -> Result<i64> {
        let (answer, answered) = oneshot::channel();
        let job = Job { client: self.client, body: workload::BODY.into(), answer };
        self.jobs.send(job).await.map_err(|_| "the committer stopped")?;
        Ok(answered.await?)
    }
}

/// Commits groups of rows.
struct Committer {
    client: Client,
    one: Statement,
    many: Statement,
    last: i64,
}

impl Committer {
    async fn open(url: &str) -> Result<Committer> {
        let client = connect(url).await?;
        let (one, many) = (client.prepare(ONE).await?, client.prepare(MANY).await?);
        Ok(Committer { client, one, many, last: 0 })
    }

    /// Commits whatever comes, `size` rows at a time, until nobody can bring more.
    async fn run(mut self, mut queue: mpsc::Receiver<Job>, size: usize) -> Result<()> {
        let mut group = Vec::with_capacity(size);
        while let Some(job) = queue.recv().await {
            group.push(job);
            if group.len() == size {
                self.commit(&group).await?;
                let first = self.last + 1 - size as i64;
                for (i, job) in group.drain(..).enumerate() {
                    let _ = job.answer.send(first + i as i64);
                }
            }
        }
        Ok(())
    }

    async fn commit(&mut self, group: &[Job]) -> Result<()> {
        let first = self.last + 1;
        self.last += group.len() as i64;
        if let [job] = group {
            self.client.execute(&self.one, &[&first, &job.client, &job.body]).await?;
            return Ok(());
        }
        let ids: Vec<i64> = (first..=self.last).collect();
        let clients: Vec<i64> = group.iter().map(|job| job.client).collect();
        let bodies: Vec<&str> = group.iter().map(|job| job.body.as_str()).collect();
        let columns: [&(dyn ToSql + Sync); 3] = [&ids, &clients, &bodies];
        tokio::try_join!(
            self.client.batch_execute("BEGIN"),
            self.client.execute(&self.many, &columns),
            self.client.batch_execute("COMMIT"),
        )?;
        Ok(())
    }
}

/// `clients` insert for `duration`, in groups of `size` (at most as many as there are clients).
pub fn measure(url: &str, clients: usize, size: usize, duration: Duration) -> Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let committer = Committer::open(url).await?;
        let (jobs, queue) = mpsc::channel(10_000);
        let committing = tokio::spawn(committer.run(queue, size.clamp(1, clients)));
        let started = tokio::time::Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for client in 0..clients {
            let mut inserter = Inserter { jobs: jobs.clone(), client: client as i64 };
            tasks.spawn(async move {
                let mut latencies = Latencies::default();
                // The last group is never full: whoever waits for it is stopped with the runtime.
                while let Ok(answer) =
                    tokio::time::timeout_at(started + duration, timed(&mut inserter)).await
                {
                    latencies.record(answer?);
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(latencies)
            });
        }
        drop(jobs);
        let mut latencies = Latencies::default();
        while let Some(done) = tasks.join_next().await {
            latencies.merge(&done??);
        }
        let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
        committing.await??;
        Ok(Sample { rate, latencies, groups: vec![size as u64] })
    })
}

async fn timed(inserter: &mut Inserter) -> Result<Duration> {
    let begun = std::time::Instant::now();
    inserter.insert().await?;
    Ok(begun.elapsed())
}

/// How many rows are sent at once, as the store sends them.
const RUN: i64 = 10_000;
const COPY: &str = "COPY bench (id, client, body) FROM STDIN (FORMAT binary)";

/// Rows a second in one transaction: by INSERTs over arrays, one behind the other, or by COPY.
pub fn bulk(url: &str, rows: i64, by_copy: bool) -> Result<f64> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let client = connect(url).await?;
        let started = std::time::Instant::now();
        client.batch_execute("BEGIN").await?;
        match by_copy {
            true => copy_in(&client, rows).await?,
            false => insert_arrays(&client, rows).await?,
        }
        client.batch_execute("COMMIT").await?;
        Ok(rows as f64 / started.elapsed().as_secs_f64())
    })
}

async fn copy_in(client: &Client, rows: i64) -> Result<()> {
    let types = [Type::INT8, Type::INT8, Type::TEXT];
    let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(COPY).await?, &types));
    for id in 1..=rows {
        writer.as_mut().write(&[&id, &(id % 256), &workload::BODY]).await?;
    }
    writer.finish().await?;
    Ok(())
}

async fn insert_arrays(client: &Client, rows: i64) -> Result<()> {
    let many = client.prepare(MANY).await?;
    let mut under_way = futures_util::stream::FuturesOrdered::new();
    for first in (1..=rows).step_by(RUN as usize) {
        let ids: Vec<i64> = (first..=rows.min(first + RUN - 1)).collect();
        let clients: Vec<i64> = ids.iter().map(|id| id % 256).collect();
        let bodies = vec![workload::BODY; ids.len()];
        let many = &many;
        under_way.push_back(async move {
            let columns: [&(dyn ToSql + Sync); 3] = [&ids, &clients, &bodies];
            client.execute(many, &columns).await
        });
        if under_way.len() > 4 {
            under_way.next().await.expect("there are some")?;
        }
    }
    while let Some(answer) = under_way.next().await {
        answer?;
    }
    Ok(())
}
