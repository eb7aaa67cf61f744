//! `syncline gateway`, as it is run: beside one file, with `diff` and `sync` at the other.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rusqlite::Connection;

const PROGRAM: &str = env!("CARGO_BIN_EXE_syncline");

/// A gateway; dropping it ends it.
struct Gateway {
    process: Child,
    url: String,
}

impl Gateway {
    fn start(file: &Path, more: &[&str]) -> Gateway {
        let mut process = Command::new(PROGRAM)
            .arg("gateway")
            .arg(file)
            .args(["--listen", "127.0.0.1:0"])
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("gateway of")));
        let line = line.expect("it says where it listens");
        let url = line.split(" at ").nth(1).expect("an address").trim().to_owned();
        Gateway { process, url }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(arguments: &[&str], token: Option<&str>) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_remove("SYNCLINE_TOKEN");
    if let Some(token) = token {
        command.env("SYNCLINE_TOKEN", token);
    }
    command.output().unwrap()
}

/// Runs it, and expects this exit; what it printed.
fn expect(exit: i32, arguments: &[&str], token: Option<&str>) -> String {
    let output = run(arguments, token);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {text}");
    text
}

fn file(directory: &Path, name: &str, rows: u32) -> std::path::PathBuf {
    let path = directory.join(name);
    let sql = format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT); \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         INSERT INTO t SELECT i, 'row ' || i FROM n"
    );
    Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
    path
}

#[test]
fn a_far_file_is_compared_and_made_equal() {
    let directory = tempfile::tempdir().unwrap();
    let here = file(directory.path(), "here.db", 500);
    let there = file(directory.path(), "there.db", 490);
    let (a, gateway) = (here.to_str().unwrap(), Gateway::start(&there, &[]));
    let b = gateway.url.as_str();
    let text = expect(1, &["diff", a, b], None);
    assert!(text.contains("10"), "{text}");
    let text = expect(0, &["sync", a, b, "--yes"], None);
    assert!(text.contains("10"), "{text}");
    expect(0, &["diff", a, b], None);
    let rows = "SELECT count(*) FROM t";
    let rows: u32 =
        Connection::open(&there).unwrap().query_row(rows, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 500);
}

#[test]
fn a_gateway_that_only_reads_is_no_target() {
    let directory = tempfile::tempdir().unwrap();
    let here = file(directory.path(), "here.db", 5);
    let there = file(directory.path(), "there.db", 4);
    let gateway = Gateway::start(&there, &["--read-only"]);
    let a = here.to_str().unwrap();
    let text = expect(2, &["sync", a, &gateway.url, "--yes"], None);
    assert!(text.contains("ENDPOINT_FORBIDDEN"), "{text}");
    expect(1, &["diff", a, &gateway.url], None);
}

#[test]
fn a_token_is_needed_where_tokens_are_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let here = file(directory.path(), "here.db", 5);
    let tokens = directory.path().join("tokens");
    // The hash of `test`.
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    std::fs::write(&tokens, format!("# who\nbranch {hash}\n")).unwrap();
    let config = directory.path().join("gateway.toml");
    let text = format!("[auth]\nmode = 'tokens'\ntokens_file = '{}'\n", tokens.display());
    std::fs::write(&config, text).unwrap();
    let gateway = Gateway::start(&here, &["-c", config.to_str().unwrap()]);
    let a = here.to_str().unwrap();
    for token in [None, Some("wrong-token")] {
        let text = expect(2, &["diff", a, &gateway.url], token);
        assert!(text.contains("ENDPOINT_LOGIN") && text.contains("SYNCLINE_TOKEN"), "{text}");
        assert!(!text.contains("wrong-token"), "{text}");
    }
    expect(0, &["diff", a, &gateway.url], Some("test"));
}

#[test]
fn what_cannot_be_served_is_said_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let here = file(directory.path(), "here.db", 5);
    let a = here.to_str().unwrap();
    let text = expect(2, &["gateway", a, "--listen", "0.0.0.0:0"], None);
    assert!(text.contains("CONFIG_OPEN_DOOR") && text.contains("auth.mode"), "{text}");
    let missing = directory.path().join("missing.db");
    let text = expect(2, &["gateway", missing.to_str().unwrap(), "--listen", "127.0.0.1:0"], None);
    assert!(text.contains("ENDPOINT_NOT_FOUND"), "{text}");
    let text = expect(2, &["diff", a, "http://127.0.0.1:9"], None);
    assert!(text.contains("ENDPOINT_UNREACHABLE"), "{text}");
}
