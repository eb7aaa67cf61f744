//! `diff` and `sync` by the real binary, beside what others do for the same.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rusqlite::Connection;

use crate::postgres::Postgres;
use crate::table::{Row, median};
use crate::{Result, Settings};

/// Arguments of `sync`.
#[derive(clap::Args, Clone)]
pub struct Args {
    /// Rows of the table.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Rows that differ.
    #[arg(long, default_value_t = 100)]
    differences: u64,
}

/// Five columns: a key, two numbers, two texts.
fn table(rows: u64) -> String {
    format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER, amount REAL, name TEXT, note TEXT); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         INSERT INTO t SELECT i, i * 7, i / 4.0, 'name of ' || i, 'something that is said of row ' || (i % 977) FROM n"
    )
}

/// The `sync` command.
pub fn run(settings: &Settings, args: &Args) -> Result<()> {
    let dir = settings.fresh_dir()?;
    let (a, b) = (dir.path().join("a.db"), dir.path().join("b.db"));
    Connection::open(&a)?.execute_batch(&table(args.rows))?;
    std::fs::copy(&a, &b)?;
    equal(settings, args, &a, &b)?;
    through_gateway(settings, args, &a, &b, 0)?;
    let step = args.rows / args.differences.max(1);
    Connection::open(&b)?.execute_batch(&format!(
        "UPDATE t SET amount = amount + 1 WHERE id % {step} = {step} / 2"
    ))?;
    different(settings, args, &a, &b)?;
    through_gateway(settings, args, &a, &b, args.differences)?;
    servers(settings, args, &a)
}

/// A gateway; dropping it ends it.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What crosses the line if one side stands behind a gateway; it is the same in every run.
fn through_gateway(
    settings: &Settings,
    args: &Args,
    a: &Path,
    b: &Path,
    differences: u64,
) -> Result<()> {
    let mut gateway = Command::new(&settings.syncline);
    gateway.args(["gateway", text(b), "--listen", "127.0.0.1:0"]).stdin(Stdio::null());
    let mut gateway = Gateway(gateway.stderr(Stdio::piped()).spawn()?);
    let said = gateway.0.stderr.take().map(BufReader::new).ok_or("it says nothing")?;
    let mut lines = said.lines().map_while(std::result::Result::ok);
    let url = lines.find_map(|line| Some(line.split_once(" at ")?.1.trim().to_owned()));
    let url = url.ok_or("the gateway does not say where it listens")?;
    let mut diff = Command::new(&settings.syncline);
    let output = diff.args(["diff", text(a), &url, "--json", "--rows", "0"]).output()?;
    let out = String::from_utf8(output.stdout)?;
    let summary: serde_json::Value = serde_json::from_str(out.lines().last().unwrap_or_default())?;
    let (bytes, trips) = (summary["bytes"].as_u64(), summary["round_trips"].as_u64());
    let (bytes, trips) = bytes.zip(trips).ok_or("the summary has no traffic")?;
    let row = Row {
        what: format!("diff through a gateway, {} rows, {differences} differ", args.rows),
        ours: format!("{bytes} bytes"),
        asked: if differences == 0 { "< 4,096" } else { "< 131,072" }.into(),
        notes: format!("{trips} round trips"),
        ..Row::default()
    };
    row.publish(settings)
}

/// Runs a program to its end: seconds, and the most memory it had in MiB.
fn timed(command: &mut Command, expected: i32) -> Result<(f64, f64)> {
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let (mut status, mut usage) = (0, unsafe_zeroed());
    // SAFETY: the child is ours and was not waited for; both places live until the call returns.
    let waited = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    let code = libc::WEXITSTATUS(status);
    if waited < 0 || code != expected {
        return Err(format!("{command:?} ended with {code}, not {expected}").into());
    }
    Ok((started.elapsed().as_secs_f64(), usage.ru_maxrss as f64 / 1024.0))
}

