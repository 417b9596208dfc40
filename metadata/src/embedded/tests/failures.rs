//! Locations and disks that fail while the store is open.

use ashlar_disk::{CrashPlan, Disk, Fault, FileOpKind};

use super::*;

/// Makes every call of `kind` whose path begins with `dir` fail.
fn fail(disk: &FaultyDisk, dir: &'static str, kinds: &'static [FileOpKind]) {
    disk.set_fault(move |op| {
        let is_there = op.path.to_string_lossy().starts_with(dir);
        (is_there && kinds.contains(&op.kind)).then_some(Fault::Eio)
    });
}

const WRITES: &[FileOpKind] = &[FileOpKind::Write];
const SYNCS: &[FileOpKind] = &[FileOpKind::Sync];

#[tokio::test]
async fn a_replica_that_fails_is_out_and_commits_go_on() {
    for kinds in [WRITES, SYNCS] {
        let disk = FaultyDisk::default();
        let kv = reopen(&disk, 2);
        fill(&kv, "a", 5).await;
        fail(&disk, "/disk-0", kinds);
        fill(&kv, "b", 5).await;
        disk.clear_fault();
        fill(&kv, "c", 5).await;
        let stats = kv.stats();
        assert!(stats.locations[1].out.as_ref().unwrap().contains("append"), "{stats:?}");
        assert_eq!((&stats.locations[0].out, &stats.locations[2].out), (&None, &None));
        assert_eq!(stats.locations[1].groups, 5, "once out, it is not written to again");
        let disk = disk.crash(CrashPlan::LoseAll);
        disk.wipe(Path::new("/meta"));
        let kv = reopen(&disk, 2);
        assert_eq!(names(&kv).await.len(), 15);
        assert_eq!(kv.report().missing_members, 1, "the metadata directory is a new one");
        assert_eq!(kv.report().caught_up.len(), 2);
        drop(kv);
        // Brought back, it is enough by itself again.
        disk.wipe(Path::new("/meta"));
        disk.wipe(Path::new("/disk-1"));
        assert_eq!(names(&reopen(&disk, 2)).await.len(), 15);
    }
}

#[tokio::test]
async fn the_last_location_that_fails_stops_the_store() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 0);
    fill(&kv, "a", 3).await;
    fail(&disk, "/meta/segment", WRITES);
    let id = TransactionId([1; 16]);
    let unknown = kv.commit(Commit { transaction: Some(id), ..put("b", "1") }).await;
    assert!(matches!(unknown, Err(CommitError::Unknown { .. })), "{unknown:?}");
    disk.clear_fault();
    let refused = kv.commit(put("c", "1")).await;
    assert!(matches!(refused, Err(CommitError::Poisoned { .. })), "{refused:?}");
    assert!(matches!(kv.outcome(id).await, Err(ReadError::Poisoned { .. })));
    assert!(kv.stats().poisoned.is_some());
    // What was acknowledged can still be read.
    assert_eq!(names(&kv).await.len(), 3);
    drop(kv);
    let kv = reopen(&disk, 0);
    let present = kv.get(b"b").await.unwrap();
    let outcome = present.map_or(Outcome::NotCommitted, |row| Outcome::Committed(row.version));
    assert_eq!(kv.outcome(id).await.unwrap(), outcome);
    assert_eq!(kv.get(b"c").await.unwrap(), None);
}

#[tokio::test]
async fn fewer_locations_than_configured_stop_the_store() {
    let disk = FaultyDisk::default();
    let options = Options { locations_min: 2, ..small() };
    let kv = EmbeddedKv::open(&locations(&disk, 1), &options).unwrap();
    fill(&kv, "a", 3).await;
    fail(&disk, "/disk-0", SYNCS);
    let unknown = kv.commit(put("b", "1")).await;
    assert!(matches!(unknown, Err(CommitError::Unknown { .. })), "{unknown:?}");
    drop(kv);
    let refused = EmbeddedKv::open(&locations(&disk, 1), &options).unwrap_err();
    assert!(matches!(refused, OpenError::TooFewLocations { usable: 1, given: 2, min: 2 }), "{refused}");
    disk.clear_fault();
    // It was durable in one location, so it happened.
    let kv = EmbeddedKv::open(&locations(&disk, 1), &options).unwrap();
    assert_eq!(names(&kv).await.len(), 4);
}

#[tokio::test]
async fn the_metadata_directory_may_fail_as_a_journal() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    fail(&disk, "/meta/segment", SYNCS);
    fill(&kv, "a", 5).await;
    assert!(kv.stats().locations[0].out.is_some());
    disk.clear_fault();
    let disk = disk.crash(CrashPlan::LoseAll);
    let kv = reopen(&disk, 1);
    assert_eq!(names(&kv).await.len(), 5);
    drop(kv);
    disk.wipe(Path::new("/disk-0"));
    assert_eq!(names(&reopen(&disk, 1)).await.len(), 5);
}

