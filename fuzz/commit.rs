//! What the fuzzer asks of any bytes, whether it is `cargo fuzz` or the seeded test in
//! `tests/change_fuzz.rs`: reading never panics, and what was read is written to the same bytes.

use syncline::change::*;
use xxhash_rust::xxh3::xxh3_64;

/// Takes `data` as frames, as the content of a frame (a checksum would stop nearly everything), and
/// as a body. Returns how many entries were read and written again.
pub fn check(data: &[u8]) -> usize {
    frames(data) + frames(&framed(data)) + body(data) + frames(sealed(data).frame())
}

fn framed(content: &[u8]) -> Vec<u8> {
    let mut frame = (content.len() as u32).to_be_bytes().to_vec();
    frame.extend(xxh3_64(content).to_be_bytes());
    frame.extend(content);
    frame
}

fn sealed(body: &[u8]) -> Commit {
    let header = Header {
        previous: Chain(1),
        epoch: Epoch(2),
        tag: Tag(3),
        version: Version(4),
        at: Timestamp(5),
        digest: Digest(6),
    };
    let commit = Commit::seal(header, body);
    assert_eq!(commit.body(), body);
    commit
}

/// Reads frames until one is refused; seals each again and walks its body.
fn frames(bytes: &[u8]) -> usize {
    let mut decoder = Decoder(bytes);
    let mut entries = 0;
    loop {
        let before = decoder.0;
        let Ok(commit) = Commit::read(&mut decoder) else { return entries };
        let again = match commit.parts() {
            0 => Commit::seal(*commit.header(), commit.body()),
            parts => Commit::seal_parts(*commit.header(), parts, commit.chain()),
        };
        assert_eq!(again, commit);
        assert_eq!(again.frame(), &before[..before.len() - decoder.0.len()]);
        entries += body(commit.body());
    }
}

/// Reads entries until one is refused, writing each again.
fn body(bytes: &[u8]) -> usize {
    let mut decoder = Decoder(bytes);
    let mut reader = BodyReader::default();
    let mut writer = BodyWriter::default();
    let mut entries = 0;
    loop {
        let declared = declarations(decoder, &mut writer);
        let Ok(Some(change)) = reader.next(&mut decoder) else { return entries };
        if !rewrite(&change, &mut writer) {
            return entries;
        }
        let read = &bytes[..bytes.len() - decoder.0.len()];
        assert_eq!(writer.0.0, read, "{change:?} has a second form");
        entries += 1 + declared;
    }
}

/// The reader passes over declarations: writes those that come next.
fn declarations(mut decoder: Decoder<'_>, writer: &mut BodyWriter) -> usize {
    let mut declared = 0;
    while decoder.0.first() == Some(&1) {
        let mut declaration = || {
            decoder.u8()?;
            let name = decoder.text()?;
            decoder.u8().map(|by_rowid| (name, by_rowid == 1))
        };
        let Ok((name, by_rowid)) = declaration() else { break };
        writer.table(name, by_rowid);
        declared += 1;
    }
    declared
}

/// Writes an entry; false if its values are refused.
fn rewrite(change: &Change<'_>, writer: &mut BodyWriter) -> bool {
    match change {
        Change::Row(row) => return rewrite_row(row, writer),
        Change::Schema(step) => writer.schema(step),
        Change::Sequence { table, before, after } => writer.sequence(table, *before, *after),
        Change::Setting { name, before, after } => writer.setting(name, *before, *after),
        Change::Request { id, response } => writer.request(id, response),
    }
    true
}

fn rewrite_row(row: &RowChange<'_>, writer: &mut BodyWriter) -> bool {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    if row.values(&mut before, &mut after).is_err() {
        return false;
    }
    match (row.before, row.after) {
        (None, Some(a)) => writer.insert(row.table, a.rowid, &after),
        (Some(b), None) => writer.delete(row.table, b.rowid, &before),
        (Some(b), Some(a)) => writer.update(row.table, b.rowid.zip(a.rowid), &before, &after),
        (None, None) => unreachable!("a row change has an image"),
    }
    true
}
