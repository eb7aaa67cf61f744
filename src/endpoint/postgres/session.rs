//! A session: what is set on it, and how questions are asked.
//!
//! Rows are read by `COPY (SELECT …) TO STDOUT` in the binary format, whatever is read: one row after another,
//! and the server is not asked for more than is being looked at. COPY takes no parameters, so values stand in
//! the statement as literals ([`quote`]).
//!
//! A session that broke off is of no more use. One that was asked for rows which nobody wants any more is told
//! to stop, and goes on from a savepoint: the snapshot stays.
//!
//! Left out: prepared statements. Every plan is made for the values that it is for, and a pooler may stand
//! between.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, Stream};
use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, CopyInSink, CopyOutStream, Row};

use super::failure::{failed, lost, not_reached};
use super::tuples::{Fields, Tuples};
use crate::dial;
use crate::dial::postgres::{Answer, PostgresPlace, is_answer};
use crate::endpoint::Traffic;
use crate::endpoint::sqlite::Access;
use crate::error::Result;

/// As long as the server may think about rows before it sends the next one. One that is gone is noticed by
/// its silence on the wire long before.
const THINKING: Duration = Duration::from_secs(6 * 3600);
/// How long a batch's statement may take on the server; ours waits a little longer.
const STATEMENT: Duration = Duration::from_secs(120);
/// How long locks of others are waited for.
const LOCK: Duration = Duration::from_secs(10);
/// Bytes of an answer that nobody wants any more, which are taken all the same.
const ENOUGH: usize = 1 << 20;
/// Bytes that are sent at once.
const CHUNK: usize = 1 << 16;
/// Rows on their way to the server. Dropped before its end, nothing of it counts.
type Rows = Pin<Box<CopyInSink<Bytes>>>;

/// A connection to the server.
pub(super) struct Session {
    client: Arc<Client>,
    driver: JoinHandle<()>,
    place: PostgresPlace,
    open: Option<Transaction>,
    lost: bool,
    traffic: Traffic,
}

/// What an open transaction is for.
#[derive(Clone, Copy, PartialEq)]
enum Transaction {
    /// A snapshot: it stays, whatever a read comes to.
    Snapshot,
    /// A batch: any error ends it.
    Batch,
}

impl Drop for Session {
    /// At once if it is in the middle of something, with a word of goodbye if not.
    fn drop(&mut self) {
        if self.lost {
            self.driver.abort();
        }
    }
}

/// Text as SQL writes it.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An array of texts as SQL writes it, without its type.
pub(super) fn quote_array<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut array = String::from("{");
    for (i, text) in texts.into_iter().enumerate() {
        if i > 0 {
            array.push(',');
        }
        array.push('"');
        for c in text.chars() {
            if matches!(c, '"' | '\\') {
                array.push('\\');
            }
            array.push(c);
        }
        array.push('"');
    }
    array.push('}');
    quote(&array)
}

impl Session {
    /// Connects. A session that is only to read can do nothing else.
    pub fn open(place: &PostgresPlace, access: Access) -> Result<Session> {
        let connected = dial::wait(place.limit(), place.connect()?);
        let (client, connection) = match connected {
            None => return Err(not_reached(place, None)),
            Some(answer) => answer.map_err(|cause| not_reached(place, Some(cause)))?,
        };
        let driver = dial::spawn(async move {
            // Whoever waits for an answer is told of its errors.
            let _ = connection.await;
        });
        let (client, traffic) = (Arc::new(client), Traffic::default());
        let place = place.clone();
        let mut session = Session { client, driver, place, open: None, lost: false, traffic };
        session.set_up(access)?;
        Ok(session)
    }

    fn set_up(&mut self, access: Access) -> Result<()> {
        // Whoever made a database read only has a reason: that is not for us to undo.
        let read_only = match access {
            Access::Read => "SET default_transaction_read_only = on; ",
            Access::Write => "",
        };
        self.batch(&format!(
            "{read_only}SET statement_timeout = 0; \
             SET idle_in_transaction_session_timeout = 0; SET lock_timeout = {}; \
             SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; \
             SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET intervalstyle = 'postgres'; \
             SET extra_float_digits = 3; SET bytea_output = 'hex'; SET row_security = off; \
             SET client_min_messages = warning; SET default_transaction_deferrable = off",
            LOCK.as_millis()
        ))
    }

    /// Whether it is of no more use.
    pub fn is_lost(&self) -> bool {
        self.lost || self.client.is_closed()
    }

