//! Where the position and the held rows are kept: in B, or in a file.
//!
//! In B they are in the transaction of the rows. A file is for a B in which nothing may be made; it is written
//! after each transaction, so that a crash in between only means to read some rows again.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use crate::endpoint::{Batch, Endpoint, Key, Plan};
use crate::error::{Error, Result};

use super::held::Held;
use super::pair::Pair;
use super::position::Position;

/// The state of one sync.
pub struct Keep {
    /// Tells syncs between different databases apart.
    prefix: String,
    file: Option<StateFile>,
}

struct StateFile {
    path: PathBuf,
    entries: BTreeMap<String, String>,
}

fn io(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::invalid("STATE_FILE", format!("the state file {}: {error}", path.display()))
        .hint("name a file of an earlier run, or one that does not exist yet, in a directory that may be written")
}

/// The same file has the same name from wherever it is looked at.
fn whole_path(address: &str) -> String {
    let path = address.strip_prefix("sqlite:").and_then(|path| std::fs::canonicalize(path).ok());
    path.map_or_else(|| address.to_owned(), |path| format!("sqlite:{}", path.display()))
}

impl Keep {
    /// Of a sync between these addresses; in `file`, or in B. `read_only`: nothing will be kept.
    pub fn open((a, b): (&str, &str), file: Option<&Path>, read_only: bool) -> Result<Keep> {
        let ends = format!("{} {}", whole_path(a), whole_path(b));
        let prefix = format!("{:016x}", xxh3_128(ends.as_bytes()) as u64);
        let file = file.map(StateFile::open).transpose()?;
        if let Some(file) = file.as_ref().filter(|_| !read_only) {
            // A file that cannot be written must be known before rows are.
            file.write()?;
        }
        Ok(Keep { prefix, file })
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// The name of a pair's position.
    pub fn position_name(&self, pair: &Pair) -> String {
        format!("{}/position/{}", self.prefix, pair.slot)
    }

    /// The name of a held row.
    pub fn held_name(&self, pair: &Pair, key: &[u8]) -> String {
        format!("{}/held/{}/{:032x}", self.prefix, pair.slot, xxh3_128(key))
    }

    /// A pair's position, and its held rows.
    pub fn load(
        &self,
        b: &mut dyn Endpoint,
        pair: &Pair,
    ) -> Result<(Position, HashMap<Key, Held>)> {
        let name = self.position_name(pair);
        let entries = self.entries(b, &name)?;
        let position =
            entries.iter().find(|(n, _)| *n == name).map(|(_, text)| parse(text)).transpose()?;
        let mut held = HashMap::new();
        for (_, text) in self.entries(b, &format!("{}/held/{}/", self.prefix, pair.slot))? {
            let row: Held = parse(&text)?;
            if let Some(key) = row.key() {
                held.insert(key, row);
            }
        }
        Ok((position.unwrap_or_default(), held))
    }

    fn entries(&self, b: &mut dyn Endpoint, prefix: &str) -> Result<Vec<(String, String)>> {
        let Some(file) = &self.file else { return b.state(prefix) };
        let of_prefix = file.entries.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(of_prefix.map(|(name, text)| (name.clone(), text.clone())).collect())
    }

    /// Keeps entries, in a transaction of their own.
    pub fn write(
        &mut self,
        b: &mut dyn Endpoint,
        plan: &Plan,
        state: &[(String, Option<String>)],
    ) -> Result<()> {
        if !self.is_file() {
            b.apply(&Batch { plan, puts: &[], deletes: &[], state })?;
        }
        self.keep(state)
    }

    /// Keeps entries in the file, if that is where they are kept.
    pub fn keep(&mut self, state: &[(String, Option<String>)]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        for (name, text) in state {
            match text {
                Some(text) => file.entries.insert(name.clone(), text.clone()),
                None => file.entries.remove(name),
            };
        }
        if state.is_empty() { Ok(()) } else { file.write() }
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::corrupt("STATE_CORRUPT", format!("the state of an earlier sync does not parse: {error}"))
            .hint("remove it (the table _syncline_sync, or the state file); the next run compares everything")
    })
}

impl StateFile {
    fn open(path: &Path) -> Result<StateFile> {
        let entries = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| io(path, e))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(io(path, error)),
        };
        Ok(StateFile { path: path.to_owned(), entries })
    }

    fn write(&self) -> Result<()> {
        let folder =
            self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |e: std::io::Error| io(&self.path, e);
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        serde_json::to_writer(&mut file, &self.entries).map_err(|e| io(&self.path, e))?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map_err(|e| io(&self.path, e))?;
        Ok(())
    }
}
