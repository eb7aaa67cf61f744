//! The `syncline` program: see `syncline help`.

use std::process::ExitCode;

use clap::Parser;
use syncline::cli::{self, Cli, Failure};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::run(cli.command).unwrap_or_else(Failure::report).into()
}
