//! The chain's rules: what it refuses to start from, what it takes, what it remembers.

mod stand;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, TxKind, U256};
use ashlar_dev_chain::{Chain, Clock, Configuration, OpenError, PoolError};
use ashlar_disk::{Disk as _, OpenMode, RealDisk};
use stand::{configuration, keys, pay, sign, transaction};

const PAYEE: Address = Address::repeat_byte(0x77);

fn open(directory: &Path, configuration: Configuration) -> Result<Chain, OpenError> {
    let clock = Clock::Manual(Arc::new(AtomicU64::new(1_800_000_000)));
    Chain::open(&RealDisk::new(), directory, None, configuration, clock)
}

fn block_of_one(chain: &Chain, nonce: u64) {
    chain.submit(&pay(&keys()[0], nonce, PAYEE)).expect("it is taken");
    chain.produce(false).expect("a block is made").expect("it has a transaction");
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("the file is copied");
}

#[test]
fn a_database_that_was_rolled_back_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (database, old) = (folder.path().join("chain.redb"), folder.path().join("old"));
    let chain = open(folder.path(), configuration()).expect("it opens");
    block_of_one(&chain, 0);
    drop(chain);
    copy(&database, &old);
    let chain = open(folder.path(), configuration()).expect("it opens again");
    block_of_one(&chain, 1);
    let head = chain.head();
    drop(chain);
    copy(&database, &folder.path().join("new"));
    copy(&old, &database);
    let error = open(folder.path(), configuration()).err().expect("it is refused");
    let wanted = |error: &OpenError| matches!(error, OpenError::Rewound { head: 1, handed_out } if handed_out.hash == head.hash());
    assert!(wanted(&error), "{error}");
    assert!(error.to_string().contains("rolled back"), "{error}");
    std::fs::remove_file(&database).expect("it is removed");
    assert!(matches!(open(folder.path(), configuration()), Err(OpenError::Rewound { head: 0, .. })));
    copy(&folder.path().join("new"), &database);
    assert_eq!(open(folder.path(), configuration()).expect("the newer one opens").head(), head);
}

#[test]
fn another_history_a_missing_high_water_and_another_chain_are_refused() {
    let [one, other] = [(), ()].map(|()| tempfile::tempdir().expect("a folder"));
    let chain = open(one.path(), configuration()).expect("it opens");
    block_of_one(&chain, 0);
    assert!(matches!(open(one.path(), configuration()), Err(OpenError::Locked { .. })));
    drop(chain);
    let differs = Configuration { base_fee_wei: 2_000_000_000, ..configuration() };
    let chain = open(other.path(), differs).expect("it opens");
    block_of_one(&chain, 0);
    drop(chain);
    let database = one.path().join("chain.redb");
    copy(&database, &one.path().join("kept"));
    copy(&other.path().join("chain.redb"), &database);
    assert!(matches!(open(one.path(), configuration()), Err(OpenError::OtherHistory { .. })));
    copy(&one.path().join("kept"), &database);
    let elsewhere = Configuration { chain_id: 7, ..configuration() };
    assert!(matches!(open(one.path(), elsewhere), Err(OpenError::OtherChain { configured: 7, .. })));
    std::fs::remove_file(one.path().join("high-water")).expect("it is removed");
    assert!(matches!(open(one.path(), configuration()), Err(OpenError::NoHighWater { head: 1, .. })));
}

#[test]
fn a_damaged_high_water_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let chain = open(folder.path(), configuration()).expect("it opens");
    block_of_one(&chain, 0);
    block_of_one(&chain, 1);
    drop(chain);
    let file = RealDisk::new().open(&folder.path().join("high-water"), OpenMode::Existing).expect("it opens");
    for slot in [0, 4096] {
        file.write_all_at(&[&[0xff; 52]], slot).expect("it is damaged");
    }
    assert!(matches!(open(folder.path(), configuration()), Err(OpenError::HighWater(_))));
}

