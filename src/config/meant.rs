//! The second step: what was meant.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{self, Kind};
use super::server::server_place;
use super::units;
use super::written::{Raw, Setting, Written};
use crate::acknowledge::Level;
use crate::api::HttpLimits;
use crate::engine::{self, BackingPlace, DatabaseOptions, FullMode, OnRestore, Role, WorkingCopy};
use crate::error::Error;

/// A configuration as meant: every default resolved, every relation checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[tls]`
    pub tls: Tls,
    /// `[auth]`
    pub auth: Auth,
    /// `[limits]`
    pub limits: Limits,
    /// `[databases.*]`, in the order in which they were written.
    pub databases: Vec<Database>,
    /// As written, with the defaults.
    pub written: Written,
}

/// This process.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where it keeps its own files.
    pub data_dir: PathBuf,
    /// For clients.
    pub listen: Address,
    /// For operators.
    pub admin_listen: Address,
    /// For other nodes.
    pub peer_listen: Address,
    /// How others reach `listen`, if somebody wrote it.
    pub advertise: Option<String>,
    /// Further names it answers to.
    pub hosts: Vec<String>,
    /// Origins whose pages may use it.
    pub origins: Vec<String>,
}

/// Who ends TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Nobody.
    Off,
    /// A proxy in front.
    External,
    /// This process, with what these files hold.
    Files {
        /// The certificate chain.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Everyone who reaches the address.
    None,
    /// Whoever has a token whose hash is in this file.
    Tokens(PathBuf),
}

/// What one client may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// What the servers enforce.
    pub http: HttpLimits,
    /// What the engine enforces.
    pub engine: engine::Limits,
}

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// Zero: any free one.
    pub port: u16,
}

impl Address {
    /// Reads `HOST:PORT`; an IPv6 address stands in brackets.
    pub fn parse(text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let plain = bare.is_some() || !host.contains(':');
        let valid = plain && !host.is_empty() && !host.contains(['/', ' ', '@']);
        valid.then_some(())?;
        Some(Address { host: host.into(), port: port.parse().ok()? })
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        let ip = self.host.parse::<std::net::IpAddr>();
        ip.map_or(self.host == "localhost", |ip| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A database under preset `readers`, as meant.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Whether it is the one at the root of `listen`.
    pub default: bool,
    /// What this node is to it.
    pub role: Role,
    /// The backing database.
    pub backing: BackingPlace,
    /// Where the copy that serves SQL lives.
    pub working_copy: WorkingCopy,
    /// Where a reader forwards writes, if somebody wrote it.
    pub writer: Option<String>,
    /// When "done" is said.
    pub acknowledge: Level,
    /// Under `memory`: how long a commit may wait for its sync.
    pub flush_every: Duration,
    /// How often a reader looks by itself.
    pub check_every: Duration,
    /// How often a copy recounts.
    pub full_every: Duration,
    /// Whether a full check always rebuilds.
    pub full: FullMode,
    /// What to do about a restore.
    pub on_restore: OnRestore,
    /// How long the log is kept.
    pub keep_for: Duration,
    /// How large it may grow.
    pub keep_size: u64,
    /// How long a silent reader holds it back.
    pub reader_expiry: Duration,
    /// How long a silent writer keeps its place.
    pub lease: Duration,
    /// Read connections.
    pub read_connections: usize,
}

impl Database {
    /// What the engine opens. `advertise` is known only once the node listens.
    pub fn options(&self, config: &Config, advertise: &str, take_over: bool) -> DatabaseOptions {
        DatabaseOptions {
            name: self.name.clone(),
            node: config.node.name.clone(),
            data_dir: config.node.data_dir.clone(),
            advertise: advertise.into(),
            role: self.role,
            backing: self.backing.clone(),
            working_copy: self.working_copy,
            writer: self.writer.clone(),
            acknowledge: self.acknowledge,
            flush_every: self.flush_every,
            check_every: self.check_every,
            full_every: self.full_every,
            full: self.full,
            on_restore: self.on_restore,
            log_keep_for: self.keep_for,
            log_keep_size: self.keep_size,
            reader_expiry: self.reader_expiry,
            lease: self.lease,
            take_over,
            readers: self.read_connections,
            limits: config.limits.engine.clone(),
            ..DatabaseOptions::writer(PathBuf::new())
        }
    }
}

/// Writes down what nobody wrote, so that everything after this reads one table.
pub(super) fn fill_defaults(written: &mut Written, host: &str) {
    for key in keys::of_database(false) {
        if let Some(default) = key.default {
            written.set_default(key.path.into(), default.into());
        }
    }
    written.set_default("node.name".into(), host.into());
    let names = written.databases().to_vec();
    for name in &names {
        for key in keys::of_database(true) {
            if let Some(default) = key.default {
                written.set_default(key.path.replace('*', name), default.into());
            }
        }
        let only = names.len() == 1;
        written.set_default(format!("databases.{name}.default"), only.to_string());
        if text_at(written, &format!("databases.{name}.role")) == Some("writer") {
            written.set_default(format!("databases.{name}.backing"), format!("sqlite:{name}.db"));
        }
    }
}

/// The text at a key, if it is one.
pub(super) fn text_at<'a>(written: &'a Written, key: &str) -> Option<&'a str> {
    match &written.get(key)?.raw {
        Raw::Text(text) => Some(text),
        _ => None,
    }
}

