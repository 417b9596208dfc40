//! Why a request was not done, as S3 says it: code, status, sentence, headers.
//!
//! Invariant: every error of the use cases has one place here, in a match without a catch-all, and nothing
//! of an internal fault leaves but the request id. Deliberately knows nothing of operations.

use std::borrow::Cow;

use ashlar_objects::error::{Configuration, Error};
use ashlar_objects::requests::BodyError;
use ashlar_objects::types::{InvalidKey, PART_BYTES_MIN};
use http::header::{ALLOW, CONTENT_RANGE, ETAG, LAST_MODIFIED, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::headers::time::http_date;

/// An S3 error code with its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) name: &'static str,
    pub(crate) status: u16,
}

macro_rules! codes {
    ($($name:ident = $status:literal),* $(,)?) => {
        #[allow(non_upper_case_globals, reason = "the names are S3's own")]
        impl Code {
            $(pub(crate) const $name: Code = Code { name: stringify!($name), status: $status };)*
        }
    };
}

codes! {
    AccessControlListNotSupported = 400,
    AccessDenied = 403,
    AccessForbidden = 403,
    AuthorizationHeaderMalformed = 400,
    AuthorizationQueryParametersError = 400,
    BadDigest = 400,
    BucketAlreadyExists = 409,
    BucketAlreadyOwnedByYou = 409,
    BucketNotEmpty = 409,
    ConditionalRequestConflict = 409,
    EntityTooLarge = 400,
    EntityTooSmall = 400,
    IncompleteBody = 400,
    InternalError = 500,
    InvalidAccessKeyId = 403,
    InvalidArgument = 400,
    InvalidBucketAclWithObjectOwnership = 400,
    InvalidBucketName = 400,
    InvalidBucketState = 409,
    InvalidDigest = 400,
    InvalidPart = 400,
    InvalidPartOrder = 400,
    InvalidPolicyDocument = 400,
    InvalidRange = 416,
    InvalidRequest = 400,
    InvalidRetentionPeriod = 400,
    InvalidStorageClass = 400,
    InvalidTag = 400,
    InvalidToken = 400,
    InvalidURI = 400,
    KeyTooLongError = 400,
    MalformedACLError = 400,
    MalformedPOSTRequest = 400,
    MalformedPolicy = 400,
    MalformedXML = 400,
    MaxMessageLengthExceeded = 400,
    MaxPostPreDataLengthExceeded = 400,
    MetadataTooLarge = 400,
    MethodNotAllowed = 405,
    MissingContentLength = 411,
    MissingSecurityHeader = 400,
    NoSuchBucket = 404,
    NoSuchBucketPolicy = 404,
    NoSuchCORSConfiguration = 404,
    NoSuchKey = 404,
    NoSuchLifecycleConfiguration = 404,
    NoSuchObjectLockConfiguration = 404,
    NoSuchPublicAccessBlockConfiguration = 404,
    NoSuchTagSet = 404,
    NoSuchUpload = 404,
    NoSuchVersion = 404,
    NoSuchWebsiteConfiguration = 404,
    NotImplemented = 501,
    NotModified = 304,
    ObjectLockConfigurationNotFoundError = 404,
    OwnershipControlsNotFoundError = 404,
    PreconditionFailed = 412,
    ReplicationConfigurationNotFoundError = 404,
    RequestHeaderSectionTooLarge = 400,
    RequestTimeTooSkewed = 403,
    RequestTimeout = 400,
    ServerSideEncryptionConfigurationNotFoundError = 404,
    ServiceUnavailable = 503,
    SignatureDoesNotMatch = 403,
    SlowDown = 503,
    UnexpectedContent = 400,
    UnresolvableGrantByEmailAddress = 400,
    XAmzContentSHA256Mismatch = 400,
}

/// A request's failure, ready to be rendered.
#[derive(Debug)]
pub(crate) struct Failure(Box<Facts>);

