"""What happens to the objects while a long scan reads them changes nothing in its result."""

import contextlib
import functools
import os
import re
import threading
import time
import urllib.request

import adbc_driver_flightsql.dbapi
import boto3
import psycopg
import pyarrow
import pyarrow.parquet
import pytest

from conftest import BUCKET

ROWS, OBJECTS = 20_000, 12
# Some times what the server waits between collections.
COLLECTED = float(os.environ.get("SQL_COLLECTED_SECONDS", "6"))


@pytest.fixture(scope="module")
def s3(target):
    return boto3.client("s3", endpoint_url=os.environ["SQL_S3_ENDPOINT"], region_name="us-east-1",
                        aws_access_key_id=target.access, aws_secret_access_key=target.secret)


@functools.cache
def parquet(first: int, value: str) -> bytes:
    sink = pyarrow.BufferOutputStream()
    rows = pyarrow.table({"n": pyarrow.array(range(first, first + ROWS), pyarrow.int64()), "s": [f"{value} {n:0100}" for n in range(ROWS)]})
    pyarrow.parquet.write_table(rows, sink, row_group_size=5000)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def place(request, s3, numbers):
    """A prefix of objects with the rows 0 to ROWS * OBJECTS."""
    prefix = f"isolation/{request.node.name.replace('[', '-').strip(']')}"
    for n in range(OBJECTS):
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{n:02}.parquet", Body=parquet(n * ROWS, "old"))
    return prefix


def overwritten(s3, target, prefix):
    for n in range(OBJECTS):
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{n:02}.parquet", Body=parquet(10**9, "new"))


def deleted(s3, target, prefix):
    for n in range(OBJECTS):
        s3.delete_object(Bucket=BUCKET, Key=f"{prefix}/{n:02}.parquet")


def added(s3, target, prefix):
    for n in range(OBJECTS):
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/late-{n:02}.parquet", Body=parquet(10**9, "late"))


def all_of_it(s3, target, prefix):
    overwritten(s3, target, prefix)
    added(s3, target, prefix)
    deleted(s3, target, prefix)


def dead(target) -> int:
    """Rows of metadata that wait for collection."""
    with urllib.request.urlopen(f"{os.environ['SQL_API']}/metrics", timeout=10) as answer:
        return int(re.search(r"^ashlar_gc_dead_rows (\d+)", answer.read().decode(), re.MULTILINE)[1])


# Every way in which rows come in parts, so that a scan is under way as long as its client wants.

@contextlib.contextmanager
def by_portal(target, source):
    with psycopg.connect(target.dsn, autocommit=True) as connection, connection.cursor(binary=True) as cursor:
        yield ((n, s) for n, s in cursor.stream(f"SELECT n, s FROM {source}", size=1))


@contextlib.contextmanager
def by_copy(target, source):
    with psycopg.connect(target.dsn, autocommit=True) as connection, connection.cursor().copy(f"COPY (SELECT n, s FROM {source}) TO STDOUT") as copy:
        yield ((int(n), s) for n, s in copy.rows())


@contextlib.contextmanager
def by_flight(target, source):
    with adbc_driver_flightsql.dbapi.connect(target.grpc, db_kwargs={"username": target.access, "password": target.secret}, autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT n, s FROM {source}")
            yield iter(cursor.fetchone, None)


@pytest.mark.parametrize("way, change", [(by_portal, overwritten), (by_portal, deleted), (by_portal, added), (by_portal, all_of_it),
                                         (by_copy, all_of_it), (by_flight, all_of_it)], ids=lambda function: function.__name__)
def test_a_long_scan(target, s3, place, way, change):
    with way(target, f"'s3://{BUCKET}/{place}/'") as rows:
        seen, texts = [next(rows)[0]], set()
        change(s3, target, place)
        time.sleep(COLLECTED)
        assert change is added or dead(target) > 0  # What it reads is not collected yet,
        for n, s in rows:
            seen.append(n)
            texts.add(s.partition(" ")[0])
    assert sorted(seen) == list(range(ROWS * OBJECTS)) and texts == {"old"}
    deadline = time.monotonic() + 30
    while dead(target) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert dead(target) == 0  # and is, once nobody reads it.


def test_a_transaction_over_time(target, s3, place):
    with psycopg.connect(target.dsn) as connection:
        question = f"SELECT count(*), sum(n), min(s) FROM 's3://{BUCKET}/{place}/'"
        before = connection.execute(question).fetchone()
        all_of_it(s3, target, place)
        time.sleep(COLLECTED)
        assert connection.execute(question).fetchone() == before
        assert before[:2] == (ROWS * OBJECTS, sum(range(ROWS * OBJECTS)))
        connection.rollback()
        assert connection.execute(question).fetchone()[0] == ROWS * OBJECTS  # The late ones.
        assert connection.execute(question).fetchone()[2] .split()[0] == "late"


def test_a_table_that_is_overwritten_and_dropped(target, numbers):
    with psycopg.connect(target.dsn, autocommit=True) as other, psycopg.connect(target.dsn, autocommit=True) as reader:
        other.execute(f"CREATE SCHEMA isolation LOCATION 's3://{BUCKET}/isolation/schema/'")
        other.execute("CREATE TABLE isolation.t AS SELECT value AS n FROM generate_series(1, 600000) AS v(value)")
        for change in ("INSERT OVERWRITE isolation.t SELECT n + 1000000 FROM isolation.t", "DROP SCHEMA isolation CASCADE"):
            [(expected,)] = other.execute("SELECT sum(n) FROM isolation.t").fetchall()
            with reader.cursor() as cursor:
                rows = cursor.stream("SELECT n FROM isolation.t", size=1)
                found = next(rows)[0]
                other.execute(change)
                time.sleep(COLLECTED)
                found += sum(n for (n,) in rows)
            assert found == expected


def test_readers_beside_writers(target, numbers):
    """Every answer is of one moment: all rows have the same number."""
    wrong, stop = [], threading.Event()
    with psycopg.connect(target.dsn, autocommit=True) as writer:
        writer.execute(f"CREATE SCHEMA moments LOCATION 's3://{BUCKET}/moments/'")
        writer.execute("CREATE TABLE moments.t AS SELECT 0 AS n, value AS v FROM generate_series(1, 1000) AS g(value)")

        def read():
            with psycopg.connect(target.dsn, autocommit=True) as reader:
                while not stop.is_set():
                    row = reader.execute("SELECT count(*), min(n), max(n) FROM moments.t").fetchone()
                    if row[0] != 1000 or row[1] != row[2]:
                        wrong.append(row)
        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for n in range(1, 21):
                writer.execute(f"INSERT OVERWRITE moments.t SELECT {n} AS n, v FROM moments.t")
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        assert wrong == []
        assert writer.execute("SELECT min(n), count(*) FROM moments.t").fetchone() == (20, 1000)
        writer.execute("DROP SCHEMA moments CASCADE")
