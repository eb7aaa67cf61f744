//! Connections: how they are opened, and what is set on them.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, ffi};

use super::client::{Client, Deadline, Row};
use super::codes::from_rusqlite;
use super::functions::{self, Context};
use super::guard::Guard;
use super::held::{self, HeldCommit};
use super::raw::Db;
use super::{log, recount, schema, source, state};
use crate::change::{Chain, Commit, DatabaseDigest, Object, Position, Value, Version};
use crate::error::{Error, Result};
use crate::store::disk::Disk;
use crate::store::{SnapshotItem, Source, Standing};

/// When a commit is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before it is reported.
    Full,
    /// At the next checkpoint: power loss may take the last commits back, never a part of one.
    Normal,
    /// Whenever the system likes: only for copies that can be made again.
    Off,
}

/// How long a connection waits for another process's lock.
pub(crate) const BUSY: std::time::Duration = std::time::Duration::from_secs(5);
/// No value may be larger: a row must fit the log's cells, before and after together.
const VALUE_LIMIT: i32 = 256 << 20;
/// No value of our own, nor a part of the log, may be larger.
pub(crate) const LOG_LIMIT: i32 = 1 << 30;

/// Bounds the length of every value; gives what the bound was.
pub(crate) fn set_length_limit(db: Db, bytes: i32) -> i32 {
    // SAFETY: plain setter.
    unsafe { ffi::sqlite3_limit(db.0, ffi::SQLITE_LIMIT_LENGTH, bytes) }
}

fn open(disk: &dyn Disk, path: &Path, flags: OpenFlags) -> Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags_and_vfs(path, flags, disk.vfs()).map_err(|error| {
        let error = from_rusqlite(error);
        Error::unavailable("BACKING_UNAVAILABLE", format!("{} cannot be opened: {}", path.display(), error.message()))
            .hint("check that the file and its directory exist and that this user may read and write them")
    })?;
    connection.busy_timeout(BUSY).map_err(from_rusqlite)?;
    set_length_limit(Db::of(&connection), LOG_LIMIT);
    Ok(connection)
}

