//! A database that was put back from a backup while its writer was down, or that was not decided before it
//! went down: all there is to go by at the start is what the node kept outside the database.

mod support;

use std::time::Duration;

use support::world::*;
use support::*;
use syncline::acknowledge::Level;
use syncline::engine::{
    Database, DatabaseOptions, Keep, OnRestore, RequestOptions, State, WorkingCopy,
};

use syncline::store::vfs::MemoryDisk;

/// The backup takes the file's place while the writer is down, with and without the old log beside it.
#[test]
fn a_restore_while_the_writer_is_down_is_noticed_at_its_start() {
    for working_copy in [WorkingCopy::Disk, WorkingCopy::Memory] {
        for how in [How::Rename, How::BackupApi, How::CopyOver] {
            for (killed, with_log) in [(false, true), (true, true), (true, false)] {
                println!("{working_copy:?} {how:?} killed: {killed} with its log: {with_log}");
                down_and_restored(working_copy, how, killed, with_log);
            }
        }
    }
}

fn down_and_restored(working_copy: WorkingCopy, how: How, killed: bool, with_log: bool) {
    let world = World::new(working_copy);
    world.wait_for_the_mark();
    let disk = match killed {
        true => world.disk.kill(),
        false => world.disk.clone(),
    };
    world.writer.close();
    world.readers.iter().for_each(Database::close);
    if !with_log {
        remove_log(&disk);
    }
    restore(&disk, how, &world.backup);
    let writer = Database::open(DatabaseOptions { working_copy, ..writer_on(&disk, "a") }).unwrap();
    let status = writer.status();
    assert_eq!(status.state, State::Restored, "{}", status.note);
    assert!(status.note.contains("while this node was down"), "{}", status.note);
    assert_eq!(ids(&writer), [1], "reads go on");
    assert_eq!(refused(&writer), "RESTORED");
    assert_eq!(writer.resolve(Keep::Node).unwrap_err().code(), "NO_NODE_COPY");
    writer.resolve(Keep::Backing).unwrap();
    insert(&writer, 10);
    assert_proved(&writer, writer.position());
    assert_eq!(integrity(&disk, MAIN), "ok");
    // The reader on disk comes back with rows 2 and 3.
    let reader = open_reader(&disk, "s", WorkingCopy::Disk);
    assert_equal(&writer, &reader);
    replay_all(&reader, &writer);
    assert_eq!(ids(&writer), [1, 2, 3, 10]);
    assert_equal(&writer, &reader);
    reader.close();
    writer.close();
}

/// The same while the first writer was down: by position alone nothing is wrong.
#[test]
fn a_restored_and_continued_database_is_noticed_at_the_start() {
    let world = World::new(WorkingCopy::Disk);
    world.writer.close();
    remove_log(&world.disk);
    world.restore(How::Rename);
    let other = DatabaseOptions { take_over: true, ..writer_on(&world.disk, "b") };
    let other = Database::open(other).unwrap();
    insert(&other, 102);
    insert(&other, 103);
    insert(&other, 104);
    other.close();
    let writer = Database::open(writer_on(&world.disk, "a")).unwrap();
    assert_eq!(writer.status().state, State::Restored);
    assert_eq!(refused(&writer), "RESTORED");
    writer.resolve(Keep::Backing).unwrap();
    assert_eq!(ids(&writer), [1, 102, 103, 104]);
    for reader in &world.readers {
        assert_equal(&writer, reader);
        assert_eq!(reader.status().held, 2);
        reader.close();
    }
    writer.close();
}

/// Nobody decides before the process is restarted: the node's copy was set aside and can still be kept.
#[test]
fn the_nodes_copy_can_still_be_kept_after_a_restart() {
    for (working_copy, acknowledge) in [
        (WorkingCopy::Disk, Level::Disk),
        (WorkingCopy::Memory, Level::Disk),
        (WorkingCopy::Memory, Level::Memory),
    ] {
        for keep in [Keep::Node, Keep::Backing] {
            println!("{working_copy:?} {acknowledge} {keep:?}");
            let change = |o| DatabaseOptions { working_copy, acknowledge, ..o };
            let world = World::with(change);
            world.wait_for_the_mark();
            world.restore(How::Rename);
            eventually("it notices", || refused(&world.writer) == "RESTORED");
            let disk = world.disk.kill();
            world.readers.iter().for_each(Database::close);
            world.writer.close();
            let writer = Database::open(change(writer_on(&disk, "a"))).unwrap();
            assert_eq!(writer.status().state, State::Restored);
            writer.resolve(keep).unwrap();
            insert(&writer, 10);
            if keep == Keep::Backing {
                assert_eq!(ids(&writer), [1, 10]);
                replay_all(&writer, &writer);
            }
            assert_eq!(ids(&writer), [1, 2, 3, 10]);
            let reader = open_reader(&disk, "s", WorkingCopy::Disk);
            assert_equal(&writer, &reader);
            reader.close();
            writer.close();
        }
    }
}

