//! Pages that can be generated are generated; what they say is what the code does.
//!
//! `SYNCLINE_WRITE_DOCS=1 cargo test --test cli_reference` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a page with what the code gives, or writes it.
fn current(page: &str, text: &str) {
    let path = root().join("docs/reference").join(page);
    if std::env::var_os("SYNCLINE_WRITE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "{page} is stale: run SYNCLINE_WRITE_DOCS=1 cargo test --test cli_reference"
    );
}

#[test]
fn the_configuration_page_is_current() {
    current("config.md", &syncline::config::reference());
}

#[test]
fn the_command_line_page_is_current() {
    current("cli.md", &syncline::cli::reference());
}

#[test]
fn the_error_page_is_current() {
    let codes = all_codes();
    assert!(codes.contains_key("CONFIG_UNKNOWN_KEY") && codes.contains_key("POSITION_INVALID"));
    current("errors.md", &errors_page(&codes));
}

/// A code as the sources use it.
#[derive(Debug, Clone)]
struct Use {
    kind: String,
    sentence: String,
    module: String,
}

/// How each constructor sorts its error; `new` names the kind itself.
const CONSTRUCTORS: &[(&str, &str)] = &[
    ("Error::invalid(", "Invalid"),
    ("Error::retry(", "Retry"),
    ("Error::unavailable(", "Unavailable"),
    ("Error::corrupt(", "Corrupt"),
    ("Error::diverged(", "Diverged"),
    ("Error::storage(", "Storage"),
    ("Error::new(", ""),
    ("Failure::new(", ""),
];

fn all_codes() -> BTreeMap<String, Use> {
    let mut codes: BTreeMap<String, Use> = BTreeMap::new();
    for file in sources(&root().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        // Tests make errors up.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let module = module_of(&file);
        for (constructor, kind) in CONSTRUCTORS {
            for (at, _) in code.match_indices(constructor) {
                let (before, rest) = (&code[..at], &code[at + constructor.len()..]);
                let Some((name, used)) = read_use(before, rest, kind, &module) else { continue };
                let known = codes.entry(name).or_insert_with(|| used.clone());
                if known.sentence.is_empty() {
                    *known = used;
                }
            }
        }
    }
    codes
}

fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).unwrap();
    inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_string()
}

/// Reads `[Kind::X,] "CODE", SENTENCE` at the beginning of a constructor's arguments.
fn read_use(before: &str, rest: &str, kind: &str, module: &str) -> Option<(String, Use)> {
    let (kind, rest) = match kind {
        "" => {
            let (kind, rest) = rest.trim_start().split_once(',')?;
            (kind.strip_prefix("Kind::").or(kind.strip_prefix("Exit::"))?.trim(), rest)
        }
        kind => (kind, rest),
    };
    let (code, rest) = literal(rest.trim_start())?;
    let part = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if code.len() < 2 || !code.bytes().all(part) {
        return None;
    }
    let sentence = sentence(before, rest.trim_start_matches(',').trim_start());
    Some((code, Use { kind: kind.into(), sentence, module: module.into() }))
}

/// The sentence: a text, a `format!`, or a `message` that was made just before.
fn sentence(before: &str, argument: &str) -> String {
    let inside = |text: &str| {
        let text = text.trim_start();
        let text = text.strip_prefix("format!(").unwrap_or(text).trim_start();
        literal(text).map(|(text, _)| plain(&text))
    };
    let argument = argument.trim_start_matches('&');
    let made = || inside(before.rsplit_once("let message =")?.1);
    let is_message = argument.starts_with("message") && !before_ends_function(before);
    inside(argument).or_else(|| is_message.then(made).flatten()).unwrap_or_default()
}

/// Whether the last `message` was made in another function.
fn before_ends_function(before: &str) -> bool {
    before.rsplit_once("let message =").is_none_or(|(_, after)| after.contains("\n}\n"))
}

/// The string literal that begins here, and what follows.
fn literal(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut escaped = false;
    for (i, c) in body.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return Some((body[..i].to_string(), &body[i + 1..])),
            _ => escaped = false,
        }
    }
    None
}

/// A sentence with `…` for what is filled in, on one line, fit for a table.
fn plain(sentence: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    for c in sentence.replace("\\\"", "\"").chars() {
        match c {
            '{' => {
                depth += 1;
                out.push('…');
            }
            '}' => depth -= 1,
            _ if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// What a kind means to a caller.
fn next_step(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "Invalid" => ("change the request", "no"),
        "Retry" => ("send it again", "yes"),
        "Conflict" => ("read again, decide again, send it again", "yes"),
        "Behind" => ("wait, or ask the writer", "yes"),
        "Diverged" => ("HEAL's business, or a person's decision", "no"),
        "Corrupt" => ("stop using this copy", "no"),
        "Unavailable" => ("wait: it may come back by itself", "yes"),
        "Unknown" => ("ask with the receipt or the idempotency key", "unknown"),
        "Forbidden" => ("ask whoever may", "no"),
        "Usage" => ("change what was asked for", ""),
        "No" | "Decision" => ("see the message", ""),
        "Storage" => ("the process stops; a restart is safe", "unknown"),
        _ => ("see the message", ""),
    }
}

fn errors_page(codes: &BTreeMap<String, Use>) -> String {
    let mut out = String::from(
        "# Errors\n\n\
         *Generated from the code; a test keeps it current.*\n\n\
         Every refusal has a stable code, a sentence and a hint. Over HTTP it is `{\"error\": {\"code\", \"message\",\n\
         \"hint\", \"retry\"}}`, where `retry` says whether the same request may be sent again: `yes` (nothing\n\
         happened), `no` (it will fail again), `unknown` (it may have happened: ask with the receipt, or send it\n\
         again with the same `Idempotency-Key`). Inside a SQL answer an error is `{\"message\", \"code\",\n\
         \"extended_code\"}`; errors that SQLite itself reports keep its codes there (`SQLITE_CONSTRAINT` with\n\
         `SQLITE_CONSTRAINT_UNIQUE`), which are not listed here.\n\n\
         | code | what it says | what to do next | retry | from |\n| --- | --- | --- | --- | --- |\n",
    );
    for (code, used) in codes {
        let (next, retry) = next_step(&used.kind);
        let Use { sentence, module, .. } = used;
        out.push_str(&format!("| `{code}` | {sentence} | {next} | {retry} | {module} |\n"));
    }
    out
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
