//! The worlds of the endpoints that need no server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::super::memory::MemoryEndpoint;
use super::super::sqlite::SqliteEndpoint;
use super::super::{Endpoint, Table};
use super::{Access, World, cases, suite};

/// A map: it has neither a second handle nor constraints.
struct Memory(MemoryEndpoint);

impl World for Memory {
    fn endpoint(&mut self) -> &mut dyn Endpoint {
        &mut self.0
    }

    fn another(&mut self, _access: Access) -> Option<Box<dyn Endpoint>> {
        None
    }

    fn create(&mut self, table: &Table) {
        self.0.define(table.clone());
    }

    fn marks(&mut self, _table: &str) -> Option<BTreeMap<i64, String>> {
        None
    }

    fn picture(&mut self) -> Option<Vec<u8>> {
        None
    }
}

mod memory {
    use super::*;

    fn world() -> Option<Memory> {
        Some(Memory(MemoryEndpoint::default()))
    }

    cases! { world;
        reading: rows_come_in_the_order_of_their_keys, hard_keys_come_back_or_are_refused,
            ranges_are_half_open, several_ranges_are_read_in_one_go, tables_of_no_row_and_of_one,
            values_come_back, rows_are_found_by_their_keys, duplicates_are_numbered;
        digesting: digests_are_recounts_at_every_level, folding_is_rescanning,
            ranges_of_unknown_ends_are_digested, duplicates_are_digested,
            narrowing_finds_exactly_what_differs;
        applying: what_was_done_is_counted, absent_keys_are_deleted_without_ado,
            state_is_found_by_its_prefix, duplicates_come_and_go, the_last_duplicates_go_first,
            random_batches_end_as_asked;
        versions: rows_since_a_version, newest_versions, moments_are_versions_too;
    }
}

/// How often each row was written, by rowid.
type Writes = Arc<Mutex<BTreeMap<i64, u64>>>;

/// A SQLite file, or none but the connection.
struct Sqlite {
    endpoint: SqliteEndpoint,
    writes: Writes,
    file: Option<(PathBuf, tempfile::TempDir)>,
}

impl Sqlite {
    fn over(mut endpoint: SqliteEndpoint, file: Option<(PathBuf, tempfile::TempDir)>) -> Sqlite {
        let writes = Writes::default();
        let seen = Arc::clone(&writes);
        let count = move |_, _: &str, table: &str, rowid| {
            if table == "things" {
                *seen.lock().unwrap().entry(rowid).or_insert(0) += 1;
            }
        };
        endpoint.connection().update_hook(Some(count)).unwrap();
        Sqlite { endpoint, writes, file }
    }

    fn in_file() -> Option<Sqlite> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let endpoint = SqliteEndpoint::open(&path, Access::Write).unwrap();
        Some(Sqlite::over(endpoint, Some((path, directory))))
    }

    fn in_wal() -> Option<Sqlite> {
        let mut world = Sqlite::in_file()?;
        world.endpoint.connection().pragma_update(None, "journal_mode", "wal").unwrap();
        Some(world)
    }

    fn in_memory() -> Option<Sqlite> {
        let connection = Connection::open_in_memory().unwrap();
        Some(Sqlite::over(SqliteEndpoint::over(connection, "memory".into()).unwrap(), None))
    }
}

impl World for Sqlite {
    fn endpoint(&mut self) -> &mut dyn Endpoint {
        &mut self.endpoint
    }

    fn another(&mut self, access: Access) -> Option<Box<dyn Endpoint>> {
        let (path, _) = self.file.as_ref()?;
        Some(Box::new(SqliteEndpoint::open(path, access).unwrap()))
    }

    fn marks(&mut self, table: &str) -> Option<BTreeMap<i64, String>> {
        assert_eq!(table, "things");
        let sql = "SELECT id, rowid FROM things";
        let mut select = self.endpoint.connection().prepare(sql).unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let writes = self.writes.lock().unwrap();
        Some(
            rows.map(Result::unwrap)
                .map(|(id, rowid): (i64, i64)| (id, writes[&rowid].to_string()))
                .collect(),
        )
    }

    fn picture(&mut self) -> Option<Vec<u8>> {
        Some(std::fs::read(&self.file.as_ref()?.0).unwrap())
    }
}

mod sqlite_file {
    use super::*;
    suite!(Sqlite::in_file);
}

mod sqlite_wal {
    use super::*;
    suite!(Sqlite::in_wal);
}

mod sqlite_memory {
    use super::*;
    suite!(Sqlite::in_memory);
}
