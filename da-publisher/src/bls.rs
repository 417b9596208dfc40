//! Signatures over BLS12-381: signatures in G1, keys in G2, and their encodings on the chain.
//!
//! A thin skin over `blst` (`min_sig`). Invariant: a [`PublicKey`] or [`Signature`] that exists is a point of
//! its prime-order subgroup and not infinity; sums of keys that cancel out are refused. Points are encoded as
//! EIP-2537 has them: coordinates of 64 bytes, the first 16 zero; of a quadratic coordinate the real part first.
//! Hashing to the curve is RFC 9380's `BLS12381G1_XMD:SHA-256_SSWU_RO_`, held against its vectors. Does not know
//! what is signed.

use std::fmt;

use blst::BLST_ERROR;
use blst::min_sig;
use rand::RngCore;
use zeroize::Zeroizing;

use crate::statement::Domain;

/// Separates signatures of rows held from everything else.
pub const SIGNATURE_TAG: &[u8] = b"ASHLAR-DA-SIG-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";
/// Separates proofs of possession from everything else.
pub const POSSESSION_TAG: &[u8] = b"ASHLAR-DA-POP-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";
/// First bytes of the message of a proof of possession.
const POSSESSION_DOMAIN: &[u8] = b"ASHLAR-DA-POP-V1";
/// Bytes of an encoded signature.
pub const SIGNATURE_BYTES: usize = 128;
/// Bytes of an encoded key.
pub const KEY_BYTES: usize = 256;
/// Bytes of a coordinate's part in `blst`'s encoding.
const FIELD_BYTES: usize = 48;

/// No point of the subgroup, infinity, or not encoded as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the encoding of a point of the group other than infinity")]
pub struct PointError;

/// A signer's secret. Wiped when dropped.
#[derive(Clone)]
pub struct SecretKey(min_sig::SecretKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl SecretKey {
    /// Bytes of an encoded secret.
    pub const BYTES: usize = 32;

    /// A new secret from 32 random bytes, by the key derivation of the BLS draft.
    pub fn generate(rng: &mut dyn RngCore) -> Self {
        let mut material = Zeroizing::new([0; 32]);
        rng.fill_bytes(material.as_mut());
        Self::derive(&material)
    }

    /// The secret that comes from 32 secret bytes, by the key derivation of the BLS draft; the same for the same bytes.
    pub fn derive(material: &[u8; 32]) -> Self {
        Self(min_sig::SecretKey::key_gen(material, &[]).expect("the material has 32 bytes"))
    }

    /// The secret of these bytes, unless they are zero or no scalar.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, PointError> {
        min_sig::SecretKey::from_bytes(bytes).map(Self).map_err(|_| PointError)
    }

    /// The scalar, big-endian.
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::BYTES]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Its key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.sk_to_pk())
    }

    /// Signs under [`SIGNATURE_TAG`]. About 0.3 ms.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message, SIGNATURE_TAG, &[]))
    }

    /// Shows to the contract in this domain that whoever registers the key has its secret:
    /// a signature under [`POSSESSION_TAG`] on `"ASHLAR-DA-POP-V1" ‖ chain id u64 ‖ verifier 20 ‖ key 256`.
    pub fn prove_possession(&self, domain: &Domain) -> Signature {
        Signature(self.0.sign(&possession_message(domain, &self.public_key()), POSSESSION_TAG, &[]))
    }
}

fn possession_message(domain: &Domain, key: &PublicKey) -> Vec<u8> {
    [POSSESSION_DOMAIN, &domain.chain_id.to_be_bytes(), &domain.verifier, &key.to_bytes()].concat()
}

/// A signer's key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(min_sig::PublicKey);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex::encode(self.0.compress()))
    }
}

impl PublicKey {
    /// The key as EIP-2537 encodes G2: x real, x imaginary, y real, y imaginary.
    pub fn to_bytes(&self) -> [u8; KEY_BYTES] {
        let serialized = self.0.serialize();
        let (parts, _) = serialized.as_chunks::<FIELD_BYTES>();
        // blst puts imaginary parts first.
        let order = [parts[1], parts[0], parts[3], parts[2]];
        pad(&order).try_into().expect("four parts of 64 bytes")
    }

    /// Reads what [`PublicKey::to_bytes`] wrote, and nothing else. Checks the subgroup: about 0.2 ms.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Result<Self, PointError> {
        let parts = unpad(bytes)?;
        let serialized = [parts[1], parts[0], parts[3], parts[2]].concat();
        let key = min_sig::PublicKey::deserialize(&serialized).map_err(|_| PointError)?;
        key.validate().map_err(|_| PointError)?;
        Ok(Self(key))
    }

    /// Whether `signature` is this key's on `message`. About 1 ms.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.verifies_under(message, SIGNATURE_TAG, signature)
    }

    /// Whether `proof` shows possession of this key's secret to the contract in this domain.
    pub fn possession_is_proven(&self, domain: &Domain, proof: &Signature) -> bool {
        self.verifies_under(&possession_message(domain, self), POSSESSION_TAG, proof)
    }

    fn verifies_under(&self, message: &[u8], tag: &[u8], signature: &Signature) -> bool {
        signature.0.verify(false, message, tag, &[], &self.0, false) == BLST_ERROR::BLST_SUCCESS
    }

    /// The sum of keys; `None` if there are none or they cancel out.
    pub fn sum<'a>(keys: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let keys: Vec<&min_sig::PublicKey> = keys.into_iter().map(|key| &key.0).collect();
        let sum = min_sig::AggregatePublicKey::aggregate(&keys, false).ok()?.to_public_key();
        sum.validate().ok().map(|()| Self(sum))
    }
}

