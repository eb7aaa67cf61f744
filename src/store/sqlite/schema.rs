//! The schema: what is there, how two states of it differ, and how a step is carried out.
//!
//! Schema is logged as the difference of `sqlite_schema` before and after a statement, never as the
//! client's text: the text may hold `IF NOT EXISTS`, a SELECT, or a function of the time.
//!
//! | difference | carried out on a copy as |
//! | --- | --- |
//! | an object came | its stored text (a virtual table: its entry alone, the shadow tables come as tables) |
//! | an object went | DROP (a virtual table: its entry alone) |
//! | its name or text changed | the new entry in the old one's place, as ALTER itself does it |
//! | … and a stored column went | ALTER TABLE DROP COLUMN, the only alteration that rewrites rows |
//!
//! Left out: `sqlite_stat*` (ANALYZE stays local) and TEMP objects (refused).

use std::collections::{BTreeMap, HashMap};

use super::raw::Db;
use crate::change::{Column, KeyKind, Object, ObjectKind, SchemaStep, TableShape, ValueRef};
use crate::error::{Error, Kind, Result};

/// Whether a name belongs to SQLite or to us: neither is replicated as a schema object.
pub(crate) fn is_internal(name: &str) -> bool {
    starts(name, "sqlite_") || is_ours(name)
}

fn is_ours(name: &str) -> bool {
    starts(name, "_syncline_")
}

fn starts(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix))
}

/// Refuses a step that gives a table one of our names: ALTER TABLE asks nobody about the new one.
pub(crate) fn check_names(steps: &[SchemaStep], before: &Schema, after: &Schema) -> Result<()> {
    let is_taken = |step: &SchemaStep| match step {
        SchemaStep::Alter { objects, .. } => {
            objects.iter().any(|(_, is)| starts(&is.name, "syncline_"))
        }
        SchemaStep::Create(object) => starts(&object.name, "syncline_"),
        SchemaStep::Drop(_) => false,
    };
    if before.ours == after.ours && !steps.iter().any(is_taken) {
        return Ok(());
    }
    let message = "names that begin with syncline_ are Syncline's own";
    Err(Error::new(Kind::Forbidden, "BLOCKED", message).hint("choose another name"))
}

/// `name` as a quoted identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An entry with its place in the file: what tells a rename from a drop and a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub object: Object,
    pub root: i64,
}

impl Entry {
    /// A virtual table has an entry and no pages.
    pub fn is_virtual(&self) -> bool {
        self.object.kind == ObjectKind::Table && self.root == 0
    }
}

/// The replicated part of `sqlite_schema`, in the order it was created.
pub(crate) fn entries(db: Db) -> Result<Vec<Entry>> {
    Ok(all_entries(db)?.0)
}

/// … and how many entries are ours.
fn all_entries(db: Db) -> Result<(Vec<Entry>, usize)> {
    let (mut entries, mut ours) = (Vec::new(), 0);
    let sql = "SELECT type, name, tbl_name, rootpage, sql FROM main.sqlite_schema ORDER BY rowid";
    db.query(sql, &[], |row| {
        let (kind, name) = (ObjectKind::parse(row.text(0)?), row.text(1)?);
        ours += usize::from(is_ours(name));
        if let Some(kind) = kind.filter(|_| !is_internal(name)) {
            let object = Object {
                kind,
                name: name.to_owned(),
                table: row.text(2)?.to_owned(),
                sql: row.text(4)?.to_owned(),
            };
            entries.push(Entry { object, root: row.i64(3) });
        }
        Ok(())
    })?;
    Ok((entries, ours))
}