#[derive(Debug)]
struct Facts {
    code: Cow<'static, str>,
    status: StatusCode,
    message: Cow<'static, str>,
    headers: HeaderMap,
    elements: Vec<(&'static str, String)>,
    fault: Option<Error>,
}

/// How long a client that is told to slow down should wait, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

impl Failure {
    /// A failure with a sentence of its own.
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let status = StatusCode::from_u16(code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut facts = Facts {
            code: Cow::Borrowed(code.name),
            status,
            message: message.into(),
            headers: HeaderMap::new(),
            elements: Vec::new(),
            fault: None,
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            facts.headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        Self(Box::new(facts))
    }

    /// A failure that s3s found, with its code as it named it.
    pub(crate) fn foreign(code: String, status: StatusCode, message: String) -> Self {
        Self(Box::new(Facts {
            code: Cow::Owned(code),
            status,
            message: Cow::Owned(message),
            headers: HeaderMap::new(),
            elements: Vec::new(),
            fault: None,
        }))
    }

    /// 501: not implemented, and so not done.
    pub(crate) fn not_implemented(what: impl std::fmt::Display) -> Self {
        Self::new(Code::NotImplemented, format!("{what} is not implemented. Nothing was done."))
    }

    /// 400 InvalidArgument about a named argument.
    pub(crate) fn argument(name: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, reason).element("ArgumentName", name)
    }

    /// 400 MalformedXML: the document reads as XML and is not what the operation takes.
    pub(crate) fn malformed_xml(why: impl std::fmt::Display) -> Self {
        Self::new(
            Code::MalformedXML,
            format!(
                "The XML you provided was not well-formed or did not validate against our published schema: {why}."
            ),
        )
    }

    /// Adds a header to the answer.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Adds an element to the XML.
    pub(crate) fn element(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.elements.push((name, value.into()));
        self
    }

    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// A header of the answer.
    pub(crate) fn get_header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.headers.get(name)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The fault of ours behind a 5xx, for the log alone.
    pub(crate) fn fault(&self) -> Option<&Error> {
        self.0.fault.as_ref()
    }

    pub(crate) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.0.headers)
    }

    /// The error document.
    pub(crate) fn document(&self, resource: &str, request_id: &str, host_id: &str) -> String {
        let mut xml = String::with_capacity(384);
        xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        for (name, value) in [("Code", &*self.0.code), ("Message", &*self.0.message)] {
            crate::xml::element(&mut xml, name, value);
        }
        for (name, value) in &self.0.elements {
            crate::xml::element(&mut xml, name, value);
        }
        for (name, value) in [("Resource", resource), ("RequestId", request_id), ("HostId", host_id)] {
            crate::xml::element(&mut xml, name, value);
        }
        xml.push_str("</Error>");
        xml
    }

    fn fault_of(code: Code, message: &'static str, fault: Error) -> Self {
        let mut failure = Self::new(code, message);
        failure.0.fault = Some(fault);
        failure
    }
}

const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");
const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");

/// The promise to publish a change.
pub(crate) const RECEIPT: HeaderName = HeaderName::from_static("x-ashlar-receipt");

fn text_value(text: impl std::fmt::Display) -> HeaderValue {
    HeaderValue::try_from(text.to_string()).unwrap_or(HeaderValue::from_static(""))
}

