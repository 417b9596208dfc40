"""boto3 at its defaults: what most Python programs do with S3.

Its quirks: the payload signed with SHA-256 on plain http, CRC32 added to every PUT, `Expect:
100-continue`, checksums checked on GET, a multipart upload above 8 MiB through s3transfer.
"""

import base64
import hashlib
import io
import zlib

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def boto(target):
    return boto3.client("s3", endpoint_url=target.endpoint, region_name=target.region,
                        aws_access_key_id=target.access, aws_secret_access_key=target.secret)


def failure(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_put_get_head_delete(boto, bucket, payload):
    body = payload(100_000)
    put = boto.put_object(Bucket=bucket, Key="a/b c+d.bin", Body=body, ContentType="x/y",
                          CacheControl="no-cache", Metadata={"owner": "me", "note": "two  words"})
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    head = boto.head_object(Bucket=bucket, Key="a/b c+d.bin")
    assert (head["ContentLength"], head["ContentType"], head["CacheControl"]) == (100_000, "x/y", "no-cache")
    assert head["Metadata"]["owner"] == "me"
    got = boto.get_object(Bucket=bucket, Key="a/b c+d.bin")
    assert got["Body"].read() == body and got["ETag"] == put["ETag"]
    boto.delete_object(Bucket=bucket, Key="a/b c+d.bin")
    assert failure(boto.get_object, Bucket=bucket, Key="a/b c+d.bin") == (404, "NoSuchKey")
    assert failure(boto.head_object, Bucket=bucket, Key="a/b c+d.bin")[0] == 404


def test_empty_object(boto, bucket):
    boto.put_object(Bucket=bucket, Key="empty", Body=b"")
    got = boto.get_object(Bucket=bucket, Key="empty")
    assert got["Body"].read() == b"" and got["ContentLength"] == 0
    assert got["ETag"] == f'"{hashlib.md5(b"").hexdigest()}"'


def test_managed_transfer_is_multipart_and_comes_back(boto, bucket, payload, tmp_path):
    body = payload(20 * MIB + 123)
    (tmp_path / "in").write_bytes(body)
    boto.upload_file(str(tmp_path / "in"), bucket, "big")
    assert boto.head_object(Bucket=bucket, Key="big")["ETag"].strip('"').endswith("-3")
    boto.download_file(bucket, "big", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == body


def test_multipart_by_hand(boto, bucket, payload):
    parts = [payload(5 * MIB, "1"), payload(5 * MIB, "2"), payload(17, "3")]
    upload = boto.create_multipart_upload(Bucket=bucket, Key="m", Metadata={"k": "v"})["UploadId"]
    done = []
    for number, part in reversed(list(enumerate(parts, 1))):
        answer = boto.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=number, Body=part)
        assert answer["ETag"] == f'"{hashlib.md5(part).hexdigest()}"'
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    listed = boto.list_parts(Bucket=bucket, Key="m", UploadId=upload)["Parts"]
    assert [(p["PartNumber"], p["Size"]) for p in listed] == [(1, 5 * MIB), (2, 5 * MIB), (3, 17)]
    assert [u["Key"] for u in boto.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["m"]
    complete = boto.complete_multipart_upload(
        Bucket=bucket, Key="m", UploadId=upload, MultipartUpload={"Parts": sorted(done, key=lambda p: p["PartNumber"])})
    digest = hashlib.md5(b"".join(hashlib.md5(p).digest() for p in parts)).hexdigest()
    assert complete["ETag"] == f'"{digest}-3"'
    assert boto.get_object(Bucket=bucket, Key="m")["Body"].read() == b"".join(parts)
    second = boto.get_object(Bucket=bucket, Key="m", PartNumber=2)
    assert second["Body"].read() == parts[1] and second["PartsCount"] == 3
    assert boto.head_object(Bucket=bucket, Key="m")["Metadata"] == {"k": "v"}


def test_aborted_upload_leaves_nothing(boto, bucket, payload, stored):
    upload = boto.create_multipart_upload(Bucket=bucket, Key="gone")["UploadId"]
    boto.upload_part(Bucket=bucket, Key="gone", UploadId=upload, PartNumber=1, Body=payload(1000))
    boto.abort_multipart_upload(Bucket=bucket, Key="gone", UploadId=upload)
    assert failure(boto.list_parts, Bucket=bucket, Key="gone", UploadId=upload) == (404, "NoSuchUpload")
    assert stored(bucket) == []


@pytest.mark.parametrize("wanted, expected", [
    ("bytes=0-0", slice(0, 1)), ("bytes=4194300-4194310", slice(4194300, 4194311)),
    ("bytes=9999990-", slice(9999990, None)), ("bytes=-5", slice(-5, None)),
    ("bytes=0-99999999", slice(0, None)), ("bytes=65535-131073", slice(65535, 131074)),
])
def test_ranged_reads(boto, bucket, payload, wanted, expected):
    body = payload(10_000_000)
    boto.put_object(Bucket=bucket, Key="r", Body=body)
    got = boto.get_object(Bucket=bucket, Key="r", Range=wanted)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    data = got["Body"].read()
    assert data == body[expected]
    first = range(len(body))[expected][0]
    assert got["ContentRange"] == f"bytes {first}-{first + len(data) - 1}/{len(body)}"


def test_range_past_the_end(boto, bucket):
    boto.put_object(Bucket=bucket, Key="r", Body=b"12345")
    assert failure(boto.get_object, Bucket=bucket, Key="r", Range="bytes=5-9") == (416, "InvalidRange")


def test_lists_with_pages_prefix_and_delimiter(boto, bucket):
    keys = sorted([f"d{d}/f{f:02}" for d in range(5) for f in range(20)] + ["top", "z/é+ &%"],
                  key=lambda k: k.encode())
    for key in keys:
        boto.put_object(Bucket=bucket, Key=key, Body=b"x")
    pages = list(boto.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 7}))
    assert [e["Key"] for p in pages for e in p["Contents"]] == keys and len(pages) == 15
    old = boto.get_paginator("list_objects").paginate(Bucket=bucket, PaginationConfig={"PageSize": 9})
    assert [e["Key"] for p in old for e in p["Contents"]] == keys
    top = boto.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in top["CommonPrefixes"]] == ["d0/", "d1/", "d2/", "d3/", "d4/", "z/"]
    assert [e["Key"] for e in top["Contents"]] == ["top"] and top["KeyCount"] == 7
    inside = boto.list_objects_v2(Bucket=bucket, Prefix="d3/", StartAfter="d3/f17", FetchOwner=True)
    assert [e["Key"] for e in inside["Contents"]] == ["d3/f18", "d3/f19"] and "Owner" in inside["Contents"][0]


