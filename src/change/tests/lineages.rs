//! Lineages: the fork that one message finds, against the commits that two copies really share.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::change::{Epoch, Lineage, LineageEntry, Tag, Version};

/// A copy as an onlooker knows it: every commit it holds, by an identity of its own.
#[derive(Debug, Clone, Default)]
struct Copy {
    lineage: Lineage,
    /// The commits, oldest first: number `i` has version `i + 1`.
    history: Vec<u64>,
    /// Whether it took its current epoch itself and did not lose it since.
    reigns: bool,
}

impl Copy {
    fn head(&self) -> Version {
        Version(self.history.len() as u64)
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A writer starts on the copy, and takes an epoch.
    Start(Index),
    /// It writes some commits, if it reigns.
    Write(Index, u8),
    /// The copy becomes the other one, as far as some version; as of its epochs, as many as it has
    /// to know, up to all of them.
    Follow { copy: Index, source: Index, version: Index, epochs: Index },
    /// The copy is put into the cupboard.
    Backup(Index),
    /// And taken out of it, over another one.
    Restore { copy: Index, backup: Index },
    /// Someone writes to a copy behind Syncline's back: its epoch's tag is repeated.
    WriteBehind(Index, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        2 => index().prop_map(Step::Start),
        4 => (index(), 1..4u8).prop_map(|(copy, n)| Step::Write(copy, n)),
        3 => (index(), index(), index(), index()).prop_map(|(copy, source, version, epochs)| {
            Step::Follow { copy, source, version, epochs }
        }),
        2 => index().prop_map(Step::Backup),
        2 => (index(), index()).prop_map(|(copy, backup)| Step::Restore { copy, backup }),
    ]
}

fn dishonest_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => step(),
        1 => (any::<Index>(), 1..4u8).prop_map(|(copy, n)| Step::WriteBehind(copy, n)),
    ]
}

/// Some copies and some backups, and the identities given out so far.
struct World {
    copies: Vec<Copy>,
    backups: Vec<Copy>,
    identities: u64,
}

impl World {
    fn after(steps: &[Step]) -> World {
        let copies = vec![Copy::default(); 4];
        let mut world = World { copies, backups: vec![Copy::default()], identities: 0 };
        steps.iter().for_each(|step| world.take(step));
        world
    }

    fn identity(&mut self) -> u64 {
        self.identities += 1;
        self.identities
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Start(copy) => {
                let tag = Tag(self.identity());
                start(copy.get_mut(&mut self.copies), tag);
            }
            Step::Write(copy, n) if copy.get(&self.copies).reigns => self.write(copy, *n),
            Step::Write(..) => {}
            Step::WriteBehind(copy, _) if copy.get(&self.copies).lineage.0.is_empty() => {}
            Step::WriteBehind(copy, n) => self.write(copy, *n),
            Step::Follow { copy, source, version, epochs } => {
                let source = source.get(&self.copies);
                *copy.get_mut(&mut self.copies) = part(source, version, epochs);
            }
            Step::Backup(copy) => {
                let reigns = false;
                self.backups.push(Copy { reigns, ..copy.get(&self.copies).clone() });
            }
            Step::Restore { copy, backup } => {
                *copy.get_mut(&mut self.copies) = backup.get(&self.backups).clone();
            }
        }
    }

    fn write(&mut self, copy: &Index, n: u8) {
        for _ in 0..n {
            let commit = self.identity();
            copy.get_mut(&mut self.copies).history.push(commit);
        }
    }
}

fn start(copy: &mut Copy, tag: Tag) {
    let epoch = Epoch(copy.lineage.last().map_or(1, |last| last.epoch.0 + 1));
    copy.lineage.begin(LineageEntry { epoch, tag, first: copy.head().next() });
    copy.reigns = true;
}

/// What a follower that is perhaps behind holds of `source`.
fn part(source: &Copy, version: &Index, epochs: &Index) -> Copy {
    let history = source.history[..version.index(source.history.len() + 1)].to_vec();
    let all = &source.lineage.0;
    let needed = all.iter().filter(|entry| entry.first.0 <= history.len() as u64).count();
    let known = needed + epochs.index(all.len() - needed + 1);
    Copy { lineage: Lineage(all[..known].to_vec()), history, reigns: false }
}

/// The last version up to which two copies hold the same commits.
fn shared(a: &Copy, b: &Copy) -> Version {
    Version(a.history.iter().zip(&b.history).take_while(|(a, b)| a == b).count() as u64)
}

/// Every copy and backup with every other.
fn pairs(world: &World) -> impl Iterator<Item = (&Copy, &Copy)> {
    let all = || world.copies.iter().chain(&world.backups);
    all().flat_map(move |a| all().map(move |b| (a, b)))
}

fn fork(a: &Copy, b: &Copy) -> Version {
    a.lineage.fork(a.head(), &b.lineage, b.head())
}

proptest! {
    #[test]
    fn lineage_fork_is_the_last_version_in_common(steps in vec(step(), 0..40)) {
        for (a, b) in pairs(&World::after(&steps)) {
            prop_assert_eq!(fork(a, b), shared(a, b), "{:?} and {:?}", a, b);
        }
    }

    #[test]
    fn lineage_fork_is_never_too_low_though_a_tag_is_repeated(
        steps in vec(dishonest_step(), 0..40),
    ) {
        for (a, b) in pairs(&World::after(&steps)) {
            prop_assert!(fork(a, b) >= shared(a, b), "{:?} and {:?}", a, b);
            prop_assert!(fork(a, b) <= a.head().min(b.head()));
            prop_assert_eq!(fork(a, b), fork(b, a));
        }
    }

    #[test]
    fn lineage_knows_the_epoch_of_a_version(steps in vec(step(), 0..40)) {
        for copy in World::after(&steps).copies {
            for version in (0..copy.head().0 + 3).map(Version) {
                let mut found = None;
                for entry in &copy.lineage.0 {
                    if entry.first <= version {
                        found = Some(entry);
                    }
                }
                prop_assert_eq!(copy.lineage.at(version), found);
            }
        }
    }
}

#[test]
fn lineage_fork_of_two_restored_copies() {
    let lineage = |entries: &[(u64, u64, u64)]| {
        let entry = |&(epoch, tag, first)| LineageEntry {
            epoch: Epoch(epoch),
            tag: Tag(tag),
            first: Version(first),
        };
        Lineage(entries.iter().map(entry).collect())
    };
    let a = lineage(&[(1, 11, 1), (3, 13, 7)]);
    let b = lineage(&[(1, 11, 1), (2, 12, 5)]);
    assert_eq!(a.fork(Version(8), &b, Version(6)), Version(4));
    assert_eq!(a.fork(Version(3), &b, Version(6)), Version(3), "not beyond what is there");
    let same_numbers = lineage(&[(1, 11, 1), (3, 99, 7)]);
    assert_eq!(a.fork(Version(8), &same_numbers, Version(9)), Version(6), "the tag tells");
    let stranger = lineage(&[(1, 10, 1)]);
    assert_eq!(a.fork(Version(8), &stranger, Version(9)), Version(0));
    assert_eq!(a.fork(Version(8), &Lineage::default(), Version(0)), Version(0));
}
