//! Power loss: the disk forgets or tears whatever was not synced, at any operation of groups that
//! commit, of copies that apply, of checkpoints beside them, and of the recovery from the last loss.
//!
//! | must hold after a restart | else |
//! | --- | --- |
//! | what was acknowledged is there | an "ok" was a lie |
//! | the position is one that the writer gave | the history was cut in the middle of a group |
//! | recount = digest = the position's | rows and position moved apart |
//! | the log ends at the position, and makes the rows | others would be fed something else |
//! | `integrity_check` says ok | |
//!
//! All connections work in one thread, one after the other, in an order drawn from the seed: so a seed
//! that fails fails again. `SYNCLINE_LONG=1` has more crashes. Left out: the engine's own threads.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::raw::Db;
use super::tests::{assert_same, budget, dump, empty, holder, integrity};
use super::{Failed, SqliteStore, Statement, Sync, connection};
use crate::change::{Commit, Lineage, Position, Tag, Timestamp, Version};
use crate::error::Result;
use crate::store::disk::Disk;
use crate::store::vfs::MemoryDisk;
use crate::store::vfs::chance::Chance;
use crate::store::{Source, Store};

const PATH: &str = "/p.db";

/// How many crashes a test may take.
fn crashes() -> u64 {
    if std::env::var("SYNCLINE_LONG").is_ok() { 2_000 } else { 250 }
}

/// Others at work on the same file: readers with old snapshots, and checkpoints.
struct Bystanders {
    readers: Vec<Connection>,
    checkpointer: Connection,
}

impl Bystanders {
    fn join(disk: &dyn Disk) -> Result<Bystanders> {
        let reader = || connection::open_readonly(disk, Path::new(PATH));
        let checkpointer = connection::open_writable(disk, Path::new(PATH), Sync::Full)?;
        let at_once = std::time::Duration::ZERO;
        checkpointer.busy_timeout(at_once).expect("a plain setting");
        Ok(Bystanders { readers: vec![reader()?, reader()?], checkpointer })
    }

    /// Something happens, or nothing. The power may be gone: then it fails, and nobody is told.
    fn act(&mut self, chance: &mut Chance) {
        match chance.below(8) {
            0 | 1 => {
                let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][chance.below(4) as usize];
                let sql = format!("PRAGMA wal_checkpoint({mode})");
                let _ = Db::of(&self.checkpointer).query(&sql, &[], |_| Ok(()));
            }
            2 | 3 => {
                let reader = Db::of(&self.readers[chance.below(2) as usize]);
                if reader.is_autocommit() {
                    let _ = reader.execute_batch("BEGIN; SELECT count(*) FROM t");
                } else {
                    whole_snapshot(reader);
                    let _ = reader.execute_batch("ROLLBACK");
                }
            }
            _ => {}
        }
    }
}

/// A reader sees rows and position of one moment, whatever was committed or checkpointed since.
fn whole_snapshot(reader: Db) {
    let counted = super::recount::database(reader);
    let position = super::state::position(reader);
    if let (Ok(counted), Ok(row)) = (counted, position) {
        assert_eq!(counted.total(), row.position.digest, "a reader's snapshot");
    }
}

fn open(disk: &MemoryDisk) -> Result<SqliteStore> {
    SqliteStore::open(Arc::new(disk.clone()), Path::new(PATH), Sync::Full, 1 << 30)
}

