//! ACLs as S3 writes them: canned words, `x-amz-grant-*` headers, and the grants of XML documents.
//!
//! Invariant: a grant to somebody that cannot be named here is refused, never dropped.
//! Deliberately decides nothing about who may set which ACL.

use ashlar_objects::access::{Acl, AclRequest, Grant, Grantee, Permission};
use ashlar_objects::requests::CannedAcl;
use http::HeaderMap;
use s3s::dto;

use crate::failure::{Code, Failure};
use crate::headers::text;

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

const GRANT_HEADERS: [(&str, Permission); 5] = [
    ("x-amz-grant-read", Permission::Read),
    ("x-amz-grant-write", Permission::Write),
    ("x-amz-grant-read-acp", Permission::ReadAcp),
    ("x-amz-grant-write-acp", Permission::WriteAcp),
    ("x-amz-grant-full-control", Permission::FullControl),
];

/// What the headers ask the ACL to be; `None` where they say nothing.
pub(crate) fn of_headers(headers: &HeaderMap) -> Result<Option<AclRequest>, Failure> {
    let word = text(headers, "x-amz-acl")?.map(canned).transpose()?;
    let mut grants = Vec::new();
    for (header, permission) in GRANT_HEADERS {
        let value = text(headers, header)?.unwrap_or("");
        for grantee in value.split(',').map(str::trim_ascii).filter(|grantee| !grantee.is_empty()) {
            grants.push(Grant { grantee: grantee_of_header(header, grantee)?, permission });
        }
    }
    match (word, grants.is_empty()) {
        (Some(_), false) => Err(Failure::new(
            Code::InvalidRequest,
            "Specifying both Canned ACLs and Header Grants is not allowed",
        )),
        (Some(word), true) => Ok(Some(AclRequest::Canned(word))),
        (None, false) => Ok(Some(AclRequest::Grants(grants))),
        (None, true) => Ok(None),
    }
}

/// Reads a canned word.
pub(crate) fn canned(word: &str) -> Result<CannedAcl, Failure> {
    Ok(match word {
        "private" => CannedAcl::Private,
        "public-read" => CannedAcl::PublicRead,
        "public-read-write" => CannedAcl::PublicReadWrite,
        "authenticated-read" => CannedAcl::AuthenticatedRead,
        "bucket-owner-read" => CannedAcl::BucketOwnerRead,
        "bucket-owner-full-control" => CannedAcl::BucketOwnerFullControl,
        "aws-exec-read" | "log-delivery-write" => {
            return Err(Failure::not_implemented(format_args!("The canned ACL {word}")));
        }
        _ => {
            return Err(Failure::argument("x-amz-acl", "The canned ACL is not one of S3's.")
                .element("ArgumentValue", word));
        }
    })
}

/// Reads `id="…"`, `uri="…"` or `emailAddress="…"`.
fn grantee_of_header(header: &'static str, text: &str) -> Result<Grantee, Failure> {
    let invalid =
        || Failure::argument(header, "Argument format not recognized").element("ArgumentValue", text);
    let (kind, value) = text.split_once('=').ok_or_else(invalid)?;
    let value = value.trim().trim_matches('"');
    match kind.trim() {
        "id" => Ok(Grantee::User { id: value.to_owned() }),
        "uri" => group(value),
        "emailAddress" => Err(unresolvable(value)),
        _ => Err(invalid()),
    }
}

fn unresolvable(address: &str) -> Failure {
    Failure::new(
        Code::UnresolvableGrantByEmailAddress,
        "The e-mail address you provided does not match any account on record.",
    )
    .element("Email", address)
}

fn group(uri: &str) -> Result<Grantee, Failure> {
    match uri {
        ALL_USERS => Ok(Grantee::AllUsers),
        AUTHENTICATED_USERS => Ok(Grantee::AuthenticatedUsers),
        LOG_DELIVERY => Ok(Grantee::LogDelivery),
        _ => Err(Failure::new(Code::InvalidArgument, "Invalid group uri").element("ArgumentValue", uri)),
    }
}