/// What went and changed, and what came, between two states of the schema.
///
/// `altered` says that the statement was ALTER TABLE: then an object that went and one that came in
/// its place are one that was renamed.
pub(crate) fn difference(before: &[Entry], after: &[Entry], altered: bool) -> Vec<SchemaStep> {
    let key = |e: &Entry| (e.object.kind, e.object.name.clone());
    let old: BTreeMap<_, _> = before.iter().map(|e| (key(e), e)).collect();
    let new: BTreeMap<_, _> = after.iter().map(|e| (key(e), e)).collect();
    let mut gone: Vec<&Entry> = before.iter().filter(|e| !new.contains_key(&key(e))).collect();
    let mut altered_objects = Vec::new();
    let mut steps = Vec::new();
    let mut came = Vec::new();
    for entry in after {
        let same = old.get(&key(entry)).copied();
        let renamed = || gone.iter().position(|g| altered && is_renamed(g, entry));
        let was = match same {
            Some(was) => was,
            None => match renamed() {
                Some(i) => gone.remove(i),
                None => {
                    came.push(SchemaStep::Create(entry.object.clone()));
                    continue;
                }
            },
        };
        if was.object != entry.object {
            altered_objects.push((was.object.clone(), entry.object.clone()));
        } else if was.root != entry.root && !altered {
            // Dropped and created again by one statement: cannot happen, but must not be lost.
            steps.push(SchemaStep::Drop(was.object.clone()));
            came.push(SchemaStep::Create(entry.object.clone()));
        }
    }
    let mut all: Vec<_> = dropped(gone).into_iter().map(SchemaStep::Drop).collect();
    all.append(&mut steps);
    if !altered_objects.is_empty() {
        all.push(SchemaStep::Alter { objects: altered_objects, dropped_column: None });
    }
    all.append(&mut came);
    all
}

/// What a DROP has to name: an index or trigger goes with its table by itself.
fn dropped(gone: Vec<&Entry>) -> Vec<Object> {
    let is_table = |name: &str| {
        gone.iter().any(|g| g.object.kind == ObjectKind::Table && g.object.name == name)
    };
    let follows = |e: &Entry| {
        matches!(e.object.kind, ObjectKind::Index | ObjectKind::Trigger)
            && is_table(&e.object.table)
    };
    let mut objects: Vec<_> = gone.iter().filter(|e| !follows(e)).collect();
    // A virtual table's entry goes before its shadow tables: nothing may look for them meanwhile.
    objects.sort_by_key(|e| !e.is_virtual());
    objects.into_iter().map(|e| e.object.clone()).collect()
}

fn is_renamed(was: &Entry, is: &Entry) -> bool {
    was.object.kind == is.object.kind && was.root == is.root
}

/// The schema as the store works with it.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    pub entries: Vec<Entry>,
    /// Every table that has rows of its own.
    pub shapes: HashMap<String, TableShape>,
    /// There are virtual tables: these may hold writes back.
    pub has_virtual: bool,
    /// How many entries are Syncline's own.
    ours: usize,
}

impl Schema {
    /// Reads it all.
    pub fn load(db: Db) -> Result<Schema> {
        let (entries, ours) = all_entries(db)?;
        let has_virtual = entries.iter().any(Entry::is_virtual);
        let mut shapes = HashMap::new();
        for entry in &entries {
            if entry.object.kind == ObjectKind::Table && !entry.is_virtual() {
                shapes.insert(entry.object.name.clone(), shape(db, &entry.object)?);
            }
        }
        Ok(Schema { entries, shapes, has_virtual, ours })
    }
}

/// Whether a column from `first` on, as ALTER TABLE adds them, gives rows that were there before a value:
/// then it has a default. (A generated one is stored nowhere.)
fn has_defaults(db: Db, shape: &TableShape, first: usize) -> Result<bool> {
    let sql = "SELECT 1 FROM pragma_table_xinfo(?1, 'main') WHERE cid >= ?2 AND dflt_value IS NOT NULL \
               AND upper(dflt_value) <> 'NULL'";
    let args = [ValueRef::Text(&shape.name), ValueRef::Integer(first as i64)];
    Ok(db.query_i64(sql, &args)?.is_some())
}

/// Whether an alteration leaves every stored value as it was, and adds none but NULL.
pub(crate) fn keeps_values(db: Db, old: &TableShape, new: &TableShape) -> Result<bool> {
    let layout = |s: &TableShape| -> Vec<(bool, u32)> {
        s.columns.iter().map(|c| (c.is_real(), c.hidden)).collect()
    };
    let (before, after) = (layout(old), layout(new));
    let added = after.len() > before.len();
    let kept = after.starts_with(&before) && old.key == new.key;
    Ok(kept && (!added || !has_defaults(db, new, before.len())?))
}

