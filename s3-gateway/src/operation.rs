//! Which of S3's operations a request is, and who does it.
//!
//! Invariant: every operation that S3 documents is named here, and one that Ashlar does not do is refused
//! before its body is read. The table in docs/guide/s3.md is held to this one by a test.
//! Deliberately knows nothing of how an operation is done.

use http::{HeaderMap, Method};

use crate::failure::{Code, Failure};
use crate::query::Query;
use crate::target::Target;

/// Who does an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Our own handler, from headers and body frames to the answer.
    Us,
    /// s3s reads the XML and writes the answer's; our trait implementation stands between.
    S3s,
    /// Nobody: 501.
    Nobody,
}

macro_rules! operations {
    ($($name:ident: $by:ident),* $(,)?) => {
        /// One of S3's operations.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub(crate) enum Operation { $($name),* }

        impl Operation {
            /// All of them, in the order of their numbers.
            pub(crate) const ALL: &[Operation] = &[$(Operation::$name),*];

            /// S3's name, as metrics show it.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name)),* }
            }

            /// Who does it.
            pub(crate) fn by(self) -> By {
                match self { $(Operation::$name => By::$by),* }
            }

            /// Its number, below [`Operation::ALL`]'s length.
            pub(crate) fn index(self) -> usize {
                usize::from(self as u8)
            }
        }
    };
}

operations! {
    AbortMultipartUpload: S3s,
    CompleteMultipartUpload: S3s,
    CopyObject: S3s,
    CreateBucket: S3s,
    CreateMultipartUpload: S3s,
    DeleteBucket: S3s,
    DeleteBucketCors: S3s,
    DeleteBucketEncryption: S3s,
    DeleteBucketLifecycle: S3s,
    DeleteBucketOwnershipControls: S3s,
    DeleteBucketPolicy: S3s,
    DeleteBucketReplication: S3s,
    DeleteBucketTagging: S3s,
    DeleteBucketWebsite: S3s,
    DeleteObject: S3s,
    DeleteObjectTagging: S3s,
    DeleteObjects: S3s,
    DeletePublicAccessBlock: S3s,
    GetBucketAccelerateConfiguration: S3s,
    GetBucketAcl: S3s,
    GetBucketCors: S3s,
    GetBucketEncryption: S3s,
    GetBucketLifecycleConfiguration: S3s,
    GetBucketLocation: S3s,
    GetBucketLogging: S3s,
    GetBucketNotificationConfiguration: S3s,
    GetBucketOwnershipControls: S3s,
    GetBucketPolicy: S3s,
    GetBucketPolicyStatus: S3s,
    GetBucketReplication: S3s,
    GetBucketRequestPayment: S3s,
    GetBucketTagging: S3s,
    GetBucketVersioning: S3s,
    GetBucketWebsite: S3s,
    GetObject: Us,
    GetObjectAcl: S3s,
    GetObjectAttributes: Us,
    GetObjectLegalHold: S3s,
    GetObjectLockConfiguration: S3s,
    GetObjectRetention: S3s,
    GetObjectTagging: S3s,
    GetPublicAccessBlock: S3s,
    HeadBucket: S3s,
    HeadObject: Us,
    ListBuckets: S3s,
    ListMultipartUploads: S3s,
    ListObjectVersions: Us,
    ListObjects: Us,
    ListObjectsV2: Us,
    ListParts: S3s,
    PostObject: Us,
    Preflight: Us,
    PutBucketAcl: S3s,
    PutBucketCors: S3s,
    PutBucketLifecycleConfiguration: S3s,
    PutBucketOwnershipControls: S3s,
    PutBucketPolicy: S3s,
    PutBucketTagging: S3s,
    PutBucketVersioning: S3s,
    PutObject: Us,
    PutObjectAcl: S3s,
    PutObjectTagging: S3s,
    PutPublicAccessBlock: S3s,
    UploadPart: Us,
    UploadPartCopy: S3s,

    AnalyticsConfiguration: Nobody,
    BucketAbac: Nobody,
    BucketMetadataConfiguration: Nobody,
    CreateSession: Nobody,
    GetObjectTorrent: Nobody,
    IntelligentTieringConfiguration: Nobody,
    InventoryConfiguration: Nobody,
    MetricsConfiguration: Nobody,
    PutBucketAccelerateConfiguration: Nobody,
    PutBucketEncryption: Nobody,
    PutBucketLogging: S3s,
    PutBucketNotificationConfiguration: S3s,
    PutBucketReplication: Nobody,
    PutBucketRequestPayment: S3s,
    PutBucketWebsite: Nobody,
    PutObjectLegalHold: S3s,
    PutObjectLockConfiguration: S3s,
    PutObjectRetention: S3s,
    RenameObject: Nobody,
    RestoreObject: Nobody,
    SelectObjectContent: Nobody,
    UpdateObjectEncryption: Nobody,
    WriteGetObjectResponse: Nobody,
}

