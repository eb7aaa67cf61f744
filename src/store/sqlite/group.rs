//! The writer's transaction: many units, one sync.
//!
//! ```text
//! begin    BEGIN IMMEDIATE, and the fence: is the position row as this writer last wrote it?
//!   unit     SAVEPOINT … RELEASE   one client's transaction = one commit = one version
//!   unit     SAVEPOINT … ROLLBACK  it failed: nothing of it stays
//! commit   log, digests, position; COMMIT: the sync
//! ```
//!
//! A unit's savepoint costs a copy of every page it touches first, so a lone statement goes without:
//! SQLite itself undoes a statement that fails. Whoever finds afterwards that it must be undone all the
//! same says so, and the group runs again with savepoints.

use super::SqliteStore;
use super::capture::{Mark, Mode};
use super::raw::Db;
use super::schema::Schema;
use super::sequences::Sequences;
use super::state::{self, int};
use crate::change::{Commit, DeclaredTable, Header, Position, RequestId, Tag, Timestamp, ValueRef};
use crate::error::{Error, Result};
use crate::store::history::fenced;

/// The open transaction.
pub(crate) struct Group {
    /// Where the copy will stand.
    pub head: Position,
    /// The commits so far, in order (what is applied lies with its source).
    pub commits: Vec<Commit>,
    /// When the last of them, or of what is applied, was made.
    pub at: Timestamp,
    /// A unit changed the schema: undoing the group reads it anew.
    schema_changed: bool,
    ledger: usize,
}

/// The open unit.
pub(crate) struct Unit {
    ledger: usize,
    savepoint: bool,
    /// Set by anything that no hook reports.
    pub watch: Watch,
    settings: [i64; 2],
    pub schema_changed: bool,
}

/// What has to be compared before and after a unit, because no hook reports it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    /// An AUTOINCREMENT counted on, perhaps.
    pub counts: bool,
    /// `sqlite_sequence` was written by name: entries must be told even if they are as they were.
    pub sequence: bool,
    /// `user_version` or `application_id` was set.
    pub settings: bool,
}

/// A point inside a unit to go back to: a statement's, or a client's savepoint's.
pub(crate) struct Point {
    mark: Mark,
    ledger: usize,
}

impl Point {
    /// The tables that were declared there.
    pub(crate) fn declared_tables(&self) -> Vec<DeclaredTable> {
        self.mark.declared_tables()
    }
}

pub(crate) const SETTINGS: [&str; 2] = ["user_version", "application_id"];

pub(crate) fn settings(db: Db) -> Result<[i64; 2]> {
    let read = |name: &str| db.query_i64(&format!("PRAGMA main.{name}"), &[]);
    Ok([read(SETTINGS[0])?.unwrap_or(0), read(SETTINGS[1])?.unwrap_or(0)])
}

/// A table where one row breaks a deferred key: it shows whether the count was at zero before.
pub(crate) const PROBE: &str = "CREATE TEMP TABLE _syncline_probe (id INTEGER PRIMARY KEY, \
    parent REFERENCES _syncline_probe DEFERRABLE INITIALLY DEFERRED)";

fn broken_key() -> Error {
    Error::invalid("SQLITE_CONSTRAINT", "FOREIGN KEY constraint failed")
        .with_extended("SQLITE_CONSTRAINT_FOREIGNKEY")
}

