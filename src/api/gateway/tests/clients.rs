//! The suite for endpoints, on a node's database: what its clients write with SQL is read through its gateway.

use std::collections::BTreeMap;

use super::node::Node;
use super::open;
use crate::change::Value;
use crate::endpoint::conformance::{World, cases};
use crate::endpoint::http::HttpEndpoint;
use crate::endpoint::sqlite::Access;
use crate::endpoint::{
    Applied, Batch, Chunk, Column, Endpoint, Engine, Horizon, Key, Plan, Range, Sink, Table,
};
use crate::engine::{DatabaseOptions, Program, RequestOptions, Statement, Step, StepOutcome};
use crate::error::Result;

/// A node, read as `diff` does, and written as clients do.
struct Clients {
    reads: HttpEndpoint,
    node: Node,
    _directory: tempfile::TempDir,
}

impl Clients {
    fn new() -> Option<Clients> {
        let directory = tempfile::tempdir().unwrap();
        let options = DatabaseOptions::writer(directory.path().join("main.db"));
        let node = Node::start(options, |server| server);
        Some(Clients { reads: node.open(), node, _directory: directory })
    }

    /// All of it, or the first error.
    fn run(&self, steps: Vec<Statement>) -> Result<()> {
        let step = |statement| Step { statement, condition: None };
        let program = Program { steps: steps.into_iter().map(step).collect() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut session = self.node.database.session();
        let outcome = runtime.block_on(session.run(program, &RequestOptions::default()))?;
        outcome.steps.into_iter().try_for_each(|step| match step {
            StepOutcome::Failed(error) => Err(error),
            _ => Ok(()),
        })
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A row as a client inserts it.
fn insert(plan: &Plan, row: &[u8]) -> Result<Statement> {
    let names: Vec<_> = plan.columns.iter().map(|column| quoted(&column.name)).collect();
    let places = vec!["?"; names.len()].join(", ");
    let (table, names) = (quoted(&plan.table), names.join(", "));
    let sql = format!("INSERT OR REPLACE INTO {table} ({names}) VALUES ({places})");
    Ok(Statement::new(sql, plan.values(row)?))
}

fn delete(plan: &Plan, key: &[u8]) -> Result<Statement> {
    let of_key = plan.columns[..plan.key].iter();
    let equal: Vec<_> = of_key.map(|column| format!("{} IS ?", quoted(&column.name))).collect();
    let sql = format!("DELETE FROM {} WHERE {}", quoted(&plan.table), equal.join(" AND "));
    let key: Vec<Value> = crate::endpoint::canon::decode_key(key)?;
    Ok(Statement::new(sql, key))
}

impl Endpoint for Clients {
    fn address(&self) -> &str {
        self.reads.address()
    }

    fn engine(&self) -> Engine {
        self.reads.engine()
    }

    fn tables(&mut self) -> Result<Vec<Table>> {
        self.reads.tables()
    }

    fn begin(&mut self) -> Result<Horizon> {
        self.reads.begin()
    }

    fn end(&mut self) -> Result<()> {
        self.reads.end()
    }

    fn read(&mut self, plan: &Plan, ranges: &[Range], sink: &mut Sink<'_>) -> Result<()> {
        self.reads.read(plan, ranges, sink)
    }

    fn rows(&mut self, plan: &Plan, keys: &[Key], sink: &mut Sink<'_>) -> Result<()> {
        self.reads.rows(plan, keys, sink)
    }

    fn digest(&mut self, plan: &Plan, ranges: &[Range], bits: u32) -> Result<Vec<Vec<Chunk>>> {
        self.reads.digest(plan, ranges, bits)
    }

    fn since(
        &mut self,
        plan: &Plan,
        version: Option<&[u8]>,
        strict: bool,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        self.reads.since(plan, version, strict, sink)
    }

    fn newest(&mut self, plan: &Plan) -> Result<Option<Key>> {
        self.reads.newest(plan)
    }

    fn nth_key(&mut self, plan: &Plan, after: Option<&Key>, n: usize) -> Result<Option<Key>> {
        self.reads.nth_key(plan, after, n)
    }

    fn apply(&mut self, batch: &Batch<'_>) -> Result<Applied> {
        self.reads.end()?;
        let keys: Vec<Key> = batch.puts.iter().map(|(key, _)| key.clone()).collect();
        let mut applied = Applied::default();
        self.reads.rows(batch.plan, &keys, &mut |key, row| {
            applied.equal += u64::from(batch.puts.iter().any(|put| put.0 == key && put.1 == row));
            Ok(())
        })?;
        let deletes = batch.deletes.iter().map(|key| delete(batch.plan, key));
        let inserts = batch.puts.iter().map(|(_, row)| insert(batch.plan, row));
        self.run(deletes.chain(inserts).collect::<Result<_>>()?)?;
        Ok(applied)
    }

    fn state(&mut self, prefix: &str) -> Result<Vec<(String, String)>> {
        self.reads.state(prefix)
    }

    fn create_statements(&self, tables: &[Table]) -> Result<Vec<String>> {
        self.reads.create_statements(tables)
    }

    fn add_column_statement(&self, table: &str, column: &Column) -> Result<String> {
        self.reads.add_column_statement(table, column)
    }

    fn create(&mut self, statements: &[String]) -> Result<()> {
        self.run(statements.iter().map(|sql| Statement::new(sql.as_str(), [])).collect())
    }
}

impl World for Clients {
    fn endpoint(&mut self) -> &mut dyn Endpoint {
        self
    }

    fn another(&mut self, access: Access) -> Option<Box<dyn Endpoint>> {
        Some(Box::new(open(self.reads.address(), access).unwrap()))
    }

    fn marks(&mut self, _table: &str) -> Option<BTreeMap<i64, String>> {
        None
    }

    fn picture(&mut self) -> Option<Vec<u8>> {
        Some(self.node.database.position().to_string().into_bytes())
    }
}

cases! { Clients::new;
    reading: rows_come_in_the_order_of_their_keys, ranges_are_half_open, several_ranges_are_read_in_one_go,
        tables_of_no_row_and_of_one, values_come_back, rows_are_found_by_their_keys, the_nth_key_is_found,
        filters_hold, a_snapshot_shows_no_later_writes, readers_leave_nothing_behind, duplicates_are_numbered,
        keys_that_become_one_are_refused, tables_are_described_as_they_were_made;
    digesting: digests_are_recounts_at_every_level, folding_is_rescanning, ranges_of_unknown_ends_are_digested,
        duplicates_are_digested, narrowing_finds_exactly_what_differs;
    versions: rows_since_a_version, newest_versions, moments_are_versions_too;
}