/// Gives every value its type.
pub(super) fn resolve(written: Written, problems: &mut Vec<Error>) -> Config {
    let names = written.databases().to_vec();
    let mut read = Reader { written: &written, problems };
    let node = node(&mut read);
    let tls = tls(&mut read);
    let auth = auth(&mut read);
    let limits = limits(&mut read);
    let databases = names.iter().map(|name| database(&mut read, name, &node.data_dir)).collect();
    Config { node, tls, auth, limits, databases, written }
}

fn node(read: &mut Reader<'_>) -> Node {
    Node {
        name: read.text("node.name"),
        data_dir: PathBuf::from(read.text("node.data_dir")),
        listen: read.address("node.listen"),
        admin_listen: read.address("node.admin_listen"),
        peer_listen: read.address("node.peer_listen"),
        advertise: read.url("node.advertise"),
        hosts: read.list("node.hosts"),
        origins: read.list("node.origins"),
    }
}

fn tls(read: &mut Reader<'_>) -> Tls {
    match read.choice("tls.mode").as_str() {
        "external" => Tls::External,
        "files" => Tls::Files { cert: read.path("tls.cert"), key: read.path("tls.key") },
        _ => Tls::Off,
    }
}

fn auth(read: &mut Reader<'_>) -> Auth {
    match read.choice("auth.mode").as_str() {
        "tokens" => Auth::Tokens(read.path("auth.tokens_file")),
        "jwt" => {
            let hint = "write auth.mode = \"tokens\"";
            read.not_yet("auth.mode", "signed tokens cannot be checked yet", hint);
            Auth::None
        }
        _ => Auth::None,
    }
}

fn limits(read: &mut Reader<'_>) -> Limits {
    let engine = engine::Limits {
        statement: read.duration("limits.statement"),
        schema_statement: read.duration("limits.schema_statement"),
        idle_transaction: read.duration("limits.idle_transaction"),
        contended_idle_transaction: read.duration("limits.contended_idle_transaction"),
        total_transaction: read.duration("limits.total_transaction"),
        busy_timeout: read.duration("limits.busy_timeout"),
        response_bytes: read.size("limits.response") as usize,
        response_rows: read.count("limits.response_rows"),
        commit_bytes: read.size("limits.commit"),
        queue: read.count("limits.queue"),
    };
    let http = HttpLimits {
        body: read.size("limits.request") as usize,
        buffers: read.size("limits.buffers") as usize,
        connections: read.count("limits.connections"),
        streams: read.count("limits.streams"),
        stream_idle: read.duration("limits.idle_stream"),
        forward_wait: read.duration("limits.forward_wait"),
        drain: read.duration("limits.drain"),
        ..HttpLimits::default()
    };
    Limits { http, engine }
}

