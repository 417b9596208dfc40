//! Reopening after losses: directories gone, files damaged, journals cut.

use ashlar_disk::CrashPlan;

use super::*;

fn numbered(prefix: &str, rows: usize) -> Vec<String> {
    (0..rows).map(|row| format!("{prefix}{row:05}")).collect()
}

fn open(disk: &FaultyDisk, replicas: usize) -> Result<EmbeddedKv, OpenError> {
    EmbeddedKv::open(&locations(disk, replicas), &small())
}

#[tokio::test]
async fn a_clean_reopening_replays_nothing_and_positions_go_on() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    assert!(kv.report().is_new);
    fill(&kv, "a", 30).await;
    let last = kv.stable_position();
    drop(kv);
    let kv = reopen(&disk, 1);
    assert!(!kv.report().is_new && !kv.report().rebuilt);
    assert_eq!(kv.report().replayed_commits, 0);
    assert_eq!(kv.report().notes, [""; 0]);
    assert_eq!(kv.report().caught_up, [""; 0]);
    assert_eq!(kv.stable_position(), last);
    assert_eq!(names(&kv).await, numbered("a", 30));
    assert!(kv.commit(put("b", "1")).await.unwrap() > last);
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    let refused = open(&disk, 1).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    // A replica alone is taken too.
    let alone = locations(&disk, 1).split_off(1);
    assert!(matches!(EmbeddedKv::open(&alone, &small()), Err(OpenError::InUse { .. })));
    drop(kv);
    reopen(&disk, 1);
}

#[tokio::test]
async fn a_store_is_made_only_where_it_may_be() {
    let disk = FaultyDisk::default();
    let options = Options { may_make: false, ..small() };
    for _ in 0..2 {
        let refused = EmbeddedKv::open(&locations(&disk, 2), &options).unwrap_err();
        let OpenError::NoStore { dirs } = &refused else { panic!("{refused}") };
        assert_eq!(dirs.len(), 3);
    }
    fill(&reopen(&disk, 2), "a", 3).await;
    disk.wipe(Path::new("/meta"));
    let kv = EmbeddedKv::open(&locations(&disk, 2), &options).unwrap();
    assert_eq!(names(&kv).await.len(), 3);
    drop(kv);
    disk.wipe(Path::new("/disk-0"));
    disk.wipe(Path::new("/disk-1"));
    assert_eq!(names(&EmbeddedKv::open(&locations(&disk, 2), &options).unwrap()).await.len(), 3);
    disk.wipe(Path::new("/"));
    assert!(matches!(EmbeddedKv::open(&locations(&disk, 2), &options), Err(OpenError::NoStore { .. })));
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_answered() {
    for replicas in [0, 2] {
        let disk = FaultyDisk::default();
        let kv = reopen(&disk, replicas);
        for round in 0..6 {
            fill(&kv, &format!("{round}-"), 40).await;
            let crashed = reopen(&disk.crash(CrashPlan::LoseAll), replicas);
            assert_eq!(names(&crashed).await.len(), 40 * (round + 1));
            assert_eq!(crashed.report().notes, [""; 0]);
        }
    }
}

#[tokio::test]
async fn what_only_the_page_cache_kept_is_durable_once_it_was_shown() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    fill(&kv, "a", 3).await;
    disk.ignore_syncs(|point| point.path.to_string_lossy().contains("journal/segment-"));
    fill(&kv, "b", 1).await;
    drop(kv);
    disk.ignore_syncs(|_| false);
    let kv = reopen(&disk, 1);
    assert_eq!(names(&kv).await.len(), 4);
    let crashed = disk.crash(CrashPlan::LoseAll);
    crashed.wipe(Path::new("/meta"));
    assert_eq!(names(&reopen(&crashed, 1)).await.len(), 4);
}

