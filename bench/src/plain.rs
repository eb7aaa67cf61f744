//! Plain SQLite, doing the same work without capture, log or digest; and, as a floor for anything that
//! keeps a log in the transaction of the rows, the same with a log of that size, and nothing else.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::{Connection, Statement, params};
use tokio::sync::oneshot;

use crate::Result;
use crate::workload::{CREATE, INSERT};

/// A connection that is as durable as `acknowledge = "disk"`, with the table.
pub fn open(path: &Path) -> Result<Connection> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute(CREATE, [])?;
    Ok(db)
}

/// What the engine's log has for each of these inserts, in bytes.
const LOGGED: usize = 215;

/// A log of nothing, and a position: what a commit that is logged has to write at least.
pub struct Log<'a> {
    append: Statement<'a>,
    stand: Statement<'a>,
    zeros: Vec<u8>,
}

impl<'a> Log<'a> {
    /// Makes its tables.
    pub fn open(db: &'a Connection) -> Result<Log<'a>> {
        db.execute_batch(
            "CREATE TABLE log (version INTEGER PRIMARY KEY, frames BLOB);
             CREATE TABLE position (id INTEGER PRIMARY KEY, version INTEGER, digest BLOB);
             INSERT INTO position VALUES (1, 0, zeroblob(100));",
        )?;
        Ok(Log {
            append: db.prepare("INSERT INTO log (frames) VALUES (?1)")?,
            stand: db.prepare("UPDATE position SET version = ?1")?,
            zeros: Vec::new(),
        })
    }

    /// Writes what so many commits would, in the open transaction.
    pub fn append(&mut self, commits: usize) -> Result<()> {
        self.zeros.resize(commits * LOGGED, 0);
        let version = self.append.insert([&self.zeros])?;
        self.stand.execute([version])?;
        Ok(())
    }
}

/// One insert that waits for its answer.
struct Job {
    client: i64,
    body: String,
    answer: oneshot::Sender<i64>,
}

/// A group committer with nothing but the group: a queue, one thread, one transaction for all
/// that wait, one sync, then the answers.
pub struct Committer {
    jobs: SyncSender<Job>,
    sizes: Arc<Mutex<Vec<u64>>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Committer {
    /// Starts the thread on a fresh database; `logged`: with a log.
    pub fn open(dir: &Path, logged: bool) -> Result<Self> {
        let db = open(&dir.join("plain.db"))?;
        let (jobs, queue) = sync_channel(10_000);
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let noted = sizes.clone();
        let thread = std::thread::spawn(move || commit_groups(&db, logged, &queue, &noted));
        Ok(Committer { jobs, sizes, thread: Some(thread) })
    }

    /// A client's end.
    pub fn client(&self, client: i64) -> Client {
        Client { jobs: self.jobs.clone(), client }
    }

    /// Stops once all clients are gone; the sizes of its groups.
    pub fn finish(mut self) -> Result<Vec<u64>> {
        drop(std::mem::replace(&mut self.jobs, sync_channel(0).0));
        let thread = self.thread.take().expect("only finish takes the thread");
        thread.join().map_err(|_| "the committer panicked")??;
        Ok(std::mem::take(&mut self.sizes.lock().expect("no one panics with it")))
    }
}

fn commit_groups(
    db: &Connection,
    logged: bool,
    queue: &Receiver<Job>,
    sizes: &Mutex<Vec<u64>>,
) -> Result<()> {
    let mut log = logged.then(|| Log::open(db)).transpose()?;
    let mut answers = Vec::new();
    let mut insert = db.prepare(INSERT)?;
    while let Ok(first) = queue.recv() {
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut next = Some(first);
        while let Some(job) = next {
            insert.execute(params![job.client, job.body])?;
            answers.push((job.answer, db.last_insert_rowid()));
            next = queue.try_recv().ok();
        }
        if let Some(log) = &mut log {
            log.append(answers.len())?;
        }
        db.prepare_cached("COMMIT")?.execute([])?;
        sizes.lock().expect("no one panics with it").push(answers.len() as u64);
        for (answer, id) in answers.drain(..) {
            let _ = answer.send(id);
        }
    }
    Ok(())
}

/// A client of the committer.
pub struct Client {
    jobs: SyncSender<Job>,
    client: i64,
}

impl Client {
    /// Inserts one row durably; its id.
    pub async fn insert(&mut self) -> Result<i64> {
        let (answer, answered) = oneshot::channel();
        let job = Job { client: self.client, body: crate::workload::BODY.into(), answer };
        self.jobs.send(job).map_err(|_| "the committer stopped")?;
        Ok(answered.await?)
    }
}
