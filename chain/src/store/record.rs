//! The record of one key and its bytes.
//!
//! ```text
//! magic "ASHLTXS1" ‖ fence u64 ‖ length u32 ‖ RLP of the record ‖ keccak256 of everything before
//! ```
//!
//! Invariant: what decodes is consistent: intents have nonces of their own below the next one, and every attempt of
//! an intent carries bytes. Deliberately knows nothing of files.

use std::collections::BTreeSet;

use alloy_primitives::{B256, Bytes, U256, keccak256};
use alloy_rlp::{RlpDecodable, RlpEncodable};

use super::Fence;

const MAGIC: [u8; 8] = *b"ASHLTXS1";
const HEAD_BYTES: usize = 20;
const DIGEST_BYTES: usize = 32;
/// More than the limits of [`KeyRecord`] can give.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Everything about one key's transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct KeyRecord {
    /// No transaction with this or a later nonce was ever signed.
    pub next_nonce: u64,
    /// What was to be done, oldest first, until it is forgotten.
    pub intents: Vec<Intent>,
}

/// Something to be done on the chain exactly once.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Intent {
    /// Idempotency key: who asks for it again gets this one.
    pub id: B256,
    /// Its nonce, for ever.
    pub nonce: u64,
    /// Called contract, 20 bytes; empty to create one.
    pub to: Bytes,
    /// Wei sent along.
    pub value: U256,
    /// Call data or creation code.
    pub data: Bytes,
    /// Gas it may use.
    pub gas_limit: u64,
    /// What was signed for it, each dearer than the one before; any of them may be in a block.
    pub attempts: Vec<Attempt>,
}

/// One signed transaction.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Attempt {
    /// Its hash.
    pub hash: B256,
    /// Wei a gas at most.
    pub max_fee_wei: u128,
    /// Wei a gas for the producer at most.
    pub tip_wei: u128,
    /// As it is sent (EIP-2718).
    pub encoded: Bytes,
}

/// What is wrong with stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Too short, too long, or of something else.
    #[error("it is no record of transactions")]
    Frame,
    /// The digest is of other bytes.
    #[error("its digest does not match")]
    Digest,
    /// The RLP inside does not decode.
    #[error("its contents do not decode")]
    Contents,
    /// Two intents share a nonce or id, a nonce is not below the next one, or bytes are missing.
    #[error("its contents contradict each other")]
    Contradiction,
}

impl KeyRecord {
    /// The intent with this idempotency key.
    pub fn intent(&self, id: B256) -> Option<&Intent> {
        self.intents.iter().find(|intent| intent.id == id)
    }

    pub(crate) fn intent_mut(&mut self, id: B256) -> Option<&mut Intent> {
        self.intents.iter_mut().find(|intent| intent.id == id)
    }

    /// Bytes of the record under a fence.
    pub fn encode(&self, fence: Fence) -> Vec<u8> {
        let contents = alloy_rlp::encode(self);
        let length = u32::try_from(contents.len()).expect("a record is far below 4 GiB");
        let mut bytes = Vec::with_capacity(HEAD_BYTES + contents.len() + DIGEST_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&fence.0.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&contents);
        bytes.extend_from_slice(keccak256(&bytes).as_slice());
        bytes
    }

    /// The record that [`KeyRecord::encode`] gave these bytes for, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<(Fence, Self), RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::Frame);
        }
        let body = bytes.len().checked_sub(DIGEST_BYTES).ok_or(RecordError::Frame)?;
        let (body, digest) = bytes.split_at(body);
        let (head, mut contents) = body.split_at_checked(HEAD_BYTES).ok_or(RecordError::Frame)?;
        let (magic, rest) = head.split_at(8);
        let (fence, length) = rest.split_at(8);
        let length = u32::from_be_bytes(length.try_into().expect("four bytes were cut"));
        if magic != MAGIC || usize::try_from(length) != Ok(contents.len()) {
            return Err(RecordError::Frame);
        }
        if keccak256(body) != digest {
            return Err(RecordError::Digest);
        }
        let fence = Fence(u64::from_be_bytes(fence.try_into().expect("eight bytes were cut")));
        let record = Self::decode_contents(&mut contents)?;
        Ok((fence, record))
    }

    fn decode_contents(contents: &mut &[u8]) -> Result<Self, RecordError> {
        let record = <Self as alloy_rlp::Decodable>::decode(contents).map_err(|_| RecordError::Contents)?;
        if !contents.is_empty() {
            return Err(RecordError::Contents);
        }
        let (mut nonces, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for intent in &record.intents {
            let whole = intent.nonce < record.next_nonce
                && nonces.insert(intent.nonce)
                && ids.insert(intent.id)
                && matches!(intent.to.len(), 0 | 20)
                && !intent.attempts.is_empty()
                && intent.attempts.iter().all(|attempt| keccak256(&attempt.encoded) == attempt.hash);
            if !whole {
                return Err(RecordError::Contradiction);
            }
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = KeyRecord> {
        let attempt = (any::<u128>(), any::<u128>(), prop::collection::vec(any::<u8>(), 1..60)).prop_map(
            |(max_fee_wei, tip_wei, encoded)| Attempt {
                hash: keccak256(&encoded),
                max_fee_wei,
                tip_wei,
                encoded: encoded.into(),
            },
        );
        let intent = (any::<bool>(), any::<u128>(), any::<u64>(), prop::collection::vec(attempt, 1..4));
        prop::collection::vec(intent, 0..5).prop_map(|intents| KeyRecord {
            next_nonce: 7 + intents.len() as u64,
            intents: (7..)
                .zip(intents)
                .map(|(nonce, (creates, value, gas_limit, attempts))| Intent {
                    id: keccak256(u64::to_be_bytes(nonce)),
                    nonce,
                    to: if creates { Bytes::new() } else { vec![3; 20].into() },
                    value: U256::from(value),
                    data: vec![9; 33].into(),
                    gas_limit,
                    attempts,
                })
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same_and_any_change_is_seen(
            record in records(), fence in any::<u64>(), at in any::<prop::sample::Index>(), bit in 0..8u8
        ) {
            let bytes = record.encode(Fence(fence));
            prop_assert_eq!(KeyRecord::decode(&bytes), Ok((Fence(fence), record)));
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(KeyRecord::decode(&changed).is_err());
            prop_assert!(KeyRecord::decode(&bytes[..at.index(bytes.len())]).is_err());
            prop_assert!(KeyRecord::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(KeyRecord::decode(&bytes).is_err());
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let attempt = Attempt { hash: keccak256([1]), max_fee_wei: 1, tip_wei: 1, encoded: vec![1].into() };
        let intent = Intent {
            id: B256::ZERO,
            nonce: 0,
            to: Bytes::new(),
            value: U256::ZERO,
            data: Bytes::new(),
            gas_limit: 1,
            attempts: vec![attempt],
        };
        let twice = KeyRecord {
            next_nonce: 2,
            intents: vec![intent.clone(), Intent { id: B256::repeat_byte(1), ..intent.clone() }],
        };
        let beyond = KeyRecord { next_nonce: 0, intents: vec![intent.clone()] };
        let empty = KeyRecord { next_nonce: 1, intents: vec![Intent { attempts: vec![], ..intent }] };
        for record in [twice, beyond, empty] {
            assert_eq!(KeyRecord::decode(&record.encode(Fence(0))), Err(RecordError::Contradiction));
        }
    }
}
