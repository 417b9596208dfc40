//! ListParts and ListMultipartUploads.

use ashlar_objects::error::Error;
use ashlar_objects::requests::{ListUploads, UploadId};
use percent_encoding::utf8_percent_encode;
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::Failure;
use crate::headers::checksums::{kind_name, name, set_checksum};
use crate::ops::multipart::upload;
use crate::ops::{Answer, Operations, bucket, etag, timestamp};
use crate::query::PATH;

/// Most entries of a page.
const PAGE_MAX: i32 = 1000;

/// Reads how many entries a page may have.
fn page(asked: Option<i32>, argument: &'static str) -> Result<u32, Failure> {
    u32::try_from(asked.unwrap_or(PAGE_MAX).min(PAGE_MAX))
        .map_err(|_| Failure::argument(argument, "Argument must be an integer between 0 and 2147483647"))
}

/// Who started an upload: mostly its owner.
async fn initiator(ops: &Operations, id: String, owner: &Owner) -> Initiator {
    let Owner { display_name, id } =
        if owner.id.as_ref() == Some(&id) { owner.clone() } else { ops.owner(id).await };
    Initiator { display_name, id }
}

fn class(stored: Option<String>) -> Option<StorageClass> {
    Some(StorageClass::from(stored.unwrap_or_else(|| "STANDARD".to_owned())))
}

pub(super) async fn parts(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<ListPartsInput>,
) -> Answer<ListPartsOutput> {
    let input = request.input;
    let upload = upload(&input.bucket, &input.key, &input.upload_id)?;
    let max = page(input.max_parts, "max-parts")?;
    let after = u32::try_from(input.part_number_marker.unwrap_or(0)).map_err(|_| {
        Failure::argument("part-number-marker", "Argument must be an integer between 0 and 2147483647")
    })?;
    let found = ops.store.list_parts(cx, &upload, after, max.max(1)).await?;
    let (listed, next) = if max == 0 { (Vec::new(), None) } else { (found.parts, found.next_after) };
    let last = listed.last().map_or(after, |part| part.number);
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let parts = listed.into_iter().map(|part| {
        let mut out = Part {
            e_tag: Some(etag(&part.etag)),
            last_modified: Some(timestamp(part.modified)),
            part_number: Some(number(part.number)),
            size: i64::try_from(part.length).ok(),
            ..Part::default()
        };
        set_checksum!(out, &part.checksum);
        out
    });
    let owner = ops.owner(found.owner).await;
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        checksum_algorithm: found
            .checksum
            .map(|(algorithm, _)| ChecksumAlgorithm::from_static(name(algorithm))),
        checksum_type: found.checksum.map(|(_, kind)| ChecksumType::from_static(kind_name(kind))),
        initiator: Some(initiator(ops, found.initiator, &owner).await),
        is_truncated: Some(next.is_some()),
        key: Some(input.key),
        max_parts: Some(number(max)),
        next_part_number_marker: Some(number(next.unwrap_or(last))),
        owner: Some(owner),
        part_number_marker: Some(number(after)),
        parts: Some(parts.collect()),
        storage_class: class(found.storage_class),
        upload_id: Some(input.upload_id),
        ..ListPartsOutput::default()
    }))
}

pub(super) async fn uploads(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<ListMultipartUploadsInput>,
) -> Answer<ListMultipartUploadsOutput> {
    let input = request.input;
    let encoded = match input.encoding_type.as_ref().map(EncodingType::as_str) {
        None => false,
        Some("url") => true,
        Some(_) => {
            return Err(Failure::argument("encoding-type", "Invalid Encoding Method specified in Request"));
        }
    };
    let text = |text: String| if encoded { utf8_percent_encode(&text, PATH).to_string() } else { text };
    let bucket = bucket(&input.bucket)?;
    let max = page(input.max_uploads, "max-uploads")?;
    let key_marker = input.key_marker.filter(|marker| !marker.is_empty());
    let upload_marker = input.upload_id_marker.filter(|marker| !marker.is_empty());
    let after = match (&key_marker, &upload_marker) {
        (Some(key), Some(id)) => Some((key.clone(), Some(UploadId::parse(id).ok_or(Error::NoSuchUpload)?))),
        (Some(key), None) => Some((key.clone(), None)),
        // S3 ignores an upload without a key.
        (None, _) => None,
    };
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = input.delimiter.filter(|delimiter| !delimiter.is_empty());
    let asked =
        ListUploads { bucket, prefix: prefix.clone(), delimiter: delimiter.clone(), after, max: max.max(1) };
    let mut found = ops.store.list_uploads(cx, asked).await?;
    if max == 0 {
        found = ashlar_objects::requests::UploadPage::default();
    }
    let mut uploads = Vec::with_capacity(found.uploads.len());
    for upload in found.uploads {
        let owner = ops.owner(upload.owner).await;
        uploads.push(MultipartUpload {
            checksum_algorithm: upload
                .checksum
                .map(|(algorithm, _)| ChecksumAlgorithm::from_static(name(algorithm))),
            checksum_type: upload.checksum.map(|(_, kind)| ChecksumType::from_static(kind_name(kind))),
            initiated: Some(timestamp(upload.initiated)),
            initiator: Some(initiator(ops, upload.initiator, &owner).await),
            key: Some(text(upload.key)),
            owner: Some(owner),
            storage_class: class(upload.storage_class),
            upload_id: Some(upload.upload.to_string()),
        });
    }
    let prefixes =
        found.common_prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(text(prefix)) });
    let truncated = found.next_after.is_some();
    let (next_key, next_upload) = found.next_after.map_or((None, None), |(key, id)| (Some(key), id));
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: Some(prefixes.collect()),
        delimiter: delimiter.map(text),
        encoding_type: input.encoding_type,
        is_truncated: Some(truncated),
        key_marker: Some(text(key_marker.unwrap_or_default())),
        max_uploads: i32::try_from(max).ok(),
        next_key_marker: next_key.map(text),
        next_upload_id_marker: next_upload.map(|id| id.to_string()),
        prefix: Some(text(prefix)),
        request_charged: None,
        upload_id_marker: Some(upload_marker.unwrap_or_default()),
        uploads: Some(uploads),
    }))
}
