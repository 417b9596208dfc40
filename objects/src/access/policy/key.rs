//! Condition keys: which are known, and what each stands for in one request.
//!
//! Invariant: a key is known only if its value is really known here. A key that AWS has and Ashlar cannot
//! fill is refused when the policy is put, because a Deny that never applies is worse than an error.

use std::borrow::Cow;

use super::PolicyError;
use super::pattern::Lookup;
use crate::access::{Access, Principal};

/// Condition keys whose values a front door takes from the request and gives in
/// [`RequestContext::keys`](crate::access::RequestContext::keys), each under this very name. For those named
/// after a header the value is the header's, as the operation reads it, and of a copy's source
/// `bucket/key`, decoded; the others are query parameters, decoded.
pub const REQUEST_KEYS: &[&str] = &[
    "s3:prefix",
    "s3:delimiter",
    "s3:max-keys",
    "s3:x-amz-acl",
    "s3:x-amz-content-sha256",
    "s3:x-amz-copy-source",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:x-amz-metadata-directive",
    "s3:x-amz-object-ownership",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-server-side-encryption-customer-algorithm",
    "s3:x-amz-storage-class",
    "s3:x-amz-website-redirect-location",
];

/// `aws:userid` of who did not sign.
pub(super) const ANONYMOUS_ID: &str = "anonymous";
const PREFIX: &str = "s3:prefix";
const EXISTING_TAG: &str = "s3:ExistingObjectTag/";
const REQUEST_TAG: &str = "s3:RequestObjectTag/";

/// One condition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    CurrentTime,
    EpochTime,
    PrincipalType,
    Referer,
    SecureTransport,
    SourceIp,
    UserAgent,
    UserId,
    UserName,
    VersionId,
    ExistingObjectTag(String),
    RequestObjectTag(String),
    RequestObjectTagKeys,
    /// One of [`REQUEST_KEYS`].
    Request(&'static str),
}

/// What a request says under a key.
pub(super) enum Values<'a> {
    None,
    One(Cow<'a, str>),
    Many(Vec<&'a str>),
}

impl Key {
    /// Reads a key's name; letter case does not matter, except in names of tags.
    pub(super) fn parse(name: &str) -> Result<Self, PolicyError> {
        let named = [
            ("aws:CurrentTime", Self::CurrentTime),
            ("aws:EpochTime", Self::EpochTime),
            ("aws:PrincipalType", Self::PrincipalType),
            ("aws:Referer", Self::Referer),
            ("aws:SecureTransport", Self::SecureTransport),
            ("aws:SourceIp", Self::SourceIp),
            ("aws:UserAgent", Self::UserAgent),
            ("aws:userid", Self::UserId),
            ("aws:username", Self::UserName),
            ("s3:VersionId", Self::VersionId),
            ("s3:RequestObjectTagKeys", Self::RequestObjectTagKeys),
        ];
        if let Some((_, key)) = named.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)) {
            return Ok(key);
        }
        if let Some(own) = REQUEST_KEYS.iter().find(|own| own.eq_ignore_ascii_case(name)) {
            return Ok(Self::Request(own));
        }
        for (prefix, make) in [
            (EXISTING_TAG, Self::ExistingObjectTag as fn(String) -> Self),
            (REQUEST_TAG, Self::RequestObjectTag),
        ] {
            let tag = name.split_at_checked(prefix.len()).filter(|(own, _)| own.eq_ignore_ascii_case(prefix));
            if let Some((_, tag)) = tag.filter(|(_, tag)| !tag.is_empty()) {
                return Ok(make(tag.to_owned()));
            }
        }
        Err(PolicyError::new(format!("the condition key {} is not supported", super::quoted(name))))
    }

    /// Whether a request can have several values under it.
    pub(super) fn is_many(&self) -> bool {
        matches!(self, Self::RequestObjectTagKeys)
    }
}

/// One request as conditions and variables see it.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) access: &'a Access<'a>,
    /// Stands for `s3:prefix`, where a question about one key is asked as if it were a listing of it.
    pub(super) prefix: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// What the request says under `key`.
    pub(super) fn values(&self, key: &Key) -> Values<'a> {
        if let Key::RequestObjectTagKeys = key {
            return match self.access.request_tags {
                Some(tags) if !tags.0.is_empty() => Values::Many(tags.0.keys().map(String::as_str).collect()),
                _ => Values::None,
            };
        }
        self.one(key).map_or(Values::None, Values::One)
    }

    fn one(&self, key: &Key) -> Option<Cow<'a, str>> {
        let request = self.access.request;
        let user = match &request.principal {
            Principal::User(user) => Some(user),
            Principal::Anonymous | Principal::System => None,
        };
        match key {
            Key::CurrentTime => super::value::rfc3339(self.access.now).map(Cow::Owned),
            Key::EpochTime => Some(Cow::Owned(self.access.now.0.div_euclid(1000).to_string())),
            Key::PrincipalType => Some(Cow::Borrowed(match user {
                Some(user) if user.root => "Account",
                Some(_) => "User",
                None => "Anonymous",
            })),
            Key::Referer => request.referer.as_deref().map(Cow::Borrowed),
            Key::SecureTransport => {
                Some(Cow::Borrowed(if request.secure_transport { "true" } else { "false" }))
            }
            Key::SourceIp => request.source_ip.map(|ip| Cow::Owned(ip.to_canonical().to_string())),
            Key::UserAgent => request.user_agent.as_deref().map(Cow::Borrowed),
            Key::UserId => {
                Some(user.map_or(Cow::Borrowed(ANONYMOUS_ID), |user| Cow::Borrowed(user.id.as_str())))
            }
            Key::UserName => user.map(|user| Cow::Borrowed(user.name.as_str())),
            Key::VersionId => self.access.object?.version.map(|version| Cow::Owned(version.to_string())),
            Key::ExistingObjectTag(tag) => {
                self.access.object?.tags?.0.get(tag).map(|value| Cow::Borrowed(value.as_str()))
            }
            Key::RequestObjectTag(tag) => {
                self.access.request_tags?.0.get(tag).map(|value| Cow::Borrowed(value.as_str()))
            }
            Key::RequestObjectTagKeys => None,
            Key::Request(PREFIX) if self.prefix.is_some() => self.prefix.map(Cow::Borrowed),
            Key::Request(name) => {
                let (_, value) = request.keys.iter().find(|(own, _)| own == name)?;
                Some(Cow::Borrowed(value))
            }
        }
    }
}

impl Lookup for Facts<'_> {
    fn value(&self, key: &Key) -> Option<Cow<'_, str>> {
        self.one(key)
    }
}
