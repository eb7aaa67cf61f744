//! A database that is put back from a backup under a running writer: the commonest way to lose data
//! silently, because the restore puts back its own evidence.
//!
//! In each test a backup is taken when the table has row 1, rows 2 and 3 are written and seen by the
//! readers, and then the backup is put in place, in all the ways that people do that. The writer must
//! stop writing and say why, reads must go on, either side can be kept where both exist, every reader
//! ends equal to the writer, and what was undone is held and can be brought back.

mod support;

use std::path::Path;
use std::time::Duration;

use support::world::*;
use support::*;
use syncline::acknowledge::Level;
use syncline::engine::{
    Database, DatabaseOptions, Keep, OnRestore, RequestOptions, State, WorkingCopy,
};
use syncline::store::disk::Disk;
use syncline::store::vfs::MemoryDisk;

/// The backup takes the file's place under a running writer.
#[test]
fn a_restore_under_a_running_writer_stops_it_and_is_decided() {
    for working_copy in [WorkingCopy::Disk, WorkingCopy::Memory] {
        for how in [How::Rename, How::BackupApi] {
            for keep in [Keep::Backing, Keep::Node] {
                println!("{working_copy:?} {how:?} {keep:?}");
                let world = World::new(working_copy);
                world.restore(how);
                assert_eq!(refused(&world.writer), "RESTORED");
                let status = world.writer.status();
                assert_eq!(status.state, State::Restored);
                assert!(!status.note.is_empty());
                let overwritten = working_copy == WorkingCopy::Disk && how == How::BackupApi;
                let seen = if overwritten { vec![1] } else { vec![1, 2, 3] };
                assert_eq!(ids(&world.writer), seen, "reads go on");
                decide(&world, keep, overwritten);
                world.close();
            }
        }
    }
}

fn decide(world: &World, keep: Keep, overwritten: bool) {
    let kept = match (keep, overwritten) {
        (Keep::Node, true) => {
            let error = world.writer.resolve(Keep::Node).unwrap_err();
            assert_eq!(error.code(), "NO_NODE_COPY");
            assert!(error.hint_text().contains("held"), "{error}");
            assert_eq!(refused(&world.writer), "RESTORED");
            Keep::Backing
        }
        (keep, _) => keep,
    };
    world.writer.resolve(kept).unwrap();
    let twice = world.writer.resolve(kept).unwrap_err();
    assert_eq!(twice.code(), "NOTHING_TO_RESOLVE");
    world.insert(10);
    world.all_end_equal();
    if kept == Keep::Node {
        assert_eq!(ids(&world.writer), [1, 2, 3, 10]);
        return;
    }
    assert_eq!(ids(&world.writer), [1, 10]);
    for reader in &world.readers {
        assert_eq!(reader.status().held, 2, "what a reader undoes, it holds");
    }
    let holder = if overwritten { &world.readers[0] } else { &world.writer };
    assert_eq!(holder.held_list().unwrap().len(), 2);
    replay_all(holder, &world.writer);
    assert_eq!(ids(&world.writer), [1, 2, 3, 10]);
}

/// The backup was put in place and another writer went on from it: the version is the same again, the
/// content is not. The first writer comes by, still running.
#[test]
fn a_restored_and_continued_database_is_not_taken_for_ones_own() {
    for (working_copy, keep) in [
        (WorkingCopy::Disk, Keep::Backing),
        (WorkingCopy::Disk, Keep::Node),
        (WorkingCopy::Memory, Keep::Backing),
        (WorkingCopy::Memory, Keep::Node),
    ] {
        println!("{working_copy:?} {keep:?}");
        let world = World::new(working_copy);
        remove_log(&world.disk);
        world.restore(How::Rename);
        let other = DatabaseOptions { take_over: true, ..writer_on(&world.disk, "b") };
        let other = Database::open(other).unwrap();
        insert(&other, 102);
        insert(&other, 103);
        assert_eq!(other.position().version, world.writer.position().version);
        assert_eq!(refused(&world.writer), "RESTORED");
        world.writer.resolve(keep).unwrap();
        // Of the other writer's file this was a takeover, or a restore in its turn.
        let code = if keep == Keep::Node { "RESTORED" } else { "FENCED" };
        assert_eq!(refused(&other), code);
        other.close();
        world.insert(10);
        world.all_end_equal();
        let kept = if keep == Keep::Node { [1, 2, 3, 10] } else { [1, 10, 102, 103] };
        assert_eq!(ids(&world.writer), kept);
        assert_eq!(world.writer.status().held, 2, "what the other side had");
        replay_all(&world.writer, &world.writer);
        assert_eq!(ids(&world.writer), [1, 2, 3, 10, 102, 103]);
        world.close();
    }
}

