//! The commands against running nodes: what an operator types, and what comes back.

mod cluster;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use cluster::Node;

fn syncline(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncline"));
    command.args(arguments).env_remove("SYNCLINE_URL").env_remove("SYNCLINE_TOKEN");
    command
}

/// Runs a command that must succeed; what it printed.
fn ok(arguments: &[&str]) -> String {
    let output = syncline(arguments);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {out}{err}");
    out
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn writer(dir: &Path) -> Node {
    let backing = dir.join("main.db");
    let mut node =
        Node::new(dir, "writer", &format!("backing = \"sqlite:{}\"\n", backing.display()));
    node.start();
    node.wait_ready();
    node
}

fn reader(dir: &Path, name: &str) -> Node {
    let backing = dir.join("main.db");
    let body = format!(
        "role = \"reader\"\nworking_copy = \"memory\"\nbacking = \"sqlite:{}\"\n",
        backing.display()
    );
    let mut node = Node::new(dir, name, &body);
    node.start();
    node.wait_ready();
    node
}

fn url(node: &Node) -> String {
    format!("http://{}", node.listen)
}

fn admin(node: &Node) -> String {
    format!("http://{}", node.admin)
}

#[test]
fn shell_speaks_sql_in_three_formats() {
    let dir = tempfile::tempdir().unwrap();
    let node = writer(dir.path());
    let url = url(&node);
    let made = ok(&[
        "shell",
        &url,
        "-c",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'a;b'), (2, NULL)",
    ]);
    assert!(made.ends_with("ok, 2 rows changed\n"), "{made}");
    let select = "SELECT id, x FROM t ORDER BY id";
    assert_eq!(ok(&["shell", &url, "-c", select]), "id  x\n 1  a;b\n 2  NULL\n(2 rows)\n");
    assert_eq!(ok(&["shell", &url, "--format", "csv", "-c", select]), "id,x\n1,a;b\n2,\n");
    let json = ok(&["shell", &url, "--format", "json", "-c", select]);
    assert_eq!(json, "{\"id\":1,\"x\":\"a;b\"}\n{\"id\":2,\"x\":null}\n");
    // The database's own path leads to the same place.
    assert_eq!(
        ok(&["shell", &format!("{url}/main"), "-c", select, "--format", "csv"]).lines().count(),
        3
    );
}

/// A transaction spans statements, and a script ends at its first error.
#[test]
fn shell_runs_a_script_from_a_pipe_up_to_its_first_error() {
    let dir = tempfile::tempdir().unwrap();
    let node = writer(dir.path());
    let url = url(&node);
    let script = "CREATE TABLE t (id INTEGER PRIMARY KEY);\nBEGIN;\nINSERT INTO t\n VALUES (1);\nCOMMIT;\n\
                  INSERT INTO t VALUES (1);\nINSERT INTO t VALUES (2);\n";
    let mut child = command(&["shell", &url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("SQLITE_CONSTRAINT_PRIMARYKEY"), "{err}");
    let rows =
        ok(&["shell", &url, "--format", "csv", "-c", "SELECT group_concat(id) AS ids FROM t"]);
    assert_eq!(rows, "ids\n1\n", "what follows an error is not run");
}

#[test]
fn status_and_health_tell_how_nodes_are_doing() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let reader = reader(dir.path(), "reader-1");
    assert_eq!(ok(&["health", &url(&writer)]), "ok\n");
    assert_eq!(ok(&["health", &admin(&reader)]), "ok\n");
    assert_eq!(ok(&["health", &url(&writer), "--role", "writer"]), "ok\n");
    assert_eq!(ok(&["health", &url(&reader), "--role", "reader", "--max-stale", "1h"]), "ok\n");
    for (node, asked, why) in [
        (&writer, &["--role", "reader"][..], "unhealthy: main: this node is a writer\n"),
        (&reader, &["--role", "writer"], "unhealthy: main: this node is a reader\n"),
        (&reader, &["--max-stale", "0s"], "unhealthy: main: it may be "),
    ] {
        let refused = syncline(&[&["health", &url(node)], asked].concat());
        let (out, _) = texts(&refused);
        assert!(refused.status.code() == Some(1) && out.starts_with(why), "{asked:?}: {out}");
    }
    ok(&["shell", &url(&reader), "-c", "CREATE TABLE t (x); INSERT INTO t VALUES (1)"]);
    let status = ok(&["status", &admin(&writer)]);
    assert!(status.contains("node writer") && status.contains("main"), "{status}");
    let line = |node: &Node| -> serde_json::Value {
        serde_json::from_str(ok(&["status", &admin(node), "--json"]).trim()).unwrap()
    };
    let (mine, theirs) = (line(&writer), line(&reader));
    assert_eq!((&mine["type"], &mine["role"]), (&"database".into(), &"writer".into()));
    assert_eq!(theirs["role"], "reader");
    // The reader answered the forwarded write with its own copy at the receipt.
    assert_eq!(mine["position"], theirs["position"]);
    assert_eq!(mine["digest"], theirs["digest"]);
    assert_eq!(ok(&["held", "list", &admin(&reader)]), "nothing is held\n");
    assert!(ok(&["verify", &admin(&reader)]).contains("every row agrees"));
}

