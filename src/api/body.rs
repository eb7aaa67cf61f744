//! Reading a request's body, within limits of size, time and the node's memory.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::node::Node;
use crate::error::{Error, Kind, Result};

/// Bodies and answers up to this size are not counted against the node's buffers.
const SMALL: usize = 64 << 10;

/// A body with its share of the node's buffers, which is given back when this is dropped.
pub(super) struct Buffered {
    /// All of it.
    pub bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads a body of at most `most` bytes.
pub(super) async fn read(
    node: &Node,
    headers: &HeaderMap,
    body: Incoming,
    most: usize,
) -> Result<Buffered> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|n| n > most as u64) {
        return Err(too_large(most));
    }
    let reading = collect(&node.buffers, body, most);
    tokio::time::timeout(node.limits.body_timeout, reading).await.unwrap_or_else(|_| {
        Err(Error::retry("BODY_TIMEOUT", "the request's body did not arrive in time"))
    })
}

async fn collect(buffers: &Arc<Semaphore>, mut body: Incoming, most: usize) -> Result<Buffered> {
    let Some(first) = piece(&mut body).await? else {
        return Ok(Buffered { bytes: Bytes::new(), _share: None });
    };
    if body.is_end_stream() && first.len() <= SMALL.min(most) {
        return Ok(Buffered { bytes: first, _share: None });
    }
    let mut bytes = BytesMut::from(first);
    let mut share: Option<OwnedSemaphorePermit> = None;
    loop {
        if bytes.len() > most {
            return Err(too_large(most));
        }
        let counted = share.as_ref().map_or(0, |share| share.num_permits() << 10);
        if bytes.len() > SMALL + counted {
            let more = take(buffers, bytes.len() - counted)?;
            match &mut share {
                Some(share) => share.merge(more),
                None => share = Some(more),
            }
        }
        match piece(&mut body).await? {
            Some(piece) => bytes.extend_from_slice(&piece),
            None => return Ok(Buffered { bytes: bytes.freeze(), _share: share }),
        }
    }
}

/// The next bytes of a body; trailers are passed over.
async fn piece(body: &mut Incoming) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Error::invalid("BODY_TRUNCATED", "the request's body broke off").source(error)
        })?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn take(buffers: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit> {
    let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
    buffers.clone().try_acquire_many_owned(kib).map_err(|_| {
        Error::retry("BUFFERS_FULL", "this node has no memory for another large request now")
            .hint("try again, or send less at once")
    })
}

/// Bytes that hold their share of the node's buffers until they are sent.
struct Counted {
    bytes: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Makes an answer of `bytes` count; where there is no room for it, an answer that `must` be given
/// (something was written) goes out uncounted.
pub(super) fn counted(buffers: &Arc<Semaphore>, bytes: Vec<u8>, must: bool) -> Result<Bytes> {
    if bytes.len() <= SMALL {
        return Ok(bytes.into());
    }
    match take(buffers, bytes.len()) {
        Ok(share) => Ok(Bytes::from_owner(Counted { bytes, _share: share })),
        Err(_) if must => Ok(bytes.into()),
        Err(error) => Err(error),
    }
}

fn too_large(most: usize) -> Error {
    Error::new(
        Kind::Invalid,
        "BODY_TOO_LARGE",
        format!("the request's body is larger than {most} bytes"),
    )
    .hint("send it in several requests")
}
