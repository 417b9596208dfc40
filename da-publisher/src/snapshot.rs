//! The signers of an epoch, frozen: their keys, their stakes, and how much stake is enough.
//!
//! Invariant: keys are distinct, stakes positive, and their number and sum within bounds, so that every
//! snapshot that exists has an assignment of rows. The order is the contract's, and decides bitmaps and rows.
//! Does not know where signers are reached.

use ashlar_rsema1d::Commitment;
use ashlar_rsema1d::Profile;
use ashlar_rsema1d::assign::{AssignError, Assignment, SIGNERS_MAX, assign};

use crate::bls::PublicKey;

/// One signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Its key; the contract made sure that its owner has the secret.
    pub key: PublicKey,
    /// Its stake, in the contract's unit.
    pub stake: u64,
}

/// All signers of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    epoch: u64,
    signers: Vec<Signer>,
    total_stake: u128,
}

impl Snapshot {
    /// The signers of `epoch` in the contract's order.
    pub fn new(epoch: u64, signers: Vec<Signer>) -> Result<Self, SnapshotError> {
        if signers.is_empty() || signers.len() > SIGNERS_MAX {
            return Err(SnapshotError::Signers { signers: signers.len() });
        }
        for (number, signer) in signers.iter().enumerate() {
            if signer.stake == 0 {
                return Err(SnapshotError::NoStake { signer: number });
            }
            if signers[..number].iter().any(|earlier| earlier.key == signer.key) {
                return Err(SnapshotError::RepeatedKey { signer: number });
            }
        }
        let total_stake = signers.iter().map(|signer| u128::from(signer.stake)).sum();
        Ok(Self { epoch, signers, total_stake })
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The signers, in order.
    pub fn signers(&self) -> &[Signer] {
        &self.signers
    }

    /// The place of a key.
    pub fn position(&self, key: &PublicKey) -> Option<usize> {
        self.signers.iter().position(|signer| signer.key == *key)
    }

    /// The sum of all stakes.
    pub fn total_stake(&self) -> u128 {
        self.total_stake
    }

    /// Whether these signers hold more than two thirds of the stake.
    pub fn is_quorum(&self, signers: &[usize]) -> bool {
        3 * self.stake_of(signers) > 2 * self.total_stake
    }

    /// The stake of these signers, none of whom may be named twice.
    pub fn stake_of(&self, signers: &[usize]) -> u128 {
        signers.iter().map(|signer| u128::from(self.signers[*signer].stake)).sum()
    }

    /// The profile that blobs have in this epoch.
    pub fn profile(&self) -> Profile {
        Profile::for_signers(self.signers.len())
    }

    /// Who holds which rows of a blob with this commitment.
    pub fn assignment(&self, profile: Profile, commitment: &Commitment) -> Result<Assignment, AssignError> {
        let stakes: Vec<u128> = self.signers.iter().map(|signer| u128::from(signer.stake)).collect();
        assign(profile, &stakes, commitment)
    }
}

/// These are no signers of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// None, or too many.
    #[error("{signers} signers; there must be 1 to {SIGNERS_MAX}")]
    Signers {
        /// As found.
        signers: usize,
    },
    /// A signer without stake.
    #[error("signer {signer} has no stake")]
    NoStake {
        /// Its place.
        signer: usize,
    },
    /// A key for the second time.
    #[error("signer {signer} has the key of an earlier one")]
    RepeatedKey {
        /// Its place.
        signer: usize,
    },
}
