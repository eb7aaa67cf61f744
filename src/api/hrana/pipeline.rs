//! Running a pipeline.

use hyper::StatusCode;
use hyper::header::{HOST, HeaderMap};
use hyper::http::request::Parts;

use super::json::Json;
use super::program::{batch, missing, statement};
use super::request::{Pipeline, Request, Text, Verb, parse};
use super::rest::{Ran, Rest};
use super::stream::{Place, Stream, Taken};
use crate::api::body::{counted, read};
use crate::api::guard::{Principal, addressed_to_loopback};
use crate::api::headers::{self, POSITION, RECEIPT, set_position, set_stale};
use crate::api::node::Node;
use crate::api::reply::{self, Answer, Response};
use crate::api::route::Call;
use crate::change::Position;
use crate::engine::{Database, Outcome, Program, RequestOptions, Role, Session, StepOutcome};
use crate::error::{Error, Kind, Result};

/// Answers `POST …/pipeline`.
pub(in crate::api) async fn answer(node: &Node, database: &Database, call: Call) -> Answer {
    let Call { head, body, principal } = call;
    let body = read(node, &head.headers, body, node.limits.body).await?;
    run(node, database, &head, &body.bytes, principal).await
}

/// Runs the pipeline in `body`.
pub(super) async fn run(
    node: &Node,
    database: &Database,
    head: &Parts,
    body: &[u8],
    principal: Principal,
) -> Answer {
    let options = headers::options(&head.headers)?;
    let pipeline = parse(body)?;
    one_write_for_each_key(&pipeline, &options)?;
    let closes = pipeline.requests.last().is_some_and(|last| last.verb == Verb::Close);
    let mut open = Open::of(node, database, principal, pipeline.baton.as_ref(), closes)?;
    let mut run = Run {
        node,
        database,
        headers: &head.headers,
        body,
        options,
        out: Json::limited(database.options().limits.response_bytes),
        receipt: None,
    };
    match run.all(pipeline.requests, open.stream()).await {
        Ok(None) => run.finish(head, if closes { None } else { open.keep(node) }),
        Ok(Some(refusal)) => {
            open.settle(refusal.status() == StatusCode::NOT_FOUND);
            Ok(*refusal)
        }
        Err(error) => {
            open.settle(error.kind() == Kind::Unknown);
            Err(error)
        }
    }
}

/// A key is kept with one write: two in one pipeline could not be told apart when they come again.
fn one_write_for_each_key(pipeline: &Pipeline<'_>, options: &RequestOptions) -> Result<()> {
    let runs = |r: &&Request<'_>| matches!(r.verb, Verb::Execute | Verb::Batch | Verb::Sequence);
    if options.request.is_none() || pipeline.requests.iter().filter(runs).count() <= 1 {
        return Ok(());
    }
    Err(Error::invalid(
        "IDEMPOTENCY_KEY_AMBIGUOUS",
        "one Idempotency-Key came with several requests that may write",
    )
    .hint("put the statements into one batch, or send each with its own key"))
}

/// The stream of a pipeline: its own, or one from the table.
#[expect(clippy::large_enum_variant, reason = "one-shot streams, nearly all, stay off the heap")]
pub(super) enum Open {
    New(Stream),
    Taken(Taken),
}

impl Open {
    /// The stream that `baton` names, or a new one; does the request close it?
    pub fn of(
        node: &Node,
        database: &Database,
        principal: Principal,
        baton: Option<&Text<'_>>,
        closes: bool,
    ) -> Result<Open> {
        if let Some(baton) = baton {
            let taken = node.streams.take(&baton.0, &database.options().name, principal)?;
            return Ok(Open::Taken(taken));
        }
        if !closes {
            node.streams.make_room()?;
        }
        Ok(Open::New(node.streams.open(database, principal)))
    }

    /// The stream.
    pub fn stream(&mut self) -> &mut Stream {
        match self {
            Open::New(stream) => stream,
            Open::Taken(taken) => taken.stream(),
        }
    }

