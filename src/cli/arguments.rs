//! What may be written on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::compared::duration;
use crate::client::{Client, Endpoint};

/// Keeps SQL tables in step: across processes, servers and datacenters.
///
/// Exit codes: 0 yes or done; 1 no, different, unhealthy; 2 usage, configuration, unreachable;
/// 3 outcome unknown; 4 needs a decision; 5 storage failed (a restart is safe).
#[derive(Debug, Parser)]
#[command(name = "syncline", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows a writer and two readers at work on real data.
    Demo(Demo),
    /// Runs a node.
    Serve(Serve),
    /// Runs SQL on a node.
    Shell(Shell),
    /// Shows how a node and its databases are doing.
    Status(Status),
    /// Asks whether a node is alive, or may be used.
    Health(Health),
    /// Says what a configuration promises, and what each failure costs.
    Explain(Explain),
    /// Checks or shows a configuration.
    Config(Config),
    /// Recounts every row of a copy and compares.
    Verify(Verify),
    /// Shows, replays or discards what a copy could not apply or had to undo.
    Held(Held),
    /// Makes a reader the writer.
    Promote(Promote),
    /// Decides a restore: which side to keep.
    Resolve(Resolve),
    /// Makes a backing database of a PostgreSQL database that has tables already.
    Adopt(Adopt),
    /// Removes every trace of Syncline from a PostgreSQL database. The rows stay.
    Release(Release),
    /// Says whether two databases are equal, and which rows are not.
    Diff(super::diff::Diff),
    /// Makes one database equal to another.
    Sync(super::sync::Sync),
    /// Stands beside a database, so that `diff` and `sync` elsewhere reach it over a thin line.
    Gateway(super::gateway::Gateway),
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// The writer's port; the readers take the next two, administration ten more.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Ends by itself after this time, such as 30s.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Writes nothing after the data is loaded.
    #[arg(long)]
    pub no_traffic: bool,
}

/// Arguments of `serve`.
#[derive(Debug, Args, Default)]
pub struct Serve {
    /// The configuration; without it: one database `main`, a writer on `sqlite:main.db`.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the node keeps its own files.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where clients connect.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where operators connect.
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<String>,
    /// Where other nodes connect (nothing listens there in this version).
    #[arg(long, value_name = "ADDR")]
    pub peer_listen: Option<String>,
    /// How log lines are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Takes the place of a writer that seems alive. It will be fenced.
    #[arg(long)]
    pub take_over: bool,
    /// Ends when standard input does (for a parent that must not leave it behind).
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A node's address.
#[derive(Debug, Args)]
pub struct Node {
    /// The node: http://HOST:PORT, or http://HOST:PORT/DATABASE.
    #[arg(env = "SYNCLINE_URL")]
    pub url: String,
    /// A token, where a proxy in front of the node asks for one.
    #[arg(
        long = "token-from-environment",
        env = "SYNCLINE_TOKEN",
        hide = true,
        hide_env_values = true
    )]
    pub token: Option<String>,
}

impl Node {
    /// A client of this node.
    pub fn client(&self, timeout: Duration) -> Result<Client, crate::client::Failure> {
        Ok(Client::new(Endpoint::parse(&self.url)?, timeout)?.with_token(self.token.clone()))
    }
}

/// Arguments of `shell`.
#[derive(Debug, Args)]
pub struct Shell {
    /// The node.
    #[command(flatten)]
    pub node: Node,
    /// Runs this and ends.
    #[arg(short, long = "command", value_name = "SQL")]
    pub command: Option<String>,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// With a header line.
    Csv,
    /// One JSON object a row and line.
    Json,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The node's admin address.
    #[command(flatten)]
    pub node: Node,
    /// Shows it again every second.
    #[arg(long)]
    pub watch: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `health`.
#[derive(Debug, Args)]
pub struct Health {
    /// The node.
    #[command(flatten)]
    pub node: Node,
    /// Asks whether its databases may be used in this role, too.
    #[arg(long, value_enum)]
    pub role: Option<NodeRole>,
    /// Asks whether their rows are no older than this, too, such as 5s.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_stale: Option<Duration>,
}

/// What a node is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NodeRole {
    /// To write.
    Writer,
    /// To read; other nodes write.
    Reader,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The configuration; without it, what `serve` does without one.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only this database.
    pub database: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct Config {
    /// What to do with it.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Says everything that is wrong with it.
    Check {
        /// The configuration.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Prints it as meant, with where each value came from; secrets are hidden.
    Show {
        /// The configuration.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Which database of a node.
#[derive(Debug, Args)]
pub struct Target {
    /// The node's admin address.
    #[command(flatten)]
    pub node: Node,
    /// The database; may be left out where the node has one, or the URL names it.
    #[arg(long, value_name = "DB")]
    pub database: Option<String>,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Which copy.
    #[command(flatten)]
    pub target: Target,
    /// Makes a commit of rows that were changed behind Syncline's back.
    #[arg(long, conflicts_with = "repair")]
    pub adopt: bool,
    /// Writes the old rows back.
    #[arg(long)]
    pub repair: bool,
}

/// Arguments of `held`.
#[derive(Debug, Args)]
pub struct Held {
    /// What to do.
    #[command(subcommand)]
    pub action: HeldAction,
}

/// What to do with held things.
#[derive(Debug, Subcommand)]
pub enum HeldAction {
    /// Lists them.
    List {
        /// Which copy.
        #[command(flatten)]
        target: Target,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Shows one with its changes.
    Show(HeldOne),
    /// Applies one again, as a new commit at the writer.
    Replay(HeldOne),
    /// Forgets one.
    Discard(HeldOne),
}

/// One held thing.
#[derive(Debug, Args)]
pub struct HeldOne {
    /// Which copy.
    #[command(flatten)]
    pub target: Target,
    /// Its id, as `held list` shows it.
    pub id: i64,
}

/// Arguments of `promote`.
#[derive(Debug, Args)]
pub struct Promote {
    /// Which reader.
    #[command(flatten)]
    pub target: Target,
    /// The node that shall become the writer; must be the one asked.
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// Goes on although acknowledged writes may be lost.
    #[arg(long)]
    pub accept_loss: bool,
}

/// Arguments of `resolve`.
#[derive(Debug, Args)]
pub struct Resolve {
    /// The writer's admin address.
    #[command(flatten)]
    pub target: Target,
    /// Which side to keep.
    #[arg(long, value_enum)]
    pub keep: Side,
}

/// Which side of a restore to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// This node's copy.
    Node,
    /// What lies in the backing database.
    Backing,
}

/// Arguments of `adopt`.
#[derive(Debug, Args)]
pub struct Adopt {
    /// The database: postgres://USER@HOST/DATABASE. One with a password belongs into the environment.
    #[arg(value_name = "POSTGRES", env = "SYNCLINE_BACKING", hide_env_values = true)]
    pub url: String,
    /// Leaves this table as it is; may be given several times.
    #[arg(long, value_name = "TABLE")]
    pub exclude: Vec<String>,
    /// Goes on. Without it, only the plan is printed.
    #[arg(long)]
    pub yes: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// The database: postgres://USER@HOST/DATABASE. One with a password belongs into the environment.
    #[arg(value_name = "POSTGRES", env = "SYNCLINE_BACKING", hide_env_values = true)]
    pub url: String,
    /// Goes on. Without it, only the plan is printed.
    #[arg(long)]
    pub yes: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
