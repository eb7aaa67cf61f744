//! Numbers and values: whatever is read can be written again, to the same bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::values::value;
use crate::change::{Decoder, Encoder};
use crate::error::Result;

/// Reads one thing from `bytes`; if that succeeds, writes it and compares with what was read.
fn reads_as_written<'a, T: Copy>(
    bytes: &'a [u8],
    read: impl Fn(&mut Decoder<'a>) -> Result<T>,
    write: impl Fn(&mut Encoder, T),
) -> bool {
    let mut decoder = Decoder(bytes);
    let Ok(thing) = read(&mut decoder) else { return false };
    let mut encoder = Encoder::default();
    write(&mut encoder, thing);
    assert_eq!(encoder.0, bytes[..bytes.len() - decoder.0.len()]);
    true
}

proptest! {
    #[test]
    fn codec_numbers_come_back(unsigned in any::<u64>(), shift in 0..64u32, signed in any::<i64>()) {
        let mut encoder = Encoder::default();
        encoder.varint(unsigned >> shift);
        encoder.zigzag(signed >> shift);
        let mut decoder = Decoder(&encoder.0);
        prop_assert_eq!(decoder.varint().unwrap(), unsigned >> shift);
        prop_assert_eq!(decoder.zigzag().unwrap(), signed >> shift);
        prop_assert!(decoder.is_empty());
    }

    #[test]
    fn codec_values_come_back(value in value()) {
        let mut encoder = Encoder::default();
        encoder.value(value.as_ref());
        let mut decoder = Decoder(&encoder.0);
        prop_assert_eq!(decoder.value().unwrap().to_owned(), value);
        prop_assert!(decoder.is_empty());
        for cut in 0..encoder.0.len() {
            prop_assert!(Decoder(&encoder.0[..cut]).value().is_err());
        }
    }

    #[test]
    fn codec_refuses_what_it_would_not_write(tag in 0..6u8, tail in vec(any::<u8>(), 0..24)) {
        reads_as_written(&tail, Decoder::varint, Encoder::varint);
        reads_as_written(&tail, Decoder::zigzag, Encoder::zigzag);
        let bytes = [&[tag], tail.as_slice()].concat();
        let read = reads_as_written(&bytes, Decoder::value, Encoder::value);
        prop_assert!(tag < 5 || !read, "tag 5 is not a value's");
    }
}

#[test]
fn codec_refuses_second_forms() {
    let negative_zero = [&[2][..], &(-0.0f64).to_bits().to_be_bytes()].concat();
    let another_nan = [&[2][..], &0x7ff8_0000_0000_0001u64.to_be_bytes()].concat();
    assert!(Decoder(&negative_zero).value().is_err());
    assert!(Decoder(&another_nan).value().is_err());
    assert!(Decoder(&[0x80, 0x00]).varint().is_err(), "zero in two bytes");
    assert!(Decoder(&[0xff; 10]).varint().is_err(), "more than 64 bits");
    assert!(Decoder(&[3, 1, 0xff]).value().is_err(), "text that is not UTF-8");
}

#[test]
fn codec_believes_no_length() {
    let mut encoder = Encoder::default();
    encoder.u8(4);
    encoder.varint(u64::MAX);
    assert!(Decoder(&encoder.0).value().is_err());
}
