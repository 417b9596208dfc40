//! One HTTP request from head to answer: limits, identity, operation, dressing.
//!
//! Invariant: every answer, whatever went wrong, carries a request id and is counted; a body is not asked
//! for before its sender is known and the operation is one that we do; errors are S3's documents.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ashlar_objects::Store;
use ashlar_objects::access::{Principal, RequestContext, UserIdentity};
use ashlar_objects::types::BucketName;
use ashlar_objects::users::SecretKey;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::sync::Semaphore;

use crate::auth::{Authenticator, PayloadMode, Proof, Secrets};
use crate::call::{Call, Passage};
use crate::config::{GatewayConfig, Limits};
use crate::cors;
use crate::failure::{Code, Failure};
use crate::headers::{add_hoisted, condition_keys, copy_source, join_repeated, text, time, unsupported};
use crate::ids::RequestIds;
use crate::meter::Meter;
use crate::operation::{By, Operation};
use crate::ops::{Operations, attributes, lists, objects_read, objects_write};
use crate::payload::Unread;
use crate::payload::document::{Document, Documents};
use crate::payload::drain::{Drainer, Source};
use crate::payload::pace::Pace;
use crate::query::{PATH, Query};
use crate::reply::{Content, Ending, Reply, ReplyBody};
use crate::target::Target;
use crate::tokens::Tokens;

/// Secrets from the store of users.
struct StoreSecrets(Store);

impl Secrets for StoreSecrets {
    async fn secret(&self, access_key: &str) -> Result<Option<(Arc<UserIdentity>, SecretKey)>, Failure> {
        let found = self.0.users().secret_for_access_key(access_key).await;
        found.map_err(|error| Failure::from(ashlar_objects::Error::from(error)))
    }
}

/// Serves requests.
pub(crate) struct Front {
    ops: Operations,
    authenticator: Authenticator<StoreSecrets>,
    s3s: S3Service,
    domains: Vec<String>,
    limits: Limits,
    meter: Arc<Meter>,
    documents: Documents,
    in_flight: Arc<Semaphore>,
    drainer: Arc<Drainer>,
    ids: RequestIds,
    host_id: String,
    host_id_value: HeaderValue,
}

/// What is known of a request before it is answered, for the answer's dressing.
struct Seen {
    method: Method,
    path: String,
    operation: Option<Operation>,
    bucket: Option<BucketName>,
    origin: Option<HeaderValue>,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");

/// The headers that s3s must see to fill the inputs of its share of operations.
const FOR_S3S: [HeaderName; 1] = [HeaderName::from_static("x-amz-copy-source")];

impl Front {
    pub(crate) fn new(store: Store, config: GatewayConfig, drainer: Arc<Drainer>) -> Self {
        let limits = config.limits;
        let token_key = config.token_key.unwrap_or_else(rand::random);
        let ops = Operations {
            store: store.clone(),
            tokens: Arc::new(Tokens::new(token_key)),
            region: Arc::from(if config.region.is_empty() { "us-east-1" } else { config.region.as_str() }),
        };
        let mut s3_config = s3s::config::S3Config::default();
        s3_config.xml_max_body_size = limits.document_bytes_max;
        let mut builder = S3ServiceBuilder::new(ops.clone());
        builder.set_config(Arc::new(s3s::config::StaticConfigProvider::new(Arc::new(s3_config))));
        let host_id = hex::encode(rand::random::<[u8; 16]>());
        Self {
            ops,
            authenticator: Authenticator::new(StoreSecrets(store), config.region, limits.clock_skew_max),
            s3s: builder.build(),
            domains: config.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            meter: Arc::new(Meter::new()),
            documents: Documents::new(&limits),
            in_flight: Arc::new(Semaphore::new(limits.in_flight_max)),
            drainer,
            ids: RequestIds::new(rand::random()),
            host_id_value: HeaderValue::try_from(host_id.as_str()).expect("hex is a header value"),
            host_id,
            limits,
        }
    }

