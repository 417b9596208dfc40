//! GetObject and HeadObject, from headers to frames without s3s: the hot path of the gateway.
//!
//! Invariant: HEAD answers what GET would, without the bytes. Bytes are passed on as `objects` gives them,
//! each already checked against its commitment.

use ashlar_objects::requests::{ObjectHead, ObjectName, ReadObject, Selection};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::auth::Proof;
use crate::call::Call;
use crate::failure::{Code, Failure};
use crate::headers::time::{http_date, parse_date};
use crate::headers::{attributes, checksums, conditions, lifecycle, lock, range, text};
use crate::ops::Operations;
use crate::ops::objects_write::{part_number, put_roots};
use crate::reply::{Content, Reply, empty};

/// Query parameter and the header that it replaces.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-content-type", http::header::CONTENT_TYPE),
    ("response-content-language", http::header::CONTENT_LANGUAGE),
    ("response-expires", http::header::EXPIRES),
    ("response-cache-control", http::header::CACHE_CONTROL),
    ("response-content-disposition", http::header::CONTENT_DISPOSITION),
    ("response-content-encoding", http::header::CONTENT_ENCODING),
];

fn request(call: &Call) -> Result<ReadObject, Failure> {
    let (bucket, key) = call.object()?;
    let part = call.query.get("partNumber").map(part_number).transpose()?;
    let range = text(&call.headers, "range")?;
    let selection = match (part, range) {
        (Some(_), Some(_)) => {
            return Err(Failure::new(
                Code::InvalidRequest,
                "Cannot specify both Range header and partNumber query parameter",
            ));
        }
        (Some(part), None) => Selection::Part(part),
        (None, Some(range)) => range::parse(range).map_or(Selection::Whole, Selection::Range),
        (None, None) => Selection::Whole,
    };
    Ok(ReadObject {
        name: ObjectName { bucket: bucket.clone(), key: key.clone(), version: call.version()? },
        selection,
        conditions: conditions::of_object(&call.headers)?,
    })
}

/// What the answer's headers are made of.
struct Span {
    first: u64,
    length: u64,
    partial: bool,
}

fn headers(
    call: &Call,
    head: &ObjectHead,
    span: &Span,
    selection: Selection,
) -> Result<(StatusCode, HeaderMap), Failure> {
    let mut headers = HeaderMap::with_capacity(24);
    attributes::write(&mut headers, &head.attributes);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(span.length));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, ascii(format!("\"{}\"", head.etag)));
    headers.insert(LAST_MODIFIED, ascii(http_date(head.modified)));
    if let Some(version) = head.version {
        headers.insert("x-amz-version-id", ascii(version.to_string()));
    }
    if head.tag_count > 0 {
        headers.insert("x-amz-tagging-count", HeaderValue::from(head.tag_count));
    }
    put_roots(&mut headers, &head.object_root, &head.content_root);
    let wanted = call
        .headers
        .get("x-amz-checksum-mode")
        .is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"enabled"));
    if let Selection::Part(number) = selection {
        if !head.parts.is_empty() {
            headers.insert("x-amz-mp-parts-count", HeaderValue::from(head.parts.len()));
        }
        let of_part = usize::try_from(number).ok().and_then(|number| head.parts.get(number.checked_sub(1)?));
        let checksum = of_part.map_or(head.checksum.as_ref(), |part| part.checksum.as_ref());
        if let Some(checksum) = checksum.filter(|_| wanted) {
            checksums::put(&mut headers, checksum);
        }
    } else if let Some(checksum) = head.checksum.as_ref().filter(|_| wanted && !span.partial) {
        checksums::put(&mut headers, checksum);
    }
    overrides(call, &mut headers)?;
    if !span.partial {
        return Ok((StatusCode::OK, headers));
    }
    let last = (span.first + span.length).saturating_sub(1);
    headers.insert(CONTENT_RANGE, ascii(format!("bytes {}-{last}/{}", span.first, head.length)));
    Ok((StatusCode::PARTIAL_CONTENT, headers))
}

/// `response-*`: only for those who signed.
fn overrides(call: &Call, headers: &mut HeaderMap) -> Result<(), Failure> {
    if call.query.pairs().is_empty() {
        return Ok(());
    }
    for (parameter, header) in OVERRIDES {
        let Some(value) = call.query.get(parameter) else { continue };
        if call.proof == Proof::None {
            return Err(Failure::new(
                Code::InvalidRequest,
                "Request specific response headers cannot be used for anonymous GET requests.",
            ));
        }
        let invalid = || {
            Failure::argument("response-override", format!("The value of {parameter} cannot be a header's."))
        };
        if parameter == "response-expires" && parse_date(value).is_none() {
            return Err(invalid());
        }
        headers.insert(header, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?);
    }
    Ok(())
}

/// A header value of text that we made of ASCII.
pub(crate) fn ascii(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).expect("made of visible ASCII")
}

/// What the bucket's rules say of the version: its lock, and when it expires.
async fn put_standing(
    ops: &Operations,
    call: &Call,
    name: &ObjectName,
    head: &ObjectHead,
    headers: &mut HeaderMap,
) -> Result<(), Failure> {
    let standing = ops.store.standing(&call.cx, name, head).await?;
    lock::write(headers, &standing.lock);
    if let Some(expiry) = &standing.expiration {
        headers.insert("x-amz-expiration", ascii(lifecycle::expiration(expiry)));
    }
    Ok(())
}

pub(crate) async fn get(ops: &Operations, call: &Call) -> Result<Reply, Failure> {
    let request = request(call)?;
    let selection = request.selection;
    let name = request.name.clone();
    let read = ops.store.get_object(&call.cx, request).await?;
    let span = Span { first: read.first, length: read.length, partial: read.partial };
    let (status, mut headers) = headers(call, &read.head, &span, selection)?;
    put_standing(ops, call, &name, &read.head, &mut headers).await?;
    let mut reply = empty(status, headers);
    if read.length > 0 {
        *reply.body_mut() = Content::Object { stream: read.body, left: read.length };
    }
    Ok(reply)
}

pub(crate) async fn head(ops: &Operations, call: &Call) -> Result<Reply, Failure> {
    let request = request(call)?;
    let selection = request.selection;
    let name = request.name.clone();
    let read = ops.store.head_object(&call.cx, request).await?;
    let span = Span { first: read.first, length: read.length, partial: read.partial };
    let (status, mut headers) = headers(call, &read.head, &span, selection)?;
    put_standing(ops, call, &name, &read.head, &mut headers).await?;
    Ok(empty(status, headers))
}
