//! Replaying a commit that was undone, as a new one.
//!
//! The new commit is captured like a client's. It must give the same rows and schema steps as the old
//! one: then each row was as it was before it, and nothing is overwritten that came since.
//!
//! | entry | is replayed |
//! | --- | --- |
//! | a row | if it was as the before-image says (an insert: if it was not there) |
//! | a schema step | if what it drops or alters is as it was, and what it makes is not there |
//! | `sqlite_sequence` | never backwards |
//! | `user_version`, `application_id` | if it was as it was |
//! | a request | if the client did not make it again; it is answered as it was then |
//!
//! Left out: foreign keys (a row whose parent was undone too waits for that commit to be replayed; nobody
//! asks whether it was), and columns that were renamed or exchanged since: a row has values, not names.

use super::SqliteStore;
use super::group::{self, SETTINGS, Watch};
use super::schema::is_virtual_sql;
use super::sequences::{self, Sequences};
use crate::change::{
    BodyReader, Change, DeclaredTable, Decoder, Object, RequestId, RowChange, SchemaStep, Version,
};
use crate::error::{Error, Kind, Result};
use crate::store::history::diverged;

/// A request that came with a replayed commit, and what it was answered.
pub(crate) type Answered = (RequestId, Vec<u8>);

fn conflict(what: impl Into<String>) -> Error {
    Error::new(Kind::Diverged, "REPLAY_CONFLICT", what)
}

impl SqliteStore {
    /// Applies the entries of a commit's body in the open unit, as if clients had made the changes; fails
    /// if anything is not as it was before them. The connection must [`follow`](Self::follow).
    pub(crate) fn replay_entries(&mut self, body: &[u8]) -> Result<Option<Answered>> {
        let point = self.point();
        let version = self.position.version.next();
        let (mut reader, mut decoder) = (BodyReader::default(), Decoder(body));
        let mut request = None;
        while let Some(change) = reader.next(&mut decoder)? {
            match change {
                Change::Row(row) => self.replay_row(reader.table(row.table), &row, version)?,
                Change::Request { id, response } => {
                    self.refuse_repeated(&id)?;
                    request = Some((id, response.to_vec()));
                }
                other => self.replay_other(&other)?,
            }
            self.hook_failed()?;
        }
        match same_changes(body, &self.captured_since(&point)?)? {
            true => Ok(request),
            false => Err(conflict("a row that it changes is not as it was before it")),
        }
    }

    fn replay_row(
        &mut self,
        table: &DeclaredTable,
        row: &RowChange<'_>,
        version: Version,
    ) -> Result<()> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        row.values(&mut before, &mut after)?;
        self.apply_row(table, row, &before, &after, version).map_err(|error| {
            let said = diverged(version, "");
            match error.message().strip_prefix(said.message()) {
                Some(what) => conflict(what),
                None => error,
            }
        })
    }

    fn replay_other(&mut self, change: &Change<'_>) -> Result<()> {
        match change {
            Change::Schema(step) => {
                self.refuse_unless_it_fits(step)?;
                self.apply_step(step)?;
                self.unit().schema_changed = true;
                self.capture.spool.tail.schema(step);
                self.capture.forget_declared();
                self.capture.spool.entry_ended()
            }
            Change::Sequence { table, after, .. } => {
                self.watch(Watch { counts: true, ..Watch::default() })?;
                let here = Sequences::read(self.db)?.get(table);
                sequences::set(self.db, table, here.max(*after))
            }
            Change::Setting { name, before, after } => {
                self.watch(Watch { settings: true, ..Watch::default() })?;
                let here = SETTINGS.iter().position(|setting| setting == name);
                match here.map(|i| Ok(group::settings(self.db)?[i])).transpose()? {
                    Some(here) if here != *before => {
                        Err(conflict(format!("{name} is {here}, it was {before}")))
                    }
                    _ => self.set_setting(name, *after),
                }
            }
            Change::Row(_) | Change::Request { .. } => unreachable!("replayed elsewhere"),
        }
    }

    fn refuse_repeated(&self, id: &RequestId) -> Result<()> {
        match self.answered(id)? {
            None => Ok(()),
            Some((version, _)) => {
                Err(conflict(format!("its client made the request again, with version {version}")))
            }
        }
    }

    fn refuse_unless_it_fits(&self, step: &SchemaStep) -> Result<()> {
        let is_here = |object: &Object| self.schema.entries.iter().any(|e| e.object == *object);
        let name_is_taken = |object: &Object| {
            let name = |e: &super::schema::Entry| e.object.name.eq_ignore_ascii_case(&object.name);
            is_virtual_sql(object) && self.schema.entries.iter().any(name)
        };
        let gone = |object: &Object| {
            let (kind, name) = (object.kind.as_str(), &object.name);
            Err(conflict(format!("the {kind} {name:?} is not as it was before it")))
        };
        match step {
            // SQLite itself refuses the others.
            SchemaStep::Create(object) if name_is_taken(object) => {
                Err(conflict(format!("there is a {:?} already", object.name)))
            }
            SchemaStep::Create(_) => Ok(()),
            SchemaStep::Drop(object) if !is_here(object) => gone(object),
            SchemaStep::Drop(_) => Ok(()),
            SchemaStep::Alter { objects, .. } => {
                objects.iter().find(|(was, _)| !is_here(was)).map_or(Ok(()), |(was, _)| gone(was))
            }
        }
    }
}

/// Whether two bodies have the same rows and schema steps.
fn same_changes(one: &[u8], other: &[u8]) -> Result<bool> {
    let mut readers = [BodyReader::default(), BodyReader::default()];
    let mut decoders = [Decoder(one), Decoder(other)];
    loop {
        let [mine, theirs] = &mut readers;
        let [ours, others] = &mut decoders;
        let (a, b) = (next_that_counts(mine, ours)?, next_that_counts(theirs, others)?);
        let same = match (&a, &b) {
            (None, None) => return Ok(true),
            (Some(Change::Row(a)), Some(Change::Row(b))) => {
                a == b && mine.table(a.table) == theirs.table(b.table)
            }
            (Some(Change::Schema(a)), Some(Change::Schema(b))) => a == b,
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
}

fn next_that_counts<'a>(
    reader: &mut BodyReader,
    decoder: &mut Decoder<'a>,
) -> Result<Option<Change<'a>>> {
    loop {
        let change = reader.next(decoder)?;
        if matches!(change, None | Some(Change::Row(_) | Change::Schema(_))) {
            return Ok(change);
        }
    }
}
