//! Applying: all or nothing, once, in order, on one lineage, behind the fence, to the rows it means.

use super::*;
use crate::change::LineageEntry;

on_every_place! {
    apply_moves_rows_log_and_position_together,
    apply_is_all_or_nothing,
    a_commit_again_out_of_order_or_after_a_gap_is_refused,
    a_commit_of_another_lineage_is_refused,
    rows_that_differ_are_a_divergence_at_their_commit,
    the_digest_comes_from_the_own_rows,
    a_store_whose_epoch_was_taken_writes_nothing,
    a_table_that_someone_altered_is_a_divergence,
    parts_that_are_not_the_commits_are_refused,
}

fn apply_moves_rows_log_and_position_together(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    let commits = author.commits(0);
    assert_eq!(author.give(&mut copy, &commits[..2]).unwrap(), commits[1].position());
    assert_eq!(author.give(&mut copy, &commits[2..]).unwrap(), author.store.position());
    assert_eq!(copy.after(Version(0), usize::MAX).unwrap(), commits);
    assert_eq!(copy.part(Version(4), 1).unwrap(), author.store.part(Version(4), 1).unwrap());
    let (seen, digests) = look(&mut copy);
    assert_eq!(digests, author.store.recount().unwrap());
    assert_eq!(
        seen[..seen.len() - 2],
        look(&mut author.store).0[..seen.len() - 2],
        "the same rows"
    );
    drop(copy);
    assert!(look(&mut place.open("copy")).0 == seen, "another after a restart");
}

/// The source fails in the middle of the last commit: the first must not stay behind.
fn apply_is_all_or_nothing(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    let commits = author.commits(0);
    let lineage = author.store.lineage().clone();
    fails_with("AWAY", &mut copy, |copy| {
        copy.apply(&lineage, &commits, &mut |_, index| match index {
            0 => author.store.part(Version(4), 0),
            _ => Err(Error::unavailable("AWAY", "the source is away")),
        })
    });
    assert_eq!(copy.oldest().unwrap(), None);
    author.bring(&mut copy, 0);
}

fn a_commit_again_out_of_order_or_after_a_gap_is_refused(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    let commits = author.commits(0);
    fails_with("DIVERGED", &mut copy, |copy| author.give(copy, &commits[1..]));
    author.give(&mut copy, &commits[..3]).unwrap();
    for wrong in [&commits[..1], &commits[2..3], &commits[..], &commits[4..]] {
        fails_with("DIVERGED", &mut copy, |copy| author.give(copy, wrong));
    }
    // Out of order: the first still fits, and stays.
    let swapped = [commits[3].clone(), commits[5].clone(), commits[4].clone()];
    let error = author.give(&mut copy, &swapped).unwrap_err();
    assert_eq!(error.code(), "DIVERGED");
    assert!(error.message().contains("at version 6"), "{error}");
    assert_eq!(copy.standing().unwrap().position, commits[3].position());
    author.give(&mut copy, &commits[4..]).unwrap();
}

fn a_commit_of_another_lineage_is_refused(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    let commits = author.commits(0);
    author.give(&mut copy, &commits[..2]).unwrap();
    let entry = author.store.lineage().0[0];
    let another = LineageEntry { tag: Tag(99), ..entry };
    let later = LineageEntry { epoch: crate::change::Epoch(2), tag: Tag(2), first: Version(3) };
    let forked = LineageEntry { first: Version(2), ..later };
    for lineage in [vec![another], vec![entry, forked], vec![]] {
        fails_with("DIVERGED", &mut copy, |copy| {
            copy.apply(&Lineage(lineage), &[], &mut |_, _| unreachable!())
        });
    }
    for lineage in [vec![another], vec![entry, later], vec![]] {
        fails_with("DIVERGED", &mut copy, |copy| {
            copy.apply(&Lineage(lineage), &commits[2..3], &mut |_, _| unreachable!())
        });
    }
    author.bring(&mut copy, 2);
}

