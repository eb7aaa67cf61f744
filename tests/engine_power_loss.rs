//! The whole engine on a disk that loses power: clients write, readers read, checkpoints and marks go
//! on, and at a random operation the disk freezes. What is found on it afterwards, sectors dropped and
//! torn, must hold every commit that was acknowledged at `disk`, nothing by half, and no position ahead
//! of its rows; and the mark, which lies on the same disk, must not take the loss for a restore.
//!
//! Each life goes on from what the last crash left: recoveries are crashed as well. A failure prints
//! the seed (threads make the rest of the run a matter of luck).

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::*;
use syncline::acknowledge::Level;
use syncline::change::{Position, Value, Version};
use syncline::engine::{
    Database, DatabaseOptions, Program, ReceiptState, RequestOptions, Role, Session, State,
    Statement, Step, WorkingCopy,
};
use syncline::error::Error;
use syncline::store::Source;
use syncline::store::sqlite::SqliteSource;
use syncline::store::vfs::MemoryDisk;

const THREADS: i64 = 3;
const SLOTS: i64 = 12;

/// How many crashes of each kind: all that fit in the time of a normal run, or all of them.
struct Effort {
    crashes: usize,
    until: Instant,
}

impl Effort {
    fn new(crashes: usize, seconds: u64) -> Effort {
        let seconds = if long() { 3600 } else { seconds };
        Effort { crashes, until: Instant::now() + Duration::from_secs(seconds) }
    }

    fn goes_on(&self, done: usize) -> bool {
        done < self.crashes && Instant::now() < self.until
    }
}

fn on(disk: &MemoryDisk) -> DatabaseOptions {
    DatabaseOptions {
        data_dir: "/a".into(),
        disk: Arc::new(disk.clone()),
        checkpoint_at: 64 << 10,
        mark_every: Duration::from_millis(10),
        flush_every: Duration::from_millis(2),
        readers: 2,
        ..DatabaseOptions::writer("/main.db")
    }
}

/// What is known of a slot: each slot has one row, and one client that writes it.
#[derive(Debug, Clone, Default)]
struct Slot {
    /// What was there when this life began.
    before: Option<i64>,
    /// What was acknowledged since, in order.
    acknowledged: Vec<(i64, Position)>,
    /// Begun, and not answered when the power failed.
    in_flight: Option<i64>,
}

type Slots = BTreeMap<i64, Slot>;

/// What the clients of one life know.
#[derive(Default)]
struct Known {
    slots: Mutex<Slots>,
    /// Everything up to this version was said to be durable.
    durable: Mutex<Version>,
}

impl Known {
    fn begun(&self, slot: i64, value: i64) {
        self.slots.lock().unwrap().entry(slot).or_default().in_flight = Some(value);
    }

    fn acknowledged(&self, slot: i64, value: i64, receipt: Position) {
        let mut slots = self.slots.lock().unwrap();
        let slot = slots.entry(slot).or_default();
        slot.in_flight = None;
        slot.acknowledged.push((value, receipt));
    }

    fn durable(&self, receipt: Position) {
        let mut durable = self.durable.lock().unwrap();
        *durable = receipt.version.max(*durable);
    }

    fn last_receipts(&self) -> Vec<Position> {
        let slots = self.slots.lock().unwrap();
        slots.values().filter_map(|s| s.acknowledged.last()).map(|(_, at)| *at).collect()
    }
}

/// Writes slot after slot until the power fails.
fn write(database: &Database, thread: i64, seed: u64, known: &Known) {
    let mut chance = Chance::new(seed * 31 + thread as u64);
    let mut session = database.session();
    let first = chance.below(1 << 40) as i64;
    for value in first.. {
        let slot = thread * SLOTS + chance.below(SLOTS as u64) as i64;
        known.begun(slot, value);
        // Where the policy says `memory`, some writes ask for more.
        let raised = (chance.below(8) == 0).then_some(Level::Disk);
        let options = RequestOptions { acknowledge: raised, ..RequestOptions::default() };
        match put(&mut session, slot, value, &mut chance, &options) {
            Ok(receipt) => {
                known.acknowledged(slot, value, receipt);
                if raised.is_some() || database.options().acknowledge == Level::Disk {
                    known.durable(receipt);
                }
            }
            Err(error) => {
                let expected = ["OUTCOME_UNKNOWN", "STORAGE_FAILED", "SQL_PARSE_ERROR"];
                assert!(expected.contains(&error.code()), "{error:?}");
                return;
            }
        }
    }
}

