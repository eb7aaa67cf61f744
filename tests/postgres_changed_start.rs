//! A writer starts over a PostgreSQL whose rows others have changed.
#![cfg(feature = "postgres")]

#[path = "support/changed_rows.rs"]
mod changed_rows;
#[path = "support/on_postgres.rs"]
mod on_postgres;
#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::time::Duration;

use changed_rows::{OTHERS, ROWS, SCHEMA, TABLES, all_equal, as_stored, disk_reader};
use on_postgres::{name_in, reader_options, writer_options};
use postgres::Server;
use support::{assert_equal, count, eventually, number, ok, run};
use syncline::engine::{Database, DatabaseOptions, Keep, State, VerifyMode, WorkingCopy};

/// A writer that has no copy of the old rows serves what is there, and writes nothing.
#[test]
fn a_writer_in_memory_starts_over_changed_rows() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let options = writer_options(&url, dir.path(), "a");
    let a = Database::open(options.clone()).unwrap();
    ok(&mut a.session(), &SCHEMA);
    ok(&mut a.session(), &ROWS);
    let memory = Database::open(reader_options(&url, dir.path(), "memory")).unwrap();
    let disk = disk_reader(&url, dir.path(), "disk");
    all_equal(server, &url, &a, &[&memory, &disk], &TABLES);
    a.close();
    server.sql(name_in(&url), OTHERS);
    let stored = as_stored(server, &url);

    let a = Database::open(options.clone()).unwrap();
    let mut session = a.session();
    assert_eq!(a.status().state, State::SourceDamaged);
    assert!(a.status().note.contains("t"), "{}", a.status().note);
    assert_eq!(number(&mut session, "SELECT id FROM t WHERE name = 'theirs'"), 9, "reads go on");
    assert_eq!(run(&mut session, &["INSERT INTO untouched VALUES (7)"]), ["SOURCE_DAMAGED"]);
    let report = a.verify(VerifyMode::Report).unwrap();
    assert!(!report.equal && report.findings.len() == 3, "{report:?}");
    assert_eq!(a.verify(VerifyMode::Repair).unwrap_err().code(), "REPAIR_IMPOSSIBLE");
    assert_eq!(as_stored(server, &url), stored, "wrong rows are not written over anything");
    let new = Database::open(reader_options(&url, dir.path(), "new")).unwrap();
    assert_eq!(new.status().state, State::SourceDamaged);
    eventually("those that have a copy go on", || {
        [&memory, &disk].iter().all(|reader| reader.status().state == State::Ok)
    });
    assert_eq!(count(&mut memory.session(), "t"), 3);

    // The rows that count are those that are there now, not those of the start.
    server
        .sql(name_in(&url), "DELETE FROM counted WHERE id = 100; INSERT INTO untouched VALUES (2)");
    let stored = as_stored(server, &url);
    assert!(a.verify(VerifyMode::Adopt).unwrap().equal);
    assert_eq!(as_stored(server, &url), stored);
    assert_eq!(a.status().state, State::Ok);
    ok(&mut session, &["INSERT INTO untouched VALUES (7)", "DELETE FROM t WHERE id = 9"]);
    all_equal(server, &url, &a, &[&memory, &disk, &new], &TABLES);
    a.close();
    let a = Database::open(options).unwrap();
    assert_eq!(a.status().state, State::Ok);
    all_equal(server, &url, &a, &[&memory, &disk, &new], &TABLES);
    [memory, disk, new, a].iter().for_each(Database::close);
}