fn database(read: &mut Reader<'_>, name: &str, data_dir: &Path) -> Database {
    let key = |rest: &str| format!("databases.{name}.{rest}");
    let word = |read: &mut Reader<'_>, rest: &str| read.choice(&key(rest));
    for answer in ["preset", "order", "ship", "topology", "merge"] {
        // One value each in this version (see `checks::policy`), but it must be a word.
        word(read, answer);
    }
    Database {
        name: name.into(),
        default: read.bool(&key("default")),
        role: match word(read, "role").as_str() {
            "writer" => Role::Writer,
            _ => Role::Reader,
        },
        backing: read.backing(&key("backing"), data_dir),
        working_copy: match word(read, "working_copy").as_str() {
            "memory" => WorkingCopy::Memory,
            _ => WorkingCopy::Disk,
        },
        writer: read.url(&key("writer")),
        acknowledge: read.level(&key("acknowledge")),
        flush_every: read.duration(&key("flush_every")),
        check_every: read.duration(&key("heal.check_every")),
        full_every: read.duration(&key("heal.full_every")),
        full: match word(read, "heal.full").as_str() {
            "always" => FullMode::Always,
            _ => FullMode::Compare,
        },
        on_restore: match word(read, "on_restore").as_str() {
            "adopt" => OnRestore::Adopt,
            _ => OnRestore::Stop,
        },
        keep_for: read.duration(&key("log.keep_for")),
        keep_size: read.size(&key("log.keep_size")),
        reader_expiry: read.duration(&key("log.reader_expiry")),
        lease: read.duration(&key("lease")),
        read_connections: read.count(&key("read_connections")),
    }
}

/// Reads typed values; what is wrong is noted, and reading goes on with the default.
struct Reader<'a> {
    written: &'a Written,
    problems: &'a mut Vec<Error>,
}

