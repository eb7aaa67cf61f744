//! Columns whose types SQLite has not: PostgreSQL and every node hold the same, to the letter.
#![cfg(feature = "postgres")]

#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postgres::Server;
use support::{assert_equal, ok, program, run, select, try_run};
use syncline::change::Value;
use syncline::engine::{
    BackingPlace, Database, DatabaseOptions, Keep, RequestOptions, Role, VerifyMode, WorkingCopy,
};
use syncline::store::ServerPlace;
use syncline::store::postgres::PostgresPlace;

fn place(url: &str) -> Arc<PostgresPlace> {
    Arc::new(PostgresPlace::read(url).unwrap())
}

fn open(url: &str, dir: &Path, node: &str, role: Role) -> Database {
    let options = DatabaseOptions {
        node: node.into(),
        data_dir: dir.join(node),
        backing: BackingPlace::Server(place(url)),
        working_copy: WorkingCopy::Memory,
        role,
        check_every: Duration::from_millis(100),
        ..DatabaseOptions::writer("")
    };
    Database::open(options).unwrap()
}

fn name_in(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// Made by somebody whose sessions say dates in another way, in another zone.
const ELSEWHERE: &str = "ALTER DATABASE $ SET datestyle = 'German'; \
    ALTER DATABASE $ SET timezone = 'America/St_Johns'; ALTER DATABASE $ SET extra_float_digits = -3";

const ORDERS: &str = r#"
CREATE DOMAIN code AS varchar(8) CHECK (VALUE <> '');
CREATE DOMAIN short_code AS code NOT NULL;
CREATE TABLE orders (id uuid PRIMARY KEY, day date, at timestamptz NOT NULL DEFAULT now(),
    seen timestamp(3), opens time, weight real, about jsonb, sku short_code, UNIQUE (at, sku));
INSERT INTO orders VALUES
    ('0E37DF36-F698-41E6-8DD4-CB9CED3DF976', '2024-02-29', '2024-05-31 14:30:00.250+02',
     '2024-05-31 12:30:00.1254', '24:00', 0.1, '{"b":[1,2.50,1e2],"a":"\u00e9","c":{}}', 'a'),
    ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'infinity', '-infinity', 'infinity', '00:00:00.000001',
     '-Infinity', 'null', 'b'),
    ('00000000-0000-0000-0000-000000000000', '0001-01-01', '9999-12-31 23:59:59.999999+00', NULL, NULL,
     3.4e38, '17', 'c'),
    ('00000000-0000-0000-0000-000000000001', NULL, '2024-05-31 12:30:00+00', NULL, NULL, NULL, NULL, 'c');
CREATE TABLE by_time (at timestamptz, day date, zone char(4) UNIQUE, PRIMARY KEY (at, day));
INSERT INTO by_time VALUES ('2024-05-31 12:30:00.5+00', '2024-05-31', 'CEST'),
    ('infinity', '9999-12-31', 'é');
"#;

/// What every node holds of it.
const HELD: &str = "SELECT id || '|' || ifnull(day, '') || '|' || at || '|' || ifnull(seen, '') || '|' \
    || ifnull(opens, '') || '|' || ifnull(about, '') || '|' || sku FROM orders ORDER BY at, id";

const HELD_FIRST: [&str; 4] = [
    "ffffffff-ffff-ffff-ffff-ffffffffffff|infinity|-infinity|infinity|00:00:00.000001|null|b",
    "00000000-0000-0000-0000-000000000001||2024-05-31 12:30:00+00||||c",
    "0e37df36-f698-41e6-8dd4-cb9ced3df976|2024-02-29|2024-05-31 12:30:00.25+00|2024-05-31 12:30:00.125\
     |24:00:00|{\"a\": \"é\", \"b\": [1, 2.50, 100], \"c\": {}}|a",
    "00000000-0000-0000-0000-000000000000|0001-01-01|9999-12-31 23:59:59.999999+00|||17|c",
];

