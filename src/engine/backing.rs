//! Where what a writer acknowledges is durable.
//!
//! | backing | the working copy | what can be told of it from outside |
//! | --- | --- | --- |
//! | itself | is the backing file | which file lies at its path, and what its first page is |
//! | a file | lies in memory | the same |
//! | a server | lies in memory, or in a file of the data directory | nothing: only what stands in it counts |

use std::path::PathBuf;
use std::sync::Arc;

use super::core::Core;
use crate::store::disk::Disk;
use crate::store::sqlite::SqliteStore;
use crate::store::{ServerStore, Store};

/// The backing database, as seen from the working copy.
pub(crate) enum Backing {
    /// The working copy is the backing file.
    Itself,
    /// A SQLite file beside it.
    File(Box<SqliteStore>),
    /// A database on a server.
    Server(Box<dyn ServerStore>),
}

impl Backing {
    /// Whether the working copy is all there is.
    pub fn is_itself(&self) -> bool {
        matches!(self, Backing::Itself)
    }

    /// The database beside the working copy.
    pub fn beside(&mut self) -> Option<&mut dyn Store> {
        match self {
            Backing::Itself => None,
            Backing::File(file) => Some(file.as_mut()),
            Backing::Server(server) => Some(server.as_mut()),
        }
    }
}

impl Core {
    /// The store that is durable: what stands there has been acknowledged.
    pub(super) fn durable(&mut self) -> &mut dyn Store {
        match &mut self.backing {
            Backing::Itself => &mut self.store,
            Backing::File(file) => file.as_mut(),
            Backing::Server(server) => server.as_mut(),
        }
    }

    /// The same, if it is a file.
    pub(super) fn file(&self) -> Option<&SqliteStore> {
        match &self.backing {
            Backing::Itself => Some(&self.store),
            Backing::File(file) => Some(file),
            Backing::Server(_) => None,
        }
    }

    /// Its place.
    pub fn file_place(&self) -> Option<(PathBuf, Arc<dyn Disk>)> {
        self.file().map(|file| (file.path().to_owned(), file.disk().clone()))
    }

    /// The same, to be written.
    pub(super) fn file_mut(&mut self) -> Option<&mut SqliteStore> {
        match &mut self.backing {
            Backing::Itself => Some(&mut self.store),
            Backing::File(file) => Some(file),
            Backing::Server(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mark::beside;
    use super::super::{
        Database, DatabaseOptions, Program, RequestOptions, Statement, WorkingCopy,
    };

    #[test]
    fn a_copy_in_memory_does_not_keep_all_that_was_ever_written() {
        let directory = tempfile::tempdir().unwrap();
        let options = DatabaseOptions {
            working_copy: WorkingCopy::Memory,
            ..DatabaseOptions::writer(directory.path().join("main.db"))
        };
        let database = Database::open(options).unwrap();
        let mut session = database.session();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut run = |sql: &str| {
            let (program, options) =
                (Program::single(Statement::new(sql, [])), RequestOptions::default());
            runtime.block_on(session.run(program, &options)).unwrap();
        };
        run("CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB)");
        run("INSERT INTO t VALUES (1, '')");
        for _ in 0..30 {
            run("UPDATE t SET x = randomblob(1000000)");
        }
        let place = database.shared().place().unwrap();
        let log = place.disk.len(&beside(&place.path, "-wal")).unwrap().unwrap();
        assert!(log < 30_000_000, "{log} bytes");
        database.close();
    }
}
