//! Rows in the binary format of COPY.
//!
//! ```text
//! PGCOPY\n\377\r\n\0  flags:4  extension:4+n     once, at the beginning
//! columns:2  (length:4  bytes)…                  a row; length -1: NULL
//! -1:2                                           the end
//! ```
//!
//! PostgreSQL sends each row as one message, but nothing says that it must.

use super::failure::lost;
use crate::error::{Error, Result};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Takes messages apart into rows.
#[derive(Default)]
pub(super) struct Tuples {
    begun: bool,
    ended: bool,
    /// The beginning of what has not come whole.
    carry: Vec<u8>,
}

/// The fields of a row, from first to last.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next one; none if it is NULL.
    pub fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>().expect("the row is whole");
        let length = i32::from_be_bytes(*length);
        let (field, rest) = rest.split_at(usize::try_from(length).unwrap_or(0));
        self.0 = rest;
        (length >= 0).then_some(field)
    }
}

fn damaged() -> Error {
    lost("what it sent is not in the format of COPY")
}

impl Tuples {
    /// Hands on the rows that are whole.
    pub fn feed(
        &mut self,
        message: &[u8],
        each: &mut dyn FnMut(Fields<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.carry.is_empty() {
            let left = self.take(message, each)?;
            self.carry.extend_from_slice(&message[message.len() - left..]);
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.carry);
        bytes.extend_from_slice(message);
        let left = self.take(&bytes, each)?;
        bytes.drain(..bytes.len() - left);
        self.carry = bytes;
        Ok(())
    }

    /// How many bytes are left over.
    fn take(
        &mut self,
        mut bytes: &[u8],
        each: &mut dyn FnMut(Fields<'_>) -> Result<()>,
    ) -> Result<usize> {
        if !self.begun {
            match header(bytes)? {
                None => return Ok(bytes.len()),
                Some(length) => bytes = &bytes[length..],
            }
            self.begun = true;
        }
        while let Some((columns, rest)) = bytes.split_first_chunk::<2>() {
            let columns = i16::from_be_bytes(*columns);
            if columns < 0 || self.ended {
                self.ended = true;
                return Ok(0);
            }
            let Some(length) = whole(rest, columns)? else { break };
            each(Fields(&rest[..length]))?;
            bytes = &rest[length..];
        }
        Ok(bytes.len())
    }

    /// Whether all has come.
    pub fn finish(self) -> Result<()> {
        if self.ended { Ok(()) } else { Err(damaged()) }
    }
}

/// The header's length, once it has come.
fn header(bytes: &[u8]) -> Result<Option<usize>> {
    let fixed = SIGNATURE.len() + 8;
    if bytes.len() < fixed {
        return Ok(None);
    }
    let extension = bytes[fixed - 4..fixed].try_into().expect("four bytes");
    let length = fixed + usize::try_from(i32::from_be_bytes(extension)).map_err(|_| damaged())?;
    match bytes.starts_with(SIGNATURE) {
        true => Ok((bytes.len() >= length).then_some(length)),
        false => Err(damaged()),
    }
}

/// How long a row of so many columns is, if all of it has come.
fn whole(bytes: &[u8], columns: i16) -> Result<Option<usize>> {
    let mut length = 0;
    for _ in 0..columns {
        let Some(field) = bytes.get(length..length + 4) else { return Ok(None) };
        let field = i32::from_be_bytes(field.try_into().expect("four bytes"));
        length +=
            4 + if field == -1 { 0 } else { usize::try_from(field).map_err(|_| damaged())? };
    }
    Ok((bytes.len() >= length).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0; 8]);
        for fields in [[Some(&b"ab"[..]), None], [Some(b""), Some(b"c")]] {
            bytes.extend(2i16.to_be_bytes());
            for field in fields {
                bytes.extend(field.map_or(-1, |f| f.len() as i32).to_be_bytes());
                bytes.extend(field.unwrap_or_default());
            }
        }
        bytes.extend((-1i16).to_be_bytes());
        bytes
    }

    #[test]
    fn rows_come_whole_however_they_are_cut() {
        let bytes = stream();
        for size in 1..=bytes.len() {
            let (mut tuples, mut rows) = (Tuples::default(), Vec::new());
            let mut each = |mut fields: Fields<'_>| {
                rows.push([fields.next().map(<[u8]>::to_vec), fields.next().map(<[u8]>::to_vec)]);
                Ok(())
            };
            bytes.chunks(size).for_each(|chunk| tuples.feed(chunk, &mut each).unwrap());
            tuples.finish().unwrap();
            let ab = [Some(b"ab".to_vec()), None];
            assert_eq!(rows, [ab, [Some(Vec::new()), Some(b"c".to_vec())]], "in parts of {size}");
        }
    }

    #[test]
    fn a_stream_that_breaks_off_is_no_answer() {
        let bytes = stream();
        for end in 0..bytes.len() - 1 {
            let mut tuples = Tuples::default();
            tuples.feed(&bytes[..end], &mut |_| Ok(())).unwrap();
            assert!(tuples.finish().is_err(), "{end}");
        }
        assert!(Tuples::default().feed(&[7; 30], &mut |_| Ok(())).is_err());
    }
}
