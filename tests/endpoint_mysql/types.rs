//! Every type: to SQLite and back, and what MySQL would change on the way in.

use syncline::endpoint::{Endpoint, Type};

use super::*;

const EVERY: &str = "CREATE TABLE every (
    id bigint AUTO_INCREMENT PRIMARY KEY, ti tinyint, tu tinyint unsigned, si smallint, mi mediumint, i int, iu int unsigned,
    bi bigint, bu bigint unsigned, zf int(8) unsigned zerofill, bo boolean, b1 bit(1), b12 bit(12), b64 bit(64),
    de decimal(30,10), d0 decimal(65,0), fl float, fd float(8,2), du double, ch char(5), vc varchar(20), bin binary(16), vb varbinary(20),
    tt tinytext, lt longtext, bl blob, da date, t0 time, t6 time(6), dt datetime, dt3 datetime(3), dt6 datetime(6),
    ts timestamp NULL, ts6 timestamp(6) NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP(6), y year, js json, uu uuid, i6 inet6,
    en enum('a','b','x y'), se set('p','q','r'), la varchar(20) CHARACTER SET latin1, g geometry,
    ge bigint GENERATED ALWAYS AS (id * 2) VIRTUAL, hidden int INVISIBLE DEFAULT 3
) DEFAULT CHARSET utf8mb4";

/// Rows that hold what is hard: ends, nothing, empty, zero dates, long times, padding, two scripts.
const ROWS: &str = "SET sql_mode='NO_AUTO_VALUE_ON_ZERO', time_zone='+00:00';
    INSERT INTO every (id) VALUES (0);
    INSERT INTO every VALUES (1, -128, 255, -32768, -8388608, -2147483648, 4294967295, -9223372036854775808, 18446744073709551615, 42, 1,
        b'1', b'100000000001', 18446744073709551615, -12345678901234567890.0123456789, REPEAT('9', 65), 0.1, 1.25, -0.0, 'ab   ', 'x  ', 'abc', '', '', 'ä字😀', x'00ff',
        '0000-00-00', '-838:59:59', '-00:00:00.000001', '0000-00-00 00:00:00', '2024-02-29 23:59:59.120', '9999-12-31 23:59:59.999999',
        '1970-01-01 00:00:01', '2038-01-19 03:14:07.999999', 1901, '{\"b\": [1, 2.50], \"a\": null}', '6BA7B810-9dad-11d1-80b4-00c04fd430c8', '::ffff:1.2.3.4',
        'x y', 'p,r', 'é€', ST_GeomFromText('POINT(1 2)'), DEFAULT);
    INSERT INTO every VALUES (2, 127, 0, 32767, 8388607, 2147483647, 0, 9223372036854775807, 9223372036854775808, 0, 0,
        b'0', 0, 0, 0, -5, 3.4028234e38, -999.99, 5e-324, '', '', '', x'ff00', ' ', '\\0', '',
        '2024-00-00', '838:59:59', '100:00:00.5', '2024-05-00 00:00:00', '1000-01-01', '0001-01-01',
        '0000-00-00 00:00:00', NULL, 0, '[]', NULL, NULL, 'a', '', '', NULL, DEFAULT);";

#[test]
fn every_type_goes_to_sqlite_and_back() {
    let Some((_, _, mut a)) = made(&format!("{EVERY}; {ROWS}")) else { return };
    let Some((_, _, mut c)) = made(EVERY) else { return };
    let mut b = sqlite();
    let made_there = b.create_statements(&[table(&mut a, "every")]).unwrap();
    b.create(&made_there).unwrap();
    let there = agreed(&mut a, &mut b, "every");
    assert_eq!((&there.only_a[..], &there.only_b[..]), (&[][..], &[][..]));
    let rows = all(&mut a, &there.a);
    assert_eq!(rows.len(), 3);
    assert_eq!(put(&mut b, &there.b, &rows).unwrap().inserted, 3);
    assert_eq!(all(&mut b, &there.b), rows);
    assert_eq!(digest(&mut a, &there.a), digest(&mut b, &there.b));
    let back = agreed(&mut b, &mut c, "every");
    let rows = all(&mut b, &back.a);
    assert_eq!(put(&mut c, &back.b, &rows).unwrap().inserted, 3);
    assert_eq!(digest(&mut c, &back.b), digest(&mut b, &back.a));
    let again = agreed(&mut a, &mut c, "every");
    assert_eq!(all(&mut c, &again.b), all(&mut a, &again.a));
    // Nothing is rewritten, so that no timestamp follows an update.
    assert_eq!(put(&mut c, &again.b, &all(&mut a, &again.a)).unwrap().equal, 3);
}

