//! Tables of a MySQL or MariaDB server as an endpoint.
//!
//! ```text
//! A   SET SESSION TRANSACTION READ ONLY · START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY · SELECT …
//! B   START TRANSACTION · SELECT … FOR UPDATE · UPDATE, INSERT, DELETE · SELECT … · COMMIT
//!                         what is there         what is missing          is it so?
//! ```
//!
//! MySQL changes some values on their way in without an error: it rounds decimals, cuts fractions of seconds
//! and blanks, clips times, and takes digits for the number of a word of an ENUM. So what was written is read
//! back before it is committed, and a row that is not as it must be is refused. Foreign keys are enforced, and
//! cannot be deferred; a delete that would cascade is refused ([`guard`]).
//!
//! How keys sort is in [`order`], what types mean in [`declared`].
//!
//! Left out: taking back what was made, for the server commits each table that it makes. Tables of engines
//! without transactions are read and written all the same, and [`warnings`](crate::endpoint::Endpoint::warnings)
//! tell what that means. The bytes on the wire, which the driver does not count.

mod apply;
mod aside;
mod catalogue;
mod declared;
mod failed;
mod guard;
mod multiset;
mod order;
mod read;
#[cfg(test)]
#[path = "../../../tests/support/mariadb.rs"]
mod server;
mod session;
mod state;
mod value;
#[cfg(test)]
mod world;

use std::collections::HashSet;

use self::declared::Dialect;
use self::session::Session;
use super::chunk::{Chunk, Range};
use super::digests::Leaves;
use super::sqlite::Access;
use super::{Applied, Batch, Column, Endpoint, Engine, Horizon, Key, Plan, Sink, Table};
use crate::dial::mysql::MysqlPlace;
use crate::error::Result;

/// A database on a server.
pub struct MysqlEndpoint {
    address: String,
    session: Session,
    leaves: Leaves,
    /// Tables whose keys the server does not give in canonical order.
    unordered: HashSet<String>,
}

impl MysqlEndpoint {
    /// Connects to `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub fn open(url: &str, access: Access) -> Result<MysqlEndpoint> {
        let place = MysqlPlace::read(url)?;
        let address = format!("mysql://{place}");
        let session = Session::open(place, access)?;
        let (leaves, unordered) = Default::default();
        Ok(MysqlEndpoint { address, session, leaves, unordered })
    }

    fn dialect(&self) -> Dialect {
        let server = self.session.server();
        Dialect::of(server.is_maria, server.version)
    }
}

impl Endpoint for MysqlEndpoint {
    fn address(&self) -> &str {
        &self.address
    }

    fn engine(&self) -> Engine {
        Engine::Mysql
    }

    fn tables(&mut self) -> Result<Vec<Table>> {
        catalogue::tables(&mut self.session)
    }

    fn begin(&mut self) -> Result<Horizon> {
        self.leaves.forget();
        self.session.begin()?;
        Ok(Horizon::Untold)
    }

    fn end(&mut self) -> Result<()> {
        self.leaves.forget();
        self.session.end()
    }

    fn read(&mut self, plan: &Plan, ranges: &[Range], sink: &mut Sink<'_>) -> Result<()> {
        read::ranges(&mut self.session, &mut self.unordered, plan, ranges, sink)
    }

    fn nth_key(&mut self, plan: &Plan, after: Option<&Key>, n: usize) -> Result<Option<Key>> {
        read::nth_key(&mut self.session, &mut self.unordered, plan, after, n)
    }

    fn rows(&mut self, plan: &Plan, keys: &[Key], sink: &mut Sink<'_>) -> Result<()> {
        read::keys(&mut self.session, plan, keys, sink)
    }

    fn digest(&mut self, plan: &Plan, ranges: &[Range], bits: u32) -> Result<Vec<Vec<Chunk>>> {
        let (session, unordered) = (&mut self.session, &mut self.unordered);
        self.leaves.digest(plan, ranges, bits, |ranges, sink| {
            read::ranges(session, unordered, plan, ranges, sink)
        })
    }

    fn since(
        &mut self,
        plan: &Plan,
        version: Option<&[u8]>,
        strict: bool,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        read::since(&mut self.session, plan, version, strict, sink)
    }

    fn newest(&mut self, plan: &Plan) -> Result<Option<Key>> {
        read::newest(&mut self.session, plan)
    }

    fn apply(&mut self, batch: &Batch<'_>) -> Result<Applied> {
        self.end()?;
        apply::apply(&mut self.session, batch)
    }

    fn state(&mut self, prefix: &str) -> Result<Vec<(String, String)>> {
        state::entries(&mut self.session, prefix)
    }

    fn create_statements(&self, tables: &[Table]) -> Result<Vec<String>> {
        Ok(declared::create_statements(tables, self.dialect()))
    }

    fn add_column_statement(&self, table: &str, column: &Column) -> Result<String> {
        Ok(declared::add_column_statement(table, column, self.dialect()))
    }

    fn create(&mut self, statements: &[String]) -> Result<()> {
        self.end()?;
        // A table may refer to one that nobody asked for.
        self.session.unchecked(|session| statements.iter().try_for_each(|sql| session.run(sql)))
    }

    fn warnings(&mut self, tables: &[Table]) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for table in tables.iter().filter(|table| !table.triggers.is_empty()) {
            let (name, triggers) = (&table.name, table.triggers.join(", "));
            warnings.push(format!("{name}: triggers will run when rows are written: {triggers}"));
        }
        for (name, engine) in catalogue::without_transactions(&mut self.session)? {
            if tables.iter().any(|table| table.name == name) {
                warnings.push(format!(
                    "{name}: {engine} knows no transactions: no snapshot holds it, and a batch that fails may \
                     leave a part behind"
                ));
            }
        }
        Ok(warnings)
    }
}