/// Two writers on one file: the second must not begin, and must say who is there.
#[test]
fn a_second_writer_ends_with_4_and_names_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let first = writer(dir.path());
    let backing = dir.path().join("main.db");
    let mut second =
        Node::new(dir.path(), "second", &format!("backing = \"sqlite:{}\"\n", backing.display()));
    second.start();
    assert_eq!(second.ready_or_ended(), Some(4), "{}", second.logged());
    let log = second.logged();
    assert!(log.contains("writer"), "the holder is not named: {log}");
    assert!(log.contains("hint:"), "no way out is named: {log}");
    drop(first);
}

#[test]
fn a_reader_is_promoted_when_the_writer_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = writer(dir.path());
    let reader = reader(dir.path(), "reader-1");
    ok(&["shell", &url(&old), "-c", "CREATE TABLE t (x); INSERT INTO t VALUES (1)"]);
    old.kill();
    let other = syncline(&["promote", &admin(&reader), "--to", "somebody"]);
    assert_eq!(other.status.code(), Some(2), "{:?}", texts(&other));
    // The lease of the dead one must be over first.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let output = syncline(&["promote", &admin(&reader), "--database", "main"]);
        if output.status.code() == Some(0) {
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", texts(&output));
        std::thread::sleep(Duration::from_millis(200));
    }
    ok(&["shell", &url(&reader), "-c", "INSERT INTO t VALUES (2)"]);
    let rows =
        ok(&["shell", &url(&reader), "--format", "csv", "-c", "SELECT count(*) AS n FROM t"]);
    assert_eq!(rows, "n\n2\n");
    assert!(ok(&["status", &admin(&reader), "--json"]).contains("\"role\":\"writer\""));
}

/// Yesterday's backup is put back while the writer is down. The writer must not write on as if
/// nothing had happened; a person decides, and what is undone comes back by hand.
#[test]
fn a_restore_is_decided_with_resolve_and_held_commits_are_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let (backing, backup) = (dir.path().join("main.db"), dir.path().join("backup.db"));
    let mut writer = writer(dir.path());
    let reader = reader(dir.path(), "reader-1");
    let (at_writer, at_reader) = (admin(&writer), admin(&reader));
    ok(&["shell", &url(&writer), "-c", "CREATE TABLE t (x); INSERT INTO t VALUES ('before')"]);
    copy_pages(&backing, &backup);
    ok(&["shell", &url(&reader), "-c", "INSERT INTO t VALUES ('after')"]);
    // The mark is at most a second old; what it has not seen, it cannot miss.
    let version = writer.position().unwrap()["version"].as_str().unwrap().to_string();
    let mark = writer.folder().join("main.mark");
    wait_until("the mark has the last write", || {
        std::fs::read_to_string(&mark).unwrap_or_default().contains(&format!("\"1.{version}."))
    });
    writer.kill();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("main.db{suffix}")));
    }
    std::fs::rename(&backup, &backing).unwrap();
    writer.start();
    assert_eq!(wait_healthy(&mut writer), 4, "{}", writer.logged());

    let refused = syncline(&["shell", &url(&writer), "-c", "INSERT INTO t VALUES ('lost?')"]);
    assert_ne!(refused.status.code(), Some(0), "{:?}", texts(&refused));
    let select = ["-c", "SELECT x FROM t ORDER BY x", "--format", "csv"];
    let rows = |node: &Node| ok(&[&["shell", &url(node)][..], &select].concat());
    assert_eq!(rows(&writer), "x\nbefore\n", "reads go on");
    let kept = ok(&["resolve", &at_writer, "--database", "main", "--keep", "backing"]);
    assert!(kept.contains("kept the backing's side"), "{kept}");
    assert_eq!(syncline(&["status", &at_writer]).status.code(), Some(0));

    let held = || ok(&["held", "list", &at_reader, "--json"]);
    wait_until("the reader holds what it undid", || !held().is_empty());
    let item: serde_json::Value = serde_json::from_str(held().lines().next().unwrap()).unwrap();
    assert_eq!((&item["type"], &item["reason"]), (&"held".into(), &"undone".into()));
    let id = item["id"].to_string();
    assert!(ok(&["held", "show", &at_reader, &id]).contains("after"));
    ok(&["held", "replay", &at_reader, &id]);
    assert_eq!(rows(&writer), "x\nafter\nbefore\n");
    wait_until("the copies are equal", || {
        let (mine, theirs) = (writer.position().unwrap(), reader.position().unwrap());
        mine["chain"] == theirs["chain"] && mine["digest"] == theirs["digest"]
    });
}

/// As SQLite's own backup does it: the only safe way while a writer runs.
fn copy_pages(from: &Path, to: &Path) {
    let from = rusqlite::Connection::open(from).unwrap();
    let mut to = rusqlite::Connection::open(to).unwrap();
    let backup = rusqlite::backup::Backup::new(&from, &mut to).unwrap();
    backup.run_to_completion(1_000, Duration::ZERO, None).unwrap();
}

