//! Capture under random SQL.
//!
//! A seed gives a life of a database: tables of every kind, and groups of transactions with whatever
//! SQL can do to rows and schema, much of it failing. After every group a recount must agree with the
//! digest that was kept up to date, and at the end the log must tell it all: applied to an empty copy
//! it gives the same rows, also after the copy went back to some version and forward again.
//!
//! The generator knows no SQL semantics. It looks at the tables that are there, and writes statements
//! that are likely to hit: few distinct values, so that keys collide; names of things that exist, or
//! did a moment ago.
//!
//! `SYNCLINE_SEED=n` runs one life and prints it; `SYNCLINE_LONG=1` runs many more of them, and with a
//! seed begins there.
//!
//! # What is left out
//!
//! Functions of chance and time: rows are shipped, so they differ in nothing from any other value.

mod rows;
mod steps;
mod tables;
mod values;

use super::tests::{assert_replicates, assert_same, budget, dump, empty, holder, integrity};
use super::{Failed, Point, SqliteStore, Statement, Sync};
use crate::change::{Commit, Tag, Timestamp, Version};
use crate::store::vfs::MemoryDisk;
use crate::store::vfs::chance::Chance;
use crate::store::{Source, Store};

/// What is drawn from.
pub(super) struct Dice(Chance);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(Chance::new(seed))
    }

    /// From 0 to `limit` - 1.
    fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit as u64) as usize
    }

    /// Once in `n`.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// One of them as it is, or nothing.
    fn maybe(&mut self, n: usize, text: &str) -> String {
        if self.once_in(n) { text.to_owned() } else { String::new() }
    }
}

/// One life, with all that was run: printed if it fails.
struct Life {
    store: SqliteStore,
    dice: Dice,
    transcript: Transcript,
    transactions: usize,
}

/// Prints itself if the life failed.
struct Transcript {
    seed: u64,
    lines: Vec<String>,
}

impl Drop for Transcript {
    fn drop(&mut self) {
        if std::thread::panicking() || (seed_asked_for().is_some() && !is_long()) {
            eprintln!("{}\nseed {}", self.lines.join("\n"), self.seed);
        }
    }
}

/// How a transaction ended.
#[derive(PartialEq, Eq)]
enum End {
    /// Committed or undone: the group goes on.
    Alone,
    /// SQLite ended the group.
    Group,
}

impl Life {
    fn new(seed: u64, store: SqliteStore) -> Life {
        let transcript = Transcript { seed, lines: Vec::new() };
        Life { store, dice: Dice::new(seed), transcript, transactions: 0 }
    }

    fn note(&mut self, line: impl Into<String>) {
        self.transcript.lines.push(line.into());
    }

    /// Runs one statement; gives how it failed.
    fn run(&mut self, sql: &str) -> Result<(), Failed> {
        let ran = self.store.run(&Statement::new(sql, []), &budget()).map(|_| ());
        self.note(match &ran {
            Ok(()) => format!("{sql};"),
            Err(Failed::Statement(e)) => format!("{sql}; -- {}", e.message()),
            Err(Failed::Unit(e)) => format!("{sql}; -- unit: {}", e.message()),
            Err(Failed::Transaction(e)) => format!("{sql}; -- transaction: {}", e.message()),
        });
        ran
    }

    /// The tables of every kind, and what hangs on them.
    fn begin(&mut self) {
        for _ in 0..3 + self.dice.below(4) {
            let sql = tables::create(&mut self.dice, &self.store);
            let mut sql = Some(sql);
            self.group(|life| {
                life.transaction(|life| sql.take().map_or(Ok(()), |sql| life.run(&sql)))
            });
        }
    }

    /// A group with the settings that its streams have.
    fn group(&mut self, mut body: impl FnMut(&mut Life) -> End) {
        for setting in ["foreign_keys", "recursive_triggers"] {
            let on = if setting == "foreign_keys" {
                !self.dice.once_in(5)
            } else {
                self.dice.once_in(4)
            };
            self.store.db().execute_batch(&format!("PRAGMA {setting} = {}", u8::from(on))).unwrap();
            self.note(format!("PRAGMA {setting} = {};", u8::from(on)));
        }
        self.note("BEGIN;");
        self.store.begin().unwrap();
        for _ in 0..1 + self.dice.below(4) {
            if body(self) == End::Group {
                self.store.rollback().unwrap();
                self.note("-- the group is gone");
                return self.check();
            }
        }
        if self.dice.once_in(12) {
            self.store.rollback().unwrap();
            self.note("ROLLBACK;");
        } else {
            self.store.commit().unwrap();
            self.note("COMMIT;");
        }
        self.check();
    }

    /// One unit of the group.
    fn transaction(&mut self, body: impl FnOnce(&mut Life) -> Result<(), Failed>) -> End {
        self.transactions += 1;
        self.note("SAVEPOINT unit;");
        self.store.begin_unit(true).unwrap();
        match body(self) {
            Ok(()) | Err(Failed::Statement(_)) if !self.dice.once_in(15) => {
                match self.store.commit_unit(Timestamp(self.transactions as u64), None) {
                    Ok(_) => self.note("RELEASE unit;"),
                    Err(error) => self.undo_unit(error.message()),
                }
            }
            Err(Failed::Transaction(_)) => return End::Group,
            _ => self.undo_unit("the client says so"),
        }
        End::Alone
    }

