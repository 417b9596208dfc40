"""PUT and GET, small and large, in every way to sign a body; and GET with two nodes gone.

Every run of every server starts on an empty folder, fills what its GETs need, and does all workloads;
the servers take turns within a run, so that a machine that drifts drifts for all.
"""

import shutil
import sys

from measure import load, make_bucket, measured, median, rate, table
from stand import places, servers

BIG = 64 << 20
SMALL_KEYS, BIG_KEYS = 2000, 4

# Name, loader arguments. The four ways to send a body: signed with SHA-256 (boto3 on http), unsigned
# header, presigned URL, unsigned with a CRC64NVME trailer (pyarrow).
WORKLOADS = [
    ("4 KiB PUT, 16 clients", dict(op="put", size=4096, concurrency=16, mode="signed")),
    ("4 KiB PUT, 64 clients", dict(op="put", size=4096, concurrency=64, mode="signed")),
    ("4 KiB PUT, 16 clients, unsigned", dict(op="put", size=4096, concurrency=16, mode="unsigned")),
    ("4 KiB PUT, 16 clients, presigned", dict(op="put", size=4096, concurrency=16, mode="presigned")),
    ("4 KiB PUT, 16 clients, trailer", dict(op="put", size=4096, concurrency=16, mode="trailer")),
    ("4 KiB GET, 16 clients", dict(op="get", size=4096, concurrency=16, keys=SMALL_KEYS, prefix="s/")),
    ("4 KiB GET, 64 clients", dict(op="get", size=4096, concurrency=64, keys=SMALL_KEYS, prefix="s/")),
    ("64 MiB GET, 4 clients", dict(op="get", size=BIG, concurrency=4, keys=BIG_KEYS, prefix="b/")),
    ("64 MiB PUT, 4 clients", dict(op="put", size=BIG, concurrency=4, mode="signed")),
    ("64 MiB PUT, 4 clients, unsigned", dict(op="put", size=BIG, concurrency=4, mode="unsigned")),
    ("64 MiB PUT, 4 clients, trailer", dict(op="put", size=BIG, concurrency=4, mode="trailer")),
]


def populate(server, options) -> None:
    """What the GETs read: small objects under s/, large ones under b/."""
    if server.name == "nginx":
        folder = server.folder / "root" / "b"
        folder.mkdir()
        for n in range(BIG_KEYS):
            (folder / f"{n:08}").write_bytes(b"\0" * BIG)
        return
    make_bucket(server)
    for arguments in (dict(size=4096, count=SMALL_KEYS, prefix="s/", concurrency=32),
                      dict(size=BIG, count=BIG_KEYS, prefix="b/", concurrency=2)):
        result = load(server, options, op="put", mode="unsigned", pinned=False, **arguments)
        if result["errors"]:
            raise RuntimeError(f"{server.name}: {result['first_errors']}")


def compare(options):
    names = (options.servers or "ashlar,minio,seaweedfs-durable,seaweedfs,nginx").split(",")
    chosen = [(n, w) for n, w in WORKLOADS if not options.only or options.only in n]
    figures = {workload: {name: [] for name in names} for workload, _ in chosen}
    for number in range(options.runs):
        for name in names:
            folder = places.scratch(f"bench-{name}")
            try:
                with servers.KINDS[name](folder, options.server_cpu) as server:
                    populate(server, options)
                    for workload, arguments in chosen:
                        if name == "nginx" and not workload.startswith("64 MiB GET"):
                            continue
                        if arguments["op"] == "put":
                            arguments = arguments | {"prefix": f"p{len(figures[workload][name])}-{arguments['mode']}-{arguments['concurrency']}/"}
                        result = measured(server, options, **arguments)
                        figures[workload][name].append(result)
                        print(f"run {number + 1} {name}: {workload}: {rate([result])}, p99 {result['p99_ms']:.1f} ms, "
                              f"disk {result['disk_mb_s']:.0f} MB/s", file=sys.stderr, flush=True)
            finally:
                places.discard(folder)
    rows = [[workload, name, rate(results), f"{median(results, 'p50_ms'):.1f}", f"{median(results, 'p99_ms'):.1f}",
             f"{median(results, 'disk_mb_s'):.0f}",
             f"{median(results, 'cpu_s_per_gib'):.2f} s/GiB" if results[0]["size"] >= 1 << 20 else f"{median(results, 'cpu_us_per_op'):.0f} µs/op",
             f"{median(results, 'rss_mib'):.0f}"]
            for workload in figures for name, results in figures[workload].items() if results]
    print(table(["workload", "server", "rate", "p50 ms", "p99 ms", "disk MB/s", "server CPU", "peak RSS MiB"], rows))
    print()
    for name in names:
        print(f"- {name}: {servers.KINDS[name].settings}")
    return figures, 0


def node_folders(server) -> list:
    return sorted(server.folder.glob("drive*")) or sorted((server.folder / "data" / "nodes").glob("node-*"))


def degraded(options):
    """The same GETs healthy and then, after a restart, with two of six node folders moved away."""
    names = (options.servers or "ashlar,minio").split(",")
    gets = [(n, w) for n, w in WORKLOADS if w["op"] == "get" and (not options.only or options.only in n)]
    figures = {workload: {name: {"healthy": [], "degraded": []} for name in names} for workload, _ in gets}
    for _ in range(options.runs):
        for name in names:
            folder = places.scratch(f"degraded-{name}")
            try:
                server = servers.KINDS[name](folder, options.server_cpu)
                with server:
                    populate(server, options)
                    for workload, arguments in gets:
                        figures[workload][name]["healthy"].append(measured(server, options, **arguments))
                for node in node_folders(server)[1:3]:
                    shutil.move(node, folder / f"away-{node.name}")
                with server:
                    for workload, arguments in gets:
                        figures[workload][name]["degraded"].append(measured(server, options, **arguments))
            finally:
                places.discard(folder)
    rows = []
    for workload, by_name in figures.items():
        for name, states in by_name.items():
            share = median(states["degraded"], "per_second") / median(states["healthy"], "per_second")
            rows.append([workload, name, rate(states["healthy"]), rate(states["degraded"]), f"{share:.0%}"])
    print(table(["workload", "server", "healthy", "two of six nodes gone", "share"], rows))
    return figures, 0
