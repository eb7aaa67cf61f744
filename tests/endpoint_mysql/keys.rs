//! Keys that MySQL sorts, or takes for equal, in its own way.

use super::*;

/// Each key in a table of its own: what it is, and values in SQL.
const KEYS: &[(&str, &str, &[&str])] = &[
    (
        "folded",
        "k varchar(20)",
        &["'a'", "'B'", "'_'", "'Z'", "'é'", "'f'", "''", "'字'", "'😀'", "'10'", "'9'"],
    ),
    ("padded", "k char(5) COLLATE utf8mb4_bin", &["'a'", "'a\\t'", "'B'", "''", "'aa'", "'~'"]),
    (
        "latin",
        "k varchar(9) CHARACTER SET latin1 COLLATE latin1_bin",
        &["'€'", "'ÿ'", "'a'", "'ä'"],
    ),
    (
        "exact",
        "k varchar(20) COLLATE utf8mb4_nopad_bin",
        &["'a'", "'a '", "'A'", "''", "'a\\t'", "'字'", "'😀'"],
    ),
    (
        "huge",
        "k bigint unsigned zerofill",
        &["0", "9", "10", "9223372036854775807", "9223372036854775808", "18446744073709551615"],
    ),
    ("medium", "k int unsigned", &["0", "1", "4294967295", "77"]),
    (
        "exactly",
        "k decimal(20,3)",
        &["-1.5", "0", "10", "9", "1.250", "12345678901234567.891", "12345678901234567.892"],
    ),
    (
        "moment",
        "k datetime(6)",
        &[
            "'2024-05-06 07:08:09'",
            "'2024-05-06 07:08:09.1'",
            "'0000-00-00'",
            "'9999-12-31'",
            "'2024-05-06'",
        ],
    ),
    (
        "instant",
        "k timestamp(3)",
        &["'2024-05-06 07:08:09'", "'2024-05-06 07:08:09.1'", "'1970-01-01 00:00:01'"],
    ),
    ("clock", "k time", &["'-10:00:00'", "'100:00:00'", "'20:00:00'", "'00:00:00'"]),
    ("day", "k date", &["'2024-05-06'", "'0000-00-00'", "'1000-01-01'"]),
    (
        "id",
        "k uuid",
        &[
            "'00000001-0000-0000-0000-000000000002'",
            "'00000002-0000-0000-0000-000000000001'",
            "'f0000000-0000-0000-0000-000000000000'",
        ],
    ),
    (
        "raw_id",
        "k binary(16)",
        &["x'00000001000000000000000000000002'", "x'f0000000000000000000000000000000'", "x'00'"],
    ),
    ("word", "k enum('z','a','m')", &["'z'", "'a'", "'m'"]),
    ("flags", "k bit(20)", &["0", "1", "65536", "256"]),
    ("bytes", "k varbinary(20)", &["''", "x'00'", "x'0000'", "x'61'", "x'6120'", "x'ff'"]),
    ("single", "k float", &["0.1", "-3.5", "1e10", "0"]),
    ("address", "k inet6", &["'::2'", "'::10'", "'2001:db8::'"]),
    ("flag", "k boolean", &["0", "1", "2"]),
];