    /// Answers one request.
    pub(crate) async fn serve(
        self: Arc<Self>,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> Response<ReplyBody> {
        let started = Instant::now();
        let request_id = self.ids.next();
        let (parts, incoming) = request.into_parts();
        let mut seen = Seen {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            operation: None,
            bucket: None,
            origin: cors::origin(&parts.headers),
        };
        let slot = self.in_flight.clone().try_acquire_owned();
        self.meter.in_flight().increment(1.0);
        let mut ending = Ending { meter: self.meter.clone(), operation: None, started, slot: None };
        let source = Source::new(incoming, &parts.headers, self.drainer.clone());
        let waiting = source.waiting();
        let outcome = match slot {
            Ok(slot) => {
                ending.slot = Some(slot);
                self.answer(&mut seen, parts, source, peer, &request_id).await
            }
            Err(_) => {
                drop(source);
                Err(Failure::new(
                    Code::SlowDown,
                    "Please reduce your request rate: too many requests are being served.",
                ))
            }
        };
        ending.operation = seen.operation;
        let mut reply = match outcome {
            Ok(reply) => {
                self.meter.answered(seen.operation);
                reply
            }
            Err(mut failure) => {
                self.meter.failed(seen.operation, &failure, &request_id);
                self.render(&mut failure, &seen, &request_id)
            }
        };
        let headers = reply.headers_mut();
        headers.insert(REQUEST_ID, objects_read::ascii(request_id.to_string()));
        headers.insert(HOST_ID, self.host_id_value.clone());
        if waiting.is_some_and(|waiting| waiting.load(Ordering::Relaxed)) {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let (Some(origin), Some(bucket)) = (&seen.origin, &seen.bucket)
            && seen.method != Method::OPTIONS
        {
            cors::dress(&self.ops.store, bucket, &seen.method, origin, headers).await;
        }
        let bytes = self.meter.bytes_out();
        reply.map(|content| ReplyBody::new(content, bytes, request_id, ending))
    }

    /// An error's document; HEAD and 304 have none.
    fn render(&self, failure: &mut Failure, seen: &Seen, request_id: &str) -> Reply {
        let headers = failure.take_headers();
        let status = failure.status();
        let mut reply = if seen.method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            crate::reply::empty(status, HeaderMap::new())
        } else {
            crate::reply::xml(status, failure.document(&seen.path, request_id, &self.host_id))
        };
        reply.headers_mut().extend(headers);
        reply
    }

    async fn answer(
        &self,
        seen: &mut Seen,
        parts: Parts,
        source: Source,
        peer: IpAddr,
        request_id: &Arc<str>,
    ) -> Result<Reply, Failure> {
        self.check_head(&parts)?;
        let query = Query::parse(parts.uri.query().unwrap_or("")).map_err(|_| {
            Failure::new(Code::InvalidURI, "Couldn't parse the specified URI: its query is not UTF-8.")
        })?;
        let target = Target::parse(&parts.uri, &parts.headers, &self.domains)?;
        seen.bucket = target.bucket().cloned();
        let operation = Operation::of(&parts.method, &target, &query, &parts.headers)?;
        seen.operation = Some(operation);
        if operation == Operation::Preflight {
            return cors::preflight(&self.ops.store, target.bucket(), &parts.headers).await;
        }
        let unread = |mode| Unread {
            source,
            mode,
            pace: Pace::new(self.limits.pace_bytes_per_second, self.limits.pace_window),
            meter: self.meter.bytes_in(),
        };
        if operation == Operation::PostObject {
            self.check_owners(&target, &parts.headers, request_id).await?;
            let call = Call {
                // What policies may ask about the upload stands in the form's fields.
                cx: self.context(Principal::Anonymous, &parts.headers, Vec::new(), peer, request_id),
                proof: Proof::None,
                operation,
                method: parts.method,
                target,
                query,
                headers: parts.headers,
                body: unread(PayloadMode::Plain),
            };
            let post = crate::form::post(&self.ops, &self.authenticator, call, &self.documents, &self.limits);
            return Box::pin(post).await;
        }
        let verified = self.authenticator.verify(&parts, &query, time::now()).await?;
        let mut headers = parts.headers;
        let operation = if verified.proof == Proof::Query {
            add_hoisted(&mut headers, &query)?;
            Operation::of(&parts.method, &target, &query, &headers)?
        } else {
            operation
        };
        join_repeated(&mut headers);
        seen.operation = Some(operation);
        if operation.by() == By::Nobody {
            return Err(Failure::not_implemented(operation.name()));
        }
        unsupported::refuse(&parts.method, &headers)?;
        self.check_owners(&target, &headers, request_id).await?;
        let keys = condition_keys(&headers, &query)?;
        let call = Call {
            cx: self.context(verified.principal, &headers, keys, peer, request_id),
            proof: verified.proof,
            operation,
            method: parts.method,
            target,
            query,
            headers,
            body: unread(verified.payload),
        };
        // A slice of the connection's buffer, which a slow body would keep.
        drop(parts.uri);
        match operation {
            Operation::GetObject => objects_read::get(&self.ops, &call).await,
            Operation::HeadObject => objects_read::head(&self.ops, &call).await,
            Operation::PutObject => objects_write::put(&self.ops, call).await,
            Operation::UploadPart => objects_write::upload_part(&self.ops, call).await,
            Operation::GetObjectAttributes => attributes::get(&self.ops, &call).await,
            Operation::ListObjects => lists::objects(&self.ops, &call).await,
            Operation::ListObjectsV2 => lists::objects_v2(&self.ops, &call).await,
            Operation::ListObjectVersions => lists::versions(&self.ops, &call).await,
            _ => Box::pin(self.through_s3s(call)).await,
        }
    }

    /// Bounds on the head. What is beyond hyper's own never comes here; it answers 431.
    fn check_head(&self, parts: &Parts) -> Result<(), Failure> {
        let uri = parts.uri.path_and_query().map_or(0, |both| both.as_str().len());
        if uri > self.limits.uri_bytes_max {
            return Err(Failure::new(Code::InvalidURI, "Couldn't parse the specified URI: it is too long."));
        }
        let bytes: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > self.limits.header_bytes_max {
            return Err(Failure::new(
                Code::RequestHeaderSectionTooLarge,
                "Your request header section exceeds the maximum allowed request header section size",
            )
            .element("MaxSizeAllowed", self.limits.header_bytes_max.to_string()));
        }
        Ok(())
    }

    fn context(
        &self,
        principal: Principal,
        headers: &HeaderMap,
        keys: Vec<(&'static str, String)>,
        peer: IpAddr,
        request_id: &Arc<str>,
    ) -> RequestContext {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(Arc::from);
        RequestContext {
            principal,
            request_id: request_id.clone(),
            source_ip: Some(peer),
            secure_transport: false,
            user_agent: text(http::header::USER_AGENT),
            referer: text(http::header::REFERER),
            keys,
        }
    }

    /// `x-amz-expected-bucket-owner`, for the bucket named and for a copy's source.
    async fn check_owners(
        &self,
        target: &Target,
        headers: &HeaderMap,
        request_id: &Arc<str>,
    ) -> Result<(), Failure> {
        if let (Some(expected), Some(bucket)) =
            (text(headers, "x-amz-expected-bucket-owner")?, target.bucket())
        {
            self.check_owner(bucket, expected, request_id).await?;
        }
        if let Some(expected) = text(headers, "x-amz-source-expected-bucket-owner")?
            && let Some(source) = copy_source::read(headers)?
        {
            self.check_owner(&source.bucket, expected, request_id).await?;
        }
        Ok(())
    }

    async fn check_owner(
        &self,
        bucket: &BucketName,
        expected: &str,
        request_id: &Arc<str>,
    ) -> Result<(), Failure> {
        // Whose a bucket is, is asked by the gateway itself; the caller learns only that he was wrong.
        let cx = RequestContext {
            principal: Principal::System,
            request_id: request_id.clone(),
            source_ip: None,
            secure_transport: false,
            user_agent: None,
            referer: None,
            keys: Vec::new(),
        };
        let facts = self.ops.store.head_bucket(&cx, bucket).await?;
        if facts.owner == expected {
            return Ok(());
        }
        Err(Failure::new(Code::AccessDenied, "Access Denied"))
    }

    /// Lets s3s read the document, call our trait implementation and write the answer.
    async fn through_s3s(&self, call: Call) -> Result<Reply, Failure> {
        let Call { cx, operation, method, target, query, headers, body, .. } = call;
        let with_document = method == Method::PUT || method == Method::POST;
        let document = if with_document {
            let of_document = operation != Operation::CompleteMultipartUpload;
            body.into_document(&headers, of_document, self.documents.room(&cx.principal)).await?
        } else {
            drop(body);
            Document::none()
        };
        if !document.bytes.is_empty() && operation != Operation::PutBucketPolicy {
            crate::xml::guard(&document.bytes, self.limits.xml_depth_max)?;
        }
        let mut request = Request::new(s3s::Body::from(document.bytes.clone()));
        *request.method_mut() = method;
        *request.uri_mut() = s3s_uri(&target, &query)?;
        for name in FOR_S3S {
            if let Some(value) = headers.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        let passage = Passage::new(cx, operation, headers);
        request.extensions_mut().insert(passage.clone());
        let internal =
            || Failure::new(Code::InternalError, "We encountered an internal error. Please try again.");
        let response = self.s3s.call(request).await.map_err(|_| internal())?;
        if let Some(failure) = passage.take_failure() {
            return Err(failure);
        }
        if response.status().is_client_error() || response.status().is_server_error() {
            return Err(of_s3s(&response));
        }
        Ok(response.map(|body| match body.bytes() {
            Some(bytes) if bytes.is_empty() => Content::Empty,
            Some(bytes) => Content::Whole(bytes),
            None => Content::S3s(body),
        }))
    }
}

/// The request's URI in path style and without its signature: all that s3s needs to know.
fn s3s_uri(target: &Target, query: &Query) -> Result<http::Uri, Failure> {
    use percent_encoding::utf8_percent_encode;
    let mut uri = String::from("/");
    match target {
        Target::Service => {}
        Target::Bucket(bucket) => uri.push_str(bucket.as_str()),
        Target::Object(bucket, key) => {
            uri.push_str(bucket.as_str());
            uri.push('/');
            uri.extend(utf8_percent_encode(key.as_str(), PATH));
        }
    }
    let query = query.without_signature();
    if !query.is_empty() {
        uri.push('?');
        uri.push_str(&query);
    }
    uri.try_into().map_err(|_| Failure::new(Code::InvalidURI, "Couldn't parse the specified URI."))
}

/// What s3s found wrong, from the document it wrote.
fn of_s3s(response: &Response<s3s::Body>) -> Failure {
    let document = response.body().bytes().unwrap_or_default();
    let document = String::from_utf8_lossy(&document);
    let element = |name: &str| {
        let (_, rest) = document.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        quick_xml::escape::unescape(text).ok().map(std::borrow::Cow::into_owned)
    };
    let code = element("Code").unwrap_or_else(|| "InternalError".to_owned());
    let message = element("Message").unwrap_or_else(|| match code.as_str() {
        "MalformedXML" => {
            "The XML you provided was not well-formed or did not validate against our published schema"
                .to_owned()
        }
        "MissingRequestBodyError" => "Request Body is empty".to_owned(),
        _ => "The request is not valid.".to_owned(),
    });
    Failure::foreign(code, response.status(), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_objects::types::ObjectKey;

    #[test]
    fn s3s_sees_the_key_as_it_is_and_no_signature() {
        let bucket = BucketName::new("abc").expect("bucket");
        let key = ObjectKey::new("a b/../ü?\0").expect("key");
        let query = Query::parse("tagging&X-Amz-Signature=0&versionId=1%2B1").expect("query");
        let uri = s3s_uri(&Target::Object(bucket, key), &query).expect("uri");
        assert_eq!(uri, "/abc/a%20b/../%C3%BC%3F%00?tagging=&versionId=1%2B1");
        assert_eq!(s3s_uri(&Target::Service, &Query::default()).expect("uri"), "/");
    }

    #[test]
    fn documents_of_s3s_are_read() {
        let document =
            "<?xml version=\"1.0\"?><Error><Code>MalformedXML</Code><Message>a &lt; b</Message></Error>";
        let mut response = Response::new(s3s::Body::from(bytes::Bytes::from(document)));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let failure = of_s3s(&response);
        assert_eq!((failure.code(), failure.message()), ("MalformedXML", "a < b"));
    }
}
