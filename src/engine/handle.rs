//! Library reads: on the caller's thread, by a connection of the caller's own.

use std::sync::Arc;

use super::shared::Shared;
use crate::change::{Position, Value};
use crate::error::Result;
use crate::store::sqlite::{Reader, Row};

/// A read connection for one thread; make one with [`Database::reader`](super::Database::reader).
///
/// When the copy is rebuilt underneath, the next read goes to the new one by itself.
pub struct ReadHandle {
    shared: Arc<Shared>,
    generation: u64,
    reader: Reader,
}

impl ReadHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<ReadHandle> {
        let (generation, reader) = shared.open_place(Reader::open)?;
        Ok(ReadHandle { shared, generation, reader })
    }

    fn current(&mut self) -> Result<&mut Reader> {
        if self.shared.place()?.generation != self.generation {
            (self.generation, self.reader) = self.shared.open_place(Reader::open)?;
        }
        Ok(&mut self.reader)
    }

    /// Runs a query and hands over each row.
    ///
    /// Statements are prepared once and kept. A statement that writes fails with `SQLITE_READONLY`.
    pub fn query(
        &mut self,
        sql: &str,
        arguments: &[Value],
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        self.current()?.query(sql, arguments, each)
    }

    /// The first row, as `read` takes it; none if there is none.
    pub fn query_row<T>(
        &mut self,
        sql: &str,
        arguments: &[Value],
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut found = None;
        self.query(sql, arguments, |row| {
            if found.is_none() {
                found = Some(read(row)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Where the snapshot stands that the next read sees.
    pub fn position(&mut self) -> Result<Position> {
        self.current()?.position()
    }
}
