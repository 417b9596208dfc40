//! A quorum with faults, by seed: up to a third of the stake is silent, slow, lying, forgetful or crashing, and
//! blobs are certified and come back all the same; with more faults nothing is certified that does not decode.
//!
//! Nodes are the embedded ones on faulty disks, wrapped in what makes them misbehave. Time is tokio's, paused.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ashlar_da_publisher::bls::{SecretKey, Signature};
use ashlar_da_publisher::{
    Admission, BlobReference, Certificate, DaLayer, DaNode, DaNodeService, Dispersal, DisperseError,
    Dispersed, Domain, FetchError, Held, LocalNode, Namespace, NodeConfig, QuorumClient, QuorumConfig,
    RetrieveError, Signer, Snapshot, Statement, StoreError, StoreRequest,
};
use ashlar_disk::{CrashPlan, Fault, FaultyDisk, FileOpKind};
use ashlar_rsema1d::{Commitment, Profile, RowProof};
use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

const DOMAIN: Domain = Domain { chain_id: 31_337, verifier: [5; 20] };
const KEEP_UNTIL: u64 = 5_000;

struct Anybody;

impl Admission for Anybody {
    fn admits(&self, _: &Statement, _: &[u8]) -> bool {
        true
    }
}

/// How a node misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misbehaviour {
    /// It does not.
    None,
    /// It never answers.
    Silent,
    /// It answers after the deadline.
    Slow,
    /// It signs another statement than asked.
    SignsAnother,
    /// It signs without storing, and serves nothing.
    Forgets,
    /// It signs without looking, and serves changed rows.
    ServesGarbage,
    /// It says to hold rows that it does not have.
    Boasts,
    /// Its disk fails.
    Disk,
    /// Signed another header for this place before.
    Equivocates,
}

const FAULTS: [Misbehaviour; 8] = [
    Misbehaviour::Silent,
    Misbehaviour::Slow,
    Misbehaviour::SignsAnother,
    Misbehaviour::Forgets,
    Misbehaviour::ServesGarbage,
    Misbehaviour::Boasts,
    Misbehaviour::Disk,
    Misbehaviour::Equivocates,
];

struct Faulty {
    node: LocalNode,
    key: SecretKey,
    disk: FaultyDisk,
    fault: Misbehaviour,
    gone: AtomicBool,
}

#[async_trait]
impl DaNodeService for Faulty {
    async fn store(&self, request: StoreRequest) -> Result<Signature, StoreError> {
        let sign = |statement: &Statement| self.key.sign(&statement.message(&DOMAIN));
        match self.fault {
            Misbehaviour::None | Misbehaviour::Boasts => self.node.store(request).await,
            Misbehaviour::Silent => std::future::pending().await,
            Misbehaviour::Slow => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                self.node.store(request).await
            }
            Misbehaviour::SignsAnother => {
                let mut other = request.statement;
                other.dispersal.header_hash[0] ^= 1;
                Ok(sign(&other))
            }
            Misbehaviour::Forgets => Ok(sign(&request.statement)),
            Misbehaviour::ServesGarbage => {
                let signature = sign(&request.statement);
                let _ = self.node.store(request).await;
                Ok(signature)
            }
            Misbehaviour::Disk => {
                self.disk.set_fault(|op| (op.kind == FileOpKind::Sync).then_some(Fault::Eio));
                self.node.store(request).await
            }
            Misbehaviour::Equivocates => {
                let mut other = request.clone();
                other.statement.dispersal.header_hash[0] ^= 1;
                self.node.store(other).await?;
                self.node.store(request).await
            }
        }
    }

    async fn held(&self, commitment: Commitment) -> Result<Held, FetchError> {
        if self.gone.load(Ordering::Relaxed) || self.fault == Misbehaviour::Silent {
            return std::future::pending().await;
        }
        let mut held = self.node.held(commitment).await?;
        if self.fault == Misbehaviour::Boasts {
            held.rows = (0..2000).collect();
        }
        Ok(held)
    }

    async fn row(&self, commitment: Commitment, index: u32) -> Result<RowProof, FetchError> {
        if self.gone.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        let mut row = self.node.row(commitment, index).await?;
        if self.fault == Misbehaviour::ServesGarbage {
            row.row = row.row.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>().into();
        }
        Ok(row)
    }
}

