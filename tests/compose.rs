//! `compose.yaml` and `Dockerfile` mean what they should: no Docker is needed to find a wrong name in them.
//!
//! Each node's environment goes through the loader that the program itself uses, with the image's own
//! variables below it and the secrets at the places where Docker puts them.
#![cfg(feature = "postgres")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use saphyr::{LoadableYamlNode, Yaml};
use syncline::acknowledge::Level;
use syncline::cli::{Cli, Command};
use syncline::config::{Config, Sources};
use syncline::engine::{BackingPlace, Role, WorkingCopy};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// `compose.yaml`, for as long as the tests run.
fn compose() -> Yaml<'static> {
    let text: &'static str = file("compose.yaml").leak();
    Yaml::load_from_str(text).unwrap().remove(0)
}

/// Keys and values below a key; nothing, if it is not there.
fn entries<'a>(yaml: &'a Yaml<'static>, key: &str) -> Vec<(&'a str, &'a Yaml<'static>)> {
    let Some(below) = yaml.as_mapping_get(key) else { return Vec::new() };
    let all = below.as_mapping().unwrap_or_else(|| panic!("{key} is no mapping"));
    all.iter().map(|(name, value)| (name.as_str().unwrap(), value)).collect()
}

/// The texts in a list; nothing, if there is none.
fn list<'a>(yaml: &'a Yaml<'static>, key: &str) -> Vec<&'a str> {
    let list = yaml.as_mapping_get(key).map(|list| list.as_sequence().unwrap());
    list.into_iter().flatten().map(|item| item.as_str().expect("a text")).collect()
}

fn environment(service: &Yaml<'static>) -> BTreeMap<String, String> {
    let text = |value: &Yaml<'static>| value.as_str().expect("variables are text").to_owned();
    let all = entries(service, "environment").into_iter();
    all.map(|(name, value)| (name.to_owned(), text(value))).collect()
}

/// The services that run Syncline.
fn nodes(compose: &Yaml<'static>) -> Vec<(String, Yaml<'static>)> {
    let services = entries(compose, "services").into_iter();
    let ours = services.filter(|(_, service)| service.contains_mapping_key("build"));
    ours.map(|(name, service)| (name.to_owned(), service.clone())).collect()
}

