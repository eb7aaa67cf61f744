//! What the catalogue says of tables.
//!
//! A partitioned table is one table, and its partitions are none. Left out: views, foreign tables, tables of
//! PostgreSQL's own schemas, temporary ones, and ours. Tables of schemas that the user may not enter are not
//! listed; those that he may not read are, and say so when they are read.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::base::Base;
use super::quoted;
use super::relation::{Held, Reference, Relation};
use super::session::{Session, quote};
use crate::endpoint::{Column, ForeignKey, OnDelete, Table};
use crate::error::Result;

/// A table's name to everybody, and to SQL.
const NAME: &str = "CASE WHEN n.nspname = current_schema() THEN c.relname::text \
                    ELSE n.nspname || '.' || c.relname END";
const SQL: &str = "format('%I.%I', n.nspname, c.relname)";

/// All tables, by name, or the one of this name.
pub(super) fn relations(session: &mut Session, name: Option<&str>) -> Result<Vec<Relation>> {
    let mut relations = tables(session, name)?;
    let oids: Vec<String> = relations.iter().map(|r| r.oid.to_string()).collect();
    if oids.is_empty() {
        return Ok(relations);
    }
    let oids = oids.join(",");
    let places = relations.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
    let of = Of { places, oids };
    columns(session, &of, &mut relations)?;
    keys(session, &of, &mut relations)?;
    foreign_keys(session, &of, &mut relations)?;
    triggers(session, &of, &mut relations)?;
    Ok(relations)
}

/// The tables that are asked for.
struct Of {
    places: HashMap<u32, usize>,
    oids: String,
}

impl Of {
    fn place(&self, row: &Row) -> usize {
        self.places[&oid(row, 0)]
    }
}

fn oid(row: &Row, place: usize) -> u32 {
    row.get::<_, u32>(place)
}

fn tables(session: &mut Session, name: Option<&str>) -> Result<Vec<Relation>> {
    let named = name.map_or("true".into(), |name| format!("{NAME} = {}", quote(name)));
    let sql = format!(
        "SELECT c.oid, {NAME}, {SQL}, c.relkind = 'p', \
            (SELECT sum(greatest(l.reltuples, 0))::int8 FROM pg_partition_tree(c.oid) t \
                JOIN pg_class l ON l.oid = t.relid WHERE l.relkind = 'r' HAVING min(l.reltuples) >= 0), \
            (SELECT sum(pg_total_relation_size(t.relid))::int8 FROM pg_partition_tree(c.oid) t), \
            ARRAY(SELECT r.rulename::text FROM pg_rewrite r WHERE r.ev_class = c.oid \
                AND r.ev_type <> '1' AND r.ev_enabled IN ('O', 'A') ORDER BY 1) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' \
            AND n.nspname <> 'information_schema' AND c.relname !~ '^_syncline_' \
            AND has_schema_privilege(n.oid, 'USAGE') AND {named} ORDER BY 2"
    );
    Ok(session.rows(&sql)?.iter().map(relation).collect())
}

fn relation(row: &Row) -> Relation {
    let number = |place| row.get::<_, Option<i64>>(place).and_then(|n| u64::try_from(n).ok());
    let (columns, key, unique, foreign_keys, triggers) = Default::default();
    let (rows, bytes) = (number(4), number(5));
    let name = row.get(1);
    Relation {
        table: Table {
            name,
            columns,
            key,
            unique,
            foreign_keys,
            triggers,
            rows,
            bytes,
            made_by: Vec::new(),
        },
        oid: oid(row, 0),
        sql: row.get(2),
        partitioned: row.get(3),
        held: Vec::new(),
        referenced: Vec::new(),
        rules: row.get(6),
    }
}

/// Domains with what lies under them, whatever lies between.
const DOMAINS: &str = "WITH RECURSIVE d(oid, base, typmod, not_null) AS ( \
        SELECT oid, typbasetype, typtypmod, typnotnull FROM pg_type WHERE typtype = 'd' \
        UNION ALL SELECT d.oid, t.typbasetype, CASE WHEN d.typmod >= 0 THEN d.typmod ELSE t.typtypmod END, \
            d.not_null OR t.typnotnull FROM d JOIN pg_type t ON t.oid = d.base AND t.typtype = 'd')";

