//! An endpoint far away, by the gateway that stands beside it, or by the node that has it.
//!
//! ```text
//! this side ── Call, ranges ──▶ gateway ──▶ endpoint        a session there: one endpoint, one snapshot
//!           ◀── chunks, rows ──
//!
//! http://HOST:PORT        /v1/gateway                    a gateway, or a node's default database
//! http://HOST:PORT/DB     /v1/databases/DB/gateway       a node's database
//! ```
//!
//! Ranges are digested beside the database, and only what differs crosses the line ([`super::wire`]). A session
//! that idled for too long is begun anew, unless a snapshot went with it. A connection may break between two
//! calls without anybody noticing: the session does not belong to it.
//!
//! The token comes from the environment (`SYNCLINE_TOKEN`, or a file named by `SYNCLINE_TOKEN_FILE`), never from
//! the URL, and is not sent in the clear to another machine.
//!
//! Left out: several calls at a time, sending rows while others are still read, and gateways below a path.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::sqlite::Access;
use super::wire::{self, Call, Fault, Frame, FrameReader, FrameWriter, Hello, Kind as Piece};
use super::wire::{PROTOCOL, Welcome};
use super::{
    Applied, Batch, Chunk, Column, Endpoint, Engine, Horizon, Key, Plan, Range, Sink, Table,
    Traffic,
};
use crate::dial::http::{Line, Lost, Target, piece};
use crate::error::{Error, Kind, Result};

/// A gateway at work says so more often than this.
const SILENCE: Duration = Duration::from_secs(60);
/// Whoever goes does not wait long for an answer.
const FAREWELL: Duration = Duration::from_secs(1);
/// A refusal is no longer than this.
const WORDS: usize = 64 << 10;

/// Who we are to a gateway.
#[derive(Clone, Default)]
pub struct Login {
    /// The token, if there is one.
    pub token: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", if self.token.is_some() { "a token" } else { "nobody" })
    }
}

impl Login {
    /// From `SYNCLINE_TOKEN`, or the file that `SYNCLINE_TOKEN_FILE` names.
    pub fn from_environment() -> Result<Login> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        if let Some(token) = set("SYNCLINE_TOKEN") {
            return Ok(Login { token: Some(token.trim().to_owned()) });
        }
        let Some(file) = set("SYNCLINE_TOKEN_FILE") else { return Ok(Login::default()) };
        let token = std::fs::read_to_string(&file).map_err(|e| {
            Error::invalid("ENDPOINT_LOGIN", format!("the token's file {file} cannot be read: {e}"))
                .hint("SYNCLINE_TOKEN_FILE names a file that holds the token and nothing else")
        })?;
        Ok(Login { token: Some(token.trim().to_owned()) })
    }
}

/// A database behind a gateway, or of a node.
pub struct HttpEndpoint {
    address: String,
    engine: Engine,
    session: RefCell<Session>,
}

impl HttpEndpoint {
    /// Begins a session at the gateway.
    pub fn open(url: &str, access: Access, login: &Login) -> Result<HttpEndpoint> {
        let target = Target::read(url).map_err(|why| {
            Error::invalid("URL_INVALID", format!("this is no address of a gateway: {why}"))
                .hint("write http://HOST:PORT or https://HOST[:PORT], and ?ca=FILE for certificates of your own")
        })?;
        let path = path(&target)?;
        let address = url.split('?').next().unwrap_or_default().trim_end_matches('/');
        let address = address.replacen("/v1/databases/", "/", 1);
        let mut session = Session {
            address: address.clone(),
            path,
            authorization: authorization(&target, login)?,
            write: access == Access::Write,
            line: Line::new(target).map_err(|lost| lost_error(&address, lost))?,
            name: String::new(),
            has_snapshot: false,
            round_trips: 0,
        };
        let engine = session.begin()?;
        Ok(HttpEndpoint { address, engine, session: RefCell::new(session) })
    }

    fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T> {
        self.session.borrow_mut().value(call, &[])
    }
}

/// Where its gateway is: the path names a node's database, or nothing.
fn path(target: &Target) -> Result<String> {
    let segments: Vec<&str> = target.path.split('/').skip(1).collect();
    match segments[..] {
        [] => Ok("/v1/gateway".into()),
        [database] | ["v1", "databases", database] if !database.is_empty() => {
            Ok(format!("/v1/databases/{database}/gateway"))
        }
        _ => {
            let what = format!("{} is no path of a gateway or of a node's database", target.path);
            Err(Error::invalid("URL_INVALID", what).hint(
                "write http(s)://HOST:PORT for a gateway, http(s)://HOST:PORT/DB for a node's database",
            ))
        }
    }
}

