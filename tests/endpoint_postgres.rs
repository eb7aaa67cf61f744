//! PostgreSQL as an endpoint that is read: what only PostgreSQL can get wrong. What every endpoint must do is
//! tested by the suite in `src/endpoint/conformance`.
#![cfg(feature = "postgres")]

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_side.rs"]
mod side;

use std::time::{Duration, Instant};

use rusqlite::Connection;
use side::{Side, all, int, key, name_in, row, side, table_of, text, values};
use syncline::endpoint::agree::{Agreement, Wishes, agree};
use syncline::endpoint::postgres::PostgresEndpoint;
use syncline::endpoint::sqlite::{Access, SqliteEndpoint};
use syncline::endpoint::{
    Applied, Batch, Endpoint, Engine, Horizon, Key, OnDelete, Plan, Range, canon,
};
use syncline::error::{Error, Kind};

/// A SQLite database that holds the same as the side, in a table that the endpoint for SQLite proposed.
fn copied(side: &mut Side, table: &str) -> (SqliteEndpoint, Agreement) {
    let here = table_of(&mut side.endpoint, table);
    let connection = Connection::open_in_memory().unwrap();
    let mut lite = SqliteEndpoint::over(connection, "memory".into()).unwrap();
    let statements = lite.create_statements(std::slice::from_ref(&here)).unwrap();
    lite.create(&statements).unwrap();
    let there = table_of(&mut lite, &here.name);
    let sides = [(Engine::Postgres, &here), (Engine::Sqlite, &there)];
    let agreed = agree(sides[0], sides[1], &Wishes::default()).unwrap();
    let rows = all(&mut side.endpoint, &agreed.a);
    for row in &rows {
        let puts = std::slice::from_ref(row);
        let applied = lite.apply(&Batch { plan: &agreed.b, puts, deletes: &[], state: &[] });
        applied.unwrap_or_else(|error| panic!("{error}: {:?}", agreed.b.values(&row.1)));
    }
    (lite, agreed)
}

const EVERY_TYPE: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN cents AS numeric(12,2) CHECK (VALUE >= 0);
CREATE DOMAIN code AS varchar(8);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE types (id bigint PRIMARY KEY, b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 float8,
    n numeric, n2 numeric(10,2), money2 cents, t text, v varchar(20), c char(6), code code, bin bytea, u uuid,
    d date, ti time, ti3 time(3), tz timetz, ts timestamp, ts3 timestamp(3), tsz timestamptz, j json, jb jsonb,
    m mood, arr integer[], texts text[], iv interval, ip inet, r int4range, p pair, bits bit varying(8), x xml,
    na name, o oid);
