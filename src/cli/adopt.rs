//! `adopt` and `release`: how a database that has tables already becomes a backing database, and stops
//! being one.
//!
//! Both print what they would do and end there, with exit 4, unless `--yes` says to go on.

use serde_json::{Value as Json, json};

use super::arguments::{Adopt, Release};
use super::exit::{Exit, Failure, Outcome};
use super::shell::table;
use crate::change::{Clock, SystemClock};
use crate::config::server_place;
use crate::error::Error;
use crate::store::adoption::{Adoptable, Adoption, LeftOut, Traces};

/// Makes a backing database of tables that are there.
pub fn adopt(arguments: &Adopt) -> Outcome {
    let place = server_place(&arguments.url)?;
    let plan = place.survey(&arguments.exclude).map_err(no)?;
    print!("{}", if arguments.json { adoption_lines(&plan) } else { adoption_text(&plan) });
    let unnamed: Vec<&str> = plan.unnamed().map(|left| left.table.as_str()).collect();
    if !unnamed.is_empty() {
        return Err(left_out(&unnamed));
    }
    confirm(arguments.yes, "adopt these tables")?;
    let position = place.adopt(&plan).map_err(no)?;
    match arguments.json {
        true => println!("{}", json!({"type": "adopted", "position": position.to_string()})),
        false => println!("adopted: a writer may start on {place}"),
    }
    Ok(Exit::Yes)
}

/// Removes every trace of Syncline.
pub fn release(arguments: &Release) -> Outcome {
    let place = server_place(&arguments.url)?;
    let traces = place.traces().map_err(no)?;
    print!("{}", if arguments.json { traces_line(&traces) } else { traces_text(&traces) });
    confirm(arguments.yes, "remove this")?;
    place.release(SystemClock.now())?;
    match arguments.json {
        true => println!("{}", json!({"type": "released"})),
        false => println!("released: {place} has its rows, and nothing of Syncline's"),
    }
    Ok(Exit::Yes)
}

/// What is so already is a no, not a mistake.
fn no(error: Error) -> Failure {
    let exit = matches!(error.code(), "ADOPTED_ALREADY" | "NOT_ADOPTED").then_some(Exit::No);
    let failure = Failure::from(error);
    Failure { exit: exit.unwrap_or(failure.exit), ..failure }
}

fn confirm(yes: bool, what: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let hint = format!("add --yes to {what}");
    Err(Failure::new(Exit::Decision, "NOT_CONFIRMED", "nothing was changed", &hint))
}

fn left_out(names: &[&str]) -> Failure {
    let message = format!("nothing was changed: {} cannot be adopted", names.join(", "));
    let flags: Vec<String> = names.iter().map(|name| format!("--exclude {name}")).collect();
    let hint = format!("to leave what cannot be adopted as it is, add {}", flags.join(" "));
    Failure::new(Exit::Decision, "TABLES_LEFT_OUT", &message, &hint)
}

fn adoption_text(plan: &Adoption) -> String {
    let row = |table: &Adoptable| {
        let column = |c: &crate::store::adoption::AdoptedColumn| format!("{} {}", c.name, c.kind);
        let columns: Vec<String> = table.columns.iter().map(column).collect();
        vec![table.object.name.clone(), table.rows.to_string(), columns.join(", ")]
    };
    let mut text = String::new();
    if !plan.tables.is_empty() {
        let rows: Vec<Vec<String>> = plan.tables.iter().map(row).collect();
        text += &table::align(&["ADOPTED", "ROWS", "COLUMNS"], &rows);
    }
    if !plan.left_out.is_empty() {
        let why = |left: &LeftOut| left.reason.clone().unwrap_or_else(|| "it is excluded".into());
        let row = |left: &LeftOut| vec![left.table.clone(), why(left)];
        let rows: Vec<Vec<String>> = plan.left_out.iter().map(row).collect();
        text += &format!("\n{}", table::align(&["LEFT OUT", "WHY"], &rows));
    }
    text + &not_carried_over(plan)
}

/// What the nodes will not do, and PostgreSQL goes on doing.
fn not_carried_over(plan: &Adoption) -> String {
    let mut text = String::new();
    for table in plan.tables.iter().filter(|table| !table.not_carried_over.is_empty()) {
        text += &format!("  {}: {}\n", table.object.name, table.not_carried_over.join(", "));
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "\nnot carried over:\n{text}\
         Nodes fill in no default and number no key but a bigint. PostgreSQL goes on enforcing what it\n\
         enforces: a write that it refuses fails with BACKING_DIFFERS. Rows that a trigger changes are\n\
         rows that others change: `syncline verify` finds them.\n"
    )
}

fn adoption_lines(plan: &Adoption) -> String {
    let adopted = plan.tables.iter().map(|table| {
        let columns = table.columns.iter().map(
            |column| json!({"name": column.name, "type": column.kind, "declared": column.declared}),
        );
        json!({
            "type": "table", "table": table.object.name, "rows": table.rows.to_string(),
            "columns": columns.collect::<Vec<Json>>(), "sql": table.object.sql,
            "not_carried_over": table.not_carried_over,
        })
    });
    let left_out = plan.left_out.iter().map(|left| {
        json!({
            "type": "left_out", "table": left.table, "reason": left.reason,
            "excluded": left.excluded,
        })
    });
    adopted.chain(left_out).map(|line| format!("{line}\n")).collect()
}

fn traces_text(traces: &Traces) -> String {
    let mut text = format!("goes:  the tables {}\n", traces.tables.join(", "));
    for table in &traces.keyless {
        text += &format!("goes:  the column _syncline_rowid of {table}, its primary key\n");
    }
    if !traces.texts.is_empty() {
        let texts = traces.texts.join(", ");
        text += &format!("goes:  {texts}: the nodes' copies have them, PostgreSQL has not\n");
    }
    if traces.held > 0 {
        text += &format!("goes:  {} held commits (`syncline held list`)\n", traces.held);
    }
    for (table, key) in &traces.keys {
        text += &format!("stays: the key {key} of {table}, by another name\n");
    }
    text + "stays: every other table, with every row\n"
}

fn traces_line(traces: &Traces) -> String {
    let keys = traces.keys.iter().map(|(table, key)| json!({"table": table, "key": key}));
    let line = json!({
        "type": "traces", "tables": traces.tables, "keyless": traces.keyless,
        "renamed_keys": keys.collect::<Vec<Json>>(), "only_in_copies": traces.texts,
        "held": traces.held, "holder": traces.holder.as_ref().map(|holder| &holder.node),
    });
    format!("{line}\n")
}
