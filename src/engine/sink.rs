//! Rows that leave while their statement still runs.
//!
//! ```text
//!   statement ── row, end ──▶ Outlet ──▶ Sink ══ bounded ══▶ whoever takes them
//!                               ▲          │
//!                               ╰── wait ◀─╯ full: the thread steps aside, the clock stands still
//! ```
//!
//! The sink says when it is full, and waits; what waiting means for threads, limits and shutdown is
//! decided here. A statement runs as long as `limits.statement` says, not counting these waits, and each
//! of them lasts as long as a transaction may be idle: after that the read ends, and with it its
//! snapshot.
//!
//! # What is left out
//!
//! A client that goes away while a statement computes and gives no rows is noticed with the next row, or
//! when the statement's time is over. One that takes a little now and then keeps its snapshot for as long
//! as it likes, as one does that keeps a transaction busy: only how many there are is limited.

use std::time::{Duration, Instant};

use super::program::StepOutcome;
use super::readers::{Aside, Readers, closing};
use crate::error::{Error, Result};
use crate::store::sqlite::Row;

/// How soon a wait notices that the database is being closed.
const LOOK: Duration = Duration::from_millis(200);

/// Takes what the steps of a program give, while it runs. It is called on a thread that may block.
pub trait Sink: Send {
    /// Takes a row of a step. True if it is full: then it is waited with.
    fn row(&mut self, step: usize, row: &Row<'_>) -> Result<bool>;

    /// A step is over, or skipped; rows that were not handed over are in its result. True if it is full.
    fn end(&mut self, step: usize, outcome: &StepOutcome) -> Result<bool>;

    /// Waits until there is room again, `at_most` so long; whether there is. Fails if nobody takes more.
    fn wait(&mut self, at_most: Duration) -> Result<bool>;
}

/// The way from a read thread to a sink.
pub(crate) struct Outlet {
    sink: Box<dyn Sink>,
    readers: Readers,
    aside: Option<Aside>,
    /// Nothing more can be handed over.
    broken: bool,
}

impl Outlet {
    /// For one program on one of the `readers`' threads.
    pub fn new(sink: Box<dyn Sink>, readers: Readers) -> Outlet {
        Outlet { sink, readers, aside: None, broken: false }
    }

    /// Hands a row over; how long that was waited for.
    pub fn row(&mut self, step: usize, row: &Row<'_>) -> Result<Duration> {
        let full = self.sink.row(step, row)?;
        if full { self.wait() } else { Ok(Duration::ZERO) }
    }

    /// Hands over how a step ended, and gives it back; fails if it ended because nobody takes more.
    pub fn end(&mut self, step: usize, outcome: StepOutcome) -> Result<StepOutcome> {
        match outcome {
            StepOutcome::Failed(error) if self.broken => return Err(error),
            _ if self.sink.end(step, &outcome)? => self.wait()?,
            _ => Duration::ZERO,
        };
        Ok(outcome)
    }

    fn wait(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let waited = self.wait_from(began);
        self.broken = waited.is_err();
        waited.map(|()| began.elapsed())
    }

    fn wait_from(&mut self, began: Instant) -> Result<()> {
        if self.aside.is_none() {
            self.aside = Some(self.readers.step_aside()?);
        }
        let patience = self.readers.patience();
        while !self.sink.wait(LOOK.min(patience))? {
            if self.readers.is_closed() {
                return Err(closing());
            }
            if began.elapsed() >= patience {
                return Err(Error::invalid(
                    "CLIENT_SLOW",
                    "the rows were not taken for too long: the statement was stopped, and an open transaction rolled back",
                )
                .hint("take rows as they come, or ask for fewer at a time, with LIMIT"));
            }
        }
        Ok(())
    }
}
