//! The real binary: usage, configuration, explanations, and its exit codes.

use std::path::PathBuf;
use std::process::{Command, Output};

fn syncline(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_syncline"))
        .args(arguments)
        .env_remove("SYNCLINE_URL")
        .env_remove("SYNCLINE_TOKEN")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A file that goes with the test.
struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> File {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("syncline.toml");
        std::fs::write(&path, text).unwrap();
        File { _folder: folder, path }
    }

    fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

#[test]
fn usage_errors_exit_with_2_and_say_what_is_wrong() {
    for (arguments, word) in [
        (&["serve", "--no-such-flag"][..], "--no-such-flag"),
        (&["frobnicate"], "frobnicate"),
        (&["shell"], "URL"),
        (&["shell", "localhost:8080", "-c", "SELECT 1"], "http://HOST:PORT"),
        (&["shell", "https://localhost:8080", "-c", "SELECT 1"], "https is not in this version"),
        (&["demo", "--for", "soon"], "30s"),
        (&["verify", "http://h:1", "--adopt", "--repair"], "cannot be used with"),
        (&["resolve", "http://h:1", "--database", "d"], "--keep"),
        (&["config", "check", "-c", "/no/such/file"], "CONFIG_UNREADABLE"),
        (&["adopt"], "POSTGRES"),
        (&["release", "postgres://"], "hint"),
        (&["demo", "--port", "65530"], "--port"),
    ] {
        let output = syncline(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", err(&output));
        assert!(
            err(&output).contains(word),
            "{arguments:?} does not say {word:?}: {}",
            err(&output)
        );
        assert!(out(&output).is_empty(), "{arguments:?} printed an answer: {}", out(&output));
    }
}

/// What is not in this version must not look as if it were.
#[test]
fn commands_of_later_versions_are_unknown() {
    for command in ["import", "token", "backup"] {
        let output = syncline(&[command]);
        assert_eq!(code(&output), 2, "{command}");
        assert!(err(&output).contains("unrecognized subcommand"), "{command}: {}", err(&output));
    }
}

#[test]
fn a_node_that_is_not_there_is_unreachable() {
    // Bound and dropped: nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    for arguments in [&["health"][..], &["status"], &["shell", "-c", "SELECT 1"], &["held", "list"]]
    {
        let output = syncline(&[arguments, &[url.as_str()]].concat());
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(err(&output).contains("cannot be reached"), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains("is the node running"), "{arguments:?}: {}", err(&output));
    }
}

/// A page in place of a node, as a wrong port gives: said so, and not taken for an empty answer.
#[test]
fn something_else_at_the_address_is_not_taken_for_a_node() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let page = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\n<html>hi!";
        stream.write_all(page.as_bytes()).unwrap();
    });
    let output = syncline(&["status", &url]);
    server.join().unwrap();
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("<html>hi!"), "{}", err(&output));
}

#[test]
fn config_check_reports_everything_and_exits_with_2() {
    let file = File::new("[node]\nlistn = 'x'\n[databases.main]\npreset = 'quorum'\n");
    let output = syncline(&["config", "check", "-c", file.name()]);
    assert_eq!(code(&output), 2);
    for word in ["syncline.toml:2", "did you mean node.listen?", "CONFIG_NOT_YET", "readers"] {
        assert!(err(&output).contains(word), "{word}: {}", err(&output));
    }
    let good = File::new("[node]\nname = 'n'\n[databases.orders]\n");
    let output = syncline(&["config", "check", "-c", good.name()]);
    assert_eq!((code(&output), out(&output).as_str()), (0, "ok: node n is writer of orders\n"));
}

#[test]
fn serve_refuses_what_config_check_refuses() {
    let file = File::new("[databases.main]\nacknowledge = 'all'\n");
    let output = syncline(&["serve", "-c", file.name()]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("CONFIG_CONFLICT"), "{}", err(&output));
    let output = syncline(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("CONFIG_OPEN_DOOR"), "{}", err(&output));
}

#[test]
fn config_show_says_where_each_value_came_from() {
    let file = File::new("[node]\nname = 'n'\n[auth]\nmode = 'none'\n");
    let output = Command::new(env!("CARGO_BIN_EXE_syncline"))
        .args(["config", "show", "-c", file.name()])
        .env("SYNCLINE__NODE__LISTEN", "127.0.0.1:9999")
        .output()
        .unwrap();
    let shown = out(&output);
    assert_eq!(code(&output), 0);
    let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    assert!(line("name = \"n\"").ends_with("syncline.toml:2"), "{shown}");
    assert!(line("listen = \"127.0.0.1:9999\"").ends_with("environment SYNCLINE__NODE__LISTEN"));
    assert!(line("check_every = \"40s\"").ends_with("# default"), "{shown}");
    // What is shown is a configuration again.
    let again = File::new(&shown);
    assert_eq!(code(&syncline(&["config", "check", "-c", again.name()])), 0);
}

#[test]
fn explain_speaks_of_every_failure() {
    let file = File::new("[databases.a]\ndefault = true\n[databases.b]\nacknowledge = 'memory'\n");
    let output = syncline(&["explain", "-c", file.name()]);
    let text = out(&output);
    assert_eq!(code(&output), 0);
    for failure in ["writer's process", "the disk", "a reader", "power", "old backup", "is away"] {
        assert!(text.matches(failure).count() >= 2, "{failure} is missing: {text}");
    }
    let output = syncline(&["explain", "-c", file.name(), "b", "--json"]);
    for line in out(&output).lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["database"], "b");
        assert!(line["type"].is_string());
    }
    let output = syncline(&["explain", "-c", file.name(), "c"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("it has a, b"), "{}", err(&output));
}

#[test]
fn the_demo_names_the_port_that_is_taken_and_the_flag_to_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = syncline(&["demo", "--port", &port, "--for", "1s"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains(&format!("port {port}")), "{}", err(&output));
    assert!(err(&output).contains("--port 9000"), "{}", err(&output));
}
