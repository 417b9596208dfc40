"""Asks the server and DuckDB each query and compares; started by `run`, in the virtual environment.

    check.py FOLDER SCALE [NUMBER]
"""

import base64
import datetime
import decimal
import io
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import duckdb
import pyarrow.ipc

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True
from tpch.queries import TABLES, queries  # noqa: E402

TOLERANCE = 1e-9


def ask(sql) -> list:
    pair = f"{os.environ['TPCH_ACCESS_KEY']}:{os.environ['TPCH_SECRET_KEY']}"
    request = urllib.request.Request(f"{os.environ['TPCH_API']}/sql", sql.encode(), {
        "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
        "Accept": "application/vnd.apache.arrow.stream", "Content-Type": "application/sql"})
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            kind, body = answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(error.read().decode()) from None
    if "arrow" not in kind:
        return []
    table = pyarrow.ipc.open_stream(io.BytesIO(body)).read_all()
    return list(zip(*[column.to_pylist() for column in table.columns])) if table.num_rows else []


def same(ours, theirs) -> bool:
    numbers = (int, float, decimal.Decimal)
    if isinstance(ours, float) or isinstance(theirs, float):
        if not isinstance(ours, numbers) or not isinstance(theirs, numbers):
            return False
        ours, theirs = float(ours), float(theirs)
        return abs(ours - theirs) <= TOLERANCE * max(abs(ours), abs(theirs))
    if isinstance(ours, datetime.datetime) and not isinstance(theirs, datetime.datetime):
        ours = ours.date()
    return ours == theirs


def main() -> int:
    folder, scale, only = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    local = duckdb.connect()
    ask("CREATE SCHEMA IF NOT EXISTS tpch LOCATION 's3://tpch/'")
    for table in TABLES:
        local.execute(f"CREATE VIEW {table} AS FROM '{folder}/{table}.parquet'")
        ask(f"CREATE OR REPLACE EXTERNAL TABLE tpch.{table} STORED AS PARQUET LOCATION 's3://tpch/{table}/'")
    chosen = [(name, sql) for name, sql in queries(scale) if not only or name == f"q{only[0]}"]
    equal = 0
    for name, sql in chosen:
        theirs = local.execute(sql).fetchall()
        began = time.monotonic()
        try:
            ours = ask(f"SET search_path = tpch; {sql}")
        except RuntimeError as error:
            print(f"{name}: {error}")
            continue
        took = time.monotonic() - began
        wrong = [(a, b) for a, b in zip(ours, theirs) if len(a) != len(b) or not all(map(same, a, b))]
        fits = not wrong and len(ours) == len(theirs)
        equal += fits
        print(f"{name}: {len(ours)} rows in {took:.2f} s{'' if fits else ', NOT EQUAL'}")
        if not fits:
            print(f"  DuckDB has {len(theirs)} rows; {len(wrong)} differ, first:")
            for a, b in wrong[:2]:
                print("    " + "; ".join(f"{x} here, {y} there" for x, y in zip(a, b) if not same(x, y)))
    print(f"{equal} of {len(chosen)} equal")
    return 0 if chosen and equal == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
