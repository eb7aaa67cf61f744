//! Rows as they are stored: a table's records, column by column.
//!
//! ```text
//! record   length of the header ‖ serial type ‖ … ‖ value ‖ …
//! ```
//!
//! What SQL adds to that when it reads a row is done here, too: the rowid stands in for the column that is another
//! name for it, a column with REAL affinity gives reals although integers are stored, NaN is NULL, and columns
//! that were added later have their default where a record ends before them.
//!
//! The format is <https://www.sqlite.org/fileformat2.html>, chapter 2.

use rusqlite::{Connection, OptionalExtension};

use super::affinity::Affinity;
use super::pages::{Pages, Rowids, damaged, varint};
use super::read::{self, Renderer};
use super::{failed, quoted};
use crate::change::{Value, ValueRef};
use crate::endpoint::chunk::Range;
use crate::endpoint::{Plan, Sink, Type, canon};
use crate::error::Result;

/// The name for the rowid that a column takes least often.
const ROWID: &str = "_rowid_";

/// Where a column of the plan is found.
enum Place {
    Rowid,
    Field { index: usize, is_real: bool },
}

impl Place {
    /// As many fields has a record at least that holds it.
    fn width(&self) -> usize {
        match self {
            Place::Rowid => 0,
            Place::Field { index, .. } => index + 1,
        }
    }
}

/// A table whose rows can be read from its pages, in the order of the plan's key.
pub(super) struct Records<'c> {
    connection: &'c Connection,
    pages: Pages<'c>,
    root: u32,
    places: Vec<Place>,
    /// As many fields has a record that ends behind the last column of the plan.
    width: usize,
    /// What a column has in records that end before it; known once one was met.
    defaults: Vec<Option<Value>>,
}

