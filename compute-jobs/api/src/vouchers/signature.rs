//! secp256k1 signatures in the compact form of EIP-2098, and keys that make them.
//!
//! Invariant: a signature that recovers here recovers the same address on the chain, and the other way round: s is in
//! the lower half, r and s are scalars that are not zero. A key signs a digest always alike (RFC 6979), so that signing
//! again after a crash is no second statement.

use std::fmt;

use k256::ecdsa::{RecoveryId, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bytes::{self, Address, Digest};
use crate::digest::keccak;

/// 64 bytes: r, then the parity of y in the highest bit and s in the others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);

/// Why a signature says nothing, or not what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// r or s is zero or not below the order.
    #[error("r or s is out of range")]
    OutOfRange,
    /// s is in the upper half of the order: the other form of the same signature, which nobody takes.
    #[error("s is in the upper half")]
    HighS,
    /// There is no key that made this signature of this digest.
    #[error("no key signs so")]
    NoKey,
    /// Another key signed this, or this key something else.
    #[error("{found} signed, not {expected}")]
    OtherKey {
        /// Who should have.
        expected: Address,
        /// Who did.
        found: Address,
    },
}

impl Signature {
    /// The address whose key signed the digest.
    pub fn recover(&self, digest: &Digest) -> Result<Address, SignatureError> {
        let mut scalars = self.0;
        let is_y_odd = scalars[32] & 0x80 != 0;
        scalars[32] &= 0x7f;
        let signature =
            k256::ecdsa::Signature::from_slice(&scalars).map_err(|_| SignatureError::OutOfRange)?;
        if signature.normalize_s().is_some() {
            return Err(SignatureError::HighS);
        }
        let key = VerifyingKey::recover_from_prehash(&digest.0, &signature, RecoveryId::new(is_y_odd, false));
        key.map(|key| address(&key)).map_err(|_| SignatureError::NoKey)
    }

    /// Whether the key of this address signed the digest.
    pub fn verify(&self, digest: &Digest, expected: Address) -> Result<(), SignatureError> {
        let found = self.recover(digest)?;
        if found == expected { Ok(()) } else { Err(SignatureError::OtherKey { expected, found }) }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        bytes::serialize(&self.0, to)
    }
}

impl<'a> Deserialize<'a> for Signature {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        bytes::deserialize(from).map(Self)
    }
}

/// A secret key: a lock's session key or a provider's signing key. Wiped when dropped, never shown.
#[derive(Clone)]
pub struct Key(SigningKey);

/// The secret is zero or not below the order of secp256k1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no secret key of secp256k1")]
pub struct KeyError;

impl Key {
    /// A key of 32 secret bytes, big-endian. Random ones are a key but for odds of 2⁻¹²⁸.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, KeyError> {
        SigningKey::from_slice(secret).map(Self).map_err(|_| KeyError)
    }

    /// Under which the chain knows the key.
    pub fn address(&self) -> Address {
        address(self.0.verifying_key())
    }

    /// Signs a digest; the same digest always gives the same bytes.
    pub fn sign(&self, digest: &Digest) -> Signature {
        let signed = self.0.sign_prehash_recoverable(&digest.0);
        // It fails where r or s comes out as zero, or r above the order: nobody has found such a digest.
        let (signature, recovery) = signed.expect("a digest whose r or s is zero is not known");
        let mut bytes: [u8; 64] = signature.to_bytes().into();
        if recovery.is_y_odd() {
            bytes[32] |= 0x80;
        }
        Signature(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key of {}", self.address())
    }
}

fn address(key: &VerifyingKey) -> Address {
    let point = key.to_encoded_point(false);
    // Behind the tag of an uncompressed point.
    let digest = keccak(&[&point.as_bytes()[1..]]);
    let mut address = [0; 20];
    address.copy_from_slice(&digest[12..]);
    Address(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// n, the order of secp256k1.
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba,
        0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
    ];

    fn key(byte: u8) -> Key {
        Key::from_secret(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_signature_is_of_one_key_and_one_digest() {
        for byte in 1..=20 {
            let (digest, other) = (Digest([byte; 32]), Digest([byte + 1; 32]));
            let signature = key(byte).sign(&digest);
            assert_eq!(signature, key(byte).sign(&digest), "signing again says nothing new");
            assert_eq!(signature.recover(&digest), Ok(key(byte).address()));
            assert_eq!(signature.verify(&digest, key(byte).address()), Ok(()));
            assert_ne!(signature.recover(&other), Ok(key(byte).address()));
            let wrong = signature.verify(&digest, key(byte + 1).address());
            let (expected, found) = (key(byte + 1).address(), key(byte).address());
            assert_eq!(wrong, Err(SignatureError::OtherKey { expected, found }));
            let mut flipped = signature;
            flipped.0[32] ^= 0x80;
            assert_ne!(flipped.recover(&digest), Ok(key(byte).address()), "the parity counts");
        }
    }

    #[test]
    fn the_other_half_of_s_is_refused() {
        let digest = Digest([9; 32]);
        let signature = key(3).sign(&digest);
        assert!(signature.recover(&digest).is_ok());
        // Half the order is just below 2²⁵⁵: half and half plus one, with the bit of the parity free.
        let half: [u8; 32] = hex::decode("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0")
            .unwrap()
            .try_into()
            .unwrap();
        let with = |s: [u8; 32]| {
            let mut bytes = signature.0;
            bytes[32..].copy_from_slice(&s);
            Signature(bytes).recover(&digest)
        };
        assert_ne!(with(half), Err(SignatureError::HighS));
        let mut above = half;
        above[31] += 1;
        assert_eq!(with(above), Err(SignatureError::HighS));
        let mut most = [0xff; 32];
        most[0] = 0x7f;
        assert_eq!(with(most), Err(SignatureError::HighS));
    }

    #[test]
    fn zeros_and_what_is_above_the_order_are_no_signature() {
        let digest = Digest([9; 32]);
        let good = key(3).sign(&digest);
        let cases = [([0; 32], true), ([0; 32], false), (ORDER, true), ([0xff; 32], true)];
        for (scalar, is_r) in cases {
            let mut bytes = good.0;
            let at = if is_r { 0 } else { 32 };
            bytes[at..at + 32].copy_from_slice(&scalar);
            assert_eq!(Signature(bytes).recover(&digest), Err(SignatureError::OutOfRange));
        }
        assert!(Key::from_secret(&[0; 32]).is_err());
        assert!(Key::from_secret(&ORDER).is_err());
        assert!(!format!("{:?}", key(0x5a)).contains("5a5a"));
    }
}
