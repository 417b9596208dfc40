//! What a node refuses, what it remembers over crashes at every sync, and what it gives up.

use bytes::Bytes;

use super::*;
use ashlar_disk::{CrashPlan, Fault, FaultyDisk, FileOpKind, SyncPhase, SyncPoint};
use ashlar_rsema1d::{Encoded, Profile, RowError, encode};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::snapshot::Signer;
use crate::statement::Dispersal;
use rand::SeedableRng;
use rand::rngs::StdRng;

const DOMAIN: Domain = Domain { chain_id: 31_337, verifier: [7; 20] };
const KEEP: u64 = 1_000;

/// Admits who says the right word.
struct Word;

impl Admission for Word {
    fn admits(&self, _: &Statement, authorization: &[u8]) -> bool {
        authorization == b"publisher"
    }
}

fn key(number: u64) -> SecretKey {
    SecretKey::generate(&mut StdRng::seed_from_u64(100 + number))
}

fn snapshot(epoch: u64) -> Arc<Snapshot> {
    let signers = (0..6).map(|number| Signer { key: key(number).public_key(), stake: 10 }).collect();
    Arc::new(Snapshot::new(epoch, signers).unwrap())
}

/// Node 2 of six on this disk.
fn open_at(disk: &FaultyDisk, clock: &Arc<AtomicU64>) -> Result<DaNode, NodeError> {
    let clock = Arc::clone(clock);
    let config = NodeConfig {
        folder: PathBuf::from("/da"),
        domain: DOMAIN,
        keep_seconds_max: 10_000,
        clock: Arc::new(move || clock.load(Ordering::Relaxed)),
        admission: Arc::new(Word),
    };
    let node = DaNode::open(Arc::new(disk.clone()), config, key(2))?;
    (1..=3).for_each(|epoch| node.install_snapshot(snapshot(epoch)));
    Ok(node)
}

fn open(disk: &FaultyDisk) -> DaNode {
    open_at(disk, &Arc::new(AtomicU64::new(0))).unwrap()
}

fn blob(seed: u8) -> Encoded {
    let mut bytes = vec![0; 3000];
    bytes
        .iter_mut()
        .enumerate()
        .for_each(|(i, byte)| *byte = seed.wrapping_mul(31).wrapping_add(i.to_be_bytes()[7]));
    encode(Profile::Small, bytes.into()).unwrap()
}

fn request(sequence: u64, header: u8, encoded: &Encoded) -> StoreRequest {
    request_in(1, sequence, header, encoded, KEEP)
}

fn request_in(epoch: u64, sequence: u64, header: u8, encoded: &Encoded, keep_until: u64) -> StoreRequest {
    let dispersal =
        Dispersal { namespace: Namespace([1; 32]), sequence, header_hash: [header; 32], keep_until };
    let commitment = encoded.commitment();
    let statement = Statement { epoch, dispersal, commitment, shape: encoded.shape() };
    let assignment = snapshot(epoch).assignment(Profile::Small, &commitment).unwrap();
    StoreRequest {
        statement,
        opening: encoded.opening().to_bytes().into(),
        rows: assignment.rows_of(2).iter().map(|row| encoded.row(*row).unwrap()).collect(),
        authorization: Bytes::from_static(b"publisher"),
    }
}

fn is_signed(request: &StoreRequest, signature: &Signature) -> bool {
    key(2).public_key().verifies(&request.statement.message(&DOMAIN), signature)
}

#[test]
fn it_signs_what_it_checked_and_serves_it() {
    let disk = FaultyDisk::default();
    let node = open(&disk);
    let encoded = blob(1);
    let request = request(1, 1, &encoded);
    let signature = node.store(&request).unwrap();
    assert!(is_signed(&request, &signature));
    assert_eq!(node.store(&request).unwrap(), signature, "the same again");
    let held = node.held(&encoded.commitment()).unwrap();
    assert_eq!(held.opening, encoded.opening().to_bytes());
    assert_eq!(held.rows, request.rows.iter().map(|row| row.index).collect::<Vec<_>>());
    for row in &request.rows {
        assert_eq!(node.row(&encoded.commitment(), row.index).unwrap(), *row);
    }
    let missing = (0..16).find(|row| !held.rows.contains(row)).unwrap();
    assert_eq!(node.row(&encoded.commitment(), missing), Err(FetchError::NotHeld));
    assert_eq!(node.held(&blob(2).commitment()), Err(FetchError::NotHeld));
}

