//! CopyObject and UploadPartCopy.

use ashlar_objects::requests::{CopyObject, ObjectName, UploadId, UploadName};
use ashlar_objects::types::Tags;
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::Failure;
use crate::headers::checksums::{self, set_checksum};
use crate::headers::{acl, attributes, conditions, copy_source, lifecycle, lock, range, tags, text};
use crate::ops::objects_write::{part_number, put_roots};
use crate::ops::{
    Answer, Operations, etag, object as named, put_receipt, timestamp, version_text, written_version,
};

fn source(headers: &http::HeaderMap) -> Result<ObjectName, Failure> {
    copy_source::read(headers)?
        .ok_or_else(|| Failure::argument("x-amz-copy-source", "A copy names its source."))
}

/// `COPY` (what absent means) or `REPLACE`.
fn replaces(headers: &http::HeaderMap, name: &'static str) -> Result<bool, Failure> {
    match text(headers, name)? {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(Failure::argument(name, "Unknown directive: it is COPY or REPLACE.")),
    }
}

pub(super) async fn object(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<CopyObjectInput>,
) -> Answer<CopyObjectOutput> {
    let (input, headers) = (request.input, &cx.headers);
    let target = named(&input.bucket, &input.key, None)?;
    let attributes =
        replaces(headers, "x-amz-metadata-directive")?.then(|| attributes::read(headers)).transpose()?;
    let storage_class = text(headers, "x-amz-storage-class")?.map(str::to_owned);
    if let Some(class) = &storage_class {
        attributes::check_storage_class(class)?;
    }
    let tags = if replaces(headers, "x-amz-tagging-directive")? {
        Some(tags::of_header(headers)?.unwrap_or_else(Tags::default))
    } else {
        None
    };
    let copied = ops
        .store
        .copy_object(
            cx,
            CopyObject {
                source: source(headers)?,
                source_conditions: conditions::of_copy_source(headers)?,
                bucket: target.bucket,
                key: target.key,
                attributes,
                storage_class,
                tags,
                acl: acl::of_headers(headers)?,
                checksum: checksums::named(headers)?,
                lock: lock::of_write(headers)?,
                conditions: conditions::of_object(headers)?,
            },
        )
        .await?;
    let written = copied.written;
    let mut result = CopyObjectResult {
        e_tag: Some(etag(&written.etag)),
        last_modified: Some(timestamp(written.modified)),
        checksum_type: written
            .checksum
            .as_ref()
            .map(|checksum| checksums::kind_name(checksum.kind).to_owned().into()),
        ..CopyObjectResult::default()
    };
    set_checksum!(result, &written.checksum);
    let mut answer = S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: version_text(copied.source_version),
        expiration: written.expiration.as_ref().map(lifecycle::expiration),
        version_id: written_version(written.version),
        ..CopyObjectOutput::default()
    });
    put_roots(&mut answer.headers, &written.object_root, &written.content_root);
    put_receipt(&mut answer.headers, written.receipt.as_ref());
    Ok(answer)
}

pub(super) async fn part(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<UploadPartCopyInput>,
) -> Answer<UploadPartCopyOutput> {
    let (input, headers) = (request.input, &cx.headers);
    let target = named(&input.bucket, &input.key, None)?;
    let upload = UploadId::parse(&input.upload_id).ok_or(ashlar_objects::error::Error::NoSuchUpload)?;
    let name = UploadName { bucket: target.bucket, key: target.key, upload };
    let number = part_number(&input.part_number.to_string())?;
    let range = text(headers, "x-amz-copy-source-range")?.map(range::parse_copy).transpose()?;
    let from = source(headers)?;
    let asked = conditions::of_copy_source(headers)?;
    let copied = ops.store.upload_part_copy(cx, &name, number, from, asked, range).await;
    let (part, source_version) = copied?;
    let mut result = CopyPartResult {
        e_tag: Some(etag(&part.etag)),
        last_modified: Some(timestamp(part.modified)),
        ..CopyPartResult::default()
    };
    set_checksum!(result, &part.checksum);
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: version_text(source_version),
        ..UploadPartCopyOutput::default()
    }))
}
