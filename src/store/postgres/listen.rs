//! News: a writer says after each commit where it stands, and whoever waits hears it.
//!
//! PostgreSQL delivers a notification with the transaction that sent it, so whoever is woken finds the
//! commits. One that was missed (the connection was away) is no loss: the reader looks now and then anyway.
//!
//! Left out: what the news says. A reader reads the position, which is the truth.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::connect::{Purpose, Session};
use super::failure::unavailable;
use crate::dial::postgres::PostgresPlace;
use crate::error::Result;

/// The channel of a schema's news: names of channels are short, those of schemas may be longer.
pub(crate) fn channel(schema: &str) -> String {
    format!("syncline_{:016x}", xxh3_64(schema.as_bytes()))
}

/// Waits for commits of others.
pub struct Listener {
    heard: Receiver<String>,
    _session: Session,
}

impl Listener {
    /// Listens from now on.
    pub fn open(place: &PostgresPlace) -> Result<Listener> {
        let (tell, heard) = mpsc::channel();
        let mut session = Session::open_heard(place, Purpose::Read, Some(tell))?;
        let schema = super::session_schema(&mut session)?;
        session.batch(&format!("LISTEN {}", channel(&schema)))?;
        Ok(Listener { heard, _session: session })
    }

    /// Waits until something was committed, at most so long; whether there is news. Fails once the
    /// connection is lost: open another.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        match self.heard.recv_timeout(timeout) {
            Ok(_) => {
                // One look is enough for all that came so far.
                while self.heard.try_recv().is_ok() {}
                Ok(true)
            }
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Err(unavailable("the connection was lost")),
        }
    }
}
