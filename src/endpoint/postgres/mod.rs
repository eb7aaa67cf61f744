//! A PostgreSQL database as an endpoint.
//!
//! ```text
//!   describe   pg_catalog ─▶ Relation ─▶ Table      what SQL calls it, what lies in its columns
//!   read       COPY (SELECT …) TO STDOUT binary ─▶ tuples ─▶ canonical rows
//!   apply      COPY … FROM STDIN, UPDATE, DELETE by ctid: one transaction
//! ```
//!
//! A snapshot is a REPEATABLE READ transaction that only reads, on a primary or on a standby. A session that is
//! opened to read can do nothing else: PostgreSQL itself refuses. Row security is off: who may not see all rows
//! hears so, and never compares a part.
//!
//! Nothing is loaded whole. Values that PostgreSQL sends in binary are rendered from that ([`canonical`]); the
//! rest is asked for as text, under settings that no server or user can have changed.
//!
//! Tables of the schema that comes first in `search_path` go by their bare names, others by `schema.name`.
//!
//! # What is left out
//!
//! Digests that the server computes: it knows no hash that the other engines know, and delivers rows faster
//! than it could run one written in SQL. Large objects. Tables that inherit (not partitions): each is a table of
//! its own, with its own rows.

mod apply;
mod base;
mod canonical;
mod create;
mod describe;
mod failure;
mod guard;
mod kept;
mod literal;
mod park;
mod read;
mod relation;
mod session;
#[cfg(test)]
mod tests;
mod tuples;
mod written;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::chunk::{Chunk, Range};
use super::digests::Leaves;
use super::sqlite::Access;
use super::{Applied, Batch, Column, Endpoint, Engine, Horizon, Key, Plan, Sink, Table, Traffic};
use crate::dial::postgres::PostgresPlace;
use crate::error::{Error, Result};
use apply::Applying;
use read::Reading;
use relation::Relation;
use session::Session;

/// A database on a PostgreSQL server.
pub struct PostgresEndpoint {
    address: String,
    place: PostgresPlace,
    access: Access,
    session: Session,
    /// What was sent over sessions that are gone.
    before: Traffic,
    relations: HashMap<String, Arc<Relation>>,
    leaves: Leaves,
    /// Tables whose keys PostgreSQL does not give in canonical order.
    unordered: HashSet<String>,
}

/// An identifier as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl PostgresEndpoint {
    /// Connects to the database that a URL names, and looks whether it is there.
    pub fn open(url: &str, access: Access) -> Result<PostgresEndpoint> {
        let place = PostgresPlace::read(url)?;
        let session = Session::open(&place, access)?;
        let address = format!("postgres://{place}");
        let (before, relations, leaves, unordered) = Default::default();
        Ok(PostgresEndpoint {
            address,
            place,
            access,
            session,
            before,
            relations,
            leaves,
            unordered,
        })
    }

    /// A session that answers. With one that broke off its snapshot is gone, and no other may pass for it.
    fn session(&mut self) -> Result<&mut Session> {
        if self.session.is_lost() {
            if self.session.is_in_transaction() {
                return Err(failure::lost("its snapshot is gone"));
            }
            let gone = self.traffic();
            self.session = Session::open(&self.place, self.access)?;
            self.before = gone;
            self.relations.clear();
        }
        Ok(&mut self.session)
    }

    fn relation(&mut self, name: &str) -> Result<Arc<Relation>> {
        if let Some(relation) = self.relations.get(name) {
            return Ok(relation.clone());
        }
        let found = describe::relations(self.session()?, Some(name))?.pop();
        let relation = Arc::new(found.ok_or_else(|| self.no_such_table(name))?);
        self.relations.insert(name.to_owned(), relation.clone());
        Ok(relation)
    }

    fn no_such_table(&self, name: &str) -> Error {
        Error::invalid("ENDPOINT_STATEMENT", format!("{} has no table {name}", self.address))
            .hint("check the name, with its schema if that is not the first of search_path, and GRANT USAGE ON the schema")
    }

    /// The table of a plan, if the user may read it.
    fn readable(&mut self, plan: &Plan) -> Result<Arc<Relation>> {
        let relation = self.relation(&plan.table)?;
        match relation.planned(plan)?.iter().all(|(_, held)| held.readable) {
            true => Ok(relation),
            false => {
                self.relations.remove(&plan.table);
                Err(failure::forbidden(
                    format!("{}: the user may not read the table {}", self.address, plan.table),
                    format!("GRANT SELECT ON {} TO the user in the URL", relation.sql),
                ))
            }
        }
    }

    fn may_write(&self) -> Result<()> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => Err(failure::forbidden(
                format!("{} was opened to be read", self.address),
                "name it as the side that is made equal",
            )),
        }
    }

    /// What was learnt of tables and rows may be true no more.
    fn forget(&mut self) {
        self.leaves.forget();
        self.relations.clear();
    }
}

