//! How keys relate: what cannot be combined, why, and what to write instead.

use super::meant::{Auth, Config, Database, Tls, text_at};
use super::written::{Origin, Raw, Written};
use crate::acknowledge::Level;
use crate::api::RESERVED;
use crate::engine::Role;
use crate::error::Error;

/// Two answers that make no sense together.
struct Nonsense {
    one: (&'static str, &'static str),
    other: (&'static str, &'static str),
    why: &'static str,
    instead: &'static str,
}

const NONSENSE: &[Nonsense] = &[
    Nonsense {
        one: ("acknowledge", "quorum"),
        other: ("order", "clock"),
        why: "a majority can only confirm an order that somebody gives; under `clock` every writer orders by itself",
        instead: "write order = \"raft\" for a strict order, or acknowledge = \"disk\" for many writers",
    },
    Nonsense {
        one: ("topology", "ring"),
        other: ("ship", "shared"),
        why: "in a ring each node asks its neighbour; under `shared` all read one backing database",
        instead: "leave topology out, or write ship = \"pull\"",
    },
    Nonsense {
        one: ("topology", "mesh"),
        other: ("ship", "shared"),
        why: "in a mesh every node asks every other; under `shared` all read one backing database",
        instead: "leave topology out, or write ship = \"stream\"",
    },
    Nonsense {
        one: ("merge", "refuse"),
        other: ("order", "clock"),
        why: "many writers will disagree, and `refuse` has no answer to that",
        instead: "write merge = \"last-writer\"",
    },
    Nonsense {
        one: ("merge", "last-writer"),
        other: ("order", "leader"),
        why: "one writer has nothing to merge",
        instead: "leave merge out, or write order = \"clock\"",
    },
    Nonsense {
        one: ("merge", "versions"),
        other: ("order", "leader"),
        why: "one writer has nothing to merge",
        instead: "leave merge out, or write order = \"clock\"",
    },
    Nonsense {
        one: ("merge", "rule"),
        other: ("order", "leader"),
        why: "one writer has nothing to merge",
        instead: "leave merge out, or write order = \"clock\"",
    },
];

/// Checks what can be said before the values are read: keys without effect, and each database's
/// answers to the five questions.
pub(super) fn policy(written: &Written) -> Vec<Error> {
    let databases = written.databases().iter();
    idle(written).chain(databases.flat_map(|name| policy_of(written, name))).collect()
}

fn policy_of(written: &Written, name: &str) -> Vec<Error> {
    let key = |rest: &str| format!("databases.{name}.{rest}");
    let nonsense: Vec<Error> = NONSENSE
        .iter()
        .filter(|rule| {
            let holds = |(part, value): (&str, &str)| text_at(written, &key(part)) == Some(value);
            holds(rule.one) && holds(rule.other)
        })
        .map(|rule| rule.error(name))
        .collect();
    if !nonsense.is_empty() {
        return nonsense;
    }
    let later = ["preset", "order", "ship", "topology", "merge"];
    let mut found: Vec<Error> =
        later.iter().filter_map(|part| not_yet(written, &key(part), part)).collect();
    if text_at(written, &key("role")) == Some("follower") {
        found.push(follower(written, &key("role")));
    }
    found
}

impl Nonsense {
    fn error(&self, name: &str) -> Error {
        let ((a, x), (b, y)) = (self.one, self.other);
        let message = format!("databases.{name}: {a} = {x:?} with {b} = {y:?}: {}", self.why);
        Error::invalid("CONFIG_CONFLICT", message).hint(self.instead)
    }
}

/// Keys that say something only under another key's value.
const BELONGS: &[(&str, &str, &str)] = &[
    ("tls.cert", "tls.mode", "files"),
    ("tls.key", "tls.mode", "files"),
    ("tls.ca", "tls.mode", "files"),
    ("auth.tokens_file", "auth.mode", "tokens"),
    ("auth.jwt_key", "auth.mode", "jwt"),
    ("auth.jwt_algorithm", "auth.mode", "jwt"),
];

/// A key that would do nothing, while whoever wrote it relies on it.
fn idle(written: &Written) -> impl Iterator<Item = Error> {
    let idle = |(key, mode, value): &&(&str, &str, &str)| {
        written.get(key).is_some() && text_at(written, mode) != Some(value)
    };
    BELONGS.iter().filter(idle).map(|(key, mode, value)| {
        let message = format!("{key} does nothing unless {mode} = {value:?}");
        conflict(message, &format!("remove it, or write {mode} = {value:?}"))
    })
}