impl<'c> Records<'c> {
    /// None where only SQL can read it: a filter, another order, columns that are computed, text that is not
    /// UTF-8, or no transaction that would hold the pages together.
    pub fn of(connection: &'c Connection, plan: &Plan) -> Result<Option<Records<'c>>> {
        if plan.filter.is_some() || plan.key > 1 || connection.is_autocommit() {
            return Ok(None);
        }
        let encoding: String =
            connection.pragma_query_value(None, "encoding", |row| row.get(0)).map_err(failed)?;
        let (Some(root), "UTF-8") = (root(connection, &plan.table)?, encoding.as_str()) else {
            return Ok(None);
        };
        let Some(places) = places(connection, plan)? else { return Ok(None) };
        if plan.key == 1 {
            let is_in_order = matches!(plan.columns[0].agreed, Type::Integer | Type::Stored)
                && matches!(places[0], Place::Rowid);
            if !is_in_order {
                return Ok(None);
            }
        }
        let Some(pages) = Pages::open(connection)? else { return Ok(None) };
        let width = places.iter().map(Place::width).max().unwrap_or(0);
        let defaults = places.iter().map(|_| None).collect();
        Ok(Some(Records { connection, pages, root, places, width, defaults }))
    }

    /// The rowids of a range. None if its ends are none: they may be keys of the other side.
    pub fn rowids(range: &Range) -> Result<Option<Rowids>> {
        let (after, upto) = (rowid(range.after.as_deref())?, rowid(range.upto.as_deref())?);
        Ok(after.zip(upto).map(|(after, upto)| Rowids { after, upto }))
    }

    /// The rows between two rowids.
    pub fn each(&mut self, plan: &Plan, rowids: Rowids, sink: &mut Sink<'_>) -> Result<()> {
        let (connection, places, defaults) = (self.connection, &self.places, &mut self.defaults);
        let (mut renderer, mut fields, mut last) = (Renderer::new(plan), Vec::new(), None);
        self.pages.walk(self.root, rowids, &mut |rowid, record| {
            if last.replace(rowid).is_some_and(|last| last >= rowid) {
                return Err(damaged());
            }
            split(record, &mut fields)?;
            if fields.len() < self.width {
                learn(connection, plan, (places, &mut *defaults), fields.len(), rowid)?;
            }
            let value = |at: usize| {
                let Place::Field { index, is_real } = places[at] else {
                    return Ok(ValueRef::Integer(rowid));
                };
                match fields.get(index) {
                    Some(field) => field.value(record, is_real),
                    None => Ok(defaults[at].as_ref().map_or(ValueRef::Null, Value::as_ref)),
                }
            };
            let (key, row) = renderer.render(value)?;
            sink(key, row)
        })
    }
}

/// The rowid that a key is, where it is one; none at an open end.
fn rowid(key: Option<&[u8]>) -> Result<Option<Option<i64>>> {
    let Some(key) = key else { return Ok(Some(None)) };
    Ok(match canon::decode_key(key)?[..] {
        [Value::Integer(rowid)] => Some(Some(rowid)),
        _ => None,
    })
}

/// The page at the root of a rowid table.
fn root(connection: &Connection, table: &str) -> Result<Option<u32>> {
    let sql = "SELECT s.rootpage FROM sqlite_schema s JOIN pragma_table_list l \
               ON l.schema = 'main' AND l.name = s.name AND l.type = 'table' AND NOT l.wr \
               WHERE s.type = 'table' AND s.name = ?";
    connection.query_row(sql, [table], |row| row.get(0)).optional().map_err(failed)
}

/// Where the plan's columns stand in a record. None if the table computes columns, which moves the others.
fn places(connection: &Connection, plan: &Plan) -> Result<Option<Vec<Place>>> {
    let alias = rowid_column(connection, &plan.table)?;
    let mut select = connection
        .prepare_cached("SELECT name, type, hidden, cid FROM pragma_table_xinfo(?)")
        .map_err(failed)?;
    let columns = select
        .query_map([&plan.table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
    let columns: Vec<(String, String, i64, u32)> =
        columns.and_then(Iterator::collect).map_err(failed)?;
    if columns.iter().any(|(name, _, hidden, _)| *hidden != 0 || name.eq_ignore_ascii_case(ROWID)) {
        return Ok(None);
    }
    let place = |wanted: &String| {
        let (name, declared, _, index) = columns.iter().find(|column| column.0 == *wanted)?;
        Some(match alias.as_ref() == Some(name) {
            true => Place::Rowid,
            false => Place::Field {
                index: *index as usize,
                is_real: Affinity::of(declared) == Affinity::Real,
            },
        })
    };
    Ok(plan.columns.iter().map(|column| place(&column.name)).collect())
}

/// The column that is another name for the rowid: an INTEGER PRIMARY KEY that has no index of its own.
fn rowid_column(connection: &Connection, table: &str) -> Result<Option<String>> {
    let sql = "SELECT min(name) FROM pragma_table_info(?1) WHERE pk > 0 \
               HAVING count(*) = 1 AND upper(min(type)) = 'INTEGER' \
               AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')";
    connection.query_row(sql, [table], |row| row.get(0)).optional().map_err(failed)
}

/// Asks SQL for the columns that a record with so many fields ends before; they are the same for all such records.
fn learn(
    connection: &Connection,
    plan: &Plan,
    (places, defaults): (&[Place], &mut [Option<Value>]),
    fields: usize,
    rowid: i64,
) -> Result<()> {
    for (at, place) in places.iter().enumerate() {
        if place.width() > fields && defaults[at].is_none() {
            let (column, table) = (quoted(&plan.columns[at].name), quoted(&plan.table));
            let sql = format!("SELECT {column} FROM {table} WHERE {ROWID} = ?");
            let value = |row: &rusqlite::Row<'_>| Ok(read::value(row.get_ref(0)?).to_owned());
            defaults[at] = Some(connection.query_row(&sql, [rowid], value).map_err(failed)?);
        }
    }
    Ok(())
}

/// A value's serial type, and where it stands.
struct Field {
    serial: u64,
    start: usize,
    end: usize,
}

/// Splits a record.
fn split(record: &[u8], fields: &mut Vec<Field>) -> Result<()> {
    fields.clear();
    let mut rest = record;
    let header = usize::try_from(varint(&mut rest)?).map_err(|_| damaged())?;
    let begin = record.len() - rest.len();
    let mut types = record.get(begin..header).ok_or_else(damaged)?;
    let mut start = header;
    while !types.is_empty() {
        let serial = varint(&mut types)?;
        let end = start.checked_add(size(serial)?).filter(|end| *end <= record.len());
        let end = end.ok_or_else(damaged)?;
        fields.push(Field { serial, start, end });
        start = end;
    }
    Ok(())
}

fn size(serial: u64) -> Result<usize> {
    Ok(match serial {
        0 | 8 | 9 => 0,
        1..=4 => serial as usize,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return Err(damaged()),
        _ => usize::try_from((serial - 12) / 2).map_err(|_| damaged())?,
    })
}

impl Field {
    fn value<'r>(&self, record: &'r [u8], is_real: bool) -> Result<ValueRef<'r>> {
        let bytes = record.get(self.start..self.end).ok_or_else(damaged)?;
        Ok(match self.serial {
            0 => ValueRef::Null,
            7 => match f64::from_bits(bits(bytes)) {
                real if real.is_nan() => ValueRef::Null,
                real => ValueRef::Real(real),
            },
            1..=9 => {
                let integer = match self.serial {
                    8 => 0,
                    9 => 1,
                    _ => signed(bytes),
                };
                if is_real { ValueRef::Real(integer as f64) } else { ValueRef::Integer(integer) }
            }
            odd if odd % 2 == 1 => read::text(bytes),
            _ => ValueRef::Blob(bytes),
        })
    }
}

/// Up to eight bytes, big-endian.
fn bits(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// The same with its sign.
fn signed(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len() as u32;
    (bits(bytes) << unused) as i64 >> unused
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::PlannedColumn;

    const EVERY: Rowids = Rowids { after: None, upto: None };

    /// All columns of a table, compared as they are stored; the first `key` are its key.
    fn plan(connection: &Connection, table: &str, key: usize) -> Plan {
        let mut select = connection.prepare("SELECT name FROM pragma_table_info(?)").unwrap();
        let names = select.query_map([table], |row| row.get::<_, String>(0)).unwrap();
        let column = |name| PlannedColumn { name, declared: String::new(), agreed: Type::Stored };
        let columns = names.map(|name| column(name.unwrap())).collect();
        Plan { table: table.into(), columns, key, version: None, filter: None }
    }

    type Rows = Vec<(Vec<u8>, Vec<u8>)>;

    fn collected(read: impl FnOnce(&mut Sink<'_>) -> Result<()>) -> Rows {
        let mut rows = Rows::new();
        read(&mut |key, row| {
            rows.push((key.to_vec(), row.to_vec()));
            Ok(())
        })
        .unwrap();
        rows
    }

    fn from_pages(connection: &Connection, plan: &Plan, rowids: Rowids) -> Rows {
        let mut records = Records::of(connection, plan).unwrap().expect("pages give its order");
        collected(|sink| records.each(plan, rowids, sink))
    }

    /// The dumb twin.
    fn from_sql(connection: &Connection, plan: &Plan, rowids: Rowids) -> Rows {
        let sql = format!(
            "SELECT {} FROM t WHERE (?1 IS NULL OR _rowid_ > ?1) AND (?2 IS NULL OR _rowid_ <= ?2) \
             ORDER BY _rowid_",
            read::listed(plan)
        );
        let mut select = connection.prepare(&sql).unwrap();
        let mut rows = select.query((rowids.after, rowids.upto)).unwrap();
        let mut renderer = Renderer::new(plan);
        let mut all = Rows::new();
        while let Some(row) = rows.next().unwrap() {
            let (key, row) = renderer.render_sql(row).unwrap();
            all.push((key.to_vec(), row.to_vec()));
        }
        all
    }

    /// What SQL writes for a value.
    fn literal() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("NULL".to_owned()),
            any::<i64>().prop_map(|i| format!("({i})")),
            (0u32..64).prop_map(|bits| format!("(1 << {bits})")),
            (-3i64..4).prop_map(|i| i.to_string()),
            any::<f64>().prop_map(|r| if r.is_finite() {
                format!("{r:e}")
            } else {
                "9e999".into()
            }),
            (-8i32..8).prop_map(|r| format!("{}", f64::from(r) / 4.0)),
            "[a-zß'\u{1f600}]{0,9}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
            (0usize..9_000).prop_map(|n| format!("zeroblob({n})")),
            (0usize..3_000).prop_map(|n| format!("hex(zeroblob({n}))")),
            Just("CAST(x'61ff00' AS TEXT)".to_owned()),
            Just("'a' || char(0) || 'b'".to_owned()),
        ]
    }

    const TYPES: [&str; 8] =
        ["", "INTEGER", "REAL", "TEXT", "BLOB", "DOUBLE", "NUMERIC", "FLOATING POINT"];

    fn rowid() -> impl Strategy<Value = i64> {
        prop_oneof![-40i64..400, any::<i64>(), Just(i64::MAX)]
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(i64, [String; 3]),
        Delete(i64, i64),
        AddColumn(usize, String),
    }

    fn step() -> impl Strategy<Value = Step> {
        let constant = literal().prop_filter("ADD COLUMN takes no calls", |sql| {
            !sql.contains("(") && !sql.contains("||")
        });
        prop_oneof![
            40 => (rowid(), [literal(), literal(), literal()]).prop_map(|(id, row)| Step::Insert(id, row)),
            3 => (rowid(), 0i64..50).prop_map(|(id, n)| Step::Delete(id, id.saturating_add(n))),
            1 => (0..TYPES.len(), constant).prop_map(|(kind, default)| Step::AddColumn(kind, default)),
        ]
    }

    fn run(connection: &Connection, step: &Step, added: &mut usize) {
        let sql = match step {
            Step::Insert(id, [a, b, c]) => {
                format!("INSERT OR REPLACE INTO t (id, a, b, c) VALUES ({id}, {a}, {b}, {c})")
            }
            Step::Delete(from, to) => format!("DELETE FROM t WHERE id BETWEEN {from} AND {to}"),
            Step::AddColumn(kind, default) => {
                *added += 1;
                format!("ALTER TABLE t ADD COLUMN n{added} {} DEFAULT {default}", TYPES[*kind])
            }
        };
        connection.execute_batch(&sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn pages_say_what_sql_says(
            types in [0..TYPES.len(), 0..TYPES.len(), 0..TYPES.len()],
            page in prop_oneof![Just(512), Just(1024), Just(4096), Just(65536)],
            has_key in any::<bool>(),
            wal in any::<bool>(),
            steps in proptest::collection::vec(step(), 0..120),
            ends in proptest::collection::vec((proptest::option::of(rowid()), proptest::option::of(rowid())), 3),
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let connection = Connection::open(file.path()).unwrap();
            let [a, b, c] = types.map(|at| TYPES[at]);
            let key = if has_key { " PRIMARY KEY" } else { "" };
            let mode = if wal { "wal" } else { "delete" };
            let sql = format!(
                "PRAGMA page_size = {page}; PRAGMA journal_mode = {mode}; PRAGMA synchronous = OFF; \
                 CREATE TABLE t (a {a}, id INTEGER{key}, b {b}, c {c})"
            );
            connection.execute_batch(&sql).unwrap();
            let (committed, open) = steps.split_at(steps.len() / 2);
            let mut added = 0;
            committed.iter().for_each(|step| run(&connection, step, &mut added));
            connection.execute_batch("BEGIN").unwrap();
            open.iter().for_each(|step| run(&connection, step, &mut added));
            let mut plan = plan(&connection, "t", 0);
            if has_key {
                plan.columns.swap(0, 1);
                plan.key = 1;
            }
            prop_assert_eq!(from_pages(&connection, &plan, EVERY), from_sql(&connection, &plan, EVERY));
            for (after, upto) in ends {
                let rowids = Rowids { after, upto };
                prop_assert_eq!(from_pages(&connection, &plan, rowids), from_sql(&connection, &plan, rowids));
            }
        }
    }

    #[test]
    fn what_pages_cannot_give_is_left_to_sql() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = "CREATE TABLE plain (id INTEGER PRIMARY KEY, v); CREATE TABLE word (id INT PRIMARY KEY, v); \
                   CREATE TABLE other (id INTEGER PRIMARY KEY DESC, v); CREATE TABLE pair (a, b, PRIMARY KEY (a, b)); \
                   CREATE TABLE without (id INTEGER PRIMARY KEY, v) WITHOUT ROWID; \
                   CREATE TABLE computed (id INTEGER PRIMARY KEY, v AS (id + 1), w); \
                   CREATE TABLE taken (id INTEGER PRIMARY KEY, _rowid_); BEGIN";
        connection.execute_batch(sql).unwrap();
        let is_read = |plan: &Plan| Records::of(&connection, plan).unwrap().is_some();
        assert!(is_read(&plan(&connection, "plain", 1)));
        assert!(is_read(&plan(&connection, "word", 0)), "without a key, order does not matter");
        for table in ["word", "other", "pair", "without", "computed", "taken"] {
            assert!(!is_read(&plan(&connection, table, 1)), "{table}");
        }
        let plain = plan(&connection, "plain", 1);
        assert!(!is_read(&Plan { filter: Some("v > 1".into()), ..plain.clone() }));
        assert!(!is_read(&Plan { key: 2, ..plain.clone() }));
        let mut as_text = plain.clone();
        as_text.columns[0].agreed = Type::Text { padded: false };
        assert!(!is_read(&as_text), "10 comes before 9");
        connection.execute_batch("COMMIT").unwrap();
        assert!(!is_read(&plain), "each page could be of another moment");
        let utf16 = Connection::open_in_memory().unwrap();
        utf16
            .execute_batch(
                "PRAGMA encoding = 'UTF-16'; CREATE TABLE plain (id INTEGER PRIMARY KEY, v); BEGIN",
            )
            .unwrap();
        assert!(Records::of(&utf16, &plain).unwrap().is_none());
    }

    /// Every byte of the table's pages, changed one at a time: an error or other rows, and no panic, no endless loop.
    #[test]
    fn damaged_pages_are_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sql = "PRAGMA page_size = 512; CREATE TABLE t (id INTEGER PRIMARY KEY, v); \
                   INSERT INTO t SELECT value, printf('%.*c', value * 40, 'x') FROM generate_series(1, 30)";
        let sql = sql.replace("generate_series(1, 30)", "json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30]')");
        Connection::open(file.path()).unwrap().execute_batch(&sql).unwrap();
        let good = std::fs::read(file.path()).unwrap();
        let mut refused = 0;
        for at in (1024..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 0x85;
            std::fs::write(file.path(), &bad).unwrap();
            let connection = Connection::open(file.path()).unwrap();
            connection.execute_batch("BEGIN").unwrap();
            let plan = plan(&connection, "t", 1);
            let mut records = Records::of(&connection, &plan).unwrap().unwrap();
            let mut rows = 0;
            let read = records.each(&plan, EVERY, &mut |_, _| {
                rows += 1;
                Ok(())
            });
            refused += usize::from(read.is_err());
            assert!(rows < 100_000, "{at}");
        }
        assert!(refused > 20, "{refused}");
    }
}
