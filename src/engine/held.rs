//! Held things: listing them, and bringing them back.

use super::core::Core;
use super::database::{Database, wait};
use super::shared::lock;
use super::shelf::{self, Shelf};
use super::status::Held;
use crate::acknowledge::Level;
use crate::change::{BodyReader, Change, Decoder, Op, Position, SchemaStep, ValueRef, Version};
use crate::error::{Error, Kind, Result};
use crate::store::Source;
use crate::store::sqlite::HeldCommit;

/// Lines of detail that are shown of one held thing.
const DETAIL: usize = 1000;

impl Database {
    /// What is held. Blocks on storage.
    pub fn held_list(&self) -> Result<Vec<Held>> {
        let mut all: Vec<Held> = self.with_reader(|reader| {
            let held = reader.held()?;
            held.iter().map(|h| describe(h, &reader.held_bodies(h)?, 0)).collect()
        })?;
        if let Some(shelf) = Shelf::existing(self.options())? {
            for held in shelf.list()? {
                all.push(describe(&held, &shelf.bodies(&held)?, 0)?);
            }
        }
        Ok(all)
    }

    /// Where the history of `position` left this one. What was undone here is held, and each commit names
    /// the chain that it continued: so it is known, or nothing is said.
    pub(crate) fn fork_of(&self, position: Position) -> Result<Option<Position>> {
        let mut held = self.with_reader(|reader| reader.held())?;
        if let Some(shelf) = Shelf::existing(self.options())? {
            held.append(&mut shelf.list()?);
        }
        let mut chain = position.chain;
        while let Some(undone) = held.iter().find(|held| held.commit.chain() == chain) {
            chain = undone.commit.header().previous;
            let version = Version(undone.commit.version().0.saturating_sub(1));
            if self.with_reader(|reader| reader.chain_at(version))? == Some(chain) {
                let epoch = lock(&self.shared().lineage).at(version).map(|reign| reign.epoch);
                let epoch = epoch.unwrap_or_default();
                return Ok(Some(Position { epoch, version, chain, ..Position::default() }));
            }
        }
        Ok(None)
    }

    /// One held thing, with its changes in words. Blocks on storage.
    pub fn held_show(&self, id: i64) -> Result<Held> {
        let (held, bodies) = self.held_one(id)?;
        describe(&held, &bodies, DETAIL)
    }

    fn held_one(&self, id: i64) -> Result<(HeldCommit, Vec<Vec<u8>>)> {
        let one = |held: Vec<HeldCommit>| {
            held.into_iter().find(|held| held.id == id).ok_or_else(|| {
                Error::invalid("HELD_UNKNOWN", format!("nothing is held under the id {id}"))
                    .hint("`syncline held list` shows what is")
            })
        };
        if shelf::is_here(id) {
            let shelf = Shelf::open(self.options())?;
            let held = one(shelf.list()?)?;
            let bodies = shelf.bodies(&held)?;
            return Ok((held, bodies));
        }
        self.with_reader(|reader| {
            let held = one(reader.held()?)?;
            let bodies = reader.held_bodies(&held)?;
            Ok((held, bodies))
        })
    }

    /// The body of a held commit. Blocks on storage.
    pub fn held_body(&self, id: i64) -> Result<Vec<u8>> {
        Ok(self.held_one(id)?.1.concat())
    }

    /// Forgets a held thing. Blocks on storage.
    pub fn held_discard(&self, id: i64) -> Result<()> {
        match shelf::is_here(id) {
            true => shelf::discard(self.shared(), id),
            false => self.with_store(move |store| store.discard(id)),
        }
    }

    /// Applies a held commit again as a new one, at the writer, and forgets it; or refuses with what is
    /// in its way (`REPLAY_CONFLICT`), nothing done.
    pub async fn held_replay(&self, id: i64) -> Result<Position> {
        let database = self.clone();
        let work = move || {
            let body = database.held_body(id)?;
            let position = wait(database.inbox()?.errand(move |core| core.replay(&body))?)?;
            database.held_discard(id)?;
            Ok(position)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| ended())?
    }

