//! Who signed a request, by AWS Signature Version 4: header, presigned URL, form policy, body chunks.
//!
//! Invariant: a [`Verified`] names a user only after the signature over method, path, query, signed headers
//! and payload mode was compared in constant time with ours. Nothing of a body is read here, so
//! `100 Continue` is not sent to a stranger. What a user may do is decided elsewhere.

mod chunks;
mod credential;
mod keys;
mod sigv4;

use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::access::{Principal, UserIdentity};
use ashlar_objects::users::SecretKey;
use http::HeaderMap;
use http::request::Parts;
use time::OffsetDateTime;
use zeroize::Zeroizing;

pub(crate) use chunks::ChunkSigner;
pub(crate) use credential::{Credential, Moment};
use keys::SigningKeys;

use crate::failure::{Code, Failure, signature_mismatch};
use crate::query::Query;

/// Where secrets come from.
pub(crate) trait Secrets: Send + Sync {
    /// The user and secret of an access key; `None` where there is no such key.
    fn secret(
        &self,
        access_key: &str,
    ) -> impl Future<Output = Result<Option<(Arc<UserIdentity>, SecretKey)>, Failure>> + Send;
}

/// How a request proved who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It did not.
    None,
    /// `Authorization` header.
    Header,
    /// Presigned URL.
    Query,
}

/// How the body is framed and what vouches for it.
pub(crate) enum PayloadMode {
    /// As it comes; nothing in the signature speaks of it.
    Plain,
    /// As it comes; the signature covers its SHA-256.
    Sha256([u8; 32]),
    /// `aws-chunked`, each chunk signed where a signer is there.
    Chunked(Option<Box<ChunkSigner>>),
}

/// What authentication found.
pub(crate) struct Verified {
    pub(crate) principal: Principal,
    pub(crate) proof: Proof,
    pub(crate) payload: PayloadMode,
}

/// Checks signatures against secrets.
pub(crate) struct Authenticator<S> {
    secrets: S,
    keys: SigningKeys,
    region: String,
    skew_max: Duration,
}

/// Longest life of a presigned URL: a week.
const EXPIRES_SECONDS_MAX: i64 = 604_800;
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

impl<S: Secrets> Authenticator<S> {
    pub(crate) fn new(secrets: S, region: String, skew_max: Duration) -> Self {
        Self { secrets, keys: SigningKeys::default(), region, skew_max }
    }

    /// Finds out who sent a request. Anonymous is an answer; a wrong signature is an error.
    pub(crate) async fn verify(
        &self,
        parts: &Parts,
        query: &Query,
        now: OffsetDateTime,
    ) -> Result<Verified, Failure> {
        let mut digests = parts.headers.get_all("x-amz-content-sha256").iter();
        let declared = digests.next().map(http::HeaderValue::as_bytes);
        if digests.next().is_some() {
            return Err(Failure::argument("x-amz-content-sha256", "x-amz-content-sha256 is there twice."));
        }
        if query.has("X-Amz-Algorithm") || query.has("X-Amz-Signature") || query.has("X-Amz-Credential") {
            return self.verify_query(parts, query, declared, now).await;
        }
        if query.has("AWSAccessKeyId") && query.has("Signature") {
            return Err(version_2());
        }
        let authorization =
            parts.headers.get(http::header::AUTHORIZATION).map(|value| value.as_bytes().trim_ascii());
        match authorization {
            None | Some(b"") => Ok(Verified {
                principal: Principal::Anonymous,
                proof: Proof::None,
                payload: payload_mode(declared, None)?,
            }),
            Some(value) if value.starts_with(b"AWS4-HMAC-SHA256") => {
                let value =
                    std::str::from_utf8(value).map_err(|_| credential::malformed("it is not text"))?;
                self.verify_header(parts, query, value, declared, now).await
            }
            Some(value) if value.starts_with(b"AWS ") && value.contains(&b':') => Err(version_2()),
            Some(value) if value.starts_with(b"AWS4-ECDSA-P256-SHA256") => {
                Err(Failure::not_implemented("Signature Version 4A (AWS4-ECDSA-P256-SHA256)"))
            }
            Some(_) => Err(Failure::argument("Authorization", "Unsupported Authorization Type")),
        }
    }

