//! Statements on their way: sent one behind the other, and answered later.
//!
//! Round trips are what a transaction over a network costs. Whatever needs no answer to decide what comes
//! next is sent at once; the answers are read in the order of sending, and the first that is wrong counts:
//! after an error PostgreSQL fails whatever follows in the transaction.
//!
//! Left out: more than so many answers outstanding. Both ends would buffer without bound.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::connect::{Session, beside};
use super::failure::{self, Answer};
use super::parameter::Parameter;
use super::state::Request;
use crate::change::Version;
use crate::error::{Error, Result};
use crate::store::history::{diverged, fenced};

/// Answers outstanding at most.
const MOST: usize = 1000;

type Awaited = Pin<Box<dyn Future<Output = Answer<u64>> + Send>>;

enum Pending {
    Answered(Answer<u64>),
    Awaited(Awaited),
}

/// What an answer must be.
pub(crate) enum Expect {
    /// Anything but an error.
    Done,
    /// One row: the fence.
    Fence,
    /// So many rows of a table, for a commit.
    Rows { count: u64, table: Arc<str>, version: Version },
}

impl Expect {
    /// Whether `changed` rows are as expected; an error that says what they mean, if not.
    fn check(&self, changed: u64) -> Result<()> {
        match self {
            Expect::Done => Ok(()),
            Expect::Fence if changed == 1 => Ok(()),
            Expect::Fence => Err(fenced()),
            Expect::Rows { count, .. } if changed == *count => Ok(()),
            Expect::Rows { table, version, .. } => {
                Err(diverged(*version, format_args!("a row of {table:?} that changes is not here")))
            }
        }
    }

    fn failed(&self, error: Error) -> Error {
        match self {
            Expect::Rows { table, version, .. } if failure::is_misfit(&error) => {
                let what = format!("in {table:?}, {}", error.message());
                diverged(*version, what).source(error)
            }
            _ => error,
        }
    }
}

/// The statements of a transaction that were sent and not yet answered.
#[derive(Default)]
pub(crate) struct Pipeline {
    pending: Vec<(Expect, Pending)>,
}

impl Pipeline {
    /// Sends a statement off.
    pub fn send(
        &mut self,
        session: &mut Session,
        sql: &str,
        parameters: Vec<Parameter>,
        expect: Expect,
    ) -> Result<()> {
        if self.pending.len() >= MOST {
            self.finish(session)?;
        }
        let statement = session.prepare(sql).map_err(|error| expect.failed(error))?;
        self.sent(expect, session.send(&statement, parameters));
        Ok(())
    }

    /// Sends off what begins a transaction.
    pub fn begin(&mut self, session: &Session) {
        self.sent(Expect::Done, session.send_begin());
    }

    fn sent(&mut self, expect: Expect, answer: impl Future<Output = Answer<u64>> + Send + 'static) {
        let mut awaited: Awaited = Box::pin(answer);
        // The first look sends it.
        let pending = match awaited.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Pending::Answered(answer),
            // An answer that nobody takes in would hold up those of the statements behind it.
            Poll::Pending => Pending::Awaited(Box::pin(beside(awaited))),
        };
        self.pending.push((expect, pending));
    }

    /// … that must not fail, and may change any number of rows.
    pub fn request(&mut self, session: &mut Session, request: Request) -> Result<()> {
        self.send(session, request.0, request.1, Expect::Done)
    }

    /// Waits for all answers, and fails with the first that is not as expected.
    pub fn finish(&mut self, session: &mut Session) -> Result<()> {
        for (expect, pending) in std::mem::take(&mut self.pending) {
            let answer = match pending {
                Pending::Answered(answer) => session.wait(std::future::ready(answer)),
                Pending::Awaited(awaited) => session.wait(awaited),
            };
            let changed = answer.map_err(|error| expect.failed(error))?;
            expect.check(changed)?;
        }
        Ok(())
    }
}
