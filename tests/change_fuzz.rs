//! The fuzzer's checks over seeded mutations of good commits, so that every `cargo test` runs them.

#[path = "../fuzz/commit.rs"]
mod commit;

use serde_json::Value as Json;

/// splitmix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Bodies and contents of the golden commits.
fn seeds() -> Vec<Vec<u8>> {
    let vectors: Json = serde_json::from_str(include_str!("vectors/format-1.json")).unwrap();
    let bytes = |json: &Json| -> Vec<u8> {
        let digits = json.as_str().unwrap().as_bytes().chunks(2);
        digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    };
    let commits = vectors["commits"].as_array().unwrap();
    commits.iter().flat_map(|c| [bytes(&c["body"]), bytes(&c["frame"])[12..].to_vec()]).collect()
}

fn mutate(data: &mut Vec<u8>, random: &mut Random) {
    let place = random.below(data.len());
    let edges = [0, 1, 2, 5, 0x7f, 0x80, 0xff];
    match random.below(6) {
        0 if !data.is_empty() => data[place] ^= 1 << random.below(8),
        1 if !data.is_empty() => data[place] = edges[random.below(edges.len())],
        2 if !data.is_empty() => drop(data.remove(place)),
        3 => data.insert(place, random.next() as u8),
        4 => data.truncate(place),
        _ => {
            let end = place + random.below(data.len() - place);
            let again = data[place..end].to_vec();
            let to = random.below(data.len());
            data.splice(to..to, again);
        }
    }
}

#[test]
fn mutated_commits_never_panic_and_have_one_form() {
    let seeds = seeds();
    let mut random = Random(1);
    let mut entries = 0;
    for round in 0..6000 {
        let mut data = seeds[round % seeds.len()].clone();
        for _ in 0..=random.below(3) {
            mutate(&mut data, &mut random);
        }
        entries += commit::check(&data);
    }
    // Else the mutations are refused at the door, and nothing is checked.
    assert!(entries > 10_000, "only {entries} entries were read");
}

#[test]
fn golden_commits_are_read_whole() {
    assert!(seeds().iter().map(|seed| commit::check(seed)).sum::<usize>() > 50);
}
