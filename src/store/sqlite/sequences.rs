//! `sqlite_sequence`: where AUTOINCREMENT goes on. No hook reports it, so it is compared before and
//! after. It belongs to no digest; but a copy that is promoted must go on where its source did.
//!
//! Clients may write it. What SQLite itself would not write there (two rows for one table, a text for
//! the number) is refused: it would mean something else on a copy.

use super::raw::{Db, Stmt};
use crate::change::ValueRef;
use crate::error::{Error, Result};

const READ: &str = "SELECT name, seq, typeof(name) = 'text' AND typeof(seq) = 'integer' \
    FROM main.sqlite_sequence ORDER BY name, rowid";

/// The content of `sqlite_sequence`.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    /// By name.
    pub entries: Vec<(String, i64)>,
    /// Whether there was more than that.
    irregular: bool,
}

/// A table, its entry before, its entry after.
type SequenceChange<'a> = (&'a str, Option<i64>, Option<i64>);

impl Sequences {
    /// Reads it.
    pub fn read(db: Db) -> Result<Sequences> {
        Sequences::read_by(&mut None, db)
    }

    /// Reads it by a statement that is kept, and made when it is first needed.
    pub fn read_by(stmt: &mut Option<Stmt>, db: Db) -> Result<Sequences> {
        let mut found = Sequences::default();
        if stmt.is_none() && is_there(db)? {
            *stmt = Some(db.prepare(READ)?);
        }
        let Some(stmt) = stmt else { return Ok(found) };
        stmt.rows(&[], |row| {
            let name = row.text(0)?;
            let repeated = found.entries.last().is_some_and(|(last, _)| last == name);
            found.irregular |= repeated || row.i64(2) == 0;
            if !repeated {
                found.entries.push((name.to_owned(), row.i64(1)));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// A table's entry.
    pub fn get(&self, name: &str) -> Option<i64> {
        let found = self.entries.binary_search_by(|(known, _)| known.as_str().cmp(name));
        found.ok().map(|i| self.entries[i].1)
    }

    /// What changed from this to `new`, and what is with the tables `also`; fails if a client made it
    /// irregular.
    ///
    /// A copy counts on by itself when it inserts. An entry that a client put back to where it was, or
    /// that was not made because the statement failed, has to be put back there, too.
    pub fn changes<'a>(
        &'a self,
        new: &'a Sequences,
        also: &[&'a str],
    ) -> Result<Vec<SequenceChange<'a>>> {
        if new.irregular && !self.irregular {
            let message = "sqlite_sequence must have one row for a table, a name and an integer";
            return Err(Error::invalid("SEQUENCE_INVALID", message)
                .hint("UPDATE the row that is there, or DELETE it first"));
        }
        let mut names: Vec<&str> =
            self.entries.iter().chain(&new.entries).map(|(name, _)| name.as_str()).collect();
        names.extend(also);
        names.sort_unstable();
        names.dedup();
        let both = names.into_iter().map(|name| (name, self.get(name), new.get(name)));
        Ok(both.filter(|(name, old, new)| old != new || also.contains(name)).collect())
    }
}

/// Replaces one entry.
pub(crate) fn set(db: Db, table: &str, seq: Option<i64>) -> Result<()> {
    if !is_there(db)? {
        match seq {
            // SQLite makes it with the first table that counts, and clients may write any name there.
            Some(_) => db.execute_batch(
                "CREATE TABLE _syncline_counts (id INTEGER PRIMARY KEY AUTOINCREMENT); \
                 DROP TABLE _syncline_counts",
            )?,
            None => return Ok(()),
        }
    }
    let name = ValueRef::Text(table);
    db.execute("DELETE FROM main.sqlite_sequence WHERE name = ?1", &[name])?;
    match seq {
        Some(seq) => {
            let sql = "INSERT INTO main.sqlite_sequence (name, seq) VALUES (?1, ?2)";
            db.execute(sql, &[name, ValueRef::Integer(seq)])
        }
        None => Ok(()),
    }
}

/// Runs `work`, which writes back rows of a table that SQLite counts (AUTOINCREMENT), and leaves its
/// entry as it was: whoever took the rows away may have set it lower than they are.
pub(crate) fn uncounted<T>(db: Db, table: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = entry(db, table)?;
    let done = work()?;
    if entry(db, table)? != before {
        set(db, table, before)?;
    }
    Ok(done)
}

fn entry(db: Db, table: &str) -> Result<Option<i64>> {
    let sql = "SELECT seq FROM main.sqlite_sequence WHERE name = ?1";
    db.query_i64(sql, &[ValueRef::Text(table)])
}

/// Forgets all entries.
pub(crate) fn clear(db: Db) -> Result<()> {
    if is_there(db)? { db.execute_batch("DELETE FROM main.sqlite_sequence") } else { Ok(()) }
}

fn is_there(db: Db) -> Result<bool> {
    let sql = "SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'";
    Ok(db.query_i64(sql, &[])?.is_some())
}
