//! What goes wrong: faults to order, and the gate through which every change passes.
//!
//! The gate numbers the changes of a disk (write, truncate, sync, and every change of a name), and
//! refuses all of them from some number on: that is how a disk is frozen, at an exact point or now.
//! A crash shuts the gate, so that it sees all files at one moment and no change half done.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultOn {
    /// `xSync`. What was to be synced stays unsynced. The next sync through each other handle that has
    /// the file open fails, too; those after that succeed, and pass it over.
    Sync,
    /// `xWrite`. Nothing is written.
    Write,
    /// `xRead`.
    Read,
    /// `xTruncate`. The length stays.
    Truncate,
}

/// What it fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultError {
    /// `SQLITE_IOERR`.
    Io,
    /// `SQLITE_FULL`: no space.
    Full,
}

/// How often it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// That one time.
    Once,
    /// Then and ever after.
    Forever,
}

/// A fault, ordered with [`super::MemoryDisk::fail`].
#[derive(Debug, Clone)]
pub struct Fault {
    /// The call that fails.
    pub on: FaultOn,
    /// Which of those calls, counted from now: 1 is the next.
    pub nth: u64,
    /// What it fails with.
    pub error: FaultError,
    /// How often.
    pub times: Times,
    /// Only on files whose name ends so, for example `-wal`.
    pub file: Option<String>,
}

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Frozen,
    Io,
    Full,
    Missing,
    Exists,
    ReadOnly,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        match failure {
            Failure::Frozen => io::Error::other("the disk lost power"),
            Failure::Io => io::Error::other("input/output error"),
            Failure::Full => io::ErrorKind::StorageFull.into(),
            Failure::Missing => io::ErrorKind::NotFound.into(),
            Failure::Exists => io::ErrorKind::AlreadyExists.into(),
            Failure::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
        }
    }
}

/// Where every change passes.
pub(super) struct Gate {
    /// Held shared during a change, exclusively while all files are looked at together.
    turn: RwLock<()>,
    /// Changes that asked for passage.
    asked: AtomicU64,
    /// The first of them that is refused.
    frozen_from: AtomicU64,
    armed: AtomicBool,
    faults: Mutex<Vec<Fault>>,
}

/// Passage for one change. Nothing else may be asked of the gate while it is held.
pub(super) type Passage<'a> = RwLockReadGuard<'a, ()>;

impl Gate {
    pub(super) fn new() -> Gate {
        Gate {
            turn: RwLock::default(),
            asked: AtomicU64::new(0),
            frozen_from: AtomicU64::new(u64::MAX),
            armed: AtomicBool::new(false),
            faults: Mutex::default(),
        }
    }

    /// Asks for passage for a change of the file `name`. `on` is `None` for changes of names.
    pub(super) fn change(&self, on: Option<FaultOn>, name: &str) -> Result<Passage<'_>, Failure> {
        let passage = self.turn.read().unwrap();
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        if number >= self.frozen_from.load(Ordering::SeqCst) {
            return Err(Failure::Frozen);
        }
        if let Some(on) = on {
            self.fault(on, name)?;
        }
        Ok(passage)
    }

    /// Fails if a fault was ordered for this call.
    pub(super) fn fault(&self, on: FaultOn, name: &str) -> Result<(), Failure> {
        if !self.armed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut faults = self.faults.lock().unwrap();
        let mut failure = None;
        faults.retain_mut(|fault| {
            let mine = fault.on == on && fault.file.as_ref().is_none_or(|end| name.ends_with(end));
            if mine {
                fault.nth = fault.nth.saturating_sub(1);
            }
            let strikes = mine && fault.nth == 0;
            if strikes {
                failure = Some(fault.error);
            }
            !strikes || fault.times == Times::Forever
        });
        match failure {
            None => Ok(()),
            Some(FaultError::Io) => Err(Failure::Io),
            Some(FaultError::Full) => Err(Failure::Full),
        }
    }

    pub(super) fn order(&self, fault: Fault) {
        self.faults.lock().unwrap().push(fault);
        self.armed.store(true, Ordering::Release);
    }

    pub(super) fn clear(&self) {
        self.armed.store(false, Ordering::Release);
        self.faults.lock().unwrap().clear();
    }

    /// Changes that passed the gate so far.
    pub(super) fn operations(&self) -> u64 {
        self.asked.load(Ordering::SeqCst).min(self.frozen_from.load(Ordering::SeqCst))
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen_from.load(Ordering::SeqCst) <= self.asked.load(Ordering::SeqCst)
    }

    /// Freezes after `n` more changes.
    pub(super) fn freeze_after(&self, n: u64) {
        let _shut = self.shut();
        let from = self.operations().saturating_add(n);
        self.frozen_from.fetch_min(from, Ordering::SeqCst);
    }

    /// Waits until no change is under way, and lets none begin until the guard goes.
    pub(super) fn shut(&self) -> RwLockWriteGuard<'_, ()> {
        self.turn.write().unwrap()
    }

    /// Refuses every change from now on. For whoever has [`Gate::shut`] it.
    pub(super) fn freeze(&self, _shut: &RwLockWriteGuard<'_, ()>) {
        self.frozen_from.fetch_min(self.asked.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}
