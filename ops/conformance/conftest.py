"""Fixtures of every conformance test: the endpoint, an identity, a bucket of its own, some bytes.

Invariant: a test sees only its own bucket and leaves none behind. The endpoint and credentials come
from the environment that ops/conformance/run sets; nothing here knows which server answers.
"""

import hashlib
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

import botocore.session
import pytest
from botocore.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from stand.sigv4 import Wire  # noqa: E402


@dataclass(frozen=True)
class Target:
    """Where the server is and who we are there."""

    endpoint: str
    access: str
    secret: str
    region: str = "us-east-1"

    @property
    def host(self) -> str:
        return self.endpoint.split("://", 1)[1]


@pytest.fixture(scope="session")
def target() -> Target:
    return Target(os.environ["CONFORMANCE_ENDPOINT"], os.environ["CONFORMANCE_ACCESS_KEY"],
                  os.environ["CONFORMANCE_SECRET_KEY"])


@pytest.fixture(scope="session")
def wire(target) -> Wire:
    """A signer on a bare socket, for requests that no client sends."""
    return Wire(target.endpoint, target.access, target.secret, target.region)


@pytest.fixture(scope="session")
def s3(target):
    """A plain botocore client: what boto3, awscli and s3fs are made of."""
    return botocore.session.get_session().create_client(
        "s3", region_name=target.region, endpoint_url=target.endpoint,
        aws_access_key_id=target.access, aws_secret_access_key=target.secret,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1},
                      max_pool_connections=64))


def empty_bucket(s3, name: str) -> None:
    """Removes uploads, versions and the bucket itself; a bucket that is gone is fine."""
    try:
        for upload in s3.list_multipart_uploads(Bucket=name).get("Uploads", []):
            s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        for _ in range(100):
            page = s3.list_object_versions(Bucket=name, MaxKeys=500)
            entries = page.get("Versions", []) + page.get("DeleteMarkers", [])
            if not entries:
                break
            for entry in entries:
                s3.delete_object(Bucket=name, Key=entry["Key"], VersionId=entry["VersionId"])
        s3.delete_bucket(Bucket=name)
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise


@pytest.fixture
def bucket_name(s3):
    """A name for a bucket that the client under test makes itself."""
    name = f"conf-{secrets.token_hex(6)}"
    yield name
    empty_bucket(s3, name)


@pytest.fixture
def bucket(s3, bucket_name) -> str:
    """A bucket that exists and is empty."""
    s3.create_bucket(Bucket=bucket_name)
    return bucket_name


@pytest.fixture
def versioned(s3, bucket) -> str:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def pattern(size: int, seed: str = "") -> bytes:
    """`size` bytes that repeat nowhere and are the same on every run."""
    return hashlib.shake_128(f"{seed}/{size}".encode()).digest(size)


@pytest.fixture(scope="session")
def payload():
    return pattern


@pytest.fixture
def stored(s3):
    """All keys of a bucket, for 'nothing was stored'."""

    def keys(bucket: str) -> list:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    return keys
