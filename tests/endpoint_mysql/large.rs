//! Rows that are too large, and tables that are too long for memory.

use std::process::Command;

use syncline::error::Error;

use super::*;

/// A row of 50 MB against a limit of 16 MB: refused unsent, so that the connection stays, and all else arrives.
#[test]
fn a_row_above_the_limit_is_refused_and_the_rest_arrives() {
    let Some((server, url, mut b)) = made("CREATE TABLE t (id int PRIMARY KEY, v longtext)") else {
        return;
    };
    assert_eq!(server.sql("mysql", "SELECT @@max_allowed_packet"), "16777216\n");
    let plan = plan(&mut b, "t");
    let of = |id, megabytes: usize| {
        row(&plan, &[Value::Integer(id), text(&"x".repeat(megabytes << 20))])
    };
    let large = of(2, 50);
    let session = "SELECT count(*) FROM information_schema.processlist WHERE user = 'syncline' AND db = database()";
    let sessions = server.sql(name_in(&url), session);
    let error = refused(put(&mut b, &plan, &[of(1, 1), large.clone()]));
    assert!(error.message().contains("max_allowed_packet"), "{error}");
    assert_eq!(server.sql(name_in(&url), session), sessions);
    assert_eq!(all(&mut b, &plan), []);
    // Together they are above it, one by one they are not.
    let rest: Vec<_> = (3..9).map(|id| of(id, 5)).collect();
    assert_eq!(put(&mut b, &plan, &rest).unwrap().inserted, 6);
    assert_eq!(put(&mut b, &plan, &rest).unwrap().equal, 6);
    let error = refused(put(
        &mut b,
        &plan,
        &[(rest[0].0.clone(), row(&plan, &[Value::Integer(3), text(&"y".repeat(50 << 20))]).1)],
    ));
    assert!(error.message().contains("max_allowed_packet"), "{error}");
    assert_eq!(all(&mut b, &plan), rest);
}

/// An administrator may lower the limit below what rows have: they are read all the same.
#[test]
fn rows_above_the_limit_are_read() {
    let Some(server) = Server::own() else { return };
    let url = server.database();
    server.sql("mysql", "SET GLOBAL max_allowed_packet = 67108864");
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v longtext); INSERT INTO t VALUES (1, repeat('x', 40000000))";
    server.sql(name_in(&url), sql);
    server.sql("mysql", "SET GLOBAL max_allowed_packet = 1048576");
    let mut a = MysqlEndpoint::open(&url, Access::Read).unwrap();
    let plan = plan(&mut a, "t");
    assert_eq!(all(&mut a, &plan)[0].1.len(), 40_000_000 + 7);
}

/// More than lies in the buffers of a connection, and a million rows.
const MANY: &str = "seq_1_to_200000";
const MILLION: &str = "seq_1_to_1000000";
const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, a varchar(60), b double, c bigint, d varbinary(20));
    INSERT INTO t SELECT seq, concat('some text of row ', seq), seq / 7, -seq, repeat('z', seq % 20) FROM ";

/// Set for the process that scans: the database.
const SCAN: &str = "SYNCLINE_TEST_SCAN";

/// A million rows, in a process of its own, whose memory nobody else uses.
#[test]
fn a_million_rows_are_read_in_little_memory() {
    let Some((_, url, _)) = made(&format!("{ROWS}{MILLION}")) else { return };
    let name = "large::a_million_rows_are_scanned";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored"])
        .env(SCAN, &url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by a_million_rows_are_read_in_little_memory"]
fn a_million_rows_are_scanned() {
    // Nobody's child: all tests are run that take longer.
    let Ok(url) = std::env::var(SCAN) else { return };
    let mut a = MysqlEndpoint::open(&url, Access::Read).unwrap();
    let plan = plan(&mut a, "t");
    let before = peak();
    let chunks = a.digest(&plan, &[Range::ALL], 64).unwrap();
    assert_eq!(chunks[0][0].rows, 1_000_000);
    // All rows are about 70 MB; the leaves take 8.
    let grown = peak() - before;
    assert!(grown < 40_000, "{grown} kB");
}

/// The most memory that this process ever had, in kB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A reader that has seen enough keeps its snapshot, and the server stops sending.
#[test]
fn a_result_that_is_not_wanted_any_more_is_ended() {
    let Some((server, url, mut a)) = made(&format!("{ROWS}{MANY}")) else { return };
    let plan = plan(&mut a, "t");
    a.begin().unwrap();
    let mut seen = 0;
    let enough = a.read(&plan, &[Range::ALL], &mut |_, _| {
        seen += 1;
        match seen {
            5 => Err(Error::retry("ENOUGH", "")),
            _ => Ok(()),
        }
    });
    assert_eq!((enough.unwrap_err().code(), seen), ("ENOUGH", 5));
    let sending = "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id() AND command <> 'Sleep'";
    assert_eq!(server.sql(name_in(&url), sending), "0\n");
    server.sql(name_in(&url), "DELETE FROM t WHERE id > 10");
    let ends = [row(&plan, &vec![Value::Integer(200_000); 5]).0];
    let mut found = 0;
    a.rows(&plan, &ends, &mut |_, _| {
        found += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(found, 1, "the snapshot is the one that was begun");
    a.end().unwrap();
    assert_eq!(all(&mut a, &plan).len(), 10);
}
