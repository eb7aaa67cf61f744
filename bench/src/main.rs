//! The benchmarks: every figure is a ratio to a named baseline that is measured in the same run.
//!
//! | command | ours | baseline |
//! | --- | --- | --- |
//! | `engine` | concurrent sessions in this process | a dumb group committer on plain SQLite; a plain loop |
//! | `http` | `syncline serve` under keep-alive connections | PostgreSQL under pgbench; a constant handler |
//! | `read` | a point read through the library | a prepared rusqlite statement |
//! | `apply` | a reader with a backlog of commits of one row, and of a thousand | plain SQLite in transactions of 1,000 rows |
//! | `postgres` | a writer and a reader over PostgreSQL | plain tokio-postgres; `COPY … TO STDOUT` |
//! | `sync` | `diff` and `sync` of two databases | sqldiff, EXCEPT both ways, COPY |
//! | `visible` | from the writer's answer to visible at a reader | (none: absolute) |
//! | `report` | memory and start-up of the real binary | (none: absolute) |
//!
//! A figure is the median of several runs, ours and the baseline's taken in turn, so that a machine
//! that slows down slows both. Every durable figure is taken natively and again with a delay added
//! to each sync: `--delay-us` runs the same command under the preload shim of the tests, with all
//! processes that it starts, PostgreSQL among them.
//!
//! The other commands (`load`, `constant`, `reader`) are the parts that run in processes of their
//! own.
//!
//! Left out: several machines, and any figure without its baseline's beside it.

/// As in the program that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod apply;
mod backed;
mod backed_reader;
mod block;
mod constant;
mod engine;
mod facts;
mod grouped;
mod groups;
mod http;
mod load;
mod node;
mod paced;
mod plain;
mod postgres;
mod read;
mod reader;
mod report;
mod served;
mod sync;
mod table;
mod visible;
mod workload;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Errors of a benchmark are for a person to read.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(name = "bench", about = "Syncline's benchmarks, each beside its baseline")]
struct Args {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Bench,
}

/// How to measure.
#[derive(clap::Args, Clone)]
struct Settings {
    /// Append the rows of the table to this file, too.
    #[arg(long, global = true)]
    out: Option<PathBuf>,
    /// Databases lie below this directory; it must be on a real disk.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// How often each figure is taken; the median counts.
    #[arg(long, global = true, default_value_t = 5)]
    runs: usize,
    /// Seconds of one measurement.
    #[arg(long, global = true, default_value_t = 3.0)]
    seconds: f64,
    /// The server's binary.
    #[arg(long, global = true, default_value = "target/release/syncline")]
    syncline: PathBuf,
    /// Added to each sync, by the preload shim.
    #[arg(long, global = true, default_value_t = 0)]
    delay_us: u64,
    /// The preload shim (`tests/shim/build` prints its path).
    #[arg(long, global = true, default_value = "target/shim/sync_shim.so")]
    shim: PathBuf,
}

impl Settings {
    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// A fresh directory for one measurement.
    fn fresh_dir(&self) -> Result<tempfile::TempDir> {
        let dir = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        Ok(tempfile::Builder::new().prefix("syncline-bench").tempdir_in(dir)?)
    }

    /// What the syncs of this run cost, for the table.
    fn sync_label(&self) -> String {
        match self.delay_us {
            0 => "native".into(),
            us => format!("+ {} ms", us as f64 / 1000.0),
        }
    }
}

#[derive(Subcommand)]
enum Bench {
    /// Concurrent durable single-row writers in this process.
    Engine(engine::Args),
    /// Durable single-row inserts and point reads over HTTP.
    Http(http::Args),
    /// Point reads through the library.
    Read,
    /// How fast a reader works off a backlog.
    Apply(apply::Args),
    /// How soon a write shows at a reader.
    Visible,
    /// A writer and a reader over PostgreSQL.
    Postgres(backed::Args),
    /// Comparing and syncing two databases.
    Sync(sync::Args),
    /// Memory and start-up.
    Report(report::Args),
    /// Machine facts, for the head of the table.
    Facts,
    /// Part: sends requests over keep-alive connections and counts the answers.
    Load(load::Args),
    /// Part: answers every pipeline with the same bytes.
    Constant(constant::Args),
    /// Part: follows a database and notes when it saw what.
    Reader(reader::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let under_shim = std::env::var_os("SHIM_DELAY_US").is_some();
    let outcome = if args.settings.delay_us > 0 && !under_shim {
        run_again_under_shim(&args.settings)
    } else {
        run(&args.settings, args.command)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings, command: Bench) -> Result<()> {
    match command {
        Bench::Engine(args) => engine::run(settings, &args),
        Bench::Http(args) => http::run(settings, &args),
        Bench::Read => read::run(settings),
        Bench::Apply(args) => apply::run(settings, &args),
        Bench::Visible => visible::run(settings),
        Bench::Postgres(args) => backed::run(settings, &args),
        Bench::Sync(args) => sync::run(settings, &args),
        Bench::Report(args) => report::run(settings, &args),
        Bench::Facts => facts::run(settings),
        Bench::Load(args) => load::run(&args),
        Bench::Constant(args) => constant::run(&args),
        Bench::Reader(args) => reader::run(&args),
    }
}

/// Replaces this process by the same command with the shim preloaded.
fn run_again_under_shim(settings: &Settings) -> Result<()> {
    let shim = settings.shim.canonicalize().map_err(|e| format!("{:?}: {e}", settings.shim))?;
    let error = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("LD_PRELOAD", shim)
        .env("SHIM_DELAY_US", settings.delay_us.to_string())
        .exec();
    Err(error.into())
}
