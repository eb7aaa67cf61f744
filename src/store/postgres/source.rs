//! Reading: what a copy is fed from.
//!
//! A snapshot, and a recount, run on a connection of their own: they may take long, and whoever stops in
//! the middle just hangs up. All is read in one REPEATABLE READ transaction, row by row.
//!
//! Tables of others in the same schema are not ours to read. A table of ours that somebody altered counts as
//! if it held something else, whatever it holds.

use tokio_postgres::binary_copy::BinaryCopyOutRow;
use tokio_postgres::types::Type;

use super::connect::{Purpose, Session};
use super::tables::{self, Table};
use super::types::{ColumnType, read_decimal};
use super::{failure, log, state};
use crate::change::{
    Chain, Commit, DatabaseDigest, Fingerprint, Object, ObjectKind, RowHasher, TableDigest,
    ValueRef, Version,
};
use crate::dial::postgres::PostgresPlace;
use crate::error::{Error, Result};
use crate::store::sqlite::Catalogue;
use crate::store::{SnapshotItem, Source, Standing};

/// The settings that a database has, whether anybody set them or not.
const SETTINGS: [&str; 2] = ["user_version", "application_id"];

/// A column of a row that was read in the type in which its values travel.
pub(crate) fn read_value(
    row: &BinaryCopyOutRow,
    place: usize,
    kind: ColumnType,
) -> Result<ValueRef<'_>> {
    let value = match kind {
        ColumnType::Integer | ColumnType::Int4 | ColumnType::Int2 => {
            row.try_get(place).map(|n: Option<i64>| n.map(ValueRef::Integer))
        }
        ColumnType::Boolean => {
            row.try_get(place).map(|b: Option<bool>| b.map(|b| ValueRef::Integer(b.into())))
        }
        ColumnType::Real | ColumnType::Float4 => {
            row.try_get(place).map(|r: Option<f64>| r.map(ValueRef::Real))
        }
        ColumnType::Blob => row.try_get(place).map(|b: Option<&[u8]>| b.map(ValueRef::Blob)),
        ColumnType::Numeric(_) => row.try_get(place).map(|t: Option<&str>| t.map(read_decimal)),
        ColumnType::Text(_) | ColumnType::Json | ColumnType::Form(_) => {
            row.try_get(place).map(|t: Option<&str>| t.map(ValueRef::Text))
        }
    };
    Ok(value.map_err(failure::error)?.unwrap_or(ValueRef::Null))
}

/// The types in which the columns of a table come.
pub(crate) fn wire_types(table: &Table) -> Vec<Type> {
    table.columns.iter().map(|(_, kind)| kind.wire_type()).collect()
}