INSERT INTO types (id) VALUES (0);
INSERT INTO types VALUES
 (1, true, -32768, -2147483648, -9223372036854775808, -0.0, -0.0, -0.00, -1.50, 0, '', '', '', '', '',
  '00000000-0000-0000-0000-000000000000', '0001-01-01', '00:00', '00:00:00.001', '10:00+02',
  '0001-01-01 00:00', '2024-05-06 07:08:09.1239', '2024-05-06 09:08:09+02', '{"b": 1, "a": 2}',
  '{"b": 1.50, "a": [1e2]}', 'sad', '{}', '{}', '0', '10.0.0.1/32', 'empty', '(1,)', '', '<a/>', '', 0),
 (2, false, 32767, 2147483647, 9223372036854775807, 0.1, 0.1, 'NaN', 99999999.99, 12.5, E'a\tb\n\\',
  'trailing  ', 'ab', 'x', '\x00ff5c', '6BA7B810-9DAD-11D1-80B4-00C04FD430C8', '9999-12-31', '24:00',
  '23:59:59.999', '23:59:59.5-11:30', '9999-12-31 23:59:59.999999', 'infinity', '-infinity', 'null', '"x"',
  'happy', '{1,NULL,-3}', '{"a b",NULL,"","\"q\\"}', '1 year 2 mons -3 days 04:05:06.7', '::1', '[1,5)',
  '(,"x y")', '10110', '<a>b</a>', 'pg', 4294967295),
 (3, NULL, 0, 0, 0, 'Infinity', '-Infinity', 123456789012345678901234567890.000000012300, 0.01, 1, '字 ä 😀',
  ' ', '  x', 'a b', '\x', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'infinity', '12:34:56.789', NULL, NULL,
  'infinity', NULL, '2024-02-29 23:59:59.999999+14', '[1, 2]', 'null', 'ok', '{{1,2},{3,4}}', NULL, '-00:00:01',
  NULL, '(,)', NULL, NULL, NULL, NULL, NULL),
 (4, NULL, NULL, NULL, NULL, 3.4e38, 5e-324, 10000, 10, 10, '1', '1.0', NULL, NULL, '\x5c78', NULL,
  '-infinity', NULL, NULL, NULL, '0044-03-15 01:02:03 BC', NULL, '10000-01-01 00:00+00', '1.0', '100', NULL,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (5, NULL, NULL, NULL, NULL, 1e-45, 1.7976931348623157e308, 1e100, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  NULL, '0044-03-15 BC', NULL, NULL, NULL, '2000-01-01', NULL, '1999-12-31 23:59:59.5+00', NULL, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
"#;

/// Every type to SQLite and back into an empty table: what arrives is equal, by digest and to PostgreSQL.
#[test]
fn every_type_goes_to_sqlite_and_back() {
    let Some(mut side) = side(EVERY_TYPE) else { return };
    let (mut lite, agreed) = copied(&mut side, "types");
    let [here, there] = [
        side.endpoint.digest(&agreed.a, &[Range::ALL], 64).unwrap(),
        lite.digest(&agreed.b, &[Range::ALL], 64).unwrap(),
    ];
    let rows = all(&mut lite, &agreed.b);
    for (a, b) in
        values(&agreed.a, &all(&mut side.endpoint, &agreed.a)).iter().zip(values(&agreed.b, &rows))
    {
        for (column, (a, b)) in agreed.a.columns.iter().zip(a.iter().zip(b)) {
            assert_eq!(*a, b, "{} as {}", column.name, column.agreed);
        }
    }
    assert_eq!(here, there);
    side.sql("CREATE TABLE again (LIKE types INCLUDING ALL)");
    let plan = Plan { table: "again".into(), ..agreed.a.clone() };
    let applied = side.apply(&plan, &rows, &[]).unwrap();
    assert_eq!(applied.inserted, 6);
    assert_eq!(all(&mut side.endpoint, &plan), rows);
    let again = side.apply(&plan, &rows, &[]).unwrap();
    assert_eq!(again, Applied { equal: 6, ..Applied::default() });
}

/// What SQLite has not goes from one PostgreSQL to another.
#[test]
fn not_a_number_goes_to_another_postgresql() {
    let floats = "CREATE TABLE f (id float8 PRIMARY KEY, r real, n numeric)";
    let Some(mut side) = side(&format!(
        "{floats}; INSERT INTO f VALUES ('NaN', 'NaN', 'NaN'), ('-0', '-0', '-0.0'), \
         ('-Infinity', 'Infinity', 'Infinity'), (0.1, 0.1, 0.10), (-1e300, 1e-45, -1e-20)"
    )) else {
        return;
    };
    let plan = side.plan("f");
    let rows = all(&mut side.endpoint, &plan);
    let url = side.server.database();
    side.server.sql(name_in(&url), floats);
    let mut other = PostgresEndpoint::open(&url, Access::Write).unwrap();
    other.apply(&Batch { plan: &plan, puts: &rows, deletes: &[], state: &[] }).unwrap();
    assert_eq!(all(&mut other, &plan), rows);
    let shown = side.server.sql(name_in(&url), "SELECT r, n FROM f ORDER BY id");
    assert_eq!(shown, "Infinity|Infinity\n1e-45|-0.00000000000000000001\n0|0\n0.1|0.1\nNaN|NaN\n");
    let keys: Vec<Key> = rows.iter().map(|(key, _)| key.clone()).collect();
    let batch = Batch { plan: &plan, puts: &[], deletes: &keys, state: &[] };
    assert_eq!(other.apply(&batch).unwrap().deleted, 5);
}

#[test]
fn tables_are_described() {
    let Some(mut side) = side(
        "CREATE SCHEMA other; CREATE TABLE other.things (id int PRIMARY KEY); \
         CREATE TABLE parents (id int PRIMARY KEY, code text NOT NULL UNIQUE, x int UNIQUE); \
         CREATE TABLE children (a int, b varchar(5) NOT NULL, n numeric(10,2), twice int GENERATED ALWAYS AS (a * 2) STORED, \
            id int GENERATED ALWAYS AS IDENTITY, p int REFERENCES parents ON DELETE SET NULL, \
            q text REFERENCES parents (code), UNIQUE (b, id), UNIQUE (b)); \
         CREATE UNIQUE INDEX ON children (a) WHERE a > 0; CREATE UNIQUE INDEX ON children ((a + 1)); \
         CREATE TABLE parts (id int, k text, PRIMARY KEY (k, id)) PARTITION BY LIST (k); \
         CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a'); \
         CREATE TABLE parts_b PARTITION OF parts DEFAULT; \
         INSERT INTO parts SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 1000) i; ANALYZE; \
         CREATE VIEW v AS SELECT 1; CREATE TABLE _syncline_x (a int); \
         CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TABLE folded (k text COLLATE blind PRIMARY KEY, at timestamp(3)); \
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TRIGGER touch BEFORE UPDATE ON folded FOR EACH ROW EXECUTE FUNCTION f(); \
         CREATE TRIGGER off AFTER INSERT ON folded EXECUTE FUNCTION f(); ALTER TABLE folded DISABLE TRIGGER off",
    ) else {
        return;
    };
    let tables = side.endpoint.tables().unwrap();
    let names: Vec<&str> = tables.iter().map(|table| &table.name[..]).collect();
    assert_eq!(names, ["children", "folded", "other.things", "parents", "parts"]);
    let table = |name: &str| tables.iter().find(|table| table.name == name).unwrap();
    let children = table("children");
    assert_eq!(children.key, ["b"]);
    assert_eq!(children.unique, [["b", "id"]]);
    let on_delete: Vec<_> =
        children.foreign_keys.iter().map(|key| (&key.parent[..], key.on_delete)).collect();
    assert_eq!(on_delete, [("parents", OnDelete::Cascade), ("parents", OnDelete::Refuse)]);
    assert_eq!(children.foreign_keys[1].parent_columns, ["code"]);
    let column = |name: &str| children.column(name).unwrap();
    assert!(column("twice").generated && !column("id").generated && column("b").not_null);
    assert_eq!(
        (column("n").size, column("n").scale, column("b").size),
        (Some(10), Some(2), Some(5))
    );
    assert_eq!(table("parents").key, ["id"]);
    assert_eq!(table("parents").unique, [["code"], ["x"]]);
    let parts = table("parts");
    assert_eq!((&parts.key, parts.rows), (&vec!["k".to_owned(), "id".to_owned()], Some(1000)));
    assert!(parts.bytes.unwrap() > 10_000);
    let folded = table("folded");
    assert!(folded.column("k").unwrap().folds_case);
    assert_eq!(
        folded.column("at").unwrap().kind,
        syncline::endpoint::Type::Timestamp { digits: 3 }
    );
    assert_eq!(folded.triggers, ["touch"]);
    let warnings = side.endpoint.warnings(&tables).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("DISABLE TRIGGER \"touch\""), "{warnings:?}");
}

fn refused(opened: Result<PostgresEndpoint, Error>) -> (Kind, &'static str, String) {
    let error = opened.err().expect("it is refused");
    assert!(!error.hint_text().is_empty(), "{error}");
    (error.kind(), error.code(), error.to_string())
}

#[test]
fn what_is_wrong_with_a_url_is_said() {
    let Some(side) = side("CREATE ROLE locked LOGIN PASSWORD 'right'") else { return };
    let hba = side.sql("SHOW hba_file");
    side.sql(&format!(
        "COPY (SELECT unnest(ARRAY['local all all trust', 'host all locked 127.0.0.1/32 scram-sha-256', \
         'host all all 127.0.0.1/32 trust'])) TO '{hba}'; SELECT pg_reload_conf()"
    ));
    let open = |url: &str| refused(PostgresEndpoint::open(url, Access::Read));
    let database = name_in(&side.url);
    let port = side.server.address().port();
    let (kind, code, said) = open(&format!("postgres://locked:wrong@127.0.0.1:{port}/{database}"));
    assert_eq!((kind, code), (Kind::Forbidden, "ENDPOINT_LOGIN"), "{said}");
    assert!(!said.contains("wrong"), "{said}");
    let right = format!("postgres://locked:right@127.0.0.1:{port}/{database}");
    let endpoint = PostgresEndpoint::open(&right, Access::Read).unwrap();
    assert!(!endpoint.address().contains("right") && !endpoint.address().contains("locked"));
    let (kind, code, said) = open(&format!("postgres://postgres@127.0.0.1:{port}/nowhere"));
    assert_eq!((kind, code), (Kind::Invalid, "ENDPOINT_NOT_FOUND"), "{said}");
    let (kind, code, said) = open(&format!("postgres://postgres@127.0.0.1:1/{database}"));
    assert_eq!((kind, code), (Kind::Unavailable, "ENDPOINT_UNREACHABLE"), "{said}");
    let (kind, code, said) = open("postgres://postgres@no-such-host.invalid/x?sslmode=disable");
    assert_eq!((kind, code), (Kind::Unavailable, "ENDPOINT_UNREACHABLE"), "{said}");
}

/// A transaction that was open keeps the horizon back, and its row appears only behind it.
#[test]
fn the_horizon_tells_when_no_late_commit_can_come() {
    let Some(mut side) = side("CREATE TABLE t (id int PRIMARY KEY, version int)") else { return };
    let mut plan = side.plan("t");
    plan.version = Some(1);
    let horizon = |side: &mut Side| match side.endpoint.begin().unwrap() {
        Horizon::Transactions { xmin, xmax } => (xmin, xmax),
        other => panic!("{other:?}"),
    };
    let mut late = PostgresEndpoint::open(&side.url, Access::Write).unwrap();
    late.create(&["BEGIN; INSERT INTO t VALUES (1, 10)".into()]).unwrap();
    side.sql("INSERT INTO t VALUES (2, 11)");
    let (first_xmin, first_xmax) = horizon(&mut side);
    assert!(first_xmin < first_xmax, "one is open, and one has ended since");
    assert_eq!(side.endpoint.newest(&plan).unwrap(), Some(canon::encode_key([int(11).as_ref()])));
    assert_eq!(all(&mut side.endpoint, &plan).len(), 1);
    late.create(&["COMMIT".into()]).unwrap();
    assert_eq!(all(&mut side.endpoint, &plan).len(), 1, "the snapshot stays");
    // Transactions of other databases on the server count, too: those of other tests.
    let began = Instant::now();
    while horizon(&mut side).0 < first_xmax {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing below it can come any more");
    }
    assert_eq!(all(&mut side.endpoint, &plan).len(), 2);
}

/// Text keys under a collation that sorts like people do: their order here is that of their bytes.
#[test]
fn text_keys_come_by_their_bytes_whatever_the_collation() {
    let Some(mut side) = side(
        "CREATE TABLE people (k text COLLATE \"en-x-icu\", n int, v text, PRIMARY KEY (k, n)); \
         CREATE TABLE bytes (k text COLLATE \"C\" PRIMARY KEY, v text); \
         CREATE TABLE enums (k char(4) COLLATE \"en-x-icu\" PRIMARY KEY, v text); \
         INSERT INTO people SELECT chr(65 + i % 26) || chr(97 + i % 25) || repeat(' ', i % 3) || chr(192 + i % 60), i, \
            'v' FROM generate_series(1, 500) i; \
         INSERT INTO people VALUES ('', 0, ''), ('B', 1, ''), ('a', 1, ''), ('b', 1, ''), ('A', 1, ''), ('_', 1, ''); \
         INSERT INTO bytes SELECT k || n, v FROM people; \
         INSERT INTO enums VALUES ('b'), ('B'), ('a'), ('é'), (''), ('a b')",
    ) else {
        return;
    };
    for table in ["people", "bytes", "enums"] {
        let (mut lite, agreed) = copied(&mut side, table);
        let (here, there) = (all(&mut side.endpoint, &agreed.a), all(&mut lite, &agreed.b));
        assert_eq!(here, there);
        assert!(here.is_sorted());
        for (after, upto) in [(1, 3), (0, here.len() - 2), (here.len() / 2, here.len() - 1)] {
            let range =
                Range { after: Some(here[after].0.clone()), upto: Some(here[upto].0.clone()) };
            let both = [&agreed.a, &agreed.b].map(|plan| (plan, std::slice::from_ref(&range)));
            let here = side.endpoint.digest(both[0].0, both[0].1, 3).unwrap();
            assert_eq!(here, lite.digest(both[1].0, both[1].1, 3).unwrap());
            assert_eq!(here[0].iter().map(|chunk| chunk.rows).sum::<u64>(), (upto - after) as u64);
        }
    }
}

/// What the process holds in memory, in KB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A million rows of 150 MB go by without being held. Whoever has enough of them stops, and keeps the snapshot.
#[test]
fn a_million_rows_stream_by() {
    let Some(mut side) = side(
        "CREATE UNLOGGED TABLE t (id int PRIMARY KEY, v text); \
         INSERT INTO t SELECT i, repeat('x', 140) FROM generate_series(1, 1000000) i",
    ) else {
        return;
    };
    let plan = side.plan("t");
    side.endpoint.begin().unwrap();
    let (before, mut rows, mut most) = (resident(), 0, 0);
    let mut count = |_: &[u8], _: &[u8]| {
        rows += 1;
        if rows % 10_000 == 0 {
            most = resident().max(most);
        }
        Ok(())
    };
    side.endpoint.read(&plan, &[Range::ALL], &mut count).unwrap();
    assert_eq!(rows, 1_000_000);
    assert!(most.saturating_sub(before) < 70_000, "{before} KB before, {most} KB at most");
    side.sql("DELETE FROM t WHERE id > 10");
    let mut few = 0;
    let mut enough = |_: &[u8], _: &[u8]| match few {
        100 => Err(Error::invalid("ENOUGH", "")),
        _ => {
            few += 1;
            Ok(())
        }
    };
    let error = side.endpoint.read(&plan, &[Range::ALL], &mut enough).unwrap_err();
    assert_eq!((error.code(), few), ("ENOUGH", 100));
    let tail = Range { after: Some(key(999_990)), upto: None };
    assert_eq!(side.endpoint.digest(&plan, &[tail], 64).unwrap()[0][0].rows, 10);
    side.endpoint.end().unwrap();
    assert_eq!(all(&mut side.endpoint, &plan).len(), 10);
}

/// The snapshot of a session that was ended is gone: nothing else passes for it, until another one is begun.
#[test]
fn a_lost_session_loses_its_snapshot_and_nothing_else() {
    let Some(mut side) =
        side("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    else {
        return;
    };
    let plan = side.plan("t");
    let end_sessions = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    side.endpoint.begin().unwrap();
    side.sql(end_sessions);
    let error = side.endpoint.digest(&plan, &[Range::ALL], 64).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    let error = side.endpoint.digest(&plan, &[Range::ALL], 64).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Unavailable, "ENDPOINT_LOST"), "{error}");
    side.endpoint.begin().unwrap();
    assert_eq!(all(&mut side.endpoint, &plan).len(), 1);
    side.endpoint.end().unwrap();
    side.sql(end_sessions);
    let put = [row(&plan, &[int(2), text("b")])];
    // It may be noticed only by the first question.
    if let Err(error) = side.apply(&plan, &put, &[]) {
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        side.apply(&plan, &put, &[]).unwrap();
    }
    assert_eq!(side.sql("SELECT count(*) FROM t"), "2");
}