#[test]
fn it_refuses_what_it_must_not_sign() {
    let disk = FaultyDisk::default();
    let clock = Arc::new(AtomicU64::new(50));
    let node = open_at(&disk, &clock).unwrap();
    let (encoded, other) = (blob(1), blob(2));
    let good = request(1, 1, &encoded);
    let refused = |change: &dyn Fn(&mut StoreRequest)| {
        let mut request = good.clone();
        change(&mut request);
        node.store(&request).unwrap_err()
    };
    assert_eq!(refused(&|request| request.authorization = Bytes::new()), StoreError::NotAdmitted);
    assert_eq!(refused(&|request| request.statement.epoch = 9), StoreError::Epoch { epoch: 9 });
    for keep_until in [50, 10_051] {
        let error = refused(&|request| request.statement.dispersal.keep_until = keep_until);
        assert_eq!(error, StoreError::KeepUntil { keep_until, latest: 10_050 });
    }
    assert!(matches!(
        refused(&|request| request.opening = other.opening().to_bytes().into()),
        StoreError::Opening(_)
    ));
    assert_eq!(refused(&|request| drop(request.rows.pop())), StoreError::Rows);
    assert_eq!(refused(&|request| request.rows.swap(0, 1)), StoreError::Rows);
    assert_eq!(refused(&|request| request.rows[1] = request.rows[0].clone()), StoreError::Rows);
    assert_eq!(refused(&|request| request.rows.push(encoded.row(15).unwrap())), StoreError::Rows);
    let index = good.rows[0].index;
    assert_eq!(
        refused(&|request| request.rows[0].row = other.row(index).unwrap().row),
        StoreError::Row(RowError::Path { index })
    );
    assert_eq!(
        refused(&|request| {
            let shape = &mut request.statement.shape;
            *shape = ashlar_rsema1d::Shape::new(Profile::Small, shape.blob_bytes() - 1).unwrap();
        }),
        StoreError::Shape
    );
    let large = encode(Profile::Large, vec![1; 3000].into()).unwrap();
    assert_eq!(
        refused(&|request| {
            request.opening = large.opening().to_bytes().into();
            request.statement.commitment = large.commitment();
            request.statement.shape = large.shape();
        }),
        StoreError::Shape
    );
    // None of that left a promise behind.
    assert!(node.store(&good).is_ok());
}

#[test]
fn one_header_and_one_blob_for_each_place() {
    let disk = FaultyDisk::default();
    let node = open(&disk);
    let (one, other) = (blob(1), blob(2));
    node.store(&request(1, 1, &one)).unwrap();
    let equivocation = StoreError::Equivocation { header: [1; 32], commitment: one.commitment() };
    assert_eq!(node.store(&request(1, 2, &other)).unwrap_err(), equivocation);
    assert_eq!(node.store(&request(1, 2, &one)).unwrap_err(), equivocation);
    assert_eq!(node.store(&request(1, 1, &other)).unwrap_err(), equivocation, "root A with blob B");
    // The same header in a later epoch, and for longer, is no equivocation; nor is another place.
    let again = request_in(2, 1, 1, &one, 2 * KEEP);
    assert!(is_signed(&again, &node.store(&again).unwrap()));
    node.store(&request(2, 2, &other)).unwrap();
    drop(node);
    let node = open(&disk);
    assert_eq!(node.store(&request(1, 2, &other)).unwrap_err(), equivocation, "after opening again");
}

/// A publisher that lies about one row cannot have the holder of that row sign.
#[test]
fn a_lying_encoder_is_found_out_at_receipt() {
    let disk = FaultyDisk::default();
    let node = open(&disk);
    let honest = blob(1);
    let lie = request(1, 1, &honest).rows[0].index;
    let mut rows: Vec<Bytes> = (0..16).map(|row| honest.row(row).unwrap().row).collect();
    let victim = usize::try_from(lie).unwrap();
    rows[victim] = rows[victim].iter().map(|byte| byte ^ 0x5a).collect::<Vec<u8>>().into();
    let lying = ashlar_rsema1d::commit_to_any_rows(honest.shape(), rows);
    let refused = node.store(&request(1, 1, &lying)).unwrap_err();
    assert!(matches!(refused, StoreError::Row(RowError::Fingerprint { .. })), "{refused:?}");
    assert!(node.store(&request(1, 2, &honest)).is_ok(), "the place was not taken");
}

