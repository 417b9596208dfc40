"""What publishing costs PUTs, and how long after a commit its entry is anchored: a server that publishes and one that does not, in turns."""

import re
import time
import urllib.request

from measure import load, make_bucket, table
from stand import places, servers

LAG = re.compile(r'^ashlar_publish_lag_seconds_bucket\{le="([0-9.]+)"\} (\d+)$', re.MULTILINE)
PATIENCE = 120


def lag(server) -> list:
    """Upper bounds in seconds, each with the entries that were anchored within."""
    with urllib.request.urlopen(f"{server.api}/metrics", timeout=10) as answer:
        return [(float(bound), int(count)) for bound, count in LAG.findall(answer.read().decode())]


def once(options, publishes: bool) -> dict:
    folder = places.scratch("publish")
    try:
        with servers.KINDS["ashlar"](folder, env={"ASHLAR_PUBLISH_ENABLED": str(publishes).lower()}) as server:
            make_bucket(server)
            result = load(server, options, pinned=False, op="put", mode="unsigned", size=4096, concurrency=16, count=options.puts, prefix="k/")
            if result["errors"]:
                raise RuntimeError(str(result["first_errors"]))
            found = {"per_second": result["per_second"]}
            ended = time.monotonic()
            while publishes and max((count for _, count in lag(server)), default=0) < options.puts:
                if time.monotonic() - ended > PATIENCE:
                    raise RuntimeError(f"not all entries are anchored after {PATIENCE} s: {lag(server)}")
                time.sleep(0.05)
            if publishes:
                found |= {"rest_seconds": time.monotonic() - ended, "lag": lag(server)}
            return found
    finally:
        places.discard(folder)


def compare(options):
    runs = [{"off": once(options, False), "on": once(options, True)} for _ in range(options.runs)]
    middle = lambda values: sorted(values)[len(values) // 2]  # noqa: E731
    off, on = (middle([run[which]["per_second"] for run in runs]) for which in ("off", "on"))
    p99 = [min(bound for bound, count in run["on"]["lag"] if count >= 0.99 * options.puts) for run in runs]
    print(table(["", "publishing off", "on"],
                [[f"{options.puts:,} PUTs of 4 KiB", f"{off:,.0f} /s", f"{on:,.0f} /s ({on / off:.2f} of it)"],
                 ["anchored, p99 at most", "", f"{max(p99):g} s after the commit"],
                 ["all anchored", "", f"{middle([run['on']['rest_seconds'] for run in runs]):.1f} s after the last answer"]]))
    return runs, 0
