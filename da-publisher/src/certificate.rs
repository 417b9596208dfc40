//! The certificate: a quorum's aggregate signature on a statement, as the contract reads it.
//!
//! Owns the encoding and the check that `DaQuorum` makes too. Invariant: [`Certificate::verify`] accepts only
//! what more than two thirds of the snapshot's stake signed for exactly this domain and dispersal. Does not know
//! whether the epoch is still current; the contract does.

use ashlar_rsema1d::{Commitment, Shape, ShapeError};

use crate::bls::{PublicKey, SIGNATURE_BYTES, Signature};
use crate::snapshot::Snapshot;
use crate::statement::{Dispersal, Domain, Statement};

/// The only version there is.
const VERSION: u16 = 1;
/// Bytes before the bitmap.
const FIXED_BYTES: usize = 70 + SIGNATURE_BYTES;

/// That a quorum of an epoch holds a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The epoch whose snapshot signed.
    pub epoch: u64,
    /// Commits to the blob.
    pub commitment: Commitment,
    /// Its rows and length.
    pub shape: Shape,
    /// Until when the signers keep it, in Unix seconds.
    pub keep_until: u64,
    /// The sum of the signers' signatures.
    pub signature: Signature,
    /// Who did not sign: one bit a signer in snapshot order, the first being the highest bit of byte 0; bits
    /// after the last signer are zero.
    pub non_signers: Vec<u8>,
}

impl Certificate {
    /// The certificate of those who signed; `None` if they are nobody, or signatures cancel out.
    pub(crate) fn assemble(
        statement: &Statement,
        signers: usize,
        signed: &[(usize, Signature)],
    ) -> Option<Self> {
        let mut non_signers = vec![0u8; signers.div_ceil(8)];
        (0..signers).for_each(|signer| non_signers[signer / 8] |= 0x80 >> (signer % 8));
        for (signer, _) in signed {
            non_signers[signer / 8] &= !(0x80 >> (signer % 8));
        }
        Some(Self {
            epoch: statement.epoch,
            commitment: statement.commitment,
            shape: statement.shape,
            keep_until: statement.dispersal.keep_until,
            signature: Signature::sum(signed.iter().map(|(_, signature)| signature))?,
            non_signers,
        })
    }

