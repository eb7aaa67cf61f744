//! The canonical form: rows and keys as bytes, the same for equal rows of any two engines.
//!
//! ```text
//! row   value ‖ value ‖ …       00 null · 01 zigzag varint · 02 f64 · 03 text · 04 bytes (varint length)
//! key   value ‖ value ‖ …       compares as bytes the way that the values compare:
//!         05                    null
//!         0f f64                a number below every i64
//!         10 i64                an integer (sign bit flipped)
//!         10 i64 ff f64         a number between two: the lower one, and the rest
//!         11 f64                a number above every i64
//!         30 text 00 01         text by its bytes; 00 is written as 00 ff
//!         40 bytes 00 01        a blob, likewise
//! ```
//!
//! A row's hash is XXH3-128 over the row's bytes, which hold the key, too: equal edits on many rows do not
//! cancel, and no sum of hashes is a hash of sums. Where there is no key, the row's hash is its key, with a
//! number behind it that tells equal rows apart.
//!
//! [`form`] brings what an engine holds into the form that the agreed type asks for.
//!
//! Left out: an order of decimals. Their text does not compare as they do; endpoints sort such keys themselves.

pub mod form;
mod json;
pub(super) mod moment;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::change::{Digest, Value, ValueRef};
use crate::error::{Error, Result};

/// The hash of a row's bytes.
pub fn hash(row: &[u8]) -> Digest {
    Digest(xxh3_128(row))
}

/// How many trailing zeros a key's hash has: a chunk of `bits` ends behind keys that have that many.
pub fn level(key: &[u8]) -> u32 {
    // The whole hash zero would end every chunk; so would 64.
    xxh3_64(key).trailing_zeros()
}

fn damaged() -> Error {
    Error::corrupt("ENDPOINT_BYTES", "a row or key in canonical form does not parse")
        .hint("both ends of the line must run the same version of syncline")
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err(damaged())
}

pub(super) fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(n).ok_or_else(damaged)?;
    *bytes = rest;
    Ok(taken)
}

pub(super) fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    Ok(take(bytes, N)?.try_into().expect("as many were taken"))
}

/// Adds a value to a row.
pub fn put_value(row: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => row.push(0),
        ValueRef::Integer(i) => {
            row.push(1);
            put_varint(row, ((i << 1) ^ (i >> 63)) as u64);
        }
        ValueRef::Real(r) => {
            row.push(2);
            row.extend(normal(r).to_be_bytes());
        }
        ValueRef::Text(text) => put_bytes(row, 3, text.as_bytes()),
        ValueRef::Blob(blob) => put_bytes(row, 4, blob),
    }
}

fn put_bytes(row: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    row.push(tag);
    put_varint(row, bytes.len() as u64);
    row.extend_from_slice(bytes);
}

/// One zero, and one NaN.
fn normal(real: f64) -> f64 {
    // Minus zero and zero add up to zero.
    if real.is_nan() { f64::NAN } else { real + 0.0 }
}

/// The values of a row.
pub fn decode_row(mut row: &[u8], columns: usize) -> Result<Vec<Value>> {
    let values = (0..columns).map(|_| take_value(&mut row)).collect::<Result<Vec<_>>>()?;
    match row {
        [] => Ok(values),
        _ => Err(damaged()),
    }
}

fn take_value(row: &mut &[u8]) -> Result<Value> {
    Ok(match take(row, 1)?[0] {
        0 => Value::Null,
        1 => {
            let n = take_varint(row)?;
            Value::Integer((n >> 1) as i64 ^ -((n & 1) as i64))
        }
        2 => Value::Real(f64::from_be_bytes(take_array(row)?)),
        3 => Value::Text(text_of(take_sized(row)?)?),
        4 => Value::Blob(take_sized(row)?.to_vec()),
        _ => return Err(damaged()),
    })
}

fn take_sized<'a>(row: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = usize::try_from(take_varint(row)?).map_err(|_| damaged())?;
    take(row, length)
}

fn text_of(bytes: &[u8]) -> Result<String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| damaged())
}

const INTEGER: u8 = 0x10;
const BETWEEN: u8 = 0xff;
const SIGN: u64 = 1 << 63;

/// Adds a value to a key.
pub fn put_key(key: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => key.push(0x05),
        ValueRef::Integer(i) => put_integer(key, i),
        ValueRef::Real(r) => put_real(key, normal(r)),
        ValueRef::Text(text) => put_escaped(key, 0x30, text.as_bytes()),
        ValueRef::Blob(blob) => put_escaped(key, 0x40, blob),
    }
}

fn put_integer(key: &mut Vec<u8>, i: i64) {
    key.push(INTEGER);
    key.extend((i as u64 ^ SIGN).to_be_bytes());
}

/// A real that is an integer is that integer: engines take the two for one key.
fn put_real(key: &mut Vec<u8>, r: f64) {
    let floor = r.floor();
    if floor < -(SIGN as f64) {
        key.push(0x0f);
        key.extend(ordered(r).to_be_bytes());
    } else if floor >= SIGN as f64 || r.is_nan() {
        key.push(0x11);
        key.extend(ordered(r).to_be_bytes());
    } else {
        put_integer(key, floor as i64);
        if r > floor {
            key.push(BETWEEN);
            key.extend(ordered(r).to_be_bytes());
        }
    }
}