/// A node of its own disk, which may be one that a crash left.
fn node_on(disk: &FaultyDisk, key: &SecretKey, snapshot: &Arc<Snapshot>) -> LocalNode {
    let config = NodeConfig {
        folder: PathBuf::from("/da"),
        domain: DOMAIN,
        keep_seconds_max: 10_000,
        clock: Arc::new(|| 1_000),
        admission: Arc::new(Anybody),
    };
    let node = DaNode::open(Arc::new(disk.clone()), config, key.clone()).unwrap();
    node.install_snapshot(Arc::clone(snapshot));
    LocalNode(Arc::new(node))
}

struct World {
    client: QuorumClient,
    snapshot: Arc<Snapshot>,
    nodes: Vec<Arc<Faulty>>,
}

fn world(stakes: &[u64], faults: &[Misbehaviour], seed: u64) -> World {
    let mut rng = StdRng::seed_from_u64(seed);
    let keys: Vec<SecretKey> = stakes.iter().map(|_| SecretKey::generate(&mut rng)).collect();
    let signers =
        keys.iter().zip(stakes).map(|(key, stake)| Signer { key: key.public_key(), stake: *stake }).collect();
    let snapshot = Arc::new(Snapshot::new(1, signers).unwrap());
    let nodes: Vec<Arc<Faulty>> = keys
        .iter()
        .zip(faults)
        .map(|(key, fault)| {
            let disk = FaultyDisk::default();
            let node = node_on(&disk, key, &snapshot);
            Arc::new(Faulty { node, key: key.clone(), disk, fault: *fault, gone: AtomicBool::new(false) })
        })
        .collect();
    let client = QuorumClient::new(DOMAIN, QuorumConfig::default());
    let services = nodes.iter().map(|node| Arc::clone(node) as Arc<dyn DaNodeService>).collect();
    client.install_epoch(Arc::clone(&snapshot), services);
    World { client, snapshot, nodes }
}

fn dispersal(sequence: u64) -> Dispersal {
    Dispersal { namespace: Namespace([1; 32]), sequence, header_hash: [2; 32], keep_until: KEEP_UNTIL }
}

fn blob(len: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

fn verify(world: &World, dispersal: &Dispersal, dispersed: &Dispersed) -> Certificate {
    let certificate = Certificate::from_bytes(&dispersed.certificate).unwrap();
    certificate.verify(&DOMAIN, dispersal, &world.snapshot).unwrap();
    certificate
}

/// Random stakes and, at random, faults on nodes that together hold at most a third of them.
fn scenario(rng: &mut StdRng) -> (Vec<u64>, Vec<Misbehaviour>) {
    let signers = rng.random_range(4..=28);
    let steep = rng.random_bool(0.5);
    let stakes: Vec<u64> = (0..signers)
        .map(|_| if steep { 1 << rng.random_range(0..8) } else { rng.random_range(80..120) })
        .collect();
    let total: u64 = stakes.iter().sum();
    let mut faults = vec![Misbehaviour::None; signers];
    let mut faulty = 0;
    for _ in 0..3 * signers {
        let node = rng.random_range(0..signers);
        if faults[node] == Misbehaviour::None && 3 * (faulty + stakes[node]) < total {
            faults[node] = FAULTS[rng.random_range(0..FAULTS.len())];
            faulty += stakes[node];
        }
    }
    (stakes, faults)
}

#[tokio::test(start_paused = true)]
async fn with_faults_below_a_third_blobs_are_certified_and_come_back() {
    let mut seen = Vec::new();
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (stakes, faults) = scenario(&mut rng);
        println!("seed {seed}: {stakes:?} {faults:?}");
        seen.extend(faults.iter().copied());
        let world = world(&stakes, &faults, seed);
        let blob = blob(rng.random_range(1..20_000), seed);
        let dispersal = dispersal(seed + 1);
        let dispersed = world.client.disperse(&dispersal, blob.clone(), Bytes::new()).await.unwrap();
        verify(&world, &dispersal, &dispersed);
        // What was certified is there once everything that was under way has ended.
        world.client.close().await;
        let with = BlobReference::from(&dispersed);
        let without = BlobReference { certificate: None, ..with.clone() };
        assert_eq!(world.client.retrieve(&with).await.unwrap(), blob, "seed {seed}");
        assert_eq!(world.client.retrieve(&without).await.unwrap(), blob, "seed {seed}");
    }
    assert!(FAULTS.iter().all(|fault| seen.contains(fault)), "every fault occurs");
}

