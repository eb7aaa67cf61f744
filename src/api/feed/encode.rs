//! Rows and commits as JSON.

use base64::Engine as _;

use super::Tables;
use super::shapes::{Columns, Shapes};
use crate::api::hrana::BASE64;
use crate::change::{
    BodyReader, Change, Commit, Image, Object, ObjectKind, Op, RowChange, SchemaStep, ValueRef,
};
use crate::error::Result;

/// Beyond this, parsers that read numbers as doubles round.
const EXACT: u64 = (1 << 53) - 1;

/// Appends a string or a number.
fn put<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("a buffer takes every byte");
}

/// Appends a value.
pub(super) fn value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Integer(n) if n.unsigned_abs() <= EXACT => put(out, &n),
        ValueRef::Integer(n) => {
            out.extend_from_slice(format!("{{\"integer\":\"{n}\"}}").as_bytes());
        }
        ValueRef::Real(n) if n.is_finite() => put(out, &n),
        ValueRef::Real(n) => {
            let word = match (n.is_nan(), n > 0.0) {
                (true, _) => "NaN",
                (_, true) => "Infinity",
                (_, false) => "-Infinity",
            };
            out.extend_from_slice(format!("{{\"real\":\"{word}\"}}").as_bytes());
        }
        ValueRef::Text(text) => put(out, text),
        ValueRef::Blob(bytes) => {
            out.extend_from_slice(b"{\"base64\":");
            put(out, &BASE64.encode(bytes));
            out.push(b'}');
        }
    }
}