/// It keeps its epoch meanwhile, and goes on by itself, or when it is asked, once the rows are back.
#[test]
fn rows_that_are_put_back_end_it() {
    let Some(server) = Server::get() else { return };
    for check_every in [Duration::from_millis(300), Duration::from_secs(3600)] {
        let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
        let lease = Duration::from_secs(2);
        let mark_every = Duration::from_millis(200);
        let options = writer_options(&url, dir.path(), "a");
        let options = DatabaseOptions { check_every, lease, mark_every, ..options };
        let a = Database::open(options.clone()).unwrap();
        ok(&mut a.session(), &SCHEMA);
        ok(&mut a.session(), &ROWS);
        a.close();
        server.sql(name_in(&url), "UPDATE t SET price = 9 WHERE id = 1");
        let a = Database::open(options.clone()).unwrap();
        std::thread::sleep(lease * 2);
        assert_eq!(a.status().state, State::SourceDamaged);
        let other =
            Database::open(writer_options(&url, dir.path(), "b")).err().expect("it is held");
        assert_eq!(other.code(), "HOLDER_ALIVE");
        server.sql(name_in(&url), "UPDATE t SET price = 1.5 WHERE id = 1");
        if check_every < lease {
            eventually("it looks by itself", || a.status().state == State::Ok);
        } else {
            assert_eq!(a.status().state, State::SourceDamaged);
        }
        assert!(a.verify(VerifyMode::Report).unwrap().equal);
        assert_eq!(a.status().state, State::Ok);
        ok(&mut a.session(), &["UPDATE t SET price = 2 WHERE id = 1"]);
        assert_eq!(server.sql(name_in(&url), "SELECT price FROM t WHERE id = 1"), "2.00\n");
        all_equal(server, &url, &a, &[], &TABLES);
        a.close();
    }
}

/// The server goes away and comes back: rows that were wrong before still are.
#[test]
fn an_outage_does_not_make_the_rows_right() {
    let Some(server) = Server::own() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let lease = Duration::from_secs(1);
    let options = DatabaseOptions { lease, ..writer_options(&url, dir.path(), "a") };
    let a = Database::open(options.clone()).unwrap();
    ok(&mut a.session(), &SCHEMA);
    ok(&mut a.session(), &ROWS);
    a.close();
    server.sql(name_in(&url), OTHERS);
    let a = Database::open(options).unwrap();
    server.order("stop");
    eventually("it notices", || a.status().state == State::Stale);
    server.order("start");
    eventually("it is back", || a.status().state == State::SourceDamaged);
    assert_eq!(run(&mut a.session(), &["INSERT INTO untouched VALUES (7)"]), ["SOURCE_DAMAGED"]);
    assert!(a.verify(VerifyMode::Adopt).unwrap().equal);
    all_equal(&server, &url, &a, &[], &TABLES);
    a.close();
}

/// It has the old rows, so it starts as if it had gone on running.
#[test]
fn a_writer_on_disk_starts_with_its_own_copy() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let options = writer_options(&url, dir.path(), "a");
    let options = DatabaseOptions { working_copy: WorkingCopy::Disk, ..options };
    // It was filled once; from then on it lies in the data directory.
    let a = Database::open(options.clone()).unwrap();
    ok(&mut a.session(), &SCHEMA);
    ok(&mut a.session(), &ROWS);
    a.close();
    Database::open(options.clone()).unwrap().close();
    let b = disk_reader(&url, dir.path(), "b");
    server.sql(name_in(&url), OTHERS);
    let a = Database::open(options.clone()).unwrap();
    let mut session = a.session();
    assert_eq!(a.status().state, State::Ok);
    assert_eq!(count(&mut session, "t"), 3, "its own rows");
    ok(&mut session, &["INSERT INTO untouched VALUES (7)", "UPDATE t SET price = 4 WHERE id = 3"]);
    assert_eq!(run(&mut session, &["UPDATE t SET price = 4 WHERE id = 1"]), ["BACKING_DIFFERS"]);
    assert!(!a.verify(VerifyMode::Report).unwrap().equal);
    assert!(a.verify(VerifyMode::Adopt).unwrap().equal);
    ok(&mut session, &["UPDATE t SET price = 4 WHERE id = 1"]);
    all_equal(server, &url, &a, &[&b], &TABLES);
    a.close();
    let a = Database::open(options).unwrap();
    all_equal(server, &url, &a, &[&b], &TABLES);
    [a, b].iter().for_each(Database::close);
}