/// The bits of a float, ascending as floats do.
fn ordered(r: f64) -> u64 {
    let bits = r.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn unordered(bits: u64) -> f64 {
    f64::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN })
}

fn put_escaped(key: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    key.push(tag);
    for part in bytes.split_inclusive(|byte| *byte == 0) {
        key.extend_from_slice(part);
        if part.ends_with(&[0]) {
            key.push(0xff);
        }
    }
    key.extend([0x00, 0x01]);
}

/// The key of these values.
pub fn encode_key<'a>(values: impl IntoIterator<Item = ValueRef<'a>>) -> Vec<u8> {
    let mut key = Vec::new();
    values.into_iter().for_each(|value| put_key(&mut key, value));
    key
}

/// The values of a key.
pub fn decode_key(mut key: &[u8]) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    while !key.is_empty() {
        values.push(take_key_value(&mut key)?);
    }
    Ok(values)
}

fn take_key_value(key: &mut &[u8]) -> Result<Value> {
    Ok(match take(key, 1)?[0] {
        0x05 => Value::Null,
        0x0f | 0x11 => Value::Real(unordered(u64::from_be_bytes(take_array(key)?))),
        INTEGER => {
            let floor = (u64::from_be_bytes(take_array(key)?) ^ SIGN) as i64;
            if key.first() != Some(&BETWEEN) {
                return Ok(Value::Integer(floor));
            }
            take(key, 1)?;
            Value::Real(unordered(u64::from_be_bytes(take_array(key)?)))
        }
        0x30 => Value::Text(text_of(&take_escaped(key)?)?),
        0x40 => Value::Blob(take_escaped(key)?),
        _ => return Err(damaged()),
    })
}

fn take_escaped(key: &mut &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match take(key, 1)?[0] {
            0 => match take(key, 1)?[0] {
                0xff => bytes.push(0),
                0x01 => return Ok(bytes),
                _ => return Err(damaged()),
            },
            byte => bytes.push(byte),
        }
    }
}

/// The key of the n-th of equal rows without a key.
pub fn multiset_key(hash: Digest, nth: u32) -> Vec<u8> {
    [&hash.to_bytes()[..], &nth.to_be_bytes()].concat()
}

/// The hash of [`multiset_key`], and which one of the equal rows.
pub fn split_multiset_key(mut key: &[u8]) -> Result<(Digest, u32)> {
    let hash = Digest::from_bytes(take_array(&mut key)?);
    let nth = u32::from_be_bytes(take_array(&mut key)?);
    if key.is_empty() { Ok((hash, nth)) } else { Err(damaged()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            (-3i64..3).prop_map(Value::Integer),
            any::<f64>().prop_map(Value::Real),
            (-12i32..12).prop_map(|n| Value::Real(f64::from(n) / 4.0)),
            "[a\0\u{ff}]{0,3}".prop_map(Value::Text),
            proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(255)], 0..3)
                .prop_map(Value::Blob),
        ]
    }

    fn key(values: &[Value]) -> Vec<u8> {
        encode_key(values.iter().map(Value::as_ref))
    }

    /// How SQLite orders values of different classes, as plainly as possible.
    fn order(a: &Value, b: &Value) -> std::cmp::Ordering {
        use Value::*;
        let class = |v: &Value| match v {
            Null => 0,
            Integer(_) | Real(_) => 1,
            Text(_) => 2,
            Blob(_) => 3,
        };
        match (a, b) {
            (Integer(a), Integer(b)) => a.cmp(b),
            (Real(a), Real(b)) => a.partial_cmp(b).unwrap(),
            (Integer(a), Real(b)) => i128::from(*a)
                .cmp(&(b.clamp(-1e30, 1e30).floor() as i128))
                .then(if b.floor() < *b {
                    std::cmp::Ordering::Less
                } else {
                    std::cmp::Ordering::Equal
                }),
            (Real(_), Integer(_)) => order(b, a).reverse(),
            (Text(a), Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Blob(a), Blob(b)) => a.cmp(b),
            _ => class(a).cmp(&class(b)),
        }
    }

    proptest! {
        #[test]
        fn keys_compare_as_values_do(
            a in proptest::collection::vec(any_value(), 2),
            b in proptest::collection::vec(any_value(), 2),
        ) {
            let nan = |v: &Value| matches!(v, Value::Real(r) if r.is_nan());
            prop_assume!(!a.iter().chain(&b).any(nan));
            let wanted = order(&a[0], &b[0]).then_with(|| order(&a[1], &b[1]));
            prop_assert_eq!(key(&a).cmp(&key(&b)), wanted, "{:?} {:?}", a, b);
        }

        #[test]
        fn rows_and_keys_come_back(values in proptest::collection::vec(any_value(), 0..4)) {
            let mut row = Vec::new();
            values.iter().for_each(|value| put_value(&mut row, value.as_ref()));
            prop_assert_eq!(&decode_row(&row, values.len()).unwrap(), &values);
            let again = decode_key(&key(&values)).unwrap();
            prop_assert_eq!(key(&again), key(&values));
            for end in 0..row.len() {
                prop_assert!(decode_row(&row[..end], values.len()).is_err());
            }
        }
    }
}
