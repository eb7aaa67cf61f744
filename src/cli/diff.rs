//! `diff`: are two databases equal, and which rows are not.

use clap::Args;
use serde_json::{Map, Value as Json, json};

use super::compared::{Progress, Selected, cost, number, open_both, refused, traffic};
use super::exit::{Exit, Outcome};
use super::output::{json_value, say, say_line, shown};
use super::shell::table;
use crate::change::Value;
use crate::endpoint::Traffic;
use crate::endpoint::chunk::Difference;
use crate::endpoint::sqlite::Access;
use crate::sync::{DiffOptions, DiffReport, RowDifference, TableDiff, diff};

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// One database: sqlite:PATH, a path, postgres://…, mysql://…, or http(s)://… of a gateway or a node.
    #[arg(value_name = "A", env = "SYNCLINE_A", hide_env_values = true)]
    pub a: String,
    /// The other one.
    #[arg(value_name = "B", env = "SYNCLINE_B", hide_env_values = true)]
    pub b: String,
    /// Which tables, and what of them.
    #[command(flatten)]
    pub selected: Selected,
    /// How many differing rows of a table are printed; 0: all.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub rows: usize,
    /// Looks once more after so long, where B follows A with a delay.
    #[arg(long, value_name = "TIME", value_parser = super::compared::duration)]
    pub settle: Option<std::time::Duration>,
    /// Prints as what each column was compared.
    #[arg(long)]
    pub types: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Compares.
pub fn run(arguments: &Diff) -> Outcome {
    compare(arguments).map_err(|error| refused(error, arguments.json))
}

fn compare(arguments: &Diff) -> crate::error::Result<Exit> {
    let selection = arguments.selected.selection(&[])?;
    let mut opened = open_both(&arguments.a, &arguments.b, Access::Read, false)?;
    let mut options = DiffOptions { selection, rows: arguments.rows, ..DiffOptions::default() };
    options.looks.extend(arguments.settle);
    let mut progress = Progress::new(arguments.json);
    let report = diff(&mut (opened.0.as_mut(), opened.1.as_mut()), &options, &mut |event| {
        progress.show(&event);
    });
    progress.clear();
    let report = report?;
    match arguments.json {
        true => say(&lines(&report, progress.began(), traffic(&opened)))?,
        false => {
            say(&text(&report, arguments.types))?;
            say_line(cost(progress.began(), traffic(&opened)))?;
        }
    }
    Ok(if report.equal() { Exit::Yes } else { Exit::No })
}

fn object<'v>(values: impl Iterator<Item = (&'v String, &'v Value)>) -> Json {
    Json::Object(
        values.map(|(name, value)| (name.clone(), json_value(value))).collect::<Map<_, _>>(),
    )
}

fn lines(report: &DiffReport, began: std::time::Instant, traffic: Traffic) -> String {
    let mut lines = Vec::new();
    for table in &report.tables {
        lines.push(json!({
            "type": "table", "table": table.table, "equal": table.equal(),
            "rows_a": table.totals.rows[0], "rows_b": table.totals.rows[1],
            "digest_a": table.totals.digests[0].to_string(), "digest_b": table.totals.digests[1].to_string(),
            "only_in_a": table.only_in_a, "only_in_b": table.only_in_b, "changed": table.changed,
            "in_flight": table.in_flight, "not_looked_at_again": table.not_looked_at_again,
            "columns_only_in_a": table.columns_only_a, "columns_only_in_b": table.columns_only_b,
            "types": table.agreed.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        }));
        lines.extend(table.rows.iter().map(|row| row_line(&table.table, row)));
    }
    for (side, names) in [("a", &report.only_a), ("b", &report.only_b)] {
        lines.extend(
            names.iter().map(
                |name| json!({"type": "table", "table": name, "equal": false, "only_in": side}),
            ),
        );
    }
    let differing: u64 = report.tables.iter().map(TableDiff::differing).sum();
    lines.push(json!({
        "type": "summary", "equal": report.equal(), "tables": report.tables.len(),
        "differing_rows": differing, "tables_only_in_a": report.only_a, "tables_only_in_b": report.only_b,
        "seconds": began.elapsed().as_secs_f64(), "bytes": traffic.bytes, "round_trips": traffic.round_trips,
    }));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn row_line(table: &str, row: &RowDifference) -> Json {
    let columns: Vec<&String> = row.columns.iter().map(|(name, ..)| name).collect();
    json!({
        "type": "row", "table": table, "difference": row.difference, "columns": columns,
        "key": object(row.key.iter().map(|(name, value)| (name, value))),
        "a": object(row.columns.iter().map(|(name, a, _)| (name, a))),
        "b": object(row.columns.iter().map(|(name, _, b)| (name, b))),
    })
}

fn text(report: &DiffReport, types: bool) -> String {
    let row = |diff: &TableDiff| {
        let verdict = if diff.equal() { "equal" } else { "different" };
        let counts = [
            diff.totals.rows[0],
            diff.totals.rows[1],
            diff.only_in_a,
            diff.only_in_b,
            diff.changed,
        ];
        let counts = counts.map(number);
        [vec![diff.table.clone(), verdict.into()], counts.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = report.tables.iter().map(row).collect();
    let mut out = String::new();
    if !rows.is_empty() {
        out +=
            &table::align(&["TABLE", "", "ROWS A", "ROWS B", "ONLY A", "ONLY B", "CHANGED"], &rows);
    }
    for diff in &report.tables {
        out += &details(diff);
        if types {
            for (column, agreed) in &diff.agreed {
                out += &format!("  {}.{column}: {agreed}\n", diff.table);
            }
        }
    }
    for (side, names) in [("A", &report.only_a), ("B", &report.only_b)] {
        for name in names {
            out += &format!("table {name}: only in {side}\n");
        }
    }
    let differing: u64 = report.tables.iter().map(TableDiff::differing).sum();
    out + &match (report.equal(), report.tables.len()) {
        (true, 0) => "nothing to compare: neither side has a table\n".to_owned(),
        (true, tables) => format!("equal: {tables} tables, every row by its hash\n"),
        (false, _) => format!("different: {} rows\n", number(differing)),
    }
}

fn details(diff: &TableDiff) -> String {
    let mut out = String::new();
    if diff.multiset && diff.differing() > 0 {
        out += &format!(
            "{}: without a key that both have; rows are compared as a whole\n",
            diff.table
        );
    }
    for row in &diff.rows {
        let mark = match row.difference {
            Difference::OnlyInA => "only in A",
            Difference::OnlyInB => "only in B",
            Difference::Changed => "changed",
        };
        let key: Vec<String> =
            row.key.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
        out += &format!("{} {}: {mark}\n", diff.table, key.join(" "));
        for (name, a, b) in &row.columns {
            out += &format!("    {name}: {} | {}\n", shown(a), shown(b));
        }
    }
    let more = diff.differing().saturating_sub(diff.rows.len() as u64);
    if more > 0 {
        out +=
            &format!("{}: {} more rows differ (--rows 0 prints all)\n", diff.table, number(more));
    }
    if diff.in_flight > 0 {
        out += &format!(
            "{}: {} rows were on their way and are equal by now\n",
            diff.table,
            number(diff.in_flight)
        );
    }
    if diff.not_looked_at_again > 0 {
        let many = number(diff.not_looked_at_again);
        out += &format!("{}: {many} of these were looked at only once\n", diff.table);
    }
    for (side, names) in [("A", &diff.columns_only_a), ("B", &diff.columns_only_b)] {
        if !names.is_empty() {
            out += &format!("{}: only {side} has {}\n", diff.table, names.join(", "));
        }
    }
    out
}
