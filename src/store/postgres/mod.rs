//! A store on a PostgreSQL server: rows in ordinary typed tables, log and position beside them.
//!
//! ```text
//!   commits ──▶ apply ──▶ pipeline ──▶ session ──▶ server
//!                 │ steps                 ▲
//!                 ▼                       │
//!              catalogue (SQLite's schema, without rows)      source: snapshot, recount, log
//! ```
//!
//! What lies in PostgreSQL can be read by every tool that reads PostgreSQL. SQLite's schema is kept as text
//! beside it, and comes to life again where a copy is loaded; a SQLite in memory that has the schema and no
//! rows answers what shapes and keys a schema step makes.
//!
//! A store has one session and opens another when that one is lost. Its own idea of where the copy stands
//! stays as it was: the fence tells whether it is still true. After `OUTCOME_UNKNOWN` it is the caller's
//! to take the next epoch, which waits for the transaction in question, and to look.
//!
//! Left out: clients' SQL. A writer runs it on a SQLite copy of its own, and commits here what it captured.

mod adopt;
mod apply;
mod connect;
mod copy;
mod failure;
mod fill;
mod form;
mod held;
mod jsonb;
mod listen;
mod log;
mod parameter;
mod pipeline;
mod refusals;
mod release;
mod restate;
mod source;
mod state;
mod steps;
mod store;
mod survey;
mod tables;
#[cfg(test)]
mod tests;
mod types;
mod undo;

use std::collections::HashMap;
use std::sync::Arc;

pub use crate::dial::postgres::PostgresPlace;
pub use listen::Listener;
pub use source::PostgresSource;
pub use types::TableTypes;

use crate::change::{Lineage, Position, RequestId, Tag, Timestamp, Version};
use crate::error::Result;
use crate::store::ledger::Ledger;
use crate::store::sqlite::Catalogue;
use apply::Work;
use connect::{Purpose, Session};
use failure::unavailable;
use parameter::{int, text};
use pipeline::Expect;
use source::Model;
use tables::Table;

/// A copy of one database in PostgreSQL.
pub struct PostgresStore {
    place: PostgresPlace,
    session: Option<Session>,
    /// The PostgreSQL schema that it lies in.
    schema: String,
    catalogue: Catalogue,
    tables: HashMap<String, Arc<Table>>,
    /// Somebody gave the tables foreign keys: order counts across them.
    has_foreign_keys: bool,
    /// The catalogue is ahead of the tables: a transaction that changed both was taken back.
    stale: bool,
    /// A transaction is open: a session that is lost now is not replaced.
    open: bool,
    ledger: Ledger,
    position: Position,
    tag: Tag,
    lineage: Lineage,
}

impl PostgresStore {
    /// Opens (or makes) the copy in the first schema of the user's `search_path`.
    pub fn open(place: PostgresPlace) -> Result<PostgresStore> {
        let mut store = PostgresStore {
            place,
            session: None,
            schema: String::new(),
            catalogue: Catalogue::of([])?,
            tables: HashMap::new(),
            has_foreign_keys: false,
            stale: false,
            open: false,
            ledger: Ledger::default(),
            position: Position::default(),
            tag: Tag::default(),
            lineage: Lineage::default(),
        };
        let session = store.session()?;
        state::create(session)?;
        store.schema = session_schema(store.session()?)?;
        store.load()?;
        Ok(store)
    }

    /// Reads position, lineage, schema and digests, as they are now.
    pub(crate) fn load(&mut self) -> Result<()> {
        self.inside(|store| {
            store.session()?.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
            store.load_inside()?;
            store.session()?.batch("COMMIT")
        })
    }

    fn load_inside(&mut self) -> Result<()> {
        self.load_model()?;
        let standing = state::standing(self.session()?)?;
        self.ledger = Ledger::new(state::digests(self.session()?)?);
        (self.position, self.tag) = (standing.position, standing.tag);
        self.lineage = standing.lineage;
        Ok(())
    }

    fn load_model(&mut self) -> Result<()> {
        let model = Model::read(self.session()?)?;
        self.catalogue = model.catalogue;
        let named = |table: Table| (table.shape.name.clone(), Arc::new(table));
        self.tables = model.tables.into_iter().map(named).collect();
        self.has_foreign_keys = tables::have_foreign_keys(self.session()?)?;
        self.stale = false;
        Ok(())
    }

