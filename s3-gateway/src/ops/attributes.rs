//! GetObjectAttributes.

use ashlar_objects::requests::{ObjectHead, ReadObject, Selection};
use ashlar_objects::types::Conditions;
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::Failure;
use crate::headers::checksums::{kind_name, set_checksum};
use crate::ops::{Answer, Operations, etag, object, timestamp, version_text};

const NAMES: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

pub(super) async fn get(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetObjectAttributesInput>,
) -> Answer<GetObjectAttributesOutput> {
    let input = request.input;
    // The header is one list, be it one line or several.
    let asked: Vec<&str> =
        input.object_attributes.iter().flat_map(|names| names.as_str().split(',')).map(str::trim).collect();
    if let Some(unknown) = asked.iter().find(|name| !NAMES.contains(name)) {
        return Err(Failure::argument("x-amz-object-attributes", "Invalid attribute name specified.")
            .element("ArgumentValue", *unknown));
    }
    let wants = |name: &str| asked.contains(&name);
    let most = usize::try_from(input.max_parts.unwrap_or(1000))
        .map_err(|_| Failure::argument("x-amz-max-parts", "The number of parts is not negative."))?;
    let after = u32::try_from(input.part_number_marker.unwrap_or(0))
        .map_err(|_| Failure::argument("x-amz-part-number-marker", "The part number is not negative."))?;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let read = ReadObject { name, selection: Selection::Whole, conditions: Conditions::default() };
    let head = ops.store.head_object(cx, read).await?.head;
    let checksum = head.checksum.as_ref().filter(|_| wants("Checksum")).map(|checksum| {
        let mut out = Checksum {
            checksum_type: Some(ChecksumType::from_static(kind_name(checksum.kind))),
            ..Checksum::default()
        };
        set_checksum!(out, Some(checksum));
        out
    });
    Ok(S3Response::new(GetObjectAttributesOutput {
        checksum,
        e_tag: wants("ETag").then(|| etag(&head.etag)),
        last_modified: Some(timestamp(head.modified)),
        object_parts: (wants("ObjectParts") && !head.parts.is_empty())
            .then(|| parts(&head, after, most.min(1000))),
        object_size: wants("ObjectSize").then(|| i64::try_from(head.length).unwrap_or(i64::MAX)),
        storage_class: wants("StorageClass").then(|| {
            StorageClass::from(head.attributes.storage_class.clone().unwrap_or_else(|| "STANDARD".to_owned()))
        }),
        version_id: version_text(head.version),
        ..GetObjectAttributesOutput::default()
    }))
}

fn parts(head: &ObjectHead, after: u32, most: usize) -> GetObjectAttributesParts {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let mut rest = head.parts.iter().filter(|part| part.number > after);
    let page: Vec<_> = rest.by_ref().take(most).collect();
    let truncated = rest.next().is_some();
    let last = page.last().map_or(after, |part| part.number);
    let listed = page.into_iter().map(|part| {
        let mut out = ObjectPart {
            part_number: Some(number(part.number)),
            size: i64::try_from(part.length).ok(),
            ..ObjectPart::default()
        };
        set_checksum!(out, &part.checksum);
        out
    });
    // S3 lists parts of objects with checksums only; their number it always tells.
    let with_checksums = head.checksum.is_some();
    GetObjectAttributesParts {
        is_truncated: Some(truncated),
        max_parts: i32::try_from(most).ok(),
        next_part_number_marker: Some(number(last)),
        part_number_marker: Some(number(after)),
        parts: with_checksums.then(|| listed.collect()),
        total_parts_count: i32::try_from(head.parts.len()).ok(),
    }
}