/// An answer that is planned, but not in this version.
fn not_yet(written: &Written, key: &str, part: &str) -> Option<Error> {
    let setting = written.get(key)?;
    let Raw::Text(value) = &setting.raw else { return None };
    let default = super::keys::find(key)?.default?;
    let (what, hint) = match (part, value.as_str()) {
        (_, value) if value == default => return None,
        ("preset", "leader") => ("followers with copies of their own", LATER),
        ("preset", "quorum") => ("consensus", LATER),
        ("preset", "writers") => ("many writers", LATER),
        ("preset", "relay") => ("datacenters through a queue", LATER),
        ("order", "manager" | "raft" | "clock" | "source") => (value.as_str(), ONLY_LEADER),
        ("ship", "pull" | "stream" | "push" | "queue") => (value.as_str(), ONLY_SHARED),
        ("topology", "ring" | "mesh") => (value.as_str(), ONLY_SHARED),
        ("merge", "last-writer" | "versions" | "rule") => (value.as_str(), ONLY_REFUSE),
        // No such word: the next step says so.
        _ => return None,
    };
    let message = format!("{key} = {value:?} ({}): {what} is not in this version", setting.origin);
    Some(Error::invalid("CONFIG_NOT_YET", message).hint(hint))
}

const LATER: &str =
    "write preset = \"readers\": one writer, and readers of a shared backing database";
const ONLY_LEADER: &str = "leave order out: one writer counts (`leader`)";
const ONLY_SHARED: &str = "leave ship and topology out: readers follow the shared backing database";
const ONLY_REFUSE: &str = "leave merge out: one writer has nothing to merge";

fn follower(written: &Written, key: &str) -> Error {
    let origin = written.get(key).map_or(Origin::Default, |setting| setting.origin.clone());
    let message = format!(
        "{key} = \"follower\" ({origin}): a follower keeps a durable copy of its own under the presets leader and quorum; under `readers` there is none"
    );
    Error::invalid("CONFIG_CONFLICT", message).hint("write role = \"reader\"")
}

/// Checks how the values relate, as meant.
pub(super) fn relations(config: &Config) -> Vec<Error> {
    let mut found = only_a_gateway(config);
    found.extend(open_door(config));
    found.extend(same_address(config));
    found.extend(nowhere(config));
    found.extend(two_defaults(config));
    for (i, database) in config.databases.iter().enumerate() {
        found.extend(reserved(database));
        found.extend(confirmations(database));
        found.extend(writer_of_a_writer(database));
        found.extend(reader_without_backing(config, database));
        found.extend(timers(database));
        found.extend(shared_backing(database, &config.databases[..i]));
    }
    found
}

/// What a gateway can do and a node cannot: nodes would have to show each other tokens, too.
fn only_a_gateway(config: &Config) -> Vec<Error> {
    let mut found = Vec::new();
    let mut not_yet = |key: &str, what: &str, hint: &str| {
        let origin = config.written.get(key).map(|setting| setting.origin.to_string());
        let message = format!("{key} ({}): {what}", origin.unwrap_or_default());
        found.push(Error::invalid("CONFIG_NOT_YET", message).hint(hint));
    };
    if matches!(config.tls, Tls::Files { .. }) {
        let hint = "let a proxy in front end TLS and write tls.mode = \"external\"";
        not_yet("tls.mode", "this node cannot end TLS by itself yet", hint);
    }
    if config.auth != Auth::None {
        let hint = "listen on a loopback address, or let a proxy in front authenticate";
        not_yet("auth.mode", "this node cannot check tokens yet", hint);
    }
    found
}

/// A gateway has one address, and can check tokens and end TLS.
pub(super) fn gateway(config: &Config) -> Vec<Error> {
    let decided = is_decided(config);
    let listen = &config.node.listen;
    let has_tls = config.tls != Tls::Off;
    let is_guarded = has_tls && config.auth != Auth::None;
    let mut found = Vec::new();
    if !listen.is_loopback() && !is_guarded && !decided {
        let message = format!(
            "{listen} is reachable from other machines, without authentication or without TLS"
        );
        found.push(Error::invalid("CONFIG_OPEN_DOOR", message).hint(
            "listen on 127.0.0.1; or give -c FILE with auth.mode = \"tokens\" and tls.mode = \"files\"; or, if a \
             proxy or a firewall stands in front, with auth.mode = \"none\" and tls.mode = \"external\"",
        ));
    }
    if config.written.get("tls.ca").is_some() {
        let what = "tls.ca: a gateway asks nobody for a certificate yet";
        found.push(
            Error::invalid("CONFIG_NOT_YET", what).hint("remove it; tokens say who comes in"),
        );
    }
    found
}

/// Somebody wrote that a proxy or a firewall sees to it.
fn is_decided(config: &Config) -> bool {
    let said = |key| config.written.get(key).is_some_and(|s| s.origin != Origin::Default);
    config.auth == Auth::None && said("auth.mode") && config.tls == Tls::External
}

