//! Random histories of two databases: inserts, updates, deletes of the newest row, snapshots and restores on both
//! sides, versions that are handed out again, late commits, crashes in the middle of a sync. In the end B equals
//! A, row by row; and no transaction of a sync ever took a row from B that A and B both had.
//!
//! SYNCLINE_LONG=1 runs 100,000 of them. SYNCLINE_SEED=N runs one.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use syncline::change::Value;
use syncline::endpoint::agree::{Wishes, agree};
use syncline::endpoint::memory::MemoryEndpoint;
use syncline::endpoint::sqlite::SqliteEndpoint;
use syncline::endpoint::{
    Applied, Batch, Chunk, Column, Endpoint, Engine, Horizon, Key, Plan, Range, Row, Sink, Table,
    Type,
};
use syncline::error::{Error, Result};
use syncline::sync::{DiffOptions, Event, MaxDelete, Selection, SyncOptions, diff, sync_once};

type Rows = BTreeMap<Key, Row>;

/// What an endpoint passes on to the one inside.
macro_rules! pass_on {
    () => {
        fn address(&self) -> &str {
            self.inner.address()
        }
        fn engine(&self) -> Engine {
            self.inner.engine()
        }
        fn tables(&mut self) -> Result<Vec<Table>> {
            self.inner.tables()
        }
        fn end(&mut self) -> Result<()> {
            self.inner.end()
        }
        fn read(&mut self, plan: &Plan, ranges: &[Range], sink: &mut Sink<'_>) -> Result<()> {
            self.inner.read(plan, ranges, sink)
        }
        fn rows(&mut self, plan: &Plan, keys: &[Key], sink: &mut Sink<'_>) -> Result<()> {
            self.inner.rows(plan, keys, sink)
        }
        fn digest(&mut self, plan: &Plan, ranges: &[Range], bits: u32) -> Result<Vec<Vec<Chunk>>> {
            self.inner.digest(plan, ranges, bits)
        }
        fn since(
            &mut self,
            plan: &Plan,
            version: Option<&[u8]>,
            strict: bool,
            sink: &mut Sink<'_>,
        ) -> Result<()> {
            self.inner.since(plan, version, strict, sink)
        }
        fn newest(&mut self, plan: &Plan) -> Result<Option<Key>> {
            self.inner.newest(plan)
        }
        fn state(&mut self, prefix: &str) -> Result<Vec<(String, String)>> {
            self.inner.state(prefix)
        }
        fn create_statements(&self, tables: &[Table]) -> Result<Vec<String>> {
            self.inner.create_statements(tables)
        }
        fn add_column_statement(&self, table: &str, column: &Column) -> Result<String> {
            self.inner.add_column_statement(table, column)
        }
        fn create(&mut self, statements: &[String]) -> Result<()> {
            self.inner.create(statements)
        }
    };
}

/// B, into which a row arrives between two looks.
struct Arriving {
    inner: MemoryEndpoint,
    plan: Plan,
    row: Option<(Key, Row)>,
    looks: usize,
}

impl Endpoint for Arriving {
    pass_on!();
    fn begin(&mut self) -> Result<Horizon> {
        self.looks += 1;
        if self.looks == 2
            && let Some(row) = self.row.take()
        {
            self.inner.apply(&Batch {
                plan: &self.plan,
                puts: &[row],
                deletes: &[],
                state: &[],
            })?;
        }
        self.inner.begin()
    }
    fn apply(&mut self, batch: &Batch<'_>) -> Result<Applied> {
        self.inner.apply(batch)
    }
}

/// B, watched: it may crash before or after a commit, and it compares what each transaction left.
struct Watched<E> {
    inner: E,
    plan: Plan,
    /// What A holds while a sync runs.
    of_a: Rows,
    /// Commits until it crashes, and whether the answer is lost or the commit.
    crash: Option<(u32, bool)>,
}

fn all(endpoint: &mut dyn Endpoint, plan: &Plan) -> Rows {
    let mut rows = Rows::new();
    let mut read = |key: &[u8], row: &[u8]| {
        rows.insert(key.to_vec(), row.to_vec());
        Ok(())
    };
    endpoint.read(plan, &[Range::ALL], &mut read).unwrap();
    rows
}

