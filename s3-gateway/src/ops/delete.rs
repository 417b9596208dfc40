//! DeleteObject and DeleteObjects.

use ashlar_objects::error;
use ashlar_objects::requests::{DeleteObject, Deleted};
use ashlar_objects::types::{Conditions, TagMatch};
use s3s::S3Request;
use s3s::dto::*;

use crate::call::Passage;
use crate::failure::{Code, Failure, RECEIPT};
use crate::headers::{conditions, lock};
use crate::ops::{Answer, Operations, answered, bucket, object, version_text};

/// Most keys of one DeleteObjects, as in S3.
const KEYS_MAX: usize = 1000;

pub(super) async fn one(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<DeleteObjectInput>,
) -> Answer<DeleteObjectOutput> {
    let input = request.input;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let conditions = conditions::of_delete(&cx.headers)?;
    let bypass_governance = lock::bypasses_governance(&cx.headers);
    let deleted = ops.store.delete_object(cx, DeleteObject { name, conditions, bypass_governance }).await?;
    let output = DeleteObjectOutput {
        delete_marker: deleted.delete_marker.then_some(true),
        version_id: version_text(deleted.version),
        ..DeleteObjectOutput::default()
    };
    answered(output, deleted.receipt.as_ref())
}

pub(super) async fn many(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<DeleteObjectsInput>,
) -> Answer<DeleteObjectsOutput> {
    let input = request.input;
    let bucket = bucket(&input.bucket)?;
    let asked = input.delete.objects;
    if asked.is_empty() || asked.len() > KEYS_MAX {
        return Err(Failure::new(
            Code::MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema: it names 1 \
             to 1000 objects.",
        ));
    }
    let quiet = input.delete.quiet.unwrap_or(false);
    let bypass = lock::bypasses_governance(&cx.headers);
    let named: Vec<Result<DeleteObject, Failure>> =
        asked.iter().map(|object| read(bucket.as_str(), object, bypass)).collect();
    let mut requests = Vec::with_capacity(named.len());
    let mut refused = Vec::with_capacity(named.len());
    for entry in named {
        match entry {
            Ok(request) => {
                requests.push(request);
                refused.push(None);
            }
            Err(failure) => refused.push(Some(failure)),
        }
    }
    let mut results = ops.store.delete_objects(cx, requests).await.into_iter();
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    // One header for all of them: the receipt of what was committed last, whose position is above all others'.
    let (mut last, mut receipt, mut late) = (None, None, None);
    for (object, refused) in asked.into_iter().zip(refused) {
        let result = match refused {
            Some(failure) => Err(failure),
            None => match results.next() {
                // No bucket is the request's failure and not a key's.
                Some(Err(error @ error::Error::NoSuchBucket)) => return Err(error.into()),
                Some(result) => result.map_err(Failure::from),
                None => Err(Failure::new(
                    Code::InternalError,
                    "We encountered an internal error. Please try again.",
                )),
            },
        };
        match result {
            Ok(done) => {
                if done.position > last {
                    (last, receipt) = (done.position, done.receipt.clone());
                }
                if !quiet {
                    deleted.push(line(object, &done));
                }
            }
            Err(failure) => {
                // Of those that are done and not yet durable enough any receipt will do.
                late = failure.get_header(&RECEIPT).cloned().or(late);
                errors.push(Error {
                    code: Some(failure.code().to_owned()),
                    key: Some(object.key),
                    message: Some(failure.message().to_owned()),
                    version_id: object.version_id,
                });
            }
        }
    }
    let output = DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors).filter(|errors| !errors.is_empty()),
        request_charged: None,
    };
    let mut answer = answered(output, receipt.as_ref())?;
    if let Some(late) = late.filter(|_| receipt.is_none()) {
        answer.headers.insert(RECEIPT, late);
    }
    Ok(answer)
}

fn read(bucket: &str, asked: &ObjectIdentifier, bypass_governance: bool) -> Result<DeleteObject, Failure> {
    let name = object(bucket, &asked.key, asked.version_id.as_deref().filter(|version| !version.is_empty()))?;
    let size = asked
        .size
        .map(|size| u64::try_from(size).map_err(|_| Failure::argument("Size", "The size is not negative.")));
    let modified = asked.last_modified_time.clone().map(time::OffsetDateTime::from);
    let conditions = Conditions {
        if_match: asked.e_tag.as_ref().map(|etag| match etag.value() {
            "*" => TagMatch::Any,
            tag => TagMatch::OneOf(vec![tag.to_owned()]),
        }),
        if_match_size: size.transpose()?,
        if_match_last_modified: modified.map(time::OffsetDateTime::unix_timestamp),
        ..Conditions::default()
    };
    Ok(DeleteObject { name, conditions, bypass_governance })
}

fn line(asked: ObjectIdentifier, done: &Deleted) -> DeletedObject {
    let version = version_text(done.version);
    DeletedObject {
        delete_marker: done.delete_marker.then_some(true),
        delete_marker_version_id: version.filter(|_| done.delete_marker),
        key: Some(asked.key),
        version_id: asked.version_id,
    }
}
