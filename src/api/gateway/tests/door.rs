//! Who comes in: tokens, TLS, sessions, and how many.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::super::sessions::{Owner, Sessions};
use super::{Served, customers, open, over, plan_of, server};
use crate::api::guard::Principal;
use crate::api::{Tls, Tokens};
use crate::endpoint::http::{HttpEndpoint, Login};
use crate::endpoint::sqlite::Access;
use crate::endpoint::{Endpoint, Range};
use crate::error::Kind;

fn login(token: &str) -> Login {
    Login { token: Some(token.to_owned()) }
}

/// The hash of `test`.
const TOKENS: &str = "branch 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[test]
fn only_tokens_that_are_listed_come_in() {
    let directory = tempfile::tempdir().unwrap();
    let path = customers(directory.path(), "a.db", 3);
    let tokens = Tokens::read(TOKENS).unwrap();
    let served = Served::start(server(over(&path), false).tokens(Some(tokens)));
    for other in [Login::default(), login("tset"), login("")] {
        let error = HttpEndpoint::open(&served.url(), Access::Read, &other).err().unwrap();
        assert_eq!((error.kind(), error.code()), (Kind::Forbidden, "ENDPOINT_LOGIN"), "{error}");
        assert!(!format!("{error:?}").contains("tset"), "{error:?}");
    }
    let mut endpoint = HttpEndpoint::open(&served.url(), Access::Read, &login("test")).unwrap();
    assert_eq!(endpoint.tables().unwrap().len(), 1);
    assert_eq!(format!("{:?}", login("test")), "Login(a token)");
}

#[test]
fn a_token_is_not_sent_in_the_clear() {
    let error =
        HttpEndpoint::open("http://192.0.2.1:9", Access::Read, &login("test")).err().unwrap();
    assert_eq!((error.kind(), error.code()), (Kind::Forbidden, "ENDPOINT_LOGIN"), "{error}");
    let url = "http://u:hunter2@127.0.0.1:9";
    let error = HttpEndpoint::open(url, Access::Read, &Login::default()).err().unwrap();
    assert_eq!(error.code(), "URL_INVALID");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn a_gateway_that_only_reads_lets_nobody_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = customers(directory.path(), "a.db", 3);
    let served = Served::start(server(over(&path), true));
    let error = open(&served.url(), Access::Write).err().unwrap();
    assert_eq!((error.kind(), error.code()), (Kind::Forbidden, "ENDPOINT_FORBIDDEN"), "{error}");
    assert!(open(&served.url(), Access::Read).is_ok());
}

#[test]
fn what_is_no_gateway_is_told_so() {
    let served = Served::start(crate::api::Server::new("node", "http://127.0.0.1"));
    let error = open(&served.url(), Access::Read).err().unwrap();
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, "ENDPOINT_NOT_FOUND"), "{error}");
}

/// An error of the endpoint behind comes as it was.
#[test]
fn errors_come_through() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Served::file(&directory.path().join("missing.db"));
    let error = open(&missing.url(), Access::Read).err().unwrap();
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, "ENDPOINT_NOT_FOUND"), "{error}");
    let served = Served::file(&customers(directory.path(), "a.db", 3));
    let mut endpoint = open(&served.url(), Access::Read).unwrap();
    let mut plan = plan_of(&mut endpoint);
    plan.table = "missing".into();
    let error = endpoint.digest(&plan, &[Range::ALL], 4).unwrap_err();
    assert!(error.message().contains("no such table"), "{error}");
    plan.table = "customers".into();
    assert!(endpoint.digest(&plan, &[Range::ALL], 4).is_ok(), "the session goes on");
}

