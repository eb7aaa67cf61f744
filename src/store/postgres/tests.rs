//! Types, sessions, schema steps and lost connections against a real server.

mod cut;
mod followed;
mod forms;
mod random;

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use tokio_postgres::types::Type;

use super::connect::{Purpose, Session};
use super::parameter::Parameter;
use super::source::read_value;
use super::types::ColumnType;
use super::{PostgresSource, PostgresStore, copy};
use crate::change::{Value, ValueRef};
use crate::dial::postgres::PostgresPlace;
use crate::store::conformance::server::Server;

fn place(server: &Server) -> PostgresPlace {
    PostgresPlace::read(&server.database()).unwrap()
}

/// Puts values into a column and reads them back, in order.
fn there_and_back(session: &mut Session, kind: ColumnType, values: &[Value]) -> Vec<Value> {
    let (sql, wire) = (kind.sql(), kind.wire());
    session.batch("DROP TABLE IF EXISTS t").unwrap();
    session.batch(&format!("CREATE TABLE t (i bigserial, c {sql})")).unwrap();
    session.forget_prepared();
    let insert = format!("INSERT INTO t (c) VALUES (${}::{wire}{})", 1, kind.wire_cast());
    for value in values {
        session.execute(&insert, vec![value.as_ref().into()]).unwrap();
    }
    let (column, parameter) = kind.sides("c", 1);
    let found = format!("UPDATE t SET i = i WHERE {column} IS NOT DISTINCT FROM {parameter}");
    for value in values {
        let equal = values.iter().filter(|v| *v == value).count() as u64;
        let matched = session.execute(&found, vec![value.as_ref().into()]).unwrap();
        assert_eq!(matched, equal, "{kind:?} finds {value:?} again");
    }
    let back = stored(session, kind);
    session.batch("TRUNCATE t").unwrap();
    let mut text = Vec::new();
    values.iter().for_each(|value| copy::add_row(&mut text, [(kind, value)]));
    let copied = session.copy_in("COPY t (c) FROM STDIN", text).unwrap();
    assert_eq!(copied, values.len() as u64);
    assert_eq!(stored(session, kind), back, "{kind:?} by COPY");
    back
}

fn stored(session: &mut Session, kind: ColumnType) -> Vec<Value> {
    let mut back = Vec::new();
    let sql = format!("SELECT c{} FROM t ORDER BY i", kind.read_cast());
    session
        .copy_out(&sql, &[kind.wire_type()], |row| {
            back.push(read_value(row, 0, kind)?.to_owned());
            Ok(())
        })
        .unwrap();
    back
}

/// What may come along, of every class, extremes among it.
fn any_value() -> impl Strategy<Value = Value> {
    let integers = prop_oneof![
        any::<i64>(),
        Just(i64::MIN),
        Just(i64::MAX),
        Just(0),
        Just(1),
        Just(-1),
        -100_000i64..100_000,
    ];
    let reals = prop_oneof![
        any::<f64>().prop_filter("SQLite stores no NaN", |r| !r.is_nan()),
        any::<f32>().prop_filter("nor here", |r| !r.is_nan()).prop_map(f64::from),
        Just(-0.0),
        Just(f64::MAX),
        Just(f64::MIN_POSITIVE),
        Just(5e-324),
        Just(-9_223_372_036_854_775_808.0),
        Just(9_223_372_036_854_775_808.0),
        Just(f64::INFINITY),
        (-100_000i64..100_000).prop_map(|n| n as f64 / 100.0),
    ];
    let texts = prop_oneof![
        any::<String>(),
        "[a-z ]{0,12}",
        "\\PC{0,8}",
        Just(String::new()),
        Just("\u{10ffff}\u{1f980}e\u{301}".to_owned()),
        Just("tail  ".to_owned()),
        Just("with\0nul".to_owned()),
        Just("{\"a\" : [1, 2.50, \"\\u0000\"], \"a\": null}".to_owned()),
        Just("[".repeat(400) + &"]".repeat(400)),
        Just("[".repeat(9000) + &"]".repeat(9000)),
        Just("\"\\ud800\"".to_owned()),
        Just(" 1e400 ".to_owned()),
        Just("2024-02-30 25:61".to_owned()),
    ];
    prop_oneof![
        Just(Value::Null),
        integers.prop_map(Value::Integer),
        reals.prop_map(Value::Real),
        texts.prop_map(Value::Text),
        forms::canonical().prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Blob),
    ]
}

