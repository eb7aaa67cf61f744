//! A database of its own on the private server, for the suite of all endpoints.

use std::collections::BTreeMap;

use super::MysqlEndpoint;
use super::server::{Server, name_in};
use crate::endpoint::conformance::{World, suite};
use crate::endpoint::sqlite::Access;
use crate::endpoint::{Endpoint, Table};

struct Mysql {
    server: &'static Server,
    url: String,
    endpoint: MysqlEndpoint,
}

impl Mysql {
    fn new() -> Option<Mysql> {
        let server = Server::get()?;
        let url = server.database();
        let endpoint = MysqlEndpoint::open(&url, Access::Write).unwrap();
        Some(Mysql { server, url, endpoint })
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql(name_in(&self.url), sql)
    }
}

/// Counts every write of a row of `things`, also one that changes nothing.
const MARKS: &str = "CREATE TABLE _syncline_marks (id bigint PRIMARY KEY, writes int NOT NULL); \
    CREATE TRIGGER inserted AFTER INSERT ON things FOR EACH ROW INSERT INTO _syncline_marks VALUES (NEW.id, 1) \
        ON DUPLICATE KEY UPDATE writes = writes + 1; \
    CREATE TRIGGER updated AFTER UPDATE ON things FOR EACH ROW \
        UPDATE _syncline_marks SET writes = writes + 1 WHERE id = NEW.id";

impl World for Mysql {
    fn endpoint(&mut self) -> &mut dyn Endpoint {
        &mut self.endpoint
    }

    fn another(&mut self, access: Access) -> Option<Box<dyn Endpoint>> {
        Some(Box::new(MysqlEndpoint::open(&self.url, access).unwrap()))
    }

    fn create(&mut self, table: &Table) {
        let statements = self.endpoint.create_statements(std::slice::from_ref(table)).unwrap();
        self.endpoint.create(&statements).unwrap_or_else(|e| panic!("{e}: {statements:?}"));
        if table.name == "things" {
            self.sql(MARKS);
        }
    }

    fn marks(&mut self, table: &str) -> Option<BTreeMap<i64, String>> {
        assert_eq!(table, "things");
        let lines = self.sql("SELECT id, writes FROM _syncline_marks");
        let marks = lines.lines().map(|line| line.split_once('\t').expect("two columns"));
        Some(marks.map(|(id, writes)| (id.parse().unwrap(), writes.to_owned())).collect())
    }

    fn picture(&mut self) -> Option<Vec<u8>> {
        let dump = self.server.dump(name_in(&self.url));
        // Comments say when.
        let lines = dump.lines().filter(|line| !line.starts_with("--"));
        Some(lines.collect::<Vec<_>>().join("\n").into_bytes())
    }
}

suite!(Mysql::new);
