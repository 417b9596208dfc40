"""minio-py: ?location first, streaming signatures, unknown lengths, compose, its own XML parsing."""

import io
from datetime import timedelta

import pytest
import requests
from minio import Minio
from minio.commonconfig import ComposeSource, CopySource, Tags
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.versioningconfig import ENABLED, VersioningConfig

MIB = 1024 * 1024


@pytest.fixture
def client(target):
    return Minio(target.host, access_key=target.access, secret_key=target.secret, secure=False)


def test_everyday(client, bucket_name, payload, tmp_path):
    client.make_bucket(bucket_name)
    assert client.bucket_exists(bucket_name) and not client.bucket_exists(bucket_name + "-no")
    body = payload(300_000)
    put = client.put_object(bucket_name, "d/ñ 1", io.BytesIO(body), len(body), "a/b", {"x": "y"})
    stat = client.stat_object(bucket_name, "d/ñ 1")
    assert (stat.size, stat.etag, stat.content_type, stat.metadata["x-amz-meta-x"]) == (300_000, put.etag, "a/b", "y")
    assert client.get_object(bucket_name, "d/ñ 1", offset=1000, length=500).read() == body[1000:1500]
    assert [o.object_name for o in client.list_objects(bucket_name, recursive=True)] == ["d/ñ 1"]
    assert [o.is_dir for o in client.list_objects(bucket_name)] == [True]
    client.copy_object(bucket_name, "copy", CopySource(bucket_name, "d/ñ 1"))
    client.fget_object(bucket_name, "copy", str(tmp_path / "f"))
    assert (tmp_path / "f").read_bytes() == body
    assert list(client.remove_objects(bucket_name, [DeleteObject("copy"), DeleteObject("d/ñ 1")])) == []
    client.remove_bucket(bucket_name)


def test_unknown_length_and_compose(client, bucket, payload):
    body = payload(12 * MIB)
    client.put_object(bucket, "u", io.BytesIO(body), -1, part_size=5 * MIB)
    assert client.get_object(bucket, "u").read() == body
    client.put_object(bucket, "tail", io.BytesIO(b"tail"), 4)
    client.compose_object(bucket, "both", [ComposeSource(bucket, "u"), ComposeSource(bucket, "tail")])
    assert client.get_object(bucket, "both").read() == body + b"tail"


def test_tags_versions_policy_presigned(client, bucket):
    client.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    first = client.put_object(bucket, "v", io.BytesIO(b"1"), 1).version_id
    client.put_object(bucket, "v", io.BytesIO(b"2"), 1)
    assert client.get_object(bucket, "v", version_id=first).read() == b"1"
    assert len(list(client.list_objects(bucket, include_version=True))) == 2
    tags = Tags.new_object_tags()
    tags["a"] = "b"
    client.set_object_tags(bucket, "v", tags)
    assert client.get_object_tags(bucket, "v") == {"a": "b"}
    client.set_bucket_policy(bucket, '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*"]},'
                             f'"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::{bucket}/*"]}}]}}')
    assert "s3:GetObject" in client.get_bucket_policy(bucket)
    assert requests.get(client.presigned_get_object(bucket, "v", timedelta(minutes=1)), timeout=10).content == b"2"
    with pytest.raises(S3Error) as caught:
        client.stat_object(bucket, "absent")
    assert caught.value.code in ("NoSuchKey", "NoSuchObject")