impl Reader<'_> {
    /// The value at `key` if `parse` takes it, else the default's.
    fn value<T>(&mut self, key: &str, hint: &str, parse: impl Fn(&Raw) -> Option<T>) -> T {
        let known = keys::find(key).expect("only known keys are read");
        if let Some(setting) = self.written.get(key) {
            if let Some(value) = parse(&setting.raw) {
                return value;
            }
            self.problems.push(bad_value(key, known, setting, hint));
        }
        let default = Raw::Text(known.default.unwrap_or_default().into());
        parse(&default).expect("defaults can be read")
    }

    fn text(&mut self, key: &str) -> String {
        self.value(key, "write a text in quotes, not an empty one", |raw| match raw {
            Raw::Text(text) if !text.is_empty() || keys::find(key)?.default.is_none() => {
                Some(text.clone())
            }
            _ => None,
        })
    }

    /// A file that must be named, because the mode asks for it.
    fn path(&mut self, key: &str) -> PathBuf {
        match text_at(self.written, key) {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ => {
                let missing = Error::invalid("CONFIG_MISSING", format!("{key} is missing"));
                self.problems.push(missing.hint("name the file, or choose another mode"));
                PathBuf::new()
            }
        }
    }

    fn duration(&mut self, key: &str) -> Duration {
        let hint =
            "write a number above zero and a unit: \"250ms\", \"40s\", \"5m\", \"24h\", \"7d\"";
        self.value(key, hint, |raw| match raw {
            Raw::Text(text) => units::duration(text).filter(|duration| !duration.is_zero()),
            _ => None,
        })
    }

    fn size(&mut self, key: &str) -> u64 {
        let hint = "write a number above zero and a unit: \"64KiB\", \"8MiB\", \"10GiB\"";
        self.value(key, hint, |raw| match raw {
            Raw::Text(text) => units::size(text).filter(|size| *size > 0),
            _ => None,
        })
    }

    fn count(&mut self, key: &str) -> usize {
        self.value(key, "write a whole number above zero", |raw| match raw {
            Raw::Integer(n) => usize::try_from(*n).ok().filter(|n| *n > 0),
            Raw::Text(text) => text.parse().ok().filter(|n| *n > 0),
            _ => None,
        })
    }

    fn bool(&mut self, key: &str) -> bool {
        self.value(key, "write true or false", |raw| match raw {
            Raw::Bool(b) => Some(*b),
            Raw::Text(text) if text.is_empty() => Some(false),
            Raw::Text(text) => text.parse().ok(),
            _ => None,
        })
    }

    fn list(&mut self, key: &str) -> Vec<String> {
        self.value(key, "write [\"a\", \"b\"]", |raw| match raw {
            Raw::List(items) => Some(items.clone()),
            Raw::Text(text) => Some(split_list(text)),
            _ => None,
        })
    }

    fn choice(&mut self, key: &str) -> String {
        let Some(Kind::Choice(words)) = keys::find(key).map(|known| known.kind) else {
            unreachable!("{key} is no choice")
        };
        self.value(key, &format!("write one of: {}", words.join(", ")), |raw| match raw {
            Raw::Text(text) => words.contains(&text.as_str()).then(|| text.clone()),
            _ => None,
        })
    }

    fn address(&mut self, key: &str) -> Address {
        let hint = "write HOST:PORT, for example \"127.0.0.1:8080\" or \"[::1]:8080\"";
        self.value(key, hint, |raw| match raw {
            Raw::Text(text) => Address::parse(text),
            _ => None,
        })
    }

    fn url(&mut self, key: &str) -> Option<String> {
        self.written.get(key)?;
        let hint = "write \"http://HOST:PORT\"; https is not in this version";
        self.value(key, hint, |raw| match raw {
            Raw::Text(text) if text.is_empty() => Some(None),
            Raw::Text(text) => {
                let url = text.trim_end_matches('/');
                let address = url.strip_prefix("http://").and_then(Address::parse);
                address.filter(|address| address.port > 0).map(|_| Some(url.to_string()))
            }
            _ => None,
        })
    }

    fn level(&mut self, key: &str) -> Level {
        let hint = "write \"memory\", \"disk\", { followers = 1 }, \"all\" or \"quorum\"";
        self.value(key, hint, |raw| match raw {
            Raw::Text(text) => text.parse().ok(),
            Raw::Followers(n) => u32::try_from(*n).ok().filter(|n| *n > 0).map(Level::Followers),
            _ => None,
        })
    }

    fn backing(&mut self, key: &str, data_dir: &Path) -> BackingPlace {
        if let Some(url) = text_at(self.written, key).filter(|text| is_postgres(text)) {
            return self.server(key, url);
        }
        let hint = "write \"sqlite:PATH\" (a relative PATH lies in node.data_dir) or \"postgres://USER@HOST/DATABASE\"";
        BackingPlace::File(self.value(key, hint, |raw| match raw {
            Raw::Text(text) if text.is_empty() => Some(PathBuf::new()),
            Raw::Text(text) => {
                let path = text.strip_prefix("sqlite:").filter(|path| !path.is_empty())?;
                Some(data_dir.join(path))
            }
            _ => None,
        }))
    }

    fn server(&mut self, key: &str, url: &str) -> BackingPlace {
        match server_place(url) {
            Ok(place) => BackingPlace::Server(place),
            Err(error) => {
                let message = format!("{key} ({}): {}", self.origin(key), error.message());
                let hint = error.hint_text();
                self.problems.push(Error::invalid("CONFIG_INVALID", message).hint(hint));
                BackingPlace::File(PathBuf::new())
            }
        }
    }

    fn origin(&self, key: &str) -> String {
        self.written.get(key).map(|setting| setting.origin.to_string()).unwrap_or_default()
    }

    /// Notes that something is planned, but not in this version.
    fn not_yet(&mut self, key: &str, what: &str, hint: &str) {
        let message = format!("{key} ({}): {what}", self.origin(key));
        self.problems.push(Error::invalid("CONFIG_NOT_YET", message).hint(hint));
    }
}

/// `a,b` as the environment writes a list.
pub(super) fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(String::from).collect()
}

fn is_postgres(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// A value that cannot be read; secrets are not repeated.
fn bad_value(key: &str, known: &keys::Key, setting: &Setting, hint: &str) -> Error {
    let value = if known.secret { "its value".into() } else { setting.raw.to_string() };
    let message = format!("{key} cannot be {value} ({})", setting.origin);
    Error::invalid("CONFIG_INVALID", message).hint(hint)
}
