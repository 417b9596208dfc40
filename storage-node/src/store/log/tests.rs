//! Groups in which copies, puts and deletes of one shard meet: the index and the log never disagree.

use super::super::{Flusher, FlusherOptions, Store, StoreOptions};
use super::*;
use crate::service::NodeId;
use ashlar_disk::{Disk, FaultyDisk};
use std::path::Path;

struct World {
    disk: FaultyDisk,
    flusher: Arc<Flusher>,
    store: Store,
}

fn shard(counter: u64) -> ShardId {
    BlobId { session: SessionId(1), counter }.chunk(0).shard(ShardIndex(0))
}

fn open(disk: &FaultyDisk, flusher: &Arc<Flusher>) -> Store {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = StoreOptions { log_bytes: 1 << 20, segment_bytes: 5 << 20, ..StoreOptions::default() };
    Store::open(disk, Path::new("/node"), NodeId(1), options, flusher).unwrap()
}

impl World {
    fn new() -> Self {
        let (disk, flusher) = (FaultyDisk::default(), Flusher::start(FlusherOptions::default()).unwrap());
        let store = open(&disk, &flusher);
        Self { disk, flusher, store }
    }

    fn locate(&self, id: ShardId) -> Option<Location> {
        self.store.inner.state.read().index.get(id)
    }

    fn append(&self, items: Vec<Append>) {
        let mut completions = Vec::new();
        self.store.inner.append(items, &mut completions);
        completions.into_iter().for_each(Completion::send);
    }

    fn put(&self, id: ShardId, shard_bytes: u32, place: PutPlace) -> Append {
        self.store.inner.state.write().writing.insert(id);
        let claim = WriteClaim::entered(Arc::clone(&self.store.inner), id);
        let (done, _) = oneshot::channel();
        let footer = Bytes::from_static(b"footer");
        Append::Put(PutAppend { id, place, shard_bytes, footer, claim, done, _permit: None })
    }

    fn put_inline(&self, id: ShardId, shard_bytes: u32) -> Append {
        let cell = Bytes::from(vec![7; usize::try_from(shard_bytes).unwrap()]);
        self.put(id, shard_bytes, PutPlace::Inline(vec![cell]))
    }

    /// A copy of the record of a shard, as compaction would ask for it now.
    fn copy(&self, id: ShardId) -> Append {
        let from = self.locate(id).unwrap();
        let (kind, body) = match from.file {
            FileId::Log(_) => {
                (RecordKind::Inline, vec![7; usize::try_from(from.shard_bytes).unwrap() + b"footer".len()])
            }
            FileId::Segment(segment) => (RecordKind::Extent { segment, page: from.offset }, Vec::new()),
        };
        let header = RecordHeader {
            kind,
            id,
            shard_bytes: from.shard_bytes,
            footer_bytes: 6,
            token: FencingToken::default(),
        };
        let (done, _) = oneshot::channel();
        Append::Copy { header, body: Bytes::from(body), from, done }
    }

    fn delete(&self, ids: &[ShardId]) -> Append {
        let (done, _) = oneshot::channel();
        Append::Delete { ids: ids.to_vec(), token: FencingToken(1), done }
    }

    /// Opens the folder again; what is there must be what was there.
    fn reopened(self) -> Self {
        let before: Vec<_> = self.store.inner.state.read().index.after(None).collect();
        let Self { disk, flusher, store } = self;
        drop(store);
        let store = open(&disk, &flusher);
        let after: Vec<_> = store.inner.state.read().index.after(None).collect();
        assert_eq!(before, after);
        Self { disk, flusher, store }
    }
}

async fn with_one_of_each() -> (World, [ShardId; 2]) {
    let world = World::new();
    let (inline, extent) = (shard(1), shard(2));
    let lease = world.store.inner.lease(8192).await.unwrap();
    world.append(vec![world.put_inline(inline, 10), world.put(extent, 10, PutPlace::Extent(lease))]);
    assert!(world.locate(inline).is_some() && world.locate(extent).is_some());
    (world, [inline, extent])
}

#[tokio::test]
async fn a_delete_behind_a_copy_stays_a_delete() {
    let (world, ids) = with_one_of_each().await;
    let mut items: Vec<Append> = ids.iter().map(|id| world.copy(*id)).collect();
    items.push(world.delete(&ids));
    world.append(items);
    assert_eq!(ids.map(|id| world.locate(id)), [None, None]);
    world.reopened();
}

#[tokio::test]
async fn a_copy_behind_a_put_does_not_replace_it() {
    let (world, ids) = with_one_of_each().await;
    // Broken shards may be put again while compaction carries their old records.
    for id in ids {
        let copy = world.copy(id);
        world.append(vec![world.put_inline(id, 20), copy]);
        assert_eq!(world.locate(id).unwrap().shard_bytes, 20);
    }
    let world = world.reopened();
    for id in ids {
        let copy = world.copy(id);
        world.append(vec![copy, world.put_inline(id, 30)]);
        assert_eq!(world.locate(id).unwrap().shard_bytes, 30);
    }
    world.reopened();
}

#[tokio::test]
async fn what_was_found_bad_elsewhere_says_nothing_of_a_shard() {
    let (world, [id, _]) = with_one_of_each().await;
    let judged = world.locate(id).unwrap();
    world.append(vec![world.put_inline(id, 20)]);
    world.store.inner.set_aside(id, Some(judged));
    assert!(world.store.quarantined().is_empty());
    world.store.inner.set_aside(id, world.locate(id));
    assert_eq!(world.store.quarantined(), [id]);
}
