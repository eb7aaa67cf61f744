//! Tables that others write to, and how they are compared: as the server stores them, and as nodes have them.

#![allow(dead_code, reason = "each test that includes this module uses a part of it")]

use std::path::Path;

use syncline::engine::{Database, DatabaseOptions, VerifyMode, WorkingCopy};

use crate::on_postgres::{name_in, reader_options};
use crate::postgres::Server;
use crate::support::{assert_equal, count, rows};

/// A table of each kind of key; a trigger that must run for clients only.
pub const SCHEMA: [&str; 7] = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, price DECIMAL(10,2))",
    "CREATE TABLE keyless (a TEXT, b REAL)",
    "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT)",
    "CREATE TABLE untouched (id INTEGER PRIMARY KEY)",
    "CREATE TABLE heard (what TEXT)",
    "CREATE INDEX by_price ON t (price)",
    "CREATE TRIGGER hear AFTER INSERT ON t BEGIN INSERT INTO heard VALUES (new.name); END",
];

pub const ROWS: [&str; 4] = [
    "INSERT INTO t VALUES (1, 'one', 1.5), (2, 'two', 2), (3, 'three', NULL)",
    "INSERT INTO keyless VALUES ('a', 0.1), ('a', 0.1), (NULL, 1e300)",
    "INSERT INTO counted (x) VALUES ('first')",
    "INSERT INTO untouched VALUES (1)",
];

/// What others do there.
pub const OTHERS: &str = "UPDATE t SET name = 'changed', price = 7.25 WHERE id = 1; DELETE FROM t WHERE id = 2; \
    INSERT INTO t VALUES (9, 'theirs', NULL); DELETE FROM keyless WHERE _syncline_rowid = 1; \
    INSERT INTO keyless VALUES (50, 'z', -0.5); INSERT INTO counted VALUES (100, 'theirs')";

pub const TABLES: [&str; 5] = ["t", "keyless", "counted", "untouched", "heard"];

/// Every table of users as the server has it: which files hold it, its rows, and who wrote each.
pub fn as_stored(server: &Server, url: &str) -> String {
    let tables = server.sql(
        name_in(url),
        "SELECT c.relname, c.oid, c.relfilenode FROM pg_class c WHERE relnamespace = 'public'::regnamespace \
         AND relkind IN ('r', 'i') AND relname !~ '^_syncline_' AND c.oid NOT IN \
         (SELECT indexrelid FROM pg_index WHERE indrelid::regclass::text ~ '^_syncline_') ORDER BY 1",
    );
    let of = |line: &str| {
        let name = line.split('|').next().unwrap().to_owned();
        let is_table = "SELECT count(*) FROM pg_tables WHERE tablename = ";
        match server.sql(name_in(url), &format!("{is_table}'{name}'")).trim() {
            "1" => server
                .sql(name_in(url), &format!("SELECT xmin, ctid, * FROM \"{name}\" ORDER BY ctid")),
            _ => String::new(),
        }
    };
    let stored: Vec<String> = tables.lines().map(of).collect();
    tables.clone() + &stored.concat()
}

pub fn disk_reader(url: &str, dir: &Path, name: &str) -> Database {
    let options = reader_options(url, dir, name);
    Database::open(DatabaseOptions { working_copy: WorkingCopy::Disk, ..options }).unwrap()
}

/// They stand where the writer does, and each gives the same rows as the server.
pub fn all_equal(
    server: &Server,
    url: &str,
    writer: &Database,
    readers: &[&Database],
    tables: &[&str],
) {
    assert!(writer.verify(VerifyMode::Report).unwrap().equal, "also what PostgreSQL holds");
    for reader in readers {
        assert_equal(writer, reader);
        assert_eq!(writer.status().tables, reader.status().tables);
    }
    for table in tables {
        let there = server.sql(name_in(url), &format!("SELECT count(*) FROM {table}"));
        assert_eq!(there.trim(), count(&mut writer.session(), table).to_string(), "{table}");
        let sql = format!("SELECT * FROM {table} ORDER BY 1, 2");
        let sql =
            if *table == "heard" || *table == "untouched" { sql.replace(", 2", "") } else { sql };
        for reader in readers {
            assert_eq!(
                rows(&mut reader.session(), &sql),
                rows(&mut writer.session(), &sql),
                "{table}"
            );
        }
    }
}
