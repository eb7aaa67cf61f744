//! `held`: what a copy did not apply or had to undo, never dropped silently.

use super::admin::connect;
use super::arguments::{Held, HeldAction, HeldOne};
use super::block_on;
use super::exit::{Exit, Outcome};
use super::shell::table;
use crate::client::HeldItem;

/// Lists, shows, replays or discards.
pub fn run(arguments: &Held) -> Outcome {
    match &arguments.action {
        HeldAction::List { target, json } => block_on(async {
            let (client, database, _) = connect(target).await?;
            let items = client.held(&database).await?;
            print!("{}", if *json { lines(&database, &items) } else { list(&items) });
            Ok(Exit::Yes)
        }),
        HeldAction::Show(one) => show(one),
        HeldAction::Replay(one) => replay(one),
        HeldAction::Discard(one) => discard(one),
    }
}

fn lines(database: &str, items: &[HeldItem]) -> String {
    let line = |item: &HeldItem| {
        let mut json = serde_json::to_value(item).expect("a held item is plain JSON");
        json["type"] = "held".into();
        json["database"] = database.into();
        format!("{json}\n")
    };
    items.iter().map(line).collect()
}

fn list(items: &[HeldItem]) -> String {
    if items.is_empty() {
        return "nothing is held\n".into();
    }
    let row = |item: &HeldItem| {
        let at = item.at.as_str().map_or_else(|| item.at.to_string(), String::from);
        let position = item.position.clone();
        vec![item.id.to_string(), at, item.reason.clone(), position, item.changes.to_string()]
    };
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    table::align(&["ID", "AT", "REASON", "POSITION", "CHANGES"], &rows)
}

fn show(one: &HeldOne) -> Outcome {
    block_on(async {
        let (client, database, _) = connect(&one.target).await?;
        let item = client.held_show(&database, one.id).await?;
        println!("{} {} at {} ({} changes)", item.id, item.reason, item.position, item.changes);
        for line in &item.detail {
            println!("  {line}");
        }
        Ok(Exit::Yes)
    })
}

fn replay(one: &HeldOne) -> Outcome {
    block_on(async {
        let (client, database, _) = connect(&one.target).await?;
        let position = client.held_replay(&database, one.id).await?;
        println!("{} was applied again, at {position}", one.id);
        Ok(Exit::Yes)
    })
}

fn discard(one: &HeldOne) -> Outcome {
    block_on(async {
        let (client, database, _) = connect(&one.target).await?;
        client.held_discard(&database, one.id).await?;
        println!("{} was discarded", one.id);
        Ok(Exit::Yes)
    })
}
