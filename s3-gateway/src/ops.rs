//! The operations, one file a family, and the trait implementation through which s3s reaches its share.
//!
//! Invariant: an operation not listed here answers 501. Handlers translate and call one use case of
//! `objects`; none decides who may do what.

pub(crate) mod attributes;
mod bucket_access;
mod bucket_documents;
mod buckets;
mod copy;
mod delete;
mod lifecycle;
pub(crate) mod lists;
mod locks;
mod multipart;
mod multipart_lists;
pub(crate) mod objects_read;
pub(crate) mod objects_write;
mod tagging;
mod without;

use std::sync::Arc;

use ashlar_objects::Store;
use ashlar_objects::types::{BucketName, ObjectKey, UnixMillis, VersionId};
use http::HeaderMap;
use s3s::dto;
use s3s::{S3, S3Request, S3Response, S3Result};

use crate::call::Passage;
use crate::failure::{Failure, RECEIPT};
use crate::operation::Operation;
use crate::ops::objects_read::ascii;
use crate::tokens::Tokens;

/// What handlers need besides the request.
#[derive(Clone)]
pub(crate) struct Operations {
    pub(crate) store: Store,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) region: Arc<str>,
}

impl Operations {
    /// What to show for a user id. A name that cannot be read now is left out: it is for people alone.
    pub(crate) async fn display_name(&self, id: &str) -> Option<Arc<str>> {
        self.store.users().display_name(id).await.ok().flatten()
    }

    /// An owner as documents show one.
    pub(crate) async fn owner(&self, id: String) -> dto::Owner {
        let display_name = self.display_name(&id).await.map(|name| name.to_string());
        dto::Owner { display_name, id: Some(id) }
    }
}

/// What a handler gives s3s to write.
pub(crate) type Answer<T> = Result<S3Response<T>, Failure>;

pub(crate) fn bucket(name: &str) -> Result<BucketName, Failure> {
    Ok(BucketName::new(name)?)
}

pub(crate) fn object(
    bucket: &str,
    key: &str,
    version: Option<&str>,
) -> Result<ashlar_objects::requests::ObjectName, Failure> {
    Ok(ashlar_objects::requests::ObjectName {
        bucket: BucketName::new(bucket)?,
        key: ObjectKey::new(key)?,
        version: version.map(crate::call::version).transpose()?,
    })
}

pub(crate) fn timestamp(moment: UnixMillis) -> dto::Timestamp {
    let nanos = i128::from(moment.0) * 1_000_000;
    time::OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(time::OffsetDateTime::UNIX_EPOCH).into()
}

/// A document's moment; what lies outside of all that is counted becomes its edge.
pub(crate) fn millis(moment: dto::Timestamp) -> UnixMillis {
    let nanos = time::OffsetDateTime::from(moment).unix_timestamp_nanos();
    UnixMillis(i64::try_from(nanos.div_euclid(1_000_000)).unwrap_or(i64::MAX))
}

pub(crate) fn etag(etag: &ashlar_objects::types::ETag) -> dto::ETag {
    dto::ETag::Strong(etag.to_string())
}

pub(crate) fn version_text(version: Option<VersionId>) -> Option<String> {
    version.map(|version| version.to_string())
}

/// Names the promise to publish a change in its answer, where the store publishes.
pub(crate) fn put_receipt(headers: &mut HeaderMap, receipt: Option<&Arc<str>>) {
    if let Some(receipt) = receipt {
        headers.insert(RECEIPT, ascii(receipt.to_string()));
    }
}

/// The answer of a change that tells of nothing but its receipt.
pub(crate) fn changed<T: Default>(receipt: Option<&Arc<str>>) -> Answer<T> {
    answered(T::default(), receipt)
}

/// The answer of a change.
pub(crate) fn answered<T>(output: T, receipt: Option<&Arc<str>>) -> Answer<T> {
    let mut answer = S3Response::new(output);
    put_receipt(&mut answer.headers, receipt);
    Ok(answer)
}

/// The version that a write tells of: none where versioning is off or suspended, as S3 does.
pub(crate) fn written_version(version: Option<VersionId>) -> Option<String> {
    version_text(version.filter(|version| *version != VersionId::Null))
}

macro_rules! through_s3s {
    ($($method:ident($input:ident) -> $output:ident = $operation:ident by $module:ident::$function:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(
                async fn $method(&self, request: S3Request<dto::$input>) -> S3Result<S3Response<dto::$output>> {
                    let passage = Passage::of(&request.extensions, Operation::$operation)?;
                    $module::$function(self, &passage, request).await.map_err(|failure| passage.fail(failure))
                }
            )*
        }
    };
}