impl Endpoint for PostgresEndpoint {
    fn address(&self) -> &str {
        &self.address
    }

    fn engine(&self) -> Engine {
        Engine::Postgres
    }

    fn tables(&mut self) -> Result<Vec<Table>> {
        let relations = describe::relations(self.session()?, None)?;
        Ok(relations.into_iter().map(|relation| relation.table).collect())
    }

    fn begin(&mut self) -> Result<Horizon> {
        self.end()?;
        let session = self.session()?;
        session.begin_snapshot()?;
        let rows = session.rows(
            "SELECT txid_snapshot_xmin(s), txid_snapshot_xmax(s) FROM txid_current_snapshot() s",
        )?;
        let row = rows.first().ok_or_else(|| failure::lost("it gave no answer"))?;
        let (xmin, xmax) = (row.get::<_, i64>(0) as u64, row.get::<_, i64>(1) as u64);
        Ok(Horizon::Transactions { xmin, xmax })
    }

    fn end(&mut self) -> Result<()> {
        self.forget();
        // With a session that broke off there is nothing to end any more.
        match self.session.rollback() {
            Err(_) if self.session.is_lost() => Ok(()),
            ended => ended,
        }
    }

    fn read(&mut self, plan: &Plan, ranges: &[Range], sink: &mut Sink<'_>) -> Result<()> {
        let relation = self.readable(plan)?;
        self.session()?;
        let reading = Reading { relation: &relation, plan };
        reading.ranges(&mut self.session, &mut self.unordered, ranges, sink)
    }

    fn rows(&mut self, plan: &Plan, keys: &[Key], sink: &mut Sink<'_>) -> Result<()> {
        let relation = self.readable(plan)?;
        Reading { relation: &relation, plan }.keys(self.session()?, keys, sink)
    }

    fn digest(&mut self, plan: &Plan, ranges: &[Range], bits: u32) -> Result<Vec<Vec<Chunk>>> {
        let relation = self.readable(plan)?;
        if !self.session()?.is_in_transaction() {
            self.leaves.forget();
        }
        let (session, unordered) = (&mut self.session, &mut self.unordered);
        let reading = Reading { relation: &relation, plan };
        self.leaves.digest(plan, ranges, bits, |ranges, sink| {
            reading.ranges(session, unordered, ranges, sink)
        })
    }

    fn since(
        &mut self,
        plan: &Plan,
        version: Option<&[u8]>,
        strict: bool,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let relation = self.readable(plan)?;
        Reading { relation: &relation, plan }.since(self.session()?, version, strict, sink)
    }

    fn newest(&mut self, plan: &Plan) -> Result<Option<Key>> {
        let relation = self.readable(plan)?;
        Reading { relation: &relation, plan }.newest(self.session()?)
    }

    fn nth_key(&mut self, plan: &Plan, after: Option<&Key>, n: usize) -> Result<Option<Key>> {
        let relation = self.readable(plan)?;
        self.session()?;
        let reading = Reading { relation: &relation, plan };
        reading.nth_key(&mut self.session, &mut self.unordered, after, n)
    }

    fn apply(&mut self, batch: &Batch<'_>) -> Result<Applied> {
        self.may_write()?;
        self.leaves.forget();
        self.session.rollback().or_else(|error| match self.session.is_lost() {
            true => Ok(()),
            false => Err(error),
        })?;
        let relation = self.readable(batch.plan)?;
        let applied = Applying { session: self.session()?, relation: &relation, batch }.run();
        if applied.is_err() {
            self.forget();
        }
        applied
    }

    fn state(&mut self, prefix: &str) -> Result<Vec<(String, String)>> {
        apply::state(self.session()?, prefix)
    }

    fn create_statements(&self, tables: &[Table]) -> Result<Vec<String>> {
        Ok(create::create_statements(tables))
    }

    fn add_column_statement(&self, table: &str, column: &Column) -> Result<String> {
        Ok(create::add_column_statement(table, column))
    }

    fn create(&mut self, statements: &[String]) -> Result<()> {
        self.may_write()?;
        self.end()?;
        // Statements that come in one question are one transaction.
        self.session()?.batch(&statements.join(";\n")).map_err(create::explained)
    }

    fn warnings(&mut self, tables: &[Table]) -> Result<Vec<String>> {
        let relations = describe::relations(self.session()?, None)?;
        let named = |relation: &&Relation| tables.iter().any(|t| t.name == relation.table.name);
        Ok(relations.iter().filter(named).flat_map(describe::warnings).collect())
    }

    fn traffic(&self) -> Traffic {
        let now = self.session.traffic();
        Traffic {
            bytes: self.before.bytes + now.bytes,
            round_trips: self.before.round_trips + now.round_trips,
        }
    }
}
