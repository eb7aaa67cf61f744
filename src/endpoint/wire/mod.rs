//! The line between an endpoint and its gateway, in bytes.
//!
//! ```text
//! frame    kind u8 (0x80: deflated) · length u32 · xxh3 u64 · payload        big-endian
//! request  Json(Call) · what the call needs: Ranges, Keys, Rows …
//! answer   Json, Chunks, Rows … · End, or Fault        Waiting, any number of them, anywhere before
//!
//! keys     (shared+1) · rest length · rest · …         shared: bytes taken over from the key before; 0: none
//! ranges   after · upto · …
//! rows     key · length · row · …
//! chunks   for each range: count · (end · rows · digest) · …
//! ```
//!
//! The checksum is seeded with the frame's place in its request or answer, so that a frame that was lost,
//! repeated or changed is an error, and an answer without its end, too: a broken line never looks like equal
//! tables. A digest takes 16 bytes where a range is one chunk, and its lower 8 where there are several: these are
//! only compared to find out where to look more closely ([`super::chunk::differing`]).
//!
//! Lengths are checked before memory is taken, and a frame that unfolds to more than [`MOST`] is refused.
//!
//! Left out: any other version than [`PROTOCOL`], and protection from a peer that lies: whoever has a gateway's
//! token is believed.

mod call;
mod parts;

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) use call::known_code;
pub use call::{Call, Fault, Hello, Welcome};
pub use parts::{
    RowsWriter, decode_chunks, decode_keys, decode_ranges, decode_rows, encode_chunks, encode_keys,
    encode_ranges,
};

use crate::error::{Error, Result};

/// What both ends must speak.
pub const PROTOCOL: u32 = 1;
/// The largest frame, and the most that one may unfold to.
pub const MOST: usize = 256 << 20;
/// Rows and chunks are sent in frames of about this size.
pub const USUAL: usize = 64 << 10;

const HEAD: usize = 13;
const DEFLATED: u8 = 0x80;
/// Less than this is not worth folding.
const WORTH: usize = 160;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One value.
    Json = 1,
    /// Keys.
    Keys = 2,
    /// Ranges of keys.
    Ranges = 3,
    /// Rows with their keys.
    Rows = 4,
    /// Chunks of some ranges.
    Chunks = 5,
    /// Nothing: the other side is still at work.
    Waiting = 6,
    /// Nothing: the answer was all of it.
    End = 7,
    /// Why there is no (more) answer.
    Fault = 8,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        use Kind::*;
        [Json, Keys, Ranges, Rows, Chunks, Waiting, End, Fault]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// Unfolded.
    pub payload: Vec<u8>,
}

/// What the line brought is not what was sent.
pub(super) fn garbled(what: &str) -> Error {
    Error::corrupt("GATEWAY_GARBLED", format!("what came over the line is damaged: {what}"))
        .hint("try again; if it stays so, something between the two ends changes what it passes on")
}

fn checksum(kind: u8, place: u64, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, place << 8 | u64::from(kind))
}

/// Numbers and writes the frames of one request or answer.
#[derive(Debug, Default)]
pub struct FrameWriter {
    place: u64,
}

impl FrameWriter {
    /// Adds a frame to the bytes that will be sent.
    pub fn put(&mut self, out: &mut Vec<u8>, kind: Kind, payload: &[u8]) -> Result<()> {
        if payload.len() > MOST {
            let what = format!("{} bytes at once are too many for a gateway", payload.len());
            return Err(Error::invalid("ROW_REFUSED", what)
                .hint("a row may be large, but not larger than a frame"));
        }
        let folded = folded(kind, payload);
        let (tag, sent) = match &folded {
            Some(folded) => (kind as u8 | DEFLATED, &folded[..]),
            None => (kind as u8, payload),
        };
        let place = if kind == Kind::Waiting { 0 } else { self.next() };
        out.push(tag);
        out.extend((sent.len() as u32).to_be_bytes());
        out.extend(checksum(tag, place, sent).to_be_bytes());
        out.extend_from_slice(sent);
        Ok(())
    }

    /// Adds a frame of one value.
    pub fn put_json(&mut self, out: &mut Vec<u8>, value: &impl serde::Serialize) -> Result<()> {
        let json = serde_json::to_vec(value).expect("our values can be written");
        self.put(out, Kind::Json, &json)
    }

    fn next(&mut self) -> u64 {
        self.place += 1;
        self.place
    }
}

/// Length before, and the folded bytes; none where that is not shorter. Digests do not fold.
fn folded(kind: Kind, payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < WORTH || kind == Kind::Chunks {
        return None;
    }
    let begin = (payload.len() as u32).to_be_bytes().to_vec();
    let mut encoder = DeflateEncoder::new(begin, Compression::fast());
    encoder.write_all(payload).ok()?;
    encoder.finish().ok().filter(|folded| folded.len() < payload.len())
}

