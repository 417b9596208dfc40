//! GetObjectAttributes, without s3s: S3 shows its entity tag without the quotes that s3s writes.

use ashlar_objects::requests::{ObjectHead, ObjectName};
use ashlar_objects::types::Checksum;
use http::header::LAST_MODIFIED;
use http::{HeaderValue, StatusCode};

use crate::call::Call;
use crate::failure::{Code, Failure};
use crate::headers::checksums::{kind_name, name};
use crate::headers::time::http_date;
use crate::headers::{number, text};
use crate::ops::Operations;
use crate::ops::objects_read::ascii;
use crate::ops::objects_write::put_roots;
use crate::reply::{Reply, xml};
use crate::xml::element;

const NAMES: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
/// Most parts of one answer.
const PARTS_MAX: usize = 1000;

/// The attributes asked for.
fn asked(call: &Call) -> Result<Vec<&str>, Failure> {
    let asked = text(&call.headers, "x-amz-object-attributes")?.unwrap_or("");
    let names: Vec<&str> = asked.split(',').map(str::trim_ascii).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Err(Failure::new(
            Code::InvalidRequest,
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
        ));
    }
    match names.iter().find(|name| !NAMES.contains(name)) {
        None => Ok(names),
        Some(unknown) => {
            Err(Failure::argument("x-amz-object-attributes", "Invalid attribute name specified.")
                .element("ArgumentValue", *unknown))
        }
    }
}

pub(crate) async fn get(ops: &Operations, call: &Call) -> Result<Reply, Failure> {
    let asked = asked(call)?;
    let wants = |name: &str| asked.contains(&name);
    let most = number::<usize>(&call.headers, "x-amz-max-parts")?.unwrap_or(PARTS_MAX).min(PARTS_MAX);
    let after = number::<u32>(&call.headers, "x-amz-part-number-marker")?.unwrap_or(0);
    let (bucket, key) = call.object()?;
    let object = ObjectName { bucket: bucket.clone(), key: key.clone(), version: call.version()? };
    let head = ops.store.object_attributes(&call.cx, object).await?;
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <GetObjectAttributesResponse xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
    );
    if wants("ETag") {
        element(&mut out, "ETag", &head.etag.to_string());
    }
    if let Some(checksum) = head.checksum.as_ref().filter(|_| wants("Checksum")) {
        out.push_str("<Checksum>");
        checksum_element(&mut out, checksum);
        element(&mut out, "ChecksumType", kind_name(checksum.kind));
        out.push_str("</Checksum>");
    }
    if wants("ObjectParts") && !head.parts.is_empty() {
        parts(&mut out, &head, after, most);
    }
    if wants("StorageClass") {
        element(&mut out, "StorageClass", head.attributes.storage_class.as_deref().unwrap_or("STANDARD"));
    }
    if wants("ObjectSize") {
        element(&mut out, "ObjectSize", &head.length.to_string());
    }
    out.push_str("</GetObjectAttributesResponse>");
    let mut reply = xml(StatusCode::OK, out);
    let headers = reply.headers_mut();
    headers.insert(LAST_MODIFIED, ascii(http_date(head.modified)));
    if let Some(version) = head.version {
        headers.insert("x-amz-version-id", ascii(version.to_string()));
    }
    headers.insert(http::header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    put_roots(headers, &head.object_root, &head.content_root);
    Ok(reply)
}

fn checksum_element(out: &mut String, checksum: &Checksum) {
    element(out, &format!("Checksum{}", name(checksum.algorithm)), &checksum.text());
}

fn parts(out: &mut String, head: &ObjectHead, after: u32, most: usize) {
    let mut rest = head.parts.iter().filter(|part| part.number > after);
    let page: Vec<_> = rest.by_ref().take(most).collect();
    let truncated = rest.next().is_some();
    let last = page.last().map_or(after, |part| part.number);
    out.push_str("<ObjectParts>");
    element(out, "PartsCount", &head.parts.len().to_string());
    element(out, "PartNumberMarker", &after.to_string());
    element(out, "NextPartNumberMarker", &last.to_string());
    element(out, "MaxParts", &most.to_string());
    element(out, "IsTruncated", if truncated { "true" } else { "false" });
    for part in &page {
        out.push_str("<Part>");
        if let Some(checksum) = &part.checksum {
            checksum_element(out, checksum);
        }
        element(out, "PartNumber", &part.number.to_string());
        element(out, "Size", &part.length.to_string());
        out.push_str("</Part>");
    }
    out.push_str("</ObjectParts>");
}
