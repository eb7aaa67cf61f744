//! Which PostgreSQL type holds a column, and which values it can give back.
//!
//! A column keeps its declared type; SQLite's rules say what may lie in it, and this says where.
//!
//! | declared | PostgreSQL | holds |
//! | --- | --- | --- |
//! | …INT… | `bigint` | integers |
//! | INT4, INT2 | `integer`, `smallint` | integers of 32, of 16 bits |
//! | …CHAR…, …CLOB…, …TEXT…, with `(n)` | `text`, `varchar(n)`, COLLATE "C" | text without NUL, at most n characters |
//! | …BLOB…, BYTEA | `bytea` | blobs |
//! | …REAL…, …FLOA…, …DOUB… | `double precision` | reals |
//! | BOOL, BOOLEAN | `boolean` | the integers 0 and 1 |
//! | NUMERIC, DECIMAL, with `(p)`, `(p, s)` | `numeric` | integers, and the reals that NUMERIC affinity leaves reals |
//! | DATE…, TIME…, UUID | `text` COLLATE "C" | text |
//! | JSON | `json` | text that PostgreSQL accepts as JSON, as it was written |
//! | TEXT UUID, TEXT TIMESTAMPTZ, TEXT JSONB, … | `uuid`, `timestamptz`, `jsonb`, … | text in PostgreSQL's own form, see the module `form` |
//! | REAL FLOAT4 | `real` | reals of 32 bits |
//!
//! The last two are what columns of an adopted table are declared as. A value that would come back as another one is refused, by the writer before anybody hears of it
//! ([`TableTypes::check`]); a type that is not in the table, when a table is created.
//!
//! Left out: enumerations, arrays and ranges. A declared type would have to carry another one's name.

use std::borrow::Cow;

use tokio_postgres::types::Type;

use super::form::Form;
use crate::change::{KeyKind, TableShape, ValueRef};
use crate::error::{Error, Result};

/// More columns than this might not fit into a page, whatever is in them.
const MOST_COLUMNS: usize = 300;
/// Longer names are cut off by PostgreSQL, silently.
const LONGEST_NAME: usize = 63;
/// An entry of an index must fit a third of a page.
const LONGEST_KEY: usize = 2600;
/// PostgreSQL's own limit of `varchar(n)`.
const LONGEST_VARCHAR: u64 = 10_485_760;
/// Deeper JSON might exhaust the stack of PostgreSQL's parser.
pub(super) const DEEPEST_JSON: usize = 500;
/// Names that every PostgreSQL table has columns of.
const SYSTEM_COLUMNS: [&str; 7] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", ROWID];
/// The key of a table that has no usable one.
pub(crate) const ROWID: &str = "_syncline_rowid";

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    /// `bigint`.
    Integer,
    /// `integer`.
    Int4,
    /// `smallint`.
    Int2,
    /// `text`, at most so many characters.
    Text(Option<u64>),
    /// `bytea`.
    Blob,
    /// `double precision`.
    Real,
    /// `real`.
    Float4,
    /// `boolean`.
    Boolean,
    /// `numeric`, with precision and scale.
    Numeric(Option<(u32, u32)>),
    /// `json`.
    Json,
    /// A type that gives text back in one form.
    Form(Form),
}

impl ColumnType {
    /// The type for a declared one, by SQLite's own rules of affinity first.
    pub fn of(declared: &str) -> Option<ColumnType> {
        let upper = declared.trim().to_ascii_uppercase();
        let (name, arguments) = match upper.split_once('(') {
            Some((name, rest)) => (name.trim(), Some(rest.split_once(')')?.0)),
            None => (upper.as_str(), None),
        };
        let has = |part: &str| upper.contains(part);
        if upper == "INT4" {
            Some(ColumnType::Int4)
        } else if upper == "INT2" {
            Some(ColumnType::Int2)
        } else if upper == "REAL FLOAT4" {
            Some(ColumnType::Float4)
        } else if let Some(word) = Form::word(name) {
            Form::of(word, arguments).map(ColumnType::Form)
        } else if has("INT") {
            Some(ColumnType::Integer)
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Some(ColumnType::Text(arguments.and_then(|n| n.trim().parse().ok())))
        } else if has("BLOB") || name == "BYTEA" {
            Some(ColumnType::Blob)
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Some(ColumnType::Real)
        } else {
            ColumnType::named(name, arguments)
        }
    }

    /// What SQLite gives NUMERIC affinity.
    fn named(name: &str, arguments: Option<&str>) -> Option<ColumnType> {
        match name {
            "BOOL" | "BOOLEAN" => Some(ColumnType::Boolean),
            "NUMERIC" | "DECIMAL" => Some(ColumnType::Numeric(match arguments {
                None => None,
                Some(arguments) => Some(precision_and_scale(arguments)?),
            })),
            "JSON" => Some(ColumnType::Json),
            "UUID" => Some(ColumnType::Text(None)),
            _ if name.starts_with("DATE") || name.starts_with("TIME") => {
                Some(ColumnType::Text(None))
            }
            _ => None,
        }
    }

