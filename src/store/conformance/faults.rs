//! Disks that fail at every single operation of an apply: what is there afterwards is what was there
//! before, or what should be; and what was reported as done is done.

use super::*;
use crate::store::vfs::{Fault, FaultError, FaultOn, Times};

/// A history of small commits: few operations of the disk, so that each can fail.
fn small() -> Author {
    let mut author = Author::new();
    author.group(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    ]);
    author.group(&["CREATE INDEX i ON t(v)", "UPDATE t SET v = 'c' WHERE id = 2"]);
    author.group(&["INSERT INTO t VALUES (3, printf('%.9000c', 'x'))", "DROP INDEX i"]);
    author
}

/// A copy that has half of the history, on a disk that can fail.
fn half_way(author: &mut Author) -> (MemoryDisk, Place, AnyStore) {
    let disk = MemoryDisk::power_loss();
    let place = Place::on(disk.clone());
    let mut copy = place.open("copy");
    let commits = author.commits(0);
    author.give(&mut copy, &commits[..3]).unwrap();
    (disk, place, copy)
}

/// Fails the `nth` call and looks what a restart finds. False once there is no such call.
fn strikes(author: &mut Author, on: FaultOn, error: FaultError, nth: u64) -> bool {
    let (disk, place, mut copy) = half_way(author);
    let before = look(&mut copy);
    let commits = author.commits(3);
    disk.fail(Fault { on, nth, error, times: Times::Once, file: None });
    let applied = author.give(&mut copy, &commits);
    disk.heal();
    if let (Err(failed), FaultError::Full) = (&applied, error) {
        // No space rolls back, and the same handle goes on.
        assert_eq!(failed.code(), "DISK_FULL");
        assert!(look(&mut copy) == before, "{on:?} {nth}: something changed");
        author.give(&mut copy, &commits).unwrap();
        return true;
    }
    drop(copy);
    let mut again = place.open("copy");
    let position = again.standing().unwrap().position;
    look(&mut again);
    match &applied {
        Ok(applied) => assert_eq!(position, *applied, "{on:?} {nth}"),
        Err(failed) => {
            assert_eq!(failed.kind(), crate::error::Kind::Storage, "{on:?} {nth}: {failed}");
            let whole = position == author.store.position();
            assert!(whole || look(&mut again) == before, "{on:?} {nth}: neither");
        }
    }
    let version = position.version.0;
    author.bring(&mut again, version);
    assert_eq!(again.standing().unwrap().position, author.store.position());
    applied.is_err()
}

/// Fails one call after the other, until an apply needs no more of them; gives how many failed.
fn strike_each(author: &mut Author, on: FaultOn, error: FaultError, every: usize) -> usize {
    let mut struck = 0;
    for nth in (1..).step_by(every) {
        if !strikes(author, on, error, nth) {
            break;
        }
        struck += 1;
    }
    struck
}

#[test]
fn an_apply_is_whole_or_not_there_whichever_call_fails() {
    for (on, error) in [
        (FaultOn::Write, FaultError::Io),
        (FaultOn::Write, FaultError::Full),
        (FaultOn::Sync, FaultError::Io),
        (FaultOn::Sync, FaultError::Full),
    ] {
        assert!(strike_each(&mut small(), on, error, 1) > 0, "{on:?}: nothing failed");
    }
    let mut in_parts = Author::with_history();
    for error in [FaultError::Io, FaultError::Full] {
        assert!(strike_each(&mut in_parts, FaultOn::Write, error, 163) > 4);
    }
}

/// The power goes at the `nth` operation of an apply. False once it is over before.
fn dies(author: &mut Author, nth: u64) -> bool {
    let (disk, _, mut copy) = half_way(author);
    let commits = author.commits(3);
    disk.crash_at(nth);
    let applied = author.give(&mut copy, &commits);
    let place = Place::on(disk.crash(nth));
    let mut again = place.open("copy");
    let position = again.standing().unwrap().position;
    look(&mut again);
    let whole = author.store.position();
    assert!(position == whole || applied.is_err(), "crash {nth}: what was answered is lost");
    assert!([Version(3), whole.version].contains(&position.version), "crash {nth}: {position}");
    author.bring(&mut again, position.version.0);
    applied.is_err()
}

#[test]
fn an_apply_is_whole_or_not_there_wherever_the_power_goes() {
    let mut author = small();
    assert!((0..).take_while(|nth| dies(&mut author, *nth)).count() > 10);
    let mut in_parts = Author::with_history();
    assert!((0..).step_by(211).take_while(|nth| dies(&mut in_parts, *nth)).count() > 3);
}

/// A disk without space refuses, and everything else goes on; with space, so does writing.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let mut author = Author::with_history();
    let (disk, _, mut copy) = half_way(&mut author);
    let before = look(&mut copy);
    disk.set_capacity(Some(disk.used() + 100_000));
    let commits = author.commits(3);
    for _ in 0..3 {
        assert_eq!(author.give(&mut copy, &commits).unwrap_err().code(), "DISK_FULL");
        assert!(look(&mut copy) == before);
    }
    disk.set_capacity(None);
    author.give(&mut copy, &commits).unwrap();
    look(&mut copy);
}
