//! Schema steps over typed tables: what PostgreSQL has after each of them.

use super::super::{PostgresPlace, PostgresStore};
use crate::change::Version;
use crate::store::Store;
use crate::store::conformance::server::Server;
use crate::store::conformance::{Author, look};

/// Every step, over rows of every type; there and back again.
const STEPS: [&[&str]; 9] = [
    &[
        "CREATE TABLE a(id INTEGER PRIMARY KEY, t TEXT, v VARCHAR(9) UNIQUE, b BLOB, r REAL, f BOOLEAN, \
         n NUMERIC(8, 2), d DATE, j JSON, u UUID, g TEXT AS (t || v) STORED)",
        "CREATE TABLE \"Odd \"\"name\"\"\"(k TEXT NOT NULL, l BIGINT NOT NULL, PRIMARY KEY (l, k)) WITHOUT ROWID",
        "CREATE TABLE keyless(p TEXT PRIMARY KEY, q INTEGER)",
        "CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, s INT) STRICT",
    ],
    &[
        "INSERT INTO a(id, t, v, b, r, f, n, d, j, u) VALUES (-9223372036854775807 - 1, '', 'äö', x'', -0.0, 1, 1.5, \
         '2024-02-30', '{\"b\":1, \"a\":[]}', 'x'), (0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), \
         (7, char(0x10ffff), '', x'00ff', 9e999, 0, 100, '', '\"\"', '')",
        "INSERT INTO \"Odd \"\"name\"\"\" VALUES ('k', 1), ('k', 2), ('', 2)",
        "INSERT INTO keyless VALUES (NULL, 1), (NULL, 1), ('p', 2)",
        "INSERT INTO counted(s) VALUES (1), (2), (3)",
    ],
    &[
        "UPDATE a SET id = id + 1 WHERE id < 7",
        "UPDATE \"Odd \"\"name\"\"\" SET l = l + 10 WHERE k = 'k'",
    ],
    &["UPDATE keyless SET p = 'new' WHERE rowid = 2", "DELETE FROM counted WHERE id = 2"],
    &["ALTER TABLE a RENAME TO z", "ALTER TABLE z RENAME COLUMN v TO \"sel ect\""],
    &[
        "ALTER TABLE z ADD COLUMN x NUMERIC DEFAULT 0.5",
        "ALTER TABLE z ADD COLUMN y TEXT NOT NULL DEFAULT 'it''s'",
        "UPDATE z SET x = NULL, y = 'other' WHERE id = 7",
    ],
    &[
        "CREATE UNIQUE INDEX i ON z(y, d)",
        "CREATE UNIQUE INDEX e ON z(lower(t))",
        "CREATE INDEX o ON z(r)",
    ],
    &[
        "CREATE TRIGGER r AFTER INSERT ON z BEGIN DELETE FROM keyless; END",
        "CREATE VIEW w AS SELECT * FROM z",
    ],
    &["INSERT INTO z(id, t, y) VALUES (100, 'T', 'y')", "DROP INDEX i"],
];

#[test]
fn tables_follow_every_step_there_and_back() {
    let Some(server) = Server::get() else { return };
    let url = server.database();
    let place = PostgresPlace::read(&url).unwrap();
    let mut author = Author::new();
    let mut copy = PostgresStore::open(place.clone()).unwrap();
    let mut seen = vec![(Version(0), look(&mut copy))];
    for statements in STEPS {
        let from = author.store.position().version;
        author.group(statements);
        author.bring(&mut copy, from.0);
        let (mine, theirs) = (look(&mut copy), look(&mut author.store));
        let rows = mine.0.len() - 2;
        assert_eq!(mine.0[..rows], theirs.0[..rows], "{statements:?}");
        assert_eq!(mine.1, theirs.1, "{statements:?}");
        assert_eq!(look(&mut PostgresStore::open(place.clone()).unwrap()), mine, "reopened");
        seen.push((author.store.position().version, mine));
    }
    for (version, before) in seen.iter().rev() {
        copy.rewind(*version, "test", crate::change::Timestamp(1)).unwrap();
        let now = look(&mut copy);
        assert_eq!(now.1, before.1, "back at {version}");
    }
    let commits = author.commits(0);
    author.give(&mut copy, &commits).unwrap();
    assert_eq!(look(&mut copy), seen.last().unwrap().1, "forward again");
}