    /// As PostgreSQL's CREATE TABLE says it.
    pub fn sql(self) -> Cow<'static, str> {
        match self {
            ColumnType::Integer => "bigint".into(),
            ColumnType::Int4 => "integer".into(),
            ColumnType::Int2 => "smallint".into(),
            ColumnType::Text(Some(n @ 1..=LONGEST_VARCHAR)) => {
                format!("varchar({n}) COLLATE \"C\"").into()
            }
            ColumnType::Text(_) => "text COLLATE \"C\"".into(),
            ColumnType::Blob => "bytea".into(),
            ColumnType::Real => "double precision".into(),
            ColumnType::Float4 => "real".into(),
            ColumnType::Boolean => "boolean".into(),
            ColumnType::Numeric(None) => "numeric".into(),
            ColumnType::Numeric(Some((p, s))) => format!("numeric({p}, {s})").into(),
            ColumnType::Json => "json".into(),
            ColumnType::Form(form) => form.sql(),
        }
    }

    /// Whether `format_type` reports it so: what tells whether a table is as it was made, or as it was
    /// adopted.
    pub fn is_reported_as(self, reported: &str) -> bool {
        match self {
            ColumnType::Text(Some(n @ 1..=LONGEST_VARCHAR)) => {
                reported == format!("character varying({n})")
            }
            ColumnType::Text(_) => ["text", "character varying"].contains(&reported),
            ColumnType::Numeric(Some((p, s))) => reported == format!("numeric({p},{s})"),
            other => reported == other.sql(),
        }
    }

    /// The name to declare a column by that PostgreSQL reports so; none if no column of ours is just like it.
    pub fn declaration(reported: &str) -> Option<String> {
        let declared = match reported {
            "integer" => "INT4".to_owned(),
            "smallint" => "INT2".to_owned(),
            "bytea" => "BLOB".to_owned(),
            "real" => "REAL FLOAT4".to_owned(),
            other => match (Form::declaration(other), other.strip_prefix("character varying")) {
                (Some(declared), _) => declared,
                (None, Some(size)) => format!("VARCHAR{size}"),
                (None, None) => other.to_uppercase(),
            },
        };
        let kind = ColumnType::of(&declared)?;
        kind.is_reported_as(reported).then_some(declared)
    }

    /// The type in which its values travel.
    pub fn wire(self) -> &'static str {
        match self {
            ColumnType::Integer | ColumnType::Int4 | ColumnType::Int2 => "int8",
            ColumnType::Blob => "bytea",
            ColumnType::Real | ColumnType::Float4 => "float8",
            ColumnType::Boolean => "bool",
            ColumnType::Text(_)
            | ColumnType::Numeric(_)
            | ColumnType::Json
            | ColumnType::Form(_) => "text",
        }
    }

    /// … as the client library names it.
    pub fn wire_type(self) -> Type {
        match self.wire() {
            "int8" => Type::INT8,
            "bytea" => Type::BYTEA,
            "float8" => Type::FLOAT8,
            "bool" => Type::BOOL,
            _ => Type::TEXT,
        }
    }

    /// How a value that came over the wire is put into the column.
    pub fn wire_cast(self) -> &'static str {
        match self {
            ColumnType::Numeric(_) => "::numeric",
            ColumnType::Json => "::json",
            ColumnType::Float4 => "::float4",
            ColumnType::Form(form) => form.cast(),
            _ => "",
        }
    }

    /// How the column is read in the type in which its values travel.
    pub fn read_cast(self) -> &'static str {
        match self {
            ColumnType::Numeric(_) | ColumnType::Json => "::text",
            ColumnType::Form(form) => form.read_cast(),
            ColumnType::Float4 => "::float8",
            ColumnType::Int4 | ColumnType::Int2 => "::int8",
            _ => "",
        }
    }

    /// Both sides of a comparison of the column with a parameter. 1.0 and 1.00 are one number; in JSON
    /// they are two texts, and it is compared as text.
    pub fn sides(self, column: &str, parameter: usize) -> (String, String) {
        match self {
            ColumnType::Json | ColumnType::Form(Form::Jsonb) => {
                (format!("{column}::text"), format!("${parameter}::text"))
            }
            _ => (column.to_owned(), format!("${parameter}::{}{}", self.wire(), self.wire_cast())),
        }
    }

    /// Whether PostgreSQL tells two of its values apart in an index, as SQLite does.
    pub fn has_order(self) -> bool {
        !matches!(self, ColumnType::Json | ColumnType::Form(Form::Jsonb))
    }

    /// Why the column cannot give back this value exactly; none if it can.
    pub fn refuses(self, value: ValueRef<'_>) -> Option<&'static str> {
        match (self, value) {
            (_, ValueRef::Null)
            | (ColumnType::Integer, ValueRef::Integer(_))
            | (ColumnType::Blob, ValueRef::Blob(_))
            | (ColumnType::Real, ValueRef::Real(_))
            | (ColumnType::Int4, ValueRef::Integer(-0x8000_0000..=0x7fff_ffff))
            | (ColumnType::Int2, ValueRef::Integer(-0x8000..=0x7fff))
            | (ColumnType::Boolean, ValueRef::Integer(0 | 1)) => None,
            (ColumnType::Text(limit), ValueRef::Text(text)) => refuses_text(text, limit),
            (ColumnType::Json, ValueRef::Text(text)) => refuses_json(text),
            (ColumnType::Form(form), ValueRef::Text(text)) => {
                (!form.holds(text)).then(|| form.holds_only())
            }
            (ColumnType::Float4, ValueRef::Real(real)) => {
                (f64::from(real as f32) != real).then_some("holds reals of 32 bits only")
            }
            (ColumnType::Numeric(size), ValueRef::Integer(_) | ValueRef::Real(_)) => {
                refuses_number(value, size)
            }
            (ColumnType::Integer, _) => Some("holds integers only"),
            (ColumnType::Int4, _) => Some("holds integers of 32 bits only"),
            (ColumnType::Int2, _) => Some("holds integers of 16 bits only"),
            (ColumnType::Text(_) | ColumnType::Json | ColumnType::Form(_), _) => {
                Some("holds text only")
            }
            (ColumnType::Blob, _) => Some("holds blobs only"),
            (ColumnType::Real | ColumnType::Float4, _) => Some("holds reals only"),
            (ColumnType::Boolean, _) => Some("holds 0 and 1 only"),
            (ColumnType::Numeric(_), _) => Some("holds numbers only"),
        }
    }

    /// What to do about a value that it refuses.
    fn hint(self, value: ValueRef<'_>) -> Cow<'static, str> {
        match (self, value) {
            (ColumnType::Form(form), _) => form.example().into(),
            (ColumnType::Float4, ValueRef::Real(real)) => {
                format!("the nearest that it holds is {:?}", f64::from(real as f32)).into()
            }
            _ => "the backing database must give back exactly what it was given: \
                  change the value, or the declared type of the column"
                .into(),
        }
    }
}

/// `p` or `p, s`, as PostgreSQL takes them.
fn precision_and_scale(arguments: &str) -> Option<(u32, u32)> {
    let (p, s) = arguments.split_once(',').unwrap_or((arguments, "0"));
    let (p, s) = (p.trim().parse().ok()?, s.trim().parse().ok()?);
    ((1..=1000).contains(&p) && s <= p).then_some((p, s))
}

fn refuses_text(text: &str, limit: Option<u64>) -> Option<&'static str> {
    if text.contains('\0') {
        return Some("cannot hold the character NUL");
    }
    let fits = limit.is_none_or(|n| text.len() as u64 <= n || text.chars().count() as u64 <= n);
    if fits { None } else { Some("is declared shorter than the text") }
}