/// What somebody did behind its back, and the statement at whose commit it must show.
fn rows_that_differ_are_a_divergence_at_their_commit(place: &Place) {
    let cases = [
        ("missing", "DELETE FROM t WHERE id = 2", "UPDATE t SET v = 'x' WHERE id = 2"),
        ("gone", "DELETE FROM t WHERE id = 2", "DELETE FROM t WHERE id = 2"),
        ("in_the_way", "INSERT INTO t VALUES (9, 'mine')", "INSERT INTO t VALUES (9, 'yours')"),
        ("before", "UPDATE t SET v = 'mine' WHERE id = 2", "UPDATE t SET v = 'x' WHERE id = 2"),
        ("deleted", "UPDATE t SET v = 'mine' WHERE id = 2", "DELETE FROM t WHERE id = 2"),
        ("taken", "INSERT INTO u VALUES (9, 'k')", "INSERT INTO u VALUES (1, 'k')"),
        (
            "in_a_long_run",
            "INSERT INTO t VALUES (1500, 'mine')",
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
             INSERT INTO t SELECT i, 'yours' FROM n",
        ),
    ];
    for (name, behind, sql) in cases {
        let mut author = Author::new();
        author.group(&[
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",
            "CREATE TABLE u(id INTEGER PRIMARY KEY, k TEXT UNIQUE)",
            "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        ]);
        let mut copy = place.open(name);
        author.bring(&mut copy, 0);
        place.behind(name, behind);
        author.group(&[
            "INSERT INTO t VALUES (5, 'fits')",
            sql,
            "INSERT INTO t VALUES (6, 'after')",
        ]);
        let commits = author.commits(3);
        let lineage = author.store.lineage().clone();
        let before = copy.standing().unwrap().position;
        let error = copy.append(&lineage, &commits, &mut |_, _| unreachable!()).unwrap_err();
        assert_eq!(error.code(), "DIVERGED", "{name}");
        assert_eq!(copy.standing().unwrap().position, before, "{name}");
        assert_eq!(copy.after(Version(3), usize::MAX).unwrap(), [], "{name}");
        let error = author.give(&mut copy, &commits).unwrap_err();
        assert_eq!(error.code(), "DIVERGED", "{name}");
        assert!(error.message().contains("at version 5"), "{name}: {error}");
        assert_eq!(copy.standing().unwrap().position, commits[0].position(), "{name}");
        assert_eq!(copy.after(Version(3), usize::MAX).unwrap(), commits[..1], "{name}");
    }
}

/// Copies that start equal and add the same changes would end "equal" whatever their rows are.
fn the_digest_comes_from_the_own_rows(place: &Place) {
    let mut author = Author::new();
    author.group(&[
        "CREATE TABLE t(a INTEGER, b INTEGER)",
        "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
    ]);
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    place.behind("copy", "UPDATE t SET b = 99 WHERE a = 2");
    author.group(&["UPDATE t SET b = b + 1 WHERE a = 1"]);
    author.bring(&mut copy, 2);
    assert_ne!(
        copy.recount().unwrap(),
        copy.digests().unwrap(),
        "a row nobody touched: by recount"
    );
    author.group(&["UPDATE t SET b = 7 WHERE a = 2"]);
    let commits = author.commits(3);
    assert_eq!(author.give(&mut copy, &commits).unwrap_err().code(), "DIVERGED");
}

fn a_store_whose_epoch_was_taken_writes_nothing(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    let commits = author.commits(0);
    author.give(&mut copy, &commits[..3]).unwrap();
    copy.confirm().unwrap();
    let mut other = place.open("copy");
    other.take_epoch(Tag(5), &holder("other")).unwrap();
    fails_with("FENCED", &mut copy, |copy| copy.confirm());
    fails_with("FENCED", &mut copy, |copy| author.give(copy, &commits[3..]));
    fails_with("FENCED", &mut copy, |copy| author.give(copy, &[]));
    fails_with("FENCED", &mut copy, |copy| copy.rewind(Version(1), "undone", Timestamp(1)));
    fails_with("FENCED", &mut copy, |copy| copy.renew(Timestamp(5000)));
    fails_with("FENCED", &mut copy, |copy| copy.release());
    fails_with("FENCED", &mut copy, |copy| copy.set_verified(Version(3)));
    fails_with("FENCED", &mut copy, |copy| copy.trim(Timestamp(u64::MAX >> 1), 0, Version(3)));
    assert_eq!(other.standing().unwrap().holder, Some(holder("other")));
}

/// Found when the store is opened again: nobody tells a store of another's schema step.
fn a_table_that_someone_altered_is_a_divergence(place: &Place) {
    for (name, behind) in [
        ("extra", "ALTER TABLE t ADD COLUMN mine TEXT"),
        ("dropped", "ALTER TABLE t DROP COLUMN v"),
        ("gone", "DROP TABLE t"),
        ("key", "DROP TABLE t; CREATE TABLE t(id BIGINT, v TEXT)"),
    ] {
        let mut author = Author::new();
        author.group(&["CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)"]);
        author.bring(&mut place.open(name), 0);
        place.behind(name, behind);
        author.group(&["INSERT INTO t VALUES (1, 1)"]);
        let commits = author.commits(1);
        let mut copy = place.open(name);
        let error = author.give(&mut copy, &commits).unwrap_err();
        assert_eq!(error.code(), "DIVERGED", "{name}: {error}");
        assert_eq!(copy.standing().unwrap().position.version, Version(1), "{name}");
    }
}

fn parts_that_are_not_the_commits_are_refused(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    let commits = author.commits(0);
    author.give(&mut copy, &commits[..3]).unwrap();
    let lineage = author.store.lineage().clone();
    let swapped = author.store.part(Version(4), 1).unwrap();
    fails_with("DIVERGED", &mut copy, |copy| {
        copy.apply(&lineage, &commits[3..4], &mut |_, _| Ok(Vec::new()))
    });
    let before = look(&mut copy);
    let wrong = copy.apply(&lineage, &commits[3..4], &mut |_, _| Ok(swapped.clone()));
    assert!(wrong.is_err());
    assert!(look(&mut copy) == before);
    author.bring(&mut copy, 3);
}
