//! What the pages tell people to write must work: configurations, command lines, links.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use syncline::cli::Cli;
use syncline::config::{Config, Sources};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README, CONTRIBUTING and everything below `docs/`.
fn pages() -> Vec<(PathBuf, String)> {
    let mut files = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                files.push(path);
            }
        }
    }
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    let parts = text.split(open.as_str()).skip(1);
    parts.map(|part| part.split("\n```").next().unwrap_or_default()).collect()
}

/// Loads every block of a language; how many there are.
fn load(
    language: &str,
    as_what: fn(&Sources<'_>) -> Result<Config, syncline::config::Problems>,
) -> usize {
    let mut checked = 0;
    for (path, text) in pages() {
        for block in blocks(&text, language) {
            let sources = Sources {
                file: Some((path.display().to_string(), block.into())),
                environment: Vec::new(),
                flags: Vec::new(),
                host: "docs".into(),
                read: &|_| Err(std::io::ErrorKind::NotFound.into()),
            };
            if let Err(problems) = as_what(&sources) {
                panic!("{}:\n{block}\n{problems}", path.display());
            }
            checked += 1;
        }
    }
    checked
}

#[test]
fn every_configuration_in_the_docs_is_accepted() {
    assert!(load("toml", Config::load) >= 3);
    assert!(load("gateway", Config::load_gateway) >= 1);
}

#[test]
fn every_file_of_syncs_in_the_docs_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().join("a.url");
    fs::write(&url, "postgres://u@h/d").unwrap();
    let mut checked = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "sync") {
            let file = dir.path().join("sync.toml");
            let here = block.replace("/etc/syncline/warehouse.url", url.to_str().unwrap());
            fs::write(&file, here).unwrap();
            let count = syncline::cli::check_sync_file(&file);
            assert!(count.is_ok_and(|n| n > 0), "{}:\n{block}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 0, "none was found");
}

/// The arguments after the program's name, if the line runs this program.
fn invocation(line: &str) -> Option<Vec<String>> {
    let line = line.trim().trim_start_matches("$ ");
    let starts = ["syncline ", "./target/release/syncline ", "cargo run --release -- "];
    let rest = starts.iter().find_map(|start| line.strip_prefix(start))?;
    Some(words(rest.split(" #").next().unwrap_or_default()))
}

/// Splits as a shell would, as far as the docs go: spaces and quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_line_in_the_docs_is_understood() {
    let mut checked = 0;
    for (path, text) in pages() {
        for line in
            blocks(&text, "sh").iter().chain(&blocks(&text, "console")).flat_map(|b| b.lines())
        {
            let Some(arguments) = invocation(line) else { continue };
            let arguments = std::iter::once("syncline".to_string()).chain(arguments);
            if let Err(e) = Cli::try_parse_from(arguments) {
                panic!("{}: {line}\n{e}", path.display());
            }
            checked += 1;
        }
    }
    assert!(checked >= 15, "only {checked} command lines were found");
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    for (path, text) in pages() {
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || target.contains("://") {
                continue;
            }
            let there = path.parent().unwrap().join(file);
            assert!(there.exists(), "{} links to {target}, which is not there", path.display());
        }
    }
}

#[test]
fn the_readme_names_the_two_commands_and_when_not_to_use_it() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for part in
        ["cargo run --release -- demo", "./test", "When Syncline is the wrong tool", "Apache-2.0"]
    {
        assert!(readme.contains(part), "README.md misses {part:?}");
    }
}
