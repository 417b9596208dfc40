"""s3fs (aiobotocore): block reads, multipart writes, append by part copy, recursive copies and deletes."""

import pytest

s3fs = pytest.importorskip("s3fs")


@pytest.fixture
def fs(target):
    s3fs.S3FileSystem.clear_instance_cache()
    return s3fs.S3FileSystem(key=target.access, secret=target.secret, endpoint_url=target.endpoint,
                             client_kwargs={"region_name": target.region}, use_listings_cache=False)


def test_everyday(fs, bucket_name, payload, tmp_path):
    fs.mkdir(bucket_name)
    for n in range(6):
        fs.pipe(f"{bucket_name}/d{n % 2}/f{n}", payload(2000 + n))
    assert sorted(fs.ls(bucket_name)) == [f"{bucket_name}/d0", f"{bucket_name}/d1"]
    assert fs.glob(f"{bucket_name}/*/f[13]") == [f"{bucket_name}/d1/f1", f"{bucket_name}/d1/f3"]
    assert fs.cat(f"{bucket_name}/d0/f2") == payload(2002)
    assert fs.info(f"{bucket_name}/d0/f4")["size"] == 2004
    fs.copy(f"{bucket_name}/d0", f"{bucket_name}/copied", recursive=True)
    fs.mv(f"{bucket_name}/d1/f1", f"{bucket_name}/moved")
    assert len(fs.find(bucket_name)) == 9 and not fs.exists(f"{bucket_name}/d1/f1")
    fs.get(f"{bucket_name}/copied", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "f4").read_bytes() == payload(2004)
    fs.rm(f"{bucket_name}/d0", recursive=True)
    assert not fs.exists(f"{bucket_name}/d0")
    fs.rm(bucket_name, recursive=True)
    assert not fs.exists(bucket_name)


def test_large_file_blocks_and_append(fs, bucket, payload):
    body, more = payload(13 * 1024 * 1024), payload(6 * 1024 * 1024)
    with fs.open(f"{bucket}/big", "wb", block_size=5 * 1024 * 1024) as file:
        for start in range(0, len(body), 1_000_000):
            file.write(body[start:start + 1_000_000])
    with fs.open(f"{bucket}/big", "rb", block_size=1024 * 1024) as file:
        file.seek(5_000_000)
        assert file.read(100) == body[5_000_000:5_000_100]
        file.seek(-10, 2)
        assert file.read() == body[-10:]
    with fs.open(f"{bucket}/big", "ab", block_size=5 * 1024 * 1024) as file:
        file.write(more)
    assert fs.cat(f"{bucket}/big") == body + more
    assert fs.cat_ranges([f"{bucket}/big"] * 2, [0, 9_000_000], [10, 9_000_020]) == [body[:10], body[9_000_000:9_000_020]]


def test_errors_and_metadata(fs, bucket):
    with pytest.raises(FileNotFoundError):
        fs.cat(f"{bucket}/absent")
    fs.pipe(f"{bucket}/m", b"x")
    fs.setxattr(f"{bucket}/m", copy_kwargs={"ContentType": "text/plain"}, colour="green")
    assert fs.getxattr(f"{bucket}/m", "colour") == "green"
    fs.touch(f"{bucket}/empty")
    assert fs.info(f"{bucket}/empty")["size"] == 0
