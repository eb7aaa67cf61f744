//! What a reader of the table must know of the machine.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use crate::table::Latencies;
use crate::{Result, Settings};

/// The `facts` command.
pub fn run(settings: &Settings) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    let memory = proc_field("/proc/meminfo", "MemTotal")?;
    let gib = memory.trim_end_matches(" kB").trim().parse::<f64>()? / (1 << 20) as f64;
    println!("- {cores} cores ({})", proc_field("/proc/cpuinfo", "model name")?);
    println!("- {gib:.0} GiB of memory");
    println!("- one sync (4 KiB appended, then fdatasync): {}", syncs(settings)?.summary());
    println!("- SQLite {}", rusqlite::version());
    Ok(())
}

fn proc_field(path: &str, field: &str) -> Result<String> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.split_once(':'));
    Ok(line.map_or("unknown", |(_, value)| value.trim()).to_owned())
}

fn syncs(settings: &Settings) -> Result<Latencies> {
    let dir = settings.fresh_dir()?;
    let mut file = File::create(dir.path().join("sync"))?;
    let mut latencies = Latencies::default();
    for _ in 0..500 {
        file.write_all(&[1; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        latencies.record(begun.elapsed());
    }
    Ok(latencies)
}
