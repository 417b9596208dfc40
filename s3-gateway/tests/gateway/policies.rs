//! What bucket policies are asked is what is done: one reading of headers, forms, queries and copy sources.

use crate::gateway::browsers::post;
use crate::gateway::world::{Request, Who, World, presign};

impl World {
    /// A bucket of Main's where everybody may do everything but what `denied` says.
    async fn open_but(&self, denied: &str) -> String {
        let bucket = self.bucket().await;
        let policy = format!(
            r#"{{"Statement":[
                {{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::{bucket}","arn:aws:s3:::{bucket}/*"]}},
                {{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::{bucket}","arn:aws:s3:::{bucket}/*"],"Condition":{denied}}}]}}"#
        )
        .replace("BUCKET", &bucket);
        assert_eq!(self.put(&format!("/{bucket}?policy"), policy.as_bytes()).await.status, 204);
        bucket
    }
}

const PUBLIC_ACL: &str = r#"{"StringEquals":{"s3:x-amz-acl":"public-read"}}"#;

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn forms_are_judged_by_their_fields() {
    let world = World::new().await;
    let bucket = world.open_but(PUBLIC_ACL).await;
    for field in ["acl", "x-amz-acl"] {
        let public = fields(&[("key", "k"), (field, "public-read")]);
        post(&world, &bucket, &public, b"xyz").await.fails(403, "AccessDenied");
    }
    let both = fields(&[("key", "k"), ("acl", "private"), ("x-amz-acl", "public-read")]);
    post(&world, &bucket, &both, b"xyz").await.fails(400, "InvalidArgument");
    assert_eq!(post(&world, &bucket, &fields(&[("key", "k")]), b"xyz").await.status, 204);
    let only_with = world.open_but(r#"{"StringNotEquals":{"s3:x-amz-storage-class":"GLACIER"}}"#).await;
    let header = Request::new("POST", &format!("/{only_with}"))
        .header("content-type", "multipart/form-data; boundary=XX")
        .header("x-amz-storage-class", "GLACIER");
    let plain = header.body(&crate::gateway::browsers::form(&fields(&[("key", "k")]), b"xyz"));
    world.send(Who::Nobody, plain).await.fails(403, "AccessDenied");
    let cold = fields(&[("key", "k"), ("x-amz-storage-class", "GLACIER")]);
    assert_eq!(post(&world, &only_with, &cold, b"xyz").await.status, 204);
}

#[tokio::test]
async fn headers_are_read_alike_by_policy_and_operation() {
    let world = World::new().await;
    let bucket = world.open_but(PUBLIC_ACL).await;
    let put = || Request::new("PUT", &format!("/{bucket}/k")).body(b"x");
    world.send(Who::Alt, put().header("x-amz-acl", "public-read")).await.fails(403, "AccessDenied");
    let wide = put().header("x-amz-acl", "public-read\u{a0}");
    world.send(Who::Nobody, wide).await.fails(400, "InvalidArgument");
    for order in [["private", "public-read"], ["public-read", "private"]] {
        let twice = order.into_iter().fold(put(), |put, word| put.header("x-amz-acl", word));
        world.send(Who::Nobody, twice).await.fails(400, "InvalidArgument");
    }
    let twice = put().header("x-amz-content-sha256", "UNSIGNED-PAYLOAD").header("x-amz-content-sha256", "x");
    world.send(Who::Nobody, twice).await.fails(400, "InvalidArgument");
    let listed = world.open_but(r#"{"StringEquals":{"s3:prefix":"secret/"}}"#).await;
    world.get(Who::Alt, &format!("/{listed}?uploads&prefix=secret%2F")).await.fails(403, "AccessDenied");
    let doubled = world.get(Who::Alt, &format!("/{listed}?uploads&prefix=open%2F&prefix=secret%2F")).await;
    assert_eq!((doubled.status, doubled.element("Prefix")), (200, Some("open/")), "{doubled:?}");
}

#[tokio::test]
async fn copy_sources_are_decoded_before_they_are_judged() {
    let world = World::new().await;
    let bucket = world.open_but(r#"{"StringLike":{"s3:x-amz-copy-source":"BUCKET/secret/*"}}"#).await;
    for key in ["secret/a", "open/a"] {
        assert_eq!(world.put(&format!("/{bucket}/{key}"), b"x").await.status, 200);
    }
    let copy = async |source: String| {
        let request = Request::new("PUT", &format!("/{bucket}/copy")).header("x-amz-copy-source", &source);
        world.send(Who::Alt, request).await
    };
    for source in ["secret/a", "%73ecret/a", "secret%2Fa"] {
        copy(format!("/{bucket}/{source}")).await.fails(403, "AccessDenied");
        copy(format!("{bucket}/{source}")).await.fails(403, "AccessDenied");
    }
    assert_eq!(copy(format!("{bucket}/open/a")).await.status, 200);
    copy(format!("{bucket}/%ff")).await.fails(400, "InvalidArgument");
    let owned = |owner: &str| {
        Request::new("PUT", &format!("/{bucket}/copy"))
            .header("x-amz-copy-source", &format!("%2F{bucket}/open/a"))
            .header("x-amz-source-expected-bucket-owner", owner)
    };
    world.send(Who::Main, owned("123456789012")).await.fails(403, "AccessDenied");
    assert_eq!(world.send(Who::Main, owned(&world.main_id)).await.status, 200);
}

#[tokio::test]
async fn headers_in_a_presigned_query_count() {
    let world = World::new().await;
    let bucket = world.open_but(PUBLIC_ACL).await;
    let path = format!("/{bucket}/k");
    let put = async |who: Who, extra: &str| {
        let url = presign(who, "PUT", &path, extra, 60);
        world.send(Who::Nobody, Request::new("PUT", &url).body(b"x")).await
    };
    put(Who::Alt, "x-amz-acl=public-read").await.fails(403, "AccessDenied");
    put(Who::Main, "x-amz-server-side-encryption=AES256").await.fails(501, "NotImplemented");
    put(Who::Main, "x-amz-checksum-crc32=AAAAAA%3D%3D").await.fails(400, "BadDigest");
    let said = put(Who::Main, "x-amz-meta-colour=red&x-amz-tagging=a%3D1&X-Amz-Storage-Class=GLACIER").await;
    assert_eq!(said.status, 200, "{said:?}");
    let got = world.get(Who::Main, &path).await;
    for (name, value) in
        [("x-amz-meta-colour", "red"), ("x-amz-tagging-count", "1"), ("x-amz-storage-class", "GLACIER")]
    {
        assert_eq!(got.header(name), Some(value), "{name}");
    }
    let extra = format!("x-amz-copy-source={bucket}%2Fk&x-amz-metadata-directive=REPLACE");
    let url = presign(Who::Main, "PUT", &path, &extra, 60);
    let copied = world.send(Who::Nobody, Request::new("PUT", &url)).await;
    assert!(copied.text().contains("CopyObjectResult"), "{copied:?}");
}

#[tokio::test]
async fn a_digest_that_was_presigned_cannot_be_waived() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/k");
    // SHA-256 of "x".
    let digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    let url = presign(Who::Main, "PUT", &path, &format!("X-Amz-Content-Sha256={digest}"), 60);
    let put = |body: &[u8]| Request::new("PUT", &url).body(body);
    let waived = put(b"y").header("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    world.send(Who::Nobody, waived).await.fails(400, "XAmzContentSHA256Mismatch");
    world.send(Who::Nobody, put(b"y")).await.fails(400, "XAmzContentSHA256Mismatch");
    assert_eq!(world.send(Who::Nobody, put(b"x")).await.status, 200);
}