def test_copy(boto, bucket, payload):
    body = payload(70_000)
    boto.put_object(Bucket=bucket, Key="src/ü 1", Body=body, Metadata={"a": "1"}, ContentType="a/b")
    boto.copy_object(Bucket=bucket, Key="kept", CopySource={"Bucket": bucket, "Key": "src/ü 1"})
    boto.copy_object(Bucket=bucket, Key="new", CopySource={"Bucket": bucket, "Key": "src/ü 1"},
                     MetadataDirective="REPLACE", Metadata={"b": "2"})
    kept, new = (boto.get_object(Bucket=bucket, Key=k) for k in ("kept", "new"))
    assert (kept["Metadata"], kept["ContentType"], new["Metadata"]) == ({"a": "1"}, "a/b", {"b": "2"})
    assert kept["Body"].read() == new["Body"].read() == body
    assert failure(boto.copy_object, Bucket=bucket, Key="new",
                   CopySource={"Bucket": bucket, "Key": "new"}) == (400, "InvalidRequest")
    assert failure(boto.copy_object, Bucket=bucket, Key="x",
                   CopySource={"Bucket": bucket, "Key": "absent"}) == (404, "NoSuchKey")


def test_upload_part_copy(boto, bucket, payload):
    body = payload(12 * MIB)
    boto.put_object(Bucket=bucket, Key="src", Body=body)
    upload = boto.create_multipart_upload(Bucket=bucket, Key="dst")["UploadId"]
    parts = []
    for number, window in enumerate(("bytes=1-6291456", "bytes=6291457-6291460"), 1):
        result = boto.upload_part_copy(Bucket=bucket, Key="dst", UploadId=upload, PartNumber=number,
                                       CopySource={"Bucket": bucket, "Key": "src"}, CopySourceRange=window)
        parts.append({"PartNumber": number, "ETag": result["CopyPartResult"]["ETag"]})
    boto.complete_multipart_upload(Bucket=bucket, Key="dst", UploadId=upload, MultipartUpload={"Parts": parts})
    assert boto.get_object(Bucket=bucket, Key="dst")["Body"].read() == body[1:6291461]


