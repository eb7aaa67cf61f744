//! A handler on the same stack that answers every pipeline with the same bytes: the ceiling of
//! point reads over HTTP.

use std::path::PathBuf;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use bytes::Bytes;

use crate::Result;

/// Where, and with what.
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen.
    #[arg(long)]
    listen: std::net::SocketAddr,
    /// The body of each answer.
    #[arg(long)]
    body: PathBuf,
}

/// The `constant` command.
pub fn run(args: &Args) -> Result<()> {
    let body = Bytes::from(std::fs::read(&args.body)?);
    let answer = move |_request: Bytes| {
        let body = body.clone();
        async move { ([(CONTENT_TYPE, "application/json")], body) }
    };
    let app =
        Router::new().route("/v2/pipeline", post(answer)).route("/health", get(|| async { "ok" }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        use axum::serve::ListenerExt;
        let listener = tokio::net::TcpListener::bind(args.listen).await?;
        let listener = listener.tap_io(|tcp| {
            let _ = tcp.set_nodelay(true);
        });
        Ok(axum::serve(listener, app).await?)
    })
}
