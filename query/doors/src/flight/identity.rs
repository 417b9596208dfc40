//! Who calls: HTTP Basic with an access key and its secret, or a token that was given for them.
//!
//! Invariant: an unknown key, a wrong secret and a token that is no good get one answer, no sooner than
//! [`REFUSAL_DELAY`] after they came.

use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataMap;
use zeroize::Zeroizing;

use super::sealing::Sealing;
use super::status;
use crate::credentials::{Doorkeeper, Proven};

/// When a refusal is told: whatever it was that was wrong.
const REFUSAL_DELAY: Duration = Duration::from_millis(250);
/// Longest `authorization` value that is looked at, in bytes.
const HEADER_BYTES_MAX: usize = 2048;

/// Finds out who calls.
pub(super) struct Identity {
    pub(super) keeper: Doorkeeper,
    pub(super) sealing: Sealing,
}

impl Identity {
    /// The user of a call.
    pub(super) async fn of(&self, headers: &MetadataMap) -> Result<Proven, Status> {
        let told_at = Instant::now() + REFUSAL_DELAY;
        match self.find(headers).await? {
            Some(proven) => Ok(proven),
            None => {
                tokio::time::sleep_until(told_at).await;
                Err(Status::unauthenticated(
                    "authentication failed: the user is an access key and the password its secret key",
                ))
            }
        }
    }

    async fn find(&self, headers: &MetadataMap) -> Result<Option<Proven>, Status> {
        let Some((scheme, value)) = header(headers) else { return Ok(None) };
        match scheme.as_str() {
            "basic" => {
                let Some((access_key, secret)) = pair(value) else { return Ok(None) };
                self.keeper.verify(&access_key, &secret).await.map_err(|error| status::of(&error))
            }
            "bearer" => {
                let Some(claim) = self.sealing.open(value) else { return Ok(None) };
                let found = self.keeper.find(&claim.access_key).await;
                Ok(found.map_err(|error| status::of(&error))?.filter(|proven| claim.holds_for(proven)))
            }
            _ => Ok(None),
        }
    }
}

fn header(headers: &MetadataMap) -> Option<(String, &str)> {
    let text = headers.get("authorization")?.to_str().ok()?;
    let (scheme, value) = text.split_once(' ')?;
    (text.len() <= HEADER_BYTES_MAX).then(|| (scheme.to_ascii_lowercase(), value.trim()))
}

/// Drivers in Go leave the padding out.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Access key and secret of HTTP Basic.
fn pair(value: &str) -> Option<(String, Zeroizing<String>)> {
    let pair = Zeroizing::new(String::from_utf8(BASIC.decode(value).ok()?).ok()?);
    let (access_key, secret) = pair.split_once(':')?;
    Some((access_key.to_owned(), Zeroizing::new(secret.to_owned())))
}
