"""The ways SDKs stream a body: aws-chunked, signed or not, with trailers, with or without a length.

The Java, Go, C++ and Rust SDKs and pyarrow each send one of these; here each is sent by hand, so a
failure names the form and not the SDK.
"""

import base64
import zlib

import pytest

from stand.sigv4 import chunked


def crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def streaming(wire, bucket, key, body, kind, trailers=(), extra=None):
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(body))}
    if trailers:
        headers["x-amz-trailer"] = ",".join(name for name, _ in trailers)
    return wire.sign("PUT", f"/{bucket}/{key}", headers=headers | (extra or {}), payload=kind, length=False)


def pieces(body: bytes, size: int = 65536):
    return [body[i:i + size] for i in range(0, len(body), size)]


@pytest.mark.parametrize("size", [0, 1, 8192, 65536, 200_001])
def test_signed_chunks(wire, bucket, payload, size):
    body = payload(size)
    request = streaming(wire, bucket, "s", body, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    request.body = chunked(request, pieces(body))
    request.headers["content-length"] = str(len(request.body))
    assert (answer := wire.send(request)).status == 200, answer
    assert wire.object("GET", bucket, "s").body == body


def test_signed_chunks_with_signed_trailer(wire, bucket, payload):
    body = payload(150_000)
    trailers = [("x-amz-checksum-crc32", crc32(body))]
    request = streaming(wire, bucket, "st", body, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", trailers)
    request.body = chunked(request, pieces(body), trailers=trailers, trailer_signed=True)
    request.headers["content-length"] = str(len(request.body))
    assert (answer := wire.send(request)).status == 200, answer
    assert wire.object("GET", bucket, "st").body == body


@pytest.mark.parametrize("size", [0, 5, 150_000])
def test_unsigned_trailer_with_length(wire, bucket, payload, size):
    body = payload(size)
    trailers = [("x-amz-checksum-crc32", crc32(body))]
    request = streaming(wire, bucket, "ut", body, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", trailers)
    request.body = chunked(request, pieces(body), trailers=trailers, signed=False)
    request.headers["content-length"] = str(len(request.body))
    assert (answer := wire.send(request)).status == 200, answer
    assert answer.headers.get("x-amz-checksum-crc32") == crc32(body)
    got = wire.object("GET", bucket, "ut", headers={"x-amz-checksum-mode": "ENABLED"})
    assert got.body == body and got.headers["x-amz-checksum-crc32"] == crc32(body)
    assert "aws-chunked" not in got.headers.get("content-encoding", "")


def test_unsigned_trailer_without_length(wire, bucket, payload):
    """pyarrow's form: HTTP chunks around aws-chunks, no Content-Length."""
    body = payload(100_000)
    trailers = [("x-amz-checksum-crc32", crc32(body))]
    request = streaming(wire, bucket, "nl", body, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", trailers,
                        {"transfer-encoding": "chunked"})
    inner = chunked(request, pieces(body), trailers=trailers, signed=False)
    request.body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces(inner, 7000)) + b"0\r\n\r\n"
    assert (answer := wire.send(request)).status == 200, answer
    assert wire.object("GET", bucket, "nl").body == body


def test_content_encoding_beside_aws_chunked_is_kept(wire, bucket, payload):
    body = payload(1000)
    request = streaming(wire, bucket, "ce", body, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
                        extra={"content-encoding": "aws-chunked,gzip"})
    request.body = chunked(request, [body])
    request.headers["content-length"] = str(len(request.body))
    assert wire.send(request).status == 200
    assert wire.object("HEAD", bucket, "ce").headers["content-encoding"] == "gzip"


def test_expect_continue(wire, bucket, payload):
    body = payload(50_000)
    request = wire.sign("PUT", f"/{bucket}/e", body=body)
    request.headers["expect"] = "100-continue"
    assert wire.send(request).status == 200
    assert wire.object("GET", bucket, "e").body == body


def test_metadata_outside_ascii(wire, bucket):
    """Raw UTF-8 in a header comes back as RFC 2047, as S3 does, or as the same bytes."""
    request = wire.sign("PUT", f"/{bucket}/meta", headers={"x-amz-meta-name": "größe"}, body=b"x")
    assert (answer := wire.send(request)).status == 200, answer
    got = wire.object("HEAD", bucket, "meta").headers["x-amz-meta-name"]
    assert got.lower().startswith("=?utf-8?") or got.encode("latin-1").decode() == "größe"