def test_delete_many(boto, bucket, stored):
    for n in range(30):
        boto.put_object(Bucket=bucket, Key=f"k{n}", Body=b"")
    answer = boto.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"k{n}"} for n in range(29)] + [{"Key": "no"}]})
    assert len(answer["Deleted"]) == 30 and "Errors" not in answer
    assert stored(bucket) == ["k29"]


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums(boto, bucket, payload, algorithm):
    body = payload(300_000)
    put = boto.put_object(Bucket=bucket, Key="c", Body=body, ChecksumAlgorithm=algorithm)
    field = f"Checksum{algorithm}"
    expected = {"CRC32": lambda: base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
                "SHA1": lambda: base64.b64encode(hashlib.sha1(body).digest()).decode(),
                "SHA256": lambda: base64.b64encode(hashlib.sha256(body).digest()).decode()}
    if algorithm in expected:
        assert put[field] == expected[algorithm]()
    got = boto.get_object(Bucket=bucket, Key="c", ChecksumMode="ENABLED")
    assert got["Body"].read() == body and got[field] == put[field]
    head = boto.head_object(Bucket=bucket, Key="c", ChecksumMode="ENABLED")
    assert head[field] == put[field] and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"


@pytest.mark.parametrize("algorithm, kind", [("CRC32", "FULL_OBJECT"), ("CRC64NVME", "FULL_OBJECT"),
                                             ("CRC32C", "COMPOSITE"), ("SHA256", "COMPOSITE")])
def test_multipart_checksums(boto, bucket, payload, algorithm, kind):
    parts = [payload(5 * MIB, "x"), payload(99, "y")]
    upload = boto.create_multipart_upload(Bucket=bucket, Key="mc", ChecksumAlgorithm=algorithm,
                                          ChecksumType=kind)["UploadId"]
    field, done = f"Checksum{algorithm}", []
    for number, part in enumerate(parts, 1):
        answer = boto.upload_part(Bucket=bucket, Key="mc", UploadId=upload, PartNumber=number, Body=part,
                                  ChecksumAlgorithm=algorithm)
        done.append({"PartNumber": number, "ETag": answer["ETag"], field: answer[field]})
    complete = boto.complete_multipart_upload(Bucket=bucket, Key="mc", UploadId=upload, ChecksumType=kind,
                                              MultipartUpload={"Parts": done})
    if kind == "COMPOSITE":
        assert complete[field].endswith("-2")
    else:
        whole = boto.put_object(Bucket=bucket, Key="one", Body=b"".join(parts), ChecksumAlgorithm=algorithm)
        assert complete[field] == whole[field]
    assert boto.head_object(Bucket=bucket, Key="mc", ChecksumMode="ENABLED")[field] == complete[field]


def test_object_attributes(boto, bucket, payload):
    boto.put_object(Bucket=bucket, Key="a", Body=payload(1000), ChecksumAlgorithm="SHA256")
    got = boto.get_object_attributes(Bucket=bucket, Key="a", ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass"])
    assert got["ObjectSize"] == 1000 and got["ETag"] == hashlib.md5(payload(1000)).hexdigest()
    assert got["Checksum"]["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(payload(1000)).digest()).decode()


@pytest.fixture(scope="module")
def presigner(target):
    """In us-east-1 boto3 still presigns with Signature Version 2 unless told; AWS refuses that for new buckets."""
    return boto3.client("s3", endpoint_url=target.endpoint, region_name=target.region, aws_access_key_id=target.access,
                        aws_secret_access_key=target.secret, config=Config(signature_version="s3v4"))


def test_presigned_urls(presigner, bucket, payload):
    body = payload(5000)
    put = presigner.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "p q"}, ExpiresIn=60)
    assert requests.put(put, data=body, timeout=10).status_code == 200
    get = presigner.generate_presigned_url("get_object", Params={
        "Bucket": bucket, "Key": "p q", "ResponseContentType": "text/x-own",
        "ResponseContentDisposition": 'attachment; filename="a b"'}, ExpiresIn=60)
    answer = requests.get(get, timeout=10)
    assert answer.content == body and answer.headers["content-type"] == "text/x-own"
    assert answer.headers["content-disposition"] == 'attachment; filename="a b"'
    assert requests.get(get.replace("p%20q", "other"), timeout=10).status_code == 403


