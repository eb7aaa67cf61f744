//! `config check` and `config show`; and where every command gets its configuration from.

use std::path::Path;

use super::arguments::{Config as Arguments, ConfigAction};
use super::exit::{Exit, Failure, Outcome};
use crate::config::{Config, Flag, Problems, Sources};

/// Checks or shows a configuration.
pub fn run(arguments: &Arguments) -> Outcome {
    match &arguments.action {
        ConfigAction::Check { config } => {
            let config = load(config.as_deref(), Vec::new())?;
            println!("ok: {}", summary(&config));
        }
        ConfigAction::Show { config } => {
            print!("{}", load(config.as_deref(), Vec::new())?.written.show());
        }
    }
    Ok(Exit::Yes)
}

/// One line: what this node is to which database.
fn summary(config: &Config) -> String {
    let database = |db: &crate::config::Database| format!("{} of {}", db.role.as_str(), db.name);
    let databases: Vec<String> = config.databases.iter().map(database).collect();
    format!("node {} is {}", config.node.name, databases.join(", "))
}

/// Reads a node's configuration: the file, this process's environment, the flags.
pub fn load(file: Option<&Path>, flags: Vec<Flag>) -> Result<Config, Failure> {
    load_by(file, flags, Config::load)
}

/// Reads a gateway's, likewise.
pub fn load_gateway(file: Option<&Path>, flags: Vec<Flag>) -> Result<Config, Failure> {
    load_by(file, flags, Config::load_gateway)
}

fn load_by(
    file: Option<&Path>,
    flags: Vec<Flag>,
    load: fn(&Sources<'_>) -> Result<Config, Problems>,
) -> Result<Config, Failure> {
    let file = match file {
        Some(path) => Some((path.display().to_string(), read(path)?)),
        None => None,
    };
    let read = |path: &Path| std::fs::read_to_string(path);
    // What is not UTF-8 is none of ours: our values all are.
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let environment = std::env::vars_os().filter_map(text).collect();
    let sources = Sources { file, environment, flags, host: host_name(), read: &read };
    Ok(load(&sources)?)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| {
        let message = format!("{} cannot be read: {e}", path.display());
        let hint = "give the file's name after -c; docs/reference/config.md says what goes into it";
        Failure::new(Exit::Usage, "CONFIG_UNREADABLE", &message, hint)
    })
}

/// The machine's name, or `node` if it has none that can be read.
fn host_name() -> String {
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer is ours, and its length is given.
    let got = unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len()) };
    let end = buffer.iter().position(|b| *b == 0).unwrap_or(0);
    match std::str::from_utf8(&buffer[..end]) {
        Ok(name) if got == 0 && !name.is_empty() => name.into(),
        _ => "node".into(),
    }
}