/// A signature, or a sum of such.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(min_sig::Signature);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(self.0.compress()))
    }
}

impl Signature {
    /// The signature as EIP-2537 encodes G1: x, y.
    pub fn to_bytes(&self) -> [u8; SIGNATURE_BYTES] {
        let serialized = self.0.serialize();
        pad(serialized.as_chunks::<FIELD_BYTES>().0).try_into().expect("two parts of 64 bytes")
    }

    /// Reads what [`Signature::to_bytes`] wrote, and nothing else. Checks the subgroup.
    pub fn from_bytes(bytes: &[u8; SIGNATURE_BYTES]) -> Result<Self, PointError> {
        let serialized = unpad(bytes)?.concat();
        let signature = min_sig::Signature::deserialize(&serialized).map_err(|_| PointError)?;
        signature.validate(true).map_err(|_| PointError)?;
        Ok(Self(signature))
    }

    /// The sum of signatures; `None` if there are none or they cancel out.
    pub fn sum<'a>(signatures: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let signatures: Vec<&min_sig::Signature> = signatures.into_iter().map(|one| &one.0).collect();
        let sum = min_sig::AggregateSignature::aggregate(&signatures, false).ok()?.to_signature();
        sum.validate(true).ok().map(|()| Self(sum))
    }
}

fn pad(parts: &[[u8; FIELD_BYTES]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [[0; 16].as_slice(), part].concat()).collect()
}

