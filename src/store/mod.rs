//! Where rows, log and position are kept.

pub mod disk;