/// An adopted database with a writer on it.
fn adopted(server: &Server, dir: &Path) -> (String, Database) {
    let url = server.database();
    server.sql(name_in(&url), &ELSEWHERE.replace('$', name_in(&url)));
    server.sql(name_in(&url), ORDERS);
    let plan = place(&url).survey(&[]).unwrap();
    assert_eq!(plan.left_out, []);
    let orders = plan.tables.iter().find(|table| table.object.name == "orders").unwrap();
    assert!(orders.not_carried_over.contains(&"domain short_code of sku".to_owned()));
    place(&url).adopt(&plan).unwrap();
    let writer = open(&url, dir, "a", Role::Writer);
    (url, writer)
}

fn texts(database: &Database, sql: &str) -> Vec<String> {
    let text = |value| match value {
        Value::Text(text) => text,
        other => panic!("{sql}: {other:?}"),
    };
    select(&mut database.session(), sql).into_iter().map(text).collect()
}

/// The types of a table's columns as PostgreSQL has them.
fn types(server: &Server, url: &str, table: &str) -> String {
    let sql = format!(
        "SELECT string_agg(format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
    );
    server.sql(name_in(url), &sql)
}

/// Writes one row and gives the statement's code and hint, if it is refused.
fn refused(writer: &Database, sql: &str) -> (String, String) {
    let error = try_run(&mut writer.session(), program(&[sql]), &RequestOptions::default());
    let error = error.map(|_| ()).expect_err(sql);
    (error.code().to_owned(), error.hint_text().to_owned())
}

#[test]
fn what_was_there_and_what_is_written_comes_back_to_the_letter() {
    let Some(server) = Server::get() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (url, a) = adopted(server, dir.path());
    let b = open(&url, dir.path(), "b", Role::Reader);
    assert_eq!(texts(&a, HELD), HELD_FIRST);
    let weights = "SELECT weight FROM orders WHERE weight > 0 ORDER BY weight";
    let reals = [f64::from(0.1f32), f64::from(3.4e38f32)].map(Value::Real);
    assert_eq!(select(&mut a.session(), weights), reals);
    assert_eq!(texts(&a, "SELECT zone FROM by_time ORDER BY at"), ["CEST", "é   "]);
    ok(
        &mut a.session(),
        &[
            "INSERT INTO orders (id, at, seen, about, sku) VALUES ('0e37df36-f698-41e6-8dd4-cb9ced3df977', \
             datetime('2030-01-01', '+90 minutes') || '+00', datetime('2030-01-01'), '[1.0, 1.00]', 'd')",
            "UPDATE orders SET about = '[1.00, 1.0]', weight = 16777216 WHERE sku = 'd'",
            "UPDATE orders SET at = '2024-05-31 12:30:00.250001+00', opens = NULL WHERE sku = 'a'",
            "UPDATE orders SET id = '0e37df36-f698-41e6-8dd4-cb9ced3df978', day = '1582-10-10' WHERE sku = 'b'",
            "DELETE FROM orders WHERE id = '00000000-0000-0000-0000-000000000001'",
            "UPDATE by_time SET day = '2024-06-01' WHERE at < '2024-06'",
            "UPDATE by_time SET zone = 'UTC ' WHERE zone = 'CEST'",
            "DELETE FROM by_time WHERE at = 'infinity'",
        ],
    );
    assert_equal(&a, &b);
    assert!(a.verify(VerifyMode::Report).unwrap().equal, "also what PostgreSQL holds");
    let held = texts(&a, HELD);
    assert_eq!(held, texts(&b, HELD));
    a.close();
    let again = open(&url, dir.path(), "c", Role::Writer);
    assert_eq!(texts(&again, HELD), held);
    let sql = "SET datestyle = ISO; SET timezone = UTC; SET extra_float_digits = 1; SELECT id, at, about, weight FROM orders WHERE sku = 'd'";
    let seen = server.sql(name_in(&url), sql);
    let row =
        "0e37df36-f698-41e6-8dd4-cb9ced3df977|2030-01-01 01:30:00+00|[1.00, 1.0]|1.6777216e+07";
    assert_eq!(seen.lines().last(), Some(row), "{seen}");

    let behind = "UPDATE orders SET about = '[1.000, 1.0]' WHERE sku = 'd'";
    server.sql(name_in(&url), behind);
    assert!(!again.verify(VerifyMode::Report).unwrap().equal, "what was another JSON is another");
    again.close();
    b.close();
    place(&url).release(syncline::change::Timestamp(0)).unwrap();
    let as_made = "uuid, date, timestamp with time zone, timestamp(3) without time zone, \
                   time without time zone, real, jsonb, short_code\n";
    assert_eq!(types(server, &url, "orders"), as_made);
}

