//! Readers that have what the writer has not: the proof of a restore that the node's own mark, up to a
//! second old, is too old to give. It must be taken for one only where it is one: power that fails takes
//! what was acknowledged from memory, and a decision undoes what a reader may not have heard of yet.

mod support;

use std::time::Duration;

use support::world::*;
use support::*;
use syncline::acknowledge::Level;
use syncline::change::Position;
use syncline::engine::{Database, DatabaseOptions, Keep, State, WorkingCopy};
use syncline::store::vfs::MemoryDisk;

/// A reader that has seen more of this epoch than the writer has is proof of a restore.
#[test]
fn a_reader_that_is_ahead_stops_the_writer() {
    let world = World::new(WorkingCopy::Disk);
    let mut ahead = world.writer.position();
    ahead.version = ahead.version.next();
    world.writer.register_reader("r", ahead);
    assert_eq!(refused(&world.writer), "RESTORED");
    assert!(world.writer.status().note.contains("\"r\""));
    world.writer.resolve(Keep::Backing).unwrap();
    world.close();
}

/// Writes no mark after its start.
fn without_marks(options: DatabaseOptions) -> DatabaseOptions {
    DatabaseOptions { mark_every: Duration::from_secs(3600), ..options }
}

/// The state once everything that was sent to the writer before is done.
fn settled_state(writer: &Database) -> State {
    run(&mut writer.session(), &["CREATE TABLE IF NOT EXISTS done (x)"]);
    writer.status().state
}

/// The writer is killed, and a backup put back that is younger than the mark. The writer starts and goes
/// on, past the reader's version: only the reader knows that it had other commits there.
#[test]
fn a_restore_within_the_marks_second_is_told_by_a_reader() {
    for written_on in [0, 5] {
        let world = World::with(without_marks);
        let seen = world.readers[0].position();
        let disk = world.disk.kill();
        world.writer.close();
        world.readers.iter().for_each(Database::close);
        remove_log(&disk);
        restore(&disk, How::Rename, &world.backup);
        let writer = Database::open(without_marks(writer_on(&disk, "a"))).unwrap();
        assert_eq!(writer.status().state, State::Ok, "the mark does not tell");
        (10..10 + written_on).for_each(|id| insert(&writer, id));
        writer.register_reader("q", Position::default());
        writer.register_reader("r", seen);
        assert_eq!(refused(&writer), "RESTORED");
        let note = writer.status().note;
        assert!(note.contains("\"r\"") && note.contains(&seen.to_string()), "{note}");
        writer.resolve(Keep::Backing).unwrap();
        // It is decided: whoever has not followed yet does so, and that is no news. Nor later.
        writer.register_reader("s", seen);
        assert_eq!(settled_state(&writer), State::Ok);
        writer.close();
        let writer = Database::open(writer_on(&disk, "a")).unwrap();
        writer.register_reader("s", seen);
        assert_eq!(settled_state(&writer), State::Ok);
        let reader = open_reader(&disk, "s", WorkingCopy::Disk);
        assert_equal(&writer, &reader);
        assert_eq!(reader.status().held, 2);
        writer.register_reader("s", reader.position());
        assert_eq!(settled_state(&writer), State::Ok);
        reader.close();
        writer.close();
    }
}

/// A reader that is in step, or behind, or has just begun, in this epoch or in an earlier one.
#[test]
fn a_reader_that_is_behind_is_no_proof_of_anything() {
    let disk = MemoryDisk::new();
    let mut places = Vec::new();
    for reign in 0..4 {
        let writer = Database::open(writer_on(&disk, "a")).unwrap();
        places.push(writer.position());
        ok(&mut writer.session(), &["CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, fill)"]);
        if reign % 2 == 0 {
            insert(&writer, reign);
        }
        places.push(writer.position());
        for (name, place) in places.iter().enumerate() {
            writer.register_reader(&format!("{reign} {name}"), *place);
        }
        assert_eq!(settled_state(&writer), State::Ok, "{}", writer.status().note);
        writer.close();
    }
}

/// Power fails, and takes commits with it that were acknowledged from memory. A reader had them.
#[test]
fn what_power_took_from_memory_is_no_restore() {
    let on_memory = |options| DatabaseOptions {
        acknowledge: Level::Memory,
        flush_every: Duration::from_secs(3600),
        ..without_marks(options)
    };
    let disk = MemoryDisk::powersafe();
    let writer = Database::open(on_memory(writer_on(&disk, "a"))).unwrap();
    ok(&mut writer.session(), &["CREATE TABLE t (id INTEGER PRIMARY KEY, fill)"]);
    insert(&writer, 1);
    let reader = open_reader(&disk, "r", WorkingCopy::Memory);
    assert_equal(&writer, &reader);
    let seen = reader.position();
    let disk = disk.crash(1);
    reader.close();
    writer.close();
    for _ in 0..2 {
        let writer = Database::open(on_memory(writer_on(&disk, "a"))).unwrap();
        assert!(writer.position().version < seen.version, "the crash took it");
        writer.register_reader("r", seen);
        assert_eq!(settled_state(&writer), State::Ok, "{}", writer.status().note);
        writer.close();
    }
}

/// Another writer took over, and a reader that follows it still reports to the old one.
#[test]
fn a_reader_of_the_next_writer_tells_of_no_restore() {
    let world = World::new(WorkingCopy::Disk);
    let other = DatabaseOptions { take_over: true, ..writer_on(&world.disk, "b") };
    let other = Database::open(other).unwrap();
    insert(&other, 4);
    world.writer.register_reader("r", other.position());
    assert_eq!(refused(&world.writer), "FENCED");
    assert_eq!(world.writer.status().state, State::Fenced);
    assert_eq!(stopped(&world.writer), Some(4));
    world.readers.iter().for_each(Database::close);
    world.writer.close();
    other.close();
}
