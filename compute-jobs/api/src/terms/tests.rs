//! Each side against another that tries anything, with a model of the contract that says what is really paid.

mod against_a_buyer;
mod against_a_provider;
mod contract;
mod single;

use contract::Contract;

use super::*;
use crate::bytes::Salt;
use crate::vouchers::Key;

pub(super) const ACCEPT_BY: u64 = 1_000;
pub(super) const WORK_BY: u64 = 5_000;
pub(super) const SETTLE_BY: u64 = 9_000;
pub(super) const SETTLE_SECONDS: u64 = 600;

pub(super) fn key(byte: u8) -> Key {
    Key::from_secret(&[byte; 32]).unwrap()
}

pub(super) fn session() -> Key {
    key(1)
}

pub(super) fn signing() -> Key {
    key(2)
}

/// A lock of one buyer and provider; `number` tells them apart.
pub(super) fn lock(number: u8, price: u64, exposure_max: u64, cap: u64) -> Lock {
    Lock {
        domain: Domain { chain_id: 7, contract: Address([9; 20]) },
        buyer: Address([3; 20]),
        signing_key: signing().address(),
        terms: LockTerms {
            provider: Address([4; 20]),
            offer: 1,
            offer_version: 1,
            model_root: ContentRoot([5; 32]),
            unit_price: price.into(),
            cap: cap.into(),
            exposure_max: exposure_max.into(),
            session_key: session().address(),
            accept_by: ACCEPT_BY,
            work_by: WORK_BY,
            settle_by: SETTLE_BY,
            salt: Salt([number; 32]),
        },
    }
}

pub(super) fn shard(number: u32) -> Shard {
    Shard { job: JobId([6; 32]), number }
}

/// A head that stands for a transcript; any bytes will do here.
pub(super) fn head(number: u64) -> TranscriptHead {
    let mut bytes = [0xee; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    TranscriptHead(bytes)
}

pub(super) const CLAIM: Claim = Claim {
    request_hash: ContentRoot([10; 32]),
    response_hash: ContentRoot([11; 32]),
    output_root: ContentRoot::ZERO,
    determinism_class: ContentRoot::ZERO,
    level: Level::Bound,
};

/// Both read back from what they are stored as, text and binary, so that every test goes through it.
pub(super) fn stored<T>(book: &T) -> T
where
    T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let text = serde_json::to_string(book).unwrap();
    let read: T = serde_json::from_str(&text).unwrap();
    assert_eq!(&read, book);
    postcard::from_bytes(&postcard::to_stdvec(book).unwrap()).unwrap()
}