fn columns(session: &mut Session, of: &Of, relations: &mut [Relation]) -> Result<()> {
    let sql = format!(
        "{DOMAINS} SELECT a.attrelid, a.attname::text, format_type(a.atttypid, a.atttypmod), \
            format_type(a.atttypid, -1), \
            CASE WHEN b.typnamespace = 'pg_catalog'::regnamespace OR b.typname = 'citext' \
                THEN b.typname::text ELSE '' END, \
            coalesce(d.typmod, a.atttypmod), a.attnotnull OR coalesce(d.not_null, false), \
            a.attgenerated <> '', a.attidentity = 'a', coalesce(NOT l.collisdeterministic, false), \
            coalesce(l.collname IN ('C', 'POSIX') OR l.collprovider = 'd' AND e.datcollate IN ('C', 'POSIX') \
                AND coalesce(to_jsonb(e) ->> 'datlocprovider', 'c') = 'c', false), \
            (SELECT s.oid::regclass::text FROM pg_depend p JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S' \
                WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass \
                AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND p.deptype IN ('a', 'i') LIMIT 1), \
            has_column_privilege(a.attrelid, a.attnum, 'SELECT'), b.typtype = 'e' \
         FROM pg_attribute a LEFT JOIN d ON d.oid = a.atttypid \
            AND EXISTS (SELECT 1 FROM pg_type x WHERE x.oid = d.base AND x.typtype <> 'd') \
         JOIN pg_type b ON b.oid = coalesce(d.base, a.atttypid) \
         LEFT JOIN pg_collation l ON l.oid = a.attcollation \
         JOIN pg_database e ON e.datname = current_database() \
         WHERE a.attrelid IN ({}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum",
        of.oids
    );
    for row in session.rows(&sql)? {
        let relation = &mut relations[of.place(&row)];
        let (column, held) = column(&row);
        relation.table.columns.push(column);
        relation.held.push(held);
    }
    Ok(())
}

fn column(row: &Row) -> (Column, Held) {
    let under: &str = row.get(4);
    let base = Base::named(under);
    let typmod: i32 = row.get(5);
    let (size, scale) = sizes(base, typmod);
    let digits = u8::try_from(typmod).ok().filter(|digits| *digits <= 6).unwrap_or(6);
    let column = Column {
        name: row.get(1),
        declared: row.get(2),
        kind: base.kind(digits),
        not_null: row.get(6),
        generated: row.get(7),
        folds_case: under == "citext" || row.get(9),
        size,
        scale,
    };
    let held = Held {
        base,
        cast: row.get(3),
        digits,
        size,
        scale,
        bytewise: row.get(10),
        identity: row.get(8),
        sequence: row.get(11),
        readable: row.get(12),
        verbatim: base != Base::Other || under == "citext" || row.get(13),
    };
    (column, held)
}

/// The numbers in a type's brackets, as its modifier holds them.
fn sizes(base: Base, typmod: i32) -> (Option<u32>, Option<u32>) {
    let Ok(packed) = u32::try_from(typmod - 4) else { return (None, None) };
    match base {
        Base::Text | Base::Char => (Some(packed), None),
        // A scale has eleven bits with its sign; one below zero rounds before the point.
        Base::Numeric => match packed & 0x7ff {
            scale @ 0..=0x3ff => (Some(packed >> 16), Some(scale)),
            below => (Some((packed >> 16) + 0x800 - below), Some(0)),
        },
        _ => (None, None),
    }
}

