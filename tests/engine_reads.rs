//! What a read sees: whole commits, however large, and what it may ask of a copy.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use support::pair::{Pair, wait_for};
use support::*;
use syncline::change::Value;
use syncline::engine::{
    Database, DatabaseOptions, OnRestore, ReadOptions, RequestOptions, State, StepOutcome,
    WorkingCopy,
};

/// Watches a table while `work` runs: it may show nothing of a commit, or all of it.
fn all_or_nothing(reader: &Database, counts: [i64; 2], work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut handle = reader.reader().unwrap();
            while !done.load(Ordering::SeqCst) {
                let mut seen = None;
                let sql = "SELECT count(*) FROM t WHERE v IS NOT NULL";
                handle
                    .query(sql, &[], |row| {
                        seen = Some(row.get(0)?.to_owned());
                        Ok(())
                    })
                    .unwrap();
                let is_whole = counts.map(|n| Some(Value::Integer(n))).contains(&seen);
                assert!(is_whole, "half a commit: {seen:?}");
            }
        });
        work();
        done.store(true, Ordering::SeqCst);
    });
}

/// One commit with `rows` rows of `bytes` random bytes each.
fn large_commit(pair: &Pair, rows: usize, bytes: usize) {
    let sql = format!(
        "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT {rows}) \
         SELECT n, randomblob({bytes}) FROM c"
    );
    let begin = pair.writer.position();
    all_or_nothing(&pair.reader, [0, rows as i64], || {
        ok(&mut pair.writer.session(), &[&sql]);
        assert_equal(&pair.writer, &pair.reader);
    });
    for database in [&pair.writer, &pair.reader] {
        let commits = database.changes_after(begin, 1).unwrap();
        let (mut parts, mut whole) = (0, 0);
        let counted = database.commit_body(&commits[0], &mut |part| {
            parts += 1;
            whole += part.len();
            Ok(())
        });
        counted.unwrap();
        assert!(parts > 1 || rows == 1, "{rows} rows in one part");
        assert!(whole > rows * bytes, "{whole} bytes");
    }
    all_or_nothing(&pair.reader, [rows as i64, 0], || {
        ok(&mut pair.writer.session(), &["DELETE FROM t"]);
        assert_equal(&pair.writer, &pair.reader);
    });
}

#[test]
fn a_commit_in_parts_shows_at_once_or_not_at_all() {
    for working_copy in [WorkingCopy::Memory, WorkingCopy::Disk] {
        let pair = Pair::new(working_copy);
        large_commit(&pair, 12, 300_000);
        // One row that is larger than a part.
        large_commit(&pair, 1, 5 << 20);
        pair.close();
    }
}

/// Beyond 64 MiB the changes wait in a file for their commit.
#[test]
#[ignore = "takes long without optimization: ./test runs it"]
fn a_commit_that_does_not_fit_in_memory_shows_at_once_or_not_at_all() {
    for working_copy in [WorkingCopy::Memory, WorkingCopy::Disk] {
        let pair = Pair::new(working_copy);
        large_commit(&pair, 90, 1_000_000);
        pair.close();
    }
}

fn reading(read: &str, within: Duration) -> RequestOptions {
    RequestOptions {
        read: read.parse::<ReadOptions>().unwrap(),
        timeout: Some(within),
        ..RequestOptions::default()
    }
}

/// Reads under `options`: how many rows, or the error's code. `after` needs a runtime's clock.
fn try_count(database: &Database, options: &RequestOptions) -> Result<Value, String> {
    let mut session = database.session();
    let read = session.run(program(&["SELECT count(*) FROM t"]), options);
    let outcome = block_on(read).map_err(|error| error.code().to_owned())?;
    match outcome.steps.into_iter().next() {
        Some(StepOutcome::Done(result)) => Ok(result.rows[0][0].clone()),
        other => panic!("{other:?}"),
    }
}

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn a_read_may_refuse_a_copy_that_is_too_old() {
    let pair = Pair::new(WorkingCopy::Memory);
    assert_equal(&pair.writer, &pair.reader);
    let fresh = reading("max-stale=1h", LONG);
    assert_eq!(try_count(&pair.reader, &fresh), Ok(Value::Integer(0)));
    pair.cut();
    wait_for(&pair.reader, State::Stale);
    let strict = reading("max-stale=50ms", LONG);
    eventually("it is too old", || try_count(&pair.reader, &strict) == Err("STALE".into()));
    assert_eq!(try_count(&pair.reader, &fresh), Ok(Value::Integer(0)), "old enough for some");
    assert_eq!(try_count(&pair.writer, &strict), Ok(Value::Integer(0)), "a writer is never old");
    pair.lead("real");
    eventually("it is fresh again", || {
        pair.reader.wake();
        try_count(&pair.reader, &strict).is_ok()
    });
    pair.close();
}

