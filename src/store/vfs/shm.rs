//! The memory that connections to one WAL database share, and its eight locks.
//!
//! SQLite keeps its index of the WAL there and synchronises access itself, by these locks and by
//! barriers; here are only the bytes and the bookkeeping. Regions are made of atomics because
//! connections write them through shared references. They are never moved or freed while anyone is
//! attached, and go with the last one to leave: whoever comes next rebuilds the index from the WAL,
//! as after a crash.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

/// Number of locks: `SQLITE_SHM_NLOCK`.
const SLOTS: usize = 8;

/// A set of lock slots, one bit each.
pub(super) type Slots = u8;

/// The slots from `first` on, `count` of them.
pub(super) fn slots(first: i32, count: i32) -> Slots {
    (((1u32 << count) - 1) << first) as Slots
}

/// Shared memory of one file object.
#[derive(Default)]
pub(super) struct Shm(Mutex<State>);

#[derive(Default)]
struct State {
    regions: Vec<Box<[AtomicU64]>>,
    attached: usize,
    holders: [Holders; SLOTS],
}

/// Either one exclusive holder, or any number of shared ones.
#[derive(Clone, Copy, Default)]
struct Holders {
    shared: u32,
    exclusive: bool,
}

/// One connection's part in it.
#[derive(Default)]
pub(super) struct Link {
    attached: bool,
    shared: Slots,
    exclusive: Slots,
}

impl Shm {
    /// The address of a region, or null where it does not exist and `extend` is not set.
    pub(super) fn map(
        &self,
        link: &mut Link,
        region: usize,
        size: usize,
        extend: bool,
    ) -> *mut c_void {
        let mut state = self.0.lock().unwrap();
        if !link.attached {
            link.attached = true;
            state.attached += 1;
        }
        while extend && state.regions.len() <= region {
            let words = size.div_ceil(size_of::<AtomicU64>());
            state.regions.push((0..words).map(|_| AtomicU64::new(0)).collect());
        }
        match state.regions.get(region) {
            Some(words) => words.as_ptr().cast_mut().cast(),
            None => std::ptr::null_mut(),
        }
    }

    /// Takes a shared lock on `wanted`. `false` if another connection has one of them exclusively.
    pub(super) fn lock_shared(&self, link: &mut Link, wanted: Slots) -> bool {
        let wanted = wanted & !(link.shared | link.exclusive);
        let mut state = self.0.lock().unwrap();
        if state.any(wanted, |holders| holders.exclusive) {
            return false;
        }
        state.each(wanted, |holders| holders.shared += 1);
        link.shared |= wanted;
        true
    }

    /// Takes `wanted` exclusively. `false` if anyone else holds one of them in any way.
    pub(super) fn lock_exclusive(&self, link: &mut Link, wanted: Slots) -> bool {
        let wanted = wanted & !link.exclusive;
        let mut state = self.0.lock().unwrap();
        if state.any(wanted, |holders| holders.exclusive || holders.shared > 0) {
            return false;
        }
        state.each(wanted, |holders| holders.exclusive = true);
        link.exclusive |= wanted;
        true
    }

    /// Lets go of whichever of `given` the connection holds.
    pub(super) fn unlock(&self, link: &mut Link, given: Slots) {
        let mut state = self.0.lock().unwrap();
        state.each(given & link.shared, |holders| holders.shared -= 1);
        state.each(given & link.exclusive, |holders| holders.exclusive = false);
        link.shared &= !given;
        link.exclusive &= !given;
    }

    /// Leaves. The last to leave takes the memory along.
    pub(super) fn detach(&self, link: &mut Link) {
        self.unlock(link, Slots::MAX);
        if std::mem::take(&mut link.attached) {
            let mut state = self.0.lock().unwrap();
            state.attached -= 1;
            if state.attached == 0 {
                state.regions.clear();
            }
        }
    }
}

impl State {
    fn any(&self, slots: Slots, test: impl Fn(&Holders) -> bool) -> bool {
        self.holders
            .iter()
            .enumerate()
            .any(|(slot, holders)| slots >> slot & 1 == 1 && test(holders))
    }

    fn each(&mut self, slots: Slots, change: impl Fn(&mut Holders)) {
        for (slot, holders) in self.holders.iter_mut().enumerate() {
            if slots >> slot & 1 == 1 {
                change(holders);
            }
        }
    }
}