#[test]
fn sessions_end_by_idling_and_are_nobody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let opener = over(&customers(directory.path(), "a.db", 3));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sessions = Sessions::new(2, Duration::from_secs(5));
    let of = |principal, generation| Owner { principal, generation };
    let (mine, stranger) = (of(Principal::Anyone, 7), of(Principal::Holder([1; 32]), 7));
    let begin = || runtime.block_on(sessions.begin(opener.clone(), Access::Read, mine));
    let (first, _) = begin().unwrap();
    let (second, _) = begin().unwrap();
    assert_eq!(begin().unwrap_err().code(), "SESSIONS_FULL");
    let call =
        |name: &str, who| sessions.call(name, who, Vec::new()).map(|_| ()).map_err(|e| e.code());
    assert_eq!(call(&first, stranger), Err("SESSION_EXPIRED"));
    sessions.end(&first, stranger);
    assert_eq!(call(&first, mine), Ok(()));
    sessions.end(&first, mine);
    assert_eq!(call(&first, mine), Err("SESSION_EXPIRED"));
    assert_eq!(call(&second, of(Principal::Anyone, 8)), Err("SESSION_EXPIRED"), "another copy");
    sessions.expire(Instant::now() + Duration::from_secs(4), 7);
    sessions.expire(Instant::now() + Duration::from_secs(60), 7);
    assert_eq!(call(&second, mine), Err("SESSION_EXPIRED"));
    let until = Instant::now() + Duration::from_secs(10);
    while begin().is_err() {
        assert!(Instant::now() < until, "a session that ended gives its place back");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A new session takes the place of one that expired, but not of its snapshot.
#[test]
fn an_expired_session_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = customers(directory.path(), "a.db", 30);
    let served = Served::file(&path);
    let mut endpoint = open(&served.url(), Access::Read).unwrap();
    let plan = plan_of(&mut endpoint);
    let digest = endpoint.digest(&plan, &[Range::ALL], 2).unwrap();
    let address = served.address;
    drop(served);
    let error = endpoint.digest(&plan, &[Range::ALL], 2).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Unavailable, "ENDPOINT_UNREACHABLE"),
        "{error}"
    );
    let served = Served::at(address, server(over(&path), false));
    assert_eq!(endpoint.digest(&plan, &[Range::ALL], 2).unwrap(), digest);
    endpoint.begin().unwrap();
    drop(served);
    let _served = Served::at(address, server(over(&path), false));
    let error = endpoint.digest(&plan, &[Range::ALL], 2).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Retry, "SESSION_EXPIRED"), "{error}");
    assert_eq!(endpoint.digest(&plan, &[Range::ALL], 2).unwrap(), digest);
}

/// A certificate for this machine and its key; none where there is no openssl.
fn certificate(directory: &Path) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=test", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out"])
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output();
    match made {
        Ok(made) => {
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            Some((cert, key))
        }
        Err(_) => {
            eprintln!("skipped: openssl is not installed");
            None
        }
    }
}

#[test]
fn tls_is_spoken_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let Some((cert, key)) = certificate(directory.path()) else { return };
    let path = customers(directory.path(), "a.db", 300);
    let tls = Tls::from_files(&cert, &key).unwrap();
    let tokens = Tokens::read(TOKENS).unwrap();
    let server = server(over(&path), false).tls(Some(tls)).tokens(Some(tokens));
    let served = Served::start(server);
    let port = served.address.port();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{port}?ca={}", cert.display());
        let mut endpoint = HttpEndpoint::open(&url, Access::Read, &login("test")).unwrap();
        let plan = plan_of(&mut endpoint);
        let mut rows = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            rows += 1;
            Ok(())
        };
        endpoint.read(&plan, &[Range::ALL], &mut count).unwrap();
        assert_eq!(rows, 300);
        assert!(!endpoint.address().contains("ca="));
    }
    // The system knows nothing of this certificate.
    let untrusted = format!("https://127.0.0.1:{port}");
    let error = HttpEndpoint::open(&untrusted, Access::Read, &login("test")).err().unwrap();
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, "ENDPOINT_TLS_REFUSED"), "{error}");
    let plain = HttpEndpoint::open(&served.url(), Access::Read, &Login::default());
    assert!(plain.is_err(), "nothing is served in the clear");
}
