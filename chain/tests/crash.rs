//! The file store at every sync: a crash leaves the record as it was before or after, and a lock without its owner is none.

use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use ashlar_chain::{Attempt, Fence, FileTransactionStore, Intent, KeyId, KeyRecord, TransactionStore as _};
use ashlar_disk::{CrashPlan, FaultyDisk};
use parking_lot::Mutex;

const KEY: KeyId = KeyId { chain_id: 5, address: Address::repeat_byte(3) };

fn record(intents: u64) -> KeyRecord {
    let intent = |nonce: u64| Intent {
        id: B256::from(U256::from(nonce)),
        nonce,
        to: Bytes::new(),
        value: U256::from(nonce),
        data: vec![7; 700].into(),
        gas_limit: 21_000,
        attempts: vec![Attempt {
            hash: keccak256(nonce.to_be_bytes()),
            max_fee_wei: 2,
            tip_wei: 1,
            encoded: Bytes::copy_from_slice(&nonce.to_be_bytes()),
        }],
    };
    KeyRecord { next_nonce: intents, intents: (0..intents).map(intent).collect() }
}

fn open(disk: &FaultyDisk) -> FileTransactionStore {
    FileTransactionStore::open(Arc::new(disk.clone()), Path::new("/keys")).expect("the store opens")
}

/// Saves one record after another; crash states with what had been saved before each.
async fn run(ignored: Option<u64>) -> Vec<(String, FaultyDisk, Option<u64>)> {
    let disk = FaultyDisk::new(1 << 24);
    if let Some(index) = ignored {
        disk.ignore_sync(index);
    }
    let saved: Arc<Mutex<Option<u64>>> = Arc::default();
    let states = Arc::new(Mutex::new(Vec::new()));
    {
        let (inside, saved, states) = (disk.clone(), Arc::clone(&saved), Arc::clone(&states));
        disk.on_sync(move |point| {
            for plan in
                [CrashPlan::LoseAll, CrashPlan::Seeded(point.index * 7 + 1), CrashPlan::Seeded(point.index)]
            {
                states.lock().push((format!("{point:?} {plan:?}"), inside.crash(plan), *saved.lock()));
            }
        });
    }
    let store = open(&disk);
    let (fence, _) = store.acquire(KEY).await.expect("it is acquired");
    for intents in 0..6 {
        store.save(KEY, fence, record(intents)).await.expect("it is saved");
        *saved.lock() = Some(intents);
    }
    std::mem::take(&mut *states.lock())
}

async fn survive(disk: &FaultyDisk, saved: Option<u64>) -> Result<(), String> {
    let store = open(disk);
    let (fence, found) = store.acquire(KEY).await.map_err(|error| error.to_string())?;
    let known: Vec<KeyRecord> = match saved {
        None => vec![KeyRecord::default(), record(0)],
        Some(saved) => vec![record(saved), record(saved + 1)],
    };
    if !known.contains(&found) {
        return Err(format!("{} intents were found, {saved:?} saved", found.intents.len()));
    }
    if saved.is_some() && fence < Fence(2) {
        return Err("the fence went back".to_owned());
    }
    store.save(KEY, fence, record(9)).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_crash_leaves_the_record_before_or_after() {
    let states = run(None).await;
    assert!(states.len() > 60, "only {} crash states", states.len());
    for (name, disk, saved) in states {
        if let Err(what) = survive(&disk, saved).await {
            panic!("{name}: {what}");
        }
    }
}

#[tokio::test]
async fn a_missing_sync_is_noticed() {
    let disk = FaultyDisk::new(1 << 24);
    let store = open(&disk);
    let begin = disk.syncs();
    let (fence, _) = store.acquire(KEY).await.expect("it is acquired");
    let each = disk.syncs() - begin;
    store.save(KEY, fence, record(1)).await.expect("it is saved");
    assert_eq!(disk.syncs() - begin, 2 * each, "as many for each change");
    for index in begin + 3 * each..begin + 4 * each {
        let mut noticed = false;
        for (_, disk, saved) in run(Some(index)).await {
            noticed |= survive(&disk, saved).await.is_err();
        }
        assert!(noticed, "sync {index} could be left out");
    }
}
