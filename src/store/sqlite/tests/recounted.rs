//! The digest against a recount that shares no code: `tests/recount.py` reads the file in Python.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::super::random;
use super::super::{SqliteStore, Sync};
use super::{EVERY_KIND_OF_TABLE, holder, run_each};
use crate::change::Tag;
use crate::store::disk::NativeDisk;
use crate::store::{Source, Store};

/// Python, where it is there with its hash.
fn python() -> Option<String> {
    let python = std::env::var("SYNCLINE_PYTHON").unwrap_or_else(|_| "python3".into());
    let able = Command::new(&python).args(["-c", "import sqlite3, xxhash"]).output();
    if able.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: the recount, since {python} has no module xxhash");
    None
}

fn open(path: &Path) -> SqliteStore {
    let mut store = SqliteStore::open(Arc::new(NativeDisk), path, Sync::Off, 1 << 20).unwrap();
    store.take_epoch(Tag(1), &holder()).unwrap();
    store.serve_clients().unwrap();
    store
}

/// What the script counts in the file, and what the store says.
fn assert_recounts(python: &str, path: &Path, store: &mut SqliteStore) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recount.py");
    let output = Command::new(python).arg(script).arg(path).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", path.display());
    let counted: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kept = store.digests().unwrap();
    for (name, table) in kept.tables() {
        let wanted = serde_json::json!({"rows": table.rows, "digest": table.digest.to_string()});
        assert_eq!(counted["tables"][name], wanted, "{name}");
    }
    assert_eq!(counted["tables"].as_object().unwrap().len(), kept.tables().count());
    assert_eq!(counted["digest"], store.position().digest.to_string());
}

#[test]
fn python_counts_the_same_digests() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("every-kind.db");
    let mut store = open(&path);
    assert!(run_each(&mut store, EVERY_KIND_OF_TABLE).is_empty());
    run_each(&mut store, &["CREATE VIRTUAL TABLE f USING fts5(x)", "INSERT INTO f VALUES ('a b')"]);
    assert_recounts(&python, &path, &mut store);
    for seed in 1..=12 {
        let path = directory.path().join(format!("{seed}.db"));
        let mut store = random::live_in(open(&path), seed, 6);
        assert_recounts(&python, &path, &mut store);
    }
}
