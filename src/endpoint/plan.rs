//! Plans: what is read of one table on one side, and under which types.

use serde::{Deserialize, Serialize};

use super::canon;
use super::table::Type;
use crate::change::{Digest, Value};
use crate::error::Result;

/// A column of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedColumn {
    /// As this side calls it.
    pub name: String,
    /// As this side declares it.
    pub declared: String,
    /// What its values are compared as.
    pub agreed: Type,
}

/// One table, on one side. Columns stand in the order that both sides agreed on, the key's first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The table, as this side calls it.
    pub table: String,
    /// All columns that are compared.
    pub columns: Vec<PlannedColumn>,
    /// How many of them, from the first on, are the key; 0: a multiset of rows.
    pub key: usize,
    /// Which of them is the version.
    pub version: Option<usize>,
    /// Only rows for which this SQL condition holds.
    pub filter: Option<String>,
}

impl Plan {
    /// Whether rows have no key of their own.
    pub fn is_multiset(&self) -> bool {
        self.key == 0
    }

    /// The row's hash: a hash of all it holds, key included, so that equal edits of many rows do not cancel.
    pub fn hash(&self, row: &[u8]) -> Digest {
        #[cfg(feature = "planted")]
        if crate::planted("manifest-without-hash") {
            let mut values = self.values(row).unwrap_or_default();
            let version = self.version.and_then(|at| values.get(at).cloned());
            values.truncate(self.key);
            values.extend(version);
            return canon::hash(&canon::encode_key(values.iter().map(Value::as_ref)));
        }
        canon::hash(row)
    }

    /// The values of a row in this plan's order.
    pub fn values(&self, row: &[u8]) -> Result<Vec<Value>> {
        canon::decode_row(row, self.columns.len())
    }
}
