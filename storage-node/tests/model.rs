//! Random operations against a map, with reopening: the store and the model never disagree.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

#[path = "support/shards.rs"]
mod shards;

use ashlar_chunker::ShardId;
use ashlar_disk::{CrashPlan, Disk, FaultyDisk};
use ashlar_storage_node::{
    BlockRange, DeleteError, FencingToken, Flusher, FlusherOptions, NodeId, PutError, ReadError,
    ShardService, Store, StoreOptions, Verify,
};
use proptest::prelude::*;
use shards::{shard, shard_filled};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

const FOLDER: &str = "/node";

#[derive(Clone, Debug)]
enum Op {
    Put { number: u64 },
    PutOther { number: u64 },
    Stream { number: u64 },
    Delete { numbers: Vec<u64>, token: u64 },
    Quarantine { number: u64 },
    Read { number: u64, first_block: u32, count: u32 },
    List { after: Option<u64>, limit: usize },
    Maintain,
    Reopen,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let number = 0..40u64;
    prop_oneof![
        12 => number.clone().prop_map(|number| Op::Put { number }),
        1 => number.clone().prop_map(|number| Op::PutOther { number }),
        3 => number.clone().prop_map(|number| Op::Stream { number }),
        5 => (prop::collection::vec(number.clone(), 0..5), 0..4u64)
            .prop_map(|(numbers, token)| Op::Delete { numbers, token }),
        1 => number.clone().prop_map(|number| Op::Quarantine { number }),
        4 => (number.clone(), 0..6u32, 0..6u32)
            .prop_map(|(number, first_block, count)| Op::Read { number, first_block, count }),
        1 => (prop::option::of(number), 0..20usize).prop_map(|(after, limit)| Op::List { after, limit }),
        3 => Just(Op::Maintain),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
    ]
}

/// Lengths that fill log files and segments quickly.
fn len(number: u64) -> usize {
    usize::try_from(match number % 4 {
        0 => 4096,
        1 => 50_000 + number,
        2 => 64 << 10,
        _ => 600_000 + number,
    })
    .unwrap()
}

#[derive(Clone, Debug, PartialEq)]
struct Held {
    bytes: Vec<u8>,
    quarantined: bool,
}

struct World {
    disk: FaultyDisk,
    flusher: Arc<Flusher>,
    store: Option<Store>,
    model: BTreeMap<ShardId, Held>,
    token: u64,
    runtime: Runtime,
}