#[tokio::test]
async fn any_single_location_brings_everything_back() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 3);
    fill(&kv, "a", 300).await;
    assert!(kv.checkpoint_now());
    fill(&kv, "b", 20).await;
    assert!(kv.stats().locations.iter().all(|location| location.base > Position::ZERO));
    let all = names(&kv).await;
    let point = disk.crash(CrashPlan::LoseAll);
    for survivor in 0..4 {
        let disk = point.crash(CrashPlan::KeepAll);
        for (index, location) in locations(&disk, 3).iter().enumerate() {
            if index != survivor {
                disk.wipe(dir(location));
            }
        }
        let kv = reopen(&disk, 3);
        assert_eq!(kv.report().rebuilt, survivor != 0);
        assert_eq!(kv.report().caught_up.len(), 3, "{:?}", kv.report());
        assert_eq!(names(&kv).await, all);
        kv.commit(put("later", "1")).await.unwrap();
        drop(kv);
        // The others are whole again: now each of them is enough.
        disk.wipe(dir(&locations(&disk, 3)[survivor]));
        disk.wipe(dir(&locations(&disk, 3)[(survivor + 1) % 4]));
        let kv = reopen(&disk, 3);
        assert_eq!(names(&kv).await.len(), all.len() + 1);
    }
}

#[tokio::test]
async fn a_location_added_later_is_filled() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 0);
    fill(&kv, "a", 200).await;
    assert!(kv.checkpoint_now());
    fill(&kv, "b", 10).await;
    drop(kv);
    let kv = reopen(&disk, 2);
    assert_eq!(kv.report().caught_up.len(), 2);
    drop(kv);
    disk.wipe(Path::new("/meta"));
    let kv = reopen(&disk, 2);
    assert_eq!(names(&kv).await.len(), 210);
}

#[tokio::test]
async fn a_location_that_stayed_away_is_caught_up() {
    let disk = FaultyDisk::default();
    drop(reopen(&disk, 2));
    let kv = reopen(&disk, 1);
    assert_eq!(kv.report().missing_members, 1);
    fill(&kv, "a", 50).await;
    drop(kv);
    let kv = reopen(&disk, 2);
    assert_eq!(kv.report().caught_up, [dir(&locations(&disk, 2)[2]).display().to_string()]);
    drop(kv);
    for index in [0, 1] {
        disk.wipe(dir(&locations(&disk, 2)[index]));
    }
    assert_eq!(names(&reopen(&disk, 2)).await, numbered("a", 50));
}

#[tokio::test]
async fn damaged_rows_are_rebuilt_from_a_replica() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    fill(&kv, "a", 200).await;
    drop(kv);
    let rows = Path::new("/meta/rows.redb");
    disk.damage(rows, |content| content.iter_mut().for_each(|byte| *byte = 0x5a)).unwrap();
    let kv = reopen(&disk, 1);
    assert!(kv.report().rebuilt);
    assert_eq!(kv.report().notes.len(), 1);
    assert_eq!(names(&kv).await, numbered("a", 200));
}

#[tokio::test]
async fn damage_in_the_middle_of_a_journal_is_healed_from_another_or_refused() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    let last = disk.files();
    fill(&kv, "a", 12).await;
    let point = disk.crash(CrashPlan::LoseAll);
    let segment = last.iter().find(|path| path.starts_with("/meta") && is_segment(path)).unwrap();
    let other = last.iter().find(|path| path.starts_with("/disk-0") && is_segment(path)).unwrap();

    // One copy of a group in the middle.
    point.flip_bit(segment, (4096 * 5 + 200) * 8).unwrap();
    let one = point.crash(CrashPlan::KeepAll);
    let kv = reopen(&one, 1);
    assert_eq!(names(&kv).await, numbered("a", 12));
    assert!(kv.report().notes.iter().any(|note| note.contains("lacks the journal groups")));
    assert_eq!(kv.report().caught_up, ["/meta"; 0]);
    drop(kv);
    assert_eq!(reopen(&one, 1).report().notes.len(), 0, "the journal was cut behind the damage");

    // Both copies, and rows that do not reach so far.
    point.flip_bit(other, (4096 * 5 + 200) * 8).unwrap();
    let refused = open(&point, 1).unwrap_err();
    assert!(matches!(refused, OpenError::Unrecoverable { .. }), "{refused}");
    assert!(refused.to_string().contains("lacks the journal groups between"), "{refused}");
}

