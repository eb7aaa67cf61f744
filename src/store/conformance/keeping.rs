//! What is kept beside the rows: the log and how it is read and trimmed, epochs, the holder.

use super::*;
use crate::change::LineageEntry;

on_every_place! {
    the_log_is_read_from_any_version,
    an_empty_store_has_no_log,
    the_chain_is_known_where_the_log_reaches,
    epochs_are_numbered_and_remembered,
    the_lease_is_renewed_and_given_up,
    trim_forgets_by_age_but_not_what_is_needed,
    trim_forgets_by_size_whatever_is_needed,
    what_was_verified_is_kept,
}

mod of_sqlite {
    super::on_every_disk! { a_file_that_was_there_before_is_counted_once }
    use super::a_file_that_was_there_before_is_counted_once;
}

fn the_log_is_read_from_any_version(place: &Place) {
    let mut author = Author::with_history();
    let commits = author.commits(0);
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    for after in 0..=7 {
        let rest = commits.get(after..).unwrap_or_default();
        assert_eq!(copy.after(Version(after as u64), usize::MAX).unwrap(), rest, "after {after}");
        let some = copy.after(Version(after as u64), 1).unwrap();
        assert!(rest.starts_with(&some), "after {after}");
        assert_eq!(
            some.is_empty(),
            rest.is_empty(),
            "at least one, if there is one: after {after}"
        );
    }
    let small = commits[0].frame().len();
    assert!(copy.after(Version(0), small).unwrap().len() < commits.len(), "bounded");
    let whole: usize =
        (0..commits[3].parts()).map(|i| copy.part(Version(4), i).unwrap().len()).sum();
    assert!(whole > 1_100_000);
    assert_eq!(copy.part(Version(4), commits[3].parts()).unwrap_err().code(), "LOG_CORRUPT");
    assert_eq!(copy.part(Version(1), 0).unwrap_err().code(), "LOG_CORRUPT");
    assert_eq!(copy.oldest().unwrap(), Some(Version(1)));
}

fn an_empty_store_has_no_log(place: &Place) {
    let mut store = place.open("empty");
    assert!(store.after(Version(0), usize::MAX).unwrap().is_empty());
    assert_eq!(store.oldest().unwrap(), None);
    assert_eq!(store.chain_at(Version(0)).unwrap(), Some(Chain::default()));
    assert_eq!(store.chain_at(Version(1)).unwrap(), None);
    let standing = store.standing().unwrap();
    assert_eq!(standing.position, Position::default());
    assert_eq!((standing.holder, standing.verified), (None, Version(0)));
    assert!(standing.lineage.0.is_empty());
    look(&mut store);
}

fn the_chain_is_known_where_the_log_reaches(place: &Place) {
    let mut author = Author::with_history();
    let commits = author.commits(0);
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    let known = |copy: &mut AnyStore, at: u64| copy.chain_at(Version(at)).unwrap();
    for commit in &commits {
        assert_eq!(known(&mut copy, commit.version().0), Some(commit.chain()));
    }
    assert_eq!(known(&mut copy, 0), Some(Chain::default()));
    assert_eq!(known(&mut copy, 7), None);
    copy.trim(Timestamp(u64::MAX >> 1), u64::MAX >> 1, Version(4)).unwrap();
    assert_eq!(copy.oldest().unwrap(), Some(Version(5)));
    assert_eq!(known(&mut copy, 4), Some(commits[3].chain()), "the first that is left names it");
    assert_eq!(known(&mut copy, 3), None);
    copy.trim(Timestamp(u64::MAX >> 1), u64::MAX >> 1, Version(6)).unwrap();
    assert_eq!(copy.oldest().unwrap(), None);
    assert_eq!(known(&mut copy, 6), Some(commits[5].chain()), "the position names it");
    assert_eq!(known(&mut copy, 5), None);
}

