//! What goes wrong before or beside a row: one sentence each, with what to do.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use syncline::error::Kind;

use super::mariadb::{PASSWORD_IN_URL, USER};
use super::*;

fn not_opened(url: &str) -> Error {
    MysqlEndpoint::open(url, Access::Read).err().unwrap_or_else(|| panic!("{url} opens"))
}

#[test]
fn a_server_that_is_not_reached_is_told_apart() {
    let Some(server) = Server::get() else { return };
    let url = server.database();
    let name = name_in(&url);
    let nobody = url.replace(&server.address().to_string(), "127.0.0.1:1");
    let nowhere = url.replace(&server.address().to_string(), "no-such-host.invalid");
    server.sql("mysql", "CREATE USER stranger IDENTIFIED BY 'x'");
    for (url, kind, code, word) in [
        (server.url(USER, "wrong", name), Kind::Forbidden, "ENDPOINT_LOGIN", USER),
        (server.url("nobody", "x", name), Kind::Forbidden, "ENDPOINT_LOGIN", "nobody"),
        (
            server.url(USER, PASSWORD_IN_URL, "nothing"),
            Kind::Invalid,
            "ENDPOINT_NOT_FOUND",
            "nothing",
        ),
        (server.url("stranger", "x", name), Kind::Forbidden, "ENDPOINT_FORBIDDEN", name),
        (nobody, Kind::Unavailable, "ENDPOINT_UNREACHABLE", "127.0.0.1:1"),
        (
            format!("{nowhere}?sslmode=disable"),
            Kind::Unavailable,
            "ENDPOINT_UNREACHABLE",
            "no-such-host",
        ),
        (format!("{url}?sslmode=maybe"), Kind::Invalid, "MYSQL_URL_INVALID", "sslmode"),
    ] {
        let error = not_opened(&url);
        assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
        assert!(error.message().contains(word) && !error.hint_text().is_empty(), "{error}");
        assert!(!format!("{error:?}").contains("p@ss"), "{error:?}");
    }
    let grant = format!("GRANT SELECT ON `{name}`.*");
    assert!(not_opened(&server.url("stranger", "x", name)).hint_text().contains(&grant));
}

#[test]
fn a_certificate_that_nobody_knows_is_refused() {
    let Some(server) = Server::get() else { return };
    let Some(certificate) = server.certificate() else { return };
    let url = server.database().replace("127.0.0.1", "localhost");
    assert_eq!(not_opened(&format!("{url}?sslmode=verify-full")).code(), "ENDPOINT_UNTRUSTED");
    let trusted = format!("{url}?sslmode=verify-full&sslrootcert={}", certificate.display());
    MysqlEndpoint::open(&trusted, Access::Read).unwrap();
    MysqlEndpoint::open(&format!("{url}?sslmode=require"), Access::Read).unwrap();
}

/// By GRANT: one may not read a table, another may read it but not write.
#[test]
fn rights_that_are_missing_are_named() {
    let Some((server, url, mut owner)) = made(
        "CREATE TABLE open (id int PRIMARY KEY, v int); CREATE TABLE secret (id int PRIMARY KEY, v int)",
    ) else {
        return;
    };
    let name = name_in(&url);
    server.sql(
        name,
        "CREATE USER reader IDENTIFIED BY 'x'; GRANT SELECT ON open TO reader; GRANT INSERT ON secret TO reader",
    );
    let mut reader = MysqlEndpoint::open(&server.url("reader", "x", name), Access::Write).unwrap();
    let secret = plan(&mut owner, "secret");
    let error = reader.read(&secret, &[Range::ALL], &mut |_, _| Ok(())).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Forbidden, "ENDPOINT_FORBIDDEN"));
    let grant = format!("GRANT SELECT ON `{name}`.`secret` TO 'reader'");
    assert!(error.hint_text().contains(&grant), "{error}");
    let open = plan(&mut reader, "open");
    assert_eq!(all(&mut reader, &open), []);
    let one = row(&open, &[Value::Integer(1), Value::Integer(1)]);
    let error = put(&mut reader, &open, &[one]).unwrap_err();
    assert_eq!(error.code(), "ENDPOINT_FORBIDDEN", "{error}");
    assert!(error.hint_text().contains("`open` TO 'reader'"), "{error}");
}

/// Whatever is asked of it, A is not written, for the server would not let it.
#[test]
fn a_side_that_is_only_read_cannot_be_written() {
    let Some((server, url, mut owner)) = made("CREATE TABLE t (id int PRIMARY KEY)") else {
        return;
    };
    let plan = plan(&mut owner, "t");
    let mut reader = MysqlEndpoint::open(&url, Access::Read).unwrap();
    let before = server.dump(name_in(&url));
    let error = put(&mut reader, &plan, &[row(&plan, &[Value::Integer(1)])]).unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden, "{error}");
    let state = [("a".to_owned(), Some("b".to_owned()))];
    let batch = Batch { plan: &plan, puts: &[], deletes: &[], state: &state };
    assert_eq!(reader.apply(&batch).unwrap_err().kind(), Kind::Forbidden);
    reader.create(&["DROP TABLE t".into()]).unwrap_err();
    let rows = |dump: String| dump.lines().filter(|l| !l.starts_with("--")).collect::<String>();
    assert_eq!(rows(server.dump(name_in(&url))), rows(before));
}