    async fn verify_header(
        &self,
        parts: &Parts,
        query: &Query,
        authorization: &str,
        declared: Option<&[u8]>,
        now: OffsetDateTime,
    ) -> Result<Verified, Failure> {
        let authorization = credential::Authorization::parse(authorization)?;
        self.check_scope(&authorization.credential, credential::malformed)?;
        let moment = Moment::of_headers(&parts.headers)?;
        if moment.date() != authorization.credential.date {
            return Err(credential::malformed("the credential's date is not that of the request"));
        }
        self.check_skew(&moment, now)?;
        let declared = declared.ok_or_else(|| {
            Failure::new(
                Code::InvalidRequest,
                "Missing required header for this request: x-amz-content-sha256",
            )
        })?;
        refuse_token(&parts.headers, query)?;
        check_signed(&parts.headers, &authorization.signed_headers)?;
        let (user, key) = self.key(&authorization.credential).await?;
        let request = sigv4::Request {
            parts,
            query,
            signed_headers: &authorization.signed_headers,
            payload: declared,
            without_signature: false,
        };
        let scope = authorization.credential.scope();
        request.check(&key, &moment, &scope, authorization.signature)?;
        let signer = || Box::new(ChunkSigner::new(*key, moment.text(), &scope, authorization.signature));
        Ok(Verified {
            principal: Principal::User(user),
            proof: Proof::Header,
            payload: payload_mode(Some(declared), Some(&signer))?,
        })
    }

    async fn verify_query(
        &self,
        parts: &Parts,
        query: &Query,
        declared: Option<&[u8]>,
        now: OffsetDateTime,
    ) -> Result<Verified, Failure> {
        let presigned = credential::Presigned::parse(query)?;
        self.check_scope(&presigned.credential, credential::malformed_query)?;
        if presigned.moment.date() != presigned.credential.date {
            return Err(credential::malformed_query("the credential's date is not that of X-Amz-Date"));
        }
        if !(0..=EXPIRES_SECONDS_MAX).contains(&presigned.expires_seconds) {
            return Err(credential::malformed_query("X-Amz-Expires must be between 1 and 604800 seconds"));
        }
        let age = now.unix_timestamp() - presigned.moment.unix_seconds();
        if age < -skew_seconds(self.skew_max) {
            return Err(Failure::new(Code::AccessDenied, "Request is not yet valid"));
        }
        // A life of nothing is over when it begins, whatever the clocks say.
        if age > presigned.expires_seconds || presigned.expires_seconds == 0 {
            return Err(Failure::new(Code::AccessDenied, "Request has expired")
                .element("X-Amz-Expires", presigned.expires_seconds.to_string()));
        }
        refuse_token(&parts.headers, query)?;
        check_signed(&parts.headers, &presigned.signed_headers)?;
        let (user, key) = self.key(&presigned.credential).await?;
        let signed_hash = presigned.signed_headers.contains(&"x-amz-content-sha256");
        let payload = match declared {
            Some(declared) if signed_hash => declared,
            _ => query.get("X-Amz-Content-Sha256").unwrap_or(UNSIGNED).as_bytes(),
        };
        let request = sigv4::Request {
            parts,
            query,
            signed_headers: &presigned.signed_headers,
            payload,
            without_signature: true,
        };
        let scope = presigned.credential.scope();
        request.check(&key, &presigned.moment, &scope, presigned.signature)?;
        Ok(Verified {
            principal: Principal::User(user),
            proof: Proof::Query,
            // What was signed decides; where that leaves the payload open, the sender may still say how it is
            // framed.
            payload: match (payload == UNSIGNED.as_bytes(), declared) {
                (true, Some(declared)) => payload_mode(Some(declared), None)?,
                _ => payload_mode(Some(payload), None)?,
            },
        })
    }

    /// Checks the signature of a browser form: over its policy, as sent.
    pub(crate) async fn verify_policy(
        &self,
        policy: &str,
        credential: &str,
        date: &str,
        signature: &str,
        now: OffsetDateTime,
    ) -> Result<Principal, Failure> {
        let credential =
            Credential::parse(credential).ok_or_else(|| credential::malformed_query("the credential"))?;
        self.check_scope(&credential, credential::malformed_query)?;
        let moment = Moment::parse(date).ok_or_else(|| credential::malformed_query("x-amz-date"))?;
        if moment.date() != credential.date {
            return Err(credential::malformed_query("the credential's date is not that of x-amz-date"));
        }
        if moment.unix_seconds() - now.unix_timestamp() > skew_seconds(self.skew_max) {
            return Err(Failure::new(Code::AccessDenied, "Request is not yet valid"));
        }
        let (user, key) = self.key(&credential).await?;
        sigv4::check_hex(&sigv4::hmac(&*key, &[policy.as_bytes()]), signature)?;
        Ok(Principal::User(user))
    }