    /// `version u16 ‖ epoch u64 ‖ commitment 32 ‖ blob bytes u64 ‖ K u32 ‖ N u32 ‖ row bytes u32 ‖
    /// keep until u64 ‖ signature 128 ‖ bitmap`.
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            &VERSION.to_be_bytes()[..],
            &self.epoch.to_be_bytes(),
            &self.commitment.0,
            &self.shape.blob_bytes().to_be_bytes(),
            &self.shape.original_rows().to_be_bytes(),
            &self.shape.parity_rows().to_be_bytes(),
            &self.shape.row_bytes().to_be_bytes(),
            &self.keep_until.to_be_bytes(),
            &self.signature.to_bytes(),
            &self.non_signers,
        ]
        .concat()
    }

    /// Reads what [`Certificate::to_bytes`] wrote. Whether anybody signed it, [`Certificate::verify`] says.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() < FIXED_BYTES {
            return Err(CertificateError::Length { bytes: bytes.len() });
        }
        let (fixed, non_signers) = bytes.split_at(FIXED_BYTES);
        let version = u16::from_be_bytes([fixed[0], fixed[1]]);
        if version != VERSION {
            return Err(CertificateError::Version { version });
        }
        let long = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| fixed[at + i]));
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| fixed[at + i]));
        let signature: [u8; SIGNATURE_BYTES] = fixed[70..].try_into().expect("128 bytes follow the fields");
        Ok(Self {
            epoch: long(2),
            commitment: Commitment(std::array::from_fn(|i| fixed[10 + i])),
            shape: Shape::from_parts(word(50), word(54), word(58), long(42))?,
            keep_until: long(62),
            signature: Signature::from_bytes(&signature).map_err(|_| CertificateError::Signature)?,
            non_signers: non_signers.to_vec(),
        })
    }

    /// What the signers of this certificate said about a dispersal.
    pub fn statement(&self, dispersal: &Dispersal) -> Statement {
        let dispersal = Dispersal { keep_until: self.keep_until, ..*dispersal };
        Statement { epoch: self.epoch, dispersal, commitment: self.commitment, shape: self.shape }
    }

    /// The places of the signers, if the bitmap is one of this snapshot.
    pub fn signers(&self, snapshot: &Snapshot) -> Result<Vec<usize>, CertificateError> {
        let count = snapshot.signers().len();
        let is_set = |place: usize| self.non_signers[place / 8] & (0x80 >> (place % 8)) != 0;
        if self.non_signers.len() != count.div_ceil(8) || (count..8 * self.non_signers.len()).any(is_set) {
            return Err(CertificateError::Bitmap);
        }
        Ok((0..count).filter(|place| !is_set(*place)).collect())
    }

    /// Checks it as the contract does, but for the epoch being current. About 1 ms.
    pub fn verify(
        &self,
        domain: &Domain,
        dispersal: &Dispersal,
        snapshot: &Snapshot,
    ) -> Result<(), CertificateError> {
        if snapshot.epoch() != self.epoch {
            return Err(CertificateError::Epoch { certificate: self.epoch, snapshot: snapshot.epoch() });
        }
        let signers = self.signers(snapshot)?;
        if !snapshot.is_quorum(&signers) {
            let signed = snapshot.stake_of(&signers);
            return Err(CertificateError::Quorum { signed, total: snapshot.total_stake() });
        }
        let key = PublicKey::sum(signers.iter().map(|signer| &snapshot.signers()[*signer].key));
        let message = self.statement(dispersal).message(domain);
        match key {
            Some(key) if key.verifies(&message, &self.signature) => Ok(()),
            _ => Err(CertificateError::Signature),
        }
    }
}

