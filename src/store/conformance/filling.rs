//! Filling an empty copy from a source, which may be damaged.

use super::*;

on_every_place! {
    a_filled_copy_equals_its_source,
    a_rotten_source_leaves_nothing_behind,
    a_source_that_fails_leaves_nothing_behind,
}

mod of_sqlite {
    super::on_every_disk! { virtual_tables_are_filled_by_their_own }
    use super::virtual_tables_are_filled_by_their_own;
}

#[cfg(feature = "postgres")]
mod of_servers {
    #[test]
    fn a_server_takes_over_what_a_copy_has() {
        let Some(place) = super::Place::postgres() else { return };
        super::a_server_takes_over_what_a_copy_has(&place);
    }
}

/// A store that was fed a history, and who made it.
fn source(place: &Place, name: &str) -> (Author, AnyStore) {
    let mut author = Author::new();
    author.group(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT UNIQUE)",
        "INSERT INTO t VALUES (1, 'a'), (9, 'b')",
        "DELETE FROM t WHERE id = 9",
        "CREATE TABLE keyless(a INTEGER, b REAL)",
        "INSERT INTO keyless(rowid, a) VALUES (5, 1), (7, 1)",
        "CREATE VIEW w AS SELECT * FROM t",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM keyless; END",
        "PRAGMA user_version = 4",
    ]);
    let mut store = place.open(name);
    author.bring(&mut store, 0);
    (author, store)
}

fn a_filled_copy_equals_its_source(place: &Place) {
    let (mut author, mut source) = source(place, "source");
    let mut copy = place.open_sqlite("copy");
    let filled = copy.fill(place.source("source").as_mut()).unwrap();
    assert_eq!(filled, author.store.position());
    let (seen, digests) = look(&mut copy);
    let (wanted, claimed) = look(&mut source);
    assert_eq!(digests, claimed);
    let rows = seen.len() - 2;
    assert_eq!(seen[..rows], wanted[..rows]);
    assert_eq!(seen[..rows], look(&mut author.store).0[..rows], "as its author has it");
    let (found, source) = (copy.standing().unwrap(), source.standing().unwrap());
    assert_eq!((found.position, found.tag), (source.position, source.tag));
    assert_eq!((found.lineage, found.at), (source.lineage, source.at));
    assert_eq!(found.holder, None, "a copy is nobody's");
    assert_eq!(copy.oldest().unwrap(), None);
    author.group(&["INSERT INTO t(v) VALUES ('goes on')"]);
    author.bring(&mut copy, 8);
    look(&mut copy);
    // And it can be promoted: it counts on where the source did.
    let mut promoted = Author::on(copy);
    promoted.group(&["INSERT INTO t(v) VALUES ('promoted')", "CREATE INDEX i ON t(v)"]);
    look(&mut promoted.store);
}

fn virtual_tables_are_filled_by_their_own(place: &Place) {
    let mut author = Author::on(place.open_sqlite("source"));
    author.group(&[
        "CREATE TABLE t(a, b)",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "INSERT INTO f VALUES ('some words')",
    ]);
    let mut copy = place.open_sqlite("copy");
    copy.fill(place.source("source").as_mut()).unwrap();
    author.group(&["INSERT INTO f VALUES ('more')"]);
    author.bring(&mut copy, 3);
    assert_eq!(look(&mut copy).1, look(&mut author.store).1);
    let mut promoted = Author::on(copy);
    promoted.group(&["INSERT INTO f VALUES ('and more')"]);
    look(&mut promoted.store);
}

fn a_rotten_source_leaves_nothing_behind(place: &Place) {
    drop(source(place, "source"));
    let mut copy = place.open_sqlite("copy");
    let mut rots = vec![
        ("UPDATE keyless SET b = 1 WHERE ROWID = 5", "UPDATE keyless SET b = NULL WHERE ROWID = 5"),
        ("DELETE FROM keyless WHERE ROWID = 7", "INSERT INTO keyless(ROWID, a) VALUES (7, 1)"),
        ("ALTER TABLE keyless ADD COLUMN c TEXT", "ALTER TABLE keyless DROP COLUMN c"),
    ];
    if let Place::Disk { .. } = place {
        // A schema of PostgreSQL may hold tables of others.
        rots.push(("CREATE TABLE alien(a)", "DROP TABLE alien"));
    }
    for (rot, mend) in rots {
        place.behind("source", rot);
        let mut opened = place.source("source");
        fails_with("SOURCE_DAMAGED", &mut copy, |copy| copy.fill(opened.as_mut()));
        place.behind("source", mend);
    }
    copy.fill(place.source("source").as_mut()).unwrap();
    look(&mut copy);
}

/// A source that goes away after some rows.
struct Fails<'a>(&'a mut AnyStore, usize);

impl Source for Fails<'_> {
    fn standing(&mut self) -> Result<Standing> {
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
    fn chain_at(&mut self, version: Version) -> Result<Option<Chain>> {
        self.0.chain_at(version)
    }
    fn oldest(&mut self) -> Result<Option<Version>> {
        self.0.oldest()
    }
    fn snapshot(
        &mut self,
        each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<Standing> {
        let left = &mut self.1;
        self.0.snapshot(&mut |item| {
            *left = left.checked_sub(1).ok_or_else(|| Error::unavailable("AWAY", "it is away"))?;
            each(item)
        })
    }
}

fn a_source_that_fails_leaves_nothing_behind(place: &Place) {
    let (author, mut source) = source(place, "source");
    let mut copy = place.open_sqlite("copy");
    for items in (0..).step_by(3) {
        let before = look(&mut copy);
        match copy.fill(&mut Fails(&mut source, items)) {
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

#[cfg(feature = "postgres")]
fn a_server_takes_over_what_a_copy_has(place: &Place) {
    use crate::store::ServerStore as _;
    let (_, AnyStore::Postgres(mut server)) = source(place, "server") else { unreachable!() };
    let aside = Place::memory();
    let mut other = Author::on(aside.open_sqlite("other"));
    other.group(&["CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL, b INTEGER UNIQUE, c TEXT)"]);
    other.group(&[
        "INSERT INTO t(a, b) VALUES ('x', 1), ('y', 2)",
        "CREATE VIEW w AS SELECT b FROM t",
    ]);
    other.group(&["INSERT INTO t VALUES ('z', 3, printf('%.1200000c', 'x'))"]);
    other.group(&["DELETE FROM t WHERE b > 2"]);
    aside.behind("other", "UPDATE t SET b = 7 WHERE a = 'x'");
    fails_with("SOURCE_DAMAGED", &mut server, |server| server.replace(&mut other.store));
    aside.behind("other", "UPDATE t SET b = 1 WHERE a = 'x'");
    let position = server.replace(&mut other.store).unwrap();
    assert_eq!(position, other.store.position());
    let (seen, wanted) = (look(&mut server), look(&mut other.store));
    assert_eq!(seen.1, wanted.1);
    let rows = seen.0.len() - 2;
    assert_eq!(seen.0[..rows], wanted.0[..rows]);
    assert_eq!(server.after(Version(0), usize::MAX).unwrap(), other.commits(0), "with its log");
    let part = server.part(Version(4), 0).unwrap();
    assert!(part == other.store.part(Version(4), 0).unwrap(), "with its parts");
    other.group(&["INSERT INTO t VALUES ('z', 3, NULL)"]);
    other.bring(&mut server, 5);
    drop(server);
    assert_eq!(look(&mut place.open("server")).1, look(&mut other.store).1, "after a restart");
}
