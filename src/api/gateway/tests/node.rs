//! The databases of a node, through its gateway.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::Gateway;
use super::super::sessions::{Owner, Sessions};
use super::{Served, open, plan_of};
use crate::api::guard::Principal;
use crate::api::{Server, Tokens};
use crate::change::Value;
use crate::endpoint::http::{HttpEndpoint, Login};
use crate::endpoint::sqlite::Access;
use crate::endpoint::wire::{Call, FrameReader, FrameWriter, Kind as Piece, encode_ranges};
use crate::endpoint::{Endpoint, Plan, Range};
use crate::engine::{Database, DatabaseOptions, FullMode, RequestOptions, WorkingCopy};
use crate::error::Kind;

const SOON: Duration = Duration::from_secs(20);

/// A database and the node that serves it.
pub(super) struct Node {
    served: Served,
    pub database: Database,
}

impl Node {
    pub fn start(options: DatabaseOptions, of: impl FnOnce(Server) -> Server) -> Node {
        let database = Database::open(options).unwrap();
        let server = Server::new("a", "http://127.0.0.1").database(database.clone()).unwrap();
        Node { served: Served::start(of(server)), database }
    }

    /// A writer with a table of three rows.
    fn writer(directory: &Path) -> Node {
        Node::with_rows(DatabaseOptions::writer(directory.join("main.db")))
    }

    fn writer_in_memory(directory: &Path) -> Node {
        let options = DatabaseOptions::writer(directory.join("main.db"));
        Node::with_rows(DatabaseOptions { working_copy: WorkingCopy::Memory, ..options })
    }

    fn with_rows(options: DatabaseOptions) -> Node {
        let node = Node::start(options, |server| server);
        node.run("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)");
        node.run("INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')");
        node
    }

    fn run(&self, sql: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut session = self.database.session();
        runtime.block_on(session.sequence(sql, &RequestOptions::default())).unwrap();
    }

    pub fn open(&self) -> HttpEndpoint {
        open(&format!("{}/main", self.served.url()), Access::Read).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.database.close();
    }
}

/// The second column of all rows.
fn texts(endpoint: &mut dyn Endpoint, plan: &Plan) -> Vec<String> {
    let mut texts = Vec::new();
    let mut take = |_: &[u8], row: &[u8]| {
        match plan.values(row)?.remove(1) {
            Value::Text(text) => texts.push(text),
            other => panic!("{other:?}"),
        }
        Ok(())
    };
    endpoint.read(plan, &[Range::ALL], &mut take).unwrap();
    texts
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every kind of copy answers alike, and none shows what is Syncline's own.
#[test]
fn a_database_is_read_wherever_its_copy_lies() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Node::writer(directory.path());
    let reader = |name: &str, working_copy| {
        let options = DatabaseOptions {
            node: name.into(),
            working_copy,
            check_every: Duration::from_millis(20),
            ..DatabaseOptions::reader(directory.path().join("main.db"), directory.path().join(name))
        };
        let reader = Node::start(options, |server| server.default_database("main"));
        wait_until("it follows", || reader.database.position() == writer.database.position());
        reader
    };
    let in_memory = reader("b", WorkingCopy::Memory);
    let on_disk = reader("c", WorkingCopy::Disk);
    let url = in_memory.served.url();
    let by_name = open(&format!("{url}/v1/databases/main"), Access::Read).unwrap();
    assert_eq!(by_name.address(), format!("{url}/main"));
    let by_default = open(&url, Access::Read).unwrap();
    for endpoint in [writer.open(), on_disk.open(), by_name, by_default] {
        assert_three_rows(endpoint);
    }
    let elsewhere = tempfile::tempdir().unwrap();
    assert_three_rows(Node::writer_in_memory(elsewhere.path()).open());
}

fn assert_three_rows(mut endpoint: HttpEndpoint) {
    let tables = endpoint.tables().unwrap();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["t"]);
    let plan = plan_of(&mut endpoint);
    assert_eq!(texts(&mut endpoint, &plan), ["one", "two", "three"]);
    assert!(endpoint.state("").unwrap().is_empty());
}