fn refuses_json(text: &str) -> Option<&'static str> {
    if json_depth(text) > DEEPEST_JSON {
        return Some("holds JSON of at most 500 levels");
    }
    let read = serde_json::from_str::<serde::de::IgnoredAny>(text);
    if read.is_ok() { None } else { Some("holds JSON only") }
}

/// How deep arrays and objects are nested; of text that is no JSON, anything.
fn json_depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn refuses_number(value: ValueRef<'_>, size: Option<(u32, u32)>) -> Option<&'static str> {
    if matches!(value, ValueRef::Real(real) if !real.is_finite()) {
        return Some("cannot hold infinity");
    }
    let text = decimal(value);
    let digits = text.trim_start_matches('-');
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0').len();
    if size.is_some_and(|(p, s)| whole > (p - s) as usize || fraction.len() > s as usize) {
        return Some("is declared with fewer digits than the number has");
    }
    // SQLite itself makes an integer of such a real.
    if read_decimal(&text) == value { None } else { Some("cannot tell this real from an integer") }
}

/// A number as PostgreSQL's `numeric` takes it: the shortest text that gives the real back.
pub(crate) fn decimal(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Integer(n) => n.to_string(),
        ValueRef::Real(r) => r.to_string(),
        _ => String::new(),
    }
}