    fn undo_unit(&mut self, why: &str) {
        self.store.rollback_unit().unwrap();
        self.note(format!("ROLLBACK TO unit; RELEASE unit; -- {why}"));
    }

    /// A transaction of a few statements, with savepoints in it.
    fn statements(&mut self) -> Result<(), Failed> {
        let mut points: Vec<(usize, Point)> = Vec::new();
        for i in 0..1 + self.dice.below(6) {
            match self.dice.below(12) {
                0 => points.push((i, self.savepoint(i))),
                1 if !points.is_empty() => self.back_to(&points),
                2 if !points.is_empty() => {
                    let (name, _) = points.pop().expect("not empty");
                    self.control(&format!("RELEASE s{name}"));
                }
                _ => self.statement()?,
            }
        }
        Ok(())
    }

    fn statement(&mut self) -> Result<(), Failed> {
        let sql = if self.dice.once_in(5) {
            steps::statement(&mut self.dice, &self.store)
        } else {
            rows::statement(&mut self.dice, &self.store)
        };
        match self.run(&sql) {
            Err(Failed::Statement(_)) => Ok(()),
            ran => ran,
        }
    }

    fn control(&mut self, sql: &str) {
        self.note(format!("{sql};"));
        self.store.db().execute_batch(sql).unwrap();
    }

    fn savepoint(&mut self, name: usize) -> Point {
        self.control(&format!("SAVEPOINT s{name}"));
        self.store.point()
    }

    /// To one of the savepoints; those after it are gone, it stays.
    fn back_to(&mut self, points: &[(usize, Point)]) {
        let (name, point) = points.last().expect("not empty");
        self.control(&format!("ROLLBACK TO s{name}"));
        self.store.went_back_to(point).unwrap();
    }

    /// The digest that was kept up to date against the dumb count.
    fn check(&mut self) {
        let recount = self.store.recount().unwrap();
        let kept = self.store.digests().unwrap();
        for (name, table) in recount.tables() {
            assert_eq!(Some(table), kept.get(name), "counted, and kept, of {name}");
        }
        assert_eq!(recount, kept);
        assert_eq!(recount.total(), self.store.position().digest);
    }

    /// A copy goes by the log to the end, back to any version, and forward again.
    fn check_rewind(&mut self) {
        let store = &mut self.store;
        let commits = store.after(Version(0), usize::MAX).unwrap();
        let lineage = store.lineage().clone();
        let mut copy = empty();
        copy.follow().unwrap();
        let mut apply = |copy: &mut SqliteStore, commits: &[Commit]| {
            copy.apply(&lineage, commits, &mut |c, i| store.part(c.version(), i)).unwrap();
        };
        apply(&mut copy, &commits);
        let full = dump(&copy);
        for _ in 0..2 {
            let to = self.dice.below(commits.len() + 1);
            match copy.rewind(Version(to as u64), "undone", Timestamp(1)) {
                Ok(position) => {
                    let digest = copy.recount().unwrap().total();
                    assert_eq!(digest, position.digest, "after the rewind to {to}");
                    let stood = to.checked_sub(1).map(|last| commits[last].position());
                    assert_eq!(stood.map_or(digest, |p| p.digest), digest, "rewind to {to}");
                    integrity(&copy);
                }
                Err(error) => assert_eq!(error.code(), "UNDO_IMPOSSIBLE", "{error}"),
            }
            let at = copy.position().version.0 as usize;
            apply(&mut copy, &commits[at..]);
            assert_same(&dump(&copy), &full, &format!("forward again from {at}"));
        }
    }
}

/// A store in memory that serves clients; its commits are small, so that some are too large.
fn fresh(seed: u64) -> SqliteStore {
    let disk = std::sync::Arc::new(MemoryDisk::new());
    let mut store = SqliteStore::open(disk, "/t.db".as_ref(), Sync::Off, 1 << 20).unwrap();
    store.take_epoch(Tag(seed), &holder()).unwrap();
    store.serve_clients().unwrap();
    store
}

fn live(store: SqliteStore, seed: u64, groups: usize) -> Life {
    let mut life = Life::new(seed, store);
    life.begin();
    for _ in 0..groups {
        life.group(|life| life.transaction(Life::statements));
    }
    life
}

/// Lives a life in a store of the caller's, and gives it back.
pub(super) fn live_in(store: SqliteStore, seed: u64, groups: usize) -> SqliteStore {
    live(store, seed, groups).store
}

/// Lives one life, and checks it; gives how many transactions it had.
fn checked(seed: u64) -> usize {
    let mut life = live(fresh(seed), seed, 12);
    assert_replicates(&mut life.store);
    life.check_rewind();
    life.transactions
}

fn seed_asked_for() -> Option<u64> {
    std::env::var("SYNCLINE_SEED").ok().and_then(|seed| seed.parse().ok())
}

fn is_long() -> bool {
    std::env::var("SYNCLINE_LONG").is_ok()
}

#[test]
fn whatever_sql_does_the_log_tells_it_all() {
    let wanted = match (seed_asked_for(), is_long()) {
        (_, true) => 100_000,
        (Some(_), false) => 1,
        (None, false) => 3_000,
    };
    let (mut seed, mut transactions) = (seed_asked_for().unwrap_or(1), 0);
    while transactions < wanted {
        transactions += checked(seed);
        seed += 1;
    }
}
