//! A configuration as meant, in words; and the page that lists all keys.

use std::fmt::Write as _;

use super::keys::{KEYS, Key, Kind};
use super::meant::split_list;
use super::written::{Raw, Setting, Written};

impl Written {
    /// As meant, in TOML that can be used again, with the origin of each value; secrets hidden.
    pub fn show(&self) -> String {
        let mut lines: Vec<(String, String, Setting)> = Vec::new();
        for key in KEYS.iter().filter(|key| !key.path.starts_with("databases.")) {
            lines.extend(self.line(key, key.path));
        }
        for name in self.databases() {
            for key in KEYS.iter().filter(|key| key.path.starts_with("databases.")) {
                lines.extend(self.line(key, &key.path.replace('*', name)));
            }
        }
        render(&lines)
    }

    /// Section, assignment and setting of a key, if it has a value.
    fn line(&self, key: &Key, path: &str) -> Option<(String, String, Setting)> {
        let setting = self.get(path)?;
        let (section, name) = path.rsplit_once('.')?;
        let assignment = format!("{name} = {}", shown(key, &setting.raw));
        Some((section.into(), assignment, setting.clone()))
    }
}

fn render(lines: &[(String, String, Setting)]) -> String {
    let width = lines.iter().map(|(_, text, _)| text.chars().count()).max().unwrap_or(0).min(48);
    let mut out = String::new();
    let mut current = "";
    for (section, assignment, setting) in lines {
        if section != current {
            let gap = if current.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}[{section}]");
            current = section;
        }
        let _ = writeln!(out, "{assignment:<width$}  # {}", setting.origin);
    }
    out
}

/// A value as it may be shown: the environment's and flags' texts in their own type again.
fn shown(key: &Key, raw: &Raw) -> String {
    match (key.kind, raw) {
        (Kind::Backing, Raw::Text(url)) => format!("{:?}", without_password(url)),
        _ if key.secret => "\"(hidden)\"".into(),
        (Kind::Bool | Kind::Count, Raw::Text(text)) => text.clone(),
        (Kind::List, Raw::Text(text)) => format!("{:?}", split_list(text)),
        _ => raw.to_string(),
    }
}

/// `postgres://user:secret@host` without the secret.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let Some((user, host)) = rest.rsplit_once('@') else { return url.into() };
    let user = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:(hidden)@{host}")
}

/// The page `docs/reference/config.md`.
pub fn reference() -> String {
    let mut out = String::from(HEAD);
    let mut current = String::new();
    for key in KEYS {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if section != current {
            current = section.into();
            let title = section.replace('*', "NAME");
            let _ = writeln!(
                out,
                "\n## [{title}]\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |"
            );
        }
        let default = key.default.map(|d| format!("`{}`", quoted(key.kind, d))).unwrap_or_default();
        let file = if key.secret { format!(" Also `{name}_file`.") } else { String::new() };
        let about = key.about.replace('|', "\\|");
        let _ = writeln!(out, "| `{name}` | {} | {default} | {about}{file} |", kind(key.kind));
    }
    out
}

fn quoted(kind: Kind, default: &str) -> String {
    match kind {
        Kind::Bool | Kind::Count => default.into(),
        Kind::List => format!("{:?}", split_list(default)),
        _ => format!("{default:?}"),
    }
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".into(),
        Kind::Path => "path".into(),
        Kind::Address => "`HOST:PORT`".into(),
        Kind::Url => "`http://HOST:PORT`".into(),
        Kind::Bool => "true, false".into(),
        Kind::Count => "number".into(),
        Kind::Duration => "duration".into(),
        Kind::Size => "size".into(),
        Kind::Choice(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        Kind::List => "list of texts".into(),
        Kind::Acknowledge => "level".into(),
        Kind::Backing => "`sqlite:PATH`".into(),
    }
}

const HEAD: &str = r#"# Configuration

*Generated from the code (`src/config/keys.rs`); a test keeps it current.*

`syncline serve -c FILE` reads a TOML file. Every key has a default; without a file a node is the
writer of one database `main` in `--data-dir`. `syncline config check -c FILE` reports everything
that is wrong with a file, each with its line and what to write instead; `syncline config show -c
FILE` prints what is meant, with where each value came from and secrets hidden.

- Unknown keys are errors, and the nearest known key is named.
- Durations are written `"250ms"`, `"40s"`, `"5m"`, `"24h"`, `"7d"`; sizes `"64KiB"`, `"8MiB"`, `"10GiB"`.
- The environment stands over the file: `SYNCLINE__NODE__LISTEN` is `node.listen`,
  `SYNCLINE__DATABASES__MAIN__HEAL__CHECK_EVERY` is `databases.main.heal.check_every`. Flags of the
  command line stand over both.
- A secret can also be given as `KEY_file`, the path of a file that holds it.
- Relative paths are relative to the working directory; `backing` is relative to `node.data_dir`.
- An address that other machines can reach is refused without authentication and TLS, unless
  `auth.mode = "none"` and `tls.mode = "external"` are written in so many words.

A writer and a reader of one database on one machine, two files:

```toml
[node]
name = "writer"
data_dir = "/srv/syncline/writer"
listen = "127.0.0.1:8080"
admin_listen = "127.0.0.1:8079"

[databases.main]
role = "writer"
backing = "sqlite:/srv/syncline/main.db"
```

```toml
[node]
name = "reader-1"
data_dir = "/srv/syncline/reader-1"
listen = "127.0.0.1:8090"
admin_listen = "127.0.0.1:8089"

[databases.main]
role = "reader"
backing = "sqlite:/srv/syncline/main.db"
working_copy = "memory"

[databases.main.heal]
check_every = "40s"
full_every = "5m"
```

Each database answers five questions (see [concepts](../concepts/order.md)): `order`, `acknowledge`,
`ship` with `topology`, `merge`, and the section `heal`. A `preset` names the combinations that
people want. In this version there is one, `readers`.
"#;
