//! A body on its way in: stored, then held against everything its client said about it.
//!
//! Nothing becomes visible unless every digest that was given matches. What does not match is left to GC.

use crate::Store;
use crate::data::{DigestRequest, StoredBlob};
use crate::error::Error;
use crate::requests::Payload;
use crate::types::{Checksum, ChecksumAlgorithm, ChecksumType};

/// A body that is stored and is what its client said.
pub(crate) struct Received {
    pub(crate) blob: StoredBlob,
    pub(crate) checksum: Option<Checksum>,
}

impl Store {
    /// Stores a body and verifies its digests. `limit` is in bytes.
    pub(crate) async fn receive(&self, payload: Payload, limit: u64) -> Result<Received, Error> {
        let Payload { stream, length, content_md5, content_sha256, checksum, trailing_checksum } = payload;
        if let Some(length) = length.filter(|length| *length > limit) {
            return Err(Error::TooLarge { length, limit });
        }
        let algorithm = checksum.as_ref().map(|(algorithm, _)| *algorithm);
        let request = DigestRequest { md5: true, checksum: algorithm, content_md5, content_sha256 };
        let blob = self.inner.data.write_blob(stream, length, limit, request).await?;
        let trailing = trailing_checksum.map(|ask| ask()).transpose()?.flatten();
        let checksum = match checksum {
            None => None,
            Some((algorithm, expected)) => {
                let value = blob
                    .checksum
                    .clone()
                    .ok_or_else(|| Error::internal("verifying a checksum", "it was not computed"))?;
                let expected = expected.or_else(|| {
                    trailing.filter(|(trailing, _)| *trailing == algorithm).map(|(_, value)| value)
                });
                if expected.is_some_and(|expected| expected != value) {
                    return Err(Error::ChecksumMismatch { algorithm });
                }
                Some(full(algorithm, value))
            }
        };
        Ok(Received { blob, checksum })
    }
}

fn full(algorithm: ChecksumAlgorithm, value: Vec<u8>) -> Checksum {
    Checksum { algorithm, kind: ChecksumType::FullObject, value, parts: None }
}