impl World {
    fn new() -> Self {
        let flusher = Flusher::start(FlusherOptions::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let disk = FaultyDisk::default();
        let mut world = Self { disk, flusher, store: None, model: BTreeMap::new(), token: 0, runtime };
        world.reopen();
        world
    }

    fn reopen(&mut self) {
        self.store = None;
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let options = StoreOptions {
            log_bytes: 1 << 20,
            segment_bytes: 5 << 20,
            compact_live_percent: 90,
            reserve_bytes: Some(0),
            open_files_max: 2,
            ..StoreOptions::default()
        };
        let store = Store::open(disk, Path::new(FOLDER), NodeId(1), options, &self.flusher).unwrap();
        assert!(store.report().damaged.is_empty(), "{:?}", store.report());
        // Quarantine is not kept: what is damaged is found again.
        self.model.values_mut().for_each(|held| held.quarantined = false);
        self.store = Some(store);
    }

    fn run(&mut self, op: &Op) {
        let store = self.store.as_ref().unwrap();
        match op {
            Op::Put { number } => {
                let put = shard(*number, len(*number)).swap_remove(1);
                self.runtime.block_on(store.put(put.clone())).unwrap();
                self.model.insert(put.id, Held { bytes: put.cells.concat(), quarantined: false });
            }
            Op::PutOther { number } => {
                let put = shard_filled(*number, len(*number), !number).swap_remove(1);
                let outcome = self.runtime.block_on(store.put(put.clone()));
                match self.model.get(&put.id) {
                    Some(held) if !held.quarantined && held.bytes != put.cells.concat() => {
                        assert!(matches!(outcome, Err(PutError::Conflict { .. })), "{outcome:?}");
                    }
                    _ => {
                        outcome.unwrap();
                        // Taken back, so that numbers go on meaning one content.
                        self.runtime.block_on(store.delete(&[put.id], FencingToken(self.token))).unwrap();
                        self.model.remove(&put.id);
                    }
                }
            }
            Op::Stream { number } => {
                let put = shard(*number, len(*number)).swap_remove(1);
                self.runtime.block_on(async {
                    let mut writer = store.begin(put.id, 1 << 20).await.unwrap();
                    for cell in &put.cells {
                        writer.write_cell(cell.clone()).await.unwrap();
                    }
                    writer.seal(put.footer.clone()).await.unwrap();
                });
                self.model.insert(put.id, Held { bytes: put.cells.concat(), quarantined: false });
            }
            Op::Delete { numbers, token } => {
                let ids: Vec<_> = numbers.iter().map(|number| shards::id(*number, 1)).collect();
                let outcome = self.runtime.block_on(store.delete(&ids, FencingToken(*token)));
                if *token < self.token {
                    assert!(matches!(outcome, Err(DeleteError::StaleToken { .. })), "{outcome:?}");
                } else {
                    outcome.unwrap();
                    self.token = *token;
                    self.model.retain(|id, _| !ids.contains(id));
                }
            }
            Op::Quarantine { number } => {
                let id = shards::id(*number, 1);
                self.runtime.block_on(store.quarantine(id)).unwrap();
                if let Some(held) = self.model.get_mut(&id) {
                    held.quarantined = true;
                }
            }
            Op::Read { number, first_block, count } => {
                self.read(shards::id(*number, 1), *first_block, *count)
            }
            Op::List { after, limit } => self.list(after.map(|number| shards::id(number, 1)), *limit),
            Op::Maintain => while store.maintain() {},
            Op::Reopen => self.reopen(),
            Op::Crash => {
                self.store = None;
                self.disk = self.disk.crash(CrashPlan::LoseAll);
                self.reopen();
            }
        }
    }

    fn read(&self, id: ShardId, first_block: u32, count: u32) {
        let store = self.store.as_ref().unwrap();
        for verify in [Verify::Node, Verify::Caller] {
            let read = self.runtime.block_on(store.read(id, BlockRange { first_block, count }, verify));
            match (self.model.get(&id), read) {
                (None, Err(ReadError::NotFound { .. })) => {}
                (Some(Held { quarantined: true, .. }), Err(ReadError::Corrupt { .. })) => {}
                (Some(held), Err(ReadError::OutOfRange { blocks, .. })) => {
                    assert!(count == 0 || first_block >= blocks);
                    assert_eq!(usize::try_from(blocks).unwrap(), held.bytes.len().div_ceil(16 << 10));
                }
                (Some(held), Ok(read)) => {
                    let from = usize::try_from(first_block).unwrap() * (16 << 10);
                    let to = (from + usize::try_from(count).unwrap() * (16 << 10)).min(held.bytes.len());
                    assert_eq!(read.bytes, held.bytes[from..to]);
                }
                (held, read) => panic!("{id}: held {}, read {read:?}", held.is_some()),
            }
        }
    }

    fn list(&self, after: Option<ShardId>, limit: usize) {
        let listed = self.runtime.block_on(self.store.as_ref().unwrap().list(after, limit)).unwrap();
        let expected = self
            .model
            .iter()
            .filter(|(id, held)| !held.quarantined && after.is_none_or(|after| **id > after));
        let expected: Vec<_> =
            expected.take(limit).map(|(id, held)| (*id, u32::try_from(held.bytes.len()).unwrap())).collect();
        let listed: Vec<_> = listed.into_iter().map(|entry| (entry.id, entry.bytes)).collect();
        assert_eq!(listed, expected);
    }
}

proptest! {
    // A failing case is printed, shrunk, and kept by its seed.
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_store_agrees_with_a_map(ops in prop::collection::vec(op(), 1..150)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.reopen();
        world.list(None, 1000);
        for number in 0..40 {
            world.read(shards::id(number, 1), 0, u32::MAX / (16 << 10));
        }
        let space = world.runtime.block_on(world.store.as_ref().unwrap().space()).unwrap();
        prop_assert_eq!(space.shards, u64::try_from(world.model.len()).unwrap());
        let bytes: usize = world.model.values().map(|held| held.bytes.len()).sum();
        prop_assert_eq!(space.shard_bytes, u64::try_from(bytes).unwrap());
    }
}
