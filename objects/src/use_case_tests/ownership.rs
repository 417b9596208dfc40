//! Object ownership against ACLs, and who looks after an upload.

use super::*;
use crate::access::{AclRequest, ObjectOwnership};
use crate::requests::CannedAcl;

#[tokio::test]
async fn acls_are_not_switched_off_while_they_let_others_in() {
    let bench = Bench::new().await;
    let store = &bench.test.store;
    let acl = |word| store.put_bucket_acl(&bench.cx, &bench.bucket, AclRequest::Canned(word));
    let enforce =
        || store.put_ownership_controls(&bench.cx, &bench.bucket, ObjectOwnership::BucketOwnerEnforced);
    acl(CannedAcl::PublicRead).await.unwrap();
    assert!(matches!(enforce().await, Err(Error::AclAgainstOwnership)));
    acl(CannedAcl::Private).await.unwrap();
    enforce().await.unwrap();
}

#[tokio::test]
async fn who_started_an_upload_looks_after_it_and_others_learn_nothing() {
    let mut bench = Bench::new().await;
    let store = bench.test.store.clone();
    let policy = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": "s3:PutObject", "Resource": "arn:aws:s3:::quarry/*"}]}"#;
    store.put_bucket_policy(&bench.cx, &bench.bucket, policy.into()).await.unwrap();
    let root = std::mem::replace(&mut bench.cx, request_of("mason", false));
    let name = upload(&bench, "stone").await;
    let unknown = UploadName { upload: crate::requests::UploadId(1), ..name.clone() };
    let other = request_of("carver", false);
    for name in [&name, &unknown] {
        assert!(matches!(store.list_parts(&other, name, 0, 10).await, Err(Error::AccessDenied)));
        assert!(matches!(store.abort_upload(&other, name).await, Err(Error::AccessDenied)));
    }
    assert!(matches!(store.abort_upload(&root, &unknown).await, Err(Error::NoSuchUpload)));
    assert_eq!(store.list_parts(&bench.cx, &name, 0, 10).await.unwrap().parts.len(), 0);
    store.abort_upload(&bench.cx, &name).await.unwrap();
}
