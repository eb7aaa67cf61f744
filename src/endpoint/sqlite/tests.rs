//! What only SQLite can get wrong.

use super::*;
use crate::change::Value;
use crate::endpoint::{PlannedColumn, Row, Type, canon};

fn endpoint(sql: &str) -> SqliteEndpoint {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(sql).unwrap();
    SqliteEndpoint::over(connection, "memory".into()).unwrap()
}

/// A plan of these columns, declared so, the first of which is the key.
fn plan(columns: &[(&str, &str)]) -> Plan {
    let columns = columns.iter().map(|(name, declared)| PlannedColumn {
        name: (*name).into(),
        declared: (*declared).into(),
        agreed: Type::Stored,
    });
    let (table, columns) = ("t".into(), columns.collect());
    Plan { table, columns, key: 1, version: None, filter: None }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn put(values: &[Value]) -> (Key, Row) {
    let mut row = Row::new();
    values.iter().for_each(|value| canon::put_value(&mut row, value.as_ref()));
    (canon::encode_key([values[0].as_ref()]), row)
}

/// All rows as `a,b a,b`, by key.
fn shown(endpoint: &mut SqliteEndpoint, columns: &str) -> String {
    let row = format!("concat_ws(',', {columns})");
    let sql = format!("SELECT group_concat({row}, ' ' ORDER BY {row}) FROM t");
    endpoint.connection().query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// The column takes the two keys for one; the index does not.
#[test]
fn a_collation_brings_no_other_row_into_it() {
    let mut endpoint = endpoint(
        "CREATE TABLE t (k TEXT COLLATE NOCASE NOT NULL, v TEXT); \
         CREATE UNIQUE INDEX i ON t (k COLLATE BINARY); \
         INSERT INTO t VALUES ('a', '1'), ('A', '2'), ('b', '3'), ('B', '4')",
    );
    let plan = plan(&[("k", "TEXT"), ("v", "TEXT")]);
    let (puts, deletes) = ([put(&[text("B"), text("new")])], [put(&[text("a")]).0]);
    let batch = Batch { plan: &plan, puts: &puts, deletes: &deletes, state: &[] };
    let applied = endpoint.apply(&batch).unwrap();
    assert_eq!(applied, Applied { updated: 1, deleted: 1, ..Applied::default() });
    assert_eq!(shown(&mut endpoint, "k, v"), "A,2 B,new b,3");
}

/// A row that is in the way stays, and the one that cannot come is refused, whatever the table says.
#[test]
fn what_a_table_does_about_conflicts_is_not_done() {
    for clause in ["REPLACE", "IGNORE", "FAIL", "ROLLBACK"] {
        let mut endpoint = endpoint(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE ON CONFLICT {clause}, \
                v TEXT NOT NULL ON CONFLICT {clause} DEFAULT 'made up'); \
             INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b')"
        ));
        let plan = plan(&[("id", "INT"), ("u", "INT"), ("v", "TEXT")]);
        let row = |id, u, v| put(&[Value::Integer(id), Value::Integer(u), v]);
        let refused = [
            ("VALUE_TAKEN", vec![row(3, 10, text("in the way"))]),
            ("VALUE_TAKEN", vec![row(2, 10, text("changed"))]),
            ("VALUE_TAKEN", vec![row(3, 30, text("new")), row(2, 10, text("aside"))]),
            ("ROW_REFUSED", vec![row(4, 40, Value::Null)]),
        ];
        for (code, puts) in &refused {
            let batch = Batch { plan: &plan, puts, deletes: &[], state: &[] };
            let error = endpoint.apply(&batch).unwrap_err();
            assert_eq!(error.code(), *code, "{clause}: {error}");
            assert_eq!(shown(&mut endpoint, "id, u, v"), "1,10,a 2,20,b", "{clause}: {puts:?}");
        }
    }
}

#[test]
fn all_tables_are_made_or_none() {
    let mut endpoint = endpoint("CREATE TABLE there (id INT)");
    let statements = ["CREATE TABLE one (id INT)".to_owned(), "CREATE TABLE there (id INT)".into()];
    endpoint.create(&statements).unwrap_err();
    let names: Vec<String> = endpoint.tables().unwrap().into_iter().map(|t| t.name).collect();
    assert_eq!(names, ["there"]);
}

/// SQL would compare these keys as text: 10 would lie before 5, and in no range that ends behind it.
#[test]
fn a_part_of_a_table_is_cut_by_the_agreed_order() {
    let mut endpoint = endpoint(
        "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT); \
         INSERT INTO t VALUES ('5', 'a'), ('7', 'b'), ('10', 'c'), ('100', 'd')",
    );
    let mut plan = plan(&[("k", "TEXT"), ("v", "TEXT")]);
    plan.columns[0].agreed = Type::Integer;
    let key = |n: i64| canon::encode_key([Value::Integer(n).as_ref()]);
    let mut read = |after: i64, upto: i64| {
        let range = Range { after: Some(key(after)), upto: Some(key(upto)) };
        let mut keys = Vec::new();
        let mut take = |key: &[u8], _: &[u8]| {
            keys.push(canon::decode_key(key)?.remove(0));
            Ok(())
        };
        endpoint.read(&plan, &[range], &mut take).unwrap();
        keys
    };
    assert_eq!(read(5, 10), [7, 10].map(Value::Integer));
    assert_eq!(read(7, 99), [10].map(Value::Integer));
    let nth = endpoint.nth_key(&plan, Some(&key(5)), 2).unwrap();
    assert_eq!(nth, Some(key(10)));
}
