//! PostgreSQL as an endpoint that is written to: what only PostgreSQL can get wrong.
#![cfg(feature = "postgres")]

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_side.rs"]
mod side;

use std::collections::BTreeMap;

use postgres::Server;
use side::{all, int, key, name_in, plan_of, row, side, table_of, text};
use syncline::change::Value;
use syncline::endpoint::postgres::PostgresEndpoint;
use syncline::endpoint::sqlite::Access;
use syncline::endpoint::{Applied, Batch, Endpoint, Horizon, Key, Plan, Range};
use syncline::error::Kind;

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

#[test]
fn a_database_that_was_made_read_only_stays_so() {
    let Some(mut side) = side("CREATE TABLE t (id int PRIMARY KEY, v text)") else { return };
    let plan = side.plan("t");
    let latch =
        format!("ALTER DATABASE {} SET default_transaction_read_only = on", name_in(&side.url));
    side.sql(&latch);
    let mut endpoint = PostgresEndpoint::open(&side.url, Access::Write).unwrap();
    let puts = [row(&plan, &[int(1), text("a")])];
    let error =
        endpoint.apply(&Batch { plan: &plan, puts: &puts, deletes: &[], state: &[] }).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Unavailable, "ENDPOINT_READ_ONLY"), "{error}");
    assert_eq!(side.sql("SELECT count(*) FROM t"), "0");
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

/// Rows that others refer to cannot be taken out; their values are put out of the way, if nobody follows them.
#[test]
fn unique_values_change_places_where_others_hang_on_the_rows() {
    let Some(mut side) = side(FAMILY) else { return };
    let plan = side.plan("parents");
    let swap = |a: i64, b: i64| {
        let row = |id: i64, code: i64| row(&plan, &[int(id), text(&format!("c{code}")), text("v")]);
        [row(a, b), row(b, a)]
    };
    let error = side.apply(&plan, &swap(2, 4), &[]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Behind, "CASCADE_REFUSED"), "{error}");
    assert_eq!(side.apply(&plan, &swap(1, 4), &[]).unwrap().updated, 2);
    assert_eq!(side.apply(&plan, &swap(5, 6), &[]).unwrap().updated, 2);
    let shown = side.sql("SELECT string_agg(code, ' ' ORDER BY id) FROM parents");
    assert_eq!(shown, "c4 c2 c3 c1 c6 c5");
    assert_eq!(side.sql("SELECT count(*) FROM cascaded WHERE p = 1"), "1");
    // What is in the way of one row is not in the batch: refused, as it stands.
    let error = side.apply(&plan, &[swap(1, 6)[0].clone(), swap(3, 2)[0].clone()], &[]);
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Behind, "VALUE_TAKEN"), "{error}");
    assert_eq!(side.sql("SELECT string_agg(code, ' ' ORDER BY id) FROM parents"), shown);
}

/// Values of every type that may not be NULL go around among rows with children, which nobody touches.
#[test]
fn unique_values_that_may_not_be_missing_change_places() {
    let Some(mut side) = side(
        "CREATE TABLE p (id int PRIMARY KEY, u int NOT NULL UNIQUE CHECK (u > 0), s varchar(3) NOT NULL, \
            day date NOT NULL UNIQUE, at timestamptz NOT NULL UNIQUE, gid uuid NOT NULL UNIQUE, \
            b bytea NOT NULL UNIQUE, n numeric(4,1) NOT NULL UNIQUE, v text, UNIQUE (v, s)); \
         CREATE TABLE c (p int REFERENCES p ON DELETE CASCADE); \
         CREATE TABLE r (p int REFERENCES p ON DELETE RESTRICT); \
         INSERT INTO p SELECT i, i, i, date '2024-01-01' + i, timestamptz '2024-01-01 00:00+00' + i * interval '1 day', \
            ('00000000-0000-4000-8000-00000000000' || i)::uuid, ('\\x0' || i)::bytea, i + 0.5, 'same' \
            FROM generate_series(1, 9) i; INSERT INTO c SELECT id FROM p; INSERT INTO r SELECT id FROM p",
    ) else {
        return;
    };
    let plan = side.plan("p");
    let before = side.sql("SELECT string_agg(xmin::text, ' ') FROM (SELECT xmin FROM c UNION ALL SELECT xmin FROM r) x");
    let one = side.sql("SELECT xmin FROM p WHERE id = 1");
    let values = |id: i64, i: i64| {
        let day = format!("2024-01-0{}", i + 1).replace("010", "10");
        let gid = format!("00000000-0000-4000-8000-00000000000{i}");
        let moment = text(&format!("{day} 00:00:00"));
        let (s, n) = (text(&i.to_string()), text(&format!("{i}.5")));
        [
            int(id),
            int(i),
            s,
            text(&day),
            moment,
            text(&gid),
            Value::Blob(vec![i as u8]),
            n,
            text("same"),
        ]
    };
    // The first row is as it was; all others get what the next one has.
    let turned =
        (1..=9).map(|id| row(&plan, &values(id, if id == 1 { 1 } else { (id - 1) % 8 + 2 })));
    let turned: Vec<_> = turned.collect();
    let applied = side.apply(&plan, &turned, &[]).unwrap();
    assert_eq!(applied, Applied { updated: 8, equal: 1, ..Applied::default() });
    assert_eq!(all(&mut side.endpoint, &plan), turned);
    assert_eq!(side.sql("SELECT xmin FROM p WHERE id = 1"), one);
    let after = side.sql("SELECT string_agg(xmin::text, ' ') FROM (SELECT xmin FROM c UNION ALL SELECT xmin FROM r) x");
    assert_eq!(after, before);
}