/// All keys, in order, in every range, and found again, each as the bytes say.
fn check(endpoint: &mut dyn Endpoint, plan: &Plan, count: usize) {
    let rows_there = all(endpoint, plan);
    assert_eq!(rows_there.len(), count, "{}", plan.table);
    assert!(rows_there.is_sorted_by(|(a, _), (b, _)| a < b), "{}", plan.table);
    let ends: Vec<Option<Key>> =
        [None].into_iter().chain(rows_there.iter().map(|(key, _)| Some(key.clone()))).collect();
    for after in &ends {
        for upto in ends.iter().filter(|upto| upto.is_none() || *upto > after) {
            let range = Range { after: after.clone(), upto: upto.clone() };
            let wanted: Vec<_> =
                rows_there.iter().filter(|(key, _)| range.contains(key)).cloned().collect();
            assert_eq!(rows(endpoint, plan, range), wanted, "{} {after:?} {upto:?}", plan.table);
        }
    }
    let keys: Vec<Key> = rows_there.iter().map(|(key, _)| key.clone()).collect();
    for (at, after) in ends.iter().enumerate() {
        for n in 1..=keys.len() + 1 {
            let nth = endpoint.nth_key(plan, after.as_ref(), n).unwrap();
            assert_eq!(nth.as_ref(), keys.get(at + n - 1), "{} {after:?} {n}", plan.table);
        }
    }
    let mut found = Vec::new();
    endpoint
        .rows(plan, &keys, &mut |key, row| {
            found.push((key.to_vec(), row.to_vec()));
            Ok(())
        })
        .unwrap();
    found.sort();
    assert_eq!(found, rows_there, "{}", plan.table);
}

#[test]
fn every_kind_of_key_comes_in_the_order_of_its_bytes() {
    let tables = KEYS.iter().map(|(name, column, values)| {
        let values = values.iter().map(|value| format!("({value}, 1)")).collect::<Vec<_>>();
        format!(
            "CREATE TABLE t_{name} ({column} PRIMARY KEY, v int) DEFAULT CHARSET utf8mb4; \
             INSERT INTO t_{name} VALUES {};\n",
            values.join(", ")
        )
    });
    let sql = format!("SET sql_mode = '', time_zone = '+00:00'; {}", tables.collect::<String>());
    let Some((_, _, mut a)) = made(&sql) else { return };
    for (name, _, values) in KEYS {
        let plan = plan(&mut a, &format!("t_{name}"));
        assert_eq!(plan.key, 1, "{name}");
        check(&mut a, &plan, values.len());
        // Changed one by one and taken away, nobody else is touched.
        let rows = all(&mut a, &plan);
        for (key, old) in &rows {
            let mut values = plan.values(old).unwrap();
            values[1] = Value::Integer(2);
            let mut new = Row::new();
            values.iter().for_each(|value| canon::put_value(&mut new, value.as_ref()));
            let applied = put(&mut a, &plan, &[(key.clone(), new)]).unwrap();
            assert_eq!(applied.updated, 1, "{name}");
        }
        let applied = delete(&mut a, &plan, &[rows[1].0.clone()]).unwrap();
        assert_eq!(applied.deleted, 1, "{name}");
        assert_eq!(all(&mut a, &plan).len(), rows.len() - 1, "{name}");
        assert_eq!(put(&mut a, &plan, &rows[1..2]).unwrap().inserted, 1, "{name}");
    }
}

#[test]
fn keys_of_several_columns_come_in_order() {
    let sql = "CREATE TABLE pairs (t varchar(9), n bigint unsigned, d date, v int, PRIMARY KEY (t, n, d)) DEFAULT CHARSET utf8mb4;
        CREATE TABLE plain (a int, b int, c varchar(9) COLLATE utf8mb4_nopad_bin, PRIMARY KEY (a, b, c));
        INSERT INTO plain SELECT x.seq, y.seq, z.seq FROM seq_1_to_3 x, seq_8_to_11 y, seq_8_to_11 z;
        INSERT INTO pairs SELECT elt(x.seq, 'a', 'B', ''), y.seq, if(z.seq, '2024-01-01', '0001-01-01'), 0
            FROM seq_1_to_3 x, seq_8_to_11 y, seq_0_to_1 z";
    let Some((_, _, mut a)) = made(sql) else { return };
    for (name, count) in [("plain", 48), ("pairs", 24)] {
        let plan = plan(&mut a, name);
        check(&mut a, &plan, count);
    }
}

