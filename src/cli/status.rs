//! `status` and `health`: how a node is doing.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::Value as Json;

use super::arguments::{Health, NodeRole, Status};
use super::block_on;
use super::exit::{Exit, Failure, Outcome};
use super::shell::table;
use crate::client::{Asked, Client, DatabaseStatus, NodeStatus};

const TIMEOUT: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_secs(1);

/// Asks whether a node is alive, or whether it may be used as asked.
pub fn health(arguments: &Health) -> Outcome {
    block_on(async {
        let reasons = match ailing(arguments).await {
            Err(crate::client::Failure::Refused(refusal)) => vec![refusal.message],
            reasons => reasons?,
        };
        if reasons.is_empty() {
            println!("ok");
            return Ok(Exit::Yes);
        }
        println!("unhealthy: {}", reasons.join("; "));
        Ok(Exit::No)
    })
}

/// What is wrong with a node.
async fn ailing(arguments: &Health) -> crate::client::Result<Vec<String>> {
    let client = arguments.node.client(TIMEOUT)?;
    let role = arguments.role.map(|role| match role {
        NodeRole::Writer => "writer",
        NodeRole::Reader => "reader",
    });
    let asked = Asked { role, max_stale: arguments.max_stale };
    if asked.role.is_none() && asked.max_stale.is_none() {
        return client.health().await.map(|()| Vec::new());
    }
    client.unready(&asked).await
}

/// Shows a status once, or again and again.
pub fn run(arguments: &Status) -> Outcome {
    block_on(async {
        let client = arguments.node.client(TIMEOUT)?;
        loop {
            let (text, exit) = once(&client, arguments.json).await?;
            if !arguments.watch {
                print!("{text}");
                return Ok(exit);
            }
            redraw(&text, arguments.json);
            tokio::time::sleep(EVERY).await;
        }
    })
}

/// On a terminal in place, else below the last.
fn redraw(text: &str, json: bool) {
    if std::io::stdout().is_terminal() && !json {
        print!("\x1b[H\x1b[2J");
    }
    println!("{}", text.trim_end());
}

async fn once(client: &Client, json: bool) -> Result<(String, Exit), Failure> {
    let written = client.status_json().await?;
    let status: NodeStatus = serde_json::from_value(written.clone()).map_err(|e| {
        let message = format!("the node's status cannot be read: {e}");
        Failure::new(Exit::Usage, "ANSWER_STRANGE", &message, "is it another version?")
    })?;
    let text = if json { lines(&written) } else { render(&status) };
    Ok((text, verdict(&status)))
}

/// 0 if all is well, 4 if somebody must decide, else 1.
fn verdict(status: &NodeStatus) -> Exit {
    let states = || status.databases.iter().map(|db| db.state.as_str());
    if states().any(|state| matches!(state, "restored" | "fenced")) {
        return Exit::Decision;
    }
    let well = status.databases.iter().all(DatabaseStatus::is_well);
    if well { Exit::Yes } else { Exit::No }
}

/// One object a database, as the node wrote it.
fn lines(status: &Json) -> String {
    let databases = status["databases"].as_array().cloned().unwrap_or_default();
    let line = |mut database: Json| {
        database["type"] = "database".into();
        database["node"] = status["node"].clone();
        format!("{database}\n")
    };
    databases.into_iter().map(line).collect()
}

fn render(status: &NodeStatus) -> String {
    let head = [
        "DATABASE", "ROLE", "STATE", "EPOCH", "VERSION", "VERIFIED", "BEHIND", "STALE", "HELD",
        "DIGEST",
    ];
    let rows: Vec<Vec<String>> = status.databases.iter().map(row).collect();
    let mut out = format!("node {}\n{}", status.node, table::align(&head, &rows));
    for database in &status.databases {
        out.push_str(&notes(database));
    }
    out
}

fn row(database: &DatabaseStatus) -> Vec<String> {
    vec![
        database.name.clone(),
        database.role.clone(),
        database.state.clone(),
        database.epoch().into(),
        database.version().into(),
        database.verified.clone(),
        database.behind().to_string(),
        format!("{} ms", database.stale_ms),
        database.held.to_string(),
        database.digest.chars().take(12).collect(),
    ]
}

/// What one line of a table cannot say.
fn notes(database: &DatabaseStatus) -> String {
    let mut out = String::new();
    if !database.note.is_empty() {
        out.push_str(&format!("\n{}: {}\n", database.name, database.note));
    }
    for reader in &database.readers {
        let same = reader.position == database.position;
        let version = reader.position.split('.').nth(1).unwrap_or("?");
        let place = if same {
            "is at the same position".into()
        } else {
            format!("last told of version {version}")
        };
        let lost = if reader.lost { "; the log no longer reaches back to it" } else { "" };
        out.push_str(&format!("{}: reader {} {place}{lost}\n", database.name, reader.node));
    }
    if database.held > 0 {
        out.push_str(&format!(
            "{}: {} held; see `syncline held list`\n",
            database.name, database.held
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(state: &str) -> Json {
        json!({"node": "a", "databases": [{
            "name": "main", "role": "writer", "state": state, "note": "look here",
            "position": format!("3.42.{}", "0".repeat(32)), "digest": "ab".repeat(16),
            "verified": "40", "source_version": "44", "stale_ms": 7, "held": 2,
            "readers": [{"node": "r1", "position": format!("3.41.{}", "0".repeat(32))}],
        }]})
    }

    fn parsed(state: &str) -> NodeStatus {
        serde_json::from_value(node(state)).unwrap()
    }

    #[test]
    fn the_exit_says_whether_somebody_must_act() {
        for (state, exit) in [
            ("ok", Exit::Yes),
            ("healing", Exit::Yes),
            ("stale", Exit::No),
            ("disk-full", Exit::No),
            ("restored", Exit::Decision),
            ("fenced", Exit::Decision),
        ] {
            assert_eq!(verdict(&parsed(state)), exit, "{state}");
        }
    }

    #[test]
    fn a_status_is_a_table_with_what_needs_attention_below() {
        insta::assert_snapshot!(render(&parsed("ok")), @r"
        node a
        DATABASE  ROLE    STATE  EPOCH  VERSION  VERIFIED  BEHIND  STALE  HELD  DIGEST
        main      writer  ok         3       42        40       2   7 ms     2  abababababab

        main: look here
        main: reader r1 last told of version 41
        main: 2 held; see `syncline held list`
        ");
    }

    #[test]
    fn json_lines_carry_the_node_and_a_type() {
        let text = lines(&node("ok"));
        let line: Json = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((line["type"].as_str(), line["node"].as_str()), (Some("database"), Some("a")));
    }
}
