//! What a copy is fed from: the backing file, opened to be read, or a server.

use super::mark;
use super::options::{BackingPlace, DatabaseOptions};
use crate::error::Result;
use crate::store::Source;
use crate::store::sqlite::{Files, SqliteSource};

/// An opened source.
pub(super) enum Feed {
    File(SqliteSource),
    Server(Box<dyn Source>),
}

impl Feed {
    /// Opens the backing database. `files`: those that were open last.
    pub fn open(options: &DatabaseOptions, files: &mut Option<Files>) -> Result<Feed> {
        let path = match &options.backing {
            BackingPlace::File(path) => path,
            BackingPlace::Server(place) => return place.source().map(Feed::Server),
        };
        let settled = mark::is_settled(options.disk.as_ref(), path);
        let before = files.filter(|_| !settled);
        let file = SqliteSource::open(options.disk.clone(), path, before)?;
        *files = Some(file.files());
        Ok(Feed::File(file))
    }

    /// Whether it is still the database that is to be followed: another file may lie at its path.
    pub fn is_current(&self) -> Result<bool> {
        match self {
            Feed::File(file) => file.is_current(),
            Feed::Server(_) => Ok(true),
        }
    }
}

/// The opened source.
pub(super) fn opened(feed: &mut Option<Feed>) -> &mut dyn Source {
    match feed.as_mut().expect("opened") {
        Feed::File(file) => file,
        Feed::Server(server) => server.as_mut(),
    }
}