/// Reads a table's shape.
pub(crate) fn shape(db: Db, table: &Object) -> Result<TableShape> {
    let mut columns = Vec::new();
    let name = ValueRef::Text(&table.name);
    let sql = "SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?1, 'main')";
    db.query(sql, &[name], |row| {
        columns.push(Column {
            name: row.text(0)?.to_owned(),
            decltype: row.text(1)?.to_owned(),
            notnull: row.i64(2) != 0,
            pk: row.i64(3) as u32,
            hidden: row.i64(4) as u32,
        });
        Ok(())
    })?;
    let (mut without_rowid, mut strict) = (false, false);
    let sql = "SELECT wr, strict FROM pragma_table_list WHERE schema = 'main' AND name = ?1";
    db.query(sql, &[name], |row| {
        (without_rowid, strict) = (row.i64(0) != 0, row.i64(1) != 0);
        Ok(())
    })?;
    let key = key_kind(db, &table.name, &columns, without_rowid)?;
    let autoincrement = matches!(key, KeyKind::Alias(_))
        && table.sql.to_ascii_uppercase().contains("AUTOINCREMENT");
    let shape =
        TableShape { name: table.name.clone(), columns, without_rowid, strict, key, autoincrement };
    if shape.keyed_by_rowid() && rowid_name(&shape).is_none() {
        return Err(Error::invalid(
            "ROWID_SHADOWED",
            format!("table {:?} has no usable key, and its columns hide the rowid", table.name),
        )
        .hint("give it a PRIMARY KEY whose columns are NOT NULL, or rename the column rowid, _rowid_ or oid"));
    }
    Ok(shape)
}

fn key_kind(db: Db, table: &str, columns: &[Column], without_rowid: bool) -> Result<KeyKind> {
    let mut key: Vec<usize> = (0..columns.len()).filter(|i| columns[*i].pk > 0).collect();
    key.sort_by_key(|i| columns[*i].pk);
    if key.is_empty() {
        return Ok(KeyKind::Rowid);
    }
    if !without_rowid && key.len() == 1 && columns[key[0]].decltype.eq_ignore_ascii_case("INTEGER")
    {
        // `INTEGER PRIMARY KEY DESC` is no alias: such a key has an index of its own.
        let sql = "SELECT count(*) FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'";
        if db.query_i64(sql, &[ValueRef::Text(table)])? == Some(0) {
            return Ok(KeyKind::Alias(key[0]));
        }
    }
    if without_rowid || key.iter().all(|i| columns[*i].notnull) {
        return Ok(KeyKind::Columns(key));
    }
    Ok(KeyKind::Rowid)
}

/// A name by which SQL reaches the rowid: none if columns hide all three.
pub(crate) fn rowid_name(shape: &TableShape) -> Option<&'static str> {
    let hidden = |name: &str| shape.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
    ["rowid", "_rowid_", "oid"].into_iter().find(|name| !hidden(name))
}

/// Carries out a step on a copy. Needs writable schema: see [`with_writable_schema`].
pub(crate) fn carry_out(db: Db, step: &SchemaStep) -> Result<()> {
    match step {
        SchemaStep::Create(object) if is_virtual_sql(object) => {
            let sql = "INSERT INTO main.sqlite_schema(type, name, tbl_name, rootpage, sql) \
                       VALUES ('table', ?1, ?2, 0, ?3)";
            db.execute(sql, &[text(&object.name), text(&object.table), text(&object.sql)])?;
            reload(db)
        }
        SchemaStep::Create(object) => db.execute_batch(&object.sql),
        SchemaStep::Drop(object) if is_virtual_sql(object) => {
            let sql = "DELETE FROM main.sqlite_schema WHERE type = 'table' AND name = ?1";
            db.execute(sql, &[text(&object.name)])?;
            reload(db)
        }
        SchemaStep::Drop(object) => {
            db.execute_batch(&format!("DROP {} {}", object.kind.as_str(), quote(&object.name)))
        }
        SchemaStep::Alter { objects, dropped_column } => {
            let table = objects.iter().find(|(before, _)| before.kind == ObjectKind::Table);
            if let (Some(column), Some((table, _))) = (dropped_column, table) {
                let sql =
                    format!("ALTER TABLE {} DROP COLUMN {}", quote(&table.name), quote(column));
                db.execute_batch(&sql)?;
            }
            for (before, after) in objects {
                replace_entry(db, before, after)?;
            }
            reload(db)
        }
    }
}

