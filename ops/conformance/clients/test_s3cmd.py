"""s3cmd: asks ?location before anything, path or virtual host by its own rules, ETag as MD5."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.fixture
def s3cmd(target, tmp_path):
    (tmp_path / "s3cfg").write_text(
        f"[default]\naccess_key = {target.access}\nsecret_key = {target.secret}\nhost_base = {target.host}\n"
        f"host_bucket = {target.host}\nuse_https = False\nbucket_location = {target.region}\n")

    def run(*arguments):
        done = subprocess.run([BIN / "s3cmd", "-c", tmp_path / "s3cfg", "--no-progress", *map(str, arguments)],
                              capture_output=True, timeout=100, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
        return done.stdout.decode()

    return run


def test_everyday(s3cmd, bucket_name, payload, tmp_path):
    url = f"s3://{bucket_name}"
    small, big = tmp_path / "small ö", tmp_path / "big"
    small.write_bytes(payload(2000))
    big.write_bytes(payload(13 * 1024 * 1024))
    s3cmd("mb", url)
    s3cmd("put", small, f"{url}/d/small ö")
    s3cmd("put", "--multipart-chunk-size-mb=5", big, f"{url}/d/big")
    assert "small ö" in s3cmd("ls", f"{url}/d/")
    info = s3cmd("info", f"{url}/d/small ö")
    assert "2000" in info and hashlib.md5(payload(2000)).hexdigest() in info
    s3cmd("get", f"{url}/d/big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    (tmp_path / "half").write_bytes(big.read_bytes()[:6_000_000])
    s3cmd("get", "--continue", f"{url}/d/big", tmp_path / "half")
    assert (tmp_path / "half").read_bytes() == big.read_bytes()
    s3cmd("cp", f"{url}/d/big", f"{url}/copy")
    s3cmd("mv", f"{url}/copy", f"{url}/moved")
    assert "moved" in s3cmd("ls", url)
    assert s3cmd("du", url).split()[:2] == ["27264976", "3"]
    s3cmd("del", "--recursive", "--force", url)
    s3cmd("rb", url)


def test_sync_twice_moves_nothing(s3cmd, bucket, payload, tmp_path):
    (tmp_path / "t").mkdir()
    for n in range(6):
        (tmp_path / "t" / f"f{n}").write_bytes(payload(900 + n))
    assert s3cmd("sync", f"{tmp_path}/t/", f"s3://{bucket}/").count("upload:") == 6
    assert "upload:" not in s3cmd("sync", f"{tmp_path}/t/", f"s3://{bucket}/")
