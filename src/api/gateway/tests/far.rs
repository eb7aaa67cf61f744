//! The suite for endpoints, through a gateway.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::{Opener, Served, open, server};
use crate::endpoint::Endpoint;
use crate::endpoint::conformance::{World, suite};
use crate::endpoint::http::HttpEndpoint;
use crate::endpoint::sqlite::{Access, SqliteEndpoint};

/// A file, and the gateway before it.
struct Far {
    endpoint: HttpEndpoint,
    writes: Writes,
    served: Served,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

/// How often each row of `things` was written, by rowid.
type Writes = Arc<Mutex<BTreeMap<i64, u64>>>;

fn counting(path: PathBuf, writes: Writes) -> Opener {
    Arc::new(move |access| {
        let mut endpoint = SqliteEndpoint::open(&path, access)?;
        let writes = Arc::clone(&writes);
        let count = move |_, _: &str, table: &str, rowid| {
            if table == "things" {
                *writes.lock().unwrap().entry(rowid).or_insert(0) += 1;
            }
        };
        endpoint.connection().update_hook(Some(count)).unwrap();
        Ok(Box::new(endpoint))
    })
}

impl Far {
    fn new() -> Option<Far> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("far.db");
        let writes = Writes::default();
        let served = Served::start(server(counting(path.clone(), writes.clone()), false));
        let endpoint = open(&served.url(), Access::Write).unwrap();
        Some(Far { endpoint, writes, served, path, _directory: directory })
    }
}

impl World for Far {
    fn endpoint(&mut self) -> &mut dyn Endpoint {
        &mut self.endpoint
    }

    fn another(&mut self, access: Access) -> Option<Box<dyn Endpoint>> {
        Some(Box::new(open(&self.served.url(), access).unwrap()))
    }

    fn marks(&mut self, table: &str) -> Option<BTreeMap<i64, String>> {
        assert_eq!(table, "things");
        let file = Connection::open(&self.path).unwrap();
        let mut select = file.prepare("SELECT id, rowid FROM things").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let writes = self.writes.lock().unwrap();
        let marked = |(id, rowid): (i64, i64)| (id, writes[&rowid].to_string());
        Some(rows.map(Result::unwrap).map(marked).collect())
    }

    fn picture(&mut self) -> Option<Vec<u8>> {
        Some(std::fs::read(&self.path).unwrap())
    }
}

suite!(Far::new);
