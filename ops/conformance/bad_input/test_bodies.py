"""Bodies that are shorter, longer or other than announced."""

import base64
import hashlib
import socket
import zlib

import pytest

from stand.sigv4 import UNSIGNED, chunked, read_answer


def put(wire, bucket, body, **options):
    return wire.sign("PUT", f"/{bucket}/k", body=body, **options)


@pytest.mark.parametrize("payload_kind", [None, UNSIGNED])
def test_truncated_and_gone(wire, bucket, stored, payload_kind):
    """Half a body, then the client vanishes."""
    request = put(wire, bucket, b"x" * 100_000, payload=payload_kind)
    with socket.create_connection(wire.address, 10) as s:
        s.sendall(request.head() + request.body[:50_000])
    assert stored(bucket) == []


@pytest.mark.parametrize("payload_kind", [None, UNSIGNED])
def test_truncated_and_waiting(wire, bucket, stored, refused, payload_kind):
    """Half a body, then the sending side is closed and the client waits for the answer."""
    request = put(wire, bucket, b"x" * 100_000, payload=payload_kind)
    request.body = request.body[:50_000]
    answer = wire.send(request, half_close=True)
    assert answer.status < 500 and answer.status != 200, answer
    assert stored(bucket) == []


def test_longer_than_its_length(wire, bucket, stored, refused):
    """The bytes past Content-Length are not the object's: with a signed body the digest is wrong."""
    request = put(wire, bucket, b"x" * 1000)
    request.headers["content-length"] = "500"
    refused(wire.send(request), "XAmzContentSHA256Mismatch", "BadDigest", statuses=(400,))
    assert stored(bucket) == []


def test_two_lengths_or_length_and_chunked(wire, bucket, stored):
    """Request smuggling: ambiguous framing is refused."""
    for extra in ("content-length: 3", "transfer-encoding: chunked, identity"):
        request = put(wire, bucket, b"12345")
        request.extra = [extra]
        answer = wire.send(request)
        assert answer.status in (0, 501) or 400 <= answer.status < 500, answer
    assert stored(bucket) == []


@pytest.mark.parametrize("value", ["-1", "abc", "99999999999999999999999", "1e3", "0x10"])
def test_content_length_that_is_no_number(wire, bucket, stored, value):
    request = put(wire, bucket, b"12345")
    request.headers["content-length"] = value
    answer = wire.send(request)
    assert answer.status == 0 or 400 <= answer.status < 500, answer
    assert stored(bucket) == []


def test_too_large_for_one_put(wire, bucket, stored, refused):
    request = put(wire, bucket, b"", payload=UNSIGNED)
    request.headers["content-length"] = str(5 * 1024**3 + 1)
    request.headers["expect"] = "100-continue"
    refused(wire.send(request), "EntityTooLarge", statuses=(400, 413))
    assert stored(bucket) == []


def test_no_length(wire, bucket, stored, refused):
    """A PUT without Content-Length and without chunks has no body that one could know the end of."""
    request = wire.sign("PUT", f"/{bucket}/k", payload=UNSIGNED, length=False)
    answer = wire.send(request, half_close=True)
    assert answer.status in (400, 411), answer
    assert stored(bucket) == []


@pytest.mark.parametrize("header, value, codes", [
    ("content-md5", base64.b64encode(hashlib.md5(b"other").digest()).decode(), ("BadDigest",)),
    ("content-md5", "not base64!", ("InvalidDigest",)),
    ("content-md5", base64.b64encode(b"short").decode(), ("InvalidDigest",)),
    ("x-amz-checksum-crc32", base64.b64encode(zlib.crc32(b"other").to_bytes(4, "big")).decode(), ("BadDigest", "XAmzContentChecksumMismatch", "InvalidRequest")),
    ("x-amz-checksum-crc32", "AAA", ("InvalidRequest", "InvalidArgument", "BadDigest", "InvalidDigest")),
    ("x-amz-checksum-crc32c", "AAAAAA==", ("BadDigest", "XAmzContentChecksumMismatch", "InvalidRequest")),
    ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=", ("BadDigest", "XAmzContentChecksumMismatch", "InvalidRequest")),
    ("x-amz-checksum-sha1", base64.b64encode(hashlib.sha1(b"other").digest()).decode(), ("BadDigest", "XAmzContentChecksumMismatch", "InvalidRequest")),
    ("x-amz-checksum-sha256", base64.b64encode(hashlib.sha256(b"other").digest()).decode(), ("BadDigest", "XAmzContentChecksumMismatch", "InvalidRequest")),
])
def test_wrong_digest(wire, bucket, stored, refused, header, value, codes):
    refused(wire.send(put(wire, bucket, b"body", headers={header: value})), *codes, statuses=(400,))
    assert stored(bucket) == []


