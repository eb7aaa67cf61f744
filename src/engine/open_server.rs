//! Opening a backing database on a server to write it, with a working copy beside it.
//!
//! The copy is brought into step as a reader's is: what it has and the server has not is undone and held.

use super::backing::Backing;
use super::changed::fill_as_found;
use super::core::Core;
use super::database::Database;
use super::follower::Follower;
use super::mark;
use super::open::{begin_to_reign, copy_in_step_with, start_writing, wait_for_a_decision};
use super::options::OnRestore;
use super::reign::holder_that_may_be_followed;
use super::shared::Shared;
use crate::error::Result;
use crate::store::{ServerPlace, ServerStore};

/// Opens it to be written. The server ends what takes longer than a takeover would wait.
pub(super) fn open_backing_server(
    shared: &Shared,
    place: &dyn ServerPlace,
) -> Result<Box<dyn ServerStore>> {
    place.open(shared.options.lease / 2)
}

/// Opens the writer of a database on a server.
pub(super) fn open_writer(database: &Database, place: &dyn ServerPlace) -> Result<()> {
    let shared = database.shared();
    let options = &shared.options;
    let mark = mark::read(options.disk.as_ref(), &mark::path(&options.data_dir, &options.name))?;
    if let Some(mark) = &mark {
        shared.knows(&mark.lineage);
    }
    let mut server = open_backing_server(shared, place)?;
    let restored = match &mark {
        Some(mark) => mark::content_was_restored(server.as_mut(), mark)?,
        None => None,
    };
    if let Some(why) = &restored
        && options.on_restore == OnRestore::Stop
    {
        holder_that_may_be_followed(shared, server.as_mut(), options.take_over)?;
        let (copy, _) = fill_as_found(shared, server.as_mut())?;
        let core = Core::new(copy, Backing::Server(server), shared.clone())?;
        core.serve()?;
        return wait_for_a_decision(database, core, why);
    }
    begin_to_reign(shared, server.as_mut(), restored)?;
    let mut follower = Follower::open(shared.clone())?;
    let (copy, damage) = match copy_in_step_with(server.as_mut(), &mut follower) {
        // Whoever refused to start could neither show these rows nor adopt them.
        Err(error) if error.code() == "SOURCE_DAMAGED" => fill_as_found(shared, server.as_mut())?,
        copy => (copy?, None),
    };
    let mut core = Core::new(copy, Backing::Server(server), shared.clone())?;
    core.serve()?;
    core.goes_on(damage.as_ref());
    start_writing(database, core)
}
