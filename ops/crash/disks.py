"""Node folders: finding them, corrupting their files, waiting until redundancy is restored.

Knows the layout that DESIGN fixes (nodes/node-<n>/ under the data directory or under a disk) and the
gauge of the server's metrics that counts what is to be repaired; nothing of the files' format.
"""

import random
import re
import time
import urllib.request
from pathlib import Path

# Chunks with fewer good shards than their coding asks for.
PENDING = re.compile(r"^ashlar_(?:repair_pending|degraded)_chunks(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


def node_folders(server, disks=()) -> list:
    """All node folders, in order of their number."""
    roots = list(disks) or [server.data]
    found = sorted((p for root in roots for p in Path(root).glob("nodes/node-*")), key=lambda p: int(p.name[5:]))
    if len(found) != 6:
        raise RuntimeError(f"expected six node folders, found {[str(p) for p in found]}")
    return found


def corrupt(node: Path, choose: random.Random) -> int:
    """Flips one bit in every 64 KiB of every file of a node, through the file system, while it is in use."""
    flips = 0
    for path in sorted(p for p in node.rglob("*") if p.is_file()):
        with path.open("r+b") as file:
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


def pending(server) -> float:
    with urllib.request.urlopen(f"{server.api}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    values = PENDING.findall(text)
    if not values:
        raise RuntimeError("no gauge of chunks to repair in /metrics")
    return sum(map(float, values))


def wait_redundant(server, seconds: float = 120) -> float:
    """Returns the seconds until nothing is left to repair, twice in a row a second apart."""
    begun, quiet = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        quiet = quiet + 1 if pending(server) == 0 else 0
        if quiet == 2:
            return time.monotonic() - begun
        time.sleep(1)
    raise RuntimeError(f"redundancy is not restored after {seconds} s: {pending(server)} chunks pending")
