//! What becomes of single sectors: the model under the crashes, without SQLite.

use super::super::handle::Handle;
use super::super::volume::Opening;
use super::*;

const NAME: &str = "/file";

fn raw(disk: &MemoryDisk) -> Handle {
    let opening = Opening { create: true, ..Opening::default() };
    disk.volume.open(Some(NAME), opening).unwrap()
}

/// What 200 crashes leave, without repetition.
fn outcomes(disk: &MemoryDisk) -> std::collections::BTreeSet<Vec<u8>> {
    (0..200).map(|seed| disk.crash(seed).snapshot(NAME)).collect()
}

#[test]
fn what_is_synced_stays_and_what_is_not_may_be_kept_lost_or_torn() {
    let disk = MemoryDisk::power_loss();
    let file = raw(&disk);
    file.write(&[1; 1024], 0).unwrap();
    file.sync().unwrap();
    file.write(&[2; 512], 512).unwrap();
    let outcomes = outcomes(&disk);
    assert!(outcomes.iter().all(|bytes| bytes[..512] == [1; 512] && bytes.len() == 1024));
    let second = |byte| outcomes.iter().any(|bytes| bytes[512..] == [byte; 512]);
    assert!(second(1) && second(2));
    let torn = |a: u8, b: u8| outcomes.iter().any(|bytes| bytes[512] == a && bytes[1023] == b);
    assert!(torn(1, 2) && torn(2, 1));
    let rubbish = |bytes: &Vec<u8>| bytes.iter().any(|byte| *byte != 1 && *byte != 2);
    assert!(outcomes.iter().any(rubbish), "a sector that is not powersafe");
}

#[test]
fn sectors_are_kept_independently_and_in_any_version_since_the_sync() {
    let disk = MemoryDisk::power_loss();
    let file = raw(&disk);
    for byte in 1..=3 {
        file.write(&[byte; 1024], 0).unwrap();
        if byte == 1 {
            file.sync().unwrap();
        }
    }
    let outcomes = outcomes(&disk);
    for (first, second) in [(1, 3), (3, 1), (2, 3), (2, 1)] {
        let expected = [[first; 512], [second; 512]].concat();
        assert!(outcomes.contains(&expected), "{first} and {second}");
    }
}

#[test]
fn a_new_file_may_survive_empty_or_in_part() {
    let disk = MemoryDisk::power_loss();
    raw(&disk).write(&[1; 5000], 0).unwrap();
    let lengths: std::collections::BTreeSet<usize> = outcomes(&disk).iter().map(Vec::len).collect();
    assert!(lengths.contains(&0) && lengths.contains(&5000) && lengths.len() > 10);
}

#[test]
fn a_cut_survives_or_what_was_cut_off_is_back() {
    let crashes = |then: fn(&Handle)| {
        let disk = MemoryDisk::power_loss();
        let file = raw(&disk);
        file.write(&[1; 5000], 0).unwrap();
        file.sync().unwrap();
        file.truncate(1024).unwrap();
        then(&file);
        outcomes(&disk)
    };
    let (cut, uncut, grown) =
        (vec![1; 1024], vec![1; 5000], [vec![1; 1024], vec![2; 512]].concat());

    let found = crashes(|_| ());
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [cut.clone(), uncut.clone()]);

    // What is written after the cut never comes to lie in what is back.
    let found = crashes(|file| file.write(&[2; 512], 1024).unwrap());
    assert!([&cut, &uncut, &grown].into_iter().all(|bytes| found.contains(bytes)));
    assert!(found.iter().all(|bytes| bytes.len() <= 1536 || *bytes == uncut));

    let found = crashes(|file| {
        file.write(&[2; 512], 1024).unwrap();
        file.sync().unwrap();
    });
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [grown]);
}

/// A write far past the end does not endanger what is synced before it.
#[test]
fn a_gap_is_not_a_write() {
    let disk = MemoryDisk::power_loss();
    let file = raw(&disk);
    file.write(&[1; 100], 0).unwrap();
    file.sync().unwrap();
    file.write(&[2; 512], 1024).unwrap();
    assert!(outcomes(&disk).iter().all(|bytes| bytes[..100] == [1; 100]));
}

#[test]
fn a_cut_inside_a_sector_may_leave_zeros_in_it() {
    let disk = MemoryDisk::power_loss();
    let file = raw(&disk);
    file.write(&[1; 2000], 0).unwrap();
    file.sync().unwrap();
    file.truncate(700).unwrap();
    let found = outcomes(&disk);
    assert!(found.contains(&vec![1; 700]) && found.contains(&vec![1; 2000]));
    let zeros = [vec![1; 700], vec![0; 324], vec![1; 976]].concat();
    assert!(found.contains(&zeros), "the end of the sector was written and the inode was not");
    assert!(found.iter().all(|bytes| bytes[..512] == [1; 512]));
}

#[test]
fn a_cut_file_grows_back_with_zeros() {
    for disk in [MemoryDisk::new(), MemoryDisk::power_loss()] {
        let file = raw(&disk);
        file.write(&[1; 40_000], 0).unwrap();
        file.truncate(20_000).unwrap();
        file.truncate(30_000).unwrap();
        file.write(&[2], 50_000).unwrap();
        let mut expected = [vec![1; 20_000], vec![0; 30_001]].concat();
        expected[50_000] = 2;
        assert_eq!(disk.snapshot(NAME), expected);
        assert_eq!(disk.used(), 50_001);
    }
}

