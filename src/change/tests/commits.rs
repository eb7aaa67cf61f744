//! Commits: sealed in one piece or in parts, read back, damaged.

use proptest::prelude::*;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::script::{Entry, body, read, script};
use crate::change::{
    BodyReader, Captured, Chain, ChainHasher, Commit, Decoder, Digest, Epoch, Header, LineageEntry,
    Position, Tag, Timestamp, Version,
};
use crate::error::{Kind, Result};

fn header() -> impl Strategy<Value = Header> {
    any::<(u128, u64, u64, u64, u64, u128)>().prop_map(
        |(previous, epoch, tag, version, at, digest)| Header {
            previous: Chain(previous),
            epoch: Epoch(epoch),
            tag: Tag(tag),
            version: Version(version),
            at: Timestamp(at),
            digest: Digest(digest),
        },
    )
}

fn read_one(frame: &[u8]) -> Result<Commit> {
    Commit::read(&mut Decoder(frame))
}

/// The chain, hashed as the format is drawn, in one go.
fn chain_twin(header: &Header, body: &[u8]) -> Chain {
    let mut region = header.previous.0.to_be_bytes().to_vec();
    for n in [header.epoch.0, header.tag.0, header.version.0, header.at.0] {
        region.extend(n.to_be_bytes());
    }
    region.extend(body);
    region.extend(header.digest.0.to_be_bytes());
    Chain(xxh3_128(&region))
}

/// The same content behind a length and a checksum that fit.
fn reframed(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&length.to_be_bytes(), xxh3_64(content).to_be_bytes().as_slice(), content].concat()
}

proptest! {
    #[test]
    fn commit_round_trip(header in header(), script in script()) {
        let body = body(&script);
        let commit = Commit::seal(header, &body);
        prop_assert_eq!(commit.body(), &body);
        prop_assert_eq!(commit.chain(), chain_twin(&header, &body));
        let (epoch, version, digest) = (header.epoch, header.version, header.digest);
        let position = Position { epoch, version, chain: commit.chain(), digest };
        prop_assert_eq!(commit.position(), position);

        let two = [commit.frame(), commit.frame()].concat();
        let mut decoder = Decoder(&two);
        prop_assert_eq!(&Commit::read(&mut decoder).unwrap(), &commit);
        prop_assert_eq!(decoder.0, commit.frame());
        prop_assert_eq!(&Commit::read(&mut decoder).unwrap(), &commit);
        prop_assert!(decoder.is_empty());
    }

    #[test]
    fn commit_in_parts_has_the_chain_of_one_piece(
        header in header(),
        script in script(),
        cuts in any::<[prop::sample::Index; 3]>(),
    ) {
        let whole = Commit::seal(header, &body(&script));
        let parts = cut(&script, &cuts);
        let Header { previous, epoch, tag, version, at, digest } = header;
        let mut hasher = ChainHasher::new(previous, epoch, tag, version, at);
        parts.iter().for_each(|part| hasher.update(part));
        let chain = hasher.finish(digest);
        prop_assert_eq!(chain, whole.chain());

        let commit = Commit::seal_parts(header, parts.len() as u32, chain);
        prop_assert_eq!(commit.position(), whole.position());
        prop_assert_eq!((commit.parts(), commit.body()), (4, &[][..]));
        prop_assert_eq!(&read_one(commit.frame()).unwrap(), &commit);

        let (mut from_parts, mut from_whole) = (Vec::new(), Vec::new());
        let mut reader = BodyReader::default();
        for part in &parts {
            read(&mut reader, part, &mut from_parts).unwrap();
        }
        read(&mut BodyReader::default(), whole.body(), &mut from_whole).unwrap();
        let rows = |entries: Vec<Entry>| -> Vec<Entry> {
            entries.into_iter().filter(|entry| !matches!(entry, Entry::Table(_))).collect()
        };
        prop_assert_eq!(rows(from_parts), rows(from_whole));
    }

    #[test]
    fn commit_never_reads_as_another(header in header(), script in script()) {
        let commit = Commit::seal(header, &body(&script));
        for length in 0..commit.frame().len() {
            let mut decoder = Decoder(&commit.frame()[..length]);
            prop_assert!(Commit::read(&mut decoder).is_err());
            prop_assert_eq!(decoder.0.len(), length, "a failed read moves nothing");
        }
        let mut damaged = commit.frame().to_vec();
        for place in 0..damaged.len() {
            damaged[place] ^= 1 << (place % 8);
            prop_assert!(read_one(&damaged).is_err(), "byte {}", place);
            damaged[place] = commit.frame()[place];
        }
    }
}

/// The script's bytes in four parts, each of whole entries, some perhaps empty.
fn cut(script: &[Entry], cuts: &[prop::sample::Index; 3]) -> Vec<Vec<u8>> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(script.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(script.len());
    let mut start = 0;
    ends.into_iter().map(|end| body(&script[std::mem::replace(&mut start, end)..end])).collect()
}

fn sample() -> Commit {
    let captured = Captured { at: Timestamp(5), body: vec![7, 1, b'v', 0, 2], digest: Digest(9) };
    let reign = LineageEntry { epoch: Epoch(2), tag: Tag(77), first: Version(10) };
    captured.order(&reign, Version(12), Chain(1))
}

#[test]
fn commit_with_any_byte_set_to_anything_is_refused() {
    let commit = sample();
    let mut damaged = commit.frame().to_vec();
    for place in 0..damaged.len() {
        for byte in 0..=u8::MAX {
            damaged[place] = byte;
            match read_one(&damaged) {
                Ok(read) => assert_eq!((&read, byte), (&commit, commit.frame()[place])),
                Err(error) => assert_eq!(error.kind(), Kind::Corrupt),
            }
        }
        damaged[place] = commit.frame()[place];
    }
}

#[test]
fn commit_of_a_later_format_asks_for_an_upgrade() {
    let mut content = sample().frame()[12..].to_vec();
    content[0] = 2;
    let error = read_one(&reframed(&content)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, "FORMAT_UNKNOWN"));
}

#[test]
fn commit_whose_content_cannot_be_is_refused() {
    let commit = sample();
    let content = &commit.frame()[12..];
    assert!(read_one(&reframed(content)).is_ok());
    for length in 0..content.len() {
        // With its checksum right, a shorter content may lose body, never a fixed field.
        let read = read_one(&reframed(&content[..length]));
        assert_eq!(read.is_ok(), length >= content.len() - 5, "{length} bytes");
    }
    let mut with_parts = content.to_vec();
    with_parts[4] = 1;
    let error = read_one(&reframed(&with_parts)).unwrap_err();
    assert!(error.message().contains("in parts"), "{error}");
}

#[test]
fn commit_frame_that_claims_4_gib_is_refused_unread() {
    let mut frame = sample().frame().to_vec();
    frame[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(read_one(&frame).unwrap_err().message().contains("too early"));
}
