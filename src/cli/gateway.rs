//! `gateway`: one database, served to `diff` and `sync` elsewhere.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::arguments::LogFormat;
use super::configure;
use super::exit::{Exit, Failure, Outcome};
use super::serve::{Signals, bind, log_to_stderr};
use crate::api::{Gateway as Served, HttpLimits, Opener, Server, Tls, Tokens};
use crate::config::{self, Auth, Config, Flag, Origin};
use crate::endpoint::open::open;
use crate::endpoint::sqlite::Access;
use crate::error::Result;

/// The largest request, unless `limits.request` says otherwise: a batch of rows, or one large row.
const REQUEST: usize = 64 << 20;

/// Arguments of `gateway`.
#[derive(Debug, Args)]
pub struct Gateway {
    /// The database: sqlite:PATH, a path, postgres://…, or mysql://…
    #[arg(value_name = "ENDPOINT", env = "SYNCLINE_ENDPOINT", hide_env_values = true)]
    pub endpoint: String,
    /// Where diff and sync connect.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// [tls], [auth], [limits], and node.listen, node.hosts.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Lets nobody write.
    #[arg(long)]
    pub read_only: bool,
    /// How log lines are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Serves until it is told to end.
pub fn run(arguments: &Gateway) -> Outcome {
    log_to_stderr(arguments.log_format);
    let listen = arguments.listen.clone();
    let flags = listen.map(|value| Flag { flag: "--listen", key: "node.listen", value });
    let config = configure::load_gateway(arguments.config.as_deref(), flags.into_iter().collect())?;
    // Whoever connects is not the one who can mend a wrong address.
    let address = open(&arguments.endpoint, Access::Read)?.address().to_owned();
    let server = server(&config, arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&config, server, &address))
}

fn server(config: &Config, arguments: &Gateway) -> Result<Server> {
    let endpoint = arguments.endpoint.clone();
    let opener: Arc<Opener> = Arc::new(move |access| open(&endpoint, access));
    let advertise = config.node.advertise.clone().unwrap_or_default();
    Ok(Server::new(&config.node.name, advertise)
        .limits(limits(config))
        .hosts(config.node.hosts.clone())
        .origins(config.node.origins.clone())
        .gateway(Served::new(opener, arguments.read_only))
        .tls(tls(&config.tls)?)
        .tokens(tokens(&config.auth)?))
}

fn limits(config: &Config) -> HttpLimits {
    let setting = config.written.get("limits.request");
    let is_said = setting.is_some_and(|setting| setting.origin != Origin::Default);
    let limits = config.limits.http.clone();
    if is_said { limits } else { HttpLimits { body: REQUEST, ..limits } }
}

fn tls(tls: &config::Tls) -> Result<Option<Tls>> {
    match tls {
        config::Tls::Files { cert, key } => Tls::from_files(cert, key).map(Some),
        config::Tls::Off | config::Tls::External => Ok(None),
    }
}

fn tokens(auth: &Auth) -> Result<Option<Tokens>> {
    match auth {
        Auth::Tokens(file) => Tokens::from_file(file).map(Some),
        Auth::None => Ok(None),
    }
}

async fn serve(config: &Config, server: Server, address: &str) -> Outcome {
    let listener = bind(&config.node.listen, "--listen").await?;
    let mut signals = Signals::listen()?;
    let scheme = if matches!(config.tls, config::Tls::Files { .. }) { "https" } else { "http" };
    tracing::info!("gateway of {address} at {scheme}://{}", listener.local_addr()?);
    let shutdown = async {
        let end = signals.end().await;
        tracing::info!("draining: {end}");
    };
    server.serve(listener, None, shutdown).await.map_err(Failure::from)?;
    Ok(Exit::Yes)
}