#[test]
fn a_snapshot_stays_while_clients_write() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::writer(directory.path());
    let mut endpoint = node.open();
    let plan = plan_of(&mut endpoint);
    endpoint.begin().unwrap();
    node.run("UPDATE t SET x = 'new' WHERE id = 2");
    node.run("DELETE FROM t WHERE id = 3");
    assert_eq!(texts(&mut endpoint, &plan), ["one", "two", "three"]);
    endpoint.end().unwrap();
    assert_eq!(texts(&mut endpoint, &plan), ["one", "new"]);
}

/// A plan comes from whoever asks: it may name any table, and its condition is any SQL.
#[test]
fn what_is_asked_sees_what_clients_see() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::writer(directory.path());
    let mut endpoint = node.open();
    let usual = plan_of(&mut endpoint);
    let mut ask = |plan: &Plan| endpoint.digest(plan, &[Range::ALL], 64).map(|all| all[0][0].rows);
    let with = |filter: &str| Plan { filter: Some(filter.into()), ..usual.clone() };
    let of = |table: &str, columns: [&str; 2]| {
        let mut plan = Plan { table: table.into(), ..usual.clone() };
        plan.columns.iter_mut().zip(columns).for_each(|(column, name)| column.name = name.into());
        plan
    };
    assert_eq!(ask(&with("id > 1 AND upper(x) LIKE 'T%'")).unwrap(), 2);
    for hidden in [
        with("(SELECT count(*) FROM _syncline_log) > 0"),
        with("EXISTS (SELECT 1 FROM main._SYNCLINE_state WHERE rows > 0)"),
        with("(SELECT count(*) FROM pragma_table_info('_syncline_log')) > 0"),
        with("(SELECT length(data) FROM sqlite_dbpage WHERE pgno = 1) > 0"),
        with("1); DELETE FROM t; SELECT (1"),
        of("_syncline_log", ["version", "frames"]),
        of("_syncline_state", ["name", "digest"]),
    ] {
        let error = ask(&hidden).unwrap_err();
        assert_eq!(error.code(), "ENDPOINT_FORBIDDEN", "{hidden:?}: {error:?}");
    }
    let error = ask(&with("load_extension('x') IS NULL")).unwrap_err();
    assert!(error.message().contains("not authorized"), "{error:?}");
    assert_eq!(ask(&usual).unwrap(), 3, "the session goes on, and nothing was deleted");
}

#[test]
fn only_its_clients_write_it() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::writer(directory.path());
    let before = node.database.position();
    let error = open(&format!("{}/main", node.served.url()), Access::Write).err().unwrap();
    assert_eq!((error.kind(), error.code()), (Kind::Forbidden, "ENDPOINT_FORBIDDEN"), "{error}");
    assert!(error.message().contains("clients"), "{error}");
    // Nor in a session that was begun to read.
    let error = node.open().create(&["DROP TABLE t".into()]).unwrap_err();
    assert_eq!(error.code(), "ENDPOINT_FORBIDDEN");
    assert_eq!(node.database.position(), before);
}

#[test]
fn whoever_may_not_read_it_learns_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // The hash of `test`.
    let line = "a 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let tokens = Some(Tokens::read(line).unwrap());
    let options = DatabaseOptions::writer(directory.path().join("main.db"));
    let node = Node::start(options, |server| server.tokens(tokens));
    node.run("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)");
    let said = ["main", "missing"].map(|name| {
        let url = format!("{}/{name}", node.served.url());
        let error = open(&url, Access::Read).err().unwrap();
        assert_eq!((error.kind(), error.code()), (Kind::Forbidden, "ENDPOINT_LOGIN"), "{error}");
        error.message().to_owned()
    });
    assert_eq!(said[0], said[1], "not even which databases there are");
    let login = Login { token: Some("test".into()) };
    let url = format!("{}/main", node.served.url());
    let mut endpoint = HttpEndpoint::open(&url, Access::Read, &login).unwrap();
    assert_eq!(endpoint.tables().unwrap().len(), 1);
}

#[test]
fn an_address_that_leads_nowhere_says_what_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::writer(directory.path());
    let refused = |url: &str, hint: &str| {
        let error = open(url, Access::Read).err().unwrap();
        assert_eq!((error.kind(), error.code()), (Kind::Invalid, "ENDPOINT_NOT_FOUND"), "{error}");
        assert!(error.hint_text().contains(hint), "{url}: {error:?}");
    };
    refused(&format!("{}/missing", node.served.url()), "/main");
    refused(&node.served.url(), "name one in the path: /main");
    let gateway = Served::file(&super::customers(directory.path(), "a.db", 3));
    refused(&format!("{}/main", gateway.url()), "leave the name out: http(s)://HOST:PORT");
    let error = open(&format!("{}/a/b", node.served.url()), Access::Read).err().unwrap();
    assert_eq!(error.code(), "URL_INVALID");
    assert!(error.hint_text().contains("http(s)://HOST:PORT/DB"), "{error:?}");
}