/// Asks which receipts are durable by now: those must survive.
fn ask(database: &Database, stop: &AtomicBool, known: &Known) {
    while !stop.load(Ordering::Relaxed) {
        for receipt in known.last_receipts() {
            if let Ok(ReceiptState::Durable(_)) = database.receipt_state(receipt) {
                known.durable(receipt);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sets a slot's value, in one of the ways that clients write.
fn put(
    session: &mut Session,
    slot: i64,
    value: i64,
    chance: &mut Chance,
    options: &RequestOptions,
) -> Result<Position, Error> {
    let fill = Value::Blob(vec![chance.below(256) as u8; chance.below(3000) as usize]);
    let arguments = || vec![Value::Integer(slot), Value::Integer(value), fill.clone()];
    let upsert =
        "INSERT INTO a VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = ?2, fill = ?3";
    let mut send = |program| match try_run(session, program, options) {
        Ok(outcome) => Ok(outcome.receipt),
        Err(error) => Err(error),
    };
    let receipt = match chance.below(4) {
        0 => {
            let steps = [
                Statement::new("BEGIN", []),
                Statement::new("DELETE FROM a WHERE slot = ?1", [Value::Integer(slot)]),
                Statement::new(upsert, arguments()),
                Statement::new("COMMIT", []),
            ];
            let steps = steps.map(|statement| Step { statement, condition: None });
            send(Program { steps: steps.into() })?
        }
        1 => {
            send(program(&["BEGIN IMMEDIATE"]))?;
            send(with_arguments(upsert, arguments()))?;
            send(program(&["COMMIT"]))?
        }
        _ => send(with_arguments(upsert, arguments()))?,
    };
    Ok(receipt.expect("it wrote"))
}

/// Reads, and holds snapshots open so that checkpoints meet them, until told to stop.
fn read(database: &Database, stop: &AtomicBool) {
    let mut session = database.session();
    while !stop.load(Ordering::Relaxed) {
        let halves = "SELECT count(*) FROM a FULL JOIN b USING (slot) WHERE a.value IS NOT b.value";
        for sql in ["BEGIN", halves, "SELECT sum(length(fill)) FROM a", "COMMIT"] {
            match try_run(&mut session, program(&[sql]), &RequestOptions::default()) {
                Ok(_) => thread::yield_now(),
                Err(_) => return,
            }
        }
    }
}

fn create(database: &Database) -> Vec<String> {
    let statements = [
        "CREATE TABLE IF NOT EXISTS a (slot INTEGER PRIMARY KEY, value INTEGER UNIQUE, fill BLOB)",
        "CREATE TABLE IF NOT EXISTS b (slot INTEGER PRIMARY KEY, value INTEGER)",
        "CREATE TRIGGER IF NOT EXISTS up AFTER UPDATE ON a \
         BEGIN UPDATE b SET value = new.value WHERE slot = new.slot; END",
        "CREATE TRIGGER IF NOT EXISTS up1 AFTER INSERT ON a \
         BEGIN INSERT INTO b VALUES (new.slot, new.value); END",
        "CREATE TRIGGER IF NOT EXISTS gone AFTER DELETE ON a \
         BEGIN DELETE FROM b WHERE slot = old.slot; END",
    ];
    run(&mut database.session(), &statements)
}

/// One disk, through one crash after another.
struct Lives {
    disk: MemoryDisk,
    change: fn(DatabaseOptions) -> DatabaseOptions,
    /// A reader with its copy on the same disk goes along.
    with_reader: bool,
    known: Known,
}

impl Lives {
    fn new(change: fn(DatabaseOptions) -> DatabaseOptions) -> Lives {
        // It crashes again after recoveries: see there why that asks for this kind.
        let disk = MemoryDisk::powersafe();
        Lives { disk, change, with_reader: false, known: Known::default() }
    }

    fn options(&self) -> DatabaseOptions {
        (self.change)(on(&self.disk))
    }

    fn reader_options(&self) -> DatabaseOptions {
        DatabaseOptions {
            role: Role::Reader,
            working_copy: WorkingCopy::Disk,
            data_dir: "/r".into(),
            node: "r".into(),
            check_every: Duration::from_millis(5),
            ..on(&self.disk)
        }
    }

    /// Writes until the power fails after `operations` more changes of the disk.
    fn until_power_fails(&self, seed: u64, operations: u64) {
        self.disk.crash_at(operations);
        let Ok(database) = Database::open(self.options()) else { return };
        let reader = self.with_reader.then(|| Database::open(self.reader_options()).ok()).flatten();
        // The power may fail in the middle of this: then the next life goes on.
        let _ = create(&database);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (database, known, stop) = (&database, &self.known, &stop);
            scope.spawn(move || read(database, stop));
            scope.spawn(move || ask(database, stop, known));
            let write = move |thread| write(database, thread, seed, known);
            let writers: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || write(t))).collect();
            let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            stop.store(true, Ordering::Relaxed);
            ended.into_iter().for_each(|ended| ended.unwrap());
        });
        assert!(self.disk.is_frozen());
        // Their threads end; the frozen disk lets them change nothing.
        database.close();
        reader.iter().for_each(Database::close);
    }

    /// Opens what is left of the disk, and checks it.
    fn after_crash(&mut self, seed: u64) {
        self.disk = self.disk.crash(seed);
        let database = Database::open(self.options()).expect("it opens");
        let condition = database.status();
        assert_eq!(condition.state, State::Ok, "{}", condition.note);
        let position = database.position();
        assert_proved(&database, position);
        assert_eq!(integrity(&self.disk, "/main.db"), "ok");
        self.log_is_whole(position);
        let failed = create(&database);
        assert!(failed.is_empty(), "{failed:?}: {}", database.status().note);
        self.slots_are_as_acknowledged(&database, position);
        if self.with_reader {
            let reader = Database::open(self.reader_options()).expect("the reader opens");
            assert_equal(&database, &reader);
            reader.close();
        }
        database.close();
    }

    /// The log has every commit up to the position, and ends in its chain.
    fn log_is_whole(&self, position: Position) {
        let disk = Arc::new(self.disk.clone());
        let mut file = SqliteSource::open(disk, "/main.db".as_ref(), None).unwrap();
        let log = file.after(Version(0), usize::MAX).unwrap();
        let versions: Vec<u64> = log.iter().map(|commit| commit.version().0).collect();
        assert_eq!(versions, (1..=position.version.0).collect::<Vec<_>>());
        let chain = log.last().map_or(Position::default().chain, |commit| commit.chain());
        assert_eq!(chain, position.chain);
    }

    fn slots_are_as_acknowledged(&mut self, database: &Database, position: Position) {
        let mut session = database.session();
        let halves = "SELECT count(*) FROM a FULL JOIN b USING (slot) WHERE a.value IS NOT b.value";
        assert_eq!(number(&mut session, halves), 0, "something is there by half");
        let stored: BTreeMap<i64, i64> = rows(&mut session, "SELECT slot, value FROM a")
            .iter()
            .map(|row| match row[..] {
                [Value::Integer(slot), Value::Integer(value)] => (slot, value),
                ref other => panic!("{other:?}"),
            })
            .collect();
        let memory = database.options().acknowledge == Level::Memory;
        let slots = std::mem::take(&mut *self.known.slots.lock().unwrap());
        for (slot, known) in &slots {
            let found = stored.get(slot).copied();
            let kept = known.acknowledged.iter().filter(|(_, at)| at.version <= position.version);
            let expected = kept.clone().next_back().map(|(value, _)| *value).or(known.before);
            let lost = known.acknowledged.len() - kept.count();
            assert!(lost == 0 || memory, "slot {slot} lost {lost} commits: {known:?}");
            assert!(
                found == expected || (found == known.in_flight && lost == 0),
                "slot {slot} has {found:?}, acknowledged was {expected:?}: {known:?}"
            );
            self.receipts_are_known(database, position, known);
        }
        let durable = *self.known.durable.lock().unwrap();
        assert!(position.version >= durable, "{position}, and {durable} was durable");
        let slot = |(slot, value)| (slot, Slot { before: Some(value), ..Slot::default() });
        let slots = Mutex::new(stored.into_iter().map(slot).collect());
        self.known = Known { slots, durable: Mutex::new(position.version) };
    }

    fn receipts_are_known(&self, database: &Database, position: Position, known: &Slot) {
        for (value, receipt) in &known.acknowledged {
            let state = database.receipt_state(*receipt).unwrap();
            let lost = receipt.version > position.version;
            let expected =
                if lost { ReceiptState::Undone } else { ReceiptState::Durable(vec!["a".into()]) };
            assert_eq!(state, expected, "{value} at {receipt}, now at {position}");
        }
    }
}

