//! Around all engines and back: SQLite → PostgreSQL → MariaDB → SQLite, with real data and with every type; what
//! comes back is compared row by row, in SQL, with what went out. And random histories between engines.

#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "support/postgres.rs"]
mod postgres;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rusqlite::Connection;
use syncline::endpoint::Endpoint;
use syncline::endpoint::open::open;
use syncline::endpoint::sqlite::Access;
use syncline::sync::{
    DiffOptions, Event, MaxDelete, Selection, SyncOptions, SyncReport, diff, sync_once,
};

fn opened(address: &str, access: Access) -> Box<dyn Endpoint> {
    open(address, access).unwrap_or_else(|error| panic!("{address}: {error:?}"))
}

fn sync_with(a: &str, b: &str, options: &SyncOptions) -> SyncReport {
    let (mut a, mut b) = (opened(a, Access::Read), opened(b, Access::Write));
    let stop = AtomicBool::new(false);
    let mut told = |event: Event<'_>| {
        if let Event::Held { table, key, reason } = event {
            println!("held: {table} {key}: {reason}");
        }
    };
    sync_once(&mut (a.as_mut(), b.as_mut()), options, &stop, &mut told)
        .unwrap_or_else(|error| panic!("{error:?}"))
}

/// Makes B like A, tables and all, and it must be proved.
fn fill(a: &str, b: &str) {
    let report = sync_with(a, b, &SyncOptions { create: true, ..SyncOptions::default() });
    for table in &report.tables {
        assert!(table.held.is_empty(), "{}: {:?}", table.table, table.held);
        assert!(table.proved(), "{}: {:?}", table.table, table.totals);
    }
}

