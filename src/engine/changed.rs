//! Rows that others changed on a server, where everybody with the rights may write.
//!
//! ```text
//!                      what this copy has      what the server has        writes
//! a copy goes on       what the history says   + what others wrote        go on, but for those rows
//! a copy is filled     what is there           the same                   refused: source-damaged
//!
//! verify --adopt       scratch copy of what is there ─► a commit that says it ─► the server counts: is it so?
//!                      ─► log, digests, position ─► every copy follows, this one too
//! ```
//!
//! A copy that was filled with such rows knows no others, so it must never be written over the server. It
//! looks again by itself: if the others put their rows back, all is well.
//!
//! Left out: a scratch copy on disk. A node that adopts needs memory for all rows once more.

use super::backing::Backing;
use super::core::Core;
use super::database::{Database, wait};
use super::open::empty_in_memory;
use super::options::{BackingPlace, Role};
use super::shared::Shared;
use super::status::State;
use super::verify::{VerifyMode, VerifyReport, recount_server};
use crate::change::Commit;
use crate::error::{Error, Kind, Result};
use crate::store::sqlite::SqliteStore;
use crate::store::{Source, Store};

/// A copy in memory of all that a backing database has; with the error that says so, if its rows do not
/// give the digest that it claims.
pub(super) fn fill_as_found(
    shared: &Shared,
    there: &mut dyn Source,
) -> Result<(SqliteStore, Option<Error>)> {
    let mut copy = empty_in_memory(shared)?;
    let damage = copy.fill_as_found(there)?;
    Ok((copy, damage))
}

/// What lies on the server, compared with what it claims.
pub(super) fn look_at_the_server(shared: &Shared) -> Result<VerifyReport> {
    match &shared.options.backing {
        BackingPlace::Server(place) => recount_server(place.as_ref(), shared.options.lease / 2),
        BackingPlace::File(_) => Err(nothing_to_write_back()),
    }
}

/// What status says of it.
fn noted(damage: &Error) -> String {
    format!("{}; writes are refused until they are adopted or put back", damage.message())
}

fn nothing_to_write_back() -> Error {
    let message = "the old rows cannot be written back: this writer started when others had changed them, and has no copy of them";
    Error::diverged("REPAIR_IMPOSSIBLE", message).hint(
        "put the rows back in the backing database, or promote a reader that has them and repair there, or make what is there the truth with `verify --adopt`",
    )
}

impl Database {
    /// Whether this writer serves rows that others changed, because it found no others.
    pub(super) fn serves_changed_rows(&self) -> bool {
        self.role() == Role::Writer && self.shared().condition().state == State::SourceDamaged
    }

    /// What lies on the server counts: this copy is only what was found there once.
    pub(super) fn verify_changed_rows(&self, mode: VerifyMode) -> Result<VerifyReport> {
        let there = look_at_the_server(self.shared())?;
        match mode {
            _ if there.equal => wait(self.inbox()?.errand(Core::load_again)?)?,
            VerifyMode::Report => return Ok(there),
            VerifyMode::Repair => return Err(nothing_to_write_back()),
            VerifyMode::Adopt => wait(self.inbox()?.errand(Core::adopt)?)?,
        }
        self.verify_after(there.findings)
    }
}

impl Core {
    /// Goes on with the copy that it has. If its rows do not give its digest, it serves them, and writes
    /// nothing.
    pub(super) fn goes_on(&mut self, damage: Option<&Error>) {
        self.damaged = damage.map(noted);
        self.is_well_again();
    }

    /// What was away, or wrong, is not any more.
    pub(super) fn is_well_again(&self) {
        match &self.damaged {
            None => self.shared.set_condition(State::Ok, ""),
            Some(note) => self.shared.set_condition(State::SourceDamaged, note.clone()),
        }
    }

    /// Fails if this copy has rows that others changed, and no others.
    pub(super) fn refuse_if_damaged(&self) -> Result<()> {
        let Some(note) = &self.damaged else { return Ok(()) };
        Err(Error::new(Kind::Diverged, "SOURCE_DAMAGED", note.clone()).hint(
            "`syncline verify --adopt` takes the rows as they are; or put them back in the backing database, and writing resumes",
        ))
    }

    /// Makes what others wrote on the server a commit, and follows it.
    pub(super) fn adopt_from_server(&mut self) -> Result<()> {
        self.refuse_if_not_reigning()?;
        self.be_settled()?;
        self.flush_now()?;
        let is_right =
            self.damaged.is_none() && self.store.recount()?.total() == self.store.position().digest;
        if let Some(damage) = self.restate_server()? {
            // From here on the server is ahead: this copy must not write before it is there, too.
            match is_right {
                true => self.unsettled = true,
                false => self.goes_on(Some(&damage)),
            }
        }
        match is_right {
            true => self.catch_up(),
            false => self.load_again(),
        }
    }

    /// Says to the server what it has, if that is not what it claims: then gives the error that said so.
    fn restate_server(&mut self) -> Result<Option<Error>> {
        let shared = self.shared.clone();
        let Backing::Server(server) = &mut self.backing else { return Ok(None) };
        let (mut there, Some(damage)) = fill_as_found(&shared, server.as_mut())? else {
            return Ok(None);
        };
        let Some(commit) = there.restated(shared.now())? else { return Ok(None) };
        let lineage = there.lineage().clone();
        let mut parts = |commit: &Commit, i| there.part(commit.version(), i);
        match server.restate(&lineage, &commit, &mut parts) {
            Err(error) if error.code() == "FENCED" => return Err(self.fenced()),
            Err(error) if error.kind() == Kind::Unknown => self.settle(commit.position(), error)?,
            done => drop(done?),
        }
        tracing::info!(database = %shared.options.name, position = %commit.position(), "adopted rows that others changed");
        Ok(Some(damage))
    }

    /// Fills a copy anew. Fails with `SOURCE_DAMAGED` if the server's rows do not give its digest.
    pub(super) fn load_again(&mut self) -> Result<()> {
        self.refuse_if_not_reigning()?;
        self.be_settled()?;
        let shared = self.shared.clone();
        let Backing::Server(server) = &mut self.backing else { return Ok(()) };
        let (copy, damage) = fill_as_found(&shared, server.as_mut())?;
        if let Some(damage) = damage {
            return Err(Error::new(Kind::Diverged, "SOURCE_DAMAGED", damage.message())
                .hint(damage.hint_text()));
        }
        self.go_on_with(copy)?;
        self.goes_on(None);
        Ok(())
    }
}