fn text(text: &str) -> ValueRef<'_> {
    ValueRef::Text(text)
}

/// Whether the stored text makes a virtual table.
pub(crate) fn is_virtual_sql(object: &Object) -> bool {
    object.kind == ObjectKind::Table
        && object.sql.get(..14).is_some_and(|s| s.eq_ignore_ascii_case("CREATE VIRTUAL"))
}

fn replace_entry(db: Db, before: &Object, after: &Object) -> Result<()> {
    let args = [
        text(&after.name),
        text(&after.table),
        text(&after.sql),
        text(before.kind.as_str()),
        text(&before.name),
    ];
    let sql = "UPDATE main.sqlite_schema SET name = ?1, tbl_name = ?2, sql = ?3 \
               WHERE type = ?4 AND name = ?5";
    db.execute(sql, &args)?;
    if before.kind == ObjectKind::Table && before.name != after.name {
        // Indexes without a text of their own carry the table's name in theirs.
        let sql = "UPDATE main.sqlite_schema SET tbl_name = ?1, name = \
                   CASE WHEN sql IS NULL THEN 'sqlite_autoindex_' || ?1 || substr(name, length(?2) + 18) \
                   ELSE name END WHERE type = 'index' AND tbl_name = ?2";
        db.execute(sql, &[text(&after.name), text(&before.name)])?;
        if db
            .query_i64("SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'", &[])?
            .is_some()
        {
            let sql = "UPDATE main.sqlite_sequence SET name = ?1 WHERE name = ?2";
            db.execute(sql, &[text(&after.name), text(&before.name)])?;
        }
    }
    Ok(())
}

/// Makes this connection, and by the schema cookie every other one, read the schema again.
fn reload(db: Db) -> Result<()> {
    let cookie = db.query_i64("PRAGMA main.schema_version", &[])?.unwrap_or(0);
    db.execute_batch(&format!("PRAGMA main.schema_version = {}", cookie + 1))?;
    db.execute_batch("PRAGMA writable_schema = RESET; PRAGMA writable_schema = ON")
}

/// Runs `work` on a connection that may write `sqlite_schema`.
pub(crate) fn with_writable_schema<T>(db: Db, work: impl FnOnce() -> Result<T>) -> Result<T> {
    db.execute_batch("PRAGMA writable_schema = ON")?;
    let done = work();
    db.execute_batch("PRAGMA writable_schema = OFF")?;
    done
}

/// The unique keys of a table beside the one that addresses its rows, as places among its columns:
/// without those of expressions, of generated columns, and of some rows only.
pub(crate) fn unique_keys(db: Db, shape: &TableShape) -> Result<Vec<Vec<usize>>> {
    let mut indexes = Vec::new();
    let sql = "SELECT name, origin FROM pragma_index_list(?1, 'main') \
               WHERE \"unique\" AND NOT partial ORDER BY seq DESC";
    db.query(sql, &[ValueRef::Text(&shape.name)], |row| {
        if row.text(1)? != "pk" || shape.keyed_by_rowid() {
            indexes.push(row.text(0)?.to_owned());
        }
        Ok(())
    })?;
    let mut keys = Vec::new();
    for index in indexes {
        let mut key = Vec::new();
        let sql = "SELECT cid FROM pragma_index_info(?1, 'main') ORDER BY seqno";
        db.query(sql, &[ValueRef::Text(&index)], |row| {
            key.push(usize::try_from(row.i64(0)).ok());
            Ok(())
        })?;
        let is_stored = |place: &usize| shape.columns[*place].is_stored();
        let key: Option<Vec<usize>> = key.into_iter().map(|c| c.filter(is_stored)).collect();
        keys.extend(key);
    }
    keys.sort();
    keys.dedup();
    Ok(keys)
}
