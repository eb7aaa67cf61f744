//! placeholder until the seam lands
/// Files.
pub trait Disk: Send + Sync {}
/// The operating system's.
pub struct NativeDisk;
impl Disk for NativeDisk {}