fn unpad(bytes: &[u8]) -> Result<Vec<[u8; FIELD_BYTES]>, PointError> {
    let (words, _) = bytes.as_chunks::<64>();
    words
        .iter()
        .map(|word| {
            let (zeros, part) = word.split_first_chunk::<16>().expect("64 bytes");
            // The top three bits are flags of blst's encoding and never set in a coordinate.
            let is_valid = *zeros == [0; 16] && part[0] & 0xe0 == 0;
            is_valid.then(|| part.try_into().expect("48 bytes are left")).ok_or(PointError)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn key(seed: u64) -> SecretKey {
        SecretKey::generate(&mut StdRng::seed_from_u64(seed))
    }

    /// RFC 9380 appendix J.9.1: the signature of the secret 1 is the hash itself.
    #[test]
    fn hashing_to_the_curve_is_that_of_rfc_9380() {
        let tag = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";
        let mut one = [0; 32];
        one[31] = 1;
        let one = SecretKey::from_bytes(&one).unwrap();
        let vectors = [
            (
                String::new(),
                "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1",
                "08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265",
            ),
            (
                "abc".to_owned(),
                "03567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903",
                "0b9c15f3fe6e5cf4211f346271d7b01c8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d",
            ),
            (
                "abcdef0123456789".to_owned(),
                "11e0b079dea29a68f0383ee94fed1b940995272407e3bb916bbf268c263ddd57a6a27200a784cbc248e84f357ce82d98",
                "03a87ae2caf14e8ee52e51fa2ed8eefe80f02457004ba4d486d6aa1f517c0889501dc7413753f9599b099ebcbbd2d709",
            ),
            (
                format!("q128_{}", "q".repeat(128)),
                "15f68eaa693b95ccb85215dc65fa81038d69629f70aeee0d0f677cf22285e7bf58d7cb86eefe8f2e9bc3f8cb84fac488",
                "1807a1d50c29f430b8cafc4f8638dfeeadf51211e1602a5f184443076715f91bb90a48ba1e370edce6ae1062f5e6dd38",
            ),
            (
                format!("a512_{}", "a".repeat(512)),
                "082aabae8b7dedb0e78aeb619ad3bfd9277a2f77ba7fad20ef6aabdc6c31d19ba5a6d12283553294c1825c4b3ca2dcfe",
                "05b84ae5a942248eea39e1d91030458c40153f3b654ab7872d779ad1e942856a20c438e8d99bc8abfbf74729ce1f7ac8",
            ),
        ];
        for (message, x, y) in vectors {
            let hash = Signature(one.0.sign(message.as_bytes(), tag, &[])).to_bytes();
            assert_eq!(hex::encode(&hash[16..64]), x, "{message:.10}");
            assert_eq!(hex::encode(&hash[80..]), y, "{message:.10}");
            assert_eq!((&hash[..16], &hash[64..80]), ([0; 16].as_slice(), [0; 16].as_slice()));
        }
    }

    /// A signer and a message as the contracts' own tools made them, with another implementation of the curve.
    #[test]
    fn keys_proofs_and_signatures_are_those_of_the_contracts() {
        let text = include_str!("../../docs/formats/vectors/da_signature.json");
        let vector: serde_json::Value = serde_json::from_str(text).unwrap();
        let bytes = |name: &str| hex::decode(vector[name].as_str().unwrap()).unwrap();
        let secret = SecretKey::from_bytes(&bytes("secret").try_into().unwrap()).unwrap();
        let verifier = bytes("verifier").try_into().unwrap();
        let domain = Domain { chain_id: vector["chain_id"].as_u64().unwrap(), verifier };
        let key = secret.public_key();
        assert_eq!(key.to_bytes().to_vec(), bytes("key"));
        assert_eq!(possession_message(&domain, &key), bytes("possession_message"));
        assert_eq!(secret.prove_possession(&domain).to_bytes().to_vec(), bytes("proof_of_possession"));
        assert_eq!(bytes("message").len(), crate::statement::Statement::MESSAGE_BYTES);
        assert_eq!(secret.sign(&bytes("message")).to_bytes().to_vec(), bytes("signature"));
    }

    /// The generator of G2 in EIP-2537's order of coordinates.
    #[test]
    fn keys_are_encoded_as_eip_2537_has_them() {
        let mut one = [0; 32];
        one[31] = 1;
        let generator = SecretKey::from_bytes(&one).unwrap().public_key().to_bytes();
        let real = "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8";
        let imaginary = "13e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e";
        assert_eq!(hex::encode(&generator[16..64]), real);
        assert_eq!(hex::encode(&generator[80..128]), imaginary);
        assert_eq!(PublicKey::from_bytes(&generator).unwrap().to_bytes(), generator);
    }

    #[test]
    fn only_the_signer_signs_only_what_it_signed() {
        let (one, other) = (key(1), key(2));
        let signature = one.sign(b"message");
        assert!(one.public_key().verifies(b"message", &signature));
        assert!(!one.public_key().verifies(b"another", &signature));
        assert!(!other.public_key().verifies(b"message", &signature));
        let sum = Signature::sum([&signature, &other.sign(b"message")]).unwrap();
        let keys = PublicKey::sum([&one.public_key(), &other.public_key()]).unwrap();
        assert!(keys.verifies(b"message", &sum));
        assert!(!one.public_key().verifies(b"message", &sum));
        assert!(PublicKey::sum([]).is_none() && Signature::sum([]).is_none());
    }

    #[test]
    fn possession_is_proven_for_one_key_and_contract() {
        let domain = Domain { chain_id: 1, verifier: [1; 20] };
        let proof = key(1).prove_possession(&domain);
        assert!(key(1).public_key().possession_is_proven(&domain, &proof));
        assert!(!key(2).public_key().possession_is_proven(&domain, &proof));
        assert!(!key(1).public_key().possession_is_proven(&Domain { chain_id: 2, ..domain }, &proof));
        // A proof is no signature and a signature no proof, even on the same bytes.
        let message = possession_message(&domain, &key(1).public_key());
        assert!(!key(1).public_key().verifies(&message, &proof));
        assert!(!key(1).public_key().possession_is_proven(&domain, &key(1).sign(&message)));
    }

    #[test]
    fn foreign_points_are_refused() {
        let signature = key(1).sign(b"message").to_bytes();
        assert_eq!(Signature::from_bytes(&signature).unwrap().to_bytes(), signature);
        for bit in 0..signature.len() * 8 {
            let mut other = signature;
            other[bit / 8] ^= 1 << (7 - bit % 8);
            assert_eq!(Signature::from_bytes(&other), Err(PointError), "bit {bit}");
        }
        assert_eq!(Signature::from_bytes(&[0; SIGNATURE_BYTES]), Err(PointError), "infinity");
        assert_eq!(PublicKey::from_bytes(&[0; KEY_BYTES]), Err(PointError), "infinity");
        let key = key(1).public_key().to_bytes();
        for bit in (0..key.len() * 8).step_by(13) {
            let mut other = key;
            other[bit / 8] ^= 1 << (7 - bit % 8);
            assert_eq!(PublicKey::from_bytes(&other), Err(PointError), "bit {bit}");
        }
        // On the curve y² = x³ + 4 but outside the subgroup: x = 0, y = 2.
        let mut outside = [0; SIGNATURE_BYTES];
        outside[127] = 2;
        assert_eq!(Signature::from_bytes(&outside), Err(PointError));
        assert!(SecretKey::from_bytes(&[0; 32]).is_err() && SecretKey::from_bytes(&[0xff; 32]).is_err());
    }

    #[test]
    fn keys_that_cancel_out_have_no_sum() {
        // r - 1 is the negative of 1 in the scalar field.
        let negative =
            hex::decode("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000000").unwrap();
        let negative = SecretKey::from_bytes(&negative.try_into().unwrap()).unwrap();
        let mut one = [0; 32];
        one[31] = 1;
        let one = SecretKey::from_bytes(&one).unwrap();
        assert!(PublicKey::sum([&one.public_key(), &negative.public_key()]).is_none());
        assert!(Signature::sum([&one.sign(b"m"), &negative.sign(b"m")]).is_none());
    }
}
