"""DuckDB (over httpfs, and on a file that boto3 fetched) and pyarrow read what COPY TO and CREATE TABLE AS wrote."""

import datetime
import decimal
import os
from pathlib import Path

import boto3
import duckdb
import duckdb_extension_httpfs
import psycopg
import pyarrow
import pyarrow.csv
import pyarrow.dataset
import pyarrow.fs
import pyarrow.json
import pyarrow.parquet
import pytest

from conftest import BUCKET

ROWS = (
    "SELECT CAST(value AS int) AS n, CASE WHEN value % 5 = 0 THEN NULL ELSE 'row ' || value || ', \"quoted\" é' END AS s, "
    "value / 4.0::double AS f, CAST(value AS decimal(12,2)) AS d, DATE '2024-01-01' + CAST(value AS int) AS day, "
    "TIMESTAMP '2024-01-02 03:04:05.678' AS moment, value % 2 = 0 AS even, CASE WHEN value % 7 = 0 THEN NULL ELSE value END AS gaps, "
    "CAST(value % 3 AS bigint) AS part FROM generate_series(1, 1000) t(value)")


def expected(n):
    text = None if n % 5 == 0 else f'row {n}, "quoted" é'
    return (n, text, n / 4, decimal.Decimal(n), datetime.date(2024, 1, 1) + datetime.timedelta(n),
            datetime.datetime(2024, 1, 2, 3, 4, 5, 678000), n % 2 == 0, None if n % 7 == 0 else n, n % 3)


ALL = [expected(n) for n in range(1, 1001)]


@pytest.fixture(scope="module")
def copied(target, numbers) -> str:
    """Where the rows lie in every form; `{form}/`."""
    where = f"{BUCKET}/copied"
    with psycopg.connect(target.dsn, autocommit=True) as connection:
        for form, what in {
                "one": "one/rows.parquet' STORED AS PARQUET", "many": "many/' STORED AS PARQUET",
                "parts": "parts/' STORED AS PARQUET PARTITIONED BY (part)", "csv": "csv/rows.csv' STORED AS CSV",
                "json": "json/rows.json' STORED AS JSON", "arrow": "arrow/rows.arrow' STORED AS ARROW",
                "csvparts": "csvparts/' STORED AS CSV PARTITIONED BY (even, part)"}.items():
            done = connection.execute(f"COPY ({ROWS}) TO 's3://{where}/{what}")
            assert done.rowcount == 1000, form
        connection.execute(f"CREATE SCHEMA copied LOCATION 's3://{where}/schema/'")
        connection.execute(f"CREATE TABLE copied.made AS {ROWS}")
        connection.execute("INSERT INTO copied.made SELECT * FROM copied.made WHERE n <= 10")
    return where


