//! Writing rows.
//!
//! Left out: rows of one table that refer to each other in a circle. No order of single rows brings them in.

use std::rc::Rc;

use mysql_async::Value as Sql;

use super::aside;
use super::catalogue::referrers;
use super::declared::{list, quoted};
use super::failed::{DUPLICATE, code};
use super::guard;
use super::multiset;
use super::order;
use super::read::{Found, KEYS, found};
use super::session::Session;
use super::state;
use super::value::{size, to_store};
use crate::change::Value;
use crate::endpoint::{Applied, Batch, Key, Plan, Row};
use crate::error::{Error, Kind, Result};

/// More rows for each statement make it no faster.
const ROWS: usize = 100;
/// A statement has no more places than that.
const PLACES: usize = 65_535;
/// What a statement is besides its values, at most: text and the key of the row.
const MARGIN: usize = 8192;

/// How rows are brought up to date.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Many at once.
    InPlace,
    /// What must go goes first, and rows that differ are taken out and put back as they must be: their unique
    /// values may have changed places.
    AsideFirst,
    /// Rows come one by one, and those that wait for others of the batch again, and go all at once: the table
    /// refers to itself.
    InTurns,
}

/// Applies a batch; in another way where that may help.
pub(super) fn apply(session: &mut Session, batch: &Batch<'_>) -> Result<Applied> {
    state::prepare(session, batch.state)?;
    let applied = apply_in(session, batch, Way::InPlace);
    let is_alone = batch.puts.len() + batch.deletes.len() == 1;
    match &applied {
        Err(error) if !is_alone && code(error) == Some(DUPLICATE) => {
            apply_in(session, batch, Way::AsideFirst)
        }
        Err(error) if !is_alone && is_waiting(error) => {
            match referrers(session, &batch.plan.table)?.iter().any(|key| key.is_itself) {
                true => apply_in(session, batch, Way::InTurns),
                false => applied,
            }
        }
        _ => applied,
    }
}

/// Whether a row waits for another.
fn is_waiting(error: &Error) -> bool {
    error.kind() == Kind::Behind
}

fn apply_in(session: &mut Session, batch: &Batch<'_>, way: Way) -> Result<Applied> {
    // Rows that the filter hides are in the way all the same.
    let plan = &Plan { filter: None, ..batch.plan.clone() };
    session.transaction(|session| {
        let mut applied = Applied::default();
        match plan.is_multiset() {
            true => multiset::apply(session, plan, batch, &mut applied)?,
            false => apply_keyed(session, plan, batch, way, &mut applied)?,
        }
        state::keep(session, batch.state)?;
        Ok(applied)
    })
}

fn apply_keyed(
    session: &mut Session,
    plan: &Plan,
    batch: &Batch<'_>,
    way: Way,
    applied: &mut Applied,
) -> Result<()> {
    let changes = Changes::of(session, plan, batch.puts, applied)?;
    let doomed = |session: &mut Session| doomed(session, plan, batch.deletes, way);
    let gone = match way {
        Way::InPlace => {
            let updates = updates(session, plan, &changes.different)?;
            run_all(session, updates)?;
            insert_rows(session, plan, &changes.missing)?;
            let doomed = doomed(session)?;
            delete_raw(session, plan, &doomed)?;
            doomed
        }
        Way::AsideFirst => {
            let doomed = doomed(session)?;
            delete_raw(session, plan, &doomed)?;
            let aside = aside::take_out(session, plan, &changes.different)?;
            insert_rows(session, plan, &changes.missing)?;
            aside::put_back(session, plan, aside)?;
            doomed
        }
        Way::InTurns => {
            let mut puts = updates(session, plan, &changes.different)?;
            puts.extend(inserts(session, plan, &changes.missing)?);
            run_in_turns(session, puts)?;
            let doomed = doomed(session)?;
            delete_unchecked(session, plan, &doomed)?;
            doomed
        }
    };
    applied.deleted += gone.len() as u64;
    verify(session, plan, &changes)
}

/// A statement with its values.
type Ready = (Rc<str>, Vec<Sql>);

fn run_all(session: &mut Session, statements: Vec<Ready>) -> Result<()> {
    statements.into_iter().try_for_each(|(sql, values)| session.execute(&sql, values).map(drop))
}