/// Operations of GET, PUT and DELETE.
type Methods = (Option<Operation>, Option<Operation>, Option<Operation>);
/// A query's name, then the operations of GET, PUT and DELETE.
type SubResource = (&'static str, Option<Operation>, Option<Operation>, Option<Operation>);

/// Sub-resources of buckets.
const BUCKET: &[SubResource] = {
    use Operation::*;
    const fn all(operation: Operation) -> Methods {
        (Some(operation), Some(operation), Some(operation))
    }
    const ANALYTICS: Methods = all(AnalyticsConfiguration);
    const TIERING: Methods = all(IntelligentTieringConfiguration);
    const INVENTORY: Methods = all(InventoryConfiguration);
    const METRICS: Methods = all(MetricsConfiguration);
    const METADATA: Methods = all(BucketMetadataConfiguration);
    const ABAC: Methods = all(BucketAbac);
    &[
        ("accelerate", Some(GetBucketAccelerateConfiguration), Some(PutBucketAccelerateConfiguration), None),
        ("acl", Some(GetBucketAcl), Some(PutBucketAcl), None),
        ("cors", Some(GetBucketCors), Some(PutBucketCors), Some(DeleteBucketCors)),
        ("encryption", Some(GetBucketEncryption), Some(PutBucketEncryption), Some(DeleteBucketEncryption)),
        (
            "lifecycle",
            Some(GetBucketLifecycleConfiguration),
            Some(PutBucketLifecycleConfiguration),
            Some(DeleteBucketLifecycle),
        ),
        ("location", Some(GetBucketLocation), None, None),
        ("logging", Some(GetBucketLogging), Some(PutBucketLogging), None),
        (
            "notification",
            Some(GetBucketNotificationConfiguration),
            Some(PutBucketNotificationConfiguration),
            None,
        ),
        ("object-lock", Some(GetObjectLockConfiguration), Some(PutObjectLockConfiguration), None),
        (
            "ownershipControls",
            Some(GetBucketOwnershipControls),
            Some(PutBucketOwnershipControls),
            Some(DeleteBucketOwnershipControls),
        ),
        ("policy", Some(GetBucketPolicy), Some(PutBucketPolicy), Some(DeleteBucketPolicy)),
        ("policyStatus", Some(GetBucketPolicyStatus), None, None),
        (
            "publicAccessBlock",
            Some(GetPublicAccessBlock),
            Some(PutPublicAccessBlock),
            Some(DeletePublicAccessBlock),
        ),
        (
            "replication",
            Some(GetBucketReplication),
            Some(PutBucketReplication),
            Some(DeleteBucketReplication),
        ),
        ("requestPayment", Some(GetBucketRequestPayment), Some(PutBucketRequestPayment), None),
        ("tagging", Some(GetBucketTagging), Some(PutBucketTagging), Some(DeleteBucketTagging)),
        ("uploads", Some(ListMultipartUploads), None, None),
        ("versioning", Some(GetBucketVersioning), Some(PutBucketVersioning), None),
        ("versions", Some(ListObjectVersions), None, None),
        ("website", Some(GetBucketWebsite), Some(PutBucketWebsite), Some(DeleteBucketWebsite)),
        ("session", Some(CreateSession), None, None),
        ("abac", ABAC.0, ABAC.1, ABAC.2),
        ("analytics", ANALYTICS.0, ANALYTICS.1, ANALYTICS.2),
        ("intelligent-tiering", TIERING.0, TIERING.1, TIERING.2),
        ("inventory", INVENTORY.0, INVENTORY.1, INVENTORY.2),
        ("metrics", METRICS.0, METRICS.1, METRICS.2),
        ("metadataTable", METADATA.0, METADATA.1, METADATA.2),
        ("metadataConfiguration", METADATA.0, METADATA.1, METADATA.2),
        ("metadataInventoryTable", METADATA.0, METADATA.1, METADATA.2),
        ("metadataJournalTable", METADATA.0, METADATA.1, METADATA.2),
    ]
};

/// Sub-resources of objects: the query's name, then GET, PUT, DELETE and POST.
type ObjectRow = (&'static str, Option<Operation>, Option<Operation>, Option<Operation>, Option<Operation>);
const OBJECT: &[ObjectRow] = {
    use Operation::*;
    &[
        ("acl", Some(GetObjectAcl), Some(PutObjectAcl), None, None),
        ("attributes", Some(GetObjectAttributes), None, None, None),
        ("encryption", None, Some(UpdateObjectEncryption), None, None),
        ("legal-hold", Some(GetObjectLegalHold), Some(PutObjectLegalHold), None, None),
        ("renameObject", None, Some(RenameObject), None, None),
        ("restore", None, None, None, Some(RestoreObject)),
        ("retention", Some(GetObjectRetention), Some(PutObjectRetention), None, None),
        ("select", None, None, None, Some(SelectObjectContent)),
        ("tagging", Some(GetObjectTagging), Some(PutObjectTagging), Some(DeleteObjectTagging), None),
        ("torrent", Some(GetObjectTorrent), None, None, None),
        ("uploads", None, None, None, Some(CreateMultipartUpload)),
    ]
};

impl Operation {
    /// Tells which operation a request is.
    pub(crate) fn of(
        method: &Method,
        target: &Target,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Self, Failure> {
        if method == Method::OPTIONS {
            return Ok(Self::Preflight);
        }
        match target {
            Target::Service if method == Method::GET => Ok(Self::ListBuckets),
            Target::Service => Err(method_not_allowed()),
            Target::Bucket(_) => Self::of_bucket(method, query, headers),
            Target::Object(..) => Self::of_object(method, query, headers),
        }
    }

    fn of_bucket(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Self, Failure> {
        if method == Method::HEAD {
            return Ok(Self::HeadBucket);
        }
        if method == Method::POST {
            if query.has("delete") {
                return Ok(Self::DeleteObjects);
            }
            if headers.contains_key("x-amz-request-route") {
                return Ok(Self::WriteGetObjectResponse);
            }
            if query.pairs().iter().any(|(name, _)| name.starts_with("metadata")) {
                return Ok(Self::BucketMetadataConfiguration);
            }
            let form = headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
                value
                    .as_bytes()
                    .get(..19)
                    .is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/form-data"))
            });
            return if form { Ok(Self::PostObject) } else { Err(method_not_allowed()) };
        }
        let column = match *method {
            Method::GET => 0,
            Method::PUT => 1,
            Method::DELETE => 2,
            _ => return Err(method_not_allowed()),
        };
        for (name, get, put, delete) in BUCKET {
            if query.has(name) {
                return [*get, *put, *delete][column].ok_or_else(method_not_allowed);
            }
        }
        Ok(match column {
            0 if query.get("list-type") == Some("2") => Self::ListObjectsV2,
            0 => Self::ListObjects,
            1 => Self::CreateBucket,
            _ => Self::DeleteBucket,
        })
    }

    fn of_object(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Self, Failure> {
        if method == Method::HEAD {
            return Ok(Self::HeadObject);
        }
        let column = match *method {
            Method::GET => 0,
            Method::PUT => 1,
            Method::DELETE => 2,
            Method::POST => 3,
            _ => return Err(method_not_allowed()),
        };
        // Most requests for objects have no query at all.
        if !query.pairs().is_empty() {
            for (name, get, put, delete, post) in OBJECT {
                if query.has(name) {
                    return [*get, *put, *delete, *post][column].ok_or_else(method_not_allowed);
                }
            }
        }
        let upload = query.has("uploadId");
        let copy = headers.contains_key("x-amz-copy-source");
        Ok(match column {
            0 if upload => Self::ListParts,
            0 => Self::GetObject,
            1 if upload || query.has("partNumber") => {
                if copy {
                    Self::UploadPartCopy
                } else {
                    Self::UploadPart
                }
            }
            1 if copy => Self::CopyObject,
            1 => Self::PutObject,
            2 if upload => Self::AbortMultipartUpload,
            2 => Self::DeleteObject,
            _ if upload => Self::CompleteMultipartUpload,
            _ => return Err(method_not_allowed()),
        })
    }
}

fn method_not_allowed() -> Failure {
    Failure::new(Code::MethodNotAllowed, "The specified method is not allowed against this resource.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, uri: &str, extra: &[(&'static str, &str)]) -> Result<Operation, Failure> {
        let uri: http::Uri = uri.parse().expect("uri");
        let headers: HeaderMap =
            extra.iter().map(|(n, v)| (n.parse().expect("name"), v.parse().expect("value"))).collect();
        let target = Target::parse(&uri, &headers, &[]).expect("target");
        let query = Query::parse(uri.query().unwrap_or("")).expect("query");
        Operation::of(&method.parse().expect("method"), &target, &query, &headers)
    }

    #[test]
    fn requests_are_told_apart() {
        use Operation::*;
        for (method, uri, want) in [
            ("GET", "/", ListBuckets),
            ("PUT", "/abc", CreateBucket),
            ("GET", "/abc?location=", GetBucketLocation),
            ("GET", "/abc?list-type=2&prefix=x", ListObjectsV2),
            ("GET", "/abc?prefix=acl", ListObjects),
            ("GET", "/abc?versions", ListObjectVersions),
            ("PUT", "/abc?lifecycle", PutBucketLifecycleConfiguration),
            ("POST", "/abc?delete", DeleteObjects),
            ("GET", "/abc/k", GetObject),
            ("HEAD", "/abc/k", HeadObject),
            ("PUT", "/abc/k?partNumber=1&uploadId=u", UploadPart),
            ("PUT", "/abc/k?renameObject", RenameObject),
            ("PUT", "/abc/k?encryption", UpdateObjectEncryption),
            ("POST", "/abc/k?uploads", CreateMultipartUpload),
            ("POST", "/abc/k?uploadId=u", CompleteMultipartUpload),
            ("DELETE", "/abc/k?uploadId=u", AbortMultipartUpload),
            ("DELETE", "/abc/k?versionId=null", DeleteObject),
            ("OPTIONS", "/abc/k", Preflight),
        ] {
            assert_eq!(of(method, uri, &[]).expect(uri), want, "{method} {uri}");
        }
        let copy = [("x-amz-copy-source", "/a/b")];
        assert_eq!(of("PUT", "/abc/k", &copy).expect("copy"), CopyObject);
        assert_eq!(of("PUT", "/abc/k?partNumber=1&uploadId=u", &copy).expect("copy"), UploadPartCopy);
        let form = [("content-type", "multipart/form-data; boundary=x")];
        assert_eq!(of("POST", "/abc", &form).expect("form"), PostObject);
    }

    #[test]
    fn what_s3_does_not_have_is_not_allowed() {
        for (method, uri) in [
            ("PUT", "/"),
            ("PATCH", "/abc"),
            ("POST", "/abc/k"),
            ("POST", "/abc"),
            ("PUT", "/abc?location"),
            ("DELETE", "/abc/k?acl"),
        ] {
            assert_eq!(of(method, uri, &[]).expect_err(uri).code(), "MethodNotAllowed", "{method} {uri}");
        }
    }

    #[test]
    fn the_guide_lists_every_operation_where_it_belongs() {
        let guide = include_str!("../../docs/guide/s3.md");
        let (done, refused) = guide.split_once("## Answers 501").expect("the guide has both sections");
        for operation in Operation::ALL {
            let section = if operation.by() == By::Nobody { refused } else { done };
            let name = format!("`{}`", operation.name());
            assert!(section.contains(&name), "docs/guide/s3.md does not list {name} where it belongs");
        }
    }
}
