//! The connection is cut at every message of an apply, in both directions, one after the other.
//!
//! A proxy stands before the server and counts messages: whatever is lost, the copy stands where it stood or
//! where it should, and whoever does not know takes the next epoch and looks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use super::super::{Listener, PostgresPlace, PostgresStore};
use crate::change::{Tag, Timestamp, Version};
use crate::store::conformance::server::Server;
use crate::store::conformance::{Author, holder, look};
use crate::store::{Source, Store};

/// Passes messages on, until it has passed so many.
struct Proxy {
    port: u16,
    left: Arc<AtomicI64>,
}

impl Proxy {
    fn before(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let counter = left.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let upstream = TcpStream::connect(("127.0.0.1", server)).unwrap();
                for stream in [&client, &upstream] {
                    stream.set_nodelay(true).unwrap();
                }
                let back = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
                let (up, down) = (counter.clone(), counter.clone());
                thread::spawn(move || pass(client, upstream, &up, true));
                thread::spawn(move || pass(back.0, back.1, &down, false));
            }
        });
        Proxy { port, left }
    }

    fn cut_after(&self, messages: i64) {
        self.left.store(messages, Ordering::SeqCst);
    }

    /// Passes everything again; whether it had cut anything.
    fn mend(&self) -> bool {
        self.left.swap(i64::MAX, Ordering::SeqCst) < 0
    }
}