/// Hands over every row of a table: rowid, if it is the key, and the stored values.
fn each_row(
    session: &mut Session,
    table: &Table,
    mut each: impl FnMut(Option<i64>, &[ValueRef<'_>]) -> Result<()>,
) -> Result<()> {
    let types = wire_types(table);
    let first = usize::from(table.shape.keyed_by_rowid());
    session.copy_out(&table.select, &types, |row| {
        let mut values = Vec::with_capacity(types.len());
        for (place, (_, kind)) in table.columns.iter().enumerate() {
            values.push(read_value(row, place, *kind)?);
        }
        let rowid = match values.first() {
            Some(ValueRef::Integer(rowid)) if first == 1 => Some(*rowid),
            _ => None,
        };
        each(rowid, &values[first..])
    })
}

/// Adds up one table.
pub(crate) fn count(session: &mut Session, table: &Table) -> Result<TableDigest> {
    let mut sum = TableDigest::empty(table.shape.fingerprint());
    if table.altered {
        return Ok(TableDigest { fingerprint: Fingerprint::default(), ..sum });
    }
    let mut hasher = RowHasher::default();
    each_row(session, table, |rowid, values| {
        hasher.start(rowid);
        values.iter().for_each(|value| hasher.push(*value));
        sum.rows += 1;
        sum.digest += hasher.finish();
        Ok(())
    })?;
    Ok(sum)
}

/// The schema with its tables, as the server has them now.
pub(crate) struct Model {
    pub catalogue: Catalogue,
    /// In the order in which they were made.
    pub tables: Vec<Table>,
}

impl Model {
    /// Reads it, in the session's transaction.
    pub fn read(session: &mut Session) -> Result<Model> {
        let schema = super::session_schema(session)?;
        let catalogue = Catalogue::of(&state::objects(session)?)?;
        let reported = tables::reported(session)?;
        let mut tables = Vec::new();
        for object in catalogue.objects() {
            let shape = catalogue.shape(&object.name).filter(|_| object.kind == ObjectKind::Table);
            let Some(shape) = shape else { continue };
            let mut table = Table::of(&schema, &catalogue, shape)?;
            table.altered = !table.is_as(reported.get(&object.name));
            tables.push(table);
        }
        Ok(Model { catalogue, tables })
    }

    fn object(&self, table: &Table) -> Option<&Object> {
        let is_it =
            |object: &&Object| object.kind == ObjectKind::Table && object.name == table.shape.name;
        self.catalogue.objects().find(is_it)
    }
}

/// Runs `work` in one read transaction on a connection of its own.
pub(crate) fn in_snapshot<T>(
    place: &PostgresPlace,
    work: impl FnOnce(&mut Session) -> Result<T>,
) -> Result<T> {
    let mut session = Session::open(place, Purpose::Read)?;
    session.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let done = work(&mut session)?;
    session.batch("COMMIT")?;
    Ok(done)
}

/// Recounts every stored row.
pub(crate) fn recount(place: &PostgresPlace) -> Result<DatabaseDigest> {
    in_snapshot(place, |session| {
        let model = Model::read(session)?;
        let sum = |table: &Table| Ok((table.shape.name.clone(), count(session, table)?));
        model.tables.iter().map(sum).collect()
    })
}

/// Hands over everything, and what stands beside it.
pub(crate) fn snapshot(
    place: &PostgresPlace,
    each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
) -> Result<Standing> {
    in_snapshot(place, |session| {
        let standing = state::standing(session)?;
        let model = Model::read(session)?;
        for table in &model.tables {
            let object = model.object(table).expect("a table has an object");
            each(SnapshotItem::Object(object))?;
            if table.altered {
                return Err(altered(table));
            }
            each_row(session, table, |rowid, values| {
                each(SnapshotItem::Row { table: &table.shape.name, rowid, values })
            })?;
        }
        for object in model.catalogue.objects().filter(|o| o.kind != ObjectKind::Table) {
            each(SnapshotItem::Object(object))?;
        }
        for row in session.query("SELECT name, seq FROM _syncline_sequence ORDER BY name", &[])? {
            each(SnapshotItem::Sequence(row.get(0), row.get(1)))?;
        }
        for name in SETTINGS {
            let sql = "SELECT value FROM _syncline_setting WHERE name = $1";
            let rows = session.query(sql, &[super::parameter::text(name)])?;
            each(SnapshotItem::Setting(name, rows.first().map_or(0, |row| row.get(0))))?;
        }
        Ok(standing)
    })
}

pub(crate) fn altered(table: &Table) -> Error {
    let message = format!("the table {:?} was altered in PostgreSQL", table.shape.name);
    Error::corrupt("SOURCE_DAMAGED", message)
        .hint("give it back the columns and the key that it had, or heal this copy from another")
}

/// The reading half of a store, for those that do not write.
pub struct PostgresSource {
    place: PostgresPlace,
    session: Option<Session>,
}

impl PostgresSource {
    /// Opens a database that some writer has made.
    pub fn open(place: PostgresPlace) -> Result<PostgresSource> {
        let mut source = PostgresSource { place, session: None };
        match state::exists(source.session()?)? {
            true => Ok(source),
            false => Err(Error::unavailable(
                "BACKING_EMPTY",
                format!("{} holds no Syncline database yet", source.place),
            )
            .hint("start a writer on it first")),
        }
    }

    fn session(&mut self) -> Result<&mut Session> {
        if self.session.as_ref().is_none_or(Session::is_lost) {
            self.session = Some(Session::open(&self.place, Purpose::Read)?);
        }
        Ok(self.session.as_mut().expect("it was put there"))
    }
}

/// The chain at `version`. The position is read first: what comes meanwhile does not matter.
pub(crate) fn chain_at(session: &mut Session, version: Version) -> Result<Option<Chain>> {
    let head = state::standing(session)?.position;
    log::chain_at(session, &head, version)
}

impl Source for PostgresSource {
    fn standing(&mut self) -> Result<Standing> {
        state::standing(self.session()?)
    }

    fn digests(&mut self) -> Result<DatabaseDigest> {
        state::digests(self.session()?)
    }

    fn after(&mut self, version: Version, bytes: usize) -> Result<Vec<Commit>> {
        log::after(self.session()?, version, bytes)
    }

    fn part(&mut self, version: Version, index: u32) -> Result<Vec<u8>> {
        log::part(self.session()?, version, index)
    }

    fn chain_at(&mut self, version: Version) -> Result<Option<Chain>> {
        chain_at(self.session()?, version)
    }

    fn oldest(&mut self) -> Result<Option<Version>> {
        log::oldest(self.session()?)
    }

    fn snapshot(
        &mut self,
        each: &mut dyn FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<Standing> {
        snapshot(&self.place, each)
    }
}
