//! Objects in and out: what headers say, conditions, ranges, versions, presigned URLs, strangers.

use crate::gateway::world::{Request, UNSIGNED, Who, World, presign};

#[tokio::test]
async fn an_object_comes_back_with_all_that_was_said_of_it() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/a b/../ü🦀");
    let put = Request::new("PUT", &path)
        .body(b"hello")
        .header("content-type", "text/plain")
        .header("content-encoding", "aws-chunked, gzip")
        .header("x-amz-meta-name", "=?UTF-8?B?w6k=?=")
        .header("x-amz-tagging", "a=1&b=2")
        .header("x-amz-checksum-crc32c", "mnG7TA==");
    let put = world.send(Who::Main, put).await;
    assert_eq!(
        (put.status, put.header("etag")),
        (200, Some("\"5d41402abc4b2a76b9719d911017c592\"")),
        "{put:?}"
    );
    assert_eq!(put.header("x-amz-checksum-crc32c"), Some("mnG7TA=="));
    assert_eq!(put.header("x-ashlar-content-root"), Some(&*blake3::hash(b"hello").to_hex()));
    assert!(put.header("x-ashlar-object-root").is_some_and(|root| root.len() == 64));
    assert_eq!(put.header("x-amz-version-id"), None);

    let got =
        world.send(Who::Main, Request::new("GET", &path).header("x-amz-checksum-mode", "ENABLED")).await;
    assert_eq!((got.status, got.body.as_slice()), (200, &b"hello"[..]), "{got:?}");
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("x-amz-meta-name", "=?UTF-8?B?w6k=?="),
        ("x-amz-tagging-count", "2"),
        ("x-amz-checksum-crc32c", "mnG7TA=="),
        ("accept-ranges", "bytes"),
        ("content-length", "5"),
    ] {
        assert_eq!(got.header(name), Some(value), "{name}");
    }
    assert!(got.header("last-modified").is_some() && got.header("date").is_some());
    let head = world.send(Who::Main, Request::new("HEAD", &path)).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("5"), 0));
    assert_eq!(head.header("x-amz-checksum-crc32c"), None);
}

#[tokio::test]
async fn conditions_ranges_and_parts() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/k");
    world.put(&path, b"0123456789").await;
    let read = async |name: &str, value: &str| {
        world.send(Who::Main, Request::new("GET", &path).header(name, value)).await
    };
    let etag = "781e5e245d69b566979b86e28d23f2c7";
    assert_eq!(read("if-none-match", etag).await.status, 304);
    assert_eq!(read("if-match", &format!("\"{etag}\"")).await.status, 200);
    read("if-match", "\"other\"").await.fails(412, "PreconditionFailed");
    assert_eq!(read("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT").await.status, 304);
    read("if-unmodified-since", "Thu, 01 Jan 1970 00:00:01 GMT").await.fails(412, "PreconditionFailed");
    assert_eq!(read("if-unmodified-since", "nonsense").await.status, 200);
    for (range, body, content_range) in [
        ("bytes=2-4", &b"234"[..], "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ] {
        let got = read("range", range).await;
        assert_eq!(
            (got.status, got.body.as_slice(), got.header("content-range")),
            (206, body, Some(content_range))
        );
    }
    assert_eq!(read("range", "bytes=1-2,4-5").await.body, b"0123456789");
    let beyond = read("range", "bytes=10-").await;
    beyond.fails(416, "InvalidRange");
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    assert_eq!(world.get(Who::Main, &format!("{path}?partNumber=1")).await.body, b"0123456789");
    assert_eq!(world.get(Who::Main, &format!("{path}?partNumber=2")).await.status, 400);
    world.get(Who::Main, &format!("{path}?partNumber=0")).await.fails(400, "InvalidArgument");

    let create = Request::new("PUT", &path).body(b"x").header("if-none-match", "*");
    world.send(Who::Main, create).await.fails(412, "PreconditionFailed");
    let absent = Request::new("PUT", &format!("/{bucket}/absent")).body(b"x").header("if-match", etag);
    world.send(Who::Main, absent).await.fails(404, "NoSuchKey");
    let delete = Request::new("DELETE", &path).header("if-match", "\"other\"");
    world.send(Who::Main, delete).await.fails(412, "PreconditionFailed");
    assert_eq!(world.send(Who::Main, Request::new("DELETE", &path)).await.status, 204);
    world.get(Who::Main, &path).await.fails(404, "NoSuchKey");
}

