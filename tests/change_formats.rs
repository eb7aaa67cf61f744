//! The golden vectors: bytes that must never change unless the format's number does.
//!
//! Whoever changes a hash, a digest or a frame by accident makes every copy and every log out there
//! unreadable. The vectors in `tests/vectors` were counted by hand and by `recount.py`, not by the
//! code under test; the same script checks them again (`recount.py --check`).

use rusqlite::Connection;
use rusqlite::types::ValueRef as SqlValue;
use serde_json::Value as Json;
use syncline::change::*;
use xxhash_rust::xxh3::xxh3_128;

fn vectors() -> Json {
    let vectors: Json = serde_json::from_str(include_str!("vectors/format-1.json")).unwrap();
    assert_eq!(vectors["format"], FORMAT, "a new format needs new vectors beside the old ones");
    vectors
}

fn list(json: &Json) -> &[Json] {
    json.as_array().expect("a list")
}

fn text(json: &Json) -> &str {
    json.as_str().expect("a text")
}

fn bytes(json: &Json) -> Vec<u8> {
    let digits = text(json).as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn u128_of(json: &Json) -> u128 {
    u128::from_str_radix(text(json), 16).expect("32 hex digits")
}

fn u64_of(json: &Json) -> u64 {
    text(json).parse().expect("a number")
}

/// null, or an object with the class as its one key.
fn value(json: &Json) -> Value {
    let Some(object) = json.as_object() else { return Value::Null };
    let (class, held) = object.iter().next().expect("a class");
    match class.as_str() {
        "integer" => Value::Integer(text(held).parse().unwrap()),
        "real" => Value::Real(f64::from_bits(u64::from_str_radix(text(held), 16).unwrap())),
        "text" => Value::Text(text(held).to_owned()),
        "blob" => Value::Blob(bytes(held)),
        class => panic!("no class {class}"),
    }
}

/// A row's key, if its table is keyed by rowid, and its values.
fn row(json: &Json) -> (Option<i64>, Vec<Value>) {
    let rowid = json["rowid"].as_str().map(|rowid| rowid.parse().unwrap());
    (rowid, list(&json["values"]).iter().map(value).collect())
}

fn hash(hasher: &mut RowHasher, (rowid, values): &(Option<i64>, Vec<Value>)) -> Digest {
    hasher.start(*rowid);
    values.iter().for_each(|value| hasher.push(value.as_ref()));
    hasher.finish()
}

#[test]
fn row_hashes_are_golden() {
    let mut hasher = RowHasher::default();
    for vector in list(&vectors()["rows"]) {
        let expected = u128_of(&vector["hash"]);
        assert_eq!(xxh3_128(&bytes(&vector["bytes"])), expected, "{}", vector["what"]);
        assert_eq!(hash(&mut hasher, &row(vector)), Digest(expected), "{}", vector["what"]);
    }
}

fn shape(table: &Json) -> TableShape {
    let flag = |json: &Json| json.as_bool().expect("a flag");
    let number = |json: &Json| u32::try_from(json.as_u64().expect("a number")).unwrap();
    let column = |column: &Json| Column {
        name: text(&column["name"]).to_owned(),
        decltype: text(&column["type"]).to_owned(),
        notnull: flag(&column["notnull"]),
        pk: number(&column["pk"]),
        hidden: number(&column["hidden"]),
    };
    let keyed_by_rowid = flag(&table["keyed_by_rowid"]);
    TableShape {
        name: text(&table["name"]).to_owned(),
        columns: list(&table["columns"]).iter().map(column).collect(),
        without_rowid: flag(&table["without_rowid"]),
        strict: flag(&table["strict"]),
        key: if keyed_by_rowid { KeyKind::Rowid } else { KeyKind::Columns(Vec::new()) },
        autoincrement: false,
    }
}

#[test]
fn digests_are_golden() {
    let vectors = vectors();
    let mut hasher = RowHasher::default();
    let mut database = DatabaseDigest::default();
    for vector in list(&vectors["database"]["tables"]) {
        let shape = shape(vector);
        let mut table = TableDigest::empty(shape.fingerprint());
        for vector in list(&vector["rows"]) {
            let row = row(vector);
            assert_eq!(row.0.is_some(), shape.keyed_by_rowid());
            assert_eq!(row.1.len(), shape.stored_columns().count());
            table.digest += hash(&mut hasher, &row);
            table.rows += 1;
        }
        assert_eq!(table.fingerprint, Fingerprint(u128_of(&vector["fingerprint"])), "{shape:?}");
        assert_eq!(table.digest, Digest(u128_of(&vector["digest"])), "{shape:?}");
        database.set(&shape.name, table);
    }
    assert_eq!(database.total(), Digest(u128_of(&vectors["database"]["digest"])));
}

fn sql_value(value: SqlValue<'_>) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(i) => Value::Integer(i),
        SqlValue::Real(r) => Value::Real(r),
        SqlValue::Text(t) => Value::Text(str::from_utf8(t).unwrap().to_owned()),
        SqlValue::Blob(b) => Value::Blob(b.to_vec()),
    }
}