/// Keys that PostgreSQL orders in another way than their canonical form: dates before Christ, decimals.
#[test]
fn keys_out_of_order_are_sorted_here() {
    let Some(mut side) = side(
        "CREATE TABLE days (d date PRIMARY KEY); INSERT INTO days VALUES ('0044-03-15 BC'), ('0043-01-01'), \
            ('2024-01-01'), ('infinity'), ('-infinity'), ('10000-01-01'); \
         CREATE TABLE amounts (n numeric PRIMARY KEY, v int); \
         INSERT INTO amounts SELECT i / 4.0, i FROM generate_series(-30, 60) i; INSERT INTO amounts VALUES ('NaN', 0)",
    ) else {
        return;
    };
    let days = side.plan("days");
    let mut nothing = |_: &[u8], _: &[u8]| Ok(());
    let error = side.endpoint.read(&days, &[Range::ALL], &mut nothing).unwrap_err();
    assert_eq!(error.kind(), Kind::Retry, "the next read sorts: {error}");
    let rows = all(&mut side.endpoint, &days);
    assert!(rows.len() == 6 && rows.is_sorted());
    let amounts = side.plan("amounts");
    let rows = all(&mut side.endpoint, &amounts);
    assert!(rows.len() == 92 && rows.is_sorted());
    let range = Range { after: Some(rows[3].0.clone()), upto: Some(rows[50].0.clone()) };
    assert_eq!(side.endpoint.digest(&amounts, &[range], 64).unwrap()[0][0].rows, 47);
    let mut changed = rows[7].clone();
    *changed.1.last_mut().unwrap() ^= 2;
    let deletes = [rows[0].0.clone()];
    let applied = side.apply(&amounts, &[changed, rows[9].clone()], &deletes).unwrap();
    assert_eq!(applied, Applied { updated: 1, equal: 1, deleted: 1, inserted: 0 });
}

/// Rows of two partitions stand at the same place; and rows of tables that inherit are not this table's.
#[test]
fn rows_are_told_apart_by_their_partition() {
    let Some(mut side) = side(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY HASH (id); \
         CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
         CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1); \
         INSERT INTO t SELECT i, 'old' FROM generate_series(1, 40) i; \
         CREATE TABLE up (id int PRIMARY KEY); CREATE TABLE down () INHERITS (up); \
         INSERT INTO up VALUES (1); INSERT INTO down VALUES (1), (2)",
    ) else {
        return;
    };
    let plan = side.plan("t");
    let puts: Vec<_> = (1..=20).map(|i| row(&plan, &[int(i), text(&format!("new {i}"))])).collect();
    let deletes: Vec<Key> = (21..=30).map(key).collect();
    let applied = side.apply(&plan, &puts, &deletes).unwrap();
    assert_eq!(applied, Applied { updated: 20, deleted: 10, ..Applied::default() });
    let shown = side.sql("SELECT count(*) FILTER (WHERE v = 'new ' || id), count(*) FILTER (WHERE v = 'old'), max(id) FROM t");
    assert_eq!(shown, "20|10|40");
    let up = side.plan("up");
    assert_eq!(all(&mut side.endpoint, &up).len(), 1);
    side.apply(&up, &[], &[key(1), key(2)]).unwrap();
    assert_eq!(side.sql("SELECT count(*) FROM ONLY up"), "0");
    assert_eq!(side.sql("SELECT count(*) FROM down"), "2");
}

