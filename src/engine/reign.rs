//! Becoming the one writer of a backing database: who holds it, whether that one lives, the next epoch.

use std::io;
use std::sync::atomic::Ordering;

use super::mark;
use super::open::random;
use super::options::BackingPlace;
use super::options::DatabaseOptions;
use super::shared::Shared;
use crate::change::{Epoch, Position, Tag};
use crate::error::{Error, Kind, Result};
use crate::order::leader::{self, Candidate};
use crate::store::sqlite::SqliteSource;
use crate::store::{Holder, Source, Store};

fn is_running(pid: u32) -> bool {
    // SAFETY: signal 0 only asks. A process of another user answers EPERM: it runs.
    let asked = unsafe { libc::kill(pid as libc::pid_t, 0) };
    asked == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

fn me(shared: &Shared) -> Holder {
    let options = &shared.options;
    Holder {
        node: options.node.clone(),
        directory: shared.directory.clone(),
        pid: std::process::id(),
        advertise: options.advertise.clone(),
        lease: shared.now() + options.lease,
    }
}

/// Takes the next epoch of a backing database, unless somebody alive holds it.
pub(crate) fn take_epoch(
    shared: &Shared,
    store: &mut dyn Store,
    take_over: bool,
) -> Result<Position> {
    let holder = holder_that_may_be_followed(shared, store, take_over)?;
    let tag = Tag(random()?);
    let options = &shared.options;
    let floor = Epoch(shared.highest.load(Ordering::Relaxed));
    let taken =
        store.take_epoch_above(floor, tag, &me(shared)).map_err(|error| match error.code() {
            "SQLITE_BUSY" => locked_by(holder.as_ref()),
            _ => error,
        })?;
    let (disk, own) = (options.disk.as_ref(), mark::path(&options.data_dir, &options.name));
    let settled = mark::settled(disk, &own, options.backing.file(), taken.epoch)?;
    shared.settled.fetch_max(settled.0, Ordering::Relaxed);
    tracing::info!(database = %options.name, epoch = taken.epoch.0, version = taken.version.0, "took the epoch");
    Ok(taken)
}

/// The holder, if there was one; `HOLDER_ALIVE` if somebody alive holds the backing database.
pub(super) fn holder_that_may_be_followed(
    shared: &Shared,
    store: &mut dyn Store,
    take_over: bool,
) -> Result<Option<Holder>> {
    let holder = store.standing()?.holder;
    may_take_epoch(shared, holder.as_ref(), take_over)?;
    Ok(holder)
}

pub(super) fn may_take_epoch(
    shared: &Shared,
    holder: Option<&Holder>,
    take_over: bool,
) -> Result<()> {
    let candidate = Candidate { directory: &shared.directory, now: shared.now(), take_over };
    // Whoever writes to a server may be on another machine, where nobody can look.
    let here = shared.options.backing.file().is_some();
    leader::may_take_epoch(holder, &candidate, |pid| !here || is_running(pid))
}

pub(super) fn locked_by(holder: Option<&Holder>) -> Error {
    let who =
        holder.map_or("a process".into(), |h| format!("node {:?}, process {},", h.node, h.pid));
    Error::new(
        Kind::Diverged,
        "HOLDER_STOPPED",
        format!("{who} holds SQLite's write lock and does not let go"),
    )
    .hint("it was stopped inside a group: let it continue, or kill it, then try again")
}

/// Who holds the epoch of a backing database, as far as it can be read.
pub(super) fn holder_of(options: &DatabaseOptions) -> Option<Holder> {
    let mut source: Box<dyn Source> = match &options.backing {
        BackingPlace::File(path) => {
            Box::new(SqliteSource::open(options.disk.clone(), path, None).ok()?)
        }
        BackingPlace::Server(place) => place.source().ok()?,
    };
    source.standing().ok()?.holder
}
