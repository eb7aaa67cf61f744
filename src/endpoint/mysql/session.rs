//! One session on the server, and how a thread asks over it.
//!
//! A session that may only read says so to the server, which then refuses every write: nothing on A can change,
//! whatever this program does. A connection that was lost is made anew by the next question; within a snapshot
//! it is an error, because the snapshot went with it.
//!
//! A result that nobody wants to read to its end is killed from a second connection. Read to its end it might
//! take hours, and dropping the connection would end the snapshot.
//!
//! Left out: pools.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row as SqlRow, Value as Sql};

use super::failed::{failed, not_reached, unreachable_at};
use crate::dial::mysql::MysqlPlace;
use crate::dial::wait;
use crate::endpoint::sqlite::Access;
use crate::error::{Error, Result};

/// How long the server may be silent: it may have to sort a large table before the first row.
const SILENCE: Duration = Duration::from_secs(3600);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Without NO_ZERO_DATE, because other sessions may store such dates, and time as UTC. A reader that pauses does
/// not lose the connection, and no lock is waited for longer than a batch should take. Sorted keys are compared
/// in full.
const SETTINGS: &str = "SET NAMES utf8mb4, time_zone = '+00:00', \
    sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION', \
    net_write_timeout = 86400, net_read_timeout = 86400, wait_timeout = 86400, \
    innodb_lock_wait_timeout = 10, lock_wait_timeout = 10, max_sort_length = 4096";

/// What the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Server {
    /// MariaDB, and not MySQL.
    pub is_maria: bool,
    pub version: (u16, u16, u16),
    /// The largest statement that it takes, in bytes.
    pub packet: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Snapshot {
    None,
    Open,
    /// The connection was lost, and it with it.
    Lost,
}

pub(super) struct Session {
    place: MysqlPlace,
    access: Access,
    connection: Option<Conn>,
    snapshot: Snapshot,
    server: Server,
}

impl Session {
    pub fn open(place: MysqlPlace, access: Access) -> Result<Session> {
        let server = Server { is_maria: false, version: (0, 0, 0), packet: 0 };
        let mut session =
            Session { place, access, connection: None, snapshot: Snapshot::None, server };
        session.connect()?;
        Ok(session)
    }

    pub fn server(&self) -> Server {
        self.server
    }

    fn connect(&mut self) -> Result<()> {
        let mut connection = dial(&self.place)?;
        let access = self.access;
        let set = wait(self.place.limit(), async {
            connection.query_drop(SETTINGS).await?;
            let level = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
            connection.query_drop(level).await?;
            if access == Access::Read {
                connection.query_drop("SET SESSION TRANSACTION READ ONLY").await?;
            }
            let asked = "SELECT VERSION(), @@max_allowed_packet";
            connection.query_first::<(String, u64), _>(asked).await
        });
        let answer = set.ok_or_else(|| silent(&self.place))?;
        let (version, packet) = answer.map_err(failed)?.expect("it is one row");
        self.server = Server {
            is_maria: version.contains("MariaDB"),
            version: connection.server_version(),
            packet: usize::try_from(packet).unwrap_or(usize::MAX),
        };
        self.connection = Some(connection);
        Ok(())
    }

    /// The connection, made anew if it was lost.
    fn connected(&mut self) -> Result<&mut Conn> {
        if self.snapshot == Snapshot::Lost {
            let what = "the connection was lost, and the snapshot with it";
            return Err(Error::unavailable("ENDPOINT_LOST", what)
                .hint("begin again: what was read so far belongs to the old snapshot"));
        }
        if self.connection.is_none() {
            self.connect()?;
        }
        Ok(self.connection.as_mut().expect("it was just made"))
    }

    fn lose(&mut self) {
        self.connection = None;
        if self.snapshot == Snapshot::Open {
            self.snapshot = Snapshot::Lost;
        }
    }

    /// The answer, or why there is none; a connection that is no longer good is let go.
    fn settled<T>(&mut self, answer: Option<mysql_async::Result<T>>) -> Result<T> {
        match answer {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => {
                if error.is_fatal() {
                    self.lose();
                }
                Err(failed(error))
            }
            None => {
                self.lose();
                Err(silent(&self.place))
            }
        }
    }

