//! The first step: what was written, and where.
//!
//! File, environment and flags become one table from key to setting. Later sources replace earlier
//! ones key by key; nothing is interpreted yet except that a key must exist.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use crate::error::Error;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// A line of the file.
    File(String, usize),
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(name, line) => write!(f, "{name}:{line}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// A value before anybody has asked what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// A string; all that the environment and flags can say.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A truth value.
    Bool(bool),
    /// `["a", "b"]`.
    List(Vec<String>),
    /// `{ followers = 1 }`.
    Followers(i64),
    /// Anything else, by the name of its type.
    Other(&'static str),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::Text(text) => write!(f, "{text:?}"),
            Raw::Integer(n) => n.fmt(f),
            Raw::Bool(b) => b.fmt(f),
            Raw::List(items) => write!(f, "{items:?}"),
            Raw::Followers(n) => write!(f, "{{ followers = {n} }}"),
            Raw::Other(kind) => write!(f, "<{kind}>"),
        }
    }
}

/// A value and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub raw: Raw,
    /// Where it came from.
    pub origin: Origin,
}

/// What a flag of the command line says about a key.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The flag, for messages.
    pub flag: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// Everything a configuration is made from; nothing is read behind the caller's back.
pub struct Sources<'a> {
    /// The file's name and text.
    pub file: Option<(String, String)>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// The flags.
    pub flags: Vec<Flag>,
    /// The machine's name, the default of `node.name`.
    pub host: String,
    /// Reads the file that a `KEY_file` names.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// All settings, by key.
#[derive(Debug, Clone, Default)]
pub struct Written {
    settings: BTreeMap<String, Setting>,
    databases: Vec<String>,
}

impl Written {
    /// Merges the sources; what is wrong with them goes to `problems`.
    pub fn merge(sources: &Sources<'_>, problems: &mut Vec<Error>) -> Written {
        let mut written = Written::default();
        if let Some((name, text)) = &sources.file {
            written.add_file(name, text, problems);
        }
        for (name, value) in &sources.environment {
            if let Some(rest) = name.strip_prefix("SYNCLINE__") {
                written.add_variable(name, rest, value, problems);
            }
        }
        for flag in &sources.flags {
            let raw = Raw::Text(flag.value.clone());
            written.put(flag.key.into(), Setting { raw, origin: Origin::Flag(flag.flag) });
        }
        written.read_secret_files(sources, problems);
        if written.databases.is_empty() {
            written.databases.push("main".into());
        }
        written
    }

    /// The databases, in the order in which they were written.
    pub fn databases(&self) -> &[String] {
        &self.databases
    }

