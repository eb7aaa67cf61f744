//! `serve`: one node, from its configuration to its last answer.
//!
//! ```text
//! listen ─► open databases ─► serve ──┬─ SIGTERM, SIGINT ─────────► drain ─► close ─► 0
//!                                     ├─ the parent is gone ──────► drain ─► close ─► 0
//!                                     └─ a database must stop ────► drain ─► close ─► its code
//! ```
//!
//! It listens before it opens: the lease names the address, and a port that is taken is found
//! before a database is touched. A large copy in memory takes its time to load, and a server that is away is
//! waited for: until all databases
//! are open, a server that has none answers who asks whether the process lives.

use std::io::IsTerminal;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::arguments::{LogFormat, Serve};
use super::configure;
use super::exit::{Exit, Failure, Outcome};
use super::supervisor;
use crate::api::{HttpLimits, Server, record_metrics};
use crate::config::{Address, Config, Flag};
use crate::engine::{BackingPlace, Database, DatabaseOptions};
use crate::error::{Error, Kind};

/// A node that must stop answers that long with the reason: who wrote meanwhile is told, not cut off.
/// A server that has nothing to serve yet gives no longer to whoever is slow.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long until a backing database that was away is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Runs a node until it is told to end, or must.
pub fn run(arguments: &Serve) -> Outcome {
    log_to_stderr(arguments.log_format);
    let config = configure::load(arguments.config.as_deref(), flags(arguments))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(node(&config, arguments));
    // A blocked thread (a reader of standard input) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn flags(arguments: &Serve) -> Vec<Flag> {
    let data_dir = arguments.data_dir.as_ref().map(|dir| dir.display().to_string());
    [
        ("--data-dir", "node.data_dir", data_dir),
        ("--listen", "node.listen", arguments.listen.clone()),
        ("--admin-listen", "node.admin_listen", arguments.admin_listen.clone()),
        ("--peer-listen", "node.peer_listen", arguments.peer_listen.clone()),
    ]
    .into_iter()
    .filter_map(|(flag, key, value)| Some(Flag { flag, key, value: value? }))
    .collect()
}

pub(super) fn log_to_stderr(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("SYNCLINE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

async fn node(config: &Config, arguments: &Serve) -> Outcome {
    record_metrics();
    let listen = bind(&config.node.listen, "--listen").await?;
    let admin = bind(&config.node.admin_listen, "--admin-listen").await?;
    let advertise = match &config.node.advertise {
        Some(url) => url.clone(),
        None => format!("http://{}", listen.local_addr()?),
    };
    let opening = Opening::answers(config, &advertise, (&listen, &admin))?;
    // From before anyone hears of this node, so that no signal finds it deaf.
    let mut signals = Signals::listen()?;
    let databases = tokio::select! {
        opened = open(config, &advertise, arguments.take_over) => opened?,
        end = signals.end() => {
            supervisor::stopping();
            tracing::info!("draining: {end}, before the databases were open");
            return Ok(Exit::Yes);
        }
    };
    opening.ends().await;
    let served = (listen, admin, signals);
    let outcome = serve(config, &advertise, served, &databases, arguments).await;
    tokio::task::spawn_blocking(move || databases.iter().for_each(Database::close))
        .await
        .map_err(|e| Failure::new(Exit::Storage, "CLOSE_FAILED", &e.to_string(), ""))?;
    outcome
}

pub(super) async fn bind(address: &Address, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind((address.host.as_str(), address.port)).await.map_err(|e| {
        let message = format!("cannot listen on {address}: {e}");
        Failure::new(
            Exit::Usage,
            "LISTEN",
            &message,
            &format!("choose another address with {flag}"),
        )
    })
}

/// Answers while the databases are opened, on the listeners that serve them later.
struct Opening {
    end: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<crate::error::Result<()>>,
}

impl Opening {
    fn answers(
        config: &Config,
        advertise: &str,
        (listen, admin): (&TcpListener, &TcpListener),
    ) -> Result<Opening, Failure> {
        // Whoever sends slowly must not keep the databases waiting.
        let limits = HttpLimits { drain: LAST_WORDS, ..config.limits.http.clone() };
        let server = server(config, advertise).limits(limits).opening();
        let (listen, admin) = (same(listen)?, same(admin)?);
        let (end, asked) = oneshot::channel::<()>();
        let served = tokio::spawn(server.serve(listen, Some(admin), async { drop(asked.await) }));
        Ok(Opening { end, served })
    }

    async fn ends(self) {
        drop(self.end);
        let _ = self.served.await;
    }
}

/// Another handle to a listener: connections wait for whoever accepts them first.
fn same(listener: &TcpListener) -> std::io::Result<TcpListener> {
    use std::os::fd::AsFd;
    let handle = listener.as_fd().try_clone_to_owned()?;
    TcpListener::from_std(std::net::TcpListener::from(handle))
}

/// The server as it is configured, without databases.
fn server(config: &Config, advertise: &str) -> Server {
    Server::new(&config.node.name, advertise)
        .limits(config.limits.http.clone())
        .hosts(config.node.hosts.clone())
        .origins(config.node.origins.clone())
}

/// Opens every database, one after the other, on a thread that may block; the first that fails
/// closes those before it.
async fn open(config: &Config, advertise: &str, take_over: bool) -> Result<Vec<Database>, Failure> {
    let all: Vec<_> =
        config.databases.iter().map(|db| db.options(config, advertise, take_over)).collect();
    let data_dir = config.node.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&data_dir).map_err(|e| data_dir_failed(&data_dir, &e))?;
        let mut opened: Vec<Database> = Vec::new();
        for options in all {
            match open_patiently(&options) {
                Ok(database) => opened.push(database),
                Err(e) => {
                    opened.iter().for_each(Database::close);
                    return Err(Failure::from(e));
                }
            }
        }
        Ok(opened)
    });
    opened.await.map_err(|e| Failure::new(Exit::Storage, "OPEN_FAILED", &e.to_string(), ""))?
}