/// Each with a word of the hint that shows how to write it.
#[test]
fn another_way_to_say_the_same_is_refused_by_its_own_statement() {
    let Some(server) = Server::get() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (_, a) = adopted(server, dir.path());
    let before = a.position();
    for (column, values, hint) in [
        ("id", ["'0E37DF36-F698-41E6-8DD4-CB9CED3DF970'", "'{}'", "7"], "0e37df36-f698-41e6"),
        ("day", ["'2023-02-29'", "'20240531'", "'0044-03-15 BC'"], "'2024-05-31'"),
        (
            "at",
            ["'2024-05-31T12:30:00Z'", "'2024-05-31 12:30:00.250+00'", "'2024-05-31 14:30:00+02'"],
            "'2024-05-31 12:30:00.25+00'",
        ),
        (
            "seen",
            ["'2024-05-31 12:30:00.1254'", "'2024-05-31'", "'10000-01-01 00:00:00'"],
            "'2024-05-31 12:30:00.25'",
        ),
        ("opens", ["'9:00:00'", "'09:00'", "'23:59:60'"], "'12:30:00'"),
        ("weight", ["0.1", "1e39", "16777217"], "nearest"),
        ("about", ["'{\"a\":1}'", "'{\"b\": 1, \"a\": 1}'", "json('[1, 2]')"], "one space"),
    ] {
        for value in values {
            let sql = format!("UPDATE orders SET {column} = {value} WHERE sku = 'a'");
            let (code, said) = refused(&a, &sql);
            assert_eq!(code, "VALUE_UNSUPPORTED", "{sql}");
            assert!(said.contains(hint), "{sql}: {said}");
        }
    }
    assert_eq!(
        refused(&a, "UPDATE orders SET weight = 0.1").1,
        "the nearest that it holds is 0.10000000149011612"
    );
    assert_eq!(refused(&a, "UPDATE orders SET sku = 'too long a code'").0, "VALUE_UNSUPPORTED");
    assert_eq!(refused(&a, "UPDATE orders SET sku = '' WHERE sku = 'a'").0, "BACKING_DIFFERS");
    let (code, said) = refused(&a, "UPDATE by_time SET zone = 'UTC' WHERE zone = 'CEST'");
    assert!(code == "VALUE_UNSUPPORTED" && said.contains("blanks"), "{code} {said}");
    assert_eq!(a.position(), before);
    ok(&mut a.session(), &["UPDATE orders SET day = '2024-03-01' WHERE sku = 'a'"]);
    assert!(a.verify(VerifyMode::Report).unwrap().equal);
    a.close();
}

