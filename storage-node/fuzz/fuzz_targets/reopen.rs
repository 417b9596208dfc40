//! A node's folder with any bytes changed: it opens or is refused, and every read gives what was put or an
//! error.
#![no_main]

use ashlar_chunker::{BlobId, Coding, SessionId, ShardIndex, encode_chunk};
use ashlar_disk::{CrashPlan, Disk, FaultyDisk};
use ashlar_storage_node::{
    BlockRange, Flusher, FlusherOptions, NodeId, ShardPut, ShardService, Store, StoreOptions, Verify,
};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::{Arc, LazyLock};

const FOLDER: &str = "/node";

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
static FLUSHER: LazyLock<Arc<Flusher>> =
    LazyLock::new(|| Flusher::start(FlusherOptions::default()).expect("threads"));

fn open(disk: &FaultyDisk) -> Option<Store> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = StoreOptions { log_bytes: 1 << 20, segment_bytes: 5 << 20, ..StoreOptions::default() };
    Store::open(disk, Path::new(FOLDER), NodeId(1), options, &FLUSHER).ok()
}

fn puts() -> Vec<ShardPut> {
    let lengths: [usize; 4] = [100, 20_000, 60_000, 300_000];
    (0u64..)
        .zip(lengths)
        .map(|(counter, length)| {
            let content: Vec<u8> = (0..length).map(|byte| u8::try_from(byte % 251).expect("small")).collect();
            let chunk = encode_chunk(Coding::new(4, 2).expect("valid"), content.into()).expect("not empty");
            ShardPut {
                id: BlobId { session: SessionId(1), counter }.chunk(0).shard(ShardIndex(0)),
                cells: chunk.rows.iter().map(|row| row.cells[0].clone()).collect(),
                footer: chunk.commitment.encode(),
            }
        })
        .collect()
}

static TEMPLATE: LazyLock<FaultyDisk> = LazyLock::new(|| {
    let disk = FaultyDisk::default();
    let store = open(&disk).expect("a new folder opens");
    for put in puts() {
        RUNTIME.block_on(store.put(put)).expect("no faults");
    }
    drop(store);
    disk
});

fuzz_target!(|changes: Vec<(u8, u32, u8)>| {
    let disk = TEMPLATE.crash(CrashPlan::KeepAll);
    let files = disk.files();
    for (file, at, value) in changes {
        let path = &files[usize::from(file) % files.len()];
        disk.damage(path, |content| {
            let at = usize::try_from(at).expect("fits");
            // Most changes go to the first pages, where the marks and heads are.
            let at = if at % 4 == 0 { at } else { at % (32 << 10) };
            if let Some(byte) = content.get_mut(at) {
                *byte ^= value;
            }
        })
        .expect("the file exists");
    }
    let Some(store) = open(&disk) else { return };
    for put in puts() {
        if let Ok(read) = RUNTIME.block_on(store.read(put.id, BlockRange::ALL, Verify::Node)) {
            assert_eq!(read.bytes, put.cells.concat());
        }
    }
});