    /// What stands at a key.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key)
    }

    /// Sets a default, where nobody wrote anything.
    pub fn set_default(&mut self, key: String, value: String) {
        let setting = Setting { raw: Raw::Text(value), origin: Origin::Default };
        self.settings.entry(key).or_insert(setting);
    }

    fn put(&mut self, key: String, setting: Setting) {
        if let Some(name) = key.strip_prefix("databases.").and_then(|rest| rest.split('.').next())
            && !self.databases.iter().any(|known| known == name)
        {
            self.databases.push(name.into());
        }
        self.settings.insert(key, setting);
    }

    fn add_file(&mut self, name: &str, text: &str, problems: &mut Vec<Error>) {
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        match DeTable::parse(text) {
            Ok(table) => {
                self.add_table(table.get_ref(), "", &|at| (name.into(), line(at)), problems)
            }
            Err(e) => {
                let place =
                    e.span().map(|span| format!(":{}", line(span.start))).unwrap_or_default();
                problems.push(
                    Error::invalid("CONFIG_SYNTAX", format!("{name}{place}: {}", e.message()))
                        .hint("the file is TOML: [section] lines, then key = value lines"),
                );
            }
        }
    }

    fn add_table(
        &mut self,
        table: &DeTable<'_>,
        prefix: &str,
        place: &dyn Fn(usize) -> (String, usize),
        problems: &mut Vec<Error>,
    ) {
        for (key, value) in table.iter() {
            let path = join(prefix, key.get_ref());
            let (file, line) = place(key.span().start);
            let origin = Origin::File(file, line);
            if prefix == "databases" && !is_name(key.get_ref()) {
                problems.push(bad_name(key.get_ref(), &origin));
            } else if keys::find(&path).or(keys::find_secret_file(&path)).is_some() {
                self.put(path, Setting { raw: raw(value), origin });
            } else if let (true, DeValue::Table(inner)) = (keys::is_section(&path), value.get_ref())
            {
                self.note_database(&path);
                self.add_table(inner, &path, place, problems);
            } else {
                problems.push(unknown(&path, &origin));
            }
        }
    }

    /// `[databases.main]` alone is a database too.
    fn note_database(&mut self, path: &str) {
        if let Some(name) = path.strip_prefix("databases.")
            && !name.contains('.')
        {
            self.databases.push(name.into());
        }
    }

    fn add_variable(&mut self, name: &str, rest: &str, value: &str, problems: &mut Vec<Error>) {
        let origin = Origin::Environment(name.into());
        let mut parts: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        if parts[0] == "databases" && parts.len() > 1 {
            parts[1] = self.known_database(&parts[1]);
        }
        let path = parts.join(".");
        if keys::find(&path).or(keys::find_secret_file(&path)).is_none() {
            problems.push(unknown(&path, &origin));
        } else if parts[0] == "databases" && !is_name(&parts[1]) {
            problems.push(bad_name(&parts[1], &origin));
        } else {
            self.put(path, Setting { raw: Raw::Text(value.into()), origin });
        }
    }

    /// A variable's name has no case and no `-`: it means the database of the file, if one fits.
    fn known_database(&self, name: &str) -> String {
        let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
        let known = self.databases.iter().find(|known| plain(known) == name);
        known.cloned().unwrap_or_else(|| name.into())
    }

    fn read_secret_files(&mut self, sources: &Sources<'_>, problems: &mut Vec<Error>) {
        let files = self.settings.keys().filter(|key| keys::find_secret_file(key).is_some());
        for key in files.cloned().collect::<Vec<_>>() {
            let Some(Setting { raw: Raw::Text(file), origin }) = self.settings.remove(&key) else {
                problems.push(invalid(&key, "is not the name of a file").hint("write a path"));
                continue;
            };
            let base = key.strip_suffix("_file").unwrap_or(&key).to_string();
            if let Some(other) = self.settings.get(&base) {
                problems.push(given_twice(&base, &other.origin, &key, &origin));
                continue;
            }
            match (sources.read)(Path::new(&file)) {
                Ok(text) => self.put(base, Setting { raw: Raw::Text(text.trim().into()), origin }),
                Err(e) => problems.push(unreadable(&key, &file, &origin, e)),
            }
        }
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.into() } else { format!("{prefix}.{key}") }
}

fn raw(value: &Spanned<DeValue<'_>>) -> Raw {
    match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(n) => integer(n).map_or(Raw::Other("number out of range"), Raw::Integer),
        DeValue::Boolean(b) => Raw::Bool(*b),
        DeValue::Array(items) => list(items).map_or(Raw::Other("array"), Raw::List),
        DeValue::Table(table) => followers(table).map_or(Raw::Other("table"), Raw::Followers),
        other => Raw::Other(other.type_str()),
    }
}

fn list(items: &toml::de::DeArray<'_>) -> Option<Vec<String>> {
    items.iter().map(|item| item.get_ref().as_str().map(String::from)).collect()
}

fn integer(n: &toml::de::DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(n.as_str(), n.radix()).ok()
}

fn followers(table: &DeTable<'_>) -> Option<i64> {
    let mut entries = table.iter();
    let (key, value) = entries.next()?;
    let DeValue::Integer(n) = value.get_ref() else { return None };
    (key.get_ref() == "followers" && entries.next().is_none()).then(|| integer(n)).flatten()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn bad_name(name: &str, origin: &Origin) -> Error {
    let message = format!("{name:?} cannot be the name of a database ({origin})");
    Error::invalid("CONFIG_DATABASE_NAME", message)
        .hint("a name is part of a URL: use letters, digits, `_` and `-`")
}

fn unknown(path: &str, origin: &Origin) -> Error {
    let error = Error::invalid("CONFIG_UNKNOWN_KEY", format!("{path} is not a key ({origin})"));
    match keys::nearest(path) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("docs/reference/config.md lists all keys"),
    }
}

fn invalid(key: &str, what: &str) -> Error {
    Error::invalid("CONFIG_INVALID", format!("{key} {what}"))
}

fn given_twice(key: &str, at: &Origin, file_key: &str, file_at: &Origin) -> Error {
    let message = format!("{key} ({at}) and {file_key} ({file_at}) both give one secret");
    Error::invalid("CONFIG_CONFLICT", message).hint("keep one of them; the file is the safer one")
}

fn unreadable(key: &str, file: &str, origin: &Origin, e: io::Error) -> Error {
    let message = format!("{key} names {file:?}, which cannot be read: {e} ({origin})");
    Error::invalid("CONFIG_UNREADABLE", message)
        .hint("the file must exist and this user must be able to read it")
        .source(e)
}