/// Runs statements, those that wait for others of them again, as long as any succeeds.
fn run_in_turns(session: &mut Session, mut statements: Vec<Ready>) -> Result<()> {
    loop {
        let (before, mut waiting, mut why) = (statements.len(), Vec::new(), None);
        for (sql, values) in statements {
            match session.execute(&sql, values.clone()) {
                Ok(_) => {}
                Err(error) if is_waiting(&error) => {
                    waiting.push((sql, values));
                    why = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match why {
            None => return Ok(()),
            Some(error) if waiting.len() == before => return Err(error),
            Some(_) => statements = waiting,
        }
    }
}

/// A row that must be so.
pub(super) type Put = (Key, Row);

/// The rows of a batch that must be written.
struct Changes<'a> {
    missing: Vec<&'a Put>,
    /// … with what is there.
    different: Vec<(&'a Put, Found)>,
}

impl<'a> Changes<'a> {
    fn of(
        session: &mut Session,
        plan: &Plan,
        puts: &'a [Put],
        applied: &mut Applied,
    ) -> Result<Changes<'a>> {
        let keys: Vec<&Key> = puts.iter().map(|(key, _)| key).collect();
        let mut there = found(session, plan, &keys, true)?;
        let mut changes = Changes { missing: Vec::new(), different: Vec::new() };
        for put in puts {
            match there.remove(&put.0) {
                Some(found) if found.row == put.1 => applied.equal += 1,
                Some(found) => changes.different.push((put, found)),
                None => changes.missing.push(put),
            }
        }
        applied.inserted += changes.missing.len() as u64;
        applied.updated += changes.different.len() as u64;
        Ok(changes)
    }

    fn written(&self) -> impl Iterator<Item = &'a Put> {
        self.missing.iter().copied().chain(self.different.iter().map(|(put, _)| *put))
    }
}

/// The values of a canonical row as the server takes them; a row that it would not take is refused unsent, for
/// it would only close the connection.
pub(super) fn to_send(session: &Session, plan: &Plan, row: &[u8]) -> Result<Vec<Sql>> {
    let values = plan.values(row)?.into_iter().zip(&plan.columns);
    let values: Vec<Sql> = values.map(|(value, column)| to_store(value, column)).collect();
    let (needed, packet) = (total(&values) + MARGIN, session.server().packet);
    if needed > packet {
        let what =
            format!("{}: a row of {needed} bytes is over max_allowed_packet, {packet}", plan.table);
        return Err(Error::invalid("ROW_REFUSED", what)
            .hint("an administrator can SET GLOBAL max_allowed_packet, at most to 1 GB"));
    }
    Ok(values)
}

fn total(values: &[Sql]) -> usize {
    values.iter().map(size).sum()
}

fn names(plan: &Plan) -> Vec<String> {
    plan.columns.iter().map(|column| column.name.clone()).collect()
}

fn insert_rows(session: &mut Session, plan: &Plan, puts: &[&Put]) -> Result<()> {
    let rows = puts.iter().map(|(_, row)| to_send(session, plan, row));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    insert(session, &plan.table, &names(plan), rows)
}

/// An INSERT for each row.
fn inserts(session: &Session, plan: &Plan, puts: &[&Put]) -> Result<Vec<Ready>> {
    let names = names(plan);
    let sql: Rc<str> = format!("{}{}", into(&plan.table, &names), places(&names)).into();
    puts.iter().map(|(_, row)| Ok((Rc::clone(&sql), to_send(session, plan, row)?))).collect()
}

fn into(table: &str, names: &[String]) -> String {
    format!("INSERT INTO {} ({}) VALUES ", quoted(table), list(names))
}

fn places(names: &[String]) -> String {
    format!("({})", vec!["?"; names.len()].join(", "))
}

/// Inserts rows, so many at once as the server takes.
pub(super) fn insert(
    session: &mut Session,
    table: &str,
    names: &[String],
    rows: Vec<Vec<Sql>>,
) -> Result<()> {
    let most = ROWS.min(PLACES / names.len().max(1));
    let packet = session.server().packet;
    let (into, places) = (into(table, names), places(names));
    let (mut sent, mut arguments, mut bytes) = (0, Vec::new(), 0);
    let mut rows = rows.into_iter().peekable();
    while let Some(row) = rows.next() {
        bytes += total(&row);
        arguments.extend(row);
        sent += 1;
        let is_full = |next: &Vec<Sql>| sent == most || bytes + total(next) + MARGIN > packet;
        if rows.peek().is_none_or(is_full) {
            let sql = format!("{into}{}", vec![places.as_str(); sent].join(", "));
            session.execute(&sql, std::mem::take(&mut arguments))?;
            (sent, bytes) = (0, 0);
        }
    }
    Ok(())
}

/// An UPDATE for each row. Every column is set, equal or not: a timestamp that follows updates by itself must keep
/// its value.
fn updates(session: &mut Session, plan: &Plan, different: &[(&Put, Found)]) -> Result<Vec<Ready>> {
    guard::updates(session, plan, different, false)?;
    let (key, others) = plan.columns.split_at(plan.key);
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let set = others.iter().map(|column| format!("{} = ?", quoted(&column.name)));
    let set = set.collect::<Vec<_>>().join(", ");
    let sql = format!("UPDATE {} SET {set} WHERE {}", quoted(&plan.table), order::is_key(key));
    let sql: Rc<str> = sql.into();
    let update = |((_, row), found): &(&Put, Found)| {
        let mut values = to_send(session, plan, row)?.split_off(plan.key);
        values.extend(found.raw.iter().cloned());
        Ok((Rc::clone(&sql), values))
    };
    different.iter().map(update).collect()
}

/// The rows that must go and are there, by their raw keys, in the order of the batch: children may come before
/// their parents.
fn doomed(session: &mut Session, plan: &Plan, keys: &[Key], way: Way) -> Result<Vec<Vec<Sql>>> {
    let keys: Vec<&Key> = keys.iter().collect();
    let doomed = found(session, plan, &keys, true)?;
    guard::deletes(session, plan, &doomed, way == Way::InTurns)?;
    Ok(keys.iter().filter_map(|key| doomed.get(*key)).map(|found| found.raw.clone()).collect())
}

/// Deletes rows that only each other refer to: one that refers to itself goes in no other way.
fn delete_unchecked(session: &mut Session, plan: &Plan, raws: &[Vec<Sql>]) -> Result<()> {
    session.unchecked(|session| delete_raw(session, plan, raws))
}

/// Deletes the rows with these raw keys, which are there.
pub(super) fn delete_raw(session: &mut Session, plan: &Plan, raws: &[Vec<Sql>]) -> Result<()> {
    for portion in raws.chunks(KEYS) {
        let mut arguments = Vec::new();
        let condition = any_raw(plan, portion, &mut arguments);
        session.execute(
            &format!("DELETE FROM {} WHERE {condition}", quoted(&plan.table)),
            arguments,
        )?;
    }
    Ok(())
}

/// The condition for the rows with these raw keys.
pub(super) fn any_raw(plan: &Plan, raws: &[Vec<Sql>], arguments: &mut Vec<Sql>) -> String {
    let single = |raw: &Vec<Sql>| raw.iter().map(|value| vec![value.clone()]).collect();
    let keys: Vec<Vec<Vec<Sql>>> = raws.iter().map(single).collect();
    order::any_of(&plan.columns[..plan.key], &keys, arguments)
}

/// Whether what was written is what must be there. The server changes some values without a word, and so may a
/// trigger.
fn verify(session: &mut Session, plan: &Plan, changes: &Changes<'_>) -> Result<()> {
    let keys: Vec<&Key> = changes.written().map(|(key, _)| key).collect();
    let there = found(session, plan, &keys, false)?;
    for (key, row) in changes.written() {
        match there.get(key) {
            Some(found) if found.row == *row => {}
            found => return Err(changed(plan, row, found)?),
        }
    }
    Ok(())
}

fn changed(plan: &Plan, row: &Row, found: Option<&Found>) -> Result<Error> {
    let wanted = plan.values(row)?;
    let what = match found {
        None => format!("{}: a row is not to be found by its key once it is written", plan.table),
        Some(found) => {
            let there = plan.values(&found.row)?;
            let at = wanted.iter().zip(&there).position(|(a, b)| a != b).unwrap_or(0);
            let column = &plan.columns[at];
            format!(
                "{}.{} ({}) would keep {} in place of {}",
                plan.table,
                column.name,
                column.declared,
                short(&there[at]),
                short(&wanted[at])
            )
        }
    };
    Ok(Error::invalid("ROW_REFUSED", what)
        .hint("the column is narrower than the value, or a trigger changes it"))
}

/// A value in few words.
pub(super) fn short(value: &Value) -> String {
    const MOST: usize = 40;
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(i) => i.to_string(),
        Value::Real(r) => r.to_string(),
        Value::Text(text) if text.chars().count() <= MOST => format!("{text:?}"),
        Value::Text(text) => format!("a text of {} bytes", text.len()),
        Value::Blob(blob) => format!("{} bytes", blob.len()),
    }
}