/// The instructions of the Dockerfile: word, and what follows it.
fn instructions() -> Vec<(String, String)> {
    let text = file("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let split = |line: &str| line.split_once(' ').map(|(word, rest)| (word.into(), rest.into()));
    lines.map(|line| split(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// What follows the one instruction of its kind.
fn instruction(word: &str) -> String {
    let all: Vec<_> = instructions().into_iter().filter(|(is, _)| is == word).collect();
    assert_eq!(all.len(), 1, "{word} stands in the Dockerfile once");
    all[0].1.clone()
}

/// The URL as docs/postgres.md writes it into the secret, with a password.
fn backing_url() -> String {
    let docs = file("docs/postgres.md");
    let line = docs.lines().find(|line| line.ends_with("> secrets/backing-url"));
    let url = line.and_then(|line| line.split('"').nth(1)).expect("the docs say what is in it");
    url.replace("$password", "5ecre7")
}

/// What a node's process would find: the image's variables, and above them those of the service.
fn config(name: &str, service: &Yaml<'static>) -> Config {
    let (variable, value) = instruction("ENV").split_once('=').map(owned).expect("NAME=VALUE");
    let mut variables = BTreeMap::from([(variable, value)]);
    variables.extend(environment(service));
    let secrets = list(service, "secrets");
    let read = |path: &Path| {
        let secret = path.strip_prefix("/run/secrets").ok().and_then(Path::to_str);
        match secret.filter(|secret| secrets.contains(secret)) {
            Some("backing-url") => Ok(backing_url()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    };
    let sources = Sources {
        file: None,
        environment: variables.into_iter().collect(),
        flags: Vec::new(),
        host: "0123456789ab".into(),
        read: &read,
    };
    Config::load(&sources).unwrap_or_else(|problems| panic!("{name}:\n{problems}"))
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn one_node_writes_and_two_read() {
    let compose = compose();
    let mut published = Vec::new();
    for (name, service) in nodes(&compose) {
        let config = config(&name, &service);
        let [database] = &config.databases[..] else { panic!("{name} has one database") };
        let role = if name == "writer" { Role::Writer } else { Role::Reader };
        assert_eq!((&config.node.name, database.role), (&name, role));
        assert_eq!(database.working_copy, WorkingCopy::Memory, "{name}");
        assert_eq!(database.acknowledge, Level::Disk, "{name}");
        assert_eq!(config.node.listen.to_string(), "0.0.0.0:8080");
        assert!(config.node.admin_listen.is_loopback(), "{name}: operators come by `exec`");
        assert_eq!(config.node.advertise, Some(format!("http://{name}:8080")));
        let BackingPlace::Server(place) = &database.backing else { panic!("{name}") };
        assert_eq!(place.to_string(), "postgres:5432/shop");
        let ports = list(&service, "ports");
        let [port] = ports[..] else { panic!("{name} publishes one port") };
        assert!(port.starts_with("127.0.0.1:") && port.ends_with(":8080"), "{name}: {port}");
        published.push((name, port.to_owned()));
        let folder = format!("{}:{}", config.node.name, config.node.data_dir.display());
        assert_eq!(list(&service, "volumes"), [folder], "what is held outlives the container");
    }
    let names: Vec<&str> = published.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["writer", "reader-1", "reader-2"]);
    let ports: BTreeSet<&String> = published.iter().map(|(_, port)| port).collect();
    assert_eq!(ports.len(), 3, "each has a port of its own");
}

/// The user and the database in the URL are those that the server makes, and nobody else knows the password.
#[test]
fn the_server_makes_what_the_nodes_ask_for() {
    let compose = compose();
    let services = compose.as_mapping_get("services").unwrap();
    let server = services.as_mapping_get("postgres").unwrap();
    let made = environment(server);
    let url = backing_url();
    let start = format!("postgres://{}:5ecre7@postgres/", made["POSTGRES_USER"]);
    assert!(url.starts_with(&start), "{url}");
    assert_eq!(url[start.len()..].split('?').next(), Some(made["POSTGRES_DB"].as_str()));
    assert_eq!(made["POSTGRES_PASSWORD_FILE"], "/run/secrets/postgres-password");
    assert_eq!(list(server, "secrets"), ["postgres-password"]);
    for (name, service) in nodes(&compose) {
        assert_eq!(list(&service, "secrets"), ["backing-url"], "{name}");
    }
}

#[test]
fn every_name_leads_somewhere() {
    let compose = compose();
    let names = |key: &str| entries(&compose, key).into_iter().map(|(name, _)| name);
    let [services, secrets, volumes] =
        ["services", "secrets", "volumes"].map(|key| names(key).collect::<Vec<&str>>());
    for (name, service) in entries(&compose, "services") {
        let before = entries(service, "depends_on").into_iter();
        assert!(before.clone().all(|(other, _)| services.contains(&other)), "{name}");
        for (other, how) in before {
            let condition = how.as_mapping_get("condition").and_then(|how| how.as_str());
            let other = compose.as_mapping_get("services").unwrap().as_mapping_get(other).unwrap();
            assert_eq!(condition, Some("service_healthy"), "{name}");
            assert!(other.contains_mapping_key("healthcheck"), "{name}");
        }
        assert!(list(service, "secrets").iter().all(|secret| secrets.contains(secret)), "{name}");
        let is_known = |volume: &&str| volumes.contains(&volume.split(':').next().unwrap());
        assert!(list(service, "volumes").iter().all(is_known), "{name}");
    }
    let docs = file("docs/postgres.md");
    for (secret, from) in entries(&compose, "secrets") {
        let path = from.as_mapping_get("file").and_then(|path| path.as_str()).expect(secret);
        assert_eq!(path, format!("./secrets/{secret}"));
        assert!(docs.contains(&format!("> secrets/{secret}\n")), "the docs say how to make {path}");
    }
    assert!(file(".gitignore").lines().any(|line| line == "/secrets"), "secrets stay out of git");
}

#[test]
fn a_node_is_asked_what_it_is_used_for() {
    for (name, service) in nodes(&compose()) {
        let role = config(&name, &service).databases[0].role;
        let asked = list(service.as_mapping_get("healthcheck").unwrap(), "test");
        let line = format!("{HEALTH} --role {} || exit 1", role.as_str());
        assert_eq!(asked, ["CMD-SHELL", line.as_str()], "{name}");
        assert!(asks_for_health(&line), "{line}");
        assert!(!service.contains_mapping_key("command"), "{name}: the image's own command");
    }
    // The image does not know what it is used for.
    let line = format!("{HEALTH} || exit 1");
    assert!(instruction("HEALTHCHECK").ends_with(&format!(" CMD {line}")));
    assert!(asks_for_health(&line), "{line}");
}

/// Where a node listens in its container.
const HEALTH: &str = "syncline health http://127.0.0.1:8080";

/// Whether the program takes a check's line for one. Exit codes above 1 are Docker's.
fn asks_for_health(line: &str) -> bool {
    let line = line.strip_suffix(" || exit 1").unwrap();
    matches!(Cli::try_parse_from(line.split(' ')).unwrap().command, Command::Health(_))
}

/// A process that root starts in a container is root outside it, too. SIGTERM must reach the node itself, and not
/// a shell before it; and Docker must wait for the drain.
#[test]
fn a_node_is_not_root_and_drains() {
    assert_eq!(instruction("USER"), "syncline");
    let after = instructions().into_iter().skip_while(|(word, _)| word != "USER");
    assert!(after.skip(1).all(|(word, _)| word != "USER" && word != "RUN"), "it stays so");
    assert_eq!(instruction("ENTRYPOINT"), "[\"syncline\"]", "the form without a shell");
    for (name, service) in nodes(&compose()) {
        let wait = service.as_mapping_get("stop_grace_period").and_then(|wait| wait.as_str());
        let wait: u64 = wait.and_then(|wait| wait.strip_suffix('s')).unwrap().parse().unwrap();
        let drain = config(&name, &service).limits.http.drain;
        assert!(Duration::from_secs(wait) > drain * 2, "{name}: {wait} s for {drain:?}");
    }
}

/// The image runs `syncline serve`, and is built from files that are there and that Docker is given.
#[test]
fn the_image_is_built_from_what_is_there() {
    let command: Vec<String> = ["ENTRYPOINT", "CMD"]
        .iter()
        .flat_map(|word| serde_json::from_str::<Vec<String>>(&instruction(word)).unwrap())
        .collect();
    let cli = Cli::try_parse_from(&command).unwrap();
    assert!(matches!(cli.command, Command::Serve(_)), "{command:?}");
    let given = file(".dockerignore");
    let copies = instructions().into_iter().filter(|(word, _)| word == "COPY");
    let mut copied: Vec<PathBuf> = Vec::new();
    for (_, line) in copies.filter(|(_, line)| !line.starts_with("--from=")) {
        let paths: Vec<&str> = line.split(' ').collect();
        for path in &paths[..paths.len() - 1] {
            assert!(root().join(path).exists(), "COPY {path}");
            assert!(given.lines().any(|line| line == format!("!{path}")), "{path} is ignored");
            copied.push(path.into());
        }
    }
    let needed = ["Cargo.toml", "Cargo.lock", ".cargo", "src", "data"];
    assert!(needed.iter().all(|path| copied.contains(&PathBuf::from(path))), "{copied:?}");
    let bases = instructions().into_iter().filter(|(word, _)| word == "FROM");
    for (_, image) in bases {
        assert!(!image.split(' ').next().unwrap().contains('/'), "{image} is Docker's own");
    }
}
