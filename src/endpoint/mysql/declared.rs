//! Types as the server declares them, and what they mean.
//!
//! A plan's columns carry the declared type with its collation, `varchar(20) COLLATE utf8mb4_bin`, so that nobody
//! needs to ask the catalogue again: it tells how the column sorts, and what it takes for equal.
//!
//! Left out: what is inside geometries. They are compared as the bytes that the server stores.

use crate::endpoint::order::making;
use crate::endpoint::{Column, ForeignKey, Table, Type};

/// A declared type, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Declared<'a> {
    /// Its first word, in lower case as the server writes it.
    pub word: &'a str,
    /// The number in brackets.
    pub size: Option<u32>,
    /// The second number in brackets.
    pub scale: Option<u32>,
    pub is_unsigned: bool,
    pub collation: Option<&'a str>,
}

impl<'a> Declared<'a> {
    pub fn of(text: &'a str) -> Declared<'a> {
        let (head, collation) = match text.rsplit_once(" COLLATE ") {
            Some((head, collation)) => (head, Some(collation)),
            None => (text, None),
        };
        let end = head.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(head.len());
        let (word, rest) = head.split_at(end);
        let inside = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let mut numbers =
            inside.map_or("", |(inside, _)| inside).split(',').map(|n| n.parse().ok());
        Declared {
            word,
            size: numbers.next().flatten(),
            scale: numbers.next().flatten(),
            is_unsigned: rest.contains(" unsigned"),
            collation,
        }
    }

    pub fn is_integer(&self) -> bool {
        matches!(self.word, "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year")
    }

    pub fn is_text(&self) -> bool {
        matches!(
            self.word,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set"
        )
    }

    pub fn holds_bytes(&self) -> bool {
        matches!(
            self.word,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob"
        )
    }

    /// Whether texts sort by their UTF-8 bytes, those with blanks at their end, too.
    pub fn is_exact(&self) -> bool {
        matches!(
            self.collation,
            Some(
                "utf8mb4_nopad_bin"
                    | "utf8mb3_nopad_bin"
                    | "utf8_nopad_bin"
                    | "ascii_nopad_bin"
                    | "utf8mb4_0900_bin"
            )
        ) && !matches!(self.word, "enum" | "set")
    }

    /// The widest type that the column holds all of.
    pub fn kind(&self) -> Type {
        let digits = self.size.unwrap_or(0).min(6) as u8;
        match self.word {
            "tinyint" if self.size == Some(1) && !self.is_unsigned => Type::Boolean,
            // One half of its numbers is no 64-bit integer.
            "bigint" if self.is_unsigned => Type::Decimal { exact: true },
            "bit" => match self.size {
                None | Some(1) => Type::Boolean,
                Some(64) => Type::Decimal { exact: true },
                _ => Type::Integer,
            },
            "decimal" => Type::Decimal { exact: true },
            "float" => Type::Real { single: true },
            "double" => Type::Real { single: false },
            "char" => Type::Text { padded: true },
            "date" => Type::Date,
            "time" => Type::Time { digits },
            "datetime" => Type::Timestamp { digits },
            "timestamp" => Type::Timestamptz { digits },
            "uuid" => Type::Uuid,
            "json" => Type::Json,
            "inet4" | "inet6" => Type::Text { padded: false },
            _ if self.is_integer() => Type::Integer,
            _ if self.is_text() => Type::Text { padded: false },
            _ => Type::Bytes,
        }
    }
}

/// What tables that are made here can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The collation that keeps apart all texts that differ.
    pub exact: &'static str,
    /// Whether there is a type for UUIDs.
    pub has_uuid: bool,
}

impl Dialect {
    pub fn of(is_maria: bool, version: (u16, u16, u16)) -> Dialect {
        let exact = match is_maria {
            true if version >= (10, 2, 2) => "utf8mb4_nopad_bin",
            false if version >= (8, 0, 17) => "utf8mb4_0900_bin",
            _ => "utf8mb4_bin",
        };
        Dialect { exact, has_uuid: is_maria && version >= (10, 7, 0) }
    }
}

/// An identifier as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Names, separated by commas.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// The longest index entry has 3072 bytes, and a character up to four.
const KEY_CHARACTERS: u32 = 3072 / 4;
/// Rows are at most 65,535 bytes without what lies outside of them: texts of more columns do.
const ROOMY: usize = 40;

/// How a column is to be made.
struct Room {
    /// The characters that it may have as a part of a key; none: it is in no key.
    in_key: Option<u32>,
    /// Whether short texts lie in the row.
    in_row: bool,
}

fn definition(column: &Column, room: &Room, dialect: Dialect) -> String {
    let not_null = if column.not_null { " NOT NULL" } else { " NULL" };
    format!("{} {}{not_null}", quoted(&column.name), written(column, room, dialect))
}

