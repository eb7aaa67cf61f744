//! Readers on bad days: the backing database away, rows that rotted, the log gone.

mod support;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::pair::{Pair, rows_of, wait_for};
use support::*;
use syncline::change::{Position, Value};
use syncline::engine::{Database, DatabaseOptions, FullMode, OnRestore, State, WorkingCopy};
use syncline::store::disk::{Disk, FileId, NativeDisk};

const BOTH: [WorkingCopy; 2] = [WorkingCopy::Memory, WorkingCopy::Disk];
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn a_reader_serves_on_while_the_backing_database_is_away() {
    for working_copy in BOTH {
        let pair = Pair::new(working_copy);
        pair.insert(1);
        assert_equal(&pair.writer, &pair.reader);
        // An empty directory, a directory with an empty file, one with something else in the file's
        // place, and a file where the directory was.
        let real = pair.dir.path();
        for (name, content) in [("none", None), ("empty", Some("")), ("rubbish", Some("rubbish"))] {
            std::fs::create_dir(real.join(name)).unwrap();
            if let Some(content) = content {
                std::fs::write(real.join(name).join("main.db"), content).unwrap();
            }
        }
        std::fs::write(real.join("file"), "").unwrap();
        let mut rows = 1;
        for away in ["", "none", "empty", "rubbish", "file"] {
            match away {
                "" => pair.cut(),
                elsewhere => pair.lead(elsewhere),
            }
            let status = wait_for(&pair.reader, State::Stale);
            assert!(status.note.contains("main.db") || away == "rubbish", "{away}: {status:?}");
            rows += 1;
            pair.insert(rows);
            let old = pair.reader.stale();
            assert_eq!(rows_of(&pair.reader), rows - 1, "{away}: it serves what it has");
            eventually("its age grows", || pair.reader.stale() > old + SHORT);
            pair.lead("real");
            eventually("it catches up by itself", || rows_of(&pair.reader) == rows);
            assert_equal(&pair.writer, &pair.reader);
            assert_eq!(wait_for(&pair.reader, State::Ok).held, 0, "{away}: nothing was undone");
        }
        pair.close();
    }
}

/// A copy on disk is there before its source is. It is as old as its last commit, at the least.
#[test]
fn a_reader_that_starts_without_its_backing_database_serves_its_disk_copy() {
    let pair = Pair::new(WorkingCopy::Disk);
    pair.insert(1);
    assert_equal(&pair.writer, &pair.reader);
    pair.reader.close();
    pair.cut();
    let began = Instant::now();
    let reader = Database::open(pair.reader.options().clone()).unwrap();
    assert_eq!(rows_of(&reader), 1);
    assert_eq!(wait_for(&reader, State::Stale).position, pair.writer.position());
    let stale = reader.stale();
    assert!(stale < began.elapsed() + Duration::from_secs(3600), "it says {stale:?}");
    assert!(stale > Duration::ZERO);
    pair.insert(2);
    pair.lead("real");
    assert_equal(&pair.writer, &reader);
    reader.close();
    pair.writer.close();
}

/// The operating system's disk, on which the backing file cannot be reached for a while.
#[derive(Debug, Default)]
struct Unreachable {
    away: AtomicBool,
    asked: AtomicUsize,
}

impl Disk for Unreachable {
    fn vfs(&self) -> &str {
        NativeDisk.vfs()
    }
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        NativeDisk.read(path)
    }
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        NativeDisk.read_at(path, offset, len)
    }
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        NativeDisk.write_atomic(path, bytes)
    }
    fn identity(&self, path: &Path) -> io::Result<Option<FileId>> {
        if path.ends_with("main.db") && self.away.load(Ordering::SeqCst) {
            self.asked.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        NativeDisk.identity(path)
    }
    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        NativeDisk.len(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        NativeDisk.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        NativeDisk.rename(from, to)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        NativeDisk.create_dir_all(path)
    }
}