/// What must hold after a restart; gives where the store stands.
fn recovered(disk: &MemoryDisk, seed: u64) -> Position {
    let mut store = open(disk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    integrity(&store);
    let position = store.position();
    let counted = store.recount().unwrap();
    assert_eq!(counted, store.digests().unwrap(), "seed {seed}: the kept digests");
    assert_eq!(counted.total(), position.digest, "seed {seed}: rows and position moved apart");
    let commits = store.after(Version(0), usize::MAX).unwrap();
    let end = commits.last().map_or(Position::default(), Commit::position);
    assert_eq!(
        (end.version, end.chain, end.digest),
        (position.version, position.chain, position.digest),
        "seed {seed}: the log does not end at the position"
    );
    if seed.is_multiple_of(16) {
        let mut copy = empty();
        copy.follow().unwrap();
        let lineage = store.lineage().clone();
        copy.apply(&lineage, &commits, &mut |c, i| store.part(c.version(), i)).unwrap();
        assert_same(&dump(&copy), &dump(&store), "what the log makes");
    }
    position
}

/// A writer, until the power goes.
struct Writer<'a> {
    store: SqliteStore,
    chance: &'a mut Chance,
    /// The last position that was reported as committed.
    acknowledged: Position,
    /// Where the group that was under way would have ended.
    intended: Position,
}

const TABLES: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v, b); \
    CREATE TABLE keyless(a, b); CREATE INDEX by_v ON t(v)";

impl Writer<'_> {
    fn statement(&mut self) -> String {
        let n = self.chance.below(40);
        let size = [10, 200, 5_000, 40_000][self.chance.below(4) as usize];
        match self.chance.below(12) {
            0 => format!("DELETE FROM t WHERE id % 5 = {}", n % 5),
            1 | 2 => {
                format!("UPDATE t SET v = v + 1, b = zeroblob({size}) WHERE id % 7 = {}", n % 7)
            }
            3 => format!("INSERT INTO keyless SELECT v, b FROM t WHERE id % 9 = {}", n % 9),
            4 => format!("DELETE FROM keyless WHERE rowid % 3 = {}", n % 3),
            5 => format!("CREATE TABLE IF NOT EXISTS more{} (a, b)", n % 3),
            6 => format!("INSERT OR IGNORE INTO t VALUES ({n}, {n}, 'x')"),
            _ => format!("INSERT INTO t(v, b) VALUES ({n}, zeroblob({size})), ({n}, 'y')"),
        }
    }

    /// One unit; it is undone by its client once in a while.
    fn unit(&mut self, sql: &str) -> Result<()> {
        self.store.begin_unit(true)?;
        match self.store.run(&Statement::new(sql, []), &budget()) {
            Ok(_) => {}
            Err(Failed::Statement(e) | Failed::Unit(e) | Failed::Transaction(e)) => return Err(e),
        }
        if self.chance.below(9) == 0 {
            return self.store.rollback_unit();
        }
        self.store.commit_unit(Timestamp(1), None)?;
        Ok(())
    }

    /// One group of a few units.
    fn group(&mut self) -> Result<()> {
        self.store.begin()?;
        for _ in 0..1 + self.chance.below(5) {
            let sql = self.statement();
            self.unit(&sql)?;
        }
        if let Some(last) = self.store.group_commits().last() {
            self.intended = last.position();
        }
        self.acknowledged = self.store.commit()?;
        Ok(())
    }

    fn work(&mut self, bystanders: &mut Bystanders) {
        while self.group().is_ok() {
            bystanders.act(self.chance);
        }
    }
}

/// Writes until the power goes; gives what was acknowledged, and what was under way.
fn write(disk: &MemoryDisk, chance: &mut Chance, tag: u64, last: Position) -> (Position, Position) {
    let attempt = || -> Result<(SqliteStore, Bystanders)> {
        let mut store = open(disk)?;
        store.take_epoch(Tag(tag), &holder())?;
        store.serve_clients()?;
        Ok((store, Bystanders::join(disk)?))
    };
    let Ok((store, mut bystanders)) = attempt() else { return (last, last) };
    let mut writer = Writer { store, chance, acknowledged: last, intended: last };
    writer.work(&mut bystanders);
    (writer.acknowledged, writer.intended)
}

/// Every other disk spoils sectors, and loses power once; the others lose it again and again, also
/// while they recover (see [`MemoryDisk::powersafe`] for why not all do).
fn disk_of(seed: u64) -> (MemoryDisk, u64) {
    if seed.is_multiple_of(2) {
        (MemoryDisk::power_loss(), 1)
    } else {
        (MemoryDisk::powersafe(), 5)
    }
}

