"""SQL beside its peers: TPC-H, bytes of a selective filter, LIMIT over many objects, S3 beside a heavy query.

Every engine runs in a process of its own over the same files, in turns; tables show medians and ratios.
"""

import base64
import datetime
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import ideal
from measure import load, make_bucket, median, table
from stand import places, servers
from tpch.queries import TABLES, generate, queries

HERE = Path(__file__).resolve().parent
ENGINES = ["ashlar", "datafusion-local", "datafusion-s3", "duckdb-s3", "duckdb-s3-uncached", "polars-s3"]
DATASETS = "vega-datasets@3.2.1"


class Failed(RuntimeError):
    """A statement was answered with an error."""


def ask(server, sql, accept="application/x-ndjson", seconds=600) -> list:
    """The rows of an answer, as dictionaries."""
    pair = base64.b64encode(f"{server.access}:{server.secret}".encode()).decode()
    request = urllib.request.Request(f"{server.api}/sql", sql.encode(), {"Authorization": f"Basic {pair}", "Accept": accept, "Content-Type": "application/sql"})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]
    except urllib.error.HTTPError as error:
        raise Failed(error.read().decode()) from None


def put(server, wire, bucket, key, file: Path) -> None:
    answer = wire.object("PUT", bucket, key, body=file.read_bytes())
    if answer.status != 200:
        raise RuntimeError(f"{key} was not stored: {answer}")


def note(text) -> None:
    print(text, file=sys.stderr, flush=True)


# TPC-H.

def tpch(options) -> dict:
    """First passes in fresh processes and warm ones, of every engine, with the server started again for each."""
    bin_folder = places.environment("tpch", HERE.parent / "tpch" / "requirements.txt")
    names = options.engines.split(",") if options.engines else ENGINES
    folder = places.scratch("sql-tpch")
    figures = {name: [] for name in names}
    try:
        (folder / "tables").mkdir()
        generate(bin_folder, options.scale, folder / "tables")
        server = servers.Ashlar(folder / "server")
        with server:
            wire = make_bucket(server, "tpch")
            for name in TABLES:
                put(server, wire, "tpch", f"{name}/{name}.parquet", folder / "tables" / f"{name}.parquet")
            ask(server, "CREATE SCHEMA tpch LOCATION 's3://tpch/'")
            for name in TABLES:
                ask(server, f"CREATE EXTERNAL TABLE tpch.{name} STORED AS PARQUET LOCATION 's3://tpch/{name}/'")
        for run in range(options.runs):
            for name in names:
                with server:
                    env = os.environ | {"SQL_API": server.api, "SQL_S3": server.endpoint, "SQL_ACCESS_KEY": server.access, "SQL_SECRET_KEY": server.secret,
                                        "SQL_FOLDER": str(folder / "tables"), "SQL_SCALE": str(options.scale), "NO_PROXY": "*", "PYTHONDONTWRITEBYTECODE": "1"}
                    done = subprocess.run([bin_folder / "python", HERE / "sql_peer.py", name, str(1 + options.warm)], env=env, capture_output=True, text=True)
                if done.returncode != 0:
                    raise RuntimeError(f"{name}: {done.stderr}")
                passes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
                figures[name].append(passes)
                note(f"run {run + 1} {name}: first {passes[0]['total']:.2f} s, warm {[round(p['total'], 2) for p in passes[1:]]}, "
                     f"{len(passes[0]['errors'])} queries refused")
    finally:
        places.discard(folder)
    show_tpch(options, figures)
    return figures


def middle(runs, which, name) -> float | None:
    """The median of a query: of first passes, or of all warm ones; None where it was refused."""
    passes = [p for run in runs for p in (run[:1] if which == "first" else run[1:])]
    values = [p["seconds"].get(name) for p in passes]
    return None if not values or None in values else statistics.median(values)


def show_tpch(options, figures) -> None:
    names = [name for name, _ in queries(options.scale)]
    counts = {engine: runs[0][0]["rows"] for engine, runs in figures.items()}
    rows = []
    for engine, runs in figures.items():
        ratios = {}
        for which in ("first", "warm"):
            both = [(middle(figures["ashlar"], which, q), middle(runs, which, q)) for q in names if "ashlar" in figures]
            both = [(a, b) for a, b in both if a is not None and b is not None]
            if both:
                ratios[which] = (sum(a for a, _ in both), sum(b for _, b in both), statistics.geometric_mean(a / b for a, b in both), max(a / b for a, b in both), len(both))
        opened = {name: statistics.median(run[0]["opened"] for run in figures[name]) for name in (engine, "ashlar") if name in figures}
        wrong = sum(counts[engine][q] != counts["ashlar"].get(q) for q in counts[engine]) if "ashlar" in counts else 0
        cells = [engine, f"{22 - len(runs[0][0]['errors'])}" + (f" ({wrong} with other rows)" if wrong else "")]
        for which in ("first", "warm"):
            if which in ratios:
                ours, theirs, mean, worst, count = ratios[which]
                if which == "first":
                    ours, theirs = ours + opened["ashlar"], theirs + opened[engine]
                cells += [f"{theirs:.2f} s" + (f" of {count}" if count < 22 else ""), f"{ours / theirs:.2f}, {mean:.2f}, {worst:.2f}"]
            else:
                cells += ["", ""]
        rows.append(cells)
    print(f"TPC-H, scale factor {options.scale}, medians of {options.runs} processes with {options.warm} warm passes each\n")
    print(table(["engine", "queries", "first, in a fresh process", "ashlar / it: sum, mean, worst", "warm", "ashlar / it: sum, mean, worst"], rows))
    print()