/// Linux takes the pages of a failed sync for clean: the next sync succeeds and means nothing.
#[test]
fn a_sync_that_succeeds_after_one_that_failed_promises_nothing() {
    let disk = MemoryDisk::power_loss();
    let file = raw(&disk);
    file.write(&[1; 512], 0).unwrap();
    file.sync().unwrap();
    file.write(&[2; 512], 0).unwrap();
    disk.fail(Fault {
        on: FaultOn::Sync,
        nth: 1,
        error: FaultError::Io,
        times: Times::Once,
        file: None,
    });
    assert_eq!(file.sync(), Err(Failure::Io));
    file.sync().unwrap();
    assert!(outcomes(&disk.kill()).contains(&vec![1; 512]), "gone in spite of the sync");
}

/// Linux tells every handle that is open, once each, of a sync that failed through one of them.
#[test]
fn a_failed_sync_is_told_to_every_open_handle_once() {
    let disk = MemoryDisk::power_loss();
    let (failing, other) = (raw(&disk), raw(&disk));
    other.write(&[1; 512], 0).unwrap();
    let (on, error, times) = (FaultOn::Sync, FaultError::Io, Times::Once);
    disk.fail(Fault { on, nth: 1, error, times, file: None });
    assert_eq!(failing.sync(), Err(Failure::Io));
    let later = raw(&disk);
    failing.sync().unwrap();
    later.sync().unwrap();
    assert_eq!(other.sync(), Err(Failure::Io), "it has not heard of it yet");
    other.sync().unwrap();
}

#[test]
fn what_is_written_again_after_a_failed_sync_can_be_synced() {
    let disk = MemoryDisk::power_loss();
    let file = raw(&disk);
    file.write(&[1; 512], 0).unwrap();
    disk.fail(Fault {
        on: FaultOn::Sync,
        nth: 1,
        error: FaultError::Full,
        times: Times::Once,
        file: None,
    });
    assert_eq!(file.sync(), Err(Failure::Full));
    file.write(&[1; 512], 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk).into_iter().collect::<Vec<_>>(), [vec![1; 512]]);
}

#[test]
fn a_disk_freezes_after_exactly_so_many_operations() {
    let disk = MemoryDisk::power_loss();
    let file = raw(&disk);
    assert_eq!(disk.operations(), 1, "the file was created");
    disk.crash_at(3);
    file.write(b"a", 0).unwrap();
    file.sync().unwrap();
    assert!(!disk.is_frozen());
    file.write(b"b", 0).unwrap();
    assert!(disk.is_frozen());
    assert_eq!(file.write(b"c", 0), Err(Failure::Frozen));
    assert_eq!(file.sync(), Err(Failure::Frozen));
    assert_eq!(file.truncate(0), Err(Failure::Frozen));
    assert_eq!(disk.volume.remove(NAME), Err(Failure::Frozen));
    assert_eq!(disk.volume.rename(NAME, "/other"), Err(Failure::Frozen));
    assert!(disk.write_atomic(Path::new("/new"), b"").is_err());
    assert_eq!(disk.operations(), 4);
    assert_eq!(disk.snapshot(NAME), b"b", "it can still be read");
    assert_eq!(disk.crash(0).operations(), 0);
}

#[test]
fn an_atomic_write_leaves_old_or_new_wherever_power_fails() {
    let (old, new) = (vec![1; 3000], vec![2; 2000]);
    let mut seen = [false; 2];
    for point in 0..=4 {
        for seed in 0..20 {
            let disk = MemoryDisk::power_loss();
            disk.write_atomic(Path::new(NAME), &old).unwrap();
            disk.crash_at(point);
            let acknowledged = disk.write_atomic(Path::new(NAME), &new).is_ok();
            assert_eq!(acknowledged, point == 4);
            let found = disk.crash(seed).snapshot(NAME);
            assert!(found == old || found == new, "a mixture");
            assert!(found == new || !acknowledged, "acknowledged and lost");
            seen[usize::from(found == new)] = true;
        }
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn a_crash_keeps_identities_names_and_the_limit() {
    let disk = MemoryDisk::power_loss();
    disk.set_capacity(Some(3000));
    disk.write_atomic(Path::new("/a"), &[1; 1000]).unwrap();
    disk.write_atomic(Path::new("/b"), &[1; 1000]).unwrap();
    let after = disk.crash(7);
    assert_eq!(after.files(), disk.files());
    let identity = |disk: &MemoryDisk, name| disk.identity(Path::new(name)).unwrap().unwrap();
    assert_eq!(identity(&after, "/a"), identity(&disk, "/a"));
    assert_ne!(identity(&after, "/a"), identity(&after, "/b"));
    assert_eq!(after.used(), 2000);
    let error = after.write_atomic(Path::new("/c"), &[1; 1001]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(after.used(), 2000);
    after.write_atomic(Path::new("/c"), &[1; 1000]).unwrap();
}
