//! MySQL as an endpoint, where it is unlike the others: its types, collations, silent changes, limits and errors.
//!
//! What every endpoint owes is in `src/endpoint/conformance`.
#![cfg(feature = "mysql")]

#[path = "endpoint_mysql/errors.rs"]
mod errors;
#[path = "endpoint_mysql/keys.rs"]
mod keys;
#[path = "endpoint_mysql/large.rs"]
mod large;
#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "endpoint_mysql/references.rs"]
mod references;
#[path = "endpoint_mysql/types.rs"]
mod types;

use mariadb::{Server, name_in};
use syncline::change::Value;
use syncline::endpoint::agree::{Agreement, Wishes, agree};
use syncline::endpoint::mysql::MysqlEndpoint;
use syncline::endpoint::sqlite::{Access, SqliteEndpoint};
use syncline::endpoint::{Applied, Batch, Endpoint, Key, Plan, Range, Row, Table, canon};
use syncline::error::{Error, Result};

/// A new database with these tables, and a handle that may write.
fn made(sql: &str) -> Option<(&'static Server, String, MysqlEndpoint)> {
    let server = Server::get()?;
    let url = server.database();
    server.sql(name_in(&url), sql);
    let endpoint = MysqlEndpoint::open(&url, Access::Write).unwrap();
    Some((server, url, endpoint))
}

fn table(endpoint: &mut dyn Endpoint, name: &str) -> Table {
    let tables = endpoint.tables().unwrap();
    tables.into_iter().find(|table| table.name == name).expect("the table is there")
}

fn agreed(a: &mut dyn Endpoint, b: &mut dyn Endpoint, name: &str) -> Agreement {
    let (of_a, of_b) = (table(a, name), table(b, name));
    agree((a.engine(), &of_a), (b.engine(), &of_b), &Wishes::default()).unwrap()
}

/// The plan of a table that is compared with itself.
fn plan(endpoint: &mut dyn Endpoint, name: &str) -> Plan {
    let table = table(endpoint, name);
    agree((endpoint.engine(), &table), (endpoint.engine(), &table), &Wishes::default()).unwrap().a
}

fn rows(endpoint: &mut dyn Endpoint, plan: &Plan, range: Range) -> Vec<(Key, Row)> {
    let mut rows = Vec::new();
    let mut take = |key: &[u8], row: &[u8]| {
        rows.push((key.to_vec(), row.to_vec()));
        Ok(())
    };
    endpoint.read(plan, &[range], &mut take).unwrap();
    rows
}

fn all(endpoint: &mut dyn Endpoint, plan: &Plan) -> Vec<(Key, Row)> {
    rows(endpoint, plan, Range::ALL)
}

fn digest(endpoint: &mut dyn Endpoint, plan: &Plan) -> String {
    format!("{:?}", endpoint.digest(plan, &[Range::ALL], 64).unwrap())
}

fn put(endpoint: &mut dyn Endpoint, plan: &Plan, puts: &[(Key, Row)]) -> Result<Applied> {
    endpoint.apply(&Batch { plan, puts, deletes: &[], state: &[] })
}

fn delete(endpoint: &mut dyn Endpoint, plan: &Plan, deletes: &[Key]) -> Result<Applied> {
    endpoint.apply(&Batch { plan, puts: &[], deletes, state: &[] })
}

/// A row of values as it is put.
fn row(plan: &Plan, values: &[Value]) -> (Key, Row) {
    let mut row = Row::new();
    values.iter().for_each(|value| canon::put_value(&mut row, value.as_ref()));
    (canon::encode_key(values[..plan.key].iter().map(Value::as_ref)), row)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn refused(result: Result<Applied>) -> Error {
    let error = result.expect_err("it must be refused");
    assert_eq!(error.code(), "ROW_REFUSED", "{error}");
    error
}

/// A SQLite file in memory.
fn sqlite() -> SqliteEndpoint {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    SqliteEndpoint::over(connection, "memory".into()).unwrap()
}
