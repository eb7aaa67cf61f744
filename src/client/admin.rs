//! What operators ask of a node, at `admin_listen`.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, Result, TablePosition};

/// `GET /v1/status`.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeStatus {
    /// The node's name.
    pub node: String,
    /// Its databases.
    pub databases: Vec<DatabaseStatus>,
}

/// A database in a status.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct DatabaseStatus {
    /// Its name.
    pub name: String,
    /// `writer` or `reader`.
    pub role: String,
    /// `ok`, `stale`, `restored`, …
    pub state: String,
    /// One sentence on the state; empty if all is well.
    pub note: String,
    /// `EPOCH.VERSION.CHAIN`.
    pub position: String,
    /// The sum over the rows.
    pub digest: String,
    /// The last version at which stored rows were recounted and agreed.
    pub verified: String,
    /// The version of the source, as last seen.
    pub source_version: String,
    /// How old this copy may be.
    pub stale_ms: u64,
    /// When "done" is said.
    pub acknowledge: String,
    /// Where writes go.
    pub writer: Option<String>,
    /// Tables with rows and digest.
    pub tables: BTreeMap<String, TableStatus>,
    /// How many things are held.
    pub held: u64,
    /// What HEAL did, by rung.
    pub healed: BTreeMap<String, u64>,
    /// Digest mismatches since start.
    pub mismatches: u64,
    /// Registered readers (at a writer).
    pub readers: Vec<ReaderEntry>,
}

/// A table in a status.
pub type TableStatus = TablePosition;

impl DatabaseStatus {
    /// The version part of the position.
    pub fn version(&self) -> &str {
        self.position.split('.').nth(1).unwrap_or("?")
    }

    /// The epoch part of the position.
    pub fn epoch(&self) -> &str {
        self.position.split('.').next().unwrap_or("?")
    }

    /// How many commits the source is ahead.
    pub fn behind(&self) -> u64 {
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        number(&self.source_version).saturating_sub(number(self.version()))
    }

    /// Whether nothing needs anybody's attention.
    pub fn is_well(&self) -> bool {
        matches!(self.state.as_str(), "ok" | "healing")
    }
}

/// A reader as its writer knows it.
#[derive(Debug, Clone, Deserialize)]
pub struct ReaderEntry {
    /// Its node's name.
    pub node: String,
    /// Where it stands.
    pub position: String,
    /// The log no longer reaches back to it.
    #[serde(default)]
    pub lost: bool,
}

/// One held thing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldItem {
    /// Its id in this copy.
    pub id: i64,
    /// When it was held.
    #[serde(default)]
    pub at: serde_json::Value,
    /// Why.
    pub reason: String,
    /// The position it had.
    pub position: String,
    /// How many entries its commit has.
    pub changes: u64,
    /// Its changes in words, where they were asked for.
    #[serde(default)]
    pub detail: Vec<String>,
}

/// What `verify` found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyAnswer {
    /// The position that was recounted.
    pub position: String,
    /// Whether every table agreed.
    pub equal: bool,
    /// One line for each table that did not.
    #[serde(default)]
    pub findings: Vec<String>,
}

#[derive(Deserialize)]
struct HeldList {
    held: Vec<HeldItem>,
}

#[derive(Deserialize)]
struct Moved {
    position: String,
}

impl Client {
    /// Everything the node says of its databases.
    pub async fn status(&self) -> Result<NodeStatus> {
        self.get("/v1/status").await
    }

    /// The same, as the node wrote it.
    pub async fn status_json(&self) -> Result<serde_json::Value> {
        self.get("/v1/status").await
    }

    /// What `database` holds.
    pub async fn held(&self, database: &str) -> Result<Vec<HeldItem>> {
        let list: HeldList = self.get(&below(database, "held")).await?;
        Ok(list.held)
    }

    /// One held thing with its changes in words.
    pub async fn held_show(&self, database: &str, id: i64) -> Result<HeldItem> {
        self.get(&below(database, &format!("held/{id}"))).await
    }

    /// Applies a held commit again; returns the position of the new one.
    pub async fn held_replay(&self, database: &str, id: i64) -> Result<String> {
        let moved: Moved =
            self.post(&below(database, &format!("held/{id}/replay")), json!({})).await?;
        Ok(moved.position)
    }

    /// Forgets a held thing.
    pub async fn held_discard(&self, database: &str, id: i64) -> Result<()> {
        let url = format!("{}{}", self.endpoint().base, below(database, &format!("held/{id}")));
        self.send::<serde_json::Value>(Method::DELETE, &url, None).await.map(|_| ())
    }

    /// Recounts every row; `mode` is `report`, `adopt` or `repair`.
    pub async fn verify(&self, database: &str, mode: &str) -> Result<VerifyAnswer> {
        self.post(&below(database, "verify"), json!({"mode": mode})).await
    }

    /// Makes the node the writer; returns its position.
    pub async fn promote(&self, database: &str, accept_loss: bool) -> Result<String> {
        let body = json!({"accept_loss": accept_loss});
        let moved: Moved = self.post(&below(database, "promote"), body).await?;
        Ok(moved.position)
    }

    /// Decides a restore: `keep` is `node` or `backing`.
    pub async fn resolve(&self, database: &str, keep: &str) -> Result<String> {
        let moved: Moved = self.post(&below(database, "resolve"), json!({"keep": keep})).await?;
        Ok(moved.position)
    }
}

fn below(database: &str, rest: &str) -> String {
    format!("/v1/databases/{database}/{rest}")
}
