//! Where the sync of a table stands: the mark, what is waiting to become one, and how far the walk has come.
//!
//! ```text
//! versions   1 ………… mark ………………… pending ……… newest
//!            in B    read again     read again
//!                    every round    every round
//! ```
//!
//! A transaction may take version 10 and commit after 11 was seen. So the newest version that was seen becomes
//! the mark only when nothing below it can come any more: on PostgreSQL when all transactions have ended that
//! were open then; elsewhere after a time that the user grants ("overlap"); at once where writers take turns.
//! In the round in which it becomes the mark, all is read once more from the old one on: only now what was late
//! is there to be seen.
//! The mark itself is read again, too: more rows may have got the same version.

use serde::{Deserialize, Serialize};

use crate::endpoint::{Horizon, Key};

/// Kept for each table, in B, in the transaction of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Everything below is in B.
    #[serde(with = "hex")]
    pub mark: Option<Key>,
    /// The newest version that was seen, and when it may become the mark.
    pub pending: Option<Pending>,
    /// The walk has compared all keys up to this one.
    #[serde(with = "hex")]
    pub walked: Option<Key>,
    /// When it last went on, in seconds of Unix time.
    pub walked_at: u64,
    /// Rows of a batch.
    pub batch: Option<usize>,
}

/// A version that is not safe yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The version.
    #[serde(with = "hex_key")]
    pub version: Key,
    /// Safe once no transaction below this is open.
    pub xmax: Option<u64>,
    /// When it was seen, in seconds of Unix time.
    pub seen: u64,
}

impl Position {
    /// Of a table of which nothing is known any more, but how large a batch was good.
    pub fn unknown(&self) -> Position {
        Position { batch: self.batch, ..Position::default() }
    }

    /// Makes the pending version the mark, if it is safe by now.
    pub fn ripen(&mut self, now: u64, horizon: Horizon, overlap: u64) {
        let Some(pending) = &self.pending else { return };
        let safe = match (horizon, pending.xmax) {
            (Horizon::Serial, _) => true,
            // Transaction numbers that went back are another server's.
            (Horizon::Transactions { xmax, .. }, Some(seen)) if xmax < seen => {
                self.pending = None;
                return;
            }
            (Horizon::Transactions { xmin, .. }, Some(seen)) => xmin >= seen,
            (_, _) => now >= pending.seen.saturating_add(overlap),
        };
        #[cfg(feature = "planted")]
        let safe = safe || crate::planted("early-mark");
        if safe && let Some(pending) = self.pending.take() {
            self.mark = self.mark.take().max(Some(pending.version));
        }
    }

    /// Remembers the newest version that a snapshot showed.
    pub fn saw(&mut self, newest: &Key, now: u64, horizon: Horizon) {
        if self.mark.as_ref().is_some_and(|mark| mark >= newest) || self.pending.is_some() {
            return;
        }
        let xmax = match horizon {
            Horizon::Transactions { xmax, .. } => Some(xmax),
            Horizon::Serial | Horizon::Untold => None,
        };
        self.pending = Some(Pending { version: newest.clone(), xmax, seen: now });
        if horizon == Horizon::Serial {
            self.ripen(now, horizon, 0);
        }
    }

    /// A was put back to an earlier state: what was known of later versions is void. Whether it was.
    pub fn go_back_to(&mut self, newest: Option<&Key>) -> bool {
        let beyond = |version: &Key| newest.is_none_or(|newest| version > newest);
        if self.pending.as_ref().is_some_and(|pending| beyond(&pending.version)) {
            self.pending = None;
        }
        let back = self.mark.as_ref().is_some_and(beyond);
        if back {
            self.mark = newest.cloned();
        }
        back
    }
}

/// Keys as hexadecimal text.
pub(super) mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::endpoint::Key;

    /// As two digits a byte.
    pub fn text(key: &[u8]) -> String {
        key.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From two digits a byte.
    pub fn key(text: &str) -> Option<Key> {
        let pairs = (0..text.len() / 2).map(|i| text.get(2 * i..2 * i + 2));
        let bytes = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok());
        if text.len().is_multiple_of(2) { bytes.collect() } else { None }
    }

    pub fn serialize<S: Serializer>(key: &Option<Key>, to: S) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => to.serialize_some(&text(key)),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Key>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        let wrong = || serde::de::Error::custom("not hexadecimal");
        text.map(|text| key(&text).ok_or_else(wrong)).transpose()
    }
}

mod hex_key {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::hex;
    use crate::endpoint::Key;

    pub fn serialize<S: Serializer>(key: &Key, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::text(key))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        let text = String::deserialize(from)?;
        hex::key(&text).ok_or_else(|| serde::de::Error::custom("not hexadecimal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(xmin: u64, xmax: u64) -> Horizon {
        Horizon::Transactions { xmin, xmax }
    }

    /// A row takes version 10 and commits after 11 was synced.
    #[test]
    fn the_mark_waits_for_transactions_that_were_open() {
        let mut position = Position::default();
        position.saw(&vec![11], 0, at(5, 9));
        position.ripen(0, at(5, 12), 0);
        assert_eq!(position.mark, None, "transaction 5 is still open and may hold version 10");
        position.saw(&vec![14], 0, at(5, 12));
        position.ripen(0, at(9, 15), 0);
        assert_eq!(position.mark, Some(vec![11]), "what was seen first ripens first");
        position.saw(&vec![14], 0, at(9, 15));
        position.ripen(0, at(20, 20), 0);
        assert_eq!(position.mark, Some(vec![14]));
        position.saw(&vec![16], 0, at(20, 21));
        position.ripen(0, at(3, 4), 0);
        assert_eq!((position.mark, position.pending), (Some(vec![14]), None), "another server");
    }

    #[test]
    fn elsewhere_time_must_pass() {
        let mut position = Position::default();
        position.saw(&vec![11], 100, Horizon::Untold);
        position.ripen(159, Horizon::Untold, 60);
        assert_eq!(position.mark, None);
        position.ripen(160, Horizon::Untold, 60);
        assert_eq!(position.mark, Some(vec![11]));
        position.saw(&vec![12], 200, Horizon::Serial);
        assert_eq!(position.mark, Some(vec![12]), "where writers take turns nothing can be late");
    }

    #[test]
    fn going_back_voids_what_was_later() {
        let mut position = Position { mark: Some(vec![9]), ..Position::default() };
        position.saw(&vec![12], 0, Horizon::Untold);
        assert!(!position.go_back_to(Some(&vec![10])));
        assert_eq!(position.pending, None);
        assert!(position.go_back_to(Some(&vec![7])));
        assert_eq!(position.mark, Some(vec![7]));
        assert!(position.go_back_to(None));
        assert_eq!(position.mark, None);
    }

    #[test]
    fn positions_are_kept_as_text() {
        let mut position =
            Position { mark: Some(vec![0, 255]), batch: Some(7), ..Position::default() };
        position.saw(&vec![1], 5, at(1, 2));
        let text = serde_json::to_string(&position).unwrap();
        assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), position);
    }
}
