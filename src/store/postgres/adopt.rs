//! Adopting: tables that are there already become a backing database, and stay as they are.
//!
//! ```text
//! survey ──▶ a person agrees ──▶ BEGIN │ lock the tables │ recount │ _syncline_* │ COMMIT
//! ```
//!
//! The rows are read twice, once to find what cannot be adopted and once under a lock that lets nobody write:
//! the digest that is stored is that of the rows at the COMMIT. The copy stands at version 0, as that of a
//! SQLite file does that had tables before: its log begins with the first commit of a writer.
//!
//! Left out: adopting what is left out later. Release, and adopt again.

use super::connect::{Purpose, Session};
use super::parameter::{Parameter, bytes};
use super::state;
use super::survey::{self, adopted_already, count_exactly, has_traces};
use super::tables::{self, Table};
use crate::change::{DatabaseDigest, Position};
use crate::dial::postgres::PostgresPlace;
use crate::error::{Error, Result};
use crate::store::adoption::Adoption;
use crate::store::sqlite::Catalogue;

/// Does what was planned, in one transaction.
pub(crate) fn adopt(place: &PostgresPlace, plan: &Adoption) -> Result<Position> {
    if plan.tables.is_empty() {
        return Err(Error::invalid("NOTHING_TO_ADOPT", format!("{place} has no table to adopt"))
            .hint("a writer makes what it needs in an empty database: just start it"));
    }
    let catalogue = Catalogue::of(plan.tables.iter().map(|table| &table.object))?;
    let mut session = Session::open(place, Purpose::Write)?;
    session.begin("")?;
    let done = adopt_inside(&mut session, place, plan, &catalogue)
        .and_then(|position| session.commit().map(|()| position));
    done.inspect_err(|_| session.rollback())
}

fn adopt_inside(
    session: &mut Session,
    place: &PostgresPlace,
    plan: &Adoption,
    catalogue: &Catalogue,
) -> Result<Position> {
    session.take_your_time()?;
    let tables = survey::tables(session, catalogue, plan)?;
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    session.batch(&format!("LOCK TABLE {} IN SHARE MODE", names.join(", ")))?;
    if has_traces(session)? {
        return Err(adopted_already(place));
    }
    let digest = count_all(session, &tables)?;
    state::make(session)?;
    for (sql, parameters) in state::write_objects(catalogue.objects()) {
        session.execute(sql, parameters)?;
    }
    let digests = state::digest_columns(digest.tables());
    session.execute(state::WRITE_DIGESTS, digests.into())?;
    let position = Position { digest: digest.total(), ..Position::default() };
    let total: Vec<Parameter> = vec![bytes(&position.digest.to_bytes())];
    session.execute("UPDATE _syncline_position SET digest = $1", total)?;
    Ok(position)
}

/// A table of ours whose primary key somebody else has named.
const ADOPTED: &str = "SELECT c.relname::text FROM pg_index i \
    JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class k ON k.oid = i.indexrelid \
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() \
    AND i.indisprimary AND k.relname !~ '^_syncline_' AND c.relname IN \
    (SELECT name FROM _syncline_schema WHERE kind = 'table') ORDER BY 1 LIMIT 1";

/// Fails if an adopted table would be dropped and made anew: what hangs on it is not Syncline's to lose.
pub(crate) fn refuse_to_remake(session: &mut Session) -> Result<()> {
    let adopted = session.query(ADOPTED, &[])?;
    let Some(table) = adopted.first().map(|row| row.get::<_, String>(0)) else { return Ok(()) };
    let message = format!(
        "the table {table:?} was adopted: to write everything over it would make it anew, without its \
         defaults, CHECKs, foreign keys and triggers"
    );
    Err(Error::invalid("TABLE_ADOPTED", message).hint(
        "change the rows back in PostgreSQL, or take them as they are (`verify --adopt`); after a restore, \
         `resolve --keep backing`, then `held replay`",
    ))
}

/// Adds up the tables, as long as they are what was planned.
fn count_all(session: &mut Session, all: &[Table]) -> Result<DatabaseDigest> {
    let reported = tables::reported(session)?;
    let mut sums = Vec::new();
    for table in all {
        let name = &table.shape.name;
        let counted = match table.is_as(reported.get(name)) {
            true => count_exactly(session, table)?,
            false => Err("it has other columns now, or another key".to_owned()),
        };
        let digest = counted.map_err(|why| {
            let message = format!("the table {name:?} was changed meanwhile: {why}");
            Error::retry("ADOPT_CHANGED", message).hint("look at the plan again")
        })?;
        sums.push((name.clone(), digest));
    }
    Ok(sums.into_iter().collect())
}