#[tokio::test]
async fn versions_and_markers() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let enable = b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(world.put(&format!("/{bucket}?versioning"), enable).await.status, 200);
    let path = format!("/{bucket}/k");
    let first = world.put(&path, b"1").await.header("x-amz-version-id").expect("a version").to_owned();
    world.put(&path, b"2").await;
    let deleted = world.send(Who::Main, Request::new("DELETE", &path)).await;
    assert_eq!(deleted.header("x-amz-delete-marker"), Some("true"));
    let marker = deleted.header("x-amz-version-id").expect("a marker").to_owned();
    let gone = world.get(Who::Main, &path).await;
    gone.fails(404, "NoSuchKey");
    assert_eq!(gone.header("x-amz-delete-marker"), Some("true"));
    let marked = world.get(Who::Main, &format!("{path}?versionId={marker}")).await;
    marked.fails(405, "MethodNotAllowed");
    assert_eq!(marked.header("allow"), Some("DELETE"));
    assert_eq!(world.get(Who::Main, &format!("{path}?versionId={first}")).await.body, b"1");
    world.get(Who::Main, &format!("{path}?versionId=what")).await.fails(400, "InvalidArgument");
    let absent = format!("{path}?versionId={}", "f".repeat(32));
    world.get(Who::Main, &absent).await.fails(404, "NoSuchVersion");
}

#[tokio::test]
async fn presigned_urls_and_strangers() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/k");
    world.put(&path, b"data").await;
    let url =
        presign(Who::Main, "GET", &path, "response-content-type=a%2Fb&response-cache-control=no-store", 60);
    let got = world.get(Who::Nobody, &url).await;
    assert_eq!((got.status, got.body.as_slice()), (200, &b"data"[..]), "{got:?}");
    assert_eq!((got.header("content-type"), got.header("cache-control")), (Some("a/b"), Some("no-store")));
    world.get(Who::Nobody, &url.replace("a%2Fb", "c%2Fd")).await.fails(403, "SignatureDoesNotMatch");
    let put = presign(Who::Main, "PUT", &path, "", 60);
    assert_eq!(world.send(Who::Nobody, Request::new("PUT", &put).body(b"new")).await.status, 200);
    world.get(Who::Nobody, &path).await.fails(403, "AccessDenied");
    world.get(Who::Alt, &path).await.fails(403, "AccessDenied");
    let public = Request::new("PUT", &format!("{path}?acl")).header("x-amz-acl", "public-read");
    assert_eq!(world.send(Who::Main, public).await.status, 200);
    assert_eq!(world.get(Who::Nobody, &path).await.body, b"new");
    world.get(Who::Nobody, &format!("{path}?response-content-type=x")).await.fails(400, "InvalidRequest");
    world.get(Who::Nobody, "/").await.fails(403, "AccessDenied");
}