#[tokio::test]
async fn a_replica_that_cannot_be_opened_is_out_and_reported() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 2);
    fill(&kv, "a", 5).await;
    drop(kv);
    fail(&disk, "/disk-1", &[FileOpKind::Open]);
    let kv = reopen(&disk, 2);
    assert_eq!(kv.report().out.len(), 1);
    assert!(kv.stats().locations[2].out.is_some());
    fill(&kv, "b", 5).await;
    assert_eq!(names(&kv).await.len(), 10);
}

#[tokio::test]
async fn a_checkpoint_that_fails_leaves_the_base_before_and_the_location_in() {
    for fault in [Fault::Enospc, Fault::Eio] {
        let disk = FaultyDisk::default();
        let kv = reopen(&disk, 1);
        fill(&kv, "a", 49).await;
        assert!(kv.checkpoint_now());
        let base = kv.stats().locations[1].base;
        fill(&kv, "c", 1).await;
        disk.set_fault(move |op| {
            let is_checkpoint = op.path.to_string_lossy().contains("checkpoint-");
            (is_checkpoint && op.kind == FileOpKind::Write).then_some(fault)
        });
        assert!(kv.checkpoint_now());
        let stats = kv.stats();
        assert!(stats.checkpoint_failures > 0 && stats.locations[1].out.is_none(), "{stats:?}");
        assert_eq!(stats.locations[1].base, base);
        assert!(disk.files().iter().all(|path| !path.ends_with("checkpoint-unfinished")));
        fill(&kv, "b", 5).await;
        // It is enough by itself, checkpoint or not.
        let alone = disk.crash(CrashPlan::LoseAll);
        alone.wipe(Path::new("/meta"));
        assert_eq!(names(&reopen(&alone, 1)).await.len(), 55);
        disk.clear_fault();
        assert!(kv.checkpoint_now());
        assert!(kv.stats().locations[1].base > base);
    }
}

#[tokio::test]
async fn a_full_disk_takes_no_location_out_before_its_segment_is_full() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 1);
    disk.set_fault(|op| {
        let takes_space = op.path.ends_with("next-segment");
        (takes_space && op.kind == FileOpKind::Allocate).then_some(Fault::Enospc)
    });
    // Past the segment that was taken ahead, into the last that there is.
    fill(&kv, "a", 18).await;
    assert!(kv.stats().locations.iter().all(|location| location.out.is_none()), "{:?}", kv.stats());
    disk.clear_fault();
    fill(&kv, "b", 60).await;
    assert!(kv.stats().locations.iter().all(|location| location.out.is_none()), "{:?}", kv.stats());
    drop(kv);
    assert_eq!(names(&reopen(&disk, 1)).await.len(), 78);
}

#[tokio::test]
async fn a_full_disk_opens_again_and_takes_commits() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 0);
    fill(&kv, "a", 40).await;
    drop(kv);
    let space = disk.space(Path::new("/meta")).unwrap();
    disk.set_total_bytes(space.total_bytes - space.available_bytes);
    for round in 0..5 {
        let kv = reopen(&disk.crash(CrashPlan::LoseAll), 0);
        assert_eq!(names(&kv).await.len(), 40 + round);
        drop(kv);
        let kv = reopen(&disk, 0);
        kv.commit(put(&format!("b{round}"), "1")).await.unwrap();
    }
}

#[tokio::test]
async fn callers_that_go_away_do_not_stop_others() {
    let disk = FaultyDisk::default();
    let kv = Arc::new(reopen(&disk, 0));
    for round in 0..50 {
        let abandoned = kv.commit(put(&format!("gone-{round}"), "1"));
        // Polled once, so that it is on its way, then dropped.
        let _ = tokio::time::timeout(std::time::Duration::ZERO, abandoned).await;
        kv.commit(put(&format!("here-{round}"), "1")).await.unwrap();
    }
    let here = names(&kv).await.iter().filter(|name| name.starts_with("here")).count();
    assert_eq!(here, 50);
}

#[tokio::test]
async fn a_snapshot_outlives_its_store() {
    let disk = FaultyDisk::default();
    let kv = reopen(&disk, 0);
    fill(&kv, "a", 5).await;
    let snapshot = kv.snapshot().await.unwrap();
    drop(kv);
    let page = snapshot.scan(KeyRange::all(), Direction::Forward, 100).await.unwrap();
    assert_eq!(page.rows.len(), 5);
}
