//! `sync -c FILE`: several syncs in one process, each at its own pace.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Deserialize;

use super::compared::Selected;
use super::exit::{Exit, Failure, Outcome};
use super::sync::Job;
use crate::config::units;
use crate::error::{Error, Result};
use crate::sync::{MaxDelete, SyncOptions};

/// What the file holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sync: Vec<Written>,
}

/// One `[[sync]]`, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    a: String,
    a_file: Option<String>,
    b: String,
    b_file: Option<String>,
    tables: Vec<String>,
    exclude: Vec<String>,
    r#where: Vec<String>,
    columns: Vec<String>,
    version_column: Vec<String>,
    every: Option<String>,
    overlap: Option<String>,
    walk: Option<String>,
    state: Option<std::path::PathBuf>,
    max_delete: Option<String>,
    yes: bool,
    create: bool,
    limit_rate: Option<String>,
}

/// One `[[sync]]`, as meant.
#[derive(Debug)]
struct Meant {
    a: String,
    b: String,
    every: Duration,
    options: SyncOptions,
}

fn wrong(file: &Path, what: impl std::fmt::Display) -> Error {
    Error::invalid("CONFIG_INVALID", format!("{}: {what}", file.display()))
        .hint("the keys of [[sync]] are those of `syncline sync --help`, with _ for -")
}

fn read(file: &Path) -> Result<Vec<Meant>> {
    let text = std::fs::read_to_string(file).map_err(|e| wrong(file, e))?;
    let written: File = toml::from_str(&text).map_err(|e| wrong(file, e))?;
    if written.sync.is_empty() {
        return Err(wrong(file, "there is no [[sync]] in it"));
    }
    written.sync.into_iter().map(|sync| meant(file, sync)).collect()
}

fn meant(file: &Path, written: Written) -> Result<Meant> {
    let time = |name: &str, text: Option<&String>, default: Duration| match text {
        None => Ok(default),
        Some(text) => units::duration(text).ok_or_else(|| {
            wrong(file, format!("{name} = {text:?}: write a number and a unit, such as 30s"))
        }),
    };
    let defaults = SyncOptions::default();
    let address = |name: &str, text: String, from: Option<String>| match from {
        Some(path) => secret(file, &path),
        None if text.is_empty() => {
            Err(wrong(file, format!("a [[sync]] needs {name} or {name}_file")))
        }
        None => Ok(text),
    };
    let limit = written.limit_rate.as_deref().map(|text| {
        let size = units::size(text.strip_suffix("/s").unwrap_or(text));
        size.ok_or_else(|| {
            wrong(file, format!("limit_rate = {text:?}: write a size a second, such as 1MiB/s"))
        })
    });
    let max_delete = written.max_delete.as_deref().map(str::parse::<MaxDelete>).transpose();
    let selected = Selected {
        tables: written.tables,
        exclude: written.exclude,
        filters: written.r#where,
        columns: written.columns,
    };
    Ok(Meant {
        a: address("a", written.a, written.a_file)?,
        b: address("b", written.b, written.b_file)?,
        every: time("every", written.every.as_ref(), Duration::from_secs(30))?,
        options: SyncOptions {
            selection: selected.selection(&written.version_column)?,
            create: written.create,
            overlap: time("overlap", written.overlap.as_ref(), defaults.overlap)?,
            walk_within: time("walk", written.walk.as_ref(), defaults.walk_within)?,
            max_delete: max_delete.map_err(|e| wrong(file, e))?.unwrap_or(defaults.max_delete),
            yes: written.yes,
            limit_rate: limit.transpose()?,
            state_file: written.state,
            ..defaults
        },
    })
}

/// The first line of a file, which need not be readable by whoever may read the configuration.
fn secret(file: &Path, path: &str) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|e| wrong(file, format!("{path}: {e}")))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// How many there are, if the file is right.
pub fn count(file: &Path) -> Result<usize> {
    Ok(read(file)?.len())
}

/// Follows all of them until it is stopped.
pub fn run(file: &Path, json: bool, stop: &AtomicBool) -> Outcome {
    let syncs = read(file)?;
    std::thread::scope(|scope| {
        let running: Vec<_> = syncs
            .into_iter()
            .map(|sync| {
                scope.spawn(move || {
                    let job = Job { a: &sync.a, b: &sync.b, options: sync.options, json };
                    job.serve(sync.every, stop)
                })
            })
            .collect();
        for thread in running {
            thread
                .join()
                .map_err(|_| Failure::new(Exit::No, "INTERNAL", "a sync panicked", ""))??;
        }
        Ok(Exit::Yes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Meant>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sync.toml");
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn keys_are_those_of_the_command_line() {
        let syncs = read_text(
            "[[sync]]\na = \"sqlite:a.db\"\nb = \"b.db\"\nevery = \"5s\"\nmax_delete = \"3\"\n\
             version_column = [\"t=v\"]\nwhere = [\"t:v > 3\"]\n[[sync]]\na = \"x\"\nb = \"y\"\n",
        )
        .unwrap();
        assert_eq!(syncs.len(), 2);
        assert_eq!(syncs[0].every, Duration::from_secs(5));
        assert_eq!(syncs[0].options.max_delete, MaxDelete::Rows(3));
        assert_eq!(syncs[0].options.selection.versions, [("t".into(), "v".into())]);
        assert_eq!(syncs[0].options.selection.filters, [("t".into(), "v > 3".into())]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in [
            "",
            "[[sync]]\n",
            "[[sync]]\na=\"x\"\nb=\"y\"\nevrey=\"5s\"\n",
            "[[sync]]\na=\"x\"\nb=\"y\"\nevery=\"soon\"\n",
        ] {
            assert_eq!(read_text(text).unwrap_err().code(), "CONFIG_INVALID", "{text}");
        }
    }
}
