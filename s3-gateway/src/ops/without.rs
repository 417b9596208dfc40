//! Configurations that no bucket of Ashlar has: reading one tells so, in S3's words, and taking away what
//! is not there succeeds, as it does at S3. Setting one is 501, except setting it to
//! what it is.
//!
//! Invariant: the bucket exists and the caller may do the very action before anything is said.

use ashlar_objects::access::Action;
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::{Code, Failure};
use crate::ops::{Answer, Operations, bucket};

macro_rules! absent {
    ($($name:ident($input:ident) -> $output:ident by $action:ident, $code:ident, $message:literal;)*) => {
        $(pub(super) async fn $name(ops: &Operations, cx: &Passage, request: S3Request<$input>) -> Answer<$output> {
            ops.store.bucket_facts(cx, &bucket(&request.input.bucket)?, Action::$action).await?;
            Err(Failure::new(Code::$code, $message))
        })*
    };
}

absent! {
    encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput by GetEncryptionConfiguration, ServerSideEncryptionConfigurationNotFoundError, "The server side encryption configuration was not found";
    replication(GetBucketReplicationInput) -> GetBucketReplicationOutput by GetReplicationConfiguration, ReplicationConfigurationNotFoundError, "The replication configuration was not found";
    website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput by GetBucketWebsite, NoSuchWebsiteConfiguration, "The specified bucket does not have a website configuration";
}

macro_rules! nothing_to_delete {
    ($($name:ident($input:ident) -> $output:ident by $action:ident;)*) => {
        $(pub(super) async fn $name(ops: &Operations, cx: &Passage, request: S3Request<$input>) -> Answer<$output> {
            ops.store.bucket_facts(cx, &bucket(&request.input.bucket)?, Action::$action).await?;
            Ok(S3Response::new($output::default()))
        })*
    };
}

nothing_to_delete! {
    delete_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput by PutEncryptionConfiguration;
    delete_replication(DeleteBucketReplicationInput) -> DeleteBucketReplicationOutput by PutReplicationConfiguration;
    delete_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput by DeleteBucketWebsite;
}

macro_rules! empty {
    ($($name:ident($input:ident) -> $output:ident by $action:ident;)*) => {
        $(pub(super) async fn $name(ops: &Operations, cx: &Passage, request: S3Request<$input>) -> Answer<$output> {
            ops.store.bucket_facts(cx, &bucket(&request.input.bucket)?, Action::$action).await?;
            Ok(S3Response::new($output::default()))
        })*
    };
}

empty! {
    accelerate(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput by GetAccelerateConfiguration;
    logging(GetBucketLoggingInput) -> GetBucketLoggingOutput by GetBucketLogging;
    notification(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput by GetBucketNotification;
}

pub(super) async fn request_payment(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetBucketRequestPaymentInput>,
) -> Answer<GetBucketRequestPaymentOutput> {
    let bucket = bucket(&request.input.bucket)?;
    ops.store.bucket_facts(cx, &bucket, Action::GetBucketRequestPayment).await?;
    let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
    Ok(S3Response::new(GetBucketRequestPaymentOutput { payer }))
}

/// No logging is what every bucket has; asking for some is not implemented.
pub(super) async fn put_logging(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutBucketLoggingInput>,
) -> Answer<PutBucketLoggingOutput> {
    if request.input.bucket_logging_status.logging_enabled.is_some() {
        return Err(Failure::not_implemented("Access logging"));
    }
    let bucket = bucket(&request.input.bucket)?;
    ops.store.bucket_facts(cx, &bucket, Action::PutBucketLogging).await?;
    Ok(S3Response::new(PutBucketLoggingOutput::default()))
}

/// No notification is what every bucket has; asking for some is not implemented.
pub(super) async fn put_notification(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutBucketNotificationConfigurationInput>,
) -> Answer<PutBucketNotificationConfigurationOutput> {
    if request.input.notification_configuration != NotificationConfiguration::default() {
        return Err(Failure::not_implemented("Event notification"));
    }
    let bucket = bucket(&request.input.bucket)?;
    ops.store.bucket_facts(cx, &bucket, Action::PutBucketNotification).await?;
    Ok(S3Response::new(PutBucketNotificationConfigurationOutput::default()))
}

/// The owner pays for every bucket; another payer is not implemented.
pub(super) async fn put_request_payment(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutBucketRequestPaymentInput>,
) -> Answer<PutBucketRequestPaymentOutput> {
    if request.input.request_payment_configuration.payer.as_str() != Payer::BUCKET_OWNER {
        return Err(Failure::not_implemented("Requester pays"));
    }
    let bucket = bucket(&request.input.bucket)?;
    ops.store.bucket_facts(cx, &bucket, Action::PutBucketRequestPayment).await?;
    Ok(S3Response::new(PutBucketRequestPaymentOutput::default()))
}