fn unfolded(sent: &[u8]) -> Result<Vec<u8>> {
    let (length, folded) = sent.split_first_chunk().ok_or_else(|| garbled("a frame is cut"))?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > MOST {
        return Err(garbled("a frame is too large"));
    }
    let mut payload = Vec::new();
    let mut decoder = DeflateDecoder::new(folded).take(length as u64 + 1);
    let read = decoder.read_to_end(&mut payload);
    match read {
        Ok(read) if read == length => Ok(payload),
        _ => Err(garbled("a frame does not unfold")),
    }
}

/// Takes the frames of one request or answer from the bytes that come.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
    at: usize,
    place: u64,
}

impl FrameReader {
    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether some bytes wait that are no whole frame.
    pub fn is_within_a_frame(&self) -> bool {
        self.at < self.bytes.len()
    }

    /// The next frame, if all of it is there.
    pub fn take(&mut self) -> Result<Option<Frame>> {
        let rest = &self.bytes[self.at..];
        let Some((head, rest)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
        let (tag, length) = (head[0], u32::from_be_bytes(head[1..5].try_into().expect("4 bytes")));
        let kind = Kind::of(tag & !DEFLATED).ok_or_else(|| garbled("an unknown kind of frame"))?;
        let length = length as usize;
        if length > MOST {
            return Err(garbled("a frame is too large"));
        }
        let Some(sent) = rest.get(..length) else { return Ok(None) };
        let place = if kind == Kind::Waiting { 0 } else { self.place + 1 };
        let sum = u64::from_be_bytes(head[5..].try_into().expect("8 bytes"));
        if sum != checksum(tag, place, sent) {
            return Err(garbled("a checksum is wrong"));
        }
        let payload = if tag & DEFLATED == 0 { sent.to_vec() } else { unfolded(sent)? };
        self.at += HEAD + length;
        self.place = self.place.max(place);
        Ok(Some(Frame { kind, payload }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(bytes: &[u8], piece: usize) -> Result<Vec<Frame>> {
        let mut reader = FrameReader::default();
        let mut frames = Vec::new();
        for piece in bytes.chunks(piece) {
            reader.push(piece);
            while let Some(frame) = reader.take()? {
                frames.push(frame);
            }
        }
        if reader.is_within_a_frame() { Err(garbled("cut")) } else { Ok(frames) }
    }

    proptest! {
        #[test]
        fn frames_come_back_and_no_changed_byte_goes_unseen(
            payloads in proptest::collection::vec((0u8..40, 0usize..600), 1..5),
            piece in 1usize..300, place in any::<proptest::sample::Index>(), bit in 0u8..8,
        ) {
            let (mut writer, mut bytes) = (FrameWriter::default(), Vec::new());
            let wanted: Vec<Frame> = payloads
                .iter()
                .map(|(byte, length)| Frame { kind: Kind::Rows, payload: vec![*byte; *length] })
                .collect();
            for frame in &wanted {
                writer.put(&mut bytes, frame.kind, &frame.payload).unwrap();
            }
            prop_assert_eq!(&frames(&bytes, piece).unwrap(), &wanted);
            let mut changed = bytes.clone();
            changed[place.index(bytes.len())] ^= 1 << bit;
            prop_assert!(frames(&changed, piece).is_err());
            prop_assert!(frames(&bytes[..place.index(bytes.len())], piece).ok() != Some(wanted));
        }
    }

    #[test]
    fn frames_that_change_places_are_seen() {
        let (mut writer, mut one, mut two) = (FrameWriter::default(), Vec::new(), Vec::new());
        writer.put(&mut one, Kind::Rows, b"one").unwrap();
        writer.put(&mut two, Kind::Rows, b"two").unwrap();
        assert!(frames(&[&one[..], &two].concat(), 99).is_ok());
        assert!(frames(&[&two[..], &one].concat(), 99).is_err());
        assert!(frames(&[&one[..], &one].concat(), 99).is_err());
        let mut waiting = Vec::new();
        FrameWriter::default().put(&mut waiting, Kind::Waiting, b"").unwrap();
        assert_eq!(frames(&[&waiting[..], &one, &waiting, &two].concat(), 7).unwrap().len(), 4);
    }

    /// A few bytes that claim to be many take no memory.
    #[test]
    fn what_unfolds_to_too_much_is_refused() {
        let head = |length: u32| [&[Kind::Rows as u8][..], &length.to_be_bytes(), &[0; 8]].concat();
        assert!(frames(&head(MOST as u32 + 1), 99).is_err());
        let mut bomb = (MOST as u32 + 1).to_be_bytes().to_vec();
        bomb.extend([0; 40]);
        assert!(unfolded(&bomb).is_err());
        let zeros = folded(Kind::Rows, &[0; 100_000]).unwrap();
        assert!(zeros.len() < 1_000);
        let mut short = 50_000u32.to_be_bytes().to_vec();
        short.extend(&zeros[4..]);
        assert!(unfolded(&short).is_err(), "it holds more than it says");
    }
}
