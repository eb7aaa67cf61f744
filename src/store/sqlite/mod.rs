//! A store in SQLite: a file, or a memory that looks like one.
//!
//! ```text
//!   client SQL ──► client ──► guard        what may run, and what it does
//!                    │
//!                    ▼
//!   group ───► SQLite connection ──► capture ──► spool      the hook's rows, the commit's body
//!     │                                 │
//!     ├─► ledger  ◄─────────────────────┘                   the digests, with a way back
//!     └─► log, state                                        beside the rows, in their transaction
//!
//!   apply ───► the same connection and hook: a copy moves by commits instead of by SQL
//! ```
//!
//! One struct does both, because any copy can be promoted: [`SqliteStore::serve_clients`] and
//! [`SqliteStore::follow`] switch between them.
//!
//! Left out: SQLite's sessions (they cost more than the hook and silently replace it), ATTACH, and
//! writing from more than one connection.

mod appliers;
mod apply;
mod capture;
#[cfg(feature = "postgres")]
mod catalogue;
mod checkpoint;
mod client;
mod codes;
mod connection;
mod copy;
mod functions;
mod group;
mod guard;
mod held;
mod log;
#[cfg(test)]
mod power_loss;
#[cfg(test)]
mod random;
mod raw;
mod recount;
mod replay;
mod restate;
mod run;
mod schema;
mod sequences;
mod source;
mod spool;
mod state;
mod statement;
mod steps;
mod store;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod undo;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

pub(crate) use checkpoint::{copy_without_log, position_without_log};
pub use connection::Sync;
pub use held::HeldCommit;
pub use source::{Files, SqliteSource};
pub use statement::{Arguments, Description, ResultColumn, Statement, StatementResult};

pub use client::Row;

pub(crate) use checkpoint::{Checkpointer, LogLength};
pub(crate) use client::{Budget, Client, Deadline};
pub(crate) use connection::{Reader, open_for_others};
pub(crate) use functions::Context;
pub(crate) use group::Point;
pub(crate) use guard::{check_name, only_reads};
pub(crate) use run::Failed;
pub(crate) use schema::is_virtual_sql;
#[cfg(feature = "postgres")]
pub(crate) use {catalogue::Catalogue, schema::quote};

use crate::change::{Lineage, Position, Tag};
use crate::error::Result;
use crate::store::Refusals;
use crate::store::disk::Disk;
use crate::store::ledger::Ledger;
use capture::Capture;
use raw::{Db, Stmt};
use schema::Schema;
use sequences::Sequences;

/// The statements that every group runs.
struct Statements {
    begin: Stmt,
    commit: Stmt,
    rollback: Stmt,
    savepoint: Stmt,
    release: Stmt,
    rollback_to: Stmt,
    position: Stmt,
    write_position: Stmt,
    write_table: Stmt,
    delete_table: Stmt,
    insert_log: Stmt,
    sequences: Option<Stmt>,
}

impl Statements {
    fn new(db: Db) -> Result<Statements> {
        Ok(Statements {
            begin: db.prepare("BEGIN IMMEDIATE")?,
            commit: db.prepare("COMMIT")?,
            rollback: db.prepare("ROLLBACK")?,
            savepoint: db.prepare("SAVEPOINT _syncline_unit")?,
            release: db.prepare("RELEASE _syncline_unit")?,
            rollback_to: db.prepare("ROLLBACK TO _syncline_unit")?,
            position: db.prepare(state::READ_POSITION)?,
            write_position: db.prepare(state::WRITE_POSITION)?,
            write_table: db.prepare(state::WRITE_TABLE)?,
            delete_table: db.prepare(state::DELETE_TABLE)?,
            insert_log: log::prepare_insert(db)?,
            sequences: None,
        })
    }
}

