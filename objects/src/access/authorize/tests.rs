//! Decisions: tables of known cases, and properties over random policies, ACLs and requests.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{AclRequest, Grant, Grantee, Permission, UserIdentity, owner_of_new_object};
use super::*;
use crate::requests::CannedAcl;

const OWNER: &str = "owner";
const OTHER: &str = "other";

fn user(id: &str) -> Principal {
    let user = UserIdentity {
        id: id.into(),
        name: format!("{id}-name"),
        access_key: "AK".into(),
        root: id == "root",
    };
    Principal::User(user.into())
}

fn request(principal: Principal) -> RequestContext {
    RequestContext {
        principal,
        request_id: "r".into(),
        source_ip: Some("192.0.2.1".parse().expect("an address")),
        secure_transport: false,
        user_agent: None,
        referer: None,
        keys: vec![],
    }
}

/// A bucket with all that decides about it, owned where [`BucketAccess`] borrows.
#[derive(Clone, Debug, Default)]
struct Bucket {
    policy: Option<Policy>,
    acl: Option<Acl>,
    ownership: ObjectOwnership,
    block: PublicAccessBlock,
    object_owner: Option<&'static str>,
    object_acl: Option<Acl>,
}

impl Bucket {
    fn with_policy(statements: &Value) -> Self {
        Self { policy: Some(policy(statements)), ..Self::default() }
    }

    fn canned(canned: CannedAcl) -> Self {
        Self { acl: Some(Acl::canned(canned, OWNER, OWNER)), ..Self::default() }
    }

    fn object(mut self, owner: &'static str, canned: CannedAcl) -> Self {
        self.object_owner = Some(owner);
        self.object_acl = Some(Acl::canned(canned, owner, OWNER));
        self
    }

    fn access(&self) -> BucketAccess<'_> {
        BucketAccess {
            name: "logs",
            owner: OWNER,
            policy: self.policy.as_ref(),
            acl: self.acl.as_ref(),
            ownership: self.ownership,
            public_access_block: self.block,
        }
    }

    fn question<'a>(&'a self, request: &'a RequestContext, action: Action, key: &'a str) -> Access<'a> {
        let object = ObjectAccess {
            key,
            owner: self.object_owner,
            acl: self.object_acl.as_ref(),
            tags: None,
            version: None,
        };
        let object = (action.scope() == Scope::Object).then_some(object);
        Access {
            request,
            action,
            bucket: Some(self.access()),
            object,
            request_tags: None,
            now: UnixMillis(0),
        }
    }

    fn allows(&self, principal: Principal, action: Action) -> bool {
        self.allows_key(principal, action, "key")
    }

    fn allows_key(&self, principal: Principal, action: Action, key: &str) -> bool {
        let request = request(principal);
        authorize(&self.question(&request, action, key)).is_ok()
    }

    fn tells_missing(&self, principal: Principal, key: &str) -> bool {
        let request = request(principal);
        authorize_missing_key(&self.question(&request, Action::GetObject, key)).is_ok()
    }
}