fn authorization(target: &Target, login: &Login) -> Result<Option<HeaderValue>> {
    let Some(token) = &login.token else { return Ok(None) };
    if !target.is_secure && !target.is_loopback() {
        let what = "the token would go over the network for everyone to read";
        return Err(Error::new(Kind::Forbidden, "ENDPOINT_LOGIN", what).hint(
            "write https://, or reach the gateway through a tunnel that ends on this machine",
        ));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
        Error::invalid("ENDPOINT_LOGIN", "the token has characters that no token has")
            .hint("SYNCLINE_TOKEN is the token alone, without quotes or lines")
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn lost_error(address: &str, lost: Lost) -> Error {
    match lost {
        Lost::Unreachable(why) => Error::unavailable(
            "ENDPOINT_UNREACHABLE",
            format!("{address} cannot be reached: {why}"),
        )
        .hint("does `syncline gateway` or a node run there, and is this its address?"),
        Lost::Untrusted(why) => Error::invalid(
            "ENDPOINT_TLS_REFUSED",
            format!("{address} could not prove who it is: {why}"),
        )
        .hint("is it https there? ?ca=FILE behind the URL names the certificates to trust"),
        Lost::Broken(why) => {
            Error::unavailable("GATEWAY_LOST", format!("the line to {address} broke: {why}")).hint(
                "run the same command again: it compares first, and does what is still to be done",
            )
        }
    }
}

/// A session and the way to it.
struct Session {
    address: String,
    path: String,
    authorization: Option<HeaderValue>,
    write: bool,
    line: Line,
    name: String,
    has_snapshot: bool,
    round_trips: u64,
}

/// What goes with a call.
type Parts = [(Piece, Vec<u8>)];
/// Takes the frames of an answer.
type Frames<'a> = dyn FnMut(Frame) -> Result<()> + 'a;

impl Session {
    fn begin(&mut self) -> Result<Engine> {
        let hello = Hello { protocol: PROTOCOL, write: self.write };
        let mut body = Vec::new();
        FrameWriter::default().put_json(&mut body, &hello)?;
        self.name.clear();
        let mut welcome = None;
        self.exchange(body.into(), &mut |frame| {
            welcome = Some(parsed::<Welcome>(&frame)?);
            Ok(())
        })?;
        let welcome = welcome.ok_or_else(|| wire_missing("a session"))?;
        if welcome.protocol != PROTOCOL {
            return Err(Error::invalid("GATEWAY_VERSION", "the gateway speaks another protocol")
                .hint("both ends of the line must run the same version of syncline"));
        }
        self.name = welcome.session;
        Ok(welcome.engine)
    }

    /// One value as the answer.
    fn value<T: DeserializeOwned>(&mut self, call: &Call, parts: &Parts) -> Result<T> {
        let mut value = None;
        self.call(call, parts, &mut |frame| {
            value = Some(parsed(&frame)?);
            Ok(())
        })?;
        value.ok_or_else(|| wire_missing("an answer"))
    }

    /// A key as the answer, or none.
    fn key(&mut self, call: &Call, parts: &Parts) -> Result<Option<Key>> {
        let mut keys = Vec::new();
        self.call(call, parts, &mut |frame| {
            keys = wire::decode_keys(&frame.payload)?;
            Ok(())
        })?;
        Ok(keys.pop())
    }

    /// Rows as the answer.
    fn rows(&mut self, call: &Call, parts: &Parts, sink: &mut Sink<'_>) -> Result<()> {
        self.call(call, parts, &mut |frame| wire::decode_rows(&frame.payload, &mut *sink))
    }

    fn call(&mut self, call: &Call, parts: &Parts, then: &mut Frames<'_>) -> Result<()> {
        let (mut writer, mut body) = (FrameWriter::default(), Vec::new());
        writer.put_json(&mut body, call)?;
        for (kind, payload) in parts {
            writer.put(&mut body, *kind, payload)?;
        }
        let body = Bytes::from(body);
        match self.exchange(body.clone(), then) {
            Err(error) if error.code() == EXPIRED && !self.has_snapshot => {
                self.begin()?;
                self.exchange(body, then)
            }
            Err(error) if error.code() == EXPIRED => {
                self.has_snapshot = false;
                Err(error)
            }
            done => done,
        }
    }

    /// Sends a body, and takes the frames of the answer up to its end.
    fn exchange(&mut self, body: Bytes, then: &mut Frames<'_>) -> Result<()> {
        let request = self.request(Method::POST, body);
        self.round_trips += 1;
        let lost = |lost| lost_error(&self.address, lost);
        let response = self.line.send(request, SILENCE).map_err(lost)?;
        let (status, mut body) = (response.status(), Response::into_body(response));
        if status != StatusCode::OK {
            return Err(refused(&self.address, status, &words(&mut body)));
        }
        let mut reader = FrameReader::default();
        while let Some(bytes) = piece(&mut body, SILENCE).map_err(lost)? {
            reader.push(&bytes);
            while let Some(frame) = reader.take()? {
                match frame.kind {
                    Piece::Waiting => {}
                    Piece::Fault => return Err(parsed::<Fault>(&frame)?.into_error()),
                    // The bytes behind it, if any, go with the body; the connection stays usable.
                    Piece::End => return self.rest(&mut body),
                    _ => then(frame)?,
                }
            }
        }
        Err(lost(Lost::Broken("the answer has no end".into())))
    }

    /// Reads the end of the body, so that the connection can be used again.
    fn rest(&self, body: &mut Incoming) -> Result<()> {
        match piece(body, SILENCE) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(wire::garbled("something stands behind the end")),
            Err(lost) => Err(lost_error(&self.address, lost)),
        }
    }

    fn request(&self, method: Method, body: Bytes) -> Request<Full<Bytes>> {
        let below = if self.name.is_empty() { "" } else { "/" };
        let path = format!("{}{below}{}", self.path, self.name);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            path.parse().expect("it was parsed before, and a session's name is plain");
        let host =
            HeaderValue::try_from(self.line.target().authority()).expect("it was parsed before");
        request.headers_mut().insert(HOST, host);
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

const EXPIRED: &str = "SESSION_EXPIRED";

impl Drop for Session {
    /// Lets the gateway's snapshot go; if that fails, it expires by itself.
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let _ = self.line.send(self.request(Method::DELETE, Bytes::new()), FAREWELL);
        }
    }
}

fn parsed<T: DeserializeOwned>(frame: &Frame) -> Result<T> {
    serde_json::from_slice(&frame.payload).map_err(|_| wire_missing("something known"))
}

fn wire_missing(what: &str) -> Error {
    wire::garbled(&format!("{what} was expected"))
}

/// As much as is worth reading of an answer that is none of ours.
fn words(body: &mut Incoming) -> Vec<u8> {
    let mut words = Vec::new();
    while let Ok(Some(bytes)) = piece(body, FAREWELL) {
        words.extend_from_slice(&bytes);
        if words.len() > WORDS {
            break;
        }
    }
    words
}

/// What the gateway, or whoever is there in its place, said.
fn refused(address: &str, status: StatusCode, words: &[u8]) -> Error {
    #[derive(Deserialize)]
    struct Said {
        code: String,
        message: String,
        hint: String,
    }
    #[derive(Deserialize)]
    struct Body {
        error: Said,
    }
    let Ok(Body { error: said }) = serde_json::from_slice::<Body>(words) else {
        return no_gateway(address, &format!("it answered {status}"));
    };
    let (kind, code) = match (status.as_u16(), said.code.as_str()) {
        (_, "AUTH_REQUIRED") => (Kind::Forbidden, "ENDPOINT_LOGIN"),
        (404, "NOT_FOUND") => return no_gateway(address, &said.message),
        (404, "DATABASE_UNKNOWN") => (Kind::Invalid, "ENDPOINT_NOT_FOUND"),
        (_, code @ EXPIRED) => (Kind::Retry, wire::known_code(code)),
        (408 | 429 | 503, code) => (Kind::Unavailable, wire::known_code(code)),
        (500.., code) => (Kind::Unknown, wire::known_code(code)),
        (403, code) => (Kind::Forbidden, wire::known_code(code)),
        (_, code) => (Kind::Invalid, wire::known_code(code)),
    };
    Error::new(kind, code, said.message).hint(said.hint)
}

fn no_gateway(address: &str, why: &str) -> Error {
    Error::invalid("ENDPOINT_NOT_FOUND", format!("there is no gateway at {address}: {why}")).hint(
        "start one beside the database: syncline gateway ENDPOINT --listen ADDR; a node is its own",
    )
}

impl Endpoint for HttpEndpoint {
    fn address(&self) -> &str {
        &self.address
    }

    fn engine(&self) -> Engine {
        self.engine
    }

    fn tables(&mut self) -> Result<Vec<Table>> {
        self.ask(&Call::Tables)
    }

    fn begin(&mut self) -> Result<Horizon> {
        let session = self.session.get_mut();
        session.has_snapshot = false;
        let horizon = session.value(&Call::Begin, &[])?;
        session.has_snapshot = true;
        Ok(horizon)
    }

    fn end(&mut self) -> Result<()> {
        let session = self.session.get_mut();
        if std::mem::take(&mut session.has_snapshot) {
            session.value(&Call::End, &[])
        } else {
            Ok(())
        }
    }

    fn read(&mut self, plan: &Plan, ranges: &[Range], sink: &mut Sink<'_>) -> Result<()> {
        let parts = [(Piece::Ranges, wire::encode_ranges(ranges))];
        self.session.get_mut().rows(&Call::Read { plan: plan.clone() }, &parts, sink)
    }

    fn rows(&mut self, plan: &Plan, keys: &[Key], sink: &mut Sink<'_>) -> Result<()> {
        let parts = [(Piece::Keys, wire::encode_keys(keys))];
        self.session.get_mut().rows(&Call::Rows { plan: plan.clone() }, &parts, sink)
    }

    fn digest(&mut self, plan: &Plan, ranges: &[Range], bits: u32) -> Result<Vec<Vec<Chunk>>> {
        let parts = [(Piece::Ranges, wire::encode_ranges(ranges))];
        let call = Call::Digest { plan: plan.clone(), bits };
        let mut all = Vec::with_capacity(ranges.len());
        self.session.get_mut().call(&call, &parts, &mut |frame| {
            all.extend(wire::decode_chunks(&frame.payload)?);
            Ok(())
        })?;
        let ends = all.iter().map(|chunks: &Vec<Chunk>| chunks.last().map(|last| &last.end));
        match ends.eq(ranges.iter().map(|range| Some(&range.upto))) {
            true => Ok(all),
            false => Err(wire_missing("the digests of all ranges")),
        }
    }

    fn since(
        &mut self,
        plan: &Plan,
        version: Option<&[u8]>,
        strict: bool,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let version: Vec<Key> = version.map(<[u8]>::to_vec).into_iter().collect();
        let parts = [(Piece::Keys, wire::encode_keys(&version))];
        self.session.get_mut().rows(&Call::Since { plan: plan.clone(), strict }, &parts, sink)
    }

    fn newest(&mut self, plan: &Plan) -> Result<Option<Key>> {
        self.session.get_mut().key(&Call::Newest { plan: plan.clone() }, &[])
    }

    fn nth_key(&mut self, plan: &Plan, after: Option<&Key>, n: usize) -> Result<Option<Key>> {
        let after: Vec<Key> = after.cloned().into_iter().collect();
        let parts = [(Piece::Keys, wire::encode_keys(&after))];
        self.session.get_mut().key(&Call::NthKey { plan: plan.clone(), n }, &parts)
    }

    fn apply(&mut self, batch: &Batch<'_>) -> Result<Applied> {
        let mut writer = wire::RowsWriter::default();
        let mut parts = Vec::new();
        for (key, row) in batch.puts {
            parts.extend(writer.push(key, row).map(|payload| (Piece::Rows, payload)));
        }
        parts.extend(writer.finish().map(|payload| (Piece::Rows, payload)));
        parts.push((Piece::Keys, wire::encode_keys(batch.deletes)));
        let session = self.session.get_mut();
        session.has_snapshot = false;
        let call = Call::Apply { plan: batch.plan.clone(), state: batch.state.to_vec() };
        session.value(&call, &parts)
    }

    fn state(&mut self, prefix: &str) -> Result<Vec<(String, String)>> {
        self.ask(&Call::State { prefix: prefix.to_owned() })
    }

    fn create_statements(&self, tables: &[Table]) -> Result<Vec<String>> {
        self.ask(&Call::CreateStatements { tables: tables.to_vec() })
    }

    fn add_column_statement(&self, table: &str, column: &Column) -> Result<String> {
        let (table, column) = (table.to_owned(), column.clone());
        self.ask(&Call::AddColumnStatement { table, column })
    }

    fn create(&mut self, statements: &[String]) -> Result<()> {
        self.session.get_mut().has_snapshot = false;
        self.ask(&Call::Create { statements: statements.to_vec() })
    }

    fn warnings(&mut self, tables: &[Table]) -> Result<Vec<String>> {
        self.ask(&Call::Warnings { tables: tables.to_vec() })
    }

    fn sends_every_row(&self) -> bool {
        false
    }

    fn traffic(&self) -> Traffic {
        let session = self.session.borrow();
        Traffic { bytes: session.line.bytes(), round_trips: session.round_trips }
    }
}
