"""Concurrent writers, readers and deleters over a few keys, recording everything in a History.

Every choice comes from a seeded generator per worker; timing, and so the interleaving, is the
machine's. Does not know when or why the server dies: a lost connection is an unknown outcome.
"""

import hashlib
import random
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree

from history import ABSENT, History

MIB = 1024 * 1024
SIZES = [0, 1, 100, 4096, 4096, 4096, 65_536, 65_537, 300_000, 4 * MIB, 4 * MIB + 1, 9 * MIB]


def content(key: str, number: int, size: int) -> bytes:
    """Different for every write, cheap to make: a random-looking block with its name, repeated."""
    block = hashlib.shake_128(f"{key}/{number}".encode()).digest(min(size, 65_521))
    return (block * (size // max(len(block), 1) + 1))[:size]


def digest(body: bytes) -> str:
    return f"{len(body)}/{hashlib.blake2b(body, digest_size=12).hexdigest()}"


class Workload:
    """Runs until `stop()`. `violations` are what the server did wrong, as sentences."""

    def __init__(self, wire, bucket: str, seed: int, workers: int = 8, own_keys: int = 6, shared_keys: int = 4):
        self.wire, self.bucket, self.workers = wire, bucket, workers
        self.history = History()
        self.violations: list[str] = []
        self.random = random.Random(seed)
        self.own_keys, self.shared_keys = own_keys, shared_keys
        self.number = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []
        self.uploads: list[dict] = []
        self.server_errors: dict[int, int] = {}
        self.expect_down = False

    def start(self) -> None:
        self.stopping.clear()
        self.expect_down = False
        seeds = [self.random.getrandbits(48) for _ in range(self.workers)]
        self.threads = [threading.Thread(target=self._work, args=(n, random.Random(seed)), daemon=True)
                        for n, seed in enumerate(seeds)]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            if thread.is_alive():
                self.violations.append("a request did not end within 60 s")

    def complain(self, text: str) -> None:
        with self.lock:
            self.violations.append(text)

    def _number(self) -> int:
        with self.lock:
            self.number += 1
            return self.number

    def _call(self, method, key, query=(), body=b"", headers=None):
        """One request; None when the outcome is unknown."""
        try:
            answer = self.wire.call(method, f"/{self.bucket}/{urllib.parse.quote(key)}", query, headers, body,
                                    payload=None if len(body) < 100_000 else "UNSIGNED-PAYLOAD")
        except OSError:
            return None
        if answer.status == 0 or answer.status >= 500:
            if answer.status:
                with self.lock:
                    self.server_errors[answer.status] = self.server_errors.get(answer.status, 0) + 1
            return None
        return answer

    def _work(self, worker: int, choose: random.Random) -> None:
        while not self.stopping.is_set():
            if choose.random() < 0.85:
                key = f"own/{worker}/{choose.randrange(self.own_keys)}"
            else:
                key = f"shared/{choose.randrange(self.shared_keys)}"
            action = choose.choices(["put", "delete", "get", "multipart", "copy", "open upload"], [45, 15, 25, 8, 5, 2])[0]
            try:
                known = getattr(self, "_" + action.replace(" ", "_"))(worker, key, choose)
            except OSError:
                known = False
            if not known:
                self.history.lost_answer()
                time.sleep(0.02)  # The server is probably gone; do not spin on refused connections.

    def _finish(self, key, write, answer, expected: int, what: str) -> bool:
        if answer is None:
            return False
        if answer.status == expected:
            self.history.acknowledge(write)
        else:
            self.history.refuse(key, write)
            self.complain(f"{what} {key}: {answer}")
        return True

    def _put(self, worker, key, choose) -> bool:
        body = content(key, self._number(), choose.choice(SIZES))
        write = self.history.begin(key, digest(body))
        return self._finish(key, write, self._call("PUT", key, body=body), 200, "PUT")

    def _delete(self, worker, key, choose) -> bool:
        write = self.history.begin(key, ABSENT)
        return self._finish(key, write, self._call("DELETE", key), 204, "DELETE")

    def _get(self, worker, key, choose) -> bool:
        begun = time.monotonic()
        value = self.read(key)
        if value is None:
            return False
        if value not in (allowed := self.history.allowed(key, begun)):
            self.complain(f"GET {key} while running returned {value}, allowed were {sorted(allowed)}")
        return True

    def read(self, key: str) -> str | None:
        """The digest of what is there, ABSENT, or None when there was no answer."""
        answer = self._call("GET", key)
        if answer is None:
            return None
        if answer.status == 404:
            return ABSENT
        if answer.status != 200:
            self.complain(f"GET {key}: {answer}")
            return None
        if len(answer.body) != int(answer.headers.get("content-length", len(answer.body))):
            return None  # The connection broke in the middle of the body.
        return digest(answer.body)

    def _start_upload(self, key) -> str | None:
        answer = self._call("POST", key, [("uploads", "")])
        return None if answer is None else answer.body.decode().partition("<UploadId>")[2].partition("<")[0]

    def _part(self, key, upload, number, body):
        answer = self._call("PUT", key, [("partNumber", str(number)), ("uploadId", upload)], body)
        if answer is not None and answer.status != 200:
            self.complain(f"UploadPart {key}: {answer}")
            return None
        return None if answer is None else answer.headers["etag"]

    def _complete(self, key, upload, tags):
        parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in enumerate(tags, 1))
        return self._call("POST", key, [("uploadId", upload)],
                          f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode())

    def _multipart(self, worker, key, choose) -> bool:
        bodies = [content(key, self._number(), 5 * MIB), content(key, self._number(), choose.choice(SIZES[1:8]))]
        if not (upload := self._start_upload(key)):
            return False
        tags = [self._part(key, upload, n, body) for n, body in enumerate(bodies, 1)]
        if None in tags:
            return False
        write = self.history.begin(key, digest(b"".join(bodies)))
        return self._finish(key, write, self._complete(key, upload, tags), 200, "Complete")

    def _open_upload(self, worker, key, choose) -> bool:
        """An upload with one acknowledged part, to be completed after the next crash."""
        key = f"late/{self._number()}"
        body = content(key, 0, 5 * MIB)
        if not (upload := self._start_upload(key)) or not (tag := self._part(key, upload, 1, body)):
            return False
        with self.lock:
            self.uploads.append({"key": key, "upload": upload, "tag": tag, "body": body})
        return True

    def _copy(self, worker, key, choose) -> bool:
        """From a key of this worker alone, so that what is copied is known."""
        source = f"own/{worker}/{choose.randrange(self.own_keys)}"
        values = self.history.allowed(source)
        if source == key or len(values) != 1 or ABSENT in values:
            return True
        write = self.history.begin(key, next(iter(values)))
        answer = self._call("PUT", key, headers={"x-amz-copy-source": f"{self.bucket}/{source}"})
        return self._finish(key, write, answer, 200, "Copy")

    def finish_uploads(self) -> int:
        """After a restart: every acknowledged part is still there, and its upload can be completed."""
        uploads, self.uploads = self.uploads, []
        for u in uploads:
            tail = b"the end of " + u["key"].encode()
            tag = self._part(u["key"], u["upload"], 2, tail)
            if tag is None:
                self.complain(f"upload of {u['key']} could not go on after the restart")
                continue
            write = self.history.begin(u["key"], digest(u["body"] + tail))
            self._finish(u["key"], write, self._complete(u["key"], u["upload"], [u["tag"], tag]), 200, "late Complete")
        return len(uploads)

    def verify(self, since: float | None = None) -> int:
        """With all writers stopped: reads every key, checks it, lists the bucket, and settles the history.

        `since`: what was acknowledged later than that moment may be there or not."""
        present = set()
        for key in self.history.keys():
            value = self.read(key)
            if value is None:
                self.complain(f"GET {key} after the restart had no answer")
                continue
            allowed = self.history.allowed(key, since)
            if value not in allowed:
                self.complain(f"LOST: {key} is {value}, allowed are {sorted(allowed)}")
            self.history.settle(key, value)
            if value != ABSENT:
                present.add(key)
        if (listed := self.listed()) != present:
            self.complain(f"LIST and GET differ: only listed {sorted(listed - present)}, only readable {sorted(present - listed)}")
        return len(present)

    def listed(self) -> set:
        keys, after = set(), ""
        while True:
            answer = self.wire.call("GET", f"/{self.bucket}", [("list-type", "2"), ("start-after", after)])
            page = [e.text for e in ElementTree.fromstring(answer.body).iter() if e.tag.rpartition("}")[2] == "Key"]
            keys.update(page)
            if len(page) < 1000:
                return keys
            after = page[-1]