/// What is added to an adopted table, and tables of one's own.
#[test]
fn columns_of_these_types_come_and_move_with_the_schema() {
    let Some(server) = Server::get() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (url, a) = adopted(server, dir.path());
    ok(
        &mut a.session(),
        &[
            "ALTER TABLE orders ADD COLUMN paid TEXT TIMESTAMPTZ(3) DEFAULT '2024-01-01 00:00:00.5+00'",
            "ALTER TABLE orders RENAME COLUMN about TO facts",
            "ALTER TABLE orders DROP COLUMN opens",
            "ALTER TABLE by_time RENAME TO times",
            "CREATE TABLE own (id TEXT UUID PRIMARY KEY NOT NULL, at TEXT TIMESTAMP DEFAULT CURRENT_TIMESTAMP, \
             f REAL FLOAT4, free DATE)",
            "INSERT INTO own (id, f, free) VALUES ('0e37df36-f698-41e6-8dd4-cb9ced3df976', 1, 'soon')",
            "UPDATE orders SET paid = '2024-01-01 00:00:00+00', facts = '{}' WHERE sku = 'a'",
        ],
    );
    for (sql, code) in [
        ("UPDATE orders SET paid = '2024-01-01 00:00:00.1234+00'", "VALUE_UNSUPPORTED"),
        ("ALTER TABLE orders ADD COLUMN x TEXT DATE DEFAULT 'today'", "VALUE_UNSUPPORTED"),
        ("CREATE TABLE x (a TEXT TIME(7))", "TYPE_UNSUPPORTED"),
        ("CREATE TABLE x (a TEXT JSONB PRIMARY KEY)", "TYPE_UNSUPPORTED"),
    ] {
        assert_eq!(run(&mut a.session(), &[sql]), [code], "{sql}");
    }
    assert!(a.verify(VerifyMode::Report).unwrap().equal);
    let types_of = |table: &str| types(server, &url, table);
    assert_eq!(types_of("own"), "uuid, timestamp without time zone, real, text\n");
    a.close();
}

/// The declared type says all, also where a table is made anew; one that was adopted never is.
#[test]
fn a_full_copy_makes_the_types_again_and_no_adopted_table() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let a = open(&url, dir.path(), "a", Role::Writer);
    ok(
        &mut a.session(),
        &[
            "CREATE TABLE own (id TEXT UUID PRIMARY KEY NOT NULL, at TEXT TIMESTAMPTZ(3), facts TEXT JSONB)",
            "INSERT INTO own VALUES ('0e37df36-f698-41e6-8dd4-cb9ced3df976', 'infinity', '{\"a\": 1.0}')",
        ],
    );
    let dump = server.dump(name_in(&url));
    ok(&mut a.session(), &["UPDATE own SET at = '2031-01-01 00:00:00.5+00'"]);
    server.restore(name_in(&url), &dump);
    assert_eq!(run(&mut a.session(), &["DELETE FROM own"]), ["RESTORED"]);
    a.resolve(Keep::Node).unwrap();
    assert!(a.verify(VerifyMode::Report).unwrap().equal);
    assert_eq!(types(server, &url, "own"), "uuid, timestamp(3) with time zone, jsonb\n");
    let b = open(&url, dir.path(), "b", Role::Reader);
    assert_equal(&a, &b);
    assert_eq!(texts(&b, "SELECT at || facts FROM own"), ["2031-01-01 00:00:00.5+00{\"a\": 1.0}"]);
    a.close();
    b.close();

    let dir = tempfile::tempdir().unwrap();
    let (url, a) = adopted(server, dir.path());
    let dump = server.dump(name_in(&url));
    server.sql(name_in(&url), "UPDATE orders SET day = NULL WHERE sku = 'a'");
    assert_eq!(a.verify(VerifyMode::Repair).unwrap_err().code(), "TABLE_ADOPTED");
    server.sql(name_in(&url), "UPDATE orders SET day = '2024-02-29' WHERE sku = 'a'");
    assert!(a.verify(VerifyMode::Report).unwrap().equal);
    ok(&mut a.session(), &["UPDATE orders SET day = NULL WHERE sku = 'a'"]);
    server.restore(name_in(&url), &dump);
    assert_eq!(run(&mut a.session(), &["DELETE FROM orders"]), ["RESTORED"]);
    assert_eq!(a.resolve(Keep::Node).unwrap_err().code(), "TABLE_ADOPTED");
    a.resolve(Keep::Backing).unwrap();
    assert!(a.verify(VerifyMode::Report).unwrap().equal);
    assert!(a.status().held > 0, "what the node had is held");
    let default =
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'orders'::regclass";
    assert_eq!(server.sql(name_in(&url), default), "now()\n");
    a.close();
}