fn epochs_are_numbered_and_remembered(place: &Place) {
    let entry = |epoch, tag, first| LineageEntry {
        epoch: Epoch(epoch),
        tag: Tag(tag),
        first: Version(first),
    };
    let (mut author, mut store) = (Author::new(), place.open("writer"));
    let reign = |author: &mut Author, store: &mut AnyStore, tag| {
        let position = store.take_epoch(Tag(tag), &holder("author")).unwrap();
        assert_eq!(position, author.reign(tag));
        position
    };
    store.take_epoch(Tag(1), &holder("author")).unwrap();
    assert_eq!(store.standing().unwrap().lineage.0, [entry(1, 1, 1)]);
    let second = reign(&mut author, &mut store, 22);
    assert_eq!((second.epoch, second.version), (Epoch(2), Version(0)));
    author.group(&["CREATE TABLE t(a INTEGER)", "INSERT INTO t VALUES (1)"]);
    let before = author.bring(&mut store, 0);
    let third = reign(&mut author, &mut store, 33);
    assert_eq!(third, Position { epoch: Epoch(3), ..before }, "only the epoch moves");
    let all = [entry(1, 1, 1), entry(2, 22, 1), entry(3, 33, 3)];
    assert_eq!(store.standing().unwrap().lineage.0, all);
    author.group(&["INSERT INTO t VALUES (2)"]);
    let commit = author.commits(2).remove(0);
    assert_eq!((commit.header().epoch, commit.header().tag), (Epoch(3), Tag(33)));
    author.bring(&mut store, 2);
    drop(store);
    let standing = place.open("writer").standing().unwrap();
    assert_eq!(standing.lineage.0, all);
    assert_eq!((standing.tag, standing.position), (Tag(33), commit.position()));
    assert_eq!(standing.holder, Some(holder("author")));
}

fn the_lease_is_renewed_and_given_up(place: &Place) {
    let (mut author, mut store) = (Author::new(), place.open("writer"));
    store.take_epoch(Tag(1), &holder("author")).unwrap();
    author.group(&["CREATE TABLE t(a INTEGER)"]);
    let position = author.bring(&mut store, 0);
    let mut reader = place.open("writer");
    store.renew(Timestamp(4321)).unwrap();
    let holder_now = reader.standing().unwrap().holder.unwrap();
    assert_eq!(holder_now, Holder { lease: Timestamp(4321), ..holder("author") });
    store.release().unwrap();
    assert_eq!(reader.standing().unwrap().holder, None);
    assert_eq!(reader.standing().unwrap().position, position);
    author.group(&["INSERT INTO t VALUES (1)"]);
    author.bring(&mut store, 1);
}

fn trim_forgets_by_age_but_not_what_is_needed(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    let huge = u64::MAX >> 1;
    // The first commit was made at 101, the last at 106.
    assert_eq!(copy.trim(Timestamp(101), huge, Version(6)).unwrap(), Some(Version(1)));
    assert_eq!(copy.trim(Timestamp(huge), huge, Version(0)).unwrap(), Some(Version(1)));
    let left = copy.trim(Timestamp(huge), huge, Version(4)).unwrap().expect("some are left");
    assert!(left > Version(1) && left <= Version(5), "what comes after 4 is there: {left}");
    assert!(copy.part(Version(4), 0).is_err(), "its parts went with it");
    assert!(!copy.after(Version(4), 1).unwrap().is_empty());
    let (position, standing) = (author.store.position(), copy.standing().unwrap());
    assert_eq!(standing.position, position);
    author.group(&["INSERT INTO t VALUES (30, 'on')"]);
    author.bring(&mut copy, 6);
    assert_eq!(copy.trim(Timestamp(huge), huge, Version(7)).unwrap(), None);
    look(&mut copy);
}

fn trim_forgets_by_size_whatever_is_needed(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    let old = Timestamp(0);
    assert_eq!(copy.trim(old, 10 << 20, Version(0)).unwrap(), Some(Version(1)));
    // The fourth is the large one.
    assert_eq!(copy.trim(old, 1 << 20, Version(0)).unwrap(), Some(Version(5)));
    assert_eq!(copy.trim(old, 0, Version(0)).unwrap(), None);
    assert_eq!(copy.standing().unwrap().position, author.store.position());
}

fn what_was_verified_is_kept(place: &Place) {
    let mut author = Author::with_history();
    let mut copy = place.open("copy");
    author.bring(&mut copy, 0);
    assert_eq!(copy.standing().unwrap().verified, Version(0));
    copy.set_verified(Version(6)).unwrap();
    author.group(&["INSERT INTO t VALUES (30, 'on')"]);
    author.bring(&mut copy, 6);
    drop(copy);
    let standing = place.open("copy").standing().unwrap();
    assert_eq!((standing.verified, standing.position.version), (Version(6), Version(7)));
}

fn a_file_that_was_there_before_is_counted_once(place: &Place) {
    if let Place::Disk { root, .. } = place {
        std::fs::create_dir_all(root).ok();
    }
    place.behind("old", "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2); CREATE TABLE e(x)");
    let first = place.open("old").standing().unwrap().position;
    let mut store = place.open_sqlite("old");
    let (_, digests) = look(&mut store);
    assert_eq!(store.standing().unwrap().position, first);
    assert_eq!(digests.get("t").unwrap().rows, 2);
    let mut author = Author::on(store);
    author.group(&["INSERT INTO t VALUES (3)"]);
    look(&mut author.store);
}