fn assert_no_difference(a: &str, b: &str) {
    let (mut a, mut b) = (opened(a, Access::Read), opened(b, Access::Read));
    let report =
        diff(&mut (a.as_mut(), b.as_mut()), &DiffOptions::default(), &mut |_: Event<'_>| {})
            .unwrap();
    for table in &report.tables {
        assert!(table.equal(), "{}: {:?}", table.table, table.rows.first());
    }
    assert!(report.equal(), "{:?} {:?}", report.only_a, report.only_b);
}

/// PostgreSQL, MariaDB; none where one of them is not installed.
fn servers() -> Option<(String, String)> {
    Some((postgres::Server::get()?.database(), mariadb::Server::get()?.database()))
}

/// The tables of the flights data, so many lines of each.
fn load_flights(file: &Path, most: usize) {
    let mut db = Connection::open(file).unwrap();
    for (table, key) in [
        ("airlines", "carrier TEXT PRIMARY KEY"),
        ("airports", "faa TEXT PRIMARY KEY"),
        ("planes", "tailnum TEXT PRIMARY KEY"),
        ("flights", "id INTEGER PRIMARY KEY"),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/{table}.csv.gz"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        let mut lines = csv::Reader::from_reader(text.as_bytes());
        let names: Vec<String> = lines.headers().unwrap().iter().map(str::to_owned).collect();
        let own_key = table == "flights";
        let columns = names.iter().enumerate().map(|(i, name)| match i {
            0 if !own_key => key.to_owned(),
            _ => format!("{name} {}", kind(name)),
        });
        let columns: Vec<String> =
            own_key.then(|| key.to_owned()).into_iter().chain(columns).collect();
        db.execute_batch(&format!("CREATE TABLE {table} ({})", columns.join(", "))).unwrap();
        let transaction = db.transaction().unwrap();
        {
            let places = vec!["?"; columns.len()].join(", ");
            let mut insert =
                transaction.prepare(&format!("INSERT INTO {table} VALUES ({places})")).unwrap();
            for (i, line) in lines.records().take(most).enumerate() {
                // Between two SQLite columns text is compared as it stands: in the form that comes back.
                let plain = |value: &str| match value.strip_suffix('Z') {
                    Some(moment) => moment.replace('T', " "),
                    None => value.to_owned(),
                };
                let values = line.unwrap();
                let values = values.iter().map(|v| (v != "NA" && !v.is_empty()).then(|| plain(v)));
                let id = own_key.then(|| Some((i + 1).to_string()));
                insert.execute(rusqlite::params_from_iter(id.into_iter().chain(values))).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
}

fn kind(column: &str) -> &'static str {
    match column {
        "carrier" | "tailnum" | "origin" | "dest" | "name" | "tzone" | "dst" | "type"
        | "manufacturer" | "model" | "engine" => "TEXT",
        "time_hour" => "DATETIME",
        "lat" | "lon" => "REAL",
        _ => "INTEGER",
    }
}

/// Everything that is in one file and not in the other, by SQLite's own comparison.
fn only_in(one: &Path, other: &Path, table: &str) -> i64 {
    let db = Connection::open(one).unwrap();
    db.execute("ATTACH ? AS other", [other.to_str().unwrap()]).unwrap();
    let sql = format!(
        "SELECT count(*) FROM (SELECT * FROM main.{table} EXCEPT SELECT * FROM other.{table})"
    );
    db.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn real_data_comes_around_equal() {
    let Some((postgres, mariadb)) = servers() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (first, last) = (dir.path().join("first.db"), dir.path().join("last.db"));
    let long = std::env::var_os("SYNCLINE_LONG").is_some();
    load_flights(&first, if long { usize::MAX } else { 20_000 });
    let (a, d) = (first.to_str().unwrap(), last.to_str().unwrap());
    for (from, to) in [(a, &*postgres), (&*postgres, &*mariadb), (&*mariadb, d)] {
        fill(from, to);
        assert_no_difference(from, to);
    }
    assert_no_difference(a, d);
    for table in ["airlines", "airports", "planes", "flights"] {
        assert_eq!(
            (only_in(&first, &last, table), only_in(&last, &first, table)),
            (0, 0),
            "{table}"
        );
    }
    // Differences, around once more.
    let db = Connection::open(&first).unwrap();
    db.execute_batch(
        "UPDATE flights SET dep_delay = coalesce(dep_delay, 0) + 1 WHERE id % 997 = 3; \
         DELETE FROM flights WHERE id % 1009 = 5; DELETE FROM planes WHERE tailnum LIKE '%9'; \
         UPDATE airports SET name = name || ' ✈' WHERE faa LIKE 'A%'",
    )
    .unwrap();
    for (from, to) in [(a, &*postgres), (&*postgres, &*mariadb), (&*mariadb, d)] {
        fill(from, to);
    }
    assert_no_difference(a, d);
    assert_eq!((only_in(&first, &last, "flights"), only_in(&last, &first, "flights")), (0, 0));
}

/// A table with a column of every type, with the values at which engines differ.
#[test]
fn every_type_comes_around_equal() {
    let Some((postgres, mariadb)) = servers() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (first, last) = (dir.path().join("first.db"), dir.path().join("last.db"));
    Connection::open(&first)
        .unwrap()
        .execute_batch(
            "CREATE TABLE every (id INTEGER PRIMARY KEY, i INTEGER, d DECIMAL(15,4), big TEXT DECIMAL, \
             r REAL, t TEXT, b BLOB, yes BOOLEAN, at DATETIME, atz TIMESTAMPTZ, day DATE, clock TIME, \
             u TEXT UUID, j TEXT JSON);
             INSERT INTO every (id) VALUES (1);
             INSERT INTO every VALUES
             (2, -9223372036854775808, -0.5, '12345678901234567890.12345', -0.0, '', x'', 0,
              '2024-02-29 23:59:59.999999', '2024-02-29 23:59:59', '0001-01-01', '00:00:00',
              '6ba7b810-9dad-11d1-80b4-00c04fd430c8', '{\"b\":[1,2.50,null],\"a\":\"é\"}'),
             (3, 9223372036854775807, 99999999999.9999, '0', 1e300, ' a  ' || char(10) || '''\"\\ ☃ 😀',
              x'00ff27', 1, '1000-01-01 00:00:00', '2038-01-19 03:14:07.5', '9999-12-31', '23:59:59.5',
              'FFFFFFFF-0000-4000-8000-000000000001', '[]'),
             (4, 0, 0, '-1.10', 0.1, 'NULL', x'80', 1, '2024-10-27 02:30:00', '2024-10-27 00:30:00',
              '2000-02-29', '12:00:00', '00000000-0000-0000-0000-000000000000', '\"text\"');",
        )
        .unwrap();
    let (a, d) = (first.to_str().unwrap(), last.to_str().unwrap());
    fill(a, &postgres);
    fill(&postgres, &mariadb);
    fill(&mariadb, d);
    let back = "SELECT i, d, r, t, hex(b), yes, day FROM every ORDER BY id";
    let rows = |file: &Path| {
        let db = Connection::open(file).unwrap();
        let mut select = db.prepare(back).unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            (0..7).map(|i| row.get::<_, rusqlite::types::Value>(i)).collect::<Result<Vec<_>, _>>()
        };
        select.query_map([], row).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(rows(&first), rows(&last));
    assert_no_difference(&postgres, d);
    assert_no_difference(a, &mariadb);
}

/// Writes into A, which is a server, through plain SQL; the sync goes to another engine and must end equal, with
/// the walk and without.
#[test]
fn histories_between_servers_end_equal() {
    let Some((postgres, mariadb)) = servers() else { return };
    let (pg, maria) = (postgres::Server::get().unwrap(), mariadb::Server::get().unwrap());
    let on_pg = |sql: &str| {
        drop(pg.sql(postgres.rsplit('/').next().unwrap().split('?').next().unwrap(), sql))
    };
    let on_maria = |sql: &str| drop(maria.sql(mariadb::name_in(&mariadb), sql));
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id INTEGER PRIMARY KEY, version BIGINT, content VARCHAR(40), u INTEGER UNIQUE)"
        )
    };
    on_pg(&format!("{}; CREATE TABLE saved AS SELECT * FROM t LIMIT 0", table("t")));
    on_maria(&table("t"));
    let options = SyncOptions {
        selection: Selection {
            tables: vec!["t".into()],
            versions: vec![("t".into(), "version".into())],
            ..Selection::default()
        },
        max_delete: MaxDelete::Percent(100.0),
        walk_least: 3,
        ..SyncOptions::default()
    };
    let rounds = if std::env::var_os("SYNCLINE_LONG").is_some() { 300 } else { 12 };
    let mut seed = 7u64;
    let mut chance = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for round in 0..rounds {
        for _ in 0..4 {
            let (id, version) = (chance(9), round * 4 + chance(6));
            match chance(8) {
                0..=3 => on_pg(&format!(
                    "DELETE FROM t WHERE id = {id} OR u = {id}; INSERT INTO t VALUES ({id}, {version}, 'c{}', {id})",
                    chance(100)
                )),
                4 => on_pg(&format!("DELETE FROM t WHERE id = {id}")),
                5 => on_pg("DELETE FROM saved; INSERT INTO saved SELECT * FROM t"),
                6 => on_pg("DELETE FROM t; INSERT INTO t SELECT * FROM saved"),
                _ => on_maria(&format!(
                    "DELETE FROM t WHERE id = {id}; UPDATE t SET content = 'x' WHERE id = {}",
                    chance(9)
                )),
            }
        }
        sync_with(&postgres, &mariadb, &options);
        if round % 4 == 3 {
            for _ in 0..6 {
                sync_with(&postgres, &mariadb, &options);
            }
            let rows = "SELECT id, version, content, u FROM t ORDER BY id";
            let of_pg = pg.sql(postgres.rsplit('/').next().unwrap(), rows).replace('|', "\t");
            assert_eq!(of_pg, maria.sql(mariadb::name_in(&mariadb), rows), "round {round}");
        }
    }
}

/// Versions as timestamps, and a transaction that takes its version early and commits late: PostgreSQL tells when
/// nothing older can come.
#[test]
fn a_late_commit_on_a_server_arrives() {
    let Some(server) = postgres::Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let name = url.rsplit('/').next().unwrap();
    let b = dir.path().join("b.db");
    let b = b.to_str().unwrap();
    server.sql(name, "CREATE TABLE t (id integer PRIMARY KEY, version bigint, content text); CREATE SEQUENCE s; INSERT INTO t SELECT i, nextval('s'), 'x' FROM generate_series(1, 500) i");
    let options = SyncOptions {
        selection: Selection {
            versions: vec![("t".into(), "version".into())],
            ..Selection::default()
        },
        create: true,
        walk_least: 1,
        ..SyncOptions::default()
    };
    sync_with(&url, b, &options);
    let mut late = PgSession::begin(&url);
    late.run("INSERT INTO t VALUES (1000, nextval('s'), 'late')");
    server.sql(name, "INSERT INTO t VALUES (1001, nextval('s'), 'early')");
    for _ in 0..3 {
        sync_with(&url, b, &options);
    }
    late.run("COMMIT");
    sync_with(&url, b, &options);
    let db = Connection::open(b).unwrap();
    let there: i64 =
        db.query_row("SELECT count(*) FROM t WHERE id >= 1000", [], |row| row.get(0)).unwrap();
    assert_eq!(there, 2, "the row that committed late is there");
}

/// A transaction that stays open.
struct PgSession {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl PgSession {
    fn begin(url: &str) -> PgSession {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (client, connection) =
            runtime.block_on(tokio_postgres::connect(url, tokio_postgres::NoTls)).unwrap();
        runtime.spawn(connection);
        let mut session = PgSession { runtime, client };
        session.run("BEGIN");
        session
    }

    fn run(&mut self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).unwrap();
    }
}

/// Two rows of one side that the agreed type takes for one: said before anything is written, whichever side it is.
#[test]
fn keys_that_are_one_for_the_other_side_are_named() {
    let Some((postgres, mariadb)) = servers() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("texts.db");
    let lite = file.to_str().unwrap();
    Connection::open(&file)
        .unwrap()
        .execute_batch(
            "CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT); \
             INSERT INTO t VALUES ('1', 'one'), ('01', 'zero-one'), ('2', 'two')",
        )
        .unwrap();
    let made = "CREATE TABLE t (k bigint PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'one'), (2, 'two')";
    let (pg, maria) = (postgres::Server::get().unwrap(), mariadb::Server::get().unwrap());
    pg.sql(postgres.rsplit('/').next().unwrap(), made);
    maria.sql(mariadb::name_in(&mariadb), made);
    for server in [&*postgres, &*mariadb] {
        for (a, b, side) in [(lite, server, "in A"), (server, lite, "in B")] {
            let (mut from, mut to) = (opened(a, Access::Read), opened(b, Access::Write));
            let (from, to) = (from.as_mut(), to.as_mut());
            let (stop, mut quiet) = (AtomicBool::new(false), |_: Event<'_>| {});
            let options = DiffOptions::default();
            let compared = diff(&mut (&mut *from, &mut *to), &options, &mut quiet).unwrap_err();
            let options = SyncOptions::default();
            let synced = sync_once(&mut (from, to), &options, &stop, &mut quiet).unwrap_err();
            for error in [compared, synced] {
                assert_eq!(error.code(), "KEYS_COLLIDE", "{error}");
                for said in [side, "t:", "\"1\"", "\"01\""] {
                    assert!(error.message().contains(said), "{said}: {error}");
                }
            }
        }
    }
    let rows = "SELECT k, x FROM t ORDER BY k";
    assert_eq!(pg.sql(postgres.rsplit('/').next().unwrap(), rows), "1|one\n2|two\n");
    assert_eq!(maria.sql(mariadb::name_in(&mariadb), rows), "1\tone\n2\ttwo\n");
}

/// Many equal rows that must go: in one run, and in few batches, for each reads the whole table.
#[test]
fn rows_without_a_key_go_in_one_run() {
    let Some((postgres, mariadb)) = servers() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (first, last) = (dir.path().join("first.db"), dir.path().join("last.db"));
    let db = Connection::open(&first).unwrap();
    db.execute_batch(
        "CREATE TABLE t (n INTEGER, x TEXT); INSERT INTO t VALUES (1, 'keep'), (7, 'dup'); \
         WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 6000) \
         INSERT INTO t SELECT iif(n % 20 = 0, n, 7), 'dup' FROM i",
    )
    .unwrap();
    let a = first.to_str().unwrap();
    let sides = [&*postgres, &*mariadb, last.to_str().unwrap()];
    sides.iter().for_each(|b| fill(a, b));
    db.execute_batch("DELETE FROM t WHERE rowid > 2").unwrap();
    for b in sides {
        let (mut from, mut to) = (opened(a, Access::Read), opened(b, Access::Write));
        let mut batches = 0;
        let mut told =
            |event: Event<'_>| batches += i32::from(matches!(event, Event::Progress { .. }));
        let (stop, options) =
            (AtomicBool::new(false), SyncOptions { yes: true, ..SyncOptions::default() });
        let report =
            sync_once(&mut (from.as_mut(), to.as_mut()), &options, &stop, &mut told).unwrap();
        assert_eq!((report.rounds, report.tables[0].applied.deleted), (1, 6000), "{b}");
        assert!(report.tables[0].proved() && report.done(), "{b}: {:?}", report.tables[0].totals);
        assert_eq!(batches, 1, "{b}");
        assert_no_difference(a, b);
    }
}

/// A child whose name comes before its parent's, and two tables that refer to each other: made by `--create`, and
/// by hand with the statements that are told without it.
#[test]
fn related_tables_are_made_in_an_order_that_works() {
    let Some((postgres, mariadb)) = servers() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.db");
    Connection::open(&file)
        .unwrap()
        .execute_batch(
            "CREATE TABLE zp (id INTEGER PRIMARY KEY, x TEXT); \
             CREATE TABLE ac (id INTEGER PRIMARY KEY, pid INTEGER REFERENCES zp (id)); \
             CREATE TABLE x (id INTEGER PRIMARY KEY, y INTEGER REFERENCES y (id)); \
             CREATE TABLE y (id INTEGER PRIMARY KEY, x INTEGER REFERENCES x); \
             INSERT INTO zp VALUES (1, 'a'); INSERT INTO ac VALUES (1, 1), (2, NULL); \
             INSERT INTO x VALUES (5, NULL); INSERT INTO y VALUES (6, 5)",
        )
        .unwrap();
    let a = file.to_str().unwrap();
    let (pg, maria) = (postgres::Server::get().unwrap(), mariadb::Server::get().unwrap());
    let by_hand = |b: &str| {
        let (mut from, mut to) = (opened(a, Access::Read), opened(b, Access::Write));
        let (stop, options) = (AtomicBool::new(false), SyncOptions::default());
        let error =
            sync_once(&mut (from.as_mut(), to.as_mut()), &options, &stop, &mut |_: Event<'_>| {})
                .unwrap_err();
        assert_eq!(error.code(), "MISSING_TABLE", "{error}");
        error.hint_text().split_once("by hand: ").unwrap().1.to_owned()
    };
    let (again, once_more) = (pg.database(), maria.database());
    pg.sql(again.rsplit('/').next().unwrap(), &by_hand(&again));
    maria.sql(mariadb::name_in(&once_more), &by_hand(&once_more));
    for b in [&postgres, &again, &mariadb, &once_more] {
        fill(a, b);
        assert_no_difference(a, b);
    }
    let of = "SELECT count(*) FROM information_schema.table_constraints WHERE constraint_type = 'FOREIGN KEY'";
    for b in [&postgres, &again] {
        assert_eq!(pg.sql(b.rsplit('/').next().unwrap(), of), "3\n");
    }
    for b in [&mariadb, &once_more] {
        let name = mariadb::name_in(b);
        assert_eq!(maria.sql(name, &format!("{of} AND table_schema = '{name}'")), "3\n");
    }
}

/// Two tables, and two columns, that differ in case only: each goes with its own, whatever stands first.
#[test]
fn names_that_differ_in_case_are_paired_with_their_own() {
    let Some((from, _)) = servers() else { return };
    let pg = postgres::Server::get().unwrap();
    let to = pg.database();
    let name = |url: &str| url.rsplit('/').next().unwrap().to_owned();
    let users = "CREATE TABLE users (id int PRIMARY KEY, n text, \"Id\" text)";
    let caps = "CREATE TABLE \"Users\" (\"N\" text, id int PRIMARY KEY)";
    pg.sql(&name(&from), &format!("{caps}; {users}; INSERT INTO \"Users\" VALUES ('CAP', 1); INSERT INTO users VALUES (1, 'low', 'x'), (2, 'low2', 'y')"));
    pg.sql(&name(&to), "CREATE TABLE users (\"Id\" text, id int PRIMARY KEY, n text); INSERT INTO users VALUES ('x', 1, 'low'), ('y', 2, 'low2')");
    let only = |tables: &[&str]| {
        let tables = tables.iter().map(|table| (*table).to_owned()).collect();
        DiffOptions {
            selection: Selection { tables, ..Selection::default() },
            ..DiffOptions::default()
        }
    };
    let look = |options: &DiffOptions| {
        let (mut a, mut b) = (opened(&from, Access::Read), opened(&to, Access::Read));
        diff(&mut (a.as_mut(), b.as_mut()), options, &mut |_: Event<'_>| {}).unwrap()
    };
    let report = look(&only(&[]));
    let [users] = &report.tables[..] else { panic!("{:?}", report.tables) };
    assert!(
        (&users.table[..], users.equal(), users.totals.rows[0]) == ("users", true, 2),
        "{users:?}"
    );
    assert_eq!((report.only_a, report.only_b), (vec!["Users".to_owned()], vec![]));
    assert!(look(&only(&["users"])).equal());
    fill(&from, &to);
    assert!(look(&only(&["USERS"])).equal());
    assert_eq!(pg.sql(&name(&to), "SELECT \"N\", id FROM \"Users\""), "CAP|1\n");
    assert_eq!(pg.sql(&name(&to), "SELECT \"Id\", n FROM users ORDER BY id"), "x|low\ny|low2\n");
}

/// A row whose unique value another one has comes once that one lets it go, though it did not change itself.
#[test]
fn a_row_in_whose_way_another_was_is_tried_again() {
    let Some((postgres, mariadb)) = servers() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (first, last) = (dir.path().join("first.db"), dir.path().join("last.db"));
    let db = Connection::open(&first).unwrap();
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, u INTEGER)").unwrap();
    let made = "CREATE TABLE t (id integer PRIMARY KEY, u integer UNIQUE)";
    Connection::open(&last).unwrap().execute_batch(made).unwrap();
    postgres::Server::get().unwrap().sql(postgres.rsplit('/').next().unwrap(), made);
    mariadb::Server::get().unwrap().sql(mariadb::name_in(&mariadb), made);
    let options = SyncOptions { yes: true, ..SyncOptions::default() };
    for b in [&*postgres, &*mariadb, last.to_str().unwrap()] {
        db.execute_batch("DELETE FROM t; INSERT INTO t VALUES (1, 10), (3, 10)").unwrap();
        let report = sync_with(first.to_str().unwrap(), b, &options);
        let held: Vec<_> = report.tables[0].held.iter().map(|h| (&*h.shown, &*h.code)).collect();
        assert_eq!(held, [("3", "VALUE_TAKEN")], "{b}");
        db.execute_batch("UPDATE t SET u = 11 WHERE id = 1").unwrap();
        let report = sync_with(first.to_str().unwrap(), b, &options);
        assert!(report.done() && report.tables[0].proved(), "{b}: {:?}", report.tables[0].held);
    }
}