fn query(sql: &Connection, query: &str) -> Vec<Vec<Value>> {
    let mut statement = sql.prepare(query).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..width).map(|i| row.get_ref(i).map(sql_value)).collect::<Result<Vec<_>, _>>()
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The vectors state what SQLite reports and returns: so does the SQLite that is built in.
#[test]
fn sqlite_reports_the_golden_tables() {
    let vectors = vectors();
    let sql = Connection::open_in_memory().unwrap();
    for statement in list(&vectors["database"]["sql"]) {
        sql.execute_batch(text(statement)).unwrap();
    }
    for vector in list(&vectors["database"]["tables"]) {
        let shape = shape(vector);
        let name = quoted(&shape.name);
        let columns = query(&sql, &format!("PRAGMA table_xinfo({name})"));
        let integer = |n: u32| Value::Integer(n.into());
        let stated: Vec<_> = shape
            .columns
            .iter()
            .map(|c| {
                let (name, decltype) = (c.name.clone(), c.decltype.clone());
                let numbers = [integer(c.notnull.into()), integer(c.pk), integer(c.hidden)];
                (Value::Text(name), Value::Text(decltype), numbers)
            })
            .collect();
        let reported: Vec<_> = columns
            .into_iter()
            .map(|c| (c[1].clone(), c[2].clone(), [c[3].clone(), c[5].clone(), c[6].clone()]))
            .collect();
        assert_eq!(reported, stated, "{name}");
        let mut wanted: Vec<_> = shape.stored_columns().map(|(_, c)| quoted(&c.name)).collect();
        let rowid = if shape.keyed_by_rowid() { "_rowid_" } else { "NULL" };
        wanted.insert(0, rowid.to_owned());
        let found = query(&sql, &format!("SELECT {} FROM {name}", wanted.join(", ")));
        let mut hasher = RowHasher::default();
        let sum = found.into_iter().fold(Digest::default(), |sum, mut values| {
            let rowid = match values.remove(0) {
                Value::Integer(rowid) => Some(rowid),
                _ => None,
            };
            sum + hash(&mut hasher, &(rowid, values))
        });
        assert_eq!(sum, Digest(u128_of(&vector["digest"])), "{name}");
    }
}

fn header(json: &Json) -> Header {
    Header {
        previous: Chain(u128_of(&json["previous"])),
        epoch: Epoch(u64_of(&json["epoch"])),
        tag: Tag(u64_of(&json["tag"])),
        version: Version(u64_of(&json["version"])),
        at: Timestamp(u64_of(&json["at"])),
        digest: Digest(u128_of(&json["digest"])),
    }
}

/// The commit of a vector, sealed from its header and body.
fn sealed(vector: &Json) -> Commit {
    let header = header(&vector["header"]);
    let parts = list(&vector["parts"]);
    if parts.is_empty() {
        return Commit::seal(header, &bytes(&vector["body"]));
    }
    let Header { previous, epoch, tag, version, at, digest } = header;
    let mut hasher = ChainHasher::new(previous, epoch, tag, version, at);
    parts.iter().for_each(|part| hasher.update(&bytes(part)));
    Commit::seal_parts(header, parts.len() as u32, hasher.finish(digest))
}

