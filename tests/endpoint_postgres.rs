//! PostgreSQL as an endpoint: what only PostgreSQL can get wrong. What every endpoint must do is tested by the
//! suite in `src/endpoint/conformance`.
#![cfg(feature = "postgres")]

#[path = "support/postgres.rs"]
mod postgres;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postgres::Server;
use rusqlite::Connection;
use syncline::change::Value;
use syncline::endpoint::agree::{Agreement, Wishes, agree};
use syncline::endpoint::postgres::PostgresEndpoint;
use syncline::endpoint::sqlite::{Access, SqliteEndpoint};
use syncline::endpoint::{
    Applied, Batch, Endpoint, Engine, Horizon, Key, OnDelete, Plan, Range, Row, Table, canon,
};
use syncline::error::{Error, Kind};

/// A database, and an endpoint that may write to it.
struct Side {
    server: &'static Server,
    url: String,
    endpoint: PostgresEndpoint,
}

fn side(sql: &str) -> Option<Side> {
    let server = Server::get()?;
    let url = server.database();
    server.sql(name_in(&url), sql);
    let endpoint = PostgresEndpoint::open(&url, Access::Write).unwrap();
    Some(Side { server, url, endpoint })
}

fn name_in(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

impl Side {
    fn sql(&self, sql: &str) -> String {
        self.server.sql(name_in(&self.url), sql).trim_end().to_owned()
    }

    /// As another user, who may read or write.
    fn as_user(&self, user: &str, access: Access) -> Result<PostgresEndpoint, Error> {
        PostgresEndpoint::open(&self.url.replacen("postgres@", &format!("{user}@"), 1), access)
    }

    fn plan(&mut self, table: &str) -> Plan {
        plan_of(&table_of(&mut self.endpoint, table))
    }

    fn apply(
        &mut self,
        plan: &Plan,
        puts: &[(Key, Row)],
        deletes: &[Key],
    ) -> Result<Applied, Error> {
        self.endpoint.apply(&Batch { plan, puts, deletes, state: &[] })
    }
}

fn table_of(endpoint: &mut dyn Endpoint, name: &str) -> Table {
    let tables = endpoint.tables().unwrap();
    tables.into_iter().find(|table| table.name == name).expect("the table is described")
}

/// The table compared with itself.
fn plan_of(table: &Table) -> Plan {
    let sided = (Engine::Postgres, table);
    agree(sided, sided, &Wishes::default()).unwrap().a
}

fn row(plan: &Plan, values: &[Value]) -> (Key, Row) {
    let mut row = Row::new();
    values.iter().for_each(|value| canon::put_value(&mut row, value.as_ref()));
    (canon::encode_key(values[..plan.key].iter().map(Value::as_ref)), row)
}

fn int(n: i64) -> Value {
    Value::Integer(n)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn all(endpoint: &mut dyn Endpoint, plan: &Plan) -> Vec<(Key, Row)> {
    let mut rows = Vec::new();
    let mut take = |key: &[u8], row: &[u8]| {
        rows.push((key.to_vec(), row.to_vec()));
        Ok(())
    };
    endpoint.read(plan, &[Range::ALL], &mut take).unwrap();
    rows
}

fn values(plan: &Plan, rows: &[(Key, Row)]) -> Vec<Vec<Value>> {
    rows.iter().map(|(_, row)| plan.values(row).unwrap()).collect()
}

/// A SQLite database that holds the same as the side, in a table that the endpoint for SQLite proposed.
fn copied(side: &mut Side, table: &str) -> (SqliteEndpoint, Agreement) {
    let here = table_of(&mut side.endpoint, table);
    let connection = Connection::open_in_memory().unwrap();
    let mut lite = SqliteEndpoint::over(connection, "memory".into()).unwrap();
    let statement = lite.create_statement(&here).unwrap();
    lite.create(&statement).unwrap();
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

#[test]
fn a_right_that_is_missing_is_named() {
    let Some(mut side) = side(
        "CREATE TABLE open (id int PRIMARY KEY, v text); CREATE TABLE closed (id int PRIMARY KEY, v text); \
         CREATE TABLE policed (id int PRIMARY KEY, v text); ALTER TABLE policed ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY few ON policed USING (id > 0); INSERT INTO policed VALUES (-1, 'x'); \
         INSERT INTO open VALUES (1, 'a'); CREATE ROLE guest LOGIN; GRANT SELECT ON open, policed TO guest",
    ) else {
        return;
    };
    let plans: BTreeMap<&str, Plan> =
        ["open", "closed", "policed"].into_iter().map(|name| (name, side.plan(name))).collect();
    let mut guest = side.as_user("guest", Access::Write).unwrap();
    assert_eq!(all(&mut guest, &plans["open"]).len(), 1);
    let read = |endpoint: &mut PostgresEndpoint, table: &str| {
        endpoint.digest(&plans[table], &[Range::ALL], 64).unwrap_err()
    };
    let error = read(&mut guest, "closed");
    assert_eq!((error.kind(), error.code()), (Kind::Forbidden, "ENDPOINT_FORBIDDEN"), "{error}");
    assert!(error.to_string().contains("GRANT SELECT ON public.closed"), "{error}");
    let error = read(&mut guest, "policed");
    assert_eq!((error.kind(), error.code()), (Kind::Forbidden, "ENDPOINT_FORBIDDEN"), "{error}");
    let puts = [row(&plans["open"], &[int(2), text("b")])];
    let batch = Batch { plan: &plans["open"], puts: &puts, deletes: &[], state: &[] };
    let error = guest.apply(&batch).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Forbidden, "ENDPOINT_FORBIDDEN"), "{error}");
    assert!(error.to_string().contains("INSERT"), "{error}");
    assert_eq!(side.sql("SELECT count(*) FROM open"), "1");
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
    late.create("BEGIN; INSERT INTO t VALUES (1, 10)").unwrap();
    side.sql("INSERT INTO t VALUES (2, 11)");
    let (first_xmin, first_xmax) = horizon(&mut side);
    assert!(first_xmin < first_xmax, "one is open, and one has ended since");
    assert_eq!(side.endpoint.newest(&plan).unwrap(), Some(canon::encode_key([int(11).as_ref()])));
    assert_eq!(all(&mut side.endpoint, &plan).len(), 1);
    late.create("COMMIT").unwrap();
    assert_eq!(all(&mut side.endpoint, &plan).len(), 1, "the snapshot stays");
    // Transactions of other databases on the server count, too: those of other tests.
    let began = Instant::now();
    while horizon(&mut side).0 < first_xmax {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing below it can come any more");
    }
    assert_eq!(all(&mut side.endpoint, &plan).len(), 2);
}

#[test]
fn identity_columns_take_their_values_and_go_on_behind_them() {
    let Some(mut side) = side(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text); \
         CREATE TABLE s (id serial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v text)",
    ) else {
        return;
    };
    let plan = side.plan("t");
    let puts = [row(&plan, &[int(1), text("a")]), row(&plan, &[int(41), text("b")])];
    side.apply(&plan, &puts, &[]).unwrap();
    side.sql("INSERT INTO t (v) VALUES ('c')");
    assert_eq!(side.sql("SELECT id FROM t WHERE v = 'c'"), "42");
    // Behind what was given out already, and never back.
    side.apply(&plan, &[row(&plan, &[int(7), text("d")])], &[]).unwrap();
    side.sql("INSERT INTO t (v) VALUES ('e')");
    assert_eq!(side.sql("SELECT id FROM t WHERE v = 'e'"), "43");
    let plan = side.plan("s");
    side.apply(&plan, &[row(&plan, &[int(5), int(50), text("a")])], &[]).unwrap();
    // A column that takes no UPDATE changes all the same.
    let applied = side.apply(&plan, &[row(&plan, &[int(5), int(60), text("b")])], &[]).unwrap();
    assert_eq!(applied, Applied { updated: 1, ..Applied::default() });
    side.sql("INSERT INTO s (v) VALUES ('c')");
    assert_eq!(side.sql("SELECT * FROM s ORDER BY id"), "5|60|b\n6|61|c");
}