/// Of this copy and the server, the server counts: also if it is this copy that is wrong.
#[test]
fn a_wrong_copy_is_never_adopted() {
    let Some(server) = Server::get() else { return };
    for others_wrote in [false, true] {
        let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
        let options = writer_options(&url, dir.path(), "a");
        let options = DatabaseOptions { working_copy: WorkingCopy::Disk, ..options };
        let a = Database::open(options.clone()).unwrap();
        ok(&mut a.session(), &SCHEMA);
        ok(&mut a.session(), &ROWS);
        a.close();
        let copy = std::fs::read_dir(dir.path().join("a")).unwrap().flatten().map(|e| e.path());
        let copy =
            copy.into_iter().find(|path| path.extension().is_some_and(|e| e == "db")).unwrap();
        let rot = rusqlite::Connection::open(copy).unwrap();
        rot.execute_batch("UPDATE t SET price = 77").unwrap();
        drop(rot);
        let b = disk_reader(&url, dir.path(), "b");
        if others_wrote {
            server.sql(name_in(&url), OTHERS);
        }
        let a = Database::open(options).unwrap();
        assert!(a.verify(VerifyMode::Adopt).unwrap().equal);
        assert_eq!(a.status().state, State::Ok);
        assert_eq!(number(&mut a.session(), "SELECT count(*) FROM t WHERE price = 77"), 0);
        ok(&mut a.session(), &["UPDATE t SET price = 4 WHERE id = 1"]);
        all_equal(server, &url, &a, &[&b], &TABLES);
        [a, b].iter().for_each(Database::close);
    }
}

/// Without a copy that can hold them there is nothing to serve: it says what to put right.
#[test]
fn a_writer_does_not_start_over_rows_that_it_cannot_hold() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let options = writer_options(&url, dir.path(), "a");
    let a = Database::open(options.clone()).unwrap();
    ok(&mut a.session(), &SCHEMA);
    ok(&mut a.session(), &["CREATE UNIQUE INDEX t_lower ON t (lower(name))"]);
    ok(&mut a.session(), &ROWS);
    a.close();
    server.sql(name_in(&url), "INSERT INTO t VALUES (7, 'ONE', 1)");
    let refused = Database::open(options.clone()).err().expect("rows break an index");
    assert_eq!(refused.code(), "ROWS_INVALID", "{refused}");
    assert!(refused.message().contains("t_lower"), "{refused}");
    server.sql(name_in(&url), "DELETE FROM t WHERE id = 7");
    let a = Database::open(options).unwrap();
    all_equal(server, &url, &a, &[], &TABLES);
    a.close();
}

/// A dump is put back, and rows are changed in it, before the writer starts.
#[test]
fn a_restored_dump_with_changed_rows_is_decided_first() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let options = writer_options(&url, dir.path(), "a");
    let a = Database::open(options.clone()).unwrap();
    ok(&mut a.session(), &SCHEMA);
    ok(&mut a.session(), &ROWS);
    let dump = server.dump(name_in(&url));
    ok(&mut a.session(), &["INSERT INTO untouched VALUES (2)"]);
    a.close();
    server.restore(name_in(&url), &dump);
    server.sql(name_in(&url), OTHERS);
    let a = Database::open(options).unwrap();
    assert_eq!(a.status().state, State::Restored);
    assert_eq!(count(&mut a.session(), "t"), 3);
    a.resolve(Keep::Backing).unwrap();
    assert_eq!(a.status().state, State::SourceDamaged);
    assert_eq!(run(&mut a.session(), &["INSERT INTO untouched VALUES (3)"]), ["SOURCE_DAMAGED"]);
    assert!(a.verify(VerifyMode::Adopt).unwrap().equal);
    ok(&mut a.session(), &["INSERT INTO untouched VALUES (3)"]);
    all_equal(server, &url, &a, &[], &TABLES);
    a.close();
}

/// Whoever has the old rows can write them back.
#[test]
fn a_reader_with_the_old_rows_repairs() {
    let Some(server) = Server::get() else { return };
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let options = writer_options(&url, dir.path(), "a");
    let a = Database::open(options.clone()).unwrap();
    ok(&mut a.session(), &SCHEMA);
    ok(&mut a.session(), &ROWS);
    let b = Database::open(reader_options(&url, dir.path(), "b")).unwrap();
    assert_equal(&a, &b);
    a.close();
    let old = "SELECT * FROM t ORDER BY id";
    let before = server.sql(name_in(&url), old);
    server.sql(name_in(&url), OTHERS);
    let a = Database::open(options.clone()).unwrap();
    assert_eq!(a.status().state, State::SourceDamaged);
    a.close();
    b.promote(false).unwrap();
    assert_eq!(count(&mut b.session(), "t"), 3);
    assert!(b.verify(VerifyMode::Repair).unwrap().equal);
    assert_eq!(server.sql(name_in(&url), old), before);
    b.close();
    let a = Database::open(options).unwrap();
    assert_eq!(a.status().state, State::Ok);
    all_equal(server, &url, &a, &[], &TABLES);
    a.close();
}