/// The old writer of a database that another one took over *without* a restore is fenced, not restored:
/// everything it wrote is still there.
#[test]
fn an_overtaken_writer_is_not_told_of_a_restore() {
    let world = World::new(WorkingCopy::Disk);
    let other = DatabaseOptions { take_over: true, ..writer_on(&world.disk, "b") };
    let other = Database::open(other).unwrap();
    insert(&other, 4);
    assert_eq!(refused(&world.writer), "FENCED");
    assert_eq!(world.writer.status().state, State::Fenced);
    assert_eq!(ids(&other), [1, 2, 3, 4]);
    world.readers.iter().for_each(|reader| {
        assert_equal(&other, reader);
        reader.close();
    });
    world.writer.close();
    other.close();
}

/// The restore happens, is decided and written on while a reader is down.
#[test]
fn a_reader_that_was_down_during_a_restore_follows_it_when_it_is_back() {
    let world = World::new(WorkingCopy::Disk);
    let down = world.readers[1].options().clone();
    world.readers[1].close();
    world.restore(How::Rename);
    assert_eq!(refused(&world.writer), "RESTORED");
    world.writer.resolve(Keep::Backing).unwrap();
    for id in 10..15 {
        world.insert(id);
    }
    let back = Database::open(down).unwrap();
    assert_equal(&world.writer, &back);
    assert_eq!(back.status().held, 2);
    assert_eq!(ids(&back), [1, 10, 11, 12, 13, 14]);
    // It tells the writer where it stands, as readers do: that is no new restore.
    world.writer.register_reader("s", back.position());
    assert_eq!(world.writer.status().state, State::Ok);
    back.close();
    world.readers[0].close();
    world.writer.close();
}

/// What a reader in memory holds outlives its process.
#[test]
fn what_a_reader_in_memory_held_is_there_after_a_restart() {
    let world = World::new(WorkingCopy::Disk);
    world.restore(How::BackupApi);
    assert_eq!(refused(&world.writer), "RESTORED");
    world.writer.resolve(Keep::Backing).unwrap();
    assert_equal(&world.writer, &world.readers[0]);
    world.readers[0].close();
    let again = open_reader(&world.disk, "r", WorkingCopy::Memory);
    let held = again.held_list().unwrap();
    assert_eq!(held.len(), 2);
    let shown = again.held_show(held[0].id).unwrap();
    assert!(shown.detail[0].contains("insert into t: (2"), "{shown:?}");
    replay_all(&again, &world.writer);
    assert_equal(&world.writer, &again);
    assert_eq!(ids(&again), [1, 2, 3]);
    again.close();
    world.readers[1].close();
    world.writer.close();
}

/// `on_restore = "adopt"`: the restored state is the truth, in a new epoch, and what only the node had is
/// held all the same.
#[test]
fn adopting_a_restore_needs_no_decision_and_loses_nothing() {
    let adopt = |o| DatabaseOptions { on_restore: OnRestore::Adopt, ..o };
    for how in [How::Rename, How::BackupApi] {
        let world = World::with(adopt);
        let epoch = world.writer.position().epoch;
        world.restore(how);
        assert_eq!(refused(&world.writer), "RESTORED");
        eventually("it goes on", || world.writer.status().state == State::Ok);
        assert!(world.writer.position().epoch > epoch);
        world.insert(10);
        assert_eq!(ids(&world.writer), [1, 10]);
        world.all_end_equal();
        let holder = if how == How::Rename { &world.writer } else { &world.readers[1] };
        replay_all(holder, &world.writer);
        assert_eq!(ids(&world.writer), [1, 2, 3, 10]);
        world.close();
    }
    let world = World::with(adopt);
    world.writer.close();
    world.restore(How::Rename);
    let writer = Database::open(adopt(writer_on(&world.disk, "a"))).unwrap();
    assert_eq!(writer.status().state, State::Ok);
    insert(&writer, 10);
    for reader in &world.readers {
        assert_equal(&writer, reader);
        assert_eq!(reader.status().held, 2);
        reader.close();
    }
    writer.close();
}