const FAMILY: &str = "CREATE TABLE parents (id int PRIMARY KEY, code text UNIQUE, v text); \
    CREATE TABLE cascaded (id int PRIMARY KEY, p int REFERENCES parents ON DELETE CASCADE, \
        c text REFERENCES parents (code) ON UPDATE CASCADE); \
    CREATE TABLE refused (id int PRIMARY KEY, p int REFERENCES parents DEFERRABLE); \
    CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree ON DELETE CASCADE); \
    INSERT INTO parents SELECT i, 'c' || i, 'v' FROM generate_series(1, 6) i; \
    INSERT INTO cascaded VALUES (10, 1, NULL), (11, NULL, 'c2'); INSERT INTO refused VALUES (20, 3); \
    INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, 1)";

fn key(n: i64) -> Key {
    canon::encode_key([int(n).as_ref()])
}

#[test]
fn no_delete_reaches_further_than_it_was_asked_to() {
    let Some(mut side) = side(FAMILY) else { return };
    let plan = side.plan("parents");
    let everything = "SELECT (SELECT count(*) FROM parents), (SELECT count(*) FROM cascaded), \
                      (SELECT count(*) FROM refused), (SELECT count(p) FROM cascaded), (SELECT count(*) FROM tree)";
    let before = side.sql(everything);
    for doomed in [1, 3] {
        let error = side.apply(&plan, &[], &[key(5), key(doomed)]).unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::Behind, "CASCADE_REFUSED"), "{error}");
        assert_eq!(side.sql(everything), before);
    }
    assert_eq!(side.apply(&plan, &[], &[key(5), key(6)]).unwrap().deleted, 2);
    // A change that cascades is no better, and one that does not is fine.
    let moved = |code: &str, v: &str| [row(&plan, &[int(2), text(code), text(v)])];
    let error = side.apply(&plan, &moved("other", "v"), &[]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Behind, "CASCADE_REFUSED"), "{error}");
    assert_eq!(side.apply(&plan, &moved("c2", "new"), &[]).unwrap().updated, 1);
    assert_eq!(side.sql("SELECT c FROM cascaded WHERE id = 11"), "c2");
    // Children that go with their parent are nobody's loss; one that stays is.
    let tree = side.plan("tree");
    let error = side.apply(&tree, &[], &[key(1), key(2), key(4)]).unwrap_err();
    assert_eq!(error.code(), "CASCADE_REFUSED", "{error}");
    assert_eq!(side.sql("SELECT count(*) FROM tree"), "4");
    assert_eq!(side.apply(&tree, &[], &[key(1), key(2), key(3), key(4)]).unwrap().deleted, 4);
}

