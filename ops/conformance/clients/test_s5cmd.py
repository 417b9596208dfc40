"""s5cmd: many parallel small requests, Content-MD5, the Go SDK's signer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.fixture
def s5(target):
    env = os.environ | {"AWS_ACCESS_KEY_ID": target.access, "AWS_SECRET_ACCESS_KEY": target.secret,
                        "AWS_REGION": target.region, "S3_ENDPOINT_URL": target.endpoint}

    def run(*arguments, status=0, **options):
        done = subprocess.run([BIN / "s5cmd", *map(str, arguments)], env=env, capture_output=True, timeout=100, **options)
        assert done.returncode == status, done.stderr.decode() + done.stdout.decode()
        return done.stdout

    return run


def test_everyday(s5, bucket_name, payload, tmp_path):
    url = f"s3://{bucket_name}"
    s5("mb", url)
    tree = tmp_path / "tree"
    for n in range(40):
        (tree / f"d{n % 4}").mkdir(parents=True, exist_ok=True)
        (tree / f"d{n % 4}" / f"f{n}").write_bytes(payload(1000 + n))
    s5("cp", f"{tree}/", f"{url}/t/")
    assert len(s5("ls", f"{url}/t/*").splitlines()) == 40
    assert s5("cat", f"{url}/t/d1/f5") == payload(1005)
    s5("cp", f"{url}/t/d2/*", f"{tmp_path}/back/")
    assert {p.name: p.read_bytes() for p in (tmp_path / "back").iterdir()} == {
        p.name: p.read_bytes() for p in (tree / "d2").iterdir()}
    s5("mv", f"{url}/t/d1/f5", f"{url}/moved")
    assert b"moved" in s5("ls", url)
    assert b"40 objects" in s5("du", f"{url}/*")
    s5("rm", f"{url}/*")
    s5("rb", url)


def test_large_file_in_parts_and_pipe(s5, bucket, payload, tmp_path):
    body = payload(23 * 1024 * 1024)
    (tmp_path / "big").write_bytes(body)
    s5("cp", "--part-size", "5", "--concurrency", "4", tmp_path / "big", f"s3://{bucket}/big")
    s5("cp", "--part-size", "5", f"s3://{bucket}/big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == body
    s5("pipe", f"s3://{bucket}/piped", input=payload(1_000_000))
    assert s5("cat", f"s3://{bucket}/piped") == payload(1_000_000)


def test_sync_twice_moves_nothing(s5, bucket, payload, tmp_path):
    for n in range(10):
        (tmp_path / f"f{n}").write_bytes(payload(500 + n))
    assert len(s5("sync", f"{tmp_path}/", f"s3://{bucket}/").splitlines()) == 10
    assert s5("sync", f"{tmp_path}/", f"s3://{bucket}/") == b""
