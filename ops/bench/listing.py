"""LIST: pages of 1,000 keys at random places of a bucket with a million, then with a million delete markers between them.

MinIO's million objects are laid into its one drive folder by copying the file of one object (a PUT
each takes it most of an hour), and some of them are read through S3 before anything is measured.
"""

import random
import sys
import time

from measure import load, make_bucket, measured, median, table
from stand import places, servers


def lay_minio(server, wire, keys: int) -> None:
    wire.object("PUT", "bench", "k/template", body=b"0123456789abcdef")
    bucket = server.folder / "drive1" / "bench"
    meta = (bucket / "k" / "template" / "xl.meta").read_bytes()
    for n in range(keys):
        folder = bucket / "k" / f"{n:08}"
        folder.mkdir()
        (folder / "xl.meta").write_bytes(meta)
    for n in random.sample(range(keys), 50):
        if (answer := wire.object("GET", "bench", f"k/{n:08}")).body != b"0123456789abcdef":
            raise RuntimeError(f"a copied MinIO object does not read back: {answer}")


def compare(options):
    names = (options.servers or "ashlar,minio-single").split(",")
    figures = {}
    for name in names:
        folder = places.scratch(f"list-{name}")
        try:
            with servers.KINDS[name](folder) as server:  # Both cores while it is filled.
                wire = make_bucket(server)
                begun = time.monotonic()
                if name.startswith("minio"):
                    lay_minio(server, wire, options.keys)
                else:
                    if name == "ashlar":
                        wire.call("PUT", "/bench", [("versioning", "")],
                                  body=b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
                    filled = load(server, options, pinned=False, op="put", mode="unsigned", size=16, concurrency=64, count=options.keys, prefix="k/")
                    if filled["errors"]:
                        raise RuntimeError(str(filled["first_errors"]))
                print(f"{name}: {options.keys} keys in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            server.cpus = options.server_cpu
            figures[name] = {"without": pages(server, options)}
            if name == "ashlar":
                server.cpus = None
                with server:
                    begun = time.monotonic()
                    load(server, options, pinned=False, op="delete", mode="unsigned", concurrency=64, count=options.keys, prefix="k/", suffix="-gone")
                    print(f"{name}: {options.keys} delete markers in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
                server.cpus = options.server_cpu
                figures[name]["with"] = pages(server, options)
        finally:
            places.discard(folder)
    rows = []
    for name, states in figures.items():
        for state, results in states.items():
            rows.append([name, f"{options.keys:,}" + (f" and {options.keys:,} markers" if state == "with" else ""),
                         f"{median(results, 'per_second'):,.1f} /s", f"{median(results, 'p50_ms'):.2f}", f"{median(results, 'p99_ms'):.2f}",
                         f"{median(results, 'cpu_us_per_op'):,.0f} µs"])
    print(table(["server", "keys in the prefix", "pages of 1,000", "p50 ms", "p99 ms", "server CPU a page"], rows))
    if all(s in figures.get("ashlar", {}) for s in ("with", "without")):
        share = median(figures["ashlar"]["with"], "p50_ms") / median(figures["ashlar"]["without"], "p50_ms")
        print(f"\nwith markers / without: {share:.2f} of the time")
    return figures, 0


def pages(server, options) -> list:
    with server:
        return [measured(server, options, op="list", size=0, concurrency=1, keys=options.keys, prefix="k/") for _ in range(options.runs)]
