//! Sessions: how they are opened, what is set on them, and when they are given up.
//!
//! Callers are synchronous; how they wait is told in [`dial`]. A session that failed to answer in time is never
//! asked again: nobody knows what its next answer would be the answer to. The store opens another.
//!
//! Between us and the server there may be a pooler that gives each transaction the session that is free just
//! then. Nothing set on a session would hold, and a prepared statement could be another process's of the same
//! name. So a session carries a mark, each transaction begins with a look at it, and statements are prepared
//! only inside of transactions.
//!
//! Left out: a pool. A store has one session, and opens another for what reads for long.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, Stream};
use tokio::task::JoinHandle;
use tokio_postgres::binary_copy::{BinaryCopyOutRow, BinaryCopyOutStream};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Row, Statement};

use super::failure::{self, refused, silent, unavailable};
use super::parameter::Parameter;
use crate::dial;
use crate::dial::postgres::{Answer, PostgresPlace, is_answer};
use crate::error::{Error, Result};

/// What an answer came to that is none, or not the one that was expected.
pub(crate) struct Failed {
    pub error: Error,
    /// The session is of no more use.
    pub lost: bool,
}

impl Failed {
    /// By what the server said, or did not say.
    pub fn of(error: Error) -> Failed {
        let lost = !is_answer(&error);
        Failed { error, lost }
    }
}

/// An answer, if it comes within the limit; for futures that run beside the connections.
pub(crate) async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Answer<T>>,
) -> Result<T, Failed> {
    let answer = tokio::time::timeout(limit, future).await;
    let answer = answer.map_err(|_| silent(limit)).and_then(|a| a.map_err(failure::error));
    answer.map_err(Failed::of)
}

/// Commits. `OUTCOME_UNKNOWN` if the answer is lost.
///
/// A time limit would end the wait for a synchronous standby, and the server would say that all is
/// well. And where the transaction has failed, COMMIT alone would be a ROLLBACK that nobody notices.
pub(crate) async fn commit(client: Arc<Client>, limit: Duration) -> Result<(), Failed> {
    let sql = "SET LOCAL statement_timeout = 0; COMMIT";
    within(limit, client.batch_execute(sql)).await.map_err(|failed| match failed.lost {
        false => failed,
        true => {
            let error = failure::outcome_unknown(&failed.error).source(failed.error);
            Failed { error, lost: true }
        }
    })
}

/// Waits for an answer, but not forever.
fn wait<T>(limit: Duration, future: impl Future<Output = Answer<T>>) -> Result<T> {
    let answer = dial::wait(limit, future).ok_or_else(|| silent(limit))?;
    answer.map_err(failure::error)
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Transactions that hold locks: the server ends them below the place's limit.
    Write,
    /// Reads that may take long, and hold nothing back.
    Read,
}

/// A connection to the server.
pub(crate) struct Session {
    client: Arc<Client>,
    driver: JoinHandle<()>,
    limit: Duration,
    prepared: HashMap<String, Statement>,
    lost: bool,
    version: u32,
    /// A setting that no other session has.
    mark: String,
}

impl Drop for Session {
    /// At once if it is in the middle of something, with a word of goodbye if not.
    fn drop(&mut self) {
        if self.lost {
            self.driver.abort();
        }
    }
}

impl Session {
    /// Connects, and refuses a server that does not keep what it is given.
    pub fn open(place: &PostgresPlace, purpose: Purpose) -> Result<Session> {
        Session::open_heard(place, purpose, None)
    }

    /// … and hands on what others NOTIFY.
    pub fn open_heard(
        place: &PostgresPlace,
        purpose: Purpose,
        heard: Option<mpsc::Sender<String>>,
    ) -> Result<Session> {
        let connected = wait(place.limit(), place.connect()?);
        let (client, mut connection) = connected.map_err(|error| place.not_reached(error))?;
        let driver = dial::spawn(async move {
            let mut next = std::future::poll_fn(|cx| connection.poll_message(cx));
            while let Some(Ok(message)) = (&mut next).await {
                if let (AsyncMessage::Notification(n), Some(heard)) = (message, &heard) {
                    let _ = heard.send(n.payload().to_owned());
                }
            }
        });
        let (client, limit) = (Arc::new(client), place.limit());
        let (prepared, lost, version) = (HashMap::new(), false, 0);
        let mark = format!("syncline.session_{:016x}", getrandom::u64().map_err(unavailable)?);
        let mut session = Session { client, driver, limit, prepared, lost, version, mark };
        session.set_up(purpose)?;
        Ok(session)
    }

