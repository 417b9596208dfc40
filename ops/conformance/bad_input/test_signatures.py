"""Requests whose signature, clock, scope or identity is wrong."""

import datetime

import pytest

from stand.sigv4 import chunked


def ago(**delta):
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(**delta)


def test_wrong_secret(wire, bucket, refused, stored):
    refused(wire.object("PUT", bucket, "k", body=b"x", secret="wrong" * 8), "SignatureDoesNotMatch", statuses=(403,))
    assert stored(bucket) == []


def test_unknown_access_key(wire, bucket, refused, stored):
    refused(wire.object("PUT", bucket, "k", body=b"x", access="NOSUCHACCESSKEY"), "InvalidAccessKeyId", statuses=(403,))
    assert stored(bucket) == []


@pytest.mark.parametrize("delta", [{"minutes": 20}, {"minutes": -20}, {"days": 400}, {"days": -400}])
def test_skewed_clock(wire, bucket, refused, stored, delta):
    refused(wire.object("PUT", bucket, "k", body=b"x", when=ago(**delta)), "RequestTimeTooSkewed", statuses=(403,))
    assert stored(bucket) == []


@pytest.mark.parametrize("change", ["path", "query", "header", "method", "signature", "date"])
def test_changed_after_signing(wire, bucket, refused, stored, change):
    request = wire.sign("PUT", f"/{bucket}/k", headers={"x-amz-meta-a": "1"}, body=b"x")
    if change == "path":
        request.path += "2"
    elif change == "query":
        request.query = "tagging"
    elif change == "header":
        request.headers["x-amz-meta-a"] = "2"
    elif change == "method":
        request.method = "POST"
    elif change == "signature":
        request.headers["authorization"] = request.headers["authorization"][:-2] + "zz"
    else:
        request.headers["x-amz-date"] = ago(minutes=1).strftime("%Y%m%dT%H%M%SZ")
    refused(wire.send(request))
    assert stored(bucket) == []


@pytest.mark.parametrize("value", [
    "", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=", "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=00",
    "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=, Signature=",
    "AWS4-HMAC-SHA256 " + "Credential=a," * 200, "Basic YTpi", "Bearer x", "\x7f\x80",
])
def test_malformed_authorization(wire, bucket, refused, stored, value):
    request = wire.sign("PUT", f"/{bucket}/k", body=b"x")
    request.headers["authorization"] = value
    refused(wire.send(request), xml="\x7f" not in value)  # A control byte in a header is no HTTP.
    assert stored(bucket) == []


def test_signature_version_2_is_refused(wire, bucket, refused, stored):
    request = wire.sign("PUT", f"/{bucket}/k", body=b"x")
    request.headers["authorization"] = f"AWS {wire.access}:c2lnbmF0dXJlc2lnbmF0dXJl"
    request.headers["date"] = "Thu, 01 Jan 2026 00:00:00 GMT"
    refused(wire.send(request))
    assert stored(bucket) == []


def test_anonymous(wire, bucket, refused, stored):
    request = wire.sign("PUT", f"/{bucket}/k", body=b"x")
    for name in ("authorization", "x-amz-date"):
        del request.headers[name]
    refused(wire.send(request), "AccessDenied", statuses=(403,))
    assert stored(bucket) == []


@pytest.mark.parametrize("missing", ["x-amz-date", "host"])
def test_header_that_must_be_there_is_missing(wire, bucket, refused, stored, missing):
    request = wire.sign("PUT", f"/{bucket}/k", body=b"x")
    del request.headers[missing]
    refused(wire.send(request), xml=missing != "host")
    assert stored(bucket) == []


def test_wrong_scope(wire, bucket, refused, stored):
    refused(wire.object("PUT", bucket, "k", body=b"x", service="ec2"))
    assert stored(bucket) == []


@pytest.mark.parametrize("options, codes", [
    ({"when": ago(hours=2), "expires": 60}, ("AccessDenied", "ExpiredToken")),
    ({"when": ago(hours=-2), "expires": 60}, ("AccessDenied", "RequestTimeTooSkewed")),
    ({"expires": 604801}, ("AuthorizationQueryParametersError",)),
    ({"expires": -1}, ("AuthorizationQueryParametersError",)),
    ({"expires": "soon"}, ("AuthorizationQueryParametersError",)),
    ({"secret": "no" * 20}, ("SignatureDoesNotMatch",)),
])
def test_presigned(wire, bucket, refused, stored, options, codes):
    request = wire.presign("PUT", f"/{bucket}/k", **options)
    request.body, request.headers["content-length"] = b"x", "1"
    refused(wire.send(request), *codes)
    assert stored(bucket) == []


def test_presigned_for_get_does_not_put(wire, bucket, refused, stored):
    request = wire.presign("GET", f"/{bucket}/k")
    request.method, request.body, request.headers["content-length"] = "PUT", b"x", "1"
    refused(wire.send(request), "SignatureDoesNotMatch", statuses=(403,))
    assert stored(bucket) == []


@pytest.mark.parametrize("at", [0, 1, 2])
def test_bad_chunk_signature(wire, bucket, refused, stored, at):
    body = b"a" * 20_000
    request = wire.sign("PUT", f"/{bucket}/k", headers={"x-amz-decoded-content-length": "20000"},
                        payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD", length=False)
    pieces = chunked(request, [body[:10_000], body[10_000:]]).split(b"chunk-signature=")
    pieces[at + 1] = b"0" * 64 + pieces[at + 1][64:]
    request.body = b"chunk-signature=".join(pieces)
    request.headers["content-length"] = str(len(request.body))
    refused(wire.send(request), "SignatureDoesNotMatch", statuses=(403,))
    assert stored(bucket) == []


def test_bad_trailer_signature(wire, bucket, refused, stored):
    trailers = [("x-amz-checksum-crc32", "AAAAAA==")]
    request = wire.sign("PUT", f"/{bucket}/k", headers={"x-amz-decoded-content-length": "0", "x-amz-trailer": trailers[0][0]},
                        payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", length=False)
    good = chunked(request, [], trailers=trailers, trailer_signed=True)
    request.body = good[:-10] + b"00000000" + good[-2:]
    request.headers["content-length"] = str(len(request.body))
    refused(wire.send(request))
    assert stored(bucket) == []
