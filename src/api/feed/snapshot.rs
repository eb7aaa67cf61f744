//! `GET /v1/databases/{db}/snapshot`: all rows at one position, and that position last.
//!
//! ```text
//! {"type":"schema","kind":"table","name":"t","table":"t","sql":"CREATE TABLE t(…)"}
//! {"type":"row","table":"t","values":{"id":1,"a":"x"}}              and "rowid", without a usable key
//! {"type":"position","position":"7.1042.…"}
//! ```
//!
//! A snapshot that breaks off has no last line: what came is then not a whole database. It holds a
//! read transaction of the store open, so only a few run at a time, and a client that takes nothing
//! for the server's stall timeout is given up.

use hyper::http::request::Parts;
use serde_json::json;
use tokio::sync::mpsc;

use super::encode::row;
use super::shapes::Shapes;
use super::{PIECES, Sender, Tables, blocking, body, client_gone, pour};
use crate::api::node::Node;
use crate::api::reply::{self, Answer};
use crate::change::SchemaStep;
use crate::engine::{Database, SnapshotItem};
use crate::error::{Error, Result};

/// Answers with a snapshot.
pub(in crate::api) async fn snapshot(node: &Node, database: &Database, head: &Parts) -> Answer {
    let turn = node.snapshots.clone().try_acquire_owned().map_err(|_| {
        Error::retry("SNAPSHOTS_FULL", "this node sends several snapshots already")
            .hint("try again when one of them is done")
    })?;
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let (database, tables) = (database.clone(), Tables::of(&head.uri));
    let sent = tokio::spawn(blocking(move || {
        let _turn = turn;
        send(&database, &tables, Sender::new(sender))
    }));
    // An error before the first piece can still be a status.
    let Some(first) = pieces.recv().await else {
        return match sent.await {
            Ok(Err(error)) => Err(error),
            _ => Err(client_gone()),
        };
    };
    let rest = body(pieces, node.stage.clone());
    let all = futures_util::StreamExt::chain(futures_util::stream::iter([first]), rest);
    Ok(reply::stream("application/jsonl", futures_util::StreamExt::boxed(all)))
}

fn send(database: &Database, tables: &Tables, mut sender: Sender) -> Result<()> {
    let mut shapes = Shapes::new(&[]);
    let position = database.snapshot(&mut |item| {
        write(item, &mut shapes, tables, &mut sender.buffer);
        pour(&sender.pieces, &mut sender.buffer)
    })?;
    let last = json!({"type": "position", "position": position.to_string()});
    sender.buffer.extend_from_slice(format!("{last}\n").as_bytes());
    sender.flush()
}

fn write(item: SnapshotItem<'_>, shapes: &mut Shapes, tables: &Tables, out: &mut Vec<u8>) {
    match item {
        SnapshotItem::Object(object) => {
            shapes.follow(&SchemaStep::Create(object.clone()));
            if tables.wants(&object.table) {
                let line = json!({
                    "type": "schema",
                    "kind": object.kind.as_str(),
                    "name": object.name,
                    "table": object.table,
                    "sql": object.sql,
                });
                out.extend_from_slice(format!("{line}\n").as_bytes());
            }
        }
        SnapshotItem::Row { table, rowid, values } => {
            if !tables.wants(table) {
                return;
            }
            out.extend_from_slice(b"{\"type\":\"row\",\"table\":");
            serde_json::to_writer(&mut *out, table).expect("a buffer takes every byte");
            if let Some(rowid) = rowid {
                out.extend_from_slice(format!(",\"rowid\":{rowid}").as_bytes());
            }
            out.extend_from_slice(b",\"values\":");
            row(out, shapes.columns(table).as_deref(), values);
            out.extend_from_slice(b"}\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Object, ObjectKind, ValueRef};

    #[test]
    fn rows_are_named_by_the_schema_before_them() {
        let object = Object {
            kind: ObjectKind::Table,
            name: "t".into(),
            table: "t".into(),
            sql: "CREATE TABLE t(a, b)".into(),
        };
        let (mut shapes, all) = (Shapes::new(&[]), Tables(None));
        let mut out = Vec::new();
        write(SnapshotItem::Object(&object), &mut shapes, &all, &mut out);
        let values = [ValueRef::Integer(1), ValueRef::Null];
        let item = SnapshotItem::Row { table: "t", rowid: Some(7), values: &values };
        write(item, &mut shapes, &all, &mut out);
        let lines: Vec<serde_json::Value> = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["sql"], "CREATE TABLE t(a, b)");
        assert_eq!(
            lines[1],
            json!({"type": "row", "table": "t", "rowid": 7, "values": {"a": 1, "b": null}})
        );
    }
}