/// A connection that writes.
pub(crate) fn open_writable(disk: &dyn Disk, path: &Path, sync: Sync) -> Result<Connection> {
    let connection =
        open(disk, path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let db = Db::of(&connection);
    db.configure(ffi::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    use_log(db, path)?;
    // Checkpoints are the engine's business: they must stay off the commit path.
    db.execute_batch(
        "PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32000",
    )?;
    set_sync(db, sync)?;
    Ok(connection)
}

/// A connection that reads.
pub(crate) fn open_readonly(disk: &dyn Disk, path: &Path) -> Result<Connection> {
    let connection = open(disk, path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let db = Db::of(&connection);
    db.configure(ffi::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000")?;
    Ok(connection)
}

/// A connection that reads for others: what a schema of theirs says is not trusted.
pub(crate) fn open_for_others(disk: &Arc<dyn Disk>, path: &Path) -> Result<Connection> {
    let connection = open_readonly(disk.as_ref(), path)?;
    let db = Db::of(&connection);
    db.configure(ffi::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.configure(ffi::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.execute_batch("PRAGMA query_only = ON")?;
    set_length_limit(db, VALUE_LIMIT);
    Ok(connection)
}

/// A connection that reads the main file as it is, whatever the log beside it says. For a look: if
/// somebody writes the file meanwhile, what it reads makes no sense.
pub(crate) fn open_without_log(disk: &dyn Disk, path: &Path) -> Result<Connection> {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'?' | b'#' | b'%' | 0x80.. => uri.push_str(&format!("%{byte:02x}")),
            _ => uri.push(char::from(byte)),
        }
    }
    uri.push_str("?immutable=1");
    open(disk, Path::new(&uri), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

/// Keeps transactions whole by a write-ahead log.
pub(crate) fn use_log(db: Db, path: &Path) -> Result<()> {
    if set_journal(db, "wal")? == "wal" {
        return Ok(());
    }
    Err(Error::invalid("WAL_REFUSED", format!("{} cannot use a write-ahead log", path.display()))
        .hint("a SQLite backing file must lie on a local disk, not on a network file system"))
}

/// Keeps them whole by a rollback journal, if nobody else has the file open.
pub(crate) fn use_rollback_journal(db: Db) -> Result<()> {
    set_journal(db, "delete").map(drop)
}

/// Which one it is then; outside any transaction.
fn set_journal(db: Db, mode: &str) -> Result<String> {
    let mut is = String::new();
    db.query(&format!("PRAGMA journal_mode = {mode}"), &[], |row| {
        is = row.text(0)?.to_owned();
        Ok(())
    })?;
    Ok(is)
}

/// Sets when commits are synced; outside any transaction.
pub(crate) fn set_sync(db: Db, sync: Sync) -> Result<()> {
    #[cfg(feature = "planted")]
    let sync = if crate::planted("no-sync") { Sync::Off } else { sync };
    db.execute_batch(match sync {
        Sync::Full => "PRAGMA synchronous = FULL",
        Sync::Normal => "PRAGMA synchronous = NORMAL",
        Sync::Off => "PRAGMA synchronous = OFF",
    })
}

/// Gives a connection what client SQL needs: the catalogue without our tables, our functions, and the
/// guard.
pub(crate) fn equip(connection: &mut Connection) -> Result<(Client, Context)> {
    let db = Db::of(connection);
    db.configure(ffi::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.configure(ffi::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.configure(ffi::SQLITE_DBCONFIG_DQS_DML, true)?;
    db.execute_batch(functions::VIEWS)?;
    let guard = Guard::install(connection)?;
    let context = functions::install(connection)?;
    Ok((Client::new(db, guard), context))
}

/// Switches between client SQL and the application of commits; outside any transaction.
pub(crate) fn set_client_mode(db: Db, clients: bool) -> Result<()> {
    db.configure(ffi::SQLITE_DBCONFIG_ENABLE_TRIGGER, clients)?;
    db.configure(ffi::SQLITE_DBCONFIG_DEFENSIVE, clients)?;
    set_length_limit(db, if clients { VALUE_LIMIT } else { LOG_LIMIT });
    db.execute_batch(if clients {
        // The last makes virtual tables forget what they read before commits were applied below them.
        "PRAGMA foreign_keys = ON; PRAGMA ignore_check_constraints = OFF; PRAGMA writable_schema = RESET"
    } else {
        "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON"
    })
}

/// A connection on which clients' reads run.
pub(crate) struct Reader {
    pub client: Client,
    pub db: Db,
    _connection: Connection,
    pub deadline: Box<Deadline>,
    pub context: Context,
}

impl Reader {
    /// Opens one on a copy that is there.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Reader> {
        let mut connection = open_readonly(disk.as_ref(), path)?;
        let db = Db::of(&connection);
        let (client, context) = equip(&mut connection)?;
        db.execute_batch("PRAGMA query_only = ON")?;
        set_length_limit(db, VALUE_LIMIT);
        let deadline = Deadline::install(db);
        Ok(Reader { client, db, _connection: connection, deadline, context })
    }

    /// Runs a query of the library's and hands over each row.
    pub fn query(
        &mut self,
        sql: &str,
        arguments: &[Value],
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        self.client.query(sql, arguments, each)
    }

    /// How many things are held.
    pub fn held_count(&self) -> Result<u64> {
        held::count(self.db)
    }

    /// Everything held, oldest first.
    pub fn held(&self) -> Result<Vec<HeldCommit>> {
        held::list(self.db)
    }

    /// The bodies of a held commit, part by part.
    pub fn held_bodies(&self, held: &HeldCommit) -> Result<Vec<Vec<u8>>> {
        held::bodies(self.db, held)
    }

    /// The schema's objects, and where they were read.
    pub fn schema(&self) -> Result<(Position, Vec<Object>)> {
        source::in_snapshot(self.db, || {
            let entries = schema::entries(self.db)?;
            Ok((self.position()?, entries.into_iter().map(|entry| entry.object).collect()))
        })
    }

    /// Recounts every row, beside what the copy claims.
    pub fn recount(&self) -> Result<(Standing, DatabaseDigest, DatabaseDigest)> {
        source::in_snapshot(self.db, || {
            Ok((source::standing(self.db)?, source::digests(self.db)?, recount::database(self.db)?))
        })
    }

    /// Where the snapshot stands that the next statement (or the open transaction) sees.
    pub fn position(&self) -> Result<Position> {
        Ok(state::position(self.db)?.position)
    }
}

impl Source for Reader {
    fn standing(&mut self) -> Result<Standing> {
        source::standing(self.db)
    }

    fn digests(&mut self) -> Result<DatabaseDigest> {
        source::digests(self.db)
    }

    fn after(&mut self, version: Version, bytes: usize) -> Result<Vec<Commit>> {
        log::after(self.db, version, bytes)
    }

    fn part(&mut self, version: Version, index: u32) -> Result<Vec<u8>> {
        log::part(self.db, version, index)
    }

    fn chain_at(&mut self, version: Version) -> Result<Option<Chain>> {
        source::chain_at(self.db, version)
    }

    fn oldest(&mut self) -> Result<Option<Version>> {
        log::oldest(self.db)
    }

    fn snapshot(
        &mut self,
        each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<Standing> {
        source::snapshot(self.db, each)
    }
}