# A selective filter.

def microseconds(text) -> int:
    return round((datetime.datetime.fromisoformat(text) - datetime.datetime(1970, 1, 1)).total_seconds() * 1e6)


FILTERS = [
    ("two hours of three months", "SELECT count(*), sum(delay) FROM {} WHERE date >= timestamp '2001-02-01 08:00:00' AND date < timestamp '2001-02-01 10:00:00'",
     ["date", "delay"], {"date": (microseconds("2001-02-01T08:00:00"), microseconds("2001-02-01T10:00:00") - 1)}),
    ("a day, all columns", "SELECT * FROM {} WHERE date >= timestamp '2001-03-10 00:00:00' AND date < timestamp '2001-03-11 00:00:00'",
     ["date", "delay", "distance", "origin", "destination"], {"date": (microseconds("2001-03-10T00:00:00"), microseconds("2001-03-11T00:00:00") - 1)}),
    ("the largest delays", "SELECT origin, delay FROM {} WHERE delay > 1650", ["origin", "delay"], {"delay": (1651, 2**62)}),
    ("nothing", "SELECT origin FROM {} WHERE delay > 100000", ["origin", "delay"], {"delay": (100001, 2**62)}),
]
UNITS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9}


def flights() -> Path:
    """flights-3m.parquet of vega-datasets, by npm."""
    file = places.cache() / "data" / f"{DATASETS}-flights-3m.parquet"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        folder = places.scratch("npm")
        try:
            name = subprocess.run(["npm", "pack", "--silent", DATASETS], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
            with tarfile.open(folder / name) as archive, archive.extractfile("package/data/flights-3m.parquet") as source, file.with_suffix(".part").open("wb") as out:
                shutil.copyfileobj(source, out)
            file.with_suffix(".part").rename(file)
        finally:
            places.discard(folder)
    return file


def metric(server, name) -> float:
    with urllib.request.urlopen(f"{server.api}/metrics", timeout=10) as answer:
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", answer.read().decode(), re.MULTILINE))


def scanned(server, sql) -> int:
    """`bytes_scanned` of all scans, as EXPLAIN ANALYZE tells it: four digits."""
    text = json.dumps(ask(server, f"EXPLAIN ANALYZE {sql}"))
    return round(sum(float(n) * UNITS[unit] for n, unit in re.findall(r"bytes_scanned=([\d.]+) ?([KMB]?)", text)))


def selective(options) -> dict:
    file = flights()
    folder = places.scratch("sql-selective")
    figures = {}
    try:
        server = servers.Ashlar(folder)
        with server:
            put(server, make_bucket(server, "flights"), "flights", "flights-3m.parquet", file)
        rows = []
        for name, sql, columns, bounds in FILTERS:
            best = ideal.needed(file, columns, bounds)
            query = sql.format("'s3://flights/flights-3m.parquet'")
            with server:  # Started again, so that no footer is known.
                before = metric(server, "ashlar_node_read_bytes_total")
                ask(server, query)
                nodes = metric(server, "ashlar_node_read_bytes_total") - before
                took = []
                for _ in range(options.runs):
                    begun = time.monotonic()
                    ask(server, query)
                    took.append(time.monotonic() - begun)
                ours = scanned(server, query)
            figures[name] = best | {"scanned": ours, "nodes": nodes, "seconds": took}
            rows.append([name, f"{best['row_groups_needed']} of {best['row_groups']}", f"{best['ideal']:,}", f"{ours + best['footer']:,}",
                         f"{(ours + best['footer']) / best['ideal']:.2f} ×", f"{nodes / best['ideal']:.2f} ×", f"{statistics.median(took) * 1000:.1f} ms"])
    finally:
        places.discard(folder)
    print(f"Bytes of flights-3m.parquet ({best['file']:,}) that a filter reads; the footer of {best['footer']:,} is counted on both sides\n")
    print(table(["filter", "row groups needed", "ideal reader", "scanned and footer", "of the ideal", "read from nodes, first time", "warm"], rows))
    print()
    return figures


# LIMIT.

def limit(options) -> dict:
    folder = places.scratch("sql-limit")
    statements = {"SELECT *": "SELECT * FROM read_csv('s3://bench/k/', header => false) LIMIT 10", "a table": "SELECT * FROM limited.t LIMIT 10",
                  "system.objects": "SELECT key, size FROM system.objects WHERE bucket = 'bench' AND key LIKE 'k/%' LIMIT 10"}
    figures = {"keys": options.keys}
    try:
        with servers.Ashlar(folder) as server:
            make_bucket(server)
            begun = time.monotonic()
            filled = load(server, options, pinned=False, op="put", mode="unsigned", content="1,one\n2,two\n3,three\n", concurrency=64, count=options.keys, prefix="k/", suffix=".csv")
            if filled["errors"]:
                raise RuntimeError(str(filled["first_errors"]))
            note(f"{options.keys} objects in {time.monotonic() - begun:.0f} s")
            rows = []
            for name, sql in statements.items():
                try:
                    if name == "a table":
                        ask(server, "CREATE SCHEMA limited LOCATION 's3://bench/s/'")
                        ask(server, "CREATE EXTERNAL TABLE limited.t STORED AS CSV LOCATION 's3://bench/k/' OPTIONS ('has_header' 'false')")
                    took = []
                    for _ in range(1 + options.runs):
                        begun = time.monotonic()
                        found = ask(server, sql)
                        took.append(time.monotonic() - begun)
                    if len(found) != 10:
                        raise Failed(f"{len(found)} rows")
                    figures[name] = took
                    rows.append([name, f"{took[0] * 1000:.1f} ms", f"{statistics.median(took[1:]) * 1000:.1f} ms"])
                except Failed as error:
                    figures[name] = str(error)
                    rows.append([name, str(error)[:160].replace("|", "/"), ""])
    finally:
        places.discard(folder)
    print(f"LIMIT 10 over {options.keys:,} objects\n")
    print(table(["of", "first", "warm"], rows))
    print()
    return figures


# S3 beside a heavy query.

CROSS = "SELECT count(*), sum(a.value * b.value) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b WHERE (a.value + b.value) % 7 = 3"


def gentle(options) -> dict:
    """4 KiB GETs with nothing else, and beside a cross join; server and loader share all cores."""
    folder = places.scratch("sql-gentle")
    figures = {"idle": [], "beside": []}
    try:
        with servers.Ashlar(folder) as server:
            make_bucket(server)
            load(server, options, pinned=False, op="put", mode="unsigned", size=4096, concurrency=16, count=1000, prefix="k/")

            def gets() -> dict:
                found = load(server, options, pinned=False, op="get", mode="presigned", size=4096, concurrency=options.connections, keys=1000, prefix="k/",
                             seconds=options.seconds, warm=1)
                if found["errors"]:
                    raise RuntimeError(str(found["first_errors"]))
                return found

            def endless() -> None:
                try:
                    ask(server, f"SET statement_timeout = '{int(options.seconds) + 4}s'; {CROSS}")
                except (Failed, http.client.HTTPException):
                    pass  # Its time is up, and the answer breaks off.
            for run in range(options.runs):
                figures["idle"].append(gets())
                query = threading.Thread(target=endless)
                query.start()
                time.sleep(0.5)
                if not any("CROSS JOIN" in row["statement"] and "running_ms" in row for row in ask(server, "SELECT statement, running_ms FROM system.queries")):
                    raise RuntimeError("the cross join does not run")
                figures["beside"].append(gets())
                query.join()
                note(f"run {run + 1}: p99 idle {figures['idle'][-1]['p99_ms']:.2f} ms, beside {figures['beside'][-1]['p99_ms']:.2f} ms")
    finally:
        places.discard(folder)
    rows = [[name, f"{median(results, 'per_second'):,.0f} /s", f"{median(results, 'p50_ms'):.2f}", f"{median(results, 'p99_ms'):.2f}"] for name, results in figures.items()]
    print(f"4 KiB GET, {options.connections} clients, medians of {options.runs}, on {os.cpu_count()} cores that server and loader share\n")
    print(table(["", "rate", "p50 ms", "p99 ms"], rows))
    print(f"\np99 beside a cross join / idle: {median(figures['beside'], 'p99_ms') / median(figures['idle'], 'p99_ms'):.2f}\n")
    return figures


PARTS = {"tpch": tpch, "selective": selective, "limit": limit, "gentle": gentle}


def compare(options):
    chosen = {name: part for name, part in PARTS.items() if not options.only or options.only == name}
    if not chosen:
        raise SystemExit(f"--only takes {', '.join(PARTS)}")
    return {name: part(options) for name, part in chosen.items()}, 0