    /// Keeps it for the next request, unless it has ended at the writer.
    pub fn keep(mut self, node: &Node) -> Option<String> {
        if matches!(&self.stream().place, Place::Writer(remote) if remote.baton.is_empty()) {
            return None;
        }
        Some(match self {
            Open::New(stream) => node.streams.keep(Box::new(stream)),
            Open::Taken(taken) => taken.keep(),
        })
    }

    /// After an HTTP error: the client has only its old baton, which stays good unless the stream is
    /// `lost`.
    pub fn settle(self, lost: bool) {
        match self {
            Open::Taken(taken) if !lost => taken.restore(),
            _ => {}
        }
    }

    /// The stream alone; its old baton, if there was one, is used up.
    pub fn into_stream(self) -> Box<Stream> {
        match self {
            Open::New(stream) => Box::new(stream),
            Open::Taken(taken) => taken.into_stream(),
        }
    }
}

/// A pipeline that runs.
struct Run<'a> {
    node: &'a Node,
    database: &'a Database,
    headers: &'a HeaderMap,
    body: &'a [u8],
    options: RequestOptions,
    out: Json,
    receipt: Option<Position>,
}

impl Run<'_> {
    /// Runs all requests, here as long as the engine does not send us to the writer. Gives back the
    /// writer's answer if it refused the whole.
    async fn all(
        &mut self,
        requests: Vec<Request<'_>>,
        stream: &mut Stream,
    ) -> Result<Option<Box<Response>>> {
        self.out.raw(r#"{"results":["#);
        if belongs_to_writer(self.database, &self.options, stream) {
            return self.forward(stream, 0).await;
        }
        for (i, request) in requests.into_iter().enumerate() {
            let mark = self.out.bytes.len();
            self.out.comma().raw(r#"{"type":"ok","response":"#);
            let ran = self.one(request, stream).await;
            let ran = ran.and_then(|()| self.fits());
            match ran {
                Ok(()) => {
                    self.out.raw("}");
                }
                Err(error) if error.code() == "NOT_WRITER" => {
                    self.out.bytes.truncate(mark);
                    return self.forward(stream, i).await;
                }
                Err(error) => {
                    self.out.bytes.truncate(mark);
                    self.out.comma().raw(r#"{"type":"error","error":"#).error(&error).raw("}");
                }
            }
        }
        Ok(None)
    }

    async fn forward(&mut self, stream: &mut Stream, from: usize) -> Result<Option<Box<Response>>> {
        let rest = Rest {
            node: self.node,
            database: self.database,
            headers: self.headers,
            body: self.body,
            from,
            timeout: self.options.timeout,
        };
        match rest.run(stream, &mut self.out).await? {
            Ran::Done(receipt) => {
                self.receipt = receipt.or(self.receipt);
                Ok(None)
            }
            Ran::Refused(response) => Ok(Some(response)),
        }
    }

    /// Runs one request and writes its response, up to the last bracket.
    async fn one(&mut self, request: Request<'_>, stream: &mut Stream) -> Result<()> {
        let Place::Here(session) = &mut stream.place else {
            unreachable!("a stream at the writer is forwarded as a whole")
        };
        let texts = &mut stream.texts;
        match request.verb {
            Verb::Execute => {
                let program = Program::single(statement(request.stmt, texts)?);
                let mut outcome = self.program(session, program).await?;
                let step = outcome.steps.pop().ok_or_else(|| missing("stmt"))?;
                self.out.raw(r#"{"type":"execute","result":"#);
                match step {
                    StepOutcome::Done(result) => self.out.result(&result),
                    StepOutcome::Failed(error) => return Err(error),
                    StepOutcome::Skipped => self.out.raw("null"),
                };
                self.out.raw("}");
            }
            Verb::Batch => {
                let outcome = self.program(session, batch(request.batch, texts)?).await?;
                self.out.raw(r#"{"type":"batch","result":"#).batch(&outcome.steps).raw("}");
            }
            Verb::Sequence => {
                let sql = texts.resolve(request.sql.as_ref(), request.sql_id)?;
                let outcome = session.sequence(&sql, &self.options).await?;
                self.receipt = outcome.receipt.or(self.receipt);
                if let Some(StepOutcome::Failed(error)) = outcome.steps.into_iter().find(failed) {
                    return Err(error);
                }
                self.out.raw(r#"{"type":"sequence"}"#);
            }
            Verb::Describe => {
                let sql = texts.resolve(request.sql.as_ref(), request.sql_id)?;
                let description = session.describe(&sql).await?;
                self.out.raw(r#"{"type":"describe","result":"#);
                self.out.description(&description).raw("}");
            }
            Verb::StoreSql => {
                let id = request.sql_id.ok_or_else(|| missing("sql_id"))?;
                let sql = request.sql.ok_or_else(|| missing("sql"))?;
                texts.store(id, &sql.0)?;
                self.out.raw(r#"{"type":"store_sql"}"#);
            }
            Verb::CloseSql => {
                texts.close(request.sql_id.ok_or_else(|| missing("sql_id"))?);
                self.out.raw(r#"{"type":"close_sql"}"#);
            }
            Verb::GetAutocommit => {
                let is = session.is_autocommit();
                self.out.raw(r#"{"type":"get_autocommit","is_autocommit":"#).put(&is).raw("}");
            }
            Verb::Close => {
                self.out.raw(r#"{"type":"close"}"#);
            }
        }
        Ok(())
    }

    async fn program(&mut self, session: &mut Session, program: Program) -> Result<Outcome> {
        let outcome = session.run(program, &self.options).await?;
        self.receipt = outcome.receipt.or(self.receipt);
        Ok(outcome)
    }

    fn fits(&self) -> Result<()> {
        if self.out.is_full() { Err(too_large(self.out.limit)) } else { Ok(()) }
    }

    /// The whole answer.
    fn finish(mut self, head: &Parts, baton: Option<String>) -> Answer {
        self.out.raw(r#"],"baton":"#).optional(baton.as_deref());
        let base = baton.and_then(|_| base_url(self.node, self.database, head));
        self.out.raw(r#","base_url":"#).optional(base.as_deref()).raw("}");
        let bytes = counted(&self.node.buffers, self.out.bytes, self.receipt.is_some())?;
        let mut response = reply::full(StatusCode::OK, "application/json", bytes);
        describe(&mut response, self.database, self.receipt);
        Ok(response)
    }
}

/// Whether nothing of a request may run here.
pub(super) fn belongs_to_writer(
    database: &Database,
    options: &RequestOptions,
    stream: &Stream,
) -> bool {
    let asks = options.read.writer || options.read.linearizable;
    match &stream.place {
        Place::Writer(_) => true,
        Place::Here(_) => asks && database.role() != Role::Writer,
    }
}

/// The error of an answer that grew beyond the limit.
pub(super) fn too_large(limit: usize) -> Error {
    Error::invalid(
        "RESPONSE_TOO_LARGE",
        format!("the answer is larger than {limit} bytes; what it ran has taken effect"),
    )
    .hint("ask for fewer rows at a time, with LIMIT and a key to go on from")
}

/// Says in an answer's headers what it was read from, and what was written.
pub(super) fn describe(response: &mut Response, database: &Database, receipt: Option<Position>) {
    let headers = response.headers_mut();
    set_position(headers, POSITION, database.position());
    if let Some(receipt) = receipt {
        set_position(headers, RECEIPT, receipt);
    }
    if database.role() == Role::Reader {
        set_stale(headers, database.stale());
    }
}

/// Where the rest of the stream must go, for a client that came by another name than ours.
pub(super) fn base_url(node: &Node, database: &Database, head: &Parts) -> Option<String> {
    let (_, ours) = node.advertise.split_once("://")?;
    let theirs = head.headers.get(HOST)?.to_str().ok()?;
    if ours.eq_ignore_ascii_case(theirs) || addressed_to_loopback(head) {
        return None;
    }
    // The slash makes clients that join paths by the rules of URLs keep the database's name.
    Some(format!("{}/{}/", node.advertise, database.options().name))
}

fn failed(step: &StepOutcome) -> bool {
    matches!(step, StepOutcome::Failed(_))
}
