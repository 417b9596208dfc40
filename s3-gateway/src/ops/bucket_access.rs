//! ACLs of buckets and objects, public access block, ownership controls.

use ashlar_objects::access::{Acl, AclRequest, ObjectOwnership as Ownership, PublicAccessBlock};
use http::HeaderMap;
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::{Code, Failure};
use crate::headers::acl;
use crate::ops::{Answer, Operations, bucket, changed, object, put_receipt, version_text};

/// The ACL of a request: by headers or by document, not both and not neither.
fn asked(headers: &HeaderMap, document: Option<AccessControlPolicy>) -> Result<AclRequest, Failure> {
    match (acl::of_headers(headers)?, document) {
        (Some(_), Some(_)) => Err(Failure::new(
            Code::UnexpectedContent,
            "This request does not support content: the ACL is given by headers already.",
        )),
        (Some(asked), None) => Ok(asked),
        (None, Some(document)) => acl::of_document(document),
        (None, None) => Err(Failure::new(
            Code::MissingSecurityHeader,
            "Your request was missing a required header: x-amz-acl, x-amz-grant-* or a document names the ACL.",
        )),
    }
}

pub(super) async fn put_bucket_acl(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutBucketAclInput>,
) -> Answer<PutBucketAclOutput> {
    let asked = asked(&cx.headers, request.input.access_control_policy)?;
    let done = ops.store.put_bucket_acl(cx, &bucket(&request.input.bucket)?, asked).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn bucket_acl(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetBucketAclInput>,
) -> Answer<GetBucketAclOutput> {
    let (owner, grants) = shown(ops, ops.store.bucket_acl(cx, &bucket(&request.input.bucket)?).await?).await;
    Ok(S3Response::new(GetBucketAclOutput { grants, owner }))
}

pub(super) async fn put_object_acl(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutObjectAclInput>,
) -> Answer<PutObjectAclOutput> {
    let input = request.input;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let asked = asked(&cx.headers, input.access_control_policy)?;
    let done = ops.store.put_object_acl(cx, &name, asked).await?;
    let mut answer = S3Response::new(PutObjectAclOutput::default());
    put_version(&mut answer.headers, version_text(done.version));
    put_receipt(&mut answer.headers, done.receipt.as_ref());
    Ok(answer)
}

pub(super) async fn object_acl(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetObjectAclInput>,
) -> Answer<GetObjectAclOutput> {
    let input = request.input;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let (found, version) = ops.store.object_acl(cx, &name).await?;
    let (owner, grants) = shown(ops, found).await;
    let mut answer = S3Response::new(GetObjectAclOutput { grants, owner, request_charged: None });
    put_version(&mut answer.headers, version_text(version));
    Ok(answer)
}

/// An ACL with the names of those whom it names.
async fn shown(ops: &Operations, found: Acl) -> (Option<Owner>, Option<Grants>) {
    let owner = ops.owner(found.owner.clone()).await;
    let mut grants = acl::to_document(found);
    for grantee in grants.iter_mut().filter_map(|grant| grant.grantee.as_mut()) {
        if let Some(id) = &grantee.id {
            grantee.display_name = ops.display_name(id).await.map(|name| name.to_string());
        }
    }
    (Some(owner), Some(grants))
}

fn put_version(headers: &mut HeaderMap, version: Option<String>) {
    if let Some(value) = version.and_then(|version| version.try_into().ok()) {
        headers.insert("x-amz-version-id", value);
    }
}

pub(super) async fn put_block(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutPublicAccessBlockInput>,
) -> Answer<PutPublicAccessBlockOutput> {
    let asked = request.input.public_access_block_configuration;
    let block = PublicAccessBlock {
        block_public_acls: asked.block_public_acls.unwrap_or(false),
        ignore_public_acls: asked.ignore_public_acls.unwrap_or(false),
        block_public_policy: asked.block_public_policy.unwrap_or(false),
        restrict_public_buckets: asked.restrict_public_buckets.unwrap_or(false),
    };
    let done = ops.store.put_public_access_block(cx, &bucket(&request.input.bucket)?, block).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn block(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetPublicAccessBlockInput>,
) -> Answer<GetPublicAccessBlockOutput> {
    let block = ops.store.public_access_block(cx, &bucket(&request.input.bucket)?).await?;
    let configuration = PublicAccessBlockConfiguration {
        block_public_acls: Some(block.block_public_acls),
        block_public_policy: Some(block.block_public_policy),
        ignore_public_acls: Some(block.ignore_public_acls),
        restrict_public_buckets: Some(block.restrict_public_buckets),
    };
    Ok(S3Response::new(GetPublicAccessBlockOutput { public_access_block_configuration: Some(configuration) }))
}

pub(super) async fn delete_block(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<DeletePublicAccessBlockInput>,
) -> Answer<DeletePublicAccessBlockOutput> {
    let done = ops.store.delete_public_access_block(cx, &bucket(&request.input.bucket)?).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn put_ownership(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutBucketOwnershipControlsInput>,
) -> Answer<PutBucketOwnershipControlsOutput> {
    let rules = request.input.ownership_controls.rules;
    let ownership = match rules.as_slice() {
        [rule] => Ownership::parse(rule.object_ownership.as_str()),
        _ => None,
    };
    let ownership = ownership.ok_or_else(|| {
        Failure::new(
            Code::MalformedXML,
            "Ownership controls have one rule: BucketOwnerEnforced, BucketOwnerPreferred or ObjectWriter.",
        )
    })?;
    let done = ops.store.put_ownership_controls(cx, &bucket(&request.input.bucket)?, ownership).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn ownership(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetBucketOwnershipControlsInput>,
) -> Answer<GetBucketOwnershipControlsOutput> {
    let found = ops.store.ownership_controls(cx, &bucket(&request.input.bucket)?).await?;
    let rule = OwnershipControlsRule { object_ownership: ObjectOwnership::from_static(found.name()) };
    let controls = OwnershipControls { rules: vec![rule] };
    Ok(S3Response::new(GetBucketOwnershipControlsOutput { ownership_controls: Some(controls) }))
}

pub(super) async fn delete_ownership(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<DeleteBucketOwnershipControlsInput>,
) -> Answer<DeleteBucketOwnershipControlsOutput> {
    let done = ops.store.delete_ownership_controls(cx, &bucket(&request.input.bucket)?).await?;
    changed(done.receipt.as_ref())
}
