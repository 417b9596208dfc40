"""Node folders: finding them, corrupting their files, waiting until redundancy is restored.

Knows the layout that DESIGN fixes (nodes/node-<n>/ under the data directory or under a disk) and the
gauges of the server's metrics that say whether something is to be repaired; nothing of the files' format.
"""

import json
import random
import re
import shutil
import time
import urllib.request
from pathlib import Path

GAUGES = re.compile(r"^(ashlar_redundancy_full|ashlar_repair_queue|ashlar_sweep_missing_shards) (\S+)$", re.MULTILINE)


def node_folders(server, disks=()) -> list:
    """All node folders, in order of their number."""
    roots = list(disks) or [server.data]
    found = sorted((p for root in roots for p in Path(root).glob("nodes/node-*")), key=lambda p: int(p.name[5:]))
    if len(found) != 6:
        raise RuntimeError(f"expected six node folders, found {[str(p) for p in found]}")
    return found


def delete(folder: Path) -> None:
    """Removes a folder in which a running server goes on making files."""
    until = time.monotonic() + 30
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > until:
                raise


def corrupt(node: Path, choose: random.Random) -> int:
    """Flips one bit in every 64 KiB of every file of a node, through the file system, while it is in use."""
    flips = 0
    for path in sorted(p for p in node.rglob("*") if p.is_file()):
        try:
            file = path.open("r+b")
        except FileNotFoundError:  # Written under another name and renamed meanwhile.
            continue
        with file:
            size = path.stat().st_size
            for start in range(0, size, 65_536):
                at = start + choose.randrange(min(65_536, size - start))
                file.seek(at)
                byte = file.read(1)
                if byte and byte != b"\0":  # Leave holes and preallocated space as they are.
                    file.seek(at)
                    file.write(bytes([byte[0] ^ 1 << choose.randrange(8)]))
                    flips += 1
    return flips


def gauges(server) -> dict:
    with urllib.request.urlopen(f"{server.api}/metrics", timeout=10) as answer:
        found = dict(GAUGES.findall(answer.read().decode()))
    if len(found) != 3:
        raise RuntimeError(f"/metrics says nothing of repairs: {found}")
    return {name: float(value) for name, value in found.items()}


def wait_redundant(server, seconds: float = 120) -> float:
    """Returns the seconds until every shard is known to be in its place, twice in a row half a second apart."""
    begun, good = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        now = gauges(server)
        full = now["ashlar_redundancy_full"] == 1 and now["ashlar_repair_queue"] == 0 and now["ashlar_sweep_missing_shards"] == 0
        good = good + 1 if full else 0
        if good == 2:
            return time.monotonic() - begun
        time.sleep(0.5)
    unwell = [n for n in json.loads(server.command("nodes", "list", "--json")) if n["health"] != "writable"]
    raise RuntimeError(f"redundancy is not restored after {seconds} s: {gauges(server)}\n  not writable: {unwell}\n"
                       f"  the log's end:\n{server.processes[0].tail(15)}")
