//! Plans over logs that are sealed here, with nodes that remember much or little.

use ashlar_rsema1d::{Profile, Shape};
use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use super::*;
use crate::layer::{DisperseError, Dispersed, Limits, RetrieveError, SampleError, SampleReport};
use crate::publisher::{Carried, Entry, Previous, seal};
use crate::statement::Dispersal;

const NODES: usize = 6;

/// Serves what was put into it.
#[derive(Default)]
struct Shelf(BTreeMap<[u8; 32], Bytes>);

#[async_trait]
impl DaLayer for Shelf {
    fn limits(&self) -> Limits {
        Limits { blob_bytes_max: 0, keep_seconds_max: 0 }
    }

    async fn disperse(&self, _: &Dispersal, _: Bytes, _: Bytes) -> Result<Dispersed, DisperseError> {
        Err(DisperseError::Closed)
    }

    async fn retrieve(&self, reference: &BlobReference) -> Result<Bytes, RetrieveError> {
        let blob = self.0.get(&reference.commitment).cloned();
        blob.ok_or(RetrieveError::Unavailable { rows: 0, needed: 4 })
    }

    async fn sample(
        &self,
        _: &BlobReference,
        _: u32,
        _: &mut (dyn RngCore + Send),
    ) -> Result<SampleReport, SampleError> {
        Err(SampleError::NotOffered)
    }
}

/// Walk, whether it begins, whether it ends.
type Part = (u64, bool, bool);

const NO_WALK: Part = (0, false, false);

#[derive(Default)]
struct World {
    shelf: Shelf,
    nodes: Vec<Remembered>,
}

fn keys_of() -> KeysOf {
    Arc::new(NamespaceKeys::new)
}

impl World {
    /// Publishes a log of as many batches as there are parts of walks.
    fn publish(&mut self, namespace: u8, generation: &GenerationRow, parts: &[Part]) {
        self.nodes.resize_with(NODES, Remembered::default);
        let identity = LogIdentity { chain_id: 7, registry: [1; 20], namespace: [namespace; 32] };
        let mut previous = Previous::default();
        for (walk, begins, ends) in parts.iter().copied() {
            let carried = Carried { generation: generation.clone(), walk, begins, ends, rows: Vec::new() };
            let position = previous.sequence + 1;
            let entry = Entry { position, index: 0, record: Bytes::from_static(b"record"), rows: Vec::new() };
            let keys = keys_of()(&identity.namespace);
            let random = &mut StdRng::seed_from_u64(position);
            let batch = seal(&identity, &keys, previous, &[entry], &carried, random);
            let commitment = Commitment(*blake3::hash(&batch.blob).as_bytes());
            let length = u64::try_from(batch.blob.len()).unwrap();
            previous = Previous { sequence: batch.header.sequence, header_hash: batch.header.hash().0 };
            let dispersal = Dispersal {
                namespace: Namespace(identity.namespace),
                sequence: previous.sequence,
                header_hash: previous.header_hash,
                keep_until: 1,
            };
            let shape = Shape::new(Profile::Small, length).unwrap();
            for node in &mut self.nodes {
                node.statements.push(Statement { epoch: 1, dispersal, commitment, shape });
                node.blobs.push(commitment);
            }
            self.shelf.0.insert(commitment.0, batch.blob);
        }
    }

    fn commitment(&self, namespace: u8, sequence: u64) -> [u8; 32] {
        let is_it = |one: &&Statement| {
            (one.dispersal.namespace.0, one.dispersal.sequence) == ([namespace; 32], sequence)
        };
        self.nodes.iter().flat_map(|node| &node.statements).find(is_it).unwrap().commitment.0
    }

    /// Too few rows of a batch are left, and only so many nodes remember it.
    fn lose(&mut self, namespace: u8, sequence: u64, remember: usize) {
        let commitment = self.commitment(namespace, sequence);
        self.shelf.0.remove(&commitment);
        for node in &mut self.nodes[remember..] {
            node.statements.retain(|one| one.commitment.0 != commitment);
        }
    }