    fn set_up(&mut self, purpose: Purpose) -> Result<()> {
        let ms = self.limit.as_millis();
        let (statement, idle) = match purpose {
            Purpose::Write => (ms * 3 / 4, ms / 4),
            Purpose::Read => (0, 0),
        };
        self.batch(&format!(
            "SET statement_timeout = {statement}; SET idle_in_transaction_session_timeout = {idle}; \
             SET lock_timeout = {}; SET client_min_messages = warning; \
             SET default_transaction_isolation = 'read committed'; SET row_security = off; \
             SET datestyle = 'ISO'; SET timezone = 'UTC'; \
             SET plan_cache_mode = 'force_generic_plan'; SET {} = ''",
            (ms / 2).max(1),
            self.mark
        ))?;
        let row = self.batch_row(&format!(
            "SELECT current_setting('server_version_num'), current_setting('fsync'), \
             current_setting('synchronous_commit'), current_setting('server_encoding'), \
             coalesce(current_schema(), ''), current_setting('transaction_read_only'), \
             current_setting('{}')",
            self.mark
        ))?;
        let fact = |i: usize| row.get(i).map_or("", String::as_str);
        let version: u32 = fact(0).parse().unwrap_or(0);
        check_facts(version, fact(1), fact(2), fact(3), fact(4))?;
        if purpose == Purpose::Write && fact(5) == "on" {
            return Err(failure::read_only());
        }
        self.version = version;
        if purpose == Purpose::Write && self.has_transaction_timeout() {
            self.batch(&format!("SET transaction_timeout = {}", ms * 3 / 4))?;
        }
        Ok(())
    }

    fn has_transaction_timeout(&self) -> bool {
        self.version >= 170_000
    }

    /// The open transaction may last: nobody can be waiting to take over from it.
    pub fn take_your_time(&mut self) -> Result<()> {
        let mut sql = "SET LOCAL statement_timeout = 0; \
                       SET LOCAL idle_in_transaction_session_timeout = 0"
            .to_owned();
        if self.has_transaction_timeout() {
            sql.push_str("; SET LOCAL transaction_timeout = 0");
        }
        self.batch(&sql)
    }

    /// Whether it is of no more use.
    pub fn is_lost(&self) -> bool {
        self.lost || self.client.is_closed()
    }

    /// Waits; whoever did not answer is not asked again.
    pub fn wait<T>(&mut self, future: impl Future<Output = Answer<T>>) -> Result<T> {
        if self.lost {
            return Err(unavailable("the connection was lost"));
        }
        let answer = wait(self.limit, future);
        if let Err(error) = &answer {
            self.lost |= !is_answer(error);
        }
        answer
    }

    /// Waits for what goes on beside the connections, and keeps to the limit by itself.
    pub fn wait_beside(&mut self, work: impl Future<Output = Result<(), Failed>>) -> Result<()> {
        if self.lost {
            return Err(unavailable("the connection was lost"));
        }
        dial::block_on(work).map_err(|failed| {
            self.lost |= failed.lost;
            failed.error
        })
    }

    /// How long it waits for an answer.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// The client library's end.
    pub fn client(&self) -> Arc<Client> {
        self.client.clone()
    }

    /// Runs statements that give no rows.
    pub fn batch(&mut self, sql: &str) -> Result<()> {
        let client = self.client.clone();
        self.wait(client.batch_execute(sql))
    }

    /// Runs one statement and gives the text of its first row.
    fn batch_row(&mut self, sql: &str) -> Result<Vec<String>> {
        use tokio_postgres::SimpleQueryMessage::Row;
        let client = self.client.clone();
        let messages = self.wait(client.simple_query(sql))?;
        let row = messages.iter().find_map(|m| if let Row(row) = m { Some(row) } else { None });
        let row = row.ok_or_else(|| unavailable("it gave no answer"))?;
        Ok((0..row.len()).map(|i| row.get(i).unwrap_or("").to_owned()).collect())
    }

    /// What begins a transaction: it fails in a session that is not this one.
    pub fn begin_sql(&self, how: &str) -> String {
        format!("BEGIN {how}; SELECT current_setting('{}')", self.mark)
    }

    /// Begins a transaction.
    pub fn begin(&mut self, how: &str) -> Result<()> {
        let sql = self.begin_sql(how);
        self.batch(&sql).inspect_err(|_| self.rollback())
    }

    /// A prepared statement, kept by its text; in a transaction.
    pub fn prepare(&mut self, sql: &str) -> Result<Statement> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let client = self.client.clone();
        let statement = self.wait(client.prepare(sql))?;
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Forgets prepared statements: the tables are others.
    pub fn forget_prepared(&mut self) {
        self.prepared.clear();
    }