@pytest.fixture(scope="module")
def duck(target, tmp_path_factory):
    extension = next(Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension"))
    connection = duckdb.connect(config={"extension_directory": str(tmp_path_factory.mktemp("duckdb")), "threads": 2})
    connection.load_extension(str(extension))
    host = os.environ["SQL_S3_ENDPOINT"].removeprefix("http://")
    connection.execute(f"CREATE SECRET s (TYPE s3, KEY_ID '{target.access}', SECRET '{target.secret}', REGION 'us-east-1', "
                       f"ENDPOINT '{host}', URL_STYLE 'path', USE_SSL false)")
    return connection


@pytest.fixture(scope="module")
def files(target):
    return pyarrow.fs.S3FileSystem(access_key=target.access, secret_key=target.secret, region="us-east-1",
                                   endpoint_override=os.environ["SQL_S3_ENDPOINT"])


def rows(table: pyarrow.Table) -> list:
    return sorted(zip(*[table.column(name).to_pylist() for name in ("n", "s", "f", "d", "day", "moment", "even", "gaps", "part")]))


@pytest.mark.parametrize("source", [
    "read_parquet('s3://{}/one/rows.parquet')", "read_parquet('s3://{}/many/*.parquet')",
    "read_parquet('s3://{}/parts/*/*.parquet', hive_partitioning = true)"])
def test_duckdb_reads_parquet(duck, copied, source):
    found = duck.sql(f"SELECT n, s, f, d, day, moment, even, gaps, part FROM {source.format(copied)} ORDER BY n").fetchall()
    assert found == ALL
    counted = duck.sql(f"SELECT count(*), min(n), max(s) FROM {source.format(copied)} WHERE n BETWEEN 100 AND 199 AND part = 1").fetchone()
    assert counted == (34, 100, 'row 199, "quoted" é')


@pytest.mark.parametrize("source", [
    "read_csv('s3://{}/csv/rows.csv')", "read_json('s3://{}/json/rows.json')",
    "read_csv('s3://{}/csvparts/*/*/*.csv', hive_partitioning = true)"])
def test_duckdb_reads_text(duck, copied, source):
    found = duck.sql(f"SELECT n, s, f, d::DECIMAL(12,2), day::DATE, moment::TIMESTAMP, even::BOOL, gaps, part FROM {source.format(copied)} ORDER BY n").fetchall()
    assert found == ALL


def test_duckdb_reads_a_table(duck, copied, files):
    found = [f.base_name for f in files.get_file_info(pyarrow.fs.FileSelector(f"{copied}/schema/made", recursive=True)) if f.is_file]
    assert all(name.endswith(".parquet") or name.startswith("_") for name in found)
    assert duck.sql(f"SELECT count(*), sum(n) FROM read_parquet('s3://{copied}/schema/made/**/*.parquet')").fetchone() == (1010, 500_555)


def test_duckdb_reads_what_boto3_fetched(target, copied, tmp_path):
    s3 = boto3.client("s3", endpoint_url=os.environ["SQL_S3_ENDPOINT"], region_name="us-east-1",
                      aws_access_key_id=target.access, aws_secret_access_key=target.secret)
    bucket, _, prefix = copied.partition("/")
    s3.download_file(bucket, f"{prefix}/one/rows.parquet", str(tmp_path / "rows.parquet"))
    assert duckdb.sql(f"SELECT * FROM '{tmp_path}/rows.parquet' ORDER BY n").fetchall() == ALL


@pytest.mark.parametrize("form", ["one/rows.parquet", "many", "parts"])
def test_pyarrow_reads_parquet(files, copied, form):
    table = pyarrow.dataset.dataset(f"{copied}/{form}", filesystem=files, format="parquet", partitioning="hive").to_table()
    assert rows(table) == ALL
    assert table.schema.field("d").type == pyarrow.decimal128(12, 2) and table.schema.field("day").type == pyarrow.date32()


def test_statistics_are_written(files, copied):
    footer = pyarrow.parquet.read_metadata(f"{copied}/one/rows.parquet", filesystem=files)
    column = footer.row_group(0).column(0)
    assert footer.num_rows == 1000 and (column.statistics.min, column.statistics.max) == (1, 1000)
    assert column.has_offset_index and column.has_column_index


def test_pyarrow_reads_text(files, copied):
    options = pyarrow.csv.ConvertOptions(column_types={"d": pyarrow.decimal128(12, 2)}, strings_can_be_null=True, timestamp_parsers=[pyarrow.csv.ISO8601])
    with files.open_input_file(f"{copied}/csv/rows.csv") as file:
        assert rows(pyarrow.csv.read_csv(file, convert_options=options)) == ALL
    with files.open_input_file(f"{copied}/json/rows.json") as file:
        table = pyarrow.json.read_json(file)
    assert table.column("n").to_pylist() == list(range(1, 1001)) and table.column("s").to_pylist() == [row[1] for row in ALL]


def test_pyarrow_reads_arrow(files, copied):
    with files.open_input_file(f"{copied}/arrow/rows.arrow") as file:
        assert rows(pyarrow.ipc.open_file(file).read_all()) == ALL


def test_what_others_wrote_is_read_back(target, duck, files, copied):
    """The other way: DuckDB and pyarrow write, SQL reads."""
    duck.execute(f"COPY (SELECT * FROM 's3://{copied}/one/rows.parquet') TO 's3://{copied}/duck' (FORMAT parquet, PARTITION_BY (part))")
    table = pyarrow.parquet.read_table(f"{copied}/one/rows.parquet", filesystem=files)
    pyarrow.parquet.write_table(table, f"{copied}/arrow.parquet", filesystem=files, compression="zstd", row_group_size=100, use_dictionary=["s"])
    with psycopg.connect(target.dsn, autocommit=True) as connection:
        for source in (f"'s3://{copied}/duck/'", f"'s3://{copied}/arrow.parquet'"):
            assert connection.execute(f"SELECT n, s, f, d, day, moment, even, gaps, part FROM {source} ORDER BY n").fetchall() == ALL
