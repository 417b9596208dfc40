//! POST Object: an upload from a browser's form, its file streamed.
//!
//! Invariant: signature and policy are checked on the fields before the first byte of the file is asked
//! for; the file's length is held to the policy before anything is committed. Fields after the file are
//! ignored, as S3 does.

pub(crate) mod fields;
pub(crate) mod policy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ashlar_objects::access::Principal;
use ashlar_objects::error::Error;
use ashlar_objects::requests::{BodyError, Payload, PutObject};
use ashlar_objects::types::{ObjectKey, PUT_BYTES_MAX, Tags};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{ETAG, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::auth::{Authenticator, Secrets};
use crate::call::Call;
use crate::config::Limits;
use crate::failure::{Code, Failure};
use crate::headers::{
    acl, attributes, checksums, condition_keys, join_repeated, lifecycle, lock, tags, text, time, unsupported,
};
use crate::ops::objects_read::ascii;
use crate::ops::objects_write::put_roots;
use crate::ops::{Operations, put_receipt, written_version};
use crate::payload::RequestBody;
use crate::payload::document::Documents;
use crate::reply::{Reply, empty, xml};
use fields::{FileDecoder, Form, FormReader};
use policy::Policy;

/// Form fields that are headers of a PUT under another name.
const AS_HEADERS: [(&str, HeaderName); 9] = [
    ("acl", HeaderName::from_static("x-amz-acl")),
    ("cache-control", http::header::CACHE_CONTROL),
    ("content-disposition", http::header::CONTENT_DISPOSITION),
    ("content-encoding", http::header::CONTENT_ENCODING),
    ("content-language", http::header::CONTENT_LANGUAGE),
    ("content-md5", HeaderName::from_static("content-md5")),
    ("content-type", http::header::CONTENT_TYPE),
    ("expires", http::header::EXPIRES),
    ("redirect", HeaderName::from_static("x-ignored-redirect")),
];

fn malformed(why: &'static str) -> Failure {
    Failure::new(
        Code::MalformedPOSTRequest,
        format!("The body of your POST request is not well-formed multipart/form-data: {why}."),
    )
}

/// Does a form upload.
pub(crate) async fn post<S: Secrets>(
    ops: &Operations,
    authenticator: &Authenticator<S>,
    call: Call,
    documents: &Documents,
    limits: &Limits,
) -> Result<Reply, Failure> {
    let form_bytes_max = limits.form_bytes_max;
    let bucket = call.bucket()?.clone();
    let boundary = boundary(&call.headers)?;
    let content_length = call.body.declared_length();
    if content_length
        .is_some_and(|length| length > PUT_BYTES_MAX + u64::try_from(form_bytes_max).unwrap_or(u64::MAX))
    {
        return Err(Error::TooLarge { length: content_length.unwrap_or(0), limit: PUT_BYTES_MAX }.into());
    }
    let mut body = call.body.into_stream(&HeaderMap::new())?;
    let mut reader = FormReader::new(&boundary, form_bytes_max);
    // Nobody is known before the fields are read.
    let mut room = documents.room(&Principal::Anonymous);
    let mut read = 0;
    let form = loop {
        let Some(frame) = body.next().await else { return Err(malformed("it ends before the file")) };
        let frame = frame?;
        read += frame.len();
        room.grow_to(read).await?;
        if let Some(form) = reader.push(&frame)? {
            break form;
        }
    };
    let (principal, policy) = check(authenticator, &form, bucket.as_str()).await?;
    let headers = as_headers(&form)?;
    let asked_answer = AskedAnswer::of(&form);
    check_head(&headers, &asked_answer, limits.header_bytes_max)?;
    unsupported::refuse(&http::Method::POST, &headers)?;
    let key = form.get("key").ok_or_else(|| {
        Failure::argument("key", "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.")
    })?;
    let key = ObjectKey::new(&key.replace("${filename}", &form.file_name))?;
    let asked = checksums::asked(&headers)?;
    let (least, most) = policy.as_ref().map_or((0, PUT_BYTES_MAX), Policy::length_range);
    let verdict = Arc::new(Verdict::default());
    let file = File {
        decoder: reader.into_file(),
        body,
        least,
        most,
        given: 0,
        verdict: verdict.clone(),
        ended: false,
    };
    let mut cx = call.cx;
    cx.principal = principal;
    cx.keys = condition_keys(&headers, &call.query)?;
    let request = PutObject {
        bucket,
        key: key.clone(),
        attributes: attributes::read(&headers)?,
        tags: tagging(&form)?,
        acl: acl::of_headers(&headers)?,
        conditions: Default::default(),
        lock: lock::of_write(&headers)?,
        payload: Payload {
            stream: Box::pin(file),
            length: None,
            content_md5: checksums::content_md5(&headers)?,
            content_sha256: None,
            checksum: asked.checksum,
            trailing_checksum: None,
        },
    };
    // What is left of the fields is no more than a head has.
    drop(form);
    drop(room);
    let bucket = request.bucket.clone();
    let written = ops
        .store
        .put_object(&cx, request)
        .await
        .map_err(|error| verdict.failure(least, most).unwrap_or_else(|| error.into()))?;
    let mut answer = HeaderMap::new();
    let etag = format!("\"{}\"", written.etag);
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
    let host =
        call.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let encoded = percent_encoding::utf8_percent_encode(key.as_str(), crate::query::PATH);
    let location = format!("http://{host}/{bucket}/{encoded}");
    let reply = finish(asked_answer, &bucket.to_string(), key.as_str(), &etag, location, &mut answer);
    answer.insert(ETAG, ascii(etag));
    let mut reply = reply;
    for (name, value) in &answer {
        if !reply.headers().contains_key(name) {
            reply.headers_mut().insert(name, value.clone());
        }
    }
    Ok(reply)
}

/// What the form wants to see when it is done.
struct AskedAnswer {
    redirect: Option<String>,
    status: Option<String>,
}

impl AskedAnswer {
    fn of(form: &Form) -> Self {
        let redirect = form.get("success_action_redirect").or_else(|| form.get("redirect"));
        Self {
            redirect: redirect.map(str::to_owned),
            status: form.get("success_action_status").map(str::to_owned),
        }
    }
}

/// Holds what is kept of a form while its file comes to the bounds of a head.
fn check_head(headers: &HeaderMap, asked: &AskedAnswer, bytes_max: usize) -> Result<(), Failure> {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let headers: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers + text(&asked.redirect) + text(&asked.status) <= bytes_max {
        return Ok(());
    }
    Err(Failure::new(
        Code::RequestHeaderSectionTooLarge,
        "The fields of your form that describe the file are larger than headers may be.",
    )
    .element("MaxSizeAllowed", bytes_max.to_string()))
}

/// The answer as it was asked for.
fn finish(
    asked: AskedAnswer,
    bucket: &str,
    key: &str,
    etag: &str,
    location: String,
    headers: &mut HeaderMap,
) -> Reply {
    let redirect = asked.redirect.and_then(|target| {
        let separator = if target.contains('?') { '&' } else { '?' };
        let encode = |text| percent_encoding::utf8_percent_encode(text, crate::query::UNRESERVED).to_string();
        let target =
            format!("{target}{separator}bucket={}&key={}&etag={}", encode(bucket), encode(key), encode(etag));
        // Only a whole address of the web: anything else is ignored, as S3 does.
        let uri: http::Uri = target.parse().ok()?;
        (matches!(uri.scheme_str(), Some("http" | "https"))).then(|| HeaderValue::try_from(target).ok())?
    });
    if let Some(target) = redirect {
        headers.insert(LOCATION, target);
        return empty(StatusCode::SEE_OTHER, HeaderMap::new());
    }
    if let Ok(location) = HeaderValue::try_from(location.as_str()) {
        headers.insert(LOCATION, location);
    }
    match asked.status.as_deref() {
        Some("200") => empty(StatusCode::OK, HeaderMap::new()),
        Some("201") => {
            let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse>");
            for (name, value) in
                [("Location", location.as_str()), ("Bucket", bucket), ("Key", key), ("ETag", etag)]
            {
                crate::xml::element(&mut out, name, value);
            }
            out.push_str("</PostResponse>");
            xml(StatusCode::CREATED, out)
        }
        _ => empty(StatusCode::NO_CONTENT, HeaderMap::new()),
    }
}

/// Who sent the form, and the policy it was signed with.
async fn check<S: Secrets>(
    authenticator: &Authenticator<S>,
    form: &Form,
    bucket: &str,
) -> Result<(Principal, Option<Policy>), Failure> {
    if form.has("awsaccesskeyid") || (form.has("signature") && !form.has("x-amz-signature")) {
        return Err(Failure::new(
            Code::InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        ));
    }
    let signed = ["x-amz-signature", "x-amz-credential", "x-amz-algorithm"].iter().any(|name| form.has(name));
    let Some(encoded) = form.get("policy") else {
        if signed {
            return Err(Failure::argument(
                "policy",
                "Bucket POST must contain a field named 'policy'.  If it is specified, please check the order of the fields.",
            ));
        }
        return Ok((Principal::Anonymous, None));
    };
    let field = |name: &'static str| {
        form.get(name).ok_or_else(|| Failure::argument(name, format!("Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields.")))
    };
    if field("x-amz-algorithm")? != "AWS4-HMAC-SHA256" {
        return Err(Failure::argument(
            "x-amz-algorithm",
            "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"",
        ));
    }
    if form.has("x-amz-security-token") {
        return Err(Failure::new(
            Code::InvalidToken,
            "The provided token is malformed or otherwise invalid: temporary credentials are not supported.",
        ));
    }
    let now = time::now();
    let principal = authenticator
        .verify_policy(
            encoded,
            field("x-amz-credential")?,
            field("x-amz-date")?,
            field("x-amz-signature")?,
            now,
        )
        .await?;
    let policy = Policy::parse(encoded)?;
    policy.check(form, bucket, now.unix_timestamp())?;
    Ok((principal, Some(policy)))
}