/// What happens every day is no restore: kill -9, an orderly end, checkpoints, and moving the directory
/// of a database that was closed.
#[test]
fn ordinary_days_raise_no_alarm() {
    for (working_copy, acknowledge) in [
        (WorkingCopy::Disk, Level::Disk),
        (WorkingCopy::Disk, Level::Memory),
        (WorkingCopy::Memory, Level::Memory),
    ] {
        let mut disk = MemoryDisk::new();
        let mut chance = Chance::new(7);
        for day in 0..40 {
            let options = DatabaseOptions {
                working_copy,
                acknowledge,
                checkpoint_at: 32 << 10,
                mark_every: Duration::from_millis(5),
                ..writer_on(&disk, "a")
            };
            let database = Database::open(options).unwrap();
            let status = database.status();
            assert_eq!(status.state, State::Ok, "day {day}: {}", status.note);
            let mut session = database.session();
            ok(&mut session, &["CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, fill)"]);
            for _ in 0..chance.below(40) {
                ok(&mut session, &["INSERT INTO t (fill) VALUES (randomblob(1000))"]);
            }
            let killed = chance.below(2) == 0;
            if killed {
                disk = disk.kill();
            }
            database.close();
            if !killed && chance.below(2) == 0 {
                // Copied elsewhere and back, say: other files, the same content.
                let bytes = disk.snapshot(MAIN);
                disk.replace(MAIN, &bytes);
            }
        }
    }
}

/// The process that noticed the restore died undecided, and the right file was put back. What the writer
/// had acknowledged from memory is only in the copy it set aside: it must not go with that.
#[test]
fn what_only_a_copy_set_aside_has_is_held_when_the_right_file_is_back() {
    let change = |options| DatabaseOptions {
        working_copy: WorkingCopy::Memory,
        acknowledge: Level::Memory,
        flush_every: Duration::from_secs(3600),
        mark_every: Duration::from_secs(3600),
        ..options
    };
    let disk = MemoryDisk::new();
    let writer = Database::open(change(writer_on(&disk, "a"))).unwrap();
    let on_disk = RequestOptions { acknowledge: Some(Level::Disk), ..Default::default() };
    let create = ["CREATE TABLE t (id INTEGER PRIMARY KEY, fill)"];
    assert_eq!(run_with(&mut writer.session(), &create, &on_disk), [""; 0]);
    let right = disk.snapshot(MAIN);
    let log = disk.snapshot("/main.db-wal");
    insert(&writer, 1);
    disk.replace(MAIN, b"");
    assert_eq!(refused(&writer), "RESTORED");
    let disk = disk.kill();
    writer.close();
    disk.replace(MAIN, &right);
    disk.replace("/main.db-wal", &log);
    let writer = Database::open(writer_on(&disk, "a")).unwrap();
    assert_eq!(writer.status().state, State::Ok, "{}", writer.status().note);
    assert_eq!(ids(&writer), [0i64; 0]);
    assert_eq!(writer.status().held, 1);
    replay_all(&writer, &writer);
    assert_eq!(ids(&writer), [1]);
    writer.close();
}

/// A restore is adopted, and the process dies before it could: the next one does it.
#[test]
fn adopting_after_a_restart_holds_what_the_node_had() {
    let world = World::new(WorkingCopy::Disk);
    world.wait_for_the_mark();
    world.restore(How::Rename);
    assert_eq!(refused(&world.writer), "RESTORED");
    let disk = world.disk.kill();
    world.readers.iter().for_each(Database::close);
    world.writer.close();
    let adopt = DatabaseOptions { on_restore: OnRestore::Adopt, ..writer_on(&disk, "a") };
    let writer = Database::open(adopt).unwrap();
    assert_eq!(writer.status().state, State::Ok);
    assert_eq!(ids(&writer), [1]);
    assert_eq!(writer.status().held, 2);
    replay_all(&writer, &writer);
    assert_eq!(ids(&writer), [1, 2, 3]);
    writer.close();
}

/// Another writer went on from the backup and was killed: what it wrote is in *its* log. That log lies
/// beside another file than ours did, and still it must not be taken for ours.
#[test]
fn the_log_of_a_writer_that_went_on_from_the_backup_is_kept() {
    let world = World::new(WorkingCopy::Disk);
    world.wait_for_the_mark();
    world.writer.close();
    world.readers.iter().for_each(Database::close);
    remove_log(&world.disk);
    world.restore(How::Rename);
    let other = DatabaseOptions { take_over: true, ..writer_on(&world.disk, "b") };
    let other = Database::open(other).unwrap();
    insert(&other, 102);
    let refused = Database::open(writer_on(&world.disk, "a")).err().unwrap();
    assert_eq!(refused.code(), "HOLDER_ALIVE", "it is alive, and named: {refused}");
    insert(&other, 103);
    let disk = world.disk.kill();
    other.close();
    let options = DatabaseOptions { take_over: true, ..writer_on(&disk, "a") };
    let writer = Database::open(options).unwrap();
    assert_eq!(writer.status().state, State::Restored);
    writer.resolve(Keep::Backing).unwrap();
    assert_eq!(ids(&writer), [1, 102, 103]);
    assert_eq!(integrity(&disk, MAIN), "ok");
    writer.close();
}
