//! Every key there is: its kind, its default, and what it means.
//!
//! One table feeds four readers: the check for unknown keys, the defaults, `config show`, and the
//! generated page `docs/reference/config.md`. `*` stands for the name of a database.

/// What a key's value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A file or folder.
    Path,
    /// `HOST:PORT`.
    Address,
    /// `http://HOST:PORT`.
    Url,
    /// `true` or `false`.
    Bool,
    /// A whole number above zero.
    Count,
    /// `"40s"`.
    Duration,
    /// `"8MiB"`.
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `["a", "b"]`; in the environment `a,b`.
    List,
    /// A word, or `{ followers = N }`.
    Acknowledge,
    /// `sqlite:PATH` or `postgres://…`.
    Backing,
}

/// A key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Where it stands, e.g. `databases.*.heal.check_every`.
    pub path: &'static str,
    /// What its value must look like.
    pub kind: Kind,
    /// Its default as it would be written; `None` where there is none or it depends on others.
    pub default: Option<&'static str>,
    /// What it means.
    pub about: &'static str,
    /// Never shown; may also come from the file named by `KEY_file`.
    pub secret: bool,
}

const fn key(
    path: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    about: &'static str,
) -> Key {
    Key { path, kind, default, about, secret: false }
}

const fn secret(path: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { path, kind, default: None, about, secret: true }
}

use Kind::*;

/// All of them, in the order in which they are shown.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("node.name", Text, None, "The node's name in status, receipts and leases. Default: the host name."),
    key("node.data_dir", Path, Some("syncline-data"), "Where the node keeps its own files: its id, its marks, and disk copies."),
    key("node.listen", Address, Some("127.0.0.1:8080"), "Where clients connect."),
    key("node.admin_listen", Address, Some("127.0.0.1:8079"), "Where operators connect: status, metrics, held, verify, promote, resolve."),
    key("node.peer_listen", Address, Some("127.0.0.1:8081"), "Where other nodes connect. Nothing listens there in this version: readers share the backing database."),
    key("node.advertise", Url, None, "How others reach `listen`; stands in the lease and in `base_url`. Default: `http://` and `listen`."),

    key("node.hosts", List, Some(""), "Further names this node answers to in `Host`. Its own address and loopback are always among them."),
    key("node.origins", List, Some(""), "Origins whose web pages may use this node, such as `https://app.example`."),

    key("tls.mode", Choice(&["off", "files", "external"]), Some("off"), "`external`: a proxy in front ends TLS. `files`: this process does; only `syncline gateway` in this version."),
    key("tls.cert", Path, None, "The certificate chain (with `files`)."),
    key("tls.key", Path, None, "Its private key (with `files`)."),
    key("tls.ca", Path, None, "Who may have signed the others' certificates (with `files`). Not in this version."),

    key("auth.mode", Choice(&["none", "tokens", "jwt"]), Some("none"), "Who may connect. `tokens`: only to `syncline gateway` in this version. `jwt` is not in this version."),
    key("auth.tokens_file", Path, None, "Hashed tokens (with `tokens`): lines of a name, a blank, and what `printf %s \"$TOKEN\" \\| sha256sum` prints."),
    secret("auth.jwt_key", Text, "The key that signs tokens (with `jwt`)."),
    key("auth.jwt_algorithm", Text, None, "The one algorithm that is accepted (with `jwt`)."),

    key("limits.request", Size, Some("8MiB"), "The largest request body."),
    key("limits.buffers", Size, Some("256MiB"), "All large bodies that are being read or answered, together."),
    key("limits.connections", Count, Some("4096"), "Open connections."),
    key("limits.streams", Count, Some("4096"), "Open streams: clients that hold a baton."),
    key("limits.idle_stream", Duration, Some("10s"), "How long a stream may be idle."),
    key("limits.forward_wait", Duration, Some("2s"), "After a forwarded write: how long the answer may wait for the own copy to show it."),
    key("limits.drain", Duration, Some("10s"), "At shutdown: how long accepted requests may take."),
    key("limits.response", Size, Some("10MiB"), "The largest answer."),
    key("limits.response_rows", Count, Some("100000"), "The most rows in one answer."),
    key("limits.statement", Duration, Some("5s"), "How long a statement may run."),
    key("limits.schema_statement", Duration, Some("10m"), "How long a schema step may run."),
    key("limits.idle_transaction", Duration, Some("10s"), "How long a transaction may be idle."),
    key("limits.contended_idle_transaction", Duration, Some("1s"), "How long it may be idle while others wait for the writer."),
    key("limits.total_transaction", Duration, Some("30s"), "How long a transaction may last."),
    key("limits.busy_timeout", Duration, Some("5s"), "How long a write waits for the writer."),
    key("limits.commit", Size, Some("4GiB"), "The largest commit."),
    key("limits.queue", Count, Some("10000"), "How many writes may wait; one more is refused with `WRITER_BUSY`."),

    key("databases.*.preset", Choice(&["readers", "leader", "quorum", "writers", "relay"]), Some("readers"), "The combination of answers that people want. Only `readers` is in this version."),
    key("databases.*.role", Choice(&["writer", "reader", "follower"]), Some("writer"), "What this node is to the database."),
    secret("databases.*.backing", Backing, "The backing database: `sqlite:PATH`, relative to `data_dir`, or `postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE`. Default for a writer: `sqlite:NAME.db`. Only its password is hidden."),
    key("databases.*.working_copy", Choice(&["disk", "memory"]), Some("disk"), "Where the copy that serves SQL lives. A reader's disk copy lies in `data_dir`."),
    key("databases.*.writer", Url, None, "Where a reader forwards writes. Default: what the live holder advertises, read from the backing database."),
    key("databases.*.default", Bool, None, "Whether it is the one at the root of `listen`. Default: true for an only database."),
    key("databases.*.order", Choice(&["leader", "manager", "raft", "clock", "source"]), Some("leader"), "ORDER: which write comes first?"),
    key("databases.*.acknowledge", Acknowledge, Some("disk"), "ACKNOWLEDGE: when may we say \"done\"? `memory`, `disk`, `{ followers = N }`, `all` or `quorum`."),
    key("databases.*.ship", Choice(&["shared", "pull", "stream", "push", "queue"]), Some("shared"), "SHIP: how does a commit travel?"),
    key("databases.*.topology", Choice(&["star", "ring", "mesh"]), Some("star"), "SHIP: who feeds whom."),
    key("databases.*.merge", Choice(&["refuse", "last-writer", "versions", "rule"]), Some("refuse"), "MERGE: what if two disagree?"),
    key("databases.*.flush_every", Duration, Some("100ms"), "Under `memory`: how long a commit may wait for its sync."),
    key("databases.*.on_restore", Choice(&["stop", "adopt"]), Some("stop"), "When the backing database turns out to be an older copy: stop writing and ask, or take it as the truth."),
    key("databases.*.lease", Duration, Some("10s"), "How long a writer that fell silent keeps its place."),
    key("databases.*.read_connections", Count, Some("4"), "Read connections, each with a thread."),
    key("databases.*.heal.check_every", Duration, Some("40s"), "HEAL: how often a reader looks at the backing database when nothing wakes it."),
    key("databases.*.heal.full_every", Duration, Some("5m"), "HEAL: how often a copy recounts its rows; a sync that found work starts this clock anew, but after four times as long a copy recounts all the same."),
    key("databases.*.heal.full", Choice(&["compare", "always"]), Some("compare"), "HEAL: rebuild only what differs from its source, or always."),
    key("databases.*.log.keep_for", Duration, Some("24h"), "How long commits stay in the log."),
    key("databases.*.log.keep_size", Size, Some("10GiB"), "How large the log may grow, whoever still needs it."),
    key("databases.*.log.reader_expiry", Duration, Some("24h"), "How long a reader that fell silent holds the log back."),
];