    /// The session; another one, if it was lost.
    fn session(&mut self) -> Result<&mut Session> {
        if self.session.as_ref().is_none_or(Session::is_lost) {
            if self.open {
                return Err(unavailable("the connection was lost"));
            }
            self.session = Some(Session::open(&self.place, Purpose::Write)?);
        }
        Ok(self.session.as_mut().expect("it was put there"))
    }

    /// Runs `work`, which begins and ends a transaction; undoes what it leaves behind when it fails.
    fn inside<T>(&mut self, work: impl FnOnce(&mut PostgresStore) -> Result<T>) -> Result<T> {
        self.session()?;
        self.open = true;
        let done = work(self);
        self.open = false;
        if let (Err(_), Some(session)) = (&done, &mut self.session) {
            session.rollback();
        }
        done
    }

    /// Runs `work` in a transaction behind the fence, which moves the position to `becomes`; then writes what
    /// follows from it, and commits.
    fn in_transaction(
        &mut self,
        becomes: (Position, Tag),
        at: Option<Timestamp>,
        lineage: Lineage,
        work: impl FnOnce(&mut PostgresStore, &mut Work) -> Result<()>,
    ) -> Result<Position> {
        if self.stale {
            self.load_model()?;
        }
        let mark = self.ledger.mark();
        let mut open = Work::towards(becomes, lineage);
        let done = self.inside(|store| {
            let sent = store.begin(&mut open, at).and_then(|()| work(store, &mut open));
            let sent = sent.and_then(|()| store.end(&mut open));
            if let Err(error) = sent {
                // What was sent before may have failed already: that is then the reason.
                if let Ok(session) = store.session() {
                    open.pipeline.finish(session)?;
                }
                return Err(error);
            }
            open.pipeline.commit(store.session()?)
        });
        if let Err(error) = done {
            self.ledger.undo_to(mark);
            self.stale |= open.schema_changed;
            return Err(error);
        }
        self.ledger.settle();
        (self.position, self.tag) = open.becomes;
        self.lineage = open.lineage;
        Ok(self.position)
    }

    fn begin(&mut self, work: &mut Work, at: Option<Timestamp>) -> Result<()> {
        let (sql, parameters) = state::compare_and_set((self.position, self.tag), work.becomes, at);
        let session = self.session()?;
        work.pipeline.begin(session);
        work.pipeline.send(session, sql, parameters, Expect::Fence)
    }

    /// Sends what follows from the rows that were sent.
    fn end(&mut self, work: &mut Work) -> Result<()> {
        let changed = self.ledger.changed().into_iter();
        let (there, gone): (Vec<_>, Vec<_>) =
            changed.map(|name| (name, self.ledger.get(name))).partition(|(_, is)| is.is_some());
        let forgotten: Vec<_> =
            gone.into_iter().map(|(name, _)| state::forget_digest(name)).collect();
        let digests = state::digest_columns(there.into_iter().filter_map(|(n, is)| Some((n, is?))));
        self.requests(work, forgotten)?;
        self.requests(work, state::write_lineage(&self.lineage, &work.lineage))?;
        if work.schema_changed {
            let objects = state::write_objects(self.catalogue.objects());
            self.requests(work, objects)?;
        }
        let news = [text(&listen::channel(&self.schema)), text(&work.becomes.0.to_string())];
        let end = state::end(digests, news, work.logged.take());
        self.requests(work, [end])
    }

    /// Runs `work` in a transaction that asks for no fence: what it does concerns nobody's rows.
    fn at_once(&mut self, work: impl FnOnce(&mut Session) -> Result<()>) -> Result<()> {
        let session = self.session()?;
        session.begin("")?;
        let done = work(session).and_then(|()| session.commit());
        done.inspect_err(|_| session.rollback())
    }

    /// The position of the commit at `version`, if the log has it.
    pub fn position_at(&mut self, version: Version) -> Result<Option<Position>> {
        log::position_at(self.session()?, version)
    }

    /// What a write that brought `id` was answered, and its version.
    pub fn answered(&mut self, id: &RequestId) -> Result<Option<(Version, Vec<u8>)>> {
        let sql =
            "SELECT version, response FROM _syncline_request WHERE client = $1 AND sequence = $2";
        let rows = self.session()?.query(sql, &[text(&id.client), int(id.sequence)])?;
        Ok(rows.first().map(|row| (Version(state::number(row, 0)), row.get(1))))
    }
}

fn session_schema(session: &mut Session) -> Result<String> {
    Ok(session.query("SELECT current_schema()::text", &[])?[0].get(0))
}
