//! Requests that are wrong: a clear S3 error each, and the gateway goes on.

use crate::gateway::wire;
use crate::gateway::world::{Request, Who, World};

#[tokio::test]
async fn signatures_and_clocks() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let list = || Request::new("GET", &format!("/{bucket}"));
    for clock in [-1000, 1000] {
        let mut skewed = list();
        skewed.clock = clock;
        world.send(Who::Main, skewed).await.fails(403, "RequestTimeTooSkewed");
    }
    let mut bytes = list().signed(Who::Main);
    let at = bytes.windows(10).position(|window| window == b"Signature=").expect("there") + 10;
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    wire::exchange(world.address, &bytes).await.fails(403, "SignatureDoesNotMatch");
    let version_2 =
        Request::new("GET", "/").header("authorization", "AWS AKID:c2lnbmF0dXJl").signed(Who::Nobody);
    wire::exchange(world.address, &version_2).await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn heads() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let big = Request::new("GET", &format!("/{bucket}")).header("x-amz-meta-a", &"x".repeat(40_000));
    world.send(Who::Main, big).await.fails(400, "RequestHeaderSectionTooLarge");
    let long = Request::new("GET", &format!("/{bucket}?prefix={}", "x".repeat(20_000)));
    world.send(Who::Main, long).await.fails(400, "InvalidURI");
    let mut flood = String::from("GET / HTTP/1.1\r\nhost: x\r\n");
    (0..500).for_each(|i| flood.push_str(&format!("x-{i}: 1\r\n")));
    assert_eq!(wire::exchange(world.address, format!("{flood}\r\n").as_bytes()).await.status, 431);
    let lengths = b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab";
    assert_eq!(wire::exchange(world.address, lengths).await.status, 400);
    let meta = Request::new("PUT", &format!("/{bucket}/k")).header("x-amz-meta-a", &"x".repeat(2048));
    world.send(Who::Main, meta).await.fails(400, "MetadataTooLarge");
}

#[tokio::test]
async fn keys() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    for key in ["..", "../../etc/passwd", "a/./b//c/", "a\0b", "\u{1}\u{7f}\n", "🦀", "%", "+ &=#"] {
        let path = format!("/{bucket}/{key}");
        assert_eq!(world.put(&path, key.as_bytes()).await.status, 200, "{key:?}");
        assert_eq!(world.get(Who::Main, &path).await.body, key.as_bytes(), "{key:?}");
    }
    let long = format!("/{bucket}/{}", "k".repeat(1025));
    world.put(&long, b"x").await.fails(400, "KeyTooLongError");
    assert_eq!(world.put(&format!("/{bucket}/{}", "k".repeat(1024)), b"x").await.status, 200);
    world.put("/Not_A_Bucket", b"").await.fails(400, "InvalidBucketName");
    world.put("/foo-.bar", b"").await.fails(400, "InvalidBucketName");
    world.get(Who::Main, "/nowhere-at-all").await.fails(404, "NoSuchBucket");
    let listed = world.get(Who::Main, &format!("/{bucket}?list-type=2")).await;
    assert!(listed.text().contains("<Key>a&#x0;b</Key>"), "{}", listed.text());
    let encoded = world.get(Who::Main, &format!("/{bucket}?list-type=2&encoding-type=url")).await;
    assert!(encoded.text().contains("<Key>%01%7F%0A</Key>"), "{}", encoded.text());
}

#[tokio::test]
async fn documents() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let post = async |query: &str, body: &str| {
        world.send(Who::Main, Request::new("POST", &format!("/{bucket}?{query}")).body(body.as_bytes())).await
    };
    let bomb = "<!DOCTYPE d [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]><Delete><Object><Key>&b;</Key></Object></Delete>";
    for bad in
        ["<Delete", "<Delete></Object>", "{}", bomb, &"<a>".repeat(1000), "<Delete></Delete>", "<Other/>"]
    {
        post("delete", bad).await.fails(400, "MalformedXML");
    }
    let many: String = (0..1001).map(|i| format!("<Object><Key>{i}</Key></Object>")).collect();
    post("delete", &format!("<Delete>{many}</Delete>")).await.fails(400, "MalformedXML");
    let huge = "x".repeat(9 << 20);
    post("delete", &huge).await.fails(400, "MaxMessageLengthExceeded");
    let wrong = Request::new("POST", &format!("/{bucket}?delete"))
        .body(b"<Delete/>")
        .header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
    world.send(Who::Main, wrong).await.fails(400, "BadDigest");

    let path = format!("/{bucket}/k");
    let created = world.send(Who::Main, Request::new("POST", &format!("{path}?uploads"))).await;
    let upload = created.element("UploadId").expect("an upload").to_owned();
    let parts: String =
        (1..=10_001).map(|i| format!("<Part><PartNumber>{i}</PartNumber><ETag>x</ETag></Part>")).collect();
    let complete = async |parts: &str| {
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        world
            .send(
                Who::Main,
                Request::new("POST", &format!("{path}?uploadId={upload}")).body(document.as_bytes()),
            )
            .await
    };
    complete(&parts).await.fails(400, "MalformedXML");
    complete("").await.fails(400, "MalformedXML");
    complete("<Part><PartNumber>0</PartNumber><ETag>x</ETag></Part>").await.fails(400, "InvalidArgument");
    complete("<Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>").await.fails(400, "InvalidPart");
    let part = async |query: &str| world.put(&format!("{path}?{query}"), b"x").await;
    part(&format!("uploadId={upload}&partNumber=10001")).await.fails(400, "InvalidArgument");
    part(&format!("uploadId={upload}&partNumber=0")).await.fails(400, "InvalidArgument");
    part(&format!("uploadId={upload}")).await.fails(400, "InvalidArgument");
    part("uploadId=nonsense&partNumber=1").await.fails(404, "NoSuchUpload");
    let half_a_copy =
        Request::new("PUT", &format!("{path}?uploadId={upload}")).header("x-amz-copy-source", &path);
    world.send(Who::Main, half_a_copy).await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn what_is_not_implemented_is_not_done() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let object = format!("/{bucket}/k");
    let bucket_path = |query: &str| format!("/{bucket}?{query}");
    for (method, path) in [
        ("PUT", bucket_path("encryption")),
        ("PUT", bucket_path("replication")),
        ("PUT", bucket_path("website")),
        ("GET", bucket_path("analytics")),
        ("PUT", format!("{object}?encryption")),
        ("PUT", format!("{object}?renameObject")),
        ("POST", format!("{object}?select&select-type=2")),
        ("POST", format!("{object}?restore")),
    ] {
        world.send(Who::Main, Request::new(method, &path).body(b"<x/>")).await.fails(501, "NotImplemented");
    }
    for (header, value) in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-write-offset-bytes", "5"),
    ] {
        let put = Request::new("PUT", &object).body(b"x").header(header, value);
        world.send(Who::Main, put).await.fails(501, "NotImplemented");
    }
    world.get(Who::Main, &object).await.fails(404, "NoSuchKey");
    world.get(Who::Main, &bucket_path("lifecycle")).await.fails(404, "NoSuchLifecycleConfiguration");
    world
        .get(Who::Main, &bucket_path("encryption"))
        .await
        .fails(404, "ServerSideEncryptionConfigurationNotFoundError");
    world
        .get(Who::Main, &bucket_path("object-lock"))
        .await
        .fails(404, "ObjectLockConfigurationNotFoundError");
    assert_eq!(world.get(Who::Main, &bucket_path("notification")).await.status, 200);
}
