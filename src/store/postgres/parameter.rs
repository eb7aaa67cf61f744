//! Parameters of statements: values, and arrays of them.
//!
//! A value travels in the type that the statement gives the parameter. What it may not hold was refused
//! before, so a mismatch here is a mistake of ours.

use std::error::Error as StdError;
use std::fmt;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::types::decimal;
use crate::change::{Value, ValueRef};

/// A value on its way.
pub(crate) struct Sent(pub Value);

/// What a statement is given.
#[derive(Debug)]
pub(crate) enum Parameter {
    /// A value.
    One(Sent),
    /// A column of many rows.
    Many(Vec<Sent>),
}

impl fmt::Debug for Sent {
    /// Nobody's data belongs in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Parameter {
    /// The type that a value of ours has by itself.
    pub fn own_type(&self) -> Type {
        match self {
            Parameter::One(Sent(Value::Integer(_))) => Type::INT8,
            Parameter::One(Sent(Value::Real(_))) => Type::FLOAT8,
            Parameter::One(Sent(Value::Blob(_))) => Type::BYTEA,
            Parameter::One(Sent(Value::Null | Value::Text(_))) | Parameter::Many(_) => Type::TEXT,
        }
    }
}

impl From<ValueRef<'_>> for Parameter {
    fn from(value: ValueRef<'_>) -> Self {
        Parameter::One(Sent(value.to_owned()))
    }
}

/// A number that PostgreSQL keeps as its signed twin.
pub(crate) fn int(n: u64) -> Parameter {
    ValueRef::Integer(n as i64).into()
}

/// Text of ours.
pub(crate) fn text(text: &str) -> Parameter {
    ValueRef::Text(text).into()
}

/// Bytes of ours.
pub(crate) fn bytes(bytes: &[u8]) -> Parameter {
    ValueRef::Blob(bytes).into()
}

type Written = Result<IsNull, Box<dyn StdError + Sync + Send>>;

impl ToSql for Sent {
    fn to_sql(&self, to: &Type, out: &mut BytesMut) -> Written {
        let number = matches!(self.0, Value::Integer(_) | Value::Real(_));
        match &self.0 {
            Value::Null => return Ok(IsNull::Yes),
            value if number && *to == Type::TEXT => {
                out.put_slice(decimal(value.as_ref()).as_bytes());
            }
            Value::Integer(n) if *to == Type::INT8 => out.put_i64(*n),
            Value::Integer(n) if *to == Type::BOOL => out.put_u8(u8::from(*n != 0)),
            Value::Real(r) if *to == Type::FLOAT8 => out.put_f64(*r),
            Value::Text(text) if *to == Type::TEXT => out.put_slice(text.as_bytes()),
            Value::Blob(blob) if *to == Type::BYTEA => out.put_slice(blob),
            _ => return Err(format!("a value of another class was sent as {to}").into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSql for Parameter {
    fn to_sql(&self, to: &Type, out: &mut BytesMut) -> Written {
        match self {
            Parameter::One(value) => value.to_sql(to, out),
            Parameter::Many(values) => values.to_sql(to, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
