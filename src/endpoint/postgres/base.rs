//! PostgreSQL's types, as far as their values are read without being written as text.

use crate::endpoint::Type;

/// The type under a column, and under all domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    /// `text` and `varchar`.
    Text,
    /// `char(n)`: padded with blanks that do not count.
    Char,
    Bytea,
    Uuid,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    /// `json` and `jsonb`.
    Json,
    /// Anything else: read and written as text.
    Other,
}

impl Base {
    /// By its name in `pg_catalog`.
    pub fn named(name: &str) -> Base {
        match name {
            "bool" => Base::Bool,
            "int2" => Base::Int2,
            "int4" => Base::Int4,
            "int8" => Base::Int8,
            "float4" => Base::Float4,
            "float8" => Base::Float8,
            "numeric" => Base::Numeric,
            "text" | "varchar" => Base::Text,
            "bpchar" => Base::Char,
            "bytea" => Base::Bytea,
            "uuid" => Base::Uuid,
            "date" => Base::Date,
            "time" => Base::Time,
            "timestamp" => Base::Timestamp,
            "timestamptz" => Base::Timestamptz,
            "json" | "jsonb" => Base::Json,
            _ => Base::Other,
        }
    }

    /// What it is to others; `digits` of a second.
    pub fn kind(self, digits: u8) -> Type {
        match self {
            Base::Bool => Type::Boolean,
            Base::Int2 | Base::Int4 | Base::Int8 => Type::Integer,
            Base::Float4 => Type::Real { single: true },
            Base::Float8 => Type::Real { single: false },
            Base::Numeric => Type::Decimal { exact: true },
            Base::Text | Base::Other => Type::Text { padded: false },
            Base::Char => Type::Text { padded: true },
            Base::Bytea => Type::Bytes,
            Base::Uuid => Type::Uuid,
            Base::Date => Type::Date,
            Base::Time => Type::Time { digits },
            Base::Timestamp => Type::Timestamp { digits },
            Base::Timestamptz => Type::Timestamptz { digits },
            Base::Json => Type::Json,
        }
    }

    /// Whether two values of this type, with so many digits of a second, are equal under this agreed type only
    /// if they are equal to PostgreSQL.
    pub fn is_exact(self, digits: u8, agreed: Type) -> bool {
        match (self, agreed) {
            (
                Base::Timestamp,
                Type::Timestamp { digits: kept } | Type::Timestamptz { digits: kept },
            )
            | (Base::Timestamptz, Type::Timestamptz { digits: kept })
            | (Base::Time, Type::Time { digits: kept }) => digits <= kept,
            (Base::Float4, Type::Real { .. }) => true,
            (Base::Json, _) => false,
            _ => agreed == self.kind(digits),
        }
    }

    /// The operator family's type that a literal is written as.
    pub fn literal(self) -> &'static str {
        match self {
            Base::Bool => "bool",
            Base::Int2 | Base::Int4 | Base::Int8 => "int8",
            Base::Float4 | Base::Float8 => "float8",
            Base::Numeric => "numeric",
            Base::Char => "bpchar",
            Base::Bytea => "bytea",
            Base::Uuid => "uuid",
            Base::Date => "date",
            Base::Time => "time",
            Base::Timestamp => "timestamp",
            Base::Timestamptz => "timestamptz",
            Base::Text | Base::Json | Base::Other => "text",
        }
    }
}
