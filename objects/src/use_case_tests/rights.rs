//! What each use case asks permission for.

use super::*;
use crate::access::{AclRequest, ObjectOwnership, Principal};
use crate::publish::GroupId;
use crate::requests::CannedAcl;
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::publish::{self as rows, GroupRow};
use ashlar_metadata::{Commit, Write};

/// A bench whose bucket is an ordinary user's, and what its policy lets a second one do.
struct Shared {
    bench: Bench,
    ann: RequestContext,
}

impl Shared {
    async fn new() -> Self {
        let mut bench = Bench::on(TestStore::new().await, false).await;
        bench.cx = request_of("bea", false);
        bench.bucket = BucketName::new("shared").unwrap();
        let request = CreateBucket {
            bucket: bench.bucket.clone(),
            acl: None,
            ownership: Some(ObjectOwnership::BucketOwnerEnforced),
            location: None,
            object_lock: false,
        };
        bench.test.store.create_bucket(&bench.cx, request).await.unwrap();
        Self { bench, ann: request_of("ann", false) }
    }

    async fn allow(&self, actions: &str) {
        let policy = format!(
            r#"{{"Statement":[{{"Effect":"Allow","Principal":{{"AWS":"ann"}},"Action":[{actions}],
                "Resource":["arn:aws:s3:::shared","arn:aws:s3:::shared/*"]}}]}}"#
        );
        let store = &self.bench.test.store;
        store.put_bucket_policy(&self.bench.cx, &self.bench.bucket, policy).await.unwrap();
    }

    async fn put(&self, key: &str, tags: &Tags) -> Result<Written, Error> {
        let request = PutObject {
            bucket: self.bench.bucket.clone(),
            key: ObjectKey::new(key)?,
            attributes: Attributes::default(),
            tags: tags.clone(),
            acl: None,
            conditions: Conditions::default(),
            lock: Lock::default(),
            payload: payload(b"x"),
        };
        self.bench.test.store.put_object(&self.ann, request).await
    }

    async fn copy(&self, storage_class: Option<&str>) -> Result<crate::requests::Copied, Error> {
        let request = CopyObject {
            source: self.bench.name("tagged", None),
            source_conditions: Conditions::default(),
            bucket: self.bench.bucket.clone(),
            key: ObjectKey::new("copy").unwrap(),
            attributes: None,
            storage_class: storage_class.map(str::to_owned),
            tags: None,
            acl: None,
            checksum: None,
            lock: Lock::default(),
            conditions: Conditions::default(),
        };
        self.bench.test.store.copy_object(&self.ann, request).await
    }
}

fn tags(value: &str) -> Tags {
    Tags([("kind".to_owned(), value.to_owned())].into())
}

