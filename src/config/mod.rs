//! The configuration, in two steps: as written, then as meant.
//!
//! ```text
//!   file ─┐
//!   environment ─┼─► written: key → (value, where it came from)     unknown keys end here
//!   flags ─┘               │ defaults
//!                          ▼
//!                     meant: types, and relations between keys      nonsense ends here
//!                          │
//!                          ▼
//!                     engine::DatabaseOptions, one for each database
//! ```
//!
//! Every problem is reported, not only the first, each with the place it came from and what to
//! write instead. Nothing here looks at the environment or at a file by itself: [`Sources`] carries
//! all of it, so that tests and other programs can say what there is.
//!
//! Left out: reloading. A changed file takes effect at the next start.

mod checks;
pub mod keys;
mod meant;
mod server;
mod show;
pub mod units;
mod written;

use std::fmt;

use crate::error::Error;

pub use meant::{Address, Auth, Config, Database, Limits, Node, Tls};
pub use server::server_place;
pub use show::reference;
pub use written::{Flag, Origin, Raw, Setting, Sources, Written};

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug)]
pub struct Problems(pub Vec<Error>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let end = if i + 1 == self.0.len() { "" } else { "\n" };
            write!(f, "error: {} ({})", error.message(), error.code())?;
            write!(f, "\n  hint: {}{end}", error.hint_text())?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Config {
    /// Both steps: reads the sources, resolves every default, and checks how the keys relate.
    pub fn load(sources: &Sources<'_>) -> Result<Config, Problems> {
        Config::checked(sources, checks::relations)
    }

    /// The same for a gateway, which has no databases.
    pub fn load_gateway(sources: &Sources<'_>) -> Result<Config, Problems> {
        Config::checked(sources, checks::gateway)
    }

    fn checked(
        sources: &Sources<'_>,
        relations: fn(&Config) -> Vec<Error>,
    ) -> Result<Config, Problems> {
        let mut problems = Vec::new();
        let mut written = Written::merge(sources, &mut problems);
        meant::fill_defaults(&mut written, &sources.host);
        problems.extend(checks::policy(&written));
        let config = meant::resolve(written, &mut problems);
        problems.extend(relations(&config));
        if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
    }
}

#[cfg(test)]
mod tests;