/// Reads the grants of a document.
pub(crate) fn of_document(policy: dto::AccessControlPolicy) -> Result<AclRequest, Failure> {
    let malformed = || {
        Failure::new(
            Code::MalformedACLError,
            "The XML you provided was not well-formed or did not validate against our published schema",
        )
    };
    let mut grants = Vec::new();
    for grant in policy.grants.ok_or_else(malformed)? {
        let grantee = grant.grantee.ok_or_else(malformed)?;
        let grantee = match (grantee.id, grantee.uri, grantee.email_address) {
            (Some(id), None, None) => Grantee::User { id },
            (None, Some(uri), None) => group(&uri)?,
            (None, None, Some(address)) => return Err(unresolvable(&address)),
            _ => return Err(malformed()),
        };
        let permission = match grant.permission.as_ref().map(dto::Permission::as_str) {
            Some("READ") => Permission::Read,
            Some("WRITE") => Permission::Write,
            Some("READ_ACP") => Permission::ReadAcp,
            Some("WRITE_ACP") => Permission::WriteAcp,
            Some("FULL_CONTROL") => Permission::FullControl,
            _ => return Err(malformed()),
        };
        grants.push(Grant { grantee, permission });
    }
    Ok(AclRequest::Grants(grants))
}

/// The grants of an ACL as documents show them, without names.
pub(crate) fn to_document(acl: Acl) -> dto::Grants {
    let grants = acl.grants.into_iter().map(|grant| {
        let by_uri = |uri: &str| (dto::Type::GROUP, None, Some(uri.to_owned()));
        let (kind, id, uri) = match grant.grantee {
            Grantee::User { id } => (dto::Type::CANONICAL_USER, Some(id), None),
            Grantee::AllUsers => by_uri(ALL_USERS),
            Grantee::AuthenticatedUsers => by_uri(AUTHENTICATED_USERS),
            Grantee::LogDelivery => by_uri(LOG_DELIVERY),
        };
        let permission = match grant.permission {
            Permission::Read => dto::Permission::READ,
            Permission::Write => dto::Permission::WRITE,
            Permission::ReadAcp => dto::Permission::READ_ACP,
            Permission::WriteAcp => dto::Permission::WRITE_ACP,
            Permission::FullControl => dto::Permission::FULL_CONTROL,
        };
        let grantee = dto::Grantee {
            display_name: None,
            email_address: None,
            id,
            type_: dto::Type::from_static(kind),
            uri,
        };
        dto::Grant { grantee: Some(grantee), permission: Some(dto::Permission::from_static(permission)) }
    });
    grants.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> Result<Option<AclRequest>, Failure> {
        of_headers(
            &pairs.iter().map(|(n, v)| (n.parse().expect("name"), v.parse().expect("value"))).collect(),
        )
    }

    #[test]
    fn words_and_grants_are_read() {
        assert_eq!(of(&[]).expect("none"), None);
        assert_eq!(
            of(&[("x-amz-acl", "public-read")]).expect("word"),
            Some(AclRequest::Canned(CannedAcl::PublicRead))
        );
        let uri = format!("id=\"abc\", uri=\"{ALL_USERS}\"");
        let grants = of(&[("x-amz-grant-read", &uri)]).expect("grants");
        let want = [Grantee::User { id: "abc".into() }, Grantee::AllUsers]
            .map(|grantee| Grant { grantee, permission: Permission::Read });
        assert_eq!(grants, Some(AclRequest::Grants(want.to_vec())));
    }

    #[test]
    fn what_cannot_be_granted_is_refused() {
        for (bad, code) in [
            (("x-amz-acl", "everybody"), "InvalidArgument"),
            (("x-amz-acl", "log-delivery-write"), "NotImplemented"),
            (("x-amz-grant-read", "abc"), "InvalidArgument"),
            (("x-amz-grant-read", "uri=http://example.com/"), "InvalidArgument"),
            (("x-amz-grant-read", "emailAddress=\"a@b\""), "UnresolvableGrantByEmailAddress"),
        ] {
            assert_eq!(of(&[bad]).expect_err("bad").code(), code, "{bad:?}");
        }
        let both = [("x-amz-acl", "private"), ("x-amz-grant-read", "id=a")];
        assert_eq!(of(&both).expect_err("both").code(), "InvalidRequest");
    }

    #[test]
    fn documents_come_back() {
        let grants: Vec<Grant> = [Grantee::User { id: "a".into() }, Grantee::AllUsers, Grantee::LogDelivery]
            .into_iter()
            .map(|grantee| Grant { grantee, permission: Permission::FullControl })
            .collect();
        let shown = to_document(Acl { owner: "o".into(), grants: grants.clone() });
        let read =
            of_document(dto::AccessControlPolicy { owner: None, grants: Some(shown) }).expect("document");
        assert_eq!(read, AclRequest::Grants(grants));
    }
}