#[test]
fn the_pool_keeps_its_rules() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut limited = configuration();
    limited.pool.per_sender_max = 4;
    let chain = open(folder.path(), limited).expect("it opens");
    let [key, other] = keys();
    let base = || transaction(0, PAYEE.into(), vec![]);
    let submit = |transaction: TxEip1559| chain.submit(&sign(&key, transaction));
    submit(base()).expect("it is taken");
    assert_eq!(submit(base()), Err(PoolError::AlreadyKnown));
    let dearer = |percent: u128| TxEip1559 {
        max_fee_per_gas: 3_000_000_000 / 100 * percent,
        max_priority_fee_per_gas: 1_000_000 / 100 * percent,
        ..base()
    };
    assert_eq!(submit(dearer(109)), Err(PoolError::Underpriced));
    assert_eq!(submit(TxEip1559 { max_fee_per_gas: 9_000_000_000, ..base() }), Err(PoolError::Underpriced));
    let replaced = submit(dearer(110)).expect("it replaces");
    assert_eq!(chain.waiting(), 1);
    // A gap waits, and does not block others.
    submit(TxEip1559 { nonce: 2, ..base() }).expect("a gap may wait");
    chain.submit(&pay(&other, 0, PAYEE)).expect("it is taken");
    let block = chain.produce(false).expect("a block is made").expect("it has transactions");
    assert_eq!(chain.waiting(), 1);
    assert!(chain.includes(replaced, block.number).expect("it is read"));
    assert_eq!(submit(base()), Err(PoolError::NonceTooLow { next: 1, nonce: 0 }));
    for nonce in [3, 4, 5] {
        submit(TxEip1559 { nonce, ..base() }).expect("it may wait");
    }
    assert!(matches!(submit(TxEip1559 { nonce: 6, ..base() }), Err(PoolError::SenderFull { limit: 4, .. })));
    let poor =
        TxEip1559 { value: U256::from(stand::RICH), nonce: 2, max_fee_per_gas: 90_000_000_000, ..base() };
    assert!(matches!(submit(poor), Err(PoolError::InsufficientFunds { .. })));
    for (bad, why) in [
        (TxEip1559 { chain_id: 1, nonce: 1, ..base() }, "chain"),
        (TxEip1559 { gas_limit: 20_999, nonce: 1, ..base() }, "gas"),
        (TxEip1559 { gas_limit: 30_000_001, nonce: 1, ..base() }, "gas limit"),
        (TxEip1559 { max_fee_per_gas: 1_000_000, nonce: 1, ..base() }, "basefee"),
        (TxEip1559 { max_priority_fee_per_gas: 4_000_000_000, nonce: 1, ..base() }, "priority"),
    ] {
        match submit(bad) {
            Err(PoolError::Invalid(said)) => assert!(said.contains(why), "{why}: {said}"),
            done => panic!("{why}: {done:?}"),
        }
    }
    assert!(matches!(chain.submit(&[0x03, 0xc0]), Err(PoolError::Invalid(_))));
    assert!(matches!(chain.submit(&vec![1; 200 << 10]), Err(PoolError::Oversized { .. })));
    submit(TxEip1559 { nonce: 1, ..base() }).expect("the gap is filled");
    chain.produce(false).expect("a block is made").expect("it has transactions");
    assert_eq!(chain.waiting(), 0);
}

#[test]
fn the_same_transactions_make_the_same_chain() {
    let heads = [(), ()].map(|()| {
        let folder = tempfile::tempdir().expect("a folder");
        let chain = open(folder.path(), configuration()).expect("it opens");
        let [key, _] = keys();
        chain.submit(&sign(&key, transaction(0, TxKind::Create, stand::COUNTER))).expect("it is taken");
        chain.produce(false).expect("a block is made");
        for nonce in 1..6 {
            let call = transaction(nonce, key.address().create(0).into(), vec![]);
            chain.submit(&sign(&key, call)).expect("it is taken");
            chain.produce(false).expect("a block is made");
        }
        chain.head()
    });
    assert_eq!(heads[0], heads[1]);
}
