"""Concurrent conditional writes: of 32 that race exactly one wins, every time."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

RACERS = 32


def race(calls):
    """Runs all calls at once, started by one barrier; returns their answers."""
    gate = threading.Barrier(len(calls))

    def run(call):
        gate.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.parametrize("size", [10, 70_000])
@pytest.mark.parametrize("turn", range(4))
def test_create_if_absent(wire, bucket, size, turn):
    bodies = [bytes([n]) * size for n in range(RACERS)]
    answers = race([lambda b=b: wire.object("PUT", bucket, "k", headers={"if-none-match": "*"}, body=b) for b in bodies])
    assert Counter(a.status for a in answers) == {200: 1, 412: RACERS - 1}, [str(a) for a in answers]
    winner = next(n for n, a in enumerate(answers) if a.status == 200)
    assert wire.object("GET", bucket, "k").body == bodies[winner]
    assert all(a.code == "PreconditionFailed" for a in answers if a.status == 412)


def test_replace_if_unchanged(wire, bucket):
    tag = wire.object("PUT", bucket, "k", body=b"old").headers["etag"]
    answers = race([lambda n=n: wire.object("PUT", bucket, "k", headers={"if-match": tag}, body=b"%d" % n) for n in range(RACERS)])
    assert Counter(a.status for a in answers) == {200: 1, 412: RACERS - 1}, [str(a) for a in answers]
    winner = next(n for n, a in enumerate(answers) if a.status == 200)
    assert wire.object("GET", bucket, "k").body == b"%d" % winner


def test_complete_if_absent(wire, bucket):
    calls = []
    for n in range(8):
        started = wire.call("POST", f"/{bucket}/k", [("uploads", "")]).body.decode()
        upload = started.partition("<UploadId>")[2].partition("<")[0]
        tag = wire.call("PUT", f"/{bucket}/k", [("partNumber", "1"), ("uploadId", upload)], body=b"%d" % n).headers["etag"]
        body = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>".encode()
        calls.append(lambda u=upload, b=body: wire.call("POST", f"/{bucket}/k", [("uploadId", u)], {"if-none-match": "*"}, b))
    answers = race(calls)
    assert Counter(a.status for a in answers) == {200: 1, 412: 7}, [str(a) for a in answers]


def test_counter_by_compare_and_swap(wire, bucket):
    """Eight clients add ten each by reading and If-Match: the sum is eighty, nothing is lost."""
    wire.object("PUT", bucket, "n", body=b"0")

    def client():
        for _ in range(10):
            while True:
                got = wire.object("GET", bucket, "n")
                put = wire.object("PUT", bucket, "n", headers={"if-match": got.headers["etag"]}, body=b"%d" % (int(got.body) + 1))
                if put.status == 200:
                    break
                assert put.status in (409, 412), put

    race([client] * 8)
    assert wire.object("GET", bucket, "n").body == b"80"


def test_read_after_write_and_list(wire, bucket):
    """A read and a list right after the answer see the write, from other connections."""
    def client(n):
        for turn in range(10):
            key, body = f"c{n}/t{turn}", b"%d/%d" % (n, turn)
            assert wire.object("PUT", bucket, key, body=body).status == 200
            assert wire.object("GET", bucket, key).body == body
            assert key.encode() in wire.call("GET", f"/{bucket}", [("list-type", "2"), ("prefix", f"c{n}/")]).body
            assert wire.object("DELETE", bucket, key).status == 204
            assert wire.object("GET", bucket, key).status == 404

    race([lambda n=n: client(n) for n in range(8)])
