"""Parts too small, too many, out of order, of another upload."""

import pytest


@pytest.fixture
def upload(wire, bucket):
    body = wire.call("POST", f"/{bucket}/k", [("uploads", "")]).body.decode()
    return body.partition("<UploadId>")[2].partition("<")[0]


def part(wire, bucket, upload, number, body):
    return wire.call("PUT", f"/{bucket}/k", [("partNumber", str(number)), ("uploadId", upload)], body=body)


def complete(wire, bucket, upload, parts):
    text = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in parts)
    return wire.call("POST", f"/{bucket}/k", [("uploadId", upload)],
                     body=f"<CompleteMultipartUpload>{text}</CompleteMultipartUpload>".encode())


@pytest.mark.parametrize("number", [0, -1, 10_001, 99999999999999, "x", ""])
def test_part_number_out_of_range(wire, bucket, upload, refused, number):
    refused(part(wire, bucket, upload, number, b"x"), statuses=(400,))


def test_part_10000_is_allowed(wire, bucket, upload):
    tag = part(wire, bucket, upload, 10_000, b"last").headers["etag"]
    assert complete(wire, bucket, upload, [(10_000, tag)]).status == 200
    assert wire.object("GET", bucket, "k").body == b"last"


def test_parts_too_small(wire, bucket, upload, refused, stored):
    tags = [part(wire, bucket, upload, n, b"x" * 1000).headers["etag"] for n in (1, 2)]
    refused(complete(wire, bucket, upload, [(1, tags[0]), (2, tags[1])]), "EntityTooSmall", statuses=(400,))
    assert stored(bucket) == []


def test_10001_parts_completed(wire, bucket, upload, refused, stored):
    tag = part(wire, bucket, upload, 1, b"x").headers["etag"]
    refused(complete(wire, bucket, upload, [(n, tag) for n in range(1, 10_002)]), statuses=(400,))
    assert stored(bucket) == []


@pytest.mark.parametrize("pick, codes", [
    (lambda t: [(2, t[1]), (1, t[0])], ("InvalidPartOrder",)),
    (lambda t: [(1, t[0]), (1, t[0])], ("InvalidPartOrder", "InvalidPart")),
    (lambda t: [(1, t[0]), (3, t[1])], ("InvalidPart",)),
    (lambda t: [(1, t[1])], ("InvalidPart",)),
    (lambda t: [(1, '"' + "0" * 32 + '"')], ("InvalidPart",)),
    (lambda t: [], ("MalformedXML", "InvalidRequest")),
])
def test_wrong_part_lists(wire, bucket, upload, refused, stored, pick, codes):
    tags = [part(wire, bucket, upload, n, bytes([n]) * 5 * 1024 * 1024).headers["etag"] for n in (1, 2)]
    refused(complete(wire, bucket, upload, pick(tags)), *codes, statuses=(400,))
    assert stored(bucket) == []


def test_unknown_or_finished_upload(wire, bucket, upload, refused, stored):
    for name in ("nothing", "../../etc", "%00", "a" * 3000):
        refused(part(wire, bucket, name, 1, b"x"), "NoSuchUpload", statuses=(404,))
        refused(complete(wire, bucket, name, [(1, '"x"')]), statuses=(400, 404))
    assert wire.call("DELETE", f"/{bucket}/k", [("uploadId", upload)]).status == 204
    refused(part(wire, bucket, upload, 1, b"x"), "NoSuchUpload", statuses=(404,))
    assert stored(bucket) == []


def test_upload_of_another_key(wire, bucket, upload, refused):
    refused(wire.call("PUT", f"/{bucket}/other", [("partNumber", "1"), ("uploadId", upload)], body=b"x"), "NoSuchUpload", statuses=(404,))


@pytest.mark.parametrize("window", ["bytes=5-", "bytes=-5", "bytes=9-5", "bytes=0-99", "items=0-1", "0-1"])
def test_part_copy_ranges(wire, bucket, upload, refused, window):
    assert wire.object("PUT", bucket, "src", body=b"0123456789").status == 200
    refused(wire.call("PUT", f"/{bucket}/k", [("partNumber", "1"), ("uploadId", upload)],
                      {"x-amz-copy-source": f"{bucket}/src", "x-amz-copy-source-range": window}), statuses=(400, 416))


@pytest.mark.parametrize("source", ["", "/", "nobucket", "/b/%ff", "a/b?versionId=", "..//..", "/" * 3000])
def test_copy_sources(wire, bucket, refused, stored, source):
    refused(wire.object("PUT", bucket, "k", headers={"x-amz-copy-source": source}), statuses=(400, 403, 404))
    assert stored(bucket) == []
