"""rclone: HEAD first, bucket made on the way, Content-MD5 with UNSIGNED-PAYLOAD, ETags checked as MD5.

`rclone sync` a second time moves nothing: names, sizes, times (kept as metadata) and digests agree.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.fixture
def rclone(target, tmp_path):
    env = os.environ | {"RCLONE_CONFIG": str(tmp_path / "rclone.conf"), "RCLONE_CONFIG_T_TYPE": "s3",
                        "RCLONE_CONFIG_T_PROVIDER": "Other", "RCLONE_CONFIG_T_ENDPOINT": target.endpoint,
                        "RCLONE_CONFIG_T_ACCESS_KEY_ID": target.access, "RCLONE_CONFIG_T_REGION": target.region,
                        "RCLONE_CONFIG_T_SECRET_ACCESS_KEY": target.secret}
    (tmp_path / "rclone.conf").touch()

    def run(*arguments, **options):
        done = subprocess.run([BIN / "rclone", "--retries", "1", "--low-level-retries", "1", *map(str, arguments)],
                              env=env, capture_output=True, timeout=100, **options)
        assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
        return done

    return run


def transferred(done) -> int:
    """How many files the last report of --use-json-log says were moved."""
    reports = [json.loads(line) for line in done.stderr.splitlines() if b'"stats"' in line]
    return reports[-1]["stats"]["transfers"] + reports[-1]["stats"]["deletes"] + reports[-1]["stats"]["renames"]


@pytest.fixture
def tree(tmp_path, payload):
    folder = tmp_path / "tree"
    for n, name in enumerate(["a", "b b", "d/e/f", "d/ü", "d/+&=?%41", "empty", "z/" * 20 + "deep"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(payload(n * 7000 if name != "empty" else 0))
    (folder / "large").write_bytes(payload(12 * 1024 * 1024))
    return folder


STATS = ("--use-json-log", "-v", "--stats", "1h", "--stats-log-level", "NOTICE")


def test_sync_twice_moves_nothing(rclone, bucket_name, tree, tmp_path):
    remote = f"t:{bucket_name}/x"
    cut = ("--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M")
    assert transferred(rclone("sync", tree, remote, *cut, *STATS)) == 8
    assert transferred(rclone("sync", tree, remote, *cut, *STATS)) == 0
    assert transferred(rclone("sync", tree, remote, "--checksum", *STATS)) == 0
    rclone("check", tree, remote, "--download")
    rclone("sync", remote, tmp_path / "back")
    assert transferred(rclone("sync", remote, tmp_path / "back", *STATS)) == 0
    (tree / "a").write_bytes(b"other")
    assert transferred(rclone("sync", tree, remote, *STATS)) == 1


def test_one_file_at_a_time(rclone, bucket, payload, tmp_path):
    body = payload(300_000)
    (tmp_path / "f").write_bytes(body)
    rclone("copyto", tmp_path / "f", f"t:{bucket}/p/f")
    assert rclone("cat", f"t:{bucket}/p/f", "--offset", 1000, "--count", 50).stdout == body[1000:1050]
    rclone("copyto", f"t:{bucket}/p/f", f"t:{bucket}/p/server-side")
    rclone("moveto", f"t:{bucket}/p/server-side", f"t:{bucket}/q")
    rclone("rcat", f"t:{bucket}/streamed", input=payload(7 * 1024 * 1024))
    listing = json.loads(rclone("lsjson", f"t:{bucket}", "-R", "--hash", "--files-only").stdout)
    assert {e["Path"]: e["Size"] for e in listing} == {"p/f": 300_000, "q": 300_000, "streamed": 7 * 1024 * 1024}
    rclone("deletefile", f"t:{bucket}/q")
    rclone("purge", f"t:{bucket}")