    /// Whether a transaction is open.
    pub fn is_in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// What went over the wire, as far as it can be seen from here.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn wait<T>(&mut self, limit: Duration, future: impl Future<Output = Answer<T>>) -> Result<T> {
        if self.is_lost() {
            self.lost = true;
            return Err(lost("it was closed"));
        }
        let answer = match dial::wait(limit, future) {
            Some(answer) => answer.map_err(failed),
            None => Err(lost(format_args!("no answer came within {limit:?}"))),
        };
        if let Err(error) = &answer {
            self.lost |= !is_answer(error);
        }
        answer
    }

    fn asked(&mut self, sql: &str) {
        self.traffic.bytes += sql.len() as u64;
        self.traffic.round_trips += 1;
    }

    /// Runs statements that give no rows.
    pub fn batch(&mut self, sql: &str) -> Result<()> {
        self.asked(sql);
        let client = self.client.clone();
        self.wait(STATEMENT + self.place.limit(), client.batch_execute(sql))
    }

    /// Runs one statement and gives its few rows.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Row>> {
        self.asked(sql);
        let client = self.client.clone();
        self.wait(STATEMENT + self.place.limit(), client.query_typed(sql, &[]))
    }

    /// Runs one statement over columns of texts and gives how many rows it changed.
    pub fn execute(&mut self, sql: &str, columns: &[Vec<Option<String>>]) -> Result<u64> {
        let parameters = self.asked_over(sql, columns);
        let client = self.client.clone();
        self.wait(STATEMENT + self.place.limit(), client.execute_typed(sql, &parameters))
    }

    /// … and gives its few rows.
    pub fn rows_over(&mut self, sql: &str, columns: &[Vec<Option<String>>]) -> Result<Vec<Row>> {
        let parameters = self.asked_over(sql, columns);
        let client = self.client.clone();
        self.wait(STATEMENT + self.place.limit(), client.query_typed(sql, &parameters))
    }

    fn asked_over<'c>(
        &mut self,
        sql: &str,
        columns: &'c [Vec<Option<String>>],
    ) -> Vec<(&'c (dyn ToSql + Sync), Type)> {
        self.asked(sql);
        let sent = columns.iter().flatten().flatten().map(String::len).sum::<usize>();
        self.traffic.bytes += sent as u64;
        columns.iter().map(|column| (column as _, Type::TEXT_ARRAY)).collect()
    }

    /// Begins a transaction that only reads, and sees one state; one that was open is ended.
    pub fn begin_snapshot(&mut self) -> Result<()> {
        self.rollback()?;
        self.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        self.open = Some(Transaction::Snapshot);
        Ok(())
    }

    /// Begins one that writes. Nobody's lock, and no statement of ours, keeps it for long.
    pub fn begin_batch(&mut self) -> Result<()> {
        self.rollback()?;
        let limit = STATEMENT.as_millis();
        self.batch(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL statement_timeout = {limit}; \
             SET CONSTRAINTS ALL DEFERRED"
        ))?;
        self.open = Some(Transaction::Batch);
        Ok(())
    }

    /// Commits, with these statements before.
    ///
    /// What was deferred is checked first, so that the error is one of a statement. A time limit would end the
    /// wait for a synchronous standby, and the server would say that all is well.
    pub fn commit(&mut self, before: &str) -> Result<()> {
        self.batch(&format!(
            "{before}; SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL statement_timeout = 0; COMMIT"
        ))?;
        self.open = None;
        Ok(())
    }

    /// Ends the transaction, if one is open, and whatever is left of it.
    pub fn rollback(&mut self) -> Result<()> {
        match self.open.take() {
            Some(_) => self.batch("ROLLBACK"),
            None => Ok(()),
        }
    }

    /// Does something that is to go by indexes, however large a part of the table it asks for.
    ///
    /// Of a table that grows while it is filled the server knows so little that it would scan all of it for
    /// every batch.
    pub fn by_index<T>(&mut self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.batch("SET enable_seqscan = off")?;
        let done = work(self);
        // What has failed in a batch is rolled back with it.
        match &done {
            Err(_) if self.is_lost() || self.open == Some(Transaction::Batch) => {}
            _ => self.batch("SET enable_seqscan = on")?,
        }
        done
    }

    /// Reads rows, one at a time.
    pub fn copy_out(
        &mut self,
        select: &str,
        each: &mut dyn FnMut(Fields<'_>) -> Result<()>,
    ) -> Result<()> {
        self.asked(select);
        let keeps = self.open == Some(Transaction::Snapshot);
        if keeps {
            self.batch("SAVEPOINT reading")?;
        }
        let read = self.stream_out(select, each);
        match (&read, keeps && !self.is_lost()) {
            (Ok(()), true) => self.batch("RELEASE reading")?,
            (Err(_), true) => self.batch("ROLLBACK TO reading")?,
            _ => {}
        }
        read
    }

    fn stream_out(
        &mut self,
        select: &str,
        each: &mut dyn FnMut(Fields<'_>) -> Result<()>,
    ) -> Result<()> {
        let client = self.client.clone();
        let copy = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
        let mut stream = pin!(self.wait(THINKING, client.copy_out(&copy))?);
        let mut tuples = Tuples::default();
        while let Some(message) = self.next(&mut stream)? {
            self.traffic.bytes += message.len() as u64 + 5;
            if let Err(error) = tuples.feed(&message, each) {
                self.stop(&mut stream);
                return Err(error);
            }
        }
        tuples.finish()
    }

    /// The next message. Most are here already: no clock is asked for them.
    fn next(&mut self, stream: &mut std::pin::Pin<&mut CopyOutStream>) -> Result<Option<Bytes>> {
        let mut next = |cx: &mut Context<'_>| stream.as_mut().poll_next(cx).map(Option::transpose);
        match next(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => self.wait(THINKING, std::future::poll_fn(next)),
            Poll::Ready(Ok(message)) => Ok(message),
            Poll::Ready(Err(cause)) => {
                let error = failed(cause);
                self.lost |= !is_answer(&error);
                Err(error)
            }
        }
    }

    /// Has the server stop, and takes what it had sent.
    ///
    /// What asks it to stop goes another way, and may come late, when the answer has ended by itself: then the
    /// next question would be stopped. So a short answer is taken to its end, and behind a long one that ended
    /// all the same a question waits that may well be stopped.
    fn stop(&mut self, stream: &mut std::pin::Pin<&mut CopyOutStream>) {
        if self.drain(stream, ENOUGH).is_some() {
            return;
        }
        let asked = self.place.cancel(&self.client);
        let asked = asked.ok().and_then(|asked| dial::wait(self.place.limit(), asked));
        self.lost |= !matches!(asked, Some(Ok(())));
        if !self.lost && self.drain(stream, usize::MAX) == Some(true) {
            let _ = self.batch("SELECT pg_sleep(1)");
        }
    }

    /// Takes so many bytes; if the answer ended with them, whether it came to its end and was not broken off.
    fn drain(
        &mut self,
        stream: &mut std::pin::Pin<&mut CopyOutStream>,
        bytes: usize,
    ) -> Option<bool> {
        let mut taken = 0;
        while taken < bytes {
            match self.next(stream) {
                Ok(Some(message)) => taken += message.len(),
                Ok(None) => return Some(true),
                Err(_) => return Some(false),
            }
        }
        None
    }

    /// Brings rows, each as `text` writes it in COPY's text format; gives how many the server took. The server is at
    /// work on some while the next ones are written.
    pub fn copy_in<R>(
        &mut self,
        copy: &str,
        rows: impl IntoIterator<Item = R>,
        text: impl Fn(&mut Vec<u8>, R) -> Result<()>,
    ) -> Result<u64> {
        self.asked(copy);
        let (client, copy) = (self.client.clone(), copy.to_owned());
        let limit = STATEMENT + self.place.limit();
        let begin = async move { Ok(Box::pin(client.copy_in::<_, Bytes>(&copy).await?)) };
        let (mut sink, mut chunk) = (self.wait(limit, begin)?, Vec::with_capacity(CHUNK));
        for row in rows {
            text(&mut chunk, row)?;
            if chunk.len() >= CHUNK {
                sink = self.feed(sink, std::mem::take(&mut chunk))?;
            }
        }
        let mut sink = self.feed(sink, chunk)?;
        self.wait(limit, async move { sink.as_mut().finish().await })
    }

    fn feed(&mut self, mut sink: Rows, chunk: Vec<u8>) -> Result<Rows> {
        self.traffic.bytes += chunk.len() as u64;
        self.wait(STATEMENT, async move {
            sink.feed(Bytes::from(chunk)).await?;
            Ok(sink)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        assert_eq!(quote(r"a'b\"), r"'a''b\'");
        assert_eq!(quote_array(["a'", "b\"\\,{}", ""]), "'{\"a''\",\"b\\\"\\\\,{}\",\"\"}'");
        assert_eq!(quote_array([]), "'{}'");
    }
}