#[test]
fn damaged_rows_are_not_served() {
    let disk = FaultyDisk::default();
    let node = open(&disk);
    let encoded = blob(1);
    let request = request(1, 1, &encoded);
    node.store(&request).unwrap();
    let file = disk.files().into_iter().find(|path| path.starts_with("/da/rows")).unwrap();
    disk.damage(&file, |bytes| bytes[bytes.len() - 1000] ^= 1).unwrap();
    let outcomes: Vec<_> =
        request.rows.iter().map(|row| node.row(&encoded.commitment(), row.index)).collect();
    assert!(outcomes.contains(&Err(FetchError::Damaged)), "{outcomes:?}");
    for (row, outcome) in request.rows.iter().zip(outcomes) {
        assert!(outcome == Err(FetchError::Damaged) || outcome.as_ref() == Ok(row));
    }
    disk.damage(&file, |bytes| bytes[30] ^= 1).unwrap();
    assert_eq!(node.held(&encoded.commitment()), Err(FetchError::Damaged));
}

#[test]
fn a_failed_disk_silences_the_node_until_it_is_opened_again() {
    for kind in [FileOpKind::Write, FileOpKind::Sync, FileOpKind::SyncDir, FileOpKind::Rename] {
        let disk = FaultyDisk::default();
        let node = open(&disk);
        node.store(&request(1, 1, &blob(1))).unwrap();
        disk.set_fault(move |op| (op.kind == kind).then_some(Fault::Eio));
        assert!(matches!(node.store(&request(2, 2, &blob(2))), Err(StoreError::Disk { .. })), "{kind:?}");
        disk.clear_fault();
        drop(node);
        let node = open(&disk);
        assert!(node.store(&request(2, 3, &blob(3))).is_ok(), "{kind:?}: nothing was signed");
        assert!(matches!(node.store(&request(1, 2, &blob(2))), Err(StoreError::Equivocation { .. })));
    }
    // A promise whose sync failed may or may not be on disk, so nothing more is promised by this life.
    let disk = FaultyDisk::default();
    let node = open(&disk);
    let promises = PathBuf::from("/da/promises");
    let failing = promises.clone();
    disk.set_fault(move |op| (op.kind == FileOpKind::Sync && op.path == failing).then_some(Fault::Eio));
    assert!(matches!(node.store(&request(1, 1, &blob(1))), Err(StoreError::Disk { .. })));
    disk.clear_fault();
    assert!(matches!(node.store(&request(1, 1, &blob(1))), Err(StoreError::Disk { .. })));
}

#[test]
fn a_folder_belongs_to_one_chain_and_one_process() {
    let disk = FaultyDisk::default();
    let node = open(&disk);
    assert!(matches!(open_at(&disk, &Arc::default()), Err(NodeError::Disk(_))), "it is locked");
    node.store(&request(1, 1, &blob(1))).unwrap();
    node.store(&request(2, 1, &blob(1))).unwrap();
    let config = NodeConfig { domain: Domain { chain_id: 1, ..DOMAIN }, ..node.config.clone() };
    drop(node);
    assert!(matches!(DaNode::open(Arc::new(disk.clone()), config, key(2)), Err(NodeError::Domain)));
    // A damaged record before an intact one is no torn tail.
    disk.flip_bit(&PathBuf::from("/da/promises"), (48 + 20) * 8).unwrap();
    assert!(matches!(open_at(&disk, &Arc::default()), Err(NodeError::Promises { offset: 48 })));
}

#[test]
fn places_are_given_up_after_their_time_but_not_those_that_snapshots_need() {
    let disk = FaultyDisk::default();
    let clock = Arc::new(AtomicU64::new(0));
    let node = open_at(&disk, &clock).unwrap();
    for sequence in 1..=6u8 {
        let keep_until = if sequence == 2 { 5_000 } else { KEEP };
        node.store(&request_in(1, u64::from(sequence), sequence, &blob(sequence), keep_until)).unwrap();
    }
    assert_eq!(node.prune(&|_| Some(100)).unwrap(), PruneReport::default(), "nothing is due");
    clock.store(KEEP + 1, Ordering::Relaxed);
    assert_eq!(node.prune(&|_| None).unwrap(), PruneReport { pruned: 0, kept_for_walks: 5 });
    assert_eq!(node.prune(&|_| Some(4)).unwrap(), PruneReport { pruned: 2, kept_for_walks: 3 });
    drop(node);
    let node = open_at(&disk.crash(CrashPlan::LoseAll), &clock).unwrap();
    for sequence in 1..=6u8 {
        let is_there = node.held(&blob(sequence).commitment()).is_ok();
        assert_eq!(is_there, ![1, 3].contains(&sequence), "place {sequence}");
    }
    // What was pruned is never signed again, not even with the same header; what was not pruned is.
    let late = |sequence: u8, header| request_in(1, u64::from(sequence), header, &blob(sequence), 5_000);
    assert_eq!(node.store(&late(3, 3)).unwrap_err(), StoreError::Pruned { below: 4 });
    assert_eq!(node.store(&late(1, 9)).unwrap_err(), StoreError::Pruned { below: 4 });
    assert!(node.store(&late(2, 2)).is_ok());
    assert!(matches!(node.store(&late(2, 9)), Err(StoreError::Equivocation { .. })));
}

