//! What packages install means what it should: no package manager and no init is needed to find a wrong name in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use syncline::cli::{Cli, Command as Runs};
use syncline::config::{Config, Sources};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The unit's settings; those that stand several times, with a space between.
fn unit() -> BTreeMap<String, String> {
    let mut settings = BTreeMap::<String, String>::new();
    for line in file("packaging/syncline.service").lines() {
        let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let values = settings.entry(name.into()).or_default();
        *values = format!("{values} {value}").trim().to_owned();
    }
    settings
}

fn config() -> Config {
    let sources = Sources {
        file: Some(("packaging/syncline.toml".into(), file("packaging/syncline.toml"))),
        environment: Vec::new(),
        flags: Vec::new(),
        host: "here".into(),
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
    };
    Config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_unit_runs_the_configuration_that_is_installed() {
    let unit = unit();
    let cli = Cli::try_parse_from(unit["ExecStart"].split(' ')).unwrap();
    let Runs::Serve(serve) = cli.command else { panic!("{}", unit["ExecStart"]) };
    assert_eq!(serve.config.as_deref(), Some(Path::new("/etc/syncline/syncline.toml")));
    let config = config();
    let state = Path::new("/var/lib").join(&unit["StateDirectory"]);
    assert_eq!(config.node.data_dir, state, "the one place where it may write");
    assert!(config.node.listen.is_loopback() && config.node.admin_listen.is_loopback());
}

/// 2 is a wrong configuration and 4 waits for a person: a restart makes neither better. 5 and crashes are
/// restarted.
#[test]
fn the_unit_restarts_what_a_restart_may_help() {
    let unit = unit();
    assert_eq!(unit["Restart"], "on-failure");
    assert_eq!(unit["RestartPreventExitStatus"], "2 4");
    assert_eq!((unit["Type"].as_str(), unit["TimeoutStartSec"].as_str()), ("notify", "infinity"));
}

#[test]
fn the_unit_waits_for_the_drain() {
    let stop: u64 = unit()["TimeoutStopSec"].parse().unwrap();
    let drain = config().limits.http.drain;
    assert!(Duration::from_secs(stop) > drain * 2, "{stop} s for a drain of {drain:?}");
}

/// systemd reads over what it does not know: a wrong name would leave a door open in silence.
#[test]
fn systemd_knows_every_setting_of_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let installed = dir.path().join("syncline.service");
    // The program is where the package puts it only once that is installed.
    let here = format!("ExecStart={}", env!("CARGO_BIN_EXE_syncline"));
    let text = file("packaging/syncline.service").replace("ExecStart=/usr/bin/syncline", &here);
    fs::write(&installed, text).unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&installed)
        .output();
    let Ok(verified) = verify else {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    };
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");
}

/// What `cargo deb` reads.
fn debian() -> toml::Table {
    let manifest: toml::Table = file("Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"]["deb"].as_table().unwrap().clone()
}

fn texts(list: &toml::Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The files that a source names: one, or all of a folder that end in a certain way.
fn named(source: &str) -> Vec<PathBuf> {
    let Some((folder, ending)) = source.split_once('*') else { return vec![source.into()] };
    let files = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
    let names = files.map(|name| name.into_string().unwrap());
    names.filter(|name| name.ends_with(ending)).map(|name| Path::new(folder).join(name)).collect()
}

/// The package's files, by the place where they are installed: where they are here, and their permissions.
fn installed() -> BTreeMap<PathBuf, (PathBuf, String)> {
    let mut installed = BTreeMap::new();
    for asset in debian()["assets"].as_array().unwrap() {
        let [source, place, mode] = texts(asset)[..] else { panic!("{asset}") };
        let sources = named(source);
        assert!(!sources.is_empty(), "{source} names nothing");
        for source in sources {
            let name = if place.ends_with('/') { source.file_name() } else { None };
            let place = name.map_or(place.into(), |name| Path::new(place).join(name));
            let before = installed.insert(Path::new("/").join(place), (source, mode.to_owned()));
            assert!(before.is_none(), "{before:?} is overwritten");
        }
    }
    installed
}

#[test]
fn the_package_holds_files_that_are_there() {
    for (place, (source, mode)) in installed() {
        let is_program = source == Path::new("target/release").join(env!("CARGO_PKG_NAME"));
        assert!(is_program || root().join(&source).is_file(), "{} is missing", source.display());
        assert_eq!(mode, if is_program { "755" } else { "644" }, "{}", place.display());
    }
    let debian = debian();
    let license = texts(&debian["license-file"]);
    assert!(root().join(license[0]).is_file());
}

/// A page or a script that is made, but not installed, is missed by whoever needs it only.
#[test]
fn the_package_forgets_no_page_and_no_completion() {
    let installed = installed();
    for folder in ["packaging/man/*", "packaging/completions/*"] {
        for made in named(folder) {
            let is_installed = installed.values().any(|(source, _)| *source == made);
            assert!(is_installed, "{} is not installed", made.display());
        }
    }
}

/// The unit comes from the folder of the maintainer's scripts, by its name; what it names must be installed, and
/// an upgrade must not overwrite what somebody configured.
#[test]
fn the_package_installs_what_its_unit_starts() {
    let debian = debian();
    let folder = root().join(debian["maintainer-scripts"].as_str().unwrap());
    let name = debian["systemd-units"]["unit-name"].as_str().unwrap();
    assert!(folder.join(format!("{name}.service")).is_file(), "{name}");
    let command = unit()["ExecStart"].clone();
    let [program, "serve", "-c", config] = command.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{command}")
    };
    let installed = installed();
    assert!(installed.contains_key(Path::new(program)), "{program}");
    assert_eq!(installed[Path::new(config)].0, Path::new("packaging/syncline.toml"));
    assert_eq!(texts(&debian["conf-files"]), [config]);
}
