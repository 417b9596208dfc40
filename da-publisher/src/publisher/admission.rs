//! Who may take a place in a log at DA nodes: the holder of the log's own key, for exactly this dispersal.

use std::collections::BTreeMap;

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer, VerifyingKey};

use super::keys::NamespaceKeys;
use crate::node::Admission;
use crate::statement::{Dispersal, Namespace, Statement};

const DOMAIN: &[u8] = b"ASHLAR-DA-ADMISSION-V1";

fn message(dispersal: &Dispersal) -> Vec<u8> {
    let fields: [&[u8]; 5] = [
        DOMAIN,
        &dispersal.namespace.0,
        &dispersal.sequence.to_be_bytes(),
        &dispersal.header_hash,
        &dispersal.keep_until.to_be_bytes(),
    ];
    fields.concat()
}

/// What shows DA nodes that the publisher wants this dispersal.
pub fn authorize(keys: &NamespaceKeys, dispersal: &Dispersal) -> Bytes {
    Bytes::copy_from_slice(&keys.receipt_key().sign(&message(dispersal)).to_bytes())
}

/// Admits the publishers it knows.
#[derive(Clone, Debug, Default)]
pub struct PublisherAdmission {
    /// The key of each log.
    pub publishers: BTreeMap<Namespace, VerifyingKey>,
}

impl Admission for PublisherAdmission {
    fn admits(&self, statement: &Statement, authorization: &[u8]) -> bool {
        let key = self.publishers.get(&statement.dispersal.namespace);
        let signature = Signature::from_slice(authorization);
        key.zip(signature.ok()).is_some_and(|(key, signature)| {
            key.verify_strict(&message(&statement.dispersal), &signature).is_ok()
        })
    }
}