fn written(column: &Column, room: &Room, dialect: Dialect) -> String {
    let sized = |short: &str, long: &str| match (room.in_key, column.size) {
        (Some(most), size) => format!("{short}({})", size.unwrap_or(most).clamp(1, most)),
        (None, Some(size @ 1..=255)) if room.in_row => format!("{short}({size})"),
        _ => long.to_owned(),
    };
    let text = || {
        format!("{} CHARACTER SET utf8mb4 COLLATE {}", sized("VARCHAR", "LONGTEXT"), dialect.exact)
    };
    match column.kind {
        Type::Integer => "BIGINT".into(),
        Type::Decimal { .. } if is_unsigned_bigint(column) => "BIGINT UNSIGNED".into(),
        Type::Decimal { .. } => match (column.size, column.scale.unwrap_or(0)) {
            (Some(size @ 1..=65), scale @ 0..=30) if scale <= size => {
                format!("DECIMAL({size},{scale})")
            }
            _ => "DECIMAL(65,30)".into(),
        },
        Type::Real { single: true } => "FLOAT".into(),
        Type::Real { single: false } => "DOUBLE".into(),
        Type::Text { .. } | Type::Stored => text(),
        Type::Bytes => sized("VARBINARY", "LONGBLOB"),
        Type::Boolean => "BOOLEAN".into(),
        // A TIMESTAMP ends in 2038.
        Type::Timestamp { digits } | Type::Timestamptz { digits } => format!("DATETIME({digits})"),
        Type::Date => "DATE".into(),
        Type::Time { digits } => format!("TIME({digits})"),
        Type::Uuid if dialect.has_uuid => "UUID".into(),
        Type::Uuid => "BINARY(16)".into(),
        Type::Json => "JSON".into(),
    }
}

fn is_unsigned_bigint(column: &Column) -> bool {
    let declared = Declared::of(&column.declared);
    declared.word == "bigint" && declared.is_unsigned
}

fn reference(key: &ForeignKey) -> String {
    let (parent, columns) = (quoted(&key.parent), list(&key.parent_columns));
    format!("FOREIGN KEY ({}) REFERENCES {parent} ({columns})", list(&key.columns))
}

/// The statements that make tables like these: parents first, and what closes a circle in the end.
pub(super) fn create_statements(tables: &[Table], dialect: Dialect) -> Vec<String> {
    let making = making(tables);
    let tables = making.tables.iter().map(|table| create_statement(table, dialect));
    let later = making
        .later
        .iter()
        .map(|(table, key)| format!("ALTER TABLE {} ADD {}", quoted(table), reference(key)));
    tables.chain(later).collect()
}

/// Foreign keys without named columns are left out: what they refer to is not known here.
fn create_statement(table: &Table, dialect: Dialect) -> String {
    let columns = || table.columns.iter().filter(|column| !column.generated);
    let foreign = || table.foreign_keys.iter().filter(|key| !key.parent_columns.is_empty());
    let keys = || {
        let own = [&table.key].into_iter().chain(&table.unique);
        own.chain(foreign().map(|key| &key.columns))
    };
    let is_roomy = columns().count() <= ROOMY;
    let room = |column: &Column| {
        let of_keys = keys().filter(|key| key.contains(&column.name));
        let most = of_keys.map(|key| (KEY_CHARACTERS / key.len() as u32).min(255)).min();
        Room { in_key: most, in_row: is_roomy }
    };
    let mut parts: Vec<String> =
        columns().map(|column| definition(column, &room(column), dialect)).collect();
    if !table.key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", list(&table.key)));
    }
    parts.extend(table.unique.iter().map(|key| format!("UNIQUE ({})", list(key))));
    parts.extend(foreign().map(reference));
    let collation = format!("DEFAULT CHARACTER SET utf8mb4 COLLATE {}", dialect.exact);
    format!(
        "CREATE TABLE {} (\n  {}\n) ENGINE = InnoDB {collation}",
        quoted(&table.name),
        parts.join(",\n  ")
    )
}

/// The statement that adds a column like this one.
pub(super) fn add_column_statement(table: &str, column: &Column, dialect: Dialect) -> String {
    let room = Room { in_key: None, in_row: true };
    format!("ALTER TABLE {} ADD COLUMN {}", quoted(table), definition(column, &room, dialect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_are_taken_apart() {
        let of = Declared::of;
        let unsigned = of("bigint(20) unsigned zerofill");
        assert_eq!(
            (unsigned.word, unsigned.size, unsigned.is_unsigned),
            ("bigint", Some(20), true)
        );
        let set = of("enum('a','b (1) unsigned COLLATE x') COLLATE utf8mb4_general_ci");
        assert_eq!((set.word, set.size, set.collation), ("enum", None, Some("utf8mb4_general_ci")));
        assert_eq!((of("decimal(10,3)").size, of("decimal(10,3)").scale), (Some(10), Some(3)));
        for (declared, kind) in [
            ("tinyint(1)", Type::Boolean),
            ("tinyint(1) unsigned", Type::Integer),
            ("bigint unsigned", Type::Decimal { exact: true }),
            ("bit(1)", Type::Boolean),
            ("bit(63)", Type::Integer),
            ("bit(64)", Type::Decimal { exact: true }),
            ("datetime", Type::Timestamp { digits: 0 }),
            ("timestamp(3)", Type::Timestamptz { digits: 3 }),
            ("year(4)", Type::Integer),
            ("point", Type::Bytes),
        ] {
            assert_eq!(of(declared).kind(), kind, "{declared}");
        }
    }

    #[test]
    fn the_collation_is_one_that_the_server_has() {
        assert_eq!(Dialect::of(true, (10, 11, 19)).exact, "utf8mb4_nopad_bin");
        assert_eq!(Dialect::of(false, (8, 4, 0)).exact, "utf8mb4_0900_bin");
        assert_eq!(Dialect::of(false, (5, 7, 44)).exact, "utf8mb4_bin");
    }
}
