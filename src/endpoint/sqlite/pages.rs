//! A table read from the pages of its b-tree: its rows in the order of their rowids, as records.
//!
//! ```text
//!              interior page: (child, rowid), (child, rowid), …, last child
//!               │ rowids up to the first one    │ rowids behind the last one
//!              leaf: (rowid, record), …        leaf
//!                            └ a long record goes on in a chain of overflow pages
//! ```
//!
//! SQL would decode every value, copy it, and hand it over by three calls: that is most of what a digest costs.
//! Pages come from `sqlite_dbpage`, so that they are those of the connection's transaction, whether they lie in
//! the file, in its log, or in memory. The format is <https://www.sqlite.org/fileformat2.html>, chapter 1.6.
//!
//! Left out: index b-trees, and so tables WITHOUT ROWID and the order of any other key.

use rusqlite::{CachedStatement, Connection};

use super::failed;
use crate::error::{Error, Result};

/// SQLite's own trees are not deeper than this (BTCURSOR_MAX_DEPTH).
const DEPTH: usize = 20;
const INTERIOR: u8 = 0x05;
const LEAF: u8 = 0x0d;

/// Reads pages in the connection's transaction.
pub(super) struct Pages<'c> {
    select: CachedStatement<'c>,
    /// Bytes of a page without those that are reserved at its end.
    usable: usize,
    /// A page for each level of the tree, kept between reads.
    levels: Vec<Vec<u8>>,
    overflow: Vec<u8>,
    record: Vec<u8>,
}

/// Rowids above `after`, up to and with `upto`.
#[derive(Clone, Copy)]
pub(super) struct Rowids {
    pub after: Option<i64>,
    pub upto: Option<i64>,
}

/// What is done with a row.
pub(super) type Then<'a> = dyn FnMut(i64, &[u8]) -> Result<()> + 'a;

