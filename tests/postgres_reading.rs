//! What a reader asks of PostgreSQL, and that its reads ask nothing.
#![cfg(feature = "postgres")]

#[path = "support/on_postgres.rs"]
mod on_postgres;
#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::time::Duration;

use on_postgres::{reader_options, writer_options};
use postgres::Server;
use support::{count, eventually, ok, select, with_arguments};
use syncline::change::{Value, ValueRef};
use syncline::engine::{Database, DatabaseOptions, RequestOptions};

const READS: i64 = 10_000;
/// What may come meanwhile, whoever reads or not: the end of a look that was under way.
const OTHERS: usize = 50;

#[test]
fn reads_never_reach_the_server() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let a = Database::open(writer_options(&url, dir.path(), "a")).unwrap();
    ok(&mut a.session(), &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
    ok(&mut a.session(), &["INSERT INTO t VALUES (1, 'one'), (2, 'two')"]);
    let never = Duration::from_secs(3600);
    let options = DatabaseOptions {
        check_every: never,
        full_every: never,
        ..reader_options(&server.counted(&url), dir.path(), "b")
    };
    let b = Database::open(options).unwrap();
    let at_first = server.statements();
    assert!(at_first > OTHERS / 10, "its start is counted: {at_first}");
    read_by_statements(&b);
    read_by_handle(&b);
    let later = server.statements();
    assert!(later - at_first <= OTHERS, "{} statements for {READS} reads", later - at_first);

    for id in 3..=3 + OTHERS as i64 {
        ok(&mut a.session(), &[&format!("INSERT INTO t VALUES ({id}, 'new')")]);
        eventually("it is told", || count(&mut b.session(), "t") == id);
    }
    assert!(server.statements() - later > OTHERS, "what it asks for is counted");
    b.close();
    a.close();
}

fn read_by_statements(b: &Database) {
    let mut session = b.session();
    for read in 0..READS / 2 {
        let program =
            with_arguments("SELECT v FROM t WHERE id = ?", [Value::Integer(read % 2 + 1)]);
        support::block_on(session.run(program, &RequestOptions::default())).unwrap();
    }
    assert_eq!(select(&mut session, "SELECT v FROM t WHERE id = 2"), [Value::Text("two".into())]);
}

fn read_by_handle(b: &Database) {
    let mut handle = b.reader().unwrap();
    for read in 0..READS / 2 {
        let id = [Value::Integer(read % 2 + 1)];
        let is_there = handle
            .query_row("SELECT v FROM t WHERE id = ?", &id, |row| {
                Ok(matches!(row.get(0)?, ValueRef::Text("one" | "two")))
            })
            .unwrap();
        assert_eq!(is_there, Some(true));
    }
}
