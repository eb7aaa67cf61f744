//! `GET /v1/databases/{db}/changes`.

use std::time::Duration;

use hyper::header::ACCEPT;
use hyper::http::request::Parts;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::encode::{Changes, begin_commit};
use super::shapes::Shapes;
use super::{PIECES, Sender, Tables, blocking, body, pour};
use crate::api::health::{flag, query};
use crate::api::node::Node;
use crate::api::reply::{self, Answer};
use crate::change::{Commit, Position, Version};
use crate::engine::Database;
use crate::error::{Error, Result};

/// How often a line goes out although nothing happened.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Bytes of commits that are read at once.
const BATCH: usize = 1 << 20;

/// Answers with the commits after a position.
pub(in crate::api) async fn changes(node: &Node, database: &Database, head: &Parts) -> Answer {
    let moved = database.watch();
    let now = database.position();
    let after = match query(&head.uri, "after") {
        Some(after) => after.parse()?,
        None => match head.headers.get("last-event-id").and_then(|id| id.to_str().ok()) {
            Some(after) => after.parse()?,
            None => now,
        },
    };
    let until = if flag(&head.uri, "follow")? { None } else { Some(now.version) };
    let accept = head.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let events = accept.is_some_and(|accept| accept.contains("text/event-stream"));
    let mut feed = Feed {
        database: database.clone(),
        tables: Tables::of(&head.uri),
        form: if events { Form::Events } else { Form::Lines },
        shapes: Shapes::new(&[]),
        at: after,
        until,
    };
    let (feed, first) = blocking(move || {
        let first = feed.next()?;
        feed.shapes = Shapes::at(&feed.database, after)?;
        Ok((feed, first))
    })
    .await?;
    let kind = feed.form.kind();
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(feed.run(first, moved, sender));
    Ok(reply::stream(kind, body(pieces, node.stage.clone())))
}

/// Lines of JSON, or events for a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Events,
}

impl Form {
    fn kind(self) -> &'static str {
        match self {
            Form::Lines => "application/jsonl",
            Form::Events => "text/event-stream",
        }
    }

    /// What stands before a commit's object.
    fn before_commit(self, at: Position) -> String {
        match self {
            Form::Lines => String::new(),
            Form::Events => format!("id: {at}\ndata: "),
        }
    }

    fn after(self) -> &'static str {
        match self {
            Form::Lines => "\n",
            Form::Events => "\n\n",
        }
    }

    /// Any other object.
    fn aside(self, event: &str, object: &str) -> String {
        match self {
            Form::Lines => format!("{object}\n"),
            Form::Events => format!("event: {event}\ndata: {object}\n\n"),
        }
    }
}

/// One subscriber.
struct Feed {
    database: Database,
    tables: Tables,
    form: Form,
    shapes: Shapes,
    at: Position,
    /// Where it ends, if it does not follow.
    until: Option<Version>,
}

impl Feed {
    /// The next commits. Blocks on storage.
    fn next(&self) -> Result<Vec<Commit>> {
        let mut commits = self.database.changes_after(self.at, BATCH)?;
        commits.retain(|commit| self.until.is_none_or(|until| commit.version() <= until));
        Ok(commits)
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| self.at.version >= until)
    }

    /// Sends commits until the client goes away, or there are no more to send.
    async fn run(
        self,
        first: Vec<Commit>,
        mut moved: watch::Receiver<Position>,
        sender: mpsc::Sender<bytes::Bytes>,
    ) {
        let (mut feed, mut commits) = (self, first);
        loop {
            // What moves from here on is seen by the wait below, if it is not fetched before.
            moved.mark_unchanged();
            let pieces = sender.clone();
            let sent = blocking(move || {
                let sent = feed.send(&commits, pieces);
                let next = if sent.is_ok() && !feed.is_over() { feed.next() } else { Ok(vec![]) };
                Ok((feed, sent.and(next)))
            });
            let Ok((after, next)) = sent.await else { return };
            feed = after;
            commits = match next {
                Ok(commits) => commits,
                Err(error) => return feed.end(&error, &sender).await,
            };
            let none = commits.is_empty();
            if none && (feed.until.is_some() || !feed.wait(&mut moved, &sender).await) {
                return;
            }
        }
    }

    /// Writes `commits` to the client. Blocks.
    fn send(&mut self, commits: &[Commit], pieces: mpsc::Sender<bytes::Bytes>) -> Result<()> {
        let mut sender = Sender::new(pieces);
        for commit in commits {
            self.commit(commit, &mut sender)?;
            self.at = commit.position();
        }
        sender.flush()
    }

    fn commit(&mut self, commit: &Commit, sender: &mut Sender) -> Result<()> {
        let start = sender.buffer.len();
        let before = self.form.before_commit(commit.position());
        sender.buffer.extend_from_slice(before.as_bytes());
        begin_commit(&mut sender.buffer, commit);
        let mut changes = Changes::new(&mut self.shapes, &self.tables);
        let Sender { pieces, buffer } = sender;
        self.database.commit_body(commit, &mut |part| {
            changes.part(part, buffer, |buffer| pour(pieces, buffer))
        })?;
        // Nothing was poured, so it can be taken back: nobody asked for these tables.
        if changes.written == 0 && self.tables.0.is_some() {
            buffer.truncate(start);
            return Ok(());
        }
        sender.buffer.extend_from_slice(b"]}");
        sender.buffer.extend_from_slice(self.form.after().as_bytes());
        pour(&sender.pieces, &mut sender.buffer)
    }

    /// Waits for another commit, with heartbeats; false when the client went away.
    async fn wait(
        &self,
        moved: &mut watch::Receiver<Position>,
        sender: &mpsc::Sender<bytes::Bytes>,
    ) -> bool {
        let mut heartbeat = Instant::now() + HEARTBEAT;
        loop {
            tokio::select! {
                changed = moved.changed() => return changed.is_ok(),
                () = sender.closed() => return false,
                () = tokio::time::sleep_until(heartbeat) => {
                    let object = format!("{{\"position\":\"{}\"}}", self.at);
                    let line = self.form.aside("heartbeat", &object);
                    if sender.send(line.into()).await.is_err() {
                        return false;
                    }
                    heartbeat += HEARTBEAT;
                }
            }
        }
    }

    /// Tells the client why its stream ends.
    async fn end(&self, error: &Error, sender: &mpsc::Sender<bytes::Bytes>) {
        let line = self.form.aside("error", &reply::error_body(error).to_string());
        let _ = sender.send(line.into()).await;
    }
}
