"""Header floods, oversized metadata, lines that are no HTTP, methods that are none."""

import socket
import time

import pytest

from stand.sigv4 import read_answer


def clear(answer):
    """Refused by S3 or by the HTTP layer, or the connection closed: never a 5xx or a success."""
    assert answer.status == 0 or 400 <= answer.status < 500, answer


@pytest.mark.parametrize("count, size", [(150, 10), (5000, 10), (20, 60_000), (1, 2_000_000)])
def test_header_flood(wire, bucket, stored, count, size):
    request = wire.sign("PUT", f"/{bucket}/k", body=b"x")
    request.extra = [f"x-flood-{n}: {'v' * size}" for n in range(count)]
    answer = wire.send(request)
    if (count, size) != (150, 10) or answer.status != 200:  # 150 small headers are odd, not an attack.
        clear(answer)
        assert stored(bucket) == []


@pytest.mark.parametrize("headers", [{"x-amz-meta-big": "v" * 2100}, {f"x-amz-meta-{n:03}": "v" * 40 for n in range(60)}])
def test_metadata_over_2_kib(wire, bucket, refused, stored, headers):
    refused(wire.object("PUT", bucket, "k", headers=headers, body=b"x"), "MetadataTooLarge", statuses=(400,))
    assert stored(bucket) == []


def test_header_never_ends(wire):
    """A head that goes on for ever is cut off, in bytes."""
    with socket.create_connection(wire.address, 20) as s:
        s.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-a: ")
        sent = 0
        try:
            while sent < 50_000_000:
                sent += s.send(b"a" * 65536)
        except OSError:
            pass
        assert sent < 50_000_000, "50 MB of one header were taken"


@pytest.mark.parametrize("data", [
    b"\x00" * 1000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 200,
    b"GET / HTTP/1.1\r\nno colon here\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nbad\x00name: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100, b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
])
def test_what_is_no_http(wire, data):
    with socket.create_connection(wire.address, 5) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = read_answer(s, "GET")
    assert answer.status == 0 or answer.status < 500 or answer.status == 505, answer


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "CONNECT", "BREW", "get", "PROPFIND"])
def test_methods_that_are_none(wire, bucket, method):
    answer = wire.call(method, f"/{bucket}/k")
    assert answer.status == 0 or 400 <= answer.status < 500 or answer.status == 501, answer


@pytest.mark.parametrize("window", ["bytes=", "bytes=a-b", "bytes=5-2", "lines=1-2", "bytes=0-0,2-3", "bytes=-0", "bytes=99999999999999999999-",
                                    "bytes=0-99999999999999999999"])
def test_ranges_that_are_none(wire, bucket, window):
    """Ignored (whole object), clipped (206), or 416: never a 5xx, and 206 only with what it says."""
    assert wire.object("PUT", bucket, "k", body=b"0123456789").status == 200
    answer = wire.object("GET", bucket, "k", headers={"range": window})
    assert answer.status in (200, 206, 400, 416), answer
    if answer.status == 200:
        assert answer.body == b"0123456789"


@pytest.mark.parametrize("name, value", [
    ("if-modified-since", "yesterday"), ("x-amz-acl", "nobody"), ("x-amz-storage-class", "PAPER"),
    ("x-amz-server-side-encryption", "rot13"), ("x-amz-object-lock-mode", "x"), ("x-amz-checksum-algorithm", "CRC7"),
    ("x-amz-sdk-checksum-algorithm", "CRC7"), ("x-amz-website-redirect-location", "ftp:"), ("expires", "never"),
])
def test_header_values_that_are_none(wire, bucket, name, value):
    """Either ignored as S3 ignores it, or refused; a 5xx other than 501 NotImplemented is neither."""
    answer = wire.object("PUT", bucket, "k", headers={name: value}, body=b"x")
    assert answer.status in (200, 400, 403, 501), answer


@pytest.mark.parametrize("query", ["website", "replication", "inventory", "analytics", "metrics", "accelerate", "requestPayment", "logging",
                                   "notification", "lifecycle", "encryption", "object-lock", "intelligent-tiering"])
def test_what_is_not_there_is_no_false_success(wire, bucket, refused, query):
    """A configuration that is not implemented is 501 NotImplemented (or 4xx), not 200 and forgotten."""
    answer = wire.call("PUT", f"/{bucket}", [(query, "")], body=b"<X/>")
    assert answer.status == 501 or 400 <= answer.status < 500, answer


def test_slow_head_does_not_hold_the_server(wire):
    """Ten half-sent heads do not keep others out."""
    held = [socket.create_connection(wire.address, 10) for _ in range(10)]
    try:
        for s in held:
            s.sendall(b"PUT /x HTTP/1.1\r\nhost: ")
        start = time.monotonic()
        assert wire.call("GET", "/").status == 200 and time.monotonic() - start < 5
    finally:
        for s in held:
            s.close()