fn keys(session: &mut Session, of: &Of, relations: &mut [Relation]) -> Result<()> {
    let sql = format!(
        "SELECT i.indrelid, i.indisprimary, i.indimmediate, \
            ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, place) \
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n \
                WHERE k.place <= i.indnkeyatts ORDER BY k.place) \
         FROM pg_index i WHERE i.indrelid IN ({}) AND i.indisunique AND i.indisvalid \
            AND i.indpred IS NULL AND i.indexprs IS NULL \
         ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid",
        of.oids
    );
    for row in session.rows(&sql)? {
        let table = &mut relations[of.place(&row)].table;
        let (primary, immediate, key): (bool, bool, Vec<String>) =
            (row.get(1), row.get(2), row.get(3));
        let not_null = |name: &String| table.column(name).is_some_and(|c| c.not_null);
        // The primary key comes first, then the narrowest.
        if table.key.is_empty() && (primary || immediate && key.iter().all(not_null)) {
            table.key = key;
        } else if key != table.key && !table.unique.contains(&key) {
            table.unique.push(key);
        }
    }
    Ok(())
}

fn foreign_keys(session: &mut Session, of: &Of, relations: &mut [Relation]) -> Result<()> {
    let names = |table: &str, numbers: &str| {
        format!(
            "ARRAY(SELECT a.attname::text FROM unnest(f.{numbers}) WITH ORDINALITY k(n, place) \
                JOIN pg_attribute a ON a.attrelid = f.{table} AND a.attnum = k.n ORDER BY k.place)"
        )
    };
    let sql = format!(
        "SELECT f.conrelid, f.confrelid, f.conname::text, {}, {}, f.confdeltype::text, f.confupdtype::text, \
            (SELECT {NAME} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = f.confrelid), \
            (SELECT {SQL} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = f.conrelid) \
         FROM pg_constraint f WHERE f.contype = 'f' AND f.conparentid = 0 \
            AND (f.conrelid IN ({oids}) OR f.confrelid IN ({oids})) ORDER BY f.conrelid, f.conname",
        names("conrelid", "conkey"),
        names("confrelid", "confkey"),
        oids = of.oids,
    );
    for row in session.rows(&sql)? {
        let (child, parent) = (oid(&row, 0), oid(&row, 1));
        let reference = reference(&row);
        if let Some(place) = of.places.get(&child) {
            relations[*place].table.foreign_keys.push(ForeignKey {
                columns: reference.columns.clone(),
                parent: row.get(7),
                parent_columns: reference.parent_columns.clone(),
                on_delete: reference.on_delete,
            });
        }
        if let Some(place) = of.places.get(&parent) {
            relations[*place].referenced.push(reference);
        }
    }
    Ok(())
}

fn reference(row: &Row) -> Reference {
    let then = |action: &str| match action {
        "a" | "r" => OnDelete::Refuse,
        _ => OnDelete::Cascade,
    };
    let deleted: &str = row.get(5);
    Reference {
        name: row.get(2),
        child: oid(row, 0),
        child_sql: row.get(8),
        columns: row.get(3),
        parent_columns: row.get(4),
        on_delete: then(deleted),
        on_update: then(row.get(6)),
        restricts: deleted == "r",
    }
}

fn triggers(session: &mut Session, of: &Of, relations: &mut [Relation]) -> Result<()> {
    // Of INSERT, DELETE or UPDATE; those that run only in replicas do not run here.
    let sql = format!(
        "SELECT tgrelid, tgname::text FROM pg_trigger WHERE tgrelid IN ({}) AND NOT tgisinternal \
            AND tgenabled IN ('O', 'A') AND tgtype & 28 <> 0 ORDER BY 1, 2",
        of.oids
    );
    for row in session.rows(&sql)? {
        relations[of.place(&row)].table.triggers.push(row.get(1));
    }
    Ok(())
}

/// What cannot be kept from running when rows are written.
pub(super) fn warnings(relation: &Relation) -> Vec<String> {
    let (name, sql) = (&relation.table.name, &relation.sql);
    let triggers = relation.table.triggers.iter().map(|trigger| {
        format!(
            "trigger {trigger} of {name} will run for every row that is written; \
             to keep it from that: ALTER TABLE {sql} DISABLE TRIGGER {}",
            quoted(trigger)
        )
    });
    let rules = relation.rules.iter().map(|rule| {
        format!(
            "rule {rule} of {name} may rewrite what is written; \
             to keep it from that: ALTER TABLE {sql} DISABLE RULE {}",
            quoted(rule)
        )
    });
    triggers.chain(rules).collect()
}
