//! Nodes over a PostgreSQL server.

#![allow(dead_code, reason = "each test that includes this module uses a part of it")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use syncline::engine::{BackingPlace, DatabaseOptions, Role, WorkingCopy};
use syncline::store::postgres::PostgresPlace;

/// A writer with its copy in memory.
pub fn writer_options(url: &str, dir: &Path, name: &str) -> DatabaseOptions {
    DatabaseOptions {
        node: name.into(),
        data_dir: dir.join(name),
        backing: BackingPlace::Server(Arc::new(PostgresPlace::read(url).unwrap())),
        working_copy: WorkingCopy::Memory,
        ..DatabaseOptions::writer("")
    }
}

/// A reader with its copy in memory.
pub fn reader_options(url: &str, dir: &Path, name: &str) -> DatabaseOptions {
    DatabaseOptions {
        role: Role::Reader,
        check_every: Duration::from_millis(100),
        ..writer_options(url, dir, name)
    }
}

/// The database's name in a URL.
pub fn name_in(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}