impl SqliteStore {
    /// Begins a group: takes SQLite's write lock and checks the fence.
    ///
    /// Fails with `FENCED` if the position row is not as this writer left it; nothing is open then.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.statements.begin.execute(&[])?;
        let head = self.position;
        let at = match self.check_fence() {
            Ok(at) => at,
            Err(error) => {
                let _ = self.statements.rollback.execute(&[]);
                return Err(error);
            }
        };
        let ledger = self.ledger.mark();
        self.group = Some(Group { head, commits: Vec::new(), at, schema_changed: false, ledger });
        Ok(())
    }

    /// Gives when the last commit was made.
    fn check_fence(&mut self) -> Result<Timestamp> {
        #[cfg(feature = "planted")]
        if crate::planted("skip-fence") {
            return Ok(Timestamp(0));
        }
        let mut found = None;
        self.statements.position.rows(&[], |row| {
            found = Some(state::read_position(row)?);
            Ok(())
        })?;
        match found {
            Some(row) if row.position == self.position && row.tag == self.tag => Ok(row.at),
            _ => Err(fenced()),
        }
    }

    fn group(&mut self) -> &mut Group {
        self.group.as_mut().expect("a group is open")
    }

    /// Begins a unit: with a savepoint, it can be undone alone.
    pub(crate) fn begin_unit(&mut self, savepoint: bool) -> Result<()> {
        if savepoint {
            self.statements.savepoint.execute(&[])?;
        }
        self.capture.clear();
        self.capture.mode = Mode::Record;
        if self.sequences.is_none() {
            self.sequences = Some(self.read_sequences()?);
        }
        self.unit = Some(Unit {
            ledger: self.ledger.mark(),
            savepoint,
            watch: Watch::default(),
            settings: [0; 2],
            schema_changed: false,
        });
        Ok(())
    }

    /// The open unit.
    pub(crate) fn unit(&mut self) -> &mut Unit {
        self.unit.as_mut().expect("a unit is open")
    }

    /// To be called before the first statement that sets something no hook reports.
    pub(crate) fn watch(&mut self, watch: Watch) -> Result<()> {
        let unit = self.unit.as_mut().expect("a unit is open");
        if watch.settings && !unit.watch.settings {
            unit.settings = settings(self.db)?;
            unit.watch.settings = true;
        }
        unit.watch.counts |= watch.counts;
        unit.watch.sequence |= watch.sequence;
        Ok(())
    }

    /// Whether the unit has captured anything.
    pub(crate) fn unit_moved(&self) -> bool {
        !self.capture.spool.is_empty()
    }

    /// Whether the unit could be undone alone.
    pub(crate) fn has_savepoint(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| unit.savepoint)
    }

    /// A point inside the unit to go back to.
    pub(crate) fn point(&self) -> Point {
        Point { mark: self.capture.mark(), ledger: self.ledger.mark() }
    }

    /// Whether rows or schema steps were captured since `point`.
    pub(crate) fn moved_since(&self, point: &Point) -> bool {
        self.capture.moved_since(&point.mark)
    }

    /// SQLite has gone back to `point`: so does the capture.
    pub(crate) fn went_back_to(&mut self, point: &Point) -> Result<()> {
        self.capture.cut_back(&point.mark)?;
        self.ledger.undo_to(point.ledger);
        if self.unit().schema_changed {
            self.reload_schema()?;
        }
        Ok(())
    }

    /// The entries captured since `point`, with the tables they may name.
    pub(crate) fn captured_since(&mut self, point: &Point) -> Result<Vec<u8>> {
        self.capture.since(&point.mark)
    }

    /// Reads the schema anew; what was prepared under the old one is forgotten.
    pub(crate) fn reload_schema(&mut self) -> Result<()> {
        self.schema = Schema::load(self.db)?;
        self.schema_is_new();
        Ok(())
    }

    pub(crate) fn schema_is_new(&mut self) {
        self.capture.set_schema(self.db, &self.schema);
        self.appliers.clear();
        self.statements.sequences = None;
        let counted = self.schema.shapes.values().filter(|shape| shape.autoincrement);
        self.client.schema_is_new(counted.map(|shape| shape.name.clone()).collect());
    }

    /// Fails if SQLite counts fewer than no broken keys, as after the DROP of a table whose rows named
    /// a table that was not there. It tells nobody before the COMMIT, which fails for everybody then.
    pub(crate) fn check_key_count(&mut self) -> Result<()> {
        if !self.db.enforces_keys() || self.db.has_broken_keys() {
            return Ok(());
        }
        self.db.execute_batch("INSERT INTO temp._syncline_probe (parent) VALUES (0)")?;
        if !self.db.has_broken_keys() {
            return Err(broken_key());
        }
        self.db.execute_batch("DELETE FROM temp._syncline_probe")
    }

    /// Ends the unit well: gives its position, or none if it changed nothing.
    ///
    /// Fails, with the unit still open, if a deferred foreign key is broken.
    pub(crate) fn commit_unit(
        &mut self,
        at: Timestamp,
        request: Option<(&RequestId, &[u8])>,
    ) -> Result<Option<Position>> {
        if self.db.has_broken_keys() {
            return Err(broken_key());
        }
        self.flush_virtual_tables()?;
        self.capture_unreported()?;
        if let (Some((id, response)), false) = (request, self.capture.spool.is_empty()) {
            self.capture.spool.tail.request(id, response);
            self.capture.spool.entry_ended()?;
            let version = self.group().head.version.next();
            self.store_request(id, response, version, at)?;
        }
        self.capture.settle(&mut self.ledger);
        // Sealed while the unit is open: whatever fails up to the release, it can still be undone.
        let commit = match self.capture.spool.is_empty() {
            true => None,
            false => Some(self.seal(at)?),
        };
        if self.has_savepoint() {
            self.statements.release.execute(&[])?;
        }
        self.unit = None;
        self.capture.mode = Mode::Off;
        let Some(commit) = commit else { return Ok(None) };
        self.capture.clear();
        let group = self.group();
        (group.head, group.at) = (commit.position(), at);
        group.commits.push(commit);
        Ok(Some(self.group().head))
    }

    /// Full-text tables keep what was written in memory until the transaction ends, or a savepoint
    /// begins. Their shadow tables must change while the capture listens, and in the statement that
    /// wrote: else the next one's rows could not be told from these when it fails.
    pub(crate) fn flush_virtual_tables(&mut self) -> Result<()> {
        if self.schema.has_virtual {
            self.db.execute_batch("SAVEPOINT _syncline_flush; RELEASE _syncline_flush")?;
            self.hook_failed()?;
        }
        Ok(())
    }

    fn seal(&mut self, at: Timestamp) -> Result<Commit> {
        let digest = self.ledger.total();
        let reign = *self.lineage.last().ok_or_else(fenced)?;
        let head = self.group.as_ref().expect("a group is open").head;
        let version = head.version.next();
        if let Some(body) = self.capture.spool.whole() {
            let (epoch, tag) = (reign.epoch, reign.tag);
            let header = Header { previous: head.chain, epoch, tag, version, at, digest };
            return Ok(Commit::seal(header, body));
        }
        self.seal_parts(at, digest, reign, head)
    }

    fn read_sequences(&mut self) -> Result<Sequences> {
        Sequences::read_by(&mut self.statements.sequences, self.db)
    }

    fn capture_unreported(&mut self) -> Result<()> {
        let db = self.db;
        let unit = self.unit.as_ref().expect("a unit is open");
        let (watch, old_settings) = (unit.watch, unit.settings);
        if watch.settings {
            for (i, (old, new)) in old_settings.into_iter().zip(settings(db)?).enumerate() {
                if old != new {
                    self.capture.spool.tail.setting(SETTINGS[i], old, new);
                }
            }
        }
        if watch.counts || watch.sequence {
            let new = self.read_sequences()?;
            let old = self.sequences.take().unwrap_or_default();
            let counted = self.schema.shapes.values().filter(|shape| shape.autoincrement);
            let counted = counted.map(|shape| shape.name.as_str()).filter(|_| watch.sequence);
            let counted: Vec<&str> = counted.collect();
            for (table, before, after) in old.changes(&new, &counted)? {
                self.capture.spool.tail.sequence(table, before, after);
            }
            self.sequences = Some(new);
        }
        self.capture.spool.entry_ended()
    }

    /// Undoes the unit. It must have a savepoint, or have done nothing that SQLite did not undo.
    pub(crate) fn rollback_unit(&mut self) -> Result<()> {
        let Some(unit) = self.unit.take() else { return Ok(()) };
        self.capture.mode = Mode::Off;
        self.capture.clear();
        self.sequences = None;
        self.ledger.undo_to(unit.ledger);
        if self.db.is_autocommit() {
            return Ok(());
        }
        if unit.savepoint {
            self.statements.rollback_to.execute(&[])?;
            self.statements.release.execute(&[])?;
        }
        if unit.schema_changed {
            self.reload_schema()?;
        }
        Ok(())
    }

    /// Writes log, digests and position, and commits: one sync for all units.
    ///
    /// After an error the transaction is gone or still open: call [`rollback`](Self::rollback).
    pub(crate) fn commit(&mut self) -> Result<Position> {
        let head = self.group().head;
        if head == self.position {
            self.statements.commit.execute(&[])?;
            self.group = None;
            self.ledger.settle();
            return Ok(head);
        }
        self.prepare_commit()?;
        self.finish_commit()
    }

    /// Writes log, digests and position of the group's own commits; the transaction stays open.
    pub(crate) fn prepare_commit(&mut self) -> Result<()> {
        let commits = std::mem::take(&mut self.group().commits);
        let wrote = self.append_log(&commits).and_then(|()| self.write_state());
        self.group().commits = commits;
        wrote
    }

    /// Commits what was prepared.
    pub(crate) fn finish_commit(&mut self) -> Result<Position> {
        self.statements.commit.execute(&[])?;
        let group = self.group.take().expect("a group is open");
        self.ledger.settle();
        self.position = group.head;
        Ok(group.head)
    }

    pub(crate) fn write_state(&mut self) -> Result<()> {
        for name in self.ledger.changed() {
            match self.ledger.get(name) {
                Some(table) => self.statements.write_table.execute(&[
                    ValueRef::Text(name),
                    int(table.rows),
                    ValueRef::Blob(&table.digest.to_bytes()),
                ])?,
                None => self.statements.delete_table.execute(&[ValueRef::Text(name)])?,
            }
        }
        let group = self.group.as_ref().expect("a group is open");
        self.write_position(group.head, self.tag, group.at)
    }

    pub(crate) fn write_position(&mut self, to: Position, tag: Tag, at: Timestamp) -> Result<()> {
        self.statements.write_position.execute(&[
            int(to.epoch.0),
            int(tag.0),
            int(to.version.0),
            ValueRef::Blob(&to.chain.to_bytes()),
            ValueRef::Blob(&to.digest.to_bytes()),
            int(at.0),
        ])
    }

    /// Undoes the group, whatever is left of it.
    pub(crate) fn rollback(&mut self) -> Result<()> {
        self.unit = None;
        self.sequences = None;
        self.capture.mode = Mode::Off;
        self.capture.clear();
        let ended = match self.db.is_autocommit() {
            true => Ok(()),
            false => self.statements.rollback.execute(&[]),
        };
        let Some(group) = self.group.take() else { return ended };
        self.ledger.undo_to(group.ledger);
        if group.schema_changed {
            self.reload_schema()?;
        }
        ended
    }

    /// The group changes the schema: undoing it reads the schema anew.
    pub(crate) fn group_schema_changes(&mut self) {
        self.group().schema_changed = true;
    }

    /// Where the copy will stand, if it is not by commits of the group, and since when.
    pub(crate) fn set_head(&mut self, head: Position, at: Timestamp) {
        let group = self.group();
        (group.head, group.at) = (head, at);
    }

    /// The digest as of now.
    pub(crate) fn ledger_total(&self) -> crate::change::Digest {
        self.ledger.total()
    }

    /// The commits of the open group.
    pub(crate) fn group_commits(&self) -> &[Commit] {
        self.group.as_ref().map_or(&[], |group| &group.commits)
    }
}
