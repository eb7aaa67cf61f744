//! Keys, ranges, rows and chunks inside frames.

use super::super::canon::{put_varint, take, take_array, take_varint};
use super::super::{Chunk, Key, Range};
use super::{MOST, USUAL, garbled};
use crate::change::Digest;
use crate::error::{Error, Result};

/// Writes keys, each without what it shares with the one before.
#[derive(Debug, Default)]
struct KeyWriter {
    last: Key,
}

impl KeyWriter {
    fn put(&mut self, out: &mut Vec<u8>, key: Option<&[u8]>) {
        let Some(key) = key else { return out.push(0) };
        let shared = self.last.iter().zip(key).take_while(|(a, b)| a == b).count();
        put_varint(out, shared as u64 + 1);
        put_varint(out, (key.len() - shared) as u64);
        out.extend_from_slice(&key[shared..]);
        self.last.truncate(shared);
        self.last.extend_from_slice(&key[shared..]);
    }
}

/// Reads them. All keys of a frame together stay below [`MOST`], however little was sent.
#[derive(Debug)]
struct KeyReader {
    last: Key,
    left: usize,
}

impl Default for KeyReader {
    fn default() -> KeyReader {
        KeyReader { last: Key::new(), left: MOST }
    }
}

impl KeyReader {
    fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<&[u8]>> {
        let shared = length(bytes)?;
        if shared == 0 {
            return Ok(None);
        }
        if shared - 1 > self.last.len() {
            return Err(garbled("a key shares more than there is"));
        }
        let rest = sized(bytes)?;
        self.last.truncate(shared - 1);
        self.last.extend_from_slice(rest);
        self.left = self.left.checked_sub(self.last.len()).ok_or_else(too_much)?;
        Ok(Some(&self.last))
    }

    fn take_owned(&mut self, bytes: &mut &[u8]) -> Result<Option<Key>> {
        self.take(bytes).map(|key| key.map(<[u8]>::to_vec))
    }
}

fn too_much() -> Error {
    garbled("a frame holds too much")
}

fn cut(_: Error) -> Error {
    garbled("a part of a frame is cut")
}

fn length(bytes: &mut &[u8]) -> Result<usize> {
    usize::try_from(take_varint(bytes).map_err(cut)?).map_err(|_| too_much())
}

fn sized<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = length(bytes)?;
    take(bytes, length).map_err(cut)
}

/// Writes keys.
pub fn encode_keys(keys: &[Key]) -> Vec<u8> {
    let (mut writer, mut out) = (KeyWriter::default(), Vec::new());
    keys.iter().for_each(|key| writer.put(&mut out, Some(key)));
    out
}

/// Reads them.
pub fn decode_keys(mut bytes: &[u8]) -> Result<Vec<Key>> {
    let (mut reader, mut keys) = (KeyReader::default(), Vec::new());
    while !bytes.is_empty() {
        keys.push(reader.take_owned(&mut bytes)?.ok_or_else(|| garbled("a key is missing"))?);
    }
    Ok(keys)
}

/// Writes ranges.
pub fn encode_ranges(ranges: &[Range]) -> Vec<u8> {
    let (mut writer, mut out) = (KeyWriter::default(), Vec::new());
    for range in ranges {
        writer.put(&mut out, range.after.as_deref());
        writer.put(&mut out, range.upto.as_deref());
    }
    out
}

/// Reads them.
pub fn decode_ranges(mut bytes: &[u8]) -> Result<Vec<Range>> {
    let (mut reader, mut ranges) = (KeyReader::default(), Vec::new());
    while !bytes.is_empty() {
        let after = reader.take_owned(&mut bytes)?;
        ranges.push(Range { after, upto: reader.take_owned(&mut bytes)? });
    }
    Ok(ranges)
}

/// Gathers rows into frames of about [`USUAL`] bytes.
#[derive(Debug, Default)]
pub struct RowsWriter {
    keys: KeyWriter,
    payload: Vec<u8>,
}

impl RowsWriter {
    /// Adds a row; gives what has come together, if that is enough for a frame.
    pub fn push(&mut self, key: &[u8], row: &[u8]) -> Option<Vec<u8>> {
        self.keys.put(&mut self.payload, Some(key));
        put_varint(&mut self.payload, row.len() as u64);
        self.payload.extend_from_slice(row);
        if self.payload.len() < USUAL { None } else { self.finish() }
    }