def test_wrong_payload_hash(wire, bucket, stored, refused):
    request = put(wire, bucket, b"body", payload=hashlib.sha256(b"other").hexdigest())
    refused(wire.send(request), "XAmzContentSHA256Mismatch", "BadDigest", statuses=(400,))
    assert stored(bucket) == []


def test_payload_hash_that_is_no_hash(wire, bucket, stored, refused):
    refused(wire.send(put(wire, bucket, b"body", payload="beef")))
    assert stored(bucket) == []


def test_wrong_digest_keeps_the_old_object(wire, bucket, refused):
    assert wire.object("PUT", bucket, "k", body=b"old").status == 200
    refused(wire.send(put(wire, bucket, b"new", headers={"content-md5": base64.b64encode(b"0" * 16).decode()})), "BadDigest")
    assert wire.object("GET", bucket, "k").body == b"old"


def streaming(wire, bucket, decoded, trailer=""):
    headers = {"x-amz-decoded-content-length": str(decoded), "content-encoding": "aws-chunked"}
    if trailer:
        headers["x-amz-trailer"] = trailer
    kind = "STREAMING-UNSIGNED-PAYLOAD-TRAILER" if trailer else "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    return wire.sign("PUT", f"/{bucket}/k", headers=headers, payload=kind, length=False)


def finish(request, body):
    request.body = body
    request.headers["content-length"] = str(len(body))
    return request


@pytest.mark.parametrize("decoded", [9_999, 10_001])
def test_decoded_length_is_wrong(wire, bucket, stored, refused, decoded):
    request = streaming(wire, bucket, decoded)
    refused(wire.send(finish(request, chunked(request, [b"x" * 10_000]))))
    assert stored(bucket) == []


def test_chunks_without_the_last(wire, bucket, stored, refused):
    request = streaming(wire, bucket, 10_000)
    whole = chunked(request, [b"x" * 10_000])
    refused(wire.send(finish(request, whole[:whole.rindex(b"0;chunk-signature")])))
    assert stored(bucket) == []


@pytest.mark.parametrize("body", [
    b"zz;chunk-signature=00\r\nabc\r\n", b"ffffffffffffffffff;chunk-signature=00\r\n", b"5\r\nhello\r\n0\r\n\r\n",
    b"\r\n" * 100, b"5;" + b"a" * 100_000, b"-5;chunk-signature=00\r\nhello\r\n",
])
def test_chunk_headers_that_are_none(wire, bucket, stored, refused, body):
    refused(wire.send(finish(streaming(wire, bucket, 5), body)))
    assert stored(bucket) == []


@pytest.mark.parametrize("trailers", [
    [("x-amz-checksum-crc32", "AAAAAA==")], [], [("x-amz-checksum-sha256", "x")],
    [("x-amz-checksum-crc32", "not base64")],
])
def test_wrong_or_missing_trailer(wire, bucket, stored, refused, trailers):
    request = streaming(wire, bucket, 4, "x-amz-checksum-crc32")
    refused(wire.send(finish(request, chunked(request, [b"body"], trailers=trailers, signed=False))))
    assert stored(bucket) == []


def test_trailer_flood(wire, bucket, stored):
    request = streaming(wire, bucket, 4, "x-amz-checksum-crc32")
    flood = [(f"x-amz-meta-{n}", "v" * 1000) for n in range(2000)]
    answer = wire.send(finish(request, chunked(request, [b"body"], trailers=flood, signed=False)))
    assert answer.status == 0 or 400 <= answer.status < 500, answer
    assert stored(bucket) == []


@pytest.mark.parametrize("frame", [b"5\r\nhel", b"zz\r\nhello\r\n0\r\n\r\n", b"fffffffffffffffffff\r\n", b"5;" + b"x" * 200_000])
def test_broken_transfer_chunks(wire, bucket, stored, frame):
    request = wire.sign("PUT", f"/{bucket}/k", headers={"transfer-encoding": "chunked", "x-amz-decoded-content-length": "5"},
                        payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER", length=False)
    request.body = frame
    with socket.create_connection(wire.address, 20) as s:
        try:
            s.sendall(request.head() + request.body)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = read_answer(s, "PUT")
    assert answer.status == 0 or 400 <= answer.status < 500, answer
    assert stored(bucket) == []