/// The value that SQLite's NUMERIC affinity makes of a `numeric`.
pub(crate) fn read_decimal(text: &str) -> ValueRef<'static> {
    let integral = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|b| b == b'0') => whole,
        _ => text,
    };
    match integral.parse() {
        Ok(n) => ValueRef::Integer(n),
        Err(_) => ValueRef::Real(text.parse().unwrap_or(f64::NAN)),
    }
}

/// A stored column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypedColumn {
    pub name: String,
    pub kind: ColumnType,
}

/// The types of a table's stored columns, in declared order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableTypes {
    table: String,
    pub(crate) columns: Vec<TypedColumn>,
    /// What is in an index, by place among the columns: its values must be short.
    keys: Vec<Vec<usize>>,
}

impl TableTypes {
    /// The types for a table with the unique keys `unique` (places among the shape's columns) beside its
    /// own; fails, with table and column named, if there is one that PostgreSQL has no place for.
    pub fn of(shape: &TableShape, unique: &[Vec<usize>]) -> Result<TableTypes> {
        check_name("the table", &shape.name)?;
        let mut columns = Vec::new();
        for (_, column) in shape.stored_columns() {
            check_name(
                &format!("column {:?} of table {:?}", column.name, shape.name),
                &column.name,
            )?;
            let kind = ColumnType::of(&column.decltype)
                .filter(|kind| kind.has_order() || column.pk == 0)
                .ok_or_else(|| unknown_type(&shape.name, column))?;
            columns.push(TypedColumn { name: column.name.clone(), kind });
        }
        if columns.len() > MOST_COLUMNS {
            let message = format!(
                "table {:?} has {} columns; PostgreSQL holds {MOST_COLUMNS} for sure",
                shape.name,
                columns.len()
            );
            return Err(Error::invalid("TABLE_UNSUPPORTED", message).hint("split the table"));
        }
        let own = match &shape.key {
            KeyKind::Alias(column) => vec![*column],
            KeyKind::Columns(columns) => columns.clone(),
            KeyKind::Rowid => Vec::new(),
        };
        let place = |column: &usize| shape.stored_columns().position(|(i, _)| i == *column);
        let keys = std::iter::once(&own).chain(unique);
        let keys = keys.map(|key| key.iter().filter_map(place).collect()).collect();
        Ok(TableTypes { table: shape.name.clone(), columns, keys })
    }

    /// Fails, with table and column named, if a value would not come back exactly as given.
    pub fn check(&self, values: &[ValueRef<'_>]) -> Result<()> {
        for (column, value) in self.columns.iter().zip(values) {
            if let Some(why) = column.kind.refuses(*value) {
                let message = format!("column {:?} of table {:?} {why}", column.name, self.table);
                let hint = column.kind.hint(*value);
                return Err(Error::invalid("VALUE_UNSUPPORTED", message).hint(hint));
            }
        }
        let too_long =
            |key: &&Vec<usize>| key.iter().map(|c| length(values, *c)).sum::<usize>() > LONGEST_KEY;
        let Some(key) = self.keys.iter().find(too_long) else { return Ok(()) };
        let names: Vec<&str> = key.iter().map(|c| self.columns[*c].name.as_str()).collect();
        let message = format!("a key of table {:?} ({}) is too long", self.table, names.join(", "));
        Err(Error::invalid("VALUE_UNSUPPORTED", message)
            .hint("PostgreSQL indexes at most 2600 bytes: make a shorter value the key"))
    }
}

fn length(values: &[ValueRef<'_>], place: usize) -> usize {
    match values.get(place) {
        Some(ValueRef::Text(text)) => text.len(),
        Some(ValueRef::Blob(blob)) => blob.len(),
        _ => 8,
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    let wrong = if name.is_empty() {
        "has no name"
    } else if name.len() > LONGEST_NAME {
        "has a name over 63 bytes long"
    } else if SYSTEM_COLUMNS.contains(&name) {
        "has a name that PostgreSQL keeps for itself"
    } else {
        return Ok(());
    };
    let message = format!("{what} {wrong}: the backing database cannot hold it");
    Err(Error::invalid("NAME_UNSUPPORTED", message).hint("choose another name"))
}

fn unknown_type(table: &str, column: &crate::change::Column) -> Error {
    let declared = match column.decltype.as_str() {
        "" => "has no declared type".to_owned(),
        declared => format!("is declared {declared:?}"),
    };
    let place = if column.pk > 0 { " as a key" } else { "" };
    let message = format!(
        "column {:?} of table {table:?} {declared}: PostgreSQL has no type that holds it{place}",
        column.name
    );
    Error::invalid("TYPE_UNSUPPORTED", message).hint(
        "declare it INTEGER, TEXT, VARCHAR(n), BLOB, REAL, BOOLEAN, NUMERIC(p, s), DATE, TIMESTAMP, UUID or JSON",
    )
}
