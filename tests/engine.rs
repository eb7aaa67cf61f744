//! The engine's promises, on real files and real threads.

mod support;

use std::path::Path;
use std::thread;

use support::*;
use syncline::change::{Position, RequestId, Value};
use syncline::engine::{
    Database, DatabaseOptions, Keep, RequestOptions, Role, State, StepOutcome, WorkingCopy,
};
use syncline::error::Error;

#[test]
fn a_reader_follows_its_writer() {
    for working_copy in [WorkingCopy::Disk, WorkingCopy::Memory] {
        let dir = tempfile::tempdir().unwrap();
        let writer =
            Database::open(DatabaseOptions { working_copy, ..options(dir.path()) }).unwrap();
        let mut session = writer.session();
        ok(
            &mut session,
            &["CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 'a')"],
        );
        let memory = Database::open(reader_options(dir.path(), "r1")).unwrap();
        let disk =
            DatabaseOptions { working_copy: WorkingCopy::Disk, ..reader_options(dir.path(), "r2") };
        let disk = Database::open(disk).unwrap();
        ok(&mut session, &["INSERT INTO t VALUES (2, 'b')", "UPDATE t SET v = 'c' WHERE id = 1"]);
        for reader in [&memory, &disk] {
            assert_equal(&writer, reader);
            let mut reads = reader.session();
            let all = vec![Value::Text("c".into()), Value::Text("b".into())];
            assert_eq!(select(&mut reads, "SELECT v FROM t ORDER BY id"), all);
            assert_eq!(run(&mut reads, &["INSERT INTO t VALUES (3, 'x')"]), ["NOT_WRITER"]);
        }
        [memory, disk, writer].iter().for_each(Database::close);
    }
}

#[test]
fn interactive_transactions_see_their_own_writes_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    let (mut one, mut two) = (writer.session(), writer.session());
    ok(&mut one, &["CREATE TABLE t(id INTEGER PRIMARY KEY)"]);
    ok(&mut one, &["BEGIN"]);
    assert_eq!(count(&mut one, "t"), 0);
    ok(&mut one, &["INSERT INTO t VALUES (1)"]);
    assert!(!one.is_autocommit());
    assert_eq!((count(&mut one, "t"), count(&mut two, "t")), (1, 0));
    ok(
        &mut one,
        &["SAVEPOINT s", "INSERT INTO t VALUES (2)", "ROLLBACK TO s", "INSERT INTO t VALUES (3)"],
    );
    ok(&mut one, &["COMMIT"]);
    assert!(one.is_autocommit() && one.receipt().is_some());
    assert_eq!(count(&mut two, "t"), 2);
    ok(&mut one, &["BEGIN IMMEDIATE", "DELETE FROM t"]);
    ok(&mut one, &["ROLLBACK"]);
    assert_eq!(count(&mut two, "t"), 2);
    writer.close();
}

#[test]
fn a_transaction_that_read_before_others_wrote_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    let (mut one, mut two) = (writer.session(), writer.session());
    ok(&mut one, &["CREATE TABLE t(id INTEGER PRIMARY KEY)"]);
    ok(&mut one, &["BEGIN"]);
    assert_eq!(count(&mut one, "t"), 0);
    ok(&mut two, &["INSERT INTO t VALUES (1)"]);
    assert_eq!(run(&mut one, &["INSERT INTO t VALUES (2)"]), ["SQLITE_BUSY"]);
    assert_eq!(count(&mut one, "t"), 0, "its snapshot is kept");
    ok(&mut one, &["ROLLBACK"]);
    ok(&mut one, &["INSERT INTO t VALUES (2)"]);
    assert_eq!(
        run(&mut one, &["BEGIN TRANSACTION READONLY", "DELETE FROM t"]),
        ["SQLITE_READONLY"]
    );
    writer.close();
}

/// The names of savepoints are one name space: a client that took one of the group's own would have the
/// group roll back to the client's.
#[test]
fn savepoints_of_the_groups_own_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    let mut session = writer.session();
    ok(&mut session, &["CREATE TABLE t(id INTEGER PRIMARY KEY)"]);
    for name in ["_syncline_unit", "\"_Syncline_Flush\"", "[_syncline_x]", "syncline_unit"] {
        let savepoint = format!("SAVEPOINT {name}");
        let insert = "INSERT INTO t VALUES (NULL)";
        // As the first word of a write, inside a transaction that writes, and in one that only reads.
        assert_eq!(run(&mut session, &[&savepoint, insert]), ["BLOCKED"], "{name}");
        assert!(session.is_autocommit(), "{name} opened nothing");
        let inside = ["BEGIN", insert, &savepoint, "COMMIT"];
        assert_eq!(run(&mut session, &inside), ["BLOCKED"], "{name}");
        let reading = ["BEGIN", "SELECT 1 FROM t", &savepoint, "COMMIT"];
        assert_eq!(run(&mut session, &reading), ["BLOCKED"], "{name}");
        let release = format!("RELEASE {name}");
        assert_eq!(run(&mut session, &["BEGIN", insert, &release, "COMMIT"]), ["SQLITE_ERROR"]);
    }
    assert_eq!(count(&mut session, "t"), 12);
    assert_proved(&writer, writer.position());
    writer.close();
}

#[test]
fn a_dropped_session_frees_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    let mut one = writer.session();
    ok(&mut one, &["CREATE TABLE t(id)", "BEGIN IMMEDIATE", "INSERT INTO t VALUES (1)"]);
    drop(one);
    let mut two = writer.session();
    ok(&mut two, &["INSERT INTO t VALUES (2)"]);
    assert_eq!(count(&mut two, "t"), 1);
    writer.close();
}

