//! What everything on MySQL stands on: the driver reaches the server, and the server keeps what it confirmed.
#![cfg(feature = "mysql")]

#[path = "support/mariadb.rs"]
mod mariadb;

use mariadb::{PASSWORD, Server, USER, name_in};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, SslOpts};

async fn connect(url: &str) -> Conn {
    Conn::new(Opts::from_url(url).unwrap()).await.unwrap()
}

#[test]
fn a_password_arrives_however_it_is_written() {
    let Some(server) = Server::get() else { return };
    let options = Opts::from_url(&server.database()).unwrap();
    assert_eq!((options.user(), options.pass()), (Some(USER), Some(PASSWORD)));
}

#[tokio::test]
async fn a_crash_keeps_what_was_committed_and_drops_what_was_not() {
    let Some(server) = Server::own() else { return };
    let url = server.database();
    let mut session = connect(&url).await;
    session.query_drop("CREATE TABLE t (i int PRIMARY KEY)").await.unwrap();
    session.query_drop("INSERT INTO t VALUES (1)").await.unwrap();
    session.query_drop("START TRANSACTION").await.unwrap();
    session.query_drop("INSERT INTO t VALUES (2)").await.unwrap();
    server.order("crash");
    assert!(session.query_drop("COMMIT").await.is_err(), "nobody is there");
    server.order("start");
    let kept: Vec<i32> = connect(&url).await.query("SELECT i FROM t").await.unwrap();
    assert_eq!(kept, [1]);
    server.order("stop");
    assert!(Conn::new(Opts::from_url(&url).unwrap()).await.is_err());
    server.order("start");
    assert_eq!(server.sql(name_in(&url), "SELECT i FROM t"), "1\n");
}

/// With one provider of cryptography in the tree, the driver's TLS needs no choice made for it.
#[tokio::test]
async fn the_driver_encrypts_and_checks_whom_it_talks_to() {
    let Some(server) = Server::get() else { return };
    let Some(certificate) = server.certificate() else { return };
    let url = server.database().replace("127.0.0.1", "localhost");
    let with = |tls| OptsBuilder::from_opts(Opts::from_url(&url).unwrap()).ssl_opts(Some(tls));
    let stranger = Conn::new(with(SslOpts::default())).await;
    assert!(stranger.is_err(), "its certificate is signed by nobody");
    let trusted = SslOpts::default().with_root_certs(vec![certificate.into()]);
    let mut session = Conn::new(with(trusted)).await.unwrap();
    let cipher: Option<(String, String)> =
        session.query_first("SHOW STATUS LIKE 'Ssl_cipher'").await.unwrap();
    assert_ne!(cipher.unwrap().1, "");
}
