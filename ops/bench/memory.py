"""10,000 clients at a byte a second beside 128 at full speed: how much stays resident, and do the fast ones finish."""

import json
import resource

from measure import load, make_bucket
from stand import places, servers


def check(options):
    # Each slow client is a socket in the loader and one in the server.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < options.slow + 2 * options.fast + 500:
        raise SystemExit(f"only {hard} open files are allowed (ulimit -n); {options.slow} clients need more")
    figures, failed = {}, 0
    names = (options.servers or "ashlar").split(",")
    for name in names:
        folder = places.scratch(f"memory-{name}")
        try:
            with servers.KINDS[name](folder) as server:
                make_bucket(server)
                result = load(server, options, command="memory", pinned=False, slow=options.slow, fast=options.fast, kind=options.kind,
                              pids=",".join(str(p.pid) for p in server.processes))
        finally:
            places.discard(folder)
        figures[name] = result
        good = result["rss_peak_bytes"] < options.limit_mib << 20 and result["fast_uploads"] == result["fast_downloads"] == options.fast
        failed += not good
        print(f"{name}: {json.dumps(result)}")
        print(f"{name}: peak {result['rss_peak_bytes'] >> 20} MiB resident (at most {options.limit_mib}), {result['slow_open_peak']} slow clients open at once, "
              f"{result['fast_uploads']} uploads and {result['fast_downloads']} downloads of {options.fast} in {result['fast_seconds']:.1f} s")
    print(f"{len(names) - failed} passed, {failed} failed")
    return figures, 1 if failed else 0
