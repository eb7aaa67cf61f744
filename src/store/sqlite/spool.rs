//! The captured body of a commit, in memory up to a bound, then in a file.
//!
//! It is cut into parts of about a mebibyte at entry boundaries, so that a large commit is written,
//! shipped and applied piece by piece. It can be cut back to an earlier length, because SQLite takes
//! rows back without telling anyone (`ROLLBACK TO`, a statement that failed).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use crate::change::BodyWriter;
use crate::error::{Error, Result};

/// A body larger than this travels in parts.
pub(crate) const PART: usize = 1 << 20;
/// Beyond this a body goes to a file.
const IN_MEMORY: usize = 64 << 20;

/// A growing body.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    /// The bytes after those in `file`.
    pub tail: BodyWriter,
    file: Option<File>,
    /// How many bytes lie in `file`.
    spilled: u64,
    /// Where parts end, each at the end of an entry; the last part is open.
    cuts: Vec<u64>,
}

fn spill_failed(error: std::io::Error) -> Error {
    let full = error.raw_os_error() == Some(libc::ENOSPC);
    let error = Error::unavailable(
        if full { "DISK_FULL" } else { "SPILL_FAILED" },
        format!("a large transaction could not be kept in a temporary file: {error}"),
    );
    error.hint("make room in the temporary directory (TMPDIR), or write less in one transaction")
}

impl Spool {
    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.spilled + self.tail.0.0.len() as u64
    }

    /// Whether nothing was captured.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where parts end; the body's end is the end of the last.
    pub fn parts(&self) -> Vec<u64> {
        let mut ends = self.cuts.clone();
        if ends.last() != Some(&self.len()) {
            ends.push(self.len());
        }
        ends
    }

    /// To be called after each entry: notes the cut, and spills.
    pub fn entry_ended(&mut self) -> Result<()> {
        if self.len() - self.cuts.last().copied().unwrap_or(0) >= PART as u64 {
            self.cuts.push(self.len());
            if self.tail.0.0.len() > IN_MEMORY {
                return self.spill();
            }
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile().map_err(spill_failed)?);
        }
        let file = self.file.as_mut().expect("just opened");
        file.seek(SeekFrom::Start(self.spilled)).map_err(spill_failed)?;
        file.write_all(&self.tail.0.0).map_err(spill_failed)?;
        self.spilled += self.tail.0.0.len() as u64;
        self.tail.0.0.clear();
        Ok(())
    }

    /// Back to an earlier length.
    pub fn truncate(&mut self, length: u64) -> Result<()> {
        self.cuts.retain(|cut| *cut <= length);
        if length >= self.spilled {
            self.tail.0.0.truncate((length - self.spilled) as usize);
        } else {
            self.spilled = length;
            self.tail.0.0.clear();
        }
        Ok(())
    }

    /// The bytes from `start` to `end`.
    pub fn read(&mut self, start: u64, end: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity((end - start) as usize);
        if start < self.spilled {
            let file = self.file.as_mut().expect("something was spilled");
            file.seek(SeekFrom::Start(start)).map_err(spill_failed)?;
            let length = end.min(self.spilled) - start;
            file.take(length).read_to_end(&mut bytes).map_err(spill_failed)?;
        }
        if end > self.spilled {
            let from = start.max(self.spilled) - self.spilled;
            bytes.extend_from_slice(&self.tail.0.0[from as usize..(end - self.spilled) as usize]);
        }
        Ok(bytes)
    }

    /// The whole body, if it is small enough for one frame.
    pub fn whole(&self) -> Option<&[u8]> {
        (self.spilled == 0 && self.cuts.is_empty()).then_some(&self.tail.0.0)
    }

    /// Empty again, keeping a modest buffer.
    pub fn clear(&mut self) {
        self.file = None;
        self.spilled = 0;
        self.cuts.clear();
        self.tail.0.0.clear();
        self.tail.0.0.shrink_to(PART);
    }
}
