//! Statements on their way: sent one behind the other, and answered later.
//!
//! Round trips are what a transaction over a network costs, and on one machine it is waking threads. Whatever
//! needs no answer to decide what comes next is sent at once; the answers are read in the order of sending,
//! and the first that is wrong counts: after an error PostgreSQL fails whatever follows in the transaction.
//! They are read beside the connection, and so is the COMMIT that follows when all are right: the caller is
//! woken once.
//!
//! Left out: more than so many answers outstanding. Both ends would buffer without bound.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::connect::{Failed, Session, commit, within};
use super::failure;
use super::parameter::Parameter;
use super::state::Request;
use crate::change::Version;
use crate::dial::beside;
use crate::dial::postgres::Answer;
use crate::error::{Error, Result};
use crate::store::history::{diverged, fenced};

/// Answers outstanding at most.
const MOST: usize = 1000;

type Awaited = Pin<Box<dyn Future<Output = Answer<u64>> + Send>>;
type Heard = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>;

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
    fn answered(&self, answer: Result<u64, Failed>) -> Result<(), Failed> {
        match answer {
            Ok(changed) => self.check(changed).map_err(|error| Failed { error, lost: false }),
            Err(Failed { error, lost }) => Err(Failed { error: self.failed(error), lost }),
        }
    }

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

/// Takes in answers, in order, each within the limit: what nobody takes in holds up whatever is behind it.
async fn hear(
    mut sent: UnboundedReceiver<(Expect, Pending)>,
    limit: Duration,
) -> Result<(), Failed> {
    let mut heard = Ok(());
    while let Some((expect, pending)) = sent.recv().await {
        let answer = match pending {
            Pending::Answered(answer) => answer.map_err(|cause| Failed::of(failure::error(cause))),
            Pending::Awaited(awaited) => within(limit, awaited).await,
        };
        let answer = expect.answered(answer);
        if matches!(&answer, Err(Failed { lost: true, .. })) {
            return heard.and(answer);
        }
        heard = heard.and(answer);
    }
    heard
}

/// The statements of a transaction that were sent and not yet answered.
#[derive(Default)]
pub(crate) struct Pipeline {
    /// To whoever takes in the answers, and what that came to.
    hearing: Option<(UnboundedSender<(Expect, Pending)>, Heard)>,
    outstanding: usize,
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
        if self.outstanding >= MOST {
            self.finish(session)?;
        }
        let statement = session.prepare(sql).map_err(|error| expect.failed(error))?;
        self.sent(session.limit(), expect, session.send(&statement, parameters));
        Ok(())
    }

    /// Sends off what begins a transaction.
    pub fn begin(&mut self, session: &Session) {
        self.sent(session.limit(), Expect::Done, session.send_begin());
    }

    fn sent(
        &mut self,
        limit: Duration,
        expect: Expect,
        answer: impl Future<Output = Answer<u64>> + Send + 'static,
    ) {
        let mut awaited: Awaited = Box::pin(answer);
        // The first look sends it.
        let pending = match awaited.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Pending::Answered(answer),
            Poll::Pending => Pending::Awaited(awaited),
        };
        let (hearing, _) = self.hearing.get_or_insert_with(|| {
            let (sender, sent) = unbounded_channel();
            (sender, Box::pin(beside(hear(sent, limit))))
        });
        // Nobody hears it if the connection was lost, which the end says.
        let _ = hearing.send((expect, pending));
        self.outstanding += 1;
    }

    /// … that must not fail, and may change any number of rows.
    pub fn request(&mut self, session: &mut Session, request: Request) -> Result<()> {
        self.send(session, request.0, request.1, Expect::Done)
    }

    /// Brings rows by COPY, once all that was sent before is answered.
    pub fn copy(
        &mut self,
        session: &mut Session,
        sql: &str,
        rows: Vec<u8>,
        expect: &Expect,
    ) -> Result<()> {
        self.finish(session)?;
        let copied = session.copy_in(sql, rows).map_err(|error| expect.failed(error))?;
        expect.check(copied)
    }

    /// Waits for all answers, and fails with the first that is not as expected.
    pub fn finish(&mut self, session: &mut Session) -> Result<()> {
        match self.all() {
            Some(all) => session.wait_beside(all),
            None => Ok(()),
        }
    }

    /// … and commits, if all are as expected.
    pub fn commit(&mut self, session: &mut Session) -> Result<()> {
        let (all, limit, client) = (self.all(), session.limit(), session.client());
        session.wait_beside(beside(async move {
            if let Some(all) = all {
                all.await?;
            }
            commit(client, limit).await
        }))
    }

    fn all(&mut self) -> Option<Heard> {
        self.outstanding = 0;
        self.hearing.take().map(|(_, heard)| heard)
    }
}