/// Appends a row by column name, or as an array where the names are not known.
pub(super) fn row(out: &mut Vec<u8>, columns: Option<&Columns>, values: &[ValueRef<'_>]) {
    let Some(columns) = columns.filter(|columns| columns.names.len() >= values.len()) else {
        list(out, b"[]", values.iter(), |out, v| value(out, *v));
        return;
    };
    let nulls = std::iter::repeat(&ValueRef::Null);
    list(out, b"{}", columns.names.iter().zip(values.iter().chain(nulls)), |out, (name, v)| {
        put(out, name);
        out.push(b':');
        value(out, *v);
    });
}

fn list<T>(
    out: &mut Vec<u8>,
    brackets: &[u8; 2],
    items: impl Iterator<Item = T>,
    mut each: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(brackets[0]);
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(brackets[1]);
}

/// Appends the key of a row.
fn key(out: &mut Vec<u8>, columns: Option<&Columns>, rowid: Option<i64>, values: &[ValueRef<'_>]) {
    if let Some(rowid) = rowid {
        out.extend_from_slice(b"{\"rowid\":");
        value(out, ValueRef::Integer(rowid));
        out.push(b'}');
        return;
    }
    let Some(columns) = columns else {
        out.extend_from_slice(b"null");
        return;
    };
    list(out, b"{}", columns.key.iter(), |out, &at| {
        put(out, &columns.names[at]);
        out.push(b':');
        value(out, values.get(at).copied().unwrap_or(ValueRef::Null));
    });
}

/// Writes the changes of one commit, part by part.
pub(super) struct Changes<'a> {
    shapes: &'a mut Shapes,
    tables: &'a Tables,
    reader: BodyReader,
    /// How many are written.
    pub written: usize,
}

impl<'a> Changes<'a> {
    /// Of the `tables` asked for, with the names of `shapes`, which follow.
    pub fn new(shapes: &'a mut Shapes, tables: &'a Tables) -> Self {
        Changes { shapes, tables, reader: BodyReader::default(), written: 0 }
    }

    /// Appends the changes of the next part, calling `pour` after each once there is one.
    pub fn part(
        &mut self,
        part: &[u8],
        out: &mut Vec<u8>,
        mut pour: impl FnMut(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let mut decoder = crate::change::Decoder(part);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        while let Some(change) = self.reader.next(&mut decoder)? {
            match change {
                Change::Row(change) => {
                    change.values(&mut before, &mut after)?;
                    self.row(&change, &before, &after, out);
                }
                Change::Schema(step) => {
                    self.shapes.follow(&step);
                    self.step(&step, out);
                }
                Change::Sequence { .. } | Change::Setting { .. } | Change::Request { .. } => {}
            }
            if self.written > 0 {
                pour(out)?;
            }
        }
        Ok(())
    }

    /// Begins a change of `table`, if it is asked for.
    fn begins(&mut self, table: &str, op: &str, out: &mut Vec<u8>) -> bool {
        if !self.tables.wants(table) {
            return false;
        }
        out.extend_from_slice(if self.written > 0 { b",{\"table\":" } else { b"{\"table\":" });
        put(out, table);
        out.extend_from_slice(b",\"op\":");
        put(out, op);
        self.written += 1;
        true
    }

    fn row(
        &mut self,
        change: &RowChange<'_>,
        before: &[ValueRef<'_>],
        after: &[ValueRef<'_>],
        out: &mut Vec<u8>,
    ) {
        let table = self.reader.table(change.table).name.clone();
        let op = match change.op {
            Op::Insert => "insert",
            Op::Update => "update",
            Op::Delete => "delete",
        };
        if !self.begins(&table, op, out) {
            return;
        }
        let columns = self.shapes.columns(&table);
        let columns = columns.as_deref();
        let images = [(&change.before, before), (&change.after, after)];
        let keys: Vec<Vec<u8>> =
            images.iter().filter_map(|(image, values)| of_key(columns, image, values)).collect();
        let names: [&[u8]; 2] = [b",\"key\":", b",\"new_key\":"];
        let same = keys.len() == 2 && keys[0] == keys[1];
        for (name, key) in names.iter().zip(&keys).take(if same { 1 } else { 2 }) {
            out.extend_from_slice(name);
            out.extend_from_slice(key);
        }
        let names: [&[u8]; 2] = [b",\"before\":", b",\"after\":"];
        for (name, (image, values)) in names.iter().zip(images) {
            if image.is_some() {
                out.extend_from_slice(name);
                self::row(out, columns, values);
            }
        }
        out.push(b'}');
    }

    fn step(&mut self, step: &SchemaStep, out: &mut Vec<u8>) {
        match step {
            SchemaStep::Create(object) => self.object(object, None, &object.sql, out),
            SchemaStep::Drop(object) => self.object(object, None, &drop_statement(object), out),
            SchemaStep::Alter { objects, .. } => {
                for (before, after) in objects {
                    self.object(after, Some(&before.sql), &after.sql, out);
                }
            }
        }
    }

    /// A schema object that came, went or changed, and the statement that it was, or is.
    fn object(&mut self, object: &Object, was: Option<&str>, sql: &str, out: &mut Vec<u8>) {
        if !self.begins(&object.table, "schema", out) {
            return;
        }
        out.extend_from_slice(b",\"kind\":");
        put(out, object.kind.as_str());
        out.extend_from_slice(b",\"name\":");
        put(out, &object.name);
        if let Some(was) = was {
            out.extend_from_slice(b",\"was\":");
            put(out, was);
        }
        out.extend_from_slice(b",\"sql\":");
        put(out, sql);
        out.push(b'}');
    }
}

fn of_key(
    columns: Option<&Columns>,
    image: &Option<Image<'_>>,
    values: &[ValueRef<'_>],
) -> Option<Vec<u8>> {
    let image = image.as_ref()?;
    let mut out = Vec::new();
    key(&mut out, columns, image.rowid, values);
    Some(out)
}

fn drop_statement(object: &Object) -> String {
    let kind = match object.kind {
        ObjectKind::Table => "TABLE",
        ObjectKind::Index => "INDEX",
        ObjectKind::View => "VIEW",
        ObjectKind::Trigger => "TRIGGER",
    };
    format!("DROP {kind} \"{}\"", object.name.replace('"', "\"\""))
}

/// Appends a commit up to its changes: `{"position":…,"at":…,"changes":[`.
pub(super) fn begin_commit(out: &mut Vec<u8>, commit: &Commit) {
    let (position, at) = (commit.position(), commit.header().at);
    out.extend_from_slice(
        format!("{{\"position\":\"{position}\",\"at\":\"{at}\",\"changes\":[").as_bytes(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::BodyWriter;

    fn json(given: ValueRef<'_>) -> String {
        let mut out = Vec::new();
        value(&mut out, given);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_value_is_ambiguous() {
        assert_eq!(json(ValueRef::Null), "null");
        assert_eq!(json(ValueRef::Integer(-9007199254740991)), "-9007199254740991");
        assert_eq!(json(ValueRef::Integer(9007199254740992)), r#"{"integer":"9007199254740992"}"#);
        assert_eq!(json(ValueRef::Integer(i64::MIN)), r#"{"integer":"-9223372036854775808"}"#);
        assert_eq!(json(ValueRef::Real(2.0)), "2.0");
        assert_eq!(json(ValueRef::Real(f64::NEG_INFINITY)), r#"{"real":"-Infinity"}"#);
        assert_eq!(json(ValueRef::Text("a\"b")), r#""a\"b""#);
        assert_eq!(json(ValueRef::Blob(&[0, 1])), r#"{"base64":"AAE"}"#);
    }

    fn object(name: &str, sql: &str) -> Object {
        let kind = ObjectKind::Table;
        Object { kind, name: name.into(), table: name.into(), sql: sql.into() }
    }

    fn changes(shapes: &mut Shapes, tables: &str, body: &[u8]) -> serde_json::Value {
        let uri = format!("/?tables={tables}").parse().unwrap();
        let tables = Tables::of(&uri);
        let mut out = b"[".to_vec();
        Changes::new(shapes, &tables).part(body, &mut out, |_| Ok(())).unwrap();
        out.push(b']');
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_commit_tells_what_happened_by_name() {
        use ValueRef::{Integer, Null, Text};
        let mut body = BodyWriter::default();
        body.schema(&SchemaStep::Create(object(
            "t",
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)",
        )));
        body.table("t", false);
        body.table("log", true);
        body.insert(0, None, &[Integer(1), Text("x")]);
        body.update(0, None, &[Integer(1), Text("x")], &[Integer(2), Text("x"), Null]);
        body.delete(1, Some(5), &[Text("gone")]);
        body.sequence("t", None, Some(2));
        let mut shapes = Shapes::new(&[object("log", "CREATE TABLE log(line)")]);
        let body = body.0.0;
        let expected = serde_json::json!([
            {"table": "t", "op": "schema", "kind": "table", "name": "t",
             "sql": "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)"},
            {"table": "t", "op": "insert", "key": {"id": 1}, "after": {"id": 1, "a": "x", "b": null}},
            {"table": "t", "op": "update", "key": {"id": 1}, "new_key": {"id": 2},
             "before": {"id": 1, "a": "x", "b": null}, "after": {"id": 2, "a": "x", "b": null}},
            {"table": "log", "op": "delete", "key": {"rowid": 5}, "before": {"line": "gone"}},
        ]);
        assert_eq!(changes(&mut shapes, "", &body), expected);
        assert_eq!(changes(&mut shapes, "LOG", &body), serde_json::json!([expected[3]]));
    }

    #[test]
    fn what_has_no_names_is_an_array() {
        let mut body = BodyWriter::default();
        body.table("t", false);
        body.insert(0, None, &[ValueRef::Integer(1)]);
        assert_eq!(
            changes(&mut Shapes::new(&[]), "", &body.0.0),
            serde_json::json!([{"table": "t", "op": "insert", "key": null, "after": [1]}])
        );
    }
}
