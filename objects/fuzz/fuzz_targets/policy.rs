//! Foreign text as a bucket policy, and requests judged by whatever was accepted.
#![no_main]

use std::time::{Duration, Instant};

use ashlar_objects::access::{
    Access, Action, BucketAccess, ObjectAccess, ObjectOwnership, Policy, Principal, PublicAccessBlock,
    RequestContext, UserIdentity, authorize, authorize_missing_key,
};
use ashlar_objects::types::{Tags, UnixMillis};
use libfuzzer_sys::fuzz_target;

fn user(id: &str, root: bool) -> Principal {
    Principal::User(UserIdentity { id: id.into(), name: id.into(), access_key: "AK".into(), root }.into())
}

// The text, and after a NUL a key: so that a plain policy is a seed.
fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (text, key) = input.split_once('\0').unwrap_or((input, "k"));
    let begun = Instant::now();
    let Ok(policy) = Policy::parse(text, "logs") else { return };
    let _ = policy.is_public();
    let tags = Tags([("a".to_owned(), "b".to_owned())].into());
    for principal in [Principal::Anonymous, user("ann", false), user("owner", false), user("root", true)] {
        let owner = principal == user("owner", false);
        let request = RequestContext {
            principal,
            request_id: "r".into(),
            source_ip: Some([10, 0, 0, 1].into()),
            secure_transport: true,
            user_agent: Some(key.into()),
            referer: None,
            keys: vec![("s3:prefix", key.to_owned())],
        };
        let root = request.principal == user("root", true);
        for action in [Action::GetObject, Action::PutObject, Action::ListBucket, Action::GetBucketPolicy] {
            let bucket = BucketAccess {
                name: "logs",
                owner: "owner",
                policy: Some(&policy),
                acl: None,
                ownership: ObjectOwnership::ObjectWriter,
                public_access_block: PublicAccessBlock::default(),
            };
            let object =
                ObjectAccess { key, owner: Some("owner"), acl: None, tags: Some(&tags), version: None };
            let of_object = matches!(action, Action::GetObject | Action::PutObject);
            let access = Access {
                request: &request,
                action,
                bucket: Some(bucket),
                object: of_object.then_some(object),
                request_tags: Some(&tags),
                now: UnixMillis(1_767_268_800_000),
            };
            let allowed = authorize(&access).is_ok();
            assert!(allowed || !root, "root may everything");
            assert!(allowed || !owner || action != Action::GetBucketPolicy, "the owner reaches the policy");
            let _ = authorize_missing_key(&access);
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "32 judgements took {:?}", begun.elapsed());
});