/// The fields that are a PUT's headers.
fn as_headers(form: &Form) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in form.fields() {
        let header = match AS_HEADERS.iter().find(|(field, _)| field == name) {
            Some((_, header)) => header.clone(),
            None if name.starts_with("x-amz-") => HeaderName::try_from(name.as_str())
                .map_err(|_| malformed("a field's name cannot be a header's"))?,
            None => continue,
        };
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            Failure::new(Code::InvalidArgument, format!("The field {name} cannot be a header's value."))
        })?;
        // Two fields may stand for one header.
        headers.append(header, value);
    }
    join_repeated(&mut headers);
    for signing in ["x-amz-signature", "x-amz-credential", "x-amz-algorithm", "x-amz-date"] {
        headers.remove(signing);
    }
    Ok(headers)
}

/// The `tagging` field: a document, as PutObjectTagging's.
fn tagging(form: &Form) -> Result<Tags, Failure> {
    let Some(document) = form.get("tagging") else { return Ok(Tags::default()) };
    crate::xml::guard(document.as_bytes(), 8)?;
    let mut deserializer = s3s::xml::Deserializer::new(document.as_bytes());
    let tagging = <s3s::dto::Tagging as s3s::xml::Deserialize<'_>>::deserialize(&mut deserializer)
        .map_err(|_| Failure::new(Code::MalformedXML, "The XML of the field 'tagging' did not validate."))?;
    let pairs =
        tagging.tag_set.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
    tags::checked(pairs, tags::OBJECT_TAGS_MAX)
}

