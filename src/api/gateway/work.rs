//! One call of a session: from its frames, through the endpoint, to the frames of its answer.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{parsed, strange};
use crate::endpoint::wire::{
    self, Call, Fault, Frame, FrameWriter, Kind as Piece, RowsWriter, USUAL,
};
use crate::endpoint::{Batch, Endpoint, Key, Plan, Range, Row, Sink, sqlite::Access};
use crate::error::{Error, Kind, Result};

/// Where an answer goes, piece by piece. Whoever reads slowly makes the endpoint wait.
pub(super) struct Reply {
    frames: FrameWriter,
    bytes: Vec<u8>,
    line: mpsc::Sender<Bytes>,
}

impl Reply {
    pub fn new(line: mpsc::Sender<Bytes>) -> Reply {
        Reply { frames: FrameWriter::default(), bytes: Vec::new(), line }
    }

    fn put(&mut self, kind: Piece, payload: &[u8]) -> Result<()> {
        self.frames.put(&mut self.bytes, kind, payload)?;
        if self.bytes.len() < USUAL { Ok(()) } else { self.send() }
    }

    fn json(&mut self, value: &impl serde::Serialize) -> Result<()> {
        self.frames.put_json(&mut self.bytes, value)
    }

    fn send(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.bytes).into();
        self.line.blocking_send(bytes).map_err(|_| {
            Error::unavailable("GATEWAY_LOST", "whoever asked has gone before the answer ended")
        })
    }

    /// The end, or why there is none.
    fn finish(mut self, done: Result<()>) {
        let last = match done {
            Ok(()) => self.frames.put(&mut self.bytes, Piece::End, b""),
            Err(error) => {
                let fault = serde_json::to_vec(&Fault::from(&error)).expect("it can be written");
                self.frames.put(&mut self.bytes, Piece::Fault, &fault)
            }
        };
        // Nobody may be there any more: then nobody misses it.
        let _ = last.and_then(|()| self.send());
    }
}

/// Answers a call.
pub(super) fn answer(
    endpoint: &mut dyn Endpoint,
    access: Access,
    frames: &[Frame],
    mut reply: Reply,
) {
    let done = match frames.split_first().and_then(|(first, rest)| Some((parsed(first)?, rest))) {
        Some((call, parts)) => run(endpoint, access, call, parts, &mut reply),
        None => Err(strange()),
    };
    reply.finish(done);
}

fn run(
    endpoint: &mut dyn Endpoint,
    access: Access,
    call: Call,
    parts: &[Frame],
    reply: &mut Reply,
) -> Result<()> {
    match call {
        Call::Tables => reply.json(&endpoint.tables()?),
        Call::Begin => reply.json(&endpoint.begin()?),
        Call::End => reply.json(&endpoint.end()?),
        Call::Read { plan } => {
            let ranges = ranges(parts)?;
            rows(reply, |sink| endpoint.read(&plan, &ranges, sink))
        }
        Call::Rows { plan } => {
            let keys = keys(parts)?;
            rows(reply, |sink| endpoint.rows(&plan, &keys, sink))
        }
        Call::Since { plan, strict } => {
            let version = keys(parts)?.pop();
            rows(reply, |sink| endpoint.since(&plan, version.as_deref(), strict, sink))
        }
        Call::Digest { plan, bits } => digest(endpoint, &plan, bits, parts, reply),
        Call::Newest { plan } => {
            let newest: Vec<Key> = endpoint.newest(&plan)?.into_iter().collect();
            reply.put(Piece::Keys, &wire::encode_keys(&newest))
        }
        Call::NthKey { plan, n } => {
            let after = keys(parts)?.pop();
            let nth = endpoint.nth_key(&plan, after.as_ref(), n)?;
            reply.put(Piece::Keys, &wire::encode_keys(&Vec::from_iter(nth)))
        }
        Call::Apply { plan, state } => {
            may_write(access)?;
            let (puts, deletes) = (puts(parts)?, keys(parts)?);
            let batch = Batch { plan: &plan, puts: &puts, deletes: &deletes, state: &state };
            reply.json(&endpoint.apply(&batch)?)
        }
        Call::State { prefix } => reply.json(&endpoint.state(&prefix)?),
        Call::CreateStatements { tables } => reply.json(&endpoint.create_statements(&tables)?),
        Call::AddColumnStatement { table, column } => {
            reply.json(&endpoint.add_column_statement(&table, &column)?)
        }
        Call::Create { statements } => {
            may_write(access)?;
            reply.json(&endpoint.create(&statements)?)
        }
        Call::Warnings { tables } => reply.json(&endpoint.warnings(&tables)?),
    }
}

fn may_write(access: Access) -> Result<()> {
    match access {
        Access::Write => Ok(()),
        Access::Read => {
            let what = "this session only reads";
            Err(Error::new(Kind::Forbidden, "ENDPOINT_FORBIDDEN", what)
                .hint("rows are written to B, the second endpoint"))
        }
    }
}

fn rows(reply: &mut Reply, read: impl FnOnce(&mut Sink<'_>) -> Result<()>) -> Result<()> {
    let mut writer = RowsWriter::default();
    read(&mut |key, row| match writer.push(key, row) {
        Some(payload) => reply.put(Piece::Rows, &payload),
        None => Ok(()),
    })?;
    writer.finish().map_or(Ok(()), |payload| reply.put(Piece::Rows, &payload))
}

/// Chunks of ranges, as many ranges in a frame as make it a usual one.
fn digest(
    endpoint: &mut dyn Endpoint,
    plan: &Plan,
    bits: u32,
    parts: &[Frame],
    reply: &mut Reply,
) -> Result<()> {
    let digests = endpoint.digest(plan, &ranges(parts)?, bits)?;
    let mut from = 0;
    let mut chunks = 0;
    for (i, range) in digests.iter().enumerate() {
        chunks += range.len();
        if chunks > USUAL / 16 || i + 1 == digests.len() {
            reply.put(Piece::Chunks, &wire::encode_chunks(&digests[from..=i]))?;
            (from, chunks) = (i + 1, 0);
        }
    }
    Ok(())
}

fn of_kind(parts: &[Frame], kind: Piece) -> impl Iterator<Item = &Frame> {
    parts.iter().filter(move |part| part.kind == kind)
}

fn ranges(parts: &[Frame]) -> Result<Vec<Range>> {
    let part = of_kind(parts, Piece::Ranges).next().ok_or_else(strange)?;
    let ranges = wire::decode_ranges(&part.payload)?;
    let ascend =
        ranges.windows(2).all(|pair| pair[0].upto.is_some() && pair[0].upto <= pair[1].after);
    if ascend { Ok(ranges) } else { Err(strange()) }
}

fn keys(parts: &[Frame]) -> Result<Vec<Key>> {
    let part = of_kind(parts, Piece::Keys).next().ok_or_else(strange)?;
    wire::decode_keys(&part.payload)
}

fn puts(parts: &[Frame]) -> Result<Vec<(Key, Row)>> {
    let mut puts = Vec::new();
    for part in of_kind(parts, Piece::Rows) {
        wire::decode_rows(&part.payload, |key, row| {
            puts.push((key.to_vec(), row.to_vec()));
            Ok(())
        })?;
    }
    Ok(puts)
}