#[test]
fn what_others_read_is_ordinary() {
    let Some(server) = Server::get() else { return };
    let url = server.database();
    let database = url.rsplit('/').next().unwrap();
    let mut author = Author::new();
    STEPS[..2].iter().for_each(|statements| author.group(statements));
    let mut copy = PostgresStore::open(PostgresPlace::read(&url).unwrap()).unwrap();
    author.bring(&mut copy, 0);
    let sql = |sql: &str| server.sql(database, sql);
    assert_eq!(sql("SELECT j->>'b', n, f, length(v) FROM a WHERE id < 0"), "1|1.50|t|2\n");
    assert_eq!(sql("SELECT count(DISTINCT _syncline_rowid) FROM keyless"), "3\n");
    let keys = "SELECT conrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint \
                WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text !~ '^_sync' \
                AND contype IN ('p', 'u') ORDER BY 1, 2";
    assert_eq!(
        sql(keys),
        "a|PRIMARY KEY (id)\na|UNIQUE (v) DEFERRABLE\n\"Odd \"\"name\"\"\"|PRIMARY KEY (l, k)\n\
         keyless|PRIMARY KEY (_syncline_rowid)\nkeyless|UNIQUE (p) DEFERRABLE\ncounted|PRIMARY KEY (id)\n"
    );
}

/// Each refusal leaves everything as it was, and the store goes on.
#[test]
fn what_cannot_be_held_is_refused_by_name() {
    let Some(server) = Server::get() else { return };
    for (code, named, sql) in [
        ("TYPE_UNSUPPORTED", "\"b\" of table \"t\"", "CREATE TABLE t(a INTEGER, b)"),
        ("TYPE_UNSUPPORTED", "as a key", "CREATE TABLE t(a JSON PRIMARY KEY NOT NULL)"),
        ("NAME_UNSUPPORTED", "\"xmin\"", "CREATE TABLE t(a INTEGER, xmin TEXT)"),
        ("VIRTUAL_TABLE_UNSUPPORTED", "\"t\"", "CREATE VIRTUAL TABLE t USING fts5(x)"),
        ("VALUE_UNSUPPORTED", "\"v\" of table \"held\"", "INSERT INTO held VALUES (5, 'too long')"),
        ("VALUE_UNSUPPORTED", "\"id\" of table \"held\"", "INSERT INTO held VALUES ('x', '')"),
        ("VALUE_UNSUPPORTED", "key", "INSERT INTO keyed VALUES (printf('%.3000c', 'x'))"),
    ] {
        let mut author = Author::new();
        author.group(&[
            "CREATE TABLE held(id INTEGER, v VARCHAR(3))",
            "CREATE TABLE keyed(k TEXT PRIMARY KEY NOT NULL)",
        ]);
        let mut copy =
            PostgresStore::open(PostgresPlace::read(&server.database()).unwrap()).unwrap();
        author.bring(&mut copy, 0);
        author.group(&["INSERT INTO held VALUES (1, 'a')", sql]);
        let commits = author.commits(2);
        let before = look(&mut copy);
        let error = author.give(&mut copy, &commits).unwrap_err();
        assert_eq!(error.code(), code, "{sql}: {error}");
        assert!(error.message().contains(named), "{sql}: {error}");
        assert!(look(&mut copy) == before, "{sql}");
        author.give(&mut copy, &commits[..1]).unwrap();
        look(&mut copy);
    }
}
