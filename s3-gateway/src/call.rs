//! One authenticated request on its way to its operation.
//!
//! Invariant: whoever holds a [`Call`] may trust who sent it; whoever holds a [`Passage`] is asked for the
//! very operation that we told from the request, so s3s and we can never disagree about what is done.

use std::sync::Arc;

use ashlar_objects::access::RequestContext;
use ashlar_objects::types::{BucketName, ObjectKey, VersionId};
use http::{Extensions, HeaderMap, Method};
use parking_lot::Mutex;
use s3s::{S3Error, S3ErrorCode};

use crate::auth::Proof;
use crate::failure::{Code, Failure};
use crate::operation::Operation;
use crate::payload::Unread;
use crate::query::Query;
use crate::target::Target;

/// A request with its sender.
pub(crate) struct Call {
    pub(crate) cx: RequestContext,
    pub(crate) proof: Proof,
    pub(crate) operation: Operation,
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Unread,
}

impl Call {
    /// The bucket that the request names.
    pub(crate) fn bucket(&self) -> Result<&BucketName, Failure> {
        self.target.bucket().ok_or_else(|| Failure::new(Code::InvalidRequest, "The request names no bucket."))
    }

    /// The object that the request names.
    pub(crate) fn object(&self) -> Result<(&BucketName, &ObjectKey), Failure> {
        match &self.target {
            Target::Object(bucket, key) => Ok((bucket, key)),
            Target::Service | Target::Bucket(_) => {
                Err(Failure::new(Code::InvalidRequest, "The request names no object."))
            }
        }
    }

    /// `versionId`.
    pub(crate) fn version(&self) -> Result<Option<VersionId>, Failure> {
        self.query.get("versionId").map(version).transpose()
    }
}

/// Reads a version id.
pub(crate) fn version(text: &str) -> Result<VersionId, Failure> {
    VersionId::parse(text).ok_or_else(|| {
        Failure::argument("versionId", "Invalid version id specified").element("ArgumentValue", text)
    })
}

/// What goes with a request through s3s to our trait implementation, and comes back.
pub(crate) struct Passage {
    cx: RequestContext,
    operation: Operation,
    /// All headers of the request; s3s itself sees only the few that it must parse.
    pub(crate) headers: HeaderMap,
    failure: Mutex<Option<Failure>>,
}

impl std::ops::Deref for Passage {
    type Target = RequestContext;

    fn deref(&self) -> &RequestContext {
        &self.cx
    }
}

impl Passage {
    pub(crate) fn new(cx: RequestContext, operation: Operation, headers: HeaderMap) -> Arc<Self> {
        Arc::new(Self { cx, operation, headers, failure: Mutex::new(None) })
    }

    /// The passage of a request that s3s took for `operation`.
    pub(crate) fn of(extensions: &Extensions, operation: Operation) -> Result<Arc<Self>, S3Error> {
        let passage = extensions.get::<Arc<Self>>().ok_or(S3ErrorCode::InternalError)?;
        if passage.operation == operation {
            return Ok(passage.clone());
        }
        Err(passage.fail(Failure::new(
            Code::InvalidRequest,
            "The request's query parameters do not name one operation.",
        )))
    }

    /// Keeps the failure for the answer; what s3s makes of the error returned is not shown.
    pub(crate) fn fail(&self, failure: Failure) -> S3Error {
        *self.failure.lock() = Some(failure);
        S3ErrorCode::InvalidRequest.into()
    }

    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure.lock().take()
    }
}