/// Passes messages from one end to the other. The first that a client sends has no type.
fn pass(mut from: TcpStream, mut to: TcpStream, left: &AtomicI64, client: bool) {
    let mut untyped = client;
    while let Some(message) = read_message(&mut from, untyped) {
        untyped = false;
        if left.fetch_sub(1, Ordering::SeqCst) <= 0 || to.write_all(&message).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn read_message(from: &mut TcpStream, untyped: bool) -> Option<Vec<u8>> {
    let head = if untyped { 4 } else { 5 };
    let mut message = vec![0; head];
    from.read_exact(&mut message).ok()?;
    let length = u32::from_be_bytes(message[head - 4..].try_into().unwrap()) as usize;
    message.resize(head + length - 4, 0);
    from.read_exact(&mut message[head..]).ok()?;
    Some(message)
}

/// A schema of a database.
fn schema(url: &str, name: &str) -> PostgresPlace {
    let url = format!("{url}?options=-csearch_path%3D{name}");
    PostgresPlace::read(&url).unwrap()
}

fn history() -> Author {
    let mut author = Author::new();
    author.group(&["CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)"]);
    author.group(&["INSERT INTO t VALUES (1, 'a'), (2, 'b')", "UPDATE t SET v = 'c' WHERE id = 2"]);
    author.group(&["DELETE FROM t WHERE id = 1"]);
    author
}

#[test]
fn an_apply_is_whole_or_not_there_wherever_the_connection_is_cut() {
    let Some(server) = Server::get() else { return };
    let url = server.database();
    let (rest, database) = url.rsplit_once('/').unwrap();
    let proxy = Proxy::before(rest.rsplit(':').next().unwrap().parse().unwrap());
    let through = format!("postgres://postgres@127.0.0.1:{}/{database}", proxy.port);
    let (mut lost, mut unknown, mut whole) = (0, 0, 0);
    for messages in 0.. {
        let name = format!("cut_{messages}");
        server.sql(database, &format!("CREATE SCHEMA {name}"));
        let mut author = history();
        let mut copy = PostgresStore::open(schema(&through, &name)).unwrap();
        let commits = author.commits(0);
        author.give(&mut copy, &commits[..2]).unwrap();
        proxy.cut_after(messages);
        let applied = author.give(&mut copy, &commits[2..]);
        let was_cut = proxy.mend();
        let look_at = PostgresStore::open(schema(&url, &name)).unwrap();
        match &applied {
            Ok(position) => assert_eq!(look_at.position(), *position),
            Err(error) if error.code() == "OUTCOME_UNKNOWN" => unknown += 1,
            Err(error) => {
                assert_eq!(error.code(), "BACKING_UNAVAILABLE", "{messages}: {error}");
                assert_eq!(look_at.position(), commits[1].position(), "{messages}");
                lost += 1;
            }
        }
        // The same handle, whatever it knows: the next epoch decides.
        let taken = copy.take_epoch(Tag(9), &holder("again")).unwrap();
        assert!([Version(2), Version(4)].contains(&taken.version), "{messages}: {taken}");
        whole += usize::from(applied.is_err() && taken.version == Version(4));
        author.reign(9);
        let at = taken.version.0;
        author.bring(&mut copy, at);
        assert_eq!(look(&mut copy).1, look(&mut author.store).1);
        drop(look_at);
        if !was_cut {
            break;
        }
    }
    assert!(lost > 10 && unknown > 1 && whole > 0, "{lost} lost, {unknown} unknown, {whole} whole");
}

/// What a writer left behind that lost its connection in the middle of a transaction.
#[test]
fn whoever_takes_over_waits_for_a_zombie() {
    let Some(server) = Server::get() else { return };
    let url = server.database();
    let place = PostgresPlace::read(&url).unwrap();
    let mut author = history();
    let mut copy = PostgresStore::open(place.clone()).unwrap();
    author.bring(&mut copy, 0);
    let database = url.rsplit('/').next().unwrap().to_owned();
    let behind = database.clone();
    let zombie = thread::spawn(move || {
        let sql = "BEGIN; SELECT 1 FROM _syncline_position FOR UPDATE; SELECT pg_sleep(1.5); \
                   CREATE TABLE late (); COMMIT";
        server.sql(&behind, sql)
    });
    thread::sleep(std::time::Duration::from_millis(500));
    let hasty = place.clone().within(std::time::Duration::from_millis(400));
    let mut hasty = PostgresStore::open(hasty).unwrap();
    assert_eq!(hasty.take_epoch(Tag(5), &holder("hasty")).unwrap_err().code(), "BACKING_LOCKED");
    let taken = PostgresStore::open(place).unwrap().take_epoch(Tag(6), &holder("patient")).unwrap();
    let late = "SELECT count(*) FROM pg_tables WHERE tablename = 'late'";
    assert_eq!(server.sql(&database, late).trim(), "1", "it waited");
    zombie.join().unwrap();
    assert_eq!(taken.version, Version(4));
    let error = copy.renew(Timestamp(1)).unwrap_err();
    assert_eq!(error.code(), "FENCED");
}

#[test]
fn a_store_goes_on_after_its_session_was_ended() {
    let Some(server) = Server::get() else { return };
    let url = server.database();
    let mut author = history();
    let mut copy = PostgresStore::open(PostgresPlace::read(&url).unwrap()).unwrap();
    let commits = author.commits(0);
    author.give(&mut copy, &commits[..2]).unwrap();
    let end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let database = url.rsplit('/').next().unwrap();
    server.sql(database, end_all);
    let after = author.give(&mut copy, &commits[2..]);
    if let Err(error) = after {
        assert_eq!(error.code(), "BACKING_UNAVAILABLE");
        author.give(&mut copy, &commits[2..]).unwrap();
    }
    assert_eq!(copy.standing().unwrap().position, author.store.position());
}

#[test]
fn a_listener_hears_of_commits_and_of_its_end() {
    let Some(server) = Server::get() else { return };
    let url = server.database();
    let place = PostgresPlace::read(&url).unwrap();
    let (soon, late) = (std::time::Duration::from_millis(50), std::time::Duration::from_secs(10));
    let mut author = history();
    let mut copy = PostgresStore::open(place.clone()).unwrap();
    let mut listener = Listener::open(&place).unwrap();
    assert!(!listener.wait(soon).unwrap(), "nothing happened");
    author.bring(&mut copy, 0);
    assert!(listener.wait(late).unwrap());
    assert!(!listener.wait(soon).unwrap(), "one commit is one piece of news");
    let database = url.rsplit('/').next().unwrap();
    server.sql(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^LISTEN'",
    );
    assert_eq!(listener.wait(late).unwrap_err().code(), "BACKING_UNAVAILABLE");
}
