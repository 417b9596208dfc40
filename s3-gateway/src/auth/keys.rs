//! Derived signing keys, kept so that a request costs one HMAC and not five.
//!
//! Invariant: a kept key is used only with the very secret, date and region it was derived from, so a
//! changed secret takes effect at once. Bounded in entries; secrets are wiped when dropped.

use std::collections::HashMap;
use std::sync::Arc;

use ashlar_objects::users::SecretKey;
use parking_lot::RwLock;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::auth::credential::Credential;
use crate::auth::sigv4;

/// Most access keys whose signing key is kept.
const ENTRIES_MAX: usize = 4096;

struct Entry {
    date: String,
    region: String,
    secret: SecretKey,
    key: Zeroizing<[u8; 32]>,
}

/// Signing keys by access key.
#[derive(Default)]
pub(super) struct SigningKeys(RwLock<HashMap<String, Arc<Entry>>>);

impl SigningKeys {
    /// The signing key of a credential whose secret is known.
    pub(super) fn derive(&self, credential: &Credential<'_>, secret: &SecretKey) -> Zeroizing<[u8; 32]> {
        let kept = self.0.read().get(credential.access_key).cloned();
        if let Some(entry) = kept
            && entry.date == credential.date
            && entry.region == credential.region
            && bool::from(entry.secret.expose().as_bytes().ct_eq(secret.expose().as_bytes()))
        {
            return entry.key.clone();
        }
        let key = Zeroizing::new(sigv4::signing_key(
            secret.expose(),
            credential.date,
            credential.region,
            credential.service,
        ));
        let entry = Entry {
            date: credential.date.to_owned(),
            region: credential.region.to_owned(),
            secret: secret.clone(),
            key: key.clone(),
        };
        let mut entries = self.0.write();
        if entries.len() >= ENTRIES_MAX && !entries.contains_key(credential.access_key) {
            entries.clear();
        }
        entries.insert(credential.access_key.to_owned(), Arc::new(entry));
        key
    }
}
