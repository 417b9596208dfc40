//! ListObjects, ListObjectsV2, ListObjectVersions: from the query to the XML, without s3s.
//!
//! Invariant: a page is written into one string that is sized for it; a thousand keys cost a thousand
//! small appends. Markers go out exactly as they have to come back.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use ashlar_objects::requests::{ListObjects, ListVersions, ListedObject, ObjectPage, VersionPage};
use ashlar_objects::types::{UnixMillis, VersionId};
use http::StatusCode;
use percent_encoding::utf8_percent_encode;

use crate::call::Call;
use crate::failure::Failure;
use crate::headers::checksums::{kind_name, name};
use crate::headers::time::iso_date;
use crate::ops::Operations;
use crate::query::{PATH, Query};
use crate::reply::{Reply, xml};
use crate::xml::element;

/// Most entries of a page.
const PAGE_MAX: u32 = 1000;
const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
const NAMESPACE: &str = " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";

/// What all three listings are asked.
struct Asked<'q> {
    prefix: &'q str,
    delimiter: Option<&'q str>,
    max: u32,
    encoded: bool,
}

impl<'q> Asked<'q> {
    fn read(query: &'q Query) -> Result<Self, Failure> {
        let max = match query.get("max-keys").filter(|text| !text.is_empty()) {
            None => PAGE_MAX,
            Some(text) => text
                .parse::<u32>()
                .ok()
                .filter(|max| i32::try_from(*max).is_ok())
                .ok_or_else(|| {
                    Failure::argument(
                        "max-keys",
                        "Argument max-keys must be an integer between 0 and 2147483647",
                    )
                    .element("ArgumentValue", text)
                })?
                .min(PAGE_MAX),
        };
        let encoded = match query.get("encoding-type").filter(|text| !text.is_empty()) {
            None => false,
            Some(word) if word.eq_ignore_ascii_case("url") => true,
            Some(word) => {
                return Err(Failure::argument(
                    "encoding-type",
                    "Invalid Encoding Method specified in Request",
                )
                .element("ArgumentValue", word));
            }
        };
        Ok(Self {
            prefix: query.get("prefix").unwrap_or(""),
            delimiter: query.get("delimiter").filter(|delimiter| !delimiter.is_empty()),
            max,
            encoded,
        })
    }
}

/// The document under way.
struct Page<'q> {
    out: String,
    asked: &'q Asked<'q>,
    /// What is shown for the owners on the page: few, whatever its length.
    names: HashMap<String, Option<Arc<str>>>,
}

impl<'q> Page<'q> {
    fn new(root: &str, bucket: &str, asked: &'q Asked<'q>, entries: usize) -> Self {
        let mut out = String::with_capacity(512 + entries * 320);
        out.push_str(HEAD);
        out.push('<');
        out.push_str(root);
        out.push_str(NAMESPACE);
        element(&mut out, "Name", bucket);
        let mut page = Self { out, asked, names: HashMap::new() };
        // botocore does not decode the prefix of the first version's answer, others do: what reads the same
        // either way is left as it is.
        if asked.prefix.contains(['%', '+']) {
            page.key("Prefix", asked.prefix);
        } else {
            element(&mut page.out, "Prefix", asked.prefix);
        }
        page
    }

    /// Looks up what is shown for these owners.
    async fn names(&mut self, ops: &Operations, owners: impl Iterator<Item = &str>) {
        for id in owners {
            if !self.names.contains_key(id) {
                self.names.insert(id.to_owned(), ops.display_name(id).await);
            }
        }
    }

    /// An element that names a key, encoded as the client asked.
    fn key(&mut self, name: &str, key: &str) {
        if self.asked.encoded {
            self.out.push('<');
            self.out.push_str(name);
            self.out.push('>');
            self.out.extend(utf8_percent_encode(key, PATH));
            self.out.push_str("</");
            self.out.push_str(name);
            self.out.push('>');
        } else {
            element(&mut self.out, name, key);
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        element(&mut self.out, name, text);
    }

    fn shown(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.out, "<{name}>{value}</{name}>").expect("writing to a string cannot fail");
    }

