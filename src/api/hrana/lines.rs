//! The lines of a cursor's answer, and the sink that sends them while their statement runs.
//!
//! Rows are written where the statement runs and leave in pieces: as soon as there is a good one, or
//! some time has passed since the last. [`PIECES`] of them may be on their way; with the one in the
//! making that is all the memory that a result takes, however long it is.
//!
//! # What is left out
//!
//! No clock runs between two rows: what a step gave waits for its next row, or its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::json::Json;
use super::pipeline::too_large;
use crate::api::body::counted;
use crate::engine::{ResultColumn, Row, Sink, StatementResult, StepOutcome};
use crate::error::{Error, Kind, Result};

/// Pieces that may be on their way to a client.
const PIECES: usize = 2;
/// About what one of them holds.
const PIECE: usize = 32 << 10;
/// After so long a smaller one leaves.
const SOON: Duration = Duration::from_millis(20);

/// The lines of a cursor's answer.
#[derive(Default)]
pub(super) struct Lines {
    /// What is written so far.
    pub json: Json,
    /// The step whose rows come now.
    begun: Option<usize>,
}

impl Lines {
    /// The first line.
    pub fn head(&mut self, baton: Option<&str>, base_url: Option<&str>) {
        self.json.raw(r#"{"baton":"#).optional(baton);
        self.json.raw(r#","base_url":"#).optional(base_url).raw("}\n");
    }

    /// The last one; before it what failed, if all of it did.
    pub fn tail(&mut self, error: Option<&Error>) {
        if let Some(error) = error {
            self.json.raw(r#"{"type":"error","error":"#).error(error).raw("}\n");
        }
        self.json.raw("{\"type\":\"replication_index\",\"replication_index\":null}\n");
    }

    fn begin(&mut self, step: usize, columns: &[ResultColumn]) {
        self.begun = Some(step);
        self.json.raw(r#"{"type":"step_begin","step":"#).put(&step);
        self.json.raw(r#","cols":"#).columns(columns).raw("}\n");
    }

    fn row(&mut self, step: usize, row: &Row<'_>) -> Result<()> {
        if self.begun != Some(step) {
            self.begin(step, &row.headings());
        }
        self.json.raw(r#"{"type":"row","row":["#);
        for column in 0..row.columns() {
            self.json.comma().value(row.get(column)?);
        }
        self.json.raw("]}\n");
        Ok(())
    }

    /// How a step ended; before it all of the step that is not there yet. A skipped one has no line.
    pub fn end(&mut self, step: usize, outcome: &StepOutcome) {
        match outcome {
            StepOutcome::Done(result) => self.done(step, result),
            StepOutcome::Failed(error) => {
                self.json.raw(r#"{"type":"step_error","step":"#).put(&step);
                self.json.raw(r#","error":"#).error(error).raw("}\n");
            }
            StepOutcome::Skipped => {}
        }
    }

    fn done(&mut self, step: usize, result: &StatementResult) {
        if self.begun != Some(step) {
            self.begin(step, &result.columns);
        }
        for row in &result.rows {
            if self.json.is_full() {
                break;
            }
            self.json.raw(r#"{"type":"row","row":"#).row(row).raw("}\n");
        }
        self.json.raw(r#"{"type":"step_end""#).written(result).raw("}\n");
    }
}

/// Sends lines to where an answer's body takes them.
pub(super) struct Pipe {
    lines: Lines,
    pieces: mpsc::Sender<Bytes>,
    buffers: Arc<Semaphore>,
    runtime: Handle,
    /// When the last piece left.
    left: Instant,
    steps: usize,
    /// Bytes that one row may take.
    limit: usize,
}

impl Pipe {
    /// For the results of so many `steps`; where their pieces come out. Large ones count against the
    /// node's `buffers`.
    pub fn new(
        steps: usize,
        limit: usize,
        buffers: Arc<Semaphore>,
    ) -> (Pipe, mpsc::Receiver<Bytes>) {
        let (pieces, taken) = mpsc::channel(PIECES);
        let (runtime, left) = (Handle::current(), Instant::now());
        let lines = Lines::default();
        (Pipe { lines, pieces, buffers, runtime, left, steps, limit }, taken)
    }

    /// Sends what is written; false if there is no room.
    fn send(&mut self) -> Result<bool> {
        match self.pieces.clone().try_reserve_owned() {
            Ok(permit) => self.piece().map(|piece| permit.send(piece)).map(|_| true),
            Err(mpsc::error::TrySendError::Full(_)) => Ok(false),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(client_gone()),
        }
    }

    fn piece(&mut self) -> Result<Bytes> {
        self.left = Instant::now();
        let written = std::mem::replace(&mut self.lines.json.bytes, Vec::with_capacity(PIECE));
        counted(&self.buffers, written, false)
    }
}

impl Sink for Pipe {
    fn row(&mut self, step: usize, row: &Row<'_>) -> Result<bool> {
        let mark = self.lines.json.bytes.len();
        self.lines.row(step, row)?;
        let written = self.lines.json.bytes.len();
        if written - mark > self.limit {
            self.lines.json.bytes.truncate(mark);
            return Err(too_large(self.limit));
        }
        let due = written >= PIECE || self.left.elapsed() >= SOON;
        Ok(due && !self.send()?)
    }

    fn end(&mut self, step: usize, outcome: &StepOutcome) -> Result<bool> {
        if self.pieces.is_closed() {
            return Err(client_gone());
        }
        self.lines.end(step, outcome);
        let due = self.lines.json.bytes.len() >= PIECE || step + 1 == self.steps;
        Ok(due && !self.send()?)
    }

    fn wait(&mut self, at_most: Duration) -> Result<bool> {
        let room = self.pieces.clone().reserve_owned();
        match self.runtime.block_on(async { tokio::time::timeout(at_most, room).await }) {
            Ok(Ok(permit)) => self.piece().map(|piece| permit.send(piece)).map(|_| true),
            Ok(Err(_)) => Err(client_gone()),
            Err(_) => Ok(false),
        }
    }
}

/// Nobody reads this one.
fn client_gone() -> Error {
    Error::new(Kind::Invalid, "CLIENT_GONE", "the client closed the stream")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Database, DatabaseOptions, Outcome, Program, RequestOptions, Statement};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A pipe that tells how much went into it.
    struct Counting(Pipe, Arc<AtomicUsize>);

    impl Sink for Counting {
        fn row(&mut self, step: usize, row: &Row<'_>) -> Result<bool> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.row(step, row)
        }
        fn end(&mut self, step: usize, outcome: &StepOutcome) -> Result<bool> {
            self.0.end(step, outcome)
        }
        fn wait(&mut self, at_most: Duration) -> Result<bool> {
            self.0.wait(at_most)
        }
    }

    async fn run(database: Database, sql: String, sink: Counting) -> Result<Outcome> {
        let program = Program::single(Statement::new(&*sql, []));
        let options = RequestOptions::default();
        database.session().run_into(program, &options, Some(Box::new(sink))).await
    }

    /// Waits until no more rows are made; how many there are.
    async fn stands_still(rows: &AtomicUsize) -> usize {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(150)).await;
            match rows.load(Ordering::Relaxed) {
                now if now == before && now > 0 => return now,
                now => before = now,
            }
        }
    }

    const ENDLESS: &str = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n)
        SELECT hex(zeroblob(500)) FROM n";
    /// Bytes of one of its rows, about.
    const ROW: usize = 1040;

    #[tokio::test]
    async fn a_statement_runs_no_further_than_its_client_reads() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(DatabaseOptions::writer(dir.path().join("a.db"))).unwrap();
        let (pipe, mut pieces) = Pipe::new(1, 1 << 20, Arc::new(Semaphore::new(0)));
        let rows = Arc::new(AtomicUsize::new(0));
        let sink = Counting(pipe, rows.clone());
        let running = tokio::spawn(run(database.clone(), ENDLESS.to_owned(), sink));

        let ahead = PIECES + 1;
        let most = |pieces: usize| pieces * (PIECE / ROW + 1);
        let begun = stands_still(&rows).await;
        assert!(begun <= most(ahead), "{begun} rows were made before any was taken");
        for taken in 1..=5 {
            let piece = pieces.recv().await.unwrap();
            assert!(piece.len() <= PIECE + ROW, "{}", piece.len());
            let made = stands_still(&rows).await;
            assert!(made <= most(ahead + taken), "{made} rows were made after {taken} pieces");
        }
        drop(pieces);
        let ended = running.await.unwrap().unwrap_err();
        assert_eq!(ended.code(), "CLIENT_GONE");
        let made = rows.load(Ordering::Relaxed);
        assert!(made <= most(ahead + 5) + 1, "{made} rows: it went on without a client");
        tokio::task::spawn_blocking(move || database.close()).await.unwrap();
    }
}