fn is_segment(path: &Path) -> bool {
    path.to_string_lossy().contains("/segment-")
}

#[tokio::test]
async fn a_replica_with_a_hole_is_filled() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    fill(&kv, "a", 12).await;
    let disk = disk.crash(CrashPlan::LoseAll);
    let segment = disk.files().into_iter().find(|path| path.starts_with("/disk-0") && is_segment(path));
    disk.flip_bit(&segment.unwrap(), (4096 * 5 + 200) * 8).unwrap();
    let kv = reopen(&disk, 1);
    assert_eq!(kv.report().caught_up.len(), 1);
    drop(kv);
    disk.wipe(Path::new("/meta"));
    assert_eq!(names(&reopen(&disk, 1)).await, numbered("a", 12));
}

#[tokio::test]
async fn a_lost_journal_is_never_taken_for_an_empty_one() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 0);
    fill(&kv, "a", 12).await;
    let point = disk.crash(CrashPlan::LoseAll);
    drop(kv);
    for lost in ["/meta/segment-", "/meta/superblock"] {
        let disk = point.crash(CrashPlan::KeepAll);
        for path in disk.files().iter().filter(|path| path.to_string_lossy().starts_with(lost)) {
            disk.wipe(path);
        }
        let refused = open(&disk, 0).unwrap_err();
        assert!(matches!(refused, OpenError::Unrecoverable { .. }), "{lost}: {refused}");
    }
}

#[tokio::test]
async fn a_damaged_checkpoint_is_passed_over_for_another() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 2);
    fill(&kv, "a", 100).await;
    assert!(kv.checkpoint_now());
    fill(&kv, "b", 5).await;
    let disk = disk.crash(CrashPlan::LoseAll);
    disk.wipe(Path::new("/meta"));
    let is_checkpoint = |path: &&PathBuf| path.to_string_lossy().contains("checkpoint-");
    let files = disk.files();
    let checkpoint = files.iter().find(is_checkpoint).unwrap();
    disk.flip_bit(checkpoint, (4096 + 5000) * 8).unwrap();
    let kv = reopen(&disk, 2);
    assert_eq!(names(&kv).await.len(), 105);
    assert!(kv.report().notes.iter().any(|note| note.contains("is not usable")), "{:?}", kv.report());
}

#[tokio::test]
async fn a_checkpoint_that_rotted_is_written_anew() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    fill(&kv, "a", 100).await;
    assert!(kv.checkpoint_now());
    drop(kv);
    let is_checkpoint = |path: &PathBuf| path.to_string_lossy().contains("checkpoint-");
    let checkpoint = disk.files().into_iter().find(is_checkpoint).unwrap();
    disk.flip_bit(&checkpoint, (4096 + 5000) * 8).unwrap();
    let kv = reopen(&disk, 1);
    // Asked after what the checkpointer does first.
    assert!(kv.checkpoint_now());
    let failure = kv.stats().last_checkpoint_failure.unwrap();
    assert!(failure.contains("is damaged"), "{failure}");
    assert_eq!(kv.stats().checkpoints, 2);
    drop(kv);
    disk.wipe(Path::new("/meta"));
    assert_eq!(names(&reopen(&disk, 1)).await, numbered("a", 100));
}

#[tokio::test]
async fn another_stores_folder_is_refused() {
    let (disk, other) = (FaultyDisk::default(), FaultyDisk::default());
    for disk in [&disk, &other] {
        let kv = reopen(disk, 1);
        fill(&kv, "a", 3).await;
    }
    let mut mixed = locations(&disk, 1);
    mixed[1] = locations(&other, 1).remove(1);
    let refused = EmbeddedKv::open(&mixed, &small()).unwrap_err();
    assert!(matches!(refused, OpenError::ForeignLocation { .. }), "{refused}");
    reopen(&disk, 1);
    reopen(&other, 1);
}