def test_presigned_post(boto, presigner, bucket, payload):
    form = presigner.generate_presigned_post(bucket, "up/${filename}", Fields={"x-amz-meta-a": "b"}, Conditions=[
        ["starts-with", "$key", "up/"], {"x-amz-meta-a": "b"}, ["content-length-range", 1, 10_000]], ExpiresIn=60)
    body = payload(9000)
    done = requests.post(form["url"], data=form["fields"], files={"file": ("n.bin", body)}, timeout=10)
    assert done.status_code == 204, done.text
    got = boto.get_object(Bucket=bucket, Key="up/n.bin")
    assert got["Body"].read() == body and got["Metadata"] == {"a": "b"}
    long = requests.post(form["url"], data=form["fields"], files={"file": ("m", payload(10_001))}, timeout=10)
    assert long.status_code == 400 and "EntityTooLarge" in long.text


def test_conditions(boto, bucket):
    tag = boto.put_object(Bucket=bucket, Key="c", Body=b"1")["ETag"]
    assert failure(boto.put_object, Bucket=bucket, Key="c", Body=b"2", IfNoneMatch="*") == (412, "PreconditionFailed")
    assert failure(boto.put_object, Bucket=bucket, Key="c", Body=b"2", IfMatch='"0"') == (412, "PreconditionFailed")
    assert failure(boto.put_object, Bucket=bucket, Key="new", Body=b"2", IfMatch=tag) == (404, "NoSuchKey")
    second = boto.put_object(Bucket=bucket, Key="c", Body=b"2", IfMatch=tag)["ETag"]
    assert failure(boto.get_object, Bucket=bucket, Key="c", IfMatch=tag) == (412, "PreconditionFailed")
    assert failure(boto.get_object, Bucket=bucket, Key="c", IfNoneMatch=second)[0] == 304
    assert boto.get_object(Bucket=bucket, Key="c", IfNoneMatch=tag)["Body"].read() == b"2"


def test_versioning(boto, versioned):
    first = boto.put_object(Bucket=versioned, Key="v", Body=b"1")["VersionId"]
    second = boto.put_object(Bucket=versioned, Key="v", Body=b"2")["VersionId"]
    marker = boto.delete_object(Bucket=versioned, Key="v")
    assert marker["DeleteMarker"] and failure(boto.get_object, Bucket=versioned, Key="v") == (404, "NoSuchKey")
    assert boto.get_object(Bucket=versioned, Key="v", VersionId=first)["Body"].read() == b"1"
    page = boto.list_object_versions(Bucket=versioned)
    assert [v["VersionId"] for v in page["Versions"]] == [second, first]
    assert page["DeleteMarkers"][0]["IsLatest"]
    boto.delete_object(Bucket=versioned, Key="v", VersionId=marker["VersionId"])
    assert boto.get_object(Bucket=versioned, Key="v")["Body"].read() == b"2"


def test_tags_location_and_buckets(boto, bucket):
    boto.put_object(Bucket=bucket, Key="t", Body=b"", Tagging="a=1&b=x%20y")
    tags = boto.get_object_tagging(Bucket=bucket, Key="t")["TagSet"]
    assert {t["Key"]: t["Value"] for t in tags} == {"a": "1", "b": "x y"}
    boto.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert boto.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "k", "Value": "v"}]
    assert boto.get_bucket_location(Bucket=bucket)["LocationConstraint"] in (None, "us-east-1")
    assert bucket in [b["Name"] for b in boto.list_buckets()["Buckets"]]
    assert failure(boto.delete_bucket, Bucket=bucket) == (409, "BucketNotEmpty")
    assert failure(boto.head_bucket, Bucket=bucket + "-no")[0] == 404


def test_virtual_host_style(target, wire, bucket):
    """The bucket as the first label of Host, as boto3 sends it where the name resolves."""
    host = f"{bucket}.localhost:{target.host.rpartition(':')[2]}"
    assert wire.call("PUT", "/dir/key", body=b"virtual", host=host).status == 200
    assert wire.call("GET", "/dir/key", host=host).body == b"virtual"
    assert wire.object("GET", bucket, "dir/key").body == b"virtual"
    assert b"dir/key" in wire.call("GET", "/", [("list-type", "2")], host=host).body


@pytest.mark.parametrize("signed", [True, False])
def test_streams_without_a_seekable_body(target, bucket, payload, signed):
    """An upload whose size is known and whose bytes come once, signed or UNSIGNED-PAYLOAD."""
    client = boto3.client("s3", endpoint_url=target.endpoint, region_name=target.region,
                          aws_access_key_id=target.access, aws_secret_access_key=target.secret,
                          config=Config(s3={"payload_signing_enabled": signed}))
    body = payload(9 * MIB)
    client.upload_fileobj(io.BytesIO(body), bucket, "stream")
    out = io.BytesIO()
    client.download_fileobj(bucket, "stream", out)
    assert out.getvalue() == body
