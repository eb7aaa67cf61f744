//! One connection to an HTTP server, which counts its bytes.
//!
//! It is opened when something is to be sent, and opened again when the server has closed it. What is counted is
//! what goes through the socket: heads, and TLS, too.
//!
//! Left out: redirects, proxies, and more than one request at a time.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::trust;
use super::url;
use super::wait::{spawn, wait};

/// How long opening a connection may take.
const OPEN: Duration = Duration::from_secs(10);

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `https`
    pub is_secure: bool,
    /// A name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path, without a slash at its end.
    pub path: String,
    /// A PEM file with the certificates to trust, from `?ca=FILE`; none: the system's.
    pub ca: Option<PathBuf>,
}

impl Target {
    /// Reads `http(s)://HOST[:PORT][/PATH][?ca=FILE]`; in words what is wrong.
    pub fn read(url: &str) -> Result<Target, &'static str> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        if address.contains('@') {
            return Err("a password or token does not belong into a URL");
        }
        let uri: Uri = address.parse().map_err(|_| "it is no URL")?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("it does not begin with http:// or https://"),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it names no host")?;
        let ca = match query.strip_prefix("ca=") {
            _ if query.is_empty() => None,
            Some(file) if is_secure && !file.is_empty() => Some(PathBuf::from(file)),
            _ => return Err("behind `?` there may only be ca=FILE, with https"),
        };
        Ok(Target {
            is_secure,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
            path: uri.path().trim_end_matches('/').to_owned(),
            ca,
        })
    }

    /// As `Host` names it.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Whether what is sent stays on this machine.
    pub fn is_loopback(&self) -> bool {
        url::is_here(&self.host)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Nobody was reached.
    Unreachable(String),
    /// The server could not prove who it is.
    Untrusted(String),
    /// It was sent, perhaps, and then the line broke.
    Broken(String),
}

/// A connection that is there when it is needed.
pub struct Line {
    target: Target,
    tls: Option<Arc<ClientConfig>>,
    open: Option<SendRequest<Full<Bytes>>>,
    bytes: Arc<AtomicU64>,
}

impl Line {
    /// To this server; nobody is asked yet.
    pub fn new(target: Target) -> Result<Line, Lost> {
        let tls = match target.is_secure {
            true => Some(Arc::new(config(&target).map_err(Lost::Untrusted)?)),
            false => None,
        };
        Ok(Line { target, tls, open: None, bytes: Arc::default() })
    }

    /// Whom it speaks to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Bytes that went either way since the beginning.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sends a request, and gives the head of its answer.
    pub fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Lost> {
        let mut is_new = false;
        loop {
            if self.open.as_ref().is_none_or(SendRequest::is_closed) {
                self.open = Some(self.connect()?);
                is_new = true;
            }
            let sender = self.open.as_mut().expect("it was just opened");
            let sent = wait(limit, async {
                sender.ready().await?;
                sender.send_request(request.clone()).await
            });
            match sent {
                Some(Ok(response)) => return Ok(response),
                // It was closed while it idled: nothing was sent.
                Some(Err(error)) if (error.is_canceled() || error.is_closed()) && !is_new => {
                    self.open = None;
                }
                Some(Err(error)) => {
                    self.open = None;
                    return Err(Lost::Broken(root_cause(&error)));
                }
                None => {
                    self.open = None;
                    return Err(Lost::Broken("no answer in time".into()));
                }
            }
        }
    }

    fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Lost> {
        let opening = async {
            let place = (self.target.host.as_str(), self.target.port);
            let unreachable = |e: io::Error| Lost::Unreachable(e.to_string());
            let stream = TcpStream::connect(place).await.map_err(unreachable)?;
            let _ = stream.set_nodelay(true);
            let stream = Counted { stream, bytes: self.bytes.clone() };
            match &self.tls {
                None => begun(stream).await,
                Some(config) => {
                    let name = ServerName::try_from(self.target.host.clone());
                    let name = name.map_err(|e| Lost::Untrusted(e.to_string()))?;
                    let secured = TlsConnector::from(config.clone()).connect(name, stream).await;
                    begun(secured.map_err(|e| Lost::Untrusted(e.to_string()))?).await
                }
            }
        };
        wait(OPEN, opening).unwrap_or_else(|| Err(Lost::Unreachable("no answer in time".into())))
    }
}

fn config(target: &Target) -> Result<ClientConfig, String> {
    let roots = trust::roots(target.ca.as_deref())?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions();
    Ok(builder.map_err(|e| e.to_string())?.with_root_certificates(roots).with_no_client_auth())
}

async fn begun<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Lost>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|e| Lost::Unreachable(root_cause(&e)))?;
    // How it ends is told to whoever waits for an answer.
    spawn(async { drop(connection.await) });
    Ok(sender)
}

/// The next bytes of an answer; none at its end.
pub fn piece(body: &mut Incoming, limit: Duration) -> Result<Option<Bytes>, Lost> {
    loop {
        match wait(limit, body.frame()) {
            None => return Err(Lost::Broken("nothing came for too long".into())),
            Some(None) => return Ok(None),
            Some(Some(Err(error))) => return Err(Lost::Broken(root_cause(&error))),
            Some(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// The innermost reason: the outer ones only say that a request failed.
fn root_cause(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A socket that counts.
struct Counted {
    stream: TcpStream,
    bytes: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.bytes.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = written {
            this.bytes.fetch_add(written as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_and_no_secret() {
        let read = |url| Target::read(url).map(|t| (t.is_secure, t.authority(), t.path));
        let at = |secure, authority: &str, path: &str| Ok((secure, authority.into(), path.into()));
        assert_eq!(read("http://127.0.0.1:8090"), at(false, "127.0.0.1:8090", ""));
        assert_eq!(read("https://far.example/a/"), at(true, "far.example:443", "/a"));
        assert_eq!(read("http://[::1]:80/"), at(false, "[::1]:80", ""));
        let ca = Target::read("https://h?ca=/etc/ca.pem").unwrap().ca;
        assert_eq!(ca, Some("/etc/ca.pem".into()));
        for wrong in [
            "",
            "h:1",
            "ftp://h",
            "http://",
            "https://u:secret@h",
            "http://h?ca=x",
            "https://h?x=y",
        ] {
            let why = read(wrong).unwrap_err();
            assert!(!why.contains("secret"), "{wrong}");
        }
        assert!(Target::read("http://[::1]:80").unwrap().is_loopback());
        assert!(!Target::read("http://127.evil.example").unwrap().is_loopback());
    }

    #[test]
    fn nobody_there_is_unreachable() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut line = Line::new(Target::read(&format!("http://{free}")).unwrap()).unwrap();
        let request = Request::get("/").body(Full::default()).unwrap();
        let lost = line.send(request, Duration::from_secs(5)).unwrap_err();
        assert!(matches!(lost, Lost::Unreachable(_)), "{lost:?}");
    }
}