#[tokio::test]
async fn locations_written_apart_are_told_from_each_other() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    fill(&kv, "a", 3).await;
    drop(kv);
    let base = disk.crash(CrashPlan::KeepAll);
    // As long as each other, and not.
    for commits in [[1, 1], [1, 4], [6, 2]] {
        let disk = base.crash(CrashPlan::KeepAll);
        let [first, second]: [JournalLocation; 2] = locations(&disk, 1).try_into().unwrap();
        for (location, commits) in [&first, &second].into_iter().zip(commits) {
            let kv = EmbeddedKv::open(std::slice::from_ref(location), &small()).unwrap();
            assert_eq!(kv.report().missing_members, 1);
            fill(&kv, &location.dir.display().to_string(), commits).await;
        }
        let refused = EmbeddedKv::open(&[first, second], &small()).unwrap_err();
        assert!(matches!(refused, OpenError::Diverged { .. }), "{commits:?}: {refused}");
    }
}

#[tokio::test]
async fn journals_are_cut_and_segments_used_again() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    for round in 0..20 {
        fill(&kv, &format!("{round}-"), 30).await;
        assert!(kv.checkpoint_now());
    }
    let segments = disk.files().iter().filter(|path| is_segment(path)).count();
    assert!(segments <= 2 * 10, "{segments} segments");
    let stats = kv.stats();
    assert_eq!((stats.commits, stats.checkpoint_failures), (600, 0));
    assert!(stats.persists >= 20 && stats.checkpoints >= 20, "{stats:?}");
    drop(kv);
    assert_eq!(names(&reopen(&disk, 1)).await.len(), 600);
}

#[tokio::test]
async fn checkpoints_come_by_themselves_and_do_not_stop_commits() {
    let disk = FaultyDisk::default();
    let options = Options { checkpoint_bytes_per_second: 1024 * 1024, ..small() };
    let kv = EmbeddedKv::open(&locations(&disk, 1), &options).unwrap();
    let mut rows = 0;
    while kv.stats().checkpoints < 2 {
        fill(&kv, &format!("{rows}-"), 10).await;
        rows += 10;
    }
    let stats = kv.stats();
    assert!(stats.persists > 0 && stats.checkpoint_failures == 0, "{stats:?}");
    let crashed = disk.crash(CrashPlan::LoseAll);
    crashed.wipe(Path::new("/meta"));
    assert_eq!(names(&reopen(&crashed, 1)).await.len(), rows);
}

#[tokio::test]
async fn it_works_on_a_real_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn ashlar_disk::Disk> = Arc::new(ashlar_disk::RealDisk::new());
    let at = |name: &str| JournalLocation { disk: Arc::clone(&disk), dir: dir.path().join(name) };
    let locations = [at("meta"), at("nodes/node-0/journal"), at("nodes/node-1/journal")];
    let options = Options { segment_bytes: 1024 * 1024, ..small() };
    let kv = EmbeddedKv::open(&locations, &options).unwrap();
    fill(&kv, "a", 600).await;
    let refused = EmbeddedKv::open(&locations, &options).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    drop(kv);
    let kv = EmbeddedKv::open(&locations, &options).unwrap();
    assert_eq!(kv.report().replayed_commits, 0);
    assert_eq!(names(&kv).await.len(), 600);
    drop(kv);
    std::fs::remove_dir_all(dir.path().join("meta")).unwrap();
    std::fs::remove_dir_all(dir.path().join("nodes/node-1")).unwrap();
    let kv = EmbeddedKv::open(&locations, &options).unwrap();
    assert!(kv.report().rebuilt);
    assert_eq!(names(&kv).await, numbered("a", 600));
}