/// The key that stands at `path`, where a database's own name stands for `*`.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| matches(key.path, path))
}

/// The secret whose `_file` form stands at `path`.
pub fn find_secret_file(path: &str) -> Option<&'static Key> {
    let base = path.strip_suffix("_file")?;
    find(base).filter(|key| key.secret)
}

/// Whether some key stands below `path`.
pub fn is_section(path: &str) -> bool {
    let parts = path.split('.').count();
    KEYS.iter().any(|key| {
        let head: Vec<&str> = key.path.split('.').take(parts).collect();
        head.len() < key.path.split('.').count() && matches(&head.join("."), path)
    })
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('.');
    pattern.split('.').all(|want| parts.next().is_some_and(|part| want == "*" || want == part))
        && parts.next().is_none()
}

/// The keys of one database, or those of none.
pub fn of_database(wanted: bool) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.path.starts_with("databases.") == wanted)
}

/// The known key or section most like an unknown one: first by its last word, then as a whole.
pub fn nearest(path: &str) -> Option<String> {
    let database = path.strip_prefix("databases.").and_then(|rest| rest.split('.').next());
    let named = |known: &str| known.replace('*', database.unwrap_or("NAME"));
    let wanted = last_word(path);
    let score = |known: &str| (distance(wanted, last_word(known)), distance(path, known));
    let known = KEYS.iter().flat_map(|key| prefixes(key.path)).map(named);
    let ((far, _), best) = known.map(|known| (score(&known), known)).min()?;
    (far <= wanted.chars().count().div_ceil(3)).then_some(best)
}

fn last_word(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// `a`, `a.b` and `a.b.c` of `a.b.c`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('.').map(|(at, _)| &path[..at]).chain([path])
}

/// How many letters must be put in, taken out or exchanged (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let exchange = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = exchange.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_its_key() {
        assert_eq!(find("databases.orders.heal.full").unwrap().default, Some("compare"));
        assert_eq!(find("node.listen").unwrap().kind, Address);
        assert!(find("node").is_none());
        assert!(find("databases.*.heal.full.more").is_none());
        assert!(find_secret_file("auth.jwt_key_file").is_some());
        assert!(find_secret_file("node.name_file").is_none(), "a name is no secret");
    }

    #[test]
    fn a_section_is_what_has_keys_below_it() {
        for path in ["node", "databases", "databases.main", "databases.main.heal"] {
            assert!(is_section(path), "{path}");
        }
        for path in ["node.listen", "nodes", "databases.main.healing"] {
            assert!(!is_section(path), "{path}");
        }
    }

    #[test]
    fn the_nearest_key_is_named_and_only_if_it_is_near() {
        for (wrong, right) in [
            ("node.listn", "node.listen"),
            ("databases.main.check_every", "databases.main.heal.check_every"),
            ("databases.main.heal.check_evry", "databases.main.heal.check_every"),
            ("limits.statment", "limits.statement"),
            ("listen", "node.listen"),
            ("nodes", "node"),
        ] {
            assert_eq!(nearest(wrong).as_deref(), Some(right), "{wrong}");
        }
        assert_eq!(nearest("node.colour"), None);
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, edits) in [("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0)] {
            assert_eq!(distance(a, b), edits);
        }
    }
}