#[test]
fn what_nobody_asked_about_is_a_statement_refused() {
    let Some((_, _, mut a)) = made("CREATE TABLE t (id int PRIMARY KEY)") else { return };
    let mut plan = plan(&mut a, "t");
    plan.filter = Some("no_such_column > 3".into());
    let error = a.read(&plan, &[Range::ALL], &mut |_, _| Ok(())).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, "STATEMENT_REFUSED"));
    assert!(error.message().contains("no_such_column"), "{error}");
}

/// A snapshot goes with its connection: what follows must not be read from another one as if nothing were.
#[test]
fn a_lost_connection_ends_its_snapshot_and_no_more() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)";
    let Some((server, url, mut a)) = made(sql) else { return };
    let plan = plan(&mut a, "t");
    a.begin().unwrap();
    assert_eq!(all(&mut a, &plan).len(), 1);
    kill_sessions(server, name_in(&url));
    for _ in 0..2 {
        let error = a.read(&plan, &[Range::ALL], &mut |_, _| Ok(())).unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::Unavailable, "ENDPOINT_LOST"), "{error}");
    }
    a.begin().unwrap();
    assert_eq!(all(&mut a, &plan).len(), 1);
    a.end().unwrap();
    kill_sessions(server, name_in(&url));
    let two = row(&plan, &[Value::Integer(2)]);
    assert_eq!(
        put(&mut a, &plan, std::slice::from_ref(&two)).unwrap_err().kind(),
        Kind::Unavailable
    );
    assert_eq!(put(&mut a, &plan, &[two]).unwrap().inserted, 1);
}

fn kill_sessions(server: &Server, database: &str) {
    let ids = format!(
        "SELECT id FROM information_schema.processlist WHERE db = '{database}' AND user <> 'root'"
    );
    for id in server.sql("mysql", &ids).lines() {
        server.sql("mysql", &format!("KILL {id}"));
    }
}

/// Two transactions that wait for each other: ours ends, which is nobody's fault, and comes through later.
#[test]
fn a_deadlock_is_tried_again() {
    let sql =
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT seq, 0 FROM seq_1_to_50";
    let Some((server, url, mut b)) = made(sql) else { return };
    let plan = plan(&mut b, "t");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut other = runtime.block_on(Conn::from_url(&url)).unwrap();
    let mut run = |sql: &str| runtime.block_on(other.query_drop(sql)).unwrap();
    run("START TRANSACTION");
    run("UPDATE t SET v = 1 WHERE id > 1");
    let puts = [1, 2].map(|id| row(&plan, &[Value::Integer(id), Value::Integer(7)]));
    let refused = std::thread::scope(|scope| {
        let ours = scope.spawn(|| put(&mut b, &plan, &puts));
        let waits = format!(
            "SELECT count(*) FROM information_schema.innodb_trx x JOIN information_schema.processlist p \
             ON p.id = x.trx_mysql_thread_id WHERE p.db = '{}' AND x.trx_state = 'LOCK WAIT'",
            name_in(&url)
        );
        while server.sql("mysql", &waits) == "0\n" {
            assert!(!ours.is_finished(), "it must wait");
        }
        run("UPDATE t SET v = 1 WHERE id = 1");
        ours.join().unwrap().unwrap_err()
    });
    assert_eq!((refused.kind(), refused.code()), (Kind::Retry, "ENDPOINT_BUSY"), "{refused}");
    run("COMMIT");
    assert_eq!(put(&mut b, &plan, &puts).unwrap().updated, 2);
}

#[test]
fn triggers_and_engines_without_transactions_are_told() {
    let sql = "CREATE TABLE quiet (id int PRIMARY KEY); CREATE TABLE old (id int PRIMARY KEY) ENGINE = MyISAM;
        CREATE TABLE loud (id int PRIMARY KEY, v int); CREATE TRIGGER echo BEFORE INSERT ON loud FOR EACH ROW SET NEW.v = 1";
    let Some((_, _, mut b)) = made(sql) else { return };
    let tables = b.tables().unwrap();
    let warnings = b.warnings(&tables).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("loud: triggers") && warnings[0].ends_with("echo"));
    assert!(warnings[1].starts_with("old: MyISAM knows no transactions"));
    // What the trigger makes of a row is not what was asked for.
    let plan = plan(&mut b, "loud");
    refused(put(&mut b, &plan, &[row(&plan, &[Value::Integer(1), Value::Integer(5)])]));
    assert_eq!(all(&mut b, &plan), []);
}
