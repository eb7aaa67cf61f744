//! A PostgreSQL database with an endpoint on it, and rows in canonical form.

#![allow(dead_code, reason = "each test that includes this module uses a part of it")]

use super::postgres::Server;
use syncline::change::Value;
use syncline::endpoint::agree::{Wishes, agree};
use syncline::endpoint::postgres::PostgresEndpoint;
use syncline::endpoint::sqlite::Access;
use syncline::endpoint::{Applied, Batch, Endpoint, Engine, Key, Plan, Range, Row, Table, canon};
use syncline::error::Error;

/// A database, and an endpoint that may write to it.
pub struct Side {
    pub server: &'static Server,
    pub url: String,
    pub endpoint: PostgresEndpoint,
}

pub fn side(sql: &str) -> Option<Side> {
    let server = Server::get()?;
    let url = server.database();
    server.sql(name_in(&url), sql);
    let endpoint = PostgresEndpoint::open(&url, Access::Write).unwrap();
    Some(Side { server, url, endpoint })
}

pub fn name_in(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

impl Side {
    pub fn sql(&self, sql: &str) -> String {
        self.server.sql(name_in(&self.url), sql).trim_end().to_owned()
    }

    /// As another user, who may read or write.
    pub fn as_user(&self, user: &str, access: Access) -> Result<PostgresEndpoint, Error> {
        PostgresEndpoint::open(&self.url.replacen("postgres@", &format!("{user}@"), 1), access)
    }

    pub fn plan(&mut self, table: &str) -> Plan {
        plan_of(&table_of(&mut self.endpoint, table))
    }

    pub fn apply(
        &mut self,
        plan: &Plan,
        puts: &[(Key, Row)],
        deletes: &[Key],
    ) -> Result<Applied, Error> {
        self.endpoint.apply(&Batch { plan, puts, deletes, state: &[] })
    }
}

pub fn table_of(endpoint: &mut dyn Endpoint, name: &str) -> Table {
    let tables = endpoint.tables().unwrap();
    tables.into_iter().find(|table| table.name == name).expect("the table is described")
}

/// The table compared with itself.
pub fn plan_of(table: &Table) -> Plan {
    let sided = (Engine::Postgres, table);
    agree(sided, sided, &Wishes::default()).unwrap().a
}

pub fn row(plan: &Plan, values: &[Value]) -> (Key, Row) {
    let mut row = Row::new();
    values.iter().for_each(|value| canon::put_value(&mut row, value.as_ref()));
    (canon::encode_key(values[..plan.key].iter().map(Value::as_ref)), row)
}

pub fn int(n: i64) -> Value {
    Value::Integer(n)
}

pub fn text(text: &str) -> Value {
    Value::Text(text.into())
}

pub fn all(endpoint: &mut dyn Endpoint, plan: &Plan) -> Vec<(Key, Row)> {
    let mut rows = Vec::new();
    let mut take = |key: &[u8], row: &[u8]| {
        rows.push((key.to_vec(), row.to_vec()));
        Ok(())
    };
    endpoint.read(plan, &[Range::ALL], &mut take).unwrap();
    rows
}

pub fn values(plan: &Plan, rows: &[(Key, Row)]) -> Vec<Vec<Value>> {
    rows.iter().map(|(_, row)| plan.values(row).unwrap()).collect()
}

pub fn key(n: i64) -> Key {
    canon::encode_key([int(n).as_ref()])
}
