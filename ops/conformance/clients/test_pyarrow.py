"""pyarrow (the C++ SDK): chunked bodies without a length, unsigned trailers with CRC64NVME, many
small ranged reads of one Parquet file, directory markers."""

import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pytest


@pytest.fixture
def fs(target):
    return pyarrow.fs.S3FileSystem(access_key=target.access, secret_key=target.secret, region=target.region,
                                   endpoint_override=target.host, scheme="http", allow_bucket_creation=True,
                                   allow_bucket_deletion=True)


def table(rows: int):
    return pyarrow.table({"n": pyarrow.array(range(rows), pyarrow.int64()),
                          "text": [f"row {i % 97}" for i in range(rows)], "part": [i % 4 for i in range(rows)]})


def test_dataset(fs, bucket):
    pyarrow.dataset.write_dataset(table(50_000), f"{bucket}/set", format="parquet", filesystem=fs, partitioning=["part"],
                                  partitioning_flavor="hive")
    read = pyarrow.dataset.dataset(f"{bucket}/set", filesystem=fs, partitioning="hive")
    got = read.to_table(columns=["n"], filter=(pyarrow.compute.field("part") == 3) & (pyarrow.compute.field("n") < 1000))
    assert sorted(got["n"].to_pylist()) == list(range(3, 1000, 4))
    assert read.count_rows() == 50_000


def test_parquet_row_groups_by_range(fs, bucket):
    pyarrow.parquet.write_table(table(200_000), f"{bucket}/f.parquet", filesystem=fs, row_group_size=10_000)
    with fs.open_input_file(f"{bucket}/f.parquet") as file:
        group = pyarrow.parquet.ParquetFile(file).read_row_group(7, columns=["n"])
    assert group["n"].to_pylist() == list(range(70_000, 80_000))


@pytest.mark.parametrize("size", [0, 1, 4096, 11 * 1024 * 1024, 26 * 1024 * 1024])
def test_output_stream(fs, bucket, payload, size):
    body = payload(size)
    with fs.open_output_stream(f"{bucket}/o") as out:
        for start in range(0, size, 3_000_000):
            out.write(body[start:start + 3_000_000])
    assert fs.get_file_info(f"{bucket}/o").size == size
    with fs.open_input_stream(f"{bucket}/o") as stream:
        assert stream.read() == body
    if size > 10:
        with fs.open_input_file(f"{bucket}/o") as file:
            assert file.read_at(7, size - 9) == body[-9:-2]


def test_directories_copy_move_delete(fs, bucket_name):
    fs.create_dir(f"{bucket_name}/a/b")
    for n in range(5):
        with fs.open_output_stream(f"{bucket_name}/a/b/{n}") as out:
            out.write(b"%d" % n)
    fs.copy_file(f"{bucket_name}/a/b/1", f"{bucket_name}/a/copy")
    fs.move(f"{bucket_name}/a/b/2", f"{bucket_name}/a/moved")
    infos = fs.get_file_info(pyarrow.fs.FileSelector(f"{bucket_name}/a", recursive=True))
    assert {i.path.removeprefix(bucket_name) for i in infos if i.is_file} == {
        "/a/b/0", "/a/b/1", "/a/b/3", "/a/b/4", "/a/copy", "/a/moved"}
    fs.delete_dir(f"{bucket_name}/a")
    assert fs.get_file_info(f"{bucket_name}/a/copy").type == pyarrow.fs.FileType.NotFound
    fs.delete_dir(bucket_name)
