//! Making what others wrote the history: a commit whose rows are there already.
//!
//! ```text
//! BEGIN │ fence │ LOCK … IN SHARE MODE │ count every row │ log, digests, NOTIFY │ COMMIT
//! ```
//!
//! The commit was made from a snapshot, and others go on writing. So nobody may write while the rows are
//! counted, and the commit stands only if they give the digest that it claims. No row is sent and no table
//! made anew: adopted tables keep all that hangs on them.
//!
//! Left out: counting only the tables that the commit names. Its digest is that of all tables, and says
//! nothing of one alone.

use super::apply::Work;
use super::source::{Model, altered};
use super::survey::count_exactly;
use super::{PostgresStore, log};
use crate::change::{
    BodyReader, Commit, DatabaseDigest, Decoder, Digest, Lineage, Position, Timestamp,
};
use crate::error::{Error, Result};
use crate::store::Parts;
use crate::store::history::{self, rows_invalid};

impl PostgresStore {
    /// Takes over a commit whose rows are here already, in one transaction behind the fence.
    pub(crate) fn restate_by(
        &mut self,
        lineage: &Lineage,
        commit: &Commit,
        parts: Parts<'_>,
    ) -> Result<Position> {
        let header = *commit.header();
        let becomes = history::under(lineage, commit.position(), self.tag);
        self.in_transaction(becomes, Some(header.at), lineage.clone(), |store, work| {
            // Whoever was overtaken locks nothing.
            work.pipeline.finish(store.session()?)?;
            history::check_lineage(&store.lineage, store.position.version, lineage)?;
            history::check_place(&store.position, lineage, &header)?;
            store.take_counted(header.digest)?;
            work.version = header.version;
            let mut reader = BodyReader::default();
            store.each_body(work, commit, parts, |store, work, body| {
                store.restate_body(work, &mut reader, body, header.at)
            })?;
            store.requests(work, log::append(std::slice::from_ref(commit)))
        })
    }

    /// Makes the digests those of the rows that are here, if they come to `claimed`.
    fn take_counted(&mut self, claimed: Digest) -> Result<()> {
        for (name, counted) in self.count_locked()?.tables() {
            if self.ledger.get(name) != Some(counted) {
                self.ledger.set(name, *counted);
            }
        }
        match self.ledger.total() == claimed {
            true => Ok(()),
            false => Err(Error::retry(
                "BACKING_CHANGING",
                "others changed rows in the backing database while they were being adopted",
            )
            .hint("nothing was done: try again, or when they pause")),
        }
    }

    /// Counts every row while nobody may write.
    fn count_locked(&mut self) -> Result<DatabaseDigest> {
        let names: Vec<String> = self.tables.values().map(|table| table.name.clone()).collect();
        let session = self.session()?;
        session.take_your_time()?;
        if !names.is_empty() {
            session.batch(&format!("LOCK TABLE {} IN SHARE MODE", names.join(", ")))?;
        }
        let mut counted = Vec::new();
        for table in Model::read(session)?.tables {
            if table.altered {
                return Err(altered(&table));
            }
            let digest = count_exactly(session, &table)?;
            let name = table.shape.name;
            let digest = digest.map_err(|why| rows_invalid(&format!("in {name:?}, {why}")))?;
            counted.push((name, digest));
        }
        Ok(counted.into_iter().collect())
    }

    fn restate_body(
        &mut self,
        work: &mut Work,
        reader: &mut BodyReader,
        body: &[u8],
        at: Timestamp,
    ) -> Result<()> {
        let mut decoder = Decoder(body);
        while let Some(change) = reader.next(&mut decoder)? {
            self.apply_beside_rows(work, change, at)?;
        }
        Ok(())
    }
}