#[test]
fn frames_and_chains_are_golden() {
    let vectors = vectors();
    let mut previous = Chain::default();
    for vector in list(&vectors["commits"]) {
        let commit = sealed(vector);
        assert_eq!(hex(commit.frame()), text(&vector["frame"]), "{}", vector["what"]);
        assert_eq!(commit.chain(), Chain(u128_of(&vector["chain"])), "{}", vector["what"]);
        assert_eq!(commit.header().previous, previous, "the vectors are one history");
        previous = commit.chain();
        let frame = bytes(&vector["frame"]);
        assert_eq!(Commit::read(&mut Decoder(&frame)).unwrap(), commit);
    }
}

fn commit<'a>(vectors: &'a Json, what: &str) -> &'a Json {
    list(&vectors["commits"]).iter().find(|vector| vector["what"] == what).expect(what)
}

#[test]
fn rows_have_the_golden_bytes() {
    use ValueRef::*;
    let mut body = BodyWriter::default();
    let ada = [Integer(1), Text("Ada"), Real(0.5)];
    let ada_l = [Integer(1), Text("Ada L."), Real(0.5)];
    let keyless = [Null, Blob(&[0, 0xff])];
    body.table("people", false);
    body.insert(0, None, &ada);
    body.update(0, None, &ada, &ada_l);
    body.table("keyless", true);
    body.insert(1, Some(-3), &keyless);
    body.update(1, Some((-3, i64::MAX)), &keyless, &keyless);
    body.delete(0, None, &ada_l);
    body.delete(1, Some(i64::MAX), &keyless);
    assert_eq!(hex(&body.0.0), text(&commit(&vectors(), "rows")["body"]));
}

fn object(kind: ObjectKind, name: &str, table: &str, sql: &str) -> Object {
    Object { kind, name: name.into(), table: table.into(), sql: sql.into() }
}

#[test]
fn everything_else_has_the_golden_bytes() {
    use ObjectKind::*;
    let index = object(Index, "people_name", "people", "CREATE INDEX people_name ON people (name)");
    let view = object(View, "names", "names", "CREATE VIEW names AS SELECT name FROM people");
    let trigger = object(
        Trigger,
        "quiet",
        "people",
        "CREATE TRIGGER quiet AFTER INSERT ON people BEGIN SELECT 1; END",
    );
    let table = |name: &str, sql: &str| object(Table, name, name, sql);
    let three =
        table("people", "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, score REAL)");
    let two = table("people", "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)");
    let renamed = table("persons", "CREATE TABLE \"persons\" (id INTEGER PRIMARY KEY, name TEXT)");
    let alter = |before: &Object, after: &Object, dropped: Option<&str>| SchemaStep::Alter {
        objects: vec![(before.clone(), after.clone())],
        dropped_column: dropped.map(Into::into),
    };
    let mut body = BodyWriter::default();
    body.schema(&SchemaStep::Create(index));
    body.schema(&SchemaStep::Drop(view));
    body.schema(&SchemaStep::Drop(trigger));
    body.schema(&alter(&three, &two, Some("score")));
    body.schema(&alter(&two, &renamed, None));
    body.sequence("persons", None, Some(7));
    body.sequence("persons", Some(7), None);
    body.setting("user_version", 0, -1);
    body.table("persons", false);
    body.insert(0, None, &[ValueRef::Integer(i64::MIN), ValueRef::Text("Zürich")]);
    let id = RequestId { client: "client-a".into(), sequence: u64::MAX };
    body.request(&id, br#"{"ok":true}"#);
    assert_eq!(hex(&body.0.0), text(&commit(&vectors(), "everything else")["body"]));
}

/// Every 128-bit number that `docs/formats.md` shows is one of the vectors'.
#[test]
fn documented_hashes_are_golden() {
    let documented = include_str!("../docs/formats.md");
    let vectors = include_str!("vectors/format-1.json");
    let is_hash = |word: &&str| word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let hashes: Vec<_> =
        documented.split(|c: char| !c.is_ascii_alphanumeric()).filter(is_hash).collect();
    assert!(hashes.len() > 8);
    for hash in hashes {
        let example = hash == "0123456789abcdef0123456789abcdef";
        assert!(example || vectors.contains(hash), "{hash} is in no vector");
    }
}