/// Somebody deletes the file. An empty database in its place would be the worst answer.
#[test]
fn a_backing_file_that_is_gone_is_not_begun_anew() {
    for working_copy in [WorkingCopy::Disk, WorkingCopy::Memory] {
        let world = World::new(working_copy);
        world.disk.remove(Path::new(MAIN)).unwrap();
        assert_eq!(refused(&world.writer), "RESTORED");
        assert!(world.writer.status().note.contains("gone"));
        assert_eq!(ids(&world.writer), [1, 2, 3], "reads go on");
        assert_eq!(world.writer.resolve(Keep::Backing).unwrap_err().code(), "BACKING_GONE");
        world.writer.resolve(Keep::Node).unwrap();
        world.insert(10);
        assert_eq!(ids(&world.writer), [1, 2, 3, 10]);
        world.close();
    }
    let world = World::new(WorkingCopy::Disk);
    world.writer.close();
    let bytes = world.disk.snapshot(MAIN);
    world.disk.remove(Path::new(MAIN)).unwrap();
    let refused = Database::open(writer_on(&world.disk, "a")).err().unwrap();
    assert_eq!(refused.code(), "BACKING_GONE");
    assert!(refused.hint_text().contains("/a/main.mark"), "{refused}");
    eventually("readers say so", || world.readers[0].status().state == State::Stale);
    assert_eq!(ids(&world.readers[0]), [1, 2, 3]);
    world.disk.replace(MAIN, &bytes);
    let writer = Database::open(writer_on(&world.disk, "a")).unwrap();
    assert_eq!(writer.status().state, State::Ok, "it is the same database");
    world.readers.iter().for_each(|reader| {
        assert_equal(&writer, reader);
        reader.close();
    });
    writer.close();
}

/// Copying over an open file corrupts any SQLite database. The node must not checkpoint its log into it,
/// and must say so; a copy in memory is not touched by that and can be kept after the restart.
#[test]
fn a_file_that_is_overwritten_while_it_is_open_stops_the_writer() {
    for (working_copy, keep) in [
        (WorkingCopy::Disk, Keep::Backing),
        (WorkingCopy::Memory, Keep::Backing),
        (WorkingCopy::Memory, Keep::Node),
    ] {
        println!("{working_copy:?} {keep:?}");
        let world =
            World::with(|o| DatabaseOptions { working_copy, checkpoint_at: 100 << 10, ..o });
        eventually("a checkpoint after the backup", || {
            write_much(&world.writer);
            world.disk.snapshot(MAIN).len() > 200 << 10
        });
        world.wait_for_the_mark();
        world.restore(How::CopyOver);
        eventually("it stops", || {
            write_much(&world.writer);
            stopped(&world.writer) == Some(5)
        });
        let note = world.writer.status().note;
        assert!(note.contains("overwritten") || note.contains("malformed"), "{note}");
        let disk = world.disk.kill();
        world.readers.iter().for_each(Database::close);
        world.writer.close();
        let options = DatabaseOptions { working_copy, ..writer_on(&disk, "a") };
        let writer = Database::open(options).unwrap();
        assert_eq!(writer.status().state, State::Restored);
        writer.resolve(keep).unwrap();
        let rows = ids(&writer);
        assert_eq!(rows.starts_with(&[1, 2, 3]), keep == Keep::Node, "{rows:?}");
        assert_eq!(integrity(&disk, MAIN), "ok");
        assert_proved(&writer, writer.position());
        writer.close();
    }
}

fn write_much(writer: &Database) {
    run(&mut writer.session(), &["INSERT INTO t (fill) VALUES (randomblob(20000))"]);
}

