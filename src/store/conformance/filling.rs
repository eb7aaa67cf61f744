//! Filling an empty copy from a source, which may be damaged.

use super::*;
use crate::store::Source as _;
use crate::store::sqlite::SqliteSource;

on_every_disk! {
    a_filled_copy_equals_its_source,
    a_rotten_source_leaves_nothing_behind,
    a_source_that_fails_leaves_nothing_behind,
}

fn source(place: &Place, name: &str) -> Author {
    let mut author = Author::on(place.open(name));
    author.group(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE)",
        "INSERT INTO t VALUES (1, 'a'), (9, 'b')",
        "DELETE FROM t WHERE id = 9",
        "CREATE TABLE keyless(a, b)",
        "INSERT INTO keyless(rowid, a) VALUES (5, 1), (7, 1)",
        "CREATE VIEW w AS SELECT * FROM t",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM keyless; END",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "INSERT INTO f VALUES ('some words')",
        "PRAGMA user_version = 4",
    ]);
    author
}

fn a_filled_copy_equals_its_source(place: &Place) {
    let mut author = source(place, "source");
    let mut copy = place.open("copy");
    let mut opened =
        SqliteSource::open(place.disk.clone(), &place.root.join("source"), None).unwrap();
    assert_eq!(copy.fill(&mut opened).unwrap(), author.store.position());
    let (seen, digests) = look(&mut copy);
    let (wanted, claimed) = look(&mut author.store);
    assert_eq!(digests, claimed);
    let rows = seen.len() - 2;
    assert_eq!(seen[..rows], wanted[..rows]);
    let (found, source) = (copy.standing().unwrap(), author.store.standing().unwrap());
    assert_eq!((found.position, found.tag), (source.position, source.tag));
    assert_eq!((found.lineage, found.at), (source.lineage, source.at));
    assert_eq!(found.holder, None, "a copy is nobody's");
    assert_eq!(copy.oldest().unwrap(), None);
    author.group(&["INSERT INTO t(v) VALUES ('goes on')", "INSERT INTO f VALUES ('more')"]);
    author.bring(&mut copy, 10);
    look(&mut copy);
    // And it can be promoted: it counts on where the source did.
    let mut promoted = Author::on(copy);
    promoted.group(&["INSERT INTO t(v) VALUES ('promoted')", "CREATE INDEX i ON t(v)"]);
    look(&mut promoted.store);
}

fn a_rotten_source_leaves_nothing_behind(place: &Place) {
    drop(source(place, "source"));
    let mut copy = place.open("copy");
    let rots = [
        ("UPDATE keyless SET b = 1 WHERE rowid = 5", "UPDATE keyless SET b = NULL WHERE rowid = 5"),
        ("DELETE FROM keyless WHERE rowid = 7", "INSERT INTO keyless(rowid, a) VALUES (7, 1)"),
        ("CREATE TABLE alien(a)", "DROP TABLE alien"),
        ("ALTER TABLE keyless ADD COLUMN c", "ALTER TABLE keyless DROP COLUMN c"),
    ];
    for (rot, mend) in rots {
        place.behind("source", rot);
        let mut opened =
            SqliteSource::open(place.disk.clone(), &place.root.join("source"), None).unwrap();
        fails_with("SOURCE_DAMAGED", &mut copy, |copy| copy.fill(&mut opened));
        place.behind("source", mend);
    }
    let mut opened =
        SqliteSource::open(place.disk.clone(), &place.root.join("source"), None).unwrap();
    copy.fill(&mut opened).unwrap();
    look(&mut copy);
}

/// A source that goes away after some rows.
struct Fails<'a>(&'a mut SqliteStore, usize);

impl crate::store::Source for Fails<'_> {
    fn standing(&mut self) -> Result<crate::store::Standing> {
        self.0.standing()
    }
    fn digests(&mut self) -> Result<DatabaseDigest> {
        self.0.digests()
    }
    fn after(&mut self, version: Version, bytes: usize) -> Result<Vec<Commit>> {
        self.0.after(version, bytes)
    }
    fn part(&mut self, version: Version, index: u32) -> Result<Vec<u8>> {
        self.0.part(version, index)
    }
    fn chain_at(&mut self, version: Version) -> Result<Option<crate::change::Chain>> {
        self.0.chain_at(version)
    }
    fn oldest(&mut self) -> Result<Option<Version>> {
        self.0.oldest()
    }
    fn snapshot(
        &mut self,
        each: &mut dyn FnMut(crate::store::SnapshotItem<'_>) -> Result<()>,
    ) -> Result<crate::store::Standing> {
        let left = &mut self.1;
        self.0.snapshot(&mut |item| {
            *left = left.checked_sub(1).ok_or_else(|| Error::unavailable("AWAY", "it is away"))?;
            each(item)
        })
    }
}

fn a_source_that_fails_leaves_nothing_behind(place: &Place) {
    let mut author = source(place, "source");
    let mut copy = place.open("copy");
    for items in (0..).step_by(3) {
        let before = look(&mut copy);
        match copy.fill(&mut Fails(&mut author.store, items)) {
            Ok(position) => {
                assert_eq!(position, author.store.position());
                break;
            }
            Err(error) => {
                assert_eq!(error.code(), "AWAY");
                assert!(look(&mut copy) == before, "after {items} items");
            }
        }
    }
    look(&mut copy);
}
