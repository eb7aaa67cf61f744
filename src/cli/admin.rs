//! `verify`, `promote` and `resolve`: what operators decide.

use std::time::Duration;

use super::arguments::{Promote, Resolve, Side, Target, Verify};
use super::block_on;
use super::exit::{Exit, Failure, Outcome};
use crate::client::{Client, NodeStatus};

/// These recount or rebuild a whole database.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A client of the node, and the database that is meant.
pub async fn connect(target: &Target) -> Result<(Client, String, NodeStatus), Failure> {
    let client = target.node.client(PATIENCE)?;
    let status = client.status().await?;
    let given = target.database.clone().or_else(|| client.endpoint().database.clone());
    let names: Vec<&str> = status.databases.iter().map(|db| db.name.as_str()).collect();
    let name = match (&given, names.as_slice()) {
        (Some(name), _) if names.contains(&name.as_str()) => name.clone(),
        (Some(name), _) => return Err(no_such(name, &names)),
        (None, [only]) => only.to_string(),
        (None, _) => return Err(which(&names)),
    };
    Ok((client, name, status))
}

fn no_such(name: &str, names: &[&str]) -> Failure {
    let message = format!("the node has no database {name:?}");
    let hint = format!("it has {}", names.join(", "));
    Failure::new(Exit::Usage, "DATABASE_UNKNOWN", &message, &hint)
}

fn which(names: &[&str]) -> Failure {
    let hint = format!("add --database with one of: {}", names.join(", "));
    Failure::new(Exit::Usage, "DATABASE_MISSING", "the node has several databases", &hint)
}

/// Recounts every row and compares.
pub fn verify(arguments: &Verify) -> Outcome {
    let mode = match (arguments.adopt, arguments.repair) {
        (true, _) => "adopt",
        (_, true) => "repair",
        _ => "report",
    };
    block_on(async {
        let (client, database, _) = connect(&arguments.target).await?;
        let answer = client.verify(&database, mode).await?;
        for finding in &answer.findings {
            println!("{finding}");
        }
        match answer.equal {
            true => println!("{database}: every row agrees at {}", answer.position),
            false => println!("{database}: rows do not give the digest at {}", answer.position),
        }
        if !answer.equal {
            eprintln!(
                "  hint: `--adopt` makes a commit of what is there, `--repair` writes the old rows back"
            );
        }
        Ok(if answer.equal { Exit::Yes } else { Exit::No })
    })
}

/// Makes a reader the writer.
pub fn promote(arguments: &Promote) -> Outcome {
    block_on(async {
        let (client, database, status) = connect(&arguments.target).await?;
        if let Some(to) = arguments.to.as_ref().filter(|to| **to != status.node) {
            return Err(other_node(&status.node, to));
        }
        let position = client.promote(&database, arguments.accept_loss).await?;
        println!("{} is the writer of {database} at {position}", status.node);
        Ok(Exit::Yes)
    })
}

/// Under a shared backing database a node can only take the epoch for itself.
fn other_node(asked: &str, to: &str) -> Failure {
    let message = format!("this is node {asked:?}, which cannot make {to:?} the writer");
    Failure::new(
        Exit::Usage,
        "NODE_OTHER",
        &message,
        "give the admin address of the node to promote",
    )
}

/// Decides a restore.
pub fn resolve(arguments: &Resolve) -> Outcome {
    let keep = match arguments.keep {
        Side::Node => "node",
        Side::Backing => "backing",
    };
    block_on(async {
        let (client, database, _) = connect(&arguments.target).await?;
        let position = client.resolve(&database, keep).await?;
        println!("{database}: kept the {keep}'s side; writing goes on from {position}");
        Ok(Exit::Yes)
    })
}
