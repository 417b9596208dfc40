//! Versioning, policy and CORS configuration of a bucket.

use ashlar_objects::cors::CorsRule;
use ashlar_objects::requests::Versioning;
use http::HeaderValue;
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::{Code, Failure};
use crate::ops::{Answer, Operations, bucket, changed};

pub(super) async fn put_versioning(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutBucketVersioningInput>,
) -> Answer<PutBucketVersioningOutput> {
    let configuration = request.input.versioning_configuration;
    if configuration.mfa_delete.is_some_and(|mfa| mfa.as_str() != MFADelete::DISABLED) {
        return Err(Failure::not_implemented("MFA delete"));
    }
    let versioning = match configuration.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some("Enabled") => Versioning::Enabled,
        Some("Suspended") => Versioning::Suspended,
        _ => {
            return Err(Failure::new(
                Code::MalformedXML,
                "The versioning configuration's status is Enabled or Suspended.",
            ));
        }
    };
    let done = ops.store.set_versioning(cx, &bucket(&request.input.bucket)?, versioning).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn versioning(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetBucketVersioningInput>,
) -> Answer<GetBucketVersioningOutput> {
    let status = match ops.store.bucket_versioning(cx, &bucket(&request.input.bucket)?).await? {
        Versioning::Off => None,
        Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
        Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
    };
    let status = status.map(BucketVersioningStatus::from_static);
    Ok(S3Response::new(GetBucketVersioningOutput { mfa_delete: None, status }))
}

pub(super) async fn put_policy(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutBucketPolicyInput>,
) -> Answer<PutBucketPolicyOutput> {
    let done = ops.store.put_bucket_policy(cx, &bucket(&request.input.bucket)?, request.input.policy).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn policy(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetBucketPolicyInput>,
) -> Answer<GetBucketPolicyOutput> {
    let policy = ops.store.bucket_policy(cx, &bucket(&request.input.bucket)?).await?;
    let mut answer = S3Response::new(GetBucketPolicyOutput { policy: Some(policy) });
    answer.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

pub(super) async fn delete_policy(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<DeleteBucketPolicyInput>,
) -> Answer<DeleteBucketPolicyOutput> {
    let done = ops.store.delete_bucket_policy(cx, &bucket(&request.input.bucket)?).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn policy_status(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetBucketPolicyStatusInput>,
) -> Answer<GetBucketPolicyStatusOutput> {
    let public = ops.store.bucket_policy_is_public(cx, &bucket(&request.input.bucket)?).await?;
    let policy_status = Some(PolicyStatus { is_public: Some(public) });
    Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status }))
}

pub(super) async fn put_cors(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutBucketCorsInput>,
) -> Answer<PutBucketCorsOutput> {
    let rules = request.input.cors_configuration.cors_rules.into_iter().map(|rule| CorsRule {
        id: rule.id,
        allowed_methods: rule.allowed_methods,
        allowed_origins: rule.allowed_origins,
        allowed_headers: rule.allowed_headers.unwrap_or_default(),
        expose_headers: rule.expose_headers.unwrap_or_default(),
        max_age_seconds: rule.max_age_seconds,
    });
    let done = ops.store.put_bucket_cors(cx, &bucket(&request.input.bucket)?, rules.collect()).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn cors(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetBucketCorsInput>,
) -> Answer<GetBucketCorsOutput> {
    let rules = ops.store.bucket_cors(cx, &bucket(&request.input.bucket)?).await?;
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let rules = rules.into_iter().map(|rule| CORSRule {
        allowed_headers: some(rule.allowed_headers),
        allowed_methods: rule.allowed_methods,
        allowed_origins: rule.allowed_origins,
        expose_headers: some(rule.expose_headers),
        id: rule.id,
        max_age_seconds: rule.max_age_seconds,
    });
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(rules.collect()) }))
}

pub(super) async fn delete_cors(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<DeleteBucketCorsInput>,
) -> Answer<DeleteBucketCorsOutput> {
    let done = ops.store.delete_bucket_cors(cx, &bucket(&request.input.bucket)?).await?;
    changed(done.receipt.as_ref())
}