    /// Everybody gave up what is below.
    fn prune(&mut self, namespace: u8, floor: u64) {
        for node in &mut self.nodes {
            node.statements.retain(|one| {
                one.dispersal.namespace.0 != [namespace; 32] || one.dispersal.sequence >= floor
            });
            node.blobs = node.statements.iter().map(|one| one.commitment).collect();
        }
    }

    async fn plan(self, accept: bool) -> Result<Plan, HistoryError> {
        History::find(Arc::new(self.shelf), &self.nodes, NODES, keys_of()).await?.plan(accept).await
    }
}

fn first() -> GenerationRow {
    GenerationRow::default()
}

fn next(base: u8, base_sequence: u64, skipped: &[u64]) -> GenerationRow {
    let (salt, base_namespace, skipped) = ([9; 32], [base; 32], skipped.to_vec());
    GenerationRow { generation: 1, salt, base_namespace, base_sequence, skipped }
}

fn sequences(plan: &Plan) -> Vec<(u8, u64)> {
    plan.batches.iter().map(|(namespace, sequence)| (namespace[0], *sequence)).collect()
}

const WALKS: [Part; 7] =
    [(1, true, false), (1, false, true), NO_WALK, (2, true, true), NO_WALK, (3, true, false), NO_WALK];

#[tokio::test]
async fn reading_begins_with_the_newest_complete_walk() {
    let mut world = World::default();
    world.publish(1, &first(), &WALKS);
    let plan = world.plan(false).await.unwrap();
    assert_eq!(sequences(&plan), [(1, 4), (1, 5), (1, 6), (1, 7)]);
    assert_eq!((plan.last, plan.skipped.len()), (([1; 32], 7), 0));
    // Without one from the beginning; and what was given up before the walk is not missed.
    let mut world = World::default();
    world.publish(1, &first(), &[NO_WALK, (1, true, false), NO_WALK]);
    assert_eq!(sequences(&world.plan(false).await.unwrap()), [(1, 1), (1, 2), (1, 3)]);
    let mut world = World::default();
    world.publish(1, &first(), &WALKS);
    world.prune(1, 4);
    assert_eq!(sequences(&world.plan(false).await.unwrap()).len(), 4);
    let mut world = World::default();
    world.publish(1, &first(), &WALKS);
    world.prune(1, 5);
    assert_eq!(world.plan(true).await.unwrap_err(), HistoryError::Beginning);
}

#[tokio::test]
async fn a_log_without_a_walk_goes_on_just_where_it_says() {
    let mut world = World::default();
    world.publish(1, &first(), &WALKS);
    // Batch 7 came back since, and batch 5 was passed over then.
    world.publish(2, &next(1, 6, &[5]), &[(1, true, false), NO_WALK]);
    let plan = world.plan(false).await.unwrap();
    assert_eq!(sequences(&plan), [(1, 4), (1, 6), (2, 1), (2, 2)]);
    assert_eq!(plan.last, ([2; 32], 2));
    let mut world = World::default();
    world.publish(1, &first(), &WALKS);
    world.publish(2, &next(1, 6, &[]), &[(1, true, true), NO_WALK]);
    assert_eq!(sequences(&world.plan(false).await.unwrap()), [(2, 1), (2, 2)], "it has everything itself");
    let mut world = World::default();
    world.publish(2, &next(1, 6, &[]), &[NO_WALK]);
    assert_eq!(world.plan(true).await.unwrap_err(), HistoryError::Beginning);
}

