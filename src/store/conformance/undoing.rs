//! Rewinding: to any version, across epochs, everything held; or not at all.

use super::*;

on_every_place! {
    rewind_goes_to_every_version_and_forward_again,
    what_is_undone_is_held_whole_and_in_order,
    rewind_to_where_it_stands_does_nothing,
    a_rewind_that_is_impossible_changes_nothing,
    rewind_goes_back_across_epochs,
    rewind_forgets_epochs_that_began_behind_it,
}

fn rewind_goes_to_every_version_and_forward_again(place: &Place) {
    let mut author = Author::with_history();
    author.group(&[
        "UPDATE t SET id = id + 10 WHERE id < 3",
        "ALTER TABLE t RENAME COLUMN v TO w",
        "ALTER TABLE t ADD COLUMN x INTEGER DEFAULT 5",
        "CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "INSERT INTO counted VALUES (7)",
        "PRAGMA user_version = 3",
        "UPDATE t SET x = id",
    ]);
    let commits = author.commits(0);
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    let full = look(&mut copy);
    for to in (0..=commits.len()).rev() {
        let before = if to == 0 { None } else { Some(commits[to - 1].position()) };
        let position = copy.rewind(Version(to as u64), "test", Timestamp(1)).unwrap();
        if let Some(before) = before {
            assert_eq!(position, before, "to version {to}");
            assert_eq!(copy.standing().unwrap().at, commits[to - 1].header().at);
        }
        assert_eq!(copy.standing().unwrap().position, position);
        assert_eq!(copy.after(Version(0), usize::MAX).unwrap(), commits[..to]);
        look(&mut copy);
        let forward = author.give(&mut copy, &commits[to..]).unwrap();
        assert_eq!(forward, author.store.position());
        assert!(look(&mut copy) == full, "forward again from {to}");
    }
}

fn what_is_undone_is_held_whole_and_in_order(place: &Place) {
    let mut author = Author::with_history();
    let commits = author.commits(0);
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    copy.rewind(Version(2), "the writer changed", Timestamp(77)).unwrap();
    let held = copy.held().unwrap();
    assert_eq!(held.len(), 4);
    for (held, commit) in held.iter().zip(&commits[2..]) {
        assert_eq!(held.commit, *commit);
        assert_eq!((held.reason.as_str(), held.at), ("the writer changed", Timestamp(77)));
    }
    let bodies = copy.held_bodies(&held[1]).unwrap();
    let parts: Vec<Vec<u8>> =
        (0..commits[3].parts()).map(|i| author.store.part(Version(4), i).unwrap()).collect();
    assert!(bodies == parts, "the parts of a large commit are held");
    // Replayed from what is held alone.
    let lineage = author.store.lineage().clone();
    let again: Vec<Commit> = held.iter().map(|held| held.commit.clone()).collect();
    let mut from_held = |_: &Commit, i: u32| Ok(bodies[i as usize].clone());
    copy.apply(&lineage, &again, &mut from_held).unwrap();
    assert_eq!(copy.standing().unwrap().position, author.store.position());
    copy.discard(held[0].id).unwrap();
    assert_eq!(copy.held_count().unwrap(), 3);
}

fn rewind_to_where_it_stands_does_nothing(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    let before = look(&mut copy);
    let position = copy.rewind(Version(6), "nothing", Timestamp(1)).unwrap();
    assert_eq!(position, author.store.position());
    assert!(look(&mut copy) == before);
    // No transaction is left open: another process may write.
    place.open("copy").take_epoch(Tag(8), &holder("b")).unwrap();
    let mut fresh = place.open("fresh");
    fresh.rewind(Version(0), "nothing", Timestamp(1)).unwrap();
}

fn a_rewind_that_is_impossible_changes_nothing(place: &Place) {
    let mut author = Author::with_history();
    author.group(&["CREATE TABLE u(a INTEGER, b INTEGER)", "INSERT INTO u VALUES (1, 2)"]);
    author.group(&["ALTER TABLE u DROP COLUMN b", "INSERT INTO t VALUES (8, 8)", "DROP TABLE t"]);
    author.group(&["CREATE TABLE v(a INTEGER)"]);
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    for to in [10, 9, 8, 3, 0] {
        fails_with("UNDO_IMPOSSIBLE", &mut copy, |c| c.rewind(Version(to), "test", Timestamp(1)));
    }
    fails_with("UNDO_IMPOSSIBLE", &mut copy, |c| c.rewind(Version(99), "test", Timestamp(1)));
    copy.rewind(Version(11), "test", Timestamp(1)).unwrap();
    author.bring(&mut copy, 11);
    copy.trim(Timestamp(1 << 40), 1 << 40, Version(11)).unwrap();
    fails_with("UNDO_IMPOSSIBLE", &mut copy, |c| c.rewind(Version(10), "test", Timestamp(1)));
    copy.rewind(Version(11), "test", Timestamp(1)).unwrap();
}

fn rewind_goes_back_across_epochs(place: &Place) {
    let mut author = Author::with_history();
    author.reign(2);
    author.reign(3);
    author.group(&["INSERT INTO t VALUES (20, 'epoch 3')"]);
    author.reign(4);
    author.group(&["UPDATE t SET v = 'epoch 4' WHERE id = 20"]);
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    assert_eq!(copy.standing().unwrap().position, author.store.position());
    let epochs = |copy: &mut AnyStore| {
        let standing = copy.standing().unwrap();
        let lineage: Vec<u64> = standing.lineage.0.iter().map(|e| e.epoch.0).collect();
        assert_eq!(standing.tag, standing.lineage.last().unwrap().tag);
        (standing.position.epoch.0, lineage)
    };
    copy.rewind(Version(7), "test", Timestamp(1)).unwrap();
    assert_eq!(epochs(&mut copy), (3, vec![1, 2, 3]));
    copy.rewind(Version(6), "test", Timestamp(1)).unwrap();
    assert_eq!(epochs(&mut copy), (1, vec![1]));
    copy.rewind(Version(2), "test", Timestamp(1)).unwrap();
    assert_eq!(epochs(&mut copy), (1, vec![1]));
    author.bring(&mut copy, 2);
    assert_eq!(epochs(&mut copy), (4, vec![1, 2, 3, 4]));
    assert_eq!(copy.standing().unwrap().position, author.store.position());
}

/// A copy that knows of an epoch without commits goes back to before it, and on with another.
fn rewind_forgets_epochs_that_began_behind_it(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    let mut fork = Author::with_history();
    fork.reign(2);
    let shared: Lineage = author.store.lineage().clone();
    author.reign(9);
    author.bring(&mut copy, 6);
    copy.rewind(Version(5), "fork", Timestamp(1)).unwrap();
    assert_eq!(copy.standing().unwrap().lineage, shared);
    author.bring(&mut copy, 5);
    assert_eq!(copy.standing().unwrap().position, author.store.position());
}