    /// What every listing says of how it was asked.
    fn frame(&mut self, truncated: bool) {
        if let Some(delimiter) = self.asked.delimiter {
            self.key("Delimiter", delimiter);
        }
        self.shown("MaxKeys", self.asked.max);
        if self.asked.encoded {
            self.text("EncodingType", "url");
        }
        self.shown("IsTruncated", truncated);
    }

    fn owner(&mut self, id: &str) {
        self.out.push_str("<Owner>");
        if let Some(Some(name)) = self.names.get(id) {
            element(&mut self.out, "DisplayName", name);
        }
        element(&mut self.out, "ID", id);
        self.out.push_str("</Owner>");
    }

    /// The elements that objects and versions share.
    fn object(&mut self, object: &ListedObject, with_owner: bool) {
        self.modified(object.modified);
        self.shown("ETag", format_args!("&quot;{}&quot;", object.etag));
        if let Some((algorithm, kind)) = object.checksum {
            self.text("ChecksumAlgorithm", name(algorithm));
            self.text("ChecksumType", kind_name(kind));
        }
        self.shown("Size", object.length);
        self.text("StorageClass", object.storage_class.as_deref().unwrap_or("STANDARD"));
        if with_owner {
            self.owner(&object.owner);
        }
    }

    fn modified(&mut self, modified: UnixMillis) {
        self.text("LastModified", &iso_date(modified));
    }

    fn objects(&mut self, objects: &[ListedObject], with_owner: bool) {
        for object in objects {
            self.out.push_str("<Contents>");
            self.key("Key", &object.key);
            self.object(object, with_owner);
            self.out.push_str("</Contents>");
        }
    }

    fn prefixes(&mut self, prefixes: &[String]) {
        for prefix in prefixes {
            self.out.push_str("<CommonPrefixes>");
            self.key("Prefix", prefix);
            self.out.push_str("</CommonPrefixes>");
        }
    }

    fn finish(mut self, root: &str) -> Reply {
        self.out.push_str("</");
        self.out.push_str(root);
        self.out.push('>');
        xml(StatusCode::OK, self.out)
    }
}

/// Ceph's `allow-unordered`: every order is an order, but with a delimiter Ceph refuses it, and so do we.
fn refuse_unordered(query: &Query) -> Result<(), Failure> {
    let unordered = query.get("allow-unordered").is_some_and(|word| word.eq_ignore_ascii_case("true"));
    if unordered && query.get("delimiter").is_some_and(|delimiter| !delimiter.is_empty()) {
        return Err(Failure::argument("allow-unordered", "An unordered listing has no common prefixes."));
    }
    Ok(())
}

async fn page(
    ops: &Operations,
    call: &Call,
    asked: &Asked<'_>,
    after: Option<String>,
) -> Result<ObjectPage, Failure> {
    let request = ListObjects {
        bucket: call.bucket()?.clone(),
        prefix: asked.prefix.to_owned(),
        delimiter: asked.delimiter.map(str::to_owned),
        after,
        max: asked.max.max(1),
    };
    let found = ops.store.list_objects(&call.cx, request).await?;
    // A page of nothing is asked to see whether one may list at all.
    Ok(if asked.max == 0 { ObjectPage::default() } else { found })
}

pub(crate) async fn objects(ops: &Operations, call: &Call) -> Result<Reply, Failure> {
    const ROOT: &str = "ListBucketResult";
    let asked = Asked::read(&call.query)?;
    let marker = call.query.get("marker").unwrap_or("");
    refuse_unordered(&call.query)?;
    let after = Some(marker.to_owned()).filter(|marker| !marker.is_empty());
    let found = page(ops, call, &asked, after).await?;
    let mut out =
        Page::new(ROOT, call.bucket()?.as_str(), &asked, found.objects.len() + found.common_prefixes.len());
    out.key("Marker", marker);
    out.frame(found.next_after.is_some());
    // Without a delimiter S3 leaves it to the client, which takes the last key.
    if let Some(next) = found.next_after.as_deref().filter(|_| asked.delimiter.is_some()) {
        out.key("NextMarker", next);
    }
    out.names(ops, found.objects.iter().map(|object| object.owner.as_str())).await;
    out.objects(&found.objects, true);
    out.prefixes(&found.common_prefixes);
    Ok(out.finish(ROOT))
}

