//! SQLite's five-step file lock, per file object.
//!
//! ```text
//!   None → Shared → Reserved → (Pending →) Exclusive
//! ```
//!
//! Any number may be `Shared`; one of them may be `Reserved` besides. `Pending` lets no new `Shared`
//! in while it waits for the others to leave, and becomes `Exclusive` once it is alone. Nobody waits
//! here: a lock that is taken is refused, and SQLite's busy handler decides about trying again.

/// How far an open file has locked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

impl Level {
    /// SQLite numbers the levels from 0 to 4.
    pub(super) fn from_number(number: i32) -> Level {
        match number {
            i32::MIN..=0 => Level::None,
            1 => Level::Shared,
            2 => Level::Reserved,
            3 => Level::Pending,
            4.. => Level::Exclusive,
        }
    }
}

/// Who has locked one file. `Exclusive` needs no field: it is `pending` with one `shared`.
#[derive(Debug, Default)]
pub(super) struct Locks {
    shared: u32,
    reserved: bool,
    pending: bool,
}

impl Locks {
    /// Takes an open file from level `from` to `to`, or as far as it gets on the way.
    pub(super) fn raise(&mut self, from: Level, to: Level) -> Level {
        match to {
            _ if to <= from => from,
            Level::None => from,
            Level::Shared if self.pending => from,
            Level::Shared => {
                self.shared += 1;
                Level::Shared
            }
            Level::Reserved if self.reserved || self.pending => from,
            Level::Reserved => {
                self.reserved = true;
                Level::Reserved
            }
            Level::Pending | Level::Exclusive => self.raise_to_exclusive(from),
        }
    }

    fn raise_to_exclusive(&mut self, from: Level) -> Level {
        let others_reserved = self.reserved && from < Level::Reserved;
        let others_pending = self.pending && from < Level::Pending;
        if others_reserved || others_pending {
            return from;
        }
        self.pending = true;
        if self.shared == 1 { Level::Exclusive } else { Level::Pending }
    }

    /// Lets go of everything above `to`, which is `Shared` or `None`.
    pub(super) fn lower(&mut self, from: Level, to: Level) -> Level {
        if to >= from {
            return from;
        }
        // At `Pending` nobody else can hold `reserved`: see `raise_to_exclusive`.
        if from >= Level::Reserved {
            self.reserved = false;
        }
        if from >= Level::Pending {
            self.pending = false;
        }
        if to == Level::None {
            self.shared -= 1;
        }
        to
    }

    /// Whether anyone is about to write.
    pub(super) fn is_reserved(&self) -> bool {
        self.reserved || self.pending
    }
}