/// Waits until the node answers operators; the exit code of its status.
fn wait_healthy(node: &mut Node) -> i32 {
    let url = admin(node);
    let mut code = None;
    wait_until("the node has opened its databases", || {
        let status = syncline(&["status", &url]);
        code = status.status.code();
        // Nobody listens, or what is there says that it is not ready.
        code != Some(2) && !texts(&status).1.contains("NOT_READY")
    });
    code.unwrap()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// SIGTERM lets go of the lease: the next writer need not wait.
#[test]
fn a_node_that_is_asked_to_end_drains_and_exits_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("s.toml");
    let text = format!(
        "[node]\ndata_dir = {:?}\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n",
        dir.path()
    );
    std::fs::write(&config, text).unwrap();
    for _ in 0..2 {
        let log = dir.path().join("log");
        let mut child = command(&["serve", "-c", config.to_str().unwrap()])
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let logged = || std::fs::read_to_string(&log).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !logged().contains("serves http://127.0.0.1:") {
            assert!(child.try_wait().unwrap().is_none(), "it ended:\n{}", logged());
            assert!(Instant::now() < deadline, "it does not serve:\n{}", logged());
            std::thread::sleep(Duration::from_millis(5));
        }
        // SAFETY: the process is our child and was not waited for.
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", logged());
        assert!(logged().contains("draining: SIGTERM"), "{}", logged());
    }
}

/// The whole show: three processes, real data, a killed reader that catches up, nothing left.
#[test]
fn the_demo_ends_with_equal_copies_and_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let port = free_ports(0);
    let output = command(&["demo", "--port", &port.to_string(), "--for", "5s"])
        .env("TMPDIR", temp.path())
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    for part in [
        "loaded 30911 rows",
        "curl -s http://127.0.0.1:",
        "createClient",
        "reader-2 is killed",
        "reader-2 is in step again",
        "all copies are equal",
    ] {
        assert!(out.contains(part), "{part:?} is missing:\n{out}{err}");
    }
    assert!(!out.contains("DIFFERENT"), "{out}");
    let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    for port in port..port + 3 {
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "{port} still answers");
    }
}

/// However the demo dies, its nodes end with it.
#[test]
fn the_demos_nodes_end_when_the_demo_is_killed() {
    let temp = tempfile::tempdir().unwrap();
    let port = free_ports(1);
    let mut demo = command(&["demo", "--port", &port.to_string()])
        .env("TMPDIR", temp.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let up =
        || (port..port + 3).all(|port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let gone =
        || (port..port + 3).all(|port| std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    wait_until("the nodes are up", up);
    demo.kill().unwrap();
    demo.wait().unwrap();
    wait_until("the nodes are gone", gone);
}

/// A port from which on the demo's six are free; each test has a range of its own.
fn free_ports(range: u16) -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let all = |port: &u16| (*port..port + 3).chain(port + 10..port + 13).all(free);
    let start = 20_000 + range * 4_000 + (std::process::id() % 100) as u16 * 20;
    (start..start + 2_000).step_by(20).find(all).expect("six free ports")
}

/// A large copy in memory loads for minutes; whoever watches the process must not take it for dead. Here
/// the node's id comes from a pipe, and nobody has written into it yet.
#[test]
fn a_node_answers_while_its_databases_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let backing = dir.path().join("main.db");
    let mut node =
        Node::new(dir.path(), "slow", &format!("backing = \"sqlite:{}\"\n", backing.display()));
    let pipe = node.folder().join("node-id");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: the path is NUL-terminated.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    node.start();
    for address in [node.listen, node.admin] {
        let get = |path: &str| cluster::request(address, "GET", path, "");
        wait_until("it answers", || get("/health").is_ok());
        let (status, health) = get("/health").unwrap();
        assert_eq!(status, 200);
        assert!(health.contains("\"ready\":false") && health.contains("opening"), "{health}");
        assert_eq!(get("/ready").unwrap().0, 503);
        assert_eq!(get("/version").unwrap().0, 200);
        for path in ["/v1/databases/main/position", "/v1/status", "/metrics", "/nothing"] {
            let (status, body) = get(path).unwrap();
            assert!(status == 503 && body.contains("NOT_READY"), "{path}: {status} {body}");
        }
    }
    let write = cluster::execute(node.listen, "CREATE TABLE t(a)", &[]).unwrap_err();
    assert!(write.starts_with("503") && write.contains("\"retry\":\"yes\""), "{write}");
    assert_eq!(ok(&["health", &url(&node)]), "ok\n");
    let unready = syncline(&["health", &url(&node), "--role", "writer"]);
    assert_eq!(unready.status.code(), Some(1));
    assert!(texts(&unready).0.contains("opening its databases"), "{unready:?}");
    // One that stays connected is not left behind with a server that never has a database.
    let begun = std::net::TcpStream::connect(node.listen).unwrap();
    std::fs::write(&pipe, "00112233").unwrap();
    node.wait_ready();
    cluster::execute(node.listen, "CREATE TABLE t(a)", &[]).unwrap();
    drop(begun);
}