#[test]
fn a_read_after_a_receipt_waits_for_it() {
    let pair = Pair::new(WorkingCopy::Memory);
    assert_equal(&pair.writer, &pair.reader);
    pair.cut();
    wait_for(&pair.reader, State::Stale);
    let receipt = pair.insert(1);
    let after = format!("after={receipt}");
    let late = reading(&after, SHORT);
    assert_eq!(try_count(&pair.reader, &late), Err("BEHIND".into()));
    assert_eq!(try_count(&pair.reader, &reading("any", LONG)), Ok(Value::Integer(0)));
    thread::scope(|scope| {
        let waits = scope.spawn(|| try_count(&pair.reader, &reading(&after, LONG)));
        pair.lead("real");
        assert_eq!(waits.join().unwrap(), Ok(Value::Integer(1)));
    });
    // Where it is reached already, nothing is waited for.
    assert_eq!(try_count(&pair.writer, &late), Ok(Value::Integer(1)));
    pair.close();
}

/// A receipt of a history that ended: whether the copy has gone on beyond it or will never get there, it
/// must not be waited for, and nothing older must be shown in its place.
#[test]
fn a_read_after_an_undone_receipt_is_told_so() {
    let pair = Pair::with(WorkingCopy::Memory, |options| DatabaseOptions {
        on_restore: OnRestore::Adopt,
        ..options
    });
    pair.insert(1);
    let (file, backup) =
        (pair.dir.path().join("real/main.db"), pair.dir.path().join("real/backup.db"));
    pair.back_up(&backup);
    let undone = [pair.insert(2), pair.insert(3)];
    assert_equal(&pair.writer, &pair.reader);
    pair.writer.close();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(pair.dir.path().join(format!("real/main.db{suffix}")));
    }
    std::fs::rename(&backup, &file).unwrap();
    let writer = Database::open(pair.writer.options().clone()).unwrap();
    ok(&mut writer.session(), &["INSERT INTO t VALUES (20, 'x')"]);
    assert_equal(&writer, &pair.reader);
    assert_eq!(undone[0].version, writer.position().version, "one is passed, one never reached");
    for receipt in undone {
        for database in [&writer, &pair.reader] {
            let read = try_count(database, &reading(&format!("after={receipt}"), LONG));
            assert_eq!(read, Err("UNDONE".into()), "{receipt}");
        }
    }
    pair.reader.close();
    writer.close();
}

/// A linearizable read is the writer's business, and only as long as it is the writer.
#[test]
fn a_linearizable_read_is_answered_by_the_writer_alone() {
    let pair = Pair::new(WorkingCopy::Memory);
    pair.insert(1);
    let linearizable = reading("linearizable", LONG);
    assert_eq!(try_count(&pair.writer, &linearizable), Ok(Value::Integer(1)));
    assert_eq!(try_count(&pair.reader, &linearizable), Err("NOT_WRITER".into()));
    assert_eq!(try_count(&pair.reader, &reading("writer", LONG)), Err("NOT_WRITER".into()));
    let other = DatabaseOptions {
        node: "b".into(),
        data_dir: pair.dir.path().join("b"),
        take_over: true,
        ..pair.writer.options().clone()
    };
    let other = Database::open(other).unwrap();
    ok(&mut other.session(), &["INSERT INTO t VALUES (2, 'x')"]);
    assert_eq!(try_count(&pair.writer, &linearizable), Err("FENCED".into()));
    assert_eq!(try_count(&other, &linearizable), Ok(Value::Integer(2)));
    pair.close();
    other.close();
}