#[test]
fn rows_wait_for_their_parents() {
    let Some(mut side) = side(FAMILY) else { return };
    for table in ["cascaded", "refused"] {
        let plan = side.plan(table);
        let mut values = vec![int(90), int(77), Value::Null];
        values.truncate(plan.columns.len());
        let error = side.apply(&plan, &[row(&plan, &values)], &[]).unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::Behind, "PARENT_MISSING"), "{error}");
    }
    // In one batch the order does not matter.
    let tree = side.plan("tree");
    let puts = [row(&tree, &[int(8), int(9)]), row(&tree, &[int(9), Value::Null])];
    assert_eq!(side.apply(&tree, &puts, &[]).unwrap().inserted, 2);
}

/// Rows that others refer to cannot be taken out; then the value in the way is what is wrong.
#[test]
fn unique_values_change_places_only_where_nothing_hangs_on_the_rows() {
    let Some(mut side) = side(FAMILY) else { return };
    let plan = side.plan("parents");
    let swap = |a: i64, b: i64| {
        let row = |id: i64, code: i64| row(&plan, &[int(id), text(&format!("c{code}")), text("v")]);
        [row(a, b), row(b, a)]
    };
    let error = side.apply(&plan, &swap(1, 4), &[]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, "ROW_REFUSED"), "{error}");
    assert_eq!(side.apply(&plan, &swap(4, 5), &[]).unwrap().updated, 2);
    assert_eq!(
        side.sql("SELECT id, code FROM parents WHERE id IN (4, 5) ORDER BY id"),
        "4|c5\n5|c4"
    );
    assert_eq!(side.sql("SELECT count(*) FROM cascaded WHERE p = 1"), "1");
}
