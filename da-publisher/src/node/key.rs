//! The node's secret on disk, sealed.
//!
//! Invariant: the secret is never on disk in clear, and a file that does not open is an error, never replaced
//! by a new key: the contract knows the old one. Does not know where the sealing secret comes from.
//!
//! The file: format (1) ‖ nonce (24, random) ‖ XChaCha20-Poly1305 ciphertext and tag (48).

use std::path::Path;

use ashlar_disk::Disk;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use rand::RngCore;
use zeroize::Zeroizing;

use super::{NodeError, file};
use crate::bls::SecretKey;

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;
const FILE: &str = "key";
const PURPOSE: &[u8] = b"ashlar da node key\0";

/// The key in `folder`, sealed under `secret`; a new one is made where there is none.
pub fn open_or_create_key(
    disk: &dyn Disk,
    folder: &Path,
    secret: &[u8; 32],
    rng: &mut dyn RngCore,
) -> Result<SecretKey, NodeError> {
    disk.create_dir_all(folder)?;
    let cipher = XChaCha20Poly1305::new(secret.into());
    if let Some(sealed) = file::read(disk, &folder.join(FILE))? {
        return unseal(&cipher, &sealed).ok_or(NodeError::Key);
    }
    let key = SecretKey::generate(rng);
    let mut nonce = [0; NONCE_BYTES];
    rng.fill_bytes(&mut nonce);
    let clear = key.to_bytes();
    let payload = Payload { msg: clear.as_ref(), aad: PURPOSE };
    let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload).expect("32 bytes can be sealed");
    file::replace(disk, folder, FILE, &[&[FORMAT], &nonce, &sealed])?;
    Ok(key)
}

fn unseal(cipher: &XChaCha20Poly1305, sealed: &[u8]) -> Option<SecretKey> {
    let (format, rest) = sealed.split_first()?;
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>()?;
    if *format != FORMAT {
        return None;
    }
    let payload = Payload { msg: ciphertext, aad: PURPOSE };
    let clear = Zeroizing::new(cipher.decrypt(XNonce::from_slice(nonce), payload).ok()?);
    SecretKey::from_bytes(clear.as_slice().try_into().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_disk::{CrashPlan, FaultyDisk};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn a_key_is_made_once_and_opens_with_its_secret_alone() {
        let disk = FaultyDisk::default();
        let folder = Path::new("/node");
        let open = |disk: &FaultyDisk, secret: u8, seed: u64| {
            open_or_create_key(disk, folder, &[secret; 32], &mut StdRng::seed_from_u64(seed))
        };
        let key = open(&disk, 1, 1).unwrap().public_key();
        let after = disk.crash(CrashPlan::LoseAll);
        assert_eq!(open(&after, 1, 2).unwrap().public_key(), key, "it survives a crash");
        assert!(matches!(open(&after, 2, 3), Err(NodeError::Key)));
        after.flip_bit(&folder.join(FILE), 300).unwrap();
        assert!(matches!(open(&after, 1, 4), Err(NodeError::Key)));
        let clear = open(&disk, 1, 5).unwrap().to_bytes();
        let on_disk = file::read(&disk, &folder.join(FILE)).unwrap().unwrap();
        assert!(!on_disk.windows(8).any(|window| window == &clear[..8]));
    }
}
