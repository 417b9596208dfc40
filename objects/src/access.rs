//! Who is asking, and whether they may: [`Principal`], [`authorize`], and the documents it reads.
//!
//! Every use case of every front door calls [`authorize`] and nothing else decides. Facts come in as
//! arguments; this module reads no rows and keeps no state.

mod acl;
mod action;
mod authorize;
mod policy;
mod settings;

use std::net::IpAddr;
use std::sync::Arc;

pub use acl::{Acl, AclError, AclRequest, GRANTS_MAX, Grant, Grantee, Permission, owner_of_new_object};
pub use action::Action;
pub use authorize::{Access, BucketAccess, Denied, ObjectAccess, authorize, authorize_missing_key};
pub use policy::{POLICY_BYTES_MAX, Policy, PolicyError, REQUEST_KEYS};
pub use settings::{ObjectOwnership, PublicAccessBlock};

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody signed the request.
    Anonymous,
    /// A user with a verified signature.
    User(Arc<UserIdentity>),
    /// Ashlar itself: repair, GC, publisher. Never made from a request.
    System,
}

/// A user who proved a secret key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserIdentity {
    /// Stable id: what owners, grants and policies name (64 hex digits, as S3's canonical id).
    pub id: String,
    /// Display name, unique.
    pub name: String,
    /// The access key used.
    pub access_key: String,
    /// Root may do everything to everything.
    pub root: bool,
}

/// Facts about a request that policies may ask for.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Who asks.
    pub principal: Principal,
    /// The id that the client is shown.
    pub request_id: Arc<str>,
    /// Where from.
    pub source_ip: Option<IpAddr>,
    /// Whether the transport is encrypted.
    pub secure_transport: bool,
    /// `User-Agent`.
    pub user_agent: Option<Arc<str>>,
    /// `Referer`.
    pub referer: Option<Arc<str>>,
    /// Further condition keys with their values, as `s3:prefix`, `s3:x-amz-acl`, `s3:x-amz-server-side-encryption`.
    pub keys: Vec<(&'static str, String)>,
}