/// A full check is long due, and there is nobody to check against: a reason to wait, not to look all
/// the time.
#[test]
fn a_reader_that_may_not_read_its_backing_file_waits_for_it_in_patience() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    ok(&mut writer.session(), &["CREATE TABLE t(id INTEGER PRIMARY KEY)"]);
    let disk = Arc::new(Unreachable::default());
    let reader = Database::open(DatabaseOptions {
        disk: disk.clone(),
        full_every: Duration::from_millis(1),
        ..reader_options(dir.path(), "r")
    });
    let reader = reader.unwrap();
    disk.away.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let status = wait_for(&reader, State::Stale);
    assert!(status.note.contains("permission denied"), "{}", status.note);
    let before = disk.asked.load(Ordering::SeqCst);
    let looks = || disk.asked.load(Ordering::SeqCst) - before;
    eventually("it has looked some more", || looks() >= 10);
    // It looks every 20 ms. More waiting only lets it look less often than that.
    let most = 10 + began.elapsed().as_millis() / 5;
    assert!(looks() as u128 <= most, "{} looks in {:?}", looks(), began.elapsed());
    disk.away.store(false, Ordering::SeqCst);
    assert_equal(&writer, &reader);
    reader.close();
    writer.close();
}

/// `full = "always"`: copies are built and switched to, again and again, under readers and writers.
#[test]
fn a_reader_that_always_rebuilds_stays_equal_and_keeps_serving() {
    for working_copy in BOTH {
        let every = Duration::from_millis(5);
        let pair = Pair::with(working_copy, |options| DatabaseOptions {
            full: FullMode::Always,
            full_every: every,
            ..options
        });
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut seen = 0;
                while !done.load(Ordering::SeqCst) {
                    let now = rows_of(&pair.reader);
                    assert!(now >= seen, "it went from {seen} back to {now}");
                    seen = now;
                }
            });
            let mut id = 0;
            eventually("it was rebuilt ten times", || {
                id += 1;
                pair.insert(id);
                pair.reader.status().healed[3] >= 10
            });
            done.store(true, Ordering::SeqCst);
        });
        assert_equal(&pair.writer, &pair.reader);
        assert_eq!(pair.reader.status().held, 0);
        pair.reader.close();
        let copies = std::fs::read_dir(pair.dir.path().join("r")).unwrap();
        let is_copy = |path: PathBuf| path.extension().is_some_and(|extension| extension == "db");
        let copies = copies.filter(|entry| is_copy(entry.as_ref().unwrap().path())).count();
        let kept = usize::from(working_copy == WorkingCopy::Disk);
        assert_eq!(copies, kept, "{working_copy:?}: old copies are removed");
        pair.close();
    }
}

/// Every sync that finds work starts the clock of the full check anew. Under steady writes it must come
/// all the same: rows that rotted show only there.
#[test]
fn a_reader_of_a_busy_writer_is_recounted_all_the_same() {
    let full_every = Duration::from_millis(200);
    let pair = Pair::with(WorkingCopy::Disk, |o| DatabaseOptions { full_every, ..o });
    pair.insert(1);
    assert_equal(&pair.writer, &pair.reader);
    let copy = std::fs::read_dir(pair.dir.path().join("r")).unwrap();
    let copy = copy.map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "db"));
    let rot = behind_its_back(&NativeDisk, copy.unwrap());
    rot.busy_timeout(LONG).unwrap();
    rot.execute("UPDATE t SET v = 'rotten' WHERE id = 1", []).unwrap();
    drop(rot);
    let mut id = 1;
    eventually("the rot was found, and the copy made anew", || {
        // Each is found by a sync of its own, sooner than `full_every`.
        id += 1;
        let receipt = pair.insert(id);
        eventually("it follows", || {
            pair.reader.wake();
            pair.reader.position().version >= receipt.version
        });
        pair.reader.status().healed[3] == 1
    });
    assert_eq!(pair.reader.status().mismatches, 1);
    assert_equal(&pair.writer, &pair.reader);
    let fresh = select(&mut pair.reader.session(), "SELECT v FROM t WHERE id = 1");
    assert_eq!(fresh, [Value::Text("v1".into())]);
    pair.close();
}

