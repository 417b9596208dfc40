//! Bodies in every framing, and every way in which they can be wrong: nothing of those is stored.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::wire;
use crate::gateway::world::{Request, UNSIGNED, Who, World};

/// HTTP's own chunks around bytes.
fn http_chunks(bytes: &[u8], step: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in bytes.chunks(step) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

const TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// As pyarrow sends: no length anywhere, the checksum in a trailer.
fn streamed(path: &str, data: &[u8], trailer: &str) -> Request {
    let mut aws = format!("{:x}\r\n", data.len()).into_bytes();
    aws.extend_from_slice(data);
    aws.extend_from_slice(format!("\r\n0\r\n{trailer}\r\n").as_bytes());
    Request::new("PUT", path)
        .payload(TRAILER)
        .header("transfer-encoding", "chunked")
        .header("content-encoding", "aws-chunked")
        .header("x-amz-trailer", "x-amz-checksum-crc64nvme")
        .without_length()
        .body(&http_chunks(&aws, 7))
}

#[tokio::test]
async fn unsigned_without_length() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/k");
    let plain = Request::new("PUT", &path)
        .payload(UNSIGNED)
        .header("transfer-encoding", "chunked")
        .without_length()
        .body(&http_chunks(b"no length at all", 5));
    assert_eq!(world.send(Who::Main, plain).await.status, 200);
    assert_eq!(world.get(Who::Main, &path).await.body, b"no length at all");

    // CRC-64/NVME of "123456789" is ae8b14860a799888.
    let good = streamed(&path, b"123456789", "x-amz-checksum-crc64nvme:rosUhgp5mIg=\r\n");
    let put = world.send(Who::Main, good).await;
    assert_eq!((put.status, put.header("x-amz-checksum-crc64nvme")), (200, Some("rosUhgp5mIg=")), "{put:?}");
    for (trailer, code) in [
        ("x-amz-checksum-crc64nvme:AAAAAAAAAAA=\r\n", "BadDigest"),
        ("x-amz-checksum-crc64nvme:short\r\n", "InvalidRequest"),
        ("x-amz-checksum-crc32:AAAAAA==\r\n", "InvalidRequest"),
        ("", "InvalidRequest"),
    ] {
        world.send(Who::Main, streamed(&path, b"other", trailer)).await.fails(400, code);
    }
    assert_eq!(world.get(Who::Main, &path).await.body, b"123456789");
    let endless = Request::new("PUT", &path).payload(UNSIGNED).without_length();
    world.send(Who::Main, endless).await.fails(411, "MissingContentLength");
    let announced = Request::new("PUT", &path).body(b"x").header("x-amz-trailer", "x-amz-checksum-crc32");
    world.send(Who::Main, announced).await.fails(400, "InvalidRequest");
}

/// A body of signed chunks; `spoil` changes it.
fn signed(path: &str, chunks: &[&[u8]], trailer: Option<&str>, spoil: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let length: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    let mode = match trailer {
        Some(_) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        None => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    };
    let mut request = Request::new("PUT", path)
        .payload(mode)
        .header("content-encoding", "aws-chunked")
        .header("transfer-encoding", "chunked")
        .header("x-amz-decoded-content-length", &length.to_string())
        .without_length();
    if trailer.is_some() {
        request = request.header("x-amz-trailer", "x-amz-checksum-crc32");
    }
    let (mut head, signer) = request.signed_with(Who::Main);
    let mut signer = signer.expect("signed");
    let mut body = Vec::new();
    for chunk in chunks.iter().copied().chain([&b""[..]]) {
        body.extend_from_slice(
            format!("{:x};chunk-signature={}\r\n", chunk.len(), signer.chunk(chunk)).as_bytes(),
        );
        body.extend_from_slice(chunk);
        if !chunk.is_empty() {
            body.extend_from_slice(b"\r\n");
        }
    }
    if let Some(value) = trailer {
        let line = format!("x-amz-checksum-crc32:{value}\n");
        let signature = signer.trailers(&line);
        body.extend_from_slice(
            format!("x-amz-checksum-crc32:{value}\r\nx-amz-trailer-signature:{signature}\r\n").as_bytes(),
        );
    }
    body.extend_from_slice(b"\r\n");
    spoil(&mut body);
    head.extend_from_slice(&http_chunks(&body, 1000));
    head
}