/// A copy that is rebuilt takes the place of the one that a session reads: that one must not be kept.
#[test]
fn sessions_end_with_their_copy() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Node::writer(directory.path());
    let reader = DatabaseOptions {
        node: "b".into(),
        check_every: Duration::from_millis(20),
        full: FullMode::Always,
        full_every: Duration::from_secs(2),
        ..DatabaseOptions::reader(directory.path().join("main.db"), directory.path().join("b"))
    };
    let reader = Node::start(reader, |server| server);
    wait_until("it follows", || reader.database.position() == writer.database.position());
    let first = reader.database.generation();
    wait_until("there is time until the next one", || reader.database.generation() > first);
    let mut endpoint = reader.open();
    let plan = plan_of(&mut endpoint);
    let generation = reader.database.generation();
    endpoint.begin().unwrap();
    assert_eq!(texts(&mut endpoint, &plan).len(), 3);
    wait_until("it is rebuilt", || reader.database.generation() > generation);
    let error = endpoint.digest(&plan, &[Range::ALL], 64).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Retry, "SESSION_EXPIRED"), "{error}");
    assert_eq!(texts(&mut endpoint, &plan).len(), 3, "a new session reads the new copy");
}

/// A snapshot holds the log back for as long as it is there.
#[test]
fn a_snapshot_that_ended_holds_no_checkpoint_back() {
    let directory = tempfile::tempdir().unwrap();
    let options = DatabaseOptions {
        checkpoint_at: 256 << 10,
        mark_every: Duration::from_millis(50),
        ..DatabaseOptions::writer(directory.path().join("main.db"))
    };
    let node = Node::start(options, |server| server);
    node.run("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)");
    node.run("INSERT INTO t VALUES (1, '')");
    let log = || std::fs::metadata(directory.path().join("main.db-wal")).unwrap().len();
    let grow = || node.run("UPDATE t SET x = hex(randomblob(200000))");
    let mut endpoint = node.open();
    endpoint.begin().unwrap();
    wait_until("nothing is checkpointed behind the snapshot", || {
        grow();
        log() > 8 << 20
    });
    drop(endpoint);
    wait_until("the log is begun again", || {
        grow();
        log() < 4 << 20
    });
}

/// A condition that never ends keeps neither its thread nor its snapshot once nobody waits for it.
#[test]
fn what_nobody_waits_for_is_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::writer(directory.path());
    let forever = "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                   SELECT count(*) FROM n) > 0";
    let plan = Plan { filter: Some(forever.into()), ..plan_of(&mut node.open()) };
    let opener = Gateway::of(&node.database).open;
    let sessions = Sessions::new(1, SOON);
    let owner = Owner { principal: Principal::Anyone, generation: 1 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begin = || runtime.block_on(sessions.begin(opener.clone(), Access::Read, owner));
    let (name, _) = begin().unwrap();
    let ask = |call: &Call| {
        let (mut writer, mut bytes) = (FrameWriter::default(), Vec::new());
        writer.put_json(&mut bytes, call).unwrap();
        writer.put(&mut bytes, Piece::Ranges, &encode_ranges(&[Range::ALL])).unwrap();
        sessions.call(&name, owner, super::super::frames(&bytes).unwrap()).unwrap()
    };
    let endless = ask(&Call::Digest { plan: plan.clone(), bits: 64 });
    std::thread::sleep(Duration::from_millis(50));
    drop(endless);
    let mut next = ask(&Call::Tables);
    let answer = runtime.block_on(async { tokio::time::timeout(SOON, next.pieces.recv()).await });
    let mut reader = FrameReader::default();
    reader.push(&answer.expect("the call before has ended").unwrap());
    assert_eq!(reader.take().unwrap().unwrap().kind, Piece::Json);
    // Whoever ends a session ends what it is at.
    let endless = ask(&Call::Digest { plan, bits: 64 });
    std::thread::sleep(Duration::from_millis(50));
    sessions.end(&name, owner);
    wait_until("the thread gives its place back", || begin().is_ok());
    drop(endless);
}
