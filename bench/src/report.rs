//! Memory and start-up of the real binary: no baseline, only what is.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::node::Node;
use crate::table::{Row, count, median};
use crate::{Result, Settings, workload};

/// How much.
#[derive(clap::Args)]
pub struct Args {
    /// Rows of the large database and of the large transaction.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
}

/// The `report` command.
pub fn run(settings: &Settings, args: &Args) -> Result<()> {
    idle(settings)?;
    large_transaction(settings, args.rows)?;
    Ok(())
}

fn writer_config(copy: &str) -> String {
    format!(
        "[node]\nname = \"w\"\n[limits]\nschema_statement = \"10m\"\nstatement = \"10m\"\n\
         [databases.main]\ndefault = true\npreset = \"readers\"\nrole = \"writer\"\n\
         backing = \"sqlite:main.db\"\nworking_copy = \"{copy}\"\n"
    )
}

fn reader_config(backing: &Path) -> String {
    format!(
        "[node]\nname = \"r\"\n[databases.main]\ndefault = true\npreset = \"readers\"\n\
         role = \"reader\"\nbacking = \"sqlite:{}\"\nworking_copy = \"memory\"\n",
        backing.display()
    )
}

fn idle(settings: &Settings) -> Result<()> {
    let mut figures = Vec::new();
    for _ in 0..settings.runs {
        let dir = settings.fresh_dir()?;
        let node = Node::start(settings, dir.path(), None)?;
        std::thread::sleep(Duration::from_secs(1));
        figures.push(node.process.memory("VmRSS")?);
        node.process.terminate()?;
    }
    publish(settings, "idle node, resident", format!("{:.1} MiB", median(&figures)), "")
}

/// One transaction of a million rows at a writer with a reader; then both kinds of start on it.
fn large_transaction(settings: &Settings, rows: u64) -> Result<()> {
    let dir = settings.fresh_dir()?;
    let writer_dir = dir.path().join("w");
    let reader_dir = dir.path().join("r");
    std::fs::create_dir_all(&writer_dir)?;
    std::fs::create_dir_all(&reader_dir)?;
    let writer = Node::start(settings, &writer_dir, Some(&writer_config("disk")))?;
    writer.sql(&[workload::CREATE])?;
    let backing = writer_dir.join("main.db");
    let reader = Node::start(settings, &reader_dir, Some(&reader_config(&backing)))?;
    let before = (writer.process.memory("VmHWM")?, reader.process.memory("VmHWM")?);
    let (committed, visible) = insert_at_once(&writer, &reader, rows)?;
    let after = (writer.process.memory("VmHWM")?, reader.process.memory("VmHWM")?);
    let rows_text = count(rows as f64);
    let peak = |what, before, after| {
        let figure = format!("{after:.0} MiB");
        let what = format!("peak memory of a {rows_text}-row transaction, {what}");
        publish(settings, &what, figure, &format!("{before:.0} MiB before"))
    };
    peak("writer (disk)", before.0, after.0)?;
    peak("reader (memory)", before.1, after.1)?;
    let times = format!("{:.2} s, {:.2} s", committed.as_secs_f64(), visible.as_secs_f64());
    publish(settings, &format!("{rows_text}-row transaction: committed, visible"), times, "")?;
    reader.process.terminate()?;
    writer.process.terminate()?;
    starts(settings, &writer_dir, &rows_text)
}

fn insert_at_once(writer: &Node, reader: &Node, rows: u64) -> Result<(Duration, Duration)> {
    let series = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         INSERT INTO bench SELECT i, i % 256, '{}' FROM n",
        workload::BODY
    );
    let started = Instant::now();
    writer.sql(&[&series])?;
    let committed = started.elapsed();
    let all = format!("\"value\":\"{rows}\"");
    while !reader.sql(&["SELECT count(*) FROM bench"])?.contains(&all) {
        if started.elapsed() > Duration::from_secs(120) {
            return Err("the reader never saw the transaction".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((committed, started.elapsed()))
}

/// Opening the database that now has a million rows, and serving.
fn starts(settings: &Settings, dir: &Path, rows: &str) -> Result<()> {
    for copy in ["disk", "memory"] {
        let (mut seconds, mut resident) = (Vec::new(), Vec::new());
        for _ in 0..settings.runs {
            let started = Instant::now();
            let node = Node::start(settings, dir, Some(&writer_config(copy)))?;
            seconds.push(started.elapsed().as_secs_f64());
            resident.push(node.process.memory("VmRSS")?);
            node.process.terminate()?;
        }
        let what = format!("start on {rows} rows, working copy on {copy}");
        let what = what.replace("on memory", "in memory");
        let notes = format!("{:.0} MiB resident", median(&resident));
        publish(settings, &what, format!("{:.3} s", median(&seconds)), &notes)?;
    }
    Ok(())
}

fn publish(settings: &Settings, what: &str, figure: String, notes: &str) -> Result<()> {
    let row = Row {
        what: format!("report: {what}"),
        ours: figure,
        asked: "report".into(),
        notes: notes.into(),
        ..Row::default()
    };
    row.publish(settings)
}