    async fn key(
        &self,
        credential: &Credential<'_>,
    ) -> Result<(Arc<UserIdentity>, Zeroizing<[u8; 32]>), Failure> {
        let found = self.secrets.secret(credential.access_key).await?;
        let (user, secret) = found.ok_or_else(|| {
            Failure::new(
                Code::InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records.",
            )
            .element("AWSAccessKeyId", credential.access_key)
        })?;
        let key = self.keys.derive(credential, &secret);
        Ok((user, key))
    }

    fn check_scope(
        &self,
        credential: &Credential<'_>,
        malformed: fn(&str) -> Failure,
    ) -> Result<(), Failure> {
        if credential.service != "s3" {
            return Err(malformed(&format!(
                "incorrect service '{}'; this endpoint belongs to 's3'",
                credential.service
            )));
        }
        if !self.region.is_empty() && credential.region != self.region {
            return Err(malformed(&format!(
                "the region '{}' is wrong; expecting '{}'",
                credential.region, self.region
            ))
            .element("Region", self.region.clone()));
        }
        Ok(())
    }

    fn check_skew(&self, moment: &Moment, now: OffsetDateTime) -> Result<(), Failure> {
        let off = (now.unix_timestamp() - moment.unix_seconds()).abs();
        if off <= skew_seconds(self.skew_max) {
            return Ok(());
        }
        Err(Failure::new(
            Code::RequestTimeTooSkewed,
            "The difference between the request time and the current time is too large.",
        )
        .element("RequestTime", moment.text())
        .element("MaxAllowedSkewMilliseconds", self.skew_max.as_millis().to_string()))
    }
}

fn skew_seconds(skew: Duration) -> i64 {
    i64::try_from(skew.as_secs()).unwrap_or(i64::MAX)
}

fn version_2() -> Failure {
    Failure::new(
        Code::InvalidRequest,
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )
}

fn refuse_token(headers: &HeaderMap, query: &Query) -> Result<(), Failure> {
    if headers.contains_key("x-amz-security-token") || query.has("X-Amz-Security-Token") {
        return Err(Failure::new(
            Code::InvalidToken,
            "The provided token is malformed or otherwise invalid: temporary credentials are not supported.",
        ));
    }
    Ok(())
}

/// What changes a request's meaning must be signed: the host, and every `x-amz-*` header.
fn check_signed(headers: &HeaderMap, signed: &[&str]) -> Result<(), Failure> {
    let not_signed = |names: &str| {
        Failure::new(Code::AccessDenied, "There were headers present in the request which were not signed")
            .element("HeadersNotSigned", names)
    };
    if !signed.contains(&"host") {
        return Err(not_signed("host"));
    }
    for name in headers.keys() {
        let name = name.as_str();
        // The payload's digest is part of what is signed without being a signed header.
        if name.starts_with("x-amz-") && name != "x-amz-content-sha256" && !signed.contains(&name) {
            return Err(not_signed(name));
        }
    }
    Ok(())
}

/// Reads `x-amz-content-sha256`.
fn payload_mode(
    declared: Option<&[u8]>,
    signer: Option<&dyn Fn() -> Box<ChunkSigner>>,
) -> Result<PayloadMode, Failure> {
    let Some(declared) = declared else { return Ok(PayloadMode::Plain) };
    match declared {
        b"UNSIGNED-PAYLOAD" => Ok(PayloadMode::Plain),
        b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(PayloadMode::Chunked(None)),
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD" | b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => match signer
        {
            Some(signer) => {
                let mut signer = signer();
                signer.signs_trailer = declared.ends_with(b"-TRAILER");
                Ok(PayloadMode::Chunked(Some(signer)))
            }
            None => Err(signature_mismatch()),
        },
        other if other.starts_with(b"STREAMING-AWS4-ECDSA") => {
            Err(Failure::not_implemented("Signature Version 4A (AWS4-ECDSA-P256-SHA256)"))
        }
        other => {
            let mut digest = [0; 32];
            hex::decode_to_slice(other, &mut digest).map_err(|_| {
                Failure::argument(
                    "x-amz-content-sha256",
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                     STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid \
                     sha256 value.",
                )
            })?;
            Ok(PayloadMode::Sha256(digest))
        }
    }
}

#[cfg(test)]
mod tests;