/// A request to stop that comes late must not stop the next question.
#[test]
fn whoever_stops_a_short_answer_can_ask_on() {
    let Some(mut side) = side(
        "CREATE TABLE t (id int PRIMARY KEY, v text); \
         INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 3000) i",
    ) else {
        return;
    };
    let plan = side.plan("t");
    for round in 0..60i64 {
        if round == 30 {
            side.endpoint.begin().unwrap();
        }
        // From a few rows to more than are taken for nothing.
        let some = Range { after: None, upto: Some(key(1 + round * 50)) };
        let mut enough = |_: &[u8], _: &[u8]| Err(Error::invalid("ENOUGH", ""));
        let error =
            side.endpoint.read(&plan, std::slice::from_ref(&some), &mut enough).unwrap_err();
        assert_eq!(error.code(), "ENOUGH");
        let rows = side.endpoint.digest(&plan, &[some], 64).unwrap()[0][0].rows;
        assert_eq!(rows as i64, 1 + round * 50);
    }
}

#[test]
fn all_tables_are_made_or_none() {
    let Some(mut side) = side("CREATE TABLE there (id int PRIMARY KEY)") else { return };
    let missing = "CREATE TABLE two (id int REFERENCES missing)".to_owned();
    for second in ["CREATE TABLE there (id int)".to_owned(), missing] {
        side.endpoint.create(&["CREATE TABLE one (id int)".into(), second]).unwrap_err();
        let tables = side.endpoint.tables().unwrap();
        assert_eq!(tables.iter().map(|t| &t.name[..]).collect::<Vec<_>>(), ["there"]);
    }
}