impl From<Error> for Failure {
    /// The one mapping from the use cases' errors to S3's.
    fn from(error: Error) -> Self {
        match error {
            Error::AccessDenied => Self::new(Code::AccessDenied, "Access Denied"),
            Error::NoSuchBucket => Self::new(Code::NoSuchBucket, "The specified bucket does not exist"),
            Error::NoSuchKey => Self::new(Code::NoSuchKey, "The specified key does not exist."),
            Error::CurrentIsDeleteMarker { version } => {
                Self::new(Code::NoSuchKey, "The specified key does not exist.")
                    .header(DELETE_MARKER, HeaderValue::from_static("true"))
                    .header(VERSION_ID, text_value(version))
            }
            Error::NoSuchVersion => Self::new(Code::NoSuchVersion, "The specified version does not exist."),
            Error::VersionIsDeleteMarker { version } => Self::new(
                Code::MethodNotAllowed,
                "The specified method is not allowed against this resource: the version is a delete marker.",
            )
            .header(DELETE_MARKER, HeaderValue::from_static("true"))
            .header(VERSION_ID, text_value(version))
            .header(ALLOW, HeaderValue::from_static("DELETE")),
            Error::NoSuchUpload => Self::new(
                Code::NoSuchUpload,
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
                 aborted or completed.",
            ),
            Error::NoSuchConfiguration { what } => no_configuration(what),
            Error::BucketAlreadyExists => Self::new(
                Code::BucketAlreadyExists,
                "The requested bucket name is not available. Please select a different name and try again.",
            ),
            Error::BucketAlreadyOwnedByYou => Self::new(
                Code::BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it.",
            ),
            Error::BucketNotEmpty => {
                Self::new(Code::BucketNotEmpty, "The bucket you tried to delete is not empty")
            }
            Error::PreconditionFailed { condition } => Self::new(
                Code::PreconditionFailed,
                "At least one of the pre-conditions you specified did not hold",
            )
            .element("Condition", condition),
            Error::NotModified { etag, modified, version } => {
                let mut failure = Self::new(Code::NotModified, "Not Modified")
                    .header(ETAG, text_value(format_args!("\"{etag}\"")))
                    .header(LAST_MODIFIED, text_value(http_date(modified)));
                if let Some(version) = version {
                    failure = failure.header(VERSION_ID, text_value(version));
                }
                failure
            }
            Error::ConditionalConflict => Self::new(
                Code::ConditionalRequestConflict,
                "The conditional request cannot succeed due to a conflicting operation against this resource.",
            ),
            Error::RangeNotSatisfiable { length } => {
                Self::new(Code::InvalidRange, "The requested range is not satisfiable")
                    .header(CONTENT_RANGE, text_value(format_args!("bytes */{length}")))
                    .element("ActualObjectSize", length.to_string())
            }
            Error::NoSuchPartNumber { number } => {
                Self::new(Code::InvalidPart, "The requested partnumber is not satisfiable")
                    .element("PartNumberRequested", number.to_string())
            }
            Error::InvalidPart { number } => Self::new(
                Code::InvalidPart,
                "One or more of the specified parts could not be found. The part may not have been uploaded, or \
                 the specified entity tag may not match the part's entity tag.",
            )
            .element("PartNumber", number.to_string()),
            Error::InvalidPartOrder => Self::new(
                Code::InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part number.",
            ),
            Error::PartTooSmall { number, length } => Self::new(
                Code::EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size",
            )
            .element("ProposedSize", length.to_string())
            .element("MinSizeAllowed", PART_BYTES_MIN.to_string())
            .element("PartNumber", number.to_string()),
            Error::TooLarge { length, limit } => Self::new(
                Code::EntityTooLarge,
                "Your proposed upload exceeds the maximum allowed size",
            )
            .element("ProposedSize", length.to_string())
            .element("MaxSizeAllowed", limit.to_string()),
            Error::ContentMd5Mismatch => {
                Self::new(Code::BadDigest, "The Content-MD5 you specified did not match what we received.")
            }
            Error::ContentSha256Mismatch => sha256_mismatch(),
            Error::ChecksumMismatch { algorithm } => Self::new(
                Code::BadDigest,
                format!("The {algorithm:?} you specified did not match the calculated checksum."),
            ),
            Error::InvalidRequest { reason } => Self::new(Code::InvalidRequest, reason),
            Error::InvalidArgument { name, reason } => Self::argument(name, reason),
            Error::InvalidTag { reason } => Self::new(Code::InvalidTag, reason),
            Error::MalformedPolicy { reason } => Self::new(Code::MalformedPolicy, reason),
            Error::AclNotSupported => {
                Self::new(Code::AccessControlListNotSupported, "The bucket does not allow ACLs")
            }
            Error::AclAgainstOwnership => Self::new(
                Code::InvalidBucketAclWithObjectOwnership,
                "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
            ),
            Error::MetadataTooLarge { limit } => Self::new(
                Code::MetadataTooLarge,
                "Your metadata headers exceed the maximum allowed metadata size",
            )
            .element("MaxSizeAllowed", limit.to_string()),
            Error::InvalidBucketState { reason } => Self::new(Code::InvalidBucketState, reason),
            Error::ObjectLocked => {
                Self::new(Code::AccessDenied, "Access Denied because object protected by object lock.")
            }
            Error::InvalidRetentionPeriod { reason } => Self::new(Code::InvalidRetentionPeriod, reason),
            Error::MalformedConfiguration { reason } => Self::malformed_xml(reason),
            Error::CopyToItself => Self::new(
                Code::InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing \
                 the object's metadata, storage class, website redirect location or encryption attributes.",
            ),
            Error::Body(body) => body.into(),
            Error::BucketName(_) => Self::new(Code::InvalidBucketName, "The specified bucket is not valid."),
            Error::Key(InvalidKey::Empty) => Self::argument("key", "An object key has at least one byte."),
            Error::Key(InvalidKey::TooLong { bytes }) => {
                Self::new(Code::KeyTooLongError, "Your key is too long").element("Size", bytes.to_string())
            }
            Error::SlowDown { what } => {
                Self::new(Code::SlowDown, format!("Please reduce your request rate: {what}."))
            }
            Error::TooFewNodes { .. } => Self::fault_of(
                Code::ServiceUnavailable,
                "Too few storage nodes can take writes at the moment. Please try again.",
                error,
            ),
            Error::SnapshotTooOld => {
                Self::fault_of(Code::ServiceUnavailable, "The read was lost. Please try again.", error)
            }
            Error::Unreadable { .. } => Self::fault_of(
                Code::ServiceUnavailable,
                "The object's bytes cannot be read at the moment. Please try again.",
                error,
            ),
            Error::OutcomeUnknown => Self::fault_of(
                Code::ServiceUnavailable,
                "The outcome of the write is not known yet. Read before you retry.",
                error,
            ),
            // The write is done: a retry of it makes a new version, or finds its own condition broken.
            Error::NotYetDurable { level, receipt } => {
                let failure = Self::new(
                    Code::SlowDown,
                    format!(
                        "The change is stored and visible, and not yet {level} as its bucket asks for. Read before \
                         you retry: doing it again makes another version."
                    ),
                );
                match receipt {
                    Some(receipt) => failure.header(RECEIPT, text_value(receipt)),
                    None => failure,
                }
            }
            Error::NoLogEntry => Self::new(
                Code::InvalidRequest,
                "The version was written before the store had a log, so there is no entry of it.",
            ),
            Error::Internal(_) => {
                Self::fault_of(Code::InternalError, "We encountered an internal error. Please try again.", error)
            }
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Incomplete { received } => Self::new(
                Code::IncompleteBody,
                "You did not provide the number of bytes specified by the Content-Length HTTP header",
            )
            .element("Received", received.to_string()),
            BodyError::TooLong => {
                Self::new(Code::IncompleteBody, "The body is longer than the length that was declared.")
            }
            BodyError::ChunkSignature => signature_mismatch(),
            BodyError::Framing { detail } => {
                Self::new(Code::InvalidRequest, format!("The body's chunk framing is malformed: {detail}."))
            }
            BodyError::TooSlow => Self::new(
                Code::RequestTimeout,
                "Your socket connection to the server was not read from or written to within the timeout period.",
            ),
            BodyError::ContentSha256Mismatch => sha256_mismatch(),
            BodyError::Source => Self::fault_of(
                Code::ServiceUnavailable,
                "The source of the copy cannot be read at the moment. Please try again.",
                Error::Body(error),
            ),
        }
    }
}