/// Certified by everybody but the silent; then as many others vanish as may, the signers that hold most first.
#[tokio::test(start_paused = true)]
async fn what_is_certified_survives_the_loss_of_all_but_a_third_of_the_stake() {
    for seed in 100..130 {
        let mut rng = StdRng::seed_from_u64(seed);
        let signers = rng.random_range(3..=28);
        let stakes: Vec<u64> = (0..signers).map(|_| rng.random_range(1..100)).collect();
        println!("seed {seed}: {stakes:?}");
        let world = world(&stakes, &vec![Misbehaviour::None; signers], seed);
        let blob = blob(4_000, seed);
        let dispersed = world.client.disperse(&dispersal(1), blob.clone(), Bytes::new()).await.unwrap();
        world.client.close().await;
        let total: u64 = stakes.iter().sum();
        let mut left = total;
        for (node, stake) in world.nodes.iter().zip(&stakes) {
            if 3 * (left - stake) >= total && rng.random_bool(0.9) {
                node.gone.store(true, Ordering::Relaxed);
                left -= stake;
            }
        }
        let back = world.client.retrieve(&BlobReference::from(&dispersed)).await.unwrap();
        assert_eq!(back, blob, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_third_silent_nothing_is_certified() {
    let faults = [
        Misbehaviour::Silent,
        Misbehaviour::SignsAnother,
        Misbehaviour::None,
        Misbehaviour::None,
        Misbehaviour::None,
        Misbehaviour::None,
    ];
    let world = world(&[1; 6], &faults, 1);
    let error = world.client.disperse(&dispersal(1), blob(100, 1), Bytes::new()).await.unwrap_err();
    let DisperseError::Unavailable { signed, total, failures } = error else { panic!("{error:?}") };
    assert_eq!((signed, total), (4, 6));
    assert_eq!(failures, "signer 0: no answer in time; signer 1: not its signature");
}

#[tokio::test(start_paused = true)]
async fn dispersal_is_idempotent_and_equivocation_an_alarm() {
    let world = world(&[1; 6], &[Misbehaviour::None; 6], 2);
    let first = world.client.disperse(&dispersal(1), blob(500, 1), Bytes::new()).await.unwrap();
    let again = world.client.disperse(&dispersal(1), blob(500, 1), Bytes::new()).await.unwrap();
    assert_eq!(first.commitment, again.commitment);
    verify(&world, &dispersal(1), &again);
    let other = Dispersal { header_hash: [9; 32], ..dispersal(1) };
    let error = world.client.disperse(&other, blob(500, 2), Bytes::new()).await.unwrap_err();
    assert!(matches!(error, DisperseError::Equivocation { ref header, .. } if *header == "02".repeat(32)));
    let error = world.client.disperse(&dispersal(1), blob(500, 2), Bytes::new()).await.unwrap_err();
    assert!(matches!(error, DisperseError::Equivocation { .. }), "root A with blob B");
    let error = world.client.disperse(&dispersal(2), Bytes::new(), Bytes::new()).await.unwrap_err();
    assert!(matches!(error, DisperseError::Invalid { .. }));
}

/// Every node crashes at a seeded moment around signing, comes back with what its disk kept, and neither history
/// of the log ever gets a second certificate.
#[tokio::test(start_paused = true)]
async fn after_crashes_of_all_nodes_no_place_is_certified_twice() {
    for seed in 200..230u64 {
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let before = world(&[1; 6], &[Misbehaviour::None; 6], seed);
        let first = before.client.disperse(&dispersal(1), blob(900, 1), Bytes::new()).await.unwrap();
        if rng.random_bool(0.5) {
            before.client.close().await;
        }
        let nodes: Vec<Arc<dyn DaNodeService>> = before
            .nodes
            .iter()
            .map(|node| {
                let plan =
                    if rng.random_bool(0.3) { CrashPlan::LoseAll } else { CrashPlan::Seeded(rng.random()) };
                Arc::new(node_on(&node.disk.crash(plan), &node.key, &before.snapshot))
                    as Arc<dyn DaNodeService>
            })
            .collect();
        let client = QuorumClient::new(DOMAIN, QuorumConfig::default());
        client.install_epoch(Arc::clone(&before.snapshot), nodes);
        let other = Dispersal { header_hash: [9; 32], ..dispersal(1) };
        let second = client.disperse(&other, blob(900, 2), Bytes::new()).await;
        assert!(second.is_err(), "seed {seed}: two certificates for one place");
        assert_eq!(client.retrieve(&BlobReference::from(&first)).await.unwrap(), blob(900, 1), "seed {seed}");
    }
}

/// A publisher that lies about one row after another: as it asks honest nodes itself, what it gets is never a
/// quorum, unless every row that anybody holds decodes.
#[tokio::test(start_paused = true)]
async fn a_lying_encoder_gets_no_quorum_of_honest_nodes() {
    let honest = ashlar_rsema1d::encode(Profile::Small, blob(5_000, 9)).unwrap();
    for lie in 0..16u32 {
        let world = world(&[1; 6], &[Misbehaviour::None; 6], 3);
        let mut rows: Vec<Bytes> = (0..16).map(|row| honest.row(row).unwrap().row).collect();
        let at = usize::try_from(lie).unwrap();
        rows[at] = rows[at].iter().map(|byte| !byte).collect::<Vec<u8>>().into();
        let lying = ashlar_rsema1d::commit_to_any_rows(honest.shape(), rows);
        let (commitment, shape) = (lying.commitment(), lying.shape());
        let statement = Statement { epoch: 1, dispersal: dispersal(1), commitment, shape };
        let assignment = world.snapshot.assignment(Profile::Small, &commitment).unwrap();
        let mut signed = Vec::new();
        for (signer, node) in world.nodes.iter().enumerate() {
            let rows = assignment.rows_of(signer).iter().map(|row| lying.row(*row).unwrap()).collect();
            let opening = Bytes::from(lying.opening().to_bytes());
            let request = StoreRequest { statement, opening, rows, authorization: Bytes::new() };
            if node.store(request).await.is_ok() {
                signed.push(signer);
            }
        }
        let is_held = assignment.holders_of(lie).next().is_some();
        if lie < 4 {
            // All parity rows contradict the changed original one: only holders of original rows alone sign.
            assert!(!world.snapshot.is_quorum(&signed), "row {lie}: {signed:?}");
        } else if is_held {
            assert_eq!(signed.len(), 5, "row {lie}: its holder refuses");
        }
        // One refusal is less than a third, so a lie about one parity row can be certified. It never gives bytes.
        let reference = BlobReference { commitment: commitment.0, certificate: None };
        let outcome = world.client.retrieve(&reference).await.unwrap_err();
        let nobody = RetrieveError::Unavailable { rows: 0, needed: 0 };
        assert!(
            matches!(outcome, RetrieveError::Lie { .. } | RetrieveError::Unavailable { .. }),
            "row {lie}"
        );
        assert_ne!(
            (signed.is_empty(), outcome == nobody),
            (false, true),
            "row {lie}: signers serve their rows"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn sampling_notices_what_is_withheld() {
    let world = world(&[1; 6], &[Misbehaviour::None; 6], 4);
    let dispersed = world.client.disperse(&dispersal(1), blob(3_000, 4), Bytes::new()).await.unwrap();
    world.client.close().await;
    let reference = BlobReference::from(&dispersed);
    let mut rng = StdRng::seed_from_u64(4);
    let report = world.client.sample(&reference, 20, &mut rng).await.unwrap();
    assert_eq!(report.asked, report.served);
    assert!(report.bits >= 40.0, "{report:?}");
    for node in &world.nodes[..5] {
        node.gone.store(true, Ordering::Relaxed);
    }
    let report = world.client.sample(&reference, 20, &mut rng).await.unwrap();
    assert!(report.served < report.asked && report.bits == 0.0, "{report:?}");
    let unavailable = world.client.retrieve(&reference).await.unwrap_err();
    assert_eq!(unavailable, RetrieveError::Unavailable { rows: 2, needed: 4 });
}

/// The large profile end to end: 40 signers, some silent, some serving garbage.
#[tokio::test(start_paused = true)]
async fn forty_signers_use_the_large_profile() {
    let mut faults = vec![Misbehaviour::None; 40];
    faults[3] = Misbehaviour::Silent;
    faults[4] = Misbehaviour::ServesGarbage;
    faults[30] = Misbehaviour::Boasts;
    let world = world(&[10; 40], &faults, 5);
    let blob = blob(30_000, 5);
    let dispersed = world.client.disperse(&dispersal(1), blob.clone(), Bytes::new()).await.unwrap();
    assert_eq!(verify(&world, &dispersal(1), &dispersed).shape.profile(), Profile::Large);
    world.client.close().await;
    assert_eq!(world.client.retrieve(&BlobReference::from(&dispersed)).await.unwrap(), blob);
}