#[tokio::test]
async fn tags_need_their_own_permission_wherever_they_come_from() {
    let shared = Shared::new().await;
    shared.allow(r#""s3:PutObject","s3:GetObject""#).await;
    shared.put("plain", &Tags::default()).await.unwrap();
    assert!(matches!(shared.put("tagged", &tags("a")).await, Err(Error::AccessDenied)));
    shared.allow(r#""s3:PutObject","s3:GetObject","s3:PutObjectTagging""#).await;
    shared.put("tagged", &tags("a")).await.unwrap();
    assert!(
        matches!(shared.copy(None).await, Err(Error::AccessDenied)),
        "the source's tags are not its to read"
    );
    shared.allow(r#""s3:PutObject","s3:GetObject","s3:GetObjectTagging""#).await;
    assert!(matches!(shared.copy(None).await, Err(Error::AccessDenied)), "nor to write");
    shared.allow(r#""s3:PutObject*","s3:GetObject*""#).await;
    shared.copy(Some("GLACIER")).await.unwrap();
    let copy = shared.bench.name("copy", None);
    let (found, _) = shared.bench.test.store.object_tags(&shared.bench.cx, &copy).await.unwrap();
    assert_eq!(found, tags("a"));
    let head = shared.bench.test.store.object_attributes(&shared.bench.cx, copy).await.unwrap();
    assert_eq!(head.attributes.storage_class.as_deref(), Some("GLACIER"));
    // A condition on the tags a copy will have sees those that it takes along.
    let policy = r#"{"Statement":[
        {"Effect":"Allow","Principal":{"AWS":"ann"},"Action":"s3:*","Resource":"arn:aws:s3:::shared/*"},
        {"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::shared/*",
         "Condition":{"StringEquals":{"s3:RequestObjectTag/kind":"a"}}}]}"#;
    let store = &shared.bench.test.store;
    store.put_bucket_policy(&shared.bench.cx, &shared.bench.bucket, policy.to_owned()).await.unwrap();
    assert!(matches!(shared.copy(None).await, Err(Error::AccessDenied)));
}

#[tokio::test]
async fn attributes_and_locations_need_their_own_permissions() {
    let shared = Shared::new().await;
    shared.allow(r#""s3:PutObject","s3:GetObject","s3:ListBucket""#).await;
    shared.put("plain", &Tags::default()).await.unwrap();
    let store = &shared.bench.test.store;
    let attributes = || store.object_attributes(&shared.ann, shared.bench.name("plain", None));
    let location =
        || store.bucket_facts(&shared.ann, &shared.bench.bucket, crate::access::Action::GetBucketLocation);
    assert!(matches!(attributes().await, Err(Error::AccessDenied)));
    assert!(matches!(location().await, Err(Error::AccessDenied)));
    shared.allow(r#""s3:GetObjectAttributes","s3:GetBucketLocation""#).await;
    assert!(matches!(attributes().await, Err(Error::AccessDenied)), "reading is needed as well");
    location().await.unwrap();
    shared.allow(r#""s3:GetObject","s3:GetObjectAttributes""#).await;
    attributes().await.unwrap();
}

#[tokio::test]
async fn who_started_an_upload_is_known_where_another_owns_it() {
    let shared = Shared::new().await;
    shared.allow(r#""s3:PutObject""#).await;
    let mine = Bench {
        cx: shared.ann.clone(),
        bucket: shared.bench.bucket.clone(),
        test: TestStore {
            store: shared.bench.test.store.clone(),
            nodes: shared.bench.test.nodes.clone(),
            kv: shared.bench.test.kv.clone(),
            clock: shared.bench.test.clock.clone(),
        },
    };
    let name = upload(&mine, "wall").await;
    let store = &shared.bench.test.store;
    let page = store.list_parts(&shared.ann, &name, 0, 10).await.unwrap();
    assert_eq!((page.owner.as_str(), page.initiator.as_str()), ("bea", "ann"));
    let gone = UploadName { upload: crate::requests::UploadId(7), ..name.clone() };
    for name in [&name, &gone] {
        let stranger = request_of("eve", false);
        assert!(matches!(store.list_parts(&stranger, name, 0, 10).await, Err(Error::AccessDenied)));
        assert!(matches!(store.abort_upload(&stranger, name).await, Err(Error::AccessDenied)));
    }
    store.abort_upload(&shared.ann, &name).await.unwrap();
    assert!(matches!(store.abort_upload(&shared.bench.cx, &name).await, Err(Error::NoSuchUpload)));
}

#[tokio::test]
async fn no_bucket_begins_with_grants_that_do_not_count() {
    let bench = Bench::new().await;
    let made = CreateBucket {
        bucket: BucketName::new("another").unwrap(),
        acl: Some(AclRequest::Canned(CannedAcl::PublicRead)),
        ownership: Some(ObjectOwnership::BucketOwnerEnforced),
        location: None,
        object_lock: false,
    };
    let made = bench.test.store.create_bucket(&bench.cx, made).await;
    assert!(matches!(made, Err(Error::AclAgainstOwnership)));
}

#[tokio::test]
async fn every_group_that_was_left_alone_is_dropped() {
    let bench = Bench::new().await;
    let rows = |range: std::ops::Range<u128>| -> Commit {
        let old = GroupRow { owner: "root".into(), begun: crate::types::UnixMillis(0), staged: 0 };
        let put = |group| Write::Put { key: rows::key(group), value: old.encode() };
        Commit { writes: range.map(put).collect(), ..Commit::default() }
    };
    for group in 0..25 {
        bench.test.kv.commit(rows(group * 100..(group + 1) * 100)).await.unwrap();
    }
    let root = RequestContext { principal: Principal::System, ..bench.cx.clone() };
    bench.test.store.expire().await.unwrap();
    for group in [0, 999, 1000, 2499] {
        assert!(bench.test.store.abandon(&root, GroupId(group)).await.is_err(), "group {group} is there");
    }
}