const DECLARED: [&str; 33] = [
    "INTEGER",
    "bigint",
    "int4",
    "INT2",
    "TEXT",
    "VARCHAR(5)",
    "CHARACTER(20)",
    "clob",
    "BLOB",
    "bytea",
    "REAL",
    "DOUBLE PRECISION",
    "BOOLEAN",
    "NUMERIC",
    "DECIMAL(10, 2)",
    "NUMERIC(4)",
    "numeric(30,30)",
    "DATE",
    "TIMESTAMP WITH TIME ZONE",
    "datetime",
    "UUID",
    "JSON",
    "REAL FLOAT4",
    "TEXT UUID",
    "text date",
    "TEXT TIME",
    "TEXT TIME(1)",
    "TEXT TIMESTAMP",
    "TEXT TIMESTAMP(3)",
    "TEXT TIMESTAMPTZ",
    "TEXT TIMESTAMPTZ(0)",
    "TEXT JSONB",
    "TEXT CHAR(6)",
];

/// Every value that a type does not refuse comes back as it was, from the real server.
#[test]
fn what_is_not_refused_comes_back() {
    let Some(server) = Server::get() else { return };
    let mut session = Session::open(&place(server), Purpose::Write).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let many = proptest::collection::vec(any_value(), 400);
    for declared in DECLARED {
        let kind = ColumnType::of(declared).unwrap();
        let mut values = many.new_tree(&mut runner).unwrap().current();
        values.retain(|value| kind.refuses(value.as_ref()).is_none());
        assert!(values.iter().any(|v| !v.as_ref().is_null()), "{declared}: something is held");
        let back = there_and_back(&mut session, kind, &values);
        assert_eq!(back, values, "{declared}");
    }
}

/// What a type refuses, the server would have refused or changed: nothing is refused in vain.
#[test]
fn what_is_refused_would_not_have_come_back() {
    let text = |text: &str| Value::Text(text.to_owned());
    for (declared, value) in [
        ("INTEGER", text("7")),
        ("INTEGER", Value::Real(7.0)),
        ("TEXT", text("a\0b")),
        ("TEXT", Value::Blob(vec![1])),
        ("VARCHAR(3)", text("äöüß")),
        ("VARCHAR(3)", text("abc ")),
        ("BLOB", text("x")),
        ("REAL", Value::Integer(1)),
        ("BOOLEAN", Value::Integer(2)),
        ("NUMERIC", Value::Real(f64::INFINITY)),
        ("NUMERIC", Value::Real(4.0)),
        ("DECIMAL(5,2)", Value::Real(0.125)),
        ("DECIMAL(5,2)", Value::Integer(1000)),
        ("JSON", text("{")),
        ("JSON", text("[1,]")),
        ("JSON", Value::Integer(5)),
        ("UUID", Value::Integer(5)),
    ] {
        let kind = ColumnType::of(declared).unwrap();
        assert!(kind.refuses(value.as_ref()).is_some(), "{declared} {value:?}");
    }
    let kind = ColumnType::of("VARCHAR(3)").unwrap();
    assert_eq!(kind.refuses(ValueRef::Text("äöü")), None);
    for unknown in
        ["", "ANY", "MONEY", "NUMERIC(0)", "DECIMAL(2,3)", "NUMERIC(x)", "JSONB", "TEXT TIME(7)"]
    {
        assert_eq!(ColumnType::of(unknown), None, "{unknown}");
    }
}

#[test]
fn a_session_that_was_ended_says_so() {
    let Some(server) = Server::get() else { return };
    let place = place(server);
    let mut session = Session::open(&place, Purpose::Write).unwrap();
    let pid = session.query("SELECT pg_backend_pid()::int8", &[]).unwrap()[0].get::<_, i64>(0);
    server.sql("postgres", &format!("SELECT pg_terminate_backend({pid})"));
    let error = session.batch("SELECT 1").unwrap_err();
    assert_eq!(error.code(), "BACKING_UNAVAILABLE", "{error}");
    assert!(session.is_lost());
    assert_eq!(session.batch("SELECT 1").unwrap_err().code(), "BACKING_UNAVAILABLE");
    let gone = PostgresPlace::read("postgres://u:secret@127.0.0.1:1/x").unwrap();
    let error = Session::open(&gone, Purpose::Read).err().expect("nobody is there");
    assert_eq!(error.code(), "BACKING_UNAVAILABLE");
    assert!(error.message().contains("127.0.0.1:1/x") && !format!("{error:?}").contains("secret"));
}

