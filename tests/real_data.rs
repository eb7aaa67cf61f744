//! All flights that left New York in 2013 go in over HTTP: 336,776 rows with what real data has
//! (NULLs, text keys, tables without a key, references that do not hold).
//!
//! Two readers follow from the first statement on. All three nodes are killed and started again at
//! random, while the load goes on and while other clients change rows, some of them over the readers. A
//! statement of the load that gets no answer is looked for, and sent again if it is not there: so a row
//! that was acknowledged and lost, or applied twice, shows in the count. Over PostgreSQL the connections are
//! cut all the while as well, after one message more each time. In the end all three must stand at
//! the same position with the same digests, and a recount in another language, from the backing database
//! alone, must give these digests, too.

mod cluster;
#[cfg(feature = "postgres")]
#[path = "support/cutter.rs"]
mod cutter;
#[cfg(feature = "postgres")]
#[path = "support/postgres.rs"]
mod postgres;

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::{Chance, Node, execute};
use serde_json::{Value as Json, json};

/// A table: its name, what stands in parentheses, and what follows them.
const TABLES: [(&str, &str, &str); 5] = [
    ("airlines", "carrier TEXT NOT NULL PRIMARY KEY, name TEXT", "STRICT"),
    (
        "airports",
        "faa TEXT PRIMARY KEY, name TEXT, lat REAL, lon REAL, alt INTEGER, tz INTEGER, dst TEXT, \
         tzone TEXT",
        "WITHOUT ROWID",
    ),
    (
        "planes",
        "tailnum TEXT PRIMARY KEY, year INTEGER, type TEXT, manufacturer TEXT, model TEXT, \
         engines INTEGER, seats INTEGER, speed INTEGER, engine TEXT",
        "",
    ),
    (
        "weather",
        "origin TEXT, year INTEGER, month INTEGER, day INTEGER, hour INTEGER, temp REAL, \
         dewp REAL, humid REAL, wind_dir INTEGER, wind_speed REAL, wind_gust REAL, precip REAL, \
         pressure REAL, visib REAL, time_hour TEXT",
        "",
    ),
    (
        "flights",
        "year INTEGER, month INTEGER, day INTEGER, dep_time INTEGER, sched_dep_time INTEGER, \
         dep_delay INTEGER, arr_time INTEGER, sched_arr_time INTEGER, arr_delay INTEGER, \
         carrier TEXT REFERENCES airlines, flight INTEGER, tailnum TEXT, origin TEXT, dest TEXT, \
         air_time INTEGER, distance INTEGER, hour INTEGER, minute INTEGER, time_hour TEXT",
        "",
    ),
];

const FLIGHTS: usize = 336_776;
const ROWS_A_STATEMENT: usize = 500;
const MOST_KILLS: usize = 12;

#[test]
#[ignore = "takes about a minute: ./test runs it"]
fn real_data_arrives_whole_while_nodes_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let backing = dir.path().join("main.db");
    let url = format!("sqlite:{}", backing.display());
    let nodes = nodes(dir.path(), [&url, &url, &url], ["disk", "memory", "disk"]);
    let position = arrives_whole(nodes, FLIGHTS, |_, _| {});
    recount(&[backing.to_str().unwrap()], &position);
}

#[cfg(feature = "postgres")]
#[test]
#[ignore = "takes about a minute: ./test runs it"]
fn real_data_arrives_whole_in_postgres_while_nodes_are_killed() {
    let Some(server) = postgres::Server::get() else { return };
    let (dir, url) = (tempfile::tempdir().unwrap(), server.database());
    let long = std::env::var_os("SYNCLINE_LONG").is_some();
    let flights = if long { FLIGHTS } else { 40_000 };
    let cutters = [(); 2].map(|()| cutter::Cutter::start(server.address()));
    let [writers, readers] = cutters
        .each_ref()
        .map(|c| url.replace(&server.address().to_string(), &c.address.to_string()));
    let nodes = nodes(dir.path(), [&writers, &readers, &readers], ["memory"; 3]);
    let position =
        arrives_whole(nodes, flights, |busy, written| cut_in_turn(&cutters, busy, written));
    recount(&["--postgres", &url], &position);
}

/// A flag that falls when this goes.
struct Falls<'a>(&'a AtomicBool);

