//! Tags of buckets and objects.

use ashlar_objects::types::Tags;
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::Failure;
use crate::headers::tags;
use crate::ops::{Answer, Operations, answered, bucket, changed, object, version_text};

fn read(tagging: Tagging, most: usize) -> Result<Tags, Failure> {
    tags::checked(
        tagging.tag_set.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())),
        most,
    )
}

fn write(tags: Tags) -> TagSet {
    tags.0.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect()
}

pub(super) async fn put_of_bucket(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutBucketTaggingInput>,
) -> Answer<PutBucketTaggingOutput> {
    let tags = read(request.input.tagging, tags::BUCKET_TAGS_MAX)?;
    let done = ops.store.put_bucket_tags(cx, &bucket(&request.input.bucket)?, tags).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn of_bucket(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetBucketTaggingInput>,
) -> Answer<GetBucketTaggingOutput> {
    let tags = ops.store.bucket_tags(cx, &bucket(&request.input.bucket)?).await?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: write(tags) }))
}

pub(super) async fn delete_of_bucket(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<DeleteBucketTaggingInput>,
) -> Answer<DeleteBucketTaggingOutput> {
    let done = ops.store.delete_bucket_tags(cx, &bucket(&request.input.bucket)?).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn put_of_object(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutObjectTaggingInput>,
) -> Answer<PutObjectTaggingOutput> {
    let input = request.input;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let tags = read(input.tagging, tags::OBJECT_TAGS_MAX)?;
    let done = ops.store.put_object_tags(cx, &name, tags).await?;
    let output = PutObjectTaggingOutput { version_id: version_text(done.version) };
    answered(output, done.receipt.as_ref())
}

pub(super) async fn of_object(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetObjectTaggingInput>,
) -> Answer<GetObjectTaggingOutput> {
    let input = request.input;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let (tags, version) = ops.store.object_tags(cx, &name).await?;
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set: write(tags), version_id: version_text(version) }))
}

pub(super) async fn delete_of_object(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<DeleteObjectTaggingInput>,
) -> Answer<DeleteObjectTaggingOutput> {
    let input = request.input;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let done = ops.store.delete_object_tags(cx, &name).await?;
    let output = DeleteObjectTaggingOutput { version_id: version_text(done.version) };
    answered(output, done.receipt.as_ref())
}