/// A copy of one database in SQLite, with the connection that writes it.
pub struct SqliteStore {
    // Statements go before their connection, and the hooks' contexts after it: fields are dropped in
    // the order of their declaration.
    statements: Statements,
    appliers: appliers::Appliers,
    pub(crate) client: Client,
    db: Db,
    connection: Connection,
    capture: Box<Capture>,
    pub(crate) deadline: Box<Deadline>,
    log_length: Box<LogLength>,
    pub(crate) context: Context,
    schema: Schema,
    ledger: Ledger,
    position: Position,
    tag: Tag,
    lineage: Lineage,
    /// `sqlite_sequence` as of the last unit; none if it must be read again.
    sequences: Option<Sequences>,
    group: Option<group::Group>,
    unit: Option<group::Unit>,
    path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl SqliteStore {
    /// Opens (or makes) the copy in the file `path` of `disk`. `commit_limit` bounds the bytes of one
    /// commit.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        sync: Sync,
        commit_limit: u64,
    ) -> Result<SqliteStore> {
        let mut connection = connection::open_writable(disk.as_ref(), path, sync)?;
        let db = Db::of(&connection);
        db.execute_batch("BEGIN IMMEDIATE")?;
        state::create(db)?;
        db.execute_batch("COMMIT")?;
        state::make_durable(db)?;
        db.execute_batch(group::PROBE)?;
        let (client, context) = connection::equip(&mut connection)?;
        let mut store = SqliteStore {
            statements: Statements::new(db)?,
            appliers: appliers::Appliers::default(),
            client,
            capture: Capture::install(db, commit_limit),
            deadline: Deadline::install(db),
            log_length: LogLength::install(db),
            context,
            db,
            connection,
            schema: Schema::default(),
            ledger: Ledger::default(),
            position: Position::default(),
            tag: Tag::default(),
            lineage: Lineage::default(),
            sequences: None,
            group: None,
            unit: None,
            path: path.to_owned(),
            disk,
        };
        store.load()?;
        store.adopt_unlogged()?;
        Ok(store)
    }

    /// Reads position, lineage, schema and digests from the file.
    pub(crate) fn load(&mut self) -> Result<()> {
        let db = self.db;
        db.execute_batch("BEGIN")?;
        let loaded = self.load_inside();
        db.execute_batch("ROLLBACK")?;
        loaded
    }

    fn load_inside(&mut self) -> Result<()> {
        let row = state::position(self.db)?;
        self.position = row.position;
        self.tag = row.tag;
        self.lineage = state::lineage(self.db)?;
        self.reload_schema()?;
        self.sequences = None;
        self.ledger = Ledger::new(state::digests(self.db, &self.schema)?);
        Ok(())
    }

    /// Tables that were in the file before Syncline was: counted once, before the first commit.
    fn adopt_unlogged(&mut self) -> Result<()> {
        let untouched = self.position == Position::default() && self.lineage.0.is_empty();
        if !untouched || self.schema.shapes.is_empty() {
            return Ok(());
        }
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        self.ledger = Ledger::new(recount::database(self.db)?);
        for (name, table) in self.ledger.digest().tables() {
            self.statements.write_table.execute(&[
                crate::change::ValueRef::Text(name),
                state::int(table.rows),
                crate::change::ValueRef::Blob(&table.digest.to_bytes()),
            ])?;
        }
        let position = Position { digest: self.ledger.total(), ..self.position };
        self.write_position(position, self.tag, crate::change::Timestamp(0))?;
        self.db.execute_batch("COMMIT")?;
        self.position = position;
        Ok(())
    }

    /// Where the copy stands, as this handle last wrote or loaded it.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The epochs, likewise.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file lies.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The handle, for what the engine's writer does itself.
    pub(crate) fn db(&self) -> Db {
        self.db
    }

    /// From now on commits come from clients' SQL: their triggers, keys and checks are on.
    pub(crate) fn serve_clients(&self) -> Result<()> {
        connection::set_client_mode(self.db, true)
    }

    /// From now on commits come from a source: triggers, key actions and checks are off, and shadow
    /// tables may be written.
    pub(crate) fn follow(&self) -> Result<()> {
        connection::set_client_mode(self.db, false)
    }

    /// SQLite checkpoints as it likes: for copies that nobody commits to.
    pub(crate) fn checkpoint_by_itself(&self) -> Result<()> {
        self.db.execute_batch("PRAGMA wal_autocheckpoint = 4000")
    }

    /// From now on what another store refuses fails here, statement by statement.
    pub(crate) fn refuse_what(&mut self, refusals: Arc<dyn Refusals>) {
        self.capture.set_refusals(self.db, refusals, &self.schema);
    }

    /// The last version at which the rows were recounted and agreed.
    pub(crate) fn verified(&self) -> Result<crate::change::Version> {
        Ok(state::position(self.db)?.verified)
    }

    /// Whether a commit is synced before it is reported.
    pub(crate) fn set_sync(&self, sync: Sync) -> Result<()> {
        connection::set_sync(self.db, sync)
    }
}
