//! What a request's headers ask for, and what an answer's headers tell.
//!
//! ```text
//! Syncline-Read: any | writer | linearizable | after=RECEIPT | max-stale=2s     (several with `,`)
//! Syncline-Acknowledge: LEVEL     Syncline-Timeout: 5s     Idempotency-Key: CLIENT, SEQUENCE
//! ```
//!
//! The protocol of the stock clients has no slot for these, so they travel beside it; a client that
//! cannot set headers uses the SQL functions of the same names.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::change::{Position, RequestId};
use crate::engine::{RequestOptions, duration};
use crate::error::{Error, Result};

/// The reads that are allowed.
pub(super) const READ: HeaderName = HeaderName::from_static("syncline-read");
/// Raised or lowered acknowledgement.
pub(super) const ACKNOWLEDGE: HeaderName = HeaderName::from_static("syncline-acknowledge");
/// How long the caller waits.
pub(super) const TIMEOUT: HeaderName = HeaderName::from_static("syncline-timeout");
/// The client's own id of a write.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The receipt of a write.
pub(super) const RECEIPT: HeaderName = HeaderName::from_static("syncline-receipt");
/// Where the answering copy stands.
pub(super) const POSITION: HeaderName = HeaderName::from_static("syncline-position");
/// Which node answered.
pub(super) const NODE: HeaderName = HeaderName::from_static("syncline-node");
/// How old the answering copy may be.
pub(super) const STALE_MS: HeaderName = HeaderName::from_static("syncline-stale-ms");
/// The node that forwarded a request: it goes no further.
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("syncline-forwarded");

/// Reads the options of a request.
pub(super) fn options(headers: &HeaderMap) -> Result<RequestOptions> {
    let mut options = RequestOptions::default();
    if let Some(text) = text(headers, &READ)? {
        options.read = text.parse()?;
    }
    if let Some(level) = text(headers, &ACKNOWLEDGE)? {
        options.acknowledge = Some(level.trim().parse()?);
    }
    if let Some(timeout) = text(headers, &TIMEOUT)? {
        options.timeout = Some(duration(timeout.trim())?);
    }
    if let Some(key) = text(headers, &IDEMPOTENCY_KEY)? {
        options.request = Some(request_id(key)?);
    }
    Ok(options)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| {
        Error::invalid("HEADER_INVALID", format!("the header {name} is not plain text"))
    })?;
    Ok(Some(text))
}

/// Reads `CLIENT, SEQUENCE`.
fn request_id(key: &str) -> Result<RequestId> {
    let bad = |what: &str| {
        Error::invalid("IDEMPOTENCY_KEY_INVALID", format!("the Idempotency-Key {what}")).hint(
            "write a name for the client and the number of its write: Idempotency-Key: checkout-7, 42",
        )
    };
    let key = key.trim();
    let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    let (client, sequence) = key.rsplit_once(',').ok_or_else(|| bad("has no sequence"))?;
    let (client, sequence) = (client.trim(), sequence.trim());
    if client.is_empty() || client.len() > 200 {
        return Err(bad("names no client, or one of more than 200 bytes"));
    }
    if !sequence.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad("has a sequence that is no number"));
    }
    let sequence = sequence.parse().map_err(|_| bad("has a sequence that is no 64-bit number"))?;
    Ok(RequestId { client: client.to_owned(), sequence })
}

/// Tells in `headers` where a copy stands.
pub(super) fn set_position(headers: &mut HeaderMap, name: HeaderName, position: Position) {
    let text = Bytes::from(position.to_string());
    headers.insert(name, HeaderValue::from_maybe_shared(text).expect("digits and dots"));
}

/// Tells in `headers` how old a copy may be.
pub(super) fn set_stale(headers: &mut HeaderMap, stale: Duration) {
    headers.insert(STALE_MS, HeaderValue::from(stale.as_millis() as u64));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acknowledge::Level;

    fn parse(pairs: &[(&'static str, &'static str)]) -> Result<RequestOptions> {
        let pairs =
            pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        options(&pairs.collect())
    }

    #[test]
    fn nothing_asked_is_the_default() {
        assert_eq!(parse(&[]).unwrap(), RequestOptions::default());
        assert_eq!(parse(&[("syncline-read", "any")]).unwrap(), RequestOptions::default());
    }

    #[test]
    fn every_option_is_read() {
        let receipt = "7.1042.000102030405060708090a0b0c0d0e0f";
        let got = parse(&[
            (
                "syncline-read",
                "writer, linearizable,after=7.1042.000102030405060708090a0b0c0d0e0f , max-stale=2s",
            ),
            ("syncline-acknowledge", "memory"),
            ("syncline-timeout", "1500ms"),
            ("idempotency-key", "checkout-7, 42"),
        ])
        .unwrap();
        assert!(got.read.writer && got.read.linearizable);
        assert_eq!(got.read.after.unwrap().to_string(), receipt);
        assert_eq!(got.read.max_stale, Some(Duration::from_secs(2)));
        assert_eq!(got.acknowledge, Some(Level::Memory));
        assert_eq!(got.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(got.request, Some(RequestId { client: "checkout-7".into(), sequence: 42 }));
    }

    #[test]
    fn a_wrong_option_is_refused_with_its_code() {
        let code = |name, value| parse(&[(name, value)]).unwrap_err().code();
        for read in ["newest", "after", "max-stale", "writer=1"] {
            assert_eq!(code("syncline-read", read), "READ_OPTION_INVALID", "{read}");
        }
        assert_eq!(code("syncline-read", "after=12"), "POSITION_INVALID");
        for time in ["2", "s", "2d", "-1s", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(code("syncline-timeout", time), "DURATION_INVALID", "{time}");
        }
        assert_eq!(code("syncline-acknowledge", "sure"), "ACKNOWLEDGE_INVALID");
        for key in ["c0ffee", "", ",1", "a,b", "a,-1", "a,18446744073709551616", "a,"] {
            assert_eq!(code("idempotency-key", key), "IDEMPOTENCY_KEY_INVALID", "{key}");
        }
    }

    #[test]
    fn a_bare_key_is_told_how_to_write_it() {
        let error = parse(&[("idempotency-key", "c0ffee")]).unwrap_err();
        assert!(error.hint_text().contains("Idempotency-Key: checkout-7, 42"), "{error}");
    }

    #[test]
    fn a_quoted_key_may_hold_commas() {
        let got = parse(&[("idempotency-key", "\"eu, west, 7\"")]).unwrap().request.unwrap();
        assert_eq!(got, RequestId { client: "eu, west".into(), sequence: 7 });
    }
}
