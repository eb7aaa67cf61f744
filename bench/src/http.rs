//! Over HTTP: durable single-row inserts beside PostgreSQL, point reads beside a constant handler.
//!
//! Both sides pay for their load generator on the same cores: ours is `bench load`, PostgreSQL's is
//! pgbench; both in one process, both over TCP on loopback. Both servers start fresh for each
//! number of clients and stay for its runs, which take turns.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::node::{Node, Process, free_address, wait_for};
use crate::postgres::{DEFAULT, Postgres};
use crate::table::{Row, count, median, per_second};
use crate::{Result, Settings, load, workload};

/// Which measurements to take.
#[derive(clap::Args)]
pub struct Args {
    /// Keep-alive connections.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256])]
    connections: Vec<usize>,
    /// Only inserts, or only reads.
    #[arg(long)]
    only: Option<load::Kind>,
}

const ROWS: u64 = 100_000;

/// The `http` command.
pub fn run(settings: &Settings, args: &Args) -> Result<()> {
    if args.only != Some(load::Kind::Read) {
        for &connections in &args.connections {
            inserts(settings, connections)?;
        }
    }
    // Reads sync nothing: once is enough.
    if args.only != Some(load::Kind::Insert) && settings.delay_us == 0 {
        for &connections in &args.connections {
            point_reads(settings, connections)?;
        }
    }
    Ok(())
}

/// What `bench load` printed.
struct Load {
    rate: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

fn load(
    settings: &Settings,
    address: std::net::SocketAddr,
    connections: usize,
    kind: load::Kind,
) -> Result<Load> {
    let kind = clap::ValueEnum::to_possible_value(&kind).expect("no kind is hidden");
    let output = Command::new(std::env::current_exe()?)
        .args(["load", "--kind", kind.get_name(), "--ids", &ROWS.to_string()])
        .args(["--address", &address.to_string(), "--connections", &connections.to_string()])
        .args(["--for-seconds", &settings.seconds.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let figures: Vec<f64> = text.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    match figures[..] {
        [rate, p50, p99, p999, max] => Ok(Load { rate, p50, p99, p999, max }),
        _ => Err("the load generator failed".into()),
    }
}

/// The run with the median rate: its latencies belong to its rate.
fn typical(mut loads: Vec<Load>) -> Load {
    loads.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    loads.swap_remove((loads.len() - 1) / 2)
}

fn inserts(settings: &Settings, connections: usize) -> Result<()> {
    let dir = settings.fresh_dir()?;
    let node = Node::start(settings, dir.path(), None)?;
    node.sql(&[workload::CREATE])?;
    let postgres = Postgres::start(settings)?;
    postgres.create(DEFAULT)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        ours.push(load(settings, node.address, connections, load::Kind::Insert)?);
        theirs.push(postgres.pgbench(connections, settings.seconds)?);
    }
    let rate = median(&theirs.iter().map(|f| f.rate).collect::<Vec<_>>());
    let latency = median(&theirs.iter().map(|f| f.latency).collect::<Vec<_>>());
    let Load { rate: our_rate, p50, p99, p999, max } = typical(ours);
    let groups = group_size(&node)?;
    node.process.terminate()?;
    let row = Row {
        what: format!("http: inserts, {connections} connections, {}", settings.sync_label()),
        ours: per_second(our_rate),
        baseline: format!("{} PostgreSQL {}", per_second(rate), postgres.version),
        ratio: Some(our_rate / rate),
        asked: "≥ 1.00, goal 1.50".into(),
        notes: format!(
            "{groups}p50 {p50:.2} p99 {p99:.2} p99.9 {p999:.2} max {max:.1} ms; pgbench mean \
             {latency:.2} ms"
        ),
    };
    row.publish(settings)
}

/// The mean group, as the server's own metric has it; nothing if it does not say.
fn group_size(node: &Node) -> Result<String> {
    let metrics = node.metrics()?;
    let sum = |suffix: &str| -> f64 {
        let name = format!("syncline_group_size_{suffix}");
        let lines = metrics.lines().filter(|line| line.starts_with(&name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    match sum("count") {
        groups if groups > 0.0 => Ok(format!("mean group {}; ", count(sum("sum") / groups))),
        _ => Ok(String::new()),
    }
}

fn point_reads(settings: &Settings, connections: usize) -> Result<()> {
    let dir = settings.fresh_dir()?;
    let node = Node::start(settings, dir.path(), None)?;
    let series = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
         INSERT INTO bench SELECT i, i % 256, '{}' FROM n",
        workload::BODY
    );
    node.sql(&[workload::CREATE, &series])?;
    let constant = Constant::start(settings, &node, dir.path())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        ours.push(load(settings, node.address, connections, load::Kind::Read)?);
        theirs.push(load(settings, constant.address, connections, load::Kind::Read)?);
    }
    let (ours, theirs) = (typical(ours), typical(theirs));
    let row = Row {
        what: format!("http: point reads, {connections} connections"),
        ours: per_second(ours.rate),
        baseline: format!("{} constant handler", per_second(theirs.rate)),
        ratio: Some(ours.rate / theirs.rate),
        asked: "≥ 0.50".into(),
        notes: format!(
            "p50 {:.2} p99 {:.2} max {:.1} ms; constant p50 {:.2} p99 {:.2} ms",
            ours.p50, ours.p99, ours.max, theirs.p50, theirs.p99
        ),
    };
    row.publish(settings)
}

/// `bench constant`, answering what the node answers.
struct Constant {
    _process: Process,
    address: std::net::SocketAddr,
}

impl Constant {
    fn start(settings: &Settings, node: &Node, dir: &std::path::Path) -> Result<Self> {
        let body = dir.join("constant.json");
        std::fs::write(&body, crate::node::exchange(node.address, &load::read(node.address, 1))?)?;
        let address = free_address()?;
        let child = Command::new(std::env::current_exe()?)
            .args(["constant", "--listen", &address.to_string(), "--body"])
            .arg(body)
            .current_dir(settings.dir.as_deref().unwrap_or(dir))
            .spawn()?;
        let constant = Constant { _process: Process(child), address };
        wait_for(address, "/health", Duration::from_secs(10))?;
        Ok(constant)
    }
}
