//! The house: a module names only modules below it, and the map in `src/lib.rs` is complete.
//!
//! Without this test, two layers begin to import each other the first time somebody is in a hurry,
//! and from then on neither can be read, tested or replaced alone. The order:
//!
//! ```text
//!             main
//!              cli
//!       client    config
//!              api
//!            engine
//!            manager
//! order  acknowledge  ship  merge  heal  sync   (strangers to each other)
//!             raft
//!    store   endpoint   peer                 (strangers)
//!       change    dial                     (strangers)
//!             error
//! ```
//!
//! It reads text, not syntax: `crate::x`, `crate::{x, y}`, `syncline::x` and `super::` chains that
//! leave a top-level module, outside comments and strings. Left out: names that reach a module
//! through a re-export of a lower one (there are none at the top of `lib.rs`), and macros.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up. Modules in one row do not name each other.
const LAYERS: &[&[&str]] = &[
    // `planted` holds the bugs on purpose; every checker's target may ask it.
    &["error", "planted"],
    &["change", "dial"],
    &["store", "endpoint", "peer"],
    &["raft"],
    &["order", "acknowledge", "ship", "merge", "heal", "sync"],
    &["manager"],
    &["engine"],
    &["api"],
    &["client", "config"],
    &["cli"],
    &["main"],
];

/// Which row a top-level module stands in.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// Whether `from` may name `to`.
fn allowed(from: &str, to: &str) -> bool {
    from == to || to == "planted" || layer(to) < layer(from)
}

/// A name of a top-level module that a file uses.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    line: usize,
    module: String,
}

/// The text with comments and string literals blanked out, line by line as it was.
fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |i| i + 2)
        } else if let Some(end) = raw_string_end(rest) {
            end
        } else if c == '"' {
            string_end(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            0
        };
        let (gone, kept) = if skip == 0 { ("", c.len_utf8()) } else { (&rest[..skip], skip) };
        match skip {
            0 => out.push(c),
            _ => out.extend(gone.chars().filter(|c| *c == '\n')),
        }
        rest = &rest[kept..];
    }
    out
}

/// Where a raw string that begins here ends.
fn raw_string_end(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.chars().take_while(|c| *c == '#').count();
    let body = after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let begin = 1 + hashes + 1;
    Some(body.find(&close).map_or(rest.len(), |i| begin + i + close.len()))
}

/// Where the string that begins here ends.
fn string_end(rest: &str) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return i + 1,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// The top-level modules that a file at `depth` modules below the crate names.
fn uses(text: &str, depth: usize) -> Vec<Use> {
    let code = code_only(text);
    let mut found = Vec::new();
    for root in ["crate::", "syncline::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = line_of(&code, at);
            let names = names_after(&code[at + root.len()..]);
            found.extend(names.into_iter().map(|module| Use { line, module }));
        }
    }
    let out = "super::".repeat(depth.max(1));
    for (at, _) in code.match_indices(&out) {
        if code[..at].ends_with("super::") || depth == 0 {
            continue;
        }
        let line = line_of(&code, at);
        let names = names_after(&code[at + out.len()..]);
        let modules = names.into_iter().filter(|name| layer(name).is_some());
        found.extend(modules.map(|module| Use { line, module }));
    }
    found
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first names of a path: one, or those of a `{…}` group.
fn names_after(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let mut names = vec![word(group)];
    let mut depth = 0;
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&group[i + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Every `.rs` file under `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The top-level module of a file, and how many modules deep the file lies.
fn place(file: &Path) -> (String, usize) {
    let parts: Vec<String> = file
        .strip_prefix(src())
        .unwrap()
        .iter()
        .map(|part| part.to_string_lossy().trim_end_matches(".rs").to_string())
        .filter(|part| part != "mod")
        .collect();
    (parts[0].clone(), parts.len())
}

/// What is wrong with a file's text, one line each.
fn violations(from: &str, depth: usize, text: &str) -> Vec<String> {
    uses(text, depth)
        .into_iter()
        .filter(|used| layer(&used.module).is_some() && !allowed(from, &used.module))
        .map(|used| format!("line {}: {from} names {}", used.line, used.module))
        .collect()
}

#[test]
fn a_module_names_only_modules_below_it() {
    let mut wrong = Vec::new();
    for file in sources(&src()) {
        let (from, depth) = place(&file);
        if from == "lib" {
            continue;
        }
        assert!(layer(&from).is_some(), "{from} has no place in the house: give it one in LAYERS");
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(src()).unwrap().display().to_string();
        wrong.extend(violations(&from, depth, &text).into_iter().map(|v| format!("{name}, {v}")));
    }
    assert!(wrong.is_empty(), "layers are broken:\n{}", wrong.join("\n"));
}

#[test]
fn a_planted_violation_is_seen() {
    let cases: &[(&str, usize, &str, usize)] = &[
        ("change", 2, "use crate::engine::Database;", 1),
        ("change", 2, "use crate::{error::Error, engine::{A, B}, store};", 2),
        ("order", 1, "fn f() {\n    crate::merge::fold()\n}", 1),
        ("store", 2, "use super::super::ship::Feed;", 1),
        ("store", 1, "use super::endpoint;", 1),
        ("api", 3, "let _ = syncline::cli::run;", 1),
        ("engine", 2, "use crate::change::Value;\nuse crate::error::Result;", 0),
        ("change", 2, "// crate::engine is above\n/// See [`crate::engine`].", 0),
        ("change", 2, "let s = \"crate::engine\"; let r = r#\"crate::api\"#;", 0),
        ("change", 2, "let q = '\"'; use crate::engine::X;", 1),
        ("engine", 2, "mod tests { use super::super::options; }", 0),
    ];
    for (from, depth, text, expected) in cases {
        let found = violations(from, *depth, text);
        assert_eq!(found.len(), *expected, "{from}: {text:?} gave {found:?}");
    }
    assert_eq!(violations("order", 1, "\n\nuse crate::merge;"), ["line 3: order names merge"]);
}

/// A reader opens `src/lib.rs` first. A folder that its map does not name is one nobody finds.
#[test]
fn the_map_names_every_module() {
    let map = fs::read_to_string(src().join("lib.rs")).unwrap();
    let comment: String = map.lines().filter(|line| line.starts_with("//!")).collect();
    for entry in fs::read_dir(src()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().to_string();
        if ["lib", "main", "planted"].contains(&name.as_str()) {
            continue;
        }
        assert!(comment.contains(&format!("[`{name}`]")), "the map in lib.rs misses {name}");
    }
}