/// Many ranges of keys that no index has in their order are one question, and the n-th key is one answer.
#[test]
fn keys_without_an_index_are_asked_for_at_once() {
    let Some(mut side) = side(
        "CREATE TABLE people (k text COLLATE \"en-x-icu\", n int, v text, PRIMARY KEY (k, n)); \
         INSERT INTO people SELECT chr(65 + i % 26) || md5(i::text), i, repeat('v', 100) FROM generate_series(1, 6000) i; \
         INSERT INTO people VALUES ('', 0, ''), ('a', 1, ''), ('A', 1, ''), ('é', 1, '')",
    ) else {
        return;
    };
    let plan = side.plan("people");
    let rows = all(&mut side.endpoint, &plan);
    let end = |at: usize| rows.get(at).map(|(key, _)| key.clone());
    let ranges: Vec<Range> = (0..400)
        .map(|i| Range {
            after: (i > 0).then(|| end(15 * i)).flatten(),
            upto: end(15 * i + i % 14 + 1),
        })
        .collect();
    side.endpoint.begin().unwrap();
    let mut read = |ranges: &[Range]| {
        let before = side.endpoint.traffic().round_trips;
        let mut read = Vec::new();
        let mut take = |key: &[u8], row: &[u8]| {
            read.push((key.to_vec(), row.to_vec()));
            Ok(())
        };
        side.endpoint.read(&plan, ranges, &mut take).unwrap();
        (read, side.endpoint.traffic().round_trips - before)
    };
    // What the table is like is asked once.
    let _ = read(&ranges[..1]);
    let (of_many, asked) = read(&ranges);
    let wanted = rows.iter().filter(|(key, _)| ranges.iter().any(|range| range.contains(key)));
    assert!(of_many.iter().eq(wanted), "{} of {} rows", of_many.len(), rows.len());
    assert_eq!(asked, read(&ranges[..1]).1);
    let before = side.endpoint.traffic().bytes;
    for (after, n) in [(None, 3000), (Some(10), 5000), (Some(10), 6000)] {
        let behind = after.and_then(end);
        let nth = side.endpoint.nth_key(&plan, behind.as_ref(), n).unwrap();
        assert_eq!(nth, end(after.map_or(0, |at| at + 1) + n - 1), "{n} behind {after:?}");
    }
    let bytes = side.endpoint.traffic().bytes - before;
    assert!(bytes < 10_000, "{bytes} bytes for three keys");
}
