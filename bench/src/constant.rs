//! A handler on the server's own stack (hyper on tokio, one task a connection) that takes the
//! request's body and answers it with the same bytes, whatever was asked: the ceiling of point
//! reads over HTTP.

use std::convert::Infallible;
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream, body.clone()));
        }
    })
}

async fn serve(stream: TcpStream, body: Bytes) {
    let answer = |request: Request<Incoming>| {
        let body = body.clone();
        async move {
            let _ = request.into_body().collect().await;
            let mut response = Response::new(Full::new(body));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            Ok::<_, Infallible>(response)
        }
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    // A client that went away is no matter of ours.
    let _ = served.await;
}