fn boundary(headers: &HeaderMap) -> Result<String, Failure> {
    let value = text(headers, "content-type")?.unwrap_or("");
    let parameter = value.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    });
    // RFC 2046: 1 to 70 characters.
    parameter
        .filter(|boundary| (1..=70).contains(&boundary.len()))
        .ok_or_else(|| malformed("the boundary is missing or too long"))
}

/// What the file's length broke, told beside the stream because the stream's error knows no policy.
#[derive(Default)]
struct Verdict {
    too_large: AtomicBool,
    too_small: AtomicBool,
}

impl Verdict {
    fn failure(&self, least: u64, most: u64) -> Option<Failure> {
        if self.too_large.load(Ordering::Relaxed) {
            return Some(
                Failure::new(Code::EntityTooLarge, "Your proposed upload exceeds the maximum allowed size")
                    .element("MaxSizeAllowed", most.to_string()),
            );
        }
        self.too_small.load(Ordering::Relaxed).then(|| {
            Failure::new(
                Code::EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size",
            )
            .element("MinSizeAllowed", least.to_string())
        })
    }
}

/// The file's bytes.
struct File {
    decoder: FileDecoder,
    body: RequestBody,
    least: u64,
    most: u64,
    given: u64,
    verdict: Arc<Verdict>,
    ended: bool,
}

impl File {
    fn take(&mut self, data: Bytes) -> Option<Result<Bytes, BodyError>> {
        self.given += u64::try_from(data.len()).expect("a length fits u64");
        if self.given > self.most {
            self.verdict.too_large.store(true, Ordering::Relaxed);
            return Some(Err(BodyError::TooLong));
        }
        (!data.is_empty()).then_some(Ok(data))
    }
}

impl Stream for File {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        use std::task::{Poll, ready};
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        loop {
            if let Some(data) = this.decoder.next_piece()
                && let Some(item) = this.take(data)
            {
                this.ended = item.is_err();
                return Poll::Ready(Some(item));
            }
            if this.decoder.ended() {
                this.ended = true;
                if this.given < this.least {
                    this.verdict.too_small.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(BodyError::Incomplete { received: this.given })));
                }
                return Poll::Ready(None);
            }
            match ready!(this.body.poll_next_unpin(cx)) {
                Some(Ok(frame)) => this.decoder.push(frame),
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(BodyError::Incomplete { received: this.given })));
                }
            }
        }
    }
}