pub(crate) async fn objects_v2(ops: &Operations, call: &Call) -> Result<Reply, Failure> {
    const ROOT: &str = "ListBucketResult";
    let asked = Asked::read(&call.query)?;
    let bucket = call.bucket()?.as_str();
    let scope = ["ListObjectsV2", bucket, asked.prefix, asked.delimiter.unwrap_or("")];
    refuse_unordered(&call.query)?;
    let token = call.query.get("continuation-token");
    let start_after = call.query.get("start-after");
    let after = match token.filter(|token| !token.is_empty()) {
        Some(token) => Some(ops.tokens.require(&scope, token)?),
        None => start_after.filter(|key| !key.is_empty()).map(str::to_owned),
    };
    let found = page(ops, call, &asked, after).await?;
    let count = found.objects.len() + found.common_prefixes.len();
    let mut out = Page::new(ROOT, bucket, &asked, count);
    out.frame(found.next_after.is_some());
    out.shown("KeyCount", count);
    if let Some(token) = token {
        out.text("ContinuationToken", token);
    }
    if let Some(next) = &found.next_after {
        out.text("NextContinuationToken", &ops.tokens.seal(&scope, next));
    }
    if let Some(start_after) = start_after {
        out.key("StartAfter", start_after);
    }
    let with_owner = call.query.get("fetch-owner").is_some_and(|word| word.eq_ignore_ascii_case("true"));
    if with_owner {
        out.names(ops, found.objects.iter().map(|object| object.owner.as_str())).await;
    }
    out.objects(&found.objects, with_owner);
    out.prefixes(&found.common_prefixes);
    Ok(out.finish(ROOT))
}

pub(crate) async fn versions(ops: &Operations, call: &Call) -> Result<Reply, Failure> {
    const ROOT: &str = "ListVersionsResult";
    let asked = Asked::read(&call.query)?;
    let key_marker = call.query.get("key-marker").unwrap_or("");
    let version_marker = call.query.get("version-id-marker").filter(|marker| !marker.is_empty());
    if version_marker.is_some() && key_marker.is_empty() {
        return Err(Failure::argument(
            "version-id-marker",
            "A version-id marker cannot be specified without a key marker.",
        ));
    }
    let version = version_marker.map(|marker| {
        VersionId::parse(marker)
            .ok_or_else(|| Failure::argument("version-id-marker", "Invalid version id specified"))
    });
    let version = version.transpose()?;
    let after = (!key_marker.is_empty()).then(|| (key_marker.to_owned(), version));
    let request = ListVersions {
        bucket: call.bucket()?.clone(),
        prefix: asked.prefix.to_owned(),
        delimiter: asked.delimiter.map(str::to_owned),
        after,
        max: asked.max.max(1),
    };
    let found = ops.store.list_versions(&call.cx, request).await?;
    let found = if asked.max == 0 { VersionPage::default() } else { found };
    let mut out =
        Page::new(ROOT, call.bucket()?.as_str(), &asked, found.versions.len() + found.common_prefixes.len());
    out.key("KeyMarker", key_marker);
    out.text("VersionIdMarker", version_marker.unwrap_or(""));
    out.frame(found.next_after.is_some());
    if let Some((key, version)) = &found.next_after {
        out.key("NextKeyMarker", key);
        if let Some(version) = version {
            out.shown("NextVersionIdMarker", version);
        }
    }
    out.names(ops, found.versions.iter().map(|version| version.owner.as_str())).await;
    for version in &found.versions {
        let kind = if version.object.is_some() { "Version" } else { "DeleteMarker" };
        out.out.push('<');
        out.out.push_str(kind);
        out.out.push('>');
        out.key("Key", &version.key);
        out.shown("VersionId", version.version);
        out.shown("IsLatest", version.latest);
        match &version.object {
            Some(object) => out.object(object, false),
            None => out.modified(version.modified),
        }
        out.owner(&version.owner);
        out.out.push_str("</");
        out.out.push_str(kind);
        out.out.push('>');
    }
    out.prefixes(&found.common_prefixes);
    Ok(out.finish(ROOT))
}
