//! Syncline keeps SQL tables in step: across processes, servers and datacenters.

pub mod change;
pub mod error;

#[cfg(feature = "planted")]
mod planted;
#[cfg(feature = "planted")]
pub(crate) use planted::planted;