/// Crashes one disk after another, ten times each.
fn crash_again_and_again(effort: &Effort, base: u64, new: impl Fn() -> Lives) -> usize {
    let (mut done, mut lives) = (0, new());
    while effort.goes_on(done) {
        if done % 10 == 0 {
            lives = new();
        }
        let seed = base + done as u64;
        let mut chance = Chance::new(seed);
        let most = 1 << (2 + chance.below(10));
        let operations = 1 + chance.below(most);
        let life = || {
            lives.until_power_fails(seed, operations);
            lives.after_crash(seed);
        };
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life)) {
            eprintln!("seed {seed}: power failed after {operations} operations");
            std::panic::resume_unwind(panic);
        }
        done += 1;
    }
    println!("{done} crashes");
    done
}

/// A machine loses power while three clients write to the file itself, at `disk`.
#[test]
fn power_loss_takes_no_acknowledged_commit() {
    let effort = Effort::new(1000, 16);
    let done = crash_again_and_again(&effort, 1_000, || Lives::new(|options| options));
    assert!(done >= 10, "only {done} crashes");
}

/// The same with the copy that serves in memory: what is acknowledged is in the backing file.
#[test]
fn power_loss_takes_no_acknowledged_commit_of_a_copy_in_memory() {
    let effort = Effort::new(400, 8);
    let memory = |options| DatabaseOptions { working_copy: WorkingCopy::Memory, ..options };
    let done = crash_again_and_again(&effort, 2_000, || Lives::new(memory));
    assert!(done >= 10, "only {done} crashes");
}

/// Under `memory` the last commits may go, and only those: what is left is a prefix, a lost receipt is
/// known to be undone, and what was durable by the node's own word is there.
#[test]
fn power_loss_under_memory_takes_only_the_unflushed_tail() {
    let effort = Effort::new(400, 8);
    let done = crash_again_and_again(&effort, 3_000, || {
        Lives::new(|options| DatabaseOptions { acknowledge: Level::Memory, ..options })
    });
    assert!(done >= 10, "only {done} crashes");
    let effort = Effort::new(200, 4);
    let done = crash_again_and_again(&effort, 4_000, || {
        Lives::new(|options| DatabaseOptions {
            acknowledge: Level::Memory,
            working_copy: WorkingCopy::Memory,
            ..options
        })
    });
    assert!(done >= 10, "only {done} crashes");
}

/// A reader's copy on the same disk loses what was not synced, and comes back to its writer.
#[test]
fn power_loss_of_a_reader_on_disk_heals() {
    let effort = Effort::new(300, 8);
    let done = crash_again_and_again(&effort, 5_000, || Lives {
        with_reader: true,
        ..Lives::new(|options| options)
    });
    assert!(done >= 10, "only {done} crashes");
}
