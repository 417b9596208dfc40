"""What was asked of each key, what was answered, and what a read may therefore return.

Owns the rule: a read after all writers stopped may return the value of a write W only when no other
acknowledged write began after W's acknowledgement. A write whose answer never came may have happened
or not, at any time after it began. A delete is a write of `ABSENT`. It does not know the server.
"""

import math
import threading
import time
from dataclasses import dataclass

ABSENT = "absent"


@dataclass
class Write:
    """`value` is the digest of the bytes, or ABSENT; `end` is infinite until it was acknowledged."""

    value: str
    start: float
    end: float = math.inf

    @property
    def acknowledged(self) -> bool:
        return self.end < math.inf


class History:
    """Thread-safe; all times are of one monotonic clock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.writes: dict[str, list[Write]] = {}
        self.acknowledged = 0
        self.unknown = 0

    def begin(self, key: str, value: str) -> Write:
        write = Write(value, time.monotonic())
        with self.lock:
            self.writes.setdefault(key, []).append(write)
        return write

    def acknowledge(self, write: Write) -> None:
        with self.lock:
            write.end = time.monotonic()
            self.acknowledged += 1

    def refuse(self, key: str, write: Write) -> None:
        """The server said that it did not happen."""
        with self.lock:
            self.writes[key].remove(write)

    def lost_answer(self) -> None:
        with self.lock:
            self.unknown += 1

    def allowed(self, key: str, read_start: float | None = None) -> set:
        """The values that a read begun at `read_start` (now when None) and finished now may return."""
        read_start = time.monotonic() if read_start is None else read_start
        with self.lock:
            writes = list(self.writes.get(key, []))
        # What surely preceded the read: acknowledged before it began. The last of those by start overrules
        # whatever ended before that started.
        last_start = max((w.start for w in writes if w.end <= read_start), default=-math.inf)
        values = {w.value for w in writes if w.end >= last_start}
        if last_start == -math.inf:
            values.add(ABSENT)
        return values

    def settle(self, key: str, value: str) -> None:
        """After a crash: what was read is what is there, and earlier writes are decided."""
        now = time.monotonic()
        with self.lock:
            self.writes[key] = [Write(value, now, now)]

    def keys(self) -> list:
        with self.lock:
            return sorted(self.writes)


def check_the_checker() -> None:
    """The rule itself, on histories whose verdict is known; a checker that finds nothing is worth nothing."""
    def history(*writes):
        h = History()
        h.writes["k"] = [Write(*w) for w in writes]
        return h.allowed("k")

    lost = math.inf
    cases = [
        ("nothing written", history(), {ABSENT}),
        ("acknowledged", history(("a", 1, 2)), {"a"}),
        ("unknown", history(("a", 1, lost)), {"a", ABSENT}),
        ("overwritten", history(("a", 1, 2), ("b", 3, 4)), {"b"}),
        ("overwritten, unknown", history(("a", 1, 2), ("b", 3, lost)), {"a", "b"}),
        ("concurrent", history(("a", 1, 4), ("b", 2, 3)), {"a", "b"}),
        ("deleted", history(("a", 1, 2), (ABSENT, 3, 4)), {ABSENT}),
        ("an unknown write may come late", history(("a", 1, lost), ("b", 2, 3)), {"a", "b"}),
        ("acknowledged is not lost again", history(("a", 1, lost), ("b", 2, 3), ("c", 4, 5)), {"a", "c"}),
    ]
    for name, got, expected in cases:
        assert got == expected, f"{name}: {got}, not {expected}"