#[test]
fn a_retry_with_the_same_id_has_no_second_effect() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    let mut session = writer.session();
    ok(&mut session, &["CREATE TABLE t(id INTEGER PRIMARY KEY, v)"]);
    let id = RequestId { client: "c".into(), sequence: 1 };
    let options = RequestOptions { request: Some(id), ..RequestOptions::default() };
    let insert = || program(&["INSERT INTO t(v) VALUES (random()) RETURNING v"]);
    let first = wait(session.run(insert(), &options)).unwrap();
    let second = wait(writer.session().run(insert(), &options)).unwrap();
    assert_eq!(first.receipt, second.receipt);
    match (&first.steps[0], &second.steps[0]) {
        (StepOutcome::Done(a), StepOutcome::Done(b)) => {
            assert_eq!((&a.rows, a.last_insert_rowid), (&b.rows, b.last_insert_rowid));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(count(&mut session, "t"), 1);
    writer.close();
}

#[test]
fn a_second_writer_is_refused_and_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    let same_dir = Database::open(options(dir.path())).err().unwrap();
    assert_eq!(same_dir.code(), "HOLDER_ALIVE");
    let other =
        DatabaseOptions { data_dir: dir.path().join("b"), node: "b".into(), ..options(dir.path()) };
    let refused = Database::open(other.clone()).err().unwrap();
    assert_eq!(refused.code(), "HOLDER_ALIVE");
    assert!(refused.message().contains("\"a\""), "{refused}");
    let taken = Database::open(DatabaseOptions { take_over: true, ..other }).unwrap();
    let mut old = writer.session();
    assert_eq!(run(&mut old, &["CREATE TABLE t(id)"]), ["FENCED"]);
    assert_eq!(wait(writer.stopped()).0, 4);
    ok(&mut taken.session(), &["CREATE TABLE t(id)"]);
    taken.close();
    writer.close();
}

#[test]
fn a_reader_is_promoted_when_the_writer_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    ok(&mut writer.session(), &["CREATE TABLE t(id)", "INSERT INTO t VALUES (1)"]);
    let reader = Database::open(reader_options(dir.path(), "r")).unwrap();
    let other = Database::open(reader_options(dir.path(), "s")).unwrap();
    assert_eq!(reader.promote(false).unwrap_err().code(), "HOLDER_ALIVE");
    writer.close();
    let position = reader.promote(false).unwrap();
    assert_eq!(reader.role(), Role::Writer);
    let mut session = reader.session();
    ok(&mut session, &["INSERT INTO t VALUES (2)"]);
    assert_eq!(count(&mut session, "t"), 2);
    assert!(reader.position().version > position.version);
    assert_equal(&reader, &other);
    reader.close();
    other.close();
    let again = Database::open(options(dir.path())).unwrap();
    assert_eq!(count(&mut again.session(), "t"), 2);
    again.close();
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_file(to);
    let source = rusqlite::Connection::open(from).unwrap();
    source.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}

#[test]
fn a_restored_file_stops_the_writer_and_either_side_can_be_kept() {
    for keep in [Keep::Backing, Keep::Node] {
        let dir = tempfile::tempdir().unwrap();
        let writer = Database::open(options(dir.path())).unwrap();
        let mut session = writer.session();
        ok(&mut session, &["CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)"]);
        let reader = Database::open(reader_options(dir.path(), "r")).unwrap();
        let backup = dir.path().join("backup.db");
        copy(&dir.path().join("main.db"), &backup);
        ok(&mut session, &["INSERT INTO t VALUES (2)"]);
        assert_equal(&writer, &reader);
        std::fs::rename(&backup, dir.path().join("main.db")).unwrap();
        assert_eq!(run(&mut session, &["INSERT INTO t VALUES (3)"]), ["RESTORED"]);
        assert_eq!(writer.status().state, State::Restored);
        assert_eq!(count(&mut session, "t"), 2, "reads go on");
        writer.resolve(keep).unwrap();
        ok(&mut session, &["INSERT INTO t VALUES (4)"]);
        assert_eq!(count(&mut session, "t"), if keep == Keep::Node { 3 } else { 2 });
        assert_equal(&writer, &reader);
        if keep == Keep::Backing {
            let held = writer.held_list().unwrap();
            assert_eq!(held.len(), 1, "{held:?}");
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(writer.held_replay(held[0].id)).unwrap();
            assert_eq!(count(&mut session, "t"), 3);
            assert_eq!(writer.held_list().unwrap().len(), 0);
            assert_equal(&writer, &reader);
        }
        reader.close();
        writer.close();
    }
}

#[test]
fn many_writers_share_groups() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Database::open(options(dir.path())).unwrap();
    ok(&mut writer.session(), &["CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)"]);
    thread::scope(|scope| {
        for client in 0..32 {
            let writer = &writer;
            scope.spawn(move || {
                let mut session = writer.session();
                for i in 0..50 {
                    ok(&mut session, &[&format!("INSERT INTO t(v) VALUES ('{client}-{i}')")]);
                    let receipt: Position = session.receipt().unwrap();
                    assert!(writer.position().version >= receipt.version);
                }
            });
        }
    });
    assert_eq!(count(&mut writer.session(), "t"), 1600);
    assert!(writer.verify(syncline::engine::VerifyMode::Report).unwrap().equal);
    writer.close();
}

#[test]
fn errors_say_what_to_do_next() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Database::open(reader_options(dir.path(), "r")).unwrap();
    assert_eq!(missing.status().state, State::Loading);
    let error: Error =
        wait(missing.session().run(program(&["SELECT 1"]), &RequestOptions::default()))
            .unwrap_err();
    assert_eq!(error.code(), "NOT_READY");
    assert!(!error.hint_text().is_empty());
    missing.close();
}
