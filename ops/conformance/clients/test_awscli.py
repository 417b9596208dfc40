"""The AWS command line, in a process of its own, at its defaults."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.fixture
def aws(target, tmp_path):
    env = os.environ | {"AWS_ACCESS_KEY_ID": target.access, "AWS_SECRET_ACCESS_KEY": target.secret,
                        "AWS_DEFAULT_REGION": target.region, "AWS_ENDPOINT_URL": target.endpoint,
                        "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_EC2_METADATA_DISABLED": "true"}

    def run(*arguments, status=0, **options):
        done = subprocess.run([BIN / "aws", *map(str, arguments)], env=env, capture_output=True, timeout=100, **options)
        assert done.returncode == status, done.stderr.decode() + done.stdout.decode()
        return done.stdout

    return run


def test_everyday(aws, bucket_name, payload, tmp_path):
    url = f"s3://{bucket_name}"
    small, big = tmp_path / "small file", tmp_path / "big"
    small.write_bytes(payload(1000))
    big.write_bytes(payload(17 * 1024 * 1024))
    aws("s3", "mb", url)
    aws("s3", "cp", small, f"{url}/d/small file")
    aws("s3", "cp", big, f"{url}/d/big", "--quiet")
    assert b"small file" in aws("s3", "ls", f"{url}/d/")
    aws("s3", "cp", f"{url}/d/big", tmp_path / "back", "--quiet")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    assert aws("s3", "cp", f"{url}/d/small file", "-") == small.read_bytes()
    aws("s3", "cp", "-", f"{url}/piped", input=payload(10 * 1024 * 1024))
    aws("s3", "mv", f"{url}/piped", f"{url}/moved", "--quiet")
    assert b"moved" in aws("s3", "ls", url)
    aws("s3", "rb", url, "--force")
    aws("s3", "ls", url, status=255)


def test_sync_twice_moves_nothing(aws, bucket, payload, tmp_path):
    tree = tmp_path / "tree"
    for n in range(12):
        (tree / f"d{n % 3}").mkdir(parents=True, exist_ok=True)
        (tree / f"d{n % 3}" / f"f{n}").write_bytes(payload(3000 + n))
    assert aws("s3", "sync", tree, f"s3://{bucket}/t").count(b"upload:") == 12
    assert aws("s3", "sync", tree, f"s3://{bucket}/t") == b""
    (tree / "d0" / "f0").unlink()
    assert aws("s3", "sync", tree, f"s3://{bucket}/t", "--delete").startswith(b"delete:")
    assert aws("s3", "sync", f"s3://{bucket}/t", tmp_path / "back").count(b"download:") == 11


def test_low_level(aws, bucket, payload, tmp_path):
    (tmp_path / "f").write_bytes(payload(4096))
    aws("s3api", "put-object", "--bucket", bucket, "--key", "k", "--body", tmp_path / "f",
        "--checksum-algorithm", "CRC64NVME", "--metadata", "a=b")
    assert b"ChecksumCRC64NVME" in aws("s3api", "head-object", "--bucket", bucket, "--key", "k", "--checksum-mode", "ENABLED")
    aws("s3api", "get-object", "--bucket", bucket, "--key", "k", "--range", "bytes=100-199", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == payload(4096)[100:200]
    aws("s3api", "copy-object", "--bucket", bucket, "--key", "k2", "--copy-source", f"{bucket}/k")
    assert b'"k2"' in aws("s3api", "list-objects-v2", "--bucket", bucket, "--query", "Contents[].Key")
    aws("s3api", "delete-objects", "--bucket", bucket, "--delete", "Objects=[{Key=k},{Key=k2}]")
    assert aws("s3api", "list-objects-v2", "--bucket", bucket, "--query", "Contents[].Key").strip() == b"null"