#[test]
fn a_statement_that_waits_for_a_lock_ends() {
    let Some(server) = Server::get() else { return };
    let place = place(server).within(Duration::from_millis(800));
    let mut one = Session::open(&place, Purpose::Read).unwrap();
    one.batch("CREATE TABLE t (a int8)").unwrap();
    one.batch("BEGIN; LOCK t").unwrap();
    let mut two = Session::open(&place, Purpose::Write).unwrap();
    let error =
        two.execute("UPDATE t SET a = $1::int8", vec![Parameter::from(ValueRef::Integer(1))]);
    assert_eq!(error.unwrap_err().code(), "BACKING_LOCKED");
    assert!(!two.is_lost());
    assert_eq!(Type::INT8, ColumnType::Integer.wire_type());
}

/// What a URL's TLS comes to: whether the session is encrypted, or the code.
fn encrypted(url: &str) -> Result<bool, &'static str> {
    let mut session = Session::open(&PostgresPlace::read(url).unwrap(), Purpose::Read)
        .map_err(|error| error.code())?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(session.query(sql, &[]).unwrap()[0].get(0))
}

/// A server that cannot prove who it is gets nothing, not even a password.
#[test]
fn tls_is_as_strict_as_the_url_says() {
    let Some(server) = Server::get() else { return };
    let Some(certificate) = server.certificate() else {
        eprintln!("skipped: openssl is not installed");
        return;
    };
    let here = server.database();
    let named = here.replace("127.0.0.1", "localhost");
    let root = certificate.display();
    let refused = Err("POSTGRES_TLS_REFUSED");
    for (url, expected) in [
        (here.clone(), Ok(false)),
        (format!("{here}?sslmode=prefer"), Ok(true)),
        (format!("{here}?sslmode=require"), Ok(true)),
        (format!("{named}?sslmode=verify-full&sslrootcert={root}"), Ok(true)),
        (format!("{here}?sslmode=verify-ca&sslrootcert={root}"), Ok(true)),
        (format!("{here}?sslmode=verify-full&sslrootcert={root}"), refused),
        (format!("{named}?sslmode=verify-full"), refused),
        (format!("{here}?sslmode=verify-ca"), refused),
        (format!("{named}?sslmode=verify-full&sslrootcert=/nowhere"), refused),
    ] {
        assert_eq!(encrypted(&url), expected, "{url}");
    }
}

/// What an administrator may have set for the database, and what a store makes of it.
#[test]
fn a_database_that_cannot_be_trusted_with_writes_is_refused() {
    let Some(server) = Server::get() else { return };
    let url = server.database();
    let database = url.rsplit('/').next().unwrap();
    let place = PostgresPlace::read(&url).unwrap();
    let code = |opened: Result<(), crate::error::Error>| opened.map_err(|error| error.code());
    let open = || code(PostgresStore::open(place.clone()).map(|_| ()));
    let read = || code(PostgresSource::open(place.clone()).map(|_| ()));
    assert_eq!(read(), Err("BACKING_EMPTY"));
    assert_eq!(open(), Ok(()));
    for (setting, write, reading) in [
        ("synchronous_commit = off", Err("BACKING_NOT_DURABLE"), Err("BACKING_NOT_DURABLE")),
        ("default_transaction_read_only = on", Err("BACKING_READ_ONLY"), Ok(())),
        ("search_path = nowhere", Err("BACKING_REFUSED"), Err("BACKING_REFUSED")),
    ] {
        server.sql("postgres", &format!("ALTER DATABASE {database} SET {setting}"));
        assert_eq!((open(), read()), (write, reading), "{setting}");
        server.sql("postgres", &format!("ALTER DATABASE {database} RESET ALL"));
    }
    assert_eq!((open(), read()), (Ok(()), Ok(())));
}