#[tokio::test]
async fn signed_chunks() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/k");
    let chunks: &[&[u8]] = &[&[b'a'; 70_000], b"123456789"];
    let put = wire::exchange(world.address, &signed(&path, chunks, None, |_| {})).await;
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(world.get(Who::Main, &path).await.body, chunks.concat());
    let with_trailer = signed(&path, &[b"123456789"], Some("y/Q5Jg=="), |_| {});
    let put = wire::exchange(world.address, &with_trailer).await;
    assert_eq!((put.status, put.header("x-amz-checksum-crc32")), (200, Some("y/Q5Jg==")), "{put:?}");

    let spoiled = |spoil: fn(&mut Vec<u8>)| signed(&path, &[b"new bytes", b"more"], None, spoil);
    for (request, code) in [
        (spoiled(|body| replace(body, b"new", b"neW")), "SignatureDoesNotMatch"),
        (spoiled(|body| replace(body, b"4;chunk-signature=", b"4;chunk-signaturE=")), "InvalidRequest"),
        (spoiled(|body| body.truncate(120)), "InvalidRequest"),
        (signed(&path, &[b"123456789"], Some("AAAAAA=="), |_| {}), "BadDigest"),
        (
            signed(&path, &[b"x"], Some("y/Q5Jg=="), |body| replace(body, b"y/Q5", b"y/Q6")),
            "SignatureDoesNotMatch",
        ),
    ] {
        let answer = wire::exchange(world.address, &request).await;
        assert_eq!(answer.element("Code"), Some(code), "{}", answer.text());
    }
    assert_eq!(world.get(Who::Main, &path).await.body, b"123456789");
}

fn replace(body: &mut [u8], from: &[u8], to: &[u8]) {
    let at = body.windows(from.len()).position(|window| window == from).expect("there");
    body[at..at + from.len()].copy_from_slice(to);
}

#[tokio::test]
async fn digests_that_do_not_match() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/k");
    let put = |name: &str, value: &str| {
        Request::new("PUT", &path).payload(UNSIGNED).body(b"data").header(name, value)
    };
    let wrong_sha256 = Request::new("PUT", &path).body(b"data").payload(&"0".repeat(64));
    world.send(Who::Main, wrong_sha256).await.fails(400, "XAmzContentSHA256Mismatch");
    world.send(Who::Main, put("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")).await.fails(400, "BadDigest");
    world.send(Who::Main, put("content-md5", "what")).await.fails(400, "InvalidDigest");
    world
        .send(Who::Main, put("x-amz-checksum-sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="))
        .await
        .fails(400, "BadDigest");
    world.get(Who::Main, &path).await.fails(404, "NoSuchKey");
}

#[tokio::test]
async fn bodies_cut_short_are_not_stored() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/k");
    let whole = Request::new("PUT", &path).payload(UNSIGNED).body(&[b'x'; 1000]).signed(Who::Main);
    let mut stream = TcpStream::connect(world.address).await.expect("connected");
    stream.write_all(&whole[..whole.len() - 1]).await.expect("sent");
    drop(stream);
    // A second request orders us behind whatever the first one did.
    world.get(Who::Main, &path).await.fails(404, "NoSuchKey");
}

#[tokio::test]
async fn continue_is_sent_to_the_right_ones_only() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let request = |who: Who, path: &str| {
        let head = Request::new("PUT", path)
            .payload(UNSIGNED)
            .header("expect", "100-continue")
            .body(b"data")
            .signed(who);
        head[..head.len() - 4].to_vec()
    };
    let open = async |bytes: Vec<u8>| {
        let mut stream = TcpStream::connect(world.address).await.expect("connected");
        stream.write_all(&bytes).await.expect("sent");
        let first = wire::read(&mut stream).await;
        (stream, first)
    };
    let (mut stream, first) = open(request(Who::Main, &format!("/{bucket}/k"))).await;
    assert_eq!(first.status, 100);
    stream.write_all(b"data").await.expect("sent");
    assert_eq!(wire::read(&mut stream).await.status, 200);
    for (who, path, status) in [
        (Who::Alt, format!("/{bucket}/k"), 403),
        (Who::Nobody, format!("/{bucket}/k"), 403),
        (Who::Main, "/no-such-bucket/k".to_owned(), 404),
    ] {
        let (mut stream, answer) = open(request(who, &path)).await;
        assert_eq!(answer.status, status, "{path}");
        // What such a client sends next would be taken for the body that it need not send any more.
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
        let next = Request::new("GET", "/").signed(Who::Main);
        let mut rest = Vec::new();
        if stream.write_all(&next).await.is_ok() && stream.read_to_end(&mut rest).await.is_ok() {
            assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        }
    }
}

#[tokio::test]
async fn who_closes_his_half_gets_his_answer() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let mut stream = TcpStream::connect(world.address).await.expect("connected");
    let request = Request::new("PUT", &format!("/{bucket}/k")).payload(UNSIGNED).body(b"data");
    stream.write_all(&request.signed(Who::Main)).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    assert_eq!(wire::read(&mut stream).await.status, 200);
}
