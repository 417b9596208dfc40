//! PutObject and UploadPart, from headers and frames without s3s.
//!
//! Invariant: nothing of the body is read before the headers made sense and the use case asked for it.

use ashlar_objects::requests::{PutObject, UploadId, UploadName};
use ashlar_objects::types::{PART_NUMBER_MAX, PUT_BYTES_MAX};
use http::header::{CONTENT_LENGTH, ETAG, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};

use crate::call::Call;
use crate::failure::{Code, Failure};
use crate::headers::{acl, attributes, checksums, conditions, lifecycle, lock, tags};
use crate::ops::objects_read::ascii;
use crate::ops::{Operations, put_receipt, written_version};
use crate::payload::Unread;
use crate::reply::{Reply, empty};

/// Names the commitments of an object in an answer.
pub(crate) fn put_roots(
    headers: &mut HeaderMap,
    object_root: &impl std::fmt::Display,
    content_root: &impl std::fmt::Display,
) {
    headers.insert("x-ashlar-object-root", ascii(object_root.to_string()));
    headers.insert("x-ashlar-content-root", ascii(content_root.to_string()));
}

/// Reads a part's number.
pub(crate) fn part_number(text: &str) -> Result<u32, Failure> {
    text.parse().ok().filter(|number| (1..=PART_NUMBER_MAX).contains(number)).ok_or_else(|| {
        Failure::argument("partNumber", "Part number must be an integer between 1 and 10000, inclusive")
            .element("ArgumentValue", text)
    })
}

/// The body for `objects`; one that declares too much is refused before it is asked for.
fn payload(body: Unread, headers: &HeaderMap) -> Result<ashlar_objects::requests::Payload, Failure> {
    if !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING) {
        return Err(Failure::new(
            Code::MissingContentLength,
            "You must provide the Content-Length HTTP header.",
        ));
    }
    let payload = body.into_payload(headers)?;
    if let Some(length) = payload.length.filter(|length| *length > PUT_BYTES_MAX) {
        return Err(ashlar_objects::error::Error::TooLarge { length, limit: PUT_BYTES_MAX }.into());
    }
    Ok(payload)
}

pub(crate) async fn put(ops: &Operations, call: Call) -> Result<Reply, Failure> {
    let (bucket, key) = call.object()?;
    let (bucket, key) = (bucket.clone(), key.clone());
    let headers = call.headers;
    let request = PutObject {
        bucket,
        key,
        attributes: attributes::read(&headers)?,
        tags: tags::of_header(&headers)?.unwrap_or_default(),
        acl: acl::of_headers(&headers)?,
        conditions: conditions::of_object(&headers)?,
        lock: lock::of_write(&headers)?,
        payload: payload(call.body, &headers)?,
    };
    // They are slices of the connection's buffer, which a slow body would keep.
    drop((headers, call.target, call.query));
    let written = ops.store.put_object(&call.cx, request).await?;
    let mut answer = HeaderMap::with_capacity(14);
    answer.insert(ETAG, ascii(format!("\"{}\"", written.etag)));
    if let Some(version) = written_version(written.version) {
        answer.insert("x-amz-version-id", ascii(version));
    }
    if let Some(checksum) = &written.checksum {
        checksums::put(&mut answer, checksum);
    }
    if let Some(expiry) = &written.expiration {
        answer.insert("x-amz-expiration", ascii(lifecycle::expiration(expiry)));
    }
    put_roots(&mut answer, &written.object_root, &written.content_root);
    put_receipt(&mut answer, written.receipt.as_ref());
    Ok(empty(StatusCode::OK, answer))
}

pub(crate) async fn upload_part(ops: &Operations, call: Call) -> Result<Reply, Failure> {
    let (bucket, key) = call.object()?;
    let missing = |name: &'static str| {
        Failure::new(Code::InvalidArgument, format!("This operation needs {name}."))
            .element("ArgumentName", name)
    };
    let upload = call.query.get("uploadId").ok_or_else(|| missing("uploadId"))?;
    let number = part_number(call.query.get("partNumber").ok_or_else(|| missing("partNumber"))?)?;
    let upload = UploadId::parse(upload).ok_or(ashlar_objects::error::Error::NoSuchUpload)?;
    let name = UploadName { bucket: bucket.clone(), key: key.clone(), upload };
    let payload = payload(call.body, &call.headers)?;
    // They are slices of the connection's buffer, which a slow body would keep.
    drop((call.headers, call.target, call.query));
    let part = ops.store.upload_part(&call.cx, &name, number, payload).await?;
    let mut answer = HeaderMap::with_capacity(10);
    answer.insert(ETAG, ascii(format!("\"{}\"", part.etag)));
    if let Some(checksum) = &part.checksum {
        checksums::put(&mut answer, checksum);
        // A part has no type of its own.
        answer.remove("x-amz-checksum-type");
    }
    Ok(empty(StatusCode::OK, answer))
}
