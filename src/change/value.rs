//! Values: what a cell holds, on every engine.
//!
//! These are SQLite's five storage classes. Two values are equal if they are of one class and hold
//! the same: the integer 1 is not the real 1.0, and no collation is asked. Reals are normalised
//! wherever they are hashed, compared or written: `-0.0` is `0.0`, and there is one NaN (SQLite
//! itself turns NaN into NULL on storing).
//!
//! # What is left out
//!
//! Dates, decimals, booleans, JSON: SQLite stores them as one of the five, and so do we. Text that
//! is not UTF-8 fails the statement that brings it. An order between values: it would depend on a
//! collation, and nothing here needs one.

/// One cell. A store that cannot give back exactly what it was given refuses it.
#[derive(Debug, Clone)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A 64-bit signed integer.
    Integer(i64),
    /// A 64-bit float.
    Real(f64),
    /// Valid UTF-8.
    Text(String),
    /// Any bytes.
    Blob(Vec<u8>),
}

/// A borrowed [`Value`].
#[derive(Debug, Clone, Copy)]
pub enum ValueRef<'a> {
    /// SQL NULL.
    Null,
    /// A 64-bit signed integer.
    Integer(i64),
    /// A 64-bit float.
    Real(f64),
    /// Valid UTF-8.
    Text(&'a str),
    /// Any bytes.
    Blob(&'a [u8]),
}

/// The bits of a real as they are hashed and compared.
pub(crate) fn real_bits(real: f64) -> u64 {
    if real == 0.0 {
        0
    } else if real.is_nan() {
        0x7ff8_0000_0000_0000
    } else {
        real.to_bits()
    }
}

impl PartialEq for ValueRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (ValueRef::Null, ValueRef::Null) => true,
            (ValueRef::Integer(a), ValueRef::Integer(b)) => a == b,
            (ValueRef::Real(a), ValueRef::Real(b)) => real_bits(*a) == real_bits(*b),
            (ValueRef::Text(a), ValueRef::Text(b)) => a == b,
            (ValueRef::Blob(a), ValueRef::Blob(b)) => a == b,
            _ => false,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Value {
    /// The same value, borrowed.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Null => ValueRef::Null,
            Value::Integer(i) => ValueRef::Integer(*i),
            Value::Real(r) => ValueRef::Real(*r),
            Value::Text(t) => ValueRef::Text(t),
            Value::Blob(b) => ValueRef::Blob(b),
        }
    }
}

impl ValueRef<'_> {
    /// Whether this is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, ValueRef::Null)
    }

    /// The same value, owned.
    pub fn to_owned(self) -> Value {
        match self {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(i) => Value::Integer(i),
            ValueRef::Real(r) => Value::Real(r),
            ValueRef::Text(t) => Value::Text(t.to_owned()),
            ValueRef::Blob(b) => Value::Blob(b.to_vec()),
        }
    }
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> Self {
        value.as_ref()
    }
}