#[tokio::test]
async fn what_cannot_be_read_is_never_passed_over_silently() {
    let broken = |sequence, remember| {
        let mut world = World::default();
        world.publish(1, &first(), &WALKS);
        world.lose(1, sequence, remember);
        world
    };
    let gap = vec![([1; 32], 5)];
    assert_eq!(broken(5, NODES).plan(false).await.unwrap_err(), HistoryError::Gap(gap.clone()));
    let plan = broken(5, NODES).plan(true).await.unwrap();
    assert_eq!((sequences(&plan), plan.skipped), (vec![(1, 4), (1, 6), (1, 7)], gap));
    // A walk with a hole is no walk while an older one is whole.
    let plan = {
        let mut world = World::default();
        let holed =
            [(1, true, true), NO_WALK, (2, true, false), (2, false, false), (2, false, true), NO_WALK];
        world.publish(1, &first(), &holed);
        world.lose(1, 4, NODES);
        world.plan(true).await.unwrap()
    };
    assert_eq!(sequences(&plan), [(1, 1), (1, 2), (1, 3), (1, 5), (1, 6)]);
    let plan = {
        let mut world = World::default();
        world.publish(
            1,
            &first(),
            &[NO_WALK, NO_WALK, (2, true, false), (2, false, false), (2, false, true)],
        );
        world.prune(1, 3);
        world.lose(1, 4, NODES);
        world.plan(true).await.unwrap()
    };
    assert_eq!(sequences(&plan), [(1, 3), (1, 5)], "better than nothing, where that is accepted");
    // The newest: four of six signed at most, so there was no quorum; five may have been one.
    let plan = broken(7, 4).plan(false).await.unwrap();
    assert_eq!((plan.unpublished, plan.last), (vec![7], ([1; 32], 6)));
    assert_eq!(broken(7, 5).plan(false).await.unwrap_err(), HistoryError::Gap(vec![([1; 32], 7)]));
    // A node that remembers nothing may have signed.
    let mut world = broken(7, 4);
    world.nodes[5] = Remembered::default();
    assert!(matches!(world.plan(false).await.unwrap_err(), HistoryError::Gap(_)));
}

#[tokio::test]
async fn rows_without_promises_say_where_they_belong_and_two_heirs_are_an_error() {
    let mut world = World::default();
    world.publish(1, &first(), &WALKS);
    world.nodes.iter_mut().for_each(|node| node.statements.clear());
    assert_eq!(sequences(&world.plan(false).await.unwrap()).len(), 4);
    let mut world = World::default();
    world.publish(2, &next(1, 6, &[]), &WALKS);
    world.publish(3, &next(1, 6, &[]), &WALKS);
    assert!(matches!(world.plan(true).await.unwrap_err(), HistoryError::Fork { .. }));
    assert_eq!(World::default().plan(true).await.unwrap_err(), HistoryError::Nothing);
    // An heir of whom nothing can be read is not forgotten.
    let heir = || {
        let mut world = World::default();
        world.publish(1, &first(), &WALKS);
        world.publish(2, &next(1, 6, &[]), &[NO_WALK, NO_WALK]);
        world.lose(2, 1, NODES);
        world.lose(2, 2, NODES);
        world
    };
    assert!(matches!(heir().plan(false).await.unwrap_err(), HistoryError::Unreadable { .. }));
    assert_eq!(heir().plan(true).await.unwrap().last, ([1; 32], 7));
}

#[tokio::test]
async fn batches_follow_each_other() {
    let mut world = World::default();
    world.publish(1, &first(), &WALKS);
    let history = History::find(Arc::new(world.shelf), &world.nodes, NODES, keys_of()).await.unwrap();
    let one = history.batch(&[1; 32], 1).await.unwrap();
    let two = history.batch(&[1; 32], 2).await.unwrap();
    let mut chain = Chain::default();
    chain.follow(&one).unwrap();
    chain.follow(&two).unwrap();
    let mut other = two.clone();
    other.header.previous_header_hash.0[0] ^= 1;
    let mut chain = Chain::default();
    chain.follow(&one).unwrap();
    assert_eq!(chain.follow(&other), Err(HistoryError::Link { sequence: 2 }));
}