fn prepare(disk: MemoryDisk) -> (MemoryDisk, Position) {
    let mut store = open(&disk).unwrap();
    store.take_epoch(Tag(1), &holder()).unwrap();
    store.serve_clients().unwrap();
    for sql in TABLES.split(';') {
        super::tests::run_one(&mut store, sql).unwrap();
    }
    (disk, store.position())
}

#[test]
fn no_acknowledged_commit_is_lost_and_no_group_is_cut() {
    let mut left = crashes();
    for seed in 1.. {
        let mut chance = Chance::new(seed);
        let (disk, lives) = disk_of(seed);
        let (mut disk, mut last) = prepare(disk);
        for life in 0..lives {
            let within = [15, 60, 250][chance.below(3) as usize];
            disk.crash_at(chance.below(within));
            let (acknowledged, intended) = write(&disk, &mut chance, 10 + life, last);
            disk = disk.crash(seed + life);
            last = recovered(&disk, seed);
            let same = |p: Position| (p.version, p.chain) == (last.version, last.chain);
            assert!(
                same(acknowledged) || same(intended),
                "seed {seed}, life {life}: {last} is there; acknowledged was {acknowledged}, \
                 under way {intended}"
            );
            left -= 1;
        }
        if left < 6 {
            return;
        }
    }
}

/// A history to be applied: made once, small commits and one in parts.
fn history() -> (Lineage, Vec<Commit>, Vec<Vec<u8>>) {
    let disk = MemoryDisk::new();
    let mut chance = Chance::new(7);
    let mut store = open(&disk).unwrap();
    store.take_epoch(Tag(1), &holder()).unwrap();
    store.serve_clients().unwrap();
    for sql in TABLES.split(';') {
        super::tests::run_one(&mut store, sql).unwrap();
    }
    let last = store.position();
    let mut writer = Writer { store, chance: &mut chance, acknowledged: last, intended: last };
    for _ in 0..30 {
        writer.group().unwrap();
    }
    let mut store = writer.store;
    super::tests::run_one(&mut store, "INSERT INTO t(b) VALUES (zeroblob(1100000)), (1)").unwrap();
    let commits = store.after(Version(0), usize::MAX).unwrap();
    let large = commits.last().expect("the last is large");
    let parts = (0..large.parts()).map(|i| store.part(large.version(), i).unwrap()).collect();
    (store.lineage().clone(), commits, parts)
}

#[test]
fn a_copy_has_applied_what_its_position_says() {
    let (lineage, commits, parts) = history();
    let mut left = crashes();
    for seed in 1.. {
        let mut chance = Chance::new(seed);
        let ((mut disk, lives), mut acknowledged) = (disk_of(seed), Version(0));
        for life in 0..lives {
            let within = [15, 60, 400][chance.below(3) as usize];
            disk.crash_at(chance.below(within));
            let _ = follow(&disk, &mut chance, &lineage, &commits, &parts, &mut acknowledged);
            disk = disk.crash(seed + life);
            let found = recovered(&disk, seed).version;
            assert!(found >= acknowledged, "seed {seed}: {found} is there, not {acknowledged}");
            acknowledged = found;
            left -= 1;
        }
        if left < 6 {
            return;
        }
    }
}

/// Applies what is left, a few commits at a time, until it is done or the power goes.
fn follow(
    disk: &MemoryDisk,
    chance: &mut Chance,
    lineage: &Lineage,
    commits: &[Commit],
    parts: &[Vec<u8>],
    acknowledged: &mut Version,
) -> Result<()> {
    let mut copy = open(disk)?;
    copy.follow()?;
    let mut bystanders = Bystanders::join(disk)?;
    while let Some(rest) =
        commits.get(copy.position().version.0 as usize..).filter(|r| !r.is_empty())
    {
        let few = rest.len().min(1 + chance.below(12) as usize);
        let position =
            copy.apply(lineage, &rest[..few], &mut |_, index| Ok(parts[index as usize].clone()))?;
        *acknowledged = position.version;
        bystanders.act(chance);
    }
    Ok(())
}