/// Every page of a backup that is younger than the last checkpoint is in the log too, if it is not as it
/// was then: copied over the open file it changes nothing.
#[test]
fn a_backup_that_the_log_covers_does_no_harm() {
    let world = World::new(WorkingCopy::Disk);
    world.restore(How::CopyOver);
    world.insert(10);
    world.wait_for_the_mark();
    assert_eq!(world.writer.status().state, State::Ok);
    assert_eq!(ids(&world.writer), [1, 2, 3, 10]);
    let disk = world.disk.clone();
    world.close();
    assert_eq!(integrity(&disk, MAIN), "ok");
}

/// A writer that acknowledges from memory is overtaken before it could flush. What clients were told was
/// done is not in the backing database, and never will be: the writer holds it before it stops.
#[test]
fn a_fenced_writer_holds_what_it_had_not_flushed() {
    let disk = MemoryDisk::new();
    let slow = DatabaseOptions {
        working_copy: WorkingCopy::Memory,
        flush_every: Duration::from_secs(3600),
        mark_every: Duration::from_secs(3600),
        ..writer_on(&disk, "a")
    };
    let writer = Database::open(slow).unwrap();
    ok(&mut writer.session(), &["CREATE TABLE t (id INTEGER PRIMARY KEY, fill)"]);
    let quick = RequestOptions { acknowledge: Some(Level::Memory), ..Default::default() };
    for id in 1..=3 {
        let sql = format!("INSERT INTO t VALUES ({id}, randomblob(100000))");
        assert_eq!(run_with(&mut writer.session(), &[&sql], &quick), [""; 0]);
    }
    let other = DatabaseOptions { take_over: true, ..writer_on(&disk, "b") };
    let other = Database::open(other).unwrap();
    assert_eq!(ids(&other), [0i64; 0], "nothing was flushed");
    insert(&other, 4);
    assert_eq!(refused(&writer), "FENCED");
    assert_eq!(stopped(&writer), Some(4));
    let note = writer.status().note;
    assert!(note.contains("3 commits") && note.contains("/a"), "{note}");
    writer.close();
    // It comes back as a reader, and shows what it holds.
    let back = open_reader(&disk, "a", WorkingCopy::Memory);
    let held = back.held_list().unwrap();
    assert_eq!(held.iter().map(|held| held.reason.as_str()).collect::<Vec<_>>(), ["fenced"; 3]);
    assert!(back.held_show(held[0].id).unwrap().detail[0].contains("insert into t: (1,"));
    replay_all(&back, &other);
    assert_eq!(ids(&other), [1, 2, 3, 4]);
    assert_equal(&other, &back);
    back.close();
    other.close();
}

/// What was put in the file's place is no database at all: the node's copy can be kept all the same, and
/// the other file is there to be looked at.
#[test]
fn a_file_that_cannot_be_read_is_set_aside_when_the_nodes_copy_is_kept() {
    for working_copy in [WorkingCopy::Disk, WorkingCopy::Memory] {
        let world = World::new(working_copy);
        world.disk.replace(MAIN, &[b'?'; 10_000]);
        assert_eq!(refused(&world.writer), "RESTORED");
        world.writer.resolve(Keep::Backing).unwrap_err();
        assert_eq!(refused(&world.writer), "RESTORED");
        world.writer.resolve(Keep::Node).unwrap();
        world.insert(10);
        assert_eq!(ids(&world.writer), [1, 2, 3, 10]);
        let files = world.disk.files();
        let kept = files.iter().find(|file| file.to_string_lossy().contains(".unreadable-"));
        assert_eq!(world.disk.snapshot(kept.unwrap()), [b'?'; 10_000]);
        world.close();
    }
}

/// Somebody else's connection writes, and checkpoints our log into the file, as any SQLite program does
/// that finds a large log. The file changed under our hands, but to nothing that is not in the log.
#[test]
fn a_strangers_checkpoint_is_no_restore() {
    let world = World::new(WorkingCopy::Disk);
    ok(&mut world.writer.session(), &["CREATE TABLE more (x)"]);
    let stranger = behind_its_back(&world.disk, MAIN);
    stranger.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    ok(&mut world.writer.session(), &["INSERT INTO more VALUES (1)"]);
    world.wait_for_the_mark();
    assert_eq!(world.writer.status().state, State::Ok, "{}", world.writer.status().note);
    drop(stranger);
    world.close();
}
