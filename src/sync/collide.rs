//! Keys that are two in A and one in B, because B's collation takes upper and lower case for the same.
//!
//! They are looked for before anything is written: otherwise the second of two such rows would be held for a reason
//! that nobody can see in the row.
//!
//! Left out: what collations take for equal beyond case and blanks at the end, accents for instance. Of such
//! rows the second one is held, with what the server says.

use crate::change::Value;
use crate::endpoint::sort::sorted;
use crate::endpoint::{Endpoint, Key, Range, canon};
use crate::error::{Error, Result};

use super::held::show_key;
use super::pair::Pair;

/// Refuses a table of which two keys would be one.
pub fn refuse_collisions(a: &mut dyn Endpoint, pair: &Pair) -> Result<()> {
    let folds = folding(pair);
    if !folds.contains(&true) {
        return Ok(());
    }
    match look(a, pair, &folds) {
        // The endpoint has learned that it must sort.
        Err(error) if error.code() == "KEYS_OUT_OF_ORDER" => look(a, pair, &folds),
        looked => looked,
    }
}

/// Which columns of the key are compared without case in B only.
fn folding(pair: &Pair) -> Vec<bool> {
    let columns = pair.plan(0).columns[..pair.plan(0).key].iter();
    let folds = |table: &crate::endpoint::Table, name: &str| {
        table.column(name).is_some_and(|column| column.folds_case)
    };
    columns.map(|column| folds(&pair.b, &column.name) && !folds(&pair.a, &column.name)).collect()
}

fn look(a: &mut dyn Endpoint, pair: &Pair, folds: &[bool]) -> Result<()> {
    let plan = pair.plan(0);
    let mut last: Option<(Key, Key)> = None;
    let read = |sink: &mut crate::endpoint::Sink<'_>| {
        a.read(plan, &[Range::ALL], &mut |key, _| sink(&folded(key, folds)?, key))
    };
    sorted(plan, &[Range::ALL], read, &mut |folded, key| {
        let collides = last.as_ref().filter(|(before, _)| before == folded);
        if let Some((_, other)) = collides {
            return Err(collision(pair, other, key));
        }
        last = Some((folded.to_vec(), key.to_vec()));
        Ok(())
    })
}

fn folded(key: &[u8], folds: &[bool]) -> Result<Key> {
    let mut values = canon::decode_key(key)?;
    for (value, _) in values.iter_mut().zip(folds).filter(|(_, folds)| **folds) {
        if let Value::Text(text) = value {
            *text = text.to_lowercase().trim_end_matches(' ').to_owned();
        }
    }
    Ok(canon::encode_key(values.iter().map(Value::as_ref)))
}

fn collision(pair: &Pair, one: &[u8], other: &[u8]) -> Error {
    let what = format!(
        "in {} the keys {:?} and {:?} of A would be one row in B, whose collation does not tell them apart",
        pair.name(),
        show_key(one),
        show_key(other)
    );
    Error::invalid("KEYS_COLLIDE", what)
        .hint("give B's key column a binary collation, or leave the table out with --exclude")
}
