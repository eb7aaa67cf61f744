//! The primitive parts of the format: numbers, bytes, text, values.
//!
//! ```text
//! fixed     u8, u32, u64, u128          big-endian
//! varint    7 bits a byte, low first    LEB128, in its shortest form
//! zigzag    (n << 1) ^ (n >> 63)        then varint: small negatives are small
//! bytes     length varint │ bytes       text the same, and valid UTF-8
//! value     0 │ 1 zigzag │ 2 bits u64 │ 3 text │ 4 bytes
//! ```
//!
//! A decoder believes nothing: a length is compared with what is there before it is used, nothing is
//! allocated for a number, and bytes that our encoder would not have written are refused. So whatever
//! is read can be written again, to the same bytes.
//!
//! # What is left out
//!
//! Checksums, versions and compression: a [`Commit`](super::Commit)'s frame has the first two, the
//! link does the third. Schema evolution: a new format is a new [`FORMAT`] number, and a reader that
//! does not know it says so.

use super::{ValueRef, value::real_bits};
use crate::error::{Error, Result};

/// The version of the format that this build writes.
pub const FORMAT: u8 = 1;

/// Appends the primitive parts of the format.
#[derive(Debug, Default)]
pub struct Encoder(pub Vec<u8>);

impl Encoder {
    /// One byte.
    pub fn u8(&mut self, n: u8) {
        self.0.push(n);
    }

    /// An unsigned varint.
    pub fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    /// A signed varint.
    pub fn zigzag(&mut self, n: i64) {
        self.varint(((n << 1) ^ (n >> 63)) as u64);
    }

    /// Bytes with their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A value with its tag.
    pub fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.u8(0),
            ValueRef::Integer(i) => {
                self.u8(1);
                self.zigzag(i);
            }
            ValueRef::Real(r) => {
                self.u8(2);
                self.0.extend_from_slice(&real_bits(r).to_be_bytes());
            }
            ValueRef::Text(t) => {
                self.u8(3);
                self.bytes(t.as_bytes());
            }
            ValueRef::Blob(b) => {
                self.u8(4);
                self.bytes(b);
            }
        }
    }
}

/// Reads what [`Encoder`] wrote; every length is checked before it is believed.
#[derive(Debug, Clone, Copy)]
pub struct Decoder<'a>(pub &'a [u8]);

/// The error for bytes that do not parse.
pub(crate) fn malformed(what: &str) -> Error {
    Error::corrupt("FORMAT_CORRUPT", format!("a stored commit does not parse: {what}"))
        .hint("`syncline verify` names the damaged place; heal this copy from its source")
}

impl<'a> Decoder<'a> {
    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.0.len() {
            return Err(malformed("it ends too early"));
        }
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        Ok(head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A big-endian u32.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    /// A big-endian u64.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    /// A big-endian u128.
    pub fn u128(&mut self) -> Result<u128> {
        Ok(u128::from_be_bytes(self.take(16)?.try_into().expect("sixteen bytes")))
    }

    /// An unsigned varint, in its shortest form only.
    pub fn varint(&mut self) -> Result<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            // The tenth byte has room for one bit; a last byte of zero says nothing.
            if shift == 63 && byte > 1 || shift > 0 && byte == 0 {
                return Err(malformed("a number is not in its shortest form"));
            }
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(malformed("a number is too long"))
    }

    /// A signed varint.
    pub fn zigzag(&mut self) -> Result<i64> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// Bytes with their length.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let n = self.varint()?;
        self.take(usize::try_from(n).map_err(|_| malformed("a length is too large"))?)
    }

    /// Text with its length.
    pub fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| malformed("text is not UTF-8"))
    }

    /// A real, normalised.
    fn real(&mut self) -> Result<f64> {
        let bits = self.u64()?;
        let real = f64::from_bits(bits);
        if real_bits(real) != bits {
            return Err(malformed("a real is not normalised"));
        }
        Ok(real)
    }

    /// A value with its tag.
    pub fn value(&mut self) -> Result<ValueRef<'a>> {
        let tag = self.u8()?;
        self.value_of(tag)
    }

    /// A value whose tag was read already.
    pub(crate) fn value_of(&mut self, tag: u8) -> Result<ValueRef<'a>> {
        Ok(match tag {
            0 => ValueRef::Null,
            1 => ValueRef::Integer(self.zigzag()?),
            2 => ValueRef::Real(self.real()?),
            3 => ValueRef::Text(self.text()?),
            4 => ValueRef::Blob(self.bytes()?),
            _ => return Err(malformed("a value has an unknown tag")),
        })
    }
}
