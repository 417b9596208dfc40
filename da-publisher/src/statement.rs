//! What a signer says: that it holds its rows of this blob, for this header, until then.
//!
//! Owns the exact bytes that are signed; `docs/formats/rsema1d.md` §8 is their text. Invariant: every field is
//! of fixed width, so no two statements share bytes. Does not know curves.

use std::fmt;

use ashlar_rsema1d::{Commitment, Shape};

/// First bytes of every signed message.
const DOMAIN_TAG: &[u8; 12] = b"ASHLAR-DA-V1";

/// One published log, by keccak(chain id ‖ registry ‖ creator ‖ salt).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(pub [u8; 32]);

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({self})")
    }
}

/// The contract that judges signatures, on its chain. What is signed for one says nothing to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Domain {
    /// The chain's id.
    pub chain_id: u64,
    /// The address of the contract `DaQuorum`.
    pub verifier: [u8; 20],
}

/// What is dispersed, as its publisher names it. The pair (namespace, sequence) has one header for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dispersal {
    /// The log.
    pub namespace: Namespace,
    /// Place of the batch in the log; the first is 1.
    pub sequence: u64,
    /// Hash of the batch's header.
    pub header_hash: [u8; 32],
    /// Until when it must be kept, in Unix seconds.
    pub keep_until: u64,
}

/// Everything that a signature covers, but for the [`Domain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Statement {
    /// The epoch whose snapshot signs.
    pub epoch: u64,
    /// Namespace, sequence, header and time.
    pub dispersal: Dispersal,
    /// Commits to the blob.
    pub commitment: Commitment,
    /// Its rows and length.
    pub shape: Shape,
}

impl Statement {
    /// Bytes of a signed message.
    pub const MESSAGE_BYTES: usize = 180;

    /// The bytes that are hashed to the curve and signed:
    /// `"ASHLAR-DA-V1" ‖ chain id u64 ‖ verifier 20 ‖ epoch u64 ‖ namespace 32 ‖ sequence u64 ‖ header hash 32 ‖
    /// commitment 32 ‖ blob bytes u64 ‖ K u32 ‖ N u32 ‖ row bytes u32 ‖ keep until u64`.
    pub fn message(&self, domain: &Domain) -> [u8; Self::MESSAGE_BYTES] {
        let (dispersal, shape) = (&self.dispersal, self.shape);
        let fields: [&[u8]; 13] = [
            DOMAIN_TAG,
            &domain.chain_id.to_be_bytes(),
            &domain.verifier,
            &self.epoch.to_be_bytes(),
            &dispersal.namespace.0,
            &dispersal.sequence.to_be_bytes(),
            &dispersal.header_hash,
            &self.commitment.0,
            &shape.blob_bytes().to_be_bytes(),
            &shape.original_rows().to_be_bytes(),
            &shape.parity_rows().to_be_bytes(),
            &shape.row_bytes().to_be_bytes(),
            &dispersal.keep_until.to_be_bytes(),
        ];
        fields.concat().try_into().expect("the fields have 180 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_rsema1d::Profile;

    #[test]
    fn every_field_has_its_place() {
        let statement = Statement {
            epoch: 0x0102,
            dispersal: Dispersal {
                namespace: Namespace([0xaa; 32]),
                sequence: 7,
                header_hash: [0xbb; 32],
                keep_until: 0x6000_0000,
            },
            commitment: Commitment([0xcc; 32]),
            shape: Shape::new(Profile::Small, 1000).unwrap(),
        };
        let message = statement.message(&Domain { chain_id: 31_337, verifier: [0xdd; 20] });
        let expected = [
            hex::encode("ASHLAR-DA-V1"),
            "0000000000007a69".to_owned(),
            "dd".repeat(20),
            "0000000000000102".to_owned(),
            "aa".repeat(32),
            "0000000000000007".to_owned(),
            "bb".repeat(32),
            "cc".repeat(32),
            "00000000000003e8".to_owned(),
            "000000040000000c00000100".to_owned(),
            "0000000060000000".to_owned(),
        ];
        assert_eq!(hex::encode(message), expected.concat());
    }
}