impl Drop for Falls<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Cuts connections after one message more each time, whenever writes have gone on since the last cut, until
/// the load is over.
#[cfg(feature = "postgres")]
fn cut_in_turn(cutters: &[cutter::Cutter], busy: &AtomicBool, written: &AtomicU64) {
    let mut turn = 0;
    while busy.load(Ordering::SeqCst) {
        cutters.iter().for_each(|cutter| cutter.cut_after(turn));
        turn += 1;
        std::thread::sleep(Duration::from_millis(200));
        cutters.iter().for_each(cutter::Cutter::let_pass);
        let before = written.load(Ordering::SeqCst);
        while busy.load(Ordering::SeqCst) && written.load(Ordering::SeqCst) < before + 2 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let cuts: Vec<u64> = cutters.iter().map(cutter::Cutter::cuts).collect();
    eprintln!("{turn} turns, connections cut: {cuts:?}");
    assert!(cuts.iter().all(|cuts| *cuts > 0), "{cuts:?}");
}

/// A writer and two readers.
fn nodes(dir: &Path, backing: [&str; 3], copies: [&str; 3]) -> [Node; 3] {
    let names = [("w", "writer"), ("r1", "reader"), ("r2", "reader")];
    std::array::from_fn(|i| {
        let ((name, role), (backing, copy)) = (names[i], (backing[i], copies[i]));
        let text = format!("role = \"{role}\"\nbacking = {backing:?}\nworking_copy = \"{copy}\"");
        Node::new(dir, name, &text)
    })
}

/// Loads every table, but only so many `flights`, while the nodes are killed and `trouble` is made. The
/// position at which all nodes end equal.
fn arrives_whole(
    mut nodes: [Node; 3],
    flights: usize,
    trouble: impl FnOnce(&AtomicBool, &AtomicU64) + Send,
) -> Json {
    nodes[0].start();
    nodes[0].wait_ready();
    create_tables(nodes[0].listen);
    nodes[1..].iter_mut().for_each(Node::start);
    nodes[1..].iter_mut().for_each(Node::wait_ready);
    let doors = nodes.each_ref().map(|node| node.listen);

    let (loading, busy) = (AtomicBool::new(true), AtomicBool::new(true));
    let written = AtomicU64::new(0);
    let mut chance = Chance::new();
    std::thread::scope(|scope| {
        scope.spawn(|| keep_changing(&doors, &busy, &written));
        scope.spawn(|| trouble(&busy, &written));
        let load = scope.spawn(|| {
            let rows = TABLES.iter().map(|table| load_table(doors[0], table, flights)).collect();
            loading.store(false, Ordering::SeqCst);
            rows
        });
        // What fails must still end the others: the flag falls in any case.
        let falls = Falls(&busy);
        let kills = kill_at_random(&mut nodes, &loading, || load.is_finished(), &mut chance);
        drop(falls);
        let rows: Vec<usize> = load.join().expect("the whole load is answered");
        assert_eq!(rows.last(), Some(&flights));
        assert!(kills >= 2, "only {kills} kills: the load was too short to show anything");
        eprintln!("{kills} kills, {} other writes", written.load(Ordering::SeqCst));
    });

    nodes.iter_mut().for_each(Node::wait_ready);
    let position = agreed_position(&nodes);
    let rows = position.pointer("/tables/flights/rows").cloned();
    assert_eq!(rows, Some(json!(flights.to_string())), "{position}");
    position
}

fn create_tables(writer: SocketAddr) {
    for (table, columns, options) in TABLES {
        execute(writer, &format!("CREATE TABLE {table} ({columns}) {options}"), &[]).unwrap();
    }
    execute(writer, "CREATE TABLE log (n INTEGER PRIMARY KEY, what TEXT, at REAL)", &[]).unwrap();
    execute(writer, "CREATE INDEX flights_tailnum ON flights (tailnum)", &[]).unwrap();
}

/// Sends a table's rows, at most so many, and many a statement; how many there were.
fn load_table(writer: SocketAddr, (table, columns, _): &(&str, &str, &str), most: usize) -> usize {
    let kinds: Vec<&str> = columns.split(", ").map(kind).collect();
    let row = format!("({})", vec!["?"; kinds.len()].join(", "));
    let (mut args, mut rows, mut there) = (Vec::new(), 0, 0);
    let mut send = |args: &mut Vec<Json>| {
        let count = args.len() / kinds.len();
        let values = vec![row.as_str(); count].join(", ");
        insist(writer, table, &format!("INSERT INTO {table} VALUES {values}"), args, there, count);
        there += count;
        args.clear();
    };
    for record in csv::Reader::from_reader(&file(table)[..]).records().take(most) {
        let record = record.unwrap();
        args.extend(record.iter().zip(&kinds).map(|(text, kind)| argument(text, kind)));
        rows += 1;
        if rows % ROWS_A_STATEMENT == 0 {
            send(&mut args);
        }
    }
    if !args.is_empty() {
        send(&mut args);
    }
    rows
}

/// Inserts so many rows behind those that are there, once, whatever happens to the writer.
fn insist(writer: SocketAddr, table: &str, sql: &str, args: &[Json], there: usize, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = execute(writer, sql, args) {
        // It may be there all the same: nothing is sent again before the writer has said. A write finds out.
        let rows = loop {
            assert!(Instant::now() < deadline, "{table}: {error}");
            std::thread::sleep(Duration::from_millis(20));
            if execute(writer, "INSERT INTO log (what) VALUES ('and now?')", &[]).is_err() {
                continue;
            }
            let answer = execute(writer, &format!("SELECT count(*) FROM {table}"), &[]);
            let rows = answer.ok().and_then(|answer| rows_in(&answer));
            if let Some(rows) = rows {
                break rows;
            }
        };
        if rows == there + count {
            return;
        }
        assert_eq!(rows, there, "{table}: {error}");
    }
}

fn rows_in(answer: &Json) -> Option<usize> {
    answer.pointer("/rows/0/0/value")?.as_str()?.parse().ok()
}

/// The type of a column as declared.
fn kind(column: &str) -> &str {
    column.split_whitespace().nth(1).expect("each column has a type")
}

fn file(table: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/{table}.csv.gz"));
    let mut bytes = Vec::new();
    let packed = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    bytes
}

fn argument(text: &str, kind: &str) -> Json {
    match (text, kind) {
        ("NA", _) => json!({"type": "null"}),
        (_, "INTEGER") => json!({"type": "integer", "value": text}),
        (_, "REAL") => json!({"type": "float", "value": text.parse::<f64>().unwrap()}),
        _ => json!({"type": "text", "value": text}),
    }
}

/// Changes rows over all three nodes, in turn. A node may be down, and a write over it then has
/// no answer; a write that is answered is counted.
fn keep_changing(doors: &[SocketAddr], busy: &AtomicBool, written: &AtomicU64) {
    const CHANGES: [&str; 4] = [
        "INSERT INTO log (what, at) VALUES (hex(randomblob(12)), julianday('now'))",
        "UPDATE flights SET dep_delay = coalesce(dep_delay, 0) + 1 WHERE rowid = \
         (SELECT abs(random()) % max(rowid) + 1 FROM flights)",
        "UPDATE weather SET temp = temp + 0.1, wind_gust = NULL WHERE rowid % 997 = \
         (SELECT count(*) % 997 FROM log)",
        "DELETE FROM log WHERE n % 7 = 3",
    ];
    let mut turn = 0;
    while busy.load(Ordering::SeqCst) {
        let answer = execute(doors[turn % doors.len()], CHANGES[turn % CHANGES.len()], &[]);
        written.fetch_add(answer.is_ok().into(), Ordering::SeqCst);
        turn += 1;
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Kills one node after the other until the load is over; how often.
fn kill_at_random(
    nodes: &mut [Node; 3],
    loading: &AtomicBool,
    over: impl Fn() -> bool,
    chance: &mut Chance,
) -> usize {
    let mut kills = 0;
    while loading.load(Ordering::SeqCst) && !over() {
        // Each start loads a copy anew: more of them and the load would never end.
        if kills == MOST_KILLS {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        let whom = [0, 1, 1, 2, 2][chance.below(5) as usize];
        let victim = &mut nodes[whom];
        victim.kill();
        kills += 1;
        std::thread::sleep(Duration::from_millis(chance.below(500)));
        victim.start();
        // Sometimes a reader is killed again while it still loads its first copy or catches up.
        if whom == 0 {
            victim.wait_ready();
        }
        std::thread::sleep(Duration::from_millis(100 + chance.below(5000)));
    }
    kills
}

/// The one position of all three, once nothing changes any more.
fn agreed_position([writer, readers @ ..]: &[Node; 3]) -> Json {
    let expected = stripped(writer.position().unwrap());
    let deadline = Instant::now() + Duration::from_secs(60);
    for reader in readers {
        loop {
            let seen = reader.position().map(stripped);
            if seen.as_ref() == Ok(&expected) {
                break;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "writer {expected}\nreader {seen:?}\n{}", reader.logged());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    expected
}

/// Without what may differ: when a copy last recounted itself.
fn stripped(mut position: Json) -> Json {
    position.as_object_mut().expect("a position is an object").remove("verified");
    position
}

/// Recounts the backing database in Python, where that is there with its hash.
fn recount(backing: &[&str], position: &Json) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var("SYNCLINE_PYTHON").unwrap_or_else(|_| "python3".into());
    let able = Command::new(&python).args(["-c", "import xxhash"]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: the recount, since {python} has no module xxhash");
        return;
    }
    let output = Command::new(&python).arg(root.join("tests/recount.py")).args(backing).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let recounted: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(recounted["digest"], position["digest"], "{recounted}");
    for (table, theirs) in position["tables"].as_object().unwrap() {
        assert_eq!(recounted["tables"][table]["digest"], theirs["digest"], "{table}");
    }
}
