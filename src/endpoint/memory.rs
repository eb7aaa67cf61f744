//! An endpoint in memory: the short one to read, and the twin that the others are checked against.
//!
//! A table is a map from keys to rows, both canonical. Left out: snapshots. Whoever reads sees what is there.

use std::collections::BTreeMap;

use super::chunk::{Chunk, Chunker, Range};
use super::{
    Applied, Batch, Column, Endpoint, Engine, Horizon, Key, Plan, Row, Sink, Table, canon,
};
use crate::change::{Value, ValueRef};
use crate::error::{Error, Result};

/// Rows in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryEndpoint {
    tables: BTreeMap<String, (Table, BTreeMap<Key, Row>)>,
    state: BTreeMap<String, String>,
    /// What `begin` says; none: writers take turns.
    pub horizon: Option<Horizon>,
}

impl MemoryEndpoint {
    /// Makes an empty table, or empties it.
    pub fn define(&mut self, table: Table) {
        self.tables.insert(table.name.clone(), (table, BTreeMap::new()));
    }

    /// Puts a row of values in the order of its plan, and gives what it replaced.
    pub fn put(&mut self, plan: &Plan, values: &[Value]) -> Option<Row> {
        let key = canon::encode_key(values[..plan.key].iter().map(Value::as_ref));
        let mut row = Vec::new();
        values.iter().for_each(|value| canon::put_value(&mut row, value.as_ref()));
        self.rows_of(plan).insert(key, row)
    }

    /// Removes the row with this key.
    pub fn remove(&mut self, plan: &Plan, key: &[ValueRef<'_>]) -> Option<Row> {
        self.rows_of(plan).remove(&canon::encode_key(key.iter().copied()))
    }

    /// All rows, by key.
    pub fn contents(&self, table: &str) -> &BTreeMap<Key, Row> {
        &self.tables[table].1
    }

    fn rows_of(&mut self, plan: &Plan) -> &mut BTreeMap<Key, Row> {
        &mut self.tables.get_mut(&plan.table).expect("the table was defined").1
    }

    fn by_version(&self, plan: &Plan) -> Result<Vec<(Key, &Key, &Row)>> {
        let mut versions = Vec::new();
        for (key, row) in &self.tables[&plan.table].1 {
            if let Some(version) = plan.version_of(row)? {
                versions.push((version, key, row));
            }
        }
        versions.sort();
        Ok(versions)
    }
}

impl Endpoint for MemoryEndpoint {
    fn address(&self) -> &str {
        "memory"
    }

    fn engine(&self) -> Engine {
        Engine::Sqlite
    }

    fn tables(&mut self) -> Result<Vec<Table>> {
        Ok(self.tables.values().map(|(table, _)| table.clone()).collect())
    }

    fn begin(&mut self) -> Result<Horizon> {
        Ok(self.horizon.unwrap_or(Horizon::Serial))
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }

    fn read(&mut self, plan: &Plan, ranges: &[Range], sink: &mut Sink<'_>) -> Result<()> {
        let rows = self.tables[&plan.table].1.iter();
        rows.filter(|(key, _)| ranges.iter().any(|range| range.contains(key)))
            .try_for_each(|(key, row)| sink(key, row))
    }

    fn rows(&mut self, plan: &Plan, keys: &[Key], sink: &mut Sink<'_>) -> Result<()> {
        let rows = &self.tables[&plan.table].1;
        keys.iter().filter_map(|key| rows.get_key_value(key)).try_for_each(|(k, row)| sink(k, row))
    }

    fn digest(&mut self, plan: &Plan, ranges: &[Range], bits: u32) -> Result<Vec<Vec<Chunk>>> {
        let mut chunker = Chunker::new(ranges, bits);
        self.read(plan, ranges, &mut |key, row| {
            chunker.push(key, 1, plan.hash(row));
            Ok(())
        })?;
        Ok(chunker.finish())
    }

    fn since(
        &mut self,
        plan: &Plan,
        version: Option<&[u8]>,
        strict: bool,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        for (_, key, row) in self.by_version(plan)? {
            if plan.has_reached(row, version, strict)? {
                sink(key, row)?;
            }
        }
        Ok(())
    }

    fn newest(&mut self, plan: &Plan) -> Result<Option<Key>> {
        Ok(self.by_version(plan)?.pop().map(|(version, ..)| version))
    }

    fn apply(&mut self, batch: &Batch<'_>) -> Result<Applied> {
        let mut applied = Applied::default();
        let rows = self.rows_of(batch.plan);
        for (key, row) in batch.puts {
            match rows.insert(key.clone(), row.clone()) {
                None => applied.inserted += 1,
                Some(old) if old == *row => applied.equal += 1,
                Some(_) => applied.updated += 1,
            }
        }
        for key in batch.deletes {
            applied.deleted += u64::from(rows.remove(key).is_some());
        }
        for (name, value) in batch.state {
            match value {
                Some(value) => self.state.insert(name.clone(), value.clone()),
                None => self.state.remove(name),
            };
        }
        Ok(applied)
    }

    fn state(&mut self, prefix: &str) -> Result<Vec<(String, String)>> {
        let of_prefix = self.state.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(of_prefix.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn create_statements(&self, tables: &[Table]) -> Result<Vec<String>> {
        Ok(tables.iter().map(|table| table.name.clone()).collect())
    }

    fn add_column_statement(&self, table: &str, column: &Column) -> Result<String> {
        Ok(format!("{table}.{}", column.name))
    }

    fn create(&mut self, _statements: &[String]) -> Result<()> {
        Err(Error::invalid("NOT_HERE", "tables in memory are defined by the program"))
    }
}