impl<E: Endpoint> Endpoint for Watched<E> {
    pass_on!();
    fn begin(&mut self) -> Result<Horizon> {
        self.inner.begin()
    }
    fn apply(&mut self, batch: &Batch<'_>) -> Result<Applied> {
        let crash = match &mut self.crash {
            Some((0, answer_lost)) => Some(*answer_lost),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if crash == Some(false) {
            return Err(Error::storage("CRASHED", "before the commit"));
        }
        let before = all(&mut self.inner, &self.plan);
        let applied = self.inner.apply(batch)?;
        let after = all(&mut self.inner, &self.plan);
        let equal = before.iter().filter(|(key, row)| self.of_a.get(*key) == Some(row));
        for (key, row) in equal {
            assert_eq!(after.get(key), Some(row), "a row that both had was touched");
        }
        let written =
            before.iter().filter(|(key, row)| after.get(*key).is_some_and(|now| now != *row));
        assert_eq!(written.count() as u64, applied.updated, "an equal row was rewritten");
        match crash {
            Some(_) => Err(Error::storage("CRASHED", "after the commit")),
            None => Ok(applied),
        }
    }
}

fn column(name: &str, kind: Type) -> Column {
    Column {
        name: name.into(),
        declared: kind.to_string(),
        kind,
        not_null: false,
        generated: false,
        folds_case: false,
        size: None,
        scale: None,
    }
}

fn table() -> Table {
    let columns = vec![
        column("id", Type::Integer),
        column("version", Type::Integer),
        column("content", Type::Text { padded: false }),
    ];
    Table {
        name: "t".into(),
        columns,
        key: vec!["id".into()],
        unique: Vec::new(),
        foreign_keys: Vec::new(),
        triggers: Vec::new(),
        rows: None,
        bytes: None,
        made_by: Vec::new(),
    }
}

/// xorshift64*: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// An endpoint whose rows a history can set.
trait Written: Endpoint + Sized {
    fn fresh() -> Self;
    fn write(&mut self, plan: &Plan, id: i64, content: Option<(i64, String)>);
    fn snapshot(&mut self) -> Self;
    fn tell_horizon(&mut self, horizon: Option<Horizon>);
}

impl Written for MemoryEndpoint {
    fn fresh() -> MemoryEndpoint {
        let mut endpoint = MemoryEndpoint::default();
        endpoint.define(table());
        endpoint
    }
    fn write(&mut self, plan: &Plan, id: i64, content: Option<(i64, String)>) {
        match content {
            Some((version, text)) => {
                let values = [Value::Integer(id), Value::Integer(version), Value::Text(text)];
                self.put(plan, &values);
            }
            None => {
                self.remove(plan, &[Value::Integer(id).as_ref()]);
            }
        }
    }
    fn snapshot(&mut self) -> MemoryEndpoint {
        self.clone()
    }
    fn tell_horizon(&mut self, horizon: Option<Horizon>) {
        self.horizon = horizon;
    }
}

impl Written for SqliteEndpoint {
    fn fresh() -> SqliteEndpoint {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER, content TEXT)")
            .unwrap();
        SqliteEndpoint::over(connection, "sqlite::memory:".into()).unwrap()
    }
    fn write(&mut self, _: &Plan, id: i64, content: Option<(i64, String)>) {
        let connection = self.connection();
        match content {
            Some((version, text)) => connection
                .execute("REPLACE INTO t VALUES (?, ?, ?)", rusqlite::params![id, version, text])
                .unwrap(),
            None => connection.execute("DELETE FROM t WHERE id = ?", [id]).unwrap(),
        };
    }
    fn snapshot(&mut self) -> SqliteEndpoint {
        let mut copy = rusqlite::Connection::open_in_memory().unwrap();
        let backup = rusqlite::backup::Backup::new(self.connection(), &mut copy).unwrap();
        backup.step(-1).unwrap();
        drop(backup);
        SqliteEndpoint::over(copy, "sqlite::memory:".into()).unwrap()
    }
    fn tell_horizon(&mut self, _: Option<Horizon>) {}
}

struct History<E> {
    chance: Chance,
    plan: Plan,
    a: E,
    b: Watched<E>,
    sequence: i64,
    saved: Option<(E, i64)>,
    saved_b: Option<E>,
    /// Rows whose transactions are open: the number of the transaction, the row, its version.
    open: Vec<(u64, i64, i64)>,
    transactions: u64,
    /// Whether late commits are among what happens: only where the engine tells.
    late: bool,
    log: Vec<String>,
}

fn options() -> SyncOptions {
    SyncOptions {
        selection: Selection {
            versions: vec![("t".into(), "version".into())],
            ..Selection::default()
        },
        max_delete: MaxDelete::Percent(100.0),
        walk_least: 2,
        overlap: Duration::ZERO,
        ..SyncOptions::default()
    }
}

