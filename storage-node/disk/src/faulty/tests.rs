//! The faulty disk keeps exactly the trait's promises and breaks everything else.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

const DIR: &str = "/d";

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn disk() -> FaultyDisk {
    let disk = FaultyDisk::default();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

fn create(disk: &FaultyDisk, name: &str) -> Arc<dyn DiskFile> {
    disk.open(&path(name), OpenMode::CreateNew).unwrap()
}

fn content(disk: &FaultyDisk, name: &str) -> Vec<u8> {
    let file = disk.open(&path(name), OpenMode::Existing).unwrap();
    let mut content = vec![0; to_usize(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut content, 0).unwrap();
    content
}

#[test]
fn unsynced_writes_are_lost_and_synced_ones_are_kept() {
    let disk = disk();
    let file = create(&disk, "a");
    file.write_all_at(&[b"one", b"two"], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    file.write_all_at(&[b"XXXXXX!"], 0).unwrap();
    assert_eq!(content(&disk.crash(CrashPlan::LoseAll), "a"), b"onetwo");
    assert_eq!(content(&disk.crash(CrashPlan::KeepAll), "a"), b"XXXXXX!");
    assert_eq!(content(&disk, "a"), b"XXXXXX!");
}

#[test]
fn a_name_that_was_not_synced_can_be_lost_though_its_data_was_synced() {
    let disk = disk();
    let file = create(&disk, "a");
    file.write_durable_at(&[b"data"], 0).unwrap();
    assert!(!disk.crash(CrashPlan::LoseAll).exists(&path("a")).unwrap());
    assert!(disk.crash(CrashPlan::KeepAll).exists(&path("a")).unwrap());
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk.remove_file(&path("a")).unwrap();
    assert!(!disk.exists(&path("a")).unwrap());
    assert_eq!(content(&disk.crash(CrashPlan::LoseAll), "a"), b"data");
}

#[test]
fn a_rename_is_atomic_and_durable_only_after_its_directory_was_synced() {
    let disk = disk();
    create(&disk, "a").write_durable_at(&[b"old"], 0).unwrap();
    create(&disk, "b").write_durable_at(&[b"new"], 0).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk.rename(&path("b"), &path("a")).unwrap();
    for seed in 0..32 {
        let after = disk.crash(CrashPlan::Seeded(seed));
        let found = content(&after, "a");
        assert!(found == b"old" || found == b"new", "seed {seed}");
    }
    disk.sync_dir(Path::new(DIR)).unwrap();
    assert_eq!(content(&disk.crash(CrashPlan::LoseAll), "a"), b"new");
}

#[test]
fn seeds_tear_reorder_and_lose_and_each_seed_repeats_itself() {
    let disk = disk();
    let file = create(&disk, "a");
    file.write_durable_at(&[&[0; 2048]], 0).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    file.write_all_at(&[&[1; 2048]], 0).unwrap();
    file.write_all_at(&[&[2; 1024]], 512).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..400 {
        let found = content(&disk.crash(CrashPlan::Seeded(seed)), "a");
        assert_eq!(found, content(&disk.crash(CrashPlan::Seeded(seed)), "a"), "seed {seed}");
        for sector in found.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}: torn inside a sector");
        }
        outcomes.insert(found.iter().step_by(SECTOR_BYTES).copied().collect::<Vec<u8>>());
    }
    for expected in [[0, 0, 0, 0], [1, 1, 1, 1], [1, 2, 2, 1], [0, 2, 2, 0], [1, 1, 0, 1]] {
        assert!(outcomes.contains(expected.as_slice()), "never saw {expected:?}");
    }
}

#[test]
fn an_ignored_sync_makes_nothing_durable() {
    let disk = disk();
    let file = create(&disk, "a");
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk.ignore_sync(disk.syncs());
    file.write_durable_at(&[b"lost"], 0).unwrap();
    assert_eq!(content(&disk.crash(CrashPlan::LoseAll), "a"), b"");
    file.sync_data().unwrap();
    assert_eq!(content(&disk.crash(CrashPlan::LoseAll), "a"), b"lost");
    disk.ignore_syncs(|point| point.path.ends_with("a"));
    file.write_durable_at(&[b"more"], 0).unwrap();
    assert_eq!(content(&disk.crash(CrashPlan::LoseAll), "a"), b"lost");
}

#[test]
fn the_hook_sees_both_sides_of_every_sync() {
    let disk = disk();
    let file = create(&disk, "a");
    disk.sync_dir(Path::new(DIR)).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    disk.on_sync({
        let (disk, seen) = (disk.clone(), Arc::clone(&seen));
        move |point| {
            let after = disk.crash(CrashPlan::LoseAll);
            seen.lock().push((point.index, point.phase, content(&after, "a").len()));
        }
    });
    file.write_durable_at(&[b"1234"], 0).unwrap();
    assert_eq!(*seen.lock(), [(1, SyncPhase::Before, 0), (1, SyncPhase::After, 4)]);
}

#[test]
fn injected_faults_have_the_effects_of_real_ones() {
    let disk = disk();
    let file = create(&disk, "a");
    disk.sync_dir(Path::new(DIR)).unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    disk.set_fault({
        let syncs = Arc::clone(&syncs);
        move |op| match op.kind {
            FileOpKind::Sync if syncs.fetch_add(1, Ordering::Relaxed) == 0 => Some(Fault::Eio),
            FileOpKind::Write if op.offset == 100 => Some(Fault::Enospc),
            _ => None,
        }
    });
    file.write_all_at(&[b"gone"], 0).unwrap();
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    file.sync_data().unwrap();
    assert_eq!(content(&disk, "a"), b"gone");
    assert_eq!(content(&disk.crash(CrashPlan::KeepAll), "a"), b"");
    let error = file.write_all_at(&[b"half"], 100).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    disk.clear_fault();
    file.write_all_at(&[b"whole"], 100).unwrap();
}

#[test]
fn space_runs_out_and_comes_back_by_punching_and_removing() {
    let disk = FaultyDisk::new(8 * 4096);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let file = create(&disk, "a");
    file.allocate(0, 6 * 4096).unwrap();
    assert_eq!(disk.space(Path::new(DIR)).unwrap().available_bytes, 2 * 4096);
    let other = create(&disk, "b");
    assert_eq!(other.allocate(0, 3 * 4096).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_all_at(&[&[7; 4096]], 4096).unwrap();
    file.punch(4096, 2 * 4096).unwrap();
    let mut byte = [9];
    file.read_exact_at(&mut byte, 4096).unwrap();
    assert_eq!(byte, [0]);
    other.allocate(0, 3 * 4096).unwrap();
    disk.remove_file(&path("a")).unwrap();
    assert_eq!(disk.space(Path::new(DIR)).unwrap().available_bytes, 5 * 4096);
}

#[test]
fn flipped_bits_and_wiped_folders_stay_so() {
    let disk = disk();
    create(&disk, "a").write_durable_at(&[&[0; 4]], 0).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk.flip_bit(&path("a"), 9).unwrap();
    assert_eq!(content(&disk, "a"), [0, 2, 0, 0]);
    assert_eq!(content(&disk.crash(CrashPlan::LoseAll), "a"), [0, 2, 0, 0]);
    disk.wipe(Path::new(DIR));
    assert!(!disk.exists(&path("a")).unwrap());
    assert!(!disk.crash(CrashPlan::KeepAll).exists(Path::new(DIR)).unwrap());
}