    /// Runs one statement and gives its rows.
    pub fn query(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>> {
        let client = self.client.clone();
        let parameters: Vec<_> = parameters.iter().map(|p| (p as _, p.own_type())).collect();
        self.wait(client.query_typed(sql, &parameters))
    }

    /// Runs one statement in a transaction and gives how many rows it changed.
    pub fn execute(&mut self, sql: &str, parameters: Vec<Parameter>) -> Result<u64> {
        let statement = self.prepare(sql)?;
        let sent = self.send(&statement, parameters);
        self.wait(sent)
    }

    /// Sends off what begins a transaction.
    pub fn send_begin(&self) -> impl Future<Output = Answer<u64>> + Send + use<> {
        let (client, sql) = (self.client.clone(), self.begin_sql(""));
        async move { client.batch_execute(&sql).await.map(|()| 0) }
    }

    /// Sends a statement off; its answer is to be waited for, in the order of sending.
    pub fn send(
        &self,
        statement: &Statement,
        parameters: Vec<Parameter>,
    ) -> impl Future<Output = Answer<u64>> + Send + use<> {
        let (client, statement) = (self.client.clone(), statement.clone());
        async move { client.execute_raw(&statement, parameters).await }
    }

    /// Commits. `OUTCOME_UNKNOWN` if the answer is lost.
    pub fn commit(&mut self) -> Result<()> {
        self.wait_beside(dial::beside(commit(self.client(), self.limit)))
    }

    /// Ends the transaction, whatever is left of it.
    pub fn rollback(&mut self) {
        if !self.lost && self.batch("ROLLBACK").is_err() {
            self.lost = true;
        }
    }

    /// Brings rows in COPY's text format, and gives how many there were.
    pub fn copy_in(&mut self, copy: &str, rows: Vec<u8>) -> Result<u64> {
        let (client, copy) = (self.client.clone(), copy.to_owned());
        self.wait(async move {
            let mut sink = pin!(client.copy_in(&copy).await?);
            sink.send(Bytes::from(rows)).await?;
            sink.finish().await
        })
    }

    /// Reads rows, one at a time. If `each` fails, the session is of no more use.
    pub fn copy_out(
        &mut self,
        sql: &str,
        types: &[Type],
        mut each: impl FnMut(&BinaryCopyOutRow) -> Result<()>,
    ) -> Result<()> {
        let client = self.client.clone();
        let copy = format!("COPY ({sql}) TO STDOUT (FORMAT binary)");
        let rows = self.wait(client.copy_out(&copy))?;
        let mut rows = pin!(BinaryCopyOutStream::new(rows, types));
        let mut next = |cx: &mut Context<'_>| rows.as_mut().poll_next(cx).map(Option::transpose);
        loop {
            // Most rows are here already: no clock is asked for them.
            let here = next(&mut Context::from_waker(Waker::noop()));
            let row = match here {
                Poll::Ready(row) => row.map_err(failure::error),
                Poll::Pending => self.wait(std::future::poll_fn(&mut next)),
            };
            let Some(row) = row.inspect_err(|_| self.lost = true)? else { return Ok(()) };
            each(&row).inspect_err(|_| self.lost = true)?;
        }
    }
}

fn check_facts(version: u32, fsync: &str, sync: &str, encoding: &str, schema: &str) -> Result<()> {
    if version < 130_000 {
        return Err(refused("the server is older than PostgreSQL 13"));
    }
    if fsync == "off" || sync == "off" {
        let which = if fsync == "off" { "fsync" } else { "synchronous_commit" };
        return Err(Error::invalid(
            "BACKING_NOT_DURABLE",
            format!("the server runs with {which} = off: what it confirms may be lost"),
        )
        .hint(format!("set {which} = on, for the server and for this user and database")));
    }
    if encoding != "UTF8" {
        return Err(refused(format_args!(
            "the database's encoding is {encoding}; it must be UTF8"
        )));
    }
    if schema.is_empty() {
        return Err(refused("the user's search_path names no schema that exists"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_may_lose_what_it_confirms_is_refused() {
        let code = |facts: Result<()>| facts.map_err(|e| e.code());
        assert_eq!(code(check_facts(150_000, "on", "on", "UTF8", "public")), Ok(()));
        assert_eq!(code(check_facts(150_000, "on", "local", "UTF8", "public")), Ok(()));
        let lossy = Err("BACKING_NOT_DURABLE");
        assert_eq!(code(check_facts(150_000, "off", "on", "UTF8", "public")), lossy);
        assert_eq!(code(check_facts(150_000, "on", "off", "UTF8", "public")), lossy);
        let refused = Err("BACKING_REFUSED");
        assert_eq!(code(check_facts(120_000, "on", "on", "UTF8", "public")), refused);
        assert_eq!(code(check_facts(150_000, "on", "on", "LATIN1", "public")), refused);
        assert_eq!(code(check_facts(150_000, "on", "on", "UTF8", "")), refused);
    }
}
