//! Pairs: which tables of two databases belong together, and how each pair is compared.

use xxhash_rust::xxh3::xxh3_64;

use crate::endpoint::agree::{Agreement, Wishes, agree};
use crate::endpoint::table::{is_meant, paired_names};
use crate::endpoint::{Endpoint, Engine, Plan, Table};
use crate::error::{Error, Result};

/// Which tables, and what of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these; none: all.
    pub tables: Vec<String>,
    /// Not these.
    pub exclude: Vec<String>,
    /// Conditions, by table.
    pub filters: Vec<(String, String)>,
    /// Columns, as `table.column`; a table that is not named here has all.
    pub columns: Vec<String>,
    /// Version columns, by table.
    pub versions: Vec<(String, String)>,
}

/// Two tables that belong together.
#[derive(Debug, Clone)]
pub struct Pair {
    /// As A describes its own.
    pub a: Table,
    /// As B does.
    pub b: Table,
    /// How they are compared.
    pub agreement: Agreement,
    /// The name of what is kept of this pair between runs. It tells apart what is compared otherwise: other columns,
    /// types, or conditions, or another version column.
    pub slot: String,
}

impl Pair {
    /// The table's name, as A calls it.
    pub fn name(&self) -> &str {
        &self.a.name
    }

    /// The plan of side 0 (A) or 1 (B).
    pub fn plan(&self, side: usize) -> &Plan {
        if side == 0 { &self.agreement.a } else { &self.agreement.b }
    }
}

/// All that belongs together, and what has no counterpart.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    /// Tables of both, by name.
    pub pairs: Vec<Pair>,
    /// Tables that only A has.
    pub only_a: Vec<Table>,
    /// Tables that only B has.
    pub only_b: Vec<Table>,
}

fn slot(table: &str, agreement: &Agreement) -> String {
    let plans = serde_json::to_vec(&(&agreement.a, &agreement.b)).unwrap_or_default();
    format!("{table}/{:016x}", xxh3_64(&plans))
}

impl Selection {
    /// Whether a table is taken, of a side that has these.
    fn takes(&self, table: &str, names: &[&str]) -> bool {
        let is_it = |name: &String| is_meant(name, table, names);
        (self.tables.is_empty() || self.tables.iter().any(is_it)) && !self.exclude.iter().any(is_it)
    }

    fn wishes(&self, table: &str, names: &[&str]) -> Wishes {
        let of_table = |list: &[(String, String)]| {
            let of = list.iter().find(|(name, _)| is_meant(name, table, names));
            of.map(|(_, of)| of.clone())
        };
        let columns = self.columns.iter().filter_map(|column| {
            let (of, name) = column.rsplit_once('.')?;
            is_meant(of, table, names).then(|| name.to_owned())
        });
        let columns: Vec<String> = columns.collect();
        Wishes {
            columns: (!columns.is_empty()).then_some(columns),
            filter: of_table(&self.filters),
            version: of_table(&self.versions),
        }
    }

    /// Everything that was named must be somewhere: a slip of the pen must not look like "equal".
    fn refuse_unknown(&self, known: &[&Table]) -> Result<()> {
        let of_columns =
            self.columns.iter().map(|c| c.rsplit_once('.').map_or(c.as_str(), |c| c.0));
        let of_pairs = self.filters.iter().chain(&self.versions).map(|(table, _)| table.as_str());
        let named = self.tables.iter().map(String::as_str).chain(of_pairs).chain(of_columns);
        for name in named {
            if !known.iter().any(|table| table.name.eq_ignore_ascii_case(name)) {
                let names: Vec<&str> = known.iter().map(|table| table.name.as_str()).collect();
                let names = if names.is_empty() { "none".into() } else { names.join(", ") };
                return Err(Error::invalid(
                    "NO_SUCH_TABLE",
                    format!("neither side has a table {name}"),
                )
                .hint(format!("the tables there are: {names}")));
            }
        }
        Ok(())
    }

    /// Pairs the tables of two endpoints by name, and then those whose names differ in case only.
    pub fn pair(&self, a: &mut dyn Endpoint, b: &mut dyn Endpoint) -> Result<Pairs> {
        let engines = (a.engine(), b.engine());
        let (of_a, of_b) = (a.tables()?, b.tables()?);
        self.refuse_unknown(&of_a.iter().chain(&of_b).collect::<Vec<_>>())?;
        self.pair_tables(engines, &of_a, &of_b)
    }

    fn pair_tables(&self, engines: (Engine, Engine), a: &[Table], b: &[Table]) -> Result<Pairs> {
        let (all_of_a, all_of_b) = (names(a), names(b));
        let of_a: Vec<_> = a.iter().filter(|table| self.takes(&table.name, &all_of_a)).collect();
        let of_b: Vec<_> = b.iter().filter(|table| self.takes(&table.name, &all_of_b)).collect();
        let places = paired_names(&names(of_a.iter().copied()), &names(of_b.iter().copied()));
        let mut pairs = Pairs::default();
        for (table, place) in of_a.into_iter().zip(&places) {
            let Some(other) = place.map(|place| of_b[place]) else {
                pairs.only_a.push(table.clone());
                continue;
            };
            let wishes = self.wishes(&table.name, &all_of_a);
            let mut agreement = agree((engines.0, table), (engines.1, other), &wishes)?;
            if agreement.a.is_multiset() {
                // A row cannot be found again by its version.
                (agreement.a.version, agreement.b.version) = (None, None);
            }
            let slot = slot(&table.name, &agreement);
            pairs.pairs.push(Pair { a: table.clone(), b: other.clone(), agreement, slot });
        }
        let only_b = (0..of_b.len()).filter(|place| !places.contains(&Some(*place)));
        pairs.only_b = only_b.map(|place| of_b[place].clone()).collect();
        Ok(pairs)
    }
}

fn names<'t>(tables: impl IntoIterator<Item = &'t Table>) -> Vec<&'t str> {
    tables.into_iter().map(|table| table.name.as_str()).collect()
}