fn conflict(message: String, hint: &str) -> Error {
    Error::invalid("CONFIG_CONFLICT", message).hint(hint)
}

/// Anyone who reaches the address may read and write: that must be somebody's decision.
fn open_door(config: &Config) -> Vec<Error> {
    let decided = is_decided(config);
    let node = &config.node;
    let places = [
        ("node.listen", &node.listen),
        ("node.admin_listen", &node.admin_listen),
        ("node.peer_listen", &node.peer_listen),
    ];
    let open = places.into_iter().filter(|(_, address)| !decided && !address.is_loopback());
    open.map(|(key, address)| {
        let message = format!(
            "{key} = \"{address}\" is reachable from other machines, without authentication and TLS"
        );
        Error::invalid("CONFIG_OPEN_DOOR", message).hint(
            "listen on 127.0.0.1; or, if a proxy or a firewall stands in front, say so: auth.mode = \"none\" and tls.mode = \"external\"",
        )
    })
    .collect()
}

fn same_address(config: &Config) -> Option<Error> {
    let node = &config.node;
    let same = node.listen == node.admin_listen && node.listen.port != 0;
    same.then(|| {
        conflict(
            format!("node.listen and node.admin_listen are both {}", node.listen),
            "give operators a port of their own: they can do what clients must not",
        )
    })
}

/// `0.0.0.0` is where to listen, but nobody can be sent there.
fn nowhere(config: &Config) -> Option<Error> {
    let node = &config.node;
    let ip = node.listen.host.parse::<std::net::IpAddr>();
    let unspecified = ip.is_ok_and(|ip| ip.is_unspecified());
    (unspecified && node.advertise.is_none()).then(|| {
        let message =
            format!("node.listen = \"{}\" is no address that others can reach", node.listen);
        Error::invalid("CONFIG_MISSING", message).hint(
            "write node.advertise = \"http://NAME:PORT\", the address that clients and readers use",
        )
    })
}

fn two_defaults(config: &Config) -> Option<Error> {
    let defaults: Vec<&str> =
        config.databases.iter().filter(|db| db.default).map(|db| db.name.as_str()).collect();
    (defaults.len() > 1).then(|| {
        let message = format!("databases {} are all the default one", defaults.join(" and "));
        conflict(message, "one database stands at the root of `listen`: keep one default = true")
    })
}

fn reserved(database: &Database) -> Option<Error> {
    RESERVED.contains(&database.name.to_ascii_lowercase().as_str()).then(|| {
        let message = format!("databases.{0}: /{0} is a path of the HTTP interface", database.name);
        Error::invalid("CONFIG_DATABASE_NAME", message).hint("choose another name")
    })
}

fn confirmations(database: &Database) -> Option<Error> {
    let level = database.acknowledge;
    (level > Level::Disk).then(|| {
        conflict(
            format!(
                "databases.{}: acknowledge = {level} waits for copies that can confirm; under preset `readers` the shared backing database is the only durable one",
                database.name
            ),
            "write acknowledge = \"disk\": synced in the backing database, whatever happens to any process",
        )
    })
}

fn writer_of_a_writer(database: &Database) -> Option<Error> {
    (database.role == Role::Writer && database.writer.is_some()).then(|| {
        let message = format!(
            "databases.{}: `writer` says where a reader forwards writes, and this node is the writer",
            database.name
        );
        conflict(message, "remove `writer`, or write role = \"reader\"")
    })
}

fn reader_without_backing(config: &Config, database: &Database) -> Option<Error> {
    let key = format!("databases.{}.backing", database.name);
    let missing = text_at(&config.written, &key).is_none_or(str::is_empty);
    missing.then(|| {
        let message = format!("{key} is missing: a reader follows the database that the writer writes");
        Error::invalid("CONFIG_MISSING", message).hint(
            "write what the writer has: backing = \"sqlite:PATH\", best as an absolute path, or \"postgres://…\"",
        )
    })
}

fn timers(database: &Database) -> Option<Error> {
    (database.full_every < database.check_every).then(|| {
        conflict(
            format!(
                "databases.{}: heal.full_every is shorter than heal.check_every, so every check would be a full one",
                database.name
            ),
            "make full_every the longer one; the defaults are 40s and 5m",
        )
    })
}

fn shared_backing(database: &Database, earlier: &[Database]) -> Option<Error> {
    let place = database.backing.to_string();
    let other = earlier.iter().find(|other| other.backing.to_string() == place);
    let other = other.filter(|_| !place.is_empty())?;
    let message = format!(
        "databases {} and {} have one backing database, {place}",
        other.name, database.name
    );
    Some(conflict(message, "give each database one of its own; a reader of it is another process"))
}
