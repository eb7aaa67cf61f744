//! Table sync: are two databases equal, which rows are not, and make them so.
//!
//! ```text
//!            ┌── versions ── rows above the mark ────────────────┐
//!   A ───────┤                                                   ├─ batches ─▶ B, with the position
//!            └── ranges ──── digests, narrowed where they differ ┘             in one transaction
//! ```
//!
//! Versions say quickly what is new. They cannot say what is gone, what was put back, or what got an old version
//! late: equal counts and equal maximum versions prove nothing. So every round also compares a range of each
//! table by its digests, over keys and whole rows, and the table is walked through within a stated time.
//!
//! ```text
//!   both hold            1:210  2:221  3:234  4:245
//!   a snapshot of A is taken; row 3 is updated and synced
//!                        A, B   3:257
//!   the snapshot is restored
//!                        A      3:234                    B      3:257
//!   "delete all above A's maximum" removes row 3 from B, and no comparison of versions brings it back.
//!   Here: B's rows above A's maximum are looked up in A; row 3 is there, and is written over.
//! ```
//!
//! [`compare`] narrows; [`work`] keeps what was found until it is applied; [`apply`] writes in batches that tune
//! themselves ([`tuner`]) and holds the rows that cannot be written ([`held`]); [`versions`] reads what is new;
//! [`mod@diff`] and [`run`] are the two commands.
//!
//! # What is left out
//!
//! A and B are not locked against each other: `sync` makes B equal to what A was when the round began. Two
//! writers, one on each side, are another matter: B's own changes are overwritten. Schema is not followed.

pub mod apply;
pub mod collide;
pub mod compare;
pub mod diff;
pub mod event;
mod fill;
mod foresee;
pub mod held;
pub mod keep;
pub mod options;
pub mod pair;
pub mod position;
pub mod run;
pub mod tuner;
pub mod versions;
mod waiting;
pub mod work;

pub use diff::{DiffReport, RowDifference, TableDiff, diff};
pub use event::Event;
pub use options::{DiffOptions, MaxDelete, SyncOptions};
pub use pair::{Pair, Selection};
pub use run::{SyncReport, TableReport, sync_once};