#[tokio::test]
async fn hosts_owners_and_copies() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let virtual_host = format!("{bucket}.s3.test");
    let put = Request::new("PUT", "/a/b").body(b"by host").header("host", &virtual_host);
    assert_eq!(world.send(Who::Main, put).await.status, 200);
    assert_eq!(world.get(Who::Main, &format!("/{bucket}/a/b")).await.body, b"by host");
    let list =
        world.send(Who::Main, Request::new("GET", "/?list-type=2").header("host", &virtual_host)).await;
    assert_eq!(list.element("Key"), Some("a/b"));
    let tags = world.send(Who::Main, Request::new("GET", "/a/b?tagging").header("host", &virtual_host)).await;
    assert_eq!(tags.status, 200, "{tags:?}");

    let path = format!("/{bucket}/a/b");
    let owned = |owner: &str| Request::new("GET", &path).header("x-amz-expected-bucket-owner", owner);
    assert_eq!(world.send(Who::Main, owned(&world.main_id)).await.status, 200);
    world.send(Who::Main, owned("123456789012")).await.fails(403, "AccessDenied");

    let copy = Request::new("PUT", &format!("/{bucket}/copy"))
        .header("x-amz-copy-source", &format!("/{bucket}/a%2Fb"));
    let copied = world.send(Who::Main, copy.clone()).await;
    assert_eq!(copied.status, 200, "{copied:?}");
    assert!(copied.header("x-ashlar-content-root").is_some());
    assert_eq!(world.get(Who::Main, &format!("/{bucket}/copy")).await.body, b"by host");
    let stale = copy.header("x-amz-copy-source-if-none-match", "*");
    world.send(Who::Main, stale).await.fails(412, "PreconditionFailed");
}

#[tokio::test]
async fn multipart_uploads() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/big");
    let created = world
        .send(
            Who::Main,
            Request::new("POST", &format!("{path}?uploads")).header("x-amz-checksum-algorithm", "CRC32"),
        )
        .await;
    let upload = created.element("UploadId").expect("an upload").to_owned();
    assert_eq!(created.header("x-amz-checksum-type"), Some("COMPOSITE"));
    let mut lines = String::new();
    for (number, length) in [(1, 5 << 20), (2, 7)] {
        let request = Request::new("PUT", &format!("{path}?partNumber={number}&uploadId={upload}"))
            .body(&vec![b'x'; length])
            .payload(UNSIGNED)
            .header("x-amz-sdk-checksum-algorithm", "CRC32");
        let part = world.send(Who::Main, request).await;
        assert_eq!(part.status, 200, "{part:?}");
        let checksum = part.header("x-amz-checksum-crc32").expect("a checksum");
        lines.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag><ChecksumCRC32>{checksum}</ChecksumCRC32></Part>",
            part.header("etag").expect("an entity tag").replace('"', "&quot;")
        ));
    }
    let listed = world.get(Who::Main, &format!("{path}?uploadId={upload}")).await;
    assert_eq!(listed.text().matches("<Part>").count(), 2, "{}", listed.text());
    let uploads = world.get(Who::Main, &format!("/{bucket}?uploads")).await;
    assert_eq!((uploads.element("UploadId"), uploads.element("Key")), (Some(upload.as_str()), Some("big")));
    let document = format!("<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>");
    let complete = Request::new("POST", &format!("{path}?uploadId={upload}")).body(document.as_bytes());
    let done = world.send(Who::Main, complete.clone()).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(
        done.element("ETag").is_some_and(|etag| etag.ends_with("-2\"") || etag.ends_with("-2&quot;")),
        "{}",
        done.text()
    );
    assert!(done.element("ChecksumCRC32").is_some_and(|checksum| checksum.ends_with("-2")));
    let again = world.send(Who::Main, complete).await;
    assert_eq!((again.status, again.element("ETag")), (200, done.element("ETag")), "a retry gives the same");
    let part = world.get(Who::Main, &format!("{path}?partNumber=2")).await;
    assert_eq!((part.status, part.body.as_slice()), (206, &b"xxxxxxx"[..]));
    assert_eq!(part.header("x-amz-mp-parts-count"), Some("2"));
    let names = Request::new("GET", &format!("{path}?attributes"))
        .header("x-amz-object-attributes", "ETag,ObjectParts,ObjectSize");
    let attributes = world.send(Who::Main, names).await;
    assert_eq!(attributes.element("PartsCount"), Some("2"), "{}", attributes.text());
}