/// No certificate, or none for this dispersal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Shorter than its fixed fields.
    #[error("a certificate of {bytes} bytes")]
    Length {
        /// As found.
        bytes: usize,
    },
    /// Another version.
    #[error("certificate version {version}, expected {VERSION}")]
    Version {
        /// As found.
        version: u16,
    },
    /// Rows and lengths that do not belong together.
    #[error("the certificate has no valid shape: {0}")]
    Shape(#[from] ShapeError),
    /// Of another epoch than the snapshot.
    #[error("a certificate of epoch {certificate} held against the snapshot of {snapshot}")]
    Epoch {
        /// The certificate's.
        certificate: u64,
        /// The snapshot's.
        snapshot: u64,
    },
    /// The bitmap has another length than the snapshot demands, or bits past its end.
    #[error("the bitmap of non-signers does not fit the snapshot")]
    Bitmap,
    /// Too little stake signed.
    #[error("stake {signed} of {total} signed; more than two thirds are needed")]
    Quorum {
        /// Stake of those who signed.
        signed: u128,
        /// Stake of all.
        total: u128,
    },
    /// The signature is no point, or not theirs on this statement.
    #[error("the signature is not that of the signers on this statement")]
    Signature,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bls::SecretKey;
    use crate::snapshot::Signer;
    use crate::statement::Namespace;
    use ashlar_rsema1d::Profile;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const DOMAIN: Domain = Domain { chain_id: 31_337, verifier: [3; 20] };

    fn setup(stakes: &[u64]) -> (Vec<SecretKey>, Snapshot, Statement) {
        let mut rng = StdRng::seed_from_u64(11);
        let keys: Vec<SecretKey> = stakes.iter().map(|_| SecretKey::generate(&mut rng)).collect();
        let signers = keys
            .iter()
            .zip(stakes)
            .map(|(key, stake)| Signer { key: key.public_key(), stake: *stake })
            .collect();
        let dispersal = Dispersal {
            namespace: Namespace([1; 32]),
            sequence: 5,
            header_hash: [2; 32],
            keep_until: 1_900_000_000,
        };
        let statement = Statement {
            epoch: 4,
            dispersal,
            commitment: Commitment([9; 32]),
            shape: Shape::new(Profile::Small, 5000).unwrap(),
        };
        (keys, Snapshot::new(4, signers).unwrap(), statement)
    }

    fn certify(keys: &[SecretKey], statement: &Statement, who: &[usize]) -> Certificate {
        let message = statement.message(&DOMAIN);
        let signed: Vec<(usize, Signature)> = who.iter().map(|i| (*i, keys[*i].sign(&message))).collect();
        Certificate::assemble(statement, keys.len(), &signed).unwrap()
    }

    #[test]
    fn more_than_two_thirds_are_enough_and_two_thirds_are_not() {
        let (keys, snapshot, statement) = setup(&[10, 10, 10, 1]);
        let verify =
            |who: &[usize]| certify(&keys, &statement, who).verify(&DOMAIN, &statement.dispersal, &snapshot);
        assert_eq!(verify(&[0, 1, 2, 3]), Ok(()));
        assert_eq!(verify(&[0, 2, 3]), Ok(()));
        assert_eq!(verify(&[0, 1]), Err(CertificateError::Quorum { signed: 20, total: 31 }));
        let (keys, snapshot, statement) = setup(&[10, 10, 10]);
        let two = certify(&keys, &statement, &[0, 1]).verify(&DOMAIN, &statement.dispersal, &snapshot);
        assert_eq!(two, Err(CertificateError::Quorum { signed: 20, total: 30 }));
    }

    #[test]
    fn it_is_good_for_one_dispersal_in_one_domain() {
        let (keys, snapshot, statement) = setup(&[1; 9]);
        let certificate = certify(&keys, &statement, &[0, 1, 2, 3, 5, 6, 8]);
        let dispersal = statement.dispersal;
        assert_eq!(certificate.verify(&DOMAIN, &dispersal, &snapshot), Ok(()));
        let elsewhere = [Domain { chain_id: 1, ..DOMAIN }, Domain { verifier: [4; 20], ..DOMAIN }];
        for domain in elsewhere {
            let error = certificate.verify(&domain, &dispersal, &snapshot);
            assert_eq!(error, Err(CertificateError::Signature), "{domain:?}");
        }
        let others = [
            Dispersal { sequence: 6, ..dispersal },
            Dispersal { namespace: Namespace([7; 32]), ..dispersal },
            Dispersal { header_hash: [7; 32], ..dispersal },
        ];
        for other in others {
            let error = certificate.verify(&DOMAIN, &other, &snapshot);
            assert_eq!(error, Err(CertificateError::Signature), "{other:?}");
        }
        let later = Snapshot::new(5, snapshot.signers().to_vec()).unwrap();
        assert!(matches!(
            certificate.verify(&DOMAIN, &dispersal, &later),
            Err(CertificateError::Epoch { .. })
        ));
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let (keys, snapshot, statement) = setup(&[1; 9]);
        let bytes = certify(&keys, &statement, &[0, 1, 2, 3, 4, 5, 8]).to_bytes();
        assert_eq!(bytes.len(), 198 + 2);
        assert_eq!(bytes[198..], [0b0000_0011, 0]);
        assert_eq!(Certificate::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 0x80 >> (bit % 8);
            let outcome = Certificate::from_bytes(&other)
                .and_then(|other| other.verify(&DOMAIN, &statement.dispersal, &snapshot));
            assert!(outcome.is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            let outcome = Certificate::from_bytes(&bytes[..len])
                .and_then(|short| short.verify(&DOMAIN, &statement.dispersal, &snapshot));
            assert!(outcome.is_err(), "{len} bytes");
        }
        let longer = Certificate::from_bytes(&[bytes, vec![0]].concat()).unwrap();
        let outcome = longer.verify(&DOMAIN, &statement.dispersal, &snapshot);
        assert_eq!(outcome, Err(CertificateError::Bitmap));
    }
}