/// A reader that looks into a database without a log makes one. If the main file is replaced then, that
/// log lies beside another file; once the writer has opened it, both belong together.
#[test]
fn a_reader_goes_on_with_a_replaced_file_once_its_writer_has_it() {
    let pair = Pair::with(WorkingCopy::Memory, |options| DatabaseOptions {
        on_restore: OnRestore::Adopt,
        ..options
    });
    let file = |suffix| pair.dir.path().join(format!("real/main.db{suffix}"));
    pair.insert(1);
    pair.back_up(&file("-backup"));
    pair.insert(2);
    assert_equal(&pair.writer, &pair.reader);
    pair.writer.close();
    std::fs::remove_file(file("-wal")).unwrap();
    eventually("the reader made a log", || {
        pair.reader.wake();
        file("-wal").exists()
    });
    std::fs::rename(file("-backup"), file("")).unwrap();
    let note = wait_for(&pair.reader, State::Stale).note;
    assert!(note.contains("BACKING_REPLACED"), "{note}");
    let writer = Database::open(pair.writer.options().clone()).unwrap();
    assert_equal(&writer, &pair.reader);
    assert_eq!((rows_of(&pair.reader), pair.reader.status().held), (1, 1));
    pair.reader.close();
    writer.close();
}

/// The log is kept for readers, but not at any price. One that stayed away longer is given up, and
/// comes back by copying everything.
#[test]
fn a_reader_that_the_log_was_trimmed_past_comes_back_in_full() {
    for working_copy in BOTH {
        let pair = Pair::with(working_copy, |options| DatabaseOptions {
            log_keep_size: 4096,
            mark_every: Duration::from_millis(5),
            ..options
        });
        pair.insert(1);
        assert_equal(&pair.writer, &pair.reader);
        let full = pair.reader.status().healed[3];
        pair.cut();
        wait_for(&pair.reader, State::Stale);
        pair.writer.register_reader("r", pair.reader.position());
        assert!(!pair.writer.status().readers[0].lost);
        let mut id = 1;
        eventually("the writer gives the reader up", || {
            id += 1;
            pair.insert(id);
            pair.writer.status().readers[0].lost
        });
        let old = pair.writer.changes_after(pair.reader.position(), usize::MAX).unwrap_err();
        assert_eq!(old.code(), "COMPACTED");
        // It says again where it stands: that makes it no better.
        pair.writer.register_reader("r", pair.reader.position());
        assert!(pair.writer.status().readers[0].lost);
        pair.lead("real");
        assert_equal(&pair.writer, &pair.reader);
        assert_eq!(pair.reader.status().healed[3], full + 1);
        assert_eq!((rows_of(&pair.reader), pair.reader.status().held), (id, 0));
        pair.writer.register_reader("r", pair.reader.position());
        assert!(!pair.writer.status().readers[0].lost);
        pair.close();
    }
}

/// One whose place is known holds the log back, however old it gets.
#[test]
fn the_log_is_kept_for_a_registered_reader() {
    let pair = Pair::with(WorkingCopy::Memory, |options| DatabaseOptions {
        log_keep_for: Duration::from_millis(1),
        mark_every: Duration::from_millis(5),
        ..options
    });
    pair.insert(1);
    assert_equal(&pair.writer, &pair.reader);
    pair.cut();
    wait_for(&pair.reader, State::Stale);
    // Until it is registered, nothing is kept for it.
    let full = pair.reader.status().healed[3];
    let begin = Position::default();
    let there = pair.reader.position();
    pair.writer.register_reader("r", there);
    let mut id = 1;
    eventually("the log is trimmed", || {
        id += 1;
        pair.insert(id);
        pair.writer.changes_after(begin, 1).is_err()
    });
    let waiting = pair.writer.changes_after(there, usize::MAX).unwrap();
    assert_eq!(waiting.len() as i64, id - 1, "what the reader has to come for is there");
    pair.lead("real");
    assert_equal(&pair.writer, &pair.reader);
    assert_eq!(pair.reader.status().healed[3], full, "nothing was copied in full");
    pair.close();
}