/// What PostgreSQL would keep as something else without a word, or not at all, is a row's fault.
#[test]
fn values_that_would_be_altered_are_refused() {
    let Some(mut side) = side(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric(6,2), v varchar(3), b text); \
         CREATE TABLE wild (id int PRIMARY KEY, v text); \
         CREATE FUNCTION drop_odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            IF NEW.v = 'raise' THEN RAISE 'not this one'; END IF; \
            IF NEW.id % 2 = 1 THEN RETURN NULL; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER drop_odd BEFORE INSERT OR UPDATE ON wild FOR EACH ROW EXECUTE FUNCTION drop_odd()",
    ) else {
        return;
    };
    let plan = side.plan("t");
    let good = [int(1), text("1.25"), text("abc"), text("x")];
    side.apply(&plan, &[row(&plan, &good)], &[]).unwrap();
    for (place, bad) in [
        (1, text("1.234")),
        (1, text("123456")),
        (2, text("ab  ")),
        (2, text("abcd")),
        (3, Value::Blob(vec![0xff])),
        (3, text("a\0b")),
    ] {
        for id in [1, 2] {
            let mut values = good.clone();
            values[0] = int(id);
            values[place] = bad.clone();
            let error = side.apply(&plan, &[row(&plan, &values)], &[]).unwrap_err();
            assert_eq!(
                (error.kind(), error.code()),
                (Kind::Invalid, "ROW_REFUSED"),
                "{bad:?}: {error}"
            );
        }
    }
    assert_eq!(side.sql("SELECT * FROM t"), "1|1.25|abc|x");
    let wild = side.plan("wild");
    for (id, v) in [(1, "odd"), (2, "raise")] {
        let error = side.apply(&wild, &[row(&wild, &[int(id), text(v)])], &[]).unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::Invalid, "ROW_REFUSED"), "{error}");
    }
    assert_eq!(side.apply(&wild, &[row(&wild, &[int(2), text("even")])], &[]).unwrap().inserted, 1);
}

/// Somebody else's lock is nobody's fault, and is not waited for without end.
#[test]
fn a_lock_is_waited_for_and_then_tried_again() {
    let Some(mut side) =
        side("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    else {
        return;
    };
    let plan = side.plan("t");
    let mut other = PostgresEndpoint::open(&side.url, Access::Write).unwrap();
    other.create(&["BEGIN; UPDATE t SET v = 'theirs'".into()]).unwrap();
    let put = [row(&plan, &[int(1), text("ours")])];
    let error = side.apply(&plan, &put, &[]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Retry, "ENDPOINT_BUSY"), "{error}");
    other.create(&["COMMIT".into()]).unwrap();
    assert_eq!(side.apply(&plan, &put, &[]).unwrap().updated, 1);
    assert_eq!(side.sql("SELECT v FROM t"), "ours");
}

#[test]
fn a_standby_is_read_and_never_written() {
    let Some(primary) = Server::own() else { return };
    let url = primary.database();
    primary.sql(
        name_in(&url),
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')",
    );
    let standby = primary.standby();
    let port = |server: &Server| server.address().port().to_string();
    let url = url.replace(&port(&primary), &port(&standby));
    let mut endpoint = PostgresEndpoint::open(&url, Access::Write).unwrap();
    assert!(matches!(endpoint.begin().unwrap(), Horizon::Transactions { .. }));
    let plan = plan_of(&table_of(&mut endpoint, "t"));
    assert_eq!(all(&mut endpoint, &plan).len(), 1);
    endpoint.end().unwrap();
    let puts = [row(&plan, &[int(2), text("b")])];
    let error =
        endpoint.apply(&Batch { plan: &plan, puts: &puts, deletes: &[], state: &[] }).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Unavailable, "ENDPOINT_READ_ONLY"), "{error}");
}
