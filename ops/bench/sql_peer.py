"""One engine in a process of its own: the queries of TPC-H over the same files, timed; a line of JSON for each pass.

    sql_peer.py ENGINE PASSES      with what it needs in the environment: SQL_* as ops/bench/sql.py sets it

Time counts from the first call of the engine to the last row of an answer in memory, the opening of tables included in
the first pass; the interpreter and imports are not counted. Runs in the virtual environment of ops/tpch.
"""

import base64
import io
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True
from tpch.queries import TABLES, queries  # noqa: E402

ENV = os.environ
HOST = ENV["SQL_S3"].removeprefix("http://")


class Ashlar:
    """`POST /sql`, answered as a stream of Arrow."""

    def prepare(self):
        import pyarrow.ipc
        self.ipc = pyarrow.ipc

    def connect(self):
        pair = base64.b64encode(f"{ENV['SQL_ACCESS_KEY']}:{ENV['SQL_SECRET_KEY']}".encode()).decode()
        self.headers = {"Authorization": f"Basic {pair}", "Accept": "application/vnd.apache.arrow.stream", "Content-Type": "application/sql"}

    def ask(self, sql) -> int:
        request = urllib.request.Request(f"{ENV['SQL_API']}/sql", f"SET search_path = tpch; {sql}".encode(), self.headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return self.ipc.open_stream(io.BytesIO(answer.read())).read_all().num_rows
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from None


class DuckDB:
    def __init__(self, cache: bool, local: bool = False):
        self.cache, self.local = cache, local

    def prepare(self):
        import duckdb
        import duckdb_extension_httpfs
        self.duckdb = duckdb
        self.extension = next(Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension"))

    def connect(self):
        self.connection = self.duckdb.connect(config={"extension_directory": ENV["SQL_FOLDER"]})
        self.connection.execute("SET enable_progress_bar = false")
        if not self.local:
            self.connection.load_extension(str(self.extension))
            self.connection.execute(f"SET enable_external_file_cache = {str(self.cache).lower()}")
            self.connection.execute(f"CREATE SECRET s (TYPE s3, KEY_ID '{ENV['SQL_ACCESS_KEY']}', SECRET '{ENV['SQL_SECRET_KEY']}', REGION 'us-east-1', "
                                    f"ENDPOINT '{HOST}', URL_STYLE 'path', USE_SSL false)")
        for table in TABLES:
            where = f"{ENV['SQL_FOLDER']}/{table}.parquet" if self.local else f"s3://tpch/{table}/{table}.parquet"
            self.connection.execute(f"CREATE VIEW {table} AS FROM read_parquet('{where}')")

    def ask(self, sql) -> int:
        found = self.connection.execute(sql).to_arrow_table()
        return found.num_rows


class DataFusion:
    def __init__(self, local: bool):
        self.local = local

    def prepare(self):
        import datafusion
        import datafusion.object_store
        self.datafusion = datafusion

    def connect(self):
        self.context = self.datafusion.SessionContext()
        if not self.local:
            store = self.datafusion.object_store.AmazonS3(bucket_name="tpch", region="us-east-1", access_key_id=ENV["SQL_ACCESS_KEY"],
                                                          secret_access_key=ENV["SQL_SECRET_KEY"], endpoint=ENV["SQL_S3"], allow_http=True)
            self.context.register_object_store("s3://", store, "tpch")
        for table in TABLES:
            self.context.register_parquet(table, f"{ENV['SQL_FOLDER']}/{table}.parquet" if self.local else f"s3://tpch/{table}/{table}.parquet")

    def ask(self, sql) -> int:
        return sum(batch.num_rows for batch in self.context.sql(sql).collect())


class Polars:
    """Its own SQL; what that cannot say is told as an error, and is left out of comparisons."""

    def prepare(self):
        import polars
        self.polars = polars

    def connect(self):
        options = {"aws_access_key_id": ENV["SQL_ACCESS_KEY"], "aws_secret_access_key": ENV["SQL_SECRET_KEY"], "aws_region": "us-east-1",
                   "aws_endpoint_url": ENV["SQL_S3"], "aws_allow_http": "true"}
        self.context = self.polars.SQLContext(
            {table: self.polars.scan_parquet(f"s3://tpch/{table}/{table}.parquet", storage_options=options) for table in TABLES})

    def ask(self, sql) -> int:
        return self.context.execute(sql).collect().height


ENGINES = {"ashlar": Ashlar, "datafusion-local": lambda: DataFusion(True), "datafusion-s3": lambda: DataFusion(False), "duckdb-local": lambda: DuckDB(True, True),
           "duckdb-s3": lambda: DuckDB(True), "duckdb-s3-uncached": lambda: DuckDB(False), "polars-s3": Polars}


def main() -> None:
    engine = ENGINES[sys.argv[1]]()
    engine.prepare()
    for number in range(int(sys.argv[2])):
        seconds, rows, errors = {}, {}, {}
        begun = time.monotonic()
        if number == 0:
            engine.connect()
        opened = time.monotonic() - begun
        for name, sql in queries(ENV["SQL_SCALE"]):
            started = time.monotonic()
            try:
                rows[name] = engine.ask(sql)
                seconds[name] = time.monotonic() - started
            except BaseException as error:  # noqa: BLE001: Polars' panics are no Exceptions
                if isinstance(error, KeyboardInterrupt):
                    raise
                errors[name] = f"{type(error).__name__}: {error}"[:300]
        print(json.dumps({"opened": opened, "seconds": seconds, "rows": rows, "errors": errors, "total": time.monotonic() - begun}), flush=True)


if __name__ == "__main__":
    main()
