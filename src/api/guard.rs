//! The choke point: who may speak to this node at all.
//!
//! A node on the loopback address trusts its machine, and a browser on that machine runs pages from
//! everywhere. Three checks keep them out. `Host` must be a name that is ours (else a name that
//! resolves to 127.0.0.1 makes a stranger's page "same origin"). `Origin`, which a browser sends
//! with everything that can change something, must be listed. And the content types that a page may
//! send without asking first (text, forms) are refused when they come from a page.
//!
//! Stock clients send no `Origin`, and often no `Content-Type`: they pass.

use std::net::IpAddr;

use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::request::Parts;

use super::tokens::Tokens;
use crate::error::{Error, Kind, Result};

/// Who is asking. Without authentication everyone is the same; streams and sessions are bound to it anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Principal {
    /// Nobody in particular.
    Anyone,
    /// Whoever has the token with this hash.
    Holder([u8; 32]),
}

/// Which names and pages are let in.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
    tokens: Option<Tokens>,
}

impl Guard {
    /// Lets in `advertise`'s host and the listed ones, and pages of the listed origins.
    pub fn new(advertise: &str, hosts: &[String], origins: &[String]) -> Guard {
        let advertised = advertise.parse::<hyper::Uri>().ok();
        let advertised = advertised.as_ref().and_then(|uri| uri.host()).map(str::to_owned);
        let hosts = hosts.iter().cloned().chain(advertised);
        let hosts = hosts.map(|h| bare(&h)).collect();
        Guard { hosts, origins: origins.to_vec(), tokens: None }
    }

    /// Lets in only who shows one of these tokens.
    pub fn tokens(mut self, tokens: Option<Tokens>) -> Guard {
        self.tokens = tokens;
        self
    }

    /// Checks the head of a request that came in at the address `local`.
    pub fn admit(&self, head: &Parts, local: Option<IpAddr>) -> Result<Principal> {
        self.host(head, local)?;
        match head.headers.get(ORIGIN) {
            Some(origin) => self.page(head, origin)?,
            None => refuse_foreign_page(head)?,
        }
        self.holder(head)
    }

    /// Whoever asks whether the process lives needs no token.
    fn holder(&self, head: &Parts) -> Result<Principal> {
        let Some(tokens) = &self.tokens else { return Ok(Principal::Anyone) };
        let shown = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.split_once(' '));
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match shown.and_then(|(_, token)| tokens.holder(token.trim())) {
            Some(hash) => Ok(Principal::Holder(hash)),
            None if head.uri.path() == "/health" => Ok(Principal::Anyone),
            None => Err(auth_required(shown.is_some())),
        }
    }

    fn host(&self, head: &Parts, local: Option<IpAddr>) -> Result<()> {
        let named = match head.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => single(&head.headers, HOST)?.and_then(|host| host.to_str().ok()),
        };
        let Some(named) = named else {
            return Err(host_refused("the request names no host"));
        };
        let host = without_port(named);
        if is_loopback(host) || self.hosts.iter().any(|ours| same_host(ours, host)) {
            return Ok(());
        }
        // A page cannot be of the origin of a bare address unless that address served it.
        if local.is_some_and(|local| address(host) == Some(local)) {
            return Ok(());
        }
        Err(host_refused(&format!("this node does not answer to the name {host:?}")))
    }

    fn page(&self, head: &Parts, origin: &HeaderValue) -> Result<()> {
        if !self.listed(origin) {
            return Err(Error::new(
                Kind::Forbidden,
                "ORIGIN_REFUSED",
                "a web page of an origin that is not listed may not use this node",
            )
            .hint("list the origin in the configuration, or call from a program"));
        }
        if head.method == Method::POST && !is_deliberate(head.headers.get(CONTENT_TYPE)) {
            return Err(Error::invalid(
                "CONTENT_TYPE_REFUSED",
                "text and form bodies are refused from web pages",
            )
            .hint("send Content-Type: application/json"));
        }
        Ok(())
    }

    /// Whether pages of `origin` are let in.
    pub fn listed(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes())
    }
}

fn auth_required(was_shown: bool) -> Error {
    let what = match was_shown {
        true => "this token is not among those that come in here",
        false => "a token is needed here",
    };
    Error::new(Kind::Forbidden, "AUTH_REQUIRED", what)
        .hint("set SYNCLINE_TOKEN to a token whose hash is in the file of tokens there")
}

