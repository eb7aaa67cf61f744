//! What was found to differ, kept in a file until it is applied: it may be as much as the table.

use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use tempfile::SpooledTempFile;

use crate::endpoint::chunk::Difference;
use crate::endpoint::sort::last_first;
use crate::endpoint::{Key, Range};
use crate::error::{Error, Result};

use super::compare::Found;

fn io(error: std::io::Error) -> Error {
    Error::unavailable(
        "WORK_FILE_FAILED",
        format!("the list of differences cannot be kept: {error}"),
    )
    .hint("free space in the directory for temporary files, or set TMPDIR to another one")
    .source(error)
}

/// As many bytes are kept in memory.
const IN_MEMORY: usize = 1 << 20;

/// Records of bytes, written once and read in order.
struct Spool {
    file: BufWriter<SpooledTempFile>,
}

impl Spool {
    fn new() -> Spool {
        Spool { file: BufWriter::new(SpooledTempFile::new(IN_MEMORY)) }
    }

    fn push(&mut self, record: &[u8]) -> Result<()> {
        let length =
            u32::try_from(record.len()).map_err(|_| io(std::io::ErrorKind::FileTooLarge.into()))?;
        self.file.write_all(&length.to_le_bytes()).map_err(io)?;
        self.file.write_all(record).map_err(io)
    }

    fn each(&mut self, then: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        self.file.flush().map_err(io)?;
        let file = self.file.get_mut();
        let end = file.seek(SeekFrom::End(0)).map_err(io)?;
        file.rewind().map_err(io)?;
        let mut reader = BufReader::new(file);
        let mut at = 0;
        while at < end {
            let mut length = [0; 4];
            reader.read_exact(&mut length).map_err(io)?;
            let mut record = vec![0; u32::from_le_bytes(length) as usize];
            reader.read_exact(&mut record).map_err(io)?;
            at += 4 + record.len() as u64;
            then(record)?;
        }
        Ok(())
    }
}

/// How many rows are to be written and removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that B lacks.
    pub only_in_a: u64,
    /// Rows that only B has.
    pub only_in_b: u64,
    /// Rows of both that differ.
    pub changed: u64,
}

impl Counts {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.only_in_a + self.only_in_b + self.changed
    }
}

/// The differences of one table.
pub struct Work {
    puts: Spool,
    ranges: Vec<Range>,
    deletes: Spool,
    /// How many of each.
    pub counts: Counts,
}

impl Work {
    /// Nothing to do yet.
    #[allow(clippy::new_without_default, reason = "it is no value")]
    pub fn new() -> Work {
        let (puts, deletes) = (Spool::new(), Spool::new());
        Work { puts, ranges: Vec::new(), deletes, counts: Counts::default() }
    }

    /// Adds what was found.
    pub fn add(&mut self, found: Found) -> Result<()> {
        match found {
            Found::OnlyInA(range, rows) => {
                self.counts.only_in_a += rows;
                self.ranges.push(range);
            }
            Found::Rows(rows) => {
                rows.into_iter().try_for_each(|(key, how)| self.add_row(&key, how))?
            }
        }
        Ok(())
    }

    /// Adds a row.
    pub fn add_row(&mut self, key: &[u8], difference: Difference) -> Result<()> {
        match difference {
            Difference::OnlyInA => self.counts.only_in_a += 1,
            Difference::Changed => self.counts.changed += 1,
            Difference::OnlyInB => {
                self.counts.only_in_b += 1;
                return self.deletes.push(key);
            }
        }
        self.puts.push(&[&[(difference == Difference::OnlyInA) as u8], key].concat())
    }

    /// The ranges of which B has no row.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The keys of the rows that A has, and whether B lacks them.
    pub fn each_put(&mut self, then: &mut dyn FnMut(Key, Difference) -> Result<()>) -> Result<()> {
        self.puts.each(&mut |mut record| {
            let is_new = record.first() == Some(&1);
            let key = record.split_off(1);
            then(key, if is_new { Difference::OnlyInA } else { Difference::Changed })
        })
    }

    /// The keys of the rows that A lacks.
    pub fn each_delete(&mut self, then: &mut dyn FnMut(Key) -> Result<()>) -> Result<()> {
        self.deletes.each(then)
    }

    /// The same, the last one first. Equal rows without a key are told apart by their numbers, and once one of
    /// them has gone those behind it have other ones: so the last one goes first. Whoever then removes some
    /// twice, because an answer was lost, removes nothing the second time.
    pub fn each_delete_last_first(
        &mut self,
        then: &mut dyn FnMut(Key) -> Result<()>,
    ) -> Result<()> {
        last_first(|add| self.deletes.each(&mut |key| add(&key)), then)
    }
}