/// What was answered before a crash.
#[derive(Clone, Default)]
struct Answers {
    signed: Vec<StoreRequest>,
}

/// Two publishers' histories race for the same places; what was signed before a crash is there after it, and
/// the other history is never signed.
fn check_after(disk: &FaultyDisk, answers: &Answers, clock: &Arc<AtomicU64>) -> Result<(), String> {
    let node = open_at(disk, clock).map_err(|error| error.to_string())?;
    for request in &answers.signed {
        let commitment = request.statement.commitment;
        for row in &request.rows {
            if node.row(&commitment, row.index).as_ref() != Ok(row) {
                return Err(format!("row {} of {commitment} is lost", row.index));
            }
        }
        let sequence = request.statement.dispersal.sequence;
        for header in [1u8, 2] {
            let is_same = request.statement.dispersal.header_hash == [header; 32];
            let attempt = StoreRequest { ..request_in(1, sequence, header, &blob(header), KEEP) };
            if node.store(&attempt).is_ok() != is_same {
                return Err(format!("place {sequence}: header {header} judged wrongly"));
            }
        }
    }
    Ok(())
}

fn work(disk: &FaultyDisk, answers: &Arc<Mutex<Answers>>) {
    let node = open(disk);
    for sequence in 1..=8u64 {
        let header = if sequence % 2 == 0 { 2 } else { 1 };
        let attempt = request(sequence, header, &blob(header));
        node.store(&attempt).unwrap();
        answers.lock().signed.push(attempt);
        let _ = node.store(&request(sequence, 3 - header, &blob(3 - header)));
    }
}

#[test]
fn no_crash_makes_it_sign_two_headers_or_lose_rows() {
    let clock = Arc::new(AtomicU64::new(0));
    for seed in 0..6u64 {
        println!("seed {seed}");
        let disk = FaultyDisk::default();
        let answers = Arc::new(Mutex::new(Answers::default()));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let boundaries = Arc::new(AtomicU64::new(0));
        disk.on_sync({
            let (disk, answers, failures) = (disk.clone(), Arc::clone(&answers), Arc::clone(&failures));
            let (clock, boundaries) = (Arc::clone(&clock), Arc::clone(&boundaries));
            move |point: &SyncPoint| {
                boundaries.fetch_add(1, Ordering::Relaxed);
                let plan = match (point.phase, (point.index + seed) % 3) {
                    (SyncPhase::After, 0) => CrashPlan::LoseAll,
                    (_, 1) => CrashPlan::KeepAll,
                    _ => CrashPlan::Seeded(seed << 32 ^ point.index),
                };
                let after = disk.crash(plan);
                if let Err(wrong) = check_after(&after, &answers.lock().clone(), &clock) {
                    failures.lock().push(format!("seed {seed}, {point:?}, {plan:?}: {wrong}"));
                }
            }
        });
        work(&disk, &answers);
        assert!(failures.lock().is_empty(), "{:#?}", failures.lock());
        assert!(boundaries.load(Ordering::Relaxed) > 40, "it syncs often");
    }
}

/// Whether the crash test would notice that these syncs are missing.
fn notices(ignored: impl Fn(&SyncPoint) -> bool + Send + Sync + 'static) -> bool {
    let disk = FaultyDisk::default();
    disk.ignore_syncs(ignored);
    let answers = Arc::new(Mutex::new(Answers::default()));
    work(&disk, &answers);
    let after = disk.crash(CrashPlan::LoseAll);
    let outcome = check_after(&after, &answers.lock().clone(), &Arc::default());
    outcome.is_err()
}

#[test]
fn removing_a_sync_is_noticed() {
    assert!(!notices(|_| false), "with all syncs nothing is lost");
    assert!(notices(|point| point.path.ends_with("promises")), "the promise itself");
    assert!(notices(|point| point.path.ends_with("rows")), "the names of row files");
    assert!(notices(|point| point.path.parent().is_some_and(|parent| parent.ends_with("rows"))), "row files");
}
