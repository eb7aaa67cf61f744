//! The suite, against a real server.

use std::collections::BTreeMap;

use super::PostgresEndpoint;
use crate::endpoint::Endpoint;
use crate::endpoint::conformance::{World, suite};
use crate::endpoint::sqlite::Access;

#[allow(clippy::duplicate_mod, reason = "the store's tests, which stand beside, have their own")]
#[path = "../../../tests/support/postgres.rs"]
mod server;

/// A database on the server.
struct Postgres {
    url: String,
    endpoint: PostgresEndpoint,
    server: &'static server::Server,
}

fn world() -> Option<Postgres> {
    let server = server::Server::get()?;
    let url = server.database();
    let endpoint = PostgresEndpoint::open(&url, Access::Write).unwrap();
    Some(Postgres { url, endpoint, server })
}

impl Postgres {
    fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }
}

impl World for Postgres {
    fn endpoint(&mut self) -> &mut dyn Endpoint {
        &mut self.endpoint
    }

    fn another(&mut self, access: Access) -> Option<Box<dyn Endpoint>> {
        Some(Box::new(PostgresEndpoint::open(&self.url, access).unwrap()))
    }

    fn marks(&mut self, table: &str) -> Option<BTreeMap<i64, String>> {
        let sql = format!("SELECT id, xmin, ctid FROM {table}");
        let rows = self.server.sql(self.name(), &sql);
        let rows = rows.lines().map(|line| line.split_once('|').unwrap());
        Some(rows.map(|(id, mark)| (id.parse().unwrap(), mark.to_owned())).collect())
    }

    fn picture(&mut self) -> Option<Vec<u8>> {
        // Commands of psql in a dump hold a word that is new each time.
        let dump = self.server.dump(self.name());
        let lines: Vec<&str> = dump.lines().filter(|line| !line.starts_with('\\')).collect();
        Some(lines.join("\n").into_bytes())
    }
}

suite!(world);
