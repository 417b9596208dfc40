//! Buckets themselves: create, delete, head, list, location.

use ashlar_objects::access::{Action, ObjectOwnership};
use ashlar_objects::error::Error;
use ashlar_objects::requests::CreateBucket;
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::{Code, Failure};
use crate::headers::{acl, lock, text};
use crate::ops::{Answer, Operations, answered, bucket, changed, timestamp};

/// Most buckets of one page, as in S3.
const PAGE_MAX: i32 = 10_000;

pub(super) async fn create(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<CreateBucketInput>,
) -> Answer<CreateBucketOutput> {
    let ownership = text(&cx.headers, "x-amz-object-ownership")?
        .map(|word| {
            ObjectOwnership::parse(word).ok_or_else(|| {
                Failure::argument("x-amz-object-ownership", "Invalid x-amz-object-ownership header")
            })
        })
        .transpose()?;
    let configuration = request.input.create_bucket_configuration.unwrap_or_default();
    if configuration.bucket.is_some() || configuration.location.is_some() {
        return Err(Failure::not_implemented("A directory bucket"));
    }
    let location = configuration.location_constraint.map(|location| location.as_str().to_owned());
    let bucket = bucket(&request.input.bucket)?;
    let answer = CreateBucketOutput { location: Some(format!("/{bucket}")) };
    let acl = acl::of_headers(&cx.headers)?;
    let location = location.filter(|location| !location.is_empty());
    // DNS labels begin and end with a letter or digit; S3 refuses new buckets whose name has others.
    if bucket.as_str().contains(".-") || bucket.as_str().contains("-.") {
        return Err(Failure::new(Code::InvalidBucketName, "The specified bucket is not valid."));
    }
    let object_lock = lock::of_new_bucket(&cx.headers);
    let again = !object_lock
        && acl.is_none()
        && ownership.is_none()
        && location.is_none()
        && &*ops.region == "us-east-1";
    match ops.store.create_bucket(cx, CreateBucket { bucket, acl, ownership, location, object_lock }).await {
        // In its first region S3 lets an owner make his bucket again, and changes nothing.
        Err(Error::BucketAlreadyOwnedByYou) if again => Ok(S3Response::new(answer)),
        made => answered(answer, made?.receipt.as_ref()),
    }
}

pub(super) async fn delete(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<DeleteBucketInput>,
) -> Answer<DeleteBucketOutput> {
    let done = ops.store.delete_bucket(cx, &bucket(&request.input.bucket)?).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn head(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<HeadBucketInput>,
) -> Answer<HeadBucketOutput> {
    let facts = ops.store.head_bucket(cx, &bucket(&request.input.bucket)?).await?;
    let region = facts.location.unwrap_or_else(|| ops.region.to_string());
    Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(region), ..HeadBucketOutput::default() }))
}

pub(super) async fn location(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetBucketLocationInput>,
) -> Answer<GetBucketLocationOutput> {
    let bucket = bucket(&request.input.bucket)?;
    let facts = ops.store.bucket_facts(cx, &bucket, Action::GetBucketLocation).await?;
    // The first region has no constraint, then as now.
    let location =
        facts.location.filter(|location| location != "us-east-1").map(BucketLocationConstraint::from);
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: location }))
}

pub(super) async fn list(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<ListBucketsInput>,
) -> Answer<ListBucketsOutput> {
    let input = request.input;
    let prefix = input.prefix.unwrap_or_default();
    let max = match input.max_buckets.unwrap_or(PAGE_MAX) {
        max @ 1..=PAGE_MAX => u32::try_from(max).expect("1 to 10,000"),
        _ => {
            return Err(Failure::argument("max-buckets", "Argument max-buckets must be between 1 and 10000"));
        }
    };
    let scope = ["ListBuckets", &prefix];
    let after = input.continuation_token.filter(|token| !token.is_empty());
    let after = after.map(|token| ops.tokens.require(&scope, &token)).transpose()?;
    let owner = match &cx.principal {
        ashlar_objects::access::Principal::User(user) => {
            Owner { display_name: Some(user.name.clone()), id: Some(user.id.clone()) }
        }
        _ => return Err(Failure::new(Code::AccessDenied, "Access Denied")),
    };
    let (buckets, next) = ops.store.list_buckets(cx, &prefix, after.as_deref(), max).await?;
    let buckets = buckets.into_iter().map(|facts| Bucket {
        bucket_region: input
            .bucket_region
            .is_some()
            .then(|| facts.location.unwrap_or_else(|| ops.region.to_string())),
        creation_date: Some(timestamp(facts.created)),
        name: Some(facts.name.to_string()),
    });
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        continuation_token: next.map(|next| ops.tokens.seal(&scope, &next)),
        owner: Some(owner),
        prefix: Some(prefix).filter(|prefix| !prefix.is_empty()),
    }))
}
