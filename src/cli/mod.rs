//! The command line: one module for each command, each with one `run` that gives an exit.
//!
//! ```text
//! serve      a node                      status, health      how it is doing
//! shell      SQL                         held, resolve, verify, promote      operators' decisions
//! config     what a file means           explain             what it promises, what failures cost
//! demo       a writer and two readers    adopt, release      a PostgreSQL database that has tables
//! diff       are two databases equal     sync                make one equal to another
//! gateway    a database for diff and sync elsewhere
//! ```
//!
//! Exit codes are for scripts and the same everywhere: see [`Exit`]. What a command prints on
//! standard output is its answer; everything else goes to standard error.

mod admin;
mod adopt;
mod arguments;
mod compared;
mod configure;
mod demo;
mod diff;
mod exit;
mod explain;
mod gateway;
mod held;
mod output;
mod reference;
mod serve;
mod service;
mod shell;
mod status;
mod supervisor;
mod sync;

use std::future::Future;

pub use arguments::{Cli, Command};
pub use exit::{Exit, Failure, Outcome};
pub use reference::reference;

/// Runs a command to its end.
pub fn run(command: Command) -> Outcome {
    match command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Shell(arguments) => shell::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Health(arguments) => status::health(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Config(arguments) => configure::run(&arguments),
        Command::Verify(arguments) => admin::verify(&arguments),
        Command::Held(arguments) => held::run(&arguments),
        Command::Promote(arguments) => admin::promote(&arguments),
        Command::Resolve(arguments) => admin::resolve(&arguments),
        Command::Adopt(arguments) => adopt::adopt(&arguments),
        Command::Release(arguments) => adopt::release(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Sync(arguments) => sync::run(&arguments),
        Command::Gateway(arguments) => gateway::run(&arguments),
    }
}

/// How many syncs a file for `sync -c` holds, if it is right.
pub fn check_sync_file(file: &std::path::Path) -> crate::error::Result<usize> {
    service::count(file)
}

/// Runs a client's future on this thread.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
