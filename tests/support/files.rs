//! Two SQLite files, and the real binary run on them.

#![allow(dead_code, reason = "each test that includes this module uses a part of it")]

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value as Json;

/// Two files that go with the test.
pub struct Place {
    pub dir: tempfile::TempDir,
}

pub const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER, content TEXT)";

impl Place {
    /// Both with what `sql` makes.
    pub fn with(sql: &str) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        place.sql("a.db", sql);
        place.sql("b.db", sql);
        place
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn sql(&self, name: &str, sql: &str) {
        Connection::open(self.file(name)).unwrap().execute_batch(sql).unwrap();
    }

    pub fn rows(&self, name: &str, sql: &str) -> Vec<String> {
        let connection = Connection::open(self.file(name)).unwrap();
        let mut select = connection.prepare(sql).unwrap();
        let columns = select.column_count();
        let text = |row: &rusqlite::Row<'_>| {
            let value = |i| row.get::<_, rusqlite::types::Value>(i).map(|v| format!("{v:?}"));
            (0..columns).map(value).collect::<Result<Vec<_>, _>>().map(|v| v.join(" "))
        };
        select.query_map([], text).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// Compares every row, without asking the program.
    pub fn assert_equal(&self, sql: &str) {
        let (a, b) = (self.rows("a.db", sql), self.rows("b.db", sql));
        assert!(
            a == b,
            "{} rows and {} rows: {:?}",
            a.len(),
            b.len(),
            a.iter().zip(&b).find(|(a, b)| a != b)
        );
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncline"));
        command.args(arguments).current_dir(self.dir.path());
        command.env_remove("SYNCLINE_A").env_remove("SYNCLINE_B").stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        Run(self.command(arguments).output().unwrap())
    }

    pub fn sync(&self, more: &[&str]) -> Run {
        self.run(&[&["sync", "a.db", "b.db"], more].concat())
    }

    pub fn versioned(&self, more: &[&str]) -> Run {
        self.sync(&[&["--version-column", "t=version"], more].concat())
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

/// How a command ended.
pub struct Run(pub Output);

impl Run {
    pub fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Run {
        assert_eq!(self.0.status.code(), Some(code), "{}{}", self.out(), self.err());
        self
    }

    pub fn lines(&self) -> Vec<Json> {
        self.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A process that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
