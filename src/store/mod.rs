//! Where rows, log and position are kept.

pub mod disk;
pub mod vfs;
