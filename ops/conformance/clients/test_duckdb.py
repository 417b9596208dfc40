"""DuckDB 1.5.5 with its httpfs package: HEAD, ranged reads, list by glob, multipart COPY TO."""

from pathlib import Path

import duckdb
import duckdb_extension_httpfs
import pytest


@pytest.fixture
def db(target, tmp_path):
    extension = next(Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension"))
    connection = duckdb.connect(config={"extension_directory": str(tmp_path), "threads": 2})
    connection.load_extension(str(extension))
    connection.execute(
        f"CREATE SECRET s (TYPE s3, KEY_ID '{target.access}', SECRET '{target.secret}', REGION '{target.region}', "
        f"ENDPOINT '{target.host}', URL_STYLE 'path', USE_SSL false)")
    return connection


def test_parquet_there_and_back(db, bucket):
    db.execute(f"COPY (SELECT range AS n, n % 10 AS d, 'row ' || n AS t FROM range(100000)) TO 's3://{bucket}/p/a.parquet'")
    assert db.sql(f"SELECT count(*), sum(n) FROM 's3://{bucket}/p/a.parquet' WHERE d = 3").fetchone() == (10_000, 499_980_000)
    db.execute(f"COPY (SELECT 7 AS n, 3 AS d, 'x' AS t) TO 's3://{bucket}/p/b.parquet'")
    assert db.sql(f"SELECT count(*) FROM read_parquet('s3://{bucket}/p/*.parquet')").fetchone() == (100_001,)


def test_large_copy_is_multipart(db, bucket, s3):
    db.execute("SET s3_uploader_max_filesize='50GB'")
    db.execute(f"COPY (SELECT hash(range) AS h, hash(range + 1) AS i FROM range(2000000)) TO 's3://{bucket}/big.csv' (HEADER)")
    expected = db.sql("SELECT bit_xor(hash(range)) FROM range(2000000)").fetchone()
    assert db.sql(f"SELECT bit_xor(h::UBIGINT) FROM read_csv('s3://{bucket}/big.csv', types={{'h': 'UBIGINT'}})").fetchone() == expected
    assert "-" in s3.head_object(Bucket=bucket, Key="big.csv")["ETag"]


def test_partitioned_write_and_glob(db, bucket):
    db.execute(f"COPY (SELECT range AS n, range % 3 AS k FROM range(300)) TO 's3://{bucket}/h' (FORMAT parquet, PARTITION_BY (k))")
    assert db.sql(f"SELECT k, count(*) FROM read_parquet('s3://{bucket}/h/*/*.parquet', hive_partitioning=true) "
                  "GROUP BY k ORDER BY k").fetchall() == [(0, 100), (1, 100), (2, 100)]
    assert len(db.sql(f"SELECT * FROM glob('s3://{bucket}/h/**')").fetchall()) == 3
    with pytest.raises(duckdb.Error):
        db.sql(f"SELECT * FROM 's3://{bucket}/absent.parquet'").fetchall()