#[test]
fn values_are_what_the_server_means() {
    let Some((_, _, mut a)) = made(&format!("{EVERY}; {ROWS}")) else { return };
    let plan = plan(&mut a, "every");
    let rows = all(&mut a, &plan);
    let values = |nth: usize| plan.values(&rows[nth].1).unwrap();
    let of = |nth: usize, name: &str| {
        let at = plan.columns.iter().position(|column| column.name == name).unwrap();
        values(nth)[at].clone()
    };
    for (name, value) in [
        ("id", Value::Integer(1)),
        ("bu", text("18446744073709551615")),
        ("b1", Value::Integer(1)),
        ("b12", Value::Integer(0b1000_0000_0001)),
        ("b64", text("18446744073709551615")),
        ("de", text("-12345678901234567890.0123456789")),
        ("fl", Value::Real(f64::from(0.1f32))),
        ("du", Value::Real(0.0)),
        ("ch", text("ab")),
        ("vc", text("x  ")),
        ("da", text("0000-00-00")),
        ("t0", text("-838:59:59")),
        ("t6", text("-00:00:00.000001")),
        ("dt3", text("2024-02-29 23:59:59.12")),
        ("ts6", text("2038-01-19 03:14:07.999999")),
        ("js", text(r#"{"a":null,"b":[1,2.5]}"#)),
        ("uu", text("6ba7b810-9dad-11d1-80b4-00c04fd430c8")),
        ("en", text("x y")),
        ("la", text("é€")),
        ("hidden", Value::Integer(3)),
    ] {
        assert_eq!(of(1, name), value, "{name}");
    }
    assert_eq!((of(0, "vc"), of(2, "vc")), (Value::Null, text("")));
    assert_eq!(of(2, "bu"), text("9223372036854775808"));
    assert!(plan.columns.iter().all(|column| column.name != "ge"), "it is computed");
}

#[test]
fn types_are_described() {
    let Some((_, _, mut a)) = made(EVERY) else { return };
    let table = table(&mut a, "every");
    let kind = |name: &str| table.column(name).unwrap().kind;
    for (name, wanted) in [
        ("bo", Type::Boolean),
        ("tu", Type::Integer),
        ("bu", Type::Decimal { exact: true }),
        ("fl", Type::Real { single: true }),
        ("ch", Type::Text { padded: true }),
        ("vc", Type::Text { padded: false }),
        ("dt3", Type::Timestamp { digits: 3 }),
        ("ts6", Type::Timestamptz { digits: 6 }),
        ("t0", Type::Time { digits: 0 }),
        ("js", Type::Json),
        ("uu", Type::Uuid),
        ("bin", Type::Bytes),
        ("g", Type::Bytes),
        ("y", Type::Integer),
    ] {
        assert_eq!(kind(name), wanted, "{name}");
    }
    assert!(table.column("ge").unwrap().generated && !table.column("hidden").unwrap().generated);
    assert_eq!(table.column("de").map(|c| (c.size, c.scale)), Some((Some(30), Some(10))));
    assert_eq!(table.key, ["id"]);
}

#[test]
fn what_the_server_would_change_is_refused() {
    let sql = "CREATE TABLE narrow (id int PRIMARY KEY, v3 varchar(3), de decimal(5,2), t0 time, t6 time(6), d0 datetime,
        en enum('a','b'), y year, i int, fl float, bi bit(24), bin binary(4), ch char(3), js json, da date);
        INSERT INTO narrow (id, v3) VALUES (1, 'as')";
    let Some((_, _, mut b)) = made(sql) else { return };
    let plan = plan(&mut b, "narrow");
    let before = digest(&mut b, &plan);
    for (column, value) in [
        ("v3", text("abc  ")),
        ("v3", text("abcd")),
        ("de", text("1.005")),
        ("t0", text("10:00:00.5")),
        ("t6", text("900:00:00")),
        ("d0", text("2024-01-01 10:00:00.5")),
        ("d0", text("2024-02-30 10:00:00")),
        ("en", text("2")),
        ("en", text("B")),
        ("y", Value::Integer(24)),
        ("i", Value::Real(1.5)),
        ("i", text("12a")),
        ("fl", Value::Real(0.1)),
        ("bi", text("abc")),
        ("bin", Value::Blob(vec![1, 2])),
        ("ch", text("a  ")),
        ("js", text("{")),
        ("da", text("2024-01-01 10:00:00")),
    ] {
        let at = plan.columns.iter().position(|c| c.name == column).unwrap();
        let mut values = vec![Value::Null; plan.columns.len()];
        values[0] = Value::Integer(7);
        values[at] = value.clone();
        let error = refused(put(&mut b, &plan, &[row(&plan, &values)]));
        assert!(error.message().contains(column), "{column} {value:?}: {error}");
        // Beside a good row, which then does not stay either; and where the row is there already.
        values[0] = Value::Integer(1);
        refused(put(&mut b, &plan, &[row(&plan, &values)]));
        assert_eq!(digest(&mut b, &plan), before, "{column} {value:?}");
    }
}

#[test]
fn rows_without_a_key_are_found_by_all_they_hold() {
    let bag = EVERY.replace("AUTO_INCREMENT PRIMARY KEY", "").replace("TABLE every", "TABLE bag");
    let filling = ROWS.replace("every", "bag");
    let Some((_, _, mut a)) = made(&format!("{bag}; {filling} {filling}")) else { return };
    let Some((_, _, mut b)) = made(&bag) else { return };
    let there = agreed(&mut a, &mut b, "bag");
    assert!(there.a.is_multiset());
    let rows = all(&mut a, &there.a);
    assert_eq!(rows.len(), 6);
    assert_eq!(put(&mut b, &there.b, &rows).unwrap().inserted, 6);
    assert_eq!(put(&mut b, &there.b, &rows).unwrap().equal, 6);
    assert_eq!(digest(&mut a, &there.a), digest(&mut b, &there.b));
    let gone: Vec<Key> =
        rows.iter().map(|(key, _)| key.clone()).filter(|key| key[19] == 1).collect();
    assert_eq!(gone.len(), 3);
    assert_eq!(delete(&mut b, &there.b, &gone).unwrap().deleted, 3);
    let left: Vec<_> = rows.into_iter().filter(|(key, _)| !gone.contains(key)).collect();
    assert_eq!(all(&mut b, &there.b), left);
}

/// What must not be changed by writing: an id of zero, a column that nobody compares, a time that would follow.
#[test]
fn what_is_not_compared_stays() {
    let sql = "CREATE TABLE kept (id int AUTO_INCREMENT PRIMARY KEY, v text, u int UNIQUE, aside text, bits bit(9),
        at timestamp(6) NULL ON UPDATE CURRENT_TIMESTAMP(6), twice int AS (u * 2) STORED, ghost int INVISIBLE);
        INSERT INTO kept (id, v, u, aside, bits, at, ghost) VALUES
            (5, 'a', 1, 'x', 257, '2020-01-01', 8), (6, 'b', 2, 'y', 3, '2020-01-02', 9)";
    let Some((server, url, mut b)) = made(sql) else { return };
    let mut plan = plan(&mut b, "kept");
    plan.columns.retain(|column| ["id", "v", "u", "at"].contains(&column.name.as_str()));
    let values = |id, v, u, at: &str| {
        row(&plan, &[Value::Integer(id), text(v), Value::Integer(u), text(at)])
    };
    let swapped = [
        values(5, "a", 2, "2020-01-01 00:00:00"),
        values(6, "c", 1, "2020-01-02 00:00:00"),
        values(0, "zero", 3, "2020-01-03 00:00:00"),
    ];
    let applied = put(&mut b, &plan, &swapped).unwrap();
    assert_eq!((applied.inserted, applied.updated), (1, 2));
    let kept = "SELECT id, v, u, aside, bits + 0, at, twice, ghost FROM kept ORDER BY id";
    assert_eq!(
        server.sql(name_in(&url), kept),
        "0\tzero\t3\tNULL\tNULL\t2020-01-03 00:00:00.000000\t6\tNULL\n\
         5\ta\t2\tx\t257\t2020-01-01 00:00:00.000000\t4\t8\n\
         6\tc\t1\ty\t3\t2020-01-02 00:00:00.000000\t2\t9\n"
    );
}