/// A browser sends no `Origin` with a plain GET for another site's page, but says so here.
fn refuse_foreign_page(head: &Parts) -> Result<()> {
    match head.headers.get("sec-fetch-site") {
        Some(site) if site == "cross-site" || site == "same-site" => Err(Error::new(
            Kind::Forbidden,
            "ORIGIN_REFUSED",
            "a web page of another site may not use this node",
        )
        .hint("call from a program, or from a page whose origin is listed")),
        _ => Ok(()),
    }
}

/// The header's value, if it is there once.
fn single(headers: &HeaderMap, name: hyper::header::HeaderName) -> Result<Option<&HeaderValue>> {
    let mut values = headers.get_all(&name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(host_refused("the request names two hosts")),
    }
}

fn host_refused(message: &str) -> Error {
    Error::invalid("HOST_REFUSED", message)
        .hint("use the advertised name, or list this one in the configuration")
}

/// Whether a page must ask first (by a preflight) before it may send this type.
fn is_deliberate(kind: Option<&HeaderValue>) -> bool {
    let Some(kind) = kind.and_then(|kind| kind.to_str().ok()) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let simple = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];
    !kind.is_empty() && !simple.iter().any(|simple| kind.eq_ignore_ascii_case(simple))
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon)
            if !host.ends_with(']') && host[colon + 1..].bytes().all(|b| b.is_ascii_digit()) =>
        {
            &host[..colon]
        }
        _ => host,
    }
}

fn bare(host: &str) -> String {
    without_port(host).trim_end_matches('.').to_ascii_lowercase()
}

fn same_host(ours: &str, theirs: &str) -> bool {
    ours.eq_ignore_ascii_case(theirs.trim_end_matches('.'))
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether `host` can only mean this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    same_host("localhost", host) || address(host).is_some_and(|ip| ip.is_loopback())
}

/// Whether the request was addressed to a loopback name.
pub(super) fn addressed_to_loopback(head: &Parts) -> bool {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| is_loopback(without_port(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(method: Method, headers: &[(&str, &str)]) -> Result<Principal, u16> {
        let guard = Guard::new(
            "http://A.example:8080",
            &["b.example".into()],
            &["https://app.example".into()],
        );
        let mut request = hyper::Request::builder().method(method).uri("/v2/pipeline");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let local = Some("10.1.2.3".parse().unwrap());
        guard.admit(&head, local).map_err(|e| super::super::reply::status(&e).as_u16())
    }

    #[test]
    fn host_must_be_ours() {
        let host = |host| admit(Method::POST, &[("host", host)]);
        for ours in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
            "a.example:9",
            "a.example.",
            "B.example",
            "10.1.2.3:8080",
        ] {
            assert!(host(ours).is_ok(), "{ours}");
        }
        for other in
            ["evil.example", "localhost.evil.example", "10.9.9.9", "127.0.0.1.evil.example", ""]
        {
            assert_eq!(host(other), Err(421), "{other}");
        }
        assert_eq!(admit(Method::POST, &[]), Err(421));
        assert_eq!(
            admit(Method::POST, &[("host", "localhost"), ("host", "evil.example")]),
            Err(421)
        );
    }

    #[test]
    fn pages_need_a_listed_origin() {
        let from = |origin| {
            let json = ("content-type", "application/json");
            admit(Method::POST, &[("host", "localhost"), ("origin", origin), json])
        };
        assert!(from("https://app.example").is_ok());
        for other in ["https://evil.example", "null", "http://app.example", "http://localhost:8080"]
        {
            assert_eq!(from(other), Err(403), "{other}");
        }
        let cross = [("host", "localhost"), ("sec-fetch-site", "cross-site")];
        assert_eq!(admit(Method::GET, &cross), Err(403));
    }

    #[test]
    fn pages_may_not_send_what_needs_no_preflight() {
        let with = |kind: Option<&'static str>, origin: bool| {
            let mut headers = vec![("host", "localhost")];
            headers.extend(kind.map(|kind| ("content-type", kind)));
            headers.extend(origin.then_some(("origin", "https://app.example")));
            admit(Method::POST, &headers)
        };
        assert_eq!(with(Some("text/plain;charset=UTF-8"), true), Err(415));
        assert_eq!(with(Some("application/x-www-form-urlencoded"), true), Err(415));
        assert_eq!(with(Some("multipart/form-data; boundary=x"), true), Err(415));
        assert_eq!(with(None, true), Err(415));
        assert!(with(Some("application/json; charset=utf-8"), true).is_ok());
        assert!(with(None, false).is_ok());
        assert!(with(Some("text/plain"), false).is_ok());
    }
}
