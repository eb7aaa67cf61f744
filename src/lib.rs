//! Syncline keeps SQL tables in step: across processes, servers and datacenters.

pub mod acknowledge;
pub mod change;
pub mod engine;
pub mod error;
pub mod store;

#[cfg(feature = "planted")]
mod planted;
#[cfg(feature = "planted")]
pub(crate) use planted::planted;