through_s3s! {
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = AbortMultipartUpload by multipart::abort;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = CompleteMultipartUpload by multipart::complete;
    copy_object(CopyObjectInput) -> CopyObjectOutput = CopyObject by copy::object;
    create_bucket(CreateBucketInput) -> CreateBucketOutput = CreateBucket by buckets::create;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = CreateMultipartUpload by multipart::create;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = DeleteBucket by buckets::delete;
    delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput = DeleteBucketCors by bucket_documents::delete_cors;
    delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput = DeleteBucketEncryption by without::delete_encryption;
    delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput = DeleteBucketLifecycle by lifecycle::delete;
    delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) -> DeleteBucketOwnershipControlsOutput = DeleteBucketOwnershipControls by bucket_access::delete_ownership;
    delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput = DeleteBucketPolicy by bucket_documents::delete_policy;
    delete_bucket_replication(DeleteBucketReplicationInput) -> DeleteBucketReplicationOutput = DeleteBucketReplication by without::delete_replication;
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput = DeleteBucketTagging by tagging::delete_of_bucket;
    delete_bucket_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput = DeleteBucketWebsite by without::delete_website;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = DeleteObject by delete::one;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = DeleteObjectTagging by tagging::delete_of_object;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = DeleteObjects by delete::many;
    delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput = DeletePublicAccessBlock by bucket_access::delete_block;
    get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput = GetBucketAccelerateConfiguration by without::accelerate;
    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput = GetBucketAcl by bucket_access::bucket_acl;
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput = GetBucketCors by bucket_documents::cors;
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput = GetBucketEncryption by without::encryption;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput = GetBucketLifecycleConfiguration by lifecycle::get;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = GetBucketLocation by buckets::location;
    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput = GetBucketLogging by without::logging;
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput = GetBucketNotificationConfiguration by without::notification;
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput = GetBucketOwnershipControls by bucket_access::ownership;
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = GetBucketPolicy by bucket_documents::policy;
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput = GetBucketPolicyStatus by bucket_documents::policy_status;
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput = GetBucketReplication by without::replication;
    get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput = GetBucketRequestPayment by without::request_payment;
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput = GetBucketTagging by tagging::of_bucket;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = GetBucketVersioning by bucket_documents::versioning;
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput = GetBucketWebsite by without::website;
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput = GetObjectAcl by bucket_access::object_acl;
    get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput = GetObjectLegalHold by locks::legal_hold;
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput = GetObjectLockConfiguration by locks::bucket_rules;
    get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput = GetObjectRetention by locks::retention;
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = GetObjectTagging by tagging::of_object;
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput = GetPublicAccessBlock by bucket_access::block;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = HeadBucket by buckets::head;
    list_buckets(ListBucketsInput) -> ListBucketsOutput = ListBuckets by buckets::list;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = ListMultipartUploads by multipart_lists::uploads;
    list_parts(ListPartsInput) -> ListPartsOutput = ListParts by multipart_lists::parts;
    put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput = PutBucketAcl by bucket_access::put_bucket_acl;
    put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput = PutBucketCors by bucket_documents::put_cors;
    put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput = PutBucketLifecycleConfiguration by lifecycle::put;
    put_bucket_logging(PutBucketLoggingInput) -> PutBucketLoggingOutput = PutBucketLogging by without::put_logging;
    put_bucket_notification_configuration(PutBucketNotificationConfigurationInput) -> PutBucketNotificationConfigurationOutput = PutBucketNotificationConfiguration by without::put_notification;
    put_bucket_request_payment(PutBucketRequestPaymentInput) -> PutBucketRequestPaymentOutput = PutBucketRequestPayment by without::put_request_payment;
    put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput = PutBucketOwnershipControls by bucket_access::put_ownership;
    put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput = PutBucketPolicy by bucket_documents::put_policy;
    put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput = PutBucketTagging by tagging::put_of_bucket;
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput = PutBucketVersioning by bucket_documents::put_versioning;
    put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput = PutObjectLegalHold by locks::put_legal_hold;
    put_object_lock_configuration(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput = PutObjectLockConfiguration by locks::put_rules;
    put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput = PutObjectRetention by locks::put_retention;
    put_object_acl(PutObjectAclInput) -> PutObjectAclOutput = PutObjectAcl by bucket_access::put_object_acl;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput = PutObjectTagging by tagging::put_of_object;
    put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput = PutPublicAccessBlock by bucket_access::put_block;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = UploadPartCopy by copy::part;
}
