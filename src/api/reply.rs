//! Answers: bodies, JSON, and the one place where an error becomes an HTTP status.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use hyper::StatusCode;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde_json::json;

use crate::error::{Error, Kind};

/// What is sent behind the head of an answer.
pub(super) enum Body {
    /// All of it, at once.
    Full(Option<Bytes>),
    /// Pieces, as they come; each is flushed.
    Stream(BoxStream<'static, Bytes>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Body::Stream(stream) => {
                stream.as_mut().poll_next(context).map(|piece| piece.map(|b| Ok(Frame::data(b))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

/// An answer.
pub(super) type Response = hyper::Response<Body>;

/// What a handler gives back; an error becomes an answer in [`error`].
pub(super) type Answer = Result<Response, Error>;

/// An answer of `bytes`.
pub(super) fn full(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response {
    let bytes = bytes.into();
    let mut response = Response::new(Body::Full((!bytes.is_empty()).then_some(bytes)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer of one JSON object.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    full(status, "application/json", value.to_string())
}

/// An answer that goes on.
pub(super) fn stream(kind: &'static str, pieces: BoxStream<'static, Bytes>) -> Response {
    let mut response = Response::new(Body::Stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The body of an error: `{"error": {…}}`.
pub(super) fn error_body(error: &Error) -> serde_json::Value {
    json!({"error": {
        "code": error.code(),
        "message": error.message(),
        "hint": error.hint_text(),
        "retry": error.kind().retry().as_str(),
    }})
}

/// An error as an answer.
pub(super) fn error(error: &Error) -> Response {
    let mut response = json(status(error), &error_body(error));
    if response.status() == StatusCode::SERVICE_UNAVAILABLE && error.code() == "NOT_READY" {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The HTTP status of an error: by its code where the protocol has a status of its own for it, else
/// by what the caller does next.
pub(super) fn status(error: &Error) -> StatusCode {
    match error.code() {
        "AUTH_REQUIRED" => StatusCode::UNAUTHORIZED,
        "STREAM_EXPIRED" | "SESSION_EXPIRED" | "NOT_FOUND" | "DATABASE_UNKNOWN"
        | "HELD_UNKNOWN" => StatusCode::NOT_FOUND,
        "METHOD_NOT_ALLOWED" => StatusCode::METHOD_NOT_ALLOWED,
        "TIMEOUT" | "BODY_TIMEOUT" => StatusCode::REQUEST_TIMEOUT,
        "COMPACTED" => StatusCode::GONE,
        "BODY_TOO_LARGE" => StatusCode::PAYLOAD_TOO_LARGE,
        "CONTENT_TYPE_REFUSED" => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "HOST_REFUSED" | "NOT_WRITER" => StatusCode::MISDIRECTED_REQUEST,
        "STREAMS_FULL" | "SESSIONS_FULL" | "SESSION_BUSY" | "WRITER_BUSY" => {
            StatusCode::TOO_MANY_REQUESTS
        }
        "INTERNAL" => StatusCode::INTERNAL_SERVER_ERROR,
        "NOT_IMPLEMENTED" => StatusCode::NOT_IMPLEMENTED,
        _ => match error.kind() {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Conflict | Kind::Diverged => StatusCode::CONFLICT,
            Kind::Corrupt => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Retry | Kind::Behind | Kind::Unavailable | Kind::Unknown | Kind::Storage => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        },
    }
}

/// No such path.
pub(super) fn not_found(path: &str) -> Error {
    Error::invalid("NOT_FOUND", format!("there is nothing at {path}"))
        .hint("SQL is at /v2/pipeline and /v3/pipeline, or below /DATABASE/ for another database")
}

/// A protocol that is not spoken here.
pub(super) fn not_implemented(what: &str, hint: &str) -> Error {
    Error::invalid("NOT_IMPLEMENTED", what).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_status() {
        let of = |kind, code| status(&Error::new(kind, code, "")).as_u16();
        assert_eq!(of(Kind::Invalid, "SQL_PARSE_ERROR"), 400);
        assert_eq!(of(Kind::Forbidden, "ORIGIN_REFUSED"), 403);
        assert_eq!(of(Kind::Invalid, "STREAM_EXPIRED"), 404);
        assert_eq!(of(Kind::Retry, "BODY_TIMEOUT"), 408);
        assert_eq!(of(Kind::Diverged, "DIVERGED"), 409);
        assert_eq!(of(Kind::Invalid, "COMPACTED"), 410);
        assert_eq!(of(Kind::Invalid, "BODY_TOO_LARGE"), 413);
        assert_eq!(of(Kind::Unavailable, "NOT_WRITER"), 421);
        assert_eq!(of(Kind::Retry, "STREAMS_FULL"), 429);
        assert_eq!(of(Kind::Unknown, "INTERNAL"), 500);
        assert_eq!(of(Kind::Unknown, "OUTCOME_UNKNOWN"), 503);
        assert_eq!(of(Kind::Unavailable, "WRITER_UNAVAILABLE"), 503);
    }

    #[test]
    fn an_error_tells_whether_to_try_again() {
        let body = error_body(&Error::retry("STREAMS_FULL", "too many").hint("close some"));
        assert_eq!(
            body.to_string(),
            r#"{"error":{"code":"STREAMS_FULL","hint":"close some","message":"too many","retry":"yes"}}"#
        );
    }
}
