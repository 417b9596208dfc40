"""One workload against one server: the loader's answer beside what the server used for it.

Invariant: loader and server never share a core, and the disk is quiet (synced) when the clock starts.
"""

import json
import os
import statistics
import subprocess

from stand import places, sigv4


def client(server, **arguments) -> list:
    """The loader's arguments for a server."""
    out = ["-address", f"127.0.0.1:{server.port}"]
    out += ["-bucket", ""] if server.name == "nginx" else ["-access", server.access, "-secret", server.secret]
    for name, value in arguments.items():
        out += [f"-{name}", str(value)]
    return out


def load(server, options, command="run", pinned=True, **arguments) -> dict:
    pin = ["taskset", "-c", options.load_cpu] if pinned else []
    done = subprocess.run([*pin, places.loader(), command, *client(server, **arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"loader against {server.name}: {done.stderr}")
    return json.loads(done.stdout)


def measured(server, options, **arguments) -> dict:
    """Loader's figures, with `disk_mb_s`, `cpu_s_per_gib`, `cpu_us_per_op` and `rss_mib` of the server."""
    os.sync()
    before = server.usage()
    # A large object takes seconds: what is under way when the clock starts would not be counted.
    warm = 0 if arguments.get("size", 0) >= 1 << 20 else 1
    result = load(server, options, seconds=options.seconds, warm=warm, **arguments)
    after = server.usage()
    if result["errors"]:
        raise RuntimeError(f"{server.name} {arguments}: {result['errors']} errors, such as {result['first_errors'][0]}")
    moved = result["total_operations"] * result["size"]
    cpu = after["cpu_s"] - before["cpu_s"]
    result["disk_mb_s"] = (after["written"] - before["written"]) / (result["seconds"] + warm) / 1e6
    result["cpu_s_per_gib"] = cpu / (moved / 2**30) if moved else 0
    result["cpu_us_per_op"] = cpu / max(result["total_operations"], 1) * 1e6
    result["rss_mib"] = after["rss_peak"] / 2**20
    return result


def make_bucket(server, name="bench") -> sigv4.Wire:
    wire = sigv4.Wire(server.endpoint, server.access, server.secret)
    answer = wire.call("PUT", f"/{name}")
    if answer.status != 200:
        raise RuntimeError(f"{server.name} did not make a bucket: {answer}")
    return wire


def median(results: list, field: str) -> float:
    return statistics.median(r[field] for r in results)


def table(headings: list, rows: list) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def rate(results: list) -> str:
    """Operations a second for small objects, MB a second for large ones."""
    size = results[0]["size"]
    return f"{median(results, 'bytes_per_second') / 1e6:,.0f} MB/s" if size >= 1 << 20 else f"{median(results, 'per_second'):,.0f} /s"
