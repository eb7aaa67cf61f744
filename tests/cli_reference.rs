//! Pages that can be generated are generated; what they say is what the code does.
//!
//! `SYNCLINE_WRITE_DOCS=1 cargo test --test cli_reference` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use clap_complete::Shell;
use syncline::cli::Cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether files are written instead of compared.
fn writes() -> bool {
    std::env::var_os("SYNCLINE_WRITE_DOCS").is_some()
}

/// Compares a file with what the code gives, or writes it.
fn current(file: &str, text: &str) {
    let path = root().join(file);
    if writes() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "{file} is stale: run SYNCLINE_WRITE_DOCS=1 cargo test --test cli_reference"
    );
}

/// The same for a folder that holds nothing else.
fn current_folder(folder: &str, files: &BTreeMap<String, String>) {
    for (name, text) in files {
        current(&format!("{folder}/{name}"), text);
    }
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        if files.contains_key(&entry.file_name().into_string().unwrap()) {
            continue;
        }
        assert!(writes(), "{} is of a command that is gone", entry.path().display());
        fs::remove_file(entry.path()).unwrap();
    }
}

#[test]
fn the_configuration_page_is_current() {
    current("docs/reference/config.md", &syncline::config::reference());
}

#[test]
fn the_command_line_page_is_current() {
    current("docs/reference/cli.md", &syncline::cli::reference());
}

/// The manual's pages by file name: one for each command, as packagers install them.
fn manual() -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(Cli::command(), dir.path()).unwrap();
    let pages = fs::read_dir(dir.path()).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read_to_string(entry.path()).unwrap())
    });
    pages.collect()
}

/// A command without what its help does not show: the scripts would offer that, too.
fn shown(command: &'static clap::Command) -> clap::Command {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let shown = clap::Command::new(command.get_name())
        .about(command.get_about().cloned().unwrap_or_default())
        .args(arguments.cloned())
        .subcommands(command.get_subcommands().map(shown));
    match command.get_version() {
        Some(version) => shown.version(version),
        None => shown,
    }
}

/// The scripts that complete a command line, under the names by which shells find them.
fn completions() -> BTreeMap<String, String> {
    let mut command = shown(Box::leak(Box::new(Cli::command())));
    let scripts = [Shell::Bash, Shell::Zsh, Shell::Fish].map(|shell| {
        let dir = tempfile::tempdir().unwrap();
        let file = clap_complete::generate_to(shell, &mut command, "syncline", dir.path());
        let file = file.unwrap();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&file).unwrap())
    });
    BTreeMap::from(scripts)
}

#[test]
fn the_manual_is_current() {
    let pages = manual();
    assert!(pages.contains_key("syncline.1") && pages.contains_key("syncline-serve.1"));
    current_folder("packaging/man", &pages);
}

#[test]
fn the_completions_are_current() {
    current_folder("packaging/completions", &completions());
}

/// What a program says about files; nothing where it is not installed.
fn said(program: &str, arguments: &[&str]) -> Option<std::process::Output> {
    match Command::new(program).args(arguments).current_dir(root()).output() {
        Ok(output) => Some(output),
        Err(_) => {
            eprintln!("skipped: {program} is not installed");
            None
        }
    }
}

/// A dot or a quote at the beginning of a help's line would be a command to the formatter.
#[test]
fn the_manual_is_set_without_a_warning() {
    for name in manual().keys() {
        let page = format!("packaging/man/{name}");
        let Some(set) = said("groff", &["-Kutf8", "-Tutf8", "-man", "-ww", &page]) else { return };
        assert!(set.status.success() && set.stderr.is_empty(), "{page}: {set:?}");
        let text = String::from_utf8(set.stdout).unwrap();
        assert!(text.contains(name.trim_end_matches(".1")), "{page}:\n{text}");
    }
}

#[test]
fn the_shells_accept_the_completions() {
    for (shell, script) in
        [("bash", "syncline.bash"), ("zsh", "_syncline"), ("fish", "syncline.fish")]
    {
        let script = format!("packaging/completions/{script}");
        let Some(read) = said(shell, &["-n", &script]) else { continue };
        assert!(read.status.success() && read.stderr.is_empty(), "{script}: {read:?}");
    }
}

/// What bash would offer for the last of these words.
fn offered(words: &str) -> Option<Vec<String>> {
    let script = format!(
        "source packaging/completions/syncline.bash; COMP_WORDS=({words}); \
         COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
         _syncline syncline \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let answer = said("bash", &["-c", &script])?;
    assert!(answer.status.success(), "{words}: {answer:?}");
    Some(String::from_utf8(answer.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn bash_completes_commands_options_and_values() {
    for (words, expected) in [
        ("syncline se", &["serve"][..]),
        ("syncline held re", &["replay"]),
        ("syncline serve --t", &["--take-over"]),
        ("syncline serve --log-format ''", &["text", "json"]),
        // Hidden ones stay so.
        ("syncline serve --until", &[""]),
        ("syncline status --token", &[""]),
    ] {
        let Some(offered) = offered(words) else { return };
        assert_eq!(offered, expected, "{words}");
    }
}

#[test]
fn the_error_page_is_current() {
    let codes = all_codes();
    assert!(codes.contains_key("CONFIG_UNKNOWN_KEY") && codes.contains_key("POSITION_INVALID"));
    current("docs/reference/errors.md", &errors_page(&codes));
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