    /// What is left; each frame begins anew.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        self.keys.last.clear();
        let payload = std::mem::take(&mut self.payload);
        (!payload.is_empty()).then_some(payload)
    }
}

/// Reads the rows of a frame.
pub fn decode_rows(
    mut bytes: &[u8],
    mut sink: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut reader = KeyReader::default();
    while !bytes.is_empty() {
        let key = reader.take(&mut bytes)?.ok_or_else(|| garbled("a row has no key"))?;
        sink(key, sized(&mut bytes)?)?;
    }
    Ok(())
}

/// Writes the chunks of some ranges. Where there are several in a range, digests are cut to half.
pub fn encode_chunks(ranges: &[Vec<Chunk>]) -> Vec<u8> {
    let (mut writer, mut out) = (KeyWriter::default(), Vec::new());
    for chunks in ranges {
        put_varint(&mut out, chunks.len() as u64);
        for chunk in chunks {
            writer.put(&mut out, chunk.end.as_deref());
            put_varint(&mut out, chunk.rows);
            let digest = chunk.digest.to_bytes();
            out.extend_from_slice(if chunks.len() == 1 { &digest } else { &digest[8..] });
        }
    }
    out
}

/// Reads them.
pub fn decode_chunks(mut bytes: &[u8]) -> Result<Vec<Vec<Chunk>>> {
    let (mut reader, mut ranges) = (KeyReader::default(), Vec::new());
    while !bytes.is_empty() {
        let count = length(&mut bytes)?;
        let mut chunks = Vec::new();
        for _ in 0..count {
            let end = reader.take_owned(&mut bytes)?;
            let rows = take_varint(&mut bytes).map_err(cut)?;
            let digest = match count {
                1 => u128::from_be_bytes(take_array(&mut bytes).map_err(cut)?),
                _ => u64::from_be_bytes(take_array(&mut bytes).map_err(cut)?).into(),
            };
            chunks.push(Chunk { end, rows, digest: Digest(digest) });
        }
        ranges.push(chunks);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Key> {
        proptest::collection::vec(0u8..3, 0..9)
    }

    fn chunk() -> impl Strategy<Value = Chunk> {
        (proptest::option::of(key()), any::<u64>(), any::<u128>())
            .prop_map(|(end, rows, digest)| Chunk { end, rows, digest: Digest(digest) })
    }

    proptest! {
        #[test]
        fn parts_come_back(
            keys in proptest::collection::vec(key(), 0..6),
            ranges in proptest::collection::vec((proptest::option::of(key()), proptest::option::of(key())), 0..6),
            mut chunks in proptest::collection::vec(proptest::collection::vec(chunk(), 0..5), 0..5),
        ) {
            let ranges: Vec<Range> =
                ranges.into_iter().map(|(after, upto)| Range { after, upto }).collect();
            prop_assert_eq!(decode_keys(&encode_keys(&keys)).unwrap(), keys.clone());
            prop_assert_eq!(decode_ranges(&encode_ranges(&ranges)).unwrap(), ranges);
            let read = decode_chunks(&encode_chunks(&chunks)).unwrap();
            for chunk in chunks.iter_mut().filter(|chunks| chunks.len() > 1).flatten() {
                chunk.digest = Digest(u128::from(chunk.digest.0 as u64));
            }
            prop_assert_eq!(read, chunks);
            let mut writer = RowsWriter::default();
            keys.iter().for_each(|key| assert!(writer.push(key, key).is_none()));
            let mut again = Vec::new();
            decode_rows(&writer.finish().unwrap_or_default(), |key, row| {
                assert_eq!(key, row);
                again.push(key.to_vec());
                Ok(())
            }).unwrap();
            prop_assert_eq!(again, keys);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode_keys(&bytes);
            let _ = decode_ranges(&bytes);
            let _ = decode_chunks(&bytes);
            let _ = decode_rows(&bytes, |_, _| Ok(()));
        }
    }

    /// Two bytes for each key that is the long one before it again.
    #[test]
    fn keys_that_unfold_to_too_much_are_refused() {
        let mut bytes = Vec::new();
        let long = vec![7; 1 << 20];
        let mut writer = KeyWriter::default();
        (0..300).for_each(|_| writer.put(&mut bytes, Some(&long)));
        assert!(bytes.len() < 2 << 20);
        assert!(decode_rows(&bytes, |_, _| Ok(())).is_err());
        assert_eq!(decode_keys(&bytes).unwrap_err().code(), "GATEWAY_GARBLED");
    }
}