    /// Replays the body of a commit that another node held: at the writer.
    pub async fn replay(&self, body: Vec<u8>) -> Result<Position> {
        let answer = self.inbox()?.errand(move |core| core.replay(&body))?;
        answer.await.map_err(|_| ended())?
    }
}

fn ended() -> Error {
    Error::unavailable("CLOSING", "this node is shutting down")
}

impl Core {
    /// Applies the entries of a commit as a new one, if everything is as it was before it.
    fn replay(&mut self, body: &[u8]) -> Result<Position> {
        self.store.follow()?;
        let replayed = self.replay_inside(body);
        if replayed.is_err() {
            self.store.rollback()?;
        }
        self.store.serve_clients()?;
        replayed
    }

    fn replay_inside(&mut self, body: &[u8]) -> Result<Position> {
        self.begin(Level::Disk)?;
        self.store.begin_unit(false)?;
        let at = self.now();
        let request = self.store.replay_entries(body).map_err(in_the_way)?;
        let request = request.as_ref().map(|(id, response)| (id, response.as_slice()));
        let position = self.store.commit_unit(at, request)?;
        self.commit(Level::Disk)?;
        Ok(position.unwrap_or(self.store.position()))
    }
}

fn in_the_way(error: Error) -> Error {
    match error.kind() {
        Kind::Diverged | Kind::Invalid => Error::new(
            Kind::Conflict,
            "REPLAY_CONFLICT",
            format!("the held commit no longer fits: {}", error.message()),
        )
        .hint("`syncline held show` lists its changes: apply by hand what is still wanted, then discard it"),
        _ => error,
    }
}

fn describe(held: &HeldCommit, bodies: &[Vec<u8>], most: usize) -> Result<Held> {
    let (mut changes, mut detail) = (0, Vec::new());
    let mut reader = BodyReader::default();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for body in bodies {
        let mut decoder = Decoder(body);
        while let Some(change) = reader.next(&mut decoder)? {
            changes += 1;
            if detail.len() < most {
                if let Change::Row(row) = &change {
                    row.values(&mut before, &mut after)?;
                }
                detail.push(in_words(&change, &reader, &before, &after));
            }
        }
    }
    Ok(Held {
        id: held.id,
        at: held.at,
        reason: held.reason.clone(),
        position: held.commit.position(),
        changes,
        detail,
    })
}

fn in_words(
    change: &Change<'_>,
    reader: &BodyReader,
    before: &[ValueRef<'_>],
    after: &[ValueRef<'_>],
) -> String {
    match change {
        Change::Row(row) => {
            let table = &reader.table(row.table).name;
            match row.op {
                Op::Insert => format!("insert into {table}: {}", list(after)),
                Op::Delete => format!("delete from {table}: {}", list(before)),
                Op::Update => format!("update {table}: {} -> {}", list(before), list(after)),
            }
        }
        Change::Schema(SchemaStep::Create(object)) => format!("schema: {}", object.sql),
        Change::Schema(SchemaStep::Drop(object)) => {
            format!("schema: drop {} {}", object.kind.as_str(), object.name)
        }
        Change::Schema(SchemaStep::Alter { objects, .. }) => {
            let names: Vec<_> = objects.iter().map(|(_, after)| after.sql.as_str()).collect();
            format!("schema: now {}", names.join("; "))
        }
        Change::Sequence { table, after, .. } => format!("sequence of {table}: {after:?}"),
        Change::Setting { name, after, .. } => format!("{name} = {after}"),
        Change::Request { id, .. } => format!("request {}, {}", id.client, id.sequence),
    }
}

fn list(values: &[ValueRef<'_>]) -> String {
    let one = |value: &ValueRef<'_>| match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(i) => i.to_string(),
        ValueRef::Real(r) => format!("{r:?}"),
        ValueRef::Text(t) if t.len() > 60 => {
            format!("{:?}…", t.chars().take(60).collect::<String>())
        }
        ValueRef::Text(t) => format!("{t:?}"),
        ValueRef::Blob(b) => format!("blob of {} bytes", b.len()),
    };
    format!("({})", values.iter().map(one).collect::<Vec<_>>().join(", "))
}
