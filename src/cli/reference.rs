//! The page `docs/reference/cli.md`, made from the arguments themselves.

use std::fmt::Write as _;

use clap::CommandFactory;

use super::arguments::Cli;

/// The page.
pub fn reference() -> String {
    let mut out = String::from(HEAD);
    let mut command = Cli::command();
    command.build();
    for sub in command.get_subcommands_mut() {
        if sub.get_name() == "help" {
            continue;
        }
        section(&mut out, sub, "syncline");
    }
    out
}

fn section(out: &mut String, command: &mut clap::Command, parent: &str) {
    let name = format!("{parent} {}", command.get_name());
    let has_parts = command.has_subcommands();
    if !has_parts {
        let help = command.clone().disable_help_flag(true).render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = write!(out, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
        return;
    }
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        section(out, sub, &name);
    }
}

const HEAD: &str = "# Command line

*Generated from the code (`src/cli/arguments.rs`); a test keeps it current.*

A URL is `http://HOST:PORT`, or `http://HOST:PORT/DATABASE`. `shell` and `health` take the address
that clients use (`listen`), the others the one for operators (`admin_listen`). The environment
variable `SYNCLINE_URL` stands in for it; `SYNCLINE_TOKEN` holds a token where a proxy asks for one.
`adopt` and `release` take a PostgreSQL URL, or find it in `SYNCLINE_BACKING`.

| exit code | says |
| --: | --- |
| 0 | yes, or done |
| 1 | no, different, unhealthy |
| 2 | usage, configuration, or nobody answered |
| 3 | it may or may not have happened: look before you try again |
| 4 | a person must decide: fenced, diverged, restored |
| 5 | the storage failed; a restart is safe |

With `--json` a command prints one object a line, `{\"type\": …}`.
";
