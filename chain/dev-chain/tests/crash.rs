//! Crashes of the machine at every sync: any subset of what was not synced is lost, kept, torn or reordered.
//!
//! At each boundary the disk as a crash would leave it is opened. The chain must start, have every block that was
//! announced with its hash and state, and go on. The meta-test shows that the harness notices a missing sync.

mod stand;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::{Address, B256, TxKind, U256};
use ashlar_dev_chain::{Chain, Clock, Configuration, OpenError};
use ashlar_disk::{CrashPlan, FaultyDisk};
use parking_lot::Mutex;

/// Blocks of a run.
const BLOCKS: u64 = 12;
const PAYEE: Address = Address::repeat_byte(0x77);

fn open(disk: &FaultyDisk) -> Result<Chain, OpenError> {
    let clock = Clock::Manual(Arc::new(AtomicU64::new(1_800_000_000)));
    let configuration = Configuration { state_history_blocks: 4, ..stand::configuration() };
    Chain::open(disk, Path::new("/chain"), None, configuration, clock)
}

/// What was announced: hash by number.
type Announced = Arc<Mutex<Vec<B256>>>;

/// Makes blocks until there are enough, and notes each when it was announced.
fn run(disk: &FaultyDisk, announced: &Announced) {
    let chain = open(disk).expect("the chain opens");
    let [key, _] = stand::keys();
    {
        let mut announced = announced.lock();
        if announced.is_empty() {
            announced.push(chain.head().hash());
        }
    }
    for number in chain.head().number..BLOCKS {
        let encoded = match number {
            0 => stand::sign(&key, stand::transaction(0, TxKind::Create, stand::COUNTER)),
            1..4 => stand::sign(&key, stand::transaction(number, key.address().create(0).into(), vec![])),
            _ => stand::pay(&key, number, PAYEE),
        };
        chain.submit(&encoded).expect("it is taken");
        let block = chain.produce(false).expect("a block is made").expect("there was something in it");
        announced.lock().push(block.hash());
    }
}

/// Opens what a crash left; the error says what is wrong.
fn survive(disk: &FaultyDisk, announced: &[B256]) -> Result<(), String> {
    let chain = open(disk).map_err(|error| format!("it does not open: {error}"))?;
    let head = chain.head();
    let Some(last) = announced.len().checked_sub(1) else { return Ok(()) };
    if head.number < last as u64 {
        return Err(format!("block {last} was announced, the head is {}", head.number));
    }
    for (number, hash) in announced.iter().enumerate() {
        if chain.block_hash(number as u64).map_err(|error| error.to_string())? != Some(*hash) {
            return Err(format!("block {number} is another one"));
        }
    }
    let paid = head.number.saturating_sub(4);
    if chain.balance(PAYEE).map_err(|error| error.to_string())? != U256::from(paid) {
        return Err(format!("state at block {} is wrong", head.number));
    }
    let announced = Arc::new(Mutex::new(announced.to_vec()));
    drop(chain);
    run(disk, &announced);
    let chain = open(disk).map_err(|error| format!("it does not open again: {error}"))?;
    (chain.head().number == BLOCKS).then_some(()).ok_or_else(|| "it does not go on".to_owned())
}

/// Every crash state of one run with what was announced before it. `ignored`: the sync that does nothing.
fn crashes(ignored: Option<u64>) -> Vec<(String, FaultyDisk, Vec<B256>)> {
    let disk = FaultyDisk::new(1 << 30);
    if let Some(index) = ignored {
        disk.ignore_sync(index);
    }
    let announced = Announced::default();
    let states = Arc::new(Mutex::new(Vec::new()));
    let seeds = Arc::new(AtomicU64::new(1));
    {
        let (inside, announced, states) = (disk.clone(), Arc::clone(&announced), Arc::clone(&states));
        disk.on_sync(move |point| {
            let seed = seeds.fetch_add(1, Ordering::Relaxed);
            for plan in [CrashPlan::LoseAll, CrashPlan::Seeded(seed)] {
                let name = format!("{point:?} {plan:?}");
                states.lock().push((name, inside.crash(plan), announced.lock().clone()));
            }
        });
    }
    run(&disk, &announced);
    std::mem::take(&mut *states.lock())
}

#[test]
fn nothing_announced_is_lost_at_any_sync() {
    let states = crashes(None);
    assert!(states.len() > 100, "only {} crash states", states.len());
    for (name, disk, announced) in states {
        if let Err(what) = survive(&disk, &announced) {
            panic!("{name}: {what}");
        }
    }
}

#[test]
fn a_missing_sync_is_noticed() {
    let disk = FaultyDisk::new(1 << 30);
    run(&disk, &Announced::default());
    let syncs = disk.syncs();
    // The syncs of the last blocks: those of the engine and those of the high water.
    let noticed = (syncs - 12..syncs - 6)
        .filter(|index| {
            crashes(Some(*index)).iter().any(|(_, disk, announced)| survive(disk, announced).is_err())
        })
        .count();
    assert!(noticed >= 2, "only {noticed} of six missing syncs were noticed");
}
