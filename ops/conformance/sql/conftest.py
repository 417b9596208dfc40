"""Fixtures of every SQL client's test: where the server is, who we are, and a small data set.

Invariant: the data is put by S3 once, before any test, and no test changes it.
"""

import os
from dataclasses import dataclass

import pyarrow
import pyarrow.fs
import pyarrow.parquet
import pytest

BUCKET = "sqlclients"


@dataclass(frozen=True)
class Target:
    """Where the doors are, and an access key with its secret."""

    pg_port: int
    flight_port: int
    access: str
    secret: str

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.pg_port} user={self.access} password={self.secret} dbname=ashlar"

    @property
    def address(self) -> str:
        return f"{self.access}:{self.secret}@127.0.0.1:{self.pg_port}/ashlar"

    @property
    def grpc(self) -> str:
        return f"grpc://127.0.0.1:{self.flight_port}"


@pytest.fixture(scope="session")
def target() -> Target:
    env = os.environ
    return Target(int(env["SQL_PG_PORT"]), int(env["SQL_FLIGHT_PORT"]), env["SQL_ACCESS_KEY"], env["SQL_SECRET_KEY"])


@pytest.fixture(scope="session")
def numbers(target) -> str:
    """A location with a thousand rows: n from 0, s its text, f its half; n mod 10 = 0 has no s."""
    s3 = pyarrow.fs.S3FileSystem(access_key=target.access, secret_key=target.secret, region="us-east-1",
                                 endpoint_override=os.environ["SQL_S3_ENDPOINT"], allow_bucket_creation=True)
    s3.create_dir(BUCKET)
    rows = pyarrow.table({"n": pyarrow.array(range(1000), pyarrow.int64()),
                          "s": [None if n % 10 == 0 else f"row {n}" for n in range(1000)],
                          "f": [n / 2 for n in range(1000)]})
    pyarrow.parquet.write_table(rows, f"{BUCKET}/numbers.parquet", filesystem=s3)
    return f"s3://{BUCKET}/numbers.parquet"


@pytest.fixture(scope="session")
def table(target, numbers) -> str:
    """The same as a table of the catalog, with a schema of its own."""
    import psycopg
    with psycopg.connect(target.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA clients LOCATION 's3://{BUCKET}/clients/'")
        connection.execute(f"CREATE EXTERNAL TABLE clients.numbers STORED AS PARQUET LOCATION '{numbers}'")
        connection.execute("CREATE VIEW clients.few AS SELECT n, s FROM clients.numbers WHERE n < 5")
    return "clients.numbers"