fn policy(statements: &Value) -> Policy {
    let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    Policy::parse(&document, "logs").unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn allow(principal: &Value, action: &str, resource: &str) -> Value {
    json!([{"Effect": "Allow", "Principal": principal, "Action": action, "Resource": resource}])
}

const INSIDE: &str = "arn:aws:s3:::logs/*";

#[test]
fn a_plain_bucket_is_its_owners_alone() {
    let bucket = Bucket::default();
    for action in Action::ALL.iter().copied().filter(|action| action.scope() != Scope::Service) {
        assert!(bucket.allows(user(OWNER), action), "{}", action.name());
        assert!(bucket.allows(user("root"), action) && bucket.allows(Principal::System, action));
        assert!(!bucket.allows(user(OTHER), action), "{}", action.name());
        assert!(!bucket.allows(Principal::Anonymous, action), "{}", action.name());
    }
}

#[test]
fn whoever_is_somebody_makes_and_lists_buckets() {
    for (action, principal, expected) in [
        (Action::CreateBucket, user(OTHER), true),
        (Action::ListAllMyBuckets, user(OTHER), true),
        (Action::CreateBucket, Principal::Anonymous, false),
        (Action::ListAllMyBuckets, Principal::Anonymous, false),
        (Action::DeleteBucket, user(OTHER), false),
    ] {
        let request = request(principal);
        let access = Access {
            request: &request,
            action,
            bucket: None,
            object: None,
            request_tags: None,
            now: UnixMillis(0),
        };
        assert_eq!(authorize(&access).is_ok(), expected, "{}", action.name());
    }
}

#[test]
fn an_object_action_without_an_object_is_never_allowed() {
    let bucket = Bucket::default();
    let request = request(user(OWNER));
    let access = Access { object: None, ..bucket.question(&request, Action::GetObject, "key") };
    assert_eq!(authorize(&access), Err(Denied));
}

#[test]
fn a_policy_names_users_in_every_form() {
    for (principal, expected) in [
        (json!("*"), true),
        (json!({"AWS": "other"}), true),
        (json!({"AWS": "other-name"}), true),
        (json!({"AWS": "arn:aws:iam::other:root"}), true),
        (json!({"AWS": "arn:aws:iam::other:user/other-name"}), true),
        (json!({"AWS": "arn:aws:iam:::user/other-name"}), true),
        (json!({"CanonicalUser": "other"}), true),
        (json!({"AWS": ["nobody", "other"]}), true),
        (json!({"AWS": "arn:aws:iam::other:user/another"}), false),
        (json!({"AWS": "arn:aws:iam::another:user/other-name"}), false),
        (json!({"AWS": "Other"}), false),
        (json!({"Service": "other"}), false),
    ] {
        let bucket = Bucket::with_policy(&allow(&principal, "s3:GetObject", INSIDE));
        assert_eq!(bucket.allows(user(OTHER), Action::GetObject), expected, "{principal}");
        let anyone = principal == json!("*");
        assert_eq!(bucket.allows(Principal::Anonymous, Action::GetObject), anyone, "{principal}");
        assert!(!bucket.allows(user(OTHER), Action::PutObject));
    }
}

#[test]
fn resources_and_actions_match_with_wildcards() {
    let bucket = Bucket::with_policy(&allow(&json!("*"), "s3:Get*", "arn:aws:s3:::logs/a/${aws:username}/?"));
    assert!(bucket.allows_key(user(OTHER), Action::GetObject, "a/other-name/1"));
    assert!(bucket.allows_key(user(OTHER), Action::GetObjectTagging, "a/other-name/1"));
    assert!(!bucket.allows_key(user(OTHER), Action::GetObject, "a/other-name/12"));
    assert!(!bucket.allows_key(user(OTHER), Action::GetObject, "a/owner-name/1"));
    assert!(!bucket.allows_key(user(OTHER), Action::PutObject, "a/other-name/1"));
    assert!(!bucket.allows_key(Principal::Anonymous, Action::GetObject, "a//1"));
    let bucket = Bucket::with_policy(&json!([{
        "Effect": "Allow", "Principal": "*", "NotAction": "s3:Delete*", "NotResource": "arn:aws:s3:::logs/private/*",
    }]));
    assert!(bucket.allows_key(user(OTHER), Action::PutObject, "x"));
    assert!(!bucket.allows_key(user(OTHER), Action::DeleteObject, "x"));
    assert!(!bucket.allows_key(user(OTHER), Action::GetObject, "private/x"));
    // A bucket's ARN does not cover its objects.
    let bucket = Bucket::with_policy(&allow(&json!("*"), "s3:PutObject", "arn:aws:s3:::logs"));
    assert!(!bucket.allows(user(OTHER), Action::PutObject));
}

#[test]
fn a_deny_binds_the_owner_but_never_locks_him_out() {
    let deny = json!([{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}]);
    let bucket = Bucket { policy: Some(policy(&deny)), ..Bucket::canned(CannedAcl::PublicReadWrite) };
    for action in Action::ALL.iter().copied().filter(|action| action.scope() != Scope::Service) {
        let of_policy =
            matches!(action, Action::GetBucketPolicy | Action::PutBucketPolicy | Action::DeleteBucketPolicy);
        assert_eq!(bucket.allows(user(OWNER), action), of_policy, "{}", action.name());
        assert!(!bucket.allows(user(OTHER), action) && !bucket.allows(Principal::Anonymous, action));
        assert!(bucket.allows(user("root"), action));
    }
    let all_but = json!([{"Effect": "Deny", "NotPrincipal": {"AWS": ["other", "owner"]}, "Action": "*", "Resource": "*"}]);
    let bucket = Bucket { policy: Some(policy(&all_but)), ..Bucket::canned(CannedAcl::PublicRead) };
    assert!(bucket.allows(user(OTHER), Action::ListBucket) && bucket.allows(user(OWNER), Action::PutObject));
    assert!(!bucket.allows(user("third"), Action::ListBucket));
    assert!(!bucket.allows(Principal::Anonymous, Action::ListBucket));
}

#[test]
fn bucket_acls_grant_what_s3_says() {
    use Action::{DeleteObject, GetBucketAcl, GetObject, ListBucket, PutBucketAcl, PutObject};
    let granted = |permission| {
        let grantee = Grantee::User { id: OTHER.into() };
        let request = AclRequest::Grants(vec![Grant { grantee, permission }]);
        let plain = Bucket::default();
        let acl = Acl::of_bucket(&request, &plain.access()).expect("an ACL");
        Bucket { acl: Some(acl), ..Bucket::default() }
    };
    let asked = [ListBucket, GetBucketAcl, PutObject, DeleteObject, PutBucketAcl, GetObject];
    for (permission, expected) in [
        (Permission::Read, [true, false, false, false, false, false]),
        (Permission::ReadAcp, [false, true, false, false, false, false]),
        (Permission::Write, [false, false, true, true, false, false]),
        (Permission::WriteAcp, [false, false, false, false, true, false]),
        (Permission::FullControl, [true, true, true, true, true, false]),
    ] {
        let bucket = granted(permission);
        assert_eq!(asked.map(|action| bucket.allows(user(OTHER), action)), expected, "{permission:?}");
        assert_eq!(asked.map(|action| bucket.allows(user("third"), action)), [false; 6]);
        assert!(
            asked.iter().all(|action| bucket.allows(user(OWNER), *action)),
            "no grant is needed by the owner"
        );
    }
    let public = Bucket::canned(CannedAcl::PublicReadWrite);
    assert!(
        public.allows(Principal::Anonymous, ListBucket) && public.allows(Principal::Anonymous, PutObject)
    );
    assert!(!public.allows(Principal::Anonymous, GetObject), "objects have ACLs of their own");
    let signed_in = Bucket::canned(CannedAcl::AuthenticatedRead);
    assert!(signed_in.allows(user(OTHER), ListBucket) && !signed_in.allows(Principal::Anonymous, ListBucket));
}

#[test]
fn object_acls_open_objects_and_not_their_bucket() {
    let bucket = Bucket::default().object(OWNER, CannedAcl::PublicReadWrite);
    assert!(bucket.allows(Principal::Anonymous, Action::GetObject));
    assert!(bucket.allows(user(OTHER), Action::GetObjectVersion));
    for action in [Action::PutObject, Action::DeleteObject, Action::GetObjectAcl, Action::GetObjectTagging] {
        assert!(!bucket.allows(user(OTHER), action), "{}", action.name());
    }
    let bucket = Bucket::canned(CannedAcl::PublicReadWrite).object(OWNER, CannedAcl::Private);
    assert!(!bucket.allows(user(OTHER), Action::GetObject) && bucket.allows(user(OTHER), Action::PutObject));
}

#[test]
fn whoever_wrote_an_object_decides_who_reads_it() {
    let everybody = allow(&json!("*"), "s3:*", INSIDE);
    let foreign = |canned, ownership| {
        let bucket = Bucket { ownership, ..Bucket::with_policy(&everybody) };
        bucket.object(OTHER, canned)
    };
    let bucket = foreign(CannedAcl::Private, ObjectOwnership::ObjectWriter);
    for action in [Action::GetObject, Action::GetObjectAcl, Action::PutObjectAcl, Action::GetObjectTagging] {
        assert!(bucket.allows(user(OTHER), action), "{}", action.name());
        assert!(!bucket.allows(user(OWNER), action), "{}", action.name());
        assert!(!bucket.allows(user("third"), action), "{}", action.name());
    }
    for action in [Action::DeleteObject, Action::PutObject, Action::AbortMultipartUpload] {
        assert!(bucket.allows(user(OWNER), action), "{}", action.name());
    }
    let shared = foreign(CannedAcl::BucketOwnerRead, ObjectOwnership::ObjectWriter);
    assert!(
        shared.allows(user(OWNER), Action::GetObject) && !shared.allows(user(OWNER), Action::GetObjectAcl)
    );
    let shared = foreign(CannedAcl::BucketOwnerFullControl, ObjectOwnership::BucketOwnerPreferred);
    assert!(shared.allows(user(OWNER), Action::GetObjectAcl));
    let enforced = foreign(CannedAcl::Private, ObjectOwnership::BucketOwnerEnforced);
    assert!(
        enforced.allows(user(OWNER), Action::GetObject) && enforced.allows(user("third"), Action::GetObject)
    );
    let enforced = Bucket { policy: None, ..enforced };
    assert!(!enforced.allows(user(OTHER), Action::GetObject), "ownership is the bucket's");
    assert!(enforced.allows(user(OTHER), Action::ListMultipartUploadParts), "the upload is his");
    assert!(enforced.allows(user(OTHER), Action::AbortMultipartUpload));
    assert!(!enforced.allows(user("third"), Action::AbortMultipartUpload));
}

#[test]
fn an_owner_of_no_name_is_nobody() {
    let bucket = Bucket { object_owner: None, ..Bucket::default() };
    assert!(!bucket.allows(Principal::Anonymous, Action::AbortMultipartUpload));
    assert!(!bucket.allows(Principal::Anonymous, Action::GetObjectAcl));
}

#[test]
fn writers_own_what_they_write_unless_they_act_for_the_bucket() {
    let canned = AclRequest::Canned(CannedAcl::BucketOwnerFullControl);
    use ObjectOwnership::{BucketOwnerEnforced, BucketOwnerPreferred, ObjectWriter};
    for (principal, request, ownership, expected) in [
        (user(OTHER), None, ObjectWriter, OTHER),
        (user(OTHER), Some(&canned), ObjectWriter, OTHER),
        (user(OTHER), None, BucketOwnerPreferred, OTHER),
        (user(OTHER), Some(&canned), BucketOwnerPreferred, OWNER),
        (user(OTHER), None, BucketOwnerEnforced, OWNER),
        (Principal::Anonymous, None, ObjectWriter, OWNER),
        (Principal::System, None, ObjectWriter, OWNER),
        (user("root"), None, ObjectWriter, OWNER),
    ] {
        let bucket = Bucket { ownership, ..Bucket::default() };
        assert_eq!(
            owner_of_new_object(&principal, request, &bucket.access()),
            expected,
            "{principal:?} {ownership:?}"
        );
    }
}

#[test]
fn switched_off_acls_neither_count_nor_change() {
    let bucket = Bucket {
        ownership: ObjectOwnership::BucketOwnerEnforced,
        ..Bucket::canned(CannedAcl::PublicReadWrite).object(OWNER, CannedAcl::PublicRead)
    };
    assert!(!bucket.allows(Principal::Anonymous, Action::GetObject));
    assert!(!bucket.allows(user(OTHER), Action::ListBucket) && !bucket.access().is_public());
    let private = AclRequest::Canned(CannedAcl::Private);
    let full = AclRequest::Canned(CannedAcl::BucketOwnerFullControl);
    let access = bucket.access();
    assert!(Acl::of_bucket(&private, &access).is_err() && Acl::of_object(&private, OWNER, &access).is_err());
    assert!(Acl::of_new_object(Some(&private), OWNER, &access).is_err());
    assert!(Acl::of_new_object(Some(&full), OWNER, &access).expect("harmless").is_private());
    assert!(Acl::of_new_object(None, OWNER, &access).expect("nothing asked").is_private());
    assert!(Acl::of_new_bucket(Some(&private), &access).is_ok());
    assert!(Acl::of_new_bucket(Some(&AclRequest::Canned(CannedAcl::PublicRead)), &access).is_err());
}

#[test]
fn the_public_access_block_blocks() {
    let all = PublicAccessBlock {
        block_public_acls: true,
        ignore_public_acls: true,
        block_public_policy: true,
        restrict_public_buckets: true,
    };
    let block = PublicAccessBlock { ignore_public_acls: true, ..PublicAccessBlock::default() };
    let bucket =
        Bucket { block, ..Bucket::canned(CannedAcl::PublicRead).object(OWNER, CannedAcl::PublicRead) };
    assert!(
        !bucket.allows(user(OTHER), Action::ListBucket) && !bucket.allows(user(OTHER), Action::GetObject)
    );
    assert!(bucket.allows(user(OWNER), Action::ListBucket) && !bucket.access().is_public());

    let public = Bucket::with_policy(&allow(&json!("*"), "s3:GetObject", INSIDE));
    assert!(public.access().is_public() && public.allows(Principal::Anonymous, Action::GetObject));
    let block = PublicAccessBlock { restrict_public_buckets: true, ..PublicAccessBlock::default() };
    let restricted = Bucket { block, ..public };
    assert!(!restricted.allows(Principal::Anonymous, Action::GetObject));
    assert!(!restricted.allows(user(OTHER), Action::GetObject));
    assert!(restricted.allows(user(OWNER), Action::GetObject));

    let blocked = Bucket { block: all, ..Bucket::default() };
    for canned in [CannedAcl::PublicRead, CannedAcl::PublicReadWrite, CannedAcl::AuthenticatedRead] {
        let request = AclRequest::Canned(canned);
        assert!(Acl::of_bucket(&request, &blocked.access()).is_err());
        assert!(Acl::of_new_object(Some(&request), OTHER, &blocked.access()).is_err());
        assert!(Acl::of_new_bucket(Some(&request), &blocked.access()).is_err());
    }
    let grants = vec![Grant { grantee: Grantee::AllUsers, permission: Permission::ReadAcp }];
    assert!(Acl::of_object(&AclRequest::Grants(grants), OTHER, &blocked.access()).is_err());
    assert!(Acl::of_bucket(&AclRequest::Canned(CannedAcl::Private), &blocked.access()).is_ok());
}

#[test]
fn a_missing_key_is_known_to_who_may_list_it() {
    let private = Bucket::default();
    assert!(private.tells_missing(user(OWNER), "x") && !private.tells_missing(user(OTHER), "x"));
    assert!(private.tells_missing(user("root"), "x"));
    assert!(Bucket::canned(CannedAcl::PublicRead).tells_missing(Principal::Anonymous, "x"));
    let readable = Bucket::with_policy(&allow(&json!("*"), "s3:GetObject", INSIDE));
    assert!(!readable.tells_missing(Principal::Anonymous, "x"));
    let listable = Bucket::with_policy(&json!([{
        "Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::logs",
        "Condition": {"StringLike": {"s3:prefix": "public/*"}},
    }]));
    assert!(listable.tells_missing(user(OTHER), "public/object"));
    assert!(!listable.tells_missing(user(OTHER), "private/object"));
    let denied = Bucket::with_policy(&json!([
        {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::logs"},
        {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": INSIDE},
    ]));
    assert!(!denied.tells_missing(user(OTHER), "x"));
}

#[test]
fn acls_list_groups_first_and_keep_to_their_limit() {
    let bucket = Bucket::default();
    let to = |id: &str, permission| Grant { grantee: Grantee::User { id: id.into() }, permission };
    let all = Grant { grantee: Grantee::AllUsers, permission: Permission::Read };
    let grants = vec![to(OWNER, Permission::FullControl), all.clone(), to(OTHER, Permission::Read)];
    let acl = Acl::of_bucket(&AclRequest::Grants(grants), &bucket.access()).expect("an ACL");
    assert_eq!(acl.grants, [all.clone(), to(OWNER, Permission::FullControl), to(OTHER, Permission::Read)]);
    let none = Acl::of_bucket(&AclRequest::Grants(vec![]), &bucket.access()).expect("an ACL");
    assert!(none.grants.is_empty() && none.is_private());
    let many = AclRequest::Grants(vec![all; super::super::GRANTS_MAX + 1]);
    assert!(Acl::of_bucket(&many, &bucket.access()).is_err());
}

fn any_statement() -> impl Strategy<Value = Value> {
    let principal = prop::sample::select(vec![
        json!("*"),
        json!({"AWS": "other"}),
        json!({"AWS": ["owner", "third-name"]}),
        json!({"CanonicalUser": "owner"}),
    ]);
    let action =
        prop::sample::select(vec!["*", "s3:Get*", "s3:PutObject", "s3:*Bucket*", "s3:GetObject", "s3:*Acl"]);
    let resource = prop::sample::select(vec![
        "*",
        "arn:aws:s3:::logs",
        INSIDE,
        "arn:aws:s3:::logs/a*",
        "arn:aws:s3:::logs/?",
    ]);
    let condition = prop::sample::select(vec![
        json!({}),
        json!({"Bool": {"aws:SecureTransport": "true"}}),
        json!({"StringNotEquals": {"aws:username": "other-name"}}),
        json!({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}),
        json!({"Null": {"s3:prefix": "true"}}),
    ]);
    (any::<[bool; 4]>(), principal, action, resource, condition).prop_map(
        |([deny, not_principal, not_action, not_resource], principal, action, resource, condition)| {
            let name = |not: bool, name: &str| if not { format!("Not{name}") } else { name.to_owned() };
            json!({
                "Effect": if deny { "Deny" } else { "Allow" },
                name(deny && not_principal, "Principal"): principal,
                name(not_action, "Action"): action,
                name(not_resource, "Resource"): resource,
                "Condition": condition,
            })
        },
    )
}

fn any_acl() -> impl Strategy<Value = Acl> {
    let grantee = prop::sample::select(vec![
        Grantee::AllUsers,
        Grantee::AuthenticatedUsers,
        Grantee::LogDelivery,
        Grantee::User { id: OTHER.into() },
        Grantee::User { id: "third".into() },
    ]);
    let permission = prop::sample::select(vec![
        Permission::Read,
        Permission::Write,
        Permission::ReadAcp,
        Permission::WriteAcp,
        Permission::FullControl,
    ]);
    let grant = (grantee, permission).prop_map(|(grantee, permission)| Grant { grantee, permission });
    prop::collection::vec(grant, 0..4).prop_map(|grants| Acl { owner: OWNER.into(), grants })
}

fn any_bucket() -> impl Strategy<Value = Bucket> {
    let ownership = prop::sample::select(vec![
        ObjectOwnership::BucketOwnerEnforced,
        ObjectOwnership::BucketOwnerPreferred,
        ObjectOwnership::ObjectWriter,
    ]);
    let object_owner = prop::sample::select(vec![None, Some(OWNER), Some(OTHER)]);
    (any_acl(), any_acl(), ownership, object_owner, any::<bool>()).prop_map(
        |(acl, object_acl, ownership, object_owner, ignore_public_acls)| Bucket {
            policy: None,
            acl: Some(acl),
            ownership,
            block: PublicAccessBlock { ignore_public_acls, ..PublicAccessBlock::default() },
            object_owner,
            object_acl: Some(object_acl),
        },
    )
}

fn any_question() -> impl Strategy<Value = (Principal, Action, &'static str)> {
    let principal = prop::sample::select(vec![user(OWNER), user(OTHER), user("third"), Principal::Anonymous]);
    let actions: Vec<Action> = Action::ALL.iter().copied().filter(|a| a.scope() != Scope::Service).collect();
    (principal, prop::sample::select(actions), prop::sample::select(vec!["a", "ab/c", "x"]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn adding_an_allow_or_a_grant_never_takes_access_away(
        bucket in any_bucket(), statements in prop::collection::vec(any_statement(), 1..4), mut more in any_statement(),
        grants in any_acl(), (principal, action, key) in any_question(),
    ) {
        let before = Bucket { policy: Some(policy(&json!(statements))), ..bucket };
        if !before.allows_key(principal.clone(), action, key) {
            return Ok(());
        }
        if let Some(whom) = more.get("NotPrincipal").cloned() {
            let members = more.as_object_mut().expect("an object");
            members.remove("NotPrincipal");
            members.insert("Principal".into(), whom);
        }
        more["Effect"] = json!("Allow");
        let mut longer = statements.clone();
        longer.push(more);
        let mut after = Bucket { policy: Some(policy(&json!(longer))), ..before.clone() };
        prop_assert!(after.allows_key(principal.clone(), action, key), "an Allow took access away");
        after.acl.as_mut().expect("an ACL").grants.extend(grants.grants.clone());
        after.object_acl.as_mut().expect("an ACL").grants.extend(grants.grants);
        prop_assert!(after.allows_key(principal, action, key), "a grant took access away");
    }

    #[test]
    fn a_deny_always_wins_and_order_never_matters(
        bucket in any_bucket(), mut statements in prop::collection::vec(any_statement(), 1..5), mut deny in any_statement(),
        at in any::<prop::sample::Index>(), (principal, action, key) in any_question(),
    ) {
        deny["Effect"] = json!("Deny");
        let alone = policy(&json!([deny]));
        let context = request(principal.clone());
        let probe = bucket.question(&context, action, key);
        let denies = alone.judge(&Question::of(&probe, "logs")) == Verdict::Deny;
        let of_policy =
            matches!(action, Action::GetBucketPolicy | Action::PutBucketPolicy | Action::DeleteBucketPolicy);
        let exempt = principal == user(OWNER) && of_policy;
        statements.insert(at.index(statements.len() + 1), deny);
        let with = Bucket { policy: Some(policy(&json!(statements))), ..bucket };
        let allowed = with.allows_key(principal.clone(), action, key);
        prop_assert!(!allowed || !denies || exempt, "a Deny lost");
        statements.reverse();
        let turned = Bucket { policy: Some(policy(&json!(statements))), ..with };
        prop_assert_eq!(turned.allows_key(principal, action, key), allowed, "order mattered");
    }

    #[test]
    fn nobody_gets_what_nothing_gives(bucket in any_bucket(), (principal, action, key) in any_question()) {
        // Without a policy and with no grant, only the owners are let in.
        let bucket = Bucket { acl: None, object_acl: None, ..bucket };
        let owner = principal == user(OWNER) || principal == user(OTHER) && bucket.object_owner == Some(OTHER);
        prop_assert!(owner || !bucket.allows_key(principal, action, key));
    }
}