/// Opens a database. A server that is away, or takes no writes yet, is waited for, as it would be later:
/// machines that start together start in any order.
fn open_patiently(options: &DatabaseOptions) -> crate::error::Result<Database> {
    let mut said = "";
    loop {
        match Database::open(options.clone()) {
            Err(error) if is_waited_for(options, &error) => {
                if said != error.code() {
                    tracing::warn!(database = %options.name, %error, "waiting for the backing database");
                    said = error.code();
                }
                std::thread::sleep(ASK_AGAIN);
            }
            opened => return opened,
        }
    }
}

fn is_waited_for(options: &DatabaseOptions, error: &Error) -> bool {
    matches!(options.backing, BackingPlace::Server(_))
        && error.code().starts_with("BACKING_")
        && matches!(error.kind(), Kind::Unavailable | Kind::Retry)
}

fn data_dir_failed(dir: &std::path::Path, e: &std::io::Error) -> Failure {
    let message = format!("the data directory {} cannot be made: {e}", dir.display());
    Failure::new(
        Exit::Usage,
        "DATA_DIR",
        &message,
        "choose another with --data-dir or node.data_dir",
    )
}

async fn serve(
    config: &Config,
    advertise: &str,
    (listen, admin, mut signals): (TcpListener, TcpListener, Signals),
    databases: &[Database],
    arguments: &Serve,
) -> Outcome {
    let mut server = server(config, advertise);
    for (database, meant) in databases.iter().zip(&config.databases) {
        server = server.database(database.clone())?;
        if meant.default {
            server = server.default_database(&meant.name);
        }
        let role = database.role().as_str();
        tracing::info!("{role} of {} at {}", meant.name, database.position());
    }
    let operators = admin.local_addr()?;
    tracing::info!("node {} serves {advertise}, operators http://{operators}", config.node.name);
    supervisor::ready();
    let (said, why) = oneshot::channel();
    let until_stdin_ends = arguments.until_stdin_ends;
    let shutdown = async {
        let reason = tokio::select! {
            end = signals.end() => Reason::Asked(end),
            () = stdin_ended(until_stdin_ends) => Reason::Asked("the parent is gone"),
            (code, why) = any_stopped(databases) => {
                tokio::time::sleep(LAST_WORDS).await;
                Reason::Must(code, why)
            }
        };
        supervisor::stopping();
        tracing::info!("draining: {}", reason.words());
        let _ = said.send(reason);
        tokio::spawn(async move {
            // Whoever asks twice does not want to wait.
            signals.end().await;
            std::process::exit(Exit::No as i32);
        });
    };
    server.serve(listen, Some(admin), shutdown).await?;
    Ok(match why.await {
        Ok(Reason::Must(code, why)) => {
            eprintln!("error: {why}");
            Exit::from_code(code)
        }
        _ => Exit::Yes,
    })
}

/// Why a node ends.
enum Reason {
    Asked(&'static str),
    Must(u8, String),
}

impl Reason {
    fn words(&self) -> &str {
        match self {
            Reason::Asked(who) => who,
            Reason::Must(_, why) => why,
        }
    }
}

/// The first database that must stop the process.
async fn any_stopped(databases: &[Database]) -> (u8, String) {
    let waits = databases.iter().map(|database| Box::pin(database.stopped()));
    futures_util::future::select_all(waits).await.0
}

/// What may end this process, or ask something of it.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that ends the node.
    pub(super) async fn end(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP: no certificates and no tokens to read again");
                }
            }
        }
    }
}

/// Resolves when standard input ends, which is when the parent does; never, if nobody asked.
async fn stdin_ended(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let read = tokio::task::spawn_blocking(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    });
    let _ = read.await;
}