/// The server reads what was asked for and little more: conditions have the form that its optimizer knows.
#[test]
fn ranges_and_keys_are_found_by_the_index() {
    let Some(server) = Server::own() else { return };
    let url = server.database();
    let sql =
        "CREATE TABLE t (a int, b varchar(9) COLLATE utf8mb4_nopad_bin, v int, PRIMARY KEY (a, b));
        INSERT INTO t SELECT x.seq, y.seq, 0 FROM seq_1_to_20 x, seq_1_to_1000 y";
    server.sql(name_in(&url), sql);
    let mut a = MysqlEndpoint::open(&url, Access::Write).unwrap();
    let plan = plan(&mut a, "t");
    let every = all(&mut a, &plan);
    let status = "SELECT CAST(sum(variable_value) AS SIGNED) FROM information_schema.global_status
        WHERE variable_name IN ('HANDLER_READ_KEY', 'HANDLER_READ_NEXT')";
    let mut rows_read = 0;
    let mut read = || -> u64 {
        let before =
            std::mem::replace(&mut rows_read, server.sql("mysql", status).trim().parse().unwrap());
        rows_read - before
    };
    read();
    let key = |n: usize| Some(every[n].0.clone());
    let ranges: Vec<Range> =
        (0..100).map(|n| Range { after: key(n * 200), upto: key(n * 200 + 5) }).collect();
    let mut seen = 0;
    a.read(&plan, &ranges, &mut |_, _| {
        seen += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, 500);
    let ranges = read();
    assert!((500..1000).contains(&ranges), "{ranges} rows for ranges");
    let some: Vec<_> = every.iter().step_by(100).cloned().collect();
    assert_eq!(put(&mut a, &plan, &some).unwrap().equal, 200);
    let keys = read();
    assert!((200..400).contains(&keys), "{keys} rows for keys");
    assert_eq!(a.nth_key(&plan, key(10_000).as_ref(), 50).unwrap(), key(10_050));
    let nth = read();
    assert!((50..100).contains(&nth), "{nth} rows for the 50th key");
}

/// A key of SQLite's that is no date, or no number, as the end of a range of dates or numbers.
#[test]
fn ends_that_no_row_here_can_have_are_ends_all_the_same() {
    let sql = "CREATE TABLE days (d date, n int, PRIMARY KEY (d, n)); INSERT INTO days VALUES ('2024-01-01', 1), ('2024-03-01', 2)";
    let Some((_, _, mut a)) = made(sql) else { return };
    let plan = plan(&mut a, "days");
    let every = all(&mut a, &plan);
    for strange in ["2024-02-30", "2024", "no date", ""] {
        for n in [Value::Integer(1), Value::Null, Value::Real(1.5), text("x")] {
            let key = row(&plan, &[text(strange), n]).0;
            let range = Range { after: Some(key), upto: None };
            let wanted: Vec<_> =
                every.iter().filter(|(key, _)| range.contains(key)).cloned().collect();
            assert_eq!(rows(&mut a, &plan, range), wanted, "{strange}");
        }
    }
}

/// UUIDs in a column of text, in whatever spelling, are the same key as elsewhere.
#[test]
fn uuids_in_text_are_found_however_they_are_spelled() {
    let spelled = [
        "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
        "7ba7b8109dad11d180b400c04fd430c8",
        "5ba7b810-9dad-11d1-80b4-00c04fd430c8",
    ];
    let values = spelled.map(|id| format!("('{id}', 1)")).join(", ");
    let sql = format!(
        "CREATE TABLE ids (k varchar(36) COLLATE utf8mb4_bin PRIMARY KEY, v int); INSERT INTO ids VALUES {values}"
    );
    let Some((_, _, mut a)) = made(&sql) else { return };
    let mut b = sqlite();
    b.create(&["CREATE TABLE ids (k UUID PRIMARY KEY NOT NULL, v INTEGER)".into()]).unwrap();
    let there = agreed(&mut a, &mut b, "ids");
    check(&mut a, &there.a, 3);
    let rows = all(&mut a, &there.a);
    put(&mut b, &there.b, &rows).unwrap();
    assert_eq!(digest(&mut a, &there.a), digest(&mut b, &there.b));
    assert_eq!(put(&mut a, &there.a, &rows).unwrap().equal, 3);
}

#[test]
fn keys_that_collide_only_here_are_refused_and_reach_nobody_else() {
    let sql = "CREATE TABLE folded (k varchar(9) PRIMARY KEY, v int) DEFAULT CHARSET utf8mb4;
        CREATE TABLE apart (k varchar(9) COLLATE utf8mb4_nopad_bin PRIMARY KEY);
        INSERT INTO folded VALUES ('a', 1)";
    let Some((_, _, mut b)) = made(sql) else { return };
    assert!(table(&mut b, "folded").columns[0].folds_case);
    assert!(!table(&mut b, "apart").columns[0].folds_case);
    let plan = plan(&mut b, "folded");
    let before = digest(&mut b, &plan);
    for other in ["A", "a ", "á"] {
        let other = row(&plan, &[text(other), Value::Integer(2)]);
        let error = put(&mut b, &plan, std::slice::from_ref(&other)).unwrap_err();
        assert_eq!(error.code(), "VALUE_TAKEN", "{error}");
        assert_eq!(delete(&mut b, &plan, std::slice::from_ref(&other.0)).unwrap().deleted, 0);
        let mut nobody = |_: &[u8], _: &[u8]| panic!("there is no such row");
        b.rows(&plan, std::slice::from_ref(&other.0), &mut nobody).unwrap();
        assert_eq!(digest(&mut b, &plan), before);
    }
    // With the one in its way gone, it comes.
    let upper = row(&plan, &[text("A"), Value::Integer(2)]);
    let lower = row(&plan, &[text("a"), Value::Integer(1)]).0;
    let batch =
        Batch { plan: &plan, puts: std::slice::from_ref(&upper), deletes: &[lower], state: &[] };
    let applied = b.apply(&batch).unwrap();
    assert_eq!((applied.inserted, applied.deleted), (1, 1));
    assert_eq!(all(&mut b, &plan), [upper]);
}

/// Many ranges of keys that the collation sorts in another way: about as quick as reading all, and not a comparison
/// of every row with every range.
#[test]
fn many_ranges_of_folded_keys_are_read_at_once() {
    let Some((_, _, mut a)) = made(
        "CREATE TABLE t (k varchar(40), n int, PRIMARY KEY (k, n)) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci; \
         INSERT INTO t SELECT CONCAT(CHAR(65 + seq % 26), md5(seq)), seq FROM seq_1_to_40000; \
         INSERT INTO t VALUES ('', 0), ('a', 1), ('é', 1)",
    ) else {
        return;
    };
    let plan = plan(&mut a, "t");
    let all = all(&mut a, &plan);
    let end = |at: usize| all.get(at).map(|(key, _)| key.clone());
    let ranges: Vec<Range> = (0..400)
        .map(|i| Range {
            after: (i > 0).then(|| end(100 * i)).flatten(),
            upto: end(100 * i + i % 14 + 1),
        })
        .collect();
    let mut timed = |ranges: &[Range]| {
        let (began, mut read) = (std::time::Instant::now(), Vec::new());
        let mut take = |key: &[u8], row: &[u8]| {
            read.push((key.to_vec(), row.to_vec()));
            Ok(())
        };
        a.read(&plan, ranges, &mut take).unwrap();
        (read, began.elapsed())
    };
    let (of_all, whole) = timed(&[Range::ALL]);
    let (of_many, ranged) = timed(&ranges);
    let wanted = of_all.iter().filter(|(key, _)| ranges.iter().any(|range| range.contains(key)));
    assert!(of_many.iter().eq(wanted), "{} of {} rows", of_many.len(), all.len());
    assert!(
        ranged < 2 * whole + std::time::Duration::from_millis(500),
        "{ranged:?}, all: {whole:?}"
    );
}