impl<E: Written> History<E> {
    fn new(seed: u64, late: bool) -> History<E> {
        let (a, b) = (E::fresh(), E::fresh());
        let wishes = Wishes { version: Some("version".into()), ..Wishes::default() };
        let (engine, table) = (Engine::Sqlite, table());
        let plan = agree((engine, &table), (engine, &table), &wishes).unwrap().a;
        let b = Watched { inner: b, plan: plan.clone(), of_a: Rows::new(), crash: None };
        let (saved, saved_b, open, log) = Default::default();
        let (chance, sequence, transactions) = (Chance::new(seed), 0, 0);
        History { chance, plan, a, b, sequence, saved, saved_b, open, transactions, late, log }
    }

    fn next_version(&mut self) -> i64 {
        self.sequence += 1;
        self.sequence
    }

    fn content(&mut self) -> String {
        format!("c{}", self.chance.below(1000))
    }

    fn write(&mut self, id: i64) {
        let content = (self.next_version(), self.content());
        self.log.push(format!("write {id} {content:?}"));
        self.a.write(&self.plan, id, Some(content));
    }

    fn delete_newest(&mut self) {
        let rows = all(&mut self.a, &self.plan);
        let version = |row: &Row| self.plan.version_of(row).unwrap();
        let newest = rows.iter().max_by_key(|(_, row)| version(row)).map(|(key, _)| key.clone());
        if let Some(key) = newest {
            let values = self.plan.values(&rows[&key]).unwrap();
            let Value::Integer(id) = values[0] else { unreachable!() };
            self.log.push(format!("delete the newest: {id}"));
            self.a.write(&self.plan, id, None);
        }
    }

    fn step(&mut self) {
        let id = self.chance.below(12) as i64;
        match self.chance.below(16) {
            0..=4 => self.write(id),
            5 => {
                self.log.push(format!("delete {id}"));
                self.a.write(&self.plan, id, None);
            }
            6 => self.delete_newest(),
            7 => {
                self.log.push("snapshot".into());
                self.saved = Some((self.a.snapshot(), self.sequence));
            }
            8 => self.restore(),
            9 if self.late => self.begin_late(id),
            10 if self.late => self.commit_late(),
            11 => self.change_b(id),
            _ => self.sync(true),
        }
    }

    /// The sequence goes back, too: versions are handed out again.
    fn restore(&mut self) {
        let Some((mut saved, sequence)) = self.saved.take() else { return };
        self.log.push(format!("restore; the sequence is {sequence}"));
        self.a = saved.snapshot();
        self.saved = Some((saved, sequence));
        self.sequence = sequence;
        self.open.clear();
    }

    fn begin_late(&mut self, id: i64) {
        self.transactions += 1;
        let version = self.next_version();
        self.log.push(format!("begin {}: row {id} takes version {version}", self.transactions));
        self.open.push((self.transactions, id, version));
    }

    fn commit_late(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.chance.below(self.open.len() as u64) as usize;
        let (transaction, id, version) = self.open.remove(at);
        let content = self.content();
        self.log.push(format!("commit {transaction}"));
        self.a.write(&self.plan, id, Some((version, content)));
    }

    fn change_b(&mut self, id: i64) {
        match self.chance.below(4) {
            0 => self.saved_b = Some(self.b.inner.snapshot()),
            1 => {
                let Some(mut saved) = self.saved_b.take() else { return };
                self.log.push("B is restored, with its position".into());
                self.b.inner = saved.snapshot();
                self.saved_b = Some(saved);
            }
            2 => {
                self.log.push(format!("B loses {id}"));
                self.b.inner.write(&self.plan, id, None);
            }
            _ => {
                let content = (self.chance.below(30) as i64, self.content());
                self.log.push(format!("somebody writes {id} into B: {content:?}"));
                self.b.inner.write(&self.plan, id, Some(content));
            }
        }
    }

