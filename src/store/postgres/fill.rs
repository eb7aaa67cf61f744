//! Taking over what another copy has, in place of what is here.
//!
//! Rows are added up as they come. If the sum is not what the source claims, the *source* is damaged, and
//! everything stays as it was. Its log comes along, so that whoever follows this copy goes on by commits.
//!
//! Adopted tables are never replaced: what hangs on them, defaults and foreign keys, is not in any copy.
//!
//! Left out: what is held here, which stays, and answers to clients' requests, which belong to the commits
//! that are gone.

use super::apply::{Work, write_setting};
use super::parameter::int;
use super::{PostgresStore, adopt, log, state};
use crate::change::{Commit, DeclaredTable, Position, SchemaStep, ValueRef, Version};
use crate::error::Result;
use crate::store::history::source_damaged;
use crate::store::sqlite::Catalogue;
use crate::store::{SnapshotItem, Source};

/// What goes before something else comes. The position is not among it.
const EMPTY: [&str; 5] = [
    "DELETE FROM _syncline_log",
    "DELETE FROM _syncline_part",
    "DELETE FROM _syncline_sequence",
    "DELETE FROM _syncline_setting",
    "DELETE FROM _syncline_request",
];

/// Bytes of log that are read at once.
const LOG_BYTES: usize = 4 << 20;

impl PostgresStore {
    /// Takes over what `source` has, in one transaction behind the fence.
    pub(crate) fn replace_by(&mut self, source: &mut dyn Source) -> Result<Position> {
        let (stays, lineage) = ((self.position, self.tag), self.lineage.clone());
        self.in_transaction(stays, None, lineage, |store, work| store.replace_inside(work, source))
    }

    fn replace_inside(&mut self, work: &mut Work, source: &mut dyn Source) -> Result<()> {
        work.pipeline.finish(self.session()?)?;
        adopt::refuse_to_remake(self.session()?)?;
        self.session()?.take_your_time()?;
        self.clear(work)?;
        let standing = source.snapshot(&mut |item| self.take_item(work, item))?;
        self.settle_rows(work)?;
        self.settle_digests(work);
        if self.ledger.total() != standing.position.digest {
            return Err(source_damaged(&standing, self.ledger.digest(), &source.digests()?));
        }
        self.take_log(work, source, standing.position.version)?;
        let (seen, becomes) = ((self.position, self.tag), (standing.position, standing.tag));
        self.requests(work, [state::compare_and_set(seen, becomes, Some(standing.at))])?;
        let sql = "UPDATE _syncline_position SET verified = $1";
        self.requests(work, [(sql, vec![int(0)])])?;
        (work.becomes, work.lineage) = (becomes, standing.lineage);
        Ok(())
    }

    fn clear(&mut self, work: &mut Work) -> Result<()> {
        work.schema_changed = true;
        for (name, table) in std::mem::take(&mut self.tables) {
            self.session()?.batch(&format!("DROP TABLE IF EXISTS {}", table.name))?;
            self.ledger.remove(&name);
        }
        self.catalogue = Catalogue::of([])?;
        self.session()?.forget_prepared();
        self.requests(work, EMPTY.map(|sql| (sql, Vec::new())))
    }

    fn take_item(&mut self, work: &mut Work, item: SnapshotItem<'_>) -> Result<()> {
        match item {
            SnapshotItem::Object(object) => {
                self.apply_step(work, &SchemaStep::Create(object.clone()))
            }
            SnapshotItem::Row { table, rowid, values } => self.take_row(work, table, rowid, values),
            SnapshotItem::Sequence(table, seq) => {
                self.requests(work, [state::write_sequence(table, Some(seq))])
            }
            SnapshotItem::Setting(name, value) => {
                self.requests(work, [write_setting(name, value)?])
            }
        }
    }

    fn take_row(
        &mut self,
        work: &mut Work,
        name: &str,
        rowid: Option<i64>,
        values: &[ValueRef<'_>],
    ) -> Result<()> {
        let declared = DeclaredTable { name: name.to_owned(), by_rowid: rowid.is_some() };
        self.insert_row(work, &declared, rowid, values)
    }

    /// The log up to `end`, as far as the source has it.
    fn take_log(&mut self, work: &mut Work, source: &mut dyn Source, end: Version) -> Result<()> {
        let Some(oldest) = source.oldest()? else { return Ok(()) };
        let mut last = Version(oldest.0 - 1);
        while last < end {
            let mut commits: Vec<Commit> = source.after(last, LOG_BYTES)?;
            commits.retain(|commit| commit.version() <= end);
            let Some(newest) = commits.last() else { break };
            last = newest.version();
            for commit in &commits {
                for index in 0..commit.parts() {
                    let body = source.part(commit.version(), index)?;
                    self.requests(work, [log::append_part(commit.version(), &body)])?;
                }
            }
            self.requests(work, log::append(&commits))?;
            work.pipeline.finish(self.session()?)?;
        }
        Ok(())
    }
}