impl<'c> Pages<'c> {
    /// None where this SQLite, or this connection, shows no pages.
    pub fn open(connection: &'c Connection) -> Result<Option<Pages<'c>>> {
        let sql = "SELECT data FROM sqlite_dbpage WHERE schema = 'main' AND pgno = ?";
        let Ok(select) = connection.prepare_cached(sql) else { return Ok(None) };
        let (levels, overflow, record) = Default::default();
        let mut pages = Pages { select, usable: 0, levels, overflow, record };
        let mut first = Vec::new();
        pages.page(1, &mut first)?;
        let reserved = usize::from(*first.get(20).ok_or_else(damaged)?);
        pages.usable =
            first.len().checked_sub(reserved).filter(|n| *n >= 480).ok_or_else(damaged)?;
        Ok(Some(pages))
    }

    /// All rows of a table between two rowids, in their order.
    pub fn walk(&mut self, root: u32, rowids: Rowids, then: &mut Then<'_>) -> Result<()> {
        self.subtree(root, 0, rowids, then)
    }

    fn page(&mut self, number: u32, into: &mut Vec<u8>) -> Result<()> {
        let mut rows = self.select.query([number]).map_err(failed)?;
        let row = rows.next().map_err(failed)?.ok_or_else(damaged)?;
        let page = row.get_ref(0).map_err(failed)?.as_blob().map_err(|_| damaged())?;
        into.clear();
        into.extend_from_slice(page);
        Ok(())
    }

    fn subtree(
        &mut self,
        number: u32,
        depth: usize,
        rowids: Rowids,
        then: &mut Then<'_>,
    ) -> Result<()> {
        if depth >= DEPTH {
            return Err(damaged());
        }
        if self.levels.len() <= depth {
            self.levels.push(Vec::new());
        }
        let mut page = std::mem::take(&mut self.levels[depth]);
        let done = self.page(number, &mut page).and_then(|()| match page.first() {
            Some(&INTERIOR) => self.interior(&page, depth, rowids, then),
            Some(&LEAF) => self.leaf(&page, rowids, then),
            _ => Err(damaged()),
        });
        self.levels[depth] = page;
        done
    }

    fn interior(
        &mut self,
        page: &[u8],
        depth: usize,
        rowids: Rowids,
        then: &mut Then<'_>,
    ) -> Result<()> {
        for at in cells(page, 12)? {
            let mut cell = page.get(at..).ok_or_else(damaged)?;
            let child = u32_at(cell, 0)?;
            cell = &cell[4..];
            let last = varint(&mut cell)? as i64;
            if rowids.after.is_some_and(|after| last <= after) {
                continue;
            }
            self.subtree(child, depth + 1, rowids, then)?;
            if rowids.upto.is_some_and(|upto| upto <= last) {
                return Ok(());
            }
        }
        self.subtree(u32_at(page, 8)?, depth + 1, rowids, then)
    }

    fn leaf(&mut self, page: &[u8], rowids: Rowids, then: &mut Then<'_>) -> Result<()> {
        for at in cells(page, 8)? {
            let mut cell = page.get(at..).ok_or_else(damaged)?;
            let length = usize::try_from(varint(&mut cell)?).map_err(|_| damaged())?;
            let rowid = varint(&mut cell)? as i64;
            if rowids.after.is_some_and(|after| rowid <= after) {
                continue;
            }
            if rowids.upto.is_some_and(|upto| rowid > upto) {
                return Ok(());
            }
            match self.local(length) {
                local if local == length => then(rowid, cell.get(..length).ok_or_else(damaged)?)?,
                local => self.long(rowid, cell, local, length, then)?,
            }
        }
        Ok(())
    }

    /// How many bytes of a record lie on the leaf itself.
    fn local(&self, length: usize) -> usize {
        let most = self.usable - 35;
        if length <= most {
            return length;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let fitting = least + (length - least) % (self.usable - 4);
        if fitting <= most { fitting } else { least }
    }

    fn long(
        &mut self,
        rowid: i64,
        cell: &[u8],
        local: usize,
        length: usize,
        then: &mut Then<'_>,
    ) -> Result<()> {
        let (mut record, mut page) =
            (std::mem::take(&mut self.record), std::mem::take(&mut self.overflow));
        record.clear();
        record.extend_from_slice(cell.get(..local).ok_or_else(damaged)?);
        let mut next = u32_at(cell, local)?;
        while record.len() < length {
            self.page(next, &mut page)?;
            next = u32_at(&page, 0)?;
            let here = (length - record.len()).min(self.usable - 4);
            record.extend_from_slice(page.get(4..4 + here).ok_or_else(damaged)?);
        }
        let done = then(rowid, &record);
        (self.record, self.overflow) = (record, page);
        done
    }
}

/// Where a page's cells begin, in the order of their keys; `header` bytes stand before the list.
fn cells(page: &[u8], header: usize) -> Result<impl Iterator<Item = usize> + '_> {
    let count = usize::from(u16::from_be_bytes([page[3], page[4]]));
    let list = page.get(header..header + 2 * count).ok_or_else(damaged)?;
    Ok(list.chunks_exact(2).map(|at| usize::from(u16::from_be_bytes([at[0], at[1]]))))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(damaged)?;
    Ok(u32::from_be_bytes(*four))
}

/// SQLite's variable-length integer: high bits first, and all eight bits of a ninth byte.
#[inline]
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64> {
    match *bytes {
        [byte, rest @ ..] if *byte < 0x80 => {
            *bytes = rest;
            Ok(u64::from(*byte))
        }
        _ => long_varint(bytes),
    }
}

fn long_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut n = 0;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            n = n << 8 | u64::from(*byte);
        } else {
            n = n << 7 | u64::from(byte & 0x7f);
        }
        if byte & 0x80 == 0 || at == 8 {
            *bytes = &bytes[at + 1..];
            return Ok(n);
        }
    }
    Err(damaged())
}

/// Pages that do not fit together.
pub(super) fn damaged() -> Error {
    Error::corrupt("ENDPOINT_CORRUPT", "a page of the file is not what SQLite writes")
        .hint("PRAGMA integrity_check says more")
}