    fn sync(&mut self, may_crash: bool) {
        let crashes = may_crash && self.chance.below(4) == 0;
        self.b.crash = crashes.then(|| (self.chance.below(3) as u32, self.chance.below(2) == 0));
        self.transactions += 1;
        let xmin = self.open.iter().map(|(t, ..)| *t).min().unwrap_or(self.transactions);
        let horizon = Horizon::Transactions { xmin, xmax: self.transactions };
        self.a.tell_horizon(self.late.then_some(horizon));
        self.b.of_a = all(&mut self.a, &self.plan);
        self.log.push(format!("sync, crash {:?}", self.b.crash));
        let (stop, mut quiet) = (AtomicBool::new(false), |_: Event<'_>| {});
        let synced = sync_once(&mut (&mut self.a, &mut self.b), &options(), &stop, &mut quiet);
        match synced {
            Ok(report) => assert!(report.tables[0].held.is_empty()),
            Err(error) => assert_eq!(error.code(), "CRASHED"),
        }
        self.b.crash = None;
    }

    /// The walk comes past every row once more, and then they are equal.
    fn end(&mut self) {
        while !self.open.is_empty() {
            self.commit_late();
        }
        let rows = all(&mut self.a, &self.plan).len() + all(&mut self.b.inner, &self.plan).len();
        for _ in 0..rows / 2 + 3 {
            self.sync(false);
        }
        assert!(self.are_equal());
    }

    fn are_equal(&mut self) -> bool {
        all(&mut self.a, &self.plan) == all(&mut self.b.inner, &self.plan)
    }
}

/// A row takes a version and commits after a later one was synced. Only the mark can bring it: the walk has many
/// rows to pass before it comes there.
#[test]
fn a_late_commit_arrives_before_the_walk_comes_past() {
    let mut history = History::<MemoryEndpoint>::new(0, true);
    (0..200).for_each(|id| history.write(id));
    history.sync(false);
    for id in 300..310 {
        history.begin_late(id);
        history.write(id + 100);
        (0..3).for_each(|_| history.sync(false));
        history.commit_late();
        history.sync(false);
    }
    assert!(history.are_equal());
}

/// Without a key rows are compared as a multiset. Two equal rows here and two others there: the counts are equal,
/// and so are the sums, if equal terms cancel.
#[test]
fn equal_rows_without_a_key_do_not_cancel() {
    let endpoint = |rows: &str| {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection
            .execute_batch(&format!("CREATE TABLE t (x); INSERT INTO t VALUES {rows}"))
            .unwrap();
        SqliteEndpoint::over(connection, format!("sqlite:{rows}")).unwrap()
    };
    let (mut a, mut b) = (endpoint("(1), (1), (3)"), endpoint("(2), (2), (3)"));
    let mut quiet = |_: Event<'_>| {};
    let report = diff(&mut (&mut a, &mut b), &DiffOptions::default(), &mut quiet).unwrap();
    assert_eq!((report.tables[0].only_in_a, report.tables[0].only_in_b), (2, 2));
    let stop = AtomicBool::new(false);
    let options = SyncOptions { yes: true, ..SyncOptions::default() };
    let synced = sync_once(&mut (&mut a, &mut b), &options, &stop, &mut quiet).unwrap();
    assert!(synced.done() && synced.tables[0].proved());
    let sum: i64 = b.connection().query_row("SELECT sum(x) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 5);
}

/// Rows change and vanish on both sides while they are compared; what both have alike at the second look is no
/// difference, and what really differs is found all the same.
#[test]
fn rows_on_their_way_are_no_difference() {
    let mut history = History::<MemoryEndpoint>::new(0, false);
    (0..300).for_each(|id| history.write(id));
    history.sync(false);
    history.write(7);
    history.write(8);
    let arrives = all(&mut history.a, &history.plan);
    let b = history.b.inner.snapshot();
    let key = |id: i64| syncline::endpoint::canon::encode_key([Value::Integer(id).as_ref()]);
    let row = arrives[&key(7)].clone();
    let mut b =
        Arriving { inner: b, plan: history.plan.clone(), row: Some((key(7), row)), looks: 0 };
    let mut quiet = |_: Event<'_>| {};
    let report = diff(&mut (&mut history.a, &mut b), &DiffOptions::default(), &mut quiet).unwrap();
    let table = &report.tables[0];
    assert_eq!((table.changed, table.in_flight, table.rows.len()), (1, 1, 1));
    assert_eq!(table.rows[0].key, [("id".to_owned(), Value::Integer(8))]);
}

fn run<E: Written>(seed: u64, late: bool) {
    let mut history = History::<E>::new(seed, late);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..14 {
            history.step();
        }
        history.end();
    }));
    if caught.is_err() {
        panic!("SYNCLINE_SEED={seed}\n{}", history.log.join("\n"));
    }
}

fn histories<E: Written>(many: u64, late: bool) {
    if let Some(seed) = std::env::var("SYNCLINE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return run::<E>(seed, late);
    }
    let long = std::env::var_os("SYNCLINE_LONG").is_some();
    (0..if long { 23 * many } else { many }).for_each(|seed| run::<E>(seed, late));
}

#[test]
fn histories_in_memory_end_equal() {
    histories::<MemoryEndpoint>(2_000, false);
}

#[test]
fn histories_with_late_commits_end_equal() {
    histories::<MemoryEndpoint>(2_000, true);
}

#[test]
fn histories_in_sqlite_end_equal() {
    histories::<SqliteEndpoint>(500, false);
}