    /// Asks something that is answered at once.
    pub fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut Conn) -> mysql_async::Result<T>,
    ) -> Result<T> {
        let connection = self.connected()?;
        let answer = wait(SILENCE, question(connection));
        self.settled(answer)
    }

    /// Runs a statement without parameters, unprepared.
    pub fn run(&mut self, sql: &str) -> Result<()> {
        self.ask(async |connection| connection.query_drop(sql).await)
    }

    /// Runs a statement; gives how many rows it found.
    pub fn execute(&mut self, sql: &str, arguments: Vec<Sql>) -> Result<u64> {
        self.ask(async |connection| {
            connection.exec_drop(sql, arguments).await?;
            Ok(connection.affected_rows())
        })
    }

    /// What the server's catalogue says, as text.
    pub fn texts(&mut self, sql: &str, arguments: &[&str]) -> Result<Vec<Vec<Option<String>>>> {
        let arguments: Vec<Sql> = arguments.iter().map(|text| Sql::from(*text)).collect();
        let mut rows = Vec::new();
        self.stream(sql, arguments, &mut |row| {
            let text = |i| row.as_ref(i).and_then(as_text);
            rows.push((0..row.len()).map(text).collect());
            Ok(())
        })?;
        Ok(rows)
    }

    /// Gives the rows of a result one after another.
    pub fn stream(
        &mut self,
        sql: &str,
        arguments: Vec<Sql>,
        each: &mut dyn FnMut(&SqlRow) -> Result<()>,
    ) -> Result<()> {
        let arguments = match arguments.is_empty() {
            true => mysql_async::Params::Empty,
            false => mysql_async::Params::Positional(arguments),
        };
        let connection = self.connected()?;
        let mut result = match wait(SILENCE, connection.exec_iter(sql, arguments)) {
            Some(Ok(result)) => result,
            Some(Err(error)) => return self.settled(Some(Err(error))),
            None => return self.settled(None),
        };
        loop {
            match wait(SILENCE, result.next()) {
                Some(Ok(None)) => return Ok(()),
                Some(Ok(Some(row))) => {
                    if let Err(error) = each(&row) {
                        drop(result);
                        self.abandon();
                        return Err(error);
                    }
                }
                other => {
                    drop(result);
                    return self.settled(other.map(|answer| answer.map(|_| ())));
                }
            }
        }
    }

    /// Ends a result that is read no further.
    fn abandon(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let kill = format!("KILL QUERY {}", connection.id());
        let is_killed = dial(&self.place).is_ok_and(|mut other| {
            let killed = wait(self.place.limit(), async {
                other.query_drop(kill).await?;
                other.disconnect().await
            });
            matches!(killed, Some(Ok(())))
        });
        // What is already on its way is read, and then the error that ended it. The next answer is our own.
        let is_clean = is_killed
            && wait(self.place.limit(), async {
                let _ = connection.query_drop("DO 0").await;
                connection.query_drop("DO 0").await
            })
            .is_some_and(|answer| answer.is_ok());
        if !is_clean {
            self.lose();
        }
    }

    /// Begins a snapshot of all InnoDB tables.
    pub fn begin(&mut self) -> Result<()> {
        self.end()?;
        self.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")?;
        self.snapshot = Snapshot::Open;
        Ok(())
    }

    /// Ends it.
    pub fn end(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.snapshot, Snapshot::None) {
            Snapshot::Open => self.run("ROLLBACK"),
            Snapshot::None | Snapshot::Lost => Ok(()),
        }
    }

    /// Does something without foreign keys being checked.
    pub fn unchecked<T>(&mut self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.run("SET foreign_key_checks = 0")?;
        let done = work(self);
        self.run("SET foreign_key_checks = 1")?;
        done
    }

    /// Does all of this in one transaction, or nothing.
    pub fn transaction<T>(&mut self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.run("START TRANSACTION")?;
        // A connection that is lost in the middle must not be made anew: the rest would be on its own.
        self.snapshot = Snapshot::Open;
        let done = work(self).and_then(|done| self.run("COMMIT").map(|()| done));
        if done.is_err() && self.snapshot == Snapshot::Open {
            // If it fails, the connection is gone, and the transaction with it.
            let _ = self.run("ROLLBACK");
        }
        self.snapshot = Snapshot::None;
        done
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            wait(GOODBYE, connection.disconnect());
        }
    }
}

fn dial(place: &MysqlPlace) -> Result<Conn> {
    let answer = wait(place.limit(), place.connect()).ok_or_else(|| silent(place))?;
    answer.map_err(|error| not_reached(&place.to_string(), error))
}

fn silent(place: &MysqlPlace) -> Error {
    unreachable_at(&place.to_string(), "it does not answer")
}

fn as_text(value: &Sql) -> Option<String> {
    match value {
        Sql::NULL => None,
        Sql::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Sql::Int(i) => Some(i.to_string()),
        Sql::UInt(u) => Some(u.to_string()),
        other => Some(format!("{other:?}")),
    }
}
