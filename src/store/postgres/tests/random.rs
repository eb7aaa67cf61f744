//! Random SQL over typed tables: PostgreSQL accepts, in their order, all the rows that SQLite accepted.
//!
//! Few distinct values, so that keys collide, are exchanged and replaced, by statements, triggers and
//! conflict clauses. After every few groups all rows are recounted; at the end the copy goes back to some
//! version, and forward again.

use super::super::{PostgresPlace, PostgresStore};
use crate::change::{Timestamp, Version};
use crate::store::conformance::server::Server;
use crate::store::conformance::{Author, look};
use crate::store::sqlite::{Budget, Failed, Statement};
use crate::store::vfs::chance::Chance;
use crate::store::{Source, Store};

const TABLES: [&str; 5] = [
    "CREATE TABLE a(id INTEGER PRIMARY KEY, u INTEGER UNIQUE, t TEXT, n NUMERIC(6, 2))",
    "CREATE TABLE k(x TEXT NOT NULL, y INTEGER NOT NULL, z BOOLEAN, PRIMARY KEY (x, y)) WITHOUT ROWID",
    "CREATE TABLE f(p TEXT PRIMARY KEY, q REAL)",
    "CREATE TRIGGER r AFTER INSERT ON a WHEN new.id % 3 = 0 BEGIN UPDATE OR REPLACE k SET y = y + 1; END",
    "CREATE TRIGGER s BEFORE DELETE ON f BEGIN INSERT OR IGNORE INTO a(u) VALUES (old.rowid); END",
];

/// `#` is a small number, `@` a short text.
const STATEMENTS: [&str; 18] = [
    "INSERT OR REPLACE INTO a VALUES (#, #, @, # / 4.0)",
    "INSERT OR IGNORE INTO a(u, t) VALUES (#, @), (#, @), (#, NULL)",
    "UPDATE OR REPLACE a SET id = id + 1 WHERE id > #",
    "UPDATE a SET u = 9 - u",
    "UPDATE a SET u = -u",
    "UPDATE OR REPLACE a SET u = u + 1, t = @ WHERE id < #",
    "UPDATE OR FAIL a SET u = # WHERE id > #",
    "DELETE FROM a WHERE u > # OR id = #",
    "INSERT OR IGNORE INTO k VALUES (@, #, # % 2), (@, #, NULL)",
    "UPDATE OR REPLACE k SET x = @ WHERE y < #",
    "UPDATE OR IGNORE k SET y = # - y",
    "DELETE FROM k WHERE x = @",
    "INSERT OR REPLACE INTO f VALUES (nullif(@, 'a'), # / 2.0)",
    "INSERT OR REPLACE INTO f(rowid, p) VALUES (#, @)",
    "UPDATE OR REPLACE f SET p = @ WHERE q > #",
    "UPDATE OR REPLACE f SET rowid = rowid + 2 WHERE rowid > #",
    "DELETE FROM f WHERE q < #",
    "DELETE FROM f WHERE rowid = #",
];

fn statement(chance: &mut Chance) -> String {
    let mut sql = String::new();
    for c in STATEMENTS[chance.below(STATEMENTS.len() as u64) as usize].chars() {
        match c {
            '#' => sql.push_str(&chance.below(10).to_string()),
            '@' => sql.push_str(["'a'", "'b'", "'c'", "''", "'ä'"][chance.below(5) as usize]),
            c => sql.push(c),
        }
    }
    sql
}

/// A group of transactions, some of whose statements fail.
fn group(author: &mut Author, chance: &mut Chance, at: u64) {
    author.store.begin().unwrap();
    for _ in 0..1 + chance.below(6) {
        author.store.begin_unit(true).unwrap();
        for _ in 0..1 + chance.below(3) {
            let began = std::time::Instant::now();
            let budget = Budget { began, time: None, rows: 10_000, bytes: 1 << 20 };
            match author.store.run(&Statement::new(statement(chance), []), &budget) {
                Ok(_) | Err(Failed::Statement(_)) => {}
                Err(Failed::Unit(e) | Failed::Transaction(e)) => panic!("{e}"),
            }
        }
        author.store.commit_unit(Timestamp(at), None).unwrap();
    }
    author.store.commit().unwrap();
}

fn life(server: &Server, seed: u64) {
    let mut chance = Chance::new(seed);
    let mut author = Author::new();
    author.group(&TABLES);
    let place = PostgresPlace::read(&server.database()).unwrap();
    let mut copy = PostgresStore::open(place).unwrap();
    for at in 0..60 {
        group(&mut author, &mut chance, 200 + at);
        if chance.below(3) == 0 {
            let from = copy.position().version.0;
            let position = author.bring(&mut copy, from);
            assert_eq!(position, author.store.position(), "seed {seed}");
        }
        if at % 20 == 19 {
            let (digests, counted) = (copy.digests().unwrap(), copy.recount().unwrap());
            assert_eq!(digests, counted, "seed {seed}");
        }
    }
    let from = copy.position().version.0;
    author.bring(&mut copy, from);
    assert!(copy.position().version.0 > 100, "seed {seed}: something happened");
    let full = look(&mut copy);
    assert_eq!(full.1, look(&mut author.store).1, "seed {seed}");
    let to = chance.below(copy.position().version.0);
    copy.rewind(Version(to), "test", Timestamp(1)).unwrap();
    look(&mut copy);
    author.bring(&mut copy, to);
    assert!(look(&mut copy) == full, "seed {seed}: forward again from {to}");
}

#[test]
fn whatever_sqlite_accepts_postgresql_follows() {
    let Some(server) = Server::get() else { return };
    let lives = if std::env::var_os("SYNCLINE_LONG").is_some() { 60 } else { 4 };
    (1..=lives).for_each(|seed| life(server, seed));
}
