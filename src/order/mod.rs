//! ORDER: which write comes first?
//!
//! | answer | who gives the version |
//! | --- | --- |
//! | [`leader`] | the one writer counts, in an epoch it took in the backing database |
//!
//! Left out for now: a cluster manager, consensus, hybrid clocks, and databases that others write to.

pub mod leader;