impl From<ashlar_objects::types::InvalidKey> for Failure {
    fn from(error: InvalidKey) -> Self {
        Error::Key(error).into()
    }
}

impl From<ashlar_objects::types::InvalidBucketName> for Failure {
    fn from(error: ashlar_objects::types::InvalidBucketName) -> Self {
        Error::BucketName(error).into()
    }
}

fn sha256_mismatch() -> Failure {
    Failure::new(
        Code::XAmzContentSHA256Mismatch,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )
}

/// 403: the signature is not the one that the secret key gives.
pub(crate) fn signature_mismatch() -> Failure {
    Failure::new(
        Code::SignatureDoesNotMatch,
        "The request signature we calculated does not match the signature you provided. Check your key and \
         signing method.",
    )
}

fn no_configuration(what: Configuration) -> Failure {
    let (code, message) = match what {
        Configuration::Policy => (Code::NoSuchBucketPolicy, "The bucket policy does not exist"),
        Configuration::Cors => (Code::NoSuchCORSConfiguration, "The CORS configuration does not exist"),
        Configuration::Tags => (Code::NoSuchTagSet, "The TagSet does not exist"),
        Configuration::PublicAccessBlock => (
            Code::NoSuchPublicAccessBlockConfiguration,
            "The public access block configuration was not found",
        ),
        Configuration::OwnershipControls => {
            (Code::OwnershipControlsNotFoundError, "The bucket ownership controls were not found")
        }
        Configuration::Lifecycle => {
            (Code::NoSuchLifecycleConfiguration, "The lifecycle configuration does not exist")
        }
        Configuration::Encryption => (
            Code::ServerSideEncryptionConfigurationNotFoundError,
            "The server side encryption configuration was not found",
        ),
        Configuration::ObjectLock => (
            Code::ObjectLockConfigurationNotFoundError,
            "Object Lock configuration does not exist for this bucket",
        ),
        Configuration::Lock => (
            Code::NoSuchObjectLockConfiguration,
            "The specified object does not have a ObjectLock configuration",
        ),
        Configuration::Website => {
            (Code::NoSuchWebsiteConfiguration, "The specified bucket does not have a website configuration")
        }
    };
    Failure::new(code, message)
}