fn unsafe_zeroed() -> libc::rusage {
    // SAFETY: plain numbers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

fn diff(settings: &Settings, a: &str, b: &str, expected: i32) -> Result<(f64, f64)> {
    timed(Command::new(&settings.syncline).args(["diff", a, b, "--json", "--rows", "0"]), expected)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn equal(settings: &Settings, args: &Args, a: &Path, b: &Path) -> Result<()> {
    let (mut ours, mut scan) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        ours.push(diff(settings, text(a), text(b), 0)?.0);
        scan.push(plain_scan(a)?);
    }
    let (ours, scan) = (median(&ours), median(&scan));
    let row = Row {
        what: format!("diff: SQLite–SQLite, {} rows, equal", args.rows),
        ours: format!("{ours:.2} s"),
        baseline: format!("{scan:.2} s one full scan"),
        ratio: Some(ours / scan),
        ..Row::default()
    };
    row.publish(settings)
}

fn plain_scan(file: &Path) -> Result<f64> {
    let db = Connection::open(file)?;
    let started = Instant::now();
    let mut select = db.prepare("SELECT * FROM t")?;
    let mut rows = select.query([])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        bytes += row.get_ref(3)?.as_str()?.len();
    }
    assert!(bytes > 0);
    Ok(started.elapsed().as_secs_f64())
}

fn different(settings: &Settings, args: &Args, a: &Path, b: &Path) -> Result<()> {
    let (mut ours, mut memory) = (Vec::new(), Vec::new());
    let (mut except, mut sqldiff) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        let (seconds, most) = diff(settings, text(a), text(b), 1)?;
        ours.push(seconds);
        memory.push(most);
        except.push(except_both_ways(a, b)?);
        let mut other = Command::new("sqldiff");
        if let Ok((seconds, _)) = timed(other.args(["--primarykey", text(a), text(b)]), 0) {
            sqldiff.push(seconds);
        }
    }
    let ours = median(&ours);
    let mut baselines = vec![("EXCEPT both ways", median(&except), "≤ 0.33")];
    if !sqldiff.is_empty() {
        baselines.push(("sqldiff --primarykey", median(&sqldiff), "< 1"));
    }
    for (name, seconds, asked) in baselines {
        let row = Row {
            what: format!("diff: SQLite–SQLite, {} rows, {} differ", args.rows, args.differences),
            ours: format!("{ours:.2} s"),
            baseline: format!("{seconds:.2} s {name}"),
            ratio: Some(ours / seconds),
            asked: asked.into(),
            notes: format!(
                "peak {:.0} MiB; what differs is looked at again 0.05 s after the first look",
                median(&memory)
            ),
        };
        row.publish(settings)?;
    }
    Ok(())
}

fn except_both_ways(a: &Path, b: &Path) -> Result<f64> {
    let db = Connection::open(a)?;
    db.execute("ATTACH ? AS other", [text(b)])?;
    let started = Instant::now();
    for (one, other) in [("main", "other"), ("other", "main")] {
        let sql =
            format!("SELECT count(*) FROM (SELECT * FROM {one}.t EXCEPT SELECT * FROM {other}.t)");
        db.query_row(&sql, [], |row| row.get::<_, i64>(0))?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Into an empty table, and two full ones compared, beside COPY.
fn servers(settings: &Settings, args: &Args, a: &Path) -> Result<()> {
    let postgres = Postgres::start(settings)?;
    let (mut load, mut copy_in, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let (mut compare, mut copy_out) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        let (ours, plain) = (postgres.database()?, postgres.database()?);
        let mut sync = Command::new(&settings.syncline);
        let (seconds, most) = timed(sync.args(["sync", text(a), &ours, "--create", "--json"]), 0)?;
        load.push(seconds);
        memory.push(most);
        copy_in.push(postgres.copied(&ours, &plain)?);
        let (seconds, most) = diff(settings, &ours, &plain, 0)?;
        compare.push(seconds);
        memory.push(most);
        copy_out.push(postgres.copied_out(&[&ours, &plain])?);
    }
    let most = memory.iter().copied().fold(0.0, f64::max);
    let rows = [
        ("sync: SQLite to PostgreSQL, an empty table", &load, &copy_in, "COPY FROM STDIN", "≤ 2"),
        (
            "diff: PostgreSQL–PostgreSQL, equal",
            &compare,
            &copy_out,
            "COPY TO STDOUT of both at once",
            "report",
        ),
    ];
    for (what, ours, base, name, asked) in rows {
        let (ours, base) = (median(ours), median(base));
        let row = Row {
            what: format!("{what}, {} rows", args.rows),
            ours: format!("{ours:.2} s"),
            baseline: format!("{base:.2} s {name}"),
            ratio: Some(ours / base),
            asked: asked.into(),
            notes: format!("peak {most:.0} MiB; a sync proves at its end that B equals A"),
        };
        row.publish(settings)?;
    }
    Ok(())
}
