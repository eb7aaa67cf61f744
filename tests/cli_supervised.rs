//! What a supervisor hears of a node: systemd's side of the socket is played by the test.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

mod cluster;

use cluster::{Node, execute, request};

/// How long a message may take. A test that waits for one that must not come waits less.
const PATIENCE: Duration = Duration::from_secs(60);

/// The socket that a supervisor reads, and what the node finds in its environment.
struct Supervisor {
    socket: UnixDatagram,
    name: String,
}

impl Supervisor {
    fn at_a_path(dir: &Path) -> Supervisor {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Supervisor { socket, name: path.to_str().unwrap().into() }
    }

    #[cfg(target_os = "linux")]
    fn at_a_name() -> Supervisor {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        let name = format!("syncline-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Supervisor { socket: UnixDatagram::bind_addr(&address).unwrap(), name: format!("@{name}") }
    }

    fn start(&self, node: &mut Node) {
        node.start_with(&[("NOTIFY_SOCKET", self.name.clone())]);
    }

    /// The next message; none within `wait`.
    fn hears(&self, wait: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let mut message = [0; 256];
        let len = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8(message[..len].to_vec()).unwrap())
    }
}

/// From start to end, with nothing acknowledged lost: what was written after READY is there again.
fn lives_a_life(supervisor: &Supervisor, dir: &Path) {
    let mut node = Node::new(dir, "a", "");
    for start in 0..2 {
        supervisor.start(&mut node);
        assert_eq!(supervisor.hears(PATIENCE).as_deref(), Some("READY=1"), "{}", node.logged());
        let (status, _) = request(node.listen, "GET", "/ready?role=writer", "").unwrap();
        assert_eq!(status, 200, "it is ready when it says so");
        execute(node.listen, "CREATE TABLE IF NOT EXISTS starts (id)", &[]).unwrap();
        let known = execute(node.listen, "SELECT count(*) FROM starts", &[]).unwrap();
        assert_eq!(known.pointer("/rows/0/0/value").unwrap(), &start.to_string());
        execute(node.listen, "INSERT INTO starts VALUES (1)", &[]).unwrap();
        node.signal(libc::SIGTERM);
        assert_eq!(supervisor.hears(PATIENCE).as_deref(), Some("STOPPING=1"));
        assert_eq!(node.wait_ended(), 0, "{}", node.logged());
        assert_eq!(supervisor.hears(Duration::from_millis(1)), None, "nothing is said twice");
    }
}

#[test]
fn a_node_says_when_it_is_ready_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    lives_a_life(&Supervisor::at_a_path(dir.path()), dir.path());
}

#[cfg(target_os = "linux")]
#[test]
fn a_supervisor_may_listen_in_the_abstract_namespace() {
    let dir = tempfile::tempdir().unwrap();
    lives_a_life(&Supervisor::at_a_name(), dir.path());
}

/// Units that are ordered behind this one would find a node that answers 503.
#[cfg(feature = "postgres")]
#[test]
fn a_node_that_waits_for_its_server_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::at_a_path(dir.path());
    // Whoever connects is not answered, as by a server that starts up.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    let backing = format!("backing = \"postgres://u@{at}/d\"\nworking_copy = \"memory\"");
    let mut node = Node::new(dir.path(), "a", &backing);
    supervisor.start(&mut node);
    // It opens its databases: it has come to the server.
    let connection = server.accept().unwrap();
    assert_eq!(request(node.listen, "GET", "/health", "").unwrap().0, 200);
    assert_eq!(request(node.listen, "GET", "/ready", "").unwrap().0, 503);
    assert_eq!(supervisor.hears(Duration::from_millis(300)), None, "{}", node.logged());
    drop((connection, server));
    node.signal(libc::SIGTERM);
    assert_eq!(supervisor.hears(PATIENCE).as_deref(), Some("STOPPING=1"), "{}", node.logged());
    assert_eq!(node.wait_ended(), 0, "{}", node.logged());
}

/// A supervisor that is gone is no reason to stop serving clients.
#[test]
fn a_supervisor_that_does_not_listen_is_only_logged() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = dir.path().join("nobody").to_str().unwrap().to_owned();
    let mut node = Node::new(dir.path(), "a", "");
    node.start_with(&[("NOTIFY_SOCKET", nobody)]);
    node.wait_ready();
    node.signal(libc::SIGTERM);
    assert_eq!(node.wait_ended(), 0);
    for message in ["does not hear READY=1", "does not hear STOPPING=1"] {
        assert!(node.logged().contains(message), "{}", node.logged());
    }
}
