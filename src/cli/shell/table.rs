//! Results as text: aligned columns, CSV, or JSON lines.

use std::fmt::Write as _;

use super::super::arguments::Format;
use crate::change::Value;
use crate::client::Rows;

/// Writes a result in `format`.
pub fn render(rows: &Rows, format: Format) -> String {
    match format {
        Format::Table => aligned(rows),
        Format::Csv => csv(rows),
        Format::Json => json(rows),
    }
}

/// Numbers to the right, text to the left.
fn aligned(rows: &Rows) -> String {
    if rows.columns.is_empty() {
        let s = if rows.affected == 1 { "" } else { "s" };
        return format!("ok, {} row{s} changed\n", rows.affected);
    }
    let head: Vec<&str> = rows.columns.iter().map(String::as_str).collect();
    let cells: Vec<Vec<String>> = rows
        .rows
        .iter()
        .map(|row| row.iter().map(|value| one_line(&show(value))).collect())
        .collect();
    let mut out = align(&head, &cells);
    let s = if rows.rows.len() == 1 { "" } else { "s" };
    let _ = writeln!(out, "({} row{s})", rows.rows.len());
    out
}

/// A cell's text must not break the table.
fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

/// Aligned columns under their heads: those that hold only numbers to the right.
pub fn align(head: &[&str], rows: &[Vec<String>]) -> String {
    let is_number = |text: &str| text == "NULL" || text.parse::<f64>().is_ok();
    let columns: Vec<(usize, bool)> = head
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let cells = || rows.iter().filter_map(|row| row.get(i));
            let widest = cells().map(|cell| width(cell)).max().unwrap_or(0);
            let right = !rows.is_empty() && cells().all(|cell| is_number(cell) || unit(cell));
            (widest.max(width(name)), right)
        })
        .collect();
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|name| name.to_string()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, (wide, right)) in row.iter().zip(&columns) {
            let gap = " ".repeat(wide.saturating_sub(width(cell)));
            let (before, after) = if *right { (gap.as_str(), "") } else { ("", gap.as_str()) };
            let _ = write!(line, "{before}{cell}{after}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `12 ms` is a number with a unit.
fn unit(text: &str) -> bool {
    text.split_once(' ').is_some_and(|(number, unit)| number.parse::<f64>().is_ok() && unit == "ms")
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// A value as a person reads it.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(n) => n.to_string(),
        Value::Real(x) => real(*x),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => format!("x'{}'", hex(bytes)),
    }
}

/// With a point, so that a real is seen to be one.
fn real(x: f64) -> String {
    let text = x.to_string();
    if text.contains(['.', 'e', 'N', 'i']) { text } else { format!("{text}.0") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// NULL is an empty field; an empty text is a quoted one.
fn csv(rows: &Rows) -> String {
    if rows.columns.is_empty() {
        return String::new();
    }
    let field = |text: &str| match text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    };
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::Blob(bytes) => hex(bytes),
        other => field(&show(other)),
    };
    let head: Vec<String> = rows.columns.iter().map(|name| field(name)).collect();
    let mut out = format!("{}\n", head.join(","));
    for row in &rows.rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        let _ = writeln!(out, "{}", cells.join(","));
    }
    out
}

/// One object a row, its keys in the order of the columns; a name's second use gets a number.
fn json(rows: &Rows) -> String {
    let names = distinct(&rows.columns);
    let mut out = String::new();
    for row in &rows.rows {
        let pairs = names.iter().zip(row);
        let fields: Vec<String> =
            pairs.map(|(name, value)| format!("{name}:{}", to_json(value))).collect();
        let _ = writeln!(out, "{{{}}}", fields.join(","));
    }
    out
}

/// The columns' names as JSON texts, each once.
fn distinct(columns: &[String]) -> Vec<String> {
    let mut used: Vec<String> = Vec::new();
    for column in columns {
        let free = |name: &String| !used.contains(name);
        let numbered = (2..).map(|n| format!("{column}_{n}"));
        let name = std::iter::once(column.clone()).chain(numbered).find(free);
        used.extend(name);
    }
    used.into_iter().map(|name| serde_json::Value::from(name).to_string()).collect()
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(n) => (*n).into(),
        Value::Real(x) => (*x).into(),
        Value::Text(text) => text.clone().into(),
        Value::Blob(bytes) => hex(bytes).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Rows {
        Rows {
            columns: vec!["id".into(), "name".into(), "id".into()],
            rows: vec![
                vec![Value::Integer(7), Value::Text("Zoë, \"Z\"\nx".into()), Value::Null],
                vec![Value::Integer(-10), Value::Text(String::new()), Value::Real(2.0)],
            ],
            affected: 0,
        }
    }

    #[test]
    fn a_table_is_aligned_and_stays_one_line_a_row() {
        insta::assert_snapshot!(render(&sample(), Format::Table), @r#"
         id  name           id
          7  Zoë, "Z"\nx  NULL
        -10                2.0
        (2 rows)
        "#);
    }

    #[test]
    fn csv_keeps_null_and_empty_apart() {
        insta::assert_snapshot!(render(&sample(), Format::Csv), @r#"
        id,name,id
        7,"Zoë, ""Z""
        x",
        -10,"",2.0
        "#);
    }

    #[test]
    fn json_is_one_object_a_row_with_distinct_keys() {
        insta::assert_snapshot!(render(&sample(), Format::Json), @r#"
        {"id":7,"name":"Zoë, \"Z\"\nx","id_2":null}
        {"id":-10,"name":"","id_2":2.0}
        "#);
    }

    #[test]
    fn a_statement_without_rows_says_what_it_changed() {
        let one = Rows { affected: 1, ..Rows::default() };
        assert_eq!(render(&one, Format::Table), "ok, 1 row changed\n");
        assert_eq!(render(&one, Format::Json), "");
    }
}
